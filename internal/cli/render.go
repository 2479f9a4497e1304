package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/compile"
	"github.com/intelgraph/bulwark/internal/spec"
)

type renderOptions struct {
	file    string
	out     string
	check   bool
	explain string
	// explaining tells an empty name from none.
	explaining bool
	stage      string
	format     string
	quiet      bool
}

func newRenderCommand(app *App) *cobra.Command {
	var o renderOptions
	c := &cobra.Command{
		Use:   "render",
		Short: "Compile the spec into manifests, policies and a Helm chart",
		Long: `Compiles the Platform spec into files: namespaces with Pod Security labels, network policies, access rights, admission
policies and a Helm chart with hardened values. Each object says in the annotation bulwark.dev/because which line of the
spec caused it. The same spec and lock give the same bytes. What the spec asks for and no layer protects is listed last.

Nothing is written before everything has been compiled; each file is replaced whole; no file is removed.

Exit codes: 0 done, or nothing to do; 1 with --check: the files differ from the spec; 2 bad input.`,
		Example: `  bulwark render -f platforms/intelgraph/platform.yaml
  bulwark render -f platform.yaml -o build/manifests --stage audit
  bulwark render --check                  # in CI: exit 1 and a diff when committed files drift from the spec
  bulwark render -o - | kubectl diff -f - # the objects only, in order of deployment
  bulwark render --explain "NetworkPolicy intelgraph-production/default-deny"`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.explaining = c.Flags().Changed("explain")
			return runRender(app, &o)
		},
	}
	platformFlag(c, &o.file)
	c.Flags().StringVarP(&o.out, "output", "o", ".", "the `folder` that the files are written under; - prints the objects instead")
	c.Flags().BoolVar(&o.check, "check", false, "write nothing; exit 1 with a diff when the files differ")
	c.Flags().StringVar(&o.explain, "explain", "", "write nothing; say why an `object` or file exists and what it does")
	c.Flags().StringVar(&o.stage, "stage", string(artifact.Enforce), "how far policies go: audit records, warn tells, enforce refuses")
	c.Flags().StringVar(&o.format, "format", "text", "of the summary: text or json")
	c.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print nothing but errors and, with --check, the diff")
	c.MarkFlagsMutuallyExclusive("check", "explain")
	return c
}

func runRender(app *App, o *renderOptions) error {
	if o.format != "text" && o.format != "json" {
		return Misuse(fmt.Errorf("unknown --format %q; one of: text, json", o.format))
	}
	stage := artifact.Stage(o.stage)
	if err := compile.CheckStage(stage); err != nil {
		return Misuse(fmt.Errorf("--stage: %w", err))
	}
	if o.check && o.out == "-" {
		return Misuse(errors.New("--check compares files; it cannot be used with -o -"))
	}
	p, lock, err := loadPlatform(o.file)
	if err != nil {
		return err
	}
	plan, err := compile.Compile(p, lock, compile.Options{Stage: stage})
	if err != nil {
		return Misuse(badSpec(err))
	}
	if o.explaining {
		return explain(app, plan, o)
	}
	if o.out == "-" {
		return printObjects(app, plan)
	}
	tree, err := readTree(plan, o.out)
	if err != nil {
		return Misuse(err)
	}
	if !o.check {
		if err := writeTree(tree, o.out); err != nil {
			return Misuse(err)
		}
	}
	if err := summarize(app, p, plan, tree, stage, o); err != nil {
		return err
	}
	if o.check && tree.drift() {
		return Exit(ExitFindings)
	}
	return nil
}

func explain(app *App, plan *artifact.Plan, o *renderOptions) error {
	found, err := compile.Explain(plan, o.explain)
	if err != nil {
		return Misuse(err)
	}
	if o.format == "json" {
		return printJSON(app.Out, struct {
			Version string                `json:"version"`
			Objects []compile.Explanation `json:"objects"`
		}{"v1", found})
	}
	for i, e := range found {
		if i > 0 {
			fmt.Fprintln(app.Out)
		}
		fmt.Fprint(app.Out, e.Text())
	}
	return nil
}

// printObjects writes the objects as one stream, in order of deployment. Files that are not objects of the cluster, as
// the chart's, are left out: `kubectl apply -f -` would take them for objects.
func printObjects(app *App, plan *artifact.Plan) error {
	var b bytes.Buffer
	for _, a := range plan.Artifacts {
		if a.Object == nil {
			continue
		}
		y, err := a.YAML()
		if err != nil {
			return fmt.Errorf("%s: %w", a.ID(), err)
		}
		b.WriteString("---\n")
		b.Write(y)
	}
	_, err := app.Out.Write(b.Bytes())
	return err
}

// rendered is one file of the plan beside what is on the disk.
type rendered struct {
	Path  string         `json:"path"`
	Layer artifact.Layer `json:"layer"`
	// Objects is the number of Kubernetes objects in the file; 0 for a plain file.
	Objects int `json:"objects"`
	// State is added, changed or unchanged.
	State string `json:"state"`

	before, after []byte
}

type renderedTree []rendered

func (t renderedTree) drift() bool {
	for _, f := range t {
		if f.State != "unchanged" {
			return true
		}
	}
	return false
}

// readTree compares the plan with the files under a folder, in the plan's order.
func readTree(plan *artifact.Plan, dir string) (renderedTree, error) {
	files, err := plan.Files()
	if err != nil {
		return nil, err
	}
	var tree renderedTree
	at := map[string]int{}
	for _, a := range plan.Artifacts {
		i, seen := at[a.Path]
		if !seen {
			f := rendered{Path: a.Path, Layer: a.Layer, State: "unchanged", after: files[a.Path]}
			f.before, err = os.ReadFile(filepath.Join(dir, filepath.FromSlash(a.Path)))
			switch {
			case errors.Is(err, fs.ErrNotExist):
				f.State, f.before = "added", nil
			case err != nil:
				return nil, fmt.Errorf("read what was rendered before: %w", err)
			case !bytes.Equal(f.before, f.after):
				f.State = "changed"
			}
			i = len(tree)
			at[a.Path] = i
			tree = append(tree, f)
		}
		if a.Object != nil {
			tree[i].Objects++
		}
	}
	return tree, nil
}

// writeTree replaces the files that differ: all are written beside their places first, and only then renamed, so that a
// full disk leaves the old files as they were.
func writeTree(tree renderedTree, dir string) (err error) {
	type pending struct{ temp, final string }
	var todo []pending
	defer func() {
		for _, x := range todo {
			_ = os.Remove(x.temp) // gone already when it was renamed
		}
	}()
	for _, f := range tree {
		if f.State == "unchanged" {
			continue
		}
		final := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
			return fmt.Errorf("make the folder of %s: %w", f.Path, err)
		}
		temp, err := os.CreateTemp(filepath.Dir(final), "."+filepath.Base(final)+".*")
		if err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		todo = append(todo, pending{temp.Name(), final})
		_, err = temp.Write(f.after)
		if err == nil {
			err = temp.Chmod(0o644)
		}
		if err := errors.Join(err, temp.Close()); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
	}
	for _, x := range todo {
		if err := os.Rename(x.temp, x.final); err != nil {
			return fmt.Errorf("put %s in its place: %w; run render again", x.final, err)
		}
	}
	return nil
}

func summarize(app *App, p *spec.Platform, plan *artifact.Plan, tree renderedTree, stage artifact.Stage, o *renderOptions) error {
	count := map[string]int{}
	objects := 0
	for _, f := range tree {
		count[f.State]++
		objects += f.Objects
	}
	if o.format == "json" {
		return printJSON(app.Out, struct {
			Version  string         `json:"version"`
			Platform string         `json:"platform"`
			Stage    artifact.Stage `json:"stage"`
			Summary  map[string]int `json:"summary"`
			Files    renderedTree   `json:"files"`
			Gaps     []artifact.Gap `json:"gaps"`
		}{"v1", plan.Platform, stage, map[string]int{
			"objects": objects, "files": len(tree), "added": count["added"], "changed": count["changed"], "unchanged": count["unchanged"], "gaps": len(plan.Gaps),
		}, tree, append([]artifact.Gap{}, plan.Gaps...)})
	}
	if o.check {
		for _, f := range tree {
			if f.State != "unchanged" {
				fmt.Fprint(app.Out, artifact.Diff("a/"+f.Path, "b/"+f.Path, f.before, f.after))
			}
		}
	}
	if o.quiet {
		return nil
	}
	w := tabwriter.NewWriter(app.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "FILE\tLAYER\tOBJECTS\tSTATE\n")
	for _, f := range tree {
		n := "-"
		if f.Objects > 0 {
			n = fmt.Sprint(f.Objects)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Path, f.Layer, n, f.State)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(plan.Gaps) > 0 {
		fmt.Fprintf(app.Out, "\nNot protected, or not as far as the spec asks (%d):\n", len(plan.Gaps))
		for _, g := range plan.Gaps {
			at := ""
			if g.Because != "" {
				at, _, _ = strings.Cut(g.Because, " ")
				at = " (" + at + ")"
			}
			fmt.Fprintf(app.Out, "  %s: %s: %s%s\n", g.Layer, g.Subject, g.Reason, at)
		}
	}
	switch {
	case o.check && tree.drift():
		fmt.Fprintf(app.Out, "\ndrift: %d of %d files differ from %s; run `bulwark render`\n", count["added"]+count["changed"], len(tree), p.File)
	case o.check:
		fmt.Fprintf(app.Out, "\nno drift: %d files agree with %s\n", len(tree), p.File)
	default:
		fmt.Fprintf(app.Out, "\nrendered: %d objects in %d files, %d added, %d changed, %d unchanged · stage %s\n", objects, len(tree), count["added"], count["changed"], count["unchanged"], stage)
	}
	return nil
}
