package collect

import (
	"fmt"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/source"
)

// FromPlan gives the objects of a compiled plan as a snapshot, in the plan's order. Their places are those in the files
// that `bulwark render` writes. They go through the same strict decoder as anybody's manifests.
func FromPlan(plan *artifact.Plan) (*cluster.Snapshot, error) {
	files, err := plan.Files()
	if err != nil {
		return nil, err
	}
	read := map[string][]*cluster.Object{}
	next := map[string]int{}
	var objects []*cluster.Object
	d := newDecoder(source.DefaultLimits)
	for _, a := range plan.Artifacts {
		if a.Object == nil {
			continue
		}
		if _, done := read[a.Path]; !done {
			r := d.text(text{file: a.Path, line: 1, data: files[a.Path], named: true})
			if len(r.not) > 0 {
				n := r.not[0]
				return nil, fmt.Errorf("%s:%d: the compiler wrote something that cannot be read: %s", n.File, n.Line, n.Reason)
			}
			read[a.Path] = r.objects
		}
		i := next[a.Path]
		next[a.Path]++
		if i >= len(read[a.Path]) {
			return nil, fmt.Errorf("%s: holds %d objects, and %s is not among them", a.Path, len(read[a.Path]), a.ID())
		}
		objects = append(objects, read[a.Path][i])
	}
	return cluster.New(objects, false, nil), nil
}
