package prove

import (
	"context"
	"errors"
	"fmt"
	"time"

	admv1 "k8s.io/api/admissionregistration/v1"
	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/intelgraph/bulwark/internal/attack"
)

// TemporaryLabel marks what a run puts into the cluster and takes out again.
const TemporaryLabel = "bulwark.dev/temporary"

// runner holds what a live run needs in the cluster while it lasts: the rights of the two deployers, a pod to debug, a
// policy to delete.
type runner struct {
	cl   kubernetes.Interface
	undo []func(context.Context) error
}

// Setup prepares a cluster for the attacks and returns the function that takes everything out again, which must be
// called with a context that still lives. When Setup fails it has undone what it did.
//
// What it makes is labelled TemporaryLabel. Names are fixed, so that a run that was killed is cleaned up by the next.
func Setup(ctx context.Context, cfg *rest.Config, namespaces []string, attacks []attack.Attack) (cleanup func(context.Context) error, err error) {
	cl, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	r := &runner{cl: cl}
	defer func() {
		if err != nil {
			rescue, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
			defer cancel()
			err = errors.Join(err, r.clean(rescue))
		}
	}()
	for _, ns := range namespaces {
		if _, err := cl.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{}); err != nil {
			return nil, fmt.Errorf("namespace %s: %w; deploy the platform first: bulwark deploy -f platform.yaml", ns, err)
		}
		if err := r.deployer(ctx, ns); err != nil {
			return nil, explain("give the corpus' deployer its rights", err)
		}
	}
	if err := r.careless(ctx, namespaces); err != nil {
		return nil, explain("give the corpus' careless deployer its rights", err)
	}
	if err := r.harmlessPolicy(ctx); err != nil {
		return nil, explain("create a policy that judges nothing", err)
	}
	probed := map[string]bool{}
	for _, a := range attacks {
		if a.Attempt.Verb == attack.Debug && !probed[a.Attempt.Namespace] {
			probed[a.Attempt.Namespace] = true
			if err := r.probe(ctx, a); err != nil {
				return nil, fmt.Errorf("create a pod to debug in %s: %w", a.Attempt.Namespace, err)
			}
		}
	}
	for _, ns := range namespaces {
		if err := r.wait(ctx, ns); err != nil {
			return nil, err
		}
	}
	return r.clean, nil
}

func (r *runner) later(f func(context.Context) error) { r.undo = append(r.undo, f) }

func (r *runner) clean(ctx context.Context) error {
	var errs []error
	for i := len(r.undo) - 1; i >= 0; i-- {
		if err := r.undo[i](ctx); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("clean up: %w; remove what is labelled %s by hand", err, TemporaryLabel))
		}
	}
	r.undo = nil
	return errors.Join(errs...)
}

func temporary(name, namespace string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{TemporaryLabel: "prove"}}
}

// existing lets what a killed run left behind be used again.
func existing(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func subject(name string) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: name}}
}

func (r *runner) deployer(ctx context.Context, ns string) error {
	const name = "bulwark-prove-deployer"
	role := &rbacv1.Role{ObjectMeta: temporary(name, ns), Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods", "replicationcontrollers", "podtemplates"}, Verbs: []string{"create", "get"}},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments", "replicasets", "statefulsets", "daemonsets"}, Verbs: []string{"create"}},
		{APIGroups: []string{"batch"}, Resources: []string{"jobs", "cronjobs"}, Verbs: []string{"create"}},
		{APIGroups: []string{""}, Resources: []string{"pods/ephemeralcontainers"}, Verbs: []string{"update", "patch"}},
	}}
	r.later(func(ctx context.Context) error {
		return r.cl.RbacV1().Roles(ns).Delete(ctx, name, metav1.DeleteOptions{})
	})
	if _, err := r.cl.RbacV1().Roles(ns).Create(ctx, role, metav1.CreateOptions{}); existing(err) != nil {
		return err
	}
	r.later(func(ctx context.Context) error {
		return r.cl.RbacV1().RoleBindings(ns).Delete(ctx, name, metav1.DeleteOptions{})
	})
	_, err := r.cl.RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: temporary(name, ns), Subjects: subject(attack.Deployer.User),
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
	}, metav1.CreateOptions{})
	return existing(err)
}

func (r *runner) careless(ctx context.Context, namespaces []string) error {
	const name = "bulwark-prove-careless"
	role := &rbacv1.ClusterRole{ObjectMeta: temporary(name, ""), Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces", "namespaces/status"}, ResourceNames: namespaces, Verbs: []string{"patch"}},
		{APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"}, Verbs: []string{"patch", "delete"}},
	}}
	r.later(func(ctx context.Context) error {
		return r.cl.RbacV1().ClusterRoles().Delete(ctx, name, metav1.DeleteOptions{})
	})
	if _, err := r.cl.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); existing(err) != nil {
		return err
	}
	r.later(func(ctx context.Context) error {
		return r.cl.RbacV1().ClusterRoleBindings().Delete(ctx, name, metav1.DeleteOptions{})
	})
	_, err := r.cl.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: temporary(name, ""), Subjects: subject(attack.Careless.User),
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
	}, metav1.CreateOptions{})
	return existing(err)
}

// harmlessPolicy matches a resource that does not exist, so that it judges nothing.
func (r *runner) harmlessPolicy(ctx context.Context) error {
	fail := admv1.Fail
	pol := &admv1.ValidatingAdmissionPolicy{ObjectMeta: temporary(attack.HarmlessPolicy, ""), Spec: admv1.ValidatingAdmissionPolicySpec{
		FailurePolicy: &fail,
		MatchConstraints: &admv1.MatchResources{ResourceRules: []admv1.NamedRuleWithOperations{{RuleWithOperations: admv1.RuleWithOperations{
			Operations: []admv1.OperationType{admv1.Create},
			Rule:       admv1.Rule{APIGroups: []string{"prove.bulwark.dev"}, APIVersions: []string{"v1"}, Resources: []string{"nothings"}},
		}}}},
		Validations: []admv1.Validation{{Expression: "true"}},
	}}
	r.later(func(ctx context.Context) error {
		return r.cl.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(ctx, attack.HarmlessPolicy, metav1.DeleteOptions{})
	})
	if _, err := r.cl.AdmissionregistrationV1().ValidatingAdmissionPolicies().Create(ctx, pol, metav1.CreateOptions{}); existing(err) != nil {
		return err
	}
	r.later(func(ctx context.Context) error {
		return r.cl.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Delete(ctx, attack.HarmlessPolicy, metav1.DeleteOptions{})
	})
	_, err := r.cl.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Create(ctx, &admv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: temporary(attack.HarmlessPolicy, ""),
		Spec:       admv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: attack.HarmlessPolicy, ValidationActions: []admv1.ValidationAction{admv1.Deny, admv1.Audit}},
	}, metav1.CreateOptions{})
	return existing(err)
}

// probe makes the pod that debug attacks add containers to: the twin's own pod without its debugger. A scheduling gate
// keeps it from ever running.
func (r *runner) probe(ctx context.Context, a attack.Attack) error {
	obj, _, err := typed(a.Twin.Object)
	if err != nil {
		return err
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("attack %s debugs a %T", a.ID, obj)
	}
	pod = pod.DeepCopy()
	pod.Spec.EphemeralContainers = nil
	pod.Labels[TemporaryLabel] = "prove"
	ns, name := pod.Namespace, pod.Name
	zero := int64(0)
	r.later(func(ctx context.Context) error {
		return r.cl.CoreV1().Pods(ns).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
	})
	_, err = r.cl.CoreV1().Pods(ns).Create(ctx, pod, metav1.CreateOptions{})
	return existing(err)
}

// wait until the deployer's rights are known to the authorizer and the namespace has its default account, without which
// every pod is refused and every attack looks blocked.
func (r *runner) wait(ctx context.Context, ns string) error {
	deadline := time.Now().Add(15 * time.Second)
	for {
		sar, err := r.cl.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authv1.SubjectAccessReview{Spec: authv1.SubjectAccessReviewSpec{
			User: attack.Deployer.User, Groups: attack.Deployer.Groups,
			ResourceAttributes: &authv1.ResourceAttributes{Verb: "create", Resource: "pods", Namespace: ns},
		}}, metav1.CreateOptions{})
		if err != nil {
			return explain("create subjectaccessreviews", err)
		}
		_, err = r.cl.CoreV1().ServiceAccounts(ns).Get(ctx, "default", metav1.GetOptions{})
		if sar.Status.Allowed && err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			if err != nil {
				return fmt.Errorf("namespace %s has no default service account: %w; is kube-controller-manager running?", ns, err)
			}
			return fmt.Errorf("the rights of %s in %s did not take effect within 15 s", attack.Deployer.User, ns)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
