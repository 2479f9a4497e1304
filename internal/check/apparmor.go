package check

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// The annotation came before the field (KEP-24); API servers still copy the one to the other.
const appArmorAnnotation = "container.apparmor.security.beta.kubernetes.io/"

// Unset is fine: runtimes then load their own profile where the node has AppArmor. Unconfined takes it away.
var appArmorUnconfined = &Check{
	ID: "apparmor-unconfined", Title: "AppArmor is switched off", Severity: finding.High, Layer: artifact.Syscalls,
	Rationale: "The runtime's AppArmor profile refuses mounts, writes below /proc and /sys, and ptrace of other profiles. Unconfined removes it.",
	Fix:       "Remove the unconfined profile, or set appArmorProfile.type: RuntimeDefault.",
	Standards: []string{"PSS baseline", "CIS 5.6.3", "NIST SC-39", "NSA Pod security", "OWASP K8s K01"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		if c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
			if c.SecurityContext.AppArmorProfile.Type == corev1.AppArmorProfileTypeUnconfined {
				j.Fail(c.Path+".securityContext.appArmorProfile.type", "appArmorProfile.type: Unconfined")
			}
		} else if sc := w.Spec.SecurityContext; sc != nil && sc.AppArmorProfile != nil && sc.AppArmorProfile.Type == corev1.AppArmorProfileTypeUnconfined {
			j.Fail(w.SpecPath+".securityContext.appArmorProfile.type", "appArmorProfile.type: Unconfined for the whole pod")
		}
		if len(w.PodMeta.Annotations) == 0 {
			return
		}
		v, ok := w.PodMeta.Annotations[appArmorAnnotation+c.Name]
		if ok && v != "" && v != "runtime/default" && !strings.HasPrefix(v, "localhost/") {
			j.Fail(w.MetaPath+`.annotations["`+appArmorAnnotation+c.Name+`"]`, "AppArmor annotation: "+v)
		}
	},
}
