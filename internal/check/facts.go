package check

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/spec"
)

// Facts is what checks look up beyond their own subject. It is built once and only read afterwards.
type Facts struct {
	Snap *cluster.Snapshot
	// Platform is nil without a spec, Plan too.
	Platform *spec.Platform
	Plan     *artifact.Plan
	Day      time.Time

	workloads []*cluster.Workload
	notJudged []finding.NotJudged
	// accounts by "namespace/name".
	accounts map[string]*corev1.ServiceAccount
	// policies and pods by namespace.
	policies map[string][]policy
	pods     map[string][]*cluster.Workload
	// labelled gives, by namespace and "key=value", the pods with that label, as indexes of pods[namespace].
	labelled map[string]map[string][]int
	roles    *roleIndex
	planned  map[objectKey]*artifact.Artifact
}

// objectKey names an object regardless of its version.
type objectKey struct{ group, kind, namespace, name string }

func keyOf(o *cluster.Object) objectKey {
	return objectKey{o.CurrentGroup(), o.Kind, o.Meta.Namespace, o.Meta.Name}
}

func gather(snap *cluster.Snapshot, opts Options) *Facts {
	f := &Facts{
		Snap: snap, Platform: opts.Spec, Plan: opts.Plan, Day: opts.Day,
		accounts: map[string]*corev1.ServiceAccount{},
		policies: map[string][]policy{},
		pods:     map[string][]*cluster.Workload{},
		planned:  map[objectKey]*artifact.Artifact{},
	}
	f.workloads = snap.Workloads()
	own := len(f.workloads)
	for _, o := range snap.Objects {
		switch x := o.Typed.(type) {
		case *corev1.ServiceAccount:
			f.accounts[o.Meta.Namespace+"/"+o.Meta.Name] = x
		case *networkingv1.NetworkPolicy:
			f.policies[o.Meta.Namespace] = append(f.policies[o.Meta.Namespace], policy{o, x})
		}
		if o.Content == nil {
			continue
		}
		w, err := podInside(o)
		if err != nil {
			at := o.Place(w.SpecPath)
			f.notJudged = append(f.notJudged, finding.NotJudged{
				What: o.Ref().String(), File: at.File, Line: at.Line,
				Reason: "the pod inside this custom kind could not be read: " + err.Error(),
			})
		} else if w != nil {
			if len(f.workloads) == own {
				f.workloads = slices.Clone(f.workloads)
			}
			f.workloads = append(f.workloads, w)
		}
	}
	for _, w := range f.workloads {
		if !w.Owned && !finished(w) {
			f.pods[w.Meta.Namespace] = append(f.pods[w.Meta.Namespace], w)
		}
	}
	f.labelled = make(map[string]map[string][]int, len(f.pods))
	for ns, pods := range f.pods {
		if len(f.policies[ns]) == 0 {
			continue
		}
		by := map[string][]int{}
		for i, w := range pods {
			for k, v := range w.PodMeta.Labels {
				by[k+"="+v] = append(by[k+"="+v], i)
			}
		}
		f.labelled[ns] = by
	}
	f.roles = indexRoles(snap)
	if opts.Plan != nil {
		for i := range opts.Plan.Artifacts {
			if a := &opts.Plan.Artifacts[i]; a.Object != nil {
				f.planned[plannedKey(a)] = a
			}
		}
	}
	return f
}

// policy is a NetworkPolicy with its object.
type policy struct {
	*cluster.Object
	np *networkingv1.NetworkPolicy
}

// selected calls f with the index of each pod of the namespace that a selector selects, until f says stop. The rarest
// label of the selector leads to the candidates, so that many policies over many pods stay cheap.
func (f *Facts) selected(ns string, s *metav1.LabelSelector, yield func(i int) bool) error {
	pods := f.pods[ns]
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return err
	}
	var candidates []int
	narrowed := false
	for k, v := range s.MatchLabels {
		if c := f.labelled[ns][k+"="+v]; !narrowed || len(c) < len(candidates) {
			candidates, narrowed = c, true
		}
	}
	n := len(pods)
	if narrowed {
		n = len(candidates)
	}
	for i := range n {
		at := i
		if narrowed {
			at = candidates[i]
		}
		if sel.Matches(labels.Set(pods[at].PodMeta.Labels)) && !yield(at) {
			break
		}
	}
	return nil
}

// finished reports a pod that has run to its end: it reaches nothing and nothing reaches it.
func finished(w *cluster.Workload) bool {
	p, ok := w.Typed.(*corev1.Pod)
	return ok && (p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed)
}

// podInside finds a pod template in an object of a custom kind, such as an Argo Rollout or a Knative Service, at the
// places that such kinds use. The workload is nil when there is none; on an error it still carries the path.
func podInside(o *cluster.Object) (*cluster.Workload, error) {
	for _, path := range [...][]string{{"spec", "template"}, {"spec", "podTemplate"}, {"spec", "jobTemplate", "spec", "template"}, {"template"}} {
		m := o.Content
		for _, k := range path {
			m, _ = m[k].(map[string]any)
		}
		podSpec, _ := m["spec"].(map[string]any)
		if list, ok := podSpec["containers"].([]any); !ok || len(list) == 0 {
			continue
		}
		at := strings.Join(path, ".")
		w := &cluster.Workload{Object: o, MetaPath: at + ".metadata", SpecPath: at + ".spec"}
		var t corev1.PodTemplateSpec
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m, &t); err != nil {
			return w, err
		}
		w.PodMeta, w.Spec = &t.ObjectMeta, &t.Spec
		return w, nil
	}
	return nil, nil
}

// Account gives the service account that a workload runs as, and its object when the snapshot has it.
func (f *Facts) Account(w *cluster.Workload) (name string, sa *corev1.ServiceAccount) {
	name = w.Spec.ServiceAccountName
	if name == "" {
		name = w.Spec.DeprecatedServiceAccount
	}
	if name == "" {
		name = "default"
	}
	return name, f.accounts[w.Meta.Namespace+"/"+name]
}

// unseen is the end of a message about something that is absent from what was read. On files, absent says less than on a
// live cluster.
func (f *Facts) unseen() string {
	if f.Snap.Live {
		return ""
	}
	return "; only files were read, what else the cluster holds was not seen"
}

// unlisted reports whether a live cluster refused to list a resource, such as "networking.k8s.io/networkpolicies".
func (f *Facts) unlisted(resource string) bool { return slices.Contains(f.Snap.Unlisted, resource) }

// namespaceLabel names a namespace in a message.
func namespaceLabel(ns string) string {
	if ns == "" {
		return "the namespace that these files are applied to"
	}
	return "namespace " + ns
}

// systemNamespaces belong to Kubernetes itself. Its own components there need rights that no application should have.
var systemNamespaces = []string{"kube-system", "kube-public", "kube-node-lease"}

// component gives the name of the component of the spec that a workload is, or "".
func (f *Facts) component(w *cluster.Workload) string {
	if f.Platform == nil {
		return ""
	}
	for _, labels := range []map[string]string{w.PodMeta.Labels, w.Meta.Labels} {
		name := labels[spec.NameLabel]
		if c := f.Platform.Spec.Components[name]; c != nil && (c.Namespace == w.Meta.Namespace || w.Meta.Namespace == "") {
			return name
		}
	}
	return ""
}
