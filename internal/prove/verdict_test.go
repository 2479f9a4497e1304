package prove

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admv1 "k8s.io/api/admissionregistration/v1"
	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/compile/admission"
	"github.com/intelgraph/bulwark/internal/finding"
)

// TestWhoRefused: only the API server's own words, from their beginning, name a control.
func TestWhoRefused(t *testing.T) {
	denied := func(code int32, reason metav1.StatusReason, msg string) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Status: "Failure", Code: code, Reason: reason, Message: msg}}
	}
	const policy = `ValidatingAdmissionPolicy 'image-digests.p.bulwark.dev' with binding 'image-digests.p.bulwark.dev' denied request: these images have no digest: app`
	for name, tc := range map[string]struct {
		err     error
		control string
		unknown string
	}{
		"policy":                {denied(403, "Forbidden", `pods "x" is forbidden: `+policy), "policy/image-digests", ""},
		"policy, a group":       {denied(403, "Forbidden", `deployments.apps "x" is forbidden: `+policy), "policy/image-digests", ""},
		"policy, no name":       {denied(403, "Forbidden", `pods is forbidden: `+policy), "policy/image-digests", ""},
		"somebody's policy":     {denied(403, "Forbidden", `pods "x" is forbidden: ValidatingAdmissionPolicy 'no-pods' with binding 'b' denied request: no`), "policy/no-pods", ""},
		"pod security":          {denied(403, "Forbidden", `pods "x" is forbidden: violates PodSecurity "restricted:v1.37": hostPID=true`), "podsecurity/ns", ""},
		"rbac":                  {denied(403, "Forbidden", `pods is forbidden: User "u" cannot create resource "pods" in API group "" in the namespace "ns"`), "rbac", ""},
		"impersonation":         {denied(403, "Forbidden", `users "u" is forbidden: User "joe" cannot impersonate resource "users" in API group "" at the cluster scope`), "", "may not try as u"},
		"webhook quotes policy": {denied(403, "Forbidden", `admission webhook "w.example.com" denied the request: `+policy), "other", ""},
		"webhook quotes pss":    {denied(403, "Forbidden", `admission webhook "w.example.com" denied the request: violates PodSecurity "restricted:v1.37": hostPID=true`), "other", ""},
		"webhook quotes rbac":   {denied(403, "Forbidden", `admission webhook "w.example.com" denied the request: pods is forbidden: User "u" cannot`), "other", ""},
		"webhook says exists":   {denied(409, "AlreadyExists", `admission webhook "w.example.com" denied the request: pods "x" already exists`), "other", ""},
		"quota":                 {denied(403, "Forbidden", `pods "x" is forbidden: exceeded quota: q, requested: pods=1`), "other", ""},
		"terminating":           {denied(403, "Forbidden", `pods "x" is forbidden: unable to create new content in namespace ns because it is being terminated`), "other", ""},
		"webhook down":          {denied(500, "InternalError", `Internal error occurred: failed calling webhook "w": connection refused`), "", "could not judge"},
		"cut off":               {fmt.Errorf("connection reset"), "", "did not answer"},
		"there already":         {denied(409, "AlreadyExists", `pods "x" already exists`), "admitted", ""},
	} {
		o := read(attack.Request{As: attack.Identity{User: "u"}, Verb: attack.Create, Namespace: "ns"}, tc.err)
		got := ""
		switch {
		case o.Admitted:
			got = "admitted"
		case o.Unknown == "":
			got = o.Refusals[0].Control
		}
		if got != tc.control || !strings.Contains(o.Unknown, tc.unknown) || (tc.unknown == "") != (o.Unknown == "") {
			t.Errorf("%s: got %q (unknown %q), want %q (%q)", name, got, o.Unknown, tc.control, tc.unknown)
		}
	}
}

// TestRefusedForTheRightReason: what the intended control's name stands on proves nothing when the words are others.
func TestRefusedForTheRightReason(t *testing.T) {
	a := attack.Attack{Platform: "p", Intended: "policy/image-digests", Says: []string{"these images have no digest", "An image that is not pinned"}}
	harmless := Outcome{Admitted: true}
	name := admission.Name("p", "image-digests")
	for what, tc := range map[string]struct {
		ref  Refusal
		want finding.Verdict
	}{
		"its message":               {byPolicy(name, "these images have no digest: app"), finding.Blocked},
		"its title":                 {byPolicy(name, "An image that is not pinned by digest"), finding.Blocked},
		"an expression that failed": {byPolicy(name, "expression 'size(variables.offenders) == 0' resulted in error: no such key: template"), finding.Unknown},
		"no budget left":            {byPolicy(name, "validation failed due to running out of cost budget, no further validation rules will be run"), finding.Unknown},
		"another platform's":        {byPolicy(admission.Name("q", "image-digests"), "these images have no digest: app"), finding.Unknown},
		"another's, alike":          {byPolicy("image-digests.p.bulwark.dev.example.com", "these images have no digest: app"), finding.Unknown},
	} {
		got, evidence := verdict(a, own(a.Platform, Outcome{Refusals: []Refusal{tc.ref}}), harmless)
		if got != tc.want {
			t.Errorf("%s: %s (%s), want %s", what, got, evidence, tc.want)
		}
		// The same as a warning is no detection either.
		got, _ = verdict(a, own(a.Platform, Outcome{Admitted: true, Warnings: []Refusal{tc.ref}}), harmless)
		if (got == finding.Detected) != (tc.want == finding.Blocked) {
			t.Errorf("%s as a warning: %s", what, got)
		}
	}
}

// TestAnotherAuthorizerProvesNothing: RBAC may grant what a webhook authorizer denies, and the webhook may go.
func TestAnotherAuthorizerProvesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		status authv1.SubjectAccessReviewStatus
		want   string
	}{
		"no grant":   {authv1.SubjectAccessReviewStatus{}, "rbac"},
		"a grant":    {authv1.SubjectAccessReviewStatus{Allowed: true, Reason: "by a webhook"}, "admitted"},
		"a denial":   {authv1.SubjectAccessReviewStatus{Denied: true, Reason: "not on Sundays"}, "unknown"},
		"an error":   {authv1.SubjectAccessReviewStatus{EvaluationError: "webhook is down"}, "unknown"},
		"both wrong": {authv1.SubjectAccessReviewStatus{Denied: true, EvaluationError: "webhook is down"}, "unknown"},
	} {
		// A server that only says what the case says: no real one can be made to deny by a webhook within a test.
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if strings.HasSuffix(r.URL.Path, "/version") {
				_, _ = w.Write([]byte(`{"gitVersion":"v1.37.2"}`))
				return
			}
			_ = json.NewEncoder(w).Encode(authv1.SelfSubjectAccessReview{TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"}, Status: tc.status})
		}))
		l, err := NewLive(&rest.Config{Host: srv.URL}, nil)
		if err != nil {
			t.Fatal(err)
		}
		o := l.Try(context.Background(), attack.Request{As: attack.Identity{User: "u"}, Verb: attack.Ask, Access: "get", Resource: "secrets"})
		srv.Close()
		got := "unknown"
		switch {
		case o.Admitted:
			got = "admitted"
		case o.Unknown == "":
			got = o.Refusals[0].Control
		}
		if got != tc.want {
			t.Errorf("%s: %s (%+v), want %s", name, got, o, tc.want)
		}
	}
}

// TestAuditLog: a rotated log is read on, one that is not this server's is waited for once and not once a request, and
// what others do is not kept.
func TestAuditLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	write := func(text string, flags int) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|flags, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(id string) string {
		return fmt.Sprintf(`{"auditID":%q,"stage":"ResponseComplete","annotations":{"pod-security.kubernetes.io/audit-violations":"would violate PodSecurity \"restricted:v1.37\": x"}}`+"\n", id)
	}
	ctx := context.Background()
	write(strings.Repeat(entry("old"), 100), os.O_APPEND)
	log, err := OpenAuditLog(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		write(entry(fmt.Sprint("others-", i)), os.O_APPEND)
	}
	log.expect("a")
	write(entry("a")[:20], os.O_APPEND) // half a line is waited for
	go func() {
		time.Sleep(20 * time.Millisecond)
		f, _ := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0o600)
		_, _ = f.WriteString(entry("a")[20:])
		_ = f.Close()
	}()
	if texts, err := log.find(ctx, "a"); err != nil || len(texts) != 1 {
		t.Errorf("got %v, %v", texts, err)
	}
	if len(log.seen)+len(log.wanted) != 0 {
		t.Errorf("%d entries of others are kept", len(log.seen)+len(log.wanted))
	}
	// Rotated: the file begins again.
	log.expect("b")
	write(entry("b"), os.O_TRUNC)
	if texts, err := log.find(ctx, "b"); err != nil || len(texts) != 1 {
		t.Errorf("after rotation: got %v, %v", texts, err)
	}
	// Another server's.
	start := time.Now()
	for i := range 50 {
		id := fmt.Sprint("never-", i)
		log.expect(id)
		if _, err := log.find(ctx, id); err == nil || !strings.Contains(err.Error(), "no entry for the request") {
			t.Fatalf("got %v", err)
		}
	}
	if took := time.Since(start); took > 2*auditPatience {
		t.Errorf("50 requests without an entry waited %s", took)
	}
}

// TestUnreadableLevelIsTheStrictest: the API server does not skip a level that it cannot read.
func TestUnreadableLevelIsTheStrictest(t *testing.T) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restrictedd"}}}
	o, err := NewOffline(&Defences{Namespaces: []*corev1.Namespace{ns}})
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}, Spec: corev1.PodSpec{HostPID: true, Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	if got := o.JudgePod(context.Background(), pod); got.Admitted || got.Refusals[0].Control != "podsecurity/ns" {
		t.Errorf("got %+v", got)
	}
}

// TestForeignPolicyWithParameters: a cluster's policy that cannot be judged here makes unknown what it might refuse, and
// only that.
func TestForeignPolicyWithParameters(t *testing.T) {
	fail := admv1.Fail
	pol := func(name, resource string, params *admv1.ParamKind, expression string) *admv1.ValidatingAdmissionPolicy {
		return &admv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail, ParamKind: params,
			MatchConstraints: &admv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{}, ResourceRules: []admv1.NamedRuleWithOperations{{RuleWithOperations: admv1.RuleWithOperations{
				Operations: []admv1.OperationType{admv1.Create}, Rule: admv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}},
			}}}},
			Validations: []admv1.Validation{{Expression: expression}},
		}}
	}
	bind := func(name string, action admv1.ValidationAction) *admv1.ValidatingAdmissionPolicyBinding {
		return &admv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: name, ValidationActions: []admv1.ValidationAction{action}}}
	}
	params := &admv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}
	judge := func(d *Defences) Outcome {
		t.Helper()
		d.Read = true
		d.Namespaces = []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}}
		o, err := NewOffline(d)
		if err != nil {
			t.Fatal(err)
		}
		return o.JudgePod(context.Background(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}})
	}
	type policies = []*admv1.ValidatingAdmissionPolicy
	type bindings = []*admv1.ValidatingAdmissionPolicyBinding
	if o := judge(&Defences{Policies: policies{pol("x", "pods", params, "params != null")}, Bindings: bindings{bind("x", admv1.Deny)}}); o.Unknown == "" || !strings.Contains(o.Unknown, "policy x might refuse it") {
		t.Errorf("might refuse: %+v", o)
	}
	if o := judge(&Defences{Policies: policies{pol("x", "pods", params, "params != null")}, Bindings: bindings{bind("x", admv1.Audit)}}); !o.Admitted {
		t.Errorf("only records: %+v", o)
	}
	if o := judge(&Defences{Policies: policies{pol("x", "pods", params, "params != null")}}); !o.Admitted {
		t.Errorf("not bound: %+v", o)
	}
	if o := judge(&Defences{Policies: policies{pol("x", "configmaps", params, "params != null")}, Bindings: bindings{bind("x", admv1.Deny)}}); !o.Admitted {
		t.Errorf("about something else: %+v", o)
	}
	if o := judge(&Defences{Policies: policies{pol("x", "pods", params, "params != null"), pol("y", "pods", nil, "false")}, Bindings: bindings{bind("x", admv1.Deny), bind("y", admv1.Deny)}}); o.Admitted || o.Unknown != "" {
		t.Errorf("another refuses: %+v", o)
	}
	// Of the compiled platform, everything must be judged.
	if _, err := NewOffline(&Defences{Policies: policies{pol("x", "pods", params, "true")}}); err == nil {
		t.Error("a compiled policy that cannot be judged is no error")
	}
}

// TestPutBackAsItWas: a namespace gets back the values that the cluster had, for the labels that are the platform's.
func TestPutBackAsItWas(t *testing.T) {
	object := func(labels map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "ns", "labels": labels}}}
	}
	live := object(map[string]any{"example.com/theirs": "1", "x.ai/level": "low", "pod-security.kubernetes.io/warn": "restricted", "kubernetes.io/metadata.name": "ns"})
	live.SetResourceVersion("7")
	planned := object(map[string]any{"x.ai/level": "high", "pod-security.kubernetes.io/enforce": "restricted"})
	want := object(map[string]any{"x.ai/level": "low", "pod-security.kubernetes.io/warn": "restricted"})
	if diff := cmp.Diff(want.Object, asApplied(live, planned).Object); diff != "" {
		t.Error(diff)
	}
}
