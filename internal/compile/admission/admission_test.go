package admission

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/spec"
)

func reference(t *testing.T) *spec.Platform {
	t.Helper()
	p, err := spec.Load(filepath.Join("..", "..", "..", "platforms", "intelgraph", "platform.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPoliciesTypeCheckForEveryKind(t *testing.T) {
	if err := TypeCheck(Policies(reference(t))); err != nil {
		t.Error(err)
	}
}

// TestTypeCheckFindsMistakes is the twin of the test above: a check that finds nothing proves nothing.
func TestTypeCheckFindsMistakes(t *testing.T) {
	for _, tc := range []struct {
		pol  Policy
		says string
	}{
		{Policy{ID: "mistyped-field", Offenders: each("c.securityContext.readOnlyRootFilesytem")}, "undefined field 'readOnlyRootFilesytem'"},
		{Policy{ID: "mistyped-optional-field", Offenders: each("c.?securityContext.?readOnlyRootFilesytem.orValue(false)")}, "undefined field 'readOnlyRootFilesytem'"},
		{Policy{ID: "mistyped-variable", Offenders: "variables.conatiners.map(c, c.name)"}, "undeclared reference"},
		{Policy{ID: "wrong-type", Offenders: each("c.image == 1")}, "no matching overload"},
		{Policy{ID: "mistake-in-variable", Variables: []Variable{{"x", "variables.pod.nodename"}}, Offenders: "['']"}, "undefined field 'nodename'"},
		{Policy{ID: "namespace-field", Subject: OnNamespaces, Offenders: "object.metadata.lables.map(k, k)"}, "undefined field 'lables'"},
	} {
		err := tc.pol.typeCheck(firstKind(tc.pol.Subject))
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want an error that says %q", tc.pol.ID, err, tc.says)
		}
	}
}

func TestCompileStages(t *testing.T) {
	p := reference(t)
	for stage, want := range map[artifact.Stage]string{artifact.Audit: "[Audit]", artifact.Warn: "[Warn Audit]", artifact.Enforce: "[Deny Audit]"} {
		part, err := Compile(p, nil, stage)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, a := range part.Artifacts {
			if a.Object == nil || a.Object["kind"] != "ValidatingAdmissionPolicyBinding" {
				continue
			}
			n++
			s := a.Object["spec"].(map[string]any)
			got := "["
			for i, x := range s["validationActions"].([]any) {
				if i > 0 {
					got += " "
				}
				got += x.(string)
			}
			if got += "]"; got != want {
				t.Errorf("stage %s: %s has actions %s, want %s", stage, a.ID(), got, want)
			}
		}
		if n < 9 {
			t.Errorf("stage %s: %d bindings, want at least 9", stage, n)
		}
	}
}
