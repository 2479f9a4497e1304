package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/collect"
	"github.com/intelgraph/bulwark/internal/compile"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/prove"
	"github.com/intelgraph/bulwark/internal/spec"
)

type proveOptions struct {
	file, context, kubeconfig string
	offline                   bool
	attacks                   []string
	ablate, disposable        bool
	auditLog                  string
	output, save              string
	quiet                     bool
	corpus, level, kubernetes string
	list                      bool
}

func newProveCommand(app *App) *cobra.Command {
	var o proveOptions
	c := &cobra.Command{
		Use:   "prove",
		Short: "Attack the deployed defences and say which attacks were blocked, by what",
		Long: `Try every attack of the corpus on a real API server, each with a harmless twin that differs from it in one field and
must be admitted. An attack is blocked only when the control that was meant to refuse it did; any other refusal is
unknown. Everything is a dry run; what the attacks need (two roles, a gated pod, a policy that judges nothing) is put
into the cluster for as long as it lasts, labelled ` + prove.TemporaryLabel + `.

--ablate removes each control in turn, tries again, and names the attacks that rest on a single control. Without
--disposable it is computed by the offline engine from the policies that the cluster has, and nothing is removed.

Exit codes: 0 every attack that an engine could try was blocked and every twin admitted; 1 an attack was missed or only
detected, or a twin was refused; 2 misuse or an unreachable cluster; 3 an attack that was tried could not be judged.
With --corpus it is 0 whenever every file was tried.`,
		Example: `  bulwark prove                                   # the platform here, on the current context
  bulwark prove -f platform.yaml --context staging --ablate
  bulwark prove --offline                         # without a cluster: the compiled policies, in the API server's own libraries
  bulwark prove --attack 'policies/*' -o json
  bulwark prove --corpus ./bad-pods --level baseline --offline`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"table", "json"}, o.output) {
				return Misuse(fmt.Errorf("unknown output %q; one of: table, json", o.output))
			}
			switch {
			case o.offline && (o.context != "" || o.kubeconfig != ""):
				return Misuse(errors.New("--offline judges without a cluster; leave --context and --kubeconfig away"))
			case o.disposable && (!o.ablate || o.offline):
				return Misuse(errors.New("--disposable only makes sense with --ablate on a cluster"))
			case o.corpus != "" && o.level == "":
				return Misuse(errors.New("--corpus needs --level baseline or restricted"))
			case o.corpus == "" && o.level != "":
				return Misuse(errors.New("--level belongs to --corpus"))
			}
			if o.corpus != "" {
				return runProveCorpus(c.Context(), app, o)
			}
			return runProve(c.Context(), app, o)
		},
	}
	platformFlag(c, &o.file)
	f := c.Flags()
	f.StringVar(&o.context, "context", "", "the kubeconfig `context` to attack (default: the current one)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "the kubeconfig `file` (default: $KUBECONFIG, else ~/.kube/config)")
	f.BoolVar(&o.offline, "offline", false, "judge the compiled policies with the API server's own libraries, without a cluster")
	f.StringSliceVar(&o.attacks, "attack", nil, "only attacks whose ID matches one of these `patterns` (* is anything)")
	f.BoolVar(&o.list, "list", false, "list the attacks and try none")
	f.BoolVar(&o.ablate, "ablate", false, "remove each control in turn and name the attacks that rest on it alone")
	f.BoolVar(&o.disposable, "disposable", false, "with --ablate: remove for real; the cluster lacks each control for a second or two")
	f.StringVar(&o.auditLog, "audit-log", os.Getenv("BULWARK_LAB_AUDIT_LOG"), "the API server's audit log `file`, which names every policy that refused (default: $BULWARK_LAB_AUDIT_LOG)")
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	f.StringVar(&o.save, "save", "", "also write the JSON to this `file`, for bulwark report --prove")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing but what went wrong")
	f.StringVar(&o.corpus, "corpus", "", "try every manifest below this `folder` instead of the platform's attacks")
	f.StringVar(&o.level, "level", "", "with --corpus: the Pod Security `level`, baseline or restricted")
	f.StringVar(&o.kubernetes, "kubernetes", "1.37", "with --corpus: the `version` of the Pod Security standard")
	return c
}

func runProve(ctx context.Context, app *App, o proveOptions) error {
	p, lock, err := loadPlatform(o.file)
	if err != nil {
		return err
	}
	plan, err := compile.Compile(p, lock, compile.Options{})
	if err != nil {
		return Misuse(err)
	}
	attacks, err := attack.For(p)
	if err != nil {
		return err
	}
	if attacks, err = choose(attacks, o.attacks); err != nil {
		return Misuse(err)
	}
	if o.list {
		for _, a := range attacks {
			fmt.Fprintf(app.Out, "%-60s %-9s %s\n", a.ID, a.Severity, a.Title)
		}
		return nil
	}
	rep, err := proven(ctx, app, o, p, plan, attacks)
	if err != nil {
		return err
	}
	if o.save != "" {
		b, err := json.MarshalIndent(rep, "", "  ")
		if err != nil {
			return err
		}
		if err := replaceFile(o.save, append(b, '\n')); err != nil {
			return Misuse(fmt.Errorf("--save: %w", err))
		}
	}
	if o.output == "json" {
		if err := printJSON(app.Out, rep); err != nil {
			return err
		}
	} else {
		printProof(app.Out, rep, o.quiet)
	}
	s := rep.Summary
	switch {
	case s.Missed+s.Detected > 0 || refusedTwins(rep) > 0:
		return Exit(ExitFindings)
	case s.Unknown > s.NoEngine:
		return Exit(ExitUnknown)
	}
	return nil
}

// proven runs the attacks with the engine that the options ask for.
func proven(ctx context.Context, app *App, o proveOptions, p *spec.Platform, plan *artifact.Plan, attacks []attack.Attack) (rep *prove.Report, err error) {
	progress, done := progressBar(app, o.quiet || o.output != "table", "attacks")
	defer done()
	if o.offline {
		d, err := prove.FromPlan(plan)
		if err != nil {
			return nil, err
		}
		engine, err := prove.NewOffline(d)
		if err != nil {
			return nil, err
		}
		rep, err := prove.Run(ctx, engine, attacks, prove.Options{Platform: p.Metadata.Name, Progress: progress})
		if err == nil && o.ablate {
			err = prove.Ablate(ctx, prove.OfflineRemover{Engine: engine}, plan, rep, attacks, nil)
		}
		return rep, err
	}
	cfg, err := collect.Connect(o.kubeconfig, o.context)
	if err != nil {
		return nil, Misuse(err)
	}
	var audit *prove.AuditLog
	if o.auditLog != "" {
		if audit, err = prove.OpenAuditLog(o.auditLog); err != nil {
			return nil, Misuse(fmt.Errorf("--audit-log: %w", err))
		}
	}
	engine, err := prove.NewLive(cfg, audit)
	if err != nil {
		return nil, Misuse(err)
	}
	clean, err := prove.Setup(ctx, cfg, spec.Sorted(p.Spec.Namespaces), attacks)
	if err != nil {
		return nil, Misuse(err)
	}
	defer func() {
		// Also after Ctrl-C: what the run put into the cluster is taken out again.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, clean(last))
	}()
	d, err := prove.FromCluster(ctx, cfg)
	if err != nil {
		return nil, Misuse(err)
	}
	// What is on the control plane's disk cannot be read through the API; the plan says what should be there, and the
	// attacks on policies tell whether it is.
	also, err := prove.NewOffline(d)
	if err != nil {
		return nil, fmt.Errorf("the cluster's policies: %w", err)
	}
	rep, err = prove.Run(ctx, engine, attacks, prove.Options{Platform: p.Metadata.Name, Also: also, Progress: progress})
	if err != nil || !o.ablate {
		return rep, err
	}
	ablation, finished := progressBar(app, o.quiet || o.output != "table", "controls removed in turn")
	defer finished()
	if !o.disposable {
		return rep, prove.Ablate(ctx, prove.OfflineRemover{Engine: also}, plan, rep, attacks, ablation)
	}
	// Without the audit log: what gets through is told by the answer, and thousands of requests need not wait for a file.
	bare, err := prove.NewLive(cfg, nil)
	if err != nil {
		return nil, err
	}
	rm, err := prove.NewLiveRemover(cfg, bare, also, plan, attacks)
	if err != nil {
		return nil, err
	}
	return rep, prove.Ablate(ctx, rm, plan, rep, attacks, ablation)
}

func runProveCorpus(ctx context.Context, app *App, o proveOptions) (err error) {
	snap, err := collect.Read(ctx, []string{o.corpus}, collect.Options{})
	if err != nil {
		return Misuse(err)
	}
	var engine prove.PodTryer
	if o.offline {
		if engine, err = prove.NewPodSecurity(o.level, o.kubernetes); err != nil {
			return Misuse(err)
		}
	} else {
		cfg, err := collect.Connect(o.kubeconfig, o.context)
		if err != nil {
			return Misuse(fmt.Errorf("%w; or judge without a cluster: --offline", err))
		}
		live, clean, err := prove.NewLivePods(ctx, cfg, o.level, o.kubernetes)
		if err != nil {
			return Misuse(err)
		}
		defer func() {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer cancel()
			err = errors.Join(err, clean(last))
		}()
		engine = live
	}
	rep, err := prove.Corpus(ctx, engine, snap, o.level)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return printJSON(app.Out, rep)
	}
	if !o.quiet {
		for _, e := range rep.Attacks {
			file := e.File
			if rel, err := filepath.Rel(o.corpus, e.File); err == nil {
				file = rel
			}
			fmt.Fprintf(app.Out, "%-9s %s\n", e.Verdict, clip(file+"  "+e.Evidence, 150))
		}
	}
	fmt.Fprintf(app.Out, "%d files at %s: %d blocked, %d admitted, %d unknown · %s\n", rep.Summary.Attacks, o.level, rep.Summary.Blocked, rep.Summary.Admitted, rep.Summary.Unknown, rep.Engine)
	return nil
}

// choose keeps the attacks whose ID matches a pattern; a star stands for anything, slashes too.
func choose(attacks []attack.Attack, patterns []string) ([]attack.Attack, error) {
	if len(patterns) == 0 {
		return attacks, nil
	}
	var out []attack.Attack
	for _, a := range attacks {
		if slices.ContainsFunc(patterns, func(p string) bool { return wildcard(p, a.ID) }) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no attack matches %s; see bulwark prove --list", strings.Join(patterns, ", "))
	}
	return out, nil
}

func wildcard(pattern, id string) bool {
	flat := func(s string) string { return strings.ReplaceAll(s, "/", "\x00") }
	ok, err := path.Match(flat(pattern), flat(id))
	return err == nil && ok
}

func refusedTwins(rep *prove.Report) int {
	n := 0
	for _, r := range rep.Attacks {
		if r.Twin.Verdict == finding.Blocked {
			n++
		}
	}
	return n
}

// printProof tells a person what happened: a line a layer, every attack that was not blocked, the matrix in short.
func printProof(w io.Writer, rep *prove.Report, quiet bool) {
	if !quiet {
		fmt.Fprintf(w, "%-14s %8s %8s %8s %8s %8s   %s\n", "LAYER", "ATTACKS", "BLOCKED", "DETECTED", "MISSED", "UNKNOWN", "TWINS ADMITTED")
		for _, l := range artifact.Layers {
			var s prove.Summary
			for _, r := range rep.Attacks {
				if r.Layer != l {
					continue
				}
				s.Attacks++
				switch r.Verdict {
				case finding.Blocked:
					s.Blocked++
				case finding.Detected:
					s.Detected++
				case finding.Missed:
					s.Missed++
				default:
					s.Unknown++
				}
				if !r.NoEngine {
					s.Twins++
				}
				if r.Twin.Verdict == finding.Admitted {
					s.TwinsAdmitted++
				}
			}
			if s.Attacks > 0 {
				fmt.Fprintf(w, "%-14s %8d %8d %8d %8d %8d   %d of %d\n", l, s.Attacks, s.Blocked, s.Detected, s.Missed, s.Unknown, s.TwinsAdmitted, s.Twins)
			}
		}
	}
	shown, more := 0, 0
	for _, r := range rep.Attacks {
		if r.NoEngine || (r.Verdict == finding.Blocked && r.Twin.Verdict == finding.Admitted) {
			continue
		}
		if shown++; shown > 50 {
			more++
			continue
		}
		fmt.Fprintf(w, "%-8s %s  %s\n         %s\n", r.Verdict, r.ID, r.Title, clip(r.Evidence, 200))
		if r.Twin.Verdict != finding.Admitted {
			fmt.Fprintf(w, "         its harmless twin: %s %s\n", r.Twin.Verdict, clip(r.Twin.Evidence, 160))
		} else if r.Fix != "" {
			fmt.Fprintf(w, "         mend: %s\n", r.Fix)
		}
	}
	if more > 0 {
		fmt.Fprintf(w, "… and %d more; all of them: bulwark prove -o json\n", more)
	}
	if a := rep.Ablation; a != nil && !quiet {
		layers := map[artifact.Layer]int{}
		owners := 0
		for _, c := range a.Controls {
			layers[c.Layer]++
			if len(c.Missed) > 0 {
				owners++
			}
		}
		fmt.Fprintf(w, "ablation: %d controls removed in turn; %d of them are the only one that stops some attack; %d attacks rest on a single control\n", len(a.Controls), owners, len(a.SingleLayer))
		for _, c := range a.Controls {
			if len(c.Missed) == 0 {
				fmt.Fprintf(w, "  without %s nothing more got through: it backs up others, or no attack tries it\n", c.Control)
			}
		}
	}
	for _, n := range rep.NotJudged {
		if !strings.HasPrefix(n.What, "attack ") {
			fmt.Fprintf(w, "not judged: %s: %s\n", n.What, n.Reason)
		}
	}
	s := rep.Summary
	if !quiet {
		fmt.Fprintf(w, "judged by %s\n", rep.Engine)
		fmt.Fprintf(w, "proven: %d of %d attacks blocked, %d of %d harmless twins admitted\n", s.Blocked, s.Attacks-s.NoEngine, s.TwinsAdmitted, s.Twins)
	}
}

// clip shortens a text for a line of a terminal and takes control characters out of it.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// progressBar gives a callback that draws a bar on the error stream when that is a terminal, and its end.
func progressBar(app *App, off bool, what string) (func(done, total int), func()) {
	if off || !terminal(app.Err) {
		return nil, func() {}
	}
	pool := mpb.New(mpb.WithOutput(app.Err), mpb.WithWidth(40))
	var bar *mpb.Bar
	step := func(done, total int) {
		if bar == nil {
			bar = pool.AddBar(int64(total), mpb.BarRemoveOnComplete(),
				mpb.PrependDecorators(decor.Name(what+" ")), mpb.AppendDecorators(decor.CountersNoUnit("%d of %d")))
		}
		bar.SetCurrent(int64(done))
	}
	return step, func() {
		if bar != nil {
			bar.Abort(true)
			pool.Wait()
		}
	}
}
