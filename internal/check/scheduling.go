package check

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Where a pod may run decides what an escape from it reaches: on a control-plane node, the cluster.

var controlPlaneToleration = &Check{
	ID: "control-plane-toleration", Title: "Pod may run on a control-plane node", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "Control-plane nodes hold the cluster's certificates and etcd. A pod that tolerates their taint, or every taint, can be put there, and an escape from it takes the cluster.",
	Fix:       "Remove the toleration, or tolerate the taints by name that the pod needs.",
	Standards: []string{"NIST SC-7", "NSA Pod security"},
	Workload: func(j *Judge, w *cluster.Workload) {
		for i := range w.Spec.Tolerations {
			t := &w.Spec.Tolerations[i]
			if t.Effect == corev1.TaintEffectPreferNoSchedule {
				continue
			}
			at := w.SpecPath + ".tolerations[" + strconv.Itoa(i) + "]"
			switch {
			case t.Key == "node-role.kubernetes.io/control-plane" || t.Key == "node-role.kubernetes.io/master":
				j.Fail(at, "tolerates "+t.Key)
			case t.Key == "" && t.Operator == corev1.TolerationOpExists:
				j.Fail(at, "tolerates every taint")
			}
		}
	},
}

var nodeName = &Check{
	ID: "node-name-set", Title: "Pod names its node", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "nodeName goes past the scheduler and therefore past NoSchedule taints, control-plane nodes included, and past affinity and quotas by node.",
	Fix:       "Remove nodeName; use nodeSelector or affinity.",
	Standards: []string{"NIST SC-7"},
	Workload: func(j *Judge, w *cluster.Workload) {
		// The scheduler itself writes nodeName into running pods.
		if _, pod := w.Typed.(*corev1.Pod); pod && j.Snap.Live {
			j.Skip()
			return
		}
		if w.Spec.NodeName != "" {
			j.Fail(w.SpecPath+".nodeName", "nodeName: "+w.Spec.NodeName)
		}
	},
}

var systemPriority = &Check{
	ID: "system-priority", Title: "Pod has the priority of a system component", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "system-cluster-critical and system-node-critical evict everything else. An application with one of them can push out security agents.",
	Fix:       "Use a PriorityClass of your own below 1000000000.",
	Standards: []string{"NIST SC-6"},
	Workload: func(j *Judge, w *cluster.Workload) {
		if slices.Contains(systemNamespaces, w.Meta.Namespace) {
			j.Skip()
			return
		}
		switch w.Spec.PriorityClassName {
		case "system-cluster-critical", "system-node-critical":
			j.Fail(w.SpecPath+".priorityClassName", "priorityClassName: "+w.Spec.PriorityClassName)
		}
	},
}
