// Package network compiles flows into NetworkPolicies: every namespace of the platform is closed both ways, and each
// flow opens one port at each end that is ours.
//
// NetworkPolicies only ever add allowances (https://kubernetes.io/docs/concepts/services-networking/network-policies/),
// so a flow that they can express only more widely than it was declared gets none: it is stated as a gap.
package network

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/compile/implied"
	"github.com/intelgraph/bulwark/internal/spec"
)

// File is where the policies are written.
const File = "k8s/security/network-security-policies.yaml"

// Names of the policies that every namespace has.
const (
	DefaultDeny = "default-deny"
	AllowDNS    = "allow-dns"
)

// Compile gives the network layer. A NetworkPolicy either closes or is absent; it cannot record or warn. So there are
// none before the stage enforce, and a gap says so.
func Compile(p *spec.Platform, _ *spec.Lock, stage artifact.Stage) (artifact.Part, error) {
	var part artifact.Part
	flows, gaps := Flows(p)
	if stage != artifact.Enforce {
		part.Gap(artifact.Network, "every namespace of the platform", fmt.Sprintf("open both ways: a NetworkPolicy cannot only record or warn, so none is deployed at stage %s", stage), implied.Why(p, "spec.namespaces"))
		return part, nil
	}
	part.Gaps = gaps
	add := func(np *networkingv1.NetworkPolicy, why ...artifact.Cause) {
		part.Add(p.Metadata.Name, artifact.Network, File, np, why...)
	}
	for _, ns := range spec.Sorted(p.Spec.Namespaces) {
		path := implied.Path("spec", "namespaces", ns)
		// The deny comes first: a run that ends half way leaves the namespace closed rather than open.
		add(policy(ns, DefaultDeny, nil, networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress), implied.Why(p, path))
		add(dns(ns), implied.WhyImplied(p, path, "DNS"))
		for i := range flows {
			f := &flows[i]
			if f.To.Namespace == ns {
				np := policy(ns, ingressName(f), f.To.Labels, networkingv1.PolicyTypeIngress)
				np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: peers(f.From), Ports: ports(f.Ports)}}
				add(np, f.Why...)
			}
			if f.From.Namespace == ns {
				np := policy(ns, egressName(f), f.From.Labels, networkingv1.PolicyTypeEgress)
				np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: peers(f.To), Ports: ports(f.Ports)}}
				add(np, f.Why...)
			}
		}
	}
	if len(p.Spec.Namespaces) > 0 {
		part.Gap(artifact.Network, "DNS", "every pod may ask the cluster's DNS for any name, which can carry data out; names are not narrowed until the Cilium layer is there", implied.Why(p, "spec.namespaces"))
	}
	return part, nil
}

// ingressName and egressName are unambiguous, because names in the spec have no dots.
func ingressName(f *Flow) string {
	return "ingress." + f.To.Name + dotted(f.PortName) + ".from." + f.From.Name
}

func egressName(f *Flow) string {
	return "egress." + f.From.Name + ".to." + f.To.Name + dotted(f.PortName)
}

func dotted(s string) string {
	if s == "" {
		return ""
	}
	return "." + s
}

func policy(ns, name string, pods map[string]string, types ...networkingv1.PolicyType) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns},
		Spec:       networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: pods}, PolicyTypes: types},
	}
}

// dns lets every pod of a namespace ask the cluster's DNS. Both protocols: answers over 512 bytes and retries use TCP.
func dns(ns string) *networkingv1.NetworkPolicy {
	np := policy(ns, AllowDNS, nil, networkingv1.PolicyTypeEgress)
	np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{
		To:    peers(End{Namespace: "kube-system", Labels: map[string]string{"k8s-app": "kube-dns"}}),
		Ports: ports([]Port{{53, "TCP"}, {53, "UDP"}}),
	}}
	return np
}

// peers selects an end from outside its namespace. The namespace is selected by the label that the API server sets
// itself and nobody can forge; nil means any address.
func peers(e End) []networkingv1.NetworkPolicyPeer {
	if e.Namespace != "" {
		return []networkingv1.NetworkPolicyPeer{{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: e.Namespace}},
			PodSelector:       &metav1.LabelSelector{MatchLabels: e.Labels},
		}}
	}
	var out []networkingv1.NetworkPolicyPeer
	for _, c := range e.CIDRs {
		out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: c}})
	}
	return out
}

func ports(list []Port) []networkingv1.NetworkPolicyPort {
	out := make([]networkingv1.NetworkPolicyPort, len(list))
	for i, p := range list {
		proto, port := corev1.Protocol(p.Protocol), intstr.FromInt32(p.Port)
		out[i] = networkingv1.NetworkPolicyPort{Protocol: &proto, Port: &port}
	}
	return out
}
