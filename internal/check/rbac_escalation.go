package check

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// These are the privilege escalation risks of Kubernetes' own page "Role Based Access Control Good Practices", and entry
// into running pods beside them. Each is a right that looks small and leads to all rights. They are judged on the role,
// rule by rule, and the finding says who holds it: a role that nobody holds counts one severity less.

const rbacGroup = "rbac.authorization.k8s.io"

var roleKinds = []string{rbacGroup + "/Role", rbacGroup + "/ClusterRole"}

// perRule makes a judge of a role's rules. Risk says what a rule allows, "" when nothing; less is true when it is not the
// whole risk, as when resourceNames narrow it to a few objects. Scoped is true for resources that live in a namespace: of others a Role can
// give nothing, however it is bound.
func perRule(scoped bool, risk func(r *rbacv1.PolicyRule) (what string, less bool)) func(*Judge, *cluster.Object) {
	return func(j *Judge, o *cluster.Object) {
		r := j.roles.byObject[o]
		if r == nil || r.builtin || r.aggregated {
			j.Skip()
			return
		}
		var holders string
		bound := false
		for i := range r.rules {
			rule := &r.rules[i]
			if all(rule) {
				j.Skip() // rbac-wildcard says it
				continue
			}
			what, less := risk(rule)
			if what == "" {
				continue
			}
			if holders == "" {
				holders, bound = r.holders()
			}
			if byName(rule) {
				what += " named " + strings.Join(rule.ResourceNames, ", ")
			}
			s, m := j.check.Severity, what+"; "+holders
			if !bound {
				s = lesser(s)
			}
			if less {
				s = lesser(s)
			}
			if !scoped && !r.cluster {
				s, m = lesser(s), m+". A Role cannot give this, as the resource is in no namespace; the rule says what somebody meant to give"
			}
			j.FailAs(s, "rules["+itoa(i)+"]", m)
		}
	}
}

// granted gives the verbs of those asked for that a rule grants on any of the resources, in words: "get, list secrets".
func granted(r *rbacv1.PolicyRule, group string, resources []string, verbs ...string) string {
	var vs, rs []string
	for _, res := range resources {
		for _, v := range verbs {
			if grants(r, v, group, res) {
				if !slices.Contains(vs, v) {
					vs = append(vs, v)
				}
				if !slices.Contains(rs, res) {
					rs = append(rs, res)
				}
			}
		}
	}
	if len(vs) == 0 {
		return ""
	}
	return strings.Join(vs, ", ") + " " + strings.Join(rs, ", ")
}

// byName reports whether resourceNames narrow a rule. A create request has no name, so a rule with names never allows
// one, except for subresources, where the parent's name is known.
func byName(r *rbacv1.PolicyRule) bool { return len(r.ResourceNames) > 0 }

var rbacSecrets = &Check{
	ID: "rbac-secrets-read", Title: "Role reads all secrets", Severity: finding.High, Layer: artifact.Access,
	Rationale: "Secrets hold the passwords of everything else, and tokens of service accounts: whoever reads them becomes those accounts. list and watch return the contents too.",
	Fix:       "Name the secrets in resourceNames and grant get only; mount secrets into pods instead of reading them through the API.",
	Standards: []string{"CIS 5.1.2", "NIST AC-6", "NSA Authentication and authorization", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: perRule(true, func(r *rbacv1.PolicyRule) (string, bool) {
		if byName(r) {
			return "", false
		}
		return granted(r, "", []string{"secrets"}, "get", "list", "watch"), false
	}),
}

var podMakers = []struct{ group, resource string }{
	{"", "pods"}, {"", "replicationcontrollers"}, {"", "podtemplates"}, {"apps", "deployments"}, {"apps", "statefulsets"}, {"apps", "daemonsets"},
	{"apps", "replicasets"}, {"batch", "jobs"}, {"batch", "cronjobs"},
}

var rbacWorkloads = &Check{
	ID: "rbac-workload-create", Title: "Role makes or changes workloads", Severity: finding.High, Layer: artifact.Access,
	Rationale: "Whoever makes a pod in a namespace may mount any of its secrets and run as any of its service accounts. Changing a controller's template, or a pod's image, is the same.",
	Fix:       "Leave deploying to one account, the deployer's. Restarting and scaling need patch on named objects, or the scale subresource.",
	Standards: []string{"CIS 5.1.4", "NIST AC-6", "NIST CM-5", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: perRule(true, func(r *rbacv1.PolicyRule) (string, bool) {
		var verbs, resources []string
		for _, m := range podMakers {
			for _, v := range [...]string{"create", "update", "patch"} {
				if v == "create" && byName(r) || !grants(r, v, m.group, m.resource) {
					continue
				}
				if !slices.Contains(verbs, v) {
					verbs = append(verbs, v)
				}
				if !slices.Contains(resources, m.resource) {
					resources = append(resources, m.resource)
				}
			}
		}
		if len(verbs) == 0 {
			return "", false
		}
		return strings.Join(verbs, ", ") + " " + strings.Join(resources, ", "), byName(r)
	}),
}

var rbacVolumes = &Check{
	ID: "rbac-persistent-volume-create", Title: "Role makes persistent volumes", Severity: finding.High, Layer: artifact.Access,
	Rationale: "A PersistentVolume may be a hostPath: whoever makes one mounts any folder of a node, past every rule about hostPath in pods.",
	Fix:       "Grant persistentvolumeclaims, and let a provisioner make the volumes.",
	Standards: []string{"CIS 5.1.9", "NIST AC-6", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: perRule(false, func(r *rbacv1.PolicyRule) (string, bool) {
		if byName(r) {
			return "", false
		}
		return granted(r, "", []string{"persistentvolumes"}, "create"), false
	}),
}

var rbacNodeProxy = &Check{
	ID: "rbac-node-proxy", Title: "Role reaches the kubelets through nodes/proxy", Severity: finding.Critical, Layer: artifact.Access,
	Rationale: "nodes/proxy speaks to the kubelet as the API server: it runs commands in every pod of the node, past admission and the audit log. get alone is enough, because exec over WebSocket is a GET.",
	Fix:       "Grant nodes/metrics, nodes/stats, nodes/log or nodes/healthz, whichever is needed.",
	Standards: []string{"CIS 5.1.10", "NIST AC-6", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: perRule(false, func(r *rbacv1.PolicyRule) (string, bool) {
		return granted(r, "", []string{"nodes/proxy"}, "get", "create", "update", "patch", "delete"), byName(r)
	}),
}

var rbacEscalate = &Check{
	ID: "rbac-escalate", Title: "Role may give itself rights", Severity: finding.Critical, Layer: artifact.Access,
	Rationale: "The verb escalate lets its holder write rights into a role that it does not have itself: it is every right, one request away.",
	Fix:       "Remove the verb escalate.",
	Standards: []string{"CIS 5.1.8", "NIST AC-6", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: perRule(true, func(r *rbacv1.PolicyRule) (string, bool) {
		return granted(r, rbacGroup, []string{"roles", "clusterroles"}, "escalate"), byName(r)
	}),
}

var rbacBind = &Check{
	ID: "rbac-bind", Title: "Role may bind any role", Severity: finding.Critical, Layer: artifact.Access,
	Rationale: "The verb bind lets its holder bind a role whose rights it does not have, cluster-admin among them, to itself.",
	Fix:       "Remove the verb bind, or name in resourceNames the roles that may be bound.",
	Standards: []string{"CIS 5.1.8", "NIST AC-6", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: perRule(true, func(r *rbacv1.PolicyRule) (string, bool) {
		return granted(r, rbacGroup, []string{"roles", "clusterroles"}, "bind"), byName(r)
	}),
}

var rbacImpersonate = &Check{
	ID: "rbac-impersonate", Title: "Role may act as others", Severity: finding.Critical, Layer: artifact.Access,
	Rationale: "impersonate lets its holder send requests as any user, group or account, system:masters among them; the audit log names the other first.",
	Fix:       "Remove impersonate, or name in resourceNames whom it may be.",
	Standards: []string{"CIS 5.1.8", "NIST AC-6", "NIST AU-10", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: func(j *Judge, o *cluster.Object) {
		accounts := perRule(true, func(r *rbacv1.PolicyRule) (string, bool) {
			return granted(r, "", []string{"serviceaccounts"}, "impersonate"), byName(r)
		})
		people := perRule(false, func(r *rbacv1.PolicyRule) (string, bool) {
			what := granted(r, "", []string{"users", "groups"}, "impersonate")
			if what == "" {
				what = granted(r, "authentication.k8s.io", []string{"userextras", "uids"}, "impersonate")
			}
			if grants(r, "impersonate", "", "serviceaccounts") {
				what = "" // the other judge says it
			}
			return what, byName(r)
		})
		accounts(j, o)
		people(j, o)
	},
}

var rbacCSR = &Check{
	ID: "rbac-csr-approve", Title: "Role approves client certificates", Severity: finding.Critical, Layer: artifact.Access,
	Rationale: "Whoever makes a CertificateSigningRequest and approves it is given a certificate for any name, a member of system:masters or a node; certificates cannot be revoked.",
	Fix:       "Leave approving to the controllers; a person who approves must not be able to create, and approves named signers only.",
	Standards: []string{"CIS 5.1.11", "NIST AC-5", "NIST IA-5", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: func(j *Judge, o *cluster.Object) {
		const g = "certificates.k8s.io"
		creates := false
		if r := j.roles.byObject[o]; r != nil {
			for i := range r.rules {
				creates = creates || grants(&r.rules[i], "create", g, "certificatesigningrequests") && !byName(&r.rules[i])
			}
		}
		perRule(false, func(r *rbacv1.PolicyRule) (string, bool) {
			what := granted(r, g, []string{"certificatesigningrequests/approval"}, "update", "patch")
			if what == "" {
				return "", false
			}
			if creates {
				return what + ", and create certificatesigningrequests", false
			}
			// Half of the pair: somebody else has to create the request.
			return what + ", though not create", true
		})(j, o)
	},
}

var rbacTokens = &Check{
	ID: "rbac-token-request", Title: "Role makes tokens for any account", Severity: finding.High, Layer: artifact.Access,
	Rationale: "create on serviceaccounts/token gives a token of every account in reach, with any lifetime: its holder is all of them.",
	Fix:       "Name the accounts in resourceNames.",
	Standards: []string{"CIS 5.1.13", "NIST AC-6", "NIST IA-5", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: perRule(true, func(r *rbacv1.PolicyRule) (string, bool) {
		if byName(r) {
			return "", false
		}
		return granted(r, "", []string{"serviceaccounts/token"}, "create"), false
	}),
}

var rbacAdmission = &Check{
	ID: "rbac-admission-control", Title: "Role changes admission control", Severity: finding.High, Layer: artifact.Access,
	Rationale: "A webhook sees every object that it asks for, secrets among them, and a mutating one changes them; deleting a policy or its binding switches a defence off.",
	Fix:       "Grant these to the platform's deployer alone.",
	Standards: []string{"CIS 5.1.12", "NIST AC-6", "NIST CM-5", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: perRule(false, func(r *rbacv1.PolicyRule) (string, bool) {
		return granted(r, "admissionregistration.k8s.io", []string{
			"validatingwebhookconfigurations", "mutatingwebhookconfigurations", "validatingadmissionpolicies",
			"validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
		}, "create", "update", "patch", "delete", "deletecollection"), byName(r)
	}),
}

var rbacNamespaces = &Check{
	ID: "rbac-namespace-patch", Title: "Role changes namespaces", Severity: finding.High, Layer: artifact.Access,
	Rationale: "A namespace's labels decide its Pod Security level and which network policies let it in. Whoever may patch namespaces switches both off.",
	Fix:       "Grant get, list and watch; leave changing to the platform's deployer.",
	Standards: []string{"NIST AC-6", "NIST CM-5", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: perRule(true, func(r *rbacv1.PolicyRule) (string, bool) {
		return granted(r, "", []string{"namespaces"}, "update", "patch"), byName(r)
	}),
}

var rbacExec = &Check{
	ID: "rbac-pod-exec", Title: "Role enters running pods", Severity: finding.High, Layer: artifact.Access,
	Rationale: "exec, attach and ephemeral containers run commands inside a pod, with its secrets, its account's token and its place in the network; get is enough for exec over WebSocket.",
	Fix:       "Remove the subresources; for incident response grant them to a named group for a time, with the audit log on, and record that as an exception.",
	Standards: []string{"NIST AC-6(9)", "NIST CM-5", "OWASP K8s K03"},
	Kinds:     roleKinds,
	Object: perRule(true, func(r *rbacv1.PolicyRule) (string, bool) {
		what := granted(r, "", []string{"pods/exec", "pods/attach"}, "create", "get")
		if e := granted(r, "", []string{"pods/ephemeralcontainers"}, "update", "patch"); e != "" {
			if what != "" {
				what += "; "
			}
			what += e
		}
		return what, what != "" && byName(r)
	}),
}
