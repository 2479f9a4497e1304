package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"charm.land/lipgloss/v2"

	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/finding"
)

// palette colours the table. The zero value writes plain text.
type palette struct{ on bool }

// The 16 colours that every terminal theme defines, so that text stays readable on light and dark ones.
var severityColours = map[finding.Severity]string{finding.Critical: "9", finding.High: "1", finding.Medium: "3", finding.Low: "4", finding.Info: "8"}

func (p palette) paint(s, colour string, bold bool) string {
	if !p.on {
		return s
	}
	st := lipgloss.NewStyle().Bold(bold)
	if colour != "" {
		st = st.Foreground(lipgloss.Color(colour))
	}
	return st.Render(s)
}

func (p palette) severity(s finding.Severity, text string) string {
	return p.paint(text, severityColours[s], true)
}
func (p palette) bold(s string) string  { return p.paint(s, "", true) }
func (p palette) faint(s string) string { return p.paint(s, "8", false) }
func (p palette) warn(s string) string  { return p.paint(s, "3", true) }

// tableWriter writes indented, wrapped lines.
type tableWriter struct {
	*bufio.Writer
	palette
	width int
}

// wrap writes text behind a prefix, and the following lines indented as deep as the prefix is wide.
func (t *tableWriter) wrap(prefix, text string, style func(string) string) {
	indent := lipgloss.Width(prefix)
	// One cell is kept free: a break after a comma or slash puts that character one cell beyond the limit.
	for i, l := range strings.Split(lipgloss.Wrap(text, max(t.width-indent-1, 20), "/,"), "\n") {
		l = strings.TrimRight(l, " ")
		if style != nil {
			l = style(l)
		}
		if i == 0 {
			fmt.Fprintln(t, prefix+l)
		} else {
			fmt.Fprintln(t, strings.Repeat(" ", indent)+l)
		}
	}
}

// writeTable writes for people at a terminal: by severity, then by check, each with its place and the way to mend it.
func writeTable(w io.Writer, res *check.Result, opts Options) error {
	width := opts.Width
	if width <= 0 {
		width = 100
	}
	t := &tableWriter{Writer: bufio.NewWriter(w), palette: palette{opts.Colour}, width: max(width, 40)}
	standing, acceptedOnes, unknown := split(res.Findings)
	var last finding.Severity = -1
	for _, g := range group(standing) {
		if g.Severity != last {
			last = g.Severity
			n := 0
			for _, f := range standing {
				if f.Severity == last {
					n++
				}
			}
			fmt.Fprintf(t, "%s %s\n", t.severity(last, strings.ToUpper(last.String())), t.faint(number(n)))
		}
		t.group(g, opts.perCheck())
	}
	t.accepted(acceptedOnes, res, opts.perCheck())
	t.exceptions(res.Exceptions)
	t.unjudged(unjudgedOf(res.NotJudged, unknown), opts.perCheck())
	t.summary(res, standing, acceptedOnes, len(res.NotJudged)+len(unknown))
	return t.Flush()
}

func (t *tableWriter) group(g findingGroup, perCheck int) {
	t.wrap("  ", plain(g.Title)+" ("+plain(g.Check)+")", t.bold)
	shown := g.Findings
	if len(shown) > perCheck {
		shown = shown[:perCheck]
	}
	// Places are aligned when they are short enough to leave room for the message; else the message goes below.
	column := 0
	for _, f := range shown {
		column = max(column, lipgloss.Width(where(f)))
	}
	below := column > t.width*2/5
	for _, f := range shown {
		message := plain(clip(f.Message, 600))
		at := where(f)
		if below {
			t.wrap("    ", at, nil)
			t.wrap("      ", message, nil)
		} else {
			t.wrap("    "+at+strings.Repeat(" ", column-lipgloss.Width(at)+2), message, nil)
		}
		if f.Fix != "" && f.Fix != g.Fix {
			t.wrap("      fix: ", plain(clip(f.Fix, 400)), nil)
		}
	}
	if n := len(g.Findings) - len(shown); n > 0 {
		fmt.Fprintf(t, "    %s\n", t.faint("and "+number(n)+" more; -o json lists all"))
	}
	if g.Fix != "" {
		t.wrap("    "+t.paint("fix:", "2", false)+" ", plain(clip(g.Fix, 400)), nil)
	}
	fmt.Fprintln(t)
}

// where gives a finding's place and object in one string.
func where(f finding.Finding) string {
	at, s := plain(clip(place(f.File, f.Line), 200)), plain(clip(subject(f), 200))
	if at == "" {
		return s
	}
	return at + "  " + s
}

func (t *tableWriter) accepted(findings []finding.Finding, res *check.Result, perCheck int) {
	if len(findings) == 0 {
		return
	}
	fmt.Fprintf(t, "%s %s\n", t.bold("ACCEPTED"), t.faint(number(len(findings))))
	for i, f := range findings {
		if i == perCheck*2 {
			fmt.Fprintf(t, "    %s\n", t.faint("and "+number(len(findings)-i)+" more; -o json lists all"))
			break
		}
		t.wrap("    ", plain(f.Check)+"  "+where(f), nil)
		t.wrap("      ", clip(accepted(res, f), 400), t.faint)
	}
	fmt.Fprintln(t)
}

func (t *tableWriter) exceptions(all []finding.ExceptionResult) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(t, "%s %s\n", t.bold("EXCEPTIONS"), t.faint(number(len(all))))
	for i, e := range exceptionsByState(all) {
		if i == maxExceptions {
			fmt.Fprintf(t, "    %s\n", t.faint("and "+number(len(all)-i)+" more; -o json lists all"))
			break
		}
		state := fmt.Sprintf("%-9s", e.State)
		if e.State == finding.Used {
			state = t.faint(state)
		} else {
			state = t.warn(state)
		}
		text := fmt.Sprintf("%s %s on %s, owner %s, expires %s, covers %s", exceptionNumber(e.Number), e.Finding, e.On, e.Owner, e.Expires, number(e.Matched))
		if at := place(e.File, e.Line); at != "" {
			text += " (" + at + ")"
		}
		t.wrap("    "+state+"  ", plain(clip(text, 500)), nil)
		if e.Note != "" {
			t.wrap("               ", plain(clip(e.Note, 300)), t.faint)
		}
	}
	fmt.Fprintln(t)
}

func (t *tableWriter) unjudged(groups []unjudged, perCheck int) {
	if len(groups) == 0 {
		return
	}
	total := 0
	for _, g := range groups {
		total += len(g.Things)
	}
	fmt.Fprintf(t, "%s %s\n", t.warn("NOT JUDGED"), t.faint(number(total)))
	for i, g := range groups {
		if i == maxReasons {
			fmt.Fprintf(t, "    %s\n", t.faint("and "+plural(len(groups)-i, "more reason", "more reasons")+"; -o json lists all"))
			break
		}
		t.wrap("  ? ", plain(clip(g.Reason, 400)), nil)
		for j, n := range g.Things {
			if j == perCheck {
				fmt.Fprintf(t, "      %s\n", t.faint("and "+number(len(g.Things)-j)+" more; -o json lists all"))
				break
			}
			text := n.What
			if at := place(n.File, n.Line); at != "" && at != n.What {
				text = at + "  " + text
			}
			t.wrap("      ", plain(clip(text, 300)), t.faint)
		}
	}
	fmt.Fprintln(t)
}

func (t *tableWriter) summary(res *check.Result, standing, acceptedOnes []finding.Finding, notJudged int) {
	counts := map[finding.Severity]int{}
	for _, f := range standing {
		counts[f.Severity]++
	}
	var parts []string
	for _, s := range finding.Severities {
		if counts[s] > 0 {
			parts = append(parts, t.severity(s, number(counts[s])+" "+s.String()))
		}
	}
	switch {
	case len(parts) == 0 && res.Summary.Objects == 0 && len(res.Findings) == 0:
		parts = append(parts, t.warn("no object was looked at"))
	case len(parts) == 0:
		parts = append(parts, "no finding stands")
	}
	if n := len(acceptedOnes); n > 0 {
		parts = append(parts, number(n)+" accepted")
	}
	if notJudged > 0 {
		parts = append(parts, t.warn(number(notJudged)+" not judged"))
	}
	fmt.Fprintf(t, "%s · %s\n", strings.Join(parts, " · "), t.faint(plural(res.Summary.Objects, "object", "objects")+", "+plural(res.Summary.Checks, "check", "checks")))
}
