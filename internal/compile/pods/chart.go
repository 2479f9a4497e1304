package pods

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/compile/admission"
	"github.com/intelgraph/bulwark/internal/compile/implied"
	"github.com/intelgraph/bulwark/internal/source"
	"github.com/intelgraph/bulwark/internal/spec"
)

// chart holds the chart's templates and schema. They are the same for every platform; the values are what is compiled.
//
//go:embed all:chart
var chart embed.FS

// chartVersion is the version of the templates; raise it when they change.
const chartVersion = "0.1.0"

// unlocked is the tag of an image that has neither a digest nor a version: no registry has it, and nobody takes it for
// a release.
const unlocked = "unlocked"

// writeLimit bounds a writable path that is memory of the node's disk until the pod ends; the kubelet evicts a pod that
// writes more.
const writeLimit = "256Mi"

// Values is what the chart's templates read. Its JSON form is checked by chart/values.schema.json.
type Values struct {
	Platform    string               `json:"platform"`
	LabelPrefix string               `json:"labelPrefix"`
	Seccomp     Seccomp              `json:"seccomp"`
	Components  map[string]Component `json:"components"`
}

// Seccomp is the switch from the container runtime's profile to the platform's own.
type Seccomp struct {
	LocalhostReady bool `json:"localhostReady"`
}

// Component is one workload in the values.
type Component struct {
	Kind               string             `json:"kind"`
	Namespace          string             `json:"namespace"`
	Level              string             `json:"level"`
	Replicas           *int32             `json:"replicas,omitempty"`
	Image              Image              `json:"image"`
	ServiceAccount     ServiceAccount     `json:"serviceAccount"`
	PodSecurityContext PodSecurityContext `json:"podSecurityContext"`
	SecurityContext    SecurityContext    `json:"securityContext"`
	// SeccompProfile is the Localhost profile of the component, relative to the kubelet's seccomp folder.
	SeccompProfile string            `json:"seccompProfile"`
	PodLabels      map[string]string `json:"podLabels,omitempty"`
	Env            []Env             `json:"env,omitempty"`
	Secrets        []string          `json:"secrets,omitempty"`
	Ports          []Port            `json:"ports,omitempty"`
	Probe          *Probe            `json:"probe,omitempty"`
	Resources      Resources         `json:"resources"`
	Writes         []Write           `json:"writes,omitempty"`
	Storage        []Storage         `json:"storage,omitempty"`
}

// Image is where a component's image is; the digest is what counts.
type Image struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	Digest     string `json:"digest"`
}

// ServiceAccount is a component's identity; its token is mounted only when the component may ask the API something.
type ServiceAccount struct {
	Name       string `json:"name"`
	MountToken bool   `json:"mountToken"`
}

// PodSecurityContext is the pod's part of the guide's security context, without the seccomp profile.
type PodSecurityContext struct {
	RunAsNonRoot        bool   `json:"runAsNonRoot"`
	RunAsUser           int64  `json:"runAsUser"`
	RunAsGroup          int64  `json:"runAsGroup"`
	FSGroup             *int64 `json:"fsGroup,omitempty"`
	FSGroupChangePolicy string `json:"fsGroupChangePolicy,omitempty"`
}

// SecurityContext is the container's: the guide's whole list, without the seccomp profile.
type SecurityContext struct {
	RunAsNonRoot             bool                `json:"runAsNonRoot"`
	RunAsUser                int64               `json:"runAsUser"`
	RunAsGroup               int64               `json:"runAsGroup"`
	ReadOnlyRootFilesystem   bool                `json:"readOnlyRootFilesystem"`
	AllowPrivilegeEscalation bool                `json:"allowPrivilegeEscalation"`
	Capabilities             corev1.Capabilities `json:"capabilities"`
}

// Env is a plain environment variable; secrets come whole from Secrets.
type Env struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Port is a container's and a Service's port.
type Port struct {
	Name     string `json:"name"`
	Port     int32  `json:"port"`
	Protocol string `json:"protocol"`
}

// Probe is what the kubelet asks: the path over HTTP, or, without one, whether the port accepts.
type Probe struct {
	Port string `json:"port"`
	Path string `json:"path,omitempty"`
}

// Resources are Kubernetes quantities. There is no CPU limit: it throttles without protecting anybody whom the request
// does not protect already.
type Resources struct {
	Requests map[string]string `json:"requests"`
	Limits   map[string]string `json:"limits"`
}

// Write is a path on an otherwise read-only root.
type Write struct {
	Name      string `json:"name"`
	Path      string `json:"path"`
	SizeLimit string `json:"sizeLimit"`
}

// Storage is a path on a volume of its own.
type Storage struct {
	Name string `json:"name"`
	Path string `json:"path"`
	Size string `json:"size"`
}

// ChartName is the name of the platform's chart.
func ChartName(p *spec.Platform) string { return cmp.Or(p.Spec.Chart, p.Metadata.Name) }

// ChartPath is the chart's folder.
func ChartPath(p *spec.Platform) string { return "charts/" + ChartName(p) }

// compileChart adds the chart: its own files, and the values.
func compileChart(p *spec.Platform, lock *spec.Lock, part *artifact.Part) error {
	if errs := validation.IsDNS1123Label(ChartName(p)); len(errs) > 0 {
		return &source.Error{Pos: p.Where("spec.chart"), Msg: fmt.Sprintf("chart %q is not a name: %s", ChartName(p), strings.Join(errs, "; "))}
	}
	values, err := compileValues(p, lock, part)
	if err != nil {
		return err
	}
	why := implied.Why(p, "spec.components")
	part.AddFile(artifact.Pods, ChartPath(p)+"/Chart.yaml", chartYAML(p), why)
	err = fs.WalkDir(chart, "chart", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := chart.ReadFile(file)
		if err != nil {
			return err
		}
		part.AddFile(artifact.Pods, path.Join(ChartPath(p), strings.TrimPrefix(file, "chart/")), content, why)
		return nil
	})
	if err != nil {
		return fmt.Errorf("the chart's own files: %w", err)
	}
	text, err := valuesYAML(p, values)
	if err != nil {
		return err
	}
	part.AddFile(artifact.Pods, ChartPath(p)+"/values.yaml", text, why)
	return nil
}

func chartYAML(p *spec.Platform) []byte {
	return fmt.Appendf(nil, `# Compiled from the Platform %[2]s by `+"`bulwark render`"+`; edit that, not this file.
apiVersion: v2
name: %[1]s
description: The components of %[2]s, each with its security context
type: application
version: %[3]s
`, ChartName(p), p.Metadata.Name, chartVersion)
}

func compileValues(p *spec.Platform, lock *spec.Lock, part *artifact.Part) (*Values, error) {
	v := &Values{
		Platform: p.Metadata.Name, LabelPrefix: p.Spec.LabelPrefix, Components: map[string]Component{}}
	var errs source.Errors
	unlockedBy := map[string][]string{}
	for _, name := range spec.Sorted(p.Spec.Components) {
		c := p.Spec.Components[name]
		if c.Kind == "DaemonSet" && len(c.Storage) > 0 {
			errs = append(errs, &source.Error{
				Pos: p.Where(implied.Path("spec", "components", name, "storage")),
				Msg: fmt.Sprintf("component %s is a DaemonSet with storage, but one claim cannot serve every node", name), Hint: "make it a StatefulSet, or use writes",
			})
			continue
		}
		v.Components[name] = component(p, lock, name, c)
		if v.Components[name].Image.Digest == "" {
			reason := lock.Reason(c.Image)
			unlockedBy[reason] = append(unlockedBy[reason], name)
		}
	}
	for _, reason := range spec.Sorted(unlockedBy) {
		names := unlockedBy[reason]
		var why []artifact.Cause
		for _, n := range names {
			why = append(why, implied.Why(p, implied.Path("spec", "components", n, "image")))
		}
		part.Gap(artifact.SupplyChain, "images of "+strings.Join(names, ", "), "not locked to a digest: "+reason+". Admission refuses them where it enforces", why...)
	}
	var profiles []string
	for _, c := range v.Components {
		if !slices.Contains(profiles, c.SeccompProfile) {
			profiles = append(profiles, c.SeccompProfile)
		}
	}
	if slices.Sort(profiles); len(profiles) > 0 {
		part.Gap(artifact.Syscalls, strings.Join(profiles, ", "), "not used yet: a pod that names a profile which its node lacks does not start, so pods run with the container runtime's default profile until every node has it (seccomp.localhostReady)", implied.Why(p, "spec.components"))
	}
	return v, errs.AsError()
}

func component(p *spec.Platform, lock *spec.Lock, name string, c *spec.Component) Component {
	digest, _ := lock.Digest(c.Image)
	out := Component{
		Kind:           cmp.Or(c.Kind, "Deployment"),
		Namespace:      c.Namespace,
		Image:          Image{Repository: c.Image, Tag: cmp.Or(c.Version, unlocked), Digest: digest},
		ServiceAccount: ServiceAccount{Name: implied.Account(name, c), MountToken: c.NeedsToken()},
		PodSecurityContext: PodSecurityContext{
			RunAsNonRoot: true, RunAsUser: c.UID(), RunAsGroup: c.GID(),
		},
		SecurityContext: SecurityContext{
			RunAsNonRoot: true, RunAsUser: c.UID(), RunAsGroup: c.GID(), ReadOnlyRootFilesystem: true,
			Capabilities: corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		SeccompProfile: admission.SeccompProfile(p.Metadata.Name, c.Runtime),
		Secrets:        slices.Sorted(slices.Values(c.Secrets)),
		Resources:      resources(c),
	}
	if ns := p.Spec.Namespaces[c.Namespace]; ns != nil {
		out.Level = ns.Level
	}
	if out.Kind != "DaemonSet" {
		out.Replicas = new(int32(1))
		if c.Replicas != nil {
			*out.Replicas = *c.Replicas
		}
	}
	if p.Spec.Mesh != nil && p.Spec.Mesh.Kind == "istio" && !p.Spec.InMesh(c, "") {
		out.PodLabels = map[string]string{"sidecar.istio.io/inject": "false"}
	}
	for _, port := range spec.Sorted(c.Ports) {
		out.Ports = append(out.Ports, Port{Name: port, Port: c.Ports[port].Port, Protocol: cmp.Or(c.Ports[port].Protocol, "TCP")})
	}
	out.Probe = probe(c)
	names := volumeNames{}
	for _, w := range slices.Sorted(slices.Values(c.Writes)) {
		out.Writes = append(out.Writes, Write{Name: names.of(w), Path: w, SizeLimit: writeLimit})
	}
	for _, s := range spec.Sorted(c.Storage) {
		out.Storage = append(out.Storage, Storage{Name: names.of(s), Path: s, Size: c.Storage[s]})
	}
	if len(out.Storage) > 0 {
		out.PodSecurityContext.FSGroup = new(c.GID())
		out.PodSecurityContext.FSGroupChangePolicy = string(corev1.FSGroupChangeOnRootMismatch)
		if c.Runtime == "postgres" {
			// PostgreSQL refuses a data folder that its own user does not own, and a volume's root is root's.
			out.Env = append(out.Env, Env{Name: "PGDATA", Value: path.Join(out.Storage[0].Path, "pgdata")})
		}
	}
	return out
}

func resources(c *spec.Component) Resources {
	cpu, memory, limit := spec.DefaultCPU, spec.DefaultMemory, spec.DefaultMemoryLimit
	if r := c.Resources; r != nil {
		cpu, memory, limit = cmp.Or(r.CPU, cpu), cmp.Or(r.Memory, memory), cmp.Or(r.MemoryLimit, limit)
	}
	return Resources{Requests: map[string]string{"cpu": cpu, "memory": memory}, Limits: map[string]string{"memory": limit}}
}

// probe asks the port that serves: the one named http, else one whose name begins so, else, unless the spec names a
// path, the lowest TCP port that is not for metrics.
func probe(c *spec.Component) *Probe {
	best, rank := "", 0
	for _, name := range spec.Sorted(c.Ports) {
		if proto := c.Ports[name].Protocol; proto != "" && proto != "TCP" {
			continue
		}
		r := 2
		switch {
		case name == "http":
			r = 4
		case strings.HasPrefix(name, "http"):
			r = 3
		case name == "metrics":
			r = 1
		}
		if r > rank || r == rank && c.Ports[name].Port < c.Ports[best].Port {
			best, rank = name, r
		}
	}
	if best == "" {
		return nil
	}
	return &Probe{Port: best, Path: c.Probe}
}

// volumeNames names volumes after their paths: DNS labels, each once in a pod.
type volumeNames map[string]bool

func (n volumeNames) of(p string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(p) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else {
			b.WriteByte('-')
		}
	}
	base := strings.Trim(b.String(), "-")
	if len(base) > 50 {
		base = strings.Trim(base[:50], "-")
	}
	base = cmp.Or(base, "volume")
	name := base
	for i := 2; n[name]; i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	n[name] = true
	return name
}

// valuesYAML writes the values with the spec line above each component, so that a reader of the file finds its source.
func valuesYAML(p *spec.Platform, v *Values) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Compiled from the Platform %s by `bulwark render`; edit that, not this file.\n", p.Metadata.Name)
	head, err := yaml.Marshal(map[string]any{"platform": v.Platform, "labelPrefix": v.LabelPrefix})
	if err != nil {
		return nil, err
	}
	b.Write(head)
	b.WriteString("# Each component's own seccomp profile takes effect once every node has it: a pod that names a profile which its node\n# lacks does not start. Until then pods run with the container runtime's default profile.\n")
	if err := section(&b, "seccomp", v.Seccomp); err != nil {
		return nil, err
	}
	if len(v.Components) == 0 {
		b.WriteString("components: {}\n")
		return b.Bytes(), nil
	}
	b.WriteString("components:\n")
	for _, name := range spec.Sorted(v.Components) {
		fmt.Fprintf(&b, "  # %s\n", implied.ComponentWhy(p, name))
		var c bytes.Buffer
		if err := section(&c, name, v.Components[name]); err != nil {
			return nil, err
		}
		for l := range strings.Lines(c.String()) {
			b.WriteString("  " + l)
		}
	}
	return b.Bytes(), nil
}

func section(b *bytes.Buffer, key string, value any) error {
	text, err := yaml.Marshal(map[string]any{key: value})
	if err != nil {
		return fmt.Errorf("values of %s: %w", key, err)
	}
	b.Write(text)
	return nil
}
