package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/ignore"
	"sigs.k8s.io/yaml"

	"github.com/intelgraph/bulwark/internal/source"
)

// Bounds on a chart. Helm itself caps an archive at 100 MiB; a chart's folder is text that people wrote.
const (
	maxChart     = 64 << 20
	maxTemplated = 1_000_000 // items of one until, seq or repeat in a template
)

// chart renders a chart's folder with its values.yaml and Options.Values. Nothing of it touches a network: lookup gives
// nothing, DNS is off, and dependencies must be in charts/.
func (w *walker) chart(ctx context.Context, dir string) {
	file := filepath.Join(dir, "Chart.yaml")
	refuse := func(at source.Pos, format string, args ...any) {
		w.out.refuse(notJudged("Helm chart "+dir, at, fmt.Sprintf(format, args...)))
	}
	files, err := chartFiles(dir)
	if err != nil {
		refuse(source.Pos{File: file}, "the chart does not load: %v", err)
		return
	}
	ch, err := loader.LoadFiles(files)
	if err != nil {
		refuse(source.Pos{File: file}, "the chart does not load: %v", err)
		return
	}
	if ch.Metadata.Type == "library" {
		refuse(source.Pos{File: file}, "a library chart has no objects of its own; it is judged in the charts that use it")
		return
	}
	values, at, err := w.values(dir)
	if err != nil {
		refuse(at, "%v", err)
		return
	}
	for _, dep := range missing(ch) {
		refuse(source.Pos{File: file}, "its dependency %q is not in charts/; run `helm dependency build %s`", dep, dir)
	}

	ctx, cancel := context.WithTimeout(ctx, w.opts.Timeout)
	defer cancel()
	type done struct {
		files map[string]string
		err   error
	}
	c := make(chan done, 1)
	// Templates cannot be interrupted from outside. Their loops end by themselves at the deadline, because the functions
	// that make lists look at ctx; a template that gets round them costs its goroutine, not this call.
	go func() {
		f, err := render(ctx, ch, values, w.opts.Namespace)
		c <- done{f, err}
	}()
	var rendered map[string]string
	select {
	case <-ctx.Done():
		refuse(source.Pos{File: file}, "it did not render within %v; look for a loop in its templates", w.opts.Timeout)
		return
	case d := <-c:
		if d.err != nil {
			at, msg := templateError(dir, ch.Name(), d.err)
			refuse(at, "the chart does not render: %s", msg)
			return
		}
		rendered = d.files
	}
	for _, crd := range ch.CRDObjects() {
		w.out.decode(text{file: filepath.Join(dir, filepath.FromSlash(crd.Name)), line: 1, data: crd.File.Data})
	}
	names := make([]string, 0, len(rendered))
	for n := range rendered {
		names = append(names, n)
	}
	slices.Sort(names)
	templates := map[string][]byte{}
	for _, f := range files {
		templates[f.Name] = f.Data
	}
	for _, n := range names {
		body := rendered[n]
		if path.Base(n) == "NOTES.txt" || strings.TrimSpace(body) == "" {
			continue
		}
		_, inside, _ := strings.Cut(n, "/") // without the chart's name
		f := filepath.Join(dir, filepath.FromSlash(inside))
		lines := func(l int) int { return l }
		if t, ok := templates[inside]; ok {
			lines = align(string(t), body)
		}
		err := stream(strings.NewReader(body), int64(len(body)), text{file: f, line: 1, lines: lines}, w.opts.Limits.Document, w.out.decode, func(l int) {
			w.out.refuse(refusal(f, tooLargeError(f, lines(l), w.opts.Limits.Document)))
		})
		if err != nil {
			refuse(source.Pos{File: f}, "%v", err)
		}
	}
}

// chartFiles loads what .helmignore leaves of a chart's folder. Helm's own loader follows links wherever they lead; this
// one takes only links to files inside the chart.
func chartFiles(dir string) ([]*archive.BufferedFile, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	rules := ignore.Empty()
	if r, err := ignore.ParseFile(filepath.Join(root, ignore.HelmIgnore)); err == nil {
		rules = r
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf(".helmignore: %w", err)
	}
	rules.AddDefaults()
	var files []*archive.BufferedFile
	left := int64(maxChart)
	err = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		rel := filepath.ToSlash(strings.TrimPrefix(strings.TrimPrefix(p, root), string(filepath.Separator)))
		if err != nil {
			return fmt.Errorf("%s: %w", rel, reason(err))
		}
		if rel == "" {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("%s: %w", rel, reason(err))
		}
		if rules.Ignore(rel, info) {
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if e.IsDir() {
			return nil
		}
		if e.Type()&fs.ModeSymlink != 0 {
			to, err := filepath.EvalSymlinks(p)
			if err != nil {
				return fmt.Errorf("%s is a broken link: %w", rel, reason(err))
			}
			if !strings.HasPrefix(to, root+string(filepath.Separator)) {
				return fmt.Errorf("%s is a link that leads out of the chart; copy the file", rel)
			}
			if info, err = os.Stat(to); err != nil {
				return fmt.Errorf("%s: %w", rel, reason(err))
			}
			if info.IsDir() {
				return fmt.Errorf("%s is a link to a folder; copy the folder", rel)
			}
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", rel)
		}
		if left -= info.Size(); left < 0 {
			return fmt.Errorf("its files are over the cap of %d bytes; see .helmignore", maxChart)
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return fmt.Errorf("%s: %w", rel, reason(err))
		}
		files = append(files, &archive.BufferedFile{Name: rel, ModTime: info.ModTime(), Data: bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))})
		return nil
	})
	return files, err
}

// values merges the files of Options.Values; the chart's own values.yaml comes with the chart.
func (w *walker) values(dir string) (map[string]any, source.Pos, error) {
	out := map[string]any{}
	for _, f := range w.opts.Values {
		at := source.Pos{File: f}
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, at, fmt.Errorf("cannot read the values: %w", reason(err))
		}
		if docs := source.Split(f, b); len(docs) > 0 {
			if _, err := docs[0].Parse(w.opts.Limits); err != nil { // for the place
				var se *source.Error
				if errors.As(err, &se) {
					return nil, se.Pos, errors.New(se.Msg)
				}
				return nil, at, err
			}
		}
		m := map[string]any{}
		if err := yaml.Unmarshal(b, &m); err != nil {
			return nil, at, fmt.Errorf("the values are not a mapping: %w", err)
		}
		out = loader.MergeMaps(out, m)
	}
	return out, source.Pos{File: filepath.Join(dir, "values.yaml")}, nil
}

// missing lists the dependencies that Chart.yaml declares and charts/ does not hold.
func missing(ch *chart.Chart) []string {
	var out []string
	for _, want := range ch.Metadata.Dependencies {
		found := false
		for _, have := range ch.Dependencies() {
			found = found || have.Name() == want.Name
		}
		if !found {
			out = append(out, want.Name)
		}
	}
	return out
}

var remoteRef = regexp.MustCompile(`"\$ref"\s*:\s*"(?i:https?:)`)

func render(ctx context.Context, ch *chart.Chart, values map[string]any, namespace string) (out map[string]string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the template engine broke down: %v", r)
		}
	}()
	if err := chartutil.ProcessDependencies(ch, values); err != nil {
		return nil, err
	}
	release := common.ReleaseOptions{Name: ch.Name(), Namespace: namespace, Revision: 1, IsInstall: true}
	top, err := commonutil.ToRenderValuesWithSchemaValidation(ch, values, release, nil, refersToNetwork(ch))
	if err != nil {
		return nil, err
	}
	e := engine.Engine{CustomTemplateFuncs: bounded(ctx)}
	return e.RenderWithContext(ctx, ch, top)
}

// refersToNetwork reports whether a schema would be fetched while values are validated against it.
func refersToNetwork(ch *chart.Chart) bool {
	if remoteRef.Match(ch.Schema) {
		return true
	}
	return slices.ContainsFunc(ch.Dependencies(), refersToNetwork)
}

// bounded replaces the template functions that make something large out of a small number.
func bounded(ctx context.Context) map[string]any {
	check := func(n int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n > maxTemplated || n < 0 {
			return fmt.Errorf("%d items are over the cap of %d", n, maxTemplated)
		}
		return nil
	}
	number := func(v any) int {
		i, _ := strconv.Atoi(strings.Split(fmt.Sprint(v), ".")[0])
		return i
	}
	steps := func(from, to, step int) ([]int, error) {
		if step == 0 {
			return []int{}, nil
		}
		n := (to - from + step - sign(step)) / step
		if n < 0 {
			n = 0
		}
		if err := check(n); err != nil {
			return nil, err
		}
		out := make([]int, 0, n)
		for i := from; (step > 0 && i < to) || (step < 0 && i > to); i += step {
			out = append(out, i)
		}
		return out, nil
	}
	return map[string]any{
		"until": func(v any) ([]int, error) {
			n := number(v)
			return steps(0, n, sign(n))
		},
		"untilStep": steps,
		"repeat": func(v any, s string) (string, error) {
			n := max(number(v), 0)
			if err := check(n); err != nil {
				return "", err
			}
			if err := check(n * len(s)); err != nil {
				return "", err
			}
			return strings.Repeat(s, n), nil
		},
	}
}

func sign(n int) int {
	if n < 0 {
		return -1
	}
	return 1
}

var templatePlace = regexp.MustCompile(`\(?([\w.\-/]+/templates/[\w.\-/]+|[\w.\-/]+/charts/[\w.\-/]+):(\d+)(?::\d+)?\)?:?\s*`)

// templateError finds the file and the line in an error of the template engine.
func templateError(dir, name string, err error) (source.Pos, string) {
	if errors.Is(err, context.DeadlineExceeded) {
		return source.Pos{File: filepath.Join(dir, "Chart.yaml")}, "it took too long; look for a loop in its templates"
	}
	msg := strings.Join(strings.Fields(err.Error()), " ")
	at := source.Pos{File: filepath.Join(dir, "Chart.yaml")}
	if m := templatePlace.FindStringSubmatch(msg); m != nil {
		at.File = filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(m[1], name+"/")))
		at.Line, _ = strconv.Atoi(m[2])
	}
	if len(msg) > 600 {
		msg = msg[:600] + " …"
	}
	return at, msg
}
