// Package pods compiles what a pod may be: the Pod Security labels of the namespaces, pinned to a version, and a Helm
// chart whose values carry the security context of every component.
package pods

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/compile/implied"
	"github.com/intelgraph/bulwark/internal/spec"
)

// File is where the namespaces are written. The guide calls it after PodSecurityPolicy, which is gone since Kubernetes
// 1.25; what it holds is Pod Security admission, which took its place.
const File = "k8s/security/pod-security-policy.yaml"

// Compile gives the pods layer.
func Compile(p *spec.Platform, lock *spec.Lock, stage artifact.Stage) (artifact.Part, error) {
	var part artifact.Part
	for _, name := range spec.Sorted(p.Spec.Namespaces) {
		ns := p.Spec.Namespaces[name]
		part.Add(p.Metadata.Name, artifact.Pods, File, &corev1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: Labels(p, ns, stage)},
		}, implied.Why(p, implied.Path("spec", "namespaces", name)), implied.Why(p, "spec.kubernetes"))
		if ns.PodSecurity != "restricted" {
			part.Gap(artifact.Pods, "namespace/"+name, fmt.Sprintf("Pod Security is %s, not restricted, as the spec says", ns.PodSecurity), implied.Why(p, implied.Path("spec", "namespaces", name, "podSecurity")))
		}
		if stage != artifact.Enforce {
			part.Gap(artifact.Pods, "namespace/"+name, fmt.Sprintf("Pod Security refuses nothing at stage %s", stage), implied.Why(p, implied.Path("spec", "namespaces", name)))
		}
	}
	if err := compileChart(p, lock, &part); err != nil {
		return artifact.Part{}, err
	}
	return part, nil
}

// modes are the Pod Security modes of each stage: record, tell, refuse.
var modes = map[artifact.Stage][]string{
	artifact.Audit:   {"audit"},
	artifact.Warn:    {"audit", "warn"},
	artifact.Enforce: {"audit", "warn", "enforce"},
}

// Labels are the labels of a namespace at a stage. The version is pinned, because "latest" would change what the level
// means when the cluster is upgraded.
func Labels(p *spec.Platform, ns *spec.Namespace, stage artifact.Stage) map[string]string {
	l := map[string]string{
		implied.PartOfLabel: p.Metadata.Name,
		p.Spec.LevelLabel(): ns.Level,
	}
	for _, m := range modes[stage] {
		l["pod-security.kubernetes.io/"+m] = ns.PodSecurity
		l["pod-security.kubernetes.io/"+m+"-version"] = "v" + p.Spec.Kubernetes
	}
	return l
}
