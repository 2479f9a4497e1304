package spec_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/intelgraph/bulwark/internal/source"
	"github.com/intelgraph/bulwark/internal/spec"
)

var update = flag.Bool("update", false, "write the golden files and the generated ones anew")

// edit is one mistake: a text of testdata/base.yaml replaced by another.
type edit struct {
	name, old, new string
	// schema is true for a mistake that the JSON Schema alone must refuse too.
	schema bool
}

var mistakes = []edit{
	{"api version", "bulwark.dev/v1alpha1", "bulwark.dev/v1", true},
	{"kind", "kind: Platform", "kind: Deployment", true},
	{"kind misspelt", "kind: Platform", "knid: Platform", true},
	{"no name", "metadata:\n  name: shop", "metadata: {}", true},
	{"long name", "  name: shop", "  name: a-name-of-a-platform-that-is-much-too-long", true},
	{"unknown field at the top", "metadata:", "extra: 1\nmetadata:", true},
	{"unknown field", "  kubernetes:", "  kubernets:", true},
	{"unknown field of a component", "runtime: node", "runtme: node", true},
	{"misspelt required field", "      image: registry.example.com/shop/batch", "      imag: registry.example.com/shop/batch", true},
	{"repeated field", "      probe: /healthz", "      probe: /healthz\n      probe: /ready", false},
	{"repeated component", "    db:\n", "    web:\n", false},
	{"text for a number", "http: 8080", "http: many", true},
	{"number for text", `kubernetes: "1.37"`, "kubernetes: 1.37", true},
	{"text for a list", "writes: [/run/db]", "writes: /run/db", true},
	{"list for a mapping", "ports: {sql: 5432}", "ports: [5432]", true},
	{"mapping for text", "probe: /healthz", "probe: {path: /healthz}", true},
	{"an empty component", "      namespace: shop\n      image: registry.example.com/shop/batch\n      mesh: none\n", "", true},
	{"an empty entry", "    - {from: web, to: [db:sql, vault:api]}", "    -", true},
	{"empty text", "host: shop.example.com", `host: ""`, true},

	{"kubernetes latest", `"1.37"`, "latest", true},
	{"kubernetes too old", `"1.37"`, `"1.24"`, false},
	{"kubernetes too new", `"1.37"`, `"1.38"`, false},
	{"kubernetes patch", `"1.37"`, `"1.37.2"`, true},
	{"label prefix of Kubernetes", "  has:", "  labelPrefix: security.k8s.io\n  has:", false},
	{"chart outside its folder", "  has:", "  chart: ../../etc\n  has:", true},
	{"unknown feature", "cilium, kyverno", "cillium, kyverno", true},
	{"feature twice", "cilium, kyverno", "cilium, cilium, kyverno", true},
	{"enforcer that is not there", "enforce: native", "enforce: gatekeeper", false},
	{"unknown enforcer", "enforce: native", "enforce: kyvern", true},
	{"enforcer audits", "audit: [kyverno]", "audit: [native]", false},
	{"mesh that is not there", "has: [istio, cilium,", "has: [cilium,", false},
	{"mesh none as kind", "mesh: {kind: istio}", "mesh: {kind: linkerd}", true},

	{"registry with scheme", "[registry.example.com/shop/]", "[https://registry.example.com/shop/]", true},
	{"registry with wildcard", "[registry.example.com/shop/]", `["registry.example.com/*"]`, true},
	{"registry with tag", "[registry.example.com/shop/]", `["registry.example.com/shop:1"]`, true},
	{"registry without host", "[registry.example.com/shop/]", "[library/]", true},
	{"registry look-alike", "[registry.example.com/shop/]", "[registry.example.com/sho/]", false},
	{"signer with both", "key: keys/release.pub", "key: keys/release.pub, keyless: {issuer: https://id.example.com, subject: ci}", true},
	{"signer with neither", "{name: release, key: keys/release.pub}", "{name: release}", true},
	{"signer with a wide subject", "key: keys/release.pub", `keyless: {issuer: https://id.example.com, subject: "https://git.example.com/*"}`, true},
	{"signer with a plain issuer", "key: keys/release.pub", `keyless: {issuer: http://id.example.com, subject: ci}`, true},
	{"signer twice", "      - {name: release, key: keys/release.pub}", "      - {name: release, key: keys/release.pub}\n      - {name: release, key: keys/b.pub}", false},
	{"key outside", "keys/release.pub", "../../release.pub", false},
	{"attestation", "[spdx]", "[spxd]", true},

	{"level", "{level: low}", "{level: lo}", true},
	{"pod security", "{level: low}", "{podSecurity: restrictd}", true},
	{"a namespace of Kubernetes", "    tools: {level: low}", "    kube-system: {level: low}", false},
	{"namespace name", "    tools: {level: low}", "    Tools: {level: low}", true},
	{"peer without namespace", "vault: {namespace: vault, ports", "vault: {ports", true},
	{"peer named as component", "    vault: {namespace: vault", "    web: {namespace: vault", false},
	{"peer label", "labels: {app: gateway}", `labels: {"app/": gateway}`, true},

	{"undeclared namespace", "      namespace: shop\n      image: registry.example.com/shop/batch", "      namespace: shp\n      image: registry.example.com/shop/batch", false},
	{"which namespace", "      namespace: shop\n      image: registry.example.com/shop/batch", "      image: registry.example.com/shop/batch", false},
	{"component name", "    batch:\n", "    Batch:\n", true},
	{"component named route", "    batch:\n", "    route:\n", true},
	{"image with tag", "image: registry.example.com/shop/batch", "image: registry.example.com/shop/batch:1.0", true},
	{"image with digest", "image: registry.example.com/shop/batch", "image: registry.example.com/shop/batch@sha256:0123", true},
	{"image without host", "image: registry.example.com/shop/batch", "image: nginx", true},
	{"image of another registry", "image: registry.example.com/shop/batch", "image: ghcr.io/shop/batch", false},
	{"image behind a look-alike", "image: registry.example.com/shop/batch", "image: registry.example.com/shop-evil/batch", false},
	{"version latest", "mesh: none\n    db", "version: latest\n    db", true},
	{"two versions", "image: registry.example.com/shop/batch", "image: registry.example.com/shop/web\n      version: 1.2.3", false},
	{"base without tag", "docker.io/library/node:22-slim", "docker.io/library/node", true},
	{"base latest", "docker.io/library/node:22-slim", "docker.io/library/node:latest", false},
	{"runtime", "runtime: node", "runtime: nodejs", true},
	{"kind of workload", "kind: StatefulSet", "kind: Statefulset", true},
	{"daemon with storage", "kind: StatefulSet", "kind: DaemonSet", false},
	{"daemon with replicas", "      mesh: none\n", "      kind: DaemonSet\n      replicas: 2\n", false},
	{"deployment with shared storage", "kind: StatefulSet", "replicas: 2", false},
	{"root", "user: 999", "user: 0", false},
	{"root's group", "user: 999", "user: 999\n      group: 0", false},
	{"negative user", "user: 999", "user: -1", true},
	{"port out of range", "http: 8080", "http: 80800", true},
	{"port zero", "http: 8080", "http: 0", true},
	{"port name too long", "{http: 8080,", "{http: 8080, a-name-of-sixteen: 1,", true},
	{"port name without letter", "{http: 8080,", `{http: 8080, "80": 80,`, false},
	{"same port twice", "port: 8081", "port: 8080", false},
	{"protocol", "protocol: TCP", "protocol: tcp", true},
	{"port outside which mesh", "port: 8081, mesh: none", "port: 8081, mesh: istio", true},
	{"relative path", "/var/cache/web", "cache", true},
	{"path of the system", "/var/cache/web", "/proc/sys", false},
	{"root as path", "/var/cache/web", "/", false},
	{"path with dots", "/var/cache/web", "/var/../etc", false},
	{"path twice", "/var/cache/web", "/tmp", true},
	{"path in a path", "/var/cache/web", "/tmp/web", false},
	{"writes in storage", "[/run/db]", "[/var/lib/data/tmp]", false},
	{"storage in writes", "[/run/db]", "[/var/lib]", false},
	{"storage size", "10Gi", "10GB", true},
	{"storage of milli", "10Gi", "500m", true},
	{"storage of nothing", "10Gi", "0Gi", false},
	{"default account", "      runtime: postgres", "      serviceAccount: default", false},
	{"shared account", "      runtime: postgres", "      serviceAccount: web", false},
	{"any verb", "verbs: [get, watch]", `verbs: ["*"]`, true},
	{"no verb", "verbs: [get, watch]", "verbs: []", true},
	{"verb escalate", "verbs: [get, watch]", "verbs: [escalate]", true},
	{"verb bind", "verbs: [get, watch]", "verbs: [bind]", true},
	{"verb impersonate", "verbs: [get, watch]", "verbs: [impersonate]", true},
	{"verb misspelt", "verbs: [get, watch]", "verbs: [get, wach]", true},
	{"any resource", "resource: configmaps", `resource: "*"`, true},
	{"any group", "resource: configmaps", `group: "*", resource: configmaps`, true},
	{"resource misspelt", "resource: configmaps", "resource: configmap", false},
	{"resource of the cluster", "resource: configmaps", "resource: nodes", false},
	{"resource without group", "resource: configmaps", "resource: deployments", false},
	{"all secrets", "resource: configmaps, names: [web]", "resource: secrets", false},
	{"create by name", "verbs: [get, watch]", "verbs: [get, create]", false},
	{"unknown secret", "secrets: [web-database]", "secrets: [web-databse]", false},
	{"cpu", "cpu: 100m", "cpu: lots", true},
	{"memory over limit", "memory: 64Mi", "memory: 1Gi", false},
	{"probe without port", "      user: 999\n      ports: {sql: 5432}", "      probe: /healthz\n      ports: {sql: {port: 5432, protocol: UDP}}", false},
	{"process", "runtime: node", `processes: ["node *"]`, true},
	{"syscall", "runtime: node", `syscalls: {add: [IO_URING]}`, true},

	{"route's port", "port: http\n", "port: htpp\n", false},
	{"route without tls", "        tls: {min: \"1.3\", secret: shop-tls}\n", "", true},
	{"tls version", `min: "1.3"`, `min: "1.1"`, true},
	{"tls version as number", `min: "1.3"`, `min: 1.3`, true},
	{"host with scheme", "host: shop.example.com", "host: https://shop.example.com", true},
	{"any origin", "origins: [https://shop.example.com]", `origins: ["*"]`, true},
	{"plain origin", "origins: [https://shop.example.com]", "origins: [http://shop.example.com]", true},
	{"body size", "maxBody: 10Mi", "maxBody: 10MB", true},
	{"timeout without unit", "header: 5s", "header: 5", true},
	{"timeout of nothing", "header: 5s", "header: 0s", false},
	{"rate", "requestsPerMinute: 600", "requestsPerMinute: 0", true},
	{"no gateway", "    gateway: {", "    edge: {", false},
	{"two gateways", "    vault: {namespace: vault", "    istio-ingress: {namespace: edge}\n    vault: {namespace: vault", false},
	{"unknown gateway", "        maxBody: 10Mi", "        gateway: gatewy", false},

	{"flow to unknown port", "to: web:jobs", "to: web:job", false},
	{"flow to htpp", "to: web:http", "to: web:htpp", false},
	{"flow to unknown component", "[db:sql, vault:api]", "[bd:sql, vault:api]", false},
	{"flow to a component without port", "[db:sql, vault:api]", "[db, vault:api]", false},
	{"flow to a component without ports", "[db:sql, vault:api]", "[batch:http, vault:api]", false},
	{"flow to a host without dns", "[db:sql, vault:api]", "[api.example.com:443]", false},
	{"flow from unknown", "from: batch", "from: bacth", false},
	{"flow from a port", "from: batch", "from: batch:http", false},
	{"flow without target", "{from: batch, to: web:jobs, http: [{methods: [GET]}]}", "{from: batch}", true},
	{"flow to dns without port", "dns:api.example.com:443", "dns:api.example.com", false},
	{"flow to dns with a pattern", "dns:api.example.com:443", "dns:*.example.com:443", false},
	{"flow to dns with an address", "dns:api.example.com:443", "dns:10.1.2.3:443", false},
	{"flow to dns with http", `"dns:api.example.com:443"}`, `"dns:api.example.com:443", http: [{methods: [GET]}]}`, false},
	{"flow to a peer with http", "to: [db:sql, vault:api]}", "to: [vault:api], http: [{methods: [GET]}]}", false},
	{"flow to everywhere", "cidr:10.1.0.0/24:9000", "cidr:0.0.0.0/0:443", false},
	{"flow to a network with host bits", "cidr:10.1.0.0/24:9000", "cidr:10.1.0.1/24:9000", false},
	{"flow to no network", "cidr:10.1.0.0/24:9000", "cidr:10.1.0.0:9000", false},
	{"flow to port 99999", "cidr:10.1.0.0/24:9000", "cidr:10.1.0.0/24:99999", false},
	{"route to a component without route", "[db:sql, vault:api]}", "[vault:api]}\n    - {from: route, to: db:sql}", false},
	{"route to another port", "[db:sql, vault:api]}", "[vault:api]}\n    - {from: route, to: web:metrics}", false},
	{"peer to peer", "[db:sql, vault:api]}", "[vault:api]}\n    - {from: gateway, to: vault:api}", false},
	{"plain beside http", "[db:sql, vault:api]}", "[vault:api]}\n    - {from: batch, to: web:jobs}", false},
	{"plain beside http by another name", "[db:sql, vault:api]}", "[vault:api]}\n    - {from: gateway, to: web:http}", false},
	{"flow twice", "[db:sql, vault:api]}", "[vault:api]}\n    - {from: web, to: vault:api}", false},
	{"from outside the mesh into it", "[db:sql, vault:api]}", "[vault:api]}\n    - {from: batch, to: db:sql}", false},
	{"token outside the mesh", "http: [{methods: [GET]}]", "http: [{token: {issuer: https://id.example.com, audiences: [a]}}]", false},
	{"header pattern outside the mesh", "http: [{methods: [GET]}]", `http: [{headers: {x-team: "a*"}}]`, false},
	{"method in lower case", "methods: [GET]", "methods: [get]", true},
	{"method trace", "methods: [GET]", "methods: [TRACE]", true},
	{"path without slash", "paths: [/api/*]", "paths: [api/*]", true},
	{"star in the middle", "paths: [/api/*]", "paths: [/api/*/x]", true},
	{"path with dots", "paths: [/api/*]", "paths: [/api/../x]", false},
	{"header in upper case", "{authorization:", "{Authorization:", true},
	{"rule that says nothing", "http: [{methods: [GET]}]", "http: [{}]", true},
	{"issuer in plain", "token: {issuer: https://", "token: {issuer: http://", true},

	{"store's peer", "{peer: vault}", "{peer: vualt}", false},
	{"store's peer without port", "{peer: vault}", "{peer: gateway}", false},
	{"no store", "{vault: {peer: vault}}", "{valt: {peer: vault}}", true},
	{"refresh", "refresh: 1h", "refresh: hourly", true},
	{"cron", `"0 2 * * 0"`, `"0 2 * *"`, true},
	{"cron minute", `"0 2 * * 0"`, `"61 2 * * 0"`, false},
	{"cron word", `"0 2 * * 0"`, `"@weekly"`, true},
	{"cron with zone", `"0 2 * * 0"`, `"TZ=UTC 2 * * 0"`, true},
	{"cron that never happens", `"0 2 * * 0"`, `"0 2 30 2 *"`, false},
	{"time zone", "Etc/UTC", "Europe/Atlantis", false},
	{"time zone of the machine", "Etc/UTC", "Local", false},
	{"overlap below refresh", "overlap: 3h", "overlap: 30m", false},
	{"template's key", "{{ .username }}", "{{ .usrname }}", false},
	{"template broken", "{{ .username }}", "{{ .username", false},
	{"secret without keys", "keys: [username, password]", "keys: []", true},
	{"secret's path", "path: shop/web/database", "path: /shop/web/database", true},
	{"rotates what", "component: db, database", "component: bd, database", false},
	{"rotates something else", "component: db, database", "component: web, database", false},

	{"team's right", "may: read", "may: raed", true},
	{"group of Kubernetes", "group: shop-sre", "group: system:masters", false},
	{"group twice", "group: shop-sre", "group: shop-developers", false},
	{"rule file", "rules: [builtin]", "rules: [builtins]", true},
	{"response to whom", "component: [web]}\n", "component: [wbe]}\n", false},
	{"response unknown", "do: [capture, quarantine]", "do: [capture, quarantin]", true},
	{"response destroys evidence", "do: [capture, quarantine]", "do: [terminate]", false},
	{"budget", "1 pod per component per hour", "as many as it takes", true},
	{"notify from", "atLeast: high", "atLeast: hihg", true},
	{"channel", `"#alerts"`, "alerts", true},
	{"standard", "[pss-restricted]", "[pss-restrict]", true},

	{"exception without owner", "      owner: web@example.com\n", "", true},
	{"exception without reason", "      reason: until the next release\n", "", true},
	{"exception without end", "      expires: 2030-01-31\n", "", true},
	{"exception on no day", "2030-01-31", "2030-02-31", false},
	{"exception on a bad day", "2030-01-31", "31.01.2030", true},
	{"exception on an unknown component", "component/web", "component/wb", false},
	{"exception on everything", "component/web", `"*"`, false},
	{"exception pattern", "finding: base-image-out-of-support", `finding: "base-*"`, true},
	{"control plane", "  has:", "  controlPlane: {cidrs: [10.0.0.0/33], ports: [0]}\n  has:", true},

	{"many at once", "runtime: node\n      ports: {http: 8080,", "runtime: nod\n      user: x\n      ports: {htt: 99999,", true},
}

func base(t testing.TB) string {
	b, err := os.ReadFile("testdata/base.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// apply makes the mistake; the text to replace must be there exactly once, or the first of it is meant by its context.
func (e edit) apply(t testing.TB, base string) string {
	if !strings.Contains(base, e.old) {
		t.Fatalf("%s: base.yaml does not hold %q", e.name, e.old)
	}
	return strings.Replace(base, e.old, e.new, 1)
}

func TestMistakes(t *testing.T) {
	text := base(t)
	if _, err := spec.Parse("base.yaml", []byte(text)); err != nil {
		t.Fatalf("the base must load: %v", err)
	}
	var got bytes.Buffer
	fmt.Fprintln(&got, "# What each mistake of bad_test.go is answered with. Written by: go test ./internal/spec -run TestMistakes -update")
	for _, e := range mistakes {
		_, err := spec.Parse("platform.yaml", []byte(e.apply(t, text)))
		if err == nil {
			t.Errorf("%s: accepted", e.name)
			continue
		}
		var errs source.Errors
		if !errors.As(err, &errs) {
			t.Errorf("%s: error is %T, want source.Errors", e.name, err)
		}
		for _, x := range errs {
			if x.Pos.Line == 0 || x.Pos.Column == 0 {
				t.Errorf("%s: no place: %v", e.name, x)
			}
		}
		fmt.Fprintf(&got, "\n## %s\n%v\n", e.name, err)
	}
	golden(t, "mistakes.golden", got.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s differs (-want +got); run with -update when this is meant:\n%s", file, d)
	}
}
