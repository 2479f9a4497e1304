package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/collect"
	"github.com/intelgraph/bulwark/internal/compile"
	"github.com/intelgraph/bulwark/internal/deploy"
)

type deployOptions struct {
	file, context, kubeconfig string
	stage, output             string
	dryRun, diff              bool
	prune                     bool
	force, forceConflicts     bool
	timeout                   time.Duration
	quiet, verbose            bool
}

func newDeployCommand(app *App) *cobra.Command {
	var o deployOptions
	c := &cobra.Command{
		Use:   "deploy",
		Short: "Put the defences into a cluster, in stages, and wait until they are seen to act",
		Long: `Compiles the platform and applies it (server-side apply, field manager "` + deploy.FieldManager + `") in the order in which things need each
other, removes what a former run left, and waits until each policy answers a request that it must refuse.

People adopt it in stages: audit records what would be refused, warn tells who asks, enforce refuses. Before anything is
touched, a preflight asks whether the cluster serves every kind, whether you have every right, and which running pods the
stage would refuse; at enforce such pods stop the run, unless --force. A run that ends half way says what is in place,
and running it again resumes. A second run changes nothing.

What is pruned carries the platform's label and Bulwark's field manager; namespaces, workloads, secrets and data never are.

Exit codes: 0 done, or nothing to do; 1 running pods that the stage would refuse, differences with --diff, conflicts with
other field managers, or policies that do not act; 2 bad input, an unreachable cluster, missing kinds or missing rights;
3 the run ended half way, or something could not be judged, such as objects whose namespace a dry run does not make.`,
		Example: `  bulwark deploy --stage audit                  # record what would be refused; nothing breaks
  bulwark deploy --stage warn --context staging
  bulwark deploy --diff                         # what enforcing would change; touches nothing
  bulwark deploy                                # enforce`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runDeploy(c.Context(), app, &o) },
	}
	platformFlag(c, &o.file)
	f := c.Flags()
	f.StringVar(&o.context, "context", "", "the kubeconfig `context` to deploy to (default: the current one)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "the kubeconfig `file` (default: as kubectl finds it)")
	f.StringVar(&o.stage, "stage", string(artifact.Enforce), "how far policies go: audit records, warn tells, enforce refuses")
	f.BoolVar(&o.dryRun, "dry-run", false, "ask the server what would happen and change nothing")
	f.BoolVar(&o.diff, "diff", false, "print what would change and change nothing; exit 1 when something would")
	f.BoolVar(&o.prune, "prune", true, "remove what a former run of this platform left and the spec no longer causes")
	f.BoolVar(&o.force, "force", false, "go on although the stage would refuse running pods; they run on until they are created again")
	f.BoolVar(&o.forceConflicts, "force-conflicts", false, "take fields over from other field managers")
	f.DurationVar(&o.timeout, "timeout", deploy.DefaultTimeout, "how long to wait for each thing that takes effect late")
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing but what went wrong")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print every object, control and gap on a line of its own")
	return c
}

func runDeploy(ctx context.Context, app *App, o *deployOptions) error {
	if o.output != "table" && o.output != "json" {
		return Misuse(fmt.Errorf("unknown output %q; one of: table, json", o.output))
	}
	stage := artifact.Stage(o.stage)
	if err := compile.CheckStage(stage); err != nil {
		return Misuse(fmt.Errorf("--stage: %w", err))
	}
	p, lock, err := loadPlatform(o.file)
	if err != nil {
		return err
	}
	plan, err := compile.Compile(p, lock, compile.Options{Stage: stage})
	if err != nil {
		return Misuse(err)
	}
	attacks, err := attack.For(p)
	if err != nil {
		return err
	}
	judge, err := podJudge(plan)
	if err != nil {
		return err
	}
	cfg, err := collect.Connect(o.kubeconfig, o.context)
	if err != nil {
		return Misuse(err)
	}
	progress, finish := deployProgress(app, o.quiet || o.output == "json")
	res, err := deploy.Run(ctx, cfg, plan, deploy.Options{
		Stage: stage, DryRun: o.dryRun || o.diff, Diff: o.diff, Prune: o.prune, Force: o.force, ForceConflicts: o.forceConflicts,
		Timeout: o.timeout, Judges: []deploy.Judge{judge}, Sentinels: sentinels(p, attacks), Progress: progress,
	})
	finish()
	if o.output == "json" {
		if e := printJSON(app.Out, res); e != nil {
			return e
		}
	} else if !o.quiet {
		printDeployment(app.Out, res, o)
	}
	return deployExit(res, err, o)
}

func deployExit(res *deploy.Result, err error, o *deployOptions) error {
	var stopped *deploy.StoppedError
	var incomplete *deploy.IncompleteError
	var late *deploy.NotInForceError
	switch {
	case errors.As(err, &stopped):
		code := ExitMisuse
		if stopped.Reason == deploy.StopPods || stopped.Reason == deploy.StopConflict {
			code = ExitFindings
		}
		return &ExitError{Code: code, Err: err}
	case errors.As(err, &incomplete):
		return &ExitError{Code: ExitUnknown, Err: err}
	case errors.As(err, &late):
		return &ExitError{Code: ExitFindings, Err: err}
	case err != nil:
		return Misuse(err)
	case o.diff && res.Changes():
		return Exit(ExitFindings)
	case len(res.NotJudged) > 0:
		return Exit(ExitUnknown)
	}
	return nil
}

// printDeployment says what became of each object that changed, what was refused, and what is not protected. A first run
// makes a hundred objects, so objects of one kind that fared alike share a line unless somebody wants to see each.
func printDeployment(w io.Writer, res *deploy.Result, o *deployOptions) {
	if res.Diff != "" {
		fmt.Fprintln(w, strings.TrimSuffix(res.Diff, "\n"))
	}
	for _, l := range deployLines(res.Objects, o.verbose) {
		fmt.Fprintln(w, l)
	}
	const few = 20
	for i, r := range res.Refused {
		if i == few && !o.verbose {
			fmt.Fprintf(w, "%s: %d more pods; --verbose lists them\n", refusedVerb(res.Stage), len(res.Refused)-few)
			break
		}
		owner := ""
		if r.Owner != "" {
			owner = " of " + r.Owner
		}
		fmt.Fprintf(w, "%s: Pod %s/%s%s\n", refusedVerb(res.Stage), r.Namespace, r.Pod, owner)
		for _, reason := range r.Reasons {
			fmt.Fprintf(w, "  %s\n", clip(reason, 160))
		}
	}
	for _, c := range res.Controls {
		if c.State == deploy.NotInForce || o.verbose {
			fmt.Fprintf(w, "%s: %s: %s\n", c.State, c.Name, clip(c.Evidence, 160))
		}
	}
	for _, n := range res.NotJudged {
		fmt.Fprintf(w, "not judged: %s: %s\n", n.What, clip(n.Reason, 160))
	}
	if o.verbose {
		for _, g := range res.Gaps {
			fmt.Fprintf(w, "not protected: %s: %s: %s\n", g.Layer, g.Subject, clip(g.Reason, 160))
		}
	} else if len(res.Gaps) > 0 {
		fmt.Fprintf(w, "%d things that the spec asks for are not protected; --verbose lists them\n", len(res.Gaps))
	}
	if res.Summary.Objects == 0 {
		return // it ended before it knew; the error says why
	}
	s := res.Summary
	verb := "deployed"
	switch {
	case res.DryRun:
		verb = "would deploy"
	case res.Error != "":
		verb = "did not deploy all of"
	}
	fmt.Fprintf(w, "%s %s at stage %s to Kubernetes %s: %d created, %d configured, %d unchanged, %d pruned",
		verb, res.Platform, res.Stage, res.Kubernetes, s.Created, s.Configured, s.Unchanged, s.Pruned)
	for _, x := range []struct {
		n    int
		what string
	}{{s.Left, "left"}, {s.Failed, "failed"}, {s.NotReached, "not reached"}, {len(res.NotJudged), "not judged"}} {
		if x.n > 0 {
			fmt.Fprintf(w, ", %d %s", x.n, x.what)
		}
	}
	if s.Controls > 0 {
		fmt.Fprintf(w, "; %d of %d controls seen in force", s.InForce, s.Controls)
	}
	fmt.Fprintln(w)
}

// refusedVerb says what the stage does with a pod that its policies are against.
func refusedVerb(s artifact.Stage) string {
	switch s {
	case artifact.Audit:
		return "would be recorded"
	case artifact.Warn:
		return "would be warned of"
	}
	return "would be refused"
}

// deployLines gives a line for each object that did not stay as it was. Objects of one kind in one namespace with the same
// action and nothing to say share a line when there are more than three.
func deployLines(objects []deploy.Outcome, all bool) []string {
	const apart = 3
	type group struct {
		action          deploy.Action
		kind, namespace string
		message         string
		clientSide      bool
	}
	var order []group
	members := map[group][]deploy.Outcome{}
	for _, x := range objects {
		if x.Action == deploy.Unchanged && !all {
			continue
		}
		g := group{x.Action, x.Object.Kind, x.Object.Namespace, x.Message, x.ClientSide}
		if members[g] == nil {
			order = append(order, g)
		}
		members[g] = append(members[g], x)
	}
	var out []string
	for _, g := range order {
		tail := ""
		if g.message != "" {
			tail = "  " + clip(g.message, 160)
		}
		if n := len(members[g]); n > apart && !all {
			where := ""
			if g.namespace != "" {
				where = " in " + g.namespace
			}
			out = append(out, fmt.Sprintf("%-11s %d × %s%s%s", g.action, n, g.kind, where, tail))
			continue
		}
		for _, x := range members[g] {
			out = append(out, fmt.Sprintf("%-11s %s%s", g.action, x.Object, tail))
		}
	}
	return out
}

// phases are the words of deployProgress for the phases of a run.
var phases = map[string]string{"check": "asking the cluster", "apply": "applying", "wait": "waiting for policies to act", "prune": "pruning"}

// deployProgress draws a bar for each phase on a terminal; elsewhere it writes a line when a phase begins.
func deployProgress(app *App, off bool) (func(deploy.Event), func()) {
	if off {
		return nil, func() {}
	}
	if !terminal(app.Err) {
		said := map[string]bool{}
		return func(e deploy.Event) {
			if !said[e.Phase] {
				said[e.Phase] = true
				fmt.Fprintln(app.Err, phases[e.Phase])
			}
		}, func() {}
	}
	// One bar that changes its name, not one a phase: mpb ends a bar for good when it is full, and phases alternate.
	pool := mpb.New(mpb.WithOutput(app.Err), mpb.WithWidth(40))
	var phase atomic.Value
	phase.Store("")
	bar := pool.AddBar(0, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return phases[phase.Load().(string)] }, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.CountersNoUnit("%d of %d")))
	step := func(e deploy.Event) {
		phase.Store(e.Phase)
		bar.SetTotal(int64(max(e.Total, 1)), false)
		bar.SetCurrent(int64(e.Done))
	}
	return step, func() {
		bar.Abort(true)
		pool.Wait()
	}
}
