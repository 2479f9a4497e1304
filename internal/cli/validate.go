package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/collect"
	"github.com/intelgraph/bulwark/internal/compile"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/report"
	"github.com/intelgraph/bulwark/internal/source"
	"github.com/intelgraph/bulwark/internal/spec"
)

type validateOptions struct {
	file, context, kubeconfig string
	stage                     string
	exceptions                string
	failOn                    string
	output                    string
	only, skip, values        []string
	list                      bool
	explain                   string
	quiet                     bool
}

func newValidateCommand(app *App) *cobra.Command {
	var o validateOptions
	c := &cobra.Command{
		Use:   "validate [PATH…]",
		Short: "Check manifests, charts, kustomizations or a live cluster, with or without a spec",
		Long: `Judges every object with every check and says what fails, where, why it matters and how to mend it. Controllers,
CronJobs, init and ephemeral containers count like bare pods. What could not be read or judged is listed, never passed.

PATH is a manifest, a folder, a Helm chart, a kustomization, or - for the standard input. With --context a live cluster is
read instead; the values of Secrets never are. With -f what is found is also compared with what the spec compiles to, and
the spec's exceptions apply. With -f alone, the files that render writes are read: k8s/ and charts/ below the working folder.

Exit codes: 0 no finding at or above --fail-on; 1 findings; 2 bad input; 3 no such finding, but something was not judged.`,
		Example: `  bulwark validate ./manifests ./charts/shop
  bulwark validate -f platform.yaml --context production
  helm template shop | bulwark validate -
  bulwark validate ./manifests -o sarif > bulwark.sarif
  bulwark validate --explain host-network`,
		RunE: func(c *cobra.Command, args []string) error { return runValidate(c.Context(), app, &o, args) },
	}
	platformFlag(c, &o.file)
	f := c.Flags()
	f.StringVar(&o.context, "context", "", "the `name` of the kubeconfig context whose cluster is read")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "the kubeconfig `file` (default: as kubectl finds it); read with --context, or by itself with its current context")
	f.StringVar(&o.stage, "stage", string(artifact.Enforce), "with -f: the stage that the plan is compiled for: audit, warn or enforce")
	f.StringVar(&o.exceptions, "exceptions", "", "a YAML `file` with a list of exceptions: finding, on, owner, reason, expires")
	f.StringVar(&o.failOn, "fail-on", "high", "the least `severity` that makes the exit code 1: critical, high, medium, low or info")
	f.StringVarP(&o.output, "output", "o", "table", "table, json, sarif, junit or markdown")
	f.StringSliceVar(&o.only, "check", nil, "run only these `checks`")
	f.StringSliceVar(&o.skip, "skip", nil, "leave these `checks` out")
	f.StringSliceVar(&o.values, "values", nil, "values `files` for Helm charts")
	f.BoolVar(&o.list, "list-checks", false, "list all checks")
	f.StringVar(&o.explain, "explain", "", "say what a `check` looks for, why, and how to mend what it finds")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing; only the exit code")
	c.MarkFlagsMutuallyExclusive("list-checks", "explain")
	if err := c.RegisterFlagCompletionFunc("explain", completeChecks); err != nil {
		panic(err) // the flag is defined above
	}
	for _, name := range []string{"check", "skip"} {
		if err := c.RegisterFlagCompletionFunc(name, completeChecks); err != nil {
			panic(err)
		}
	}
	return c
}

func completeChecks(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	for _, c := range check.All() {
		ids = append(ids, c.ID+"\t"+c.Title)
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

func runValidate(ctx context.Context, app *App, o *validateOptions, paths []string) error {
	switch {
	case o.list:
		for _, c := range check.All() {
			fmt.Fprintf(app.Out, "%-32s %-9s %-12s %s\n", c.ID, c.Severity, c.Layer, c.Title)
		}
		return nil
	case o.explain != "":
		return explainCheck(app.Out, o.explain)
	}
	format, err := report.ParseFormat(o.output)
	if err != nil {
		return Misuse(err)
	}
	failOn, err := finding.ParseSeverity(o.failOn)
	if err != nil {
		return Misuse(fmt.Errorf("--fail-on: %w", err))
	}
	if err := check.Known(append(append([]string{}, o.only...), o.skip...)...); err != nil {
		return Misuse(err)
	}
	opts := check.Options{Day: app.Now(), Only: o.only, Skip: o.skip}
	if o.file != "" {
		if err := compile.CheckStage(artifact.Stage(o.stage)); err != nil {
			return Misuse(fmt.Errorf("--stage: %w", err))
		}
		p, lock, err := loadPlatform(o.file)
		if err != nil {
			return err
		}
		plan, err := compile.Compile(p, lock, compile.Options{Stage: artifact.Stage(o.stage)})
		if err != nil {
			return Misuse(err)
		}
		opts.Spec, opts.Plan, opts.Exceptions = p, plan, check.Exceptions(p.Spec.Exceptions)
	}
	if o.exceptions != "" {
		extra, err := readExceptions(o.exceptions)
		if err != nil {
			return Misuse(err)
		}
		opts.Exceptions = append(opts.Exceptions, extra...)
	}
	for _, e := range opts.Exceptions {
		if err := check.Known(e.Finding); err != nil {
			return Misuse(&source.Error{Pos: source.Pos{File: e.File, Line: e.Line}, Msg: "exception: " + err.Error()})
		}
	}
	snap, err := look(ctx, app, o, paths, opts.Spec)
	if err != nil {
		return Misuse(err)
	}
	res := check.Run(snap, opts)
	if !o.quiet {
		root, err := os.Getwd()
		if err != nil {
			return err
		}
		wo := report.Options{Colour: terminal(app.Out), Width: width(app.Out), Tool: app.Version, Root: filepath.ToSlash(root), Rule: func(id string) (check.Check, bool) {
			c, ok := check.Lookup(id)
			if !ok {
				return check.Check{}, false
			}
			return *c, true
		}}
		if err := report.Write(app.Out, format, res, wo); err != nil {
			return err
		}
	}
	switch {
	case res.Summary.Findings.AtLeast(failOn) > 0:
		return Exit(ExitFindings)
	case res.Summary.NotJudged+res.Summary.Unknown > 0:
		return Exit(ExitUnknown)
	}
	return nil
}

// look reads what is to be judged: a cluster, the named paths, or what render writes.
func look(ctx context.Context, app *App, o *validateOptions, paths []string, p *spec.Platform) (*cluster.Snapshot, error) {
	opts := collect.Options{Stdin: app.In, Values: o.values}
	if o.context != "" || o.kubeconfig != "" {
		if len(paths) > 0 {
			return nil, errors.New("either paths or a cluster (--context, --kubeconfig), not both")
		}
		cfg, err := collect.Connect(o.kubeconfig, o.context)
		if err != nil {
			return nil, err
		}
		return collect.Live(ctx, cfg, opts)
	}
	if len(paths) == 0 {
		if p == nil {
			return nil, errors.New("nothing to validate: name paths, - for the standard input, a cluster with --context, or a spec with -f")
		}
		for _, dir := range []string{"k8s", "charts"} {
			if _, err := os.Stat(dir); err == nil {
				paths = append(paths, dir)
			}
		}
		if len(paths) == 0 {
			return nil, errors.New("neither k8s/ nor charts/ is here; run bulwark render first, or name what to validate")
		}
	}
	return collect.Read(ctx, paths, opts)
}

// maxExceptions bounds an exceptions file; nobody reviews more than this.
const maxExceptions = 1 << 20

// readExceptions reads a list of exceptions as strictly as the spec reads its own.
func readExceptions(file string) ([]finding.Exception, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("--exceptions: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxExceptions+1))
	if err != nil {
		return nil, fmt.Errorf("--exceptions: %w", err)
	}
	if len(data) > maxExceptions {
		return nil, fmt.Errorf("--exceptions: %s is over %d bytes", file, maxExceptions)
	}
	list, err := spec.ParseExceptions(file, data)
	if err != nil {
		return nil, badSpec(err)
	}
	return check.Exceptions(list), nil
}

func explainCheck(w io.Writer, id string) error {
	if err := check.Known(id); err != nil {
		return Misuse(err)
	}
	c, _ := check.Lookup(id)
	fmt.Fprintf(w, "%s: %s\n\nseverity   %s\nlayer      %s\nstandards  %s\n\nWhy: %s\n\nMend: %s\n", c.ID, c.Title, c.Severity, c.Layer, strings.Join(c.Standards, ", "), c.Rationale, c.Fix)
	return nil
}

// width is that of the terminal, or zero where there is none.
func width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	n, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return n
}
