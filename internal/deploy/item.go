package deploy

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/finding"
)

// item is one object of the plan on its way into the cluster.
type item struct {
	layer   artifact.Layer
	because string
	want    *unstructured.Unstructured
	at      resource // filled by locate

	// Filled by forecast.
	live  *unstructured.Unstructured // nil when it does not exist
	would *unstructured.Unstructured // nil when the server could not be asked, or refused
	// expect is the forecast: Created, Configured, Unchanged or Failed.
	expect     Action
	clientSide bool
	message    string
	err        error
	conflicts  []string
}

// identity tells objects apart whatever their version.
type identity struct {
	groupKind
	namespace, name string
}

func identityOf(o *unstructured.Unstructured) identity {
	return identity{o.GroupVersionKind().GroupKind(), o.GetNamespace(), o.GetName()}
}

func refOf(o *unstructured.Unstructured) finding.Object {
	return finding.Object{APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
}

func (it *item) String() string { return refOf(it.want).String() }

func (it *item) is(kind string) bool {
	return it.want.GetKind() == kind && it.want.GroupVersionKind().Group == groupOf[kind]
}

// groupOf has the groups of the kinds that deploy treats in a way of their own.
var groupOf = map[string]string{
	"Namespace":                        "",
	"ValidatingAdmissionPolicy":        admissionGroup,
	"ValidatingAdmissionPolicyBinding": admissionGroup,
	"RoleBinding":                      rbacGroup,
	"ClusterRoleBinding":               rbacGroup,
}

const (
	admissionGroup = "admissionregistration.k8s.io"
	rbacGroup      = "rbac.authorization.k8s.io"
)

// itemsOf takes the objects that are applied by themselves. Two artifacts with one identity are a mistake of the
// compiler, and applying them would make every run report a change.
func itemsOf(plan *artifact.Plan) ([]*item, error) {
	var out []*item
	seen := map[identity]bool{}
	for _, a := range plan.Artifacts {
		if a.Object == nil || a.Internal {
			continue
		}
		// A copy: the plan is the caller's. DeepCopyJSON wants int64, not int, which is what JSON decoding gives.
		o := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(a.Object)}
		if o.GetName() == "" || o.GetKind() == "" || o.GetAPIVersion() == "" {
			return nil, &StoppedError{Reason: StopInput, Message: fmt.Sprintf("%s in %s has no name, kind or apiVersion", a.ID(), a.Path)}
		}
		if got := o.GetLabels()[artifact.PlatformLabel]; got != plan.Platform {
			return nil, &StoppedError{Reason: StopInput,
				Message: fmt.Sprintf("%s carries %s=%q, not %q; prune could not find it again", a.ID(), artifact.PlatformLabel, got, plan.Platform)}
		}
		id := identityOf(o)
		if seen[id] {
			return nil, &StoppedError{Reason: StopInput, Message: fmt.Sprintf("the plan has %s twice", a.ID())}
		}
		seen[id] = true
		out = append(out, &item{layer: a.Layer, because: artifact.Because(a.Why), want: o})
	}
	if len(out) == 0 {
		return nil, &StoppedError{Reason: StopInput, Message: "the plan has no objects to apply"}
	}
	return out, nil
}

// order sorts items for application; within one rank the plan's order stands.
//
// When a stage tightens, the policies come last, and their bindings after them: nothing of this run is refused half way
// by what the run itself puts in force. When it loosens, the bindings come first, so that the policy that guards Pod
// Security labels and policies no longer stands in the way of changing them. Namespaces that do not exist yet are always
// first.
func order(items []*item, loosening bool) []*item {
	rank := func(it *item) int {
		switch {
		case it.is("Namespace") && it.live == nil:
			return 0
		case it.is("ValidatingAdmissionPolicyBinding"):
			if loosening {
				return 1
			}
			return 6
		case it.is("ValidatingAdmissionPolicy"):
			if loosening {
				return 2
			}
			return 5
		case it.is("Namespace"):
			return 3
		}
		return 4
	}
	out := slices.Clone(items)
	slices.SortStableFunc(out, func(a, b *item) int { return rank(a) - rank(b) })
	return out
}

// loosens reports whether a binding that refuses now would no longer do so. Only that matters for the order: a warning
// stands in nobody's way.
func loosens(items []*item) bool {
	const deny = "Deny"
	return slices.ContainsFunc(items, func(it *item) bool {
		return it.is("ValidatingAdmissionPolicyBinding") && it.live != nil &&
			slices.Contains(actions(it.live), deny) && !slices.Contains(actions(it.want), deny)
	})
}

func actions(binding *unstructured.Unstructured) []string {
	a, _, _ := unstructured.NestedStringSlice(binding.Object, "spec", "validationActions")
	return a
}
