package check

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// The kubelet sends probes from the node. A probe with a host of its own makes it ask anybody, past every NetworkPolicy.
var probeHost = &Check{
	ID: "probe-host", Title: "Probe or hook makes the node ask another host", Severity: finding.Medium, Layer: artifact.Network,
	Rationale: "Probes and lifecycle hooks are sent by the kubelet from the node's network. With a host of their own they reach the cloud's metadata service, the node's localhost or other pods, past every NetworkPolicy (request forgery).",
	Fix:       "Remove host: the pod's own address is the default.",
	Standards: []string{"PSS baseline", "NIST SC-7", "OWASP K8s K07"},
	Container: func(j *Judge, _ *cluster.Workload, c *cluster.Container) {
		probe := func(p *corev1.Probe, field string) {
			if p != nil {
				hostOf(j, c.Path+"."+field, p.HTTPGet, p.TCPSocket)
			}
		}
		probe(c.LivenessProbe, "livenessProbe")
		probe(c.ReadinessProbe, "readinessProbe")
		probe(c.StartupProbe, "startupProbe")
		if c.Lifecycle == nil {
			return
		}
		if h := c.Lifecycle.PostStart; h != nil {
			hostOf(j, c.Path+".lifecycle.postStart", h.HTTPGet, h.TCPSocket)
		}
		if h := c.Lifecycle.PreStop; h != nil {
			hostOf(j, c.Path+".lifecycle.preStop", h.HTTPGet, h.TCPSocket)
		}
	},
}

func hostOf(j *Judge, at string, get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction) {
	if get != nil && get.Host != "" {
		j.Fail(at+".httpGet.host", "host: "+get.Host)
	}
	if tcp != nil && tcp.Host != "" {
		j.Fail(at+".tcpSocket.host", "host: "+tcp.Host)
	}
}
