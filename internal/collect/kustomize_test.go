package collect

import (
	"path/filepath"
	"strings"
	"testing"
)

const kustomized = `
-- base/kustomization.yaml --
resources:
- deploy.yaml
- service.yaml
configMapGenerator:
- name: settings
  literals: [a=b]
-- base/service.yaml --
apiVersion: v1
kind: Service
metadata: {name: web}
-- base/deploy.yaml --
# comes first
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web:v1
        securityContext:
          privileged: false
-- prod/kustomization.yaml --
namespace: prod
namePrefix: prod-
resources: [../base, extra.yaml]
components: [../hardened]
images:
- {name: web, newTag: v2}
patches:
- path: patch.yaml
-- prod/extra.yaml --
apiVersion: v1
kind: ServiceAccount
metadata: {name: extra}
-- prod/patch.yaml --
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
-- hardened/kustomization.yaml --
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
patches:
- target: {kind: Deployment}
  patch: |-
    - op: replace
      path: /spec/template/spec/containers/0/securityContext/privileged
      value: true
-- beside.yaml --
apiVersion: v1
kind: Pod
metadata: {name: beside}
`

func TestKustomization(t *testing.T) {
	dir := tree(t, kustomized)
	s := mustRead(t, Options{}, dir)
	var config string
	for _, o := range s.Objects {
		if o.Kind == "ConfigMap" {
			config = o.Meta.Name
		}
	}
	if !strings.HasPrefix(config, "prod-settings-") {
		t.Errorf("the generated config map is %q", config)
	}
	// The base and the component are judged once, as part of what uses them; patches are no objects.
	check(t, dir, s, "Pod beside beside.yaml:1",
		"Deployment prod-web base/deploy.yaml:2", "Service prod-web base/service.yaml:1",
		"ConfigMap "+config+" base/kustomization.yaml:1", "ServiceAccount prod-extra prod/extra.yaml:1")
	for _, w := range s.Workloads() {
		if w.Kind != "Deployment" {
			continue
		}
		if !w.Rendered || w.Meta.Namespace != "prod" || w.Spec.Containers[0].Image != "web:v2" || !*w.Spec.Containers[0].SecurityContext.Privileged {
			t.Errorf("built as %+v", w.Spec)
		}
		if len(w.Meta.Annotations) != 0 {
			t.Errorf("the build left annotations: %v", w.Meta.Annotations)
		}
		if p := w.Place("spec.template.spec.containers[0].securityContext.privileged"); p.Line != 15 || !strings.HasSuffix(p.File, "deploy.yaml") {
			t.Errorf("privileged is at %v", p)
		}
	}
	// By itself, the base is judged as it is.
	s = mustRead(t, Options{}, filepath.Join(dir, "base"))
	if w := s.Workloads(); len(w) != 1 || w[0].Spec.Containers[0].Image != "web:v1" {
		t.Errorf("the base: %v", summary(dir, s))
	}
}

func TestKustomizationTrouble(t *testing.T) {
	tests := map[string]struct{ archive, want string }{
		"https": {"-- k/kustomization.yaml --\nresources:\n- https://github.com/example/app//base?ref=v1\n", `! k/kustomization.yaml:2: resources names the remote "https://github.com/example/app//base?ref=v1", which is not fetched; vendor it`},
		"short": {"-- k/kustomization.yaml --\nresources:\n- a.yaml\n- github.com/example/app\n-- k/a.yaml --\n", `! k/kustomization.yaml:3: resources names the remote`},
		"ssh":   {"-- k/kustomization.yaml --\nbases: ['git@example.com:a/b.git']\n", `! k/kustomization.yaml:1: bases names the remote`},
		"component": {
			"-- k/kustomization.yaml --\ncomponents:\n- ssh://example.com/a\n", `! k/kustomization.yaml:2: components names the remote`,
		},
		"in a base": {
			"-- k/kustomization.yaml --\nresources: [../base]\n-- base/kustomization.yaml --\nresources:\n\n- https://example.com/a.yaml\n", `! base/kustomization.yaml:3: resources names the remote`,
		},
		"patch":              {"-- k/kustomization.yaml --\npatches:\n- path: https://example.com/p.yaml\n", `! k/kustomization.yaml:2: patches[].path names the remote`},
		"generator":          {"-- k/kustomization.yaml --\nconfigMapGenerator:\n- name: a\n  files: [x=https://example.com/p.yaml]\n", `configMapGenerator[].files names the remote`},
		"openapi":            {"-- k/kustomization.yaml --\nopenapi: {path: 'http://example.com/s.json'}\n", `openapi.path names the remote`},
		"inline transformer": {"-- k/kustomization.yaml --\ntransformers:\n- |-\n  apiVersion: builtin\n  kind: PatchTransformer\n  metadata: {name: x}\n  path: https://example.com/p.yaml\n", `! k/kustomization.yaml:6: transformers names the remote`},
		"transformer's file": {"-- k/kustomization.yaml --\ntransformers: [t.yaml]\n-- k/t.yaml --\napiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: x}\npath: https://example.com/p.yaml\n", `! k/t.yaml:4: this plugin configuration names something remote`},
		"helm":               {"-- k/kustomization.yaml --\nhelmCharts:\n- name: redis\n", "helmCharts runs helm and downloads charts"},
		"helm as a plugin":   {"-- k/kustomization.yaml --\ngenerators: [h.yaml]\n-- k/h.yaml --\napiVersion: builtin\nkind: HelmChartInflationGenerator\nmetadata: {name: x}\nname: redis\n", "it does not build: "},
		"exec plugin":        {"-- k/kustomization.yaml --\ngenerators: [h.yaml]\n-- k/h.yaml --\napiVersion: example.com/v1\nkind: Evil\nmetadata:\n  name: x\n  annotations: {config.kubernetes.io/function: 'exec: {path: ./evil.sh}'}\n-- k/evil.sh --\n#!/bin/sh\n", "it does not build: "},
		"missing":            {"-- k/kustomization.yaml --\nresources:\n- deploy.yml\n-- k/deploy.yaml --\nx: 1\n", `! k/kustomization.yaml:2: resources names "deploy.yml": no such file or directory; did you mean "deploy.yaml"?`},
		"no kustomization":   {"-- k/kustomization.yaml --\nresources: [../b]\n-- b/x.txt --\n", `which has no kustomization.yaml`},
		"outside":            {"-- k/kustomization.yaml --\nresources: [../o/a.yaml]\n-- o/a.yaml --\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", "it does not build: "},
		"in a base of two": {
			"-- k/kustomization.yaml --\nresources: [../base]\n-- l/kustomization.yaml --\nresources: [../base]\n-- base/kustomization.yaml --\nresources:\n- https://example.com/a.yaml\n", `! base/kustomization.yaml:2: resources names the remote`,
		},
		"cycle":            {"-- k/kustomization.yaml --\nresources: [../l]\n-- l/kustomization.yaml --\nresources: [../k]\n", "! k/kustomization.yaml: it does not build: "},
		"yaml":             {"-- k/kustomization.yaml --\nresources: [\n", `! k/kustomization.yaml:`},
		"unknown field":    {"-- k/kustomization.yaml --\nresourcez: []\n", "it does not build: "},
		"unused component": {"-- k/kustomization.yaml --\napiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n", "a component has no objects of its own"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, tc.archive+"-- z.yaml --\napiVersion: v1\nkind: Pod\nmetadata: {name: z}\n")
			got := summary(dir, mustRead(t, Options{}, dir))
			if got[0] != "Pod z z.yaml:1" {
				t.Errorf("what is beside the kustomization is not judged: %q", got)
			}
			if name == "in a base of two" && (len(got) != 3 || got[1] != got[2]) {
				t.Errorf("both must be refused: %q", got)
			}
			if len(got) < 2 || !strings.Contains(got[1], tc.want) {
				t.Errorf("got %q, want %q", got[1:], tc.want)
			}
		})
	}
}
