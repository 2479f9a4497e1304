package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/finding"
)

// The schema that CI systems read (Jenkins' junit-10.xsd, GitLab's reader): suites of cases, each with at most one of
// failure, error and skipped.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string       `xml:"name,attr"`
	Class   string       `xml:"classname,attr"`
	File    string       `xml:"file,attr,omitempty"`
	Line    int          `xml:"line,attr,omitempty"`
	Failure *junitDetail `xml:"failure"`
	Error   *junitDetail `xml:"error"`
	Skipped *junitDetail `xml:"skipped"`
	Out     string       `xml:"system-out,omitempty"`
}

type junitDetail struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

func (s *junitSuite) add(c junitCase) {
	s.Tests++
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
	s.Cases = append(s.Cases, c)
}

// writeJUnit writes one suite a check: a standing finding is a failure, an accepted one is skipped with the exception's
// reason, one that could not be judged is an error. What was not judged at all is a suite of errors, so that a CI system
// that only counts colours still shows it.
func writeJUnit(w io.Writer, res *check.Result) error {
	byCheck := map[string][]finding.Finding{}
	order := []string{}
	tallies := map[string]check.Tally{}
	for _, t := range res.Checks {
		if _, twice := tallies[t.Check]; !twice {
			order = append(order, t.Check)
		}
		tallies[t.Check] = t
	}
	for _, f := range res.Findings {
		if _, known := tallies[f.Check]; !known && byCheck[f.Check] == nil {
			order = append(order, f.Check)
		}
		byCheck[f.Check] = append(byCheck[f.Check], f)
	}
	all := junitSuites{Name: "bulwark validate"}
	for _, id := range order {
		s := junitSuite{Name: plain(id)}
		class := "bulwark." + plain(id)
		t := tallies[id]
		if t.Pass > 0 {
			s.add(junitCase{Name: plural(t.Pass, "subject passes", "subjects pass"), Class: class})
		}
		if t.NotApplicable > 0 {
			s.add(junitCase{Name: "not applicable to " + plural(t.NotApplicable, "subject", "subjects"), Class: class, Skipped: &junitDetail{Message: "not applicable"}})
		}
		judged := 0
		for _, f := range byCheck[id] {
			c := junitCase{Name: plain(subject(f)), Class: class, File: plain(f.File), Line: max(f.Line, 0)}
			if f.Path != "" {
				c.Name += " " + plain(f.Path)
			}
			switch {
			case f.Verdict == finding.Fail && f.AcceptedBy == 0:
				c.Failure = &junitDetail{Message: plain(f.Message), Type: f.Severity.String(), Text: junitText(f)}
			case f.Verdict == finding.Fail:
				c.Skipped = &junitDetail{Message: accepted(res, f), Text: junitText(f)}
			case f.Verdict == finding.Unknown:
				judged++
				c.Error = &junitDetail{Message: "not judged: " + plain(f.Message), Type: "unknown", Text: junitText(f)}
			default:
				continue
			}
			s.add(c)
		}
		if open := t.Unknown - judged; open > 0 {
			s.add(junitCase{Name: plural(open, "subject", "subjects") + " could not be judged", Class: class, Error: &junitDetail{Message: "not judged; the reasons are in the suite \"not judged\"", Type: "unknown"}})
		}
		if s.Tests > 0 {
			all.Suites = append(all.Suites, s)
		}
	}
	if len(res.Exceptions) > 0 {
		s := junitSuite{Name: "exceptions"}
		for _, e := range exceptionsByState(res.Exceptions) {
			c := junitCase{Name: plain(e.Finding + " on " + e.On), Class: "bulwark.exceptions", File: plain(e.File), Line: max(e.Line, 0),
				Out: fmt.Sprintf("%s: %s, owner %s, expires %s, covers %s: %s", exceptionNumber(e.Number), e.State, plain(e.Owner), plain(e.Expires), plural(e.Matched, "finding", "findings"), plain(e.Reason))}
			if e.State != finding.Used {
				c.Skipped = &junitDetail{Message: string(e.State) + ": " + plain(e.Note)}
			}
			s.add(c)
		}
		all.Suites = append(all.Suites, s)
	}
	if len(res.NotJudged) > 0 {
		s := junitSuite{Name: "not judged"}
		for _, n := range res.NotJudged {
			s.add(junitCase{Name: plain(n.What), Class: "bulwark.not-judged", File: plain(n.File), Line: max(n.Line, 0),
				Error: &junitDetail{Message: plain(n.Reason), Type: "unknown"}})
		}
		all.Suites = append(all.Suites, s)
	}
	for _, s := range all.Suites {
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Errors += s.Errors
		all.Skipped += s.Skipped
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func junitText(f finding.Finding) string {
	lines := []string{f.Severity.String() + ": " + plain(f.Message)}
	for _, l := range []struct{ name, text string }{{"at", place(f.File, f.Line)}, {"field", f.Path}, {"fix", f.Fix}, {"standards", strings.Join(f.Standards, ", ")}} {
		if l.text != "" {
			lines = append(lines, l.name+": "+plain(l.text))
		}
	}
	return strings.Join(lines, "\n")
}

// accepted says which exception accepts a finding, for how long and why.
func accepted(res *check.Result, f finding.Finding) string {
	i := f.AcceptedBy - 1
	if i < 0 || i >= len(res.Exceptions) {
		return "accepted by an exception that the result does not hold"
	}
	e := res.Exceptions[i]
	return fmt.Sprintf("accepted by %s until %s (%s): %s", plain(e.Owner), plain(e.Expires), exceptionNumber(f.AcceptedBy), plain(e.Reason))
}
