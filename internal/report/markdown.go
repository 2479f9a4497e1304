package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/finding"
)

// escapeMarkdown makes foreign text inert inside a line of GitHub-flavoured Markdown, in a table's cell too: no markup, no
// HTML, no links that a renderer makes of its own, no mention that notifies somebody.
func escapeMarkdown(s string) string {
	s = plain(s)
	var b strings.Builder
	b.Grow(len(s) + 8)
	for i, r := range s {
		switch r {
		case '&':
			b.WriteString("&amp;")
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '@':
			// A mention counts after rendering, so an escape does not help; an empty comment splits the text.
			b.WriteString("@<!-- -->")
		case '\\', '`', '*', '_', '[', ']', '|', '~', '!', ':', '$':
			b.WriteByte('\\')
			b.WriteRune(r)
		case '#':
			// Issue references ("#12") count after rendering as well.
			b.WriteString("#<!-- -->")
		case '.':
			if i >= 3 && strings.EqualFold(s[i-3:i], "www") {
				b.WriteByte('\\')
			}
			b.WriteByte('.')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// codeMarkdown shows foreign text as code, which neither mentions nor links.
func codeMarkdown(s string) string {
	s = plain(s)
	switch {
	case strings.TrimSpace(s) == "":
		return "–"
	case strings.ContainsAny(s, "`|\\<&"):
		// A code span inside a table cannot hold these in every renderer.
		return "<code>" + escapeMarkdown(s) + "</code>"
	}
	return "`" + strings.TrimSpace(s) + "`"
}

// maxComment is the size in bytes that a validation's Markdown stays below: GitHub refuses a comment of more than 65,536
// characters. A posture report in Markdown is a file and may be longer.
const (
	maxComment          = 62_000
	maxDocumentMarkdown = 1 << 20
)

// markdownWriter keeps the first error, so that the text reads as text, and counts what it wrote.
type markdownWriter struct {
	w       io.Writer
	limit   int
	written int
	err     error
}

func (m *markdownWriter) linef(format string, args ...any) {
	if m.err == nil {
		var n int
		n, m.err = fmt.Fprintf(m.w, format+"\n", args...)
		m.written += n
	}
}

// full reports whether a share of the limit, in percent, is used up. Each part of the text has its share, so that
// endless findings do not push out what was not judged.
func (m *markdownWriter) full(percent int) bool { return m.written > m.limit/100*percent }

func (m *markdownWriter) row(cells ...string) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "–"
		}
	}
	m.linef("| %s |", strings.Join(cells, " | "))
}

func (m *markdownWriter) head(cells ...string) {
	m.row(cells...)
	m.linef("|%s", strings.Repeat(" --- |", len(cells)))
}

// severityMarks give every severity a shape, so that colour is not the only signal.
var severityMarks = map[finding.Severity]string{finding.Critical: "⛔", finding.High: "🔴", finding.Medium: "🟠", finding.Low: "🔵", finding.Info: "⚪"}

// writeMarkdown writes a comment for a pull request: the counts first, then the findings behind folds, the worst open.
func writeMarkdown(w io.Writer, res *check.Result, opts Options) error {
	m := &markdownWriter{w: w, limit: maxComment}
	standing, acceptedOnes, unknown := split(res.Findings)
	notJudged := len(res.NotJudged) + len(unknown)
	m.linef("## Bulwark: %s", validationHeadline(res, standing, notJudged))
	m.linef("")
	m.linef("%s looked at by %s.", plural(res.Summary.Objects, "object", "objects"), plural(res.Summary.Checks, "check", "checks"))
	m.linef("")
	counts := map[finding.Severity]int{}
	for _, f := range standing {
		counts[f.Severity]++
	}
	m.head("⛔ critical", "🔴 high", "🟠 medium", "🔵 low", "⚪ info", "accepted", "❔ not judged")
	var cells []string
	for _, s := range finding.Severities {
		cells = append(cells, number(counts[s]))
	}
	m.row(append(cells, number(len(acceptedOnes)), number(notJudged))...)
	m.findings(group(standing), opts.perCheck())
	m.accepted(acceptedOnes, res, opts.perCheck())
	m.exceptions(res.Exceptions)
	m.unjudged(unjudgedOf(res.NotJudged, unknown), opts.perCheck())
	return m.err
}

// validationHeadline is the validation in one sentence.
func validationHeadline(res *check.Result, standing []finding.Finding, notJudged int) string {
	var s string
	switch n := len(standing); {
	case n == 0 && res.Summary.Objects == 0 && len(res.Findings) == 0:
		s = "no object was looked at"
	case n == 0:
		s = "no finding stands"
	case n == 1:
		s = "1 finding stands"
	default:
		s = number(n) + " findings stand"
	}
	if notJudged > 0 {
		s += ", " + number(notJudged) + " not judged"
	}
	return s
}

func (m *markdownWriter) findings(groups []findingGroup, perCheck int) {
	var last finding.Severity = -1
	for i, g := range groups {
		if m.full(60) {
			n := 0
			for _, o := range groups[i:] {
				n += len(o.Findings)
			}
			m.linef("\n… and %s with %s more; the JSON output lists all.", plural(len(groups)-i, "check", "checks"), plural(n, "finding", "findings"))
			break
		}
		if g.Severity != last {
			last = g.Severity
			m.linef("\n### %s %s\n", severityMarks[g.Severity], title(g.Severity.String()))
		}
		open := ""
		if g.Severity >= finding.High {
			open = " open"
		}
		m.linef("<details%s><summary><b>%s</b> · <code>%s</code> · %s</summary>\n", open, escapeMarkdown(clip(g.Title, 200)), escapeMarkdown(clip(g.Check, 120)), number(len(g.Findings)))
		if g.Fix != "" {
			m.linef("**Mend it:** %s\n", escapeMarkdown(clip(g.Fix, 500)))
		}
		if len(g.Standards) > 0 {
			m.linef("Standards: %s\n", escapeMarkdown(clip(strings.Join(g.Standards, ", "), 400)))
		}
		m.head("where", "object", "what was found")
		shown := 0
		for _, f := range g.Findings {
			if shown == perCheck || m.full(60) {
				break
			}
			shown++
			message := escapeMarkdown(clip(f.Message, 400))
			if f.Fix != "" && f.Fix != g.Fix {
				message += " *Mend it:* " + escapeMarkdown(clip(f.Fix, 300))
			}
			m.row(codeMarkdown(clip(place(f.File, f.Line), 200)), codeMarkdown(clip(subject(f), 200)), message)
		}
		if n := len(g.Findings) - shown; n > 0 {
			m.linef("\n… and %s more; the JSON output lists all.", number(n))
		}
		m.linef("\n</details>\n")
	}
}

func (m *markdownWriter) accepted(findings []finding.Finding, res *check.Result, perCheck int) {
	if len(findings) == 0 {
		return
	}
	m.linef("\n<details><summary><b>Accepted findings</b> · %s</summary>\n", number(len(findings)))
	m.head("check", "where", "object", "what was found", "accepted")
	shown := 0
	for _, f := range findings {
		if shown == perCheck*5 || m.full(72) {
			break
		}
		shown++
		m.row(codeMarkdown(clip(f.Check, 120)), codeMarkdown(clip(place(f.File, f.Line), 200)), codeMarkdown(clip(subject(f), 200)), escapeMarkdown(clip(f.Message, 400)), escapeMarkdown(clip(accepted(res, f), 400)))
	}
	if n := len(findings) - shown; n > 0 {
		m.linef("\n… and %s more; the JSON output lists all.", number(n))
	}
	m.linef("\n</details>\n")
}

func (m *markdownWriter) exceptions(all []finding.ExceptionResult) {
	if len(all) == 0 {
		return
	}
	m.linef("\n### Exceptions\n")
	m.head("state", "no.", "finding", "on", "owner", "expires", "covers", "reason and note")
	for i, e := range exceptionsByState(all) {
		if i == maxExceptions || m.full(84) {
			m.linef("\n… and %s more.", number(len(all)-i))
			break
		}
		text := escapeMarkdown(clip(e.Reason, 300))
		if e.Note != "" {
			text += " — " + escapeMarkdown(clip(e.Note, 300))
		}
		m.row("**"+string(e.State)+"**", exceptionNumber(e.Number), codeMarkdown(clip(e.Finding, 120)), codeMarkdown(clip(e.On, 200)), escapeMarkdown(clip(e.Owner, 120)), escapeMarkdown(clip(e.Expires, 40)), number(e.Matched), text)
	}
}

func (m *markdownWriter) unjudged(groups []unjudged, perCheck int) {
	if len(groups) == 0 {
		return
	}
	total := 0
	for _, g := range groups {
		total += len(g.Things)
	}
	m.linef("\n### ❔ Not judged: %s\n", number(total))
	m.linef("Nobody knows whether these are good. They count as neither passed nor failed.\n")
	m.head("what", "where", "why not")
	for i, g := range groups {
		if i == maxReasons || m.full(95) {
			m.linef("\n… and %s more.", plural(len(groups)-i, "reason", "reasons"))
			break
		}
		for j, n := range g.Things {
			if j == perCheck || m.full(95) {
				m.row(fmt.Sprintf("… and %s more", number(len(g.Things)-j)), "", escapeMarkdown(clip(g.Reason, 400)))
				break
			}
			m.row(escapeMarkdown(clip(n.What, 200)), codeMarkdown(clip(place(n.File, n.Line), 200)), escapeMarkdown(clip(g.Reason, 400)))
		}
	}
}

// Bounds of the formats for people; what they leave out is counted.
const (
	maxExceptions = 200
	maxReasons    = 50
)

func title(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
