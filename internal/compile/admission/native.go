package admission

import (
	"bytes"
	"fmt"

	admv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/spec"
)

// Paths of what this layer writes.
const (
	Path       = "k8s/security/admission-controllers.yaml"
	StaticPath = "k8s/security/static/protect-policies.yaml"
)

// TitleAnnotation and its like carry a policy's meaning into the cluster, where `kubectl describe` shows it.
const (
	TitleAnnotation     = "bulwark.dev/refuses"
	RationaleAnnotation = "bulwark.dev/rationale"
	// PolicyLabel holds the policy's ID.
	PolicyLabel = "bulwark.dev/policy"
)

// Compile emits the native form: ValidatingAdmissionPolicies with their bindings, and the one policy that only the API
// server's own disk can hold. Every policy is type-checked against the Kubernetes types first; an error here is a
// mistake of the compiler, and nothing is emitted.
func Compile(p *spec.Platform, _ *spec.Lock, stage artifact.Stage) (artifact.Part, error) {
	var part artifact.Part
	pols := Policies(p)
	for _, pol := range pols {
		if err := pol.typeCheck(firstKind(pol.Subject)); err != nil {
			return artifact.Part{}, err
		}
		if pol.Subject == OnPolicies {
			continue
		}
		part.Add(p.Metadata.Name, artifact.Admission, Path, pol.Native(p), pol.Why...)
	}
	for _, pol := range pols {
		if pol.Subject == OnPolicies {
			b, err := static(p, pol, stage)
			if err != nil {
				return artifact.Part{}, err
			}
			part.AddFile(artifact.Admission, StaticPath, b, pol.Why...)
			continue
		}
		part.Add(p.Metadata.Name, artifact.Admission, Path, pol.Binding(p, stage), pol.Why...)
	}
	if !p.Spec.HasFeature(StaticFeature) {
		part.Gap(artifact.Admission, "the admission policies themselves",
			"policies made through the API cannot guard the API's policies: whoever RBAC lets delete them can; where the API server loads policies from disk (Kubernetes 1.37), say so with has: ["+StaticFeature+"]")
	}
	if len(p.Spec.Trust.Registries) == 0 {
		part.Gap(artifact.Admission, "image registries", "spec.trust.registries is empty, so an image may come from anywhere")
	}
	if e := p.Spec.Admission.Enforce; e != "" && e != "native" {
		part.Gap(artifact.Admission, "admission by "+e, "only the native form is compiled so far, so the API server enforces")
	}
	return part, nil
}

// Actions are what a binding does with an offence at a stage. Enforcing also records, because the API server names only
// the first policy that refuses, and the audit log all of them. Deny and Warn exclude each other (admissionregistration/v1).
func Actions(stage artifact.Stage) []admv1.ValidationAction {
	switch stage {
	case artifact.Audit:
		return []admv1.ValidationAction{admv1.Audit}
	case artifact.Warn:
		return []admv1.ValidationAction{admv1.Warn, admv1.Audit}
	}
	return []admv1.ValidationAction{admv1.Deny, admv1.Audit}
}

// podOf is a CEL expression for the pod spec (or, with metadata, the labels' owner) inside any object that holds one.
// The kinds have different types, so the object is taken as dyn; the type check judges each kind by itself.
func podOf(object string) (holder, spec string) {
	o := "dyn(" + object + ")"
	holder = fmt.Sprintf("%[1]s.kind == 'Pod' ? %[1]s : %[1]s.kind == 'PodTemplate' ? %[1]s.template : %[1]s.kind == 'CronJob' ? %[1]s.spec.jobTemplate.spec.template : %[1]s.spec.template", o)
	return holder, "variables.holder.spec"
}

func (pol Policy) shared() []Variable {
	if pol.Subject != OnPods {
		return nil
	}
	holder, spec := podOf("object")
	return append([]Variable{{"holder", holder}, {"pod", spec}}, parts...)
}

// parts are the variables of every policy that judges pods, once "holder" and "pod" are known.
var parts = []Variable{
	{"labels", "variables.holder.?metadata.?labels.orValue({})"},
	{"containers", "variables.pod.?containers.orValue([])"},
	{"inits", "variables.pod.?initContainers.orValue([])"},
	{"ephemerals", "variables.pod.?ephemeralContainers.orValue([])"},
	{"volumes", "variables.pod.?volumes.orValue([])"},
}

// changed lets an update pass that does not touch what the policies judge: a kubelet's status, a finalizer, the replicas
// of an old ReplicaSet that is on its way out, the label that puts an old pod into quarantine. Without it, adopting a
// policy would freeze what was there before. Of the labels it compares those that policies read.
func changed(guarded []string) string {
	now, _ := podOf("object")
	was, _ := podOf("oldObject")
	c := fmt.Sprintf("request.operation == 'CREATE' || (%[1]s).?spec != (%[2]s).?spec", now, was)
	for _, l := range guarded {
		c += fmt.Sprintf(" || (%[1]s).?metadata.?labels[?%[3]s] != (%[2]s).?metadata.?labels[?%[3]s]", now, was, quote(l))
	}
	return c
}

func rule(group string, ops []admv1.OperationType, resources ...string) admv1.NamedRuleWithOperations {
	scope := admv1.AllScopes
	return admv1.NamedRuleWithOperations{RuleWithOperations: admv1.RuleWithOperations{
		Operations: ops,
		Rule:       admv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: resources, Scope: &scope},
	}}
}

// Native gives the ValidatingAdmissionPolicy. What the API server would default is written out, so that the offline
// engine, which does not default, judges the same object.
func (pol Policy) Native(p *spec.Platform) *admv1.ValidatingAdmissionPolicy {
	fail, equivalent := admv1.Fail, admv1.Equivalent
	write := []admv1.OperationType{admv1.Create, admv1.Update}
	var rules []admv1.NamedRuleWithOperations
	var conditions []admv1.MatchCondition
	switch pol.Subject {
	case OnPods:
		rules = []admv1.NamedRuleWithOperations{
			rule("", write, "pods", "pods/ephemeralcontainers", "replicationcontrollers", "podtemplates"),
			rule("apps", write, "deployments", "statefulsets", "daemonsets", "replicasets"),
			rule("batch", write, "jobs", "cronjobs"),
		}
		if pol.ReadsLabels {
			rules = append(rules, rule("", []admv1.OperationType{admv1.Update}, "pods/status"))
		}
		conditions = []admv1.MatchCondition{{Name: "what-runs-changes", Expression: changed(Guarded(p))}}
	case OnBindings:
		// The second is the older way to the same end.
		rules = []admv1.NamedRuleWithOperations{rule("", []admv1.OperationType{admv1.Create}, "pods/binding", "bindings")}
	case OnSecrets:
		rules = []admv1.NamedRuleWithOperations{rule("", write, "secrets")}
	case OnNamespaces:
		rules = []admv1.NamedRuleWithOperations{rule("", write, "namespaces"), rule("", []admv1.OperationType{admv1.Update}, "namespaces/status", "namespaces/finalize")}
	case OnPolicies:
		rules = []admv1.NamedRuleWithOperations{rule("admissionregistration.k8s.io", []admv1.OperationType{admv1.Update, admv1.Delete}, "validatingadmissionpolicies", "validatingadmissionpolicybindings")}
	}
	out := &admv1.ValidatingAdmissionPolicy{
		TypeMeta: metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicy"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        Name(p.Metadata.Name, pol.ID),
			Labels:      map[string]string{PolicyLabel: pol.ID},
			Annotations: map[string]string{TitleAnnotation: pol.Title, RationaleAnnotation: pol.Rationale},
		},
		Spec: admv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admv1.MatchResources{
				MatchPolicy:       &equivalent,
				NamespaceSelector: &metav1.LabelSelector{},
				ObjectSelector:    &metav1.LabelSelector{},
				ResourceRules:     rules,
			},
			MatchConditions: conditions,
		},
	}
	for _, v := range append(pol.shared(), pol.Variables...) {
		out.Spec.Variables = append(out.Spec.Variables, admv1.Variable{Name: v.Name, Expression: v.Expression})
	}
	out.Spec.Variables = append(out.Spec.Variables, admv1.Variable{Name: "offenders", Expression: pol.Offenders})
	reason := metav1.StatusReasonForbidden
	out.Spec.Validations = []admv1.Validation{{
		Expression:        pol.Decision(),
		Message:           pol.Title,
		MessageExpression: quote(pol.Message) + " + variables.offenders.join(', ')",
		Reason:            &reason,
	}}
	return out
}

// Binding gives the binding that puts the policy in force in the platform's namespaces, which are selected by the one
// label that the API server itself keeps (kubernetes.io/metadata.name).
func (pol Policy) Binding(p *spec.Platform, stage artifact.Stage) *admv1.ValidatingAdmissionPolicyBinding {
	equivalent := admv1.Equivalent
	return &admv1.ValidatingAdmissionPolicyBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicyBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: Name(p.Metadata.Name, pol.ID), Labels: map[string]string{PolicyLabel: pol.ID}},
		Spec: admv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        Name(p.Metadata.Name, pol.ID),
			ValidationActions: Actions(stage),
			MatchResources: &admv1.MatchResources{
				MatchPolicy:    &equivalent,
				ObjectSelector: &metav1.LabelSelector{},
				NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
					Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpIn, Values: spec.Sorted(p.Spec.Namespaces),
				}}},
			},
		},
	}
}

// static gives the file that the API server's ValidatingAdmissionPolicyConfiguration names by its folder.
func static(p *spec.Platform, pol Policy, stage artifact.Stage) ([]byte, error) {
	v, b := pol.Native(p), pol.Binding(p, stage)
	v.Name, b.Name, b.Spec.PolicyName = StaticName(p.Metadata.Name, pol.ID), StaticName(p.Metadata.Name, pol.ID), StaticName(p.Metadata.Name, pol.ID)
	b.Spec.MatchResources = nil
	var part artifact.Part
	part.Add(p.Metadata.Name, artifact.Admission, "", v, pol.Why...)
	part.Add(p.Metadata.Name, artifact.Admission, "", b, pol.Why...)
	var buf bytes.Buffer
	buf.WriteString("# For the control plane, not for kubectl: put this file into the folder that the API server's\n" +
		"# AdmissionConfiguration names as staticManifestsDir of the plugin ValidatingAdmissionPolicy (Kubernetes 1.37).\n")
	// The comment belongs to the first document: the API server refuses a file whose first document is only a comment.
	for i, a := range part.Artifacts {
		y, err := yaml.Marshal(a.Object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.ID(), err)
		}
		if i > 0 {
			buf.WriteString("---\n")
		}
		buf.Write(y)
	}
	return buf.Bytes(), nil
}
