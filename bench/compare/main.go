// Command compare times `bulwark validate` against kube-score on the same generated manifests, in pairs, as whole
// processes: start, reading, judging and printing. It prints Markdown for docs/benchmarks.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	bulwark := flag.String("bulwark", "build/bulwark", "the bulwark `binary`")
	score := flag.String("kube-score", "build/kube-score", "the kube-score `binary`")
	gen := flag.String("gen", "build/bench-gen", "the generator's `binary`")
	pairs := flag.Int("pairs", 5, "how many pairs of runs for each size")
	flag.Parse()
	if err := run(*bulwark, *score, *gen, *pairs); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// sample is one whole process.
type sample struct {
	wall time.Duration
	// peak is the largest resident set, in KiB.
	peak int64
}

func measure(name string, args ...string) (sample, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Stdout, c.Stderr = io.Discard, io.Discard
	start := time.Now()
	err := c.Run()
	s := sample{wall: time.Since(start)}
	// Both exit with a code of their own when they have findings, which they have.
	if err != nil && c.ProcessState == nil {
		return s, fmt.Errorf("%s: %w", name, err)
	}
	if code := c.ProcessState.ExitCode(); code < 0 || code > 1 && code != 3 {
		return s, fmt.Errorf("%s ended with %d", name, code)
	}
	if u, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.peak = u.Maxrss
	}
	return s, nil
}

func median(samples []sample) sample {
	walls := make([]time.Duration, len(samples))
	peaks := make([]int64, len(samples))
	for i, s := range samples {
		walls[i], peaks[i] = s.wall, s.peak
	}
	slices.Sort(walls)
	slices.Sort(peaks)
	return sample{walls[len(walls)/2], peaks[len(peaks)/2]}
}

func run(bulwark, score, gen string, pairs int) error {
	dir, err := os.MkdirTemp("", "bulwark-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%d cores, %s/%s, %s; median of %d pairs.\n\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), pairs)
	fmt.Println("| objects | bytes each | bulwark, objects/s | kube-score, objects/s | ratio | bulwark, peak MiB | kube-score, peak MiB |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- |")
	empty := filepath.Join(dir, "empty.yaml")
	if err := os.WriteFile(empty, []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: y}\n"), 0o600); err != nil {
		return err
	}
	base, err := measure(bulwark, "validate", empty)
	if err != nil {
		return err
	}
	type point struct {
		n int
		s sample
	}
	var points []point
	for _, n := range []int{5000, 10000, 20000} {
		folder := filepath.Join(dir, fmt.Sprint(n))
		if out, err := exec.CommandContext(context.Background(), gen, "-n", fmt.Sprint(n), "-o", folder).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", gen, err, out)
		}
		files, size, err := list(folder)
		if err != nil {
			return err
		}
		var ours, theirs []sample
		for range pairs {
			a, err := measure(bulwark, "validate", folder)
			if err != nil {
				return err
			}
			b, err := measure(score, append([]string{"score"}, files...)...)
			if err != nil {
				return err
			}
			ours, theirs = append(ours, a), append(theirs, b)
		}
		a, b := median(ours), median(theirs)
		rate := func(s sample) float64 { return float64(n) / s.wall.Seconds() }
		fmt.Printf("| %d | %d | %.0f | %.0f | %.1f | %d | %d |\n", n, size/int64(n), rate(a), rate(b), b.wall.Seconds()/a.wall.Seconds(), a.peak/1024, b.peak/1024)
		points = append(points, point{n, a})
	}
	first, last := points[0], points[len(points)-1]
	fmt.Printf("\nPeak memory above the start-up's %d MiB: %s an object. ", base.peak/1024, perObject(last.s.peak-base.peak, last.n))
	fmt.Printf("From %d to %d objects: %.1f times the objects, %.1f times the time.\n", first.n, last.n, float64(last.n)/float64(first.n), last.s.wall.Seconds()/first.s.wall.Seconds())
	return nil
}

func perObject(kib int64, n int) string { return fmt.Sprintf("%.1f KiB", float64(kib)/float64(n)) }

func list(folder string) (files []string, size int64, err error) {
	err = filepath.WalkDir(folder, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".yaml") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files, size = append(files, p), size+info.Size()
		return nil
	})
	return files, size, err
}
