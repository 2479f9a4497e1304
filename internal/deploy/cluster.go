package deploy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// conn is a cluster with what it serves.
type conn struct {
	cfg     *rest.Config
	dyn     dynamic.Interface
	typed   kubernetes.Interface
	version string
	served  map[schema.GroupVersionKind]resource
	// groups has the versions of each group that the cluster serves.
	groups map[string][]string
	// broken has the groups that could not be discovered, and why.
	broken map[schema.GroupVersion]error
}

// resource is where a kind is served.
type resource struct {
	schema.GroupVersionResource
	namespaced bool
	listable   bool
}

func connect(ctx context.Context, cfg *rest.Config, opts Options) (*conn, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.Timeout = opts.RequestTimeout
	// One run sends a few hundred small requests; the client's default of 5 a second would make it wait for itself.
	cfg.QPS, cfg.Burst = 200, 400
	cfg.UserAgent = "bulwark-deploy"
	// Warnings are the server's words about our own requests: sentinels read them; others are not worth a line each.
	cfg.WarningHandler = rest.NoWarnings{}
	unreachable := func(err error) error {
		return &StoppedError{Reason: StopUnreachable, Message: "the cluster at " + cfg.Host + " does not answer", Err: plain(err),
			Next: "check --kubeconfig and --context, and that `kubectl version` works"}
	}
	c := &conn{cfg: cfg, served: map[schema.GroupVersionKind]resource{}, groups: map[string][]string{}, broken: map[schema.GroupVersion]error{}}
	var err error
	if c.dyn, err = dynamic.NewForConfig(cfg); err != nil {
		return nil, unreachable(err)
	}
	if c.typed, err = kubernetes.NewForConfig(cfg); err != nil {
		return nil, unreachable(err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, unreachable(err)
	}
	v, err := disco.ServerVersionWithContext(ctx)
	if err != nil {
		if apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) {
			return nil, &StoppedError{Reason: StopRights, Message: "the cluster does not accept these credentials", Err: err,
				Next: "check the user of the kubeconfig context"}
		}
		return nil, unreachable(err)
	}
	c.version = v.GitVersion
	groups, lists, err := disco.ServerGroupsAndResourcesWithContext(ctx)
	if failed := (*discovery.ErrGroupDiscoveryFailed)(nil); errors.As(err, &failed) {
		for gv, why := range failed.Groups {
			c.broken[gv] = why
		}
	} else if err != nil {
		return nil, unreachable(err)
	}
	for _, g := range groups {
		for _, v := range g.Versions {
			c.groups[g.Name] = append(c.groups[g.Name], v.Version)
		}
	}
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			continue // a server that names a group so serves nothing that we apply
		}
		for _, r := range l.APIResources {
			if strings.Contains(r.Name, "/") {
				continue
			}
			c.served[gv.WithKind(r.Kind)] = resource{gv.WithResource(r.Name), r.Namespaced, slices.Contains(r.Verbs, "list")}
		}
	}
	return c, nil
}

// plain unwraps the request's URL from an error, because the message has the host already.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	return err
}

// features names what to install for a group, in the words of spec.has.
var features = map[string]string{
	"cilium.io":                           "cilium",
	"security.istio.io":                   "istio",
	"networking.istio.io":                 "istio",
	"external-secrets.io":                 "external-secrets",
	"bitnami.com":                         "sealed-secrets",
	"policies.kyverno.io":                 "kyverno",
	"kyverno.io":                          "kyverno",
	"templates.gatekeeper.sh":             "gatekeeper",
	"constraints.gatekeeper.sh":           "gatekeeper",
	"monitoring.coreos.com":               "prometheus-operator",
	"gateway.networking.k8s.io":           "gateway-api",
	"security-profiles-operator.x-k8s.io": "security-profiles-operator",
}

// locate finds where each item's kind is served, and stops with all the kinds that are not.
func (c *conn) locate(items []*item) error {
	missing := map[schema.GroupVersionKind][]*item{}
	var kinds []schema.GroupVersionKind
	var wrong []string
	for _, it := range items {
		gvk := it.want.GroupVersionKind()
		r, ok := c.served[gvk]
		if !ok {
			if missing[gvk] == nil {
				kinds = append(kinds, gvk)
			}
			missing[gvk] = append(missing[gvk], it)
			continue
		}
		it.at = r
		if r.namespaced != (it.want.GetNamespace() != "") {
			wrong = append(wrong, fmt.Sprintf("%s: the kind is namespaced: %t", it, r.namespaced))
		}
	}
	if len(wrong) > 0 {
		return &StoppedError{Reason: StopInput, Message: "the plan has objects whose scope is not that of their kind", Details: wrong}
	}
	if len(kinds) == 0 {
		return nil
	}
	e := &StoppedError{Reason: StopKinds, Message: fmt.Sprintf("the cluster (%s) does not serve %d kinds that the plan needs", c.version, len(kinds)),
		Next: "install what serves them, or take the feature out of spec.has: then its layer is stated as not protected"}
	for _, k := range kinds {
		line := fmt.Sprintf("%s %s, for %s", k.GroupVersion(), k.Kind, several(missing[k]))
		switch versions := c.groups[k.Group]; {
		case c.broken[k.GroupVersion()] != nil:
			line += fmt.Sprintf(": the group could not be discovered: %v", c.broken[k.GroupVersion()])
		case len(versions) > 0 && !slices.Contains(versions, k.Version):
			line += fmt.Sprintf(": the cluster serves %s at %s", k.Group, strings.Join(versions, ", "))
		case len(versions) > 0:
			line += ": the cluster serves the group without this kind"
		case features[k.Group] != "":
			line += fmt.Sprintf(": no such group; it comes with %s (spec.has)", features[k.Group])
		default:
			line += ": no such group"
		}
		e.Details = append(e.Details, line)
	}
	return e
}

func several(items []*item) string {
	if len(items) == 1 {
		return items[0].String()
	}
	return fmt.Sprintf("%s and %d more", items[0], len(items)-1)
}

// right is one thing that the run must be allowed to do.
type right struct {
	verb, group, resource, namespace string
}

func (r right) String() string {
	s := r.verb + " " + r.resource
	if r.group != "" {
		s += "." + r.group
	}
	if r.namespace != "" {
		s += " in namespace " + r.namespace
	}
	return s
}

// rightsFor lists what a run needs, in order and once each; namespace is "" for all namespaces.
func rightsFor(items []*item, prunable []prunableResource, prune bool) []right {
	var out []right
	seen := map[right]bool{}
	add := func(r right) {
		if !seen[r] {
			seen[r] = true
			out = append(out, r)
		}
	}
	for _, it := range items {
		for _, verb := range []string{"get", "create", "patch"} {
			add(right{verb, it.at.Group, it.at.Resource, it.want.GetNamespace()})
		}
	}
	for _, it := range items {
		if it.is("Namespace") {
			add(right{"list", "", "pods", it.want.GetName()})
			add(right{"get", "", "serviceaccounts", it.want.GetName()})
		}
	}
	if prune {
		for _, r := range prunable {
			add(right{"list", r.Group, r.Resource, ""})
			if kept[r.kind] == "" {
				add(right{"delete", r.Group, r.Resource, ""})
			}
		}
	}
	return out
}

// mayDo asks the server for every right that the run needs, and stops with all that are missing. Rights that hold for
// the whole cluster are asked once.
func (c *conn) mayDo(ctx context.Context, items []*item, opts Options) error {
	ask := func(r right) (bool, error) {
		rev, err := c.typed.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: r.verb, Group: r.group, Resource: r.resource, Namespace: r.namespace,
			}},
		}, metav1.CreateOptions{})
		if err != nil {
			return false, err
		}
		return rev.Status.Allowed, nil
	}
	everywhere := map[right]bool{}
	var missing []string
	rights := rightsFor(items, c.prunable(items), opts.Prune)
	for i, r := range rights {
		wide := r
		wide.namespace = ""
		ok, asked := everywhere[wide]
		if !asked {
			var err error
			if ok, err = ask(wide); err != nil {
				return c.lost(ctx, "asking for rights", err)
			}
			everywhere[wide] = ok
		}
		if !ok && r.namespace != "" {
			var err error
			if ok, err = ask(r); err != nil {
				return c.lost(ctx, "asking for rights", err)
			}
		}
		if !ok {
			missing = append(missing, r.String())
		}
		opts.tell("check", i+1, len(rights), "rights")
	}
	if len(missing) == 0 {
		return nil
	}
	return &StoppedError{Reason: StopRights, Message: fmt.Sprintf("this user lacks %d rights that the run needs", len(missing)), Details: missing,
		Next: "ask a cluster administrator for them, or deploy as one; `--prune=false` needs no rights to list and delete"}
}

// lost wraps a failure of the connection before anything was touched.
func (c *conn) lost(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return &StoppedError{Reason: StopUnreachable, Message: "interrupted while " + doing, Err: ctx.Err()}
	}
	return &StoppedError{Reason: StopUnreachable, Message: doing + " failed", Err: err, Next: "run the same command again"}
}

func (o Options) tell(phase string, done, total int, text string) {
	if o.Progress != nil {
		o.Progress(Event{Phase: phase, Done: done, Total: total, Text: text})
	}
}
