// Package access compiles who may ask what of the Kubernetes API: an account for each component, the platform's own
// accounts, and the teams.
//
// Nothing here grants what Kubernetes itself calls a way to escalate (https://kubernetes.io/docs/concepts/security/rbac-good-practices/):
// secrets, workload creation, persistent volumes, nodes/proxy, escalate, bind, impersonate, certificate requests, tokens,
// webhooks, namespaces; except what a component's mayAsk literally asks for, and the one token that External Secrets
// needs, by name. Changing a workload's template counts as creating one, because a template may mount any secret of its
// namespace; so "restart" is evicting or deleting pods, which their controller replaces, and never a patch.
package access

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/compile/implied"
	"github.com/intelgraph/bulwark/internal/spec"
)

// File is where the access layer is written.
const File = "k8s/security/rbac-security.yaml"

// Compile gives the access layer. It is the same at every stage: RBAC refuses what nothing grants, with or without us.
func Compile(p *spec.Platform, _ *spec.Lock, _ artifact.Stage) (artifact.Part, error) {
	b := &builder{p: p, accounts: map[string]bool{}}
	b.defaults()
	b.components()
	b.externalSecrets()
	b.rotators()
	b.monitoring()
	b.teams()
	return b.part, nil
}

type builder struct {
	p        *spec.Platform
	part     artifact.Part
	accounts map[string]bool // "namespace/name"
}

func (b *builder) add(typed any, why ...artifact.Cause) {
	b.part.Add(b.p.Metadata.Name, artifact.Access, File, typed, why...)
}

// account adds a service account, once. No token is mounted unless a pod asks for one itself: a pod that does not say
// gets none.
func (b *builder) account(ns, name string, why ...artifact.Cause) {
	if b.accounts[ns+"/"+name] {
		return
	}
	b.accounts[ns+"/"+name] = true
	b.add(&corev1.ServiceAccount{
		TypeMeta:                     metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta:                   metav1.ObjectMeta{Name: name, Namespace: ns},
		AutomountServiceAccountToken: new(false),
	}, why...)
}

func (b *builder) role(ns, name string, rules []rbacv1.PolicyRule, why ...artifact.Cause) {
	b.add(&rbacv1.Role{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "Role"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns},
		Rules:      rules,
	}, why...)
}

// bind gives the Role of the same name to the subjects.
func (b *builder) bind(ns, name string, subjects []rbacv1.Subject, why ...artifact.Cause) {
	b.add(&rbacv1.RoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "RoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   subjects,
	}, why...)
}

func account(ns, name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: name}
}

// defaults takes the token from the account that pods get when they name none.
func (b *builder) defaults() {
	for _, ns := range spec.Sorted(b.p.Spec.Namespaces) {
		b.account(ns, "default", implied.WhyImplied(b.p, implied.Path("spec", "namespaces", ns), "the default account has no token"))
	}
}

// components adds an account for each component, and a Role where it may ask.
func (b *builder) components() {
	shared := map[string][]artifact.Cause{}
	var order []string
	for _, name := range spec.Sorted(b.p.Spec.Components) {
		c := b.p.Spec.Components[name]
		k := c.Namespace + "/" + implied.Account(name, c)
		if shared[k] == nil {
			order = append(order, name)
		}
		shared[k] = append(shared[k], implied.ComponentWhy(b.p, name))
	}
	for _, name := range order {
		c := b.p.Spec.Components[name]
		b.account(c.Namespace, implied.Account(name, c), shared[c.Namespace+"/"+implied.Account(name, c)]...)
	}
	for _, name := range spec.Sorted(b.p.Spec.Components) {
		c := b.p.Spec.Components[name]
		if !c.NeedsToken() {
			continue
		}
		var rules []rbacv1.PolicyRule
		var why []artifact.Cause
		for i, a := range c.MayAsk {
			cause := implied.Why(b.p, implied.Path("spec", "components", name, "mayAsk", fmt.Sprintf("#%d", i)))
			rules = append(rules, rbacv1.PolicyRule{
				APIGroups: []string{a.Group}, Resources: []string{a.Resource},
				ResourceNames: slices.Clone(a.Names), Verbs: slices.Clone(a.Verbs),
			})
			why = append(why, cause)
			if len(a.Names) > 0 {
				for _, v := range a.Verbs {
					// The name of a new object is not known when the request is judged, nor are those of a collection's.
					if v == "create" || v == "deletecollection" {
						b.part.Gap(artifact.Access, "component/"+name, fmt.Sprintf("may not %s %s after all: Kubernetes cannot limit %s by name, and without names it would be wider than asked", v, a.Resource, v), cause)
					}
				}
			}
		}
		// A dot is in no name of the spec, so these names cannot meet those of the platform's own roles.
		role := "component." + name
		b.role(c.Namespace, role, rules, why...)
		b.bind(c.Namespace, role, []rbacv1.Subject{account(c.Namespace, implied.Account(name, c))}, why...)
	}
}

// externalSecrets adds the account that the store knows, and lets the controller ask for a token in its name and in
// nobody else's. The account itself may ask nothing: what it may read is decided in the store.
func (b *builder) externalSecrets() {
	if b.p.Spec.Secrets == nil || b.p.Spec.Secrets.Store == nil || !b.p.Spec.HasFeature("external-secrets") {
		return
	}
	controller := account("external-secrets", "external-secrets") // its chart's defaults
	if x := b.p.Spec.Peers["external-secrets"]; x != nil && x.Namespace != "" {
		controller.Namespace = x.Namespace
		if x.ServiceAccount != "" {
			controller.Name = x.ServiceAccount
		}
	}
	const name = "external-secrets-token"
	for _, u := range implied.SecretUses(b.p) {
		why := append([]artifact.Cause{implied.Why(b.p, "spec.secrets.store")}, u.Why...)
		b.account(u.Namespace, implied.ExternalSecretsAccount, why...)
		b.role(u.Namespace, name, []rbacv1.PolicyRule{{
			APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"},
			ResourceNames: []string{implied.ExternalSecretsAccount}, Verbs: []string{"create"},
		}}, why...)
		b.bind(u.Namespace, name, []rbacv1.Subject{controller}, why...)
	}
}

// rotators adds the account that renews secrets: it asks External Secrets to fetch them anew, by name, and restarts who
// uses them by evicting pods, which honours disruption budgets. It never reads a Secret.
func (b *builder) rotators() {
	for _, r := range implied.Rotations(b.p) {
		b.account(r.Namespace, implied.RotatorAccount, r.Why...)
		b.role(r.Namespace, implied.Rotator, []rbacv1.PolicyRule{
			{APIGroups: []string{"external-secrets.io"}, Resources: []string{"externalsecrets"}, ResourceNames: r.Items, Verbs: []string{"get", "patch"}},
			{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list"}},
			{APIGroups: []string{""}, Resources: []string{"pods/eviction"}, Verbs: []string{"create"}},
		}, r.Why...)
		b.bind(r.Namespace, implied.Rotator, []rbacv1.Subject{account(r.Namespace, implied.RotatorAccount)}, r.Why...)
	}
	if s := b.p.Spec.Secrets; s != nil && s.Rotation != nil && len(implied.Rotations(b.p)) == 0 {
		b.part.Gap(artifact.Secrets, "spec.secrets.rotation", "nothing rotates: no secret that a component uses says what it `rotates`", implied.Why(b.p, "spec.secrets.rotation"))
	}
}

// monitoring lets Prometheus find its targets in our namespaces, and nothing else.
func (b *builder) monitoring() {
	if !b.p.Spec.HasFeature("prometheus-operator") {
		return
	}
	home := implied.Home(b.p)
	if home == "" {
		return
	}
	why := implied.Why(b.p, "spec.has")
	b.account(home, implied.MonitoringAccount, why)
	subjects := []rbacv1.Subject{account(home, implied.MonitoringAccount)}
	causes := []artifact.Cause{why}
	if x := b.p.Spec.Peers["prometheus"]; x != nil && x.ServiceAccount != "" && x.Namespace != "" {
		subjects = append(subjects, account(x.Namespace, x.ServiceAccount))
		causes = append(causes, implied.Why(b.p, "spec.peers.prometheus"))
	}
	for _, ns := range spec.Sorted(b.p.Spec.Namespaces) {
		b.role(ns, "monitoring", []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"endpoints", "pods", "services"}, Verbs: read()},
			{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: read()},
		}, why)
		b.bind(ns, "monitoring", subjects, causes...)
	}
}

func read() []string { return []string{"get", "list", "watch"} }
