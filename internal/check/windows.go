package check

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// HostProcess is what privileged is on Linux.
var windowsHostProcess = &Check{
	ID: "windows-host-process", Title: "Windows container runs on the host", Severity: finding.Critical, Layer: artifact.Pods,
	Rationale: "A HostProcess container is an ordinary process of the Windows node, with the rights of the account that it names.",
	Fix:       "Remove windowsOptions.hostProcess.",
	Standards: []string{"PSS baseline", "CIS 5.2.10", "NIST AC-6", "OWASP K8s K01"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		hostProcess := func(o *corev1.WindowsSecurityContextOptions) *bool {
			if o == nil {
				return nil
			}
			return o.HostProcess
		}
		if sc := c.SecurityContext; sc != nil {
			if p := hostProcess(sc.WindowsOptions); p != nil {
				if *p {
					j.Fail(c.Path+".securityContext.windowsOptions.hostProcess", "hostProcess: true")
				}
				return
			}
		}
		if sc := w.Spec.SecurityContext; sc != nil {
			if p := hostProcess(sc.WindowsOptions); p != nil && *p {
				j.Fail(w.SpecPath+".securityContext.windowsOptions.hostProcess", "hostProcess: true for the whole pod")
			}
		}
	},
}

// onWindows reports a pod that says it runs on Windows: the API server refuses the Linux fields there, and Pod Security
// does not ask for them.
func onWindows(w *cluster.Workload) bool {
	return w.Spec.OS != nil && w.Spec.OS.Name == corev1.Windows
}
