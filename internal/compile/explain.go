package compile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/compile/admission"
	"github.com/intelgraph/bulwark/internal/source"
)

// Explanation says of one artifact what it is, which spec lines caused it and what it does, in plain words.
type Explanation struct {
	ID    string         `json:"id"`
	Layer artifact.Layer `json:"layer"`
	Path  string         `json:"path"`
	// Because has one spec line each; Does has one sentence each.
	Because []string `json:"because"`
	Does    []string `json:"does"`
}

// Explain finds artifacts by a name that people type, such as "NetworkPolicy intelgraph-production/default-deny",
// "default-deny" or "charts/maestro/values.yaml", and explains each. An exact name comes before a part of one; nothing
// found gives an error with the nearest name.
func Explain(plan *artifact.Plan, query string) ([]Explanation, error) {
	matches := find(plan, query)
	if len(matches) == 0 {
		names := make([]string, 0, 2*len(plan.Artifacts))
		for _, a := range plan.Artifacts {
			names = append(names, short(a), last(a))
		}
		hint := source.DidYouMean(query, names)
		if hint == "" {
			hint = "`bulwark render` lists the files; the objects are named in them"
		}
		return nil, fmt.Errorf("the plan has no object or file %q; %s", query, hint)
	}
	out := make([]Explanation, len(matches))
	for i, a := range matches {
		out[i] = Explanation{ID: a.ID(), Layer: a.Layer, Path: a.Path, Does: does(a)}
		for _, c := range a.Why {
			if s := c.String(); !slices.Contains(out[i].Because, s) {
				out[i].Because = append(out[i].Because, s)
			}
		}
	}
	return out, nil
}

// short is "Kind namespace/name", and last the name alone.
func short(a artifact.Artifact) string {
	id := a.ID()
	if a.Object == nil {
		return id
	}
	kind, name, _ := strings.Cut(id, " ")
	return kind[strings.LastIndexByte(kind, '/')+1:] + " " + name
}

func last(a artifact.Artifact) string { return short(a)[strings.LastIndexAny(short(a), "/ ")+1:] }

// find gives the artifacts that a query names, by the strictest way of reading it that finds any.
func find(plan *artifact.Plan, query string) []artifact.Artifact {
	q := strings.ToLower(strings.TrimSpace(query))
	if q == "" {
		return nil
	}
	loose := func(s string) string { return strings.Replace(s, " ", "/", 1) } // "networkpolicy/ns/name", "networkpolicy/name"
	for _, same := range []func(artifact.Artifact) bool{
		func(a artifact.Artifact) bool { return q == strings.ToLower(a.ID()) },
		func(a artifact.Artifact) bool { return loose(q) == strings.ToLower(loose(short(a))) },
		func(a artifact.Artifact) bool {
			kind, name, _ := strings.Cut(strings.ToLower(short(a)), " ")
			_, bare, _ := strings.Cut(name, "/")
			return q == name || bare != "" && (q == bare || loose(q) == kind+"/"+bare)
		},
		func(a artifact.Artifact) bool { return a.Object != nil && q == strings.ToLower(a.Path) },
		func(a artifact.Artifact) bool { return len(q) > 2 && strings.Contains(strings.ToLower(a.ID()), q) },
	} {
		var out []artifact.Artifact
		for _, a := range plan.Artifacts {
			if same(a) {
				out = append(out, a)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// Text writes the explanation for people.
func (e Explanation) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  layer    %s\n  file     %s\n", e.ID, e.Layer, e.Path)
	for i, s := range e.Because {
		b.WriteString(label("because", i) + s + "\n")
	}
	for i, s := range e.Does {
		b.WriteString(label("does", i) + s + "\n")
	}
	return b.String()
}

func label(s string, i int) string {
	if i > 0 {
		s = ""
	}
	return fmt.Sprintf("  %-8s ", s)
}

// does says in plain words what an artifact does, from the artifact itself and not from how it came about.
func does(a artifact.Artifact) []string {
	if a.Object == nil {
		return []string{"is a file; nothing in the cluster changes until somebody uses it"}
	}
	kind, _ := a.Object["kind"].(string)
	switch kind {
	case "Namespace":
		return namespaceDoes(decode[corev1.Namespace](a))
	case "ServiceAccount":
		if sa := decode[corev1.ServiceAccount](a); sa.AutomountServiceAccountToken != nil && !*sa.AutomountServiceAccountToken {
			return []string{"is an identity; a pod that uses it gets no token of the Kubernetes API unless the pod itself asks for one"}
		}
		return []string{"is an identity; a pod that uses it gets a token of the Kubernetes API"}
	case "Role":
		return rulesDo(decode[rbacv1.Role](a).Rules, "in its namespace")
	case "ClusterRole":
		return rulesDo(decode[rbacv1.ClusterRole](a).Rules, "in the whole cluster")
	case "RoleBinding":
		b := decode[rbacv1.RoleBinding](a)
		return bindingDoes(b.RoleRef, b.Subjects)
	case "ClusterRoleBinding":
		b := decode[rbacv1.ClusterRoleBinding](a)
		return bindingDoes(b.RoleRef, b.Subjects)
	case "NetworkPolicy":
		return networkDoes(decode[networkingv1.NetworkPolicy](a))
	case "ValidatingAdmissionPolicy":
		return policyDoes(decode[admissionv1.ValidatingAdmissionPolicy](a))
	case "ValidatingAdmissionPolicyBinding":
		b := decode[admissionv1.ValidatingAdmissionPolicyBinding](a)
		var actions []string
		for _, x := range b.Spec.ValidationActions {
			actions = append(actions, map[admissionv1.ValidationAction]string{admissionv1.Deny: "refuses", admissionv1.Warn: "warns", admissionv1.Audit: "records"}[x])
		}
		return []string{strings.Join(actions, " and ") + " what the policy " + b.Spec.PolicyName + " judges an offence"}
	}
	return []string{"is applied as it stands"}
}

// decode reads an object back into its type; the compiler made it of that very type.
func decode[T any](a artifact.Artifact) *T {
	out := new(T)
	if b, err := json.Marshal(a.Object); err == nil {
		_ = json.NewDecoder(bytes.NewReader(b)).Decode(out)
	}
	return out
}

func namespaceDoes(ns *corev1.Namespace) []string {
	verbs := map[string]string{"enforce": "refuses pods below", "warn": "warns of pods below", "audit": "records pods below"}
	var out []string
	for _, mode := range []string{"enforce", "warn", "audit"} {
		if level := ns.Labels["pod-security.kubernetes.io/"+mode]; level != "" {
			out = append(out, fmt.Sprintf("%s the Pod Security level %s of Kubernetes %s", verbs[mode], level, ns.Labels["pod-security.kubernetes.io/"+mode+"-version"]))
		}
	}
	if ns.Labels["pod-security.kubernetes.io/enforce"] == "" {
		out = append(out, "refuses nothing at this stage")
	}
	return out
}

func rulesDo(rules []rbacv1.PolicyRule, where string) []string {
	var out []string
	for _, r := range rules {
		var what []string
		for _, g := range r.APIGroups {
			for _, res := range r.Resources {
				if g != "" {
					res += "." + g
				}
				what = append(what, res)
			}
		}
		s := "lets " + strings.Join(r.Verbs, ", ") + " " + strings.Join(what, ", ")
		if len(r.ResourceNames) > 0 {
			s += " named " + strings.Join(r.ResourceNames, ", ")
			if slices.Contains(r.Verbs, "list") || slices.Contains(r.Verbs, "watch") {
				s += " (list and watch only with --field-selector metadata.name=NAME)"
			}
		}
		out = append(out, s+" "+where)
	}
	return out
}

func bindingDoes(ref rbacv1.RoleRef, subjects []rbacv1.Subject) []string {
	var who []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.ServiceAccountKind:
			who = append(who, "service account "+s.Namespace+"/"+s.Name)
		default:
			who = append(who, strings.ToLower(s.Kind)+" "+s.Name)
		}
	}
	return []string{"gives the rights of " + ref.Kind + " " + ref.Name + " to " + strings.Join(who, ", ")}
}

func networkDoes(np *networkingv1.NetworkPolicy) []string {
	pods := "pods with " + selector(&np.Spec.PodSelector)
	if empty(&np.Spec.PodSelector) {
		pods = "every pod"
	}
	var out []string
	for _, t := range np.Spec.PolicyTypes {
		switch {
		case t == networkingv1.PolicyTypeIngress && len(np.Spec.Ingress) == 0:
			out = append(out, "closes "+pods+" to all incoming traffic that no other policy allows")
		case t == networkingv1.PolicyTypeEgress && len(np.Spec.Egress) == 0:
			out = append(out, "closes "+pods+" to all outgoing traffic that no other policy allows")
		}
	}
	for _, r := range np.Spec.Ingress {
		out = append(out, fmt.Sprintf("lets %s reach %s on %s", ends(r.From), pods, portsText(r.Ports)))
	}
	for _, r := range np.Spec.Egress {
		out = append(out, fmt.Sprintf("lets %s reach %s on %s", pods, ends(r.To), portsText(r.Ports)))
	}
	return out
}

func ends(peers []networkingv1.NetworkPolicyPeer) string {
	if len(peers) == 0 {
		return "any address"
	}
	var out []string
	for _, p := range peers {
		if p.IPBlock != nil {
			out = append(out, p.IPBlock.CIDR)
			continue
		}
		s := "every pod"
		if !empty(p.PodSelector) {
			s = "pods with " + selector(p.PodSelector)
		}
		if p.NamespaceSelector != nil {
			if ns := p.NamespaceSelector.MatchLabels[corev1.LabelMetadataName]; ns != "" {
				s += " in namespace " + ns
			} else {
				s += " in namespaces with " + selector(p.NamespaceSelector)
			}
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func empty(s *metav1.LabelSelector) bool {
	return s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
}

func selector(s *metav1.LabelSelector) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		out = append(out, k+"="+s.MatchLabels[k])
	}
	return strings.Join(out, ",")
}

func portsText(ports []networkingv1.NetworkPolicyPort) string {
	if len(ports) == 0 {
		return "every port"
	}
	var out []string
	for _, p := range ports {
		out = append(out, fmt.Sprintf("%s %s", *p.Protocol, p.Port))
	}
	return strings.Join(out, ", ")
}

// policyDoes reads a policy's own words: its annotations where it has them, else its messages.
func policyDoes(v *admissionv1.ValidatingAdmissionPolicy) []string {
	var out []string
	for _, x := range v.Spec.Validations {
		if x.Message != "" {
			out = append(out, "refuses: "+x.Message)
		}
	}
	if r := v.Annotations[admission.RationaleAnnotation]; r != "" {
		out = append(out, "reason: "+r)
	}
	return out
}
