package check

import (
	"cmp"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/spec"
)

// Options says what a snapshot is judged against.
type Options struct {
	// Spec and Plan are nil without a Platform spec. Plan is what Spec compiles to.
	Spec *spec.Platform
	Plan *artifact.Plan
	// Exceptions accept findings; those of Spec are not added by themselves, see Exceptions.
	Exceptions []finding.Exception
	// Day is today. Ends of support and exceptions are judged by it.
	Day time.Time
	// Only runs just these checks, all when it is empty; Skip leaves some out. Unknown names are ignored: see Known.
	Only, Skip []string
}

// chunk is the number of objects that one goroutine takes at a time: enough to keep locks out of the profile, few enough
// to share the end of the work.
const chunk = 64

// Run judges a snapshot. It uses all processors that Go may use; the result does not depend on how many.
func Run(snap *cluster.Snapshot, opts Options) *Result {
	checks := selected(opts)
	facts := gather(snap, opts)
	var perContainer, perWorkload, perSnapshot []int
	byKind := map[string][]int{}
	var everyKind []int
	for i, c := range checks {
		if c.Container != nil {
			perContainer = append(perContainer, i)
		}
		if c.Workload != nil {
			perWorkload = append(perWorkload, i)
		}
		if c.Snapshot != nil {
			perSnapshot = append(perSnapshot, i)
		}
		for _, k := range c.Kinds {
			if k == "*" {
				everyKind = append(everyKind, i)
			} else {
				byKind[k] = append(byKind[k], i)
			}
		}
	}

	// The work is cut into pieces whose results are joined in the order of the pieces, so that the order of goroutines
	// cannot be seen.
	var pieces []func(j *Judge, t []Tally)
	for at := 0; at < len(facts.workloads); at += chunk {
		part := facts.workloads[at:min(at+chunk, len(facts.workloads))]
		pieces = append(pieces, func(j *Judge, t []Tally) {
			for _, w := range part {
				judgeWorkload(j, t, checks, perContainer, perWorkload, w)
			}
		})
	}
	for at := 0; at < len(snap.Objects); at += chunk {
		part := snap.Objects[at:min(at+chunk, len(snap.Objects))]
		pieces = append(pieces, func(j *Judge, t []Tally) {
			for _, o := range part {
				judgeObject(j, t, checks, everyKind, o)
				if len(byKind) > 0 {
					judgeObject(j, t, checks, byKind[o.CurrentGroup()+"/"+o.Kind], o)
				}
			}
		})
	}
	for _, i := range perSnapshot {
		pieces = append(pieces, func(j *Judge, t []Tally) {
			j.check, j.tally, j.open = checks[i], &t[i], false
			checks[i].Snapshot(j)
			j.close()
		})
	}

	found := make([][]finding.Finding, len(pieces))
	workers := max(1, min(runtime.GOMAXPROCS(0), len(pieces)))
	tallies := make([][]Tally, workers)
	next := make(chan int)
	var wg sync.WaitGroup
	for n := range workers {
		tallies[n] = make([]Tally, len(checks))
		wg.Go(func() {
			var scratch []finding.Finding // grown once, so that each piece costs what it holds
			for p := range next {
				scratch = scratch[:0]
				j := &Judge{Facts: facts, out: &scratch}
				pieces[p](j, tallies[n])
				found[p] = slices.Clone(scratch)
			}
		})
	}
	for p := range pieces {
		next <- p
	}
	close(next)
	wg.Wait()

	r := &Result{Version: "v1", NotJudged: slices.Concat(snap.NotJudged, facts.notJudged)}
	r.Findings = joined(found)
	if r.NotJudged == nil {
		r.NotJudged = []finding.NotJudged{}
	}
	for i, c := range checks {
		t := Tally{Check: c.ID, Title: c.Title, Severity: c.Severity}
		for _, w := range tallies {
			t.Pass += w[i].Pass
			t.Fail += w[i].Fail
			t.NotApplicable += w[i].NotApplicable
			t.Unknown += w[i].Unknown
		}
		r.Checks = append(r.Checks, t)
		r.Summary.Pass += t.Pass
		r.Summary.Fail += t.Fail
		r.Summary.NotApplicable += t.NotApplicable
		r.Summary.Unknown += t.Unknown
	}
	r.Exceptions = finding.Accept(r.Findings, opts.Exceptions, opts.Day, facts.subjects())
	for i := range r.Exceptions {
		if e := &r.Exceptions[i]; e.State == finding.Unused && e.Matched == 0 && !slices.ContainsFunc(checks, func(c *Check) bool { return c.ID == e.Finding }) {
			e.Note = "its check did not run, so nothing is known of what it covers"
		}
	}
	r.Summary.Objects, r.Summary.Workloads, r.Summary.Checks = len(snap.Objects), len(facts.workloads), len(checks)
	r.Summary.NotJudged = len(r.NotJudged)
	for i := range r.Findings {
		switch f := &r.Findings[i]; {
		case f.Verdict != finding.Fail:
		case f.AcceptedBy > 0:
			r.Summary.Accepted++
		default:
			r.Summary.Findings.Add(f.Severity)
		}
	}
	return r
}

// selected gives the checks to run. A check that needs a spec does not run without one.
func selected(opts Options) []*Check {
	var out []*Check
	for _, c := range All() {
		if c.NeedsSpec && opts.Spec == nil || len(opts.Only) > 0 && !slices.Contains(opts.Only, c.ID) || slices.Contains(opts.Skip, c.ID) {
			continue
		}
		out = append(out, c)
	}
	return out
}

func judgeWorkload(j *Judge, t []Tally, checks []*Check, perContainer, perWorkload []int, w *cluster.Workload) {
	if finished(w) {
		return
	}
	ref := w.Ref()
	// A pod that a controller of this snapshot made repeats its template, and is judged there. Ephemeral containers are
	// the exception: they exist in the pod only.
	if !w.Owned {
		for _, i := range perWorkload {
			j.begin(checks[i], &t[i], w.Object, ref, "")
			checks[i].Workload(j, w)
			j.close()
		}
	} else if len(w.Spec.EphemeralContainers) == 0 {
		return
	}
	containers := w.Containers()
	for n := range containers {
		c := &containers[n]
		if w.Owned && c.Kind != cluster.Ephemeral {
			continue
		}
		for _, i := range perContainer {
			j.begin(checks[i], &t[i], w.Object, ref, c.Name)
			checks[i].Container(j, w, c)
			j.close()
		}
	}
}

func judgeObject(j *Judge, t []Tally, checks []*Check, which []int, o *cluster.Object) {
	if len(which) == 0 {
		return
	}
	ref := o.Ref()
	for _, i := range which {
		j.begin(checks[i], &t[i], o, ref, "")
		checks[i].Object(j, o)
		j.close()
	}
}

// joined gives all findings: what failed first, the worst on top, then by place and name; equal ones in the order of the
// snapshot. Numbers are sorted and not the findings, which are large and many.
func joined(found [][]finding.Finding) []finding.Finding {
	type number struct{ piece, at int32 }
	n := 0
	for _, p := range found {
		n += len(p)
	}
	// The verdict and the severity come first, so that what has to be compared by name is a part of the whole.
	var classes [2][finding.Critical + 1][]number
	for p := range found {
		for i := range found[p] {
			f := &found[p][i]
			v := 0
			if f.Verdict != finding.Fail {
				v = 1
			}
			c := &classes[v][min(max(f.Severity, finding.Info), finding.Critical)]
			*c = append(*c, number{int32(p), int32(i)})
		}
	}
	out := make([]finding.Finding, 0, n)
	for v := range classes {
		for _, s := range finding.Severities {
			c := classes[v][s]
			slices.SortFunc(c, func(x, y number) int {
				a, b := &found[x.piece][x.at], &found[y.piece][y.at]
				if d := cmp.Or(
					cmp.Compare(a.File, b.File),
					cmp.Compare(a.Object.Namespace, b.Object.Namespace),
					cmp.Compare(a.Object.Kind, b.Object.Kind),
					cmp.Compare(a.Object.Name, b.Object.Name),
					cmp.Compare(a.Line, b.Line),
				); d != 0 {
					return d
				}
				return cmp.Or(cmp.Compare(a.Check, b.Check), cmp.Compare(a.Path, b.Path), cmp.Compare(x.piece, y.piece), cmp.Compare(x.at, y.at))
			})
			for _, x := range c {
				out = append(out, found[x.piece][x.at])
			}
		}
	}
	return out
}
