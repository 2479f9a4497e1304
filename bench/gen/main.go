// Command gen writes made-up Kubernetes objects for the benchmark.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/intelgraph/bulwark/bench/mix"
)

func main() {
	n := flag.Int("n", 5000, "how many objects")
	seed := flag.Uint64("seed", 1, "the seed; the same one gives the same bytes")
	out := flag.String("o", "", "the folder to write to; it must be empty or new")
	each := flag.Int("per-file", 100, "objects a file")
	flag.Parse()
	if err := run(*n, *seed, *out, *each); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(2)
	}
}

func run(n int, seed uint64, dir string, each int) error {
	if dir == "" || n < 1 || each < 1 {
		return fmt.Errorf("-o DIR is needed, and -n and -per-file must be positive")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err != nil {
		return err
	} else if len(entries) > 0 {
		return fmt.Errorf("%s is not empty", dir)
	}
	objects := mix.Objects(n, seed)
	total := 0
	for i := 0; i < n; i += each {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("objects-%05d.yaml", i/each)))
		if err != nil {
			return err
		}
		w := bufio.NewWriter(f)
		for _, o := range objects[i:min(i+each, n)] {
			total += len(o)
			fmt.Fprintf(w, "---\n%s", o)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	fmt.Printf("%d objects, %d bytes, %d bytes each on average\n", n, total, total/n)
	return nil
}
