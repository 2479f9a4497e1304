package pods

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	psaapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/source"
	"github.com/intelgraph/bulwark/internal/spec"
)

var files = map[string]string{
	"intelgraph": "../../../platforms/intelgraph/platform.yaml",
	"shop":       "../testdata/shop/platform.yaml",
	"tiny":       "../testdata/minimal/platform.yaml",
}

func load(t *testing.T, name string) *spec.Platform {
	t.Helper()
	p, err := spec.Load(files[name])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// locked is a lock with a digest for every component.
func locked(p *spec.Platform) *spec.Lock {
	l := &spec.Lock{}
	for _, n := range spec.Sorted(p.Spec.Components) {
		l.Images = append(l.Images, spec.LockedImage{Image: p.Spec.Components[n].Image, Digest: someDigest})
	}
	return l
}

// render lets the Helm library make objects of the chart as it is compiled; overrides are as from --set, YAML.
func render(t *testing.T, p *spec.Platform, lock *spec.Lock, overrides string) ([]runtime.Object, error) {
	t.Helper()
	part, err := Compile(p, lock, artifact.Enforce)
	if err != nil {
		t.Fatal(err)
	}
	var in []*archive.BufferedFile
	for _, a := range part.Artifacts {
		if name, ok := strings.CutPrefix(a.Path, ChartPath(p)+"/"); ok {
			in = append(in, &archive.BufferedFile{Name: name, Data: a.Content})
		}
	}
	ch, err := loader.LoadFiles(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.Validate(); err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(overrides), &values); err != nil {
		t.Fatal(err)
	}
	top, err := commonutil.ToRenderValues(ch, values, common.ReleaseOptions{Name: "r", Namespace: "default", Revision: 1, IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	out, err := engine.Engine{}.RenderWithContext(t.Context(), ch, top)
	if err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	for _, name := range slices.Sorted(maps.Keys(out)) {
		if path.Ext(name) != ".yaml" {
			continue
		}
		for _, doc := range source.Split(name, []byte(out[name])) {
			o, _, err := decoder.Decode(doc.Text, nil, nil)
			if err != nil {
				t.Fatalf("%s:%d: %v\n%s", name, doc.Line, err, doc.Text)
			}
			objects = append(objects, o)
		}
	}
	return objects, nil
}

type workload struct {
	kind     string
	meta     metav1.ObjectMeta
	selector *metav1.LabelSelector
	pod      corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
	replicas *int32
}

func workloads(objects []runtime.Object) map[string]workload {
	out := map[string]workload{}
	for _, o := range objects {
		switch x := o.(type) {
		case *appsv1.Deployment:
			out[x.Name] = workload{"Deployment", x.ObjectMeta, x.Spec.Selector, x.Spec.Template, nil, x.Spec.Replicas}
		case *appsv1.StatefulSet:
			out[x.Name] = workload{"StatefulSet", x.ObjectMeta, x.Spec.Selector, x.Spec.Template, x.Spec.VolumeClaimTemplates, x.Spec.Replicas}
		case *appsv1.DaemonSet:
			out[x.Name] = workload{"DaemonSet", x.ObjectMeta, x.Spec.Selector, x.Spec.Template, nil, nil}
		}
	}
	return out
}

// TestChart renders every platform's chart, locked and unlocked, with and without the nodes' profiles, and asks of each
// pod what the guide asks, and Pod Security's own library what it says.
func TestChart(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name := range files {
		for _, lock := range []bool{false, true} {
			for _, ready := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s locked=%v ready=%v", name, lock, ready), func(t *testing.T) {
					p := load(t, name)
					var l *spec.Lock
					if lock {
						l = locked(p)
					}
					objects, err := render(t, p, l, fmt.Sprintf("seccomp: {localhostReady: %v}", ready))
					if err != nil {
						t.Fatal(err)
					}
					got := workloads(objects)
					if d := cmp.Diff(spec.Sorted(p.Spec.Components), spec.Sorted(got)); d != "" {
						t.Fatal(d)
					}
					version, err := psaapi.ParseVersion("v" + p.Spec.Kubernetes)
					if err != nil {
						t.Fatal(err)
					}
					for n, w := range got {
						results := evaluator.EvaluatePod(psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: version}, &w.pod.ObjectMeta, &w.pod.Spec)
						if r := policy.AggregateCheckResults(results); !r.Allowed {
							t.Errorf("%s is not restricted: %s", n, r.ForbiddenDetail())
						}
						checkPod(t, p, n, w, lock, ready)
					}
					services(t, p, objects)
				})
			}
		}
	}
}

func checkPod(t *testing.T, p *spec.Platform, name string, w workload, lock, ready bool) {
	t.Helper()
	c := p.Spec.Components[name]
	pod := w.pod.Spec
	is := func(what string, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s: %s", name, what, d)
		}
	}
	is("kind", w.kind, c.Kind)
	is("namespace", w.meta.Namespace, c.Namespace)
	if c.Kind != "DaemonSet" {
		is("replicas", *w.replicas, *c.Replicas)
	}
	is("name label", w.pod.Labels[spec.NameLabel], name)
	is("level label", w.pod.Labels[p.Spec.LevelLabel()], p.Spec.Namespaces[c.Namespace].Level)
	if ok, err := metav1.LabelSelectorAsSelector(w.selector); err != nil || !ok.Matches(labelSet(w.pod.Labels)) {
		t.Errorf("%s: its selector does not select its pods", name)
	}
	is("account", pod.ServiceAccountName, c.ServiceAccount)
	is("token", *pod.AutomountServiceAccountToken, c.NeedsToken())
	is("service links", *pod.EnableServiceLinks, false)
	is("containers", len(pod.Containers), 1)
	k := pod.Containers[0]
	want := c.Image + ":" + unlocked
	if c.Version != "" {
		want = c.Image + ":" + c.Version
	}
	pull := corev1.PullAlways
	if lock {
		want, pull = c.Image+"@"+someDigest, corev1.PullIfNotPresent
	}
	is("image", k.Image, want)
	is("pull policy", k.ImagePullPolicy, pull)

	sc := k.SecurityContext
	is("runAsNonRoot", *sc.RunAsNonRoot, true)
	is("runAsUser", *sc.RunAsUser, c.UID())
	is("runAsGroup", *sc.RunAsGroup, c.GID())
	is("readOnlyRootFilesystem", *sc.ReadOnlyRootFilesystem, true)
	is("allowPrivilegeEscalation", *sc.AllowPrivilegeEscalation, false)
	is("capabilities", *sc.Capabilities, corev1.Capabilities{Drop: []corev1.Capability{"ALL"}})
	is("pod user", *pod.SecurityContext.RunAsUser, c.UID())
	for _, s := range []*corev1.SeccompProfile{sc.SeccompProfile, pod.SecurityContext.SeccompProfile} {
		if ready {
			is("seccomp", s.Type, corev1.SeccompProfileTypeLocalhost)
			if s.LocalhostProfile == nil || !strings.HasPrefix(*s.LocalhostProfile, "profiles/"+p.Metadata.Name) {
				t.Errorf("%s: seccomp profile %v", name, s.LocalhostProfile)
			}
		} else {
			is("seccomp", *s, corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault})
		}
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Errorf("%s shares the host", name)
	}

	// Each writable path has a volume of its own, and there is no other.
	mounts := map[string]string{}
	for _, m := range k.VolumeMounts {
		mounts[m.Name] = m.MountPath
	}
	is("mounts", slices.Sorted(maps.Values(mounts)), slices.Sorted(slices.Values(append(spec.Sorted(c.Storage), c.Writes...))))
	sizes := map[string]string{}
	for _, v := range pod.Volumes {
		switch {
		case v.EmptyDir != nil:
			if v.EmptyDir.SizeLimit.IsZero() || !slices.Contains(c.Writes, mounts[v.Name]) {
				t.Errorf("%s: emptyDir %s at %q, limit %v", name, v.Name, mounts[v.Name], v.EmptyDir.SizeLimit)
			}
		case v.PersistentVolumeClaim != nil:
			is("claim", v.PersistentVolumeClaim.ClaimName, name+"-"+v.Name)
			sizes[mounts[v.Name]] = c.Storage[mounts[v.Name]]
		default:
			t.Errorf("%s: a volume nobody asked for: %s", name, v.Name)
		}
	}
	for _, claim := range w.claims {
		q := claim.Spec.Resources.Requests[corev1.ResourceStorage]
		sizes[mounts[claim.Name]] = q.String()
	}
	if len(c.Storage) > 0 {
		is("storage", sizes, c.Storage)
		is("fsGroup", *pod.SecurityContext.FSGroup, c.GID())
	}
	var secrets []string
	for _, e := range k.EnvFrom {
		secrets = append(secrets, e.SecretRef.Name)
	}
	is("secrets", len(secrets), len(c.Secrets))
	for _, s := range c.Secrets {
		if !slices.Contains(secrets, s) {
			t.Errorf("%s lacks the secret %s", name, s)
		}
	}
	ports := map[string]int32{}
	for _, x := range k.Ports {
		ports[x.Name] = x.ContainerPort
	}
	for n, x := range c.Ports {
		is("port "+n, ports[n], x.Port)
	}
	is("ports", len(k.Ports), len(c.Ports))
	if tcp := slices.ContainsFunc(k.Ports, func(x corev1.ContainerPort) bool { return x.Protocol == corev1.ProtocolTCP }); tcp {
		for _, probe := range []*corev1.Probe{k.StartupProbe, k.ReadinessProbe, k.LivenessProbe} {
			if probe == nil || probe.TCPSocket == nil && probe.HTTPGet == nil {
				t.Errorf("%s: a probe is missing", name)
			} else if c.Probe != "" && (probe.HTTPGet == nil || probe.HTTPGet.Path != c.Probe) {
				t.Errorf("%s: the probe does not ask %s", name, c.Probe)
			}
		}
	} else if k.LivenessProbe != nil {
		t.Errorf("%s: a probe of no port", name)
	}
	if k.Resources.Requests.Cpu().IsZero() || k.Resources.Requests.Memory().IsZero() || k.Resources.Limits.Memory().IsZero() {
		t.Errorf("%s: resources %v", name, k.Resources)
	}
}

type labelSet map[string]string

func (l labelSet) Has(k string) bool              { _, ok := l[k]; return ok }
func (l labelSet) Get(k string) string            { return l[k] }
func (l labelSet) Lookup(k string) (string, bool) { v, ok := l[k]; return v, ok }

// services: each component with ports has one, and a StatefulSet's gives its pods names.
func services(t *testing.T, p *spec.Platform, objects []runtime.Object) {
	t.Helper()
	got := map[string]*corev1.Service{}
	claims := map[string]bool{}
	for _, o := range objects {
		switch x := o.(type) {
		case *corev1.Service:
			got[x.Name] = x
		case *corev1.PersistentVolumeClaim:
			claims[x.Namespace+"/"+x.Name] = true
		case *appsv1.StatefulSet:
			if x.Spec.ServiceName != x.Name {
				t.Errorf("%s names the service %q", x.Name, x.Spec.ServiceName)
			}
		}
	}
	for _, n := range spec.Sorted(p.Spec.Components) {
		c := p.Spec.Components[n]
		s := got[n]
		if len(c.Ports) == 0 && c.Kind != "StatefulSet" {
			if s != nil {
				t.Errorf("%s has a service and no port", n)
			}
			continue
		}
		if s == nil {
			t.Errorf("%s has no service", n)
			continue
		}
		if s.Spec.Type != corev1.ServiceTypeClusterIP || (s.Spec.ClusterIP == "None") != (c.Kind == "StatefulSet") || s.Spec.Selector[spec.NameLabel] != n || len(s.Spec.Ports) != len(c.Ports) {
			t.Errorf("service of %s: %+v", n, s.Spec)
		}
		for path := range c.Storage {
			if name := c.Namespace + "/" + n + "-" + (volumeNames{}).of(path); claims[name] != (c.Kind == "Deployment") {
				t.Errorf("claim %s: %v", name, claims[name])
			}
		}
	}
}

// TestChartCannotBeWeakened: what `helm install --set` could undo, the chart's schema refuses.
func TestChartCannotBeWeakened(t *testing.T) {
	p := load(t, "intelgraph")
	if _, err := render(t, p, nil, "components: {maestro: {replicas: 3}}"); err != nil {
		t.Fatalf("a harmless override is refused: %v", err)
	}
	for _, set := range []string{
		"securityContext: {privileged: true}",
		"securityContext: {readOnlyRootFilesystem: false}",
		"securityContext: {allowPrivilegeEscalation: true}",
		"securityContext: {runAsNonRoot: false}",
		"securityContext: {runAsUser: 0}",
		"securityContext: {capabilities: {add: [SYS_ADMIN]}}",
		"securityContext: {capabilities: {drop: [NET_RAW]}}",
		"securityContext: {readOnlyRootFilesystem: null}",
		"podSecurityContext: {runAsUser: 0}",
		"podSecurityContext: {sysctls: [{name: a, value: b}]}",
		"seccompProfile: ../../etc/passwd",
		"seccompProfile: unconfined",
		"image: {tag: latest}",
		"image: {digest: sha256:abc}",
		"image: {repository: \"x@sha256:abc\"}",
		"hostNetwork: true",
		"kind: Pod",
		"level: none",
	} {
		if _, err := render(t, p, nil, "components: {maestro: {"+set+"}}"); err == nil {
			t.Errorf("accepted: %s", set)
		}
	}
	if _, err := render(t, p, nil, "components: {maestro: {image: {tag: \"\"}}}"); err == nil || !strings.Contains(err.Error(), "components.maestro.image has neither a digest nor a tag other than latest") {
		t.Errorf("an image without tag and digest: %v", err)
	}
}

// TestHostileNames: names that YAML would take for something else stay text.
func TestHostileNames(t *testing.T) {
	p := load(t, "tiny")
	c := p.Spec.Components["app"]
	delete(p.Spec.Components, "app")
	for _, n := range []string{"true", "null", "on", "y", "no"} {
		x := *c
		x.ServiceAccount, x.Namespace = n, "tiny"
		x.Writes = []string{"/a: b", "/a-b", "/a b", "/A/b", "/" + strings.Repeat("long", 40), "/" + strings.Repeat("long", 41), "/#"}
		x.Storage = map[string]string{"/data": "1Gi"}
		x.Ports = map[string]*spec.Port{"on": {Port: 80, Protocol: "TCP"}}
		x.Probe = "/health?a=b#c: d"
		p.Spec.Components[n] = &x
	}
	objects, err := render(t, p, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	got := workloads(objects)
	for n := range p.Spec.Components {
		w, ok := got[n]
		if !ok {
			t.Errorf("%s is missing", n)
			continue
		}
		checkPod(t, p, n, w, false, false)
	}
}

func TestVolumeNames(t *testing.T) {
	names := volumeNames{}
	for _, tt := range []struct{ path, want string }{
		{"/tmp", "tmp"}, {"/var/run", "var-run"}, {"/var-run", "var-run-2"}, {"/Var_Run", "var-run-3"}, {"/", "volume"}, {"/é", "volume-2"},
		{"/" + strings.Repeat("a", 80), strings.Repeat("a", 50)}, {"/" + strings.Repeat("a", 81), strings.Repeat("a", 50) + "-2"},
	} {
		if got := names.of(tt.path); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.path, got, tt.want)
		}
	}
}

func TestProbe(t *testing.T) {
	port := func(n int32) *spec.Port { return &spec.Port{Port: n, Protocol: "TCP"} }
	for name, tt := range map[string]struct {
		ports map[string]*spec.Port
		want  string
	}{
		"none":             {nil, ""},
		"http first":       {map[string]*spec.Port{"admin": port(1), "http": port(9), "metrics": port(2)}, "http"},
		"http-ish":         {map[string]*spec.Port{"admin": port(1), "http-api": port(9)}, "http-api"},
		"lowest":           {map[string]*spec.Port{"b": port(1), "a": port(9)}, "b"},
		"not metrics":      {map[string]*spec.Port{"metrics": port(1), "a": port(9)}, "a"},
		"metrics if alone": {map[string]*spec.Port{"metrics": port(1)}, "metrics"},
		"never UDP":        {map[string]*spec.Port{"dns": {Port: 53, Protocol: "UDP"}}, ""},
	} {
		got := ""
		if p := probe(&spec.Component{Ports: tt.ports}); p != nil {
			got = p.Port
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
