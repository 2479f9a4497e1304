// Package deploy puts a plan into a cluster: it asks first (kinds, rights, what every object would become, which running
// pods the stage would refuse) and touches nothing until all answers are good; then it applies in dependency order, waits
// until the policies are seen to act, and removes what a former run left. Running it again resumes or changes nothing.
//
// Everything is a server-side apply with one field manager, so that runs may overlap and other writers keep their fields.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/finding"
)

// FieldManager owns the fields that Bulwark applies; prove puts a removed control back under the same name.
const FieldManager = artifact.FieldManager

// Defaults of Options.
const (
	DefaultTimeout        = 2 * time.Minute
	DefaultRequestTimeout = 15 * time.Second
)

// Options say how far a run goes. The zero value applies a plan at stage enforce without pruning.
type Options struct {
	// Stage is the stage for which the plan was compiled. Default: enforce.
	Stage artifact.Stage
	// DryRun asks the server what would happen and changes nothing.
	DryRun bool
	// Diff fills Result.Diff. It implies DryRun.
	Diff bool
	// Prune deletes what a former run of the same platform left and the plan no longer has.
	Prune bool
	// Force goes on although the stage would refuse running pods.
	Force bool
	// ForceConflicts takes fields over from other field managers.
	ForceConflicts bool
	// Timeout bounds each wait: for namespaces, and for policies to act. Default: DefaultTimeout.
	Timeout time.Duration
	// RequestTimeout bounds each request. Default: DefaultRequestTimeout.
	RequestTimeout time.Duration
	// Judges say which running pods the plan's admission policies would refuse. Pod Security is judged in any case. A
	// plan with policies and no judge leaves them not judged, and the result says so.
	Judges []Judge
	// Sentinels are requests that the policies must refuse, at least one for each policy. Pod Security sentinels are
	// made from the plan's namespaces. A policy without a sentinel is reported as not judged.
	Sentinels []Sentinel
	// Progress, when set, is told what happens, from one goroutine at a time. It must not block.
	Progress func(Event)
}

// Judge names the reasons for which the plan's policies would refuse a pod that runs. Namespace carries the labels that
// the plan gives it. An error means that the pod could not be judged.
type Judge func(namespace *corev1.Namespace, pod *corev1.Pod) (reasons []string, err error)

// Event is one step of a run.
type Event struct {
	// Phase is what is going on: check, apply, wait, prune.
	Phase string
	// Done of Total steps of the phase are over.
	Done, Total int
	// Text says what was just done, in a few words.
	Text string
}

// Action is what became of an object.
type Action string

// The actions. In a dry run they say what would be done.
const (
	Created    Action = "created"
	Configured Action = "configured"
	Unchanged  Action = "unchanged"
	Pruned     Action = "pruned"
	// Left: the plan no longer has it and it is not for Bulwark to delete; the message says why.
	Left Action = "left"
	// Failed: the server refused it; the message says why.
	Failed Action = "failed"
	// NotReached: the run ended before it.
	NotReached Action = "not reached"
)

// Outcome is one object with what became of it.
type Outcome struct {
	Object  finding.Object `json:"object"`
	Layer   artifact.Layer `json:"layer,omitempty"`
	Action  Action         `json:"action"`
	Message string         `json:"message,omitempty"`
	Because string         `json:"because,omitempty"`
	// ClientSide is true where a dry run could not ask the server, because the object needs one that the run itself
	// would create.
	ClientSide bool `json:"clientSide,omitempty"`
}

// Refused is a running pod that the stage would refuse (at stage enforce), tell of (warn) or record (audit), should it be
// created again. It keeps running until then.
type Refused struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	// Owner is the pod's controller, such as "ReplicaSet maestro-5d4"; empty for a bare pod.
	Owner   string   `json:"owner,omitempty"`
	Reasons []string `json:"reasons"`
}

// ControlState says whether a control was seen to act.
type ControlState string

// The states of a control.
const (
	InForce    ControlState = "in force"
	NotInForce ControlState = "not in force"
	// NotSeen: no request could tell; the evidence says why.
	NotSeen ControlState = "unknown"
)

// Control is a policy, or a namespace's Pod Security, with whether its sentinel was answered as it must be.
type Control struct {
	Name     string       `json:"name"`
	State    ControlState `json:"state"`
	Evidence string       `json:"evidence"`
	// After is how long it took from the end of the apply until it was seen.
	After string `json:"after,omitempty"`
}

// Summary counts outcomes.
type Summary struct {
	Objects    int `json:"objects"`
	Created    int `json:"created"`
	Configured int `json:"configured"`
	Unchanged  int `json:"unchanged"`
	Pruned     int `json:"pruned"`
	Left       int `json:"left"`
	Failed     int `json:"failed"`
	NotReached int `json:"notReached"`
	InForce    int `json:"inForce"`
	Controls   int `json:"controls"`
	// WouldRefuse counts running pods.
	WouldRefuse int `json:"wouldRefuse"`
}

// Result is the JSON contract of `bulwark deploy -o json`, version v1. Fields are added, never removed or renamed.
type Result struct {
	Version  string         `json:"version"`
	Platform string         `json:"platform"`
	Stage    artifact.Stage `json:"stage"`
	// Kubernetes is the server's version.
	Kubernetes string  `json:"kubernetes"`
	DryRun     bool    `json:"dryRun"`
	Summary    Summary `json:"summary"`
	// Objects are in the order of the run; pruned ones last.
	Objects []Outcome `json:"objects"`
	// Refused lists the running pods that the stage would refuse, tell of or record.
	Refused  []Refused `json:"refused"`
	Controls []Control `json:"controls"`
	// Gaps are what the spec asks for and this plan does not protect.
	Gaps      []artifact.Gap      `json:"gaps"`
	NotJudged []finding.NotJudged `json:"notJudged"`
	// Diff is the unified diff between what is and what would be.
	Diff string `json:"diff,omitempty"`
	// Error repeats the error with which the run ended.
	Error string `json:"error,omitempty"`
}

// Changes reports whether the run changed something, or a dry run would.
func (r *Result) Changes() bool {
	return r.Summary.Created+r.Summary.Configured+r.Summary.Pruned > 0
}

// Stop says why a run ended before it touched the cluster.
type Stop string

// The reasons to stop.
const (
	// StopUnreachable: the cluster does not answer.
	StopUnreachable Stop = "unreachable"
	// StopInput: the plan itself cannot be deployed.
	StopInput Stop = "input"
	// StopKinds: the cluster does not serve kinds that the plan needs.
	StopKinds Stop = "kinds"
	// StopRights: the user lacks rights.
	StopRights Stop = "rights"
	// StopConflict: other field managers own fields that the plan sets.
	StopConflict Stop = "conflict"
	// StopRejected: the server would reject objects.
	StopRejected Stop = "rejected"
	// StopPods: the stage would refuse running pods.
	StopPods Stop = "pods"
)

// StoppedError ends a run that touched nothing.
type StoppedError struct {
	Reason Stop
	// Message is one line; Details are the places, one a line; Next says what to do.
	Message string
	Details []string
	Next    string
	Err     error
}

// Error gives the message, every detail on a line of its own, and the next step.
func (e *StoppedError) Error() string {
	s := e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	for _, d := range e.Details {
		s += "\n  " + d
	}
	s += "\nnothing was changed"
	if e.Next != "" {
		s += "; " + e.Next
	}
	return s
}

func (e *StoppedError) Unwrap() error { return e.Err }

// IncompleteError ends a run half way. The result says what is in place and what is not.
type IncompleteError struct {
	// At names the object or the wait at which the run ended.
	At  string
	Err error
	// Summary counts what was done until then.
	Summary Summary
}

func (e *IncompleteError) Error() string {
	why := e.Err.Error()
	if errors.Is(e.Err, context.Canceled) {
		why = "interrupted"
	}
	s := e.Summary
	return fmt.Sprintf("%s: %s\n%d of %d objects are in place, %d failed, %d not reached; mend the cause and run the same command again: it resumes here",
		e.At, why, s.Created+s.Configured+s.Unchanged, s.Created+s.Configured+s.Unchanged+s.Failed+s.NotReached, s.Failed, s.NotReached)
}

func (e *IncompleteError) Unwrap() error { return e.Err }

// NotInForceError says that the objects are in place and that some controls were not seen to act in time.
type NotInForceError struct{ Controls []Control }

func (e *NotInForceError) Error() string {
	s := fmt.Sprintf("%d controls are in place but were not seen to act:", len(e.Controls))
	for _, c := range e.Controls {
		s += "\n  " + c.Name + ": " + c.Evidence
	}
	return s + "\nrun the same command again; if it stays so, look at the policy's status with `kubectl describe`"
}

// Run deploys a plan. The result is never nil: it says how far the run came. Errors are *StoppedError (nothing was
// touched), *IncompleteError (half way) and *NotInForceError; any other is a mistake in the arguments.
//
// A run is over when ctx is: what is in place then is in the result.
func Run(ctx context.Context, cfg *rest.Config, plan *artifact.Plan, opts Options) (*Result, error) {
	if opts.Stage == "" {
		opts.Stage = artifact.Enforce
	}
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.RequestTimeout <= 0 {
		opts.RequestTimeout = DefaultRequestTimeout
	}
	opts.DryRun = opts.DryRun || opts.Diff
	res := &Result{
		Version: "v1", Platform: plan.Platform, Stage: opts.Stage, DryRun: opts.DryRun,
		Objects: []Outcome{}, Refused: []Refused{}, Controls: []Control{}, Gaps: plan.Gaps, NotJudged: []finding.NotJudged{},
	}
	if res.Gaps == nil {
		res.Gaps = []artifact.Gap{}
	}
	err := run(ctx, cfg, plan, opts, res)
	res.count()
	if inc := (*IncompleteError)(nil); errors.As(err, &inc) {
		inc.Summary = res.Summary
	}
	if err != nil {
		res.Error = err.Error()
	}
	return res, err
}

func run(ctx context.Context, cfg *rest.Config, plan *artifact.Plan, opts Options, res *Result) error {
	switch opts.Stage {
	case artifact.Audit, artifact.Warn, artifact.Enforce:
	default:
		return fmt.Errorf("no stage %q; one of: audit, warn, enforce", opts.Stage)
	}
	if plan.Platform == "" {
		return errors.New("the plan names no platform")
	}
	items, err := itemsOf(plan)
	if err != nil {
		return err
	}
	c, err := connect(ctx, cfg, opts)
	if err != nil {
		return err
	}
	res.Kubernetes = c.version
	if err := c.locate(items); err != nil {
		return err
	}
	if err := c.mayDo(ctx, items, opts); err != nil {
		return err
	}

	f, err := c.forecast(ctx, items, plan, opts)
	if err != nil {
		return err
	}
	res.NotJudged = append(res.NotJudged, f.notJudged...)
	refused, notJudged, err := c.preflight(ctx, f, opts)
	if err != nil {
		return err
	}
	res.Refused = append(res.Refused, refused...)
	res.NotJudged = append(res.NotJudged, notJudged...)

	stopped := f.stop(opts)
	if stopped == nil && opts.Stage == artifact.Enforce && len(refused) > 0 && !opts.Force {
		stopped = refusedPods(refused)
	}
	if opts.DryRun || stopped != nil {
		res.Objects = f.outcomes()
		if opts.Diff {
			res.Diff = f.diff()
		}
		if stopped != nil {
			return stopped
		}
		return nil
	}

	if err := c.apply(ctx, f, opts, res); err != nil {
		return err
	}
	bad, err := c.waitInForce(ctx, f, opts, res)
	if err != nil {
		return err
	}
	if err := c.prune(ctx, f, opts, res); err != nil {
		return err
	}
	if len(bad) > 0 {
		return &NotInForceError{Controls: bad}
	}
	return nil
}

func (r *Result) count() {
	s := Summary{Objects: len(r.Objects), WouldRefuse: len(r.Refused), Controls: len(r.Controls)}
	for _, o := range r.Objects {
		switch o.Action {
		case Created:
			s.Created++
		case Configured:
			s.Configured++
		case Unchanged:
			s.Unchanged++
		case Pruned:
			s.Pruned++
		case Left:
			s.Left++
		case Failed:
			s.Failed++
		case NotReached:
			s.NotReached++
		}
	}
	for _, c := range r.Controls {
		if c.State == InForce {
			s.InForce++
		}
	}
	r.Summary = s
}

// groupKind is used as a key wherever the version of a kind does not matter.
type groupKind = schema.GroupKind
