package check

import (
	"strconv"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// A host port opens the pod on every address of the node, past the Service and, with many network plugins, past
// NetworkPolicies.
var hostPorts = &Check{
	ID: "host-port", Title: "Container opens a port of the node", Severity: finding.Medium, Layer: artifact.Network,
	Rationale: "A host port makes the container reachable at the node's own addresses, without Service, ingress or mesh, and takes the port from everybody else. Whether NetworkPolicies hold there depends on the network plugin.",
	Fix:       "Remove hostPort; use a Service.",
	Standards: []string{"PSS baseline", "CIS 5.2.12", "NIST CM-7", "OWASP K8s K07"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		if w.Spec.HostNetwork {
			// Every port is the node's then, and the API server fills hostPort in; host-network says it.
			j.Skip()
			return
		}
		for i := range c.Ports {
			if p := c.Ports[i].HostPort; p != 0 {
				j.Fail(c.Path+".ports["+strconv.Itoa(i)+"].hostPort", "hostPort: "+strconv.Itoa(int(p)))
			}
		}
	},
}
