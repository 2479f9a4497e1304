package compile

import (
	"fmt"
	"strings"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/compile/implied"
	"github.com/intelgraph/bulwark/internal/spec"
)

// absent states what the spec asks for and what no layer of this version compiles, so that nobody takes a line of the
// spec for a defence. A layer that arrives takes its lines out of here.
func absent(p *spec.Platform) []artifact.Gap {
	var part artifact.Part
	s := &p.Spec
	if s.Mesh != nil {
		part.Gap(artifact.Mesh, "mutual TLS", s.Mesh.MTLS+" is declared, but the mesh layer is not compiled yet; whether traffic is encrypted is up to how the mesh was installed", implied.Why(p, "spec.mesh"))
	}
	for _, name := range spec.Sorted(s.Components) {
		r := s.Components[name].Route
		if r == nil {
			continue
		}
		asks := []string{"rate limit", "body size", "timeouts", "connections per client"}
		if r.TLS != nil {
			asks = append([]string{"TLS " + r.TLS.Min}, asks...)
		}
		if r.CORS != nil {
			asks = append(asks, "CORS")
		}
		part.Gap(artifact.Ingress, "route of component/"+name, "the ingress layer is not compiled yet: "+strings.Join(asks, ", ")+" are not enforced", implied.Why(p, implied.Path("spec", "components", name, "route")))
	}
	if x := s.Secrets; x != nil {
		if x.Store != nil || len(x.Items) > 0 {
			part.Gap(artifact.Secrets, "secret store", fmt.Sprintf("the secrets layer is not compiled yet: %d secrets are neither fetched nor refreshed", len(x.Items)), implied.Why(p, "spec.secrets"))
		}
		if x.Rotation != nil {
			part.Gap(artifact.Secrets, "rotation", "the secrets layer is not compiled yet: nothing rotates", implied.Why(p, "spec.secrets.rotation"))
		}
		if x.Scan != nil {
			part.Gap(artifact.Secrets, "secret scan", "the secrets layer is not compiled yet: nothing is scanned", implied.Why(p, "spec.secrets.scan"))
		}
	}
	if len(s.Trust.Signers) > 0 {
		part.Gap(artifact.SupplyChain, "signatures", "the supply-chain layer is not compiled yet: no signature is verified", implied.Why(p, "spec.trust.signers"))
	}
	if len(s.Trust.Attestations) > 0 {
		part.Gap(artifact.SupplyChain, "attestations", "the supply-chain layer is not compiled yet: "+strings.Join(s.Trust.Attestations, ", ")+" are not asked for", implied.Why(p, "spec.trust.attestations"))
	}
	if s.Detection != nil {
		part.Gap(artifact.Detection, "detection", "the detection layer is not compiled yet: nothing watches what runs", implied.Why(p, "spec.detection"))
	}
	if len(s.Response) > 0 {
		part.Gap(artifact.Detection, "response", "the detection layer is not compiled yet: nothing is contained", implied.Why(p, "spec.response"))
	}
	if s.Notify != nil {
		part.Gap(artifact.Monitoring, "notification", "the monitoring layer is not compiled yet: nobody is told", implied.Why(p, "spec.notify"))
	}
	return part.Gaps
}
