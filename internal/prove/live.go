package prove

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/google/uuid"
	authv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/intelgraph/bulwark/internal/attack"
)

// Live tries on a real API server, as the identity that the attack names, and only ever as a dry run.
type Live struct {
	cfg   *rest.Config
	name  string
	audit *AuditLog

	mu      sync.Mutex
	clients map[string]*client
}

var _ Engine = (*Live)(nil)

// client is one identity's way to the API server. Requests of one identity go one after the other, so that warnings and
// audit lines can be told apart.
type client struct {
	mu       sync.Mutex
	dynamic  dynamic.Interface
	typed    kubernetes.Interface
	auditID  string
	warnings []string
}

// NewLive prepares an engine; audit may be nil.
func NewLive(cfg *rest.Config, audit *AuditLog) (*Live, error) {
	cl, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	v, err := cl.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("the API server at %s does not answer: %w; check --context and the network", cfg.Host, err)
	}
	return &Live{cfg: cfg, name: "Kubernetes " + v.GitVersion, audit: audit, clients: map[string]*client{}}, nil
}

// Name implements Engine.
func (l *Live) Name() string { return l.name }

// renew prepares for one request whose traces shall be found.
func (c *client) renew(audit *AuditLog) {
	c.auditID, c.warnings = uuid.NewString(), nil
	if audit != nil {
		audit.expect(c.auditID)
	}
}

// HandleWarningHeader implements rest.WarningHandler.
func (c *client) HandleWarningHeader(code int, _ string, text string) {
	if code == http.StatusOK || code == 299 {
		c.warnings = append(c.warnings, text)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (l *Live) as(id attack.Identity) (*client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := id.User + "\x00" + strings.Join(id.Groups, "\x00")
	if c, ok := l.clients[key]; ok {
		return c, nil
	}
	c := &client{}
	cfg := rest.CopyConfig(l.cfg)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: id.User, Groups: id.Groups}
	cfg.WarningHandler = c
	cfg.QPS, cfg.Burst = 500, 500
	// The API server takes the caller's Audit-ID, which is how a request is found again in the audit log.
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.Header.Set("Audit-ID", c.auditID)
			return rt.RoundTrip(r)
		})
	})
	var err error
	if c.dynamic, err = dynamic.NewForConfig(cfg); err != nil {
		return nil, err
	}
	if c.typed, err = kubernetes.NewForConfig(cfg); err != nil {
		return nil, err
	}
	l.clients[key] = c
	return c, nil
}

var dryRun = []string{metav1.DryRunAll}

// Try implements Engine.
func (l *Live) Try(ctx context.Context, r attack.Request) Outcome {
	if r.Verb == attack.Connect {
		return noEngine("no packet was sent: this run has no network engine")
	}
	c, err := l.as(r.As)
	if err != nil {
		return unknown(err.Error())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renew(l.audit)
	if r.Verb == attack.Ask {
		return c.ask(ctx, r)
	}
	gvr := schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource}
	var ri dynamic.ResourceInterface = c.dynamic.Resource(gvr)
	if r.Namespace != "" {
		ri = c.dynamic.Resource(gvr).Namespace(r.Namespace)
	}
	var sub []string
	if r.Subresource != "" {
		sub = []string{r.Subresource}
	}
	switch r.Verb {
	case attack.Create:
		u, e := plain(r.Object)
		if e != nil {
			return unknown(e.Error())
		}
		_, err = ri.Create(ctx, u, metav1.CreateOptions{DryRun: dryRun}, sub...)
	case attack.Debug:
		running, e := ri.Get(ctx, r.Name, metav1.GetOptions{})
		if e != nil {
			return unknown("no pod to debug: " + e.Error())
		}
		u, e := plain(r.Object)
		if e != nil {
			return unknown(e.Error())
		}
		added, _, _ := unstructured.NestedSlice(u.Object, "spec", "ephemeralContainers")
		if e := unstructured.SetNestedSlice(running.Object, added, "spec", "ephemeralContainers"); e != nil {
			return unknown(e.Error())
		}
		c.renew(l.audit)
		_, err = ri.Update(ctx, running, metav1.UpdateOptions{DryRun: dryRun}, sub...)
	case attack.Patch:
		b, e := json.Marshal(r.Patch)
		if e != nil {
			return unknown(e.Error())
		}
		_, err = ri.Patch(ctx, r.Name, types.MergePatchType, b, metav1.PatchOptions{DryRun: dryRun}, sub...)
	case attack.Delete:
		err = ri.Delete(ctx, r.Name, metav1.DeleteOptions{DryRun: dryRun}, sub...)
	default:
		return unknown(fmt.Sprintf("no engine knows the verb %q", r.Verb))
	}
	out := read(r, err)
	for _, w := range c.warnings {
		if ref, ok := refusal(r, w); ok {
			out.Warnings = append(out.Warnings, ref)
		}
	}
	if l.audit != nil && out.Unknown == "" {
		recorded, e := l.audit.find(ctx, c.auditID)
		if e != nil {
			return unknown(e.Error())
		}
		for _, rec := range recorded {
			if ref, ok := refusal(r, rec); ok {
				out.Recorded = append(out.Recorded, ref)
			}
		}
	}
	return out
}

// plain copies an object through JSON, because the dynamic client only knows JSON's types.
func plain(m map[string]any) (*unstructured.Unstructured, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	return u, u.UnmarshalJSON(b)
}

// ask lets the identity ask about itself, which every authenticated identity may (system:basic-user).
func (c *client) ask(ctx context.Context, r attack.Request) Outcome {
	a := &authv1.ResourceAttributes{Verb: r.Access, Group: r.Group, Version: "*", Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name}
	res, err := c.typed.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authv1.SelfSubjectAccessReview{Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: a}}, metav1.CreateOptions{})
	if err != nil {
		return unknown("the identity could not ask about its rights: " + err.Error())
	}
	if res.Status.EvaluationError != "" && !res.Status.Allowed {
		return unknown("the authorizer could not decide: " + res.Status.EvaluationError)
	}
	if res.Status.Allowed {
		return Outcome{Admitted: true, Warnings: []Refusal{{Control: "grant", Message: res.Status.Reason}}}
	}
	if res.Status.Denied {
		return unknown("an authorizer other than RBAC refused, so what RBAC would say is not known: " + res.Status.Reason)
	}
	msg := "no role grants " + r.Access + " " + r.Resource
	if r.Subresource != "" {
		msg += "/" + r.Subresource
	}
	return Outcome{Refusals: []Refusal{{Control: attack.ControlRBAC, Message: msg + " to " + r.As.User}}}
}

// read turns the server's answer into an outcome.
func read(r attack.Request, err error) Outcome {
	if err == nil {
		return Outcome{Admitted: true}
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return unknown("the API server did not answer: " + err.Error())
	}
	msg := status.Status().Message
	if ref, ok := refusal(r, msg); ok {
		return Outcome{Refusals: []Refusal{ref}}
	}
	switch {
	case r.Verb == attack.Create && apierrors.IsAlreadyExists(err) && alreadyThere.MatchString(msg):
		// The storage says so, and it is asked last, after all of admission.
		return Outcome{Admitted: true}
	case apierrors.IsForbidden(err) && byRBAC.MatchString(msg):
		if strings.Contains(msg, " cannot impersonate ") {
			return unknown("may not try as " + r.As.User + ": " + msg)
		}
		return Outcome{Refusals: []Refusal{{Control: attack.ControlRBAC, Message: msg}}}
	case apierrors.IsTooManyRequests(err), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), apierrors.IsInternalError(err), apierrors.IsServiceUnavailable(err):
		return unknown("the API server could not judge: " + msg)
	}
	return Outcome{Refusals: []Refusal{{Control: "other", Message: msg}}}
}

// The words of the API server, from their beginning: somebody else's message, such as a webhook's, may hold anything.
var (
	denial          = `^(?:\S+(?: "[^"]*")? is forbidden: )?`
	policyDenied    = regexp.MustCompile(denial + `(?:Validation failed for )?ValidatingAdmissionPolicy '([^']+)' with binding '[^']*'(?: denied request)?: (?s:(.*))`)
	podSecurityText = regexp.MustCompile(denial + `((?:would violate|violates) PodSecurity "(?s:.*))`)
	alreadyThere    = regexp.MustCompile(`^\S+ "[^"]*" already exists$`)
	byRBAC          = regexp.MustCompile(`^\S+(?: "[^"]*")? is forbidden: User "`)
	recorded        = "recorded by "
)

// refusal finds which control a text of the server names: an error, a warning or an audit annotation.
func refusal(r attack.Request, text string) (Refusal, bool) {
	if m := policyDenied.FindStringSubmatch(text); m != nil {
		return byPolicy(m[1], m[2]), true
	}
	if m := podSecurityText.FindStringSubmatch(text); m != nil {
		return Refusal{Control: attack.ControlPodSecurity(r.Namespace), Message: m[1]}, true
	}
	if rest, ok := strings.CutPrefix(text, recorded); ok {
		policy, msg, _ := strings.Cut(rest, ": ")
		return byPolicy(policy, msg), true
	}
	return Refusal{}, false
}

func byPolicy(policy, msg string) Refusal {
	return Refusal{Control: control(policy), Policy: policy, Message: msg}
}
