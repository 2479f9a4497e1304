package source

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/intelgraph/bulwark/bench/mix"
)

// sameNode gives the first difference between two trees, comments aside.
func sameNode(path string, a, b *yaml.Node) string {
	if a.Kind != b.Kind || a.Tag != b.Tag || a.Value != b.Value || a.Style != b.Style || a.Line != b.Line || a.Column != b.Column || len(a.Content) != len(b.Content) {
		return fmt.Sprintf("%s: fast {kind %d tag %s value %q style %d at %d:%d, %d children}, library {kind %d tag %s value %q style %d at %d:%d, %d children}", path,
			a.Kind, a.Tag, a.Value, a.Style, a.Line, a.Column, len(a.Content), b.Kind, b.Tag, b.Value, b.Style, b.Line, b.Column, len(b.Content))
	}
	for i := range a.Content {
		if d := sameNode(fmt.Sprintf("%s/%d", path, i), a.Content[i], b.Content[i]); d != "" {
			return d
		}
	}
	return ""
}

// agree fails when the fast path reads a document otherwise than the library does, and reports whether it read it.
func agree(t *testing.T, p *Parser, d Document) bool {
	t.Helper()
	fast := p.fast(d, DefaultLimits)
	if fast == nil {
		return false
	}
	slow, err := d.Parse(DefaultLimits)
	if err != nil {
		t.Errorf("%s:%d: the fast path reads what the library refuses: %v\n%s", d.File, d.Line, err, d.Text)
		return true
	}
	if diff := sameNode("", fast, slow); diff != "" {
		t.Errorf("%s:%d: %s\n%s", d.File, d.Line, diff, d.Text)
	}
	return true
}

var forms = []string{
	"a: b", "a: b\n", "a:\n", "a:", "a: \n", "a: # c\n", "a: b # c\n", "a: b#c\n", "a: 'b'\n", "a: 'it''s'\n", "a: \"b\\n\\\"c\\\\ \\t\\/\"\n",
	"a: \"\\x41\"\n", "a:\n  b: c\n  d: e\nf: g\n", "a:\n- b\n- c\nd: e\n", "a:\n  - b\n  - c\n", "- a\n- b\n", "- a: b\n  c: d\n- e: f\n",
	"-\n  a: b\n-\n- c\n", "- - a\n  - b\n- c\n", "a:\n-\n-\nb:\n", "a: |\n  x\n  y\n", "a: |-\n  x\n\n  y\n\n\nb: c\n", "a: |+\n  x\n\n\nb: c\n",
	"a: |\n  x", "a: |\n  x\n   \n", "a: |\n  x\n    y\n  z\n", "a: |\n\n  x\n", "a: |\n   \n  x\n", "a: |\nb: c\n", "a: |\n  x\n# c\nb: d\n",
	"a: |\n    x\n  y\n", "a: |2\n  x\n", "a: >\n  x\n  y\n", "a: {}\nb: []\n", "a: {b: c, d: [e, f]}\n", "a: {b: c,\n  d: e}\n", "{\"a\": 1, \"b\": [1, 2]}\n",
	"{\n  \"a\": {\n    \"b\": [\n      1,\n      \"x\"\n    ]\n  }\n}\n", "a: [b, ]\n", "a: [b: c]\n", "a: {b}\n", "a: [ , ]\n", "a: &x b\nc: *x\n",
	"a: !!str 5\n", "a: b: c\n", "a: b:\n", "a:b\n", "a: 'b' c\n", "a: b\n  c\n", "a:\n  b\n", "a: b\n c: d\n", "  a: b\n  c: d\n", "  a: b\nc: d\n",
	"? a\n: b\n", "a: - b\n", "a: -b\n", "a: --b\n", "a: -\n", "'a': b\n", "\"a b\": c\n", "'a' : b\n", "a : b\n", "a: @b\n", "a: %b\n", "a: `b`\n",
	"ä: ö\nb: {ü: 1, x: y}\n", "a: \u00a0b\n", "a: b\tc\n", "a:\tb\n", "\ta: b\n", "a: b \n", "a: 'b' \n", "# c\na: b\n# d\n", "a: |\n  b\tc\n", "a: |\n\tb\n",
	"a: ''\n", "a: \"\"\n", "<<: a\n", "a: <<\n", "a: 1\nb: 1.5\nc: 0x1F\nd: 0o17\ne: 017\nf: 1_000\ng: 1e3\nh: .5\ni: -.inf\nj: .nan\nk: 2001-01-01\nl: 12:30\nm: 0b11\n",
	"a: 500m\nb: 256Mi\nc: 25%\nd: 10.0.0.1\ne: 1.2.3\nf: 08\ng: 0\nh: 00\ni: -1\nj: +1\nk: 1.\nl: 1e\nm: 99999999999999999999\nn: 1-2\n",
	"a: yes\nb: no\nc: on\nd: y\ne: ~\nf: null\ng: Null\nh: TRUE\ni: False\nj: n\n", "a: 2001-12-14 21:59:43\nb: 2001-12-14t21:59:43Z\n",
	"a: b\n\n\n", "\n\n# c\n\na: b\n", "a:\n\n  b: c\n\n  # x\n  d: e\n", "a:\n# c\n- b\n# d\n- c\n", "a: [\"x\", 'y', z w]\n", "a: [a#b, c]\n", "a: [a #b\n]\n",
	"a: [x:y, http://z]\n", "a: {\"b\":1}\n", "a: {b:1}\n", "a: {b: , c: d}\n", "a: [-]\n", "a: [-, b]\n", "a: [- b]\n", "a: {'b' : c}\n", "--- a\n", "...\n",
	"a: |-\n  \n  x\n", "a: |\n  x\n \n", "- |\n  x\n- y\n", "- |\n x\n", "-  a: b\n   c: d\n", "- # c\n  a: b\n", "- a:\n  - b\n  c: d\n", "a: {}\n  b: c\n", "a: {} b\n",
	"a: 'x'\n  b: c\n", "[a, b]\n", "[a, b]: c\n", "{a: b}: c\n", "a: [\nb\n]\n", "a: [\n  b\n]\n", "a: {\n}\n", "a: # c\n  # d\n  b: c\n", "a: |  # c\n  x\n",
	"a: |#c\n  x\n", "a#b: c\n", "a #b: c\n", "a\"b: c\n", "a: b\"c\n", "a: b]\n", "a]: b\n", "a,b: c\n", "*a: b\n", "a: x, y\n", "a: [b]c\n", "-a: b\n", "- -a: b\n", "a: ''''\n",
	"a: b\n- c\n", "- a\nb: c\n", "a:\n  - b\n - c\n", "a: |\n  x\n- y\n", "a: ?b\n", "a: [?b]\n", "a: [b?c]\n", "a: !b c\n", "a: > # c\n", "a: |\n", "a: |\n\n", "a: |\n\n\nb: c\n",
}

func TestFastReadsWhatTheLibraryReads(t *testing.T) {
	var p Parser
	read := 0
	for _, f := range forms {
		if agree(t, &p, Document{File: "form", Line: 7, Text: []byte(f)}) {
			read++
		}
	}
	if read < len(forms)/2 {
		t.Errorf("the fast path read %d of %d forms; it should be the usual one", read, len(forms))
	}
}

// corpusFiles lists the manifests of other people's that are at hand.
func corpusFiles(t testing.TB) []string {
	var dirs []string
	corpus := os.Getenv("BULWARK_CORPUS")
	if corpus == "" {
		corpus = "../../../shared/corpus"
	}
	if _, err := os.Stat(corpus); err == nil {
		dirs = append(dirs, corpus)
	} else if os.Getenv("CI") == "true" {
		t.Fatalf("no corpus: %v; set BULWARK_CORPUS", err)
	} else {
		t.Logf("without the corpus: %v", err)
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/pod-security-admission").Output()
	if err != nil {
		t.Fatalf("where is k8s.io/pod-security-admission: %v", err)
	}
	dirs = append(dirs, filepath.Join(strings.TrimSpace(string(out)), "test", "testdata"))
	var files []string
	for _, d := range dirs {
		err := filepath.WalkDir(d, func(p string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && (strings.HasSuffix(p, ".yaml") || strings.HasSuffix(p, ".yml") || strings.HasSuffix(p, ".json")) {
				files = append(files, p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestFastReadsCorporaAsTheLibraryDoes(t *testing.T) {
	var p Parser
	docs, read := 0, 0
	for _, f := range corpusFiles(t) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range Split(f, b) {
			docs++
			if agree(t, &p, d) {
				read++
			}
		}
	}
	for i, o := range mix.Objects(2000, 42) {
		if !agree(t, &p, Document{File: fmt.Sprintf("mix %d", i), Line: 1, Text: []byte(o)}) {
			t.Errorf("the fast path does not read this usual object:\n%s", o)
		}
	}
	t.Logf("the fast path read %d of %d documents", read, docs)
	if docs > 0 && read*10 < docs*9 {
		t.Errorf("the fast path read only %d of %d documents", read, docs)
	}
}

func FuzzFastAgreesWithTheLibrary(f *testing.F) {
	for _, s := range forms {
		f.Add([]byte(s))
	}
	for _, o := range mix.Objects(30, 3) {
		f.Add([]byte(o))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Parser
		for _, d := range Split("fuzz", b) {
			agree(t, &p, d)
		}
	})
}
