package spec_test

import (
	"path/filepath"
	"testing"

	"github.com/intelgraph/bulwark/internal/spec"
)

// reference is the platform that ships with Bulwark.
var reference = filepath.Join("..", "..", "platforms", "intelgraph", "platform.yaml")

func TestReferencePlatformLoads(t *testing.T) {
	p, err := spec.Load(reference)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(p.Spec.Components); got != 7 {
		t.Errorf("components = %d, want 7", got)
	}
	for i, f := range p.Spec.Flows {
		if len(f.Targets) != len(f.To) {
			t.Errorf("flow %d: targets = %d, want %d", i, len(f.Targets), len(f.To))
		}
	}
}
