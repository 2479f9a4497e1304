package deploy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/intelgraph/bulwark/internal/artifact"
)

func object(apiVersion, kind, ns, name string, more ...any) *unstructured.Unstructured {
	meta := map[string]any{"name": name}
	if ns != "" {
		meta["namespace"] = ns
	}
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": meta}}
	for i := 0; i < len(more); i += 2 {
		if err := unstructured.SetNestedField(o.Object, more[i+1], strings.Split(more[i].(string), ".")...); err != nil {
			panic(err)
		}
	}
	return o
}

func TestOrder(t *testing.T) {
	const v1adm, v1rbac = "admissionregistration.k8s.io/v1", "rbac.authorization.k8s.io/v1"
	binding := func(actions ...any) *unstructured.Unstructured {
		return object(v1adm, "ValidatingAdmissionPolicyBinding", "", "b", "spec.validationActions", actions)
	}
	items := func(have, want []any) []*item {
		return []*item{
			{want: binding(want...), live: binding(have...)},
			{want: object(v1adm, "ValidatingAdmissionPolicy", "", "p")},
			{want: object(v1rbac, "Role", "old", "r")},
			{want: object("v1", "Namespace", "", "old"), live: object("v1", "Namespace", "", "old")},
			{want: object("v1", "ServiceAccount", "old", "sa")},
			{want: object("v1", "Namespace", "", "new")},
			// A kind of the same name in another group is nothing special.
			{want: object("example.com/v1", "Namespace", "", "impostor")},
		}
	}
	up := []string{"new", "old", "r", "sa", "impostor", "p", "b"}
	down := []string{"new", "b", "p", "old", "r", "sa", "impostor"}
	deny, warn, audit := []any{"Deny", "Audit"}, []any{"Warn", "Audit"}, []any{"Audit"}
	for _, test := range []struct {
		name       string
		have, want []any
		order      []string
	}{
		{"same", deny, deny, up},
		{"audit to enforce", audit, deny, up},
		{"warn to enforce", warn, deny, up},
		{"warn to audit", warn, audit, up},
		{"enforce to warn", deny, warn, down},
		{"enforce to audit", deny, audit, down},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := items(test.have, test.want)
			var got []string
			for _, it := range order(in, loosens(in)) {
				got = append(got, it.want.GetName())
			}
			if diff := cmp.Diff(test.order, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestItemsOf(t *testing.T) {
	label := map[string]any{artifact.PlatformLabel: "shop"}
	sa := func(name string, labels map[string]any) artifact.Artifact {
		return artifact.Artifact{Path: "x.yaml", Object: object("v1", "ServiceAccount", "a", name, "metadata.labels", labels).Object}
	}
	inChart := sa("in-chart", label)
	inChart.Internal = true
	for _, test := range []struct {
		name string
		in   []artifact.Artifact
		want string
	}{
		{"files and the chart's objects are not applied", []artifact.Artifact{{Path: "README", Content: []byte("x")}, inChart, sa("one", label)}, ""},
		{"nothing to apply", []artifact.Artifact{inChart}, "no objects to apply"},
		{"twice", []artifact.Artifact{sa("one", label), sa("one", label)}, "twice"},
		{"a foreign label", []artifact.Artifact{sa("one", map[string]any{artifact.PlatformLabel: "other"})}, "prune could not find it"},
		{"no name", []artifact.Artifact{sa("", label)}, "no name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			items, err := itemsOf(&artifact.Plan{Platform: "shop", Artifacts: test.in})
			if test.want == "" {
				if err != nil || len(items) != 1 || items[0].want.GetName() != "one" {
					t.Errorf("got %v, %v", items, err)
				}
				return
			}
			var s *StoppedError
			if !errors.As(err, &s) || s.Reason != StopInput || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestCompare(t *testing.T) {
	base := func(change func(*unstructured.Unstructured)) *unstructured.Unstructured {
		o := object("v1", "ConfigMap", "a", "x", "data", map[string]any{"k": "v"})
		o.SetResourceVersion("1")
		now := metav1.Now()
		o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: FieldManager, Operation: "Apply", Time: &now, FieldsV1: metav1.NewFieldsV1(`{"f:data":{}}`)}})
		if change != nil {
			change(o)
		}
		return o
	}
	for _, test := range []struct {
		name   string
		before *unstructured.Unstructured
		change func(*unstructured.Unstructured)
		want   Action
	}{
		{"new", nil, nil, Created},
		{"same", base(nil), nil, Unchanged},
		{"what the server counts", base(nil), func(o *unstructured.Unstructured) {
			o.SetResourceVersion("2")
			o.SetGeneration(7)
			later := metav1.Unix(1<<31, 0)
			m := o.GetManagedFields()
			m[0].Time = &later
			o.SetManagedFields(m)
			o.Object["status"] = map[string]any{"seen": true}
		}, Unchanged},
		{"a value", base(nil), func(o *unstructured.Unstructured) { o.Object["data"] = map[string]any{"k": "w"} }, Configured},
		{"only the owner", base(nil), func(o *unstructured.Unstructured) {
			m := o.GetManagedFields()
			m[0].FieldsV1 = metav1.NewFieldsV1(`{}`)
			o.SetManagedFields(m)
		}, Configured},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := compare(test.before, base(test.change)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestDiffHidesSecrets(t *testing.T) {
	live := object("v1", "Secret", "a", "s", "data", map[string]any{"password": "aHVudGVyMg=="})
	live.SetAnnotations(map[string]string{"kubectl.kubernetes.io/last-applied-configuration": `{"data":{"password":"aHVudGVyMg=="}}`})
	f := &forecast{items: []*item{{want: object("v1", "Secret", "a", "s", "stringData", map[string]any{"password": "hunter3"}), live: live, expect: Configured}}}
	got := f.diff()
	for _, secret := range []string{"hunter3", "aHVudGVyMg"} {
		if strings.Contains(got, secret) {
			t.Errorf("the diff shows %s:\n%s", secret, got)
		}
	}
	if !strings.Contains(got, "not shown") {
		t.Errorf("the diff says nothing:\n%s", got)
	}
}

func TestOurs(t *testing.T) {
	base := func(change func(*unstructured.Unstructured)) *unstructured.Unstructured {
		o := object("v1", "ServiceAccount", "a", "x")
		o.SetLabels(map[string]string{artifact.PlatformLabel: "shop"})
		o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "kubectl", Operation: "Update"}, {Manager: FieldManager, Operation: "Apply"}})
		if change != nil {
			change(o)
		}
		return o
	}
	for _, test := range []struct {
		name   string
		change func(*unstructured.Unstructured)
		want   bool
	}{
		{"ours", nil, true},
		{"another platform's", func(o *unstructured.Unstructured) { o.SetLabels(map[string]string{artifact.PlatformLabel: "other"}) }, false},
		{"without the label", func(o *unstructured.Unstructured) { o.SetLabels(nil) }, false},
		{"installed by Helm", func(o *unstructured.Unstructured) {
			o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "helm", Operation: "Update"}})
		}, false},
		{"our name, but not an apply", func(o *unstructured.Unstructured) {
			o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: FieldManager, Operation: "Update"}})
		}, false},
		{"only its status is ours", func(o *unstructured.Unstructured) {
			o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: FieldManager, Operation: "Apply", Subresource: "status"}})
		}, false},
		{"on its way out", func(o *unstructured.Unstructured) { now := metav1.Now(); o.SetDeletionTimestamp(&now) }, false},
	} {
		if got := ours(base(test.change), "shop"); got != test.want {
			t.Errorf("%s: got %t", test.name, got)
		}
	}
}

// TestPrunable holds that nothing with data or running work in it is ever asked about, whatever a plan holds.
func TestPrunable(t *testing.T) {
	c := &conn{served: map[schema.GroupVersionKind]resource{}, groups: map[string][]string{"": {"v1"}, "cilium.io": {"v2"}}}
	serve := func(group, kind, plural string) {
		gvk := schema.GroupVersionKind{Group: group, Version: c.groups[group][0], Kind: kind}
		c.served[gvk] = resource{gvk.GroupVersion().WithResource(plural), true, true}
	}
	serve("", "Namespace", "namespaces")
	serve("", "ServiceAccount", "serviceaccounts")
	serve("cilium.io", "CiliumNetworkPolicy", "ciliumnetworkpolicies")
	cnp := object("cilium.io/v2", "CiliumNetworkPolicy", "a", "x")
	var got []string
	for _, r := range c.prunable([]*item{{want: cnp, at: c.served[cnp.GroupVersionKind()]}}) {
		got = append(got, r.Resource)
	}
	if diff := cmp.Diff([]string{"ciliumnetworkpolicies", "namespaces", "serviceaccounts"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, gk := range generated {
		if kept[gk] != "" {
			t.Errorf("%s is to be pruned and to be kept", gk)
		}
	}
	for _, kind := range []string{"Namespace", "PersistentVolumeClaim", "Secret", "Pod"} {
		if kept[groupKind{Kind: kind}] == "" {
			t.Errorf("%s would be deleted", kind)
		}
	}
}

func TestRead(t *testing.T) {
	s := Sentinel{Policy: "p.example"}
	refusal := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", errors.New("ValidatingAdmissionPolicy 'p.example' with binding 'b' denied request: no"))
	other := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", errors.New("ValidatingAdmissionPolicy 'p.example.com' with binding 'b' denied request: no"))
	warning := []string{"Validation failed for ValidatingAdmissionPolicy 'p.example' with binding 'b': no"}
	counted := func(string) (bool, error) { return true, nil }
	silent := func(string) (bool, error) { return false, nil }
	unreadable := func(string) (bool, error) { return false, errors.New("forbidden: no /metrics for you") }
	for _, test := range []struct {
		stage artifact.Stage
		name  string
		ans   answer
		seen  func(string) (bool, error)
		want  ControlState
	}{
		{artifact.Enforce, "refused", answer{err: refusal}, silent, InForce},
		{artifact.Enforce, "admitted", answer{}, counted, NotInForce},
		{artifact.Enforce, "only warned", answer{warnings: warning}, counted, NotInForce},
		{artifact.Enforce, "refused by a policy with a longer name", answer{err: other}, silent, NotSeen},
		{artifact.Enforce, "another named, but counted", answer{err: other}, counted, InForce},
		{artifact.Enforce, "another named, metrics unreadable", answer{err: other}, unreadable, NotSeen},
		{artifact.Enforce, "no answer", answer{err: errors.New("connection reset, ValidatingAdmissionPolicy 'p.example'")}, counted, NotSeen},
		{artifact.Warn, "warned", answer{warnings: warning}, silent, InForce},
		{artifact.Warn, "still refused", answer{err: refusal, warnings: warning}, counted, NotInForce},
		{artifact.Warn, "nothing said", answer{}, counted, NotInForce},
		{artifact.Warn, "another's warning", answer{warnings: []string{"unknown field"}}, counted, NotInForce},
		{artifact.Warn, "refused by another", answer{err: other}, counted, NotSeen},
		{artifact.Audit, "counted", answer{}, counted, InForce},
		{artifact.Audit, "not counted", answer{}, silent, NotSeen},
		{artifact.Audit, "metrics unreadable", answer{}, unreadable, NotSeen},
		{artifact.Audit, "still refused", answer{err: refusal}, counted, NotInForce},
	} {
		got, evidence := s.read(test.stage, test.ans, test.seen)
		if got != test.want || evidence == "" {
			t.Errorf("%s, %s: got %q (%s), want %q", test.stage, test.name, got, evidence, test.want)
		}
	}
}

const metricsPage = `# HELP apiserver_validating_admission_policy_check_total x
# TYPE apiserver_validating_admission_policy_check_total counter
apiserver_validating_admission_policy_check_total{enforcement_action="audit",error_type="no_error",policy="p.example",policy_binding="b"} 3
apiserver_validating_admission_policy_check_total{enforcement_action="audit",error_type="invalid_error",policy="p.example",policy_binding="b"} 1
apiserver_validating_admission_policy_check_total{enforcement_action="deny",error_type="no_error",policy="p.example",policy_binding="b"} 1e+06
apiserver_validating_admission_policy_check_total{enforcement_action="deny"
apiserver_validating_admission_policy_check_total{policy="broken"} many
pod_security_evaluations_total{decision="deny",mode="audit",policy_level="restricted",policy_version="v1.37",request_operation="create",resource="pod",subresource=""} 2
pod_security_evaluations_total{decision="allow",mode="audit",policy_level="restricted",policy_version="v1.37",request_operation="create",resource="pod",subresource=""} 9
pod_security_evaluations_total_other{decision="deny"} 9
`

func TestReadCounts(t *testing.T) {
	got, err := readCounts(strings.NewReader(metricsPage))
	if err != nil {
		t.Fatal(err)
	}
	want := counts{"policy p.example audit": 4, "policy p.example deny": 1e6, "podsecurity restricted audit": 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzReadCounts holds that no page makes reading panic, and that what is not one of the two counters counts nothing.
func FuzzReadCounts(f *testing.F) {
	f.Add(metricsPage)
	f.Add(policyCounter)
	f.Add(policyCounter + "} 1")
	f.Add(podSecurityCounter + `decision="deny",} +Inf`)
	f.Fuzz(func(t *testing.T, page string) {
		got, err := readCounts(strings.NewReader(page))
		if err != nil {
			return
		}
		if len(got) > 0 && !strings.Contains(page, policyCounter) && !strings.Contains(page, podSecurityCounter) {
			t.Errorf("%q counts %v", page, got)
		}
	})
}

func TestErrors(t *testing.T) {
	s := &StoppedError{Reason: StopKinds, Message: "two kinds are missing", Details: []string{"a", "b"}, Next: "install them", Err: errors.New("why")}
	if want := "two kinds are missing: why\n  a\n  b\nnothing was changed; install them"; s.Error() != want {
		t.Errorf("got %q", s.Error())
	}
	refused := make([]Refused, 12)
	for i := range refused {
		refused[i] = Refused{Namespace: "a", Pod: fmt.Sprint("p", i), Reasons: []string{"r", "r"}}
	}
	d := refusedPods(refused).Details
	if len(d) != 11 || d[0] != "a/p0: r" || !strings.Contains(d[10], "and 2 more") {
		t.Errorf("%q", d)
	}
	if !slices.Equal(owners(errors.New("no status")), nil) {
		t.Error("an error without a status has no owners")
	}
}
