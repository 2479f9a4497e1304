// Package implied says what a spec means without writing it: the platform's own service accounts, the rotator, the
// gateway of a route, and whether traffic is inside the mesh. The layers' compilers share it, so that the account that
// one layer creates is the account that another one lets out to the network.
package implied

import (
	"fmt"
	"slices"
	"strings"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/source"
	"github.com/intelgraph/bulwark/internal/spec"
)

// The platform's own service accounts, beside those of its components.
const (
	// ExternalSecretsAccount is whom the secret store knows: External Secrets asks for a token in its name. It has no
	// rights at the Kubernetes API.
	ExternalSecretsAccount = "external-secrets-sa"
	// RotatorAccount runs the rotation of secrets.
	RotatorAccount = "secret-rotator-sa"
	// MonitoringAccount finds what there is to measure.
	MonitoringAccount = "monitoring-sa"
)

// Rotator is the name of the rotator's pods, the value of spec.NameLabel on them.
const Rotator = "secret-rotator"

// PartOfLabel names the platform on namespaces and pods.
const PartOfLabel = "app.kubernetes.io/part-of"

// Path joins field names to a path that spec.Platform.Where reads: a name with dots is bracketed.
func Path(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		switch {
		case strings.ContainsAny(p, ".[]") && b.Len() > 0:
			b.WriteString(`["` + p + `"]`)
		case strings.HasPrefix(p, "#"): // an index
			b.WriteString("[" + p[1:] + "]")
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(p)
		}
	}
	return b.String()
}

// Why gives the cause for a field path.
func Why(p *spec.Platform, path string) artifact.Cause { return spec.Cause(p.Where(path), path) }

// WhyImplied is Why for something that the spec does not say in so many words; what is implied is part of the cause, so
// that annotations and `render --explain` show it.
func WhyImplied(p *spec.Platform, path, what string) artifact.Cause {
	c := Why(p, path)
	c.Field += " (implied: " + what + ")"
	return c
}

// ComponentWhy is the cause "this component is in the spec".
func ComponentWhy(p *spec.Platform, name string) artifact.Cause {
	return Why(p, Path("spec", "components", name))
}

// Home is the namespace of what exists once per platform: the one with the most components, the first by name among
// equals; "" when the spec has no namespaces.
func Home(p *spec.Platform) string {
	count := map[string]int{}
	for _, c := range p.Spec.Components {
		count[c.Namespace]++
	}
	best := ""
	for _, ns := range spec.Sorted(p.Spec.Namespaces) {
		if best == "" || count[ns] > count[best] {
			best = ns
		}
	}
	return best
}

// Account is the service account of a component.
func Account(name string, c *spec.Component) string {
	if c.ServiceAccount != "" {
		return c.ServiceAccount
	}
	return name
}

// Reserved gives an error for each component that takes the name or the account of something implied: its pods would be
// taken for the rotator by the network, or get rights that were meant for another.
func Reserved(p *spec.Platform) error {
	accounts := map[string]string{}
	for _, u := range SecretUses(p) {
		accounts[u.Namespace+"/"+ExternalSecretsAccount] = "the secret store"
	}
	rotators := map[string]bool{}
	for _, r := range Rotations(p) {
		accounts[r.Namespace+"/"+RotatorAccount] = "the rotator of secrets"
		rotators[r.Namespace] = true
	}
	if p.Spec.HasFeature("prometheus-operator") {
		accounts[Home(p)+"/"+MonitoringAccount] = "monitoring"
	}
	var errs source.Errors
	for _, name := range spec.Sorted(p.Spec.Components) {
		c := p.Spec.Components[name]
		if name == Rotator && rotators[c.Namespace] {
			errs = append(errs, &source.Error{Pos: p.Where(Path("spec", "components", name)), Msg: fmt.Sprintf("component %q has the name of the rotator of secrets, so its pods could reach what that reaches", name), Hint: "give the component another name"})
		}
		if of := accounts[c.Namespace+"/"+Account(name, c)]; of != "" {
			errs = append(errs, &source.Error{Pos: p.Where(Path("spec", "components", name, "serviceAccount")), Msg: fmt.Sprintf("component %q has the service account %q, which is that of %s", name, Account(name, c), of), Hint: "give the component an account of its own"})
		}
	}
	return errs.AsError()
}

// SecretUse is a namespace in which components use secrets of the store.
type SecretUse struct {
	Namespace string
	// Items are the names of the secrets used there, sorted.
	Items []string
	Why   []artifact.Cause
}

// SecretUses lists the namespaces that need the secret store, sorted. A secret counts when a component has it or a route
// presents it, and the spec's secrets.items says where it comes from.
func SecretUses(p *spec.Platform) []SecretUse {
	if p.Spec.Secrets == nil {
		return nil
	}
	by := map[string]*SecretUse{}
	use := func(ns, item string, why artifact.Cause) {
		if _, known := p.Spec.Secrets.Items[item]; !known {
			return
		}
		u := by[ns]
		if u == nil {
			u = &SecretUse{Namespace: ns}
			by[ns] = u
		}
		if !slices.Contains(u.Items, item) {
			u.Items = append(u.Items, item)
		}
		u.Why = append(u.Why, why)
	}
	for _, name := range spec.Sorted(p.Spec.Components) {
		c := p.Spec.Components[name]
		for _, s := range c.Secrets {
			use(c.Namespace, s, Why(p, Path("spec", "components", name, "secrets")))
		}
		if c.Route != nil && c.Route.TLS != nil && c.Route.TLS.Secret != "" {
			use(c.Namespace, c.Route.TLS.Secret, Why(p, Path("spec", "components", name, "route", "tls", "secret")))
		}
	}
	out := make([]SecretUse, 0, len(by))
	for _, ns := range spec.Sorted(by) {
		slices.Sort(by[ns].Items)
		out = append(out, *by[ns])
	}
	return out
}

// Rotation is what the rotator of one namespace renews.
type Rotation struct {
	Namespace string
	// Items are the secrets that it renews there, sorted: used in the namespace and with a `rotates`.
	Items []string
	// Databases are the components that it logs in to, sorted.
	Databases []string
	Why       []artifact.Cause
}

// Rotations lists the namespaces in which a rotator runs, sorted; none without a rotation schedule.
func Rotations(p *spec.Platform) []Rotation {
	if p.Spec.Secrets == nil || p.Spec.Secrets.Rotation == nil {
		return nil
	}
	var out []Rotation
	for _, u := range SecretUses(p) {
		r := Rotation{Namespace: u.Namespace, Why: []artifact.Cause{Why(p, "spec.secrets.rotation")}}
		for _, item := range u.Items {
			rot := p.Spec.Secrets.Items[item].Rotates
			if rot == nil {
				continue
			}
			r.Items = append(r.Items, item)
			r.Why = append(r.Why, Why(p, Path("spec", "secrets", "items", item, "rotates")))
			if rot.Postgres != nil && p.Spec.Components[rot.Postgres.Component] != nil && !slices.Contains(r.Databases, rot.Postgres.Component) {
				r.Databases = append(r.Databases, rot.Postgres.Component)
			}
		}
		if len(r.Items) > 0 {
			slices.Sort(r.Databases)
			out = append(out, r)
		}
	}
	return out
}

// Gateway is the peer that serves a component's route; "" when there is none, or more than one that could be meant.
func Gateway(p *spec.Platform, c *spec.Component) string {
	if c.Route == nil {
		return ""
	}
	if g := c.Route.Gateway; g != "" {
		if p.Spec.Peers[g] == nil {
			return ""
		}
		return g
	}
	found := ""
	for _, g := range spec.Gateways {
		if p.Spec.Peers[g] == nil {
			continue
		}
		if found != "" {
			return ""
		}
		found = g
	}
	return found
}

// PeerMeshed reports whether a peer has a mesh proxy of any kind.
func PeerMeshed(x *spec.Peer) bool { return x.Mesh == "sidecar" || x.Mesh == "ambient" }
