package collect

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/intelgraph/bulwark/bench/mix"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/source"
)

// manifests lists other people's manifests: the corpus, and the fixtures of Pod Security from the module cache.
func manifests(t *testing.T) []string {
	t.Helper()
	var dirs []string
	if d := corpus(t); d != "" {
		for _, s := range []string{"bad-pods", "apps", "netpol-analyzer", "kubehound-attacks", "crds"} {
			dirs = append(dirs, filepath.Join(d, s))
		}
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/pod-security-admission").Output()
	if err != nil {
		t.Fatalf("where is k8s.io/pod-security-admission: %v", err)
	}
	dirs = append(dirs, filepath.Join(strings.TrimSpace(string(out)), "test", "testdata"))
	var files []string
	for _, d := range dirs {
		err := filepath.WalkDir(d, func(p string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && manifest(e.Name()) {
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

// corpus gives the folder of the corpus, or "" with a word where it is absent; on CI it must be there.
func corpus(t *testing.T) string {
	t.Helper()
	d := os.Getenv("BULWARK_CORPUS")
	if d == "" {
		d = "../../../shared/corpus"
	}
	if _, err := os.Stat(d); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no corpus: %v; set BULWARK_CORPUS", err)
		}
		t.Logf("without the corpus: %v; set BULWARK_CORPUS", err)
		return ""
	}
	return d
}

// TestDecodesAsKubernetesDoes compares every typed object with what sigs.k8s.io/yaml makes of the same document.
func TestDecodesAsKubernetesDoes(t *testing.T) {
	docs, typed := 0, 0
	d := newDecoder(source.DefaultLimits)
	compare := func(file string, doc source.Document) {
		docs++
		r := d.text(text{file: file, line: doc.Line, data: doc.Text})
		for _, o := range r.objects {
			if o.Typed == nil || len(r.objects) > 1 {
				continue
			}
			typed++
			want := reflect.New(reflect.TypeOf(o.Typed).Elem()).Interface().(runtime.Object)
			err := strictly(doc.Text, want)
			if (err != nil) != (len(o.Problems) > 0) {
				t.Errorf("%s:%d: problems %v, but the usual library says %v", file, doc.Line, o.Problems, err)
				continue
			}
			if err == nil && !apiequality.Semantic.DeepEqual(want, o.Typed) {
				t.Errorf("%s:%d: -usual library +ours\n%s", file, doc.Line, cmp.Diff(want, o.Typed))
			}
		}
	}
	for _, f := range manifests(t) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range source.Split(f, b) {
			// What is not one object has no counterpart in the other library.
			if bytes.Contains(doc.Text, []byte("\nkind: List")) {
				continue
			}
			compare(f, doc)
		}
	}
	for _, o := range mix.Objects(3000, 7) {
		compare("mix", source.Document{File: "mix", Line: 1, Text: []byte(o)})
	}
	t.Logf("%d documents, %d of built-in kinds", docs, typed)
	if typed < 3000 {
		t.Errorf("only %d objects were compared", typed)
	}
}

// strictly decodes as an API server does with fieldValidation=Strict: YAML to JSON, then by case-sensitive field names.
func strictly(text []byte, into any) error {
	b, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	strict, err := kjson.UnmarshalStrict(b, into)
	return errors.Join(append(strict, err)...)
}

func read(t *testing.T, text string) *cluster.Snapshot {
	t.Helper()
	s, err := Read(context.Background(), []string{"-"}, Options{Stdin: strings.NewReader(text)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOldVersionsAreReadIntoTheNewest(t *testing.T) {
	tests := map[string]struct{ apiVersion, kind, want string }{
		"CronJob":              {"batch/v1beta1", "CronJob", "*v1.CronJob"},
		"Deployment":           {"extensions/v1beta1", "Deployment", "*v1.Deployment"},
		"StatefulSet":          {"apps/v1beta1", "StatefulSet", "*v1.StatefulSet"},
		"DaemonSet":            {"apps/v1beta2", "DaemonSet", "*v1.DaemonSet"},
		"ReplicaSet":           {"extensions/v1beta1", "ReplicaSet", "*v1.ReplicaSet"},
		"PodDisruptionBudget":  {"policy/v1beta1", "PodDisruptionBudget", "*v1.PodDisruptionBudget"},
		"NetworkPolicy":        {"extensions/v1beta1", "NetworkPolicy", "*v1.NetworkPolicy"},
		"Ingress":              {"networking.k8s.io/v1beta1", "Ingress", "*v1.Ingress"},
		"older Ingress":        {"extensions/v1beta1", "Ingress", "*v1.Ingress"},
		"Role":                 {"rbac.authorization.k8s.io/v1beta1", "Role", "*v1.Role"},
		"an unknown version":   {"apps/v9", "Deployment", "<nil>"},
		"a custom resource":    {"example.com/v1", "Widget", "<nil>"},
		"something else of v1": {"v1", "DeleteOptions", "<nil>"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := read(t, "apiVersion: "+tc.apiVersion+"\nkind: "+tc.kind+"\nmetadata:\n  name: x\n  namespace: z\n")
			o := s.Objects[0]
			got := "<nil>"
			if o.Typed != nil {
				got = reflect.TypeOf(o.Typed).String()
			}
			if got != tc.want || o.Meta.Name != "x" || o.Meta.Namespace != "z" || o.APIVersion != tc.apiVersion {
				t.Errorf("got %s %s/%s of %s", got, o.Meta.Namespace, o.Meta.Name, o.APIVersion)
			}
			if (o.Content == nil) != (o.Typed != nil) {
				t.Errorf("exactly one of Typed and Content must be set")
			}
		})
	}
}

func TestOldIngressKeepsItsBackends(t *testing.T) {
	const spec = `
spec:
  backend: {serviceName: fallback, servicePort: http}
  rules:
  - host: a.example.com
    http:
      paths:
      - path: /x
        backend: {serviceName: web, servicePort: 8080}
`
	var got [2]string
	for i, v := range []string{"networking.k8s.io/v1beta1", "extensions/v1beta1"} {
		s := read(t, "apiVersion: "+v+"\nkind: Ingress\nmetadata: {name: x}"+spec)
		b, err := yaml.Marshal(s.Kind("networking.k8s.io", "Ingress")[0].Typed)
		if err != nil {
			t.Fatal(err)
		}
		_, got[i], _ = strings.Cut(string(b), "spec:")
	}
	const want = `
  defaultBackend:
    service:
      name: fallback
      port:
        name: http
  rules:
  - host: a.example.com
    http:
      paths:
      - backend:
          service:
            name: web
            port:
              number: 8080
        path: /x
status:
  loadBalancer: {}
`
	for i := range got {
		if d := cmp.Diff(strings.ReplaceAll(want, "        path: /x\n", "        path: /x\n        pathType: null\n"), got[i]); d != "" && cmp.Diff(want, got[i]) != "" {
			t.Error(cmp.Diff(want, got[i]))
		}
	}
}

func TestBadPodsOfOldVersionsAreWorkloads(t *testing.T) {
	d := corpus(t)
	if d == "" {
		t.Skip("needs the corpus")
	}
	s, err := Read(context.Background(), []string{filepath.Join(d, "bad-pods")}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	files, cron := map[string]bool{}, 0
	for _, w := range s.Workloads() {
		files[w.At.File] = true
		if w.APIVersion == "batch/v1beta1" {
			cron++
		}
	}
	if len(files) != 128 || cron != 16 || len(s.NotJudged) != 0 {
		t.Errorf("workloads in %d files, %d of them batch/v1beta1 CronJobs; not judged: %v", len(files), cron, s.NotJudged)
	}
}

func TestProblemsAreKeptBesideTheRest(t *testing.T) {
	s := read(t, `apiVersion: v1
kind: Pod
metadata:
  name: x
spec:
  hostNetwork: yes
  hostPID: on
  hostIPC: "true"
  containers:
  - name: a
    imagee: b
    image: c
    image: d
    securityContext: {privileged: true, runAsUser: "0"}
    resources: {limits: {cpu: one}}
`)
	o := s.Objects[0]
	w := cluster.AsWorkload(o)
	if !w.Spec.HostNetwork || !w.Spec.HostPID || w.Spec.Containers[0].Image != "c" || !*w.Spec.Containers[0].SecurityContext.Privileged {
		t.Errorf("the good fields are not all there: %+v", w.Spec)
	}
	var got []string
	for _, p := range o.Problems {
		got = append(got, p.Error())
	}
	want := []string{
		`<stdin>:8:12: expected true or false, found text`,
		`<stdin>:11:5: unknown field "imagee"; did you mean "image"?`,
		`<stdin>:13:5: repeated field "image" (first on line 12); remove one of the two`,
		`<stdin>:14:52: expected a whole number, found text`,
		`<stdin>:15:31: Quantity: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if p := o.Place("spec.containers[0].securityContext.privileged"); p.Line != 14 {
		t.Errorf("privileged is at %v", p)
	}
}

func TestLists(t *testing.T) {
	s := read(t, `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: a}
- apiVersion: example.com/v1
  kind: Widget
  metadata: {name: b}
- just text
---
apiVersion: v1
kind: PodList
items:
- metadata: {name: c}
---
apiVersion: v1
kind: List
items: []
`)
	var got []string
	for _, o := range s.Objects {
		got = append(got, o.Ref().String()+" "+o.At.String())
	}
	if d := cmp.Diff([]string{"Pod a <stdin>:4", "Widget b <stdin>:7", "Pod c <stdin>:15"}, got); d != "" {
		t.Error(d)
	}
	if len(s.NotJudged) != 1 || s.NotJudged[0].Line != 10 {
		t.Errorf("not judged: %v", s.NotJudged)
	}
}

// FuzzDecodesAsKubernetesDoes: what this decoder takes without a complaint, an API server takes, and to the same object.
func FuzzDecodesAsKubernetesDoes(f *testing.F) {
	for _, o := range mix.Objects(40, 11) {
		f.Add([]byte(o))
	}
	f.Add([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: x, labels: {on: a, no: 'yes', 1: b}}\nspec: {hostPID: yes, priority: 1e3, terminationGracePeriodSeconds: 017}\n"))
	f.Add([]byte("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {a: YQ==}\nstringData: {b: ~, c: 2001-01-01}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		docs := source.Split("f", b)
		if len(docs) != 1 {
			return
		}
		r := newDecoder(source.DefaultLimits).text(text{file: "f", line: 1, data: b})
		if len(r.objects) != 1 || r.objects[0].Typed == nil || len(r.objects[0].Problems) > 0 || strings.HasSuffix(r.objects[0].Kind, "List") {
			return
		}
		o := r.objects[0]
		want := reflect.New(reflect.TypeOf(o.Typed).Elem()).Interface().(runtime.Object)
		if _, converted := o.Typed.(*networkingv1.Ingress); converted {
			return
		}
		if err := strictly(docs[0].Text, want); err != nil {
			t.Fatalf("no problem found in what Kubernetes refuses: %v", err)
		}
		if !apiequality.Semantic.DeepEqual(want, o.Typed) {
			t.Errorf("-Kubernetes +ours\n%s", cmp.Diff(want, o.Typed))
		}
	})
}

// FuzzDecode: nothing that a file may hold makes the decoder panic, lose a document without a word, or speak of a
// problem without its place.
func FuzzDecode(f *testing.F) {
	for _, o := range mix.Objects(20, 5) {
		f.Add([]byte(o))
	}
	f.Add([]byte("apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod}, *x, 1]\n"))
	f.Add([]byte("a: &x {kind: Pod, apiVersion: v1, spec: *x}\n---\n<<: {kind: Pod}\n"))
	f.Add([]byte("apiVersion: a/b/c\nkind: Pod\nmetadata: 1\n"))
	f.Add([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: x, creationTimestamp: 1}\nspec: {containers: [{resources: {limits: {cpu: .nan}}, ports: [{containerPort: 1e9}]}]}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newDecoder(source.DefaultLimits)
		r := d.text(text{file: "f", line: 1, data: b, named: true})
		for _, n := range r.not {
			if n.File != "f" || n.Reason == "" {
				t.Errorf("not judged without a place: %+v", n)
			}
		}
		for _, o := range r.objects {
			if o.Meta == nil || (o.Typed == nil) == (o.Content == nil) || o.At.Line < 1 {
				t.Errorf("half an object: %+v", o)
			}
			for _, p := range o.Problems {
				if p.Pos.File != "f" || p.Pos.Line < 1 {
					t.Errorf("a problem without a place: %v", p)
				}
			}
			cluster.AsWorkload(o)
		}
	})
}
