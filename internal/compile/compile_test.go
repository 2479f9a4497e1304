package compile

import (
	"bytes"
	"cmp"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/spec"
)

var update = flag.Bool("update", false, "write the goldens anew")

// platforms are the specs that the tests compile: the reference platform, one that has what it lacks, and the least.
var platforms = []string{"../../platforms/intelgraph/platform.yaml", "testdata/shop/platform.yaml", "testdata/minimal/platform.yaml"}

func load(t testing.TB, file string) (*spec.Platform, *spec.Lock) {
	t.Helper()
	p, err := spec.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := spec.LoadLock(filepath.Join(filepath.Dir(file), "platform.lock"))
	if err != nil {
		t.Fatal(err)
	}
	return p, lock.For(p)
}

// plans are compiled once: type-checking every policy for every kind is most of the tests' time. Nobody may change them.
var plans = map[string]*artifact.Plan{}

func compileFile(t testing.TB, file string, stage artifact.Stage) *artifact.Plan {
	t.Helper()
	key := file + " " + string(cmp.Or(stage, artifact.Enforce))
	if plans[key] == nil {
		plans[key] = compileAgain(t, file, stage)
	}
	return plans[key]
}

func compileAgain(t testing.TB, file string, stage artifact.Stage) *artifact.Plan {
	t.Helper()
	p, lock := load(t, file)
	plan, err := Compile(p, lock, Options{Stage: stage})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func planFiles(t testing.TB, plan *artifact.Plan) map[string][]byte {
	t.Helper()
	files, err := plan.Files()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestCommitted holds the files of the repository to what the reference platform compiles to.
func TestCommitted(t *testing.T) {
	golden(t, "../..", planFiles(t, compileFile(t, platforms[0], "")), func(string) bool { return true })
}

// TestGolden holds the other platforms. Admission has tests of its own, and the chart's templates are the same for all.
func TestGolden(t *testing.T) {
	for _, file := range platforms[1:] {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			plan := compileFile(t, file, "")
			files := planFiles(t, plan)
			var gaps bytes.Buffer
			for _, g := range plan.Gaps {
				gaps.WriteString(string(g.Layer) + ": " + g.Subject + ": " + g.Reason + " (" + g.Because + ")\n")
			}
			files["gaps.txt"] = gaps.Bytes()
			golden(t, filepath.Join(filepath.Dir(file), "golden"), files, func(path string) bool {
				return !strings.Contains(path, "admission") && !strings.Contains(path, "/static/") &&
					(!strings.HasPrefix(path, "charts/") || strings.HasSuffix(path, "/values.yaml") || strings.HasSuffix(path, "/Chart.yaml"))
			})
		})
	}
}

func golden(t *testing.T, dir string, files map[string][]byte, want func(path string) bool) {
	t.Helper()
	for _, path := range spec.Sorted(files) {
		if !want(path) {
			continue
		}
		file := filepath.Join(dir, path)
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, files[path], 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		on, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("%v; run `go test ./internal/compile -update`", err)
			continue
		}
		if d := artifact.Diff(path, "compiled", on, files[path]); d != "" {
			t.Errorf("%s is not what is compiled; look at the diff, then run `go test ./internal/compile -update`\n%s", path, d)
		}
	}
}

// TestDeterministic compiles again and again: Go walks maps in another order each time.
func TestDeterministic(t *testing.T) {
	for _, file := range platforms {
		first := compileFile(t, file, "")
		want := planFiles(t, first)
		for range 5 {
			plan := compileAgain(t, file, "")
			if d := gocmp.Diff(first.Gaps, plan.Gaps); d != "" {
				t.Fatalf("%s: gaps differ from run to run:\n%s", file, d)
			}
			if d := gocmp.Diff(want, planFiles(t, plan)); d != "" {
				t.Fatalf("%s: files differ from run to run:\n%s", file, d)
			}
		}
	}
}

// TestWhereTheSpecLies: the folder of the spec is no part of what is compiled.
func TestWhereTheSpecLies(t *testing.T) {
	data, err := os.ReadFile(platforms[0])
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string][]byte
	for _, dir := range []string{"here", "/elsewhere/far"} {
		p, err := spec.Parse(dir+"/platform.yaml", data)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := Compile(p, nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, planFiles(t, plan))
	}
	if d := gocmp.Diff(got[0], got[1]); d != "" {
		t.Error(d)
	}
}

func TestOrder(t *testing.T) {
	want := []string{"Namespace", "ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "NetworkPolicy",
		"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", ""}
	at := func(kind string) int {
		i := slices.Index(want, kind)
		switch kind { // of one rank
		case "ClusterRole", "ClusterRoleBinding":
			i--
		}
		return i
	}
	for _, file := range platforms {
		last := 0
		for _, a := range compileFile(t, file, "").Artifacts {
			kind, _ := a.Object["kind"].(string)
			i := at(kind)
			if i < 0 {
				t.Errorf("%s: no place in the order of deployment", a.ID())
			} else if i < last {
				t.Errorf("%s comes after a %s", a.ID(), want[last])
			}
			last = max(last, i)
		}
	}
	// A run that ends half way leaves a namespace closed, not open.
	open := map[any]bool{}
	for _, a := range compileFile(t, platforms[0], "").Artifacts {
		if a.Object["kind"] != "NetworkPolicy" {
			continue
		}
		meta := a.Object["metadata"].(map[string]any)
		if meta["name"] == "default-deny" && open[meta["namespace"]] {
			t.Errorf("%s comes after an allowance", a.ID())
		}
		open[meta["namespace"]] = true
	}
}

// TestEveryObject is read back strictly into its Go type by the API's own decoder, and says why it exists.
func TestEveryObject(t *testing.T) {
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	for _, file := range platforms {
		for _, stage := range Stages {
			n := 0
			for _, a := range compileFile(t, file, stage).Artifacts {
				if len(a.Why) == 0 {
					t.Errorf("%s: %s: no spec line caused it", stage, a.ID())
				}
				for _, c := range a.Why {
					if c.At.Line == 0 {
						t.Errorf("%s: %s: the cause %s has no line", stage, a.ID(), c)
					}
				}
				if a.Object == nil {
					continue
				}
				n++
				y, err := a.YAML()
				if err != nil {
					t.Fatal(err)
				}
				obj, _, err := strict.Decode(y, nil, nil)
				if err != nil {
					t.Errorf("%s: %v", a.ID(), err)
					continue
				}
				meta := a.Object["metadata"].(map[string]any)
				if b, _ := meta["annotations"].(map[string]any)[artifact.BecauseAnnotation].(string); b != artifact.Because(a.Why) {
					t.Errorf("%s: annotation %q, want %q", a.ID(), b, artifact.Because(a.Why))
				}
				// Nothing was lost or made up on the way through the map.
				back, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
				if err != nil {
					t.Fatal(err)
				}
				delete(back, "status")
				artifact.Prune(back)
				if d := gocmp.Diff(normal(back), normal(a.Object)); d != "" {
					t.Errorf("%s: %s", a.ID(), d)
				}
			}
			if n == 0 {
				t.Errorf("%s at stage %s has no objects", file, stage)
			}
		}
	}
}

// normal makes all numbers float64, as JSON has them.
func normal(v any) any {
	switch x := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range x {
			out[k] = normal(e)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = normal(e)
		}
		return out
	case int64:
		return float64(x)
	}
	return v
}

// TestStages: before enforce nothing refuses, and that is said.
func TestStages(t *testing.T) {
	if _, err := Compile(&spec.Platform{}, nil, Options{Stage: "later"}); err == nil || !strings.Contains(err.Error(), "audit, warn, enforce") {
		t.Errorf("an unknown stage gives %v", err)
	}
	for stage, want := range map[artifact.Stage]map[string]bool{
		artifact.Audit:   {"audit": true},
		artifact.Warn:    {"audit": true, "warn": true},
		artifact.Enforce: {"audit": true, "warn": true, "enforce": true},
	} {
		plan := compileFile(t, platforms[0], stage)
		gaps := map[artifact.Layer]bool{}
		for _, g := range plan.Gaps {
			if strings.Contains(g.Reason, "at stage "+string(stage)) {
				gaps[g.Layer] = true
			}
		}
		if refuses := stage == artifact.Enforce; gaps[artifact.Pods] == refuses || gaps[artifact.Network] == refuses {
			t.Errorf("%s: gaps because of the stage: %v", stage, gaps)
		}
		for _, a := range plan.Artifacts {
			switch a.Object["kind"] {
			case "Namespace":
				labels := a.Object["metadata"].(map[string]any)["labels"].(map[string]any)
				for _, mode := range []string{"audit", "warn", "enforce"} {
					level, version := labels["pod-security.kubernetes.io/"+mode], labels["pod-security.kubernetes.io/"+mode+"-version"]
					switch {
					case want[mode] && (level != "restricted" || version != "v1.37"):
						t.Errorf("%s: %s: %s is %v %v", stage, a.ID(), mode, level, version)
					case !want[mode] && (level != nil || version != nil):
						t.Errorf("%s: %s: %s is set", stage, a.ID(), mode)
					}
				}
			case "NetworkPolicy":
				if stage != artifact.Enforce {
					t.Errorf("%s: %s would refuse", stage, a.ID())
				}
			case "ValidatingAdmissionPolicyBinding":
				actions := a.Object["spec"].(map[string]any)["validationActions"].([]any)
				if slices.Contains(actions, any("Deny")) != (stage == artifact.Enforce) {
					t.Errorf("%s: %s: %v", stage, a.ID(), actions)
				}
			}
		}
	}
}

// TestGapsAreAboutTheSpec: what the spec does not ask for is no gap of it.
func TestGapsAreAboutTheSpec(t *testing.T) {
	for _, g := range compileFile(t, platforms[2], "").Gaps {
		switch g.Layer {
		case artifact.Mesh, artifact.Ingress, artifact.Secrets, artifact.Detection, artifact.Monitoring:
			t.Errorf("the least platform has the gap %s: %s", g.Layer, g.Subject)
		}
	}
	layers := map[artifact.Layer]bool{}
	for _, g := range compileFile(t, platforms[0], "").Gaps {
		layers[g.Layer] = true
		if g.Subject == "" || g.Reason == "" {
			t.Errorf("an empty gap: %+v", g)
		}
	}
	for _, l := range []artifact.Layer{artifact.Mesh, artifact.Ingress, artifact.Secrets, artifact.SupplyChain, artifact.Detection, artifact.Monitoring, artifact.Syscalls} {
		if !layers[l] {
			t.Errorf("the reference platform asks for the layer %s, nothing compiles it, and no gap says so", l)
		}
	}
}

func TestBadChart(t *testing.T) {
	p, _ := load(t, platforms[2])
	p.Spec.Chart = "../../etc"
	if _, err := Compile(p, nil, Options{}); err == nil || !strings.Contains(err.Error(), `"../../etc" is not a name`) {
		t.Errorf("a chart outside of the folder: %v", err)
	}
}

func TestDaemonSetWithStorage(t *testing.T) {
	p, _ := load(t, platforms[1])
	p.Spec.Components["agent"].Storage = map[string]string{"/data": "1Gi"}
	if _, err := Compile(p, nil, Options{}); err == nil || !strings.Contains(err.Error(), "component agent is a DaemonSet with storage") {
		t.Errorf("got %v", err)
	}
}

// TestNamesCannotMeet gives components and teams the names of what is implied.
func TestNamesCannotMeet(t *testing.T) {
	p, _ := load(t, platforms[0])
	ask := []*spec.Ask{{Resource: "configmaps", Names: []string{"x"}, Verbs: []string{"get"}}}
	for _, name := range []string{"monitoring", "external-secrets-token", "default", "api-server", "istiod", "team", "component", "from", "to", "allow-dns"} {
		c := *p.Spec.Components["server"]
		c.MayAsk, c.ServiceAccount = ask, name
		p.Spec.Components[name] = &c
		p.Spec.Teams[name] = &spec.Team{Group: name, May: "audit"}
		p.Spec.Flows = append(p.Spec.Flows, &spec.Flow{From: []string{name, "maestro"}, Targets: []spec.Target{
			{Component: "server", PortName: "graphql", Port: 4000}, {Component: name, PortName: "graphql", Port: 4000}, {CIDR: "10.0.0.0/8", Port: 443},
		}})
	}
	if _, err := Compile(p, nil, Options{}); err != nil {
		t.Error(err)
	}
}

func TestReserved(t *testing.T) {
	for name, account := range map[string]string{"secret-rotator": "x", "a": "secret-rotator-sa", "b": "external-secrets-sa", "c": "monitoring-sa"} {
		p, _ := load(t, platforms[0])
		c := *p.Spec.Components["server"]
		c.ServiceAccount = account
		p.Spec.Components[name] = &c
		if _, err := Compile(p, nil, Options{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("component %s with account %s: %v", name, account, err)
		}
	}
}

// TestTwice: two things of one name are an error, not a file in which the second wins.
func TestTwice(t *testing.T) {
	a := artifact.Artifact{Path: "a.yaml", Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a"}}}
	b := artifact.Artifact{Path: "b.yaml", Object: a.Object, Why: []artifact.Cause{{Field: "spec.x"}}}
	if err := unique([]artifact.Artifact{a}); err != nil {
		t.Error(err)
	}
	if err := unique([]artifact.Artifact{a, b}); err == nil || !strings.Contains(err.Error(), "v1/ConfigMap a is generated twice, because of spec.x") {
		t.Errorf("got %v", err)
	}
}

func BenchmarkCompile(b *testing.B) {
	p, lock := load(b, platforms[0])
	for b.Loop() {
		if _, err := Compile(p, lock, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
