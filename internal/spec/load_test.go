package spec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/source"
	"github.com/intelgraph/bulwark/internal/spec"
)

// reference is the platform that ships with Bulwark.
var reference = filepath.Join("..", "..", "platforms", "intelgraph", "platform.yaml")

func TestReferencePlatformLoads(t *testing.T) {
	p, err := spec.Load(reference)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(p.Spec.Components); got != 7 {
		t.Errorf("components = %d, want 7", got)
	}
	for i, f := range p.Spec.Flows {
		if len(f.Targets) != len(f.To) {
			t.Errorf("flow %d: targets = %d, want %d", i, len(f.Targets), len(f.To))
		}
	}
	if _, err := spec.LoadLock(filepath.Join(filepath.Dir(reference), "platform.lock")); err != nil {
		t.Error(err)
	}
}

func TestDefaults(t *testing.T) {
	p, err := spec.Load("testdata/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile("testdata/minimal.yaml"); bytes.Count(b, []byte("\n")) >= 15 {
		t.Error("the minimal spec has 15 lines or more")
	}
	s, web := p.Spec, p.Spec.Components["web"]
	got := map[string]any{
		"labelPrefix": s.LabelPrefix, "kubernetes": s.Kubernetes, "enforce": s.Admission.Enforce, "chart": s.Chart, "registries": s.Trust.Registries,
		"namespace": *s.Namespaces["shop"], "ports": s.ControlPlane.Ports, "web": *web,
	}
	want := map[string]any{
		"labelPrefix": "shop.bulwark.dev", "kubernetes": "1.37", "enforce": "native", "chart": "shop", "registries": []string{"registry.example.com/shop/"},
		"namespace": spec.Namespace{Level: "high", PodSecurity: "restricted"}, "ports": []int32{443, 6443},
		"web": spec.Component{Namespace: "shop", Image: "registry.example.com/shop/web", Kind: "Deployment", Replicas: new(int32(1)), User: new(int64(65532)),
			Group: new(int64(65532)), ServiceAccount: "web", Resources: &spec.Resources{CPU: "100m", Memory: "128Mi", MemoryLimit: "512Mi"}},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreTypes(source.Pos{}), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("defaults (-want +got):\n%s", d)
	}
	if s.Mesh != nil || s.Secrets != nil || s.Detection != nil || s.Notify != nil || web.Route != nil {
		t.Error("a section that nobody wrote is there")
	}
}

func TestEveryForm(t *testing.T) {
	p, err := spec.Load("testdata/forms.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got []spec.Target
	for _, f := range p.Spec.Flows {
		got = append(got, f.Targets...)
	}
	want := []spec.Target{
		{Peer: "other", PortName: "api", Port: 443, Protocol: "TCP"},
		{Component: "web", PortName: "http", Port: 80, Protocol: "TCP"},
		{Component: "web", PortName: "dns-udp", Port: 53, Protocol: "UDP"},
		{CIDR: "2001:db8::/32", Port: 443, Protocol: "TCP"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("targets (-want +got):\n%s", d)
	}
	if c := p.Spec.Components["copy"]; c.Namespace != "b" || c.Image != p.Spec.Components["web"].Image {
		t.Errorf("a merged mapping: %+v", c)
	}
}

func TestWhere(t *testing.T) {
	p, err := spec.Load(reference)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for path, want := range map[string]string{
		"spec.components.maestro":            "maestro:",
		"spec.components.maestro.ports.jobs": "jobs: {port: 3001, mesh: none}",
		"spec.flows[8]":                      "dns:api.github.com:443",
		"spec.exceptions[0].expires":         "expires: 2027-03-31",
		"spec.components.maestro.probe":      "maestro:", // not written: where it belongs
	} {
		at := p.Where(path)
		if at.Line == 0 || !strings.Contains(lines[at.Line-1], want) {
			t.Errorf("Where(%s) = %v, which is %q", path, at, lines[max(at.Line-1, 0)])
		}
	}
}

// bigFile is a sparse file of 200 MB: reading all of it would be seen in memory.
func bigFile(t *testing.T) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "platform.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(200 << 20); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return f
	}
	loop := filepath.Join(dir, "loop.yaml")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	head := "apiVersion: bulwark.dev/v1alpha1\nkind: Platform\n"
	deep := head + "spec: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n"
	bomb := head + "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
	tests := map[string]struct{ file, want string }{
		"missing":         {filepath.Join(dir, "nothing.yaml"), "name the platform's file with -f"},
		"folder":          {dir, "is a folder; name the file in it"},
		"symlink loop":    {loop, "loop.yaml"},
		"200 MB":          {bigFile(t), "over the cap of 1024 KiB"},
		"binary":          {file("binary.yaml", "\x7fELF\x00\x00\x01"), "binary.yaml:1: binary data, not YAML"},
		"latin-1":         {file("latin1.yaml", "name: caf\xe9\n"), "latin1.yaml:1: not UTF-8 text"},
		"empty":           {file("empty.yaml", ""), "empty.yaml:1: the file holds no document"},
		"only comments":   {file("comments.yaml", "# nothing\n---\n# here\n"), "the file holds no document"},
		"two documents":   {file("two.yaml", head+"---\n"+head), "two.yaml:4: a second document"},
		"not a mapping":   {file("list.yaml", "- a\n"), "list.yaml:1:1: expected a Platform, found a list"},
		"a manifest":      {file("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}\n"), `pod.yaml:1:13: apiVersion is "v1"`},
		"no kind":         {file("nokind.yaml", "apiVersion: bulwark.dev/v1alpha1\n"), `missing field "kind"`},
		"no spec":         {file("nospec.yaml", head+"metadata: {name: x}\n"), `missing field "spec" of the Platform`},
		"spec is a list":  {file("speclist.yaml", head+"metadata: {name: x}\nspec: []\n"), "speclist.yaml:4:7: expected a mapping, found a list"},
		"tabs":            {file("tabs.yaml", "apiVersion: bulwark.dev/v1alpha1\n\tkind: Platform\n"), "tabs.yaml:2"},
		"unclosed":        {file("unclosed.yaml", head+"metadata: {name: x\nspec: {}\n"), "unclosed.yaml:"},
		"too deep":        {file("deep.yaml", deep), "deep.yaml:"},
		"alias bomb":      {file("bomb.yaml", bomb), "bomb.yaml:"},
		"alias of itself": {file("self.yaml", head+"metadata: &m {name: x, more: *m}\nspec: {}\n"), "self.yaml:"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			p, err := spec.Load(tt.file)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatalf("accepted: %+v", p)
			}
			if p != nil {
				t.Error("a platform beside an error")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
				t.Errorf("used %d MiB", used>>20)
			}
		})
	}
	if _, err := spec.Load(filepath.Join(dir, "nothing.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file is not fs.ErrNotExist: %v", err)
	}
}

// TestAllAtOnce makes many mistakes in one file, and wants each told, in the order of the file.
func TestAllAtOnce(t *testing.T) {
	text := base(t)
	for _, e := range [][2]string{{"cilium, kyverno", "cillium, kyverno"}, {"runtime: node", "runtime: nod"}, {"port: http\n", "port: htpp\n"}, {"[db:sql, vault:api]", "[db:sq, vault:ap]"},
		{`"0 2 * * 0"`, `"0 2 * *"`}, {"may: read", "may: raed"}, {"2030-01-31", "2030-13-31"}} {
		text = strings.Replace(text, e[0], e[1], 1)
	}
	_, err := spec.Parse("platform.yaml", []byte(text))
	var errs source.Errors
	if !errors.As(err, &errs) {
		t.Fatalf("error is %T", err)
	}
	line := 0
	for _, want := range []string{`did you mean "cilium"`, `did you mean "node"`, `did you mean "http"`, `did you mean "sql"`, `did you mean "api"`, "not a cron line", `did you mean "read"`, "not in the calendar"} {
		i := -1
		for j, e := range errs {
			if strings.Contains(e.Error(), want) {
				i = j
				break
			}
		}
		if i < 0 {
			t.Errorf("not told: %s", want)
			continue
		}
		if errs[i].Pos.Line < line {
			t.Errorf("out of order: %v", errs[i])
		}
		line = errs[i].Pos.Line
	}
}

// TestSeverityWords: the spec and findings speak of the same severities.
func TestSeverityWords(t *testing.T) {
	if len(spec.Severities) != len(finding.Severities) {
		t.Errorf("the spec knows %v", spec.Severities)
	}
	for _, s := range spec.Severities {
		if _, err := finding.ParseSeverity(s); err != nil {
			t.Error(err)
		}
	}
}

// places holds that every error of a list says where it is.
func places(t *testing.T, err error) {
	t.Helper()
	var errs source.Errors
	if !errors.As(err, &errs) || len(errs) == 0 {
		t.Fatalf("error is %T, want source.Errors: %v", err, err)
	}
	for _, e := range errs {
		if e.Pos.Line < 1 || e.Pos.File == "" || e.Msg == "" {
			t.Fatalf("without a place: %+v", e)
		}
	}
}

// FuzzParse holds that no input makes Parse panic, that it always says where, that it is a function of its input, and
// that what it accepts can be walked without nil checks.
func FuzzParse(f *testing.F) {
	for _, file := range []string{reference, "testdata/base.yaml", "testdata/minimal.yaml", "testdata/forms.yaml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	text := base(f)
	for _, e := range mistakes {
		f.Add([]byte(strings.Replace(text, e.old, e.new, 1)))
	}
	head := "apiVersion: bulwark.dev/v1alpha1\nkind: Platform\nmetadata: {name: a}\nspec:\n"
	for _, s := range []string{
		"", "---\n", "a: &a [*a]", "? [a]\n: b\n", head + "  flows: [null]\n", head + "  components: {a: *x}\n", head + "  components: [a]\n  flows: {a: b}\n",
		head + "  <<: [1, {flows: [{from: [], to: []}]}]\n", head + "  components: {a: {mayAsk: [null], route: {}, ports: {b: []}, resources: 1}}\n",
		head + "  flows: [{from: route, to: ':'}, {from: [a], to: ['dns::', 'cidr:', 'cidr:/0:1', ':1']}]\n", head + "  secrets: {items: {a: {template: {b: '{{ . }}{{ define \"x\" }}'}}}}\n",
		head + "  response: [null, {when: null, do: [terminate]}]\n  exceptions: [null]\n  trust: {signers: [null]}\n", head + "  secrets: {rotation: {schedule: 'TZ=', timeZone: ''}}\n",
	} {
		f.Add([]byte(s))
	}
	schema := compiledSchema(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := spec.Parse("platform.yaml", data)
		q, again := spec.Parse("platform.yaml", bytes.Clone(data))
		if err != nil {
			places(t, err)
			if again == nil || again.Error() != err.Error() {
				t.Fatalf("not the same twice:\n%v\n%v", err, again)
			}
			return
		}
		if err := judge(t, schema, string(data)); err != nil {
			t.Fatalf("the schema refuses what loads: %v", err)
		}
		a, _ := json.Marshal(p)
		b, _ := json.Marshal(q)
		if !bytes.Equal(a, b) {
			t.Fatalf("not the same twice:\n%s\n%s", a, b)
		}
		for name, c := range p.Spec.Components {
			if c.Resources == nil || c.User == nil || c.Group == nil || c.Kind != "DaemonSet" && c.Replicas == nil || p.Spec.Namespaces[c.Namespace] == nil {
				t.Fatalf("component %s is not complete: %+v", name, c)
			}
			if r := c.Route; r != nil && (r.TLS == nil || r.RateLimit == nil || r.Timeouts == nil || r.Connections == nil || p.Spec.Peers[r.Gateway] == nil || c.Ports[r.Port] == nil) {
				t.Fatalf("the route of %s is not complete: %+v", name, r)
			}
		}
		for _, x := range p.Spec.Flows {
			if len(x.Targets) != len(x.To) || len(x.To) == 0 || len(x.From) == 0 {
				t.Fatalf("flow is not complete: %+v", x)
			}
		}
		for _, w := range p.Images() {
			if w.Image == "" || w.At.Line == 0 {
				t.Fatalf("image without a place: %+v", w)
			}
		}
	})
}
