package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/finding"
)

// forecast is what a run would do, as far as the server can say it beforehand.
type forecast struct {
	items     []*item // in the order of application
	loosening bool
	leftovers []leftover
	notJudged []finding.NotJudged
}

// parallel is how many requests the forecast has under way at once; it only reads and asks.
const parallel = 8

// forecast reads every object as it is and asks the server, with a dry run, what it would become. Objects in a namespace
// that the run itself creates cannot be asked about: the server would answer that there is no such namespace.
func (c *conn) forecast(ctx context.Context, items []*item, plan *artifact.Plan, opts Options) (*forecast, error) {
	f := &forecast{}
	err := each(ctx, items, opts, "what is there", func(ctx context.Context, it *item) error {
		live, err := c.client(it).Get(ctx, it.want.GetName(), metav1.GetOptions{})
		if err == nil {
			it.live = live
		} else if apierrors.IsNotFound(err) {
			err = nil
		}
		return err
	})
	if err != nil {
		return nil, c.lost(ctx, "reading what is there", err)
	}
	absent, err := c.namespaces(ctx, items)
	if err != nil {
		return nil, err
	}
	f.loosening = loosens(items)
	f.items = order(items, f.loosening)

	planned := map[identity]bool{}
	for _, it := range items {
		planned[identityOf(it.want)] = true
	}
	err = each(ctx, items, opts, "what would become of it", func(ctx context.Context, it *item) error {
		if absent[it.want.GetNamespace()] {
			it.foresee(fmt.Sprintf("namespace %s would be created by this run; judged without the server", it.want.GetNamespace()))
			return nil
		}
		would, err := c.send(ctx, it, opts, true)
		if err == nil {
			it.would = would
			it.expect = compare(it.live, would)
			it.conflicts = residue(it.want, would)
			return nil
		}
		var status apierrors.APIStatus
		if !errors.As(err, &status) {
			return err
		}
		it.err, it.expect, it.message = err, Failed, err.Error()
		switch {
		case isConflict(err):
			it.conflicts = owners(err)
		case f.loosening && refusedByPlan(err, planned):
			it.foresee("a policy that this run loosens refuses it now; it is applied after that")
		case it.needsRole(planned) && (apierrors.IsNotFound(err) || apierrors.IsForbidden(err)):
			it.foresee("its role would be created by this run; judged without the server")
		case apierrors.IsServiceUnavailable(err), apierrors.IsTooManyRequests(err), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
			return err
		}
		return nil
	})
	if err != nil {
		return nil, c.lost(ctx, "asking what would become of the objects", err)
	}
	if opts.Prune {
		if f.leftovers, err = c.leftovers(ctx, items, plan.Platform); err != nil {
			return nil, c.lost(ctx, "looking for what a former run left", err)
		}
	}
	n := 0
	for _, it := range f.items {
		if it.clientSide && opts.DryRun {
			n++
		}
	}
	if n > 0 {
		f.notJudged = append(f.notJudged, finding.NotJudged{
			What:   fmt.Sprintf("%d objects that depend on what this run would create", n),
			Reason: "a dry run creates nothing, so the server cannot judge them; kinds, scope and rights were checked",
		})
	}
	return f, nil
}

// foresee records a forecast that the server could not make.
func (it *item) foresee(why string) {
	it.clientSide, it.message, it.err = true, why, nil
	it.expect = Configured
	if it.live == nil {
		it.expect = Created
	}
}

// needsRole reports whether the item binds a role of the same plan that does not exist yet, as far as is known.
func (it *item) needsRole(planned map[identity]bool) bool {
	if !it.is("RoleBinding") && !it.is("ClusterRoleBinding") {
		return false
	}
	kind, _, _ := unstructured.NestedString(it.want.Object, "roleRef", "kind")
	name, _, _ := unstructured.NestedString(it.want.Object, "roleRef", "name")
	ns := ""
	if kind == "Role" {
		ns = it.want.GetNamespace()
	}
	return it.live == nil && planned[identity{groupKind{Group: rbacGroup, Kind: kind}, ns, name}]
}

// namespaces gives the namespaces that the run has to create. It stops at one that is neither there nor in the plan, and
// at one that is being deleted.
func (c *conn) namespaces(ctx context.Context, items []*item) (absent map[string]bool, err error) {
	absent = map[string]bool{}
	known := map[string]bool{}
	var details []string
	look := func(o *unstructured.Unstructured) {
		if o.GetDeletionTimestamp() != nil {
			details = append(details, "namespace "+o.GetName()+" is being deleted")
		}
	}
	for _, it := range items {
		if it.is("Namespace") {
			known[it.want.GetName()] = true
			if it.live == nil {
				absent[it.want.GetName()] = true
			} else {
				look(it.live)
			}
		}
	}
	for _, it := range items {
		ns := it.want.GetNamespace()
		if ns == "" || known[ns] {
			continue
		}
		known[ns] = true
		o, err := c.dyn.Resource(namespaceGVR).Get(ctx, ns, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			details = append(details, fmt.Sprintf("namespace %s, for %s, does not exist and is not in the plan", ns, it))
		case err != nil:
			return nil, c.lost(ctx, "reading namespace "+ns, err)
		default:
			look(o)
		}
	}
	if len(details) > 0 {
		return nil, &StoppedError{Reason: StopInput, Message: "the plan's namespaces cannot take objects", Details: details,
			Next: "create a missing one or declare it in spec.namespaces; wait until one that is being deleted is gone"}
	}
	return absent, nil
}

// each runs do for all items, some at a time, and gives the first error.
func each(ctx context.Context, items []*item, opts Options, text string, do func(context.Context, *item) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *item)
	var mu sync.Mutex
	var wg sync.WaitGroup
	done := 0
	for range min(parallel, len(items)) {
		wg.Go(func() {
			for it := range work {
				if ctx.Err() != nil {
					continue
				}
				if err := do(ctx, it); err != nil {
					cancel(fmt.Errorf("%s: %w", it, err))
					continue
				}
				mu.Lock()
				done++
				opts.tell("check", done, len(items), text)
				mu.Unlock()
			}
		})
	}
	for _, it := range items {
		work <- it
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

func (c *conn) client(it *item) dynamic.ResourceInterface {
	if it.at.namespaced {
		return c.dyn.Resource(it.at.GroupVersionResource).Namespace(it.want.GetNamespace())
	}
	return c.dyn.Resource(it.at.GroupVersionResource)
}

// send applies one object, or asks what applying it would give.
func (c *conn) send(ctx context.Context, it *item, opts Options, dry bool) (*unstructured.Unstructured, error) {
	o := metav1.ApplyOptions{FieldManager: FieldManager, Force: opts.ForceConflicts}
	if dry {
		o.DryRun = []string{metav1.DryRunAll}
	}
	return c.client(it).Apply(ctx, it.want.GetName(), it.want, o)
}

// isConflict tells a conflict between field managers from one between versions.
func isConflict(err error) bool { return len(owners(err)) > 0 }

// owners gives "field: owned by manager" for each field in conflict.
func owners(err error) []string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var out []string
	for _, cause := range status.Status().Details.Causes {
		if cause.Type == metav1.CauseTypeFieldManagerConflict {
			out = append(out, strings.TrimPrefix(cause.Field, ".")+": "+cause.Message)
		}
	}
	return out
}

// refusedByPlan reports whether a policy of the plan refused the request.
func refusedByPlan(err error, planned map[identity]bool) bool {
	_, rest, found := strings.Cut(err.Error(), "ValidatingAdmissionPolicy '")
	name, _, closed := strings.Cut(rest, "'")
	return found && closed && planned[identity{groupKind{Group: admissionGroup, Kind: "ValidatingAdmissionPolicy"}, "", name}]
}

const podSecurityPrefix = "pod-security.kubernetes.io/"

// residue names what others' ownership would keep in force against the plan: applying cannot remove what another field
// manager set too, and the server calls that no conflict.
func residue(want, would *unstructured.Unstructured) []string {
	var out []string
	switch want.GetKind() {
	case "Namespace":
		have := would.GetLabels()
		for _, k := range sortedKeys(have) {
			if _, planned := want.GetLabels()[k]; !planned && strings.HasPrefix(k, podSecurityPrefix) {
				out = append(out, fmt.Sprintf("metadata.labels.%s: %q was set by %s and stays; remove it: kubectl label namespace %s %s-",
					k, have[k], ownersOf(would, k), want.GetName(), k))
			}
		}
	case "ValidatingAdmissionPolicyBinding":
		for _, a := range actions(would) {
			if !slices.Contains(actions(want), a) {
				out = append(out, fmt.Sprintf("spec.validationActions: %s was set by somebody else and stays; edit the binding or delete it", a))
			}
		}
	}
	return out
}

// ownersOf names the field managers that own a label.
func ownersOf(o *unstructured.Unstructured, label string) string {
	var out []string
	for _, m := range o.GetManagedFields() {
		if m.FieldsV1 != nil && strings.Contains(m.FieldsV1.GetRawString(), `"f:`+label+`"`) {
			out = append(out, m.Manager)
		}
	}
	if len(out) == 0 {
		return "somebody else"
	}
	return strings.Join(out, ", ")
}

// stop gives the reason not to go on, if the forecast has one.
func (f *forecast) stop(opts Options) *StoppedError {
	var conflicts, rejected []string
	for _, it := range f.items {
		switch {
		case len(it.conflicts) > 0:
			for _, c := range it.conflicts {
				conflicts = append(conflicts, it.String()+" "+c)
			}
		case it.err != nil:
			rejected = append(rejected, it.String()+": "+it.err.Error())
		}
	}
	switch {
	case len(rejected) > 0:
		return &StoppedError{Reason: StopRejected, Message: fmt.Sprintf("the server would reject %d objects", len(rejected)),
			Details: append(rejected, conflicts...), Next: "mend the spec; an immutable field (a binding's roleRef) needs the object deleted first"}
	case len(conflicts) > 0:
		next := "have the owner drop the field, or take it over with --force-conflicts"
		if opts.ForceConflicts {
			next = "remove it as said"
		}
		return &StoppedError{Reason: StopConflict, Message: fmt.Sprintf("%d fields belong to others", len(conflicts)), Details: conflicts, Next: next}
	}
	return nil
}

// outcomes gives the forecast as the result of a dry run.
func (f *forecast) outcomes() []Outcome {
	var out []Outcome
	for _, it := range f.items {
		o := it.outcome(it.expect, it.message)
		if len(it.conflicts) > 0 {
			o.Action, o.Message = Failed, strings.Join(it.conflicts, "; ")
		}
		out = append(out, o)
	}
	for _, l := range f.leftovers {
		out = append(out, l.outcome())
	}
	return out
}

func (it *item) outcome(a Action, message string) Outcome {
	return Outcome{Object: refOf(it.want), Layer: it.layer, Action: a, Message: message, Because: it.because, ClientSide: it.clientSide && a == it.expect}
}
