package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/intelgraph/bulwark/lab/server"
)

var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

func newPod(name string, privileged bool) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "c", Image: "registry.example/app:1", SecurityContext: &corev1.SecurityContext{Privileged: &privileged},
		}}},
	}
}

func testPodSecurity(t *testing.T, s *server.Server) {
	admin := client(t, s.Config())
	newNamespace(t, admin, "baseline", map[string]string{"pod-security.kubernetes.io/enforce": "baseline"})
	pods := admin.CoreV1().Pods("baseline")
	const refusal = `violates PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)`

	_, err := pods.Create(t.Context(), newPod("attack", true), dryRun)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), refusal) {
		t.Errorf("a privileged pod: got %v, want %q", err, refusal)
	}
	twin, err := pods.Create(t.Context(), newPod("twin", false), metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("its harmless twin: %v", err)
	}

	privileged := true
	debug := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "registry.example/debug:1"}}
	update := func(security *corev1.SecurityContext) error {
		changed := twin.DeepCopy()
		debug.SecurityContext = security
		changed.Spec.EphemeralContainers = []corev1.EphemeralContainer{debug}
		_, err := pods.UpdateEphemeralContainers(t.Context(), "twin", changed, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	if err := update(&corev1.SecurityContext{Privileged: &privileged}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `PodSecurity "baseline:latest"`) {
		t.Errorf("a privileged ephemeral container: got %v, want Pod Security to refuse it", err)
	}
	if err := update(nil); err != nil {
		t.Errorf("a harmless ephemeral container: %v", err)
	}
}

// newPolicy makes a policy, and its binding with Deny and Audit, that judges the
// creation and deletion of resources in group.
func newPolicy(t *testing.T, c *kubernetes.Clientset, name, group string, resources []string, expression, message string) {
	t.Helper()
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Delete},
					Rule:       admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: resources},
				},
			}}},
			Validations: []admissionv1.Validation{{Expression: expression, Message: message}},
		},
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        name,
			ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny, admissionv1.Audit},
		},
	}
	api := c.AdmissionregistrationV1()
	if _, err := api.ValidatingAdmissionPolicies().Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.ValidatingAdmissionPolicyBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_ = api.ValidatingAdmissionPolicyBindings().Delete(ctx, name, metav1.DeleteOptions{})
		_ = api.ValidatingAdmissionPolicies().Delete(ctx, name, metav1.DeleteOptions{})
	})
}

func testValidatingPolicy(t *testing.T, s *server.Server) {
	admin := client(t, s.Config())
	pods := admin.CoreV1().Pods("default")
	newPolicy(t, admin, "registry", "", []string{"pods"}, "object.spec.containers.all(c, c.image.startsWith('ghcr.io/ok/'))", "wrong registry")
	attempt := func(image string) error {
		pod := newPod("p", false)
		pod.Spec.Containers[0].Image = image
		_, err := pods.Create(t.Context(), pod, dryRun)
		return err
	}
	eventually(t, "the policy takes effect", func() error {
		if err := attempt("evil.example/x"); err == nil || !strings.Contains(err.Error(), "wrong registry") {
			return fmt.Errorf("got %v, want a refusal", err)
		}
		return nil
	})
	if err := attempt("ghcr.io/ok/x"); err != nil {
		t.Errorf("the harmless twin: %v", err)
	}

	const annotation = "validation.policy.admission.k8s.io/validation_failure"
	var logged string
	for _, event := range readAudit(t, s.AuditLog()) {
		logged += event.Annotations[annotation]
	}
	if !strings.Contains(logged, `"policy":"registry"`) {
		t.Errorf("the audit log does not name the policy under %s: %q", annotation, logged)
	}

	if err := admin.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(t.Context(), "registry", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the policy lapses", func() error { return attempt("evil.example/x") })
}

func testMutatingPolicy(t *testing.T, s *server.Server) {
	admin := client(t, s.Config())
	api := admin.AdmissionregistrationV1()
	policy := &admissionv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "no-token"},
		Spec: admissionv1.MutatingAdmissionPolicySpec{
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create},
					Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
				},
			}}},
			ReinvocationPolicy: admissionv1.NeverReinvocationPolicy,
			Mutations: []admissionv1.Mutation{{
				PatchType: admissionv1.PatchTypeApplyConfiguration,
				ApplyConfiguration: &admissionv1.ApplyConfiguration{
					Expression: `Object{metadata: Object.metadata{labels: {"mutated": "yes"}}}`,
				},
			}},
		},
	}
	if _, err := api.MutatingAdmissionPolicies().Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &admissionv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "no-token"},
		Spec:       admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "no-token"},
	}
	if _, err := api.MutatingAdmissionPolicyBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_ = api.MutatingAdmissionPolicyBindings().Delete(ctx, "no-token", metav1.DeleteOptions{})
		_ = api.MutatingAdmissionPolicies().Delete(ctx, "no-token", metav1.DeleteOptions{})
	})
	eventually(t, "the mutating policy takes effect", func() error {
		pod, err := admin.CoreV1().Pods("default").Create(t.Context(), newPod("p", false), dryRun)
		if err != nil {
			return err
		}
		if pod.Labels["mutated"] != "yes" {
			return errors.New("the pod is unchanged")
		}
		return nil
	})
}

// testPolicyOnPolicy holds what the product's advice rests on: a policy made
// through the API is not asked about changes to policies and bindings, but is
// asked about changes to webhook configurations
// (k8s.io/apiserver/pkg/admission/plugin/policy/generic, Plugin.Dispatch).
func testPolicyOnPolicy(t *testing.T, s *server.Server) {
	admin := client(t, s.Config())
	api := admin.AdmissionregistrationV1()
	newPolicy(t, admin, "nobody-touches-admission", admissionv1.GroupName, []string{"*"}, "false", "hands off")

	eventually(t, "a webhook configuration is refused", func() error {
		_, err := api.ValidatingWebhookConfigurations().Create(t.Context(),
			&admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "w"}}, dryRun)
		if err == nil || !strings.Contains(err.Error(), "hands off") {
			return fmt.Errorf("got %v, want a refusal", err)
		}
		return nil
	})
	all := metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	if err := api.ValidatingAdmissionPolicyBindings().Delete(t.Context(), "nobody-touches-admission", all); err != nil {
		t.Errorf("the deletion of a binding: %v, but policies made through the API should not be asked", err)
	}
	if err := api.ValidatingAdmissionPolicies().Delete(t.Context(), "nobody-touches-admission", all); err != nil {
		t.Errorf("the deletion of a policy: %v, but policies made through the API should not be asked", err)
	}
}

func testTypeChecker(t *testing.T, s *server.Server) {
	admin := client(t, s.Config())
	newPolicy(t, admin, "mistyped", "apps", []string{"deployments"}, "object.spec.replicsa < 3", "too many")
	eventually(t, "the status has a warning", func() error {
		policy, err := admin.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(t.Context(), "mistyped", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if policy.Status.TypeChecking == nil || len(policy.Status.TypeChecking.ExpressionWarnings) == 0 {
			return errors.New("no warning")
		}
		if policy.Status.ObservedGeneration != policy.Generation {
			return fmt.Errorf("observedGeneration is %d, want %d", policy.Status.ObservedGeneration, policy.Generation)
		}
		return nil
	})
}

// guard lets nobody change what begins with bulwark- who may not unlock it.
const guard = `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: guard.static.k8s.io}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - apiGroups: [admissionregistration.k8s.io]
      apiVersions: ["*"]
      operations: [CREATE, UPDATE, DELETE]
      resources: [validatingadmissionpolicies, validatingadmissionpolicybindings]
  matchConditions:
  - name: ours
    expression: '(oldObject != null ? oldObject : object).metadata.name.startsWith("bulwark-")'
  validations:
  - expression: authorizer.group("bulwark.dev").resource("defences").check("unlock").allowed()
    message: this needs the right to unlock defences.bulwark.dev
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: guard.static.k8s.io}
spec: {policyName: guard.static.k8s.io, validationActions: [Deny, Audit]}
`

func TestStaticPoliciesAndWorkloads(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "guard.yaml"), []byte(guard), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, server.Options{StaticPolicies: dir, WorkloadControllers: true})
	t.Run("static policies", func(t *testing.T) { testStaticPolicies(t, s) })
	t.Run("workloads", func(t *testing.T) { testWorkloads(t, s) })
}

func testStaticPolicies(t *testing.T, s *server.Server) {
	admin := client(t, s.Config())
	for role, rule := range map[string]rbacv1.PolicyRule{
		"admission": {Verbs: []string{"*"}, APIGroups: []string{admissionv1.GroupName}, Resources: []string{"*"}},
		"unlock":    {Verbs: []string{"unlock"}, APIGroups: []string{"bulwark.dev"}, Resources: []string{"defences"}},
	} {
		meta := metav1.ObjectMeta{Name: role}
		if _, err := admin.RbacV1().ClusterRoles().Create(t.Context(),
			&rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{rule}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		subjects := []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "alice"}}
		if role == "admission" {
			subjects = append(subjects, rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "mallory"})
		}
		if _, err := admin.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: meta, Subjects: subjects,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	newPolicy(t, admin, "bulwark-x", "", []string{"configmaps"}, "true", "")
	newPolicy(t, admin, "other", "", []string{"configmaps"}, "true", "")

	dry := metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	remove := func(user, name string) error {
		return client(t, as(s, user)).AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(t.Context(), name, dry)
	}
	eventually(t, "the harmless twin", func() error { return remove("mallory", "other") }) // a new binding takes RBAC some ms
	refused := func(what string, err error) {
		t.Helper()
		if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "'guard.static.k8s.io'") {
			t.Errorf("%s: got %v, want the static policy to refuse it", what, err)
		}
	}
	refused("delete", remove("mallory", "bulwark-x"))
	mallory := client(t, as(s, "mallory")).AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	refused("deletecollection", mallory.DeleteCollection(t.Context(), dry, metav1.ListOptions{}))
	_, err := mallory.Patch(t.Context(), "bulwark-x", "application/merge-patch+json",
		[]byte(`{"spec":{"validationActions":["Audit"]}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
	refused("patch", err)
	eventually(t, "alice may unlock", func() error { return remove("alice", "bulwark-x") })
}

func testWorkloads(t *testing.T, s *server.Server) {
	admin := client(t, s.Config())
	newNamespace(t, admin, "work", map[string]string{"pod-security.kubernetes.io/enforce": "baseline"})
	deploy := func(name string, privileged bool) {
		t.Helper()
		labels := map[string]string{"app": name}
		_, err := admin.AppsV1().Deployments("work").Create(t.Context(), &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: appsv1.DeploymentSpec{
				Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: newPod("", privileged).Spec},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	deploy("attack", true)
	deploy("twin", false)
	eventually(t, "the twin's pod", func() error {
		pods, err := admin.CoreV1().Pods("work").List(t.Context(), metav1.ListOptions{LabelSelector: "app=twin"})
		if err == nil && len(pods.Items) == 0 {
			err = errors.New("none yet")
		}
		return err
	})
	foreground := metav1.DeletePropagationForeground
	if err := admin.AppsV1().Deployments("work").Delete(t.Context(), "twin", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the twin is gone with all it owns", func() error {
		if _, err := admin.AppsV1().Deployments("work").Get(t.Context(), "twin", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("got %v, want not found", err)
		}
		pods, err := admin.CoreV1().Pods("work").List(t.Context(), metav1.ListOptions{LabelSelector: "app=twin"})
		if err == nil && len(pods.Items) > 0 {
			err = errors.New("its pod is still there")
		}
		return err
	})
	eventually(t, "the attack's pod is refused", func() error {
		sets, err := admin.AppsV1().ReplicaSets("work").List(t.Context(), metav1.ListOptions{LabelSelector: "app=attack"})
		if err != nil {
			return err
		}
		for _, set := range sets.Items {
			for _, condition := range set.Status.Conditions {
				if condition.Type == appsv1.ReplicaSetReplicaFailure && strings.Contains(condition.Message, "violates PodSecurity") {
					return nil
				}
			}
		}
		return fmt.Errorf("no such condition in %d ReplicaSets", len(sets.Items))
	})
}
