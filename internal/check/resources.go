package check

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Memory is the resource that kills neighbours. A CPU limit is not asked for: CPU is shared by the requests, and a limit
// throttles a program on an idle node without protecting anybody.

var memoryLimit = &Check{
	ID: "memory-limit-missing", Title: "No memory limit", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "Without a memory limit a leak or an attack takes the node's memory, and the kernel then kills processes of other pods.",
	Fix:       "Set resources.limits.memory.",
	Standards: []string{"CIS 5.6.3", "NIST SC-6", "NSA Pod security", "OWASP K8s K01"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		if c.Kind == cluster.Ephemeral {
			j.Skip() // the API has no resources there
			return
		}
		if _, ok := c.Resources.Limits[corev1.ResourceMemory]; ok {
			return
		}
		if w.Spec.Resources != nil {
			if _, ok := w.Spec.Resources.Limits[corev1.ResourceMemory]; ok {
				return // pod-level resources, KEP-2837
			}
		}
		j.Fail(c.Path+".resources.limits.memory", "resources.limits.memory is not set")
	},
}

var resourceRequests = &Check{
	ID: "resource-requests-missing", Title: "No resource requests", Severity: finding.Low, Layer: artifact.Pods,
	Rationale: "Without requests the scheduler packs nodes blindly, and the pod is the first to be evicted: availability is then anybody's to take.",
	Fix:       "Set resources.requests.cpu and resources.requests.memory.",
	Standards: []string{"NIST SC-6"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		if c.Kind == cluster.Ephemeral {
			j.Skip()
			return
		}
		missing := ""
		for _, r := range [...]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			// A limit without a request is the request too.
			if has(c.Resources.Requests, r) || has(c.Resources.Limits, r) {
				continue
			}
			if p := w.Spec.Resources; p != nil && (has(p.Requests, r) || has(p.Limits, r)) {
				continue
			}
			if missing != "" {
				missing += " and "
			}
			missing += string(r)
		}
		if missing != "" {
			j.Fail(c.Path+".resources.requests", "no request for "+missing)
		}
	},
}

func has(l corev1.ResourceList, r corev1.ResourceName) bool { _, ok := l[r]; return ok }
