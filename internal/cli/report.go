package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/collect"
	"github.com/intelgraph/bulwark/internal/compile"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/prove"
	"github.com/intelgraph/bulwark/internal/report"
	"github.com/intelgraph/bulwark/internal/spec"
)

type reportOptions struct {
	file       string
	out        string
	format     string
	context    string
	kubeconfig string
	prove      string
	validate   string
	stage      string
	quiet      bool
}

// reportWriters are the formats of the posture report, by name and by the extensions that choose them.
var reportWriters = []struct {
	name       string
	extensions []string
	write      func(io.Writer, *report.Document) error
}{
	{"html", []string{".html", ".htm"}, report.WriteHTML},
	{"md", []string{".md", ".markdown"}, report.WriteDocumentMarkdown},
	{"json", []string{".json"}, report.WriteDocumentJSON},
}

func newReportCommand(app *App) *cobra.Command {
	var o reportOptions
	c := &cobra.Command{
		Use:   "report",
		Short: "Write one page on what is declared, what was found and what was proven",
		Long: `Writes the posture report: the verdict in a sentence, each layer from declared to proven, every attack with what
refused it, which attacks rest on a single control, the findings with the way to mend them, the exceptions, and what was
not judged. The HTML page is one file that holds no script and loads nothing.

With --context the cluster is read: its objects are checked and compared with the plan. Without, the plan itself is
checked. Attacks come from --prove, a file that ` + "`bulwark prove -o json`" + ` wrote; without it they are tried here,
offline, on the plan. A report never attacks a cluster.

Exit codes: 0 the report was written, whatever it says; 2 bad input; 3 the cluster could not be read, or the report was
written but nothing could be judged.`,
		Example: `  bulwark report -f platform.yaml -o report.html
  bulwark prove --context production --ablate -o json > prove.json
  bulwark report --context production --prove prove.json -o report.html
  bulwark report --prove prove.json --validate validate.json -o - --format md`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runReport(c.Context(), app, &o) },
	}
	platformFlag(c, &o.file)
	c.Flags().StringVarP(&o.out, "output", "o", "report.html", "the `file` to write; its extension chooses the format: .html, .md or .json; - writes to the output")
	c.Flags().StringVar(&o.format, "format", "", "html, md or json; default: as the file's extension says")
	c.Flags().StringVar(&o.context, "context", "", "the `name` of the kubeconfig context whose cluster is read")
	c.Flags().StringVar(&o.kubeconfig, "kubeconfig", "", "the kubeconfig `file` (default: as kubectl finds it); used with --context")
	c.Flags().StringVar(&o.prove, "prove", "", "attack results: a `file` that `bulwark prove -o json` wrote")
	c.Flags().StringVar(&o.validate, "validate", "", "validation results: a `file` that `bulwark validate -o json` wrote")
	c.Flags().StringVar(&o.stage, "stage", string(artifact.Enforce), "the stage that the plan is compiled for: audit, warn or enforce")
	c.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print no summary")
	return c
}

func runReport(ctx context.Context, app *App, o *reportOptions) error {
	write, err := reportWriter(o.out, o.format)
	if err != nil {
		return Misuse(err)
	}
	if info, err := os.Stat(o.out); err == nil && info.IsDir() && o.out != "-" {
		return Misuse(fmt.Errorf("%s is a folder; name a file in it", o.out))
	}
	stage := artifact.Stage(o.stage)
	if err := compile.CheckStage(stage); err != nil {
		return Misuse(fmt.Errorf("--stage: %w", err))
	}
	if o.kubeconfig != "" && o.context == "" {
		return Misuse(errors.New("--kubeconfig without --context reads no cluster; name the context"))
	}
	p, lock, err := loadPlatform(o.file)
	if err != nil {
		return err
	}
	plan, err := compile.Compile(p, lock, compile.Options{Stage: stage})
	if err != nil {
		return Misuse(badSpec(err))
	}
	d := &report.Document{Platform: p.Metadata.Name, Spec: p.File, Cluster: o.context, Stage: stage, Generated: app.Now(), Tool: app.Version, Gaps: plan.Gaps}
	// The cheap first: a mistake in a file should not cost the time that a cluster and the attacks take.
	if err := readResults(d, o); err != nil {
		return Misuse(err)
	}
	if err := reportValidation(ctx, app, d, p, plan, o); err != nil {
		return err
	}
	if d.Proof == nil {
		if err := proveOffline(ctx, d, p, plan); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	if err := write(&b, d); err != nil {
		return err
	}
	if o.out == "-" {
		if _, err := app.Out.Write(b.Bytes()); err != nil {
			return err
		}
	} else if err := replaceFile(o.out, b.Bytes()); err != nil {
		return Misuse(err)
	}
	posture := d.Posture()
	if !o.quiet {
		reportSummary(app.Err, d.Platform, posture, o.out, b.Len())
	}
	if nothingJudged(d, posture) {
		return Exit(ExitUnknown)
	}
	return nil
}

// reportWriter chooses the format before any work is done.
func reportWriter(out, format string) (func(io.Writer, *report.Document) error, error) {
	ext := strings.ToLower(filepath.Ext(out))
	for _, w := range reportWriters {
		if format == w.name {
			return w.write, nil
		}
		for _, e := range w.extensions {
			if format == "" && out != "-" && e == ext {
				return w.write, nil
			}
		}
	}
	switch {
	case format != "":
		return nil, fmt.Errorf("unknown --format %q; one of: html, md, json", format)
	case out == "-":
		return nil, errors.New("-o - has no extension; choose one with --format: html, md or json")
	}
	return nil, fmt.Errorf("the extension of %s does not say which format; use .html, .md or .json, or --format", out)
}

// readResults takes over the results of other runs.
func readResults(d *report.Document, o *reportOptions) error {
	if o.prove != "" {
		rep, err := readResult(o.prove, report.ReadProof)
		if err != nil {
			return err
		}
		if rep.Platform != "" && rep.Platform != d.Platform {
			return fmt.Errorf("%s holds attacks on the platform %q, but the spec is of %q; hand over the result that belongs to it", o.prove, rep.Platform, d.Platform)
		}
		d.Proof, d.ProofFrom = rep, o.prove
	}
	if o.validate != "" {
		res, err := readResult(o.validate, report.ReadValidation)
		if err != nil {
			return err
		}
		d.Validation, d.ValidationFrom = res, o.validate
	}
	return nil
}

// proveOffline tries the attacks on the plan, with the libraries that an API server uses.
func proveOffline(ctx context.Context, d *report.Document, p *spec.Platform, plan *artifact.Plan) error {
	defences, err := prove.FromPlan(plan)
	if err != nil {
		return err
	}
	engine, err := prove.NewOffline(defences)
	if err != nil {
		return err
	}
	attacks, err := attack.For(p)
	if err != nil {
		return err
	}
	rep, err := prove.Run(ctx, engine, attacks, prove.Options{Platform: p.Metadata.Name})
	if err != nil {
		return err
	}
	if err := prove.Ablate(ctx, prove.OfflineRemover{Engine: engine}, plan, rep, attacks, nil); err != nil {
		return err
	}
	d.Proof, d.ProofFrom = rep, "tried for this report on the plan"
	if d.Cluster != "" {
		d.NotJudged = append(d.NotJudged, finding.NotJudged{What: "attacks on the cluster " + d.Cluster, Reason: "a report attacks no cluster, and no result of `bulwark prove --context " + d.Cluster + " -o json` was handed over with --prove"})
	}
	return nil
}

// reportValidation reads the cluster, if there is one, and validates it or the plan unless that was done elsewhere.
func reportValidation(ctx context.Context, app *App, d *report.Document, p *spec.Platform, plan *artifact.Plan, o *reportOptions) error {
	var snap *cluster.Snapshot
	if o.context != "" {
		cfg, err := collect.Connect(o.kubeconfig, o.context)
		if err != nil {
			return Misuse(err)
		}
		if snap, err = collect.Live(ctx, cfg, collect.Options{}); err != nil {
			return &ExitError{Code: ExitUnknown, Err: fmt.Errorf("%w; no report was written", err)}
		}
	}
	d.Layers = report.Layers(plan, snap)
	if d.Validation != nil {
		if snap != nil {
			// The checks looked elsewhere, so nobody else tells what this cluster would not show.
			d.NotJudged = append(d.NotJudged, snap.NotJudged...)
		}
		return nil
	}
	opts := check.Options{Spec: p, Plan: plan, Exceptions: check.Exceptions(p.Spec.Exceptions), Day: app.Now()}
	if snap != nil {
		d.Validation, d.ValidationFrom = check.Run(snap, opts), "cluster "+o.context
		return nil
	}
	res, err := validatePlan(ctx, plan, opts)
	if err != nil {
		return err
	}
	d.Validation, d.ValidationFrom = res, "the plan, with its charts rendered"
	return nil
}

// validatePlan checks what the plan deploys: its objects, and what its charts render to, as the workloads are in those.
// The charts are written to a folder of their own for that; places in findings are those that `bulwark render` writes.
func validatePlan(ctx context.Context, plan *artifact.Plan, opts check.Options) (*check.Result, error) {
	snap, err := collect.FromPlan(plan)
	if err != nil {
		return nil, err
	}
	var charts []string
	for _, a := range plan.Artifacts {
		if a.Object == nil && path.Base(a.Path) == "Chart.yaml" {
			charts = append(charts, path.Dir(a.Path))
		}
	}
	if len(charts) == 0 {
		return check.Run(snap, opts), nil
	}
	dir, err := os.MkdirTemp("", "bulwark-report-")
	if err != nil {
		return nil, fmt.Errorf("make a folder to render charts in: %w", err)
	}
	defer os.RemoveAll(dir)
	var folders []string
	for _, c := range charts {
		folders = append(folders, filepath.Join(dir, filepath.FromSlash(c)))
		for _, a := range plan.Artifacts {
			if a.Object != nil || !strings.HasPrefix(a.Path, c+"/") {
				continue
			}
			file := filepath.Join(dir, filepath.FromSlash(a.Path))
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				return nil, fmt.Errorf("make a folder to render charts in: %w", err)
			}
			if err := os.WriteFile(file, a.Content, 0o600); err != nil {
				return nil, fmt.Errorf("write a chart to render it: %w", err)
			}
		}
	}
	rendered, err := collect.Read(ctx, folders, collect.Options{})
	if err != nil {
		return nil, fmt.Errorf("render the plan's charts: %w", err)
	}
	snap = cluster.New(append(snap.Objects, rendered.Objects...), false, append(snap.NotJudged, rendered.NotJudged...))
	res := check.Run(snap, opts)
	here := strings.NewReplacer(filepath.ToSlash(dir)+"/", "", dir+string(filepath.Separator), "")
	for i := range res.Findings {
		f := &res.Findings[i]
		f.File, f.Message = here.Replace(f.File), here.Replace(f.Message)
	}
	for i := range res.NotJudged {
		n := &res.NotJudged[i]
		n.File, n.What, n.Reason = here.Replace(n.File), here.Replace(n.What), here.Replace(n.Reason)
	}
	return res, nil
}

func readResult[T any](file string, read func(string, io.Reader) (*T, error)) (*T, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a folder; name a file", file)
	}
	return read(file, f)
}

// nothingJudged: a report without a single tried attack and without a single looked-at object says nothing.
func nothingJudged(d *report.Document, p report.Posture) bool {
	tried := p.Attacks != nil && p.Attacks.Attacks > p.Attacks.NoEngine
	looked := d.Validation != nil && d.Validation.Summary.Objects > 0
	return !tried && !looked
}

// replaceFile writes a file whole or not at all: beside its place first, then renamed. What is not a regular file, as a
// pipe, is written to directly.
func replaceFile(file string, data []byte) error {
	info, err := os.Stat(file)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a folder; name a file in it", file)
	case err == nil && !info.Mode().IsRegular():
		return os.WriteFile(file, data, 0o644)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("make the folder of %s: %w", file, err)
	}
	temp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer os.Remove(temp.Name()) // gone already when it was renamed
	_, err = temp.Write(data)
	if err == nil {
		err = temp.Chmod(0o644)
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.Rename(temp.Name(), file); err != nil {
		return fmt.Errorf("put %s in its place: %w", file, err)
	}
	return nil
}

// reportSummary says the report's gist in five lines.
func reportSummary(w io.Writer, platform string, p report.Posture, out string, size int) {
	fmt.Fprintf(w, "%s: %s\n", platform, p.Headline)
	if s := p.Attacks; s != nil {
		fmt.Fprintf(w, "  twins       %d of %d harmless twins admitted\n", s.TwinsAdmitted, s.Twins)
	} else {
		fmt.Fprintf(w, "  twins       none was tried\n")
	}
	if p.Standing == nil {
		fmt.Fprintf(w, "  findings    configuration was not validated\n")
	} else {
		var parts []string
		for _, sev := range finding.Severities {
			parts = append(parts, fmt.Sprintf("%d %s", p.Standing[sev.String()], sev))
		}
		fmt.Fprintf(w, "  findings    %s; %d accepted\n", strings.Join(parts, ", "), p.Accepted)
	}
	fmt.Fprintf(w, "  not judged  %d, and %d stated as not protected\n", p.NotJudged, p.Gaps)
	if out != "-" {
		fmt.Fprintf(w, "  report      %s (%d KiB)\n", out, (size+1023)/1024)
	}
}
