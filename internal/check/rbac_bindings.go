package check

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// A binding decides who; these checks look at whom it names.

var bindingKinds = []string{rbacGroup + "/RoleBinding", rbacGroup + "/ClusterRoleBinding"}

// perSubject makes a judge of a binding's subjects.
func perSubject(judge func(j *Judge, b *binding, s rbacv1.Subject, at string)) func(*Judge, *cluster.Object) {
	return func(j *Judge, o *cluster.Object) {
		b := j.roles.bindings[o]
		if b == nil || b.builtin {
			j.Skip()
			return
		}
		for i, s := range b.subjects {
			judge(j, b, s, "subjects["+itoa(i)+"]")
		}
	}
}

var rbacAdminBinding = &Check{
	ID: "rbac-admin-binding", Title: "Binding gives an administrator's role", Severity: finding.Critical, Layer: artifact.Access,
	Rationale: "cluster-admin is every right. admin and edit read every secret, make pods and enter them; bound in the whole cluster they are as good.",
	Fix:       "Bind a role that lists what is needed, in the namespace where it is needed.",
	Standards: []string{"CIS 5.1.1", "NIST AC-6(5)", "NSA Authentication and authorization", "OWASP K8s K03"},
	Kinds:     bindingKinds,
	Object: func(j *Judge, o *cluster.Object) {
		b := j.roles.bindings[o]
		if b == nil || b.builtin || b.ref.Kind == "Role" || len(b.subjects) == 0 {
			j.Skip()
			return
		}
		who := make([]string, 0, 3)
		for i, s := range b.subjects {
			if i == 3 {
				who = append(who, "and more")
				break
			}
			who = append(who, subjectName(b, s))
		}
		to := b.ref.Name + " for " + strings.Join(who, ", ")
		switch b.ref.Name {
		case "cluster-admin":
			if b.cluster {
				j.Fail("roleRef.name", to)
			} else {
				j.FailAs(finding.High, "roleRef.name", to+", in "+namespaceLabel(b.Meta.Namespace))
			}
		case "admin", "edit":
			if b.cluster {
				j.FailAs(finding.High, "roleRef.name", to+", in every namespace")
			} else {
				j.FailAs(finding.Medium, "roleRef.name", to+", in "+namespaceLabel(b.Meta.Namespace))
			}
		}
	},
}

var rbacAnonymous = &Check{
	ID: "rbac-anonymous-binding", Title: "Binding gives rights to whoever did not log in", Severity: finding.Critical, Layer: artifact.Access,
	Rationale: "system:anonymous and system:unauthenticated are everybody who reaches the API server's port.",
	Fix:       "Remove the subject.",
	Standards: []string{"NIST AC-14", "NIST AC-6", "NSA Authentication and authorization", "OWASP K8s K03", "OWASP K8s K06"},
	Kinds:     bindingKinds,
	Object: perSubject(func(j *Judge, b *binding, s rbacv1.Subject, at string) {
		if s.Kind == "User" && s.Name == "system:anonymous" || s.Kind == "Group" && s.Name == "system:unauthenticated" {
			j.Fail(at, s.Kind+" "+s.Name+" gets "+b.ref.Kind+" "+b.ref.Name)
		}
	}),
}

var rbacEverybody = &Check{
	ID: "rbac-everybody-binding", Title: "Binding gives rights to everybody", Severity: finding.High, Layer: artifact.Access,
	Rationale: "system:authenticated is every user and every pod that has a token; system:serviceaccounts is every pod. A break-in anywhere has the right.",
	Fix:       "Name the group or account that needs it.",
	Standards: []string{"NIST AC-6", "OWASP K8s K03"},
	Kinds:     bindingKinds,
	Object: perSubject(func(j *Judge, b *binding, s rbacv1.Subject, at string) {
		if s.Kind != "Group" {
			return
		}
		switch {
		case s.Name == "system:authenticated", s.Name == "system:serviceaccounts":
			j.Fail(at, "Group "+s.Name+" gets "+b.ref.Kind+" "+b.ref.Name)
		case strings.HasPrefix(s.Name, "system:serviceaccounts:"):
			j.FailAs(finding.Medium, at, "every pod of namespace "+strings.TrimPrefix(s.Name, "system:serviceaccounts:")+" gets "+b.ref.Kind+" "+b.ref.Name)
		}
	}),
}

var rbacSystemGroup = &Check{
	ID: "rbac-system-group-binding", Title: "Binding gives rights to a group or user of Kubernetes itself", Severity: finding.High, Layer: artifact.Access,
	Rationale: "system:masters goes past RBAC and cannot be taken back from a certificate. What is bound to system:nodes every node has, past the node authorizer that keeps each to its own pods: one stolen kubelet certificate is enough.",
	Fix:       "Make a group or account of your own.",
	Standards: []string{"CIS 5.1.7", "NIST AC-6(5)", "OWASP K8s K03"},
	Kinds:     bindingKinds,
	Object: perSubject(func(j *Judge, b *binding, s rbacv1.Subject, at string) {
		if s.Kind != "Group" && s.Kind != "User" || !strings.HasPrefix(s.Name, "system:") {
			return
		}
		switch {
		case s.Name == "system:anonymous", s.Name == "system:unauthenticated", s.Name == "system:authenticated", strings.HasPrefix(s.Name, "system:serviceaccount"):
			// other checks say it
		default:
			j.Fail(at, s.Kind+" "+s.Name+" gets "+b.ref.Kind+" "+b.ref.Name)
		}
	}),
}

var rbacDefaultAccount = &Check{
	ID: "rbac-default-account-binding", Title: "Binding gives rights to a default service account", Severity: finding.High, Layer: artifact.Access,
	Rationale: "Every pod of the namespace that names no account has these rights, also those that do not exist yet.",
	Fix:       "Make a service account for the workload that needs the right.",
	Standards: []string{"CIS 5.1.5", "NIST AC-6", "OWASP K8s K03"},
	Kinds:     bindingKinds,
	Object: perSubject(func(j *Judge, b *binding, s rbacv1.Subject, at string) {
		if s.Kind == "ServiceAccount" && s.Name == "default" {
			j.Fail(at, subjectName(b, s)+" gets "+b.ref.Kind+" "+b.ref.Name)
		}
	}),
}

var rbacUnresolved = &Check{
	ID: "rbac-role-unseen", Title: "Binding to a role that is not there", Severity: finding.High, Layer: artifact.Access,
	Rationale: "What a binding grants is in its role. Where the role is missing, whoever makes one of that name decides what the subjects may do; where it was not read, nobody has judged it.",
	Fix:       "Give the role's file as well, or remove the binding.",
	Standards: []string{"NIST AC-6", "OWASP K8s K03"},
	Kinds:     bindingKinds,
	Object: func(j *Judge, o *cluster.Object) {
		b := j.roles.bindings[o]
		switch {
		case b == nil || b.builtin || len(b.subjects) == 0:
			j.Skip()
		case b.role != nil:
		case b.ref.Kind == "ClusterRole" && slices.Contains(builtinRoles, b.ref.Name):
			// Its rights are known; rbac-admin-binding judges the strong ones.
		case j.Snap.Live && !j.unlisted(rbacGroup+"/roles") && !j.unlisted(rbacGroup+"/clusterroles"):
			j.FailAs(finding.Medium, "roleRef.name", b.ref.Kind+" "+b.ref.Name+" does not exist")
		default:
			j.Unknown("roleRef.name", b.ref.Kind+" "+b.ref.Name+" was not read, so what this binding grants is not judged")
		}
	},
}
