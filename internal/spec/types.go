// Package spec is the Platform: what a user writes about a Kubernetes platform, loaded strictly, with the place of
// every part kept, defaults filled in and every reference checked.
package spec

import (
	"maps"
	"slices"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/source"
)

// The version and kind of the spec that this package reads.
const (
	APIVersion = "bulwark.dev/v1alpha1"
	Kind       = "Platform"
)

// Platform is a whole spec after Load: references are checked and defaults filled in, so that readers need neither nil
// checks nor defaults of their own.
type Platform struct {
	At         source.Pos `json:"-"`
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Metadata   Metadata   `json:"metadata"`
	Spec       Spec       `json:"spec"`

	// File is the spec's file as the user named it.
	File string `json:"-"`

	tree source.Tree
}

// Metadata names the platform.
type Metadata struct {
	At source.Pos `json:"-"`
	// Name is a DNS label of at most 40 characters; it is part of the names of what is generated.
	Name string `json:"name"`
}

// Spec is the body of a Platform.
type Spec struct {
	At source.Pos `json:"-"`
	// LabelPrefix is the DNS domain of the platform's own labels, such as security.intelgraph.ai. Default: NAME.bulwark.dev.
	LabelPrefix string `json:"labelPrefix"`
	// Kubernetes is the cluster's minor version, "1.37"; it pins Pod Security. Never "latest".
	Kubernetes string `json:"kubernetes"`
	// Chart is the name of the Helm chart that is compiled, a DNS label: charts/CHART/values.yaml. Default: the platform's name.
	Chart string `json:"chart"`
	// Has lists what the cluster runs beside Kubernetes; see Features.
	Has        []string              `json:"has"`
	Admission  Admission             `json:"admission"`
	Trust      Trust                 `json:"trust"`
	Namespaces map[string]*Namespace `json:"namespaces"`
	Peers      map[string]*Peer      `json:"peers"`
	Mesh       *Mesh                 `json:"mesh"`
	Components map[string]*Component `json:"components"`
	Flows      []*Flow               `json:"flows"`
	Secrets    *Secrets              `json:"secrets"`
	Teams      map[string]*Team      `json:"teams"`
	Detection  *Detection            `json:"detection"`
	Response   []*Response           `json:"response"`
	Notify     *Notify               `json:"notify"`
	Compliance []string              `json:"compliance"`
	Exceptions []*Exception          `json:"exceptions"`
	// ControlPlane says how pods reach the API server; only needed where a network policy must name it. Default: any
	// address on 443 and 6443.
	ControlPlane ControlPlane `json:"controlPlane"`
}

// Features are the values that `has` accepts.
var Features = []string{"istio", "cilium", "external-secrets", "sealed-secrets", "kyverno", "gatekeeper", "falco", "prometheus-operator", "gateway-api", "ingress-nginx", "security-profiles-operator", "static-admission"}

// HasFeature reports whether the cluster runs a feature.
func (s *Spec) HasFeature(name string) bool { return slices.Contains(s.Has, name) }

// ControlPlane is where the API server answers.
type ControlPlane struct {
	At source.Pos `json:"-"`
	// CIDRs are the addresses of the API server's endpoints, after the Service's translation.
	CIDRs []string `json:"cidrs"`
	// Ports default to 443 and 6443.
	Ports []int32 `json:"ports"`
}

// Admission names who enforces the policies: one engine; the others only report.
type Admission struct {
	At source.Pos `json:"-"`
	// Enforce is "native" (default), "kyverno" or "gatekeeper".
	Enforce string   `json:"enforce"`
	Audit   []string `json:"audit"`
}

// Trust says which images may run.
type Trust struct {
	At source.Pos `json:"-"`
	// Registries are prefixes "host/path/" matched on a path boundary. Load adds the trailing slash.
	Registries []string  `json:"registries"`
	Signers    []*Signer `json:"signers"`
	// Attestations must accompany an image: spdx, cyclonedx, vulnerabilities, provenance.
	Attestations []string `json:"attestations"`
}

// Signer is a key or a keyless identity whose signatures count.
type Signer struct {
	At      source.Pos `json:"-"`
	Name    string     `json:"name"`
	Key     string     `json:"key"`
	Keyless *Keyless   `json:"keyless"`
}

// Keyless is an exact OIDC identity.
type Keyless struct {
	At      source.Pos `json:"-"`
	Issuer  string     `json:"issuer"`
	Subject string     `json:"subject"`
}

// Namespace is one of ours.
type Namespace struct {
	At source.Pos `json:"-"`
	// Level is the value of the LABELPREFIX/level label: low, medium or high. Default: high.
	Level string `json:"level"`
	// PodSecurity is the Pod Security level: restricted (default), baseline or privileged.
	PodSecurity string `json:"podSecurity"`
}

// Peer is somebody that flows name and that is not ours to harden.
type Peer struct {
	At             source.Pos        `json:"-"`
	Namespace      string            `json:"namespace"`
	ServiceAccount string            `json:"serviceAccount"`
	Labels         map[string]string `json:"labels"`
	Ports          map[string]*Port  `json:"ports"`
	// Mesh is "sidecar", "ambient" or "none" (default).
	Mesh string `json:"mesh"`
}

// Mesh is the service mesh.
type Mesh struct {
	At   source.Pos `json:"-"`
	Kind string     `json:"kind"` // istio
	MTLS string     `json:"mtls"` // strict (default), permissive
}

// Port is a port of a component or peer: a number, or a mapping with more to say.
type Port struct {
	At   source.Pos `json:"-"`
	Port int32      `json:"port"`
	// Protocol is TCP (default), UDP or SCTP.
	Protocol string `json:"protocol"`
	// Mesh is "" (as its component) or "none": then Cilium, not Istio, owns its L7 rules.
	Mesh string `json:"mesh"`
}

// Component is one workload of the platform.
type Component struct {
	At        source.Pos `json:"-"`
	Namespace string     `json:"namespace"`
	// Image without tag or digest; platform.lock has the digest.
	Image string `json:"image"`
	// Version is the tag that `bulwark lock` resolves to a digest, such as 1.4.2. Without it the image stays unlocked;
	// latest is not a version.
	Version string `json:"version"`
	// Base is the base image of its Dockerfile.
	Base string `json:"base"`
	// Runtime picks the syscall and process profile: see Runtimes.
	Runtime string `json:"runtime"`
	// Kind is Deployment (default), StatefulSet or DaemonSet.
	Kind     string `json:"kind"`
	Replicas *int32 `json:"replicas"`
	// User and Group are the numeric ids. Default: 65532, the nonroot user of distroless; Group defaults to User.
	User  *int64 `json:"user"`
	Group *int64 `json:"group"`
	// Ports by name; names are at most 15 characters, as Kubernetes wants them.
	Ports map[string]*Port `json:"ports"`
	// Writes are paths that get an emptyDir; Storage are paths that get a volume claim of that size.
	Writes  []string          `json:"writes"`
	Storage map[string]string `json:"storage"`
	// ServiceAccount defaults to the component's name.
	ServiceAccount string `json:"serviceAccount"`
	// MayAsk are its rights at the Kubernetes API. Its token is mounted only if there are any.
	MayAsk    []*Ask     `json:"mayAsk"`
	Secrets   []string   `json:"secrets"`
	Route     *Route     `json:"route"`
	Processes []string   `json:"processes"`
	Syscalls  *Syscalls  `json:"syscalls"`
	Mesh      string     `json:"mesh"` // "" (as the platform) or "none"
	Resources *Resources `json:"resources"`
	// Probe is the path that the kubelet asks for health on the first HTTP port; "" means a TCP probe.
	Probe string `json:"probe"`
}

// Runtimes are the values that `runtime` accepts.
var Runtimes = []string{"node", "go", "jvm", "python", "postgres", "redis", "nginx"}

// Syscalls extends the runtime's profile.
type Syscalls struct {
	At  source.Pos `json:"-"`
	Add []string   `json:"add"`
}

// Resources are a container's requests and limits, as Kubernetes quantities. Defaults: 100m, 128Mi and a memory limit of 512Mi.
type Resources struct {
	At          source.Pos `json:"-"`
	CPU         string     `json:"cpu"`
	Memory      string     `json:"memory"`
	MemoryLimit string     `json:"memoryLimit"`
}

// Ask is one right at the Kubernetes API, in the component's own namespace.
type Ask struct {
	At       source.Pos `json:"-"`
	Group    string     `json:"group"`
	Resource string     `json:"resource"`
	Names    []string   `json:"names"`
	Verbs    []string   `json:"verbs"`
}

// Route is how the outside reaches a component.
type Route struct {
	At          source.Pos   `json:"-"`
	Host        string       `json:"host"`
	Port        string       `json:"port"`
	TLS         *TLS         `json:"tls"`
	RateLimit   *RateLimit   `json:"rateLimit"`
	CORS        *CORS        `json:"cors"`
	MaxBody     string       `json:"maxBody"`
	Timeouts    *Timeouts    `json:"timeouts"`
	Connections *Connections `json:"connections"`
	// Gateway names the peer that serves routes. Default: the only peer named ingress-nginx, gateway or istio-ingress.
	Gateway string `json:"gateway"`
}

// TLS is the route's TLS.
type TLS struct {
	At     source.Pos `json:"-"`
	Min    string     `json:"min"`
	Secret string     `json:"secret"`
}

// RateLimit counts per client address and gateway replica.
type RateLimit struct {
	At                source.Pos `json:"-"`
	RequestsPerMinute int        `json:"requestsPerMinute"`
	Burst             int        `json:"burst"`
}

// CORS lists exact origins.
type CORS struct {
	At      source.Pos `json:"-"`
	Origins []string   `json:"origins"`
}

// Timeouts are durations such as 10s.
type Timeouts struct {
	At     source.Pos `json:"-"`
	Header string     `json:"header"`
	Body   string     `json:"body"`
}

// Connections bounds concurrent connections.
type Connections struct {
	At        source.Pos `json:"-"`
	PerClient int        `json:"perClient"`
}

// Flow is traffic that must be possible; what no flow declares must not be.
type Flow struct {
	At source.Pos `json:"-"`
	// From are components, peers or "route" (the gateway that serves the target's route).
	From Names `json:"from"`
	// To are "component:port", "peer:port", or "dns:HOST:PORT" outside the cluster, or "cidr:PREFIX:PORT".
	To   Names       `json:"to"`
	HTTP []*HTTPRule `json:"http"`

	// Targets are the parsed forms of To, in order. Load fills them.
	Targets []Target `json:"-"`
}

// Names is a list that may be written as a single name.
type Names []string

// Target is where a flow goes.
type Target struct {
	// Component or Peer names the destination in the cluster; Host or CIDR the one outside; exactly one is set.
	Component, Peer, Host, CIDR string
	// PortName is the name of the port of Component or Peer.
	PortName string
	Port     int32
	Protocol string
}

// HTTPRule narrows a flow to requests.
type HTTPRule struct {
	At      source.Pos        `json:"-"`
	Methods []string          `json:"methods"`
	Paths   []string          `json:"paths"`
	Headers map[string]string `json:"headers"`
	Token   *Token            `json:"token"`
}

// Token is a JWT that a request must carry.
type Token struct {
	At        source.Pos `json:"-"`
	Issuer    string     `json:"issuer"`
	Audiences []string   `json:"audiences"`
}

// Secrets says where secrets come from and how they are kept fresh.
type Secrets struct {
	At       source.Pos             `json:"-"`
	Store    *Store                 `json:"store"`
	Refresh  string                 `json:"refresh"`
	Rotation *Rotation              `json:"rotation"`
	Scan     *Schedule              `json:"scan"`
	Items    map[string]*SecretItem `json:"items"`
}

// Store is the secret store.
type Store struct {
	At    source.Pos  `json:"-"`
	Vault *VaultStore `json:"vault"`
}

// VaultStore is HashiCorp Vault or OpenBao with Kubernetes auth.
type VaultStore struct {
	At       source.Pos `json:"-"`
	Peer     string     `json:"peer"`
	Mount    string     `json:"mount"`
	Role     string     `json:"role"`
	Audience string     `json:"audience"`
}

// Rotation is when secrets rotate and how long the old one stays valid.
type Rotation struct {
	At       source.Pos `json:"-"`
	Schedule string     `json:"schedule"`
	TimeZone string     `json:"timeZone"`
	Overlap  string     `json:"overlap"`
}

// Schedule is a cron line.
type Schedule struct {
	At       source.Pos `json:"-"`
	Schedule string     `json:"schedule"`
	TimeZone string     `json:"timeZone"`
}

// SecretItem is one secret.
type SecretItem struct {
	At       source.Pos        `json:"-"`
	Path     string            `json:"path"`
	Keys     []string          `json:"keys"`
	Template map[string]string `json:"template"`
	Rotates  *Rotates          `json:"rotates"`
}

// Rotates names what the secret opens.
type Rotates struct {
	At       source.Pos       `json:"-"`
	Postgres *RotatesPostgres `json:"postgres"`
}

// RotatesPostgres is a PostgreSQL login.
type RotatesPostgres struct {
	At        source.Pos `json:"-"`
	Component string     `json:"component"`
	Database  string     `json:"database"`
}

// Team is a group of people.
type Team struct {
	At    source.Pos `json:"-"`
	Group string     `json:"group"`
	// May is read, operate or audit.
	May string `json:"may"`
}

// Detection says what watches the platform.
type Detection struct {
	At    source.Pos `json:"-"`
	Rules []string   `json:"rules"`
	Audit bool       `json:"audit"`
}

// Response says what is done about a detection.
type Response struct {
	At     source.Pos `json:"-"`
	When   When       `json:"when"`
	Do     []string   `json:"do"`
	Budget string     `json:"budget"`
}

// When selects detections.
type When struct {
	At        source.Pos `json:"-"`
	Rule      string     `json:"rule"`
	Component []string   `json:"component"`
}

// Notify says who is told.
type Notify struct {
	At        source.Pos `json:"-"`
	Slack     *Slack     `json:"slack"`
	PagerDuty *PagerDuty `json:"pagerduty"`
}

// Slack is a channel; urlFrom names the secret with the webhook's address.
type Slack struct {
	At      source.Pos `json:"-"`
	Channel string     `json:"channel"`
	URLFrom string     `json:"urlFrom"`
	AtLeast string     `json:"atLeast"`
}

// PagerDuty is a routing key in a secret.
type PagerDuty struct {
	At      source.Pos `json:"-"`
	KeyFrom string     `json:"keyFrom"`
	AtLeast string     `json:"atLeast"`
}

// Exception is an accepted finding.
type Exception struct {
	At      source.Pos `json:"-"`
	Finding string     `json:"finding"`
	On      string     `json:"on"`
	Owner   string     `json:"owner"`
	Reason  string     `json:"reason"`
	Expires string     `json:"expires"`
}

// Sorted gives a map's keys in order; the only way in which compilers walk the spec's maps.
func Sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// UID is the component's numeric user.
func (c *Component) UID() int64 {
	if c.User == nil {
		return DefaultUser
	}
	return *c.User
}

// GID is the component's numeric group.
func (c *Component) GID() int64 {
	if c.Group == nil {
		return c.UID()
	}
	return *c.Group
}

// NeedsToken reports whether the component asks anything of the Kubernetes API.
func (c *Component) NeedsToken() bool { return len(c.MayAsk) > 0 }

// LevelLabel is the key of the label that states a namespace's level: PREFIX/level.
func (s *Spec) LevelLabel() string { return s.LabelPrefix + "/level" }

// NameLabel is the key of the label that names a component on its pods.
const NameLabel = "app.kubernetes.io/name"

// Cause gives the cause for an artifact from a place and a field path.
func Cause(at source.Pos, field string) artifact.Cause { return artifact.Cause{At: at, Field: field} }
