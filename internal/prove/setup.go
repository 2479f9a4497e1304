package prove

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	admv1 "k8s.io/api/admissionregistration/v1"
	authv1 "k8s.io/api/authorization/v1"
	coordv1 "k8s.io/api/coordination/v1"
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

// runner holds what a live run needs in the cluster while it lasts: the rights of the two deployers, pods to attack, a
// policy to delete.
type runner struct {
	cl   kubernetes.Interface
	undo []func(context.Context) error
}

// Setup prepares a cluster for the attacks and returns the function that takes everything out again, which must be
// called with a context that still lives. When Setup fails it has undone what it did.
//
// What it makes is labelled TemporaryLabel. Names are fixed, so that what a killed run left is replaced by the next; an
// object of such a name without the label is somebody's, and an error. A lease keeps two runs apart.
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
	for _, name := range namespaces {
		ns, err := cl.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("namespace %s: %w; deploy the platform first: bulwark deploy -f platform.yaml", name, err)
		}
		if ns.DeletionTimestamp != nil {
			return nil, fmt.Errorf("namespace %s is being deleted, and refuses everything; wait until it is gone and deploy the platform again", name)
		}
	}
	if err := impersonate(ctx, cfg, attacks); err != nil {
		return nil, err
	}
	if len(namespaces) > 0 {
		if err := r.lock(ctx, namespaces[0]); err != nil {
			return nil, err
		}
	}
	for _, ns := range namespaces {
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
		if a.Attempt.Needs == nil {
			continue
		}
		pod, err := podOf(a)
		if err != nil {
			return nil, err
		}
		if key := pod.Namespace + "/" + pod.Name; !probed[key] {
			probed[key] = true
			if err := r.probe(ctx, pod); err != nil {
				return nil, fmt.Errorf("create the pod %s that attacks need: %w", key, err)
			}
		}
	}
	for _, ns := range namespaces {
		if err := r.wait(ctx, ns, attack.Deployer, authv1.ResourceAttributes{Verb: "create", Resource: "pods", Namespace: ns}); err != nil {
			return nil, err
		}
		if err := r.wait(ctx, ns, attack.Careless, authv1.ResourceAttributes{Verb: "patch", Resource: "namespaces", Name: ns}); err != nil {
			return nil, err
		}
	}
	return r.clean, nil
}

func podOf(a attack.Attack) (*corev1.Pod, error) {
	obj, _, err := typed(a.Attempt.Needs)
	if err != nil {
		return nil, err
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("attack %s needs a %T, which is not made for it", a.ID, obj)
	}
	return pod, nil
}

// impersonate makes sure that requests can be made as the identities of the attacks. Otherwise each would be refused for
// that, and a wall of unknown verdicts would hide the one reason.
func impersonate(ctx context.Context, cfg *rest.Config, attacks []attack.Attack) error {
	seen := map[string]bool{}
	for _, a := range attacks {
		id := a.Attempt.As
		if id.User == "" || seen[id.User] {
			continue
		}
		seen[id.User] = true
		as := rest.CopyConfig(cfg)
		as.Impersonate = rest.ImpersonationConfig{UserName: id.User, Groups: id.Groups}
		cl, err := kubernetes.NewForConfig(as)
		if err != nil {
			return err
		}
		// Everybody may ask about himself (system:basic-user), so a refusal is about the impersonation.
		_, err = cl.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authv1.SelfSubjectAccessReview{Spec: authv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authv1.ResourceAttributes{Verb: "get", Resource: "pods"},
		}}, metav1.CreateOptions{})
		switch {
		case apierrors.IsForbidden(err):
			return fmt.Errorf("cannot try as %s: %w; run as somebody with the verb impersonate on users, groups and serviceaccounts, or judge offline with --offline", id.User, err)
		case err != nil:
			return fmt.Errorf("ask as %s: %w", id.User, err)
		}
	}
	return nil
}

// Times of the lease. Who finds one that is not renewed for leaseLife takes it: its run was killed.
const (
	leaseName  = "bulwark-prove"
	leaseLife  = 15 * time.Second
	leaseRenew = 4 * time.Second
	// leaseOld is beyond what clocks differ by; a lease of that age need not be watched first.
	leaseOld = 10 * time.Minute
)

// lock takes the lease that keeps two runs apart: they would take each other's rights and pods away.
func (r *runner) lock(ctx context.Context, ns string) error {
	leases := r.cl.CoordinationV1().Leases(ns)
	me, life := uuid.NewString(), int32(leaseLife/time.Second)
	now := metav1.NowMicro()
	mine := &coordv1.Lease{ObjectMeta: temporary(leaseName, ns), Spec: coordv1.LeaseSpec{HolderIdentity: &me, LeaseDurationSeconds: &life, AcquireTime: &now, RenewTime: &now}}
	busy := fmt.Errorf("another run of prove is going on in this cluster and renews its lease %s/%s; wait for it", ns, leaseName)
	var held, first *coordv1.Lease
	for since := time.Now(); held == nil; {
		var err error
		if held, err = leases.Create(ctx, mine, metav1.CreateOptions{}); err == nil {
			break
		}
		held = nil
		if !apierrors.IsAlreadyExists(err) {
			return explain("take the lease that keeps two runs apart", err)
		}
		found, err := leases.Get(ctx, leaseName, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			return explain("read the lease that keeps two runs apart", err)
		case first != nil && found.ResourceVersion != first.ResourceVersion:
			return busy
		}
		first = found
		if t := found.Spec.RenewTime; time.Since(since) >= leaseLife || t == nil || time.Since(t.Time) > leaseOld {
			found.Spec = mine.Spec
			// The resourceVersion that was read decides between two who find the same old lease.
			if held, err = leases.Update(ctx, found, metav1.UpdateOptions{}); apierrors.IsConflict(err) {
				return busy
			} else if err != nil {
				return explain("take the lease that keeps two runs apart", err)
			}
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-renewing.Done():
				return
			case <-time.After(leaseRenew):
			}
			now := metav1.NowMicro()
			held.Spec.RenewTime = &now
			// A renewal that fails is tried again: three fit into the lease's life.
			if next, err := leases.Update(renewing, held, metav1.UpdateOptions{}); err == nil {
				held = next
			}
		}
	}()
	r.later(func(ctx context.Context) error {
		stop()
		<-done
		return leases.Delete(ctx, leaseName, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &held.UID}})
	})
	return nil
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

// put creates an object and remembers to delete it. What a killed run left behind is deleted first, because it may be an
// older version's: a role with other rules, a policy that does judge. What is not ours is left alone, and is an error.
func put[T metav1.Object](ctx context.Context, r *runner, api interface {
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Get(context.Context, string, metav1.GetOptions) (T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}, want T) error {
	zero := int64(0)
	now := metav1.DeleteOptions{GracePeriodSeconds: &zero}
	for deadline := time.Now().Add(15 * time.Second); ; {
		_, err := api.Create(ctx, want, metav1.CreateOptions{})
		if err == nil {
			r.later(func(ctx context.Context) error { return api.Delete(ctx, want.GetName(), now) })
			return nil
		}
		if !apierrors.IsAlreadyExists(err) || time.Now().After(deadline) {
			return err
		}
		old, e := api.Get(ctx, want.GetName(), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(e):
			continue
		case e != nil:
			return e
		case old.GetLabels()[TemporaryLabel] == "":
			return fmt.Errorf("%s is there already and not labelled %s, so it is not a former run's; rename or remove it", want.GetName(), TemporaryLabel)
		}
		if old.GetDeletionTimestamp() == nil {
			if e := api.Delete(ctx, want.GetName(), now); e != nil && !apierrors.IsNotFound(e) {
				return e
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func subject(name string) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: name}}
}

func (r *runner) deployer(ctx context.Context, ns string) error {
	const name = "bulwark-prove-deployer"
	err := put(ctx, r, r.cl.RbacV1().Roles(ns), &rbacv1.Role{ObjectMeta: temporary(name, ns), Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods", "replicationcontrollers", "podtemplates"}, Verbs: []string{"create", "get"}},
		{APIGroups: []string{"apps"}, Resources: []string{"deployments", "replicasets", "statefulsets", "daemonsets"}, Verbs: []string{"create"}},
		{APIGroups: []string{"batch"}, Resources: []string{"jobs", "cronjobs"}, Verbs: []string{"create"}},
		{APIGroups: []string{""}, Resources: []string{"pods/ephemeralcontainers", "pods/status"}, Verbs: []string{"update", "patch"}},
		{APIGroups: []string{""}, Resources: []string{"pods/binding", "bindings", "secrets"}, Verbs: []string{"create"}},
	}})
	if err != nil {
		return err
	}
	return put(ctx, r, r.cl.RbacV1().RoleBindings(ns), &rbacv1.RoleBinding{
		ObjectMeta: temporary(name, ns), Subjects: subject(attack.Deployer.User),
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
	})
}

func (r *runner) careless(ctx context.Context, namespaces []string) error {
	const name = "bulwark-prove-careless"
	err := put(ctx, r, r.cl.RbacV1().ClusterRoles(), &rbacv1.ClusterRole{ObjectMeta: temporary(name, ""), Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces", "namespaces/status"}, ResourceNames: namespaces, Verbs: []string{"patch"}},
		{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"create"}},
		{APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"}, Verbs: []string{"patch", "delete"}},
	}})
	if err != nil {
		return err
	}
	return put(ctx, r, r.cl.RbacV1().ClusterRoleBindings(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: temporary(name, ""), Subjects: subject(attack.Careless.User),
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
	})
}

// harmlessPolicy matches a resource that does not exist, so that it judges nothing.
func (r *runner) harmlessPolicy(ctx context.Context) error {
	fail := admv1.Fail
	err := put(ctx, r, r.cl.AdmissionregistrationV1().ValidatingAdmissionPolicies(), &admv1.ValidatingAdmissionPolicy{ObjectMeta: temporary(attack.HarmlessPolicy, ""), Spec: admv1.ValidatingAdmissionPolicySpec{
		FailurePolicy: &fail,
		MatchConstraints: &admv1.MatchResources{ResourceRules: []admv1.NamedRuleWithOperations{{RuleWithOperations: admv1.RuleWithOperations{
			Operations: []admv1.OperationType{admv1.Create},
			Rule:       admv1.Rule{APIGroups: []string{"prove.bulwark.dev"}, APIVersions: []string{"v1"}, Resources: []string{"nothings"}},
		}}}},
		Validations: []admv1.Validation{{Expression: "true"}},
	}})
	if err != nil {
		return err
	}
	return put(ctx, r, r.cl.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings(), &admv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: temporary(attack.HarmlessPolicy, ""),
		Spec:       admv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: attack.HarmlessPolicy, ValidationActions: []admv1.ValidationAction{admv1.Deny, admv1.Audit}},
	})
}

// probe makes a pod that attacks need. A scheduling gate, or a scheduler that does not exist, keeps it from ever running.
func (r *runner) probe(ctx context.Context, pod *corev1.Pod) error {
	pod = pod.DeepCopy()
	pod.Labels[TemporaryLabel] = "prove"
	return put(ctx, r, r.cl.CoreV1().Pods(pod.Namespace), pod)
}

// wait until a right is known to the authorizer and the namespace has its default account, without which every pod is
// refused and every attack looks blocked.
func (r *runner) wait(ctx context.Context, ns string, id attack.Identity, right authv1.ResourceAttributes) error {
	deadline := time.Now().Add(15 * time.Second)
	for {
		sar, err := r.cl.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authv1.SubjectAccessReview{Spec: authv1.SubjectAccessReviewSpec{
			User: id.User, Groups: id.Groups, ResourceAttributes: &right,
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
			return fmt.Errorf("the rights of %s in %s did not take effect within 15 s", id.User, ns)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
