package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/prove"
)

// WriteDocumentMarkdown writes the posture report for a pull request, a wiki or a ticket: the same words and numbers as
// the page, bounded like it.
func WriteDocumentMarkdown(w io.Writer, d *Document) error {
	m := &markdownWriter{w: w, limit: maxDocumentMarkdown}
	p := d.Posture()
	m.linef("# %s: security posture\n", escapeMarkdown(clip(d.Platform, 120)))
	m.linef("**%s %s** %s\n", tones[p.Tone].Mark, tones[p.Tone].Text, escapeMarkdown(p.Headline))
	for _, n := range p.Notes {
		m.linef("- %s", escapeMarkdown(n))
	}
	m.linef("")
	m.head("", "")
	for _, f := range d.facts() {
		m.row(f.Name, escapeMarkdown(f.Text))
	}

	m.linef("\n## Layers\n")
	m.head("layer", "declared", "present", "enforcing", "proven", "not protected")
	for i, l := range p.Layers {
		if i == 40 {
			m.linef("\n… and %s more; the JSON report has all.", plural(len(p.Layers)-i, "layer", "layers"))
			break
		}
		present := "no cluster was read"
		if l.Looked {
			present = fmt.Sprintf("%d of %d", l.Present, l.Declared)
			if l.Unlisted > 0 {
				present += fmt.Sprintf(", %d may not be listed", l.Unlisted)
			}
		}
		proven := "not attacked"
		if l.Attacks > 0 {
			proven = fmt.Sprintf("%d of %d blocked", l.Blocked, l.Attacks)
			if rest := shares(0, l.Detected, l.Missed, l.Unknown, l.NotTried); len(rest) > 0 {
				proven += "; " + spoken(rest)
			}
		}
		enforcing := ""
		if len(l.Controls) > 0 {
			enforcing = fmt.Sprintf("%d of %d controls", len(l.Enforcing), len(l.Controls))
		}
		m.row(escapeMarkdown(clip(string(l.Layer.Layer), 40)), plural(l.Declared, "object", "objects"), present, enforcing, proven, number(l.Gaps))
	}

	m.attacks(d)
	m.depth(d)

	m.linef("\n## Findings\n")
	if d.Validation == nil {
		m.linef("Configuration was not validated for this report.")
	} else {
		standing, acceptedOnes, _ := split(d.Validation.Findings)
		if d.Validation.Summary.Objects == 0 && len(d.Validation.Findings) == 0 {
			m.linef("No object was looked at, so there is nothing to say about configuration.")
		} else if len(standing) == 0 {
			m.linef("No finding stands.")
		}
		m.findings(group(standing), maxRowsPerCheck)
		m.accepted(acceptedOnes, d.Validation, maxRowsPerCheck)
		m.exceptions(d.Validation.Exceptions)
	}

	m.linef("\n## Not protected\n")
	if len(d.Gaps) == 0 {
		m.linef("The plan states no gap. It knows of gaps only in what the spec asks for.")
	} else {
		m.linef("What the spec asks for and no layer of this plan protects.\n")
		m.head("layer", "what", "why not", "asked for at")
		for i, g := range d.Gaps {
			if i == 300 || m.full(90) {
				m.linef("\n… and %s more; the JSON report has all.", number(len(d.Gaps)-i))
				break
			}
			m.row(escapeMarkdown(string(g.Layer)), escapeMarkdown(clip(g.Subject, 200)), escapeMarkdown(clip(g.Reason, 400)), codeMarkdown(clip(g.Because, 200)))
		}
	}
	m.unjudged(d.unjudged(), maxRowsPerCheck)
	m.linef("\nWritten by Bulwark %s. *Blocked* means that the refusal named the control that was meant to refuse; a *harmless twin* is the same request with one field set right, and must be admitted.", escapeMarkdown(d.Tool))
	return m.err
}

func (m *markdownWriter) attacks(d *Document) {
	m.linef("\n## Attacks\n")
	if d.Proof == nil || len(d.Proof.Attacks) == 0 {
		m.linef("No attack results were given, so nothing here is proven.")
		return
	}
	by := map[artifact.Layer][]prove.Result{}
	for _, a := range d.Proof.Attacks {
		by[a.Layer] = append(by[a.Layer], a)
	}
	rows := 0
	for i, l := range layerOrder(by) {
		if i == 40 || m.full(40) {
			m.linef("\n… and %s more; the JSON report has all.", plural(len(by)-i, "layer", "layers"))
			break
		}
		s := Tally(by[l])
		open := ""
		if s.Blocked < s.Attacks {
			open = " open"
		}
		m.linef("<details%s><summary><b>%s</b> · %s</summary>\n", open, escapeMarkdown(clip(string(l), 40)), spoken(shares(s.Blocked, s.Detected, s.Missed, s.Unknown-s.NoEngine, s.NoEngine)))
		m.head("verdict", "attack", "refused by", "harmless twin", "evidence")
		slices.SortStableFunc(by[l], func(a, b prove.Result) int { return verdictRank(a.Verdict) - verdictRank(b.Verdict) })
		for i, a := range by[l] {
			if rows == maxPageAttacks || m.full(40) {
				m.linef("\n… and %s more; the JSON report has all.", number(len(by[l])-i))
				break
			}
			rows++
			r := newAttackRow(a, nil, false)
			refused := make([]string, 0, len(a.By))
			for _, c := range a.By[:min(len(a.By), 12)] {
				refused = append(refused, codeMarkdown(clip(c, 100)))
			}
			m.row("**"+r.Mark+" "+r.Verdict+"**", escapeMarkdown(clip(a.Title, 200))+" "+codeMarkdown(clip(a.ID, 100)), strings.Join(refused, ", "), r.TwinMark+" "+r.Twin, escapeMarkdown(clip(a.Evidence, 240)))
		}
		m.linef("\n</details>\n")
	}
}

func (m *markdownWriter) depth(d *Document) {
	m.linef("\n## Defence in depth\n")
	if d.Proof == nil || d.Proof.Ablation == nil || len(d.Proof.Ablation.Controls) == 0 {
		m.linef("No control was removed to see what gets through, so nobody knows which attacks rest on a single control. `bulwark prove --ablate` finds out.")
		return
	}
	single := d.Proof.Ablation.SingleLayer
	blocked := 0
	for _, a := range d.Proof.Attacks {
		if a.Verdict == finding.Blocked {
			blocked++
		}
	}
	m.linef("%s of %s on one control alone.\n", number(len(single)), plural(blocked, "blocked attack rests", "blocked attacks rest"))
	m.head("control removed", "layer", "gets through without it", "not known")
	for i, c := range d.Proof.Ablation.Controls {
		if i == maxDepthControls || m.full(45) {
			m.linef("\n… and %s more; the JSON report has all.", number(len(d.Proof.Ablation.Controls)-i))
			break
		}
		through := escapeMarkdown(variants(c.Missed, 20))
		if through == "" {
			through = "nothing"
		}
		m.row(codeMarkdown(clip(c.Control, 100)), escapeMarkdown(clip(string(c.Layer), 40)), through, number(len(c.Unknown)))
	}
}
