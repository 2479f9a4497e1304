package prove

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/compile/admission"
	"github.com/intelgraph/bulwark/internal/source"
)

// Defences are the objects that decide about admission: what the offline engine judges with.
type Defences struct {
	Namespaces []*corev1.Namespace
	Policies   []*admv1.ValidatingAdmissionPolicy
	Bindings   []*admv1.ValidatingAdmissionPolicyBinding
	// Read is true when they were read from a cluster, which may hold policies of others that cannot be judged here.
	Read bool
	// Static holds the names of those policies that the API server loads from disk; they also judge changes of policies.
	Static map[string]bool
}

// FromPlan takes the defences as they were compiled.
func FromPlan(plan *artifact.Plan) (*Defences, error) {
	d := &Defences{Static: map[string]bool{}}
	for _, a := range plan.Artifacts {
		if a.Path == admission.StaticPath && a.Content != nil {
			if err := d.addStatic(a.Content); err != nil {
				return nil, fmt.Errorf("%s: %w", a.Path, err)
			}
			continue
		}
		if a.Object == nil {
			continue
		}
		if err := d.add(a.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", a.ID(), err)
		}
	}
	return d, nil
}

func (d *Defences) addStatic(content []byte) error {
	for _, doc := range source.Split("", content) {
		var m map[string]any
		if err := yaml.Unmarshal(bytes.TrimPrefix(doc.Text, []byte("---")), &m); err != nil {
			return err
		}
		if err := d.add(m); err != nil {
			return err
		}
	}
	for _, p := range d.Policies {
		if strings.HasSuffix(p.Name, ".static.k8s.io") {
			d.Static[p.Name] = true
		}
	}
	return nil
}

func (d *Defences) add(m map[string]any) error {
	convert := func(into any) error { return runtime.DefaultUnstructuredConverter.FromUnstructured(m, into) }
	switch m["kind"] {
	case "Namespace":
		o := &corev1.Namespace{}
		if err := convert(o); err != nil {
			return err
		}
		// The API server adds this label; a binding selects on it.
		o.Labels = maps.Clone(o.Labels)
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels["kubernetes.io/metadata.name"] = o.Name
		d.Namespaces = append(d.Namespaces, o)
	case "ValidatingAdmissionPolicy":
		o := &admv1.ValidatingAdmissionPolicy{}
		if err := convert(o); err != nil {
			return err
		}
		d.Policies = append(d.Policies, o)
	case "ValidatingAdmissionPolicyBinding":
		o := &admv1.ValidatingAdmissionPolicyBinding{}
		if err := convert(o); err != nil {
			return err
		}
		d.Bindings = append(d.Bindings, o)
	}
	return nil
}

// FromCluster reads the defences that really are there, so that "would refuse too" is said of what was deployed and not
// of what was meant. Policies on the control plane's disk cannot be read through the API.
func FromCluster(ctx context.Context, cfg *rest.Config) (*Defences, error) {
	cl, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	d := &Defences{Read: true, Static: map[string]bool{}}
	ns, err := cl.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, explain("list namespaces", err)
	}
	for i := range ns.Items {
		d.Namespaces = append(d.Namespaces, &ns.Items[i])
	}
	pols, err := cl.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, explain("list validatingadmissionpolicies", err)
	}
	for i := range pols.Items {
		pols.Items[i].TypeMeta = metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicy"}
		d.Policies = append(d.Policies, &pols.Items[i])
	}
	binds, err := cl.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, explain("list validatingadmissionpolicybindings", err)
	}
	for i := range binds.Items {
		d.Bindings = append(d.Bindings, &binds.Items[i])
	}
	return d, nil
}

func explain(what string, err error) error {
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		return fmt.Errorf("may not %s: %w; run as a cluster administrator, or judge offline with --offline", what, err)
	}
	return fmt.Errorf("cannot %s: %w", what, err)
}

// control names a policy for reports: by its ID where it is one of ours, else by its whole name. Ours are known by their
// names, because a policy on the control plane's disk cannot be read.
func control(policy string) string {
	for _, suffix := range []string{".bulwark.static.k8s.io", ".bulwark.dev"} {
		if ours, ok := strings.CutSuffix(policy, suffix); ok {
			if id, _, ok := strings.Cut(ours, "."); ok {
				return attack.ControlPolicy(id)
			}
		}
	}
	return attack.ControlPolicy(policy)
}

// without gives the defences less one control: policy/ID, binding/ID or podsecurity/NAMESPACE.
func (d *Defences) without(removed string) *Defences {
	out := &Defences{Namespaces: slices.Clone(d.Namespaces), Policies: d.Policies, Bindings: d.Bindings, Read: d.Read, Static: d.Static}
	kind, name, _ := strings.Cut(removed, "/")
	switch kind {
	case "policy":
		out.Policies = slices.DeleteFunc(slices.Clone(d.Policies), func(p *admv1.ValidatingAdmissionPolicy) bool { return control(p.Name) == removed })
	case "binding":
		out.Bindings = slices.DeleteFunc(slices.Clone(d.Bindings), func(b *admv1.ValidatingAdmissionPolicyBinding) bool {
			return control(b.Spec.PolicyName) == attack.ControlPolicy(name)
		})
	case "podsecurity":
		for i, n := range out.Namespaces {
			if n.Name == name {
				c := n.DeepCopy()
				delete(c.Labels, "pod-security.kubernetes.io/enforce")
				out.Namespaces[i] = c
			}
		}
	}
	return out
}
