package check

import (
	"strings"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Two mistakes with Istio that look like defences. They read the custom resources as they are written; nothing here
// knows whether a sidecar stands in front of the pod.

var meshHeader = &Check{
	ID: "mesh-header-is-not-authentication", Title: "A header is taken for authentication", Severity: finding.Critical, Layer: artifact.Mesh,
	Rationale: "when: request.headers[authorization] with a star is a prefix match on text that the client wrote: `Bearer x` passes. Only RequestAuthentication with requestPrincipals checks the token.",
	Fix:       "Add a RequestAuthentication for the issuer, and from: [{source: {requestPrincipals: [\"ISSUER/*\"]}}] to the same rule.",
	Standards: []string{"NIST IA-2", "NIST AC-3", "OWASP K8s K06"},
	Kinds:     []string{"security.istio.io/AuthorizationPolicy"},
	Object: func(j *Judge, o *cluster.Object) {
		s, _ := o.Content["spec"].(map[string]any)
		if action, _ := s["action"].(string); action != "" && action != "ALLOW" {
			j.Skip()
			return
		}
		rules, _ := s["rules"].([]any)
		for i, r := range rules {
			rule, _ := r.(map[string]any)
			when, _ := rule["when"].([]any)
			for n, w := range when {
				cond, _ := w.(map[string]any)
				key, _ := cond["key"].(string)
				values, _ := cond["values"].([]any)
				if !strings.EqualFold(key, "request.headers[authorization]") || !anyStar(values) || tokenChecked(rule) {
					continue
				}
				j.Fail("spec.rules["+itoa(i)+"].when["+itoa(n)+"]", "the rule lets in whoever sends an authorization header; no requestPrincipals beside it")
			}
		}
	},
}

func anyStar(values []any) bool {
	for _, v := range values {
		if s, _ := v.(string); strings.Contains(s, "*") {
			return true
		}
	}
	return false
}

// tokenChecked reports whether every source of a rule, or one of its conditions, asks for a verified token.
func tokenChecked(rule map[string]any) bool {
	when, _ := rule["when"].([]any)
	for _, w := range when {
		cond, _ := w.(map[string]any)
		key, _ := cond["key"].(string)
		if vs, _ := cond["values"].([]any); len(vs) > 0 && (key == "request.auth.principal" || strings.HasPrefix(key, "request.auth.claims")) {
			return true
		}
	}
	from, _ := rule["from"].([]any)
	for _, f := range from {
		m, _ := f.(map[string]any)
		src, _ := m["source"].(map[string]any)
		if p, _ := src["requestPrincipals"].([]any); len(p) == 0 {
			return false
		}
	}
	return len(from) > 0
}

var meshMTLS = &Check{
	ID: "mesh-mtls-not-strict", Title: "Mesh accepts plain text", Severity: finding.Medium, Layer: artifact.Mesh,
	Rationale: "PERMISSIVE and DISABLE accept connections without a certificate. Rules that name principals then do not hold for whoever comes without one.",
	Fix:       "Set mtls.mode: STRICT.",
	Standards: []string{"NIST SC-8(1)", "NIST IA-9", "OWASP K8s K07"},
	Kinds:     []string{"security.istio.io/PeerAuthentication"},
	Object: func(j *Judge, o *cluster.Object) {
		s, _ := o.Content["spec"].(map[string]any)
		loose := func(m map[string]any, at string) {
			switch mode, _ := m["mode"].(string); mode {
			case "PERMISSIVE", "DISABLE":
				j.Fail(at+".mode", "mtls.mode: "+mode)
			}
		}
		m, _ := s["mtls"].(map[string]any)
		loose(m, "spec.mtls")
		ports, _ := s["portLevelMtls"].(map[string]any)
		names := make(map[string]string, len(ports))
		for p := range ports {
			names[p] = ""
		}
		for _, p := range sortedKeys(names) {
			pm, _ := ports[p].(map[string]any)
			loose(pm, `spec.portLevelMtls["`+p+`"]`)
		}
	},
}
