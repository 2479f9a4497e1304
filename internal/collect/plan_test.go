package collect

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
)

func TestFromPlan(t *testing.T) {
	var part artifact.Part
	for _, n := range []string{"one", "two"} {
		part.Add("shop", artifact.Pods, n+".yaml", &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: n}})
		part.Add("shop", artifact.Access, "shared.yaml", &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: metav1.ObjectMeta{Name: n, Namespace: n}})
	}
	part.AddFile(artifact.Pods, "chart/values.yaml", []byte("a: 1\n"))
	s, err := FromPlan(&artifact.Plan{Platform: "shop", Artifacts: part.Artifacts})
	if err != nil {
		t.Fatal(err)
	}
	check(t, "", s, "Namespace one one.yaml:3", "ServiceAccount one shared.yaml:3", "Namespace two two.yaml:3", "ServiceAccount two shared.yaml:13")
	for _, o := range s.Objects {
		if o.Typed == nil || len(o.Problems) > 0 {
			t.Errorf("%v: %v", o.Ref(), o.Problems)
		}
	}
}

func TestFromPlanRefusesWhatItCannotRead(t *testing.T) {
	p := &artifact.Plan{Artifacts: []artifact.Artifact{{Path: "a.yaml", Object: map[string]any{"kind": "Pod"}}}}
	if _, err := FromPlan(p); err == nil || !strings.Contains(err.Error(), "a.yaml") {
		t.Errorf("got %v", err)
	}
}
