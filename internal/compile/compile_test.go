package compile

import (
	"flag"
	"testing"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/spec"
)

var update = flag.Bool("update", false, "write the goldens anew")

func TestOrder(t *testing.T) {
	p, err := spec.Load("../../platforms/intelgraph/platform.yaml")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Compile(p, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for _, a := range plan.Artifacts {
		r := rank(a)
		if r < last {
			t.Errorf("%s comes too late", a.ID())
		}
		last = r
		t.Log(a.ID(), artifact.Because(a.Why))
	}
	for _, g := range plan.Gaps {
		t.Logf("%s: %s: %s (%s)", g.Layer, g.Subject, g.Reason, g.Because)
	}
}
