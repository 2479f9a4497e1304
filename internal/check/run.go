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
			for p := range next {
				j := &Judge{Facts: facts, out: &found[p]}
				pieces[p](j, tallies[n])
			}
		})
	}
	for p := range pieces {
		next <- p
	}
	close(next)
	wg.Wait()

	r := &Result{Version: "v1", NotJudged: slices.Concat(snap.NotJudged, facts.notJudged)}
	r.Findings = slices.Concat(found...)
	if r.Findings == nil {
		r.Findings = []finding.Finding{}
	}
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
	sortFindings(r.Findings)
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

// sortFindings puts what failed first, the worst on top, then goes by place and name. It is stable, and equal findings
// come in the order of the snapshot.
func sortFindings(fs []finding.Finding) {
	slices.SortStableFunc(fs, func(a, b finding.Finding) int {
		if (a.Verdict == finding.Fail) != (b.Verdict == finding.Fail) {
			if a.Verdict == finding.Fail {
				return -1
			}
			return 1
		}
		return cmp.Or(
			cmp.Compare(b.Severity, a.Severity),
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Object.Namespace, b.Object.Namespace),
			cmp.Compare(a.Object.Kind, b.Object.Kind),
			cmp.Compare(a.Object.Name, b.Object.Name),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Check, b.Check),
			cmp.Compare(a.Path, b.Path),
		)
	})
}
