package collect

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/intelgraph/bulwark/internal/cluster"
)

const shopChart = `
-- shop/Chart.yaml --
apiVersion: v2
name: shop
version: 1.2.3
-- shop/values.yaml --
replicas: 2
image: {repository: ghcr.io/example/shop, tag: v1}
securityContext:
  runAsNonRoot: true
  privileged: false
workers: [mail, search]
-- shop/.helmignore --
*.bak
-- shop/templates/_helpers.tpl --
{{- define "shop.labels" -}}
app: {{ .Release.Name }}
{{- end -}}
-- shop/templates/NOTES.txt --
Thank you for installing {{ .Chart.Name }}.
-- shop/templates/deploy.yaml --
{{- if .Values.replicas }}
# The shop itself.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "shop.labels" . | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels: {{- include "shop.labels" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "shop.labels" . | nindent 8 }}
    spec:
      {{- /* the container */}}
      containers:
      - name: shop
        image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
        {{- with .Values.securityContext }}
        securityContext:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        ports:
        - containerPort: 8080
{{- end }}
-- shop/templates/workers.yaml --
{{- range .Values.workers }}
---
apiVersion: v1
kind: Pod
metadata:
  name: {{ . }}
spec:
  containers:
  - name: worker
    image: worker:latest
{{- end }}
-- shop/templates/old.yaml.bak --
{{ fail "ignored" }}
-- shop/crds/widget.yaml --
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
-- shop/charts/sub/Chart.yaml --
apiVersion: v2
name: sub
version: 0.1.0
-- shop/charts/sub/templates/sa.yaml --
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .Release.Name }}-sub
-- plain.yaml --
apiVersion: v1
kind: Pod
metadata: {name: plain}
-- prod.yaml --
replicas: 5
securityContext: {privileged: true}
workers: []
`

func TestHelmChart(t *testing.T) {
	dir := tree(t, shopChart)
	s := mustRead(t, Options{Namespace: "shopping"}, dir)
	check(t, dir, s, "Pod plain plain.yaml:1",
		"CustomResourceDefinition widgets.example.com shop/crds/widget.yaml:1",
		"ServiceAccount shop-sub shop/charts/sub/templates/sa.yaml:1",
		"Deployment shop shop/templates/deploy.yaml:3",
		"Pod mail shop/templates/workers.yaml:3", "Pod search shop/templates/workers.yaml:10")
	var deploy *cluster.Workload
	for _, w := range s.Workloads() {
		if w.Kind == "Deployment" {
			deploy = w
		}
	}
	if !deploy.Rendered || deploy.Meta.Namespace != "shopping" || deploy.Spec.Containers[0].Image != "ghcr.io/example/shop:v1" {
		t.Errorf("rendered as %+v", deploy.Spec)
	}
	got := map[string]int{}
	for _, p := range []string{
		"metadata.name", "metadata.labels.app", "spec.replicas", "spec.template.spec.containers[0].image",
		"spec.template.spec.containers[0].securityContext.privileged", "spec.template.spec.containers[0].ports[0].containerPort",
	} {
		got[p] = deploy.Place(p).Line
	}
	want := map[string]int{
		"metadata.name": 6, "metadata.labels.app": 8, "spec.replicas": 11, "spec.template.spec.containers[0].image": 21,
		// What toYaml printed is placed at the line of the template above it.
		"spec.template.spec.containers[0].securityContext.privileged": 23, "spec.template.spec.containers[0].ports[0].containerPort": 27,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("lines of the template: -want +got\n%s", d)
	}
}

func TestHelmValues(t *testing.T) {
	dir := tree(t, shopChart)
	s := mustRead(t, Options{Values: []string{filepath.Join(dir, "prod.yaml")}}, filepath.Join(dir, "shop"))
	w := s.Workloads()
	if len(w) != 1 {
		t.Fatalf("%d workloads", len(w))
	}
	if c := w[0].Spec.Containers[0].SecurityContext; !*c.Privileged || !*c.RunAsNonRoot {
		t.Errorf("values are not merged: %+v", c)
	}
	s = mustRead(t, Options{Values: []string{filepath.Join(dir, "nowhere.yaml")}}, filepath.Join(dir, "shop"))
	if len(s.Objects) != 0 || len(s.NotJudged) != 1 || !strings.Contains(s.NotJudged[0].Reason, "cannot read the values") {
		t.Errorf("values that do not exist: %v", s.NotJudged)
	}
}

func TestHelmTrouble(t *testing.T) {
	const head = "-- c/Chart.yaml --\napiVersion: v2\nname: c\nversion: 1.0.0\n"
	tests := map[string]struct{ archive, want string }{
		"syntax": {head + "-- c/templates/a.yaml --\nkind: Pod\n\n{{ if }}\n", `! c/templates/a.yaml:3: the chart does not render: `},
		"fail":   {head + "-- c/templates/a.yaml --\n\n{{ fail \"no host\" }}\n", `! c/templates/a.yaml:2: the chart does not render: `},
		"required": {
			head + "-- c/templates/a.yaml --\n{{ required \"set host\" .Values.host }}\n", "set host",
		},
		"nil":              {head + "-- c/templates/a.yaml --\n{{ .Values.a.b.c }}\n", "! c/templates/a.yaml:1: the chart does not render: "},
		"not a chart":      {"-- c/Chart.yaml --\nfoo: [\n", "! c/Chart.yaml: the chart does not load: "},
		"no version":       {"-- c/Chart.yaml --\napiVersion: v2\nname: c\n", "! c/Chart.yaml: the chart does not load: "},
		"library":          {"-- c/Chart.yaml --\napiVersion: v2\nname: c\nversion: 1.0.0\ntype: library\n", "a library chart has no objects of its own"},
		"no dependency":    {strings.TrimSuffix(head, "\n") + "\ndependencies:\n- {name: redis, version: 1.x, repository: https://charts.example.com}\n-- c/templates/a.yaml --\n", `its dependency "redis" is not in charts/; run ` + "`helm dependency build"},
		"values":           {head + "-- c/values.yaml --\na: [\n", "! c/Chart.yaml: the chart does not load: "},
		"rendered badly":   {head + "-- c/templates/a.yaml --\nkind: Pod\n{{ \"a: b: c\" }}\n", "! c/templates/a.yaml:"},
		"schema":           {head + "-- c/values.yaml --\na: 1\n-- c/values.schema.json --\n{\"properties\": {\"a\": {\"type\": \"string\"}}}\n-- c/templates/a.yaml --\n", "don't meet the specifications"},
		"lookup":           {head + "-- c/templates/a.yaml --\n{{ if (lookup \"v1\" \"Secret\" \"a\" \"b\") }}{{ fail \"looked\" }}{{ end }}\n", ""},
		"dns":              {head + "-- c/templates/a.yaml --\n{{ if (getHostByName \"localhost\") }}{{ fail \"resolved\" }}{{ end }}\n", ""},
		"environment":      {head + "-- c/templates/a.yaml --\n{{ env \"HOME\" }}\n", `function "env" not defined`},
		"until is bounded": {head + "-- c/templates/a.yaml --\n{{ range until 2000000000 }}x{{ end }}\n", "over the cap of 1000000"},
		"step is bounded":  {head + "-- c/templates/a.yaml --\n{{ range untilStep 0 2000000000 2 }}x{{ end }}\n", "over the cap of 1000000"},
		"repeat":           {head + "-- c/templates/a.yaml --\n{{ repeat 2000000000 \"abc\" }}\n", "over the cap of 1000000"},
		"endless include":  {head + "-- c/templates/a.yaml --\n{{ define \"x\" }}{{ include \"x\" . }}{{ end }}{{ include \"x\" . }}\n", "the chart does not render: "},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, tc.archive+"-- z.yaml --\napiVersion: v1\nkind: Pod\nmetadata: {name: z}\n")
			s := mustRead(t, Options{}, dir)
			got := summary(dir, s)
			if got[0] != "Pod z z.yaml:1" {
				t.Errorf("what is beside the chart is not judged: %q", got)
			}
			if tc.want == "" {
				if len(got) != 1 {
					t.Errorf("got %q", got)
				}
				return
			}
			if len(got) != 2 || !strings.Contains(got[1], tc.want) {
				t.Errorf("got %q, want %q", got[1:], tc.want)
			}
		})
	}
}

func TestHelmLoopEndsInTime(t *testing.T) {
	dir := tree(t, "-- Chart.yaml --\napiVersion: v2\nname: c\nversion: 1.0.0\n-- templates/a.yaml --\n{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}\n")
	before := runtime.NumGoroutine()
	start := time.Now()
	s := mustRead(t, Options{Timeout: 100 * time.Millisecond}, dir)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if len(s.NotJudged) != 1 || !strings.Contains(s.NotJudged[0].Reason, "loop in its templates") {
		t.Errorf("got %v", s.NotJudged)
	}
	for i := 0; runtime.NumGoroutine() > before; i++ {
		if i == 100 {
			t.Fatal("the template still runs")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestHelmLinksStayInside(t *testing.T) {
	dir := tree(t, "-- c/Chart.yaml --\napiVersion: v2\nname: c\nversion: 1.0.0\n-- c/templates/a.yaml --\n-- secret --\nkind: Secret\n")
	if err := os.Symlink("../../secret", filepath.Join(dir, "c", "templates", "b.yaml")); err != nil {
		t.Skipf("no symlinks here: %v", err)
	}
	check(t, dir, mustRead(t, Options{}, dir), "! c/Chart.yaml: the chart does not load: templates/b.yaml is a link that leads out of the chart; copy the file")
	if err := os.Remove(filepath.Join(dir, "c", "templates", "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..", filepath.Join(dir, "c", "templates", "loop")); err != nil {
		t.Fatal(err)
	}
	s := mustRead(t, Options{}, dir)
	if len(s.NotJudged) != 1 || !strings.Contains(s.NotJudged[0].Reason, "templates/loop is a link") {
		t.Errorf("a loop: %v", s.NotJudged)
	}
}

// TestGuideChart renders the repository's own chart.
func TestGuideChart(t *testing.T) {
	s, err := Read(context.Background(), []string{"../../charts/maestro"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Workloads()) == 0 || len(s.NotJudged) > 0 {
		t.Errorf("%d workloads, not judged: %v", len(s.Workloads()), s.NotJudged)
	}
	for _, o := range s.Objects {
		if len(o.Problems) > 0 || o.At.Line == 0 || !strings.Contains(o.At.File, "templates") {
			t.Errorf("%v at %v: %v", o.Ref(), o.At, o.Problems)
		}
	}
}
