package check

import (
	"slices"
	"strconv"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Kubernetes networks are open until a policy selects a pod. These checks read NetworkPolicies as
// networking.k8s.io/v1 defines them; they cannot see whether the network plugin enforces any.

var defaultDenyIngress = &Check{
	ID: "network-default-deny-ingress", Title: "Namespace has no default deny for incoming traffic", Severity: finding.Medium, Layer: artifact.Network,
	Rationale: "A pod that no policy selects is open to every pod of the cluster. A policy that selects all pods of the namespace also holds those that do not exist yet.",
	Fix:       "Add a NetworkPolicy with podSelector: {} and policyTypes: [Ingress, Egress], and one policy per flow that must be.",
	Standards: []string{"CIS 5.3.2", "NIST SC-7(5)", "NSA Network separation", "OWASP K8s K07"},
	Snapshot:  func(j *Judge) { defaultDeny(j, networkingv1.PolicyTypeIngress) },
}

var defaultDenyEgress = &Check{
	ID: "network-default-deny-egress", Title: "Namespace has no default deny for outgoing traffic", Severity: finding.Medium, Layer: artifact.Network,
	Rationale: "Without it an intruder fetches tools, sends data out, and reaches the cloud's metadata service and every other pod.",
	Fix:       "Add a NetworkPolicy with podSelector: {} and policyTypes: [Ingress, Egress], then one for DNS and one per flow that must be.",
	Standards: []string{"CIS 5.3.2", "NIST SC-7(5)", "NIST AC-4", "NSA Network separation", "OWASP K8s K07"},
	Snapshot:  func(j *Judge) { defaultDeny(j, networkingv1.PolicyTypeEgress) },
}

// defaultDeny judges each namespace in which pods run.
func defaultDeny(j *Judge, direction networkingv1.PolicyType) {
	names := make([]string, 0, len(j.pods))
	for ns := range j.pods {
		names = append(names, ns)
	}
	slices.Sort(names)
	other := j.otherNetworkPolicies()
	for _, ns := range names {
		pods := j.pods[ns]
		name := ns
		if name == "" {
			name = "(unnamed)" // whatever the files are applied to
		}
		j.SubjectSpec(pods[0].At, finding.Object{APIVersion: "v1", Kind: "Namespace", Name: name})
		if o := j.namespaceObject(ns); o != nil {
			j.object = o
		}
		if slices.Contains(systemNamespaces, ns) {
			j.Skip()
			continue
		}
		bare, first, denied := 0, "", false
		for _, p := range j.policies[ns] {
			denied = denied || isolates(p.np, direction) && everything(&p.np.Spec.PodSelector)
		}
		denied = denied || j.ciliumIsolates(ns, direction)
		if denied {
			continue
		}
		held := make([]bool, len(pods))
		for _, p := range j.policies[ns] {
			if isolates(p.np, direction) {
				// A selector that is not valid selects nothing; network-policy-selects-nothing says so.
				_ = j.selected(ns, &p.np.Spec.PodSelector, func(i int) bool { held[i] = true; return true })
			}
		}
		for i, w := range pods {
			// No policy can hold a pod in the node's network, and host-network says so.
			if !held[i] && !w.Spec.HostNetwork {
				if bare++; first == "" {
					first = w.Ref().String()
				}
			}
		}
		way := "into"
		if direction == networkingv1.PolicyTypeEgress {
			way = "out of"
		}
		switch {
		case j.unlisted("networking.k8s.io/networkpolicies"):
			j.Unknown("", "NetworkPolicies could not be listed")
		case other != "":
			j.Unknown("", "no NetworkPolicy denies traffic "+way+" "+namespaceLabel(ns)+", but "+other+" may; its kind is not judged")
		case bare == 0:
			j.FailAs(finding.Low, "", "every pod of "+namespaceLabel(ns)+" is selected by some policy, but none selects all pods: the next pod is open"+j.unseen())
		default:
			m := "nothing denies traffic " + way + " " + strconv.Itoa(bare) + " of " + strconv.Itoa(len(pods)) + " workloads in " + namespaceLabel(ns) + ", " + first
			if bare > 1 {
				m += " the first"
			}
			j.Fail("", m+j.unseen())
		}
	}
}

// isolates reports whether a policy closes the direction for the pods that it selects. policyTypes that are not set mean
// Ingress, and Egress when there are egress rules.
func isolates(np *networkingv1.NetworkPolicy, d networkingv1.PolicyType) bool {
	if len(np.Spec.PolicyTypes) == 0 {
		return d == networkingv1.PolicyTypeIngress || len(np.Spec.Egress) > 0
	}
	return slices.Contains(np.Spec.PolicyTypes, d)
}

func everything(s *metav1.LabelSelector) bool {
	return len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
}

// ciliumIsolates reads the one form of CiliumNetworkPolicy that is a default deny: an empty endpointSelector, and the
// direction present (Cilium's "Overview of Network Policy", policy enforcement modes).
func (f *Facts) ciliumIsolates(ns string, d networkingv1.PolicyType) bool {
	key := "ingress"
	if d == networkingv1.PolicyTypeEgress {
		key = "egress"
	}
	for _, o := range f.Snap.Kind("cilium.io", "CiliumNetworkPolicy") {
		if o.Meta.Namespace != ns {
			continue
		}
		specs := []any{o.Content["spec"]}
		if more, ok := o.Content["specs"].([]any); ok {
			specs = append(specs, more...)
		}
		for _, s := range specs {
			m, _ := s.(map[string]any)
			sel, ok := m["endpointSelector"].(map[string]any)
			_, has := m[key]
			deny, _ := m["enableDefaultDeny"].(map[string]any)
			if off, set := deny[key].(bool); set && !off {
				continue
			}
			if ok && len(sel) == 0 && has {
				return true
			}
		}
	}
	return false
}

// otherNetworkPolicies names an object of a kind that could isolate pods in ways that are not judged here.
func (f *Facts) otherNetworkPolicies() string {
	for _, k := range [...][2]string{
		{"cilium.io", "CiliumClusterwideNetworkPolicy"}, {"policy.networking.k8s.io", "AdminNetworkPolicy"}, {"policy.networking.k8s.io", "BaselineAdminNetworkPolicy"},
		{"policy.networking.k8s.io", "ClusterNetworkPolicy"}, {"crd.projectcalico.org", "GlobalNetworkPolicy"}, {"projectcalico.org", "GlobalNetworkPolicy"},
		{"crd.projectcalico.org", "NetworkPolicy"}, {"projectcalico.org", "NetworkPolicy"},
	} {
		if os := f.Snap.Kind(k[0], k[1]); len(os) > 0 {
			return os[0].Ref().String()
		}
	}
	return ""
}

func (f *Facts) namespaceObject(name string) *cluster.Object {
	for _, o := range f.Snap.Kind("", "Namespace") {
		if o.Meta.Name == name {
			return o
		}
	}
	return nil
}

var allowAll = &Check{
	ID: "network-policy-allows-all", Title: "Network policy lets everybody through", Severity: finding.Medium, Layer: artifact.Network,
	Rationale: "A rule without peers, or with every namespace, allows all traffic. Policies add up: one such rule undoes every default deny for the pods that it selects.",
	Fix:       "Name the peers by namespaceSelector and podSelector, and the ports.",
	Standards: []string{"NIST SC-7(5)", "NIST AC-4", "NSA Network separation", "OWASP K8s K07"},
	Kinds:     []string{"networking.k8s.io/NetworkPolicy"},
	Object: func(j *Judge, o *cluster.Object) {
		np, ok := o.Typed.(*networkingv1.NetworkPolicy)
		if !ok {
			j.Skip()
			return
		}
		if isolates(np, networkingv1.PolicyTypeIngress) {
			for i := range np.Spec.Ingress {
				r := &np.Spec.Ingress[i]
				peers(j, r.From, len(r.Ports), "spec.ingress["+itoa(i)+"]", ".from", "from")
			}
		}
		if isolates(np, networkingv1.PolicyTypeEgress) {
			for i := range np.Spec.Egress {
				r := &np.Spec.Egress[i]
				peers(j, r.To, len(r.Ports), "spec.egress["+itoa(i)+"]", ".to", "to")
			}
		}
	},
}

func peers(j *Judge, list []networkingv1.NetworkPolicyPeer, ports int, at, field, way string) {
	s, on := finding.Medium, "on every port"
	if ports > 0 {
		s, on = finding.Low, "on "+strconv.Itoa(ports)+" port(s)"
	}
	if len(list) == 0 {
		j.FailAs(s, at, "allows traffic "+way+" anywhere "+on)
		return
	}
	for i := range list {
		p := &list[i]
		if p.NamespaceSelector != nil && everything(p.NamespaceSelector) && (p.PodSelector == nil || everything(p.PodSelector)) {
			j.FailAs(s, at+field+"["+itoa(i)+"]", "allows traffic "+way+" every pod of every namespace "+on)
		}
	}
}

var worldCIDR = &Check{
	ID: "network-policy-world", Title: "Network policy names the whole world", Severity: finding.Medium, Layer: artifact.Network,
	Rationale: "0.0.0.0/0 and ::/0 hold every address: the internet, the nodes, the cloud's metadata service, and with most network plugins all other pods as well.",
	Fix:       "Name the addresses that are meant, or except 169.254.0.0/16 and the private ranges; names of hosts need a policy of Cilium's or an egress gateway.",
	Standards: []string{"NIST SC-7(5)", "NSA Network separation", "OWASP K8s K07"},
	Kinds:     []string{"networking.k8s.io/NetworkPolicy"},
	Object: func(j *Judge, o *cluster.Object) {
		np, ok := o.Typed.(*networkingv1.NetworkPolicy)
		if !ok {
			j.Skip()
			return
		}
		world := func(list []networkingv1.NetworkPolicyPeer, ports int, at string) {
			for i := range list {
				b := list[i].IPBlock
				if b == nil || b.CIDR != "0.0.0.0/0" && b.CIDR != "::/0" {
					continue
				}
				s, m := finding.Medium, "ipBlock "+b.CIDR
				if ports > 0 {
					s, m = finding.Low, m+" on "+strconv.Itoa(ports)+" port(s)"
				}
				if len(b.Except) > 0 {
					s, m = finding.Low, m+" except "+b.Except[0]
					if len(b.Except) > 1 {
						m += " and more"
					}
				}
				j.FailAs(s, at+"["+itoa(i)+"].ipBlock.cidr", m)
			}
		}
		for i := range np.Spec.Ingress {
			world(np.Spec.Ingress[i].From, len(np.Spec.Ingress[i].Ports), "spec.ingress["+itoa(i)+"].from")
		}
		for i := range np.Spec.Egress {
			world(np.Spec.Egress[i].To, len(np.Spec.Egress[i].Ports), "spec.egress["+itoa(i)+"].to")
		}
	},
}

var selectsNothing = &Check{
	ID: "network-policy-selects-nothing", Title: "Network policy selects no pod", Severity: finding.Low, Layer: artifact.Network,
	Rationale: "A policy whose selector matches nothing protects nothing, and looks as if it did. Most often a label was renamed.",
	Fix:       "Make the selector match the pods' labels, or remove the policy.",
	Standards: []string{"NIST SC-7", "OWASP K8s K07"},
	Kinds:     []string{"networking.k8s.io/NetworkPolicy"},
	Object: func(j *Judge, o *cluster.Object) {
		np, ok := o.Typed.(*networkingv1.NetworkPolicy)
		pods := j.pods[o.Meta.Namespace]
		if !ok || everything(&np.Spec.PodSelector) || len(pods) == 0 {
			j.Skip() // with no pods read, nothing can be said about whom it selects
			return
		}
		hit := false
		if err := j.selected(o.Meta.Namespace, &np.Spec.PodSelector, func(int) bool { hit = true; return false }); err != nil {
			j.Fail("spec.podSelector", "the selector is not valid: "+err.Error())
			return
		}
		if hit {
			return
		}
		j.Fail("spec.podSelector", "selects none of the "+strconv.Itoa(len(pods))+" workloads of "+namespaceLabel(o.Meta.Namespace)+j.unseen())
	},
}
