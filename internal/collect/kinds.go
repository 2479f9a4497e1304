package collect

import (
	"reflect"

	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
)

// current gives, for versions that are no longer served or were never the last, the version into whose Go type they are
// read. Only versions whose fields are the same, or a subset, are here: the API server converts them field by field.
// Ingress, whose backend changed shape, is converted by modern.
var current = map[schema.GroupVersion]map[string]schema.GroupVersion{
	{Group: "extensions", Version: "v1beta1"}: {
		"Deployment":    {Group: "apps", Version: "v1"},
		"DaemonSet":     {Group: "apps", Version: "v1"},
		"ReplicaSet":    {Group: "apps", Version: "v1"},
		"NetworkPolicy": {Group: "networking.k8s.io", Version: "v1"},
	},
	{Group: "apps", Version: "v1beta1"}: {
		"Deployment":         {Group: "apps", Version: "v1"},
		"StatefulSet":        {Group: "apps", Version: "v1"},
		"ControllerRevision": {Group: "apps", Version: "v1"},
	},
	{Group: "apps", Version: "v1beta2"}: {
		"Deployment":         {Group: "apps", Version: "v1"},
		"StatefulSet":        {Group: "apps", Version: "v1"},
		"DaemonSet":          {Group: "apps", Version: "v1"},
		"ReplicaSet":         {Group: "apps", Version: "v1"},
		"ControllerRevision": {Group: "apps", Version: "v1"},
	},
	{Group: "batch", Version: "v1beta1"}:  {"CronJob": {Group: "batch", Version: "v1"}},
	{Group: "batch", Version: "v2alpha1"}: {"CronJob": {Group: "batch", Version: "v1"}},
	{Group: "policy", Version: "v1beta1"}: {"PodDisruptionBudget": {Group: "policy", Version: "v1"}},
	{Group: "networking.k8s.io", Version: "v1beta1"}: {
		"IngressClass": {Group: "networking.k8s.io", Version: "v1"},
	},
	{Group: "rbac.authorization.k8s.io", Version: "v1beta1"}: {
		"Role":               {Group: "rbac.authorization.k8s.io", Version: "v1"},
		"RoleBinding":        {Group: "rbac.authorization.k8s.io", Version: "v1"},
		"ClusterRole":        {Group: "rbac.authorization.k8s.io", Version: "v1"},
		"ClusterRoleBinding": {Group: "rbac.authorization.k8s.io", Version: "v1"},
	},
	{Group: "admissionregistration.k8s.io", Version: "v1beta1"}: {
		"ValidatingAdmissionPolicy":        {Group: "admissionregistration.k8s.io", Version: "v1"},
		"ValidatingAdmissionPolicyBinding": {Group: "admissionregistration.k8s.io", Version: "v1"},
		"MutatingAdmissionPolicy":          {Group: "admissionregistration.k8s.io", Version: "v1"},
		"MutatingAdmissionPolicyBinding":   {Group: "admissionregistration.k8s.io", Version: "v1"},
		"ValidatingWebhookConfiguration":   {Group: "admissionregistration.k8s.io", Version: "v1"},
		"MutatingWebhookConfiguration":     {Group: "admissionregistration.k8s.io", Version: "v1"},
	},
	{Group: "admissionregistration.k8s.io", Version: "v1alpha1"}: {
		"ValidatingAdmissionPolicy":        {Group: "admissionregistration.k8s.io", Version: "v1"},
		"ValidatingAdmissionPolicyBinding": {Group: "admissionregistration.k8s.io", Version: "v1"},
		"MutatingAdmissionPolicy":          {Group: "admissionregistration.k8s.io", Version: "v1"},
		"MutatingAdmissionPolicyBinding":   {Group: "admissionregistration.k8s.io", Version: "v1"},
	},
	{Group: "storage.k8s.io", Version: "v1beta1"}:    {"StorageClass": {Group: "storage.k8s.io", Version: "v1"}},
	{Group: "scheduling.k8s.io", Version: "v1beta1"}: {"PriorityClass": {Group: "scheduling.k8s.io", Version: "v1"}},
	{Group: "discovery.k8s.io", Version: "v1beta1"}:  {"EndpointSlice": {Group: "discovery.k8s.io", Version: "v1"}},
}

var accessor = reflect.TypeFor[metav1.ObjectMetaAccessor]()

// newTyped gives an empty object of the Go type for a kind, or nil where Kubernetes has no such kind built in.
func newTyped(gvk schema.GroupVersionKind) runtime.Object {
	if gv, ok := current[gvk.GroupVersion()][gvk.Kind]; ok && scheme.Scheme.Recognizes(gv.WithKind(gvk.Kind)) {
		gvk = gv.WithKind(gvk.Kind)
	}
	t, ok := scheme.Scheme.AllKnownTypes()[gvk]
	if !ok || !reflect.PointerTo(t).Implements(accessor) {
		return nil // not built in, or something without metadata, such as DeleteOptions
	}
	return reflect.New(t).Interface().(runtime.Object)
}

// modern turns what was decoded into an old type of another shape into the type that checks know.
func modern(o runtime.Object) runtime.Object {
	switch x := o.(type) {
	case *networkingv1beta1.Ingress:
		return ingress(x.TypeMeta, x.ObjectMeta, x.Spec.IngressClassName, x.Spec.Backend, tls(x.Spec.TLS), x.Spec.Rules)
	case *extensionsv1beta1.Ingress:
		n := &networkingv1beta1.IngressSpec{IngressClassName: x.Spec.IngressClassName}
		if b := x.Spec.Backend; b != nil {
			n.Backend = &networkingv1beta1.IngressBackend{ServiceName: b.ServiceName, ServicePort: b.ServicePort, Resource: b.Resource}
		}
		for _, t := range x.Spec.TLS {
			n.TLS = append(n.TLS, networkingv1beta1.IngressTLS(t))
		}
		for _, r := range x.Spec.Rules {
			nr := networkingv1beta1.IngressRule{Host: r.Host}
			if r.HTTP != nil {
				nr.HTTP = &networkingv1beta1.HTTPIngressRuleValue{}
				for _, p := range r.HTTP.Paths {
					nr.HTTP.Paths = append(nr.HTTP.Paths, networkingv1beta1.HTTPIngressPath{
						Path: p.Path, PathType: (*networkingv1beta1.PathType)(p.PathType),
						Backend: networkingv1beta1.IngressBackend{ServiceName: p.Backend.ServiceName, ServicePort: p.Backend.ServicePort, Resource: p.Backend.Resource},
					})
				}
			}
			n.Rules = append(n.Rules, nr)
		}
		return ingress(x.TypeMeta, x.ObjectMeta, n.IngressClassName, n.Backend, tls(n.TLS), n.Rules)
	}
	return o
}

func tls(in []networkingv1beta1.IngressTLS) []networkingv1.IngressTLS {
	var out []networkingv1.IngressTLS
	for _, t := range in {
		out = append(out, networkingv1.IngressTLS(t))
	}
	return out
}

func ingress(tm metav1.TypeMeta, om metav1.ObjectMeta, class *string, def *networkingv1beta1.IngressBackend, tls []networkingv1.IngressTLS, rules []networkingv1beta1.IngressRule) *networkingv1.Ingress {
	out := &networkingv1.Ingress{TypeMeta: tm, ObjectMeta: om, Spec: networkingv1.IngressSpec{IngressClassName: class, TLS: tls}}
	if def != nil {
		b := backend(*def)
		out.Spec.DefaultBackend = &b
	}
	for _, r := range rules {
		nr := networkingv1.IngressRule{Host: r.Host}
		if r.HTTP != nil {
			nr.HTTP = &networkingv1.HTTPIngressRuleValue{}
			for _, p := range r.HTTP.Paths {
				nr.HTTP.Paths = append(nr.HTTP.Paths, networkingv1.HTTPIngressPath{
					Path: p.Path, PathType: (*networkingv1.PathType)(p.PathType), Backend: backend(p.Backend),
				})
			}
		}
		out.Spec.Rules = append(out.Spec.Rules, nr)
	}
	return out
}

func backend(b networkingv1beta1.IngressBackend) networkingv1.IngressBackend {
	if b.ServiceName == "" {
		return networkingv1.IngressBackend{Resource: b.Resource}
	}
	port := networkingv1.ServiceBackendPort{Name: b.ServicePort.StrVal}
	if b.ServicePort.Type == intstr.Int {
		port = networkingv1.ServiceBackendPort{Number: b.ServicePort.IntVal}
	}
	return networkingv1.IngressBackend{Resource: b.Resource, Service: &networkingv1.IngressServiceBackend{Name: b.ServiceName, Port: port}}
}
