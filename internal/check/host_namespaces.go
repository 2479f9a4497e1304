package check

import (
	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// The three host namespaces are one idea: a pod that joins one stands on the node and not in a pod. They are three
// checks because each gives something else away and each may have to be excepted alone.

var hostPID = &Check{
	ID: "host-pid", Title: "Pod sees the node's processes", Severity: finding.High, Layer: artifact.Pods,
	Rationale: "With hostPID a container sees all processes of the node: their arguments, and as the same user or with SYS_PTRACE their memory, environment and root file system. Secrets of all other pods on the node are among them.",
	Fix:       "Remove hostPID.",
	Standards: []string{"PSS baseline", "CIS 5.2.3", "NIST SC-39", "NSA Pod security", "OWASP K8s K01"},
	Workload: func(j *Judge, w *cluster.Workload) {
		if w.Spec.HostPID {
			j.Fail(w.SpecPath+".hostPID", "hostPID: true")
		}
	},
}

var hostIPC = &Check{
	ID: "host-ipc", Title: "Pod shares the node's IPC", Severity: finding.High, Layer: artifact.Pods,
	Rationale: "With hostIPC a container reads and writes the shared memory, queues and semaphores of the node and of every other pod that does the same.",
	Fix:       "Remove hostIPC; an emptyDir with medium Memory shares memory inside a pod.",
	Standards: []string{"PSS baseline", "CIS 5.2.4", "NIST SC-39", "NSA Pod security", "OWASP K8s K01"},
	Workload: func(j *Judge, w *cluster.Workload) {
		if w.Spec.HostIPC {
			j.Fail(w.SpecPath+".hostIPC", "hostIPC: true")
		}
	},
}

var hostNetwork = &Check{
	ID: "host-network", Title: "Pod stands in the node's network", Severity: finding.High, Layer: artifact.Network,
	Rationale: "With hostNetwork a container listens on the node's addresses, reaches services that trust localhost, such as the kubelet, and often the cloud's metadata service. NetworkPolicies do not apply to it.",
	Fix:       "Remove hostNetwork; reach the pod through a Service.",
	Standards: []string{"PSS baseline", "CIS 5.2.5", "NIST SC-7(5)", "NSA Network separation", "OWASP K8s K07"},
	Workload: func(j *Judge, w *cluster.Workload) {
		if w.Spec.HostNetwork {
			j.Fail(w.SpecPath+".hostNetwork", "hostNetwork: true; no NetworkPolicy holds this pod")
		}
	},
}
