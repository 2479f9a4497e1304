package access

import (
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/compile/implied"
	"github.com/intelgraph/bulwark/internal/spec"
)

// teams gives each team its rights by enumerated resources: RBAC only ever allows, so "all but secrets" cannot be said.
func (b *builder) teams() {
	for _, name := range spec.Sorted(b.p.Spec.Teams) {
		t := b.p.Spec.Teams[name]
		why := implied.Why(b.p, implied.Path("spec", "teams", name))
		group := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: t.Group}}
		role := "team." + name + "." + t.May
		var rules []rbacv1.PolicyRule
		switch t.May {
		case "read":
			rules = b.reading()
		case "operate":
			rules = append(b.reading(), operating()...)
		case "audit":
			rules = auditingNamespace()
			cluster := b.p.Metadata.Name + "." + role
			b.add(&rbacv1.ClusterRole{
				TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
				ObjectMeta: metav1.ObjectMeta{Name: cluster},
				Rules:      b.auditingCluster(),
			}, why)
			b.add(&rbacv1.ClusterRoleBinding{
				TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
				ObjectMeta: metav1.ObjectMeta{Name: cluster},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: cluster},
				Subjects:   group,
			}, why)
		default:
			b.part.Gap(artifact.Access, "team/"+name, fmt.Sprintf("has no rights: %q is not one of read, operate, audit", t.May), why)
			continue
		}
		for _, ns := range spec.Sorted(b.p.Spec.Namespaces) {
			b.role(ns, role, rules, why)
			b.bind(ns, role, group, why)
		}
	}
}

func rule(group string, verbs []string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
}

// reading is what developers need to see how their software does: never secrets.
func (b *builder) reading() []rbacv1.PolicyRule {
	rules := []rbacv1.PolicyRule{
		rule("", read(), "configmaps", "endpoints", "events", "limitranges", "persistentvolumeclaims", "pods", "pods/log", "pods/status",
			"replicationcontrollers", "resourcequotas", "serviceaccounts", "services"),
		rule("apps", read(), "controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"),
		rule("autoscaling", read(), "horizontalpodautoscalers"),
		rule("batch", read(), "cronjobs", "jobs"),
		rule("discovery.k8s.io", read(), "endpointslices"),
		rule("events.k8s.io", read(), "events"),
		rule("networking.k8s.io", read(), "ingresses", "networkpolicies"),
		rule("policy", read(), "poddisruptionbudgets"),
	}
	return append(rules, b.custom(true)...)
}

// operating is what an incident needs: a shell in a running container (which the audit log records), restarting by
// eviction or deletion, scaling. No template may be changed, no port forwarded past the network policies, no ephemeral
// container added, no right granted.
//
// exec needs both verbs: kubectl opens a websocket with GET, older ones POST.
func operating() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule("", []string{"create", "get"}, "pods/exec"),
		rule("", []string{"create"}, "pods/eviction"),
		rule("", []string{"delete"}, "pods"),
		rule("apps", []string{"get", "patch", "update"}, "deployments/scale", "statefulsets/scale"),
	}
}

// auditingNamespace is what auditors read in the platform's own namespaces only: logs of other people's workloads are
// none of theirs.
func auditingNamespace() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{rule("", []string{"get", "list"}, "pods/log")}
}

// auditingCluster is what auditors read everywhere: who may do what, what runs, what guards it. Secrets are not among
// it, and neither is anything that changes the cluster.
func (b *builder) auditingCluster() []rbacv1.PolicyRule {
	rules := []rbacv1.PolicyRule{
		rule("", read(), "configmaps", "endpoints", "events", "limitranges", "namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes",
			"pods", "podtemplates", "replicationcontrollers", "resourcequotas", "serviceaccounts", "services"),
		rule("admissionregistration.k8s.io", read(), "mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "mutatingwebhookconfigurations",
			"validatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingwebhookconfigurations"),
		rule("apiextensions.k8s.io", read(), "customresourcedefinitions"),
		rule("apiregistration.k8s.io", read(), "apiservices"),
		rule("apps", read(), "controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"),
		rule("autoscaling", read(), "horizontalpodautoscalers"),
		rule("batch", read(), "cronjobs", "jobs"),
		rule("certificates.k8s.io", read(), "certificatesigningrequests"),
		rule("discovery.k8s.io", read(), "endpointslices"),
		rule("events.k8s.io", read(), "events"),
		rule("networking.k8s.io", read(), "ingressclasses", "ingresses", "networkpolicies"),
		rule("node.k8s.io", read(), "runtimeclasses"),
		rule("policy", read(), "poddisruptionbudgets"),
		rule("rbac.authorization.k8s.io", read(), "clusterrolebindings", "clusterroles", "rolebindings", "roles"),
		rule("scheduling.k8s.io", read(), "priorityclasses"),
		rule("storage.k8s.io", read(), "csidrivers", "csinodes", "storageclasses", "volumeattachments"),
	}
	return append(rules, b.custom(false)...)
}

// custom lists the kinds of what the cluster runs beside Kubernetes, in the order of spec.Features. SealedSecrets are
// encrypted, ExternalSecrets only say where a secret is: both may be read.
func (b *builder) custom(namespaced bool) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	add := func(feature, group string, inNamespaces []string, clusterWide ...string) {
		if !b.p.Spec.HasFeature(feature) {
			return
		}
		resources := inNamespaces
		if !namespaced {
			resources = append(append([]string{}, inNamespaces...), clusterWide...)
		}
		if len(resources) > 0 {
			rules = append(rules, rule(group, read(), resources...))
		}
	}
	add("istio", "networking.istio.io", []string{"destinationrules", "gateways", "serviceentries", "sidecars", "virtualservices"})
	add("istio", "security.istio.io", []string{"authorizationpolicies", "peerauthentications", "requestauthentications"})
	add("cilium", "cilium.io", []string{"ciliumendpoints", "ciliumnetworkpolicies"}, "ciliumclusterwidenetworkpolicies", "ciliumidentities")
	add("external-secrets", "external-secrets.io", []string{"externalsecrets", "secretstores"}, "clusterexternalsecrets", "clustersecretstores")
	add("sealed-secrets", "bitnami.com", []string{"sealedsecrets"})
	add("kyverno", "policies.kyverno.io", []string{"namespacedimagevalidatingpolicies", "namespacedvalidatingpolicies", "policyexceptions"}, "imagevalidatingpolicies", "mutatingpolicies", "validatingpolicies")
	add("kyverno", "wgpolicyk8s.io", []string{"policyreports"}, "clusterpolicyreports")
	add("gatekeeper", "templates.gatekeeper.sh", nil, "constrainttemplates")
	add("prometheus-operator", "monitoring.coreos.com", []string{"podmonitors", "prometheusrules", "servicemonitors"})
	add("gateway-api", "gateway.networking.k8s.io", []string{"gateways", "grpcroutes", "httproutes", "referencegrants"}, "gatewayclasses")
	add("security-profiles-operator", "security-profiles-operator.x-k8s.io", []string{"profilebindings"}, "apparmorprofiles", "seccompprofiles")
	return rules
}
