package check

import (
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/source"
)

// Judge is what a check speaks through: the facts of the whole snapshot to look things up in, and the ways to say that
// its subject fails, cannot be judged, or is not one. A judge function that says nothing has passed its subject.
type Judge struct {
	*Facts

	check     *Check
	tally     *Tally
	out       *[]finding.Finding
	object    *cluster.Object
	ref       finding.Object
	container string
	// at is the place of a subject that is no object of the snapshot.
	at   source.Pos
	said said
	open bool
}

type said uint8

const (
	nothing said = iota
	skipped
	unknown
	failed
)

// Fail says that the subject fails, at a field's path in the object. The message names the value that is wrong and never
// a secret.
func (j *Judge) Fail(path, message string) { j.FailAs(j.check.Severity, path, message) }

// FailAs is Fail with a severity other than the check's own.
func (j *Judge) FailAs(s finding.Severity, path, message string) {
	j.said = failed
	j.add(finding.Fail, s, path, message)
}

// FailAt is Fail at a place of the file instead of a field's path.
func (j *Judge) FailAt(at source.Pos, message string) {
	j.said = failed
	j.add(finding.Fail, j.check.Severity, "", message)
	f := &(*j.out)[len(*j.out)-1]
	if at.Line > 0 {
		f.File, f.Line = at.File, at.Line
	}
}

// Unknown says that the subject could not be judged, and why.
func (j *Judge) Unknown(path, why string) {
	j.said = max(j.said, unknown)
	j.add(finding.Unknown, j.check.Severity, path, why)
}

// Skip says that the check does not apply to the subject.
func (j *Judge) Skip() { j.said = max(j.said, skipped) }

// Subject opens the judgement of an object in a check of the whole snapshot, and closes the one before.
func (j *Judge) Subject(o *cluster.Object) {
	j.close()
	j.begin(j.check, j.tally, o, o.Ref(), "")
}

// SubjectSpec is Subject for something that the snapshot does not hold: a part of the spec, or an object that is missing.
func (j *Judge) SubjectSpec(at source.Pos, ref finding.Object) {
	j.close()
	j.begin(j.check, j.tally, nil, ref, "")
	j.at = at
}

func (j *Judge) begin(c *Check, t *Tally, o *cluster.Object, ref finding.Object, container string) {
	j.check, j.tally, j.object, j.ref, j.container, j.said, j.open = c, t, o, ref, container, nothing, true
}

// close counts the verdict of the open judgement.
func (j *Judge) close() {
	if !j.open {
		return
	}
	j.open = false
	switch j.said {
	case failed:
		j.tally.Fail++
	case unknown:
		j.tally.Unknown++
	case skipped:
		j.tally.NotApplicable++
	default:
		j.tally.Pass++
	}
}

func (j *Judge) add(v finding.Verdict, s finding.Severity, path, message string) {
	f := finding.Finding{
		Check: j.check.ID, Title: j.check.Title, Verdict: v, Severity: s,
		Object: j.ref, Container: j.container, Path: path,
		Message: message, Fix: j.check.Fix, Standards: j.check.Standards,
	}
	if j.object != nil {
		at := j.object.Place(path)
		f.File, f.Line = at.File, at.Line
	} else {
		f.File, f.Line = j.at.File, j.at.Line
	}
	f.Stamp()
	*j.out = append(*j.out, f)
}

// lesser is one severity below, but never below low.
func lesser(s finding.Severity) finding.Severity { return max(finding.Low, s-1) }
