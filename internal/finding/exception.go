package finding

import (
	"fmt"
	"path"
	"strings"
	"time"
)

// Exception accepts findings for a time. It is always somebody's, for a reason, until a day.
type Exception struct {
	// Finding is the check's ID; no patterns.
	Finding string `json:"finding"`
	// On names what it covers: "component/maestro", "Deployment intelgraph-production/maestro" or a pattern of these in
	// which * stands for anything but a slash.
	On     string `json:"on"`
	Owner  string `json:"owner"`
	Reason string `json:"reason"`
	// Expires is the last day on which the exception holds, YYYY-MM-DD.
	Expires string `json:"expires"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
}

// ExceptionState says what became of an exception in a run.
type ExceptionState string

// The states of an exception.
const (
	Used     ExceptionState = "used"
	Unused   ExceptionState = "unused"
	Expired  ExceptionState = "expired"
	TooBroad ExceptionState = "too broad"
)

// ExceptionResult is an exception with what it did.
type ExceptionResult struct {
	Exception
	State ExceptionState `json:"state"`
	// Matched counts the findings that it covers, also when it no longer accepts them.
	Matched int `json:"matched"`
	// Note says what to do about a state other than used.
	Note string `json:"note,omitempty"`
}

// TooBroadAbove is the number of distinct objects above which one exception is called too broad, unless it names one
// component. It still accepts: a tool that changes verdicts behind its user's back is not trusted; but it says so.
const TooBroadAbove = 5

// Subject gives the names by which an exception may refer to a finding's object: "Kind ns/name", "ns/name" and, where
// the object belongs to a component of the spec, "component/NAME".
type Subject func(Finding) []string

// Accept marks the findings that exceptions cover and returns what became of each exception. Day is today's date; the
// package takes no clock. Findings with verdict unknown are never accepted: an exception is about what was seen.
func Accept(findings []Finding, exceptions []Exception, day time.Time, subject Subject) []ExceptionResult {
	out := make([]ExceptionResult, len(exceptions))
	today := day.Format("2006-01-02")
	for i, e := range exceptions {
		r := ExceptionResult{Exception: e, State: Unused}
		objects := map[Object]bool{}
		expired := e.Expires < today
		first := 0 // the exception that already accepts what this one would
		accepts := 0
		for j := range findings {
			f := &findings[j]
			if f.Check != e.Finding || f.Verdict != Fail || !covers(e.On, subject(*f)) {
				continue
			}
			r.Matched++
			objects[f.Object] = true
			switch {
			case expired:
			case f.AcceptedBy == 0:
				f.AcceptedBy = i + 1
				accepts++
			case first == 0:
				first = f.AcceptedBy
			}
		}
		_, badPattern := path.Match(e.On, "")
		switch {
		case expired:
			r.State, r.Note = Expired, "expired on "+e.Expires+"; mend the finding or renew the exception with its owner"
		case r.Matched == 0 && badPattern != nil:
			r.Note = fmt.Sprintf("%q is not a valid pattern, so it covers nothing; close its brackets", e.On)
		case r.Matched == 0:
			r.Note = "covers nothing of what was judged; remove it"
		case accepts == 0:
			r.Note = fmt.Sprintf("exception %d already accepts all that it covers; remove one of the two", first)
		case len(objects) > TooBroadAbove && !strings.HasPrefix(e.On, "component/"), strings.Trim(e.On, "*/ ") == "":
			r.State, r.Note = TooBroad, "covers many objects; name the ones that are meant"
		default:
			r.State = Used
		}
		out[i] = r
	}
	return out
}

func covers(pattern string, names []string) bool {
	for _, n := range names {
		if pattern == n {
			return true
		}
		if ok, err := path.Match(pattern, n); err == nil && ok {
			return true
		}
	}
	return false
}
