package check

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// The runtime hides parts of /proc; Unmasked shows them.
var procMount = &Check{
	ID: "proc-mount-unmasked", Title: "/proc is not masked", Severity: finding.High, Layer: artifact.Pods,
	Rationale: "Unmasked shows /proc as the node has it: /proc/kcore, /proc/sysrq-trigger and writable kernel settings. Without a user namespace (hostUsers: false) that is the node's own kernel.",
	Fix:       "Remove procMount; a build tool that needs it also needs hostUsers: false.",
	Standards: []string{"PSS baseline", "NIST SC-39", "OWASP K8s K01"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		sc := c.SecurityContext
		if sc == nil || sc.ProcMount == nil || *sc.ProcMount == corev1.DefaultProcMount {
			return
		}
		at := c.Path + ".securityContext.procMount"
		if w.Spec.HostUsers != nil && !*w.Spec.HostUsers {
			// Since 1.35 the baseline standard admits it in a user namespace; the restricted one does not.
			j.FailAs(finding.Low, at, "procMount: "+string(*sc.ProcMount)+", in a user namespace")
			return
		}
		j.Fail(at, "procMount: "+string(*sc.ProcMount))
	},
}
