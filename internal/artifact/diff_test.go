package artifact

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	for name, tt := range map[string]struct {
		before, after []byte
		want          string
	}{
		"equal":       {[]byte("a\n"), []byte("a\n"), ""},
		"new file":    {nil, []byte("a\nb\n"), "--- /dev/null\n+++ new\n@@ -0,0 +1,2 @@\n+a\n+b\n"},
		"gone":        {[]byte("a\n"), nil, "--- old\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"},
		"empty, new":  {nil, []byte{}, "--- /dev/null\n+++ new\n"},
		"one changed": {[]byte("a\nb\nc\n"), []byte("a\nx\nc\n"), "--- old\n+++ new\n@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"},
		"no newline":  {[]byte("a"), []byte("b\n"), "--- old\n+++ new\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n"},
		"two hunks": {[]byte("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n"), []byte("x\n2\n3\n4\n5\n6\n7\n8\n9\ny\n"),
			"--- old\n+++ new\n@@ -1,4 +1,4 @@\n-1\n+x\n 2\n 3\n 4\n@@ -7,4 +7,4 @@\n 7\n 8\n 9\n-10\n+y\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, Diff("old", "new", tt.before, tt.after)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestDiffPatches has patch(1), which is not ours, apply the diffs of random texts.
func TestDiffPatches(t *testing.T) {
	patch, err := exec.LookPath("patch")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("patch(1) must be there in CI: %v", err)
		}
		t.Skip("patch(1) is not installed")
	}
	r := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		var b strings.Builder
		for range r.IntN(40) {
			b.WriteByte("abc"[r.IntN(3)])
			b.WriteByte('\n')
		}
		return b.String()
	}
	for range 200 {
		before, after := text(), text()
		if before == "" || after == "" || before == after {
			continue // patch deletes a file that becomes empty
		}
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		diff := Diff("f", "f", []byte(before), []byte(after))
		cmd := exec.Command(patch, "-s", file)
		cmd.Stdin = strings.NewReader(diff)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("patch: %v\n%s\nbefore:\n%s\ndiff:\n%s", err, out, before, diff)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(after, string(got)); d != "" {
			t.Fatalf("%s\nbefore:\n%s\ndiff:\n%s", d, before, diff)
		}
	}
}

func TestDiffBounded(t *testing.T) {
	var a, b strings.Builder
	for i := range 20_000 {
		a.WriteString("a" + strings.Repeat("x", i%7) + "\n")
		b.WriteString("b" + strings.Repeat("y", i%5) + "\n")
	}
	d := Diff("old", "new", []byte(a.String()), []byte(b.String()))
	if n := strings.Count(d, "\n"); n != 40_003 {
		t.Errorf("%d lines, want the whole of both texts", n)
	}
}
