package deploy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	admv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/google/go-cmp/cmp"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/labtest"
)

// platform is a small platform of one namespace, with a part of every layer that deploy treats in a way of its own.
// Each test has one of its own name, so that they share one API server without seeing each other.
type platform struct {
	name  string
	stage artifact.Stage
	// without leaves objects of these kinds out.
	without []string
	// more is added at the end.
	more []any
}

func (p platform) plan() *artifact.Plan {
	var part artifact.Part
	add := func(layer artifact.Layer, typed any) {
		a := part.Add(p.name, layer, "k8s/"+p.name+".yaml", typed, artifact.Cause{Field: "spec.components.web"})
		if slices.Contains(p.without, a.Object["kind"].(string)) {
			part.Artifacts = part.Artifacts[:len(part.Artifacts)-1]
		}
	}
	if p.stage == "" {
		p.stage = artifact.Enforce
	}
	labels := map[string]string{}
	actions := []admv1.ValidationAction{admv1.Audit}
	for _, s := range []artifact.Stage{artifact.Audit, artifact.Warn, artifact.Enforce} {
		labels[podSecurityPrefix+string(s)] = "baseline"
		labels[podSecurityPrefix+string(s)+"-version"] = "v1.37"
		if s == p.stage {
			break
		}
	}
	switch p.stage {
	case artifact.Warn:
		actions = []admv1.ValidationAction{admv1.Warn, admv1.Audit}
	case artifact.Enforce:
		actions = []admv1.ValidationAction{admv1.Deny, admv1.Audit}
	}
	add(artifact.Pods, &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: p.name, Labels: labels}})
	add(artifact.Network, &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: "default-deny", Namespace: p.name},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}},
	})
	add(artifact.Access, account(p.name, "web"))
	add(artifact.Access, &rbacv1.Role{
		TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "Role"}, ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: p.name},
		Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"web"}}},
	})
	add(artifact.Access, &rbacv1.RoleBinding{
		TypeMeta: metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "RoleBinding"}, ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: p.name},
		RoleRef:  rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: "web"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "web", Namespace: p.name}},
	})
	for _, pol := range []struct {
		name, resource, expression string
		op                         admv1.OperationType
	}{
		{p.name + "-owner-label", "configmaps", "has(object.metadata.labels) && 'owner' in object.metadata.labels", admv1.Create},
		{p.name + "-guard", "namespaces", "authorizer.group('admissionregistration.k8s.io').resource('validatingadmissionpolicies').check('delete').allowed() || object.metadata.?labels.orValue({}).filter(k, k.startsWith('pod-security')) == oldObject.metadata.?labels.orValue({}).filter(k, k.startsWith('pod-security'))", admv1.Update},
	} {
		add(artifact.Admission, &admv1.ValidatingAdmissionPolicy{
			TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicy"},
			ObjectMeta: metav1.ObjectMeta{Name: pol.name},
			Spec: admv1.ValidatingAdmissionPolicySpec{
				MatchConstraints: &admv1.MatchResources{ResourceRules: []admv1.NamedRuleWithOperations{{RuleWithOperations: admv1.RuleWithOperations{
					Operations: []admv1.OperationType{pol.op},
					Rule:       admv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{pol.resource}},
				}}}},
				Validations: []admv1.Validation{{Expression: pol.expression, Message: "refused by " + pol.name}},
			},
		})
		add(artifact.Admission, &admv1.ValidatingAdmissionPolicyBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicyBinding"},
			ObjectMeta: metav1.ObjectMeta{Name: pol.name},
			Spec: admv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: pol.name, ValidationActions: actions,
				MatchResources: &admv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": p.name}}}},
		})
	}
	for _, o := range p.more {
		add(artifact.Access, o)
	}
	return &artifact.Plan{Platform: p.name, Artifacts: part.Artifacts, Gaps: part.Gaps}
}

func account(ns, name string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns}}
}

// sentinels has one request for each policy of the platform. The guard's is a deployer's: the guard lets admins pass.
func (p platform) sentinels() []Sentinel {
	return []Sentinel{
		{Policy: p.name + "-owner-label", Request: Request{Resource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, Namespace: p.name,
			Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "sentinel", "namespace": p.name}}}},
		{Policy: p.name + "-guard", Request: Request{Verb: "patch", Resource: namespaceGVR, Name: p.name,
			Patch: []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/made-up":"x"}}}`),
			As:    rest.ImpersonationConfig{UserName: "deployer", Groups: []string{"deployers", "system:authenticated"}}}},
	}
}

func (p platform) options() Options {
	return Options{Stage: p.stage, Prune: true, Timeout: 20 * time.Second, Sentinels: p.sentinels()}
}

// deployers may change namespaces, but not policies.
func deployers(t *testing.T, k kubernetes.Interface) {
	t.Helper()
	ctx := t.Context()
	_, err := k.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "deployers"},
		Rules: []rbacv1.PolicyRule{{Verbs: []string{"get", "update", "patch"}, APIGroups: []string{""}, Resources: []string{"namespaces"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "deployers"},
		RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "deployers"}, Subjects: []rbacv1.Subject{{Kind: "Group", APIGroup: "rbac.authorization.k8s.io", Name: "deployers"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRun tries everything on one real API server, whose policies take effect as late as a real cluster's.
func TestRun(t *testing.T) {
	lab := labtest.Start(t, "--policy-refresh", "1s")
	k := kubernetes.NewForConfigOrDie(lab.Config)
	deployers(t, k)
	for name, test := range map[string]func(*testing.T, *labtest.Lab, kubernetes.Interface){
		"again":        testAgain,
		"dry-run":      testDryRun,
		"diff":         testDiff,
		"prune":        testPrune,
		"stages":       testStages,
		"half-way":     testHalfWay,
		"interrupted":  testInterrupted,
		"kinds":        testKinds,
		"rights":       testRights,
		"narrow":       testNarrowRights,
		"pods":         testPods,
		"conflicts":    testConflicts,
		"rejected":     testRejected,
		"namespace":    testNamespace,
		"not-in-force": testNotInForce,
		"unknown":      testUnknown,
		"residue":      testResidue,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, lab, k) })
	}
}

func mustRun(t *testing.T, cfg *rest.Config, p platform, change ...func(*Options)) *Result {
	t.Helper()
	o := p.options()
	for _, c := range change {
		c(&o)
	}
	res, err := Run(t.Context(), cfg, p.plan(), o)
	if err != nil {
		t.Fatalf("%v\n%+v", err, res)
	}
	return res
}

// stopped runs and wants the run to end before it touched anything.
func stopped(t *testing.T, lab *labtest.Lab, cfg *rest.Config, p platform, want Stop, change ...func(*Options)) (*Result, *StoppedError) {
	t.Helper()
	o := p.options()
	for _, c := range change {
		c(&o)
	}
	before := writes(t, lab, p.name)
	res, err := Run(t.Context(), cfg, p.plan(), o)
	var s *StoppedError
	if !errors.As(err, &s) || s.Reason != want {
		t.Fatalf("got error %v, want a stop because of %q", err, want)
	}
	if after := writes(t, lab, p.name); !slices.Equal(before, after) {
		t.Errorf("a run that stopped has written:\n%s", strings.Join(after[len(before):], "\n"))
	}
	if res.Error == "" || len(res.Platform) == 0 {
		t.Errorf("the result does not say why it ended: %+v", res)
	}
	return res, s
}

// writes are the lines of the lab's audit log in which something named after the platform was really written: the
// server's own record, and not our word for it.
func writes(t *testing.T, lab *labtest.Lab, name string) []string {
	t.Helper()
	time.Sleep(50 * time.Millisecond) // the log is written after the answer
	f, err := os.Open(lab.AuditLog)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	s := bufio.NewScanner(f)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		l := s.Text()
		if !strings.Contains(l, "bulwark-deploy") || !strings.Contains(l, name) || strings.Contains(l, "dryRun=All") || strings.Contains(l, `"stage":"RequestReceived"`) {
			continue
		}
		for _, verb := range []string{"create", "update", "patch", "delete", "deletecollection"} {
			if strings.Contains(l, `"verb":"`+verb+`"`) && !strings.Contains(l, "selfsubjectaccessreviews") {
				out = append(out, l)
			}
		}
	}
	return out
}

// create lets a test's own objects in; they stand for what others did.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func pod(ns, name string, privileged bool) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "c", Image: "example.com/c", SecurityContext: &corev1.SecurityContext{Privileged: &privileged}}}}}
}

func summary(r *Result) Summary { return r.Summary }

func testAgain(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	p := platform{name: "again"}
	var phases []string
	first := mustRun(t, lab.Config, p, func(o *Options) {
		o.Progress = func(e Event) {
			if n := len(phases); n == 0 || phases[n-1] != e.Phase {
				phases = append(phases, e.Phase)
			}
		}
	})
	if got := summary(first); got.Created != 9 || got.Objects != 9 || got.InForce != 3 || got.Controls != 3 {
		t.Errorf("first run: %+v\n%+v", got, first)
	}
	if len(first.NotJudged) > 0 {
		t.Errorf("not judged: %+v", first.NotJudged)
	}
	// Really in force: at once, and not a second later.
	_, err := k.CoreV1().ConfigMaps("again").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{DryRun: []string{"All"}})
	if err == nil || !strings.Contains(err.Error(), "again-owner-label") {
		t.Errorf("right after the run the policy lets pass: %v", err)
	}
	if _, err := k.CoreV1().Pods("again").Create(t.Context(), pod("again", "p", true), metav1.CreateOptions{DryRun: []string{"All"}}); err == nil || !strings.Contains(err.Error(), "PodSecurity") {
		t.Errorf("right after the run Pod Security lets pass: %v", err)
	}
	if want := []string{"check", "apply", "wait"}; !slices.Equal(slices.Compact(phasesOf(phases)), want) {
		t.Errorf("phases: %v", phases)
	}
	before := len(writes(t, lab, "again"))
	if before < 9 {
		t.Fatalf("the audit log shows %d writes of a run that made 9 objects: this test sees nothing", before)
	}
	second := mustRun(t, lab.Config, p)
	if got := summary(second); got.Unchanged != 9 || second.Changes() || got.InForce != 3 {
		t.Errorf("second run: %+v", got)
	}
	if got := writes(t, lab, "again"); len(got) != before {
		t.Errorf("the second run wrote:\n%s", strings.Join(got[before:], "\n"))
	}
	// The order is the one that nothing stands in the way of.
	for _, pair := range [][2]string{{"Namespace again", "Role again/web"}, {"ValidatingAdmissionPolicy again-guard", "ValidatingAdmissionPolicyBinding again-guard"}} {
		if a, b := position(first, pair[0]), position(first, pair[1]); a < 0 || b < 0 || a > b {
			t.Errorf("%s (%d) comes after %s (%d)", pair[0], a, pair[1], b)
		}
	}
}

// phasesOf drops the waits for namespaces, which happen between applies.
func phasesOf(p []string) []string {
	var out []string
	for i, x := range p {
		if x == "wait" && i < len(p)-1 || x == "apply" && slices.Contains(out, "apply") {
			continue
		}
		out = append(out, x)
	}
	return out
}

func position(r *Result, object string) int {
	return slices.IndexFunc(r.Objects, func(o Outcome) bool { return o.Object.String() == object })
}

func actionOf(r *Result, object string) Action {
	if i := position(r, object); i >= 0 {
		return r.Objects[i].Action
	}
	return ""
}

func testDryRun(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	p := platform{name: "dry-run"}
	dry := func(o *Options) { o.DryRun = true }
	res := mustRun(t, lab.Config, p, dry)
	if _, err := k.CoreV1().Namespaces().Get(t.Context(), "dry-run", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("the dry run made the namespace: %v", err)
	}
	if res.Summary.Created != 9 || !res.DryRun {
		t.Errorf("%+v", res.Summary)
	}
	i := position(res, "Role dry-run/web")
	if o := res.Objects[i]; !o.ClientSide || !strings.Contains(o.Message, "namespace dry-run would be created by this run") {
		t.Errorf("an object in a namespace that is not there yet: %+v", o)
	}
	if len(res.NotJudged) == 0 {
		t.Error("what the server could not judge is not counted")
	}
	mustRun(t, lab.Config, p)
	before := versions(t, k, "dry-run")
	p.stage = artifact.Warn
	p.without = []string{"NetworkPolicy"}
	res = mustRun(t, lab.Config, p, dry)
	if res.Summary.Configured != 3 || res.Summary.Pruned != 1 || res.Summary.Unchanged != 5 {
		t.Errorf("%+v", res.Summary)
	}
	if diff := cmp.Diff(before, versions(t, k, "dry-run")); diff != "" {
		t.Errorf("a dry run changed the cluster (-before +after):\n%s", diff)
	}
}

// versions are the resource versions of the platform's objects.
func versions(t *testing.T, k kubernetes.Interface, name string) map[string]string {
	t.Helper()
	out := map[string]string{}
	ctx := t.Context()
	ns := must[*corev1.Namespace](t)(k.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}))
	out["ns"] = ns.ResourceVersion
	for _, o := range must[*networkingv1.NetworkPolicyList](t)(k.NetworkingV1().NetworkPolicies(name).List(ctx, metav1.ListOptions{})).Items {
		out["np/"+o.Name] = o.ResourceVersion
	}
	for _, o := range must[*corev1.ServiceAccountList](t)(k.CoreV1().ServiceAccounts(name).List(ctx, metav1.ListOptions{})).Items {
		out["sa/"+o.Name] = o.ResourceVersion
	}
	for _, o := range must[*rbacv1.RoleList](t)(k.RbacV1().Roles(name).List(ctx, metav1.ListOptions{})).Items {
		out["role/"+o.Name] = o.ResourceVersion
	}
	for _, o := range must[*admv1.ValidatingAdmissionPolicyBindingList](t)(k.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().List(ctx, metav1.ListOptions{LabelSelector: artifact.PlatformLabel + "=" + name})).Items {
		out["binding/"+o.Name] = o.ResourceVersion
	}
	return out
}

func testDiff(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	p := platform{name: "diff"}
	show := func(o *Options) { o.Diff = true }
	if res := mustRun(t, lab.Config, p, show); !strings.Contains(res.Diff, "+++ plan/Namespace diff") || !res.DryRun {
		t.Errorf("the diff of a new platform:\n%s", res.Diff)
	}
	mustRun(t, lab.Config, p)
	if res := mustRun(t, lab.Config, p, show); res.Diff != "" || res.Changes() {
		t.Errorf("a diff without a difference:\n%s", res.Diff)
	}
	p.stage = artifact.Audit
	p.without = []string{"NetworkPolicy"}
	res := mustRun(t, lab.Config, p, show)
	for _, want := range []string{
		"--- live/Namespace diff\n+++ plan/Namespace diff\n", "-    pod-security.kubernetes.io/enforce: baseline\n",
		"-  - Deny\n", "--- live/NetworkPolicy diff/default-deny", "-  name: default-deny\n",
	} {
		if !strings.Contains(res.Diff, want) {
			t.Errorf("the diff lacks %q:\n%s", want, res.Diff)
		}
	}
	for _, noise := range []string{"resourceVersion", "managedFields", "uid:", "creationTimestamp"} {
		if strings.Contains(res.Diff, noise) {
			t.Errorf("the diff shows %s:\n%s", noise, res.Diff)
		}
	}
}

func testPrune(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	ctx := t.Context()
	ns2 := &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: "prune-second"}}
	p := platform{name: "prune", more: []any{ns2, account("prune", "used"), account("prune", "unused")}}
	mustRun(t, lab.Config, p)
	// What is not ours: without the label, and with the label from somebody else (a chart that Helm installed).
	for name, labels := range map[string]map[string]string{"stranger": nil, "helm": {artifact.PlatformLabel: "prune"}} {
		sa := account("prune", name)
		sa.Labels = labels
		must[*corev1.ServiceAccount](t)(k.CoreV1().ServiceAccounts("prune").Create(ctx, sa, metav1.CreateOptions{FieldManager: "helm"}))
	}
	// And of another platform.
	mustRun(t, lab.Config, platform{name: "prune-other"})
	running := pod("prune", "running", false)
	running.Spec.ServiceAccountName = "used"
	must[*corev1.Pod](t)(k.CoreV1().Pods("prune").Create(ctx, running, metav1.CreateOptions{}))

	p.more = nil
	p.without = []string{"NetworkPolicy", "RoleBinding"}
	if res := mustRun(t, lab.Config, p, func(o *Options) { o.Prune = false }); res.Summary.Pruned != 0 || res.Summary.Left != 0 {
		t.Errorf("without --prune: %+v", res.Summary)
	}
	res := mustRun(t, lab.Config, p)
	want := map[string]Action{
		"NetworkPolicy prune/default-deny": Pruned, "RoleBinding prune/web": Pruned, "ServiceAccount prune/unused": Pruned,
		"ServiceAccount prune/used": Left, "Namespace prune-second": Left,
		"ServiceAccount prune/stranger": "", "ServiceAccount prune/helm": "", "NetworkPolicy prune-other/default-deny": "",
	}
	for object, action := range want {
		if got := actionOf(res, object); got != action {
			t.Errorf("%s: got %q, want %q", object, got, action)
		}
	}
	if m := res.Objects[position(res, "ServiceAccount prune/used")].Message; !strings.Contains(m, "pod running still uses it") {
		t.Errorf("why the account is left: %s", m)
	}
	for _, name := range []string{"stranger", "helm", "used", "default", "web"} {
		if _, err := k.CoreV1().ServiceAccounts("prune").Get(ctx, name, metav1.GetOptions{}); err != nil {
			t.Errorf("account %s: %v", name, err)
		}
	}
	if _, err := k.NetworkingV1().NetworkPolicies("prune").Get(ctx, "default-deny", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the pruned network policy is still there: %v", err)
	}
	if _, err := k.NetworkingV1().NetworkPolicies("prune-other").Get(ctx, "default-deny", metav1.GetOptions{}); err != nil {
		t.Errorf("another platform's object: %v", err)
	}
}

// testStages goes up and down. On the way down an existing guard must not stop the run; and after each run the stage is
// what the server really does.
func testStages(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	for i, stage := range []artifact.Stage{artifact.Audit, artifact.Warn, artifact.Enforce, artifact.Warn, artifact.Enforce, artifact.Audit} {
		p := platform{name: "stages", stage: stage}
		res := mustRun(t, lab.Config, p)
		if res.Summary.InForce != 3 || len(res.NotJudged) > 0 {
			t.Errorf("%s: controls %+v\nnot judged %+v", stage, res.Controls, res.NotJudged)
		}
		ns, binding := position(res, "Namespace stages"), position(res, "ValidatingAdmissionPolicyBinding stages-guard")
		if down := i == 3 || i == 5; down != (binding < ns) {
			t.Errorf("run %d, to %s: the guard's binding is object %d, the namespace %d", i, stage, binding, ns)
		}
		heard := &warnings{}
		cfg := rest.CopyConfig(lab.Config)
		cfg.WarningHandler = heard
		_, err := kubernetes.NewForConfigOrDie(cfg).CoreV1().ConfigMaps("stages").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{DryRun: []string{"All"}})
		if refused := err != nil; refused != (stage == artifact.Enforce) {
			t.Errorf("%s: a request that the policy is against: %v", stage, err)
		}
		if warned := len(heard.texts) > 0; warned != (stage == artifact.Warn) {
			t.Errorf("%s: warnings %q", stage, heard.texts)
		}
	}
}

type warnings struct{ texts []string }

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) { w.texts = append(w.texts, text) }

// testHalfWay has an object that the server rejects and that no dry run can ask about, because its namespace is new.
func testHalfWay(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	bad := &networkingv1.NetworkPolicy{TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}, ObjectMeta: metav1.ObjectMeta{Name: "bad", Namespace: "half-way"},
		Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Sideways"}}}
	p := platform{name: "half-way", more: []any{bad, account("half-way", "after")}}
	res, err := Run(t.Context(), lab.Config, p.plan(), p.options())
	var inc *IncompleteError
	if !errors.As(err, &inc) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"applying NetworkPolicy half-way/bad", "Sideways", "5 of 11 objects are in place, 1 failed, 5 not reached", "run the same command again"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	want := map[string]Action{"Namespace half-way": Created, "Role half-way/web": Created, "NetworkPolicy half-way/bad": Failed, "ServiceAccount half-way/after": NotReached, "ValidatingAdmissionPolicy half-way-guard": NotReached}
	for object, action := range want {
		if got := actionOf(res, object); got != action {
			t.Errorf("%s: got %q, want %q", object, got, action)
		}
	}
	// Now that the namespace is there, the same mistake is found before anything is touched.
	_, s := stopped(t, lab, lab.Config, p, StopRejected)
	if len(s.Details) != 1 || !strings.Contains(s.Details[0], "half-way/bad") {
		t.Errorf("%v", s)
	}
	bad.Spec.PolicyTypes[0] = networkingv1.PolicyTypeIngress
	res = mustRun(t, lab.Config, p)
	if got := summary(res); got.Unchanged != 5 || got.Created != 6 {
		t.Errorf("after the mistake is mended: %+v", got)
	}
}

func testInterrupted(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	p := platform{name: "interrupted"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := p.options()
	o.Progress = func(e Event) {
		if e.Phase == "apply" && e.Done == 4 {
			cancel()
		}
	}
	res, err := Run(ctx, lab.Config, p.plan(), o)
	var inc *IncompleteError
	if !errors.As(err, &inc) || !strings.Contains(err.Error(), "interrupted") {
		t.Fatalf("got %v", err)
	}
	if res.Summary.Created != 4 || res.Summary.NotReached != 4 || res.Summary.Failed != 1 {
		t.Errorf("%+v", res.Summary)
	}
	if res := mustRun(t, lab.Config, p); res.Summary.Unchanged < 4 || res.Summary.Failed+res.Summary.NotReached > 0 {
		t.Errorf("the run after: %+v", res.Summary)
	}
}

func testKinds(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	p := platform{name: "kinds", more: []any{
		map[string]any{"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": map[string]any{"name": "default", "namespace": "kinds"}},
		map[string]any{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": map[string]any{"name": "a", "namespace": "kinds"}},
		map[string]any{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": map[string]any{"name": "b", "namespace": "kinds"}},
		map[string]any{"apiVersion": "batch/v1beta1", "kind": "CronJob", "metadata": map[string]any{"name": "old", "namespace": "kinds"}},
	}}
	_, s := stopped(t, lab, lab.Config, p, StopKinds)
	want := []string{
		"security.istio.io/v1 PeerAuthentication, for PeerAuthentication kinds/default: no such group; it comes with istio (spec.has)",
		"cilium.io/v2 CiliumNetworkPolicy, for CiliumNetworkPolicy kinds/a and 1 more: no such group; it comes with cilium (spec.has)",
		"batch/v1beta1 CronJob, for CronJob kinds/old: the cluster serves batch at v1",
	}
	if diff := cmp.Diff(want, s.Details); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func testRights(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	nobody := rest.CopyConfig(lab.Config)
	nobody.Impersonate = rest.ImpersonationConfig{UserName: "nobody", Groups: []string{"system:authenticated"}}
	_, s := stopped(t, lab, nobody, platform{name: "rights"}, StopRights)
	for _, want := range []string{"create namespaces", "patch roles.rbac.authorization.k8s.io in namespace rights", "patch validatingadmissionpolicies.admissionregistration.k8s.io",
		"list pods in namespace rights", "delete networkpolicies.networking.k8s.io"} {
		if !slices.Contains(s.Details, want) {
			t.Errorf("the missing rights lack %q:\n%s", want, strings.Join(s.Details, "\n"))
		}
	}
	if slices.Contains(s.Details, "delete namespaces") {
		t.Error("namespaces are never deleted, so nobody needs the right")
	}
	badToken := rest.AnonymousClientConfig(lab.Config)
	badToken.BearerToken = "no-such-token"
	if _, s := stopped(t, lab, badToken, platform{name: "rights"}, StopRights); strings.Contains(s.Error(), "no-such-token") {
		t.Errorf("the token is in the error: %v", s)
	}
}

// testNarrowRights deploys as somebody whose rights end at one namespace.
func testNarrowRights(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	ctx := t.Context()
	must[*corev1.Namespace](t)(k.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "narrow"}}, metav1.CreateOptions{}))
	must[*rbacv1.RoleBinding](t)(k.RbacV1().RoleBindings("narrow").Create(ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "owner"},
		RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "admin"}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: "rbac.authorization.k8s.io", Name: "narrow-owner"}}}, metav1.CreateOptions{}))
	must[*rbacv1.ClusterRole](t)(k.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "narrow-owner"},
		Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"namespaces"}}}}, metav1.CreateOptions{}))
	must[*rbacv1.ClusterRoleBinding](t)(k.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "narrow-owner"},
		RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "narrow-owner"}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: "rbac.authorization.k8s.io", Name: "narrow-owner"}}}, metav1.CreateOptions{}))
	cfg := rest.CopyConfig(lab.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "narrow-owner", Groups: []string{"system:authenticated"}}
	p := platform{name: "narrow", without: []string{"Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}}
	var res *Result
	for range 50 { // the aggregated role "admin" fills with a delay
		var err error
		if res, err = Run(ctx, cfg, p.plan(), Options{}); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if res.Error != "" || res.Summary.Created != 4 {
		t.Errorf("%s %+v", res.Error, res.Summary)
	}
	_, s := stopped(t, lab, cfg, p, StopRights)
	if !strings.Contains(s.Error(), "--prune=false") || !slices.Contains(s.Details, "list clusterroles.rbac.authorization.k8s.io") {
		t.Errorf("%v", s)
	}
}

func testPods(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	ctx := t.Context()
	must[*corev1.Namespace](t)(k.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pods"}}, metav1.CreateOptions{}))
	for range 100 {
		if _, err := k.CoreV1().ServiceAccounts("pods").Get(ctx, "default", metav1.GetOptions{}); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	good, bad, over := pod("pods", "good", false), pod("pods", "bad", true), pod("pods", "over", true)
	match := map[string]string{"app": "bad"}
	rs := must[*appsv1.ReplicaSet](t)(k.AppsV1().ReplicaSets("pods").Create(ctx, &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "bad-rs"}, Spec: appsv1.ReplicaSetSpec{
		Replicas: new(int32), Selector: &metav1.LabelSelector{MatchLabels: match},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: match}, Spec: bad.Spec}}}, metav1.CreateOptions{}))
	bad.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "bad-rs", UID: rs.UID, Controller: new(true)}}
	for _, o := range []*corev1.Pod{good, bad, over} {
		must[*corev1.Pod](t)(k.CoreV1().Pods("pods").Create(ctx, o, metav1.CreateOptions{}))
	}
	over.Status.Phase = corev1.PodSucceeded
	must[*corev1.Pod](t)(k.CoreV1().Pods("pods").UpdateStatus(ctx, over, metav1.UpdateOptions{}))

	judged := 0
	judge := func(o *Options) {
		o.Judges = []Judge{func(ns *corev1.Namespace, pod *corev1.Pod) ([]string, error) {
			judged++
			if ns.Labels[podSecurityPrefix+"enforce"] == "" && o.Stage == artifact.Enforce {
				return nil, fmt.Errorf("the namespace lacks the labels that the plan gives it: %v", ns.Labels)
			}
			if pod.Name == "good" {
				return []string{"policy/x: it is too good"}, nil
			}
			return nil, nil
		}}
	}
	p := platform{name: "pods"}
	res, s := stopped(t, lab, lab.Config, p, StopPods, judge)
	if judged != 2 || res.Summary.WouldRefuse != 2 || len(res.NotJudged) > 0 {
		t.Errorf("judged %d, %+v, not judged %+v", judged, res.Refused, res.NotJudged)
	}
	want := []string{
		`pods/bad (ReplicaSet bad-rs): Pod Security baseline:v1.37: privileged (container "c" must not set securityContext.privileged=true)`,
		"pods/good: policy/x: it is too good",
	}
	if diff := cmp.Diff(want, s.Details); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if actionOf(res, "Namespace pods") != Configured {
		t.Errorf("the result does not say what would have been done: %+v", res.Objects)
	}
	// A stage that refuses nothing goes on and says it.
	p.stage = artifact.Warn
	if res := mustRun(t, lab.Config, p, judge); res.Summary.WouldRefuse != 2 {
		t.Errorf("warn: %+v", res.Refused)
	}
	// Without a judge the policies are not judged, and that is said.
	if res := mustRun(t, lab.Config, p); res.Summary.WouldRefuse != 1 || len(res.NotJudged) != 1 || !strings.Contains(res.NotJudged[0].What, "2 running pods against 2 admission policies") {
		t.Errorf("no judge: %+v %+v", res.Refused, res.NotJudged)
	}
	p.stage = artifact.Enforce
	if res := mustRun(t, lab.Config, p, func(o *Options) { o.Force = true }); res.Summary.WouldRefuse != 1 || res.Summary.InForce != 3 {
		t.Errorf("force: %+v", res)
	}
}

func testConflicts(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	ctx := t.Context()
	p := platform{name: "conflicts"}
	mustRun(t, lab.Config, p)
	_, err := k.RbacV1().Roles("conflicts").Patch(ctx, "web", types.MergePatchType, []byte(`{"rules":[]}`), metav1.PatchOptions{FieldManager: "somebody"})
	if err != nil {
		t.Fatal(err)
	}
	res, s := stopped(t, lab, lab.Config, p, StopConflict)
	if len(s.Details) != 1 || !strings.Contains(s.Details[0], `Role conflicts/web rules: conflict with "somebody"`) || !strings.Contains(s.Error(), "--force-conflicts") {
		t.Errorf("%v", s)
	}
	if actionOf(res, "Role conflicts/web") != Failed {
		t.Errorf("%+v", res.Objects)
	}
	mustRun(t, lab.Config, p, func(o *Options) { o.ForceConflicts = true })
	if role := must[*rbacv1.Role](t)(k.RbacV1().Roles("conflicts").Get(ctx, "web", metav1.GetOptions{})); len(role.Rules) != 1 {
		t.Errorf("the rules were not taken back: %+v", role.Rules)
	}
	if res := mustRun(t, lab.Config, p); res.Changes() {
		t.Errorf("after the take-over: %+v", res.Objects)
	}
}

func testRejected(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	p := platform{name: "rejected"}
	mustRun(t, lab.Config, p)
	plan := p.plan()
	for _, a := range plan.Artifacts {
		if a.Object["kind"] == "RoleBinding" {
			a.Object["roleRef"].(map[string]any)["name"] = "other" // immutable
		}
	}
	before := writes(t, lab, "rejected")
	_, err := Run(t.Context(), lab.Config, plan, p.options())
	var s *StoppedError
	if !errors.As(err, &s) || s.Reason != StopRejected || !strings.Contains(err.Error(), "roleRef") {
		t.Fatalf("got %v", err)
	}
	if after := writes(t, lab, "rejected"); len(after) != len(before) {
		t.Errorf("it wrote all the same")
	}
}

func testNamespace(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	p := platform{name: "nowhere", without: []string{"Namespace"}}
	_, s := stopped(t, lab, lab.Config, p, StopInput)
	if len(s.Details) != 1 || !strings.Contains(s.Details[0], "namespace nowhere, for NetworkPolicy nowhere/default-deny, does not exist and is not in the plan") {
		t.Errorf("%v", s)
	}
	ctx := t.Context()
	must[*corev1.Namespace](t)(k.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "going"}}, metav1.CreateOptions{}))
	must[*corev1.ConfigMap](t)(k.CoreV1().ConfigMaps("going").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "stays", Finalizers: []string{"example.com/stays"}}}, metav1.CreateOptions{}))
	if err := k.CoreV1().Namespaces().Delete(ctx, "going", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, s = stopped(t, lab, lab.Config, platform{name: "going"}, StopInput)
	if !strings.Contains(s.Error(), "namespace going is being deleted") {
		t.Errorf("%v", s)
	}
}

// testNotInForce has a sentinel that its policy has nothing against: the run must say so and must not prune.
func testNotInForce(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	p := platform{name: "not-in-force", more: []any{account("not-in-force", "former")}}
	mustRun(t, lab.Config, p)
	p.more = nil
	o := p.options()
	o.Timeout = 1500 * time.Millisecond
	o.Sentinels[0].Request.Object["metadata"].(map[string]any)["labels"] = map[string]any{"owner": "me"}
	res, err := Run(t.Context(), lab.Config, p.plan(), o)
	var n *NotInForceError
	if !errors.As(err, &n) || len(n.Controls) != 1 || n.Controls[0].Name != "policy/not-in-force-owner-label" {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(err.Error(), "after 1.5s its sentinel was admitted") {
		t.Errorf("%v", err)
	}
	if res.Summary.InForce != 2 || actionOf(res, "ServiceAccount not-in-force/former") != Left {
		t.Errorf("%+v", res)
	}
}

// testUnknown has a policy without a sentinel, a sentinel that somebody else refuses, and one that RBAC refuses.
func testUnknown(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	p := platform{name: "unknown"}
	o := p.options()
	o.Timeout = 1500 * time.Millisecond
	o.Sentinels = o.Sentinels[1:]
	o.Sentinels[0].Request.As = rest.ImpersonationConfig{UserName: "stranger", Groups: []string{"system:authenticated"}}
	res, err := Run(t.Context(), lab.Config, p.plan(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.NotJudged) != 2 || res.Summary.InForce != 1 || res.Summary.Controls != 3 {
		t.Fatalf("%+v %+v", res.NotJudged, res.Summary)
	}
	for i, want := range []string{"refused, but not by it", "no sentinel request is known"} {
		if !strings.Contains(res.NotJudged[i].Reason, want) {
			t.Errorf("got %+v, want %q", res.NotJudged[i], want)
		}
	}
}

// testResidue has a Pod Security label that somebody else set: going down would silently leave it in force.
func testResidue(t *testing.T, lab *labtest.Lab, k kubernetes.Interface) {
	ctx := t.Context()
	must[*corev1.Namespace](t)(k.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "residue",
		Labels: map[string]string{podSecurityPrefix + "enforce": "privileged"}}}, metav1.CreateOptions{FieldManager: "kubectl-create"}))
	_, s := stopped(t, lab, lab.Config, platform{name: "residue", stage: artifact.Audit}, StopConflict)
	if want := `metadata.labels.pod-security.kubernetes.io/enforce: "privileged" was set by kubectl-create and stays; remove it: kubectl label namespace residue pod-security.kubernetes.io/enforce-`; len(s.Details) != 1 || !strings.HasSuffix(s.Details[0], want) {
		t.Errorf("%v", s)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	p := platform{name: "unreachable"}
	o := p.options()
	o.RequestTimeout = 2 * time.Second
	for name, cfg := range map[string]*rest.Config{
		"refused":  {Host: "https://" + host},
		"no such":  {Host: "https://cluster.invalid:6443"},
		"nonsense": {Host: "http://[::1"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			res, err := Run(t.Context(), cfg, p.plan(), o)
			var s *StoppedError
			if !errors.As(err, &s) || s.Reason != StopUnreachable || !strings.Contains(err.Error(), cfg.Host) || !strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("got %v", err)
			}
			if res == nil || res.Error == "" || time.Since(start) > 10*time.Second {
				t.Errorf("%+v after %s", res, time.Since(start))
			}
		})
	}
}
