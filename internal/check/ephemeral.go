package check

import (
	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Debug containers cannot be removed from a running pod and are forgotten.
var ephemeralContainer = &Check{
	ID: "ephemeral-container-present", Title: "Debug container was left in a pod", Severity: finding.Low, Layer: artifact.Pods,
	Rationale: "An ephemeral container brings a shell and tools into a pod that has none, and stays until the pod is deleted. It is not in the template, so nobody reviews it.",
	Fix:       "Delete the pod; its controller makes a clean one.",
	Standards: []string{"NIST CM-7", "OWASP K8s K01"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		if c.Kind != cluster.Ephemeral {
			j.Skip()
			return
		}
		j.Fail(c.Path, "ephemeral container with image "+c.Image)
	},
}
