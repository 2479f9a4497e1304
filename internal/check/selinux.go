package check

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Only the types that container-selinux makes for containers confine one.
var selinuxCustom = &Check{
	ID: "selinux-custom", Title: "SELinux label leaves the container's domain", Severity: finding.High, Layer: artifact.Syscalls,
	Rationale: "SELinux holds a container through its type. spc_t or any other type, user or role puts it outside the domain that the policy was written for.",
	Fix:       "Remove seLinuxOptions, or use one of container_t, container_init_t, container_kvm_t, container_engine_t, without user and role.",
	Standards: []string{"PSS baseline", "NIST SC-39", "NSA Pod security", "OWASP K8s K01"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		if c.SecurityContext != nil && c.SecurityContext.SELinuxOptions != nil {
			selinux(j, c.SecurityContext.SELinuxOptions, c.Path)
		}
		if w.Spec.SecurityContext != nil && w.Spec.SecurityContext.SELinuxOptions != nil {
			selinux(j, w.Spec.SecurityContext.SELinuxOptions, w.SpecPath)
		}
	},
}

func selinux(j *Judge, o *corev1.SELinuxOptions, at string) {
	at += ".securityContext.seLinuxOptions."
	switch o.Type {
	case "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t":
	default:
		j.Fail(at+"type", "SELinux type "+o.Type)
	}
	if o.User != "" {
		j.Fail(at+"user", "SELinux user "+o.User)
	}
	if o.Role != "" {
		j.Fail(at+"role", "SELinux role "+o.Role)
	}
}
