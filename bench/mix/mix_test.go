package mix

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/intelgraph/bulwark/internal/collect"
)

func TestObjects(t *testing.T) {
	const n = 5000
	a, b, c := Objects(n, 1), Objects(n, 1), Objects(n, 2)
	if !slices.Equal(a, b) {
		t.Error("the same seed gives other bytes")
	}
	if slices.Equal(a, c) {
		t.Error("another seed gives the same bytes")
	}
	if !slices.Equal(a[:100], Objects(100, 1)) {
		t.Error("how many are asked for changes the first ones")
	}
	all := strings.Join(a, "---\n")
	if mean := len(all) / n; mean < 1600 || mean > 1800 {
		t.Errorf("%d bytes each on average, want 1.7 KB", mean)
	}
	s, err := collect.Read(context.Background(), []string{"-"}, collect.Options{Stdin: strings.NewReader(all)})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Objects) != n || len(s.NotJudged) > 0 {
		t.Errorf("%d objects, not judged: %v", len(s.Objects), s.NotJudged)
	}
	seen := map[string]int{}
	for _, o := range s.Objects {
		seen[o.Kind]++
		if o.Typed == nil || len(o.Problems) > 0 {
			t.Fatalf("%v: %v", o.Ref(), o.Problems)
		}
	}
	if len(seen) < 13 {
		t.Errorf("only these kinds: %v", seen)
	}
}
