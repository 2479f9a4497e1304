package check

import (
	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// no_new_privs is off unless asked for: a set-user-ID program in the image makes a non-root process root again.
var privilegeEscalation = &Check{
	ID: "privilege-escalation-allowed", Title: "Process may gain privileges", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "Unless allowPrivilegeEscalation is false, the kernel honours set-user-ID programs and file capabilities in the image: a process that starts without root can become root in the container.",
	Fix:       "Set securityContext.allowPrivilegeEscalation: false on the container.",
	Standards: []string{"PSS restricted", "CIS 5.2.6", "NIST AC-6(10)", "NSA Pod security", "OWASP K8s K01"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		sc := c.SecurityContext
		switch {
		case onWindows(w):
			j.Skip()
		case sc == nil || sc.AllowPrivilegeEscalation == nil:
			j.Fail(c.Path+".securityContext.allowPrivilegeEscalation", "allowPrivilegeEscalation is not set, and true is the default")
		case *sc.AllowPrivilegeEscalation:
			j.Fail(c.Path+".securityContext.allowPrivilegeEscalation", "allowPrivilegeEscalation: true")
		}
	},
}
