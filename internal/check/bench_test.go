package check_test

import (
	"strings"
	"testing"

	"github.com/intelgraph/bulwark/bench/mix"
	"github.com/intelgraph/bulwark/internal/check"
)

// BenchmarkRun judges the usual mix of objects with every check, without the reading. Use the objects/s it reports.
func BenchmarkRun(b *testing.B) {
	const n = 5000
	s := read(b, strings.Join(mix.Objects(n, 1), "\n---\n"))
	b.ReportAllocs()
	for b.Loop() {
		check.Run(s, check.Options{Day: today})
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
}
