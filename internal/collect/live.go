package collect

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

const (
	pageSize = 500
	// listers is how many kinds are listed at once: enough to hide the latency, few enough not to be a burden.
	listers = 8
)

// skipped are built-in resources that change all the time or hold nothing that is judged.
var skipped = map[string]bool{
	"/events": true, "events.k8s.io/events": true, "/endpoints": true, "discovery.k8s.io/endpointslices": true,
	"coordination.k8s.io/leases": true, "coordination.k8s.io/leasecandidates": true, "apps/controllerrevisions": true,
	"/componentstatuses": true, "/nodes": true, "storage.k8s.io/csinodes": true, "storage.k8s.io/volumeattachments": true,
	"storage.k8s.io/csistoragecapacities": true, "apiregistration.k8s.io/apiservices": true,
	"flowcontrol.apiserver.k8s.io/flowschemas": true, "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations": true,
	"internal.apiserver.k8s.io/storageversions": true,
}

// defences are the groups of custom resources that take part in a platform's defence; others are not read.
var defences = []string{
	"istio.io", "cilium.io", "kyverno.io", "policies.kyverno.io", "gatekeeper.sh", "external-secrets.io",
	"bitnami.com", "gateway.networking.k8s.io", "policy.networking.k8s.io", "cert-manager.io",
	"security-profiles-operator.x-k8s.io", "monitoring.coreos.com", "linkerd.io", "projectcalico.org", "policy.sigstore.dev",
}

// Live makes a snapshot of a running cluster: every built-in kind that checks can judge, and the custom resources of
// known defences. Of Secrets only metadata and type are asked for, so that no secret value enters this process.
//
// What this user may not list is in Unlisted and in NotJudged. An error means that the cluster could not be asked at all.
func Live(ctx context.Context, cfg *rest.Config, opts Options) (*cluster.Snapshot, error) {
	cfg = rest.CopyConfig(cfg)
	if cfg.Timeout == 0 {
		cfg.Timeout = 60 * time.Second
	}
	cfg.WarningHandler = rest.NoWarnings{} // they are about requests, not about what is read
	disco, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot talk to %s: %w", cfg.Host, err)
	}
	lists, derr := disco.ServerPreferredResources()
	var not []finding.NotJudged
	if derr != nil {
		var partial *discovery.ErrGroupDiscoveryFailed
		if !errors.As(derr, &partial) || len(lists) == 0 {
			return nil, unreachable(cfg, derr)
		}
		for gv, e := range partial.Groups {
			not = append(not, finding.NotJudged{What: "API group " + gv.String(), Reason: fmt.Sprintf("the API server cannot say what it serves: %v; see `kubectl get apiservices`", e)})
		}
		slices.SortFunc(not, func(a, b finding.NotJudged) int { return strings.Compare(a.What, b.What) })
	}
	resources := judged(lists)
	if len(resources) == 0 {
		return nil, fmt.Errorf("%s lists no resources that can be judged; check that it is a Kubernetes API server and that you may read its discovery", cfg.Host)
	}
	results := make([]result, len(resources))
	unlisted := make([]string, len(resources))
	gate := make(chan struct{}, listers)
	var wg sync.WaitGroup
	for i, r := range resources {
		wg.Add(1)
		gate <- struct{}{}
		go func() {
			defer func() { <-gate; wg.Done() }()
			results[i], unlisted[i] = listAll(ctx, cfg, r)
		}()
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", cfg.Host, err)
	}
	var objects []*cluster.Object
	for _, r := range results {
		objects = append(objects, r.objects...)
		not = append(not, r.not...)
	}
	s := cluster.New(objects, true, not)
	s.Unlisted = slices.DeleteFunc(unlisted, func(s string) bool { return s == "" })
	if len(s.Unlisted) == len(resources) {
		return nil, fmt.Errorf("this user may list none of the %d kinds that are judged on %s; ask for the ClusterRole \"view\" or name another --context", len(resources), cfg.Host)
	}
	return s, nil
}

// resource is a kind that the server can list.
type resource struct {
	gvr  schema.GroupVersionResource
	kind string
}

func (r resource) String() string { return r.gvr.Group + "/" + r.gvr.Resource }

// judged picks from what the server serves.
func judged(lists []*metav1.APIResourceList) []resource {
	var out []resource
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			continue
		}
		for _, a := range l.APIResources {
			if strings.Contains(a.Name, "/") || !slices.Contains(a.Verbs, "list") {
				continue
			}
			r := resource{gvr: gv.WithResource(a.Name), kind: a.Kind}
			if a.Group != "" {
				r.gvr.Group = a.Group
			}
			if a.Version != "" {
				r.gvr.Version = a.Version
			}
			if skipped[r.String()] || (r.gvr.Group == "extensions") {
				continue
			}
			if newTyped(r.gvr.GroupVersion().WithKind(r.kind)) == nil && !builtIn(r.gvr.Group) && !defence(r.gvr.Group) {
				continue
			}
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b resource) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// builtIn reports whether a group is one of Kubernetes' own, also where the server is newer than this program.
func builtIn(group string) bool {
	if group == "" || !strings.Contains(group, ".") {
		return true
	}
	switch group {
	case "rbac.authorization.k8s.io", "networking.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io", "policy":
		return true
	}
	return false
}

func defence(group string) bool {
	for _, d := range defences {
		if group == d || strings.HasSuffix(group, "."+d) {
			return true
		}
	}
	return false
}

// listAll lists one kind, page by page. The second result names the resource when it may not be listed.
func listAll(ctx context.Context, cfg *rest.Config, r resource) (result, string) {
	var out result
	var page func(cont string) (next string, err error)
	switch typedList := newList(r); {
	case r.gvr.Group == "" && r.gvr.Resource == "secrets":
		page = secretsPage(ctx, cfg, r, &out)
	case typedList:
		page = typedPage(ctx, cfg, r, &out)
	default:
		page = dynamicPage(ctx, cfg, r, &out)
	}
	cont, restarts := "", 0
	for {
		next, err := page(cont)
		if apierrors.IsResourceExpired(err) && restarts < 2 { // the list took longer than the server keeps its old version
			restarts++
			out, cont = result{}, ""
			continue
		}
		if err != nil {
			return refusedList(cfg, r, err)
		}
		if next == "" {
			return out, ""
		}
		cont = next
	}
}

func refusedList(cfg *rest.Config, r resource, err error) (result, string) {
	name := r.String()
	n := finding.NotJudged{What: r.kind + " (" + strings.TrimPrefix(name, "/") + ")"}
	switch {
	case apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err):
		n.Reason = "this user may not list it; ask for list on it in all namespaces, or name another --context"
	case apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err):
		n.Reason = "the API server announced it and does not serve it"
	default:
		n.Reason = "listing it failed: " + unreachable(cfg, err).Error()
	}
	return result{not: []finding.NotJudged{n}}, name
}

func newList(r resource) bool {
	gvk := r.gvr.GroupVersion().WithKind(r.kind)
	_, item := scheme.Scheme.AllKnownTypes()[gvk]
	_, list := scheme.Scheme.AllKnownTypes()[gvk.GroupVersion().WithKind(r.kind+"List")]
	return item && list
}

func restClient(cfg *rest.Config, gv schema.GroupVersion) (*rest.RESTClient, error) {
	c := rest.CopyConfig(cfg)
	c.GroupVersion = &gv
	c.APIPath = "/apis"
	if gv.Group == "" {
		c.APIPath = "/api"
	}
	c.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return rest.RESTClientFor(c)
}

func typedPage(ctx context.Context, cfg *rest.Config, r resource, out *result) func(string) (string, error) {
	client, err := restClient(cfg, r.gvr.GroupVersion())
	return func(cont string) (string, error) {
		if err != nil {
			return "", err
		}
		gvk := r.gvr.GroupVersion().WithKind(r.kind)
		list, err := scheme.Scheme.New(r.gvr.GroupVersion().WithKind(r.kind + "List"))
		if err != nil {
			return "", err
		}
		err = client.Get().Resource(r.gvr.Resource).VersionedParams(&metav1.ListOptions{Limit: pageSize, Continue: cont}, scheme.ParameterCodec).Do(ctx).Into(list)
		if err != nil {
			return "", err
		}
		err = meta.EachListItem(list, func(o runtime.Object) error {
			o.GetObjectKind().SetGroupVersionKind(gvk)
			typed := modern(o)
			out.objects = append(out.objects, liveObject(gvk, metaOf(typed), typed, nil))
			return nil
		})
		if err != nil {
			return "", err
		}
		return continueOf(list), nil
	}
}

func dynamicPage(ctx context.Context, cfg *rest.Config, r resource, out *result) func(string) (string, error) {
	client, err := dynamic.NewForConfig(cfg)
	return func(cont string) (string, error) {
		if err != nil {
			return "", err
		}
		list, err := client.Resource(r.gvr).List(ctx, metav1.ListOptions{Limit: pageSize, Continue: cont})
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			u := &list.Items[i]
			m := &metav1.ObjectMeta{}
			if raw, ok := u.Object["metadata"].(map[string]any); ok {
				delete(raw, "managedFields")
				if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, m); err != nil {
					return "", fmt.Errorf("metadata of %s: %w", u.GetName(), err)
				}
			}
			out.objects = append(out.objects, liveObject(r.gvr.GroupVersion().WithKind(r.kind), m, nil, u.Object))
		}
		return list.GetContinue(), nil
	}
}

// secretsPage asks for the table that `kubectl get secrets` shows, with metadata only: the type is one of its columns.
func secretsPage(ctx context.Context, cfg *rest.Config, r resource, out *result) func(string) (string, error) {
	client, err := restClient(cfg, r.gvr.GroupVersion())
	return func(cont string) (string, error) {
		if err != nil {
			return "", err
		}
		raw, err := client.Get().Resource("secrets").
			SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").
			Param("includeObject", string(metav1.IncludeMetadata)).
			VersionedParams(&metav1.ListOptions{Limit: pageSize, Continue: cont}, scheme.ParameterCodec).
			Do(ctx).Raw()
		if err != nil {
			return "", err
		}
		var table metav1.Table
		if err := json.Unmarshal(raw, &table); err != nil {
			return "", fmt.Errorf("the table of secrets: %w", err)
		}
		if table.Kind != "Table" {
			return "", fmt.Errorf("the API server does not serve secrets as a table; their values were not read")
		}
		typeColumn := slices.IndexFunc(table.ColumnDefinitions, func(c metav1.TableColumnDefinition) bool { return c.Name == "Type" })
		for _, row := range table.Rows {
			var p metav1.PartialObjectMetadata
			if err := json.Unmarshal(row.Object.Raw, &p); err != nil {
				return "", fmt.Errorf("the table of secrets: %w", err)
			}
			s := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: p.ObjectMeta}
			if typeColumn >= 0 && typeColumn < len(row.Cells) {
				t, _ := row.Cells[typeColumn].(string)
				s.Type = corev1.SecretType(t)
			}
			// `kubectl apply` keeps a copy of the values here.
			if _, ok := s.Annotations[corev1.LastAppliedConfigAnnotation]; ok {
				s.Annotations[corev1.LastAppliedConfigAnnotation] = ""
			}
			out.objects = append(out.objects, liveObject(corev1.SchemeGroupVersion.WithKind("Secret"), &s.ObjectMeta, s, nil))
		}
		return table.Continue, nil
	}
}

func liveObject(gvk schema.GroupVersionKind, m *metav1.ObjectMeta, typed any, content map[string]any) *cluster.Object {
	m.ManagedFields = nil
	return &cluster.Object{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Meta: m, Typed: typed, Content: content}
}

func continueOf(list runtime.Object) string {
	m, err := meta.ListAccessor(list)
	if err != nil {
		return ""
	}
	return m.GetContinue()
}

// unreachable says what to do about a cluster that does not answer as it should.
func unreachable(cfg *rest.Config, err error) error {
	next := "check the address and that you may reach it"
	var (
		dns     *net.DNSError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		uerr    *url.Error
		status  apierrors.APIStatus
	)
	switch {
	case errors.Is(err, context.Canceled):
		next = "it was interrupted"
	case apierrors.IsUnauthorized(err):
		next = "log in again: the credentials of this context are not accepted"
	case apierrors.IsForbidden(err):
		next = "ask for the right, or name another --context"
	case errors.As(err, &dns):
		next = "the name of the server does not resolve; check the kubeconfig or the VPN"
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid):
		next = "its certificate does not fit the kubeconfig; fetch the kubeconfig again"
	case errors.As(err, &uerr) && uerr.Timeout():
		next = "it did not answer in time; check the VPN or the firewall"
	case errors.As(err, &status) && status.Status().Code >= http.StatusInternalServerError:
		next = "the API server is in trouble; try again"
	}
	return fmt.Errorf("cannot read the cluster at %s: %w; %s", cfg.Host, err, next)
}
