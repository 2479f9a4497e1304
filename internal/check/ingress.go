package check

import (
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// The door to the outside.

var ingressKinds = []string{"networking.k8s.io/Ingress"}

var ingressTLS = &Check{
	ID: "ingress-tls-missing", Title: "Ingress serves a host without TLS", Severity: finding.Medium, Layer: artifact.Ingress,
	Rationale: "Without TLS everybody on the way reads and changes the traffic, cookies and tokens among it.",
	Fix:       "Add the host to spec.tls with a secretName.",
	Standards: []string{"NIST SC-8(1)", "NIST AC-17(2)", "OWASP K8s K07"},
	Kinds:     ingressKinds,
	Object: func(j *Judge, o *cluster.Object) {
		in, ok := o.Typed.(*networkingv1.Ingress)
		if !ok {
			j.Skip()
			return
		}
		if len(in.Spec.Rules) == 0 && len(in.Spec.TLS) == 0 {
			j.Fail("spec.tls", "spec.tls is not set")
		}
		for i, r := range in.Spec.Rules {
			if !slices.ContainsFunc(in.Spec.TLS, func(t networkingv1.IngressTLS) bool { return covered(t.Hosts, r.Host) }) {
				j.Fail("spec.rules["+itoa(i)+"].host", "no entry of spec.tls covers "+hostLabel(r.Host))
			}
		}
	},
}

// covered reports whether a TLS entry is for a host. One without hosts is for the controller's default, which is all.
func covered(hosts []string, host string) bool {
	if len(hosts) == 0 {
		return true
	}
	for _, h := range hosts {
		if h == host {
			return true
		}
		if rest, ok := strings.CutPrefix(h, "*."); ok {
			if _, parent, ok := strings.Cut(host, "."); ok && parent == rest {
				return true
			}
		}
	}
	return false
}

func hostLabel(h string) string {
	if h == "" {
		return "every host"
	}
	return h
}

var ingressSnippet = &Check{
	ID: "ingress-snippet", Title: "Ingress writes into the controller's configuration", Severity: finding.High, Layer: artifact.Ingress,
	Rationale: "A snippet is text that the ingress controller puts into its own configuration. Its author reads the controller's token, and with it every secret that the controller may read (CVE-2021-25742).",
	Fix:       "Remove the annotation, and set allow-snippet-annotations: \"false\" in the controller's ConfigMap.",
	Standards: []string{"NIST CM-7", "NIST AC-6", "OWASP K8s K01"},
	Kinds:     ingressKinds,
	Object: func(j *Judge, o *cluster.Object) {
		for _, k := range annotationKeys(o) {
			if strings.HasSuffix(k, "-snippet") && strings.Contains(k, "nginx") {
				j.Fail(`metadata.annotations["`+k+`"]`, "annotation "+k)
			}
		}
	},
}

func annotationKeys(o *cluster.Object) []string {
	if len(o.Meta.Annotations) == 0 {
		return nil
	}
	keys := make([]string, 0, len(o.Meta.Annotations))
	for k := range o.Meta.Annotations {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

var ingressWildcard = &Check{
	ID: "ingress-wildcard-host", Title: "Ingress answers for every host", Severity: finding.Medium, Layer: artifact.Ingress,
	Rationale: "A rule without a host, or with a star, takes requests for names that belong to others, and is how one team's ingress serves another's pages.",
	Fix:       "Name the host.",
	Standards: []string{"NIST SC-7", "OWASP K8s K01"},
	Kinds:     ingressKinds,
	Object: func(j *Judge, o *cluster.Object) {
		in, ok := o.Typed.(*networkingv1.Ingress)
		if !ok {
			j.Skip()
			return
		}
		if len(in.Spec.Rules) == 0 && in.Spec.DefaultBackend != nil {
			j.Fail("spec.defaultBackend", "a default backend and no rule: it answers for every host")
		}
		for i, r := range in.Spec.Rules {
			if r.Host == "" || strings.HasPrefix(r.Host, "*") {
				j.Fail("spec.rules["+itoa(i)+"].host", "the rule answers for "+hostLabel(r.Host))
			}
		}
	},
}

var ingressPlain = &Check{
	ID: "ingress-redirect-off", Title: "Ingress switches off the way to HTTPS", Severity: finding.Medium, Layer: artifact.Ingress,
	Rationale: "With the redirect off the host also answers over plain HTTP, where a first request can be read and turned aside.",
	Fix:       "Remove the annotation: controllers redirect to HTTPS where there is TLS.",
	Standards: []string{"NIST SC-8(1)", "OWASP K8s K07"},
	Kinds:     ingressKinds,
	Object: func(j *Judge, o *cluster.Object) {
		for _, k := range annotationKeys(o) {
			v := strings.ToLower(o.Meta.Annotations[k])
			switch {
			case strings.HasSuffix(k, "/ssl-redirect") && v == "false", strings.HasSuffix(k, "/force-ssl-redirect") && v == "false",
				k == "kubernetes.io/ingress.allow-http" && v == "true":
				j.Fail(`metadata.annotations["`+k+`"]`, k+": "+v)
			}
		}
	},
}
