package check

import (
	"slices"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Pod Security admission is switched on by labels of the namespace; without them the API server admits everything.
// Files that hold no Namespace object say nothing of its labels, so nothing is judged then.

const podSecurity = "pod-security.kubernetes.io/"

var namespaceUnlabelled = &Check{
	ID: "namespace-pod-security-missing", Title: "Namespace enforces no Pod Security level", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "Without the enforce label the API server admits privileged pods into the namespace. audit and warn only tell.",
	Fix:       "Label the namespace pod-security.kubernetes.io/enforce: restricted.",
	Standards: []string{"PSS restricted", "CIS 5.2.1", "NIST AC-6(10)", "NSA Pod security", "OWASP K8s K04"},
	Kinds:     []string{"/Namespace"},
	Object: func(j *Judge, o *cluster.Object) {
		if slices.Contains(systemNamespaces, o.Meta.Name) {
			j.Skip()
			return
		}
		at := `metadata.labels["` + podSecurity + `enforce"]`
		switch level := o.Meta.Labels[podSecurity+"enforce"]; level {
		case "restricted", "baseline", "privileged":
		case "":
			m := "label " + podSecurity + "enforce is not set"
			if o.Meta.Labels[podSecurity+"audit"] != "" || o.Meta.Labels[podSecurity+"warn"] != "" {
				m += "; audit and warn refuse nothing"
			}
			j.Fail(at, m)
		default:
			j.Fail(at, "label "+podSecurity+"enforce: "+level+" is no level")
		}
	},
}

var namespacePrivileged = &Check{
	ID: "namespace-pod-security-privileged", Title: "Namespace admits privileged pods by label", Severity: finding.High, Layer: artifact.Pods,
	Rationale: "enforce: privileged admits every pod: whoever may deploy there owns the nodes.",
	Fix:       "Label it restricted, or baseline where that cannot be; move what needs more into a namespace of its own.",
	Standards: []string{"PSS baseline", "CIS 5.2.1", "NIST AC-6(10)", "NSA Pod security", "OWASP K8s K04"},
	Kinds:     []string{"/Namespace"},
	Object: func(j *Judge, o *cluster.Object) {
		level := o.Meta.Labels[podSecurity+"enforce"]
		if level == "" || slices.Contains(systemNamespaces, o.Meta.Name) {
			j.Skip()
			return
		}
		if level == "privileged" {
			j.Fail(`metadata.labels["`+podSecurity+`enforce"]`, podSecurity+"enforce: privileged")
		}
	},
}

var namespaceUnpinned = &Check{
	ID: "namespace-pod-security-unpinned", Title: "Pod Security version is not pinned", Severity: finding.Low, Layer: artifact.Pods,
	Rationale: "latest, the default, changes what is refused with every upgrade of the cluster: pods that ran are refused on the day that nobody expects it.",
	Fix:       "Set pod-security.kubernetes.io/enforce-version to the cluster's minor version, such as v1.37, and raise it on purpose.",
	Standards: []string{"NIST CM-2", "OWASP K8s K04"},
	Kinds:     []string{"/Namespace"},
	Object: func(j *Judge, o *cluster.Object) {
		level := o.Meta.Labels[podSecurity+"enforce"]
		if level == "" || level == "privileged" || slices.Contains(systemNamespaces, o.Meta.Name) {
			j.Skip()
			return
		}
		at := `metadata.labels["` + podSecurity + `enforce-version"]`
		switch v := o.Meta.Labels[podSecurity+"enforce-version"]; v {
		case "":
			j.Fail(at, "label "+podSecurity+"enforce-version is not set, so latest")
		case "latest":
			j.Fail(at, podSecurity+"enforce-version: latest")
		}
	},
}

var namespaceDefault = &Check{
	ID: "namespace-default-used", Title: "Workload runs in the default namespace", Severity: finding.Low, Layer: artifact.Access,
	Rationale: "default is where everything lands that names no namespace. It cannot be deleted, its labels are nobody's, and rights in it are given without thought.",
	Fix:       "Put the workload into a namespace of its own.",
	Standards: []string{"CIS 5.6.4", "CIS 5.6.1", "NSA Network separation"},
	Workload: func(j *Judge, w *cluster.Workload) {
		switch w.Meta.Namespace {
		case "":
			j.Skip() // decided when it is applied
		case "default":
			j.Fail("metadata.namespace", "namespace: default")
		}
	},
}
