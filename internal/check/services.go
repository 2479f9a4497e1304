package check

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// A Service decides who outside the cluster reaches a pod.

var serviceExposed = &Check{
	ID: "service-exposed", Title: "Service is open to the outside", Severity: finding.Medium, Layer: artifact.Ingress,
	Rationale: "NodePort and LoadBalancer open the pods on every node or at a public address, past the ingress with its TLS, limits and logs.",
	Fix:       "Use ClusterIP behind an Ingress or Gateway; where a load balancer must be, set loadBalancerSourceRanges.",
	Standards: []string{"NIST SC-7", "NIST CM-7", "OWASP K8s K07"},
	Kinds:     []string{"/Service"},
	Object: func(j *Judge, o *cluster.Object) {
		s, ok := o.Typed.(*corev1.Service)
		if !ok {
			j.Skip()
			return
		}
		switch s.Spec.Type {
		case corev1.ServiceTypeNodePort:
			j.Fail("spec.type", "type: NodePort")
		case corev1.ServiceTypeLoadBalancer:
			for i, r := range s.Spec.LoadBalancerSourceRanges {
				if r == "0.0.0.0/0" || r == "::/0" {
					j.Fail("spec.loadBalancerSourceRanges["+strconv.Itoa(i)+"]", "type: LoadBalancer, open to "+r)
					return
				}
			}
			if len(s.Spec.LoadBalancerSourceRanges) == 0 {
				j.Fail("spec.type", "type: LoadBalancer without loadBalancerSourceRanges")
			} else {
				j.FailAs(finding.Low, "spec.type", "type: LoadBalancer, for "+strconv.Itoa(len(s.Spec.LoadBalancerSourceRanges))+" source range(s)")
			}
		}
	},
}

// CVE-2020-8554 has no fix: Kubernetes says to forbid the field.
var serviceExternalIPs = &Check{
	ID: "service-external-ips", Title: "Service claims addresses outside the cluster", Severity: finding.High, Layer: artifact.Network,
	Rationale: "With externalIPs a Service takes the traffic of the whole cluster to an address of its author's choice, DNS or a bank among them (CVE-2020-8554, which has no fix).",
	Fix:       "Remove externalIPs, and forbid the field with the DenyServiceExternalIPs admission plugin.",
	Standards: []string{"NIST SC-7", "OWASP K8s K07"},
	Kinds:     []string{"/Service"},
	Object: func(j *Judge, o *cluster.Object) {
		s, ok := o.Typed.(*corev1.Service)
		if !ok {
			j.Skip()
			return
		}
		for i, ip := range s.Spec.ExternalIPs {
			j.Fail("spec.externalIPs["+strconv.Itoa(i)+"]", "externalIPs holds "+ip)
		}
	},
}
