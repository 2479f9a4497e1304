package check_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/collect"
	"github.com/intelgraph/bulwark/internal/compile"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/spec"
)

var update = flag.Bool("update", false, "write the generated files instead of comparing them")

// today is the day of all tests.
var today = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// shop is the platform that fixtures with "spec: shop" are judged against.
const shop = `
apiVersion: bulwark.dev/v1alpha1
kind: Platform
metadata: {name: shop}
spec:
  kubernetes: "1.37"
  trust: {registries: [registry.example.com/shop/]}
  namespaces: {shop: {}}
  components:
    web:
      namespace: shop
      image: registry.example.com/shop/web
      runtime: node
      ports: {http: 8080}
      mayAsk: [{resource: configmaps, names: [web], verbs: [get]}]
`

func platform(t testing.TB, text string) (*spec.Platform, *artifact.Plan) {
	t.Helper()
	p, err := spec.Parse("platform.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := compile.Compile(p, nil, compile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p, plan
}

// read makes a snapshot of manifests. Everything in them must be readable.
func read(t testing.TB, text string) *cluster.Snapshot {
	t.Helper()
	s, err := collect.Read(context.Background(), []string{"-"}, collect.Options{Stdin: strings.NewReader(text)})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, n := range s.NotJudged {
		t.Fatalf("not read: %+v\n%s", n, text)
	}
	return s
}

// fixture is testdata/ID.txtar. Its comment may hold:
//
//	forms: the forms into which each pod is put; by default those that the check looks at
//	spec: shop, to judge against that platform
//	verdict: unknown, where that is what the check says of the failing ones
//
// Files are named fail*.yaml and pass*.yaml. A form is bare, deployment, cronjob, init or ephemeral; or objects, for
// files taken as they are; or plan, for objects that replace those of the shop's plan.
type fixture struct {
	forms   []string
	spec    bool
	verdict finding.Verdict
	fail    map[string]string
	pass    map[string]string
}

func load(t *testing.T, c *check.Check) fixture {
	t.Helper()
	ar, err := txtar.ParseFile(filepath.Join("testdata", c.ID+".txtar"))
	if err != nil {
		t.Fatalf("check %s has no fixtures: %v", c.ID, err)
	}
	f := fixture{verdict: finding.Fail, fail: map[string]string{}, pass: map[string]string{}}
	for _, line := range strings.Split(strings.TrimSpace(string(ar.Comment)), "\n") {
		switch k, v, _ := strings.Cut(line, ": "); k {
		case "":
		case "forms":
			f.forms = strings.Fields(v)
		case "spec":
			f.spec = v == "shop"
		case "verdict":
			f.verdict = finding.Verdict(v)
		default:
			t.Fatalf("%s: unknown line %q", c.ID, line)
		}
	}
	for _, file := range ar.Files {
		switch {
		case strings.HasPrefix(file.Name, "fail"):
			f.fail[file.Name] = string(file.Data)
		case strings.HasPrefix(file.Name, "pass"):
			f.pass[file.Name] = string(file.Data)
		default:
			t.Fatalf("%s: file %s is neither fail*.yaml nor pass*.yaml", c.ID, file.Name)
		}
	}
	if f.forms == nil {
		switch {
		case c.Container != nil:
			f.forms = []string{"bare", "deployment", "cronjob", "init", "ephemeral"}
		case c.Workload != nil:
			f.forms = []string{"bare", "deployment", "cronjob"}
		default:
			f.forms = []string{"objects"}
		}
	}
	return f
}

// form puts a bare pod into another form. Beside is the twin whose container stands next to one that is moved.
func form(t *testing.T, name, pod, beside string) string {
	t.Helper()
	parse := func(s string) map[string]any {
		var m map[string]any
		if err := yaml.Unmarshal([]byte(s), &m); err != nil || m["kind"] != "Pod" {
			t.Fatalf("a form other than objects needs one Pod: %v\n%s", err, s)
		}
		return m
	}
	m := parse(pod)
	meta, podSpec := m["metadata"].(map[string]any), m["spec"].(map[string]any)
	template := map[string]any{"metadata": map[string]any{"labels": meta["labels"], "annotations": meta["annotations"]}, "spec": podSpec}
	var out map[string]any
	switch name {
	case "bare":
		return pod
	case "deployment":
		out = map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "spec": map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"app": "web"}}, "template": template}}
	case "cronjob":
		podSpec["restartPolicy"] = "Never"
		out = map[string]any{"apiVersion": "batch/v1", "kind": "CronJob", "spec": map[string]any{"schedule": "0 2 * * *", "jobTemplate": map[string]any{"spec": map[string]any{"template": template}}}}
	case "init", "ephemeral":
		out = m
		bad := podSpec["containers"]
		good := parse(beside)["spec"].(map[string]any)["containers"].([]any)
		good[0].(map[string]any)["name"] = "main"
		podSpec["containers"], podSpec[name+"Containers"] = good, bad
	default:
		t.Fatalf("no form %q", name)
	}
	out["metadata"] = meta
	b, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// inPlan gives the plan's objects, those of the text in the place of their namesakes. One with the annotation "test:
// gone" leaves a gap; labels alone are laid over the planned ones.
func inPlan(t *testing.T, plan *artifact.Plan, text string) *cluster.Snapshot {
	t.Helper()
	id := func(m map[string]any) string {
		meta := m["metadata"].(map[string]any)
		return fmt.Sprint(m["kind"], meta["namespace"], meta["name"])
	}
	changes := map[string]map[string]any{}
	var order []string
	for _, doc := range strings.Split(text, "\n---\n") {
		var m map[string]any
		if err := yaml.Unmarshal([]byte(doc), &m); err != nil {
			t.Fatal(err)
		}
		if m != nil {
			changes[id(m)] = m
			order = append(order, id(m))
		}
	}
	var out bytes.Buffer
	write := func(m map[string]any) {
		b, err := yaml.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "---\n%s", b)
	}
	for _, a := range plan.Artifacts {
		if a.Object == nil {
			continue
		}
		c := changes[id(a.Object)]
		delete(changes, id(a.Object))
		switch {
		case c == nil:
			write(a.Object)
		case c["metadata"].(map[string]any)["annotations"] != nil:
		case c["spec"] == nil:
			m := maps.Clone(a.Object)
			meta := maps.Clone(m["metadata"].(map[string]any))
			labels := maps.Clone(meta["labels"].(map[string]any))
			maps.Copy(labels, c["metadata"].(map[string]any)["labels"].(map[string]any))
			meta["labels"], m["metadata"] = labels, meta
			write(m)
		default:
			write(c)
		}
	}
	for _, k := range order {
		if changes[k] != nil {
			write(changes[k])
		}
	}
	return read(t, out.String())
}

// TestFixtures holds every check to its fixtures: each form of each failing one is found, with all that a person needs to
// mend it, and each passing one is judged and passes.
func TestFixtures(t *testing.T) {
	p, plan := platform(t, shop)
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, ok := check.Lookup(strings.TrimSuffix(filepath.Base(f), ".txtar")); !ok {
			t.Errorf("%s belongs to no check", f)
		}
	}
	for _, c := range check.All() {
		t.Run(c.ID, func(t *testing.T) {
			f := load(t, c)
			if len(f.fail) == 0 || len(f.pass) == 0 {
				t.Fatal("needs at least one fail*.yaml and one pass*.yaml")
			}
			if c.NeedsSpec != f.spec {
				t.Fatalf("NeedsSpec is %v, spec: shop is %v", c.NeedsSpec, f.spec)
			}
			opts := check.Options{Only: []string{c.ID}, Day: today}
			if f.spec {
				opts.Spec, opts.Plan = p, plan
			}
			judge := func(t *testing.T, formName, text, twin string) *check.Result {
				var s *cluster.Snapshot
				switch formName {
				case "objects":
					s = read(t, text)
				case "plan":
					s = inPlan(t, plan, text)
				default:
					s = read(t, form(t, formName, text, twin))
				}
				r := check.Run(s, opts)
				if len(r.NotJudged) > 0 {
					t.Fatalf("not judged: %+v", r.NotJudged)
				}
				return r
			}
			for _, name := range slices.Sorted(maps.Keys(f.fail)) {
				for _, form := range f.forms {
					t.Run(form+"/"+name, func(t *testing.T) {
						r := judge(t, form, f.fail[name], f.pass["pass.yaml"])
						if len(r.Findings) == 0 {
							t.Fatal("nothing was found")
						}
						for _, x := range r.Findings {
							complete(t, c, f, x)
							if form == "init" || form == "ephemeral" {
								if c.Container != nil && x.Container != "app" && x.Container != "debugger" {
									t.Errorf("the finding is about container %q", x.Container)
								}
								if x.Path != "" && strings.Contains(x.Path, "ontainers[") && !strings.Contains(x.Path, form+"Containers[") {
									t.Errorf("path %s is in another list", x.Path)
								}
							}
						}
					})
				}
			}
			for _, name := range slices.Sorted(maps.Keys(f.pass)) {
				for _, form := range f.forms {
					t.Run(form+"/"+name, func(t *testing.T) {
						r := judge(t, form, f.pass[name], f.pass["pass.yaml"])
						for _, x := range r.Findings {
							t.Errorf("%s %s: %s", x.Verdict, x.Object, x.Message)
						}
						if r.Summary.Pass == 0 && !slices.Contains(skipping, c.ID) {
							t.Error("it was not judged: no verdict is pass")
						}
					})
				}
			}
		})
	}
}

// skipping are checks that have nothing to say of what is in order: it is then another kind of thing.
var skipping = []string{"service-account-token-secret", "image-tag-and-digest", "ephemeral-container-present"}

func complete(t *testing.T, c *check.Check, f fixture, x finding.Finding) {
	t.Helper()
	switch {
	case x.Check != c.ID || x.Title == "" || x.Message == "" || x.Fix == "" || len(x.Standards) == 0 || x.Fingerprint == "":
		t.Errorf("incomplete: %+v", x)
	case x.Verdict != f.verdict:
		t.Errorf("verdict %s, want %s: %s", x.Verdict, f.verdict, x.Message)
	case x.Object.Kind == "" || x.Object.Name == "":
		t.Errorf("names no object: %+v", x)
	case x.File == "" || x.Line == 0:
		t.Errorf("has no place: %+v", x)
	}
	if strings.Contains(x.Message, "kT9wq2LmZx4R7vBn") {
		t.Errorf("the message holds the secret: %s", x.Message)
	}
}

// TestDocs generates docs/checks and fails when the committed pages are not these.
func TestDocs(t *testing.T) {
	dir := filepath.Join("..", "..", "docs", "checks")
	want := map[string]string{}
	for name, text := range check.Docs() {
		want[name] = text
	}
	for _, c := range check.All() {
		if want[c.ID+".md"] == "" {
			t.Errorf("check %s has no page", c.ID)
		}
	}
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range want {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("%v; run go test ./internal/check -update", err)
	}
	for _, e := range entries {
		if want[e.Name()] == "" {
			t.Errorf("docs/checks/%s belongs to no check; run go test ./internal/check -update", e.Name())
		}
	}
	for name, text := range want {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != text {
			t.Errorf("docs/checks/%s is out of date; run go test ./internal/check -update", name)
		}
	}
}

// TestData holds what every check must say about itself.
func TestData(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range check.All() {
		if seen[c.ID] {
			t.Errorf("two checks are called %s", c.ID)
		}
		seen[c.ID] = true
		if strings.ToLower(c.ID) != c.ID || strings.ContainsAny(c.ID, " _./") {
			t.Errorf("%s: an ID is lower-case words joined by dashes", c.ID)
		}
		for what, text := range map[string]string{"title": c.Title, "rationale": c.Rationale, "fix": c.Fix} {
			if len(text) < 8 {
				t.Errorf("%s: no %s", c.ID, what)
			}
		}
		if !strings.HasSuffix(c.Rationale, ".") || !strings.HasSuffix(c.Fix, ".") || strings.HasSuffix(c.Title, ".") {
			t.Errorf("%s: rationale and fix are sentences, the title is not", c.ID)
		}
		if !slices.Contains(artifact.Layers, c.Layer) || len(c.Standards) == 0 {
			t.Errorf("%s: no layer, or no standard", c.ID)
		}
		if c.Container == nil && c.Workload == nil && c.Object == nil && c.Snapshot == nil || (c.Object == nil) != (len(c.Kinds) == 0) {
			t.Errorf("%s: nothing judges, or kinds and judge do not go together", c.ID)
		}
	}
	if n := len(check.All()); n < 45 {
		t.Errorf("%d checks", n)
	}
}
