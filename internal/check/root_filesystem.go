package check

import (
	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// A program that cannot write next to its own code cannot be replaced in place, and an intruder has nowhere to put tools.
var rootFilesystem = &Check{
	ID: "root-filesystem-writable", Title: "Root file system is writable", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "On a writable root file system an intruder downloads tools, changes the program and its configuration, and stays until the container ends. The Pod Security Standards do not ask for this.",
	Fix:       "Set securityContext.readOnlyRootFilesystem: true and mount an emptyDir on each path that the program writes to.",
	Standards: []string{"CIS 5.6.3", "NIST CM-7", "NSA Pod security", "OWASP K8s K01"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		sc := c.SecurityContext
		switch {
		case onWindows(w):
			j.Skip()
		case sc == nil || sc.ReadOnlyRootFilesystem == nil:
			j.Fail(c.Path+".securityContext.readOnlyRootFilesystem", "readOnlyRootFilesystem is not set, and false is the default")
		case !*sc.ReadOnlyRootFilesystem:
			j.Fail(c.Path+".securityContext.readOnlyRootFilesystem", "readOnlyRootFilesystem: false")
		}
	},
}
