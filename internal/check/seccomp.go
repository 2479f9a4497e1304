package check

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Seccomp is what stands between a program and the few hundred system calls that it never makes, where kernel bugs live.
// Unset means unconfined, unless the kubelet runs with --seccomp-default, which no manifest shows.

var seccompUnset = &Check{
	ID: "seccomp-unset", Title: "No seccomp profile", Severity: finding.Medium, Layer: artifact.Syscalls,
	Rationale: "Without a profile every system call of the kernel is open to the program. The runtime's own profile closes about sixty that programs do not need, and costs nothing.",
	Fix:       "Set securityContext.seccompProfile.type: RuntimeDefault on the pod, or Localhost with a profile of its own.",
	Standards: []string{"PSS restricted", "CIS 5.6.2", "NIST SC-39", "NSA Pod security", "OWASP K8s K01"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		if onWindows(w) {
			j.Skip()
		} else if p, _ := seccompProfile(w, c); p == nil {
			j.Fail(c.Path+".securityContext.seccompProfile", "seccompProfile is set neither on the container nor on the pod")
		}
	},
}

var seccompUnconfined = &Check{
	ID: "seccomp-unconfined", Title: "Seccomp is switched off", Severity: finding.High, Layer: artifact.Syscalls,
	Rationale: "Unconfined switches off the filter even where the kubelet would have set one: every system call of the kernel is open.",
	Fix:       "Set securityContext.seccompProfile.type: RuntimeDefault, or Localhost with a profile that allows what the program needs.",
	Standards: []string{"PSS baseline", "CIS 5.6.2", "NIST SC-39", "NSA Pod security", "OWASP K8s K01"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		// A pod-level Unconfined that the container overrides still counts: the next container inherits it.
		if p, at := seccompProfile(w, c); p != nil && p.Type == corev1.SeccompProfileTypeUnconfined {
			j.Fail(at, "seccompProfile.type: Unconfined")
		} else if sc := w.Spec.SecurityContext; sc != nil && sc.SeccompProfile != nil && sc.SeccompProfile.Type == corev1.SeccompProfileTypeUnconfined {
			j.Fail(w.SpecPath+".securityContext.seccompProfile.type", "seccompProfile.type: Unconfined for the pod, though not for this container")
		}
	},
}

func seccompProfile(w *cluster.Workload, c *cluster.Container) (p *corev1.SeccompProfile, at string) {
	if c.SecurityContext != nil && c.SecurityContext.SeccompProfile != nil {
		return c.SecurityContext.SeccompProfile, c.Path + ".securityContext.seccompProfile.type"
	}
	if w.Spec.SecurityContext != nil && w.Spec.SecurityContext.SeccompProfile != nil {
		return w.Spec.SecurityContext.SeccompProfile, w.SpecPath + ".securityContext.seccompProfile.type"
	}
	return nil, ""
}
