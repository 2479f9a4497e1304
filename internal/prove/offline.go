package prove

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	admv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/generic"
	"k8s.io/apiserver/pkg/admission/plugin/policy/matching"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/kubernetes/scheme"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	psaapi "k8s.io/pod-security-admission/api"
	psa "k8s.io/pod-security-admission/policy"

	"github.com/intelgraph/bulwark/internal/attack"
)

// Offline judges with the libraries that the API server itself uses: Pod Security and CEL admission policies. It has no
// authorizer and no network, and says so.
type Offline struct {
	defences   *Defences
	podSec     psa.Evaluator
	dispatcher generic.Dispatcher[validating.PolicyHook]
	hooks      []validating.PolicyHook
	// unjudged are a cluster's policies that cannot be judged here, with the reason.
	unjudged   []unjudged
	matcher    generic.PolicyMatcher
	namespaces cache.Indexer
	objects    admission.ObjectInterfaces
}

var _ Engine = (*Offline)(nil)

type unjudged struct {
	policy *admv1.ValidatingAdmissionPolicy
	reason string
}

// NewOffline compiles the policies. A compiled platform's policy that does not compile is an error. A cluster may hold
// somebody's that takes parameters; where such a one could refuse, what nobody else refuses is unknown.
func NewOffline(d *Defences) (*Offline, error) {
	ev, err := psa.NewEvaluator(psa.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("Pod Security: %w", err)
	}
	o := &Offline{defences: d, podSec: ev, objects: admission.NewObjectInterfacesFromScheme(scheme.Scheme)}
	o.setNamespaces(d)
	for _, p := range d.Policies {
		v, err := compile(p)
		if err != nil && d.Read {
			o.unjudged = append(o.unjudged, unjudged{p, err.Error()})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("policy %s does not compile: %w", p.Name, err)
		}
		hook := validating.PolicyHook{Policy: p, Evaluator: v}
		for _, b := range d.Bindings {
			if b.Spec.PolicyName == p.Name {
				hook.Bindings = append(hook.Bindings, b)
			}
		}
		o.hooks = append(o.hooks, hook)
	}
	return o, nil
}

func (o *Offline) setNamespaces(d *Defences) {
	o.namespaces = cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	for _, n := range d.Namespaces {
		_ = o.namespaces.Add(n) // fails only for what has no key
	}
	o.matcher = generic.NewPolicyMatcher(matching.NewMatcher(corelisters.NewNamespaceLister(o.namespaces), nil))
	o.dispatcher = validating.NewDispatcher(nobody, o.matcher)
}

// nobody offline may change the guards: the corpus' identities may not, and administrators are not asked here.
var nobody = authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionNoOpinion, "", nil
})

// Without gives an engine that lacks one control; it shares the compiled policies.
func (o *Offline) Without(removed string) *Offline {
	d := o.defences.without(removed)
	c := *o
	c.defences = d
	c.setNamespaces(d)
	c.hooks = nil
	for _, h := range o.hooks {
		if !slices.ContainsFunc(d.Policies, func(p *admv1.ValidatingAdmissionPolicy) bool { return p.Name == h.Policy.Name }) {
			continue
		}
		h.Bindings = slices.DeleteFunc(slices.Clone(h.Bindings), func(b *validating.PolicyBinding) bool {
			return !slices.ContainsFunc(d.Bindings, func(x *admv1.ValidatingAdmissionPolicyBinding) bool { return x.Name == b.Name })
		})
		c.hooks = append(c.hooks, h)
	}
	return &c
}

// Name implements Engine.
func (o *Offline) Name() string {
	return fmt.Sprintf("offline: the Pod Security library and %d admission policies in the CEL library", len(o.defences.Policies))
}

// Try implements Engine.
func (o *Offline) Try(ctx context.Context, r attack.Request) Outcome {
	switch r.Verb {
	case attack.Ask:
		return noEngine("who may do what is decided by an API server; none was asked")
	case attack.Connect:
		return noEngine("no network plugin runs here, so no packet was sent")
	}
	attrs, pod, err := o.attributes(r)
	if err != nil {
		return unknown(err.Error())
	}
	var out Outcome
	if pod != nil {
		if ns := o.namespace(r.Namespace); ns != nil {
			out.add(o.judgePod(ns, pod))
		} else {
			return unknown("namespace " + r.Namespace + " is not among the defences")
		}
	}
	configuration := attrs.GetKind().Group == "admissionregistration.k8s.io"
	for _, h := range o.hooks {
		// What the API server exempts (rules.IsExemptAdmissionConfigurationResource) only policies from disk judge.
		if configuration && !o.defences.Static[h.Policy.Name] {
			continue
		}
		for _, b := range h.Bindings {
			one := h
			one.Bindings = []*validating.PolicyBinding{withDeny(b)}
			err := o.dispatcher.Dispatch(ctx, attrs, o.objects, []validating.PolicyHook{one})
			if err == nil {
				continue
			}
			ref := byPolicy(h.Policy.Name, afterDenied(err.Error()))
			switch actions := b.Spec.ValidationActions; {
			case slices.Contains(actions, admv1.Deny):
				out.Refusals = append(out.Refusals, ref)
			case slices.Contains(actions, admv1.Warn):
				out.Warnings = append(out.Warnings, ref)
			default:
				out.Recorded = append(out.Recorded, ref)
			}
		}
	}
	out.Admitted = len(out.Refusals) == 0
	if out.Admitted && !configuration {
		if reason := o.mightRefuse(attrs); reason != "" {
			return unknown(reason)
		}
	}
	return out
}

// mightRefuse names a policy that cannot be judged here, matches the request and has a binding that refuses.
func (o *Offline) mightRefuse(attrs admission.Attributes) string {
	for _, u := range o.unjudged {
		if !slices.ContainsFunc(o.defences.Bindings, func(b *admv1.ValidatingAdmissionPolicyBinding) bool {
			return b.Spec.PolicyName == u.policy.Name && slices.Contains(b.Spec.ValidationActions, admv1.Deny)
		}) {
			continue
		}
		if matches, _, _, err := o.matcher.DefinitionMatches(attrs, o.objects, validating.NewValidatingAdmissionPolicyAccessor(u.policy)); matches || err != nil {
			return fmt.Sprintf("policy %s might refuse it and cannot be judged here: %s", u.policy.Name, u.reason)
		}
	}
	return ""
}

func (o *Outcome) add(x Outcome) {
	o.Refusals = append(o.Refusals, x.Refusals...)
	o.Warnings = append(o.Warnings, x.Warnings...)
	o.Recorded = append(o.Recorded, x.Recorded...)
}

// withDeny turns a binding into one that refuses, so that the dispatcher says what it found; the caller then gives it
// the weight that the real binding has.
func withDeny(b *validating.PolicyBinding) *validating.PolicyBinding {
	c := *b
	c.Spec.ValidationActions = []admv1.ValidationAction{admv1.Deny}
	return &c
}

func afterDenied(msg string) string {
	if _, after, ok := strings.Cut(msg, "denied request: "); ok {
		return after
	}
	return msg
}

func (o *Offline) namespace(name string) *corev1.Namespace {
	x, ok, err := o.namespaces.GetByKey(name)
	if err != nil || !ok {
		return nil
	}
	return x.(*corev1.Namespace)
}

// JudgePod says which controls would refuse, warn of, or record a pod in a namespace, as deploy's preflight asks it.
func (o *Offline) JudgePod(ctx context.Context, pod *corev1.Pod) Outcome {
	u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		return unknown(err.Error())
	}
	u["apiVersion"], u["kind"] = "v1", "Pod"
	return o.Try(ctx, attack.Request{As: attack.Deployer, Verb: attack.Create, Version: "v1", Resource: "pods", Namespace: pod.Namespace, Object: u})
}

func (o *Offline) judgePod(ns *corev1.Namespace, pod *corev1.Pod) Outcome {
	var out Outcome
	// A label that cannot be read is not skipped: like the API server, the library then takes the strictest level.
	policy, _ := psaapi.PolicyToEvaluate(ns.Labels, psaapi.Policy{
		Enforce: psaapi.LevelVersion{Level: psaapi.LevelPrivileged, Version: psaapi.LatestVersion()},
		Audit:   psaapi.LevelVersion{Level: psaapi.LevelPrivileged, Version: psaapi.LatestVersion()},
		Warn:    psaapi.LevelVersion{Level: psaapi.LevelPrivileged, Version: psaapi.LatestVersion()},
	})
	judge := func(lv psaapi.LevelVersion) *Refusal {
		if res := EvaluatePod(o.podSec, lv, &pod.ObjectMeta, &pod.Spec); !res.Allowed {
			return &Refusal{Control: attack.ControlPodSecurity(ns.Name), Message: fmt.Sprintf("violates PodSecurity %q: %s", lv.String(), res.ForbiddenDetail())}
		}
		return nil
	}
	if r := judge(policy.Enforce); r != nil {
		out.Refusals = append(out.Refusals, *r)
	}
	if r := judge(policy.Warn); r != nil {
		out.Warnings = append(out.Warnings, *r)
	}
	if r := judge(policy.Audit); r != nil {
		out.Recorded = append(out.Recorded, *r)
	}
	return out
}

// EvaluatePod asks the Pod Security library, after the one default that matters to it: a volume that names no source is
// an emptyDir to the API server.
func EvaluatePod(ev psa.Evaluator, lv psaapi.LevelVersion, meta *metav1.ObjectMeta, spec *corev1.PodSpec) psa.AggregateCheckResult {
	for i := range spec.Volumes {
		if spec.Volumes[i].VolumeSource == (corev1.VolumeSource{}) {
			c := spec.DeepCopy()
			c.Volumes[i].EmptyDir = &corev1.EmptyDirVolumeSource{}
			return EvaluatePod(ev, lv, meta, c)
		}
	}
	return psa.AggregateCheckResults(ev.EvaluatePod(lv, meta, spec))
}

// attributes turns a request into what admission sees; pod is set where Pod Security judges too.
func (o *Offline) attributes(r attack.Request) (admission.Attributes, *corev1.Pod, error) {
	who := &user.DefaultInfo{Name: r.As.User, Groups: r.As.Groups}
	gvr := schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource}
	record := func(obj, old runtime.Object, gvk schema.GroupVersionKind, name string, op admission.Operation) admission.Attributes {
		return admission.NewAttributesRecord(obj, old, gvk, r.Namespace, name, gvr, r.Subresource, op, nil, true, who)
	}
	switch r.Verb {
	case attack.Create, attack.Debug:
		obj, gvk, err := typed(r.Object)
		if err != nil {
			return nil, nil, err
		}
		pod, _ := obj.(*corev1.Pod)
		if r.Verb == attack.Create {
			m, err := metaOf(obj)
			if err != nil {
				return nil, nil, err
			}
			return record(obj, nil, gvk, m.GetName(), admission.Create), pod, nil
		}
		if pod == nil {
			return nil, nil, fmt.Errorf("%s is no pod", gvk.Kind)
		}
		old := pod.DeepCopy()
		old.Spec.EphemeralContainers = nil
		return record(pod, old, gvk, pod.Name, admission.Update), pod, nil
	case attack.Patch:
		if r.Needs != nil {
			old, gvk, err := typed(r.Needs)
			if err != nil {
				return nil, nil, err
			}
			obj, err := scheme.Scheme.New(gvk)
			if err != nil {
				return nil, nil, err
			}
			if err := mergePatch(old, r.Patch, obj); err != nil {
				return nil, nil, err
			}
			// Pod Security asks nobody about what subresources like status change.
			pod, _ := obj.(*corev1.Pod)
			if r.Subresource != "" {
				pod = nil
			}
			return record(obj, old, gvk, r.Name, admission.Update), pod, nil
		}
		if r.Resource == "namespaces" {
			old := o.namespace(r.Name)
			if old == nil {
				return nil, nil, fmt.Errorf("namespace %s is not among the defences", r.Name)
			}
			old = old.DeepCopy()
			old.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}
			obj := &corev1.Namespace{}
			if err := mergePatch(old, r.Patch, obj); err != nil {
				return nil, nil, err
			}
			if obj.Labels == nil {
				obj.Labels = map[string]string{}
			}
			// The API server's default for every namespace, whatever the request says.
			obj.Labels["kubernetes.io/metadata.name"] = r.Name
			r.Namespace = r.Name // as the API server has it for namespaces
			return record(obj, old, corev1.SchemeGroupVersion.WithKind("Namespace"), r.Name, admission.Update), nil, nil
		}
		old, gvk := o.configuration(r)
		obj, err := scheme.Scheme.New(gvk)
		if err != nil {
			return nil, nil, err
		}
		if err := mergePatch(old, r.Patch, obj); err != nil {
			return nil, nil, err
		}
		return record(obj, old, gvk, r.Name, admission.Update), nil, nil
	case attack.Delete:
		old, gvk := o.configuration(r)
		return record(nil, old, gvk, r.Name, admission.Delete), nil, nil
	}
	return nil, nil, fmt.Errorf("the offline engine does not know %q", r.Verb)
}

// configuration gives the policy or binding that a request is about, or an empty one of that name.
func (o *Offline) configuration(r attack.Request) (runtime.Object, schema.GroupVersionKind) {
	if r.Resource == "validatingadmissionpolicybindings" {
		gvk := admv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicyBinding")
		old := &admv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: r.Name}}
		for _, b := range o.defences.Bindings {
			if b.Name == r.Name {
				old = b.DeepCopy()
			}
		}
		old.TypeMeta = metav1.TypeMeta{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind}
		return old, gvk
	}
	gvk := admv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicy")
	old := &admv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: r.Name}}
	for _, p := range o.defences.Policies {
		if p.Name == r.Name {
			old = p.DeepCopy()
		}
	}
	old.TypeMeta = metav1.TypeMeta{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind}
	return old, gvk
}

func typed(m map[string]any) (runtime.Object, schema.GroupVersionKind, error) {
	apiVersion, _ := m["apiVersion"].(string)
	kind, _ := m["kind"].(string)
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	obj, err := scheme.Scheme.New(gvk)
	if err != nil {
		return nil, gvk, fmt.Errorf("%s %s is not a kind of Kubernetes that the offline engine knows", apiVersion, kind)
	}
	// Through JSON and not the unstructured converter, because the corpus' numbers are ints, not int64.
	b, err := json.Marshal(m)
	if err == nil {
		err = json.Unmarshal(b, obj)
	}
	if err != nil {
		return nil, gvk, fmt.Errorf("%s: %w", kind, err)
	}
	defaults(obj)
	return obj, gvk, nil
}

// defaults sets what the API server sets before admission and a policy may read.
func defaults(obj runtime.Object) {
	if ns, ok := obj.(*corev1.Namespace); ok {
		ns.Labels = maps.Clone(ns.Labels)
		if ns.Labels == nil {
			ns.Labels = map[string]string{}
		}
		ns.Labels[corev1.LabelMetadataName] = ns.Name
	}
	if spec := podSpec(obj); spec != nil {
		// Two names of one field (core/v1 conversion).
		spec.ServiceAccountName = cmp.Or(spec.ServiceAccountName, spec.DeprecatedServiceAccount)
		spec.DeprecatedServiceAccount = spec.ServiceAccountName
	}
}

// podSpec gives the pod inside an object, or nil.
func podSpec(obj runtime.Object) *corev1.PodSpec {
	switch o := obj.(type) {
	case *corev1.Pod:
		return &o.Spec
	case *corev1.PodTemplate:
		return &o.Template.Spec
	case *corev1.ReplicationController:
		if o.Spec.Template != nil {
			return &o.Spec.Template.Spec
		}
	case *appsv1.Deployment:
		return &o.Spec.Template.Spec
	case *appsv1.ReplicaSet:
		return &o.Spec.Template.Spec
	case *appsv1.StatefulSet:
		return &o.Spec.Template.Spec
	case *appsv1.DaemonSet:
		return &o.Spec.Template.Spec
	case *batchv1.Job:
		return &o.Spec.Template.Spec
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template.Spec
	}
	return nil
}

func metaOf(obj runtime.Object) (metav1.Object, error) {
	m, ok := obj.(metav1.ObjectMetaAccessor)
	if !ok {
		return nil, fmt.Errorf("%T has no metadata", obj)
	}
	return m.GetObjectMeta(), nil
}

// mergePatch applies an RFC 7386 patch.
func mergePatch(old runtime.Object, patch map[string]any, into any) error {
	b, err := json.Marshal(old)
	if err != nil {
		return err
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	var merge func(a, p map[string]any)
	merge = func(a, p map[string]any) {
		for k, v := range p {
			switch x := v.(type) {
			case nil:
				delete(a, k)
			case map[string]any:
				am, ok := a[k].(map[string]any)
				if !ok {
					am = map[string]any{}
					a[k] = am
				}
				merge(am, x)
			default:
				a[k] = v
			}
		}
	}
	merge(m, patch)
	if b, err = json.Marshal(m); err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// compile is the wiring that the API server keeps to itself (validating.compilePolicy in k8s.io/apiserver).
func compile(p *admv1.ValidatingAdmissionPolicy) (validating.Validator, error) {
	if p.Spec.ParamKind != nil {
		return nil, fmt.Errorf("it takes parameters (%s), which only an API server can look up", p.Spec.ParamKind.Kind)
	}
	with := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	cc, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		return nil, err
	}
	var vars []cel.NamedExpressionAccessor
	for _, v := range p.Spec.Variables {
		vars = append(vars, &validating.Variable{Name: v.Name, Expression: v.Expression})
	}
	cc.CompileAndStoreVariables(vars, with, environment.StoredExpressions)
	var matcher matchconditions.Matcher
	if len(p.Spec.MatchConditions) > 0 {
		conditions := make([]cel.ExpressionAccessor, len(p.Spec.MatchConditions))
		for i := range p.Spec.MatchConditions {
			conditions[i] = (*matchconditions.MatchCondition)(&p.Spec.MatchConditions[i])
		}
		matcher = matchconditions.NewMatcher(cc.CompileCondition(conditions, with, environment.StoredExpressions), p.Spec.FailurePolicy, "policy", "validate", p.Name)
	}
	validations := make([]cel.ExpressionAccessor, len(p.Spec.Validations))
	messages := make([]cel.ExpressionAccessor, len(p.Spec.Validations))
	for i, v := range p.Spec.Validations {
		validations[i] = &validating.ValidationCondition{Expression: v.Expression, Message: v.Message, Reason: v.Reason}
		if v.MessageExpression != "" {
			messages[i] = &validating.MessageExpressionCondition{MessageExpression: v.MessageExpression}
		}
	}
	var annotations []cel.ExpressionAccessor
	for _, a := range p.Spec.AuditAnnotations {
		annotations = append(annotations, &validating.AuditAnnotationCondition{Key: a.Key, ValueExpression: a.ValueExpression})
	}
	v := validating.NewValidator(
		cc.CompileCondition(validations, with, environment.StoredExpressions), matcher,
		cc.CompileCondition(annotations, with, environment.StoredExpressions),
		cc.CompileCondition(messages, cel.OptionalVariableDeclarations{}, environment.StoredExpressions),
		p.Spec.FailurePolicy, nil)
	return v, v.CompileError()
}
