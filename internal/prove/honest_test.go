package prove_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/compile/admission"
	"github.com/intelgraph/bulwark/internal/deploy"
	"github.com/intelgraph/bulwark/internal/labtest"
	"github.com/intelgraph/bulwark/internal/prove"
	"github.com/intelgraph/bulwark/internal/spec"
)

const production = "intelgraph-production"

// silent keeps the warnings of a stage that warns out of the test's output.
func silent(cfg *rest.Config) *rest.Config {
	cfg.WarningHandler = rest.NoWarnings{}
	return cfg
}

// as gives a client of somebody to whom every resource is open, but not the platform's guards.
func as(t *testing.T, lab *labtest.Lab, name string) *kubernetes.Clientset {
	t.Helper()
	ctx := context.Background()
	admin, err := kubernetes.NewForConfig(lab.Config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{"", "apps", "batch", "admissionregistration.k8s.io"}, Resources: []string{"*"},
		Verbs: []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}, // impersonate is a verb too
	}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: name}},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cfg := silent(rest.CopyConfig(lab.Config))
	cfg.Impersonate = rest.ImpersonationConfig{UserName: name, Groups: []string{"system:authenticated"}}
	cl, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		_, err := cl.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		return err == nil
	})
	return cl
}

// TestHonestWorkGoesOn: what was there before the policies can be run down, put into quarantine and cleaned up, by people
// and by controllers; what makes more of it cannot. What the policies guard can be written back as it is.
func TestHonestWorkGoesOn(t *testing.T) {
	w := reference(t)
	lab := bare(t, w, "--workload-controllers")
	ctx := context.Background()
	cl := as(t, lab, "operator")
	if _, err := cl.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: production}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		_, err := cl.CoreV1().ServiceAccounts(production).Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})

	bad := corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "docker.io/library/nginx"}}, SchedulingGates: []corev1.PodSchedulingGate{{Name: "bulwark.dev/test"}}}
	labels := map[string]string{"app": "old"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: bad}
	two := int32(2)
	pods, deployments, jobs := cl.CoreV1().Pods(production), cl.AppsV1().Deployments(production), cl.BatchV1().Jobs(production)
	if _, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "old", Labels: labels, Finalizers: []string{"example.com/keep"}}, Spec: bad}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := deployments.Create(ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Spec: appsv1.DeploymentSpec{Replicas: &two, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	never := template
	never.Spec.RestartPolicy = corev1.RestartPolicyNever
	if _, err := jobs.Create(ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Spec: batchv1.JobSpec{Template: never}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	running := func(selector string) int {
		t.Helper()
		l, err := pods.List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			t.Fatal(err)
		}
		return len(l.Items)
	}
	waitFor(t, func() bool { return running("pod-template-hash") == 2 && running("job-name=old") == 1 })
	if _, err := deploy.Run(ctx, lab.Config, w.plan, deploy.Options{Stage: artifact.Enforce, Force: true}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		_, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "new"}, Spec: bad}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil
	})

	ok := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s is refused: %v", what, err)
		}
	}
	refused := func(what, by string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), by) {
			t.Errorf("%s: got %v, want a refusal by %s", what, err, by)
		}
	}
	patch := func(p string) []byte { return []byte(p) }
	merge := types.MergePatchType
	one := func(_ *corev1.Pod, err error) error { return err }
	ok("a label for quarantine", one(pods.Patch(ctx, "old", merge, patch(`{"metadata":{"labels":{"quarantine":"yes","app":null}}}`), metav1.PatchOptions{})))
	ok("a kubelet's status", one(pods.Patch(ctx, "old", merge, patch(`{"status":{"phase":"Failed","reason":"Evicted"}}`), metav1.PatchOptions{}, "status")))
	ok("taking a finalizer away", one(pods.Patch(ctx, "old", merge, patch(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})))
	ok("eviction", pods.EvictV1(ctx, evict("old")))
	ok("garbage collection", func() error {
		waitFor(t, func() bool {
			_, err := pods.Get(ctx, "old", metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		})
		return nil
	}())
	_, err := deployments.Patch(ctx, "old", merge, patch(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}}}}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
	ok("asking for a restart", err)
	// More of it: the API server says no, and the number does not grow.
	_, err = deployments.Patch(ctx, "old", merge, patch(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"docker.io/library/nginx:2"}]}}}}`), metav1.PatchOptions{})
	refused("another image from there", "ValidatingAdmissionPolicy", err)
	_, err = deployments.Patch(ctx, "old", merge, patch(`{"spec":{"replicas":1}}`), metav1.PatchOptions{}, "scale")
	ok("scaling down", err)
	waitFor(t, func() bool { return running("pod-template-hash") == 1 })
	_, err = deployments.Patch(ctx, "old", merge, patch(`{"spec":{"replicas":0}}`), metav1.PatchOptions{}, "scale")
	ok("scaling to nothing", err)
	waitFor(t, func() bool { return running("pod-template-hash") == 0 })
	_, err = jobs.Patch(ctx, "old", merge, patch(`{"spec":{"suspend":true}}`), metav1.PatchOptions{})
	ok("suspending a job", err)
	waitFor(t, func() bool { return running("job-name=old") == 0 })
	background := metav1.DeletePropagationForeground
	ok("deleting a deployment with what it owns", deployments.Delete(ctx, "old", metav1.DeleteOptions{PropagationPolicy: &background}))
	waitFor(t, func() bool {
		l, err := cl.AppsV1().ReplicaSets(production).List(ctx, metav1.ListOptions{})
		return err == nil && len(l.Items) == 0
	})

	// A storage migration writes every object back as it is; whoever changes one must be meant to.
	pols := cl.AdmissionregistrationV1().ValidatingAdmissionPolicies()
	name := admission.Name("intelgraph", "image-digests")
	pol, err := pols.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = pols.Update(ctx, pol, metav1.UpdateOptions{})
	ok("writing a policy back", err)
	pol.Spec.Validations[0].Expression = "true"
	_, err = pols.Update(ctx, pol, metav1.UpdateOptions{})
	refused("changing it", "protect-policies", err)
	refused("deleting all of them at once", "protect-policies", pols.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	nss := cl.CoreV1().Namespaces()
	ns, err := nss.Get(ctx, "intelgraph-staging", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ns, err = nss.Update(ctx, ns, metav1.UpdateOptions{})
	ok("writing a namespace back", err)
	without := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns.Name}}
	again := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns.Name, Labels: ns.Labels}}
	ok("deleting a namespace", nss.Delete(ctx, ns.Name, metav1.DeleteOptions{}))
	waitFor(t, func() bool {
		_, err := nss.Get(ctx, ns.Name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	_, err = nss.Create(ctx, without, metav1.CreateOptions{})
	refused("making it again without Pod Security", "protect-namespaces", err)
	_, err = nss.Create(ctx, again, metav1.CreateOptions{})
	ok("making it again as it was", err)
}

// TestLargePods: the expressions stay within their budget for what Kubernetes lets a pod be.
func TestLargePods(t *testing.T) {
	w := reference(t)
	lab := start(t, w)
	ctx := context.Background()
	engine := setup(t, lab, w)
	for _, a := range w.attacks {
		if a.ID != "policies/unpinned/pod" && a.ID != "policies/unpinned/cronjob" && a.ID != "policies/projected-token/deployment" {
			continue
		}
		for _, r := range []attack.Request{a.Attempt, a.Twin} {
			grown := r
			grown.Object = grow(t, r.Object)
			got, want := engine.Try(ctx, grown), engine.Try(ctx, r)
			if got.Admitted != want.Admitted || got.Unknown != "" {
				t.Errorf("%s: %+v", a.ID, got)
			}
			for _, ref := range got.Refusals {
				if ref.Control != a.Intended || strings.Contains(ref.Message, "budget") || strings.Contains(ref.Message, "error") {
					t.Errorf("%s: refused by %s: %s", a.ID, ref.Control, ref.Message)
				}
			}
			offline := w.offline.Try(ctx, grown)
			if offline.Admitted != got.Admitted {
				t.Errorf("%s: offline admitted is %v: %v", a.ID, offline.Admitted, offline.Refusals)
			}
		}
	}
}

// grow gives every list of containers a hundred more of its kind, and the pod two hundred volumes and as many labels.
func grow(t *testing.T, object map[string]any) map[string]any {
	t.Helper()
	b, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var o map[string]any
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatal(err)
	}
	var find func(m map[string]any) map[string]any
	find = func(m map[string]any) map[string]any {
		if _, ok := m["containers"]; ok {
			return m
		}
		for _, v := range m {
			if child, ok := v.(map[string]any); ok {
				if p := find(child); p != nil {
					return p
				}
			}
		}
		return nil
	}
	pod := find(o)
	for _, list := range []string{"containers", "initContainers"} {
		first := pod[list].([]any)[0].(map[string]any)
		for i := range 100 {
			c := map[string]any{}
			for k, v := range first {
				c[k] = v
			}
			c["name"] = fmt.Sprintf("%s-%d", first["name"], i)
			var env []any
			for j := range 50 {
				env = append(env, map[string]any{"name": fmt.Sprintf("V%d", j), "value": strings.Repeat("x", 50)})
			}
			c["env"] = env
			pod[list] = append(pod[list].([]any), c)
		}
	}
	volumes, _ := pod["volumes"].([]any)
	for i := range 200 {
		volumes = append(volumes, map[string]any{"name": fmt.Sprintf("v%d", i), "projected": map[string]any{"sources": []any{
			map[string]any{"configMap": map[string]any{"name": "a"}}, map[string]any{"secret": map[string]any{"name": "b"}},
		}}})
	}
	pod["volumes"] = volumes
	return o
}

// TestSetup: a run begins in order or says why it cannot.
func TestSetup(t *testing.T) {
	w := reference(t)
	lab := labtest.Start(t)
	install(t, lab, w.plan, artifact.Enforce)
	ctx := context.Background()
	cl, err := kubernetes.NewForConfig(lab.Config)
	if err != nil {
		t.Fatal(err)
	}
	namespaces := spec.Sorted(w.platform.Spec.Namespaces)
	begin := func(cfg *rest.Config) (func(context.Context) error, error) {
		return prove.Setup(ctx, cfg, namespaces, w.attacks)
	}
	says := func(what string, err error, text string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want an error that says %q", what, err, text)
		}
	}
	clean := func(f func(context.Context) error) {
		t.Helper()
		if err := f(ctx); err != nil {
			t.Error(err)
		}
	}

	first, err := begin(lab.Config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = begin(lab.Config)
	says("two runs at once", err, "another run of prove is going on")
	// The second has taken nothing from the first.
	if _, err := cl.CoreV1().Pods(production).Get(ctx, attack.DebuggedName, metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	clean(first)

	// What a killed run of an older version left: a role that grants nothing, a policy that judges, a lease of yesterday.
	if first, err = begin(lab.Config); err != nil {
		t.Fatal(err)
	}
	role, err := cl.RbacV1().Roles(production).Get(ctx, "bulwark-prove-deployer", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := cl.CoordinationV1().Leases(namespaces[0]).Get(ctx, "bulwark-prove", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	clean(first)
	role.ResourceVersion, role.UID, role.Rules = "", "", role.Rules[:1]
	if _, err := cl.RbacV1().Roles(production).Create(ctx, role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	yesterday := metav1.NewMicroTime(time.Now().Add(-24 * time.Hour))
	lease.ResourceVersion, lease.UID, lease.Spec.RenewTime = "", "", &yesterday
	if _, err := cl.CoordinationV1().Leases(namespaces[0]).Create(ctx, lease, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if first, err = begin(lab.Config); err != nil {
		t.Fatal(err)
	}
	now, err := cl.RbacV1().Roles(production).Get(ctx, "bulwark-prove-deployer", metav1.GetOptions{})
	if err != nil || len(now.Rules) < 4 {
		t.Errorf("the old role is still there: %v, %v", now, err)
	}
	clean(first)

	// Somebody's own object of such a name is left alone.
	own := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "bulwark-prove-deployer"}}
	if _, err := cl.RbacV1().Roles(production).Create(ctx, own, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = begin(lab.Config)
	says("somebody's role", err, "not a former run's")
	if err := cl.RbacV1().Roles(production).Delete(ctx, own.Name, metav1.DeleteOptions{}); err != nil {
		t.Errorf("somebody's role was removed: %v", err)
	}

	// Everything but the right to impersonate.
	as(t, lab, "operator")
	// A client that impersonates already cannot do so twice, so the operator needs a credential of its own.
	token, err := cl.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", tokenRequest(), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cl.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "default-operates"}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: "default"}},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "operator"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cfg := rest.AnonymousClientConfig(lab.Config)
	cfg.BearerToken = token.Status.Token
	_, err = begin(cfg)
	says("no right to impersonate", err, "with the verb impersonate")

	// A namespace on its way out refuses everything.
	staging := "intelgraph-staging"
	if _, err := cl.CoreV1().Pods(staging).Create(ctx, lastPod(w, staging), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := cl.CoreV1().Namespaces().Delete(ctx, staging, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = begin(lab.Config)
	says("a namespace that is being deleted", err, "is being deleted")
	left, err := cl.RbacV1().Roles(production).List(ctx, metav1.ListOptions{LabelSelector: prove.TemporaryLabel})
	if err != nil || len(left.Items) > 0 {
		t.Errorf("a run that did not begin left %v, %v", left.Items, err)
	}
}

func evict(name string) *policyv1.Eviction {
	return &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: production}}
}

func tokenRequest() *authenticationv1.TokenRequest { return &authenticationv1.TokenRequest{} }

// lastPod is a harmless pod that holds its namespace back with a finalizer.
func lastPod(w *world, ns string) *corev1.Pod {
	for _, a := range w.attacks {
		if a.Attempt.Needs == nil {
			continue
		}
		b, _ := json.Marshal(a.Attempt.Needs)
		pod := &corev1.Pod{}
		_ = json.Unmarshal(b, pod)
		pod.Namespace, pod.Name, pod.Finalizers = ns, "last", []string{"example.com/keep"}
		return pod
	}
	return nil
}
