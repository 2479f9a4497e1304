package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsscheme "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/kubernetes/pkg/controller/certificates/rootcacertpublisher"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	namespacecontroller "k8s.io/kubernetes/pkg/controller/namespace"
	serviceaccountcontroller "k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/controller/validatingadmissionpolicystatus"
	"k8s.io/kubernetes/pkg/generated/openapi"

	"k8s.io/klog/v2"
)

// workers is how many objects a controller works on at once; a lab is small.
const workers = 2

// controllers are the parts of kube-controller-manager that run beside the API
// server.
type controllers struct {
	cancel    context.CancelFunc
	informers informers.SharedInformerFactory
	running   sync.WaitGroup
}

// loop is a controller that was built; it runs until its context ends.
type loop func(ctx context.Context, workers int)

// builder is what controllers are made from.
type builder struct {
	config    *rest.Config
	informers informers.SharedInformerFactory
	rootCA    []byte
}

// construct makes one controller. It must fetch its informers before it returns.
type construct struct {
	// account is the ServiceAccount in kube-system as which the controller acts,
	// as with kube-controller-manager --use-service-account-credentials. It
	// matters here: policies exempt or watch these names.
	account string
	build   func(ctx context.Context, b builder, as *rest.Config) (loop, error)
}

// essential are the controllers that every request relies on.
var essential = []construct{
	// Without it there is no ServiceAccount "default", and every pod is refused.
	{"service-account-controller", newServiceAccountController},
	// Without it a deleted namespace stays forever.
	{"namespace-controller", newNamespaceController},
	// Without it view, edit and admin allow nothing.
	{"clusterrole-aggregation-controller", newClusterRoleAggregation},
	// Without it kube-root-ca.crt, which every pod mounts, is missing.
	{"root-ca-cert-publisher", newRootCAPublisher},
	// Without it a policy's status has no warnings of the type checker, and its
	// observedGeneration stays 0.
	{"validatingadmissionpolicy-status-controller", newPolicyStatus},
	// Without it an object deleted in the foreground stays forever, and what it
	// owns stays in any case.
	{"generic-garbage-collector", newGarbageCollector},
}

// startControllers runs the controllers against the API server at config, which
// must be ready.
func startControllers(config *rest.Config, rootCA []byte, workloads bool) (*controllers, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for the informers: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &controllers{cancel: cancel, informers: informers.NewSharedInformerFactory(client, 0)}
	b := builder{config: config, informers: c.informers, rootCA: rootCA}

	list := essential
	if workloads {
		list = append(list[:len(list):len(list)], workloadControllers...)
	}
	loops := make([]loop, 0, len(list))
	for _, each := range list {
		as := rest.CopyConfig(config)
		as.Impersonate = rest.ImpersonationConfig{
			UserName: serviceaccount.MakeUsername(metav1.NamespaceSystem, each.account),
			Groups:   append(serviceaccount.MakeGroupNames(metav1.NamespaceSystem), "system:authenticated"),
		}
		run, err := each.build(ctx, b, as)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("make the controller %s: %w", each.account, err)
		}
		loops = append(loops, run)
	}
	c.informers.Start(ctx.Done())
	for _, run := range loops {
		c.running.Go(func() { run(ctx, workers) })
	}
	return c, nil
}

// stop returns when all controllers have ended, or after limit.
func (c *controllers) stop(limit time.Duration) error {
	c.cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.running.Wait()
		c.informers.Shutdown()
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("the controllers still run %v after they were asked to stop", limit)
	}
}

func newServiceAccountController(_ context.Context, b builder, as *rest.Config) (loop, error) {
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	core := b.informers.Core().V1()
	c, err := serviceaccountcontroller.NewServiceAccountsController(klog.Background(), core.ServiceAccounts(), core.Namespaces(),
		client, serviceaccountcontroller.DefaultServiceAccountsControllerOptions())
	if err != nil {
		return nil, err
	}
	return c.Run, nil
}

func newNamespaceController(ctx context.Context, b builder, as *rest.Config) (loop, error) {
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	objects, err := metadata.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	c := namespacecontroller.NewNamespaceController(ctx, client, objects, client.Discovery().ServerPreferredNamespacedResources,
		b.informers.Core().V1().Namespaces(), 5*time.Minute, corev1.FinalizerKubernetes)
	return c.Run, nil
}

func newClusterRoleAggregation(_ context.Context, b builder, as *rest.Config) (loop, error) {
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	c := clusterroleaggregation.NewClusterRoleAggregation(b.informers.Rbac().V1().ClusterRoles(), client.RbacV1())
	return c.Run, nil
}

func newRootCAPublisher(_ context.Context, b builder, as *rest.Config) (loop, error) {
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	core := b.informers.Core().V1()
	c, err := rootcacertpublisher.NewPublisher(core.ConfigMaps(), core.Namespaces(), client, b.rootCA)
	if err != nil {
		return nil, err
	}
	return c.Run, nil
}

func newPolicyStatus(_ context.Context, b builder, as *rest.Config) (loop, error) {
	client, err := kubernetes.NewForConfig(as)
	if err != nil {
		return nil, err
	}
	schemas := resolver.NewDefinitionsSchemaResolver(openapi.GetOpenAPIDefinitions, scheme.Scheme, apiextensionsscheme.Scheme).
		Combine(&resolver.ClientDiscoveryResolver{Discovery: client.Discovery()})
	checker := &validating.TypeChecker{
		SchemaResolver: schemas,
		RestMapper:     restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery())),
	}
	c, err := validatingadmissionpolicystatus.NewController(b.informers.Admissionregistration().V1().ValidatingAdmissionPolicies(),
		client.AdmissionregistrationV1().ValidatingAdmissionPolicies(), checker)
	if err != nil {
		return nil, err
	}
	return c.Run, nil
}
