package collect

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/intelgraph/bulwark/bench/mix"
)

// BenchmarkRead is the reading alone: `go test -bench Read -benchmem ./internal/collect`.
func BenchmarkRead(b *testing.B) {
	const n = 5000
	all := strings.Join(mix.Objects(n, 1), "---\n")
	b.SetBytes(int64(len(all)))
	for b.Loop() {
		s, err := Read(context.Background(), []string{"-"}, Options{Stdin: io.Reader(strings.NewReader(all))})
		if err != nil {
			b.Fatal(err)
		}
		if len(s.Objects) != n || len(s.NotJudged) != 0 {
			b.Fatal(fmt.Sprint(len(s.Objects), s.NotJudged))
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "objects/s")
}
