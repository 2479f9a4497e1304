package collect

import (
	"context"
	"sync"

	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// pipeline decodes texts on several workers and keeps what comes out in the order in which it was put in.
type pipeline struct {
	opts    Options
	jobs    chan job
	workers sync.WaitGroup

	mu      sync.Mutex
	results []result
}

// job is a text to decode, at its index in the order.
type job struct {
	index int
	text  text
}

// text is a run of whole documents.
type text struct {
	file string
	// line is that of the first byte, from 1.
	line int
	data []byte
	// named is true where the user named this very file, so that a text without objects is worth a word.
	named bool
	// lines, for a text that an engine rendered, gives the line of the file that a line of the text came from.
	lines func(line int) int
	// place, when set, says where an object came from, after lines.
	place func(*cluster.Object)
}

type result struct {
	objects []*cluster.Object
	not     []finding.NotJudged
}

func newPipeline(ctx context.Context, opts Options) *pipeline {
	// One waiting job per worker bounds the bytes that are read ahead.
	p := &pipeline{opts: opts, jobs: make(chan job, opts.Workers)}
	for range opts.Workers {
		p.workers.Add(1)
		go func() {
			defer p.workers.Done()
			d := newDecoder(opts.Limits)
			for j := range p.jobs {
				if ctx.Err() != nil {
					continue
				}
				r := d.text(j.text)
				p.mu.Lock()
				p.results[j.index] = r
				p.mu.Unlock()
			}
		}()
	}
	return p
}

// decode puts a text in line. It is called by one goroutine only.
func (p *pipeline) decode(t text) {
	p.jobs <- job{index: p.reserve(), text: t}
}

// refuse puts something that cannot be read in line.
func (p *pipeline) refuse(n ...finding.NotJudged) {
	i := p.reserve()
	p.mu.Lock()
	p.results[i].not = n
	p.mu.Unlock()
}

func (p *pipeline) reserve() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.results = append(p.results, result{})
	return len(p.results) - 1
}

// finish waits for the workers and gives everything in order.
func (p *pipeline) finish() ([]*cluster.Object, []finding.NotJudged) {
	close(p.jobs)
	p.workers.Wait()
	n := 0
	for _, r := range p.results {
		n += len(r.objects)
	}
	objects := make([]*cluster.Object, 0, n)
	var not []finding.NotJudged
	for _, r := range p.results {
		objects = append(objects, r.objects...)
		not = append(not, r.not...)
	}
	return objects, not
}
