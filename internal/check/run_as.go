package check

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Who a process is: what the container says goes before what the pod says, and what neither says is up to the image,
// which nobody sees here.

var runAsRoot = &Check{
	ID: "run-as-root", Title: "Process runs as root", Severity: finding.High, Layer: artifact.Pods,
	Rationale: "Root in the container is root on the node for every file and kernel interface that is not namespaced; most container escapes start from it.",
	Fix:       "Set runAsUser to the program's own user, not 0.",
	Standards: []string{"PSS restricted", "CIS 5.2.7", "NIST AC-6", "NSA Pod security", "OWASP K8s K01"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		if uid, at := runAsUser(w, c); uid != nil && *uid == 0 {
			j.FailAs(inUserNamespace(w, finding.High), at, "runAsUser: 0")
		} else if uid, at := podUser(w); uid != nil && *uid == 0 {
			j.FailAs(inUserNamespace(w, finding.High), at, "runAsUser: 0 for the pod, though not for this container")
		}
	},
}

var runAsNonRoot = &Check{
	ID: "run-as-non-root-unset", Title: "Nothing keeps root out", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "Without runAsNonRoot: true the kubelet starts whatever user the image names, and a new image may name root. The image's user cannot be seen in a manifest, so this field is the only promise.",
	Fix:       "Set securityContext.runAsNonRoot: true on the pod.",
	Standards: []string{"PSS restricted", "CIS 5.2.7", "NIST AC-6", "NSA Pod security", "OWASP K8s K01"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		var own, pod *bool
		if c.SecurityContext != nil {
			own = c.SecurityContext.RunAsNonRoot
		}
		if w.Spec.SecurityContext != nil {
			pod = w.Spec.SecurityContext.RunAsNonRoot
		}
		switch {
		case own != nil && !*own:
			j.FailAs(inUserNamespace(w, finding.Medium), c.Path+".securityContext.runAsNonRoot", "runAsNonRoot: false")
		case pod != nil && !*pod:
			// Also where this container says true: the next one, or an ephemeral one, inherits it.
			j.FailAs(inUserNamespace(w, finding.Medium), w.SpecPath+".securityContext.runAsNonRoot", "runAsNonRoot: false for the pod")
		case own == nil && pod == nil:
			j.FailAs(inUserNamespace(w, finding.Medium), c.Path+".securityContext.runAsNonRoot", "runAsNonRoot is set neither on the container nor on the pod")
		}
	},
}

var runAsUserUnset = &Check{
	ID: "run-as-user-unset", Title: "User is left to the image", Severity: finding.Low, Layer: artifact.Pods,
	Rationale: "A fixed numeric user makes file ownership, volumes and audit trails the same from image to image, and keeps two programs from sharing one user by accident.",
	Fix:       "Set securityContext.runAsUser to the program's own numeric user.",
	Standards: []string{"CIS 5.6.3", "NIST AC-6", "NSA Pod security"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		if onWindows(w) {
			j.Skip()
		} else if uid, _ := runAsUser(w, c); uid == nil {
			j.Fail(c.Path+".securityContext.runAsUser", "runAsUser is set neither on the container nor on the pod")
		}
	},
}

var runAsRootGroup = &Check{
	ID: "run-as-root-group", Title: "Process is in the root group", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "Group 0 owns many files of images and of mounted volumes. Where a user is set and no group, the primary group is 0 as well.",
	Fix:       "Set securityContext.runAsGroup next to runAsUser, and leave 0 out of fsGroup and supplementalGroups.",
	Standards: []string{"CIS 5.6.3", "NIST AC-6", "NSA Pod security"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		if onWindows(w) {
			j.Skip()
			return
		}
		uid, uidAt := runAsUser(w, c)
		gid, at := runAsGroup(w, c)
		switch {
		case gid != nil && *gid == 0:
			j.Fail(at, "runAsGroup: 0")
		case gid == nil && uid != nil && *uid != 0:
			j.FailAs(finding.Low, uidAt, "runAsUser: "+strconv.FormatInt(*uid, 10)+" without runAsGroup; the primary group is then 0")
		}
		sc := w.Spec.SecurityContext
		if sc == nil {
			return
		}
		if sc.FSGroup != nil && *sc.FSGroup == 0 {
			j.Fail(w.SpecPath+".securityContext.fsGroup", "fsGroup: 0")
		}
		for i, g := range sc.SupplementalGroups {
			if g == 0 {
				j.Fail(w.SpecPath+".securityContext.supplementalGroups["+strconv.Itoa(i)+"]", "supplementalGroups holds 0")
			}
		}
	},
}

func runAsUser(w *cluster.Workload, c *cluster.Container) (uid *int64, at string) {
	if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
		return c.SecurityContext.RunAsUser, c.Path + ".securityContext.runAsUser"
	}
	return podUser(w)
}

func podUser(w *cluster.Workload) (uid *int64, at string) {
	return ofPod(w, ".runAsUser", func(s *corev1.PodSecurityContext) *int64 { return s.RunAsUser })
}

// inUserNamespace lessens what root means where the pod has a user namespace of its own (KEP-127): root there is an
// ordinary user of the node. It is still root towards the pod's own files.
func inUserNamespace(w *cluster.Workload, s finding.Severity) finding.Severity {
	if w.Spec.HostUsers != nil && !*w.Spec.HostUsers {
		return finding.Low
	}
	return s
}

func runAsGroup(w *cluster.Workload, c *cluster.Container) (gid *int64, at string) {
	if c.SecurityContext != nil && c.SecurityContext.RunAsGroup != nil {
		return c.SecurityContext.RunAsGroup, c.Path + ".securityContext.runAsGroup"
	}
	return ofPod(w, ".runAsGroup", func(s *corev1.PodSecurityContext) *int64 { return s.RunAsGroup })
}

func ofPod(w *cluster.Workload, field string, get func(*corev1.PodSecurityContext) *int64) (*int64, string) {
	if w.Spec.SecurityContext == nil {
		return nil, ""
	}
	v := get(w.Spec.SecurityContext)
	if v == nil {
		return nil, ""
	}
	return v, w.SpecPath + ".securityContext" + field
}
