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

// Platform is what a person writes about a platform; all of it is compiled, deployed and proven from here.
//
// After Load its references are checked and its defaults filled in: entries of lists and mappings are never nil, nor are
// a component's Resources, User and Group, nor what a Route holds, except CORS. A section whose absence says something
// stays nil when it was not written: Mesh, Secrets and what it holds, Detection, Notify, Route.
type Platform struct {
	At source.Pos `json:"-"`
	// APIVersion is the version of this form.
	APIVersion string `json:"apiVersion"`
	// Kind is always Platform.
	Kind string `json:"kind"`
	// Metadata names the platform.
	Metadata Metadata `json:"metadata"`
	// Spec describes the platform.
	Spec Spec `json:"spec"`

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
	Has []string `json:"has"`
	// Admission names who enforces the policies.
	Admission Admission `json:"admission"`
	// Trust says which images may run.
	Trust Trust `json:"trust"`
	// Namespaces are ours: each is closed by default, and labelled. Components live in them.
	Namespaces map[string]*Namespace `json:"namespaces"`
	// Peers are neighbours that flows name and that are not ours to harden, such as a gateway or a monitoring system.
	Peers map[string]*Peer `json:"peers"`
	// Mesh is the service mesh. Leave it out when there is none.
	Mesh *Mesh `json:"mesh"`
	// Components are the workloads of the platform, by name. A name is that of the workload, its Service and, unless said otherwise, its service account.
	Components map[string]*Component `json:"components"`
	// Flows are the traffic that must be possible. What no flow declares, and no other line implies, is not.
	Flows []*Flow `json:"flows"`
	// Secrets says where secrets come from and how they are kept fresh.
	Secrets *Secrets `json:"secrets"`
	// Teams are the people, by name, and what they may do in our namespaces.
	Teams map[string]*Team `json:"teams"`
	// Detection says what watches the platform while it runs.
	Detection *Detection `json:"detection"`
	// Response says what is done about detections.
	Response []*Response `json:"response"`
	// Notify says who is told.
	Notify *Notify `json:"notify"`
	// Compliance are the standards that reports show: see Standards.
	Compliance []string `json:"compliance"`
	// Exceptions are findings that somebody accepts for a time.
	Exceptions []*Exception `json:"exceptions"`
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
	Enforce string `json:"enforce"`
	// Audit are engines that judge the same policies and only report.
	Audit []string `json:"audit"`
}

// Trust says which images may run.
type Trust struct {
	At source.Pos `json:"-"`
	// Registries are prefixes "host/path/" matched on a path boundary. Load adds the trailing slash.
	Registries []string `json:"registries"`
	// Signers are whose signatures count; an image needs one of them.
	Signers []*Signer `json:"signers"`
	// Attestations must accompany an image: spdx, cyclonedx, vulnerabilities, provenance.
	Attestations []string `json:"attestations"`
}

// Signer is a key or a keyless identity whose signatures count.
type Signer struct {
	At source.Pos `json:"-"`
	// Name is what reports call the signer.
	Name string `json:"name"`
	// Key is the file with the public key, relative to the spec. A signer has either a key or a keyless identity.
	Key string `json:"key"`
	// Keyless is an identity of a certificate, instead of a key.
	Keyless *Keyless `json:"keyless"`
}

// Keyless is an exact OIDC identity.
type Keyless struct {
	At source.Pos `json:"-"`
	// Issuer is the exact address of the OIDC issuer.
	Issuer string `json:"issuer"`
	// Subject is the exact identity, such as the address of a workflow with its ref. There are no patterns: a wide one lets others sign.
	Subject string `json:"subject"`
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
	At source.Pos `json:"-"`
	// Namespace is where the peer runs.
	Namespace string `json:"namespace"`
	// ServiceAccount is its account, by which a mesh knows it.
	ServiceAccount string `json:"serviceAccount"`
	// Labels select its pods.
	Labels map[string]string `json:"labels"`
	// Ports are what flows to it may name.
	Ports map[string]*Port `json:"ports"`
	// Mesh is "sidecar", "ambient" or "none" (default).
	Mesh string `json:"mesh"`
}

// Mesh is the service mesh.
type Mesh struct {
	At source.Pos `json:"-"`
	// Kind is istio.
	Kind string `json:"kind"`
	// MTLS is strict, or permissive while a platform moves into the mesh.
	MTLS string `json:"mtls"`
}

// Port is a port of a component or peer: a number, or a mapping with more to say.
type Port struct {
	At source.Pos `json:"-"`
	// Port is its number.
	Port int32 `json:"port"`
	// Protocol is TCP (default), UDP or SCTP.
	Protocol string `json:"protocol"`
	// Mesh is "" (as its component) or "none": then Cilium, not Istio, owns its L7 rules.
	Mesh string `json:"mesh"`
}

// Component is one workload of the platform.
type Component struct {
	At source.Pos `json:"-"`
	// Namespace is one of namespaces.
	Namespace string `json:"namespace"`
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
	Kind string `json:"kind"`
	// Replicas is the number of pods. A DaemonSet has none.
	Replicas *int32 `json:"replicas"`
	// User and Group are the numeric ids. Default: 65532, the nonroot user of distroless; Group defaults to User.
	User *int64 `json:"user"`
	// Group is the numeric group.
	Group *int64 `json:"group"`
	// Ports by name; names are at most 15 characters, as Kubernetes wants them.
	Ports map[string]*Port `json:"ports"`
	// Writes are paths that get an emptyDir; all else is read-only.
	Writes []string `json:"writes"`
	// Storage are paths that get a volume claim each, of that size. Only a StatefulSet, or a Deployment of one replica, can keep them.
	Storage map[string]string `json:"storage"`
	// ServiceAccount defaults to the component's name.
	ServiceAccount string `json:"serviceAccount"`
	// MayAsk are its rights at the Kubernetes API. Its token is mounted only if there are any.
	MayAsk []*Ask `json:"mayAsk"`
	// Secrets are the items of secrets.items that it reads.
	Secrets []string `json:"secrets"`
	// Route is how the outside reaches it.
	Route *Route `json:"route"`
	// Processes are the executables that may run in it, beside those of the runtime.
	Processes []string `json:"processes"`
	// Syscalls extends what the runtime may ask of the kernel.
	Syscalls *Syscalls `json:"syscalls"`
	Mesh     string    `json:"mesh"` // "" (as the platform) or "none"
	// Resources are what each of its pods asks for and may use.
	Resources *Resources `json:"resources"`
	// Probe is the path that the kubelet asks for health on the first HTTP port; "" means a TCP probe.
	Probe string `json:"probe"`
}

// Runtimes are the values that `runtime` accepts.
var Runtimes = []string{"node", "go", "jvm", "python", "postgres", "redis", "nginx"}

// Syscalls extends the runtime's profile.
type Syscalls struct {
	At source.Pos `json:"-"`
	// Add are system calls beside the runtime's.
	Add []string `json:"add"`
}

// Resources are a container's requests and limits, as Kubernetes quantities. Defaults: 100m, 128Mi and a memory limit of 512Mi.
type Resources struct {
	At source.Pos `json:"-"`
	// CPU is the request.
	CPU string `json:"cpu"`
	// Memory is the request.
	Memory string `json:"memory"`
	// MemoryLimit is where the kernel stops it.
	MemoryLimit string `json:"memoryLimit"`
}

// Ask is one right at the Kubernetes API, in the component's own namespace.
type Ask struct {
	At source.Pos `json:"-"`
	// Group is the API group; "" is the core group.
	Group string `json:"group"`
	// Resource is one resource in the plural, such as configmaps, or one with a subresource, such as pods/log.
	Resource string `json:"resource"`
	// Names are the only objects that it is about. Secrets need them.
	Names []string `json:"names"`
	// Verbs are what it may do: see Verbs.
	Verbs []string `json:"verbs"`
}

// Route is how the outside reaches a component.
type Route struct {
	At source.Pos `json:"-"`
	// Host is the exact name that the outside uses.
	Host string `json:"host"`
	// Port is the name of the component's port that it leads to.
	Port string `json:"port"`
	// TLS is needed: there is no route in the clear.
	TLS *TLS `json:"tls"`
	// RateLimit bounds the requests of one client.
	RateLimit *RateLimit `json:"rateLimit"`
	// CORS names the pages of other origins that may read answers.
	CORS *CORS `json:"cors"`
	// MaxBody is the largest request body.
	MaxBody string `json:"maxBody"`
	// Timeouts bound how long a client may take.
	Timeouts *Timeouts `json:"timeouts"`
	// Connections bounds the connections of one client.
	Connections *Connections `json:"connections"`
	// Gateway names the peer that serves routes. Default: the only peer named ingress-nginx, gateway or istio-ingress.
	Gateway string `json:"gateway"`
}

// TLS is the route's TLS.
type TLS struct {
	At source.Pos `json:"-"`
	// Min is the lowest version that is spoken.
	Min string `json:"min"`
	// Secret is the Kubernetes Secret with the certificate.
	Secret string `json:"secret"`
}

// RateLimit counts per client address and gateway replica.
type RateLimit struct {
	At source.Pos `json:"-"`
	// RequestsPerMinute is the steady rate.
	RequestsPerMinute int `json:"requestsPerMinute"`
	// Burst is how many may come at once.
	Burst int `json:"burst"`
}

// CORS lists exact origins.
type CORS struct {
	At source.Pos `json:"-"`
	// Origins are exact https origins.
	Origins []string `json:"origins"`
}

// Timeouts are durations such as 10s.
type Timeouts struct {
	At source.Pos `json:"-"`
	// Header is how long the request line and headers may take.
	Header string `json:"header"`
	// Body is how long the body may take.
	Body string `json:"body"`
}

// Connections bounds concurrent connections.
type Connections struct {
	At source.Pos `json:"-"`
	// PerClient is for one client address and one gateway replica.
	PerClient int `json:"perClient"`
}

// Flow is traffic that must be possible; what no flow declares must not be.
type Flow struct {
	At source.Pos `json:"-"`
	// From are components, peers or "route" (the gateway that serves the target's route).
	From Names `json:"from"`
	// To are "component:port", "peer:port", or "dns:HOST:PORT" outside the cluster, or "cidr:PREFIX:PORT".
	To Names `json:"to"`
	// HTTP narrows the flow to requests that one of the rules allows.
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
	At source.Pos `json:"-"`
	// Methods are those allowed.
	Methods []string `json:"methods"`
	// Paths are those allowed: exact, or with * as the last character.
	Paths []string `json:"paths"`
	// Headers must be there with that value; a value may be exact, prefix*, *suffix or *.
	Headers map[string]string `json:"headers"`
	// Token must be there, and valid.
	Token *Token `json:"token"`
}

// Token is a JWT that a request must carry.
type Token struct {
	At source.Pos `json:"-"`
	// Issuer is the exact address of the OIDC issuer.
	Issuer string `json:"issuer"`
	// Audiences are those of which the token must have one.
	Audiences []string `json:"audiences"`
}

// Secrets says where secrets come from and how they are kept fresh.
type Secrets struct {
	At source.Pos `json:"-"`
	// Store is where the values are.
	Store *Store `json:"store"`
	// Refresh is how often they are read again.
	Refresh string `json:"refresh"`
	// Rotation is when those that rotate do.
	Rotation *Rotation `json:"rotation"`
	// Scan is when code, images and configuration are searched for secrets in plain sight.
	Scan *Schedule `json:"scan"`
	// Items are the secrets, by the name of the Kubernetes Secret that each becomes.
	Items map[string]*SecretItem `json:"items"`
}

// Store is the secret store.
type Store struct {
	At source.Pos `json:"-"`
	// Vault is HashiCorp Vault or OpenBao.
	Vault *VaultStore `json:"vault"`
}

// VaultStore is HashiCorp Vault or OpenBao with Kubernetes auth.
type VaultStore struct {
	At source.Pos `json:"-"`
	// Peer is the peer that is the Vault; it needs a port.
	Peer string `json:"peer"`
	// Mount is where the Kubernetes auth method is mounted.
	Mount string `json:"mount"`
	// Role is the role of that method.
	Role string `json:"role"`
	// Audience is the token's audience, which Vault 1.21 and later demand.
	Audience string `json:"audience"`
}

// Rotation is when secrets rotate and how long the old one stays valid.
type Rotation struct {
	At source.Pos `json:"-"`
	// Schedule is a cron line of five fields.
	Schedule string `json:"schedule"`
	// TimeZone is that of the schedule.
	TimeZone string `json:"timeZone"`
	// Overlap is how long the former value stays valid. It must be longer than refresh, and should leave time for a rollout.
	Overlap string `json:"overlap"`
}

// Schedule is a cron line.
type Schedule struct {
	At source.Pos `json:"-"`
	// Schedule is a cron line of five fields.
	Schedule string `json:"schedule"`
	// TimeZone is that of the schedule.
	TimeZone string `json:"timeZone"`
}

// SecretItem is one secret.
type SecretItem struct {
	At source.Pos `json:"-"`
	// Path is where the store has it.
	Path string `json:"path"`
	// Keys are its keys in the store, and in the Kubernetes Secret.
	Keys []string `json:"keys"`
	// Template are further keys, composed as Go templates of the others.
	Template map[string]string `json:"template"`
	// Rotates names what the secret opens, so that it can be rotated there.
	Rotates *Rotates `json:"rotates"`
}

// Rotates names what the secret opens.
type Rotates struct {
	At source.Pos `json:"-"`
	// Postgres is a PostgreSQL login.
	Postgres *RotatesPostgres `json:"postgres"`
}

// RotatesPostgres is a PostgreSQL login.
type RotatesPostgres struct {
	At source.Pos `json:"-"`
	// Component is the database server.
	Component string `json:"component"`
	// Database is the database on it.
	Database string `json:"database"`
}

// Team is a group of people.
type Team struct {
	At source.Pos `json:"-"`
	// Group is the group as the identity provider says it.
	Group string `json:"group"`
	// May is read, operate or audit.
	May string `json:"may"`
}

// Detection says what watches the platform.
type Detection struct {
	At source.Pos `json:"-"`
	// Rules are builtin, and rule files relative to the spec.
	Rules []string `json:"rules"`
	// Audit takes the API server's audit log as a source too.
	Audit bool `json:"audit"`
}

// Response says what is done about a detection.
type Response struct {
	At source.Pos `json:"-"`
	// When selects the detections.
	When When `json:"when"`
	// Do is what is done, in this order: see Actions. Nothing is destroyed before it was captured.
	Do []string `json:"do"`
	// Budget bounds it: N pods per component, namespace or platform, per minute, hour or day.
	Budget string `json:"budget"`
}

// When selects detections.
type When struct {
	At source.Pos `json:"-"`
	// Rule is the rule's name.
	Rule string `json:"rule"`
	// Component are the components that it is about.
	Component []string `json:"component"`
}

// Notify says who is told.
type Notify struct {
	At source.Pos `json:"-"`
	// Slack is a Slack channel.
	Slack *Slack `json:"slack"`
	// PagerDuty is a PagerDuty service.
	PagerDuty *PagerDuty `json:"pagerduty"`
}

// Slack is a channel; urlFrom names the secret with the webhook's address.
type Slack struct {
	At source.Pos `json:"-"`
	// Channel is the channel's name, with its #.
	Channel string `json:"channel"`
	// URLFrom names the Kubernetes Secret with the webhook's address.
	URLFrom string `json:"urlFrom"`
	// AtLeast is the least severity that is told.
	AtLeast string `json:"atLeast"`
}

// PagerDuty is a routing key in a secret.
type PagerDuty struct {
	At source.Pos `json:"-"`
	// KeyFrom names the Kubernetes Secret with the routing key.
	KeyFrom string `json:"keyFrom"`
	// AtLeast is the least severity that is told.
	AtLeast string `json:"atLeast"`
}

// Exception is an accepted finding.
type Exception struct {
	At source.Pos `json:"-"`
	// Finding is the finding's ID; no patterns.
	Finding string `json:"finding"`
	// On names what it is about: component/NAME, or a Kubernetes object as "Kind namespace/name", in which * stands for anything but a slash.
	On string `json:"on"`
	// Owner is who answers for it.
	Owner string `json:"owner"`
	// Reason is why it is accepted.
	Reason string `json:"reason"`
	// Expires is the last day on which it holds, YYYY-MM-DD.
	Expires string `json:"expires"`
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
