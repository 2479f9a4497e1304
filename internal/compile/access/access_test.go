package access

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/spec"
)

const (
	reference = "../../../platforms/intelgraph/platform.yaml"
	shop      = "../testdata/shop/platform.yaml"
)

func compile(t *testing.T, file string, change func(*spec.Platform)) (*spec.Platform, artifact.Part) {
	t.Helper()
	p, err := spec.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(p)
	}
	part, err := Compile(p, nil, artifact.Enforce)
	if err != nil {
		t.Fatal(err)
	}
	return p, part
}

// authorizer judges as RBAC does (https://kubernetes.io/docs/reference/access-authn-authz/rbac/), from the YAML.
type authorizer struct {
	roles    map[string][]rbacv1.PolicyRule // "namespace/name", "/name" for a ClusterRole
	bindings []binding
}

type binding struct {
	namespace string // "" for the whole cluster
	role      string
	subjects  []rbacv1.Subject
}

func newAuthorizer(t *testing.T, part artifact.Part) *authorizer {
	t.Helper()
	z := &authorizer{roles: map[string][]rbacv1.PolicyRule{}}
	read := func(a artifact.Artifact, into any) {
		y, err := a.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(y, into); err != nil {
			t.Fatalf("%s: %v", a.ID(), err)
		}
	}
	for _, a := range part.Artifacts {
		switch a.Object["kind"] {
		case "Role":
			var r rbacv1.Role
			read(a, &r)
			z.roles[r.Namespace+"/"+r.Name] = r.Rules
		case "ClusterRole":
			var r rbacv1.ClusterRole
			read(a, &r)
			z.roles["/"+r.Name] = r.Rules
		case "RoleBinding":
			var b rbacv1.RoleBinding
			read(a, &b)
			role := b.Namespace + "/" + b.RoleRef.Name
			if b.RoleRef.Kind == "ClusterRole" {
				role = "/" + b.RoleRef.Name
			}
			z.bindings = append(z.bindings, binding{b.Namespace, role, b.Subjects})
		case "ClusterRoleBinding":
			var b rbacv1.ClusterRoleBinding
			read(a, &b)
			z.bindings = append(z.bindings, binding{"", "/" + b.RoleRef.Name, b.Subjects})
		}
	}
	for _, b := range z.bindings {
		if _, exists := z.roles[b.role]; !exists {
			t.Errorf("a binding in %q gives the role %q, which does not exist", b.namespace, b.role)
		}
	}
	return z
}

// request is what somebody asks; a resource may have a subresource after a slash. Namespace "" is the whole cluster.
type request struct{ verb, group, resource, name, namespace string }

func (z *authorizer) allows(who string, q request) bool {
	for _, b := range z.bindings {
		if b.namespace != "" && b.namespace != q.namespace {
			continue
		}
		if !slices.ContainsFunc(b.subjects, func(s rbacv1.Subject) bool { return subject(s) == who }) {
			continue
		}
		for _, r := range z.roles[b.role] {
			has := func(list []string, x string) bool { return slices.Contains(list, x) || slices.Contains(list, "*") }
			if has(r.Verbs, q.verb) && has(r.APIGroups, q.group) && has(r.Resources, q.resource) &&
				(len(r.ResourceNames) == 0 || q.name != "" && slices.Contains(r.ResourceNames, q.name)) {
				return true
			}
		}
	}
	return false
}

func subject(s rbacv1.Subject) string {
	if s.Kind == rbacv1.ServiceAccountKind {
		return s.Namespace + "/" + s.Name
	}
	return s.Kind + " " + s.Name
}

func (z *authorizer) everybody() []string {
	var out []string
	for _, b := range z.bindings {
		for _, s := range b.subjects {
			if !slices.Contains(out, subject(s)) {
				out = append(out, subject(s))
			}
		}
	}
	return out
}

func TestWhoMayWhat(t *testing.T) {
	_, part := compile(t, reference, nil)
	z := newAuthorizer(t, part)
	const prod, staging = "intelgraph-production", "intelgraph-staging"
	const dev, sre, sec = "Group intelgraph-developers", "Group intelgraph-sre", "Group intelgraph-security"
	const maestro, rotator, eso, store = prod + "/maestro-orchestrator-sa", prod + "/secret-rotator-sa", "external-secrets/external-secrets", prod + "/external-secrets-sa"
	for _, tt := range []struct {
		who  string
		q    request
		want bool
	}{
		{maestro, request{"get", "", "configmaps", "maestro-config", prod}, true},
		{maestro, request{"get", "", "configmaps", "other", prod}, false},
		{maestro, request{"list", "", "configmaps", "", prod}, false}, // only with a field selector, which names it
		{maestro, request{"list", "", "configmaps", "maestro-config", prod}, true},
		{maestro, request{"update", "", "configmaps", "maestro-config", prod}, false},
		{maestro, request{"get", "", "configmaps", "maestro-config", staging}, false},
		{maestro, request{"get", "", "secrets", "maestro-database", prod}, false},
		{prod + "/server", request{"get", "", "configmaps", "maestro-config", prod}, false},

		{store, request{"get", "", "secrets", "maestro-database", prod}, false},
		{eso, request{"create", "", "serviceaccounts/token", "external-secrets-sa", prod}, true},
		{eso, request{"create", "", "serviceaccounts/token", "maestro-orchestrator-sa", prod}, false},
		{eso, request{"create", "", "serviceaccounts/token", "external-secrets-sa", staging}, false},

		{rotator, request{"patch", "external-secrets.io", "externalsecrets", "maestro-database", prod}, true},
		{rotator, request{"patch", "external-secrets.io", "externalsecrets", "server-database", prod}, false},
		{rotator, request{"create", "", "pods/eviction", "maestro-1", prod}, true},
		{rotator, request{"get", "", "secrets", "maestro-database", prod}, false},
		{rotator, request{"patch", "apps", "deployments", "maestro", prod}, false},
		{rotator, request{"delete", "", "pods", "maestro-1", prod}, false},

		{prod + "/monitoring-sa", request{"list", "", "pods", "", prod}, true},
		{prod + "/monitoring-sa", request{"list", "", "pods", "", staging}, true},
		{"monitoring/prometheus", request{"watch", "discovery.k8s.io", "endpointslices", "", prod}, true},
		{"monitoring/prometheus", request{"list", "", "pods", "", "kube-system"}, false},
		{"monitoring/prometheus", request{"get", "", "configmaps", "x", prod}, false},

		{dev, request{"get", "", "pods/log", "x", prod}, true},
		{dev, request{"list", "", "configmaps", "", staging}, true},
		{dev, request{"list", "apps", "deployments", "", prod}, true},
		{dev, request{"delete", "", "pods", "x", prod}, false},
		{dev, request{"create", "", "pods/exec", "x", prod}, false},
		{dev, request{"list", "", "pods", "", "kube-system"}, false},
		{dev, request{"list", "", "pods", "", ""}, false},

		{sre, request{"list", "", "pods", "", prod}, true},
		{sre, request{"create", "", "pods/exec", "x", prod}, true},
		{sre, request{"delete", "", "pods", "x", prod}, true},
		{sre, request{"create", "", "pods/eviction", "x", prod}, true},
		{sre, request{"patch", "apps", "deployments/scale", "server", prod}, true},
		{sre, request{"patch", "apps", "deployments", "server", prod}, false},
		{sre, request{"create", "", "pods/portforward", "x", prod}, false},
		{sre, request{"patch", "", "pods/ephemeralcontainers", "x", prod}, false},
		{sre, request{"delete", "networking.k8s.io", "networkpolicies", "default-deny", prod}, false},
		{sre, request{"create", "", "pods/exec", "x", "kube-system"}, false},

		{sec, request{"list", "rbac.authorization.k8s.io", "clusterroles", "", ""}, true},
		{sec, request{"list", "", "pods", "", "kube-system"}, true},
		{sec, request{"list", "admissionregistration.k8s.io", "validatingadmissionpolicies", "", ""}, true},
		{sec, request{"get", "", "pods/log", "x", prod}, true},
		{sec, request{"get", "", "pods/log", "x", "kube-system"}, false},
		{sec, request{"get", "", "nodes/proxy", "n", ""}, false},
		{sec, request{"delete", "", "pods", "x", prod}, false},
	} {
		if got := z.allows(tt.who, tt.q); got != tt.want {
			t.Errorf("%s: %+v: allowed %v, want %v", tt.who, tt.q, got, tt.want)
		}
	}
	if got := z.everybody(); slices.Contains(got, store) || slices.Contains(got, prod+"/default") {
		t.Errorf("accounts without rights have some: %v", got)
	}
}

// risks are the eleven ways to escalate of Kubernetes' "RBAC good practices", as requests.
var risks = map[string][]request{
	"secrets":            each([]string{"get", "list", "watch", "create", "update", "patch", "delete"}, "", "secrets"),
	"workload creation":  slices.Concat(each(writes, "", "pods", "replicationcontrollers", "podtemplates", "pods/ephemeralcontainers", "pods/resize"), each(writes, "apps", "deployments", "statefulsets", "daemonsets", "replicasets"), each(writes, "batch", "jobs", "cronjobs")),
	"persistent volumes": each(writes, "", "persistentvolumes"),
	"nodes/proxy":        each([]string{"get", "create", "update", "patch", "delete"}, "", "nodes/proxy"),
	"escalate and bind":  slices.Concat(each([]string{"escalate", "bind", "create", "update", "patch", "delete"}, "rbac.authorization.k8s.io", "roles", "clusterroles"), each(writes, "rbac.authorization.k8s.io", "rolebindings", "clusterrolebindings")),
	"impersonate":        each([]string{"impersonate"}, "", "users", "groups", "serviceaccounts"),
	"certificates":       slices.Concat(each(writes, "certificates.k8s.io", "certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status"), each([]string{"approve", "sign"}, "certificates.k8s.io", "signers")),
	"tokens":             each([]string{"create"}, "", "serviceaccounts/token"),
	"admission":          each(append([]string{"delete"}, writes...), "admissionregistration.k8s.io", "validatingwebhookconfigurations", "mutatingwebhookconfigurations", "validatingadmissionpolicies", "validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"),
	"namespaces":         each(append([]string{"delete"}, writes...), "", "namespaces", "namespaces/status", "namespaces/finalize"),
	"guards":             each([]string{"change"}, "bulwark.dev", "guards"),
}

var writes = []string{"create", "update", "patch"}

func each(verbs []string, group string, resources ...string) []request {
	var out []request
	for _, v := range verbs {
		for _, r := range resources {
			out = append(out, request{verb: v, group: group, resource: r})
		}
	}
	return out
}

// TestNoEscalation: nobody gets what Kubernetes calls a way to escalate, in any namespace, for any name that exists;
// with one exception, that External Secrets may ask for the store's token.
func TestNoEscalation(t *testing.T) {
	for _, file := range []string{reference, shop} {
		p, part := compile(t, file, nil)
		z := newAuthorizer(t, part)
		names := []string{"", "default", "external-secrets-sa", "secret-rotator-sa", "monitoring-sa", p.Metadata.Name}
		for _, c := range spec.Sorted(p.Spec.Components) {
			names = append(names, c, p.Spec.Components[c].ServiceAccount)
		}
		if p.Spec.Secrets != nil {
			names = append(names, spec.Sorted(p.Spec.Secrets.Items)...)
		}
		namespaces := append(spec.Sorted(p.Spec.Namespaces), "", "kube-system", "default")
		found := map[string]bool{}
		for risk, asks := range risks {
			for _, who := range z.everybody() {
				for _, q := range asks {
					for _, q.namespace = range namespaces {
						for _, q.name = range names {
							if z.allows(who, q) {
								found[strings.Join([]string{risk, who, q.verb, q.resource, q.name, q.namespace}, " ")] = true
							}
						}
					}
				}
			}
		}
		delete(found, "tokens external-secrets/external-secrets create serviceaccounts/token external-secrets-sa intelgraph-production")
		for _, f := range spec.Sorted(found) {
			t.Errorf("%s: %s", p.Metadata.Name, f)
		}
		for role, rules := range z.roles {
			for _, r := range rules {
				if slices.Contains(slices.Concat(r.Verbs, r.APIGroups, r.Resources, r.ResourceNames), "*") {
					t.Errorf("%s: %s has a wildcard: %+v", p.Metadata.Name, role, r)
				}
				if len(r.Verbs) == 0 || len(r.APIGroups) == 0 || len(r.Resources) == 0 {
					t.Errorf("%s: %s has an empty rule: %+v", p.Metadata.Name, role, r)
				}
			}
		}
	}
	// The test sees what it looks for: a component that asks for secrets gets them, and only them.
	_, part := compile(t, reference, func(p *spec.Platform) {
		p.Spec.Components["client"].MayAsk = []*spec.Ask{{Resource: "secrets", Names: []string{"app-tls"}, Verbs: []string{"get"}}}
	})
	z := newAuthorizer(t, part)
	const client, ns = "intelgraph-production/client", "intelgraph-production"
	if !z.allows(client, request{"get", "", "secrets", "app-tls", ns}) || z.allows(client, request{"get", "", "secrets", "server-database", ns}) {
		t.Error("mayAsk is not granted as it stands")
	}
}

func TestAccounts(t *testing.T) {
	for _, file := range []string{reference, shop} {
		p, part := compile(t, file, nil)
		got := map[string]bool{}
		for _, a := range part.Artifacts {
			if a.Object["kind"] != "ServiceAccount" {
				continue
			}
			_, name, _ := strings.Cut(a.ID(), " ")
			got[name] = true
			if a.Object["automountServiceAccountToken"] != false {
				t.Errorf("%s mounts its token in every pod", a.ID())
			}
		}
		for _, n := range spec.Sorted(p.Spec.Components) {
			c := p.Spec.Components[n]
			if !got[c.Namespace+"/"+c.ServiceAccount] {
				t.Errorf("component %s has no account", n)
			}
		}
		for _, ns := range spec.Sorted(p.Spec.Namespaces) {
			if !got[ns+"/default"] {
				t.Errorf("the default account of %s keeps its token", ns)
			}
		}
		for _, guide := range []string{"maestro-orchestrator-sa", "external-secrets-sa", "secret-rotator-sa", "monitoring-sa"} {
			if got["intelgraph-production/"+guide] != (file == reference) {
				t.Errorf("%s: the guide's account %s: %v", p.Metadata.Name, guide, file != reference)
			}
		}
	}
}

// TestTheirOwnExternalSecrets: the controller's account is the peer's, where the spec has one.
func TestTheirOwnExternalSecrets(t *testing.T) {
	_, part := compile(t, reference, func(p *spec.Platform) {
		p.Spec.Peers["external-secrets"] = &spec.Peer{Namespace: "eso", ServiceAccount: "controller"}
	})
	z := newAuthorizer(t, part)
	q := request{"create", "", "serviceaccounts/token", "external-secrets-sa", "intelgraph-production"}
	if !z.allows("eso/controller", q) || z.allows("external-secrets/external-secrets", q) {
		t.Errorf("the token goes to %v", z.everybody())
	}
}

func TestRotationWithoutSecrets(t *testing.T) {
	_, part := compile(t, reference, func(p *spec.Platform) { p.Spec.Secrets.Items["maestro-database"].Rotates = nil })
	for _, a := range part.Artifacts {
		if strings.Contains(a.ID(), "rotator") {
			t.Errorf("%s, but nothing rotates", a.ID())
		}
	}
	if !slices.ContainsFunc(part.Gaps, func(g artifact.Gap) bool { return strings.HasPrefix(g.Reason, "nothing rotates") }) {
		t.Errorf("nobody is told that nothing rotates: %v", part.Gaps)
	}
}

func TestNamesDoNotLimitCreate(t *testing.T) {
	_, part := compile(t, shop, func(p *spec.Platform) {
		p.Spec.Components["web"].MayAsk = []*spec.Ask{{Resource: "configmaps", Names: []string{"x"}, Verbs: []string{"create", "deletecollection", "get"}}}
	})
	if len(part.Gaps) != 2 {
		t.Errorf("gaps: %v", part.Gaps)
	}
}
