package spec

import (
	"net/netip"
	"strconv"
	"strings"
)

// target parses one entry of Flow.To; ok is false when it names nothing that exists. The validator says why.
func (s *Spec) target(to string) (t Target, ok bool) {
	if rest, is := strings.CutPrefix(to, "dns:"); is {
		host, port, ok := cutPort(rest)
		return Target{Host: host, Port: port, Protocol: "TCP"}, ok && host != ""
	}
	if rest, is := strings.CutPrefix(to, "cidr:"); is {
		cidr, port, ok := cutPort(rest)
		if _, err := netip.ParsePrefix(cidr); err != nil {
			ok = false
		}
		return Target{CIDR: cidr, Port: port, Protocol: "TCP"}, ok
	}
	name, port, _ := strings.Cut(to, ":")
	if c := s.Components[name]; c != nil {
		if x := c.Ports[port]; x != nil {
			return Target{Component: name, PortName: port, Port: x.Port, Protocol: x.Protocol}, true
		}
	} else if peer := s.Peers[name]; peer != nil {
		if x := peer.Ports[port]; x != nil {
			return Target{Peer: name, PortName: port, Port: x.Port, Protocol: x.Protocol}, true
		}
	}
	return Target{}, false
}

// cutPort splits at the last colon, because an IPv6 prefix has colons of its own.
func cutPort(s string) (before string, port int32, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, 0, false
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 16)
	return s[:i], int32(n), err == nil && n > 0 && s[i+1] != '0'
}

// InMesh reports whether a port of a component belongs to the mesh; then the mesh owns its L7 rules. Outside it, Cilium
// may. An unknown port is judged by its component.
func (s *Spec) InMesh(c *Component, port string) bool {
	if s.Mesh == nil || c == nil || c.Mesh == "none" {
		return false
	}
	x := c.Ports[port]
	return x == nil || x.Mesh != "none"
}
