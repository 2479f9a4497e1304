package check

import (
	"strings"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// A registry prefix without its trailing slash lets ghcr.io/acme-evil/x pass for ghcr.io/acme; the spec's prefixes are
// matched on a path boundary, after what runtimes add ("ubuntu" is docker.io/library/ubuntu).
var imageTrust = &Check{
	ID: "image-registry-untrusted", Title: "Image from a registry that the platform does not trust", Severity: finding.High, Layer: artifact.SupplyChain, NeedsSpec: true,
	Rationale: "The spec names the registries whose images are built, scanned and signed by the platform's own pipeline. An image from elsewhere went through none of it.",
	Fix:       "Mirror the image into a trusted registry, or add its registry to spec.trust.registries.",
	Standards: []string{"CIS 5.5.1", "NIST CM-7(5)", "NIST SR-11", "OWASP K8s K02"},
	Container: func(j *Judge, w *cluster.Workload, c *cluster.Container) {
		trusted := j.Platform.Spec.Trust.Registries
		if len(trusted) == 0 || c.Image == "" || !j.ours(w.Meta.Namespace) {
			j.Skip()
			return
		}
		full := parseImage(c.Image).Full()
		looksLike := ""
		for _, t := range trusted {
			if strings.HasPrefix(full, t) || full+"/" == t {
				return
			}
			if bare := strings.TrimSuffix(t, "/"); strings.HasPrefix(full, bare) || strings.Contains(full, bare) {
				looksLike = t
			}
		}
		m := "image " + c.Image + " is in none of " + strings.Join(trusted, ", ")
		if looksLike != "" {
			m += "; it only looks like " + looksLike
		}
		j.Fail(c.Path+".image", m)
	},
}

// ours reports whether a namespace is one of the platform's. An object without a namespace may become one.
func (f *Facts) ours(ns string) bool {
	if f.Platform == nil {
		return false
	}
	_, ok := f.Platform.Spec.Namespaces[ns]
	return ok || ns == "" && !f.Snap.Live
}
