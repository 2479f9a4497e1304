// Package collect makes a snapshot of the objects that exist: from manifests, Helm charts and kustomizations, from a
// compiled plan, or from a live cluster. It owns the connection to clusters.
//
// Nothing that was found is dropped in silence: what could not be read is in the snapshot's NotJudged with its place and
// the next step, and everything else is still there to be judged.
package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/source"
)

// Options bound and steer what is read. The zero Options are the defaults.
type Options struct {
	// Limits are those of one document; zero means source.DefaultLimits.
	Limits source.Limits
	// MaxFile is the size in bytes from which a file is refused unread; zero means DefaultMaxFile.
	MaxFile int64
	// Stdin is read where a path is "-"; nil refuses that path.
	Stdin io.Reader
	// Values are files that override a chart's values.yaml, the last one first.
	Values []string
	// Namespace is what Helm templates see as .Release.Namespace; "" means "default", as in `helm template`.
	Namespace string
	// Timeout bounds the rendering of one chart and the building of one kustomization; zero means 30 s.
	Timeout time.Duration
	// Workers is how many documents are decoded at once; zero means GOMAXPROCS.
	Workers int
}

// DefaultMaxFile is 1 GiB. Files are streamed, so it bounds the objects that a file may add, not a buffer.
const DefaultMaxFile = 1 << 30

func (o Options) withDefaults() Options {
	if o.Limits == (source.Limits{}) {
		o.Limits = source.DefaultLimits
	}
	if o.MaxFile == 0 {
		o.MaxFile = DefaultMaxFile
	}
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	return o
}

// ErrNothing says that the paths held no Kubernetes object and nothing that could not be read either: most likely a
// wrong path.
var ErrNothing = errors.New("no Kubernetes objects found")

// Read makes a snapshot of files, folders and, as "-", the standard input.
//
// Folders are read with all their sub-folders: *.yaml, *.yml and *.json; hidden ones are left out. A folder with a
// Chart.yaml is a Helm chart and is rendered; one with a kustomization.yaml is built. The order of objects is that of
// the paths, then of the files' names, then of the documents.
//
// An error means that there is nothing to judge: a path that does not exist, or no object in any of them (ErrNothing).
// Anything else that goes wrong is in the snapshot's NotJudged.
func Read(ctx context.Context, paths []string, opts Options) (*cluster.Snapshot, error) {
	opts = opts.withDefaults()
	if len(paths) == 0 {
		return nil, fmt.Errorf("no paths to read; name manifests, folders, charts, or - for the standard input")
	}
	p := newPipeline(ctx, opts)
	w := &walker{opts: opts, out: p}
	err := w.paths(ctx, paths)
	objects, not := p.finish()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", paths[0], err)
	}
	if len(objects) == 0 && len(not) == 0 {
		return nil, fmt.Errorf("%w in %s; name manifests (*.yaml, *.yml, *.json), a chart's folder or a kustomization's folder", ErrNothing, list(paths))
	}
	return cluster.New(objects, false, not), nil
}

func list(paths []string) string {
	switch len(paths) {
	case 1:
		return paths[0]
	case 2:
		return paths[0] + " and " + paths[1]
	}
	return fmt.Sprintf("%s and %d more", paths[0], len(paths)-1)
}

// notJudged makes the entry for something that could not be read.
func notJudged(what string, at source.Pos, reason string) finding.NotJudged {
	return finding.NotJudged{What: what, Reason: reason, File: at.File, Line: at.Line}
}

// refusal turns an error of package source into an entry.
func refusal(what string, err error) finding.NotJudged {
	var se *source.Error
	if errors.As(err, &se) {
		reason := se.Msg
		if se.Hint != "" {
			reason += "; " + se.Hint
		}
		return notJudged(what, se.Pos, reason)
	}
	return notJudged(what, source.Pos{}, err.Error())
}
