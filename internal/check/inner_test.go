package check

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParseImage(t *testing.T) {
	for ref, want := range map[string]image{
		"ubuntu":                         {Path: "ubuntu"},
		"ubuntu:24.04":                   {Path: "ubuntu", Tag: "24.04"},
		"acme/app":                       {Path: "acme/app"},
		"ghcr.io/acme/app:1":             {Host: "ghcr.io", Path: "acme/app", Tag: "1"},
		"localhost/app":                  {Host: "localhost", Path: "app"},
		"registry:5000/app":              {Host: "registry:5000", Path: "app"},
		"registry:5000/app:2@sha256:abc": {Host: "registry:5000", Path: "app", Tag: "2", Digest: "sha256:abc"},
		"app@sha256:abc":                 {Path: "app", Digest: "sha256:abc"},
		"":                               {},
	} {
		if d := cmp.Diff(want, parseImage(ref)); d != "" {
			t.Errorf("%s: %s", ref, d)
		}
	}
	for ref, want := range map[string]string{
		"ubuntu": "docker.io/library/ubuntu", "acme/app:1": "docker.io/acme/app", "index.docker.io/library/x": "docker.io/library/x", "ghcr.io/a/b@sha256:c": "ghcr.io/a/b",
	} {
		if got := parseImage(ref).Full(); got != want {
			t.Errorf("%s: %s, want %s", ref, got, want)
		}
	}
}

func TestSupportTable(t *testing.T) {
	for _, e := range endsOfSupport {
		if day(e.until).IsZero() || e.name == "" || (e.image == "") == (e.inName == "" && e.codename == "") {
			t.Errorf("bad row: %+v", e)
		}
	}
	for ref, want := range map[string]string{
		"gcr.io/distroless/nodejs18-debian12:nonroot": "Node.js 18", // ends before Debian 12 does
		"gcr.io/distroless/static-debian12":           "distroless on Debian 12",
		"node:18-alpine":                              "Node.js 18",
		"node:18":                                     "Node.js 18",
		"node:180":                                    "",
		"mirror.example.com/dockerhub/node:18.2.0":    "Node.js 18",
		"python:3.1":                                  "",
		"python:3.12-slim-bullseye":                   "Debian 11",
		"ghcr.io/acme/node-exporter:18":               "",
		"acme/app:1.0-bookworm":                       "Debian 12",
		"ubuntu":                                      "",
		"ubuntu:18.04":                                "Ubuntu 18.04",
	} {
		if s, _ := supportOf(ref); s.name != want {
			t.Errorf("%s: %q, want %q", ref, s.name, want)
		}
	}
}

func TestSecretNames(t *testing.T) {
	for _, n := range []string{"PASSWORD", "DB_PASSWORD", "dbPassword", "db-password", "API_KEY", "apiKey", "AWS_SECRET_ACCESS_KEY", "SLACK_TOKEN", "spring.datasource.password", "GITHUB_PAT_TOKEN", "client_secret", "POSTGRES_PASSWORD", "PGPASSWORD", "signing-key"} {
		if !secretName(n) {
			t.Errorf("%s is a secret's name", n)
		}
	}
	for _, n := range []string{"", "PASSWORD_FILE", "passwordPath", "TOKEN_URL", "tokenizer", "SECRET_NAME", "secretRef", "COMPASS", "KEY", "PUBLIC_KEY", "keyboard", "TOKEN_TTL", "password-policy", "SECRETARY", "ACCESS_KEY_ID", "bypass"} {
		if secretName(n) {
			t.Errorf("%s is no secret's name", n)
		}
	}
}

func TestSecretValues(t *testing.T) {
	// The tokens are put together here, so that scanners of this repository do not report them.
	ghp, akia, jwt := "ghp_"+strings.Repeat("a1B2", 9), "AKIA"+"IOSFODNN7EXAMPLE", "eyJhbGciOiJIUzI1NiJ9"+".eyJzdWIiOiIxMjM0NTYifQ"+".c2lnbmF0dXJlLXNpZ25hdHVyZQ"
	for text, want := range map[string]string{
		"token is " + ghp: "a GitHub token",
		"key=" + akia:     "an AWS access key",
		"Bearer " + jwt:   "a signed token (JWT)",
		"-----BEGIN RSA " + "PRIVATE KEY-----\nMII":  "a private key",
		"postgres://app:kT9wq2@db.shop:5432/app":     "a URL with a password",
		"see https://x.io then amqp://u:p4ss@mq/":    "a URL with a password",
		"postgres://app:$(PASSWORD)@db.shop:5432/":   "",
		"postgres://app:${PASSWORD}@db.shop:5432/":   "",
		"https://shop.example.com/a:b@c":             "",
		"-----BEGIN CERTIFICATE-----\nMII":           "",
		"task_ghp_x":                                 "",
		"a plain sentence about eyJ and ghp_ tokens": "",
		"X" + akia: "",
	} {
		if got := tokenIn(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for v, want := range map[string]string{
		"kT9wq2LmZx4R7vBnQ": "a random value", "hunter2": "a value", "changeme": "a value", "123456": "a value",
		"": "", "$(DB_PASSWORD)": "", "${X}": "", "{{ .Values.x }}": "", "<your-password>": "", "/run/secrets/x": "", "true": "", "3600": "", "********": "",
		"https://login.example.com": "", "this is a sentence about passwords in general": "",
	} {
		got, ok := secretValue(v)
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("%q: %q, want %q", v, got, want)
		}
	}
	for text, want := range map[string]string{
		"a=1\ndb.password=kT9wq2LmZx4R\nb=2": "db.password", "# password: kT9wq2LmZx4R7v": "", "password: ${PW}": "", "  apiKey: \"kT9wq2LmZx4R7v\",": "apiKey",
		"password min length: 12": "", "passwordMinLength=12": "", "token: ''": "",
	} {
		if got, _ := secretInLines(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for _, c := range []struct {
		arg  string
		next []string
		want string
	}{
		{"--db-password=kT9wq2", nil, "--db-password"}, {"--token", []string{"kT9wq2LmZx"}, "--token"}, {"--token", []string{"--verbose"}, ""}, {"--token", nil, ""},
		{"--token-file=/x", nil, ""}, {"export API_KEY=kT9wq2LmZx; run", nil, "API_KEY"}, {"PASSWORD=$(cat /x)", nil, ""}, {"serve", []string{"password"}, ""},
		{"token", []string{"create"}, ""},
	} {
		got, ok := secretArgument(c.arg, c.next)
		if !ok {
			got = ""
		}
		if got != c.want {
			t.Errorf("%q %q: %q, want %q", c.arg, c.next, got, c.want)
		}
	}
}

func TestSensitivePaths(t *testing.T) {
	for p, want := range map[string]bool{"/": true, "/etc": true, "/etc/kubernetes/pki": true, "/etcetera": false, "/srv": false, "/var/lib/kubelet/pods": true, "/var/log": true, "/var/logs": false, "/var": true, "/data": false} {
		if _, got := sensitivePath(p); got != want {
			t.Errorf("%s: %v", p, got)
		}
	}
}

func TestDiffer(t *testing.T) {
	m := func(kv ...any) map[string]any {
		out := map[string]any{}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i].(string)] = kv[i+1]
		}
		return out
	}
	peer := m("podSelector", m("matchLabels", m("app", "web")))
	policy := func(peer map[string]any, more ...any) map[string]any {
		return m("spec", m(append([]any{"podSelector", m(), "ingress", []any{m("from", []any{peer}, "ports", []any{m("port", float64(80))})}}, more...)...))
	}
	for _, c := range []struct {
		name       string
		kind       string
		want, have map[string]any
		paths      []string
	}{
		{"the same", "NetworkPolicy", policy(peer), policy(peer), nil},
		{"defaults of the server", "NetworkPolicy", policy(peer),
			m("spec", m("podSelector", m(), "ingress", []any{m("from", []any{peer}, "ports", []any{m("port", float64(80), "protocol", "TCP")})}), "metadata", m("uid", "x")), nil},
		{"a peer is widened", "NetworkPolicy", policy(peer), policy(m("podSelector", m("matchLabels", m("app", "web")), "namespaceSelector", m())), []string{"spec.ingress[0].from[0].namespaceSelector"}},
		{"a label is taken from a selector", "NetworkPolicy", policy(peer), policy(m("podSelector", m())), []string{"spec.ingress[0].from[0].podSelector.matchLabels.app"}},
		{"a rule is added", "NetworkPolicy", policy(peer), policy(peer, "egress", []any{m()}), []string{"spec.egress"}},
		{"a policy is made to match nothing", "ValidatingAdmissionPolicy", m("spec", m("validations", []any{})), m("spec", m("validations", []any{}, "matchConditions", []any{m("expression", "false")}, "failurePolicy", "Fail")), []string{"spec.matchConditions"}},
		{"a policy is made to fail open", "ValidatingAdmissionPolicy", m("spec", m("a", "b")), m("spec", m("a", "b", "failurePolicy", "Ignore")), []string{"spec.failurePolicy"}},
		{"a binding loses its namespaces", "ValidatingAdmissionPolicyBinding", m("spec", m("matchResources", m("namespaceSelector", m("matchLabels", m("a", "b"))))),
			m("spec", m("matchResources", m("namespaceSelector", m(), "objectSelector", m(), "matchPolicy", "Equivalent"))), []string{"spec.matchResources.namespaceSelector.matchLabels.a"}},
		{"a subject is added", "RoleBinding", m("subjects", []any{m("name", "a")}), m("subjects", []any{m("name", "a"), m("name", "b")}), []string{"subjects"}},
		{"rules appear", "Role", m("metadata", m("name", "r")), m("metadata", m("name", "r"), "rules", []any{m("verbs", []any{"*"})}), []string{"rules"}},
		{"a workload's additions are the server's", "Deployment", m("spec", m("replicas", float64(1))), m("spec", m("replicas", float64(1), "progressDeadlineSeconds", float64(600))), nil},
		{"but not in a security context", "Deployment", m("spec", m("securityContext", m("runAsNonRoot", true))), m("spec", m("securityContext", m("runAsNonRoot", true, "privileged", true))), []string{"spec.securityContext.privileged"}},
		{"quantities by value", "Deployment", m("spec", m("cpu", "0.1")), m("spec", m("cpu", "100m")), nil},
		{"labels of others", "Namespace", m("metadata", m("labels", m("a", "b"))), m("metadata", m("labels", m("a", "b", "c", "d"))), nil},
	} {
		var out []difference
		differ("", c.want, c.have, exactFields[c.kind], &out)
		var paths []string
		for _, d := range out {
			paths = append(paths, d.path)
		}
		if d := cmp.Diff(c.paths, paths); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func FuzzParseImage(f *testing.F) {
	for _, s := range []string{"ubuntu", "a.b:5000/c/d:e@sha256:f", "@", ":", "/", "a/:b@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		im := parseImage(ref)
		if len(im.Host)+len(im.Path)+len(im.Tag)+len(im.Digest) > len(ref) {
			t.Errorf("%q grew: %+v", ref, im)
		}
		if strings.Contains(im.Tag, "/") {
			t.Errorf("%q: a tag with a slash: %+v", ref, im)
		}
		supportOf(ref)
	})
}

// Names and values of secrets come from anybody's manifests. Whatever they are, no more than a name may come out.
func FuzzSecretText(f *testing.F) {
	f.Add("db.password=kT9wq2LmZx4R7vBn\n", "PASSWORD", "--token=x")
	f.Add("a://b:c@d", "eyJ.eyJ.x", "-----BEGIN PRIVATE KEY-----")
	f.Fuzz(func(t *testing.T, text, name, arg string) {
		_ = tokenIn(text)
		_ = secretName(name)
		_, _ = secretArgument(arg, []string{text})
		if n, what := secretInLines(text); n != "" && (!strings.Contains(text, n) || what == "" || utf8.ValidString(text) && !utf8.ValidString(n)) {
			t.Errorf("%q: name %q, what %q", text, n, what)
		}
		if e := entropy(text); e < 0 || e > 8 {
			t.Errorf("entropy %v", e)
		}
	})
}
