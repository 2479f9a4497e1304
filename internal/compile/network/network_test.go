package network

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/spec"
)

// pod is somebody on the network: a pod, or, without a namespace, an address outside.
type pod struct {
	name, namespace string
	labels          map[string]string
	ip              string
}

// evaluator judges connections by NetworkPolicies as the API's documentation states it, and knows nothing of how they
// were compiled. It reads YAML, as a cluster would get it.
type evaluator struct {
	policies   []networkingv1.NetworkPolicy
	namespaces map[string]map[string]string
}

func newEvaluator(t testing.TB, part artifact.Part) *evaluator {
	t.Helper()
	e := &evaluator{namespaces: map[string]map[string]string{}}
	for _, a := range part.Artifacts {
		y, err := a.YAML()
		if err != nil {
			t.Fatal(err)
		}
		var np networkingv1.NetworkPolicy
		if err := yaml.UnmarshalStrict(y, &np); err != nil {
			t.Fatalf("%s: %v", a.ID(), err)
		}
		e.policies = append(e.policies, np)
	}
	return e
}

func (e *evaluator) selects(s *metav1.LabelSelector, labels map[string]string) bool {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		panic(err)
	}
	for k, v := range s.MatchLabels {
		if labels[k] != v {
			return false
		}
	}
	return sel.Empty() || labels != nil
}

func (e *evaluator) peer(np *networkingv1.NetworkPolicy, p networkingv1.NetworkPolicyPeer, x pod) bool {
	if p.IPBlock != nil {
		prefix, ip := netip.MustParsePrefix(p.IPBlock.CIDR), netip.MustParseAddr(x.ip)
		if !prefix.Contains(ip) {
			return false
		}
		for _, no := range p.IPBlock.Except {
			if netip.MustParsePrefix(no).Contains(ip) {
				return false
			}
		}
		return true
	}
	if x.namespace == "" {
		return false
	}
	if p.NamespaceSelector == nil {
		if x.namespace != np.Namespace {
			return false
		}
	} else if !e.selects(p.NamespaceSelector, map[string]string{corev1.LabelMetadataName: x.namespace}) {
		return false
	}
	return p.PodSelector == nil || e.selects(p.PodSelector, x.labels)
}

func (e *evaluator) way(direction networkingv1.PolicyType, self, other pod, port int32, proto string) bool {
	if self.namespace == "" {
		return true
	}
	isolated := false
	for i := range e.policies {
		np := &e.policies[i]
		if np.Namespace != self.namespace || !slices.Contains(np.Spec.PolicyTypes, direction) || !e.selects(&np.Spec.PodSelector, self.labels) {
			continue
		}
		isolated = true
		match := func(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) bool {
			ok := len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
				return (p.Port == nil || p.Port.IntVal == port) && string(*p.Protocol) == proto
			})
			return ok && (len(peers) == 0 || slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool { return e.peer(np, p, other) }))
		}
		if direction == networkingv1.PolicyTypeIngress {
			for _, r := range np.Spec.Ingress {
				if match(r.From, r.Ports) {
					return true
				}
			}
			continue
		}
		for _, r := range np.Spec.Egress {
			if match(r.To, r.Ports) {
				return true
			}
		}
	}
	return !isolated
}

// allows reports whether a connection gets out at one end and in at the other.
func (e *evaluator) allows(from, to pod, port int32, proto string) bool {
	return e.way(networkingv1.PolicyTypeEgress, from, to, port, proto) && e.way(networkingv1.PolicyTypeIngress, to, from, port, proto)
}

// TestRandom compiles random platforms and asks the evaluator about every pair of pods and every port: what the spec
// declares or implies is open, whatever else is closed. What is expected is worked out from the spec's text alone.
func TestRandom(t *testing.T) {
	open, closed := 0, 0
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 42))
		text, want, pods, ports := random(r)
		p, err := spec.Parse("platform.yaml", []byte(text))
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		part, err := Compile(p, nil, artifact.Enforce)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		e := newEvaluator(t, part)
		for _, from := range pods {
			for _, to := range pods {
				if from.name == to.name {
					continue // a pod reaches itself without the network
				}
				if !ours(from) && !ours(to) {
					continue
				}
				for _, port := range ports {
					for _, proto := range []string{"TCP", "UDP"} {
						k := fmt.Sprintf("%s>%s:%d/%s", from.name, to.name, port, proto)
						got := e.allows(from, to, port, proto)
						if got != want[k] {
							t.Fatalf("seed %d: %s: allowed %v, want %v\n%s", seed, k, got, want[k], text)
						}
						if got {
							open++
						} else {
							closed++
						}
					}
				}
			}
		}
	}
	if open < 1000 || closed < 1000 {
		t.Errorf("too few connections to mean anything: %d open, %d closed", open, closed)
	}
	t.Logf("%d open and %d closed connections judged", open, closed)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func ours(p pod) bool { return strings.HasPrefix(p.namespace, "ours") }

// random writes a spec and says which connections it means, as "from>to:port/protocol".
func random(r *rand.Rand) (text string, want map[string]bool, pods []pod, ports []int32) {
	want = map[string]bool{}
	ports = []int32{53, 80, 443, 6443, 5432, 8200, 15012, 9000, 9001}
	var b strings.Builder
	meshed := r.IntN(2) == 0
	b.WriteString("apiVersion: bulwark.dev/v1alpha1\nkind: Platform\nmetadata: {name: random}\nspec:\n")
	b.WriteString("  controlPlane: {cidrs: [192.0.2.10/32]}\n  namespaces: {ours-a: {}, ours-b: {}}\n")
	if meshed {
		b.WriteString("  has: [istio]\n  mesh: {kind: istio, mtls: permissive}\n")
	}
	b.WriteString("  peers:\n")
	b.WriteString("    gateway: {namespace: gw, labels: {app: gateway}}\n")
	b.WriteString("    vault: {namespace: vault, labels: {app: vault}, ports: {api: 8200}}\n")
	b.WriteString("    watcher: {namespace: ours-b, labels: {app: watcher}, ports: {http: 80}}\n")
	outside := pod{name: "internet", ip: "198.51.100.7"}
	pods = append(pods, outside,
		pod{"api", "", nil, "192.0.2.10"},
		pod{"gateway", "gw", map[string]string{"app": "gateway"}, "10.0.0.2"},
		pod{"gateway-twin", "gw", map[string]string{"app": "other"}, "10.0.0.3"},
		pod{"impostor", "elsewhere", map[string]string{"app": "gateway", spec.NameLabel: "c0"}, "10.0.0.4"},
		pod{"vault", "vault", map[string]string{"app": "vault"}, "10.0.0.5"},
		pod{"watcher", "ours-b", map[string]string{"app": "watcher"}, "10.0.0.6"},
		pod{"dns", "kube-system", map[string]string{"k8s-app": "kube-dns"}, "10.0.0.7"},
		pod{"istiod", "istio-system", map[string]string{"app": "istiod"}, "10.0.0.8"},
		pod{"rotator", "ours-a", map[string]string{spec.NameLabel: "secret-rotator"}, "10.0.0.9"},
		pod{"stranger", "ours-a", nil, "10.0.0.10"})
	n := 2 + r.IntN(5)
	type comp struct {
		name, ns string
		protos   map[string]string
		inMesh   bool
	}
	var comps []comp
	b.WriteString("  components:\n")
	numbers := map[string]int32{"http": 80, "sql": 5432, "extra": 9000}
	rotates := r.IntN(2) == 0
	for i := range n {
		c := comp{name: fmt.Sprintf("c%d", i), ns: []string{"ours-a", "ours-b"}[r.IntN(2)], protos: map[string]string{"http": "TCP", "sql": "TCP", "extra": []string{"TCP", "UDP"}[r.IntN(2)]}, inMesh: meshed}
		if i == 0 {
			c.ns = "ours-a"
		}
		fmt.Fprintf(&b, "    %s:\n      namespace: %s\n      image: registry.example.com/x/%s\n      runtime: %s\n", c.name, c.ns, c.name, []string{"go", "postgres"}[btoi(i == 1)])
		fmt.Fprintf(&b, "      ports: {http: 80, sql: 5432, extra: {port: 9000, protocol: %s}}\n", c.protos["extra"])
		if r.IntN(3) == 0 {
			c.inMesh = false
			b.WriteString("      mesh: none\n")
		}
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, "      mayAsk: [{resource: configmaps, names: [x], verbs: [get]}]\n")
			want[c.name+">api:443/TCP"], want[c.name+">api:6443/TCP"] = true, true
		}
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, "      route: {host: %s.example.com, port: http, tls: {secret: %s-tls}}\n", c.name, c.name)
			want["gateway>"+c.name+":80/TCP"] = true
		}
		if rotates && i == 0 {
			b.WriteString("      secrets: [db]\n")
		}
		if c.inMesh {
			want[c.name+">istiod:15012/TCP"] = true
		}
		comps = append(comps, c)
		pods = append(pods, pod{c.name, c.ns, map[string]string{spec.NameLabel: c.name, "app.kubernetes.io/part-of": "random"}, fmt.Sprintf("10.0.1.%d", i)})
	}
	if rotates {
		fmt.Fprintf(&b, "  secrets:\n    store: {vault: {peer: vault}}\n    rotation: {schedule: \"0 2 * * 0\"}\n    items:\n      db: {path: a/b, keys: [password], rotates: {postgres: {component: c1, database: x}}}\n")
		want["rotator>vault:8200/TCP"], want["rotator>c1:5432/TCP"] = true, true
		want["rotator>api:443/TCP"], want["rotator>api:6443/TCP"] = true, true
	}
	b.WriteString("  flows:\n")
	declared := map[string]bool{}
	for range 1 + r.IntN(8) {
		from := comps[r.IntN(n)].name
		switch r.IntN(6) {
		case 0:
			from = "gateway"
		case 1:
			from = "watcher"
		}
		fromName := from
		to := comps[r.IntN(n)]
		port := []string{"http", "sql", "extra"}[r.IntN(3)]
		target, key, http := to.name+":"+port, fmt.Sprintf("%s>%s:%d/%s", fromName, to.name, numbers[port], to.protos[port]), ""
		opens := true
		switch r.IntN(7) {
		case 0:
			target, key = "vault:api", fromName+">vault:8200/TCP"
		case 1:
			target, key = "watcher:http", fromName+">watcher:80/TCP"
		case 2:
			target, key = "cidr:198.51.100.0/24:9001", fromName+">internet:9001/TCP"
		case 3:
			target, key, opens = "dns:example.com:9001", fromName+">nobody", false
		case 4:
			if to.protos[port] == "TCP" {
				http = ", http: [{methods: [GET], paths: [/x]}]"
				opens = to.inMesh // outside the mesh only Cilium may open it
			}
		}
		if from == strings.SplitN(target, ":", 2)[0] || declared[from+target] || (from == "gateway" || from == "watcher") && !strings.HasPrefix(target, "c") || strings.HasPrefix(target, "cidr") && (from == "gateway" || from == "watcher") {
			continue
		}
		declared[from+target] = true
		if from == "gateway" && port == "http" && strings.HasPrefix(target, "c") && http != "" && !opens {
			delete(want, key) // the flow says more than the route, and only Cilium can hold it
		}
		fmt.Fprintf(&b, "    - {from: %s, to: \"%s\"%s}\n", from, target, http)
		if opens {
			want[key] = true
		}
	}
	b.WriteString("    - {from: c0, to: c1:extra}\n")
	want[fmt.Sprintf("c0>c1:9000/%s", comps[1].protos["extra"])] = true
	if declared["c0c1:extra"] {
		text := strings.TrimSuffix(b.String(), "    - {from: c0, to: c1:extra}\n")
		b.Reset()
		b.WriteString(text)
		if strings.Contains(text, `{from: c0, to: "c1:extra", http`) && !comps[1].inMesh {
			delete(want, "c0>c1:9000/TCP")
		}
	}
	for _, p := range pods {
		if ours(p) {
			want[p.name+">dns:53/TCP"], want[p.name+">dns:53/UDP"] = true, true
		}
	}
	return b.String(), want, pods, ports
}

// TestEvaluator holds the judge itself to cases that the API's documentation decides.
func TestEvaluator(t *testing.T) {
	a := pod{"a", "one", map[string]string{"app": "a"}, "10.0.0.1"}
	b := pod{"b", "two", map[string]string{"app": "b"}, "10.0.0.2"}
	none := &evaluator{}
	if !none.allows(a, b, 80, "TCP") {
		t.Error("without policies everything is open")
	}
	deny := &evaluator{policies: []networkingv1.NetworkPolicy{*policy("two", "deny", nil, networkingv1.PolicyTypeIngress)}}
	if deny.allows(a, b, 80, "TCP") || !deny.allows(b, a, 80, "TCP") {
		t.Error("a policy without rules closes its direction and no other")
	}
}

func compileText(t *testing.T, text string) (artifact.Part, *evaluator) {
	t.Helper()
	p, err := spec.Parse("platform.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	part, err := Compile(p, nil, artifact.Enforce)
	if err != nil {
		t.Fatal(err)
	}
	return part, newEvaluator(t, part)
}

const head = `apiVersion: bulwark.dev/v1alpha1
kind: Platform
metadata: {name: x}
spec:
  namespaces: {ours: {}}
`

func TestGaps(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want []string // "subject: the reason's beginning"
	}{
		"any address for the API server": {head + "  components: {a: {image: r.example.com/x/a, runtime: go, mayAsk: [{resource: configmaps, names: [x], verbs: [get]}]}}\n",
			[]string{"a → api-server: any address is open on TCP 443 and 6443"}},
		"known API server": {head + "  controlPlane: {cidrs: [10.0.0.1/32]}\n  components: {a: {image: r.example.com/x/a, runtime: go, mayAsk: [{resource: configmaps, names: [x], verbs: [get]}]}}\n", nil},
		"Cilium and nodes": {head + "  has: [cilium]\n  controlPlane: {cidrs: [10.0.0.1/32]}\n  components: {a: {image: r.example.com/x/a, runtime: go, mayAsk: [{resource: configmaps, names: [x], verbs: [get]}]}}\n",
			[]string{"api-server: Cilium does not match nodes by address"}},
		"name outside": {head + "  has: [cilium]\n  components: {a: {image: r.example.com/x/a, runtime: go}}\n  flows: [{from: a, to: \"dns:example.com:443\"}]\n",
			[]string{"a → example.com:443: closed: a NetworkPolicy knows addresses, not names"}},
		"name outside, open by chance": {head + "  has: [cilium]\n  components: {a: {image: r.example.com/x/a, runtime: go, mayAsk: [{resource: configmaps, names: [x], verbs: [get]}]}}\n  flows: [{from: a, to: \"dns:example.com:443\"}]\n",
			[]string{"a → api-server: any address", "a → example.com:443: open wider than asked"}},
		"http outside the mesh": {head + "  components: {a: {image: r.example.com/x/a, runtime: go}, b: {image: r.example.com/x/b, runtime: go, ports: {http: 80}}}\n  flows: [{from: a, to: b:http, http: [{methods: [GET]}]}]\n",
			[]string{"a → b:http: closed: only Cilium can tell the allowed requests apart"}},
		"http in the mesh": {head + "  has: [istio]\n  mesh: {kind: istio}\n  components: {a: {image: r.example.com/x/a, runtime: go}, b: {image: r.example.com/x/b, runtime: go, ports: {http: 80}}}\n  flows: [{from: a, to: b:http, http: [{methods: [GET]}]}]\n",
			[]string{"a → b:http: open by pod and port only; methods are not enforced"}},
		"peer without labels": {head + "  peers: {m: {namespace: mon}}\n  components: {b: {image: r.example.com/x/b, runtime: go, ports: {http: 80}}}\n  flows: [{from: m, to: b:http}]\n",
			[]string{"m → b:http: the peer m has no labels, so every pod of namespace mon counts as it"}},
		"ambient peer": {head + "  has: [istio]\n  mesh: {kind: istio}\n  peers: {m: {namespace: mon, labels: {a: b}, mesh: ambient}}\n  components: {b: {image: r.example.com/x/b, runtime: go, ports: {http: 80}}}\n  flows: [{from: m, to: b:http}]\n",
			[]string{"m → b:http: an ambient peer sends everything through TCP 15008"}},
	} {
		t.Run(name, func(t *testing.T) {
			part, _ := compileText(t, tt.text)
			var got []string
			for _, g := range part.Gaps {
				if g.Subject == "DNS" {
					continue
				}
				s := g.Subject + ": " + g.Reason
				for _, w := range tt.want {
					if strings.HasPrefix(s, w) {
						s = w
					}
				}
				if g.Because == "" {
					t.Errorf("no spec line: %s", s)
				}
				got = append(got, s)
			}
			slices.Sort(got)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestReference asks about the reference platform what the guide's reader would ask.
func TestReference(t *testing.T) {
	data, err := os.ReadFile("../../../platforms/intelgraph/platform.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, e := compileText(t, string(data))
	const ns = "intelgraph-production"
	c := func(name string) pod { return pod{name, ns, map[string]string{spec.NameLabel: name}, "10.0.0.1"} }
	ingress := pod{"ingress", "ingress-nginx", map[string]string{spec.NameLabel: "ingress-nginx"}, "10.0.0.2"}
	prometheus := pod{"prometheus", "monitoring", map[string]string{spec.NameLabel: "prometheus"}, "10.0.0.3"}
	internet := pod{"internet", "", nil, "203.0.113.9"}
	staging := pod{"server", "intelgraph-staging", map[string]string{spec.NameLabel: "server"}, "10.0.0.4"}
	for _, tt := range []struct {
		from, to pod
		port     int32
		want     bool
	}{
		{ingress, c("maestro"), 3000, true},
		{ingress, c("client"), 3000, true},
		{ingress, c("server"), 4000, false},
		{ingress, c("maestro"), 3001, false},
		{ingress, c("maestro"), 9464, false},
		{prometheus, c("maestro"), 9464, true},
		{prometheus, c("maestro"), 3000, false},
		{prometheus, c("postgres"), 5432, false},
		{c("ingestion"), c("maestro"), 3001, false}, // closed until Cilium can tell the requests apart
		{c("client"), c("server"), 4000, true},
		{c("client"), c("postgres"), 5432, false},
		{c("server"), c("neo4j"), 7687, true},
		{c("maestro"), c("neo4j"), 7687, false},
		{c("secret-rotator"), c("postgres"), 5432, true},
		{c("secret-rotator"), c("redis"), 6379, false},
		{staging, c("postgres"), 5432, false},
		{internet, c("maestro"), 3000, false},
		{c("server"), internet, 443, false},
		{c("maestro"), internet, 443, true}, // stated as a gap: nobody said where the API server is
		{c("maestro"), internet, 80, false},
	} {
		if got := e.allows(tt.from, tt.to, tt.port, "TCP"); got != tt.want {
			t.Errorf("%s/%s to %s/%s on %d: allowed %v, want %v", tt.from.namespace, tt.from.name, tt.to.namespace, tt.to.name, tt.port, got, tt.want)
		}
	}
}

func TestCIDRNames(t *testing.T) {
	for in, want := range map[string]string{"10.1.2.3/8": "cidr-10-0-0-0-8", "2001:db8::/32": "cidr-2001-db8---32", "::/0": "cidr-0"} {
		if got := cidrName(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
