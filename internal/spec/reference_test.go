package spec_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/intelgraph/bulwark/internal/spec"
)

func TestReference(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "spec.md")
	want := spec.Reference()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types say; run: go test ./internal/spec -run TestReference -update", file)
	}
}

// TestShownSpecsLoad: what the README and the reference show is a spec.
func TestShownSpecsLoad(t *testing.T) {
	block := regexp.MustCompile("(?s)```yaml\n(apiVersion: bulwark.*?)```")
	for _, file := range []string{"README.md", "docs/spec.md"} {
		data, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		found := block.FindAllSubmatch(data, -1)
		if len(found) == 0 {
			t.Errorf("%s shows no spec", file)
		}
		for _, m := range found {
			if _, err := spec.Parse(file, m[1]); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if n := bytes.Count(m[1], []byte("\n")); n >= 15 {
				t.Errorf("%s: the smallest spec has %d lines", file, n)
			}
		}
	}
}
