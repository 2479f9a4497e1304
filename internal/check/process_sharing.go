package check

import (
	"strconv"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// In a shared process namespace /proc/PID/root leads from one container into the files of the next.
var shareProcesses = &Check{
	ID: "share-process-namespace", Title: "Containers of a pod share their processes", Severity: finding.High, Layer: artifact.Pods,
	Rationale: "With shareProcessNamespace each container sees the others' processes, and as the same user or as root their environment, memory and files through /proc/PID/root. The weakest container opens all of them.",
	Fix:       "Remove shareProcessNamespace; containers that must signal each other belong in one container, or use different users.",
	Standards: []string{"NIST SC-39", "NSA Pod security", "OWASP K8s K01"},
	Workload: func(j *Judge, w *cluster.Workload) {
		if w.Spec.ShareProcessNamespace == nil || !*w.Spec.ShareProcessNamespace {
			return
		}
		n := len(w.Spec.Containers) + len(w.Spec.EphemeralContainers)
		for i := range w.Spec.InitContainers {
			if p := w.Spec.InitContainers[i].RestartPolicy; p != nil && *p == "Always" {
				n++ // a sidecar
			}
		}
		at := w.SpecPath + ".shareProcessNamespace"
		if n > 1 {
			j.Fail(at, "shareProcessNamespace: true among "+strconv.Itoa(n)+" containers")
			return
		}
		j.FailAs(finding.Low, at, "shareProcessNamespace: true with one container; a sidecar or an ephemeral container would share its processes")
	},
}

// hostUsers is judged only where it is written: unset is the default of every pod in the world, and a finding on each
// would say nothing.
var hostUsers = &Check{
	ID: "host-users", Title: "Pod refuses a user namespace", Severity: finding.Low, Layer: artifact.Pods,
	Rationale: "hostUsers: true keeps the pod's users the node's users. With false, root in the container is nobody on the node, which blunts most container escapes.",
	Fix:       "Set hostUsers: false where the node's kernel and file systems can map users.",
	Standards: []string{"NIST SC-39"},
	Workload: func(j *Judge, w *cluster.Workload) {
		switch {
		case w.Spec.HostUsers == nil:
			j.Skip()
		case *w.Spec.HostUsers:
			j.Fail(w.SpecPath+".hostUsers", "hostUsers: true")
		}
	},
}
