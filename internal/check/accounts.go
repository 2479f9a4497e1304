package check

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// A token in a pod is a key to the API server in the hands of whoever breaks in.

var tokenMounted = &Check{
	ID: "service-account-token-mounted", Title: "API token is mounted without being asked for", Severity: finding.Medium, Layer: artifact.Access,
	Rationale: "Unless told otherwise Kubernetes puts a token for the API server into every container. An intruder reads it first. Programs that never ask the API server need none.",
	Fix:       "Set automountServiceAccountToken: false on the pod; a program that needs a token gets it as a projected volume with an audience and an hour's life.",
	Standards: []string{"CIS 5.1.6", "NIST AC-6", "NSA Authentication and authorization", "OWASP K8s K03"},
	Workload: func(j *Judge, w *cluster.Workload) {
		at := w.SpecPath + ".automountServiceAccountToken"
		if p := w.Spec.AutomountServiceAccountToken; p != nil {
			if *p {
				j.Fail(at, "automountServiceAccountToken: true")
			}
			return
		}
		name, sa := j.Account(w)
		switch {
		case sa == nil && j.Snap.Live && !j.unlisted("/serviceaccounts"):
			j.Fail(at, "automountServiceAccountToken is not set; account "+name+" does not exist")
		case sa == nil:
			j.Fail(at, "automountServiceAccountToken is not set on the pod; account "+name+" was not read and may say otherwise")
		case sa.AutomountServiceAccountToken == nil || *sa.AutomountServiceAccountToken:
			j.Fail(at, "automountServiceAccountToken is set to false neither on the pod nor on account "+name)
		}
	},
}

var defaultAccount = &Check{
	ID: "service-account-default", Title: "Pod runs as the namespace's default account", Severity: finding.Low, Layer: artifact.Access,
	Rationale: "All pods that name no account share one: a right given to it is given to all of them, and the audit log cannot tell them apart.",
	Fix:       "Create a service account for this workload and set serviceAccountName.",
	Standards: []string{"CIS 5.1.5", "NIST AC-6", "OWASP K8s K03"},
	Workload: func(j *Judge, w *cluster.Workload) {
		if name, _ := j.Account(w); name == "default" {
			j.Fail(w.SpecPath+".serviceAccountName", "serviceAccountName is not set, or default")
		}
	},
}

var tokenSecret = &Check{
	ID: "service-account-token-secret", Title: "Service account token that never expires", Severity: finding.Medium, Layer: artifact.Access,
	Rationale: "A Secret of type kubernetes.io/service-account-token holds a token without an end and without an audience. Whoever reads the Secret once is that account until the Secret is deleted.",
	Fix:       "Remove the Secret; ask for a token with TokenRequest (`kubectl create token`) or mount a projected one.",
	Standards: []string{"CIS 5.1.6", "NIST IA-5", "OWASP K8s K06"},
	Kinds:     []string{"/Secret"},
	Object: func(j *Judge, o *cluster.Object) {
		s, ok := o.Typed.(*corev1.Secret)
		if !ok || s.Type != corev1.SecretTypeServiceAccountToken {
			j.Skip()
			return
		}
		j.Fail("type", "a token without an end for account "+s.Annotations[corev1.ServiceAccountNameKey])
	},
}
