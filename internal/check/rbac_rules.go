package check

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/intelgraph/bulwark/internal/cluster"
)

// role is a Role or ClusterRole with what it really grants and who really has it.
type role struct {
	*cluster.Object
	cluster bool
	rules   []rbacv1.PolicyRule
	// aggregated is true where the rules come from other roles of the snapshot; those are judged themselves. Where those
	// were not read, what the role itself lists is judged.
	aggregated bool
	// builtin is true for one that the API server makes and keeps.
	builtin  bool
	bindings []*binding
	// feeds names the built-in roles that this one is aggregated into, and into holds the other ones: whoever has those has
	// this.
	feeds []string
	into  []*role
}

// binding is a RoleBinding or ClusterRoleBinding.
type binding struct {
	*cluster.Object
	cluster  bool
	ref      rbacv1.RoleRef
	subjects []rbacv1.Subject
	builtin  bool
	// role is nil when the role is not in the snapshot.
	role *role
}

type roleIndex struct {
	byObject map[*cluster.Object]*role
	bindings map[*cluster.Object]*binding
}

func indexRoles(s *cluster.Snapshot) *roleIndex {
	ix := &roleIndex{byObject: map[*cluster.Object]*role{}, bindings: map[*cluster.Object]*binding{}}
	named := map[string]*role{}
	var aggregating []*role
	var selectors [][]metav1.LabelSelector
	var clusterRoles []*role
	for _, o := range s.Objects {
		var r *role
		switch x := o.Typed.(type) {
		case *rbacv1.Role:
			r = &role{Object: o, rules: x.Rules}
			named["Role/"+o.Meta.Namespace+"/"+o.Meta.Name] = r
		case *rbacv1.ClusterRole:
			r = &role{Object: o, cluster: true, rules: x.Rules}
			named["ClusterRole//"+o.Meta.Name] = r
			clusterRoles = append(clusterRoles, r)
			if x.AggregationRule != nil {
				aggregating = append(aggregating, r)
				selectors = append(selectors, x.AggregationRule.ClusterRoleSelectors)
			}
			for _, b := range [...]string{"admin", "edit", "view"} {
				if o.Meta.Labels["rbac.authorization.k8s.io/aggregate-to-"+b] == "true" {
					r.feeds = append(r.feeds, b)
				}
			}
		default:
			continue
		}
		r.builtin = builtinRole(o)
		ix.byObject[o] = r
	}
	for i, r := range aggregating {
		for _, sel := range selectors[i] {
			ls, err := metav1.LabelSelectorAsSelector(&sel)
			if err != nil {
				continue
			}
			for _, c := range clusterRoles {
				if c == r || !ls.Matches(labels.Set(c.Meta.Labels)) {
					continue
				}
				// The rules are judged where they are written; what the role itself lists is overwritten.
				r.aggregated = true
				if !slices.Contains(c.feeds, r.Meta.Name) && !slices.Contains(c.into, r) {
					c.into = append(c.into, r)
				}
			}
		}
	}
	for _, o := range s.Objects {
		b := &binding{Object: o}
		switch x := o.Typed.(type) {
		case *rbacv1.RoleBinding:
			b.ref, b.subjects = x.RoleRef, x.Subjects
		case *rbacv1.ClusterRoleBinding:
			b.cluster, b.ref, b.subjects = true, x.RoleRef, x.Subjects
		default:
			continue
		}
		b.builtin = builtinBinding(o, b)
		if b.ref.Kind == "Role" {
			b.role = named["Role/"+o.Meta.Namespace+"/"+b.ref.Name]
		} else {
			b.role = named["ClusterRole//"+b.ref.Name]
		}
		if b.role != nil && len(b.subjects) > 0 {
			b.role.bindings = append(b.role.bindings, b)
		}
		ix.bindings[o] = b
	}
	return ix
}

// builtinRole reports a role that the API server's bootstrap makes. The label alone is not enough: anybody who may write
// roles may write the label too.
func builtinRole(o *cluster.Object) bool {
	if o.Meta.Labels["kubernetes.io/bootstrapping"] != "rbac-defaults" {
		return false
	}
	name := o.Meta.Name
	if strings.HasPrefix(name, "system:controller:") || strings.HasPrefix(name, "extension-apiserver-authentication") {
		return true
	}
	return slices.Contains(builtinRoles, name)
}

// builtinRoles are the names in Kubernetes 1.37's plugin/pkg/auth/authorizer/rbac/bootstrappolicy.
var builtinRoles = []string{
	"admin", "cluster-admin", "edit", "view",
	"system::leader-locking-kube-controller-manager", "system::leader-locking-kube-scheduler",
	"system:aggregate-to-admin", "system:aggregate-to-edit", "system:aggregate-to-view", "system:auth-delegator", "system:basic-user",
	"system:certificates.k8s.io:certificatesigningrequests:nodeclient", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
	"system:certificates.k8s.io:kube-apiserver-client-approver", "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
	"system:certificates.k8s.io:kubelet-serving-approver", "system:certificates.k8s.io:legacy-unknown-approver",
	"system:cluster-trust-bundle-discovery", "system:controller:bootstrap-signer", "system:controller:cloud-provider", "system:controller:token-cleaner",
	"system:coredns", "system:discovery", "system:heapster", "system:kube-aggregator", "system:kube-controller-manager", "system:kube-dns",
	"system:kube-scheduler", "system:kubelet-api-admin", "system:monitoring", "system:node", "system:node-bootstrapper",
	"system:node-problem-detector", "system:node-proxier", "system:persistent-volume-provisioner", "system:public-info-viewer",
	"system:service-account-issuer-discovery", "system:volume-scheduler",
}

// builtinBinding reports a binding of the bootstrap that still binds only whom the bootstrap bound: a subject that
// somebody added to it is exactly what must be seen.
func builtinBinding(o *cluster.Object, b *binding) bool {
	if o.Meta.Labels["kubernetes.io/bootstrapping"] != "rbac-defaults" {
		return false
	}
	for _, s := range b.subjects {
		switch s.Kind {
		case "ServiceAccount":
			if s.Namespace != "kube-system" {
				return false
			}
		case "User":
			if !strings.HasPrefix(s.Name, "system:kube-") {
				return false
			}
		case "Group":
			switch {
			case s.Name == "system:masters" && b.ref.Name == "cluster-admin":
			case s.Name == "system:nodes" && strings.HasPrefix(b.ref.Name, "system:"):
			case s.Name == "system:monitoring" && b.ref.Name == "system:monitoring":
			case s.Name == "system:serviceaccounts" && (b.ref.Name == "system:service-account-issuer-discovery" || b.ref.Name == "system:cluster-trust-bundle-discovery"):
			case s.Name == "system:authenticated" && (b.ref.Name == "system:basic-user" || b.ref.Name == "system:discovery" || b.ref.Name == "system:public-info-viewer"):
			case s.Name == "system:unauthenticated" && b.ref.Name == "system:public-info-viewer":
			default:
				return false
			}
		}
	}
	return true
}

// matches reports whether a list of a rule holds a value or the star.
func matches(list []string, v string) bool {
	for _, x := range list {
		if x == v || x == "*" {
			return true
		}
	}
	return false
}

// grants reports whether a rule lets a verb act on a resource ("pods", "nodes/proxy") of a group, as the RBAC authorizer
// decides (pkg/apis/rbac/v1/evaluation_helpers.go).
func grants(r *rbacv1.PolicyRule, verb, group, resource string) bool {
	if !matches(r.Verbs, verb) || !matches(r.APIGroups, group) {
		return false
	}
	_, sub, isSub := strings.Cut(resource, "/")
	for _, x := range r.Resources {
		if x == "*" || x == resource || isSub && strings.HasPrefix(x, "*/") && x[2:] == sub {
			return true
		}
	}
	return false
}

// all reports a rule that grants everything: one finding says so, and the single risks are not listed beside it.
func all(r *rbacv1.PolicyRule) bool {
	return slices.Contains(r.Verbs, "*") && slices.Contains(r.APIGroups, "*") && slices.Contains(r.Resources, "*") && len(r.ResourceNames) == 0
}

// holders says in words who has a role. Bound is false when nobody in the snapshot has.
func (r *role) holders() (text string, bound bool) {
	var parts []string
	n := 0
	bindings := slices.Clone(r.bindings)
	for _, x := range r.into {
		bindings = append(bindings, x.bindings...)
	}
	for _, b := range bindings {
		for _, s := range b.subjects {
			n++
			if len(parts) == 3 {
				continue
			}
			t := subjectName(b, s)
			if !b.cluster {
				t += " in " + b.Meta.Namespace
			}
			parts = append(parts, t)
		}
	}
	if n > len(parts) {
		parts = append(parts, "and more")
	}
	for _, f := range r.feeds {
		parts, n = append(parts, "everybody who has "+f), n+1
	}
	if n == 0 {
		return "bound to nobody in what was read", false
	}
	return "held by " + strings.Join(parts, ", "), true
}

func subjectName(b *binding, s rbacv1.Subject) string {
	if s.Kind == "ServiceAccount" {
		ns := s.Namespace
		if ns == "" {
			ns = b.Meta.Namespace
		}
		return "ServiceAccount " + ns + "/" + s.Name
	}
	return s.Kind + " " + s.Name
}
