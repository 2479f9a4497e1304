package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/source"
	"github.com/intelgraph/bulwark/internal/spec"
)

// Drift is the difference between what a spec compiles to and what a snapshot has. An object of the plan must be there,
// with every field that the plan sets; what a server adds is no drift. What the plan does not know and that opens
// something in the platform's namespaces is drift too.

func plannedKey(a *artifact.Artifact) objectKey {
	apiVersion, _ := a.Object["apiVersion"].(string)
	kind, _ := a.Object["kind"].(string)
	meta, _ := a.Object["metadata"].(map[string]any)
	namespace, _ := meta["namespace"].(string)
	name, _ := meta["name"].(string)
	group, _, grouped := strings.Cut(apiVersion, "/")
	if !grouped {
		group = ""
	}
	return objectKey{group, kind, namespace, name}
}

// planned kinds in plural, as the API lists them, for the question whether a live cluster would list them.
var plurals = map[string]string{
	"Namespace": "/namespaces", "ServiceAccount": "/serviceaccounts",
	"Role": rbacGroup + "/roles", "RoleBinding": rbacGroup + "/rolebindings",
	"ClusterRole": rbacGroup + "/clusterroles", "ClusterRoleBinding": rbacGroup + "/clusterrolebindings",
	"NetworkPolicy":                    "networking.k8s.io/networkpolicies",
	"ValidatingAdmissionPolicy":        "admissionregistration.k8s.io/validatingadmissionpolicies",
	"ValidatingAdmissionPolicyBinding": "admissionregistration.k8s.io/validatingadmissionpolicybindings",
}

var driftMissing = &Check{
	ID: "drift-missing", Title: "Object that the spec asks for is missing", Severity: finding.High, Layer: artifact.Admission,
	Rationale: "A defence that was declared and is not there defends nothing, and everybody who reads the spec believes that it does.",
	Fix:       "Run `bulwark deploy`, or `bulwark render` where files are what is deployed.",
	Standards: []string{"NIST CM-2", "NIST CM-6"},
	NeedsSpec: true,
	Snapshot: func(j *Judge) {
		if j.Plan == nil {
			return
		}
		present := map[objectKey]bool{}
		known, asked := 0, 0
		for _, o := range j.Snap.Objects {
			if k := keyOf(o); !present[k] {
				present[k] = true
				if j.planned[k] != nil {
					known++
				}
			}
		}
		for i := range j.Plan.Artifacts {
			if a := &j.Plan.Artifacts[i]; a.Object != nil && !a.Internal {
				asked++
			}
		}
		if !j.Snap.Live && known == 0 && asked > 0 {
			// These files are about something else; that the plan's are not among them says nothing of the cluster.
			j.SubjectSpec(j.Platform.At, finding.Object{APIVersion: spec.APIVersion, Kind: spec.Kind, Name: j.Platform.Metadata.Name})
			j.Unknown("", "none of the "+itoa(asked)+" objects that the spec compiles to is among the files that were read, so whether they are in place is not judged; name k8s/ and charts/ too, or a cluster")
			return
		}
		for i := range j.Plan.Artifacts {
			a := &j.Plan.Artifacts[i]
			if a.Object == nil || a.Internal {
				continue
			}
			k := plannedKey(a)
			j.SubjectSpec(cause(a), finding.Object{APIVersion: fmt.Sprint(a.Object["apiVersion"]), Kind: k.kind, Namespace: k.namespace, Name: k.name})
			switch {
			case present[k]:
			case j.unlisted(plurals[k.kind]) || j.unlisted(strings.TrimPrefix(plurals[k.kind], "/")):
				j.Unknown("", "the cluster would not list "+plurals[k.kind]+", so nobody knows whether it is there")
			default:
				j.Fail("", "the spec asks for it ("+artifact.Because(a.Why)+") and it is not there"+j.unseen())
			}
		}
	},
}

var driftChanged = &Check{
	ID: "drift-changed", Title: "Object differs from what the spec compiles to", Severity: finding.High, Layer: artifact.Admission,
	Rationale: "Somebody changed a defence by hand, or an old version is still in place. The spec no longer says what is.",
	Fix:       "Change the spec and run `bulwark deploy`; what it applies is what it owns.",
	Standards: []string{"NIST CM-3", "NIST CM-6"},
	NeedsSpec: true,
	Kinds:     []string{"*"},
	Object: func(j *Judge, o *cluster.Object) {
		a := j.planned[keyOf(o)]
		if a == nil {
			j.Skip()
			return
		}
		have, err := contentOf(o)
		if err != nil {
			j.Unknown("", "cannot be compared: "+err.Error())
			return
		}
		var diffs []difference
		differ("", a.Object, have, exactFields[o.Kind], &diffs)
		for _, d := range diffs {
			if o.Kind == "Secret" || o.Kind == "ConfigMap" && strings.HasPrefix(d.path, "data") || strings.HasSuffix(d.path, ".value") || strings.Contains(d.path, ".args") || strings.Contains(d.path, ".command") || strings.HasSuffix(d.path, ".env") {
				j.Fail(d.path, d.path+" is not what the spec compiles to") // whatever stands there may be a secret
				continue
			}
			j.Fail(d.path, fmt.Sprintf("%s: the spec compiles to %s, found %s", d.path, brief(d.want), brief(d.have)))
		}
	},
}

// undeclared makes the judge of a kind in the platform's namespaces that only the plan may have.
func undeclared(what func(o *cluster.Object) string) func(*Judge, *cluster.Object) {
	return func(j *Judge, o *cluster.Object) {
		if j.Platform.Spec.Namespaces[o.Meta.Namespace] == nil || j.Plan == nil {
			j.Skip()
			return
		}
		if j.planned[keyOf(o)] != nil {
			return
		}
		if m := what(o); m != "" {
			j.Fail("", m)
		}
	}
}

var driftUndeclaredPolicy = &Check{
	ID: "drift-undeclared-policy", Title: "Network policy that the spec does not know opens a namespace of the platform", Severity: finding.High, Layer: artifact.Network,
	Rationale: "Network policies add up: one more that allows is a hole in the zero-trust network that no flow declares.",
	Fix:       "Declare the flow in the spec, or delete the policy.",
	Standards: []string{"NIST AC-4", "NIST CM-3"},
	NeedsSpec: true,
	Kinds:     []string{"networking.k8s.io/NetworkPolicy"},
	Object: undeclared(func(o *cluster.Object) string {
		p, ok := o.Typed.(*networkingv1.NetworkPolicy)
		if !ok || len(p.Spec.Ingress)+len(p.Spec.Egress) == 0 {
			return ""
		}
		var ways []string
		if n := len(p.Spec.Ingress); n > 0 {
			ways = append(ways, "incoming traffic by "+itoa(n)+" rule(s)")
		}
		if n := len(p.Spec.Egress); n > 0 {
			ways = append(ways, "outgoing traffic by "+itoa(n)+" rule(s)")
		}
		return "it allows " + strings.Join(ways, " and ") + "; no flow of the spec asks for them"
	}),
}

var driftUndeclaredBinding = &Check{
	ID: "drift-undeclared-binding", Title: "Role binding that the spec does not know gives rights in a namespace of the platform", Severity: finding.High, Layer: artifact.Access,
	Rationale: "Rights add up: one more binding is how least privilege ends, usually at three in the morning and for good.",
	Fix:       "Declare the right in the spec (mayAsk, teams), or delete the binding.",
	Standards: []string{"NIST AC-6", "NIST CM-3", "CIS 5.1.3"},
	NeedsSpec: true,
	Kinds:     bindingKinds,
	Object: func(j *Judge, o *cluster.Object) {
		b := j.roles.bindings[o]
		if b == nil || b.builtin || j.Plan == nil {
			j.Skip()
			return
		}
		// A binding in one of the platform's namespaces, or one of the whole cluster that names an account from there.
		var who []string
		for _, s := range b.subjects {
			if j.Platform.Spec.Namespaces[o.Meta.Namespace] != nil || b.cluster && s.Kind == "ServiceAccount" && j.Platform.Spec.Namespaces[s.Namespace] != nil {
				who = append(who, subjectName(b, s))
			}
		}
		switch {
		case len(who) == 0:
			j.Skip()
		case j.planned[keyOf(o)] == nil:
			j.Fail("subjects", "it gives "+b.ref.Kind+" "+b.ref.Name+" to "+strings.Join(who, ", "))
		}
	},
}

var driftUndeclaredWorkload = &Check{
	ID: "drift-undeclared-workload", Title: "Workload in a namespace of the platform is no component of the spec", Severity: finding.Medium, Layer: artifact.Pods,
	Rationale: "What the spec does not know has no profile, no flows and no owner; an attacker's first own pod looks just like it.",
	Fix:       "Declare it as a component, or remove it.",
	Standards: []string{"NIST CM-8", "NIST CM-7"},
	NeedsSpec: true,
	Workload: func(j *Judge, w *cluster.Workload) {
		if j.Platform.Spec.Namespaces[w.Meta.Namespace] == nil {
			j.Skip()
			return
		}
		if j.component(w) == "" && j.planned[keyOf(w.Object)] == nil {
			j.Fail(w.MetaPath+".labels", "its label "+spec.NameLabel+" names no component of the spec in this namespace")
		}
	},
}

func cause(a *artifact.Artifact) (at source.Pos) {
	if len(a.Why) > 0 {
		return a.Why[0].At
	}
	return at
}

// contentOf gives an object in its unstructured form. Typed objects go through JSON, as a server would show them.
func contentOf(o *cluster.Object) (map[string]any, error) {
	if o.Typed == nil {
		return o.Content, nil
	}
	b, err := json.Marshal(o.Typed)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	m["apiVersion"], m["kind"] = o.APIVersion, o.Kind
	return m, nil
}

// subjects gives the names by which exceptions may refer to a finding's object.
func (f *Facts) subjects() finding.Subject {
	components := map[finding.Object]string{}
	if f.Platform != nil {
		for _, w := range f.workloads {
			if n := f.component(w); n != "" {
				components[w.Ref()] = n
			}
		}
	}
	return func(x finding.Finding) []string {
		o := x.Object
		name := o.Name
		if o.Namespace != "" {
			name = o.Namespace + "/" + o.Name
		}
		out := []string{o.Kind + " " + name, name}
		if o.Kind == "Component" {
			out = append(out, "component/"+o.Name)
		} else if n := components[o]; n != "" {
			out = append(out, "component/"+n)
		}
		return out
	}
}

type difference struct {
	path       string
	want, have any
}

// exactFields names, for the kinds that decide what is let through, the fields that must be as the plan has them and no
// more: an added peer, match condition or rule opens something without taking anything away.
var exactFields = map[string][]string{
	"NetworkPolicy": {"spec"},
	"Role":          {"rules"}, "ClusterRole": {"rules", "aggregationRule"},
	"RoleBinding": {"roleRef", "subjects"}, "ClusterRoleBinding": {"roleRef", "subjects"},
	"ValidatingAdmissionPolicy": {"spec"}, "ValidatingAdmissionPolicyBinding": {"spec"},
	"ServiceAccount": {"automountServiceAccountToken"},
}

// serverDefaults are what an API server writes into a field that was left out: they change nothing.
var serverDefaults = map[string]any{
	"protocol": "TCP", "apiGroup": rbacGroup, "failurePolicy": "Fail", "matchPolicy": "Equivalent", "scope": "*",
}

// differ finds where an object is not what the plan says. Every field of the plan must be there with its value, and a
// list must be as long: one more rule or subject is a change. Fields that only the object has are a server's or
// somebody's additions and are left alone, except below the fields named in exact and below every securityContext.
func differ(path string, want, have any, exact []string, out *[]difference) {
	if len(*out) >= 10 {
		return // a rewritten object needs no complete list
	}
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok && have != nil {
			*out = append(*out, difference{path, want, have})
			return
		}
		if have == nil && len(w) == 0 && closed(path, exact) {
			// An empty selector selects everything; none at all may select nothing.
			*out = append(*out, difference{path, want, nil})
			return
		}
		for _, k := range slices.Sorted(maps.Keys(w)) {
			p := join(path, k)
			// The line of the spec moves when somebody edits above it; that changes no defence.
			if p == `metadata.annotations["`+artifact.BecauseAnnotation+`"]` {
				continue
			}
			differ(p, w[k], h[k], exact, out)
		}
		if path == "" {
			for _, k := range exact {
				if _, planned := w[k]; !planned && h[k] != nil {
					*out = append(*out, difference{k, nil, h[k]})
				}
			}
		} else if closed(path, exact) {
			for _, k := range slices.Sorted(maps.Keys(h)) {
				if _, planned := w[k]; !planned && !addedByServer(path, k, h[k]) {
					*out = append(*out, difference{join(path, k), nil, h[k]})
				}
			}
		}
	case []any:
		h, _ := have.([]any)
		if len(w) != len(h) {
			*out = append(*out, difference{path, want, have})
			return
		}
		for i := range w {
			differ(path+"["+itoa(i)+"]", w[i], h[i], exact, out)
		}
	default:
		if !same(want, have) {
			*out = append(*out, difference{path, want, have})
		}
	}
}

// closed reports a path below which nothing may be added.
func closed(path string, exact []string) bool {
	if strings.HasSuffix(path, ".securityContext") || strings.Contains(path, ".securityContext.") {
		return true
	}
	for _, f := range exact {
		if rest, ok := strings.CutPrefix(path, f); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

func addedByServer(path, key string, v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case map[string]any:
		// In an admission policy's match an empty selector is the default; in a network policy's peer it is a hole.
		return len(x) == 0 && (key == "namespaceSelector" || key == "objectSelector") && (strings.HasSuffix(path, "matchConstraints") || strings.HasSuffix(path, "matchResources"))
	case []any:
		return len(x) == 0
	}
	d, ok := serverDefaults[key]
	return ok && same(d, v)
}

func join(path, key string) string {
	if strings.ContainsAny(key, "./") {
		return path + `["` + key + `"]`
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// same compares scalars as the API does: numbers by value, quantities by what they mean, and a zero value with none.
func same(want, have any) bool {
	if have == nil {
		switch w := want.(type) {
		case string:
			return w == ""
		case bool:
			return !w
		case float64:
			return w == 0
		case int64:
			return w == 0
		}
		return want == nil
	}
	a, b := fmt.Sprint(want), fmt.Sprint(have)
	if a == b {
		return true
	}
	qa, ea := resource.ParseQuantity(a)
	qb, eb := resource.ParseQuantity(b)
	return ea == nil && eb == nil && qa.Cmp(qb) == 0
}

// brief shows a value in a message; what is long is cut.
func brief(v any) string {
	if v == nil {
		return "nothing"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	s := string(b)
	if r := []rune(s); len(r) > 80 {
		s = string(r[:79]) + "…"
	}
	return s
}
