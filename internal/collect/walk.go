package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/source"
)

// sink takes what a walk finds, in order.
type sink interface {
	decode(text)
	refuse(...finding.NotJudged)
}

// walker finds texts in paths.
type walker struct {
	opts Options
	out  sink
	// entered holds the real paths of the folders that are open above the current one: a link back to one is a loop.
	entered []string
	// kustomized holds the real paths that some kustomization uses; they are judged where they are used.
	kustomized map[string]bool
	// built holds the real paths of the kustomization files that were looked at, as roots or as parts of one.
	built map[string]bool
	// parts are folders whose kustomization was left to another one.
	parts []string
}

func (w *walker) paths(ctx context.Context, paths []string) error {
	// Look at all paths first, so that a misspelt one is an error before anything is judged.
	for _, p := range paths {
		if p == "-" {
			if w.opts.Stdin == nil {
				return errors.New("- stands for the standard input, and there is none")
			}
			continue
		}
		if _, err := os.Stat(p); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s does not exist%s", p, near(p))
			}
			if linkLoop(p) {
				return fmt.Errorf("%s is a link that leads back to itself; name the folder that is meant", p)
			}
			return fmt.Errorf("cannot read %s: %w", p, reason(err))
		}
	}
	for _, p := range paths {
		if p == "-" {
			w.stream(w.opts.Stdin, 0, text{file: "<stdin>", line: 1, named: true})
			continue
		}
		info, err := os.Stat(p)
		switch {
		case err != nil:
			w.out.refuse(notJudged(p, source.Pos{File: p}, "it went away while reading: "+reason(err).Error()))
		case info.IsDir():
			w.folder(ctx, p)
		case isKustomization(filepath.Base(p)):
			w.kustomization(ctx, filepath.Dir(p))
		case filepath.Base(p) == "Chart.yaml":
			w.chart(ctx, filepath.Dir(p))
		default:
			w.file(p, info, true)
		}
	}
	// Kustomizations that use each other in a circle are part of none.
	for _, dir := range w.parts {
		if !w.built[realPath(kustomizationFile(dir))] {
			w.kustomization(ctx, dir)
		}
	}
	return nil
}

// near suggests a name for a path that does not exist.
func near(p string) string {
	entries, err := os.ReadDir(filepath.Dir(p))
	if err != nil {
		return ""
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if hint := source.DidYouMean(filepath.Base(p), names); strings.HasPrefix(hint, "did") {
		return "; " + hint
	}
	return ""
}

// reason strips the path, which the message names already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func linkLoop(p string) bool {
	_, err := filepath.EvalSymlinks(p)
	return err != nil && (strings.Contains(err.Error(), "too many links") || strings.Contains(err.Error(), "too many levels"))
}

// folder reads a folder and what is below it. Links to folders are followed, once.
func (w *walker) folder(ctx context.Context, dir string) {
	if ctx.Err() != nil {
		return
	}
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		w.out.refuse(notJudged(dir, source.Pos{File: dir}, "cannot follow the link: "+reason(err).Error()))
		return
	}
	if slices.Contains(w.entered, real) {
		w.out.refuse(notJudged(dir, source.Pos{File: dir}, "this link leads back to "+real+", which is being read already; it was not followed"))
		return
	}
	w.entered = append(w.entered, real)
	defer func() { w.entered = w.entered[:len(w.entered)-1] }()

	entries, err := os.ReadDir(dir)
	if err != nil {
		w.out.refuse(notJudged(dir, source.Pos{File: dir}, "cannot list the folder: "+reason(err).Error()+"; check its permissions"))
		return
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	if names["Chart.yaml"] {
		w.chart(ctx, dir)
		return
	}
	own := false
	for n := range names {
		own = own || isKustomization(n)
	}
	if len(w.entered) == 1 {
		w.kustomized = usedByKustomizations(dir, w.opts)
	}
	if own {
		switch {
		case len(w.entered) > 1 && w.kustomized[real]:
			w.parts = append(w.parts, dir) // built as part of the kustomization that uses it
		default:
			w.kustomization(ctx, dir)
		}
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") {
			continue
		}
		p := filepath.Join(dir, name)
		info, err := os.Stat(p) // follows links
		switch {
		case err != nil:
			if manifest(name) || e.Type()&fs.ModeSymlink != 0 {
				w.out.refuse(notJudged(p, source.Pos{File: p}, "cannot read it: "+reason(err).Error()))
			}
		case info.IsDir():
			w.folder(ctx, p)
		case manifest(name) && !own && !w.uses(p):
			w.file(p, info, false)
		}
	}
}

func (w *walker) uses(p string) bool {
	if len(w.kustomized) == 0 {
		return false
	}
	return w.kustomized[realPath(p)]
}

func manifest(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

func (w *walker) file(p string, info fs.FileInfo, named bool) {
	at := source.Pos{File: p}
	if !info.Mode().IsRegular() && !named {
		w.out.refuse(notJudged(p, at, "not a regular file; it was not opened"))
		return
	}
	if info.Size() > w.opts.MaxFile {
		w.out.refuse(notJudged(p, at, fmt.Sprintf("%d bytes are over the cap of %d for one file; split it", info.Size(), w.opts.MaxFile)))
		return
	}
	f, err := os.Open(p)
	if err != nil {
		w.out.refuse(notJudged(p, at, "cannot open it: "+reason(err).Error()+"; check its permissions"))
		return
	}
	defer f.Close()
	w.stream(f, info.Size(), text{file: p, line: 1, named: named})
}

func (w *walker) stream(r io.Reader, size int64, t text) {
	r = &limited{r: r, left: w.opts.MaxFile + 1}
	err := stream(r, size, t, w.opts.Limits.Document, w.out.decode, func(line int) {
		w.out.refuse(refusal(t.file, tooLargeError(t.file, line, w.opts.Limits.Document)))
	})
	if err != nil {
		w.out.refuse(notJudged(t.file, source.Pos{File: t.file}, "reading stopped: "+reason(err).Error()))
	}
}

// limited ends a stream that has no size of its own, such as the standard input, with an error at the cap.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("more bytes than the cap for one file; split it")
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	return n, err
}
