package spec

import (
	"slices"
	"strings"
)

// The defaults that are more than a word. Each is what a careful person would have written.
const (
	// DefaultKubernetes is the newest minor version whose Pod Security this build carries.
	DefaultKubernetes = "1.37"
	// DefaultUser is the nonroot user of distroless images.
	DefaultUser int64 = 65532

	DefaultCPU         = "100m"
	DefaultMemory      = "128Mi"
	DefaultMemoryLimit = "512Mi"

	// The guide's limits for what the outside may ask.
	DefaultRequestsPerMinute = 1000
	DefaultConnections       = 100
	DefaultHeaderTimeout     = "10s"
	DefaultBodyTimeout       = "30s"
	// DefaultMaxBody is nginx's own, so that a route without the field changes nothing.
	DefaultMaxBody = "1Mi"

	DefaultRefresh  = "1h"
	DefaultOverlap  = "3h"
	DefaultTimeZone = "Etc/UTC"
	DefaultBudget   = "1 pod per component per hour, never the last ready one"
)

// Gateways are the names by which a peer is taken for the gateway that serves routes.
var Gateways = []string{"gateway", "ingress-nginx", "istio-ingress"}

// complete fills in the defaults. It changes nothing that was written, and makes what a mapping may leave out readable
// without nil checks: entries of maps and lists, Resources, and everything inside a Route. A section whose absence says
// something stays nil: Mesh, Secrets, Secrets.Store, Rotation, Scan, Detection, Notify, Route, CORS.
func (p *Platform) complete() {
	s := &p.Spec
	set(&s.LabelPrefix, p.Metadata.Name+".bulwark.dev")
	set(&s.Kubernetes, DefaultKubernetes)
	set(&s.Chart, p.Metadata.Name)
	set(&s.Admission.Enforce, "native")
	if len(s.ControlPlane.Ports) == 0 {
		s.ControlPlane.Ports = []int32{443, 6443}
	}
	for _, n := range s.Namespaces {
		set(&n.Level, "high")
		set(&n.PodSecurity, "restricted")
	}
	for _, x := range s.Peers {
		set(&x.Mesh, "none")
		completePorts(x.Ports)
	}
	if s.Mesh != nil {
		set(&s.Mesh.Kind, "istio")
		set(&s.Mesh.MTLS, "strict")
	}
	only := ""
	if len(s.Namespaces) == 1 {
		only = Sorted(s.Namespaces)[0]
	}
	for _, name := range Sorted(s.Components) {
		c := s.Components[name]
		set(&c.Namespace, only)
		set(&c.Kind, "Deployment")
		set(&c.ServiceAccount, name)
		if c.Replicas == nil && c.Kind != "DaemonSet" {
			c.Replicas = new(int32(1))
		}
		if c.User == nil {
			c.User = new(DefaultUser)
		}
		if c.Group == nil {
			c.Group = new(*c.User)
		}
		if c.Resources == nil {
			c.Resources = &Resources{At: c.At}
		}
		set(&c.Resources.CPU, DefaultCPU)
		set(&c.Resources.Memory, DefaultMemory)
		set(&c.Resources.MemoryLimit, DefaultMemoryLimit)
		completePorts(c.Ports)
		if c.Route != nil {
			s.completeRoute(c.Route)
		}
	}
	s.completeTrust()
	for _, f := range s.Flows {
		f.Targets = nil
		for _, to := range f.To {
			if t, ok := s.target(to); ok {
				f.Targets = append(f.Targets, t)
			}
		}
	}
	if x := s.Secrets; x != nil {
		set(&x.Refresh, DefaultRefresh)
		if x.Store != nil && x.Store.Vault != nil {
			set(&x.Store.Vault.Mount, "kubernetes")
			set(&x.Store.Vault.Role, p.Metadata.Name)
			set(&x.Store.Vault.Audience, "vault")
		}
		if x.Rotation != nil {
			set(&x.Rotation.TimeZone, DefaultTimeZone)
			set(&x.Rotation.Overlap, DefaultOverlap)
		}
		if x.Scan != nil {
			set(&x.Scan.TimeZone, DefaultTimeZone)
		}
	}
	if s.Detection != nil && len(s.Detection.Rules) == 0 {
		s.Detection.Rules = []string{"builtin"}
	}
	for _, r := range s.Response {
		set(&r.Budget, DefaultBudget)
	}
	if n := s.Notify; n != nil {
		if n.Slack != nil {
			set(&n.Slack.AtLeast, "medium")
		}
		if n.PagerDuty != nil {
			set(&n.PagerDuty.AtLeast, "critical")
		}
	}
}

func completePorts(ports map[string]*Port) {
	for _, x := range ports {
		set(&x.Protocol, "TCP")
	}
}

func (s *Spec) completeRoute(r *Route) {
	if r.TLS != nil {
		set(&r.TLS.Min, "1.3")
	}
	if r.RateLimit == nil {
		r.RateLimit = &RateLimit{At: r.At}
	}
	setInt(&r.RateLimit.RequestsPerMinute, DefaultRequestsPerMinute)
	setInt(&r.RateLimit.Burst, 2*r.RateLimit.RequestsPerMinute)
	set(&r.MaxBody, DefaultMaxBody)
	if r.Timeouts == nil {
		r.Timeouts = &Timeouts{At: r.At}
	}
	set(&r.Timeouts.Header, DefaultHeaderTimeout)
	set(&r.Timeouts.Body, DefaultBodyTimeout)
	if r.Connections == nil {
		r.Connections = &Connections{At: r.At}
	}
	setInt(&r.Connections.PerClient, DefaultConnections)
	if r.Gateway == "" {
		if g := s.gateways(); len(g) == 1 {
			r.Gateway = g[0]
		}
	}
}

// gateways are the peers that are gateways by their name.
func (s *Spec) gateways() []string {
	var out []string
	for _, g := range Gateways {
		if s.Peers[g] != nil {
			out = append(out, g)
		}
	}
	return out
}

// completeTrust ends prefixes with a slash, so that they match on a path boundary. Without registries, the folders of
// the components' own images are trusted: nothing that the spec does not run.
func (s *Spec) completeTrust() {
	t := &s.Trust
	for i, r := range t.Registries {
		if !strings.HasSuffix(r, "/") {
			t.Registries[i] = r + "/"
		}
	}
	if len(t.Registries) > 0 {
		return
	}
	for _, name := range Sorted(s.Components) {
		if image := s.Components[name].Image; strings.Contains(image, "/") {
			t.Registries = append(t.Registries, image[:strings.LastIndex(image, "/")+1])
		}
	}
	slices.Sort(t.Registries)
	t.Registries = slices.Compact(t.Registries)
}

func set(s *string, to string) {
	if *s == "" {
		*s = to
	}
}

func setInt(i *int, to int) {
	if *i == 0 {
		*i = to
	}
}
