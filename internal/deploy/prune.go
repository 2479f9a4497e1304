package deploy

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/intelgraph/bulwark/internal/artifact"
)

// generated lists the built-in kinds that any layer may have generated in a former run, even if this plan has none of
// them; in the order in which they are deleted: what points to something goes before it.
var generated = []groupKind{
	{Group: admissionGroup, Kind: "ValidatingAdmissionPolicyBinding"},
	{Group: admissionGroup, Kind: "ValidatingAdmissionPolicy"},
	{Group: rbacGroup, Kind: "ClusterRoleBinding"},
	{Group: rbacGroup, Kind: "RoleBinding"},
	{Group: rbacGroup, Kind: "ClusterRole"},
	{Group: rbacGroup, Kind: "Role"},
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"},
	{Group: "networking.k8s.io", Kind: "Ingress"},
	{Group: "policy", Kind: "PodDisruptionBudget"},
	{Group: "", Kind: "ResourceQuota"},
	{Group: "", Kind: "LimitRange"},
	{Group: "", Kind: "ConfigMap"},
	{Group: "", Kind: "ServiceAccount"},
}

// kept lists the kinds that are never deleted, with the reason: with them would go data, or work that runs.
var kept = map[groupKind]string{
	{Group: "", Kind: "Namespace"}:                                    "a namespace is never deleted, everything in it would go with it",
	{Group: "", Kind: "PersistentVolumeClaim"}:                        "data is never deleted",
	{Group: "", Kind: "PersistentVolume"}:                             "data is never deleted",
	{Group: "", Kind: "Secret"}:                                       "a secret is never deleted",
	{Group: "", Kind: "Pod"}:                                          "a workload is never deleted",
	{Group: "", Kind: "ReplicationController"}:                        "a workload is never deleted",
	{Group: "", Kind: "Service"}:                                      "a service is never deleted",
	{Group: "apps", Kind: "Deployment"}:                               "a workload is never deleted",
	{Group: "apps", Kind: "StatefulSet"}:                              "a workload is never deleted",
	{Group: "apps", Kind: "DaemonSet"}:                                "a workload is never deleted",
	{Group: "apps", Kind: "ReplicaSet"}:                               "a workload is never deleted",
	{Group: "batch", Kind: "Job"}:                                     "a workload is never deleted",
	{Group: "batch", Kind: "CronJob"}:                                 "a workload is never deleted",
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: "every object of its kind would go with it",
	{Group: "apiregistration.k8s.io", Kind: "APIService"}:             "it belongs to what serves it",
}

// leftover is an object of a former run that the plan no longer has.
type leftover struct {
	object *unstructured.Unstructured
	at     resource
	// keep says why it is not deleted; "" means that it is.
	keep string
}

func (l leftover) outcome() Outcome {
	o := Outcome{Object: refOf(l.object), Layer: artifact.Layer(l.object.GetLabels()[artifact.LayerLabel]), Action: Pruned, Message: "no longer in the plan"}
	if l.keep != "" {
		o.Action, o.Message = Left, "no longer in the plan: "+l.keep
	}
	return o
}

// prunable gives the resources in which a former run may have left something: those of the plan's kinds, those of
// generated, and namespaces; the ones that the cluster serves, once each, in the order of deletion.
func (c *conn) prunable(items []*item) []prunableResource {
	var out []prunableResource
	seen := map[groupKind]bool{}
	add := func(gk groupKind, r resource) {
		if !seen[gk] && r.listable {
			seen[gk] = true
			out = append(out, prunableResource{r, gk})
		}
	}
	planned := map[groupKind]resource{}
	var others []groupKind
	for _, it := range items {
		gk := it.want.GroupVersionKind().GroupKind()
		if _, ok := planned[gk]; !ok {
			planned[gk] = it.at
			others = append(others, gk)
		}
	}
	for _, gk := range append([]groupKind{{Kind: "Namespace"}}, generated...) {
		if r, ok := planned[gk]; ok {
			add(gk, r)
			continue
		}
		for _, v := range c.groups[gk.Group] {
			if r, ok := c.served[gk.WithVersion(v)]; ok {
				add(gk, r)
				break
			}
		}
	}
	// Custom kinds go first: they point to built-in ones, never the other way round.
	var custom []prunableResource
	for _, gk := range others {
		if !seen[gk] && planned[gk].listable {
			seen[gk] = true
			custom = append(custom, prunableResource{planned[gk], gk})
		}
	}
	return append(custom, out...)
}

type prunableResource struct {
	resource
	kind groupKind
}

// leftovers finds the objects that carry the platform's label, were applied by our field manager and are not in the plan.
// The label alone is not enough: a chart rendered by Bulwark and installed by Helm carries it too.
func (c *conn) leftovers(ctx context.Context, items []*item, platform string) ([]leftover, error) {
	planned := map[identity]bool{}
	for _, it := range items {
		planned[identityOf(it.want)] = true
	}
	selector := labels.Set{artifact.PlatformLabel: platform}.String()
	var out []leftover
	for _, r := range c.prunable(items) {
		list := metav1.ListOptions{LabelSelector: selector, Limit: 500}
		for {
			page, err := c.dyn.Resource(r.GroupVersionResource).List(ctx, list)
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", r.GroupResource(), err)
			}
			for i := range page.Items {
				o := &page.Items[i]
				if ours(o, platform) && !planned[identityOf(o)] {
					out = append(out, leftover{o, r.resource, c.keep(ctx, o)})
				}
			}
			if list.Continue = page.GetContinue(); list.Continue == "" {
				break
			}
		}
	}
	return out, nil
}

// ours reports whether a run of this platform applied the object and nobody is deleting it.
func ours(o *unstructured.Unstructured, platform string) bool {
	return o.GetLabels()[artifact.PlatformLabel] == platform && o.GetDeletionTimestamp() == nil &&
		slices.ContainsFunc(o.GetManagedFields(), func(m metav1.ManagedFieldsEntry) bool {
			return m.Manager == FieldManager && m.Operation == metav1.ManagedFieldsOperationApply && m.Subresource == ""
		})
}

// keep says why an object must not be deleted; "" when it may.
func (c *conn) keep(ctx context.Context, o *unstructured.Unstructured) string {
	gk := o.GroupVersionKind().GroupKind()
	if why := kept[gk]; why != "" {
		return why + "; delete it yourself if nobody needs it"
	}
	if gk == (groupKind{Kind: "ServiceAccount"}) {
		pods, err := c.typed.CoreV1().Pods(o.GetNamespace()).List(ctx, metav1.ListOptions{FieldSelector: "spec.serviceAccountName=" + o.GetName(), Limit: 1})
		if err != nil {
			return "whether a pod still uses it could not be told: " + err.Error()
		}
		if len(pods.Items) > 0 {
			return "pod " + pods.Items[0].Name + " still uses it; it is pruned by the next run after the pod is gone"
		}
	}
	return ""
}

// prune deletes the leftovers, or keeps all of them when controls were not seen to act: what a former run left may be
// what still protects.
func (c *conn) prune(ctx context.Context, f *forecast, opts Options, res *Result) error {
	for i, l := range f.leftovers {
		o := l.outcome()
		for _, control := range res.Controls {
			if o.Action == Pruned && control.State == NotInForce {
				o.Action, o.Message = Left, "no longer in the plan: kept, because "+control.Name+" was not seen to act"
			}
		}
		if o.Action == Pruned {
			uid, version := l.object.GetUID(), l.object.GetResourceVersion()
			background := metav1.DeletePropagationBackground
			var del = c.dyn.Resource(l.at.GroupVersionResource).Delete
			if l.at.namespaced {
				del = c.dyn.Resource(l.at.GroupVersionResource).Namespace(l.object.GetNamespace()).Delete
			}
			// The preconditions make sure that what is deleted is what was looked at.
			err := del(ctx, l.object.GetName(), metav1.DeleteOptions{PropagationPolicy: &background,
				Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
			switch {
			case apierrors.IsNotFound(err):
				o.Message = "no longer in the plan; somebody else deleted it"
			case apierrors.IsConflict(err):
				o.Action, o.Message = Left, "no longer in the plan: it changed meanwhile; the next run looks again"
			case err != nil:
				o.Action, o.Message = Failed, err.Error()
				res.Objects = append(res.Objects, o)
				for _, rest := range f.leftovers[i+1:] {
					r := rest.outcome()
					r.Action, r.Message = NotReached, "no longer in the plan, not deleted yet"
					res.Objects = append(res.Objects, r)
				}
				return &IncompleteError{At: "deleting " + refOf(l.object).String(), Err: err}
			}
		}
		res.Objects = append(res.Objects, o)
		opts.tell("prune", i+1, len(f.leftovers), string(o.Action)+" "+o.Object.String())
	}
	return nil
}

var namespaceGVR = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
