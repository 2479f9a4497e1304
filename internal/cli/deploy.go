package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	quiet                     bool
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

Exit codes: 0 done, or nothing to do; 1 running pods that the stage would refuse, differences with --diff, conflicts with
other field managers, or policies that were not seen to act; 2 bad input, an unreachable cluster or missing rights;
3 the run ended half way.`,
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
	}
	return nil
}

// printDeployment says what became of each object that changed, what was refused, and what is not protected.
func printDeployment(w io.Writer, res *deploy.Result, o *deployOptions) {
	if res.Diff != "" {
		fmt.Fprint(w, res.Diff)
	}
	for _, x := range res.Objects {
		if x.Action == deploy.Unchanged {
			continue
		}
		line := fmt.Sprintf("%-11s %s", x.Action, x.Object)
		if x.ClientSide {
			line += "  (judged here: the run itself would create what it needs)"
		}
		if x.Message != "" {
			line += "  " + clip(x.Message, 160)
		}
		fmt.Fprintln(w, line)
	}
	for _, r := range res.Refused {
		owner := ""
		if r.Owner != "" {
			owner = " of " + r.Owner
		}
		fmt.Fprintf(w, "would be refused: Pod %s/%s%s\n", r.Namespace, r.Pod, owner)
		for _, reason := range r.Reasons {
			fmt.Fprintf(w, "  %s\n", clip(reason, 160))
		}
	}
	for _, c := range res.Controls {
		if c.State != deploy.InForce {
			fmt.Fprintf(w, "%s: %s: %s\n", c.State, c.Name, clip(c.Evidence, 160))
		}
	}
	for _, n := range res.NotJudged {
		fmt.Fprintf(w, "not judged: %s: %s\n", n.What, clip(n.Reason, 160))
	}
	if len(res.Gaps) > 0 {
		fmt.Fprintf(w, "%d things that the spec asks for are not protected; bulwark render lists them\n", len(res.Gaps))
	}
	s := res.Summary
	verb := "deployed"
	if res.DryRun {
		verb = "would deploy"
	}
	fmt.Fprintf(w, "%s %s at stage %s to Kubernetes %s: %d created, %d configured, %d unchanged, %d pruned; %d of %d controls seen in force\n",
		verb, res.Platform, res.Stage, res.Kubernetes, s.Created, s.Configured, s.Unchanged, s.Pruned, s.InForce, s.Controls)
}

// deployProgress draws a bar for each phase on a terminal; elsewhere the result says all.
func deployProgress(app *App, off bool) (func(deploy.Event), func()) {
	if off || !terminal(app.Err) {
		return nil, func() {}
	}
	pool := mpb.New(mpb.WithOutput(app.Err), mpb.WithWidth(40))
	bars := map[string]*mpb.Bar{}
	step := func(e deploy.Event) {
		bar := bars[e.Phase]
		if bar == nil {
			bar = pool.AddBar(int64(max(e.Total, 1)), mpb.BarRemoveOnComplete(),
				mpb.PrependDecorators(decor.Name(fmt.Sprintf("%-6s ", e.Phase))), mpb.AppendDecorators(decor.CountersNoUnit("%d of %d")))
			bars[e.Phase] = bar
		}
		bar.SetTotal(int64(max(e.Total, 1)), false)
		bar.SetCurrent(int64(e.Done))
	}
	return step, func() {
		for _, b := range bars {
			b.Abort(true)
		}
		pool.Wait()
	}
}
