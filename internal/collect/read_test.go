package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/source"
)

// tree writes the files of a txtar archive into a new folder.
func tree(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(archive)).Files {
		p := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// summary gives what was read and what was not, one a line, with the folder's name left out.
func summary(dir string, s *cluster.Snapshot) []string {
	var out []string
	strip := func(p string) string {
		return filepath.ToSlash(strings.ReplaceAll(p, dir+string(filepath.Separator), ""))
	}
	for _, o := range s.Objects {
		out = append(out, o.Kind+" "+o.Name()+" "+strip(o.At.String()))
	}
	for _, n := range s.NotJudged {
		at := source.Pos{File: n.File, Line: n.Line}
		out = append(out, "! "+strip(at.String())+": "+strip(n.Reason))
	}
	return out
}

func check(t *testing.T, dir string, s *cluster.Snapshot, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, summary(dir, s)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func mustRead(t *testing.T, opts Options, paths ...string) *cluster.Snapshot {
	t.Helper()
	s, err := Read(context.Background(), paths, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReadFolder(t *testing.T) {
	dir := tree(t, `
-- a.yaml --
apiVersion: v1
kind: Pod
metadata: {name: a}
---
# nothing
---
apiVersion: v1
kind: Service
metadata: {name: b}
-- b/c.yml --
apiVersion: v1
kind: Pod
metadata: {name: c}
-- b/d.json --
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "d"}}
-- b/notes.txt --
kind: Pod
-- b/values.yaml --
replicas: 3
-- .github/workflows/ci.yaml --
apiVersion: v1
kind: Pod
metadata: {name: hidden}
-- workflow.yaml --
on: push
jobs: {}
-- platform.yaml --
apiVersion: bulwark.dev/v1alpha1
kind: Platform
metadata: {name: x}
-- list.yaml --
- just
- a list
`)
	check(t, dir, mustRead(t, Options{}, dir),
		"Pod a a.yaml:1", "Service b a.yaml:7", "Pod c b/c.yml:1", "Pod d b/d.json:1")
}

func TestNamedFilesAreNeverSkipped(t *testing.T) {
	dir := tree(t, `
-- values.yaml --
replicas: 3
-- platform.yaml --
apiVersion: bulwark.dev/v1alpha1
kind: Platform
-- config --
apiVersion: v1
kind: Config
-- list.yaml --
- a
-- empty.yaml --
# nothing here
-- nokind.yaml --
apiVersion: v1
metadata: {name: x}
`)
	var paths []string
	for _, n := range []string{"values.yaml", "platform.yaml", "config", "list.yaml", "empty.yaml", "nokind.yaml"} {
		paths = append(paths, filepath.Join(dir, n))
	}
	check(t, dir, mustRead(t, Options{}, paths...),
		"! values.yaml:1: not a Kubernetes object: it has no apiVersion and no kind",
		"! platform.yaml:1: this is a Platform spec; name it with -f",
		"! config:1: this is a kubeconfig; use it with --kubeconfig",
		"! list.yaml:1: not a Kubernetes object: a list where a mapping with apiVersion and kind is needed",
		"! empty.yaml: empty: no YAML document in it",
		"! nokind.yaml:1: this object of v1 has no kind; add it")
}

func TestBadInputCostsOnlyItself(t *testing.T) {
	dir := tree(t, `
-- a.yaml --
apiVersion: v1
kind: Pod
metadata: {name: a}
---
apiVersion: v1
kind: Pod
metadata:
	name: tab
---
apiVersion: v1
kind: Pod
metadata: {name: c}
-- template.yaml --
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Values.name }}
-- z.yaml --
kind: Pod
metadata: {name: noversion}
---
apiVersion: v1
kind: Pod
metadata: {name: z}
`)
	if err := os.WriteFile(filepath.Join(dir, "binary.yaml"), []byte("\x7fELF\x00\x01\x02"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "latin.yaml"), []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: caf\xe9}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := mustRead(t, Options{}, dir)
	check(t, dir, s,
		"Pod a a.yaml:1", "Pod c a.yaml:10", "Pod  template.yaml:1", "Pod z z.yaml:4",
		"! a.yaml:8: YAML: found character that cannot start any token",
		"! binary.yaml:1: binary data, not YAML; name the manifests or their folder",
		"! latin.yaml:1: not UTF-8 text; save the file as UTF-8",
		"! z.yaml:1: this Pod has no apiVersion; add it")
	if p := s.Objects[2].Problems; len(p) == 0 || p[0].Pos.Line != 4 || !strings.Contains(p[0].Hint, "template") {
		t.Errorf("an unrendered template: %v", p)
	}
}

func TestSymlinks(t *testing.T) {
	dir := tree(t, `
-- a/pod.yaml --
apiVersion: v1
kind: Pod
metadata: {name: a}
-- b/keep --
`)
	for link, to := range map[string]string{
		"a/loop":        "..",
		"b/self.yaml":   "self.yaml",
		"b/broken.yaml": "nowhere.yaml",
		"b/other":       "../a",
		"b/file.yaml":   "../a/pod.yaml",
	} {
		if err := os.Symlink(filepath.FromSlash(to), filepath.Join(dir, filepath.FromSlash(link))); err != nil {
			t.Skipf("no symlinks here: %v", err)
		}
	}
	s := mustRead(t, Options{}, dir)
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := summary(dir, s)
	for i := range got {
		got[i] = strings.ReplaceAll(got[i], real, ".")
	}
	want := []string{
		"Pod a a/pod.yaml:1", "Pod a b/file.yaml:1", "Pod a b/other/pod.yaml:1",
		"! a/loop: this link leads back to ., which is being read already; it was not followed",
		"! b/broken.yaml: cannot read it: no such file or directory",
		"! b/other/loop: this link leads back to ., which is being read already; it was not followed",
		"! b/self.yaml: cannot read it: too many levels of symbolic links",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := Read(context.Background(), []string{filepath.Join(dir, "b", "self.yaml")}, Options{}); err == nil || !strings.Contains(err.Error(), "leads back to itself") {
		t.Errorf("a loop that is named: %v", err)
	}
}

func TestNothingToRead(t *testing.T) {
	dir := tree(t, "-- deploy/pod.yaml --\n# nothing\n-- other/values.yaml --\na: 1\n")
	tests := map[string]struct {
		paths []string
		want  string
	}{
		"no path":       {nil, "no paths to read"},
		"no such path":  {[]string{filepath.Join(dir, "deplyo")}, `does not exist; did you mean "deploy"?`},
		"no objects":    {[]string{filepath.Join(dir, "other")}, "no Kubernetes objects found in"},
		"no stdin":      {[]string{"-"}, "there is none"},
		"one of two":    {[]string{filepath.Join(dir, "other"), filepath.Join(dir, "x")}, "does not exist"},
		"nothing twice": {[]string{filepath.Join(dir, "other"), filepath.Join(dir, "deploy")}, " and "},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := Read(context.Background(), tc.paths, Options{})
			if err == nil || !strings.Contains(err.Error(), tc.want) || s != nil {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
	_, err := Read(context.Background(), []string{filepath.Join(dir, "other")}, Options{})
	if !errors.Is(err, ErrNothing) {
		t.Errorf("%v is not ErrNothing", err)
	}
}

func TestUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		againAsNobody(t)
		return
	}
	dir := tree(t, "-- a.yaml --\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n-- b.yaml --\nx: 1\n-- c/d.yaml --\nx: 1\n")
	for _, p := range []string{"b.yaml", "c"} {
		if err := os.Chmod(filepath.Join(dir, p), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "c"), 0o755) })
	check(t, dir, mustRead(t, Options{}, dir), "Pod a a.yaml:1",
		"! b.yaml: cannot open it: permission denied; check its permissions",
		"! c: cannot list the folder: permission denied; check its permissions")
}

// againAsNobody runs the calling test once more in a process without rights, because root reads everything.
func againAsNobody(t *testing.T) {
	t.Helper()
	// Not t.TempDir: its parent is root's alone.
	dir, err := os.MkdirTemp("", "as-nobody-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const nobody = 65534
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "test")
	if err := errors.Join(os.WriteFile(copied, binary, 0o755), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), copied, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

func TestStdin(t *testing.T) {
	s := mustRead(t, Options{Stdin: strings.NewReader("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nx: 1\n")}, "-")
	check(t, "", s, "Pod a <stdin>:1", "! <stdin>:5: not a Kubernetes object: it has no apiVersion and no kind")
}

func TestDocumentOverTheCap(t *testing.T) {
	big := func(n int) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\ndata:\n  x: |\n" + strings.Repeat("    0123456789\n", n/15)
	}
	small := func(n string) string { return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + n + "}\n" }
	for _, size := range []int{5_000, 400_000, 900_000} { // within one block, over one, over several
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			in := small("a") + "---\n" + big(size) + "---\n" + small("b")
			opts := Options{Limits: source.Limits{Document: 2000, Depth: 100, Nodes: 10000}, Stdin: strings.NewReader(in)}
			s := mustRead(t, opts, "-")
			lines := strings.Count(in[:strings.LastIndex(in, "---\n")], "\n") + 2
			got := summary("", s)
			if len(got) != 3 || got[0] != "Pod a <stdin>:1" || got[1] != fmt.Sprintf("Pod b <stdin>:%d", lines) || !strings.Contains(got[2], "over the cap of 2000") || s.NotJudged[0].Line < 4 || s.NotJudged[0].Line > 5 {
				t.Errorf("got %q, want the second pod at line %d", got, lines)
			}
		})
	}
}

// repeated gives a text again and again without holding it.
type repeated struct {
	unit string
	left int64
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && r.left > 0 {
		k := copy(p[n:], r.unit[r.at:])
		k = int(min(int64(k), r.left))
		n, r.at, r.left = n+k, (r.at+k)%len(r.unit), r.left-int64(k)
	}
	return n, nil
}

// peak runs f and gives by how many bytes the heap grew above what it was, at worst.
func peak(f func()) int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	base := int64(m.HeapInuse)
	done, worst := make(chan struct{}), make(chan int64)
	go func() {
		high := base
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			high = max(high, int64(m.HeapInuse))
			select {
			case <-done:
				worst <- high - base
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	f()
	close(done)
	return <-worst
}

// TestHugeFiles reads 200 MB of one document, of one line, and of small documents that are not Kubernetes', in bounded
// memory; the small object behind each is still read.
func TestHugeFiles(t *testing.T) {
	const size = 200 << 20
	const pod = "\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: last}\n"
	tests := map[string]struct {
		unit string
		want string
	}{
		"one document":    {"key: value of some length\n", "over the cap of 3145728 bytes"},
		"one line":        {"abcdefghij", "over the cap of 3145728 bytes"},
		"dashes":          {"-", "over the cap of 3145728 bytes"},
		"small documents": {"---\nkey: value of some length which is repeated\nother: [1, 2, 3]\n", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "huge.yaml")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			in := io.MultiReader(&repeated{unit: tc.unit, left: size / int64(len(tc.unit)) * int64(len(tc.unit))}, strings.NewReader(pod))
			if _, err := io.Copy(f, in); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			var s *cluster.Snapshot
			grown := peak(func() { s = mustRead(t, Options{}, filepath.Dir(path)) })
			if len(s.Objects) != 1 || s.Objects[0].Name() != "last" {
				t.Errorf("the object at the end: %v", s.Objects)
			}
			switch {
			case tc.want == "" && len(s.NotJudged) > 0, tc.want != "" && (len(s.NotJudged) != 1 || !strings.Contains(s.NotJudged[0].Reason, tc.want)):
				t.Errorf("not judged: %v", s.NotJudged)
			}
			t.Logf("the heap grew by %d MiB", grown>>20)
			if grown > 64<<20 {
				t.Errorf("the heap grew by %d MiB for a file of %d", grown>>20, size>>20)
			}
		})
	}
	t.Run("over the cap of a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sparse.yaml")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(DefaultMaxFile+1), f.Close()); err != nil {
			t.Fatal(err)
		}
		s := mustRead(t, Options{}, path)
		if len(s.NotJudged) != 1 || !strings.Contains(s.NotJudged[0].Reason, "over the cap of 1073741824 for one file") {
			t.Errorf("not judged: %v", s.NotJudged)
		}
	})
	t.Run("zeros", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sparse.yaml")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			t.Fatal(err)
		}
		var s *cluster.Snapshot
		if grown := peak(func() { s = mustRead(t, Options{}, path) }); grown > 64<<20 {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
		if len(s.NotJudged) != 1 {
			t.Errorf("not judged: %v", s.NotJudged)
		}
	})
}

func TestStdinOverTheCap(t *testing.T) {
	in := &repeated{unit: "---\na: 1\n", left: 1 << 30}
	s := mustRead(t, Options{Stdin: in, MaxFile: 1 << 20}, "-")
	last := s.NotJudged[len(s.NotJudged)-1]
	if !strings.Contains(last.Reason, "more bytes than the cap") {
		t.Errorf("got %v", last)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Read(ctx, []string{tree(t, "-- a.yaml --\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n")}, Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestStreamCutsAsSplitDoes: reading in blocks must give the documents that reading at once gives.
func TestStreamCutsAsSplitDoes(t *testing.T) {
	var b strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&b, "--- # %d\na: %d\n", i, i)
		if i%7 == 0 {
			b.WriteString("text: |\n  --- no marker\n  ----\n")
		}
		if i%11 == 0 {
			b.WriteString("...\n")
		}
	}
	in := b.String()
	var want, got []string
	for _, d := range source.Split("f", []byte(in)) {
		want = append(want, fmt.Sprintf("%d %s", d.Line, d.Text))
	}
	err := stream(strings.NewReader(in), 0, text{file: "f", line: 1}, 1<<20, func(x text) {
		for _, d := range source.Split("f", x.data) {
			got = append(got, fmt.Sprintf("%d %s", d.Line+x.line-1, d.Text))
		}
	}, func(int) { t.Error("too large") })
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d[:min(len(d), 2000)])
	}
}
