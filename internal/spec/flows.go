package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/intelgraph/bulwark/internal/source"
)

// flows checks that both ends of every flow exist, and that no layer is asked for what another makes impossible.
func (v *validator) flows(s cursor) {
	// Who may talk to whom without regard to the request, and who only with certain requests: the first would void the
	// second, because policies add up.
	plain, narrow := map[[2]string]int{}, map[[2]string]int{}
	for i, f := range v.p.Spec.Flows {
		c := s.field("flows").index(i)
		if !c.given() {
			continue
		}
		http := c.field("http")
		for j, name := range f.From {
			v.from(s, c.field("from").index(j), name)
		}
		for j, to := range f.To {
			at := c.field("to").index(j)
			t, ok := v.to(s, at, to)
			if !ok {
				continue
			}
			if http.given() && t.Component == "" {
				v.errAt(http.key, "remove http; requests are judged where they arrive, and that is not ours", "http rules to %s", quote(to))
			}
			if http.given() && t.Component != "" && t.Protocol != "TCP" {
				v.errAt(http.key, "remove http", "http rules to %s, which is %s", quote(to), t.Protocol)
			}
			for k, name := range f.From {
				v.pair(s, c, c.field("from").index(k), at, name, t, to)
				source := name
				if name == "route" && t.Component != "" && v.p.Spec.Components[t.Component].Route != nil {
					source = v.p.Spec.Components[t.Component].Route.Gateway
				}
				key := [2]string{source, to}
				mine, other := plain, narrow
				if http.given() {
					mine, other = narrow, plain
				}
				if line := other[key]; line != 0 {
					v.errorf(at, "keep one of the two", "%s to %s is allowed with http rules and without (line %d); the one without would void them", quote(source), quote(to), line)
				}
				if !http.given() && mine[key] != 0 {
					v.errorf(at, "remove one of the two", "%s to %s is allowed already (line %d)", quote(source), quote(to), mine[key])
				}
				mine[key] = at.node.Line
			}
			if t.Component != "" {
				v.http(http, f, t)
			}
		}
	}
}

func (v *validator) from(s, c cursor, name string) {
	spec := &v.p.Spec
	if name == "" || name == "route" || spec.Components[name] != nil || spec.Peers[name] != nil {
		return
	}
	if !s.field("components").isMapping() || !s.field("peers").isMapping() {
		return
	}
	if before, _, ok := strings.Cut(name, ":"); ok && (spec.Components[before] != nil || spec.Peers[before] != nil) {
		v.errorf(c, "write "+before, "from %s names a port; only the target has one", quote(name))
		return
	}
	v.errorf(c, source.DidYouMean(name, v.ends("route")), "unknown component or peer %s", quote(name))
}

// ends lists the names that a flow may have at its ends.
func (v *validator) ends(more ...string) []string {
	out := append(append(Sorted(v.p.Spec.Components), Sorted(v.p.Spec.Peers)...), more...)
	slices.Sort(out)
	return slices.Compact(out)
}

// to checks one target and says what is wrong with it.
func (v *validator) to(s, c cursor, to string) (Target, bool) {
	spec := &v.p.Spec
	t, ok := spec.target(to)
	if to == "" {
		return t, false
	}
	if rest, is := strings.CutPrefix(to, "dns:"); is {
		name, _, portOK := cutPort(rest)
		if !portOK {
			v.errorf(c, "write dns:HOST:PORT, such as dns:api.example.com:443", "to %s has no port from 1 to 65535", quote(to))
			return t, false
		}
		if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
			v.errorf(c, "write cidr:"+strings.Trim(name, "[]")+"/32:PORT", "to %s names an address, not a host", quote(to))
			return t, false
		}
		if strings.Contains(name, "*") {
			v.errorf(c, "name each host", "to %s: a pattern would allow hosts that nobody has thought of", quote(to))
			return t, false
		}
		if why, _ := host.wrong(name); why != "" || !strings.Contains(name, ".") {
			v.errorf(c, "write dns:HOST:PORT, such as dns:api.example.com:443", "to %s: %s is not a host outside the cluster", quote(to), quote(name))
			return t, false
		}
		return t, true
	}
	if rest, is := strings.CutPrefix(to, "cidr:"); is {
		prefix, _, portOK := cutPort(rest)
		if !portOK {
			v.errorf(c, "write cidr:PREFIX:PORT, such as cidr:10.0.0.0/24:443", "to %s has no port from 1 to 65535", quote(to))
			return t, false
		}
		if why, hint := cidr.wrong(prefix); why != "" {
			v.errorf(c, hint, "to %s: %s %s", quote(to), quote(prefix), why)
			return t, false
		}
		if strings.HasSuffix(prefix, "/0") {
			v.errorf(c, "name the hosts with dns:HOST:PORT, or the networks", "to %s is every address there is", quote(to))
			return t, false
		}
		return t, true
	}
	if ok {
		return t, true
	}
	if !s.field("components").isMapping() || !s.field("peers").isMapping() {
		return t, false
	}
	name, port, hasPort := strings.Cut(to, ":")
	var ports []string
	switch {
	case spec.Components[name] != nil:
		ports = Sorted(spec.Components[name].Ports)
	case spec.Peers[name] != nil:
		ports = Sorted(spec.Peers[name].Ports)
	default:
		hint := source.DidYouMean(name, v.ends())
		if strings.Contains(name, ".") {
			hint = "a host outside the cluster is dns:HOST:PORT"
		}
		v.errorf(c, hint, "unknown component or peer %s", quote(name))
		return t, false
	}
	switch {
	case len(ports) == 0:
		v.errorf(c, "declare its ports", "%s has no ports", quote(name))
	case !hasPort || port == "":
		v.errorf(c, "write "+name+":"+ports[0], "to %s names no port", quote(to))
	default:
		v.errorf(c, source.DidYouMean(port, ports), "%s has no port %s", quote(name), quote(port))
	}
	return t, false
}

// pair checks one source against one target that exists.
func (v *validator) pair(s, flow, from, to cursor, name string, t Target, text string) {
	spec := &v.p.Spec
	target := spec.Components[t.Component]
	if name == "route" {
		switch {
		case target == nil:
			v.errorf(to, "only a component has a route", "from route to %s, which has none", quote(text))
			return
		case target.Route == nil:
			v.errorf(to, "add route: to the component, or name the source", "from route to %s, but component %s has no route", quote(text), quote(t.Component))
			return
		case target.Route.Port != t.PortName && target.Ports[target.Route.Port] != nil:
			v.errorf(to, fmt.Sprintf("write %s:%s", t.Component, target.Route.Port), "from route to %s, but the route of %s leads to port %s", quote(text), t.Component, quote(target.Route.Port))
			return
		}
		name = target.Route.Gateway
	}
	source, peer := spec.Components[name], spec.Peers[name]
	if source == nil && peer == nil {
		return
	}
	if source == nil && target == nil {
		v.errorf(from, "remove the flow; a peer's traffic is not ours to allow", "from %s to %s: neither end is a component", quote(name), quote(text))
		return
	}
	if target == nil || spec.Mesh == nil || spec.Mesh.MTLS != "strict" || !spec.InMesh(target, t.PortName) {
		return
	}
	outside := source != nil && source.Mesh == "none" || peer != nil && peer.Mesh == "none"
	if outside {
		v.errorf(to, fmt.Sprintf("give the port mesh: none, or take %s into the mesh", name), "%s is outside the mesh and cannot speak the mutual TLS that %s asks for", quote(name), quote(text))
	}
}

// http checks that the layer that owns a port's requests can say what the rules say.
func (v *validator) http(c cursor, f *Flow, t Target) {
	target := v.p.Spec.Components[t.Component]
	// Without a mesh in the platform nobody owns tokens; the compiler states that as not protected. A port that was taken
	// out of the mesh and still asks for a token contradicts itself.
	outside := v.p.Spec.Mesh != nil && !v.p.Spec.InMesh(target, t.PortName)
	for i, r := range f.HTTP {
		at := c.index(i)
		if !at.given() {
			continue
		}
		if len(r.Methods) == 0 && len(r.Paths) == 0 && len(r.Headers) == 0 && r.Token == nil {
			v.errorf(at, "add methods, paths, headers or token, or remove http", "a rule that allows every request")
		}
		if !outside {
			continue
		}
		if tok := at.field("token"); tok.given() {
			v.errAt(tok.key, "take the port into the mesh, or let the component check the token", "port %s is outside the mesh, and only the mesh checks tokens", quote(t.Component+":"+t.PortName))
		}
		for _, h := range at.field("headers").entries() {
			if n := h.resolved(); n != nil && n.Value != "*" && strings.Contains(n.Value, "*") {
				v.errorf(h, "write the exact value, or * for any", "port %s is outside the mesh, where a header's value is exact", quote(t.Component+":"+t.PortName))
			}
		}
	}
}
