package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/compile/implied"
	"github.com/intelgraph/bulwark/internal/spec"
)

// End is one side of a flow.
type End struct {
	// Name is the component, the peer, or what an implied flow reaches: api-server, istiod.
	Name string
	// Namespace and Labels say which pods; no labels means every pod of the namespace. Both are empty outside the cluster.
	Namespace string
	Labels    map[string]string
	// CIDRs are addresses outside the cluster. An End without Namespace and CIDRs is any address at all.
	CIDRs []string
}

// Port is a port with its protocol (TCP, UDP or SCTP).
type Port struct {
	Port     int32
	Protocol string
}

// Flow is traffic that NetworkPolicies let through, by pods and ports, whole: no flow of this list needs another layer
// to be possible.
type Flow struct {
	From, To End
	// PortName is the port's name in the spec; "" for implied flows that have none.
	PortName string
	Ports    []Port
	Why      []artifact.Cause
}

// What implied flows reach.
const (
	apiServer = "api-server"
	istiod    = "istiod"
)

// hbonePort carries everything between ambient workloads (istio.io, "Ambient and Kubernetes NetworkPolicy").
const hbonePort = 15008

// Flows lists what NetworkPolicies can express of the spec's flows and of the implied ones, sorted, and the gaps: what
// they cannot express, or only in part. DNS is not among them; every pod may ask it.
func Flows(p *spec.Platform) ([]Flow, []artifact.Gap) {
	b := &builder{p: p, flows: map[string]*Flow{}, plain: map[string]artifact.Cause{}, ruled: map[string]artifact.Cause{}}
	for i, f := range p.Spec.Flows {
		b.declared(i, f)
	}
	b.routes()
	b.askers()
	b.mesh()
	b.rotators()
	b.voided()
	out := make([]Flow, 0, len(b.flows))
	for _, k := range spec.Sorted(b.flows) {
		f := b.flows[k]
		slices.SortFunc(f.Ports, func(a, b Port) int {
			return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
		})
		f.Ports = slices.Compact(f.Ports)
		out = append(out, *f)
	}
	return out, b.part.Gaps
}

type builder struct {
	p     *spec.Platform
	flows map[string]*Flow
	// routed has the components and ports that a flow from the route or its gateway names: "component:port".
	routed map[string]bool
	// plain and ruled have the causes of flows without and with http rules, by "from>to:port".
	plain, ruled map[string]artifact.Cause
	part         artifact.Part
}

// add puts a flow in; the same pods and ports from several causes become one flow.
func (b *builder) add(f Flow) {
	k := f.key()
	if old := b.flows[k]; old != nil {
		old.Ports = append(old.Ports, f.Ports...)
		old.Why = append(old.Why, f.Why...)
		return
	}
	b.flows[k] = &f
}

func (f *Flow) key() string {
	return f.From.Namespace + "/" + f.From.Name + ">" + f.To.Namespace + "/" + f.To.Name + ":" + f.PortName
}

// String gives "maestro → postgres:sql".
func (f *Flow) String() string { return arrow(f.From.Name, f.To.Name, f.PortName) }

func arrow(from, to, port string) string {
	if port == "" {
		return from + " → " + to
	}
	return from + " → " + to + ":" + port
}

func (b *builder) component(name string) (End, *spec.Component) {
	c := b.p.Spec.Components[name]
	if c == nil {
		return End{}, nil
	}
	return End{Name: name, Namespace: c.Namespace, Labels: map[string]string{spec.NameLabel: name}}, c
}

func (b *builder) peer(name string) (End, *spec.Peer) {
	x := b.p.Spec.Peers[name]
	if x == nil {
		return End{}, nil
	}
	return End{Name: name, Namespace: x.Namespace, Labels: x.Labels}, x
}

// declared adds one flow of the spec: each source to each target.
func (b *builder) declared(i int, f *spec.Flow) {
	why := implied.Why(b.p, fmt.Sprintf("spec.flows[%d]", i))
	for _, t := range f.Targets {
		for _, from := range f.From {
			b.pair(from, t, f, why)
		}
	}
}

func (b *builder) pair(from string, t spec.Target, f *spec.Flow, why artifact.Cause) {
	var to End
	var toName string
	meshed := false // is the destination port inside the mesh?
	var target *spec.Component
	var targetPeer *spec.Peer
	switch {
	case t.Component != "":
		to, target = b.component(t.Component)
		if target == nil {
			return
		}
		toName, meshed = t.Component, b.p.Spec.InMesh(target, t.PortName)
	case t.Peer != "":
		to, targetPeer = b.peer(t.Peer)
		if targetPeer == nil {
			return
		}
		toName, meshed = t.Peer, implied.PeerMeshed(targetPeer)
	case t.CIDR != "":
		to, toName = End{Name: cidrName(t.CIDR), CIDRs: []string{t.CIDR}}, t.CIDR
	default:
		toName = t.Host
	}
	portName := t.PortName
	if portName == "" {
		portName = fmt.Sprint(t.Port)
	}

	if from == "route" || target != nil && from == implied.Gateway(b.p, target) {
		if target == nil {
			b.part.Gap(artifact.Network, arrow("route", toName, portName), "closed: only components of the platform have a route", why)
			return
		}
		if b.routed == nil {
			b.routed = map[string]bool{}
		}
		b.routed[t.Component+":"+t.PortName] = true
		g := implied.Gateway(b.p, target)
		if g == "" {
			b.part.Gap(artifact.Network, arrow("route", toName, portName), "closed: no peer is known to serve the route; name it with `route.gateway`", why)
			return
		}
		from = g
	}
	src, source := b.component(from)
	var sourcePeer *spec.Peer
	if source == nil {
		if src, sourcePeer = b.peer(from); sourcePeer == nil {
			return
		}
	}
	if !b.ours(src) && !b.ours(to) {
		b.part.Gap(artifact.Network, arrow(from, toName, portName), "neither end is in a namespace of the platform; its policies say nothing about this flow", why)
		return
	}

	subject := arrow(from, toName, portName)
	if t.Host != "" {
		reason := "closed: a NetworkPolicy knows addresses, not names; the flow does not work until the Cilium layer is there"
		if source != nil && source.NeedsToken() && len(b.p.Spec.ControlPlane.CIDRs) == 0 && slices.Contains(apiPorts(b.p), t.Port) && t.Protocol != "UDP" {
			reason = "open wider than asked: a NetworkPolicy knows addresses, not names, and the allowance for the API server opens any address on this port; set spec.controlPlane.cidrs to close it"
		}
		b.part.Gap(artifact.Network, subject, reason+b.noCilium(), why)
		return
	}
	pair := from + ">" + toName + ":" + portName
	if len(f.HTTP) > 0 {
		if _, twice := b.ruled[pair]; !twice {
			b.ruled[pair] = why
		}
		if !meshed {
			b.part.Gap(artifact.Network, subject, "closed: only Cilium can tell the allowed requests apart, and a plain allowance for the port would void its rule; the flow does not work until the Cilium layer is there"+b.noCilium(), why)
			return
		}
		b.part.Gap(artifact.Mesh, subject, "open by pod and port only; "+httpParts(f.HTTP)+" are not enforced until the mesh layer is there", why)
	} else if _, twice := b.plain[pair]; !twice {
		b.plain[pair] = why
	}
	out := Flow{From: src, To: to, PortName: portName, Ports: []Port{{t.Port, protocol(t.Protocol)}}, Why: []artifact.Cause{why}}
	if meshed && (ambient(targetPeer) || ambient(sourcePeer)) {
		out.Ports = append(out.Ports, Port{hbonePort, "TCP"})
		b.part.Gap(artifact.Network, subject, "an ambient peer sends everything through TCP 15008, where a NetworkPolicy cannot see the port inside; the port is not narrowed until the mesh layer is there", why)
	}
	for _, x := range []struct {
		name string
		peer *spec.Peer
	}{{from, sourcePeer}, {toName, targetPeer}} {
		if x.peer != nil && len(x.peer.Labels) == 0 {
			b.part.Gap(artifact.Network, subject, fmt.Sprintf("the peer %s has no labels, so every pod of namespace %s counts as it", x.name, x.peer.Namespace), implied.Why(b.p, implied.Path("spec", "peers", x.name)))
		}
	}
	b.add(out)
}

func ambient(x *spec.Peer) bool { return x != nil && x.Mesh == "ambient" }

func (b *builder) noCilium() string {
	if b.p.Spec.HasFeature("cilium") {
		return ""
	}
	return ", and spec.has does not name cilium"
}

// ours reports whether an end's pods are isolated by our default deny, so that they need an allowance of ours.
func (b *builder) ours(e End) bool { return b.p.Spec.Namespaces[e.Namespace] != nil }

// routes adds the gateway of each route that no flow from "route" names.
func (b *builder) routes() {
	for _, name := range spec.Sorted(b.p.Spec.Components) {
		to, c := b.component(name)
		if c.Route == nil || b.routed[name+":"+c.Route.Port] {
			continue
		}
		why := implied.WhyImplied(b.p, implied.Path("spec", "components", name, "route"), "the gateway reaches the route's port")
		pt := c.Ports[c.Route.Port]
		g := implied.Gateway(b.p, c)
		if g == "" || pt == nil {
			b.part.Gap(artifact.Network, arrow("route", name, c.Route.Port), "closed: no peer is known to serve the route; name it with `route.gateway`", why)
			continue
		}
		from, _ := b.peer(g)
		b.add(Flow{From: from, To: to, PortName: c.Route.Port, Ports: []Port{{pt.Port, protocol(pt.Protocol)}}, Why: []artifact.Cause{why}})
	}
}

// askers lets out to the API server whoever may ask it.
func (b *builder) askers() {
	open := []string{}
	ask := func(from End, why artifact.Cause) {
		to := End{Name: apiServer, CIDRs: b.p.Spec.ControlPlane.CIDRs}
		f := Flow{From: from, To: to, Why: []artifact.Cause{why}}
		for _, port := range apiPorts(b.p) {
			f.Ports = append(f.Ports, Port{port, "TCP"})
		}
		if len(to.CIDRs) == 0 && !slices.Contains(open, from.Name) {
			open = append(open, from.Name)
		}
		b.add(f)
	}
	for _, name := range spec.Sorted(b.p.Spec.Components) {
		if from, c := b.component(name); c.NeedsToken() {
			ask(from, implied.WhyImplied(b.p, implied.Path("spec", "components", name, "mayAsk"), "it reaches the API server"))
		}
	}
	for _, r := range implied.Rotations(b.p) {
		ask(b.rotator(r), implied.WhyImplied(b.p, "spec.secrets.rotation", "the rotator reaches the API server"))
	}
	why := implied.Why(b.p, "spec.controlPlane")
	switch {
	case len(open) > 0:
		b.part.Gap(artifact.Network, strings.Join(open, ", ")+" → "+apiServer, fmt.Sprintf("any address is open on TCP %s, the internet too, because the spec does not say where the API server is; set spec.controlPlane.cidrs", portList(apiPorts(b.p))), why)
	case len(b.p.Spec.ControlPlane.CIDRs) > 0 && b.p.Spec.HasFeature("cilium"):
		b.part.Gap(artifact.Network, apiServer, "Cilium does not match nodes by address unless its policy-cidr-match-mode has `nodes`; without it the API server may be out of reach", why)
	}
}

// apiPorts are the API server's ports.
func apiPorts(p *spec.Platform) []int32 {
	if len(p.Spec.ControlPlane.Ports) > 0 {
		return p.Spec.ControlPlane.Ports
	}
	return []int32{443, 6443}
}

func portList(ports []int32) string {
	s := make([]string, len(ports))
	for i, p := range ports {
		s[i] = fmt.Sprint(p)
	}
	return strings.Join(s, " and ")
}

// mesh lets proxies out to the mesh's control plane, where they get their certificates and routes.
func (b *builder) mesh() {
	if b.p.Spec.Mesh == nil || b.p.Spec.Mesh.Kind != "istio" {
		return
	}
	to := End{Name: istiod, Namespace: "istio-system", Labels: map[string]string{"app": "istiod"}}
	for _, name := range spec.Sorted(b.p.Spec.Components) {
		if from, c := b.component(name); b.p.Spec.InMesh(c, "") {
			why := implied.WhyImplied(b.p, "spec.mesh", "the proxy of "+name+" reaches istiod")
			b.add(Flow{From: from, To: to, Ports: []Port{{15012, "TCP"}}, Why: []artifact.Cause{why}})
		}
	}
}

func (b *builder) rotator(r implied.Rotation) End {
	return End{Name: implied.Rotator, Namespace: r.Namespace, Labels: map[string]string{spec.NameLabel: implied.Rotator}}
}

// rotators lets the rotator out to the secret store and to what it renews the passwords of.
func (b *builder) rotators() {
	for _, r := range implied.Rotations(b.p) {
		from := b.rotator(r)
		if st := b.p.Spec.Secrets.Store; st != nil && st.Vault != nil {
			to, x := b.peer(st.Vault.Peer)
			why := implied.WhyImplied(b.p, "spec.secrets.store.vault", "the rotator writes to the store")
			if x != nil {
				name, port := vaultPort(x)
				b.add(Flow{From: from, To: to, PortName: name, Ports: []Port{port}, Why: []artifact.Cause{why}})
			}
		}
		for _, db := range r.Databases {
			to, c := b.component(db)
			name, port, ok := databasePort(c)
			why := implied.WhyImplied(b.p, implied.Path("spec", "components", db), "the rotator logs in to it")
			if !ok {
				b.part.Gap(artifact.Network, arrow(implied.Rotator, db, ""), "closed: the component has no port, so the rotator cannot reach it", why)
				continue
			}
			b.add(Flow{From: from, To: to, PortName: name, Ports: []Port{port}, Why: append([]artifact.Cause{why}, r.Why...)})
		}
	}
}

// vaultPort is the peer's port named api, or its only one, or Vault's own 8200.
func vaultPort(x *spec.Peer) (string, Port) {
	if p := x.Ports["api"]; p != nil {
		return "api", Port{p.Port, protocol(p.Protocol)}
	}
	if len(x.Ports) == 1 {
		for name, p := range x.Ports {
			return name, Port{p.Port, protocol(p.Protocol)}
		}
	}
	return "api", Port{8200, "TCP"}
}

// databasePort is the port 5432, or the one named sql or postgres, or the only one.
func databasePort(c *spec.Component) (string, Port, bool) {
	names := spec.Sorted(c.Ports)
	for _, match := range []func(string) bool{
		func(n string) bool { return c.Ports[n].Port == 5432 },
		func(n string) bool { return n == "sql" || n == "postgres" },
		func(string) bool { return len(names) == 1 },
	} {
		for _, n := range names {
			if match(n) {
				return n, Port{c.Ports[n].Port, protocol(c.Ports[n].Protocol)}, true
			}
		}
	}
	return "", Port{}, false
}

// voided states the http rules that a flow without rules between the same two ends makes void: allowances add up.
func (b *builder) voided() {
	for _, k := range spec.Sorted(b.ruled) {
		if plain, both := b.plain[k]; both {
			from, to, _ := strings.Cut(k, ">")
			b.part.Gap(artifact.Network, from+" → "+to, "the http rules are void: another flow between the same ends has none, and allowances add up", b.ruled[k], plain)
		}
	}
}

func protocol(s string) string {
	if s == "" {
		return "TCP"
	}
	return s
}

// cidrName makes part of an object's name of an address range.
func cidrName(cidr string) string {
	if p, err := netip.ParsePrefix(cidr); err == nil {
		cidr = p.Masked().String()
	}
	return "cidr-" + strings.Trim(strings.NewReplacer("/", "-", ".", "-", ":", "-").Replace(strings.ToLower(cidr)), "-")
}

// httpParts names what http rules ask for.
func httpParts(rules []*spec.HTTPRule) string {
	var parts []string
	add := func(has bool, name string) {
		if has && !slices.Contains(parts, name) {
			parts = append(parts, name)
		}
	}
	any := func(f func(*spec.HTTPRule) bool) bool { return slices.ContainsFunc(rules, f) }
	add(any(func(r *spec.HTTPRule) bool { return len(r.Methods) > 0 }), "methods")
	add(any(func(r *spec.HTTPRule) bool { return len(r.Paths) > 0 }), "paths")
	add(any(func(r *spec.HTTPRule) bool { return len(r.Headers) > 0 }), "headers")
	add(any(func(r *spec.HTTPRule) bool { return r.Token != nil }), "tokens")
	switch len(parts) {
	case 0:
		return "its http rules"
	case 1:
		return parts[0]
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}
