package check

import (
	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// A privileged container has every capability, sees every device of the node and is held by neither seccomp nor
// AppArmor: leaving it for the node is one mount away.
var privileged = &Check{
	ID: "container-privileged", Title: "Container is privileged", Severity: finding.Critical, Layer: artifact.Pods,
	Rationale: "A privileged container has all capabilities, all devices of the node and no seccomp or AppArmor profile. Whoever runs code in it owns the node, and with the node's credentials every pod on it.",
	Fix:       "Remove securityContext.privileged, and add only the capability or device that the program needs.",
	Standards: []string{"PSS baseline", "CIS 5.2.2", "NIST AC-6(10)", "NSA Pod security", "OWASP K8s K01"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		if sc := c.SecurityContext; sc != nil && sc.Privileged != nil && *sc.Privileged {
			j.Fail(c.Path+".securityContext.privileged", "privileged: true")
		}
	},
}
