package deploy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	psa "k8s.io/pod-security-admission/api"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Sentinel is a request that a control must refuse at stage enforce, warn of at stage warn, and record at stage audit. It
// is sent as a dry run, until the control is seen to act: a policy's status says nothing about when it takes effect.
type Sentinel struct {
	// Policy is the ValidatingAdmissionPolicy's name.
	Policy  string
	Request Request
	// Expect is a part of the refusal or warning. Default: the server's words that name the policy.
	Expect string

	// podSecurity is set for the sentinels of namespaces, which have no Policy.
	podSecurity *psa.LevelVersion
	namespace   string
}

// Request is one request to the API server.
type Request struct {
	// Verb is create (default), patch, update or delete.
	Verb        string
	Resource    schema.GroupVersionResource
	Subresource string
	Namespace   string
	// Name is needed for every verb but create.
	Name string
	// Object is what to create or update.
	Object map[string]any
	// Patch is a JSON merge patch, for the verb patch.
	Patch []byte
	// As is who asks; the zero value is the user of the run. The user must have the right by RBAC, or the refusal would
	// be RBAC's.
	As rest.ImpersonationConfig
}

func (s Sentinel) control() string {
	if s.podSecurity != nil {
		return "podsecurity/" + s.namespace
	}
	return "policy/" + s.Policy
}

func (s Sentinel) expect() string {
	switch {
	case s.Expect != "":
		return s.Expect
	case s.podSecurity != nil:
		return fmt.Sprintf("PodSecurity %q", s.podSecurity.String())
	}
	return "ValidatingAdmissionPolicy '" + s.Policy + "'"
}

// podSecuritySentinels makes one sentinel for each namespace of the plan: a privileged pod, which every level but
// "privileged" refuses, before any policy is asked.
func podSecuritySentinels(items []*item, stage artifact.Stage) []Sentinel {
	var out []Sentinel
	for _, it := range items {
		if !it.is("Namespace") {
			continue
		}
		lv, ok, err := levelOf(it.want.GetLabels(), stage)
		if !ok || err != nil || lv.Level == psa.LevelPrivileged {
			continue
		}
		ns := it.want.GetName()
		out = append(out, Sentinel{podSecurity: &lv, namespace: ns, Request: Request{
			Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Namespace: ns,
			Object: map[string]any{
				"apiVersion": "v1", "kind": "Pod",
				"metadata": map[string]any{"generateName": "bulwark-sentinel-", "namespace": ns},
				"spec": map[string]any{
					"hostPID": true,
					"containers": []any{map[string]any{"name": "sentinel", "image": "bulwark.invalid/sentinel",
						"securityContext": map[string]any{"privileged": true}}},
				},
			},
		}})
	}
	return out
}

// answer is what the server said to a sentinel.
type answer struct {
	err      error
	warnings []string
}

// asker sends sentinels and hears warnings. The client of each identity is made once.
type asker struct {
	cfg     *rest.Config
	clients map[string]dynamic.Interface
}

// warned collects the warnings of one request.
type warned struct{}

type collector struct{ texts *[]string }

func (collector) HandleWarningHeaderWithContext(ctx context.Context, code int, _ string, text string) {
	if c, ok := ctx.Value(warned{}).(collector); ok && code == 299 {
		*c.texts = append(*c.texts, text)
	}
}

func newAsker(cfg *rest.Config) *asker {
	cfg = rest.CopyConfig(cfg)
	cfg.WarningHandler, cfg.WarningHandlerWithContext = nil, collector{}
	return &asker{cfg, map[string]dynamic.Interface{}}
}

func (a *asker) ask(ctx context.Context, r Request) (answer, error) {
	key := fmt.Sprint(r.As)
	client := a.clients[key]
	if client == nil {
		cfg := rest.CopyConfig(a.cfg)
		if r.As.UserName != "" {
			cfg.Impersonate = r.As
		}
		var err error
		if client, err = dynamic.NewForConfig(cfg); err != nil {
			return answer{}, err
		}
		a.clients[key] = client
	}
	var at dynamic.ResourceInterface = client.Resource(r.Resource)
	if r.Namespace != "" {
		at = client.Resource(r.Resource).Namespace(r.Namespace)
	}
	var sub []string
	if r.Subresource != "" {
		sub = []string{r.Subresource}
	}
	var ans answer
	ctx = context.WithValue(ctx, warned{}, collector{&ans.warnings})
	dry := []string{metav1.DryRunAll}
	o := &unstructured.Unstructured{Object: r.Object}
	switch r.Verb {
	case "", "create":
		_, ans.err = at.Create(ctx, o, metav1.CreateOptions{DryRun: dry}, sub...)
	case "update":
		_, ans.err = at.Update(ctx, o, metav1.UpdateOptions{DryRun: dry}, sub...)
	case "patch":
		_, ans.err = at.Patch(ctx, r.Name, types.MergePatchType, r.Patch, metav1.PatchOptions{DryRun: dry}, sub...)
	case "delete":
		ans.err = at.Delete(ctx, r.Name, metav1.DeleteOptions{DryRun: dry}, sub...)
	default:
		return ans, fmt.Errorf("a sentinel cannot %q; one of: create, update, patch, delete", r.Verb)
	}
	return ans, nil
}

// read turns an answer into a state. seen reports whether the server's metrics counted the stage's action for the
// sentinel's control since before it was sent; it is only asked where the answer itself does not tell.
func (s Sentinel) read(stage artifact.Stage, ans answer, seen func(action string) (bool, error)) (ControlState, string) {
	refused := ans.err != nil && strings.Contains(ans.err.Error(), s.expect())
	var status apierrors.APIStatus
	if ans.err != nil && !errors.As(ans.err, &status) {
		return NotSeen, "the server did not answer: " + ans.err.Error()
	}
	switch stage {
	case artifact.Enforce:
		switch {
		case refused:
			return InForce, "refused: " + short(ans.err.Error())
		case ans.err == nil:
			return NotInForce, "its sentinel was admitted"
		}
		// Somebody refused first. The server names only one policy, but counts all.
		if ok, err := seen("deny"); err == nil && ok {
			return InForce, "the server's metrics count a refusal by it; the answer named another: " + short(ans.err.Error())
		}
		return NotSeen, "its sentinel was refused, but not by it: " + short(ans.err.Error())
	case artifact.Warn:
		if refused {
			return NotInForce, "its sentinel is still refused: " + short(ans.err.Error())
		}
		for _, w := range ans.warnings {
			if strings.Contains(w, s.expect()) {
				return InForce, "warned: " + short(w)
			}
		}
		if ans.err != nil {
			return NotSeen, "its sentinel was refused, but not by it: " + short(ans.err.Error())
		}
		return NotInForce, "its sentinel was admitted without a warning"
	}
	if refused {
		return NotInForce, "its sentinel is still refused: " + short(ans.err.Error())
	}
	ok, err := seen("audit")
	switch {
	case err != nil:
		return NotSeen, "stage audit answers nothing to the client, and the server's metrics cannot be read: " + short(err.Error())
	case !ok:
		return NotSeen, "stage audit answers nothing to the client, and the metrics of the server that was asked count no record by it"
	}
	return InForce, "recorded: the server's metrics count it"
}

// auditPatience bounds the wait at stage audit, where a highly available cluster may never show the metrics of the server
// that answered the sentinel.
const auditPatience = 10 * time.Second

// waitInForce sends the sentinels until every control was seen to act, or the time is over. It gives the controls that
// are surely not in force; those that nobody could tell are in the result as not judged.
func (c *conn) waitInForce(ctx context.Context, f *forecast, opts Options, res *Result) ([]Control, error) {
	sentinels := append(podSecuritySentinels(f.items, opts.Stage), opts.Sentinels...)
	covered := map[string]bool{}
	for _, s := range sentinels {
		covered[s.control()] = true
	}
	timeout := opts.Timeout
	if opts.Stage == artifact.Audit {
		timeout = min(timeout, auditPatience)
	}
	start := time.Now()
	a := newAsker(c.cfg)
	controls := make([]Control, len(sentinels))
	pending := make([]int, len(sentinels))
	for i, s := range sentinels {
		controls[i], pending[i] = Control{Name: s.control(), State: NotSeen, Evidence: "not asked"}, i
	}
	done := 0
	var interrupted error
	// last is the newest reading of the server's counts. It is read again after each sentinel that needs it, so that one
	// namespace's record is not taken for another's.
	var last counts
	var lastErr error
	if opts.Stage == artifact.Audit {
		last, lastErr = c.counts(ctx)
	}
	seen := func(s Sentinel) func(string) (bool, error) {
		return func(action string) (bool, error) {
			if lastErr != nil {
				return false, lastErr
			}
			before := last
			if last, lastErr = c.counts(ctx); lastErr != nil {
				return false, lastErr
			}
			k := s.counter(action)
			return before != nil && last[k] > before[k], nil
		}
	}
	if len(pending) > 0 {
		opts.tell("wait", 0, len(sentinels), "for the policies to act")
	}
	for len(pending) > 0 && interrupted == nil {
		var still []int
		for _, i := range pending {
			s := sentinels[i]
			ans, err := a.ask(ctx, s.Request)
			if err != nil {
				ans.err = err
			}
			if ctx.Err() != nil {
				interrupted = ctx.Err()
				break
			}
			controls[i].State, controls[i].Evidence = s.read(opts.Stage, ans, seen(s))
			if controls[i].State != InForce {
				still = append(still, i)
				continue
			}
			controls[i].After = time.Since(start).Round(time.Millisecond).String()
			done++
			opts.tell("wait", done, len(sentinels), controls[i].Name+" is in force")
		}
		pending = still
		if time.Since(start) > timeout {
			break
		}
		if len(pending) > 0 && !pause(ctx, poll) {
			interrupted = ctx.Err()
		}
	}
	var bad []Control
	for _, i := range pending {
		if controls[i].State == NotInForce && interrupted == nil {
			controls[i].Evidence = fmt.Sprintf("after %s %s", timeout, controls[i].Evidence)
			bad = append(bad, controls[i])
		}
	}
	for _, it := range f.items {
		if name := "policy/" + it.want.GetName(); it.is("ValidatingAdmissionPolicy") && !covered[name] {
			controls = append(controls, Control{Name: name, State: NotSeen, Evidence: "no sentinel request is known for it"})
		}
	}
	for _, control := range controls {
		if control.State == NotSeen {
			res.NotJudged = append(res.NotJudged, finding.NotJudged{What: "whether " + control.Name + " is in force", Reason: control.Evidence})
		}
	}
	res.Controls = append(res.Controls, controls...)
	if interrupted != nil {
		return nil, &IncompleteError{At: "waiting for the policies to act", Err: interrupted}
	}
	return bad, nil
}

// counter is the key of a control's count in the server's metrics.
func (s Sentinel) counter(action string) string {
	if s.podSecurity != nil {
		mode := action
		if action == "deny" {
			mode = "enforce"
		}
		return "podsecurity " + string(s.podSecurity.Level) + " " + mode
	}
	return "policy " + s.Policy + " " + action
}

// counts are the server's own counts of what its policies did, by Sentinel.counter.
type counts map[string]float64

// The counters of k8s.io/apiserver (plugin/policy/validating/metrics) and k8s.io/pod-security-admission (metrics).
const (
	policyCounter      = "apiserver_validating_admission_policy_check_total{"
	podSecurityCounter = "pod_security_evaluations_total{"
	metricsLimit       = 256 << 20
)

// counts reads the metrics of the API server that answers.
func (c *conn) counts(ctx context.Context) (counts, error) {
	body, err := c.typed.CoreV1().RESTClient().Get().AbsPath("/metrics").Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return readCounts(io.LimitReader(body, metricsLimit))
}

// readCounts takes the two counters out of a page in the Prometheus text format. What it does not understand it skips.
func readCounts(r io.Reader) (counts, error) {
	out := counts{}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := s.Text()
		policy := strings.HasPrefix(line, policyCounter)
		if !policy && !strings.HasPrefix(line, podSecurityCounter) {
			continue
		}
		end := strings.LastIndex(line, "} ")
		if end < 0 {
			continue
		}
		var value float64
		if _, err := fmt.Sscan(line[end+2:], &value); err != nil {
			continue
		}
		labels := line[strings.Index(line, "{")+1 : end]
		if policy {
			out["policy "+label(labels, "policy")+" "+label(labels, "enforcement_action")] += value
		} else if label(labels, "decision") == "deny" {
			out["podsecurity "+label(labels, "policy_level")+" "+label(labels, "mode")] += value
		}
	}
	return out, s.Err()
}

// label finds a label's value in `a="x",b="y"`. The values that are looked for are names of objects and modes, which
// have nothing to escape.
func label(labels, name string) string {
	for part := range strings.SplitSeq(labels, ",") {
		if k, v, ok := strings.Cut(part, "="); ok && k == name {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

// short keeps evidence on one line of a readable length.
func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 300 {
		return string(r[:299]) + "…"
	}
	return s
}
