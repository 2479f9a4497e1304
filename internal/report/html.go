package report

import (
	"crypto/sha256"
	_ "embed" // for the page's template and style
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/prove"
)

//go:embed assets/report.gohtml
var pageSource string

//go:embed assets/report.css
var pageStyle string

// Bounds of the page. Bytes count as they are written, so that a page of hostile names stays as small as any other; with
// all of them exhausted a page has less than 5 MB.
const (
	maxPageAttacks   = 1500
	unfoldBelow      = 60
	maxDepthRows     = 200
	maxDepthControls = 40
	maxPageChecks    = 200
	maxRowsPerCheck  = 25
	maxColumns       = 8
	findingBytes     = 1800 << 10
	attackBytes      = 1300 << 10
	otherBytes       = 400 << 10
)

// WriteHTML writes the document as one self-contained page. It holds no script, loads nothing and works under the content
// security policy that it carries, which names the hash of its one style sheet.
func WriteHTML(w io.Writer, d *Document) error {
	t, err := template.New("page").Parse(pageSource)
	if err != nil {
		return fmt.Errorf("the page's template: %w", err)
	}
	return t.Execute(w, newPage(d))
}

// pageCSP allows the page's own style sheet and data: images, and nothing else.
func pageCSP(css string) string {
	sum := sha256.Sum256([]byte(css))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; img-src data:; base-uri 'none'; form-action 'none'"
}

type page struct {
	CSP            string
	CSS            template.CSS
	Tool, Platform string
	Facts          []pair
	Posture        Posture
	Verdict        mark
	Ring           *ring
	Legend         []share
	Tiles          []tile
	Notice         []string
	Nav            []anchor
	Cards          []card
	// Unprotected are the layers of which there is nothing but gaps; Absent those of which there is nothing at all.
	Unprotected []pair
	Absent      string
	Matrix      *matrix
	NoAttacks   string
	Depth       *depth

	Validated    bool
	FindingsLead string
	Severities   []severityGroup
	FindingsLeft string

	Exceptions        []exceptionRow
	ExceptionsCaption string
	ExceptionsLeft    string
	Gaps              []gapRow
	GapsCaption       string
	GapsLeft          string
	Unjudged          []unjudgedGroup
	UnjudgedLeft      string
}

type (
	pair   struct{ Name, Text string }
	mark   struct{ Mark, Text string }
	anchor struct{ ID, Text string }
	share  struct {
		Kind, Text string
		Count      string
		Hatch      bool
		n          int
	}
	arc struct {
		Kind, Length, Rest, Offset string
		Hatch                      bool
	}
	ring struct {
		// Long is true when the numbers need the smaller type.
		Long              bool
		Label, Big, Small string
		Arcs              []arc
	}
	tile struct {
		Tone                Tone
		Big, Of, Name, Note string
	}
	segment struct {
		Kind, X, W string
		Hatch      bool
	}
	card struct {
		Name, Mark, State, BarLabel string
		Tone                        Tone
		Bar                         []segment
		Steps                       []pair
	}
	cell struct {
		Column, Class, Mark, Plus, Names, Spoken string
		Part                                     bool
	}
	attackRow struct {
		ID, Title, Class, Mark, Verdict string
		Open, Single                    bool
		More                            []pair
		Cells                           []cell
		Twin, TwinClass, TwinMark       string
	}
	attackGroup struct {
		Layer, Counts, Count, Rest string
		// Open: something was not blocked. Single: something rests on one control. Unfold: shown without a click.
		Open, Single, Unfold bool
		Rows                 []attackRow
	}
	matrix struct {
		Caption, Left string
		Columns       []string
		Open, Single  int
		// Saw is true when a detection has a sign of its own in the matrix.
		Saw    bool
		Groups []attackGroup
	}
	depthRow struct {
		ID, More, Members string
		Single            bool
		Cells             []cell
	}
	depthGroup struct {
		Title, Count string
		Rows         []depthRow
	}
	controlRow struct{ Name, Layer, Text string }
	depth      struct {
		Lead, Caption, Left string
		Span                int
		Controls            []string
		Groups              []depthGroup
		ByControl           []controlRow
	}
	findingRow struct{ Where, Object, Message, Fix string }
	checkGroup struct {
		ID, Title, Fix, Count, Rest string
		Standards                   []string
		Open                        bool
		Rows                        []findingRow
	}
	severityGroup struct {
		Name, Mark, Text, Count string
		Checks                  []checkGroup
	}
	exceptionRow struct {
		State, Class, Mark, Finding, On, Owner, Reason, Note, Expires, Covers, Where string
		Rows                                                                         []pair
	}
	gapRow        struct{ Layer, Subject, Reason, Because string }
	unjudgedGroup struct {
		Reason, Count, Rest string
		Open                bool
		Rows                []pair
	}
)

// budget counts the bytes that foreign text may still take on the page, as written with HTML's escapes.
type budget int

func (b *budget) take(texts ...string) bool {
	n := 200 // for the markup of a row
	for _, t := range texts {
		n += len(t)
		for _, c := range t {
			if strings.ContainsRune(`<>&"'+`, c) {
				n += 4
			}
		}
	}
	if int(*b) < n {
		return false
	}
	*b -= budget(n)
	return true
}

// text makes foreign text fit for the page: one line, nothing hidden, at most n runes. html/template escapes it.
func text(s string, n int) string { return clip(plain(s), n) }

var (
	tones         = map[Tone]mark{Good: {"✓", "All proven"}, Warn: {"!", "Not all proven"}, Bad: {"✕", "Action needed"}}
	severitySigns = map[finding.Severity]string{finding.Critical: "▲▲", finding.High: "▲", finding.Medium: "◆", finding.Low: "▽", finding.Info: "○"}
)

func newPage(d *Document) page {
	p := page{CSS: template.CSS(pageStyle), CSP: pageCSP(pageStyle), Tool: text(d.Tool, 60), Platform: text(d.Platform, 120), Posture: d.Posture()}
	if p.Platform == "" {
		p.Platform = "A platform without a name"
	}
	p.Posture.Headline = text(p.Posture.Headline, 400)
	p.Verdict = tones[p.Posture.Tone]
	p.Facts = d.facts()
	p.glance(d)
	p.layers(d)
	p.attacks(d)
	p.defenceInDepth(d)
	p.findings(d)
	rest := budget(otherBytes)
	p.exceptions(d, &rest)
	p.gaps(d, &rest)
	p.unjudged(d, &rest)
	p.Nav = []anchor{{"glance", "At a glance"}, {"layers", "Layers"}, {"attacks", "Attacks by layer"}, {"depth", "Defence in depth"}, {"findings", "Findings"},
		{"exceptions", "Exceptions" + inParens(len(p.Exceptions))}, {"gaps", "Not protected" + inParens(len(d.Gaps))}, {"not-judged", "Not judged" + inParens(p.Posture.NotJudged)}}
	return p
}

func inParens(n int) string {
	if n == 0 {
		return ""
	}
	return " (" + number(n) + ")"
}

// facts are the lines under the title: what was looked at, when, with what.
func (d *Document) facts() []pair {
	where := text(d.Cluster, 120)
	if where == "" {
		where = "none: files only"
	}
	out := []pair{{"Cluster", where}}
	if d.Stage != "" {
		out = append(out, pair{"Stage", text(string(d.Stage), 40)})
	}
	if !d.Generated.IsZero() {
		out = append(out, pair{"Generated", d.Generated.UTC().Format("2006-01-02 15:04 MST")})
	}
	if d.Spec != "" {
		out = append(out, pair{"Spec", text(d.Spec, 160)})
	}
	if d.Proof != nil {
		s := text(d.ProofFrom, 160)
		if e := text(d.Proof.Engine, 120); e != "" {
			if s != "" {
				s += ", "
			}
			s += "engine " + e
		}
		out = append(out, pair{"Attack results", s})
	}
	if d.Validation != nil && d.ValidationFrom != "" {
		out = append(out, pair{"Configuration", text(d.ValidationFrom, 160)})
	}
	return append(out, pair{"Bulwark", text(d.Tool, 60)})
}

// shares splits attacks by verdict in the order of legends and bars; empty ones are left out.
func shares(blocked, detected, missed, unknown, notTried int) []share {
	var out []share
	for _, s := range []share{
		{Kind: "blocked", Text: "blocked", n: blocked},
		{Kind: "detected", Text: "detected only", n: detected},
		{Kind: "missed", Text: "got through", n: missed},
		{Kind: "unknown", Text: "without a clear answer", n: unknown, Hatch: true},
		{Kind: "nottried", Text: "not tried", n: notTried, Hatch: true},
	} {
		if s.n > 0 {
			s.Count = number(s.n)
			out = append(out, s)
		}
	}
	return out
}

func spoken(parts []share) string {
	var s []string
	for _, p := range parts {
		s = append(s, p.Count+" "+p.Text)
	}
	if len(s) == 0 {
		return "no attacks"
	}
	return list(s)
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }

func (p *page) glance(d *Document) {
	if s := p.Posture.Attacks; s != nil && s.Attacks > 0 {
		p.Legend = shares(s.Blocked, s.Detected, s.Missed, s.Unknown-s.NoEngine, s.NoEngine)
		r := &ring{Label: "Attacks: " + spoken(p.Legend), Big: number(s.Blocked) + "/" + number(s.Attacks), Small: "attacks blocked"}
		r.Long = len(r.Big) > 6
		at := 0.0
		for _, l := range p.Legend {
			n := 100 * float64(l.n) / float64(s.Attacks)
			// The stroke starts at three o'clock; a quarter back is the top.
			r.Arcs = append(r.Arcs, arc{Kind: l.Kind, Length: decimal(n), Rest: decimal(100 - n), Offset: decimal(25 - at), Hatch: l.Hatch})
			at += n
		}
		p.Ring = r
		tone := Good
		switch {
		case s.Missed > 0:
			tone = Bad
		case s.Blocked < s.Attacks, p.Posture.Offline:
			tone = Warn
		}
		p.Tiles = append(p.Tiles, tile{tone, number(s.Blocked), "of " + number(s.Attacks), "attacks blocked", notTriedNote(s)})
		tone = Good
		note := "honest work still runs"
		if s.TwinsAdmitted < s.Twins {
			tone, note = Bad, "a policy breaks honest work"
			if !slices.ContainsFunc(d.Proof.Attacks, func(a prove.Result) bool { return a.Twin.Verdict == finding.Blocked }) {
				tone, note = Warn, "the rest could not be judged"
			}
		}
		if s.Twins == 0 {
			tone, note = Warn, "no twin was tried"
		}
		p.Tiles = append(p.Tiles, tile{tone, number(s.TwinsAdmitted), "of " + number(s.Twins), "harmless twins admitted", note})
	} else {
		p.Tiles = append(p.Tiles, tile{Warn, "–", "", "attacks blocked", "none was tried"}, tile{Warn, "–", "", "harmless twins admitted", "none was tried"})
	}
	if st := p.Posture.Standing; st != nil {
		n := 0
		for _, c := range st {
			n += c
		}
		worst := st["critical"] + st["high"]
		var tone Tone
		switch {
		case worst > 0:
			tone = Bad
		case n > 0 || p.Posture.NotJudged > 0 || d.Validation.Summary.Objects == 0:
			tone = Warn
		default:
			tone = Good
		}
		p.Tiles = append(p.Tiles, tile{tone, number(n), "", "findings stand", fmt.Sprintf("%s critical or high; %s accepted", number(worst), number(p.Posture.Accepted))})
	} else {
		p.Tiles = append(p.Tiles, tile{Warn, "–", "", "findings", "configuration was not validated"})
	}
	tone := Tone("")
	if p.Posture.NotJudged > 0 {
		tone = Warn
	}
	p.Tiles = append(p.Tiles, tile{tone, number(p.Posture.NotJudged), "", "not judged", plural(p.Posture.Gaps, "gap", "gaps") + " stated as not protected"})

	groups := d.unjudged()
	for i, g := range groups {
		if i == 4 {
			p.Notice = append(p.Notice, "And "+plural(len(groups)-i, "more reason", "more reasons")+", under “Not judged”.")
			break
		}
		p.Notice = append(p.Notice, plural(len(g.Things), "thing was", "things were")+" not judged: "+text(g.Reason, 180))
	}
	if d.Proof == nil {
		p.Notice = append(p.Notice, "No attack was tried. Run `bulwark prove` and hand over its result.")
	} else if p.Posture.Offline {
		p.Notice = append(p.Notice, "No cluster was attacked: the attacks were judged on the plan, with the libraries of an API server. `bulwark prove --context NAME -o json` tries them for real.")
	}
	if d.Proof != nil && d.Proof.Ablation == nil {
		p.Notice = append(p.Notice, "No control was removed to see what gets through, so single points of failure are not known.")
	}
	if d.Validation == nil {
		p.Notice = append(p.Notice, "Configuration was not validated.")
	}
	if d.Cluster == "" {
		p.Notice = append(p.Notice, "No cluster was read: what is declared here may not be what runs.")
	}
	if n := len(d.Gaps); n > 0 {
		p.Notice = append(p.Notice, plural(n, "thing", "things")+" that the spec asks for no layer protects; see “Not protected”.")
	}
}

func notTriedNote(s *prove.Summary) string {
	var parts []string
	for _, x := range shares(0, s.Detected, s.Missed, s.Unknown-s.NoEngine, s.NoEngine) {
		parts = append(parts, x.Count+" "+x.Text)
	}
	if len(parts) == 0 {
		return "each by the control meant to"
	}
	return list(parts)
}

func (p *page) layers(d *Document) {
	shown := map[artifact.Layer]bool{}
	for _, l := range p.Posture.Layers {
		shown[l.Layer.Layer] = true
		if l.Declared == 0 && l.Attacks == 0 && len(l.Controls) == 0 {
			p.Unprotected = append(p.Unprotected, pair{text(strings.ReplaceAll(string(l.Layer.Layer), "-", " "), 40), plural(l.Gaps, "gap", "gaps")})
			continue
		}
		parts := shares(l.Blocked, l.Detected, l.Missed, l.Unknown, l.NotTried)
		c := card{Name: text(strings.ReplaceAll(string(l.Layer.Layer), "-", " "), 40), Tone: l.Tone(), BarLabel: spoken(parts)}
		switch {
		case l.Missed > 0:
			c.Mark, c.State = "✕", number(l.Missed)+" got through"
		case l.Attacks == 0:
			c.Mark, c.State = "?", "not attacked"
		case l.Blocked == 0 && l.Detected == 0:
			c.Mark, c.State = "?", "not proven"
		case l.Unknown+l.NotTried > 0:
			c.Mark, c.State = "!", "partly proven"
		case l.Tone() == Good && l.Detected > 0:
			c.Tone, c.Mark, c.State = "detected", "◉", "detected"
		case l.Tone() == Good:
			c.Mark, c.State = "✓", "proven"
			if p.Posture.Offline {
				c.Tone, c.Mark, c.State = "detected", "◇", "holds on the plan"
			}
		default:
			c.Mark, c.State = "!", "proven, with gaps"
		}
		at := 0.0
		for _, s := range parts {
			n := 100 * float64(s.n) / float64(l.Attacks)
			c.Bar = append(c.Bar, segment{Kind: s.Kind, X: decimal(at), W: decimal(n), Hatch: s.Hatch})
			at += n
		}
		present := "no cluster was read"
		if l.Looked {
			present = number(l.Present) + " of " + number(l.Declared)
			if l.Unlisted > 0 {
				present += ", " + number(l.Unlisted) + " may not be listed"
			}
		}
		if l.Declared == 0 {
			present = "–"
		}
		enforcing := "–"
		if n := len(l.Controls); n > 0 {
			enforcing = number(len(l.Enforcing)) + " of " + plural(n, "control", "controls")
		}
		proven := "no attacks"
		if l.Attacks > 0 {
			proven = number(l.Blocked) + " of " + plural(l.Attacks, "attack", "attacks") + " blocked"
			if l.Detected > 0 {
				proven += ", " + number(l.Detected) + " detected"
			}
		}
		c.Steps = []pair{{"Declared", plural(l.Declared, "object", "objects")}, {"Present", present}, {"Enforcing", enforcing}, {"Proven", proven}}
		if l.Gaps > 0 {
			c.Steps = append(c.Steps, pair{"Not protected", plural(l.Gaps, "gap", "gaps")})
		}
		if len(p.Cards) < 40 {
			p.Cards = append(p.Cards, c)
		}
	}
	var absent []string
	for _, l := range artifact.Layers {
		if !shown[l] {
			absent = append(absent, strings.ReplaceAll(string(l), "-", " "))
		}
	}
	p.Absent = list(absent)
}

// kinds names the parts before the slash in a control's name: "policy/required-labels" is an admission policy.
var kinds = map[string]string{"podsecurity": "Pod Security", "policy": "admission policy", "rbac": "RBAC", "network": "network policy", "networkpolicy": "network policy", "apiserver": "API server"}

func kindOf(control string) string {
	k, _, _ := strings.Cut(control, "/")
	if name, ok := kinds[k]; ok {
		return name
	}
	return text(k, 24)
}

var verdictMarks = map[finding.Verdict]mark{
	finding.Blocked: {"✓", "blocked"}, finding.Detected: {"◉", "detected"}, finding.Missed: {"✕", "missed"}, finding.Unknown: {"?", "unknown"}, finding.Admitted: {"✓", "admitted"},
}

func (p *page) attacks(d *Document) {
	if d.Proof == nil {
		p.NoAttacks = "No attack results were given, so nothing here is proven."
		return
	}
	if len(d.Proof.Attacks) == 0 {
		p.NoAttacks = "The attack results hold no attack."
		return
	}
	m := &matrix{}
	uses := map[string]int{}
	single := map[string]bool{}
	for _, a := range d.Proof.Attacks {
		if a.Intended != "" {
			uses[kindOf(a.Intended)]++
		}
		for _, c := range a.By {
			if c != a.Intended {
				uses[kindOf(c)]++
			}
		}
	}
	if d.Proof.Ablation != nil {
		for _, id := range d.Proof.Ablation.SingleLayer {
			single[id] = true
		}
	}
	for k := range uses {
		m.Columns = append(m.Columns, k)
	}
	slices.SortFunc(m.Columns, func(a, b string) int {
		if uses[a] != uses[b] {
			return uses[b] - uses[a]
		}
		return strings.Compare(a, b)
	})
	hiddenColumns := 0
	if len(m.Columns) > maxColumns {
		hiddenColumns = len(m.Columns) - maxColumns
		m.Columns = m.Columns[:maxColumns]
	}
	by := map[artifact.Layer][]prove.Result{}
	for _, a := range d.Proof.Attacks {
		by[a.Layer] = append(by[a.Layer], a)
	}
	left, rows := budget(attackBytes), 0
	for _, l := range layerOrder(by) {
		g := attackGroup{Layer: text(strings.ReplaceAll(string(l), "-", " "), 40)}
		s := Tally(by[l])
		g.Counts = spoken(shares(s.Blocked, s.Detected, s.Missed, s.Unknown-s.NoEngine, s.NoEngine))
		g.Count = plural(s.Attacks, "attack", "attacks")
		g.Unfold = len(d.Proof.Attacks) <= unfoldBelow || s.Missed > 0 || s.Unknown > s.NoEngine || s.TwinsAdmitted < s.Twins
		// The worst first, else in the order of the corpus.
		slices.SortStableFunc(by[l], func(a, b prove.Result) int { return verdictRank(a.Verdict) - verdictRank(b.Verdict) })
		for _, a := range by[l] {
			r := newAttackRow(a, m.Columns, single[a.ID])
			if r.Open {
				m.Open++
				g.Open = true
			}
			if r.Single {
				m.Single++
				g.Single = true
			}
			m.Saw = m.Saw || slices.ContainsFunc(r.Cells, func(c cell) bool { return c.Class == "saw" })
			if rows == maxPageAttacks || !left.take(r.size()...) {
				continue
			}
			rows++
			g.Rows = append(g.Rows, r)
		}
		if n := len(by[l]) - len(g.Rows); n > 0 {
			g.Rest = "And " + number(n) + " more; the JSON report has all."
		}
		if len(m.Groups) < 40 {
			m.Groups = append(m.Groups, g)
		}
	}
	m.Caption = plural(len(d.Proof.Attacks), "attack", "attacks") + ": " + spoken(p.Legend) + "."
	var leftOut []string
	if n := len(d.Proof.Attacks) - rows; n > 0 {
		leftOut = append(leftOut, plural(n, "more attack is", "more attacks are")+" in the JSON report.")
	}
	if hiddenColumns > 0 {
		leftOut = append(leftOut, plural(hiddenColumns, "kind of control has", "kinds of control have")+" no column; rows name them.")
	}
	m.Left = strings.Join(leftOut, " ")
	p.Matrix = m
}

// cellMarkup is as long as the markup around a cell's text.
var cellMarkup = strings.Repeat(" ", 120)

func (r attackRow) size() []string {
	out := []string{r.ID, r.Title, r.Twin, r.Verdict, cellMarkup, cellMarkup}
	for _, c := range r.Cells {
		out = append(out, c.Names, c.Spoken, c.Column, cellMarkup)
	}
	for _, m := range r.More {
		out = append(out, m.Name, m.Text)
	}
	return out
}

func verdictRank(v finding.Verdict) int {
	switch v {
	case finding.Missed:
		return 0
	case finding.Unknown:
		return 1
	case finding.Detected:
		return 2
	case finding.Blocked:
		return 3
	}
	return 1
}

func newAttackRow(a prove.Result, columns []string, single bool) attackRow {
	v, ok := verdictMarks[a.Verdict]
	if !ok {
		v = mark{"?", "unknown"}
	}
	r := attackRow{ID: text(a.ID, 100), Title: text(a.Title, 200), Class: v.Text, Mark: v.Mark, Verdict: v.Text, Open: a.Verdict != finding.Blocked, Single: single}
	if a.NoEngine {
		r.Verdict, r.Class, r.Mark = "not tried", "nottried", "–"
	}
	switch a.Twin.Verdict {
	case finding.Admitted:
		r.Twin, r.TwinClass, r.TwinMark = "admitted", "good", "✓"
	case finding.Blocked:
		r.Twin, r.TwinClass, r.TwinMark = "refused", "bad", "✕"
	case "":
		r.Twin, r.TwinClass, r.TwinMark = "none", "", "–"
	default:
		r.Twin, r.TwinClass, r.TwinMark = "unknown", "unknown", "?"
		if a.NoEngine {
			r.Twin, r.TwinClass, r.TwinMark = "not tried", "nottried", "–"
		}
	}
	more := func(name, s string, n int) {
		if s = text(s, n); s != "" {
			r.More = append(r.More, pair{name, s})
		}
	}
	more("Evidence", a.Evidence, 500)
	more("Meant to refuse", a.Intended, 120)
	more("Refused by", strings.Join(a.By, ", "), 400)
	if single {
		more("Depth", "rests on one control alone", 100)
	}
	more("Twin differs in", a.Twin.Differs, 200)
	if a.Twin.Verdict != finding.Admitted {
		more("Twin's answer", a.Twin.Evidence, 400)
	}
	more("If missed", a.Severity.String(), 20)
	more("Mend it", a.Fix, 400)
	more("Standards", strings.Join(a.Standards, ", "), 200)
	for _, col := range columns {
		c := cell{Column: col, Class: "no", Mark: "·", Spoken: "no part"}
		var names []string
		refused := false
		for _, b := range a.By {
			if kindOf(b) == col {
				names = append(names, text(b, 100))
				refused = refused || b == a.Intended
			}
		}
		meant := a.Intended != "" && kindOf(a.Intended) == col
		switch {
		case refused && a.Verdict == finding.Blocked:
			c.Class, c.Mark, c.Spoken = "refused", "●", "refused it, as meant"
			if len(names) > 1 {
				c.Plus = "+" + number(len(names)-1)
				c.Spoken += ", and " + plural(len(names)-1, "more would", "more would")
			}
		case a.Verdict == finding.Detected && len(names) > 0:
			c.Class, c.Mark, c.Spoken = "saw", "◉", "saw it"
		case meant && a.Verdict == finding.Missed:
			c.Class, c.Mark, c.Spoken = "failed", "✕", "was meant to, did not"
			names = append(names, text(a.Intended, 100))
		case a.Verdict == finding.Blocked && len(names) > 0:
			c.Class, c.Mark, c.Spoken = "too", "○", "would refuse it too"
			if len(names) > 1 {
				c.Plus = "+" + number(len(names)-1)
			}
		case len(names) > 0:
			// An answer by something that was not meant to give it proves nothing.
			c.Class, c.Mark, c.Spoken = "open", "?", "answered, but was not meant to"
		case meant && a.Verdict != finding.Blocked:
			c.Class, c.Mark, c.Spoken = "open", "?", "not known"
			names = append(names, text(a.Intended, 100))
		}
		c.Part = c.Class != "no"
		if len(names) > 6 {
			names = append(names[:6], "…")
		}
		c.Names = strings.Join(names, ", ")
		r.Cells = append(r.Cells, c)
	}
	return r
}

func (p *page) defenceInDepth(d *Document) {
	if d.Proof == nil || d.Proof.Ablation == nil || len(d.Proof.Ablation.Controls) == 0 {
		return
	}
	ab := d.Proof.Ablation
	single := map[string]bool{}
	for _, id := range ab.SingleLayer {
		single[id] = true
	}
	falls := make([]map[string]string, len(ab.Controls))
	touched := map[string]bool{}
	dp := &depth{}
	left := budget(otherBytes)
	for i, c := range ab.Controls {
		falls[i] = map[string]string{}
		for _, id := range c.Unknown {
			falls[i][id] = "unclear"
			touched[id] = true
		}
		for _, id := range c.Missed {
			falls[i][id] = "falls"
			touched[id] = true
		}
		if i < maxDepthControls {
			dp.Controls = append(dp.Controls, text(c.Control, 80))
		}
		row := controlRow{Name: text(c.Control, 100), Layer: text(string(c.Layer), 40), Text: "nothing: other controls stop the same attacks"}
		if n := len(c.Missed); n > 0 {
			row.Text = plural(n, "attack", "attacks") + ": " + variants(c.Missed, 8)
		}
		if n := len(c.Unknown); n > 0 {
			row.Text += "; " + plural(n, "attack", "attacks") + " not known"
		}
		if left.take(row.Name, row.Layer, row.Text) && len(dp.ByControl) < 100 {
			dp.ByControl = append(dp.ByControl, row)
		}
	}
	blocked := 0
	var order []string
	inOrder := map[string]bool{}
	for _, a := range d.Proof.Attacks {
		if a.Verdict == finding.Blocked {
			blocked++
		}
		if (a.Verdict == finding.Blocked || touched[a.ID]) && !inOrder[a.ID] {
			order, inOrder[a.ID] = append(order, a.ID), true
		}
	}
	unclear := map[string]bool{}
	for _, c := range ab.Controls {
		for _, id := range c.Unknown {
			unclear[id] = true
		}
	}
	rows := 0
	for _, g := range []struct {
		title string
		in    func(id string) bool
	}{
		{"Rests on one control", func(id string) bool { return single[id] }},
		{"Not known whether more than one holds it", func(id string) bool { return !single[id] && unclear[id] }},
		{"More than one control holds it", func(id string) bool { return !single[id] && !unclear[id] }},
	} {
		dg := depthGroup{Title: g.title}
		n := 0
		// Variants of one attack that the same controls hold share a row: "pods/privileged" for all its controllers.
		same := map[string][]string{}
		var keys []string
		for _, id := range order {
			if !g.in(id) {
				continue
			}
			n++
			key := variantOf(id)
			for i := range dp.Controls {
				key += "\x00" + falls[i][id]
			}
			if same[key] == nil {
				keys = append(keys, key)
			}
			same[key] = append(same[key], id)
		}
		for _, key := range keys {
			ids := same[key]
			r := depthRow{ID: text(ids[0], 80), Single: single[ids[0]]}
			if len(ids) > 1 {
				r.ID, r.More = text(variantOf(ids[0]), 80), number(len(ids))+" variants"
				r.Members = text(strings.Join(ids, ", "), 600)
			}
			for i := range dp.Controls {
				c := cell{Class: "holds", Mark: "·", Spoken: "still stopped"}
				switch falls[i][ids[0]] {
				case "falls":
					c = cell{Class: "falls", Mark: "✕", Spoken: "gets through"}
				case "unclear":
					c = cell{Class: "unclear", Mark: "?", Spoken: "not known"}
				}
				r.Cells = append(r.Cells, c)
			}
			if len(dg.Rows) < maxDepthRows && left.take(r.ID, r.Members, strings.Repeat(" ", 100*len(r.Cells))) {
				rows += len(ids)
				dg.Rows = append(dg.Rows, r)
			}
		}
		dg.Count = number(n)
		if len(dg.Rows) > 0 {
			dp.Groups = append(dp.Groups, dg)
		}
	}
	dp.Span = len(dp.Controls) + 2
	n := 0
	for id := range single {
		if inOrder[id] {
			n++
		}
	}
	switch n {
	case 0:
		dp.Lead = "No attack rests on a single control: with any one of them removed, another still stops it."
		if slices.ContainsFunc(ab.Controls, func(c prove.AblatedControl) bool { return len(c.Unknown) > 0 }) {
			dp.Lead = "No attack was seen to rest on a single control, but some answers are not known."
		}
	default:
		verb := "rest"
		if n == 1 {
			verb = "rests"
		}
		dp.Lead = fmt.Sprintf("%s of %s %s on one control alone: remove it, and the attack gets through. These are the ones to give a second layer first.", number(n), plural(blocked, "blocked attack", "blocked attacks"), verb)
	}
	if slices.ContainsFunc(ab.Controls, func(c prove.AblatedControl) bool { return strings.HasPrefix(c.Control, "binding/") }) {
		dp.Lead += " A policy and its binding are one defence: removing either opens the same attacks."
	}
	dp.Caption = fmt.Sprintf("%s, %s. Each control was removed in turn and every attack tried again.", plural(len(order), "attack", "attacks"), plural(len(ab.Controls), "control", "controls"))
	var leftOut []string
	if k := len(order) - rows; k > 0 {
		leftOut = append(leftOut, plural(k, "more attack", "more attacks"))
	}
	if k := len(ab.Controls) - len(dp.Controls); k > 0 {
		leftOut = append(leftOut, plural(k, "more control", "more controls"))
	}
	if len(leftOut) > 0 {
		dp.Left = "In the JSON report: " + list(leftOut) + "."
	}
	p.Depth = dp
}

// variants lists attacks by what they are variants of, with how many each: "pods/privileged (7)". At most n are named.
func variants(ids []string, n int) string {
	count := map[string]int{}
	var order []string
	for _, id := range ids {
		v := variantOf(id)
		if count[v] == 0 {
			order = append(order, v)
		}
		count[v]++
	}
	var out []string
	for i, v := range order {
		if i == n {
			out = append(out, "and "+number(len(order)-i)+" more")
			break
		}
		s := text(v, 80)
		if count[v] > 1 {
			s += " (" + number(count[v]) + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// variantOf gives an attack's ID without its last part, which tells variants of one attack apart.
func variantOf(id string) string {
	if i := strings.LastIndexByte(id, '/'); i > 0 {
		return id[:i]
	}
	return id
}

func (p *page) findings(d *Document) {
	if d.Validation == nil {
		return
	}
	p.Validated = true
	standing, acceptedOnes, _ := split(d.Validation.Findings)
	p.FindingsLead = fmt.Sprintf("%s looked at by %s.", plural(d.Validation.Summary.Objects, "object", "objects"), plural(d.Validation.Summary.Checks, "check", "checks"))
	if d.Validation.Summary.Objects == 0 {
		p.FindingsLead = "No object was looked at, so there is nothing to say about configuration."
	} else if len(standing) == 0 {
		p.FindingsLead += " No finding stands."
	} else {
		p.FindingsLead += " " + plural(len(standing), "finding", "findings") + " that no exception accepts, the worst first."
	}
	if n := len(acceptedOnes); n > 0 {
		p.FindingsLead += " " + plural(n, "accepted finding is", "accepted findings are") + " under the exceptions."
	}
	groups := group(standing)
	left := budget(findingBytes)
	var sg *severityGroup
	shownChecks, openChecks := 0, 0
	leftChecks, leftFindings := 0, 0
	for i, g := range groups {
		if sg == nil || groups[i-1].Severity != g.Severity {
			n, checks := 0, 0
			for _, o := range groups {
				if o.Severity == g.Severity {
					n += len(o.Findings)
					checks++
				}
			}
			p.Severities = append(p.Severities, severityGroup{Name: g.Severity.String(), Mark: severitySigns[g.Severity], Count: number(n),
				Text: plural(n, "finding", "findings") + " of " + plural(checks, "check", "checks")})
			sg = &p.Severities[len(p.Severities)-1]
		}
		c := checkGroup{ID: text(g.Check, 100), Title: text(g.Title, 200), Fix: text(g.Fix, 500), Count: number(len(g.Findings))}
		if c.Title == "" {
			c.Title = c.ID
		}
		for _, s := range g.Standards[:min(len(g.Standards), 12)] {
			c.Standards = append(c.Standards, text(s, 40))
		}
		if shownChecks == maxPageChecks || !left.take(append(slices.Clone(c.Standards), c.ID, c.Title, c.Title, c.Fix)...) {
			leftChecks++
			leftFindings += len(g.Findings)
			continue
		}
		shownChecks++
		for _, f := range g.Findings[:min(len(g.Findings), maxRowsPerCheck)] {
			r := findingRow{Where: text(place(f.File, f.Line), 160), Object: text(subject(f), 200), Message: text(f.Message, 400)}
			if r.Where == "" {
				r.Where = "–"
			}
			if f.Fix != g.Fix {
				r.Fix = text(f.Fix, 300)
			}
			if !left.take(r.Where, r.Object, r.Message, r.Fix) {
				break
			}
			c.Rows = append(c.Rows, r)
		}
		if n := len(g.Findings) - len(c.Rows); n > 0 {
			c.Rest = "And " + number(n) + " more; the JSON report has all."
		}
		if g.Severity >= finding.High && openChecks < 6 {
			c.Open = true
			openChecks++
		}
		sg.Checks = append(sg.Checks, c)
	}
	if leftChecks > 0 {
		p.FindingsLeft = plural(leftChecks, "more check", "more checks") + " with " + plural(leftFindings, "finding", "findings") + " are in the JSON report."
	}
}

var stateMarks = map[finding.ExceptionState]mark{finding.Used: {"●", "used"}, finding.Unused: {"○", "unused"}, finding.Expired: {"✕", "expired"}, finding.TooBroad: {"△", "toobroad"}}

func (p *page) exceptions(d *Document, left *budget) {
	if d.Validation == nil {
		return
	}
	all := d.Validation.Exceptions
	_, acceptedOnes, _ := split(d.Validation.Findings)
	counts := map[finding.ExceptionState]int{}
	for _, e := range exceptionsByState(all) {
		counts[e.State]++
		if len(p.Exceptions) == maxExceptions {
			continue
		}
		m := stateMarks[e.State]
		r := exceptionRow{State: text(string(e.State), 20), Class: m.Text, Mark: m.Mark, Finding: text(e.Finding, 100), On: text(e.On, 200), Owner: text(e.Owner, 120),
			Reason: text(e.Reason, 300), Note: text(e.Note, 200), Expires: text(e.Expires, 30), Covers: plural(e.Matched, "finding", "findings"), Where: text(place(e.File, e.Line), 160)}
		n := 0
		for _, f := range acceptedOnes {
			if f.AcceptedBy != e.Number {
				continue
			}
			if n++; len(r.Rows) < 10 {
				r.Rows = append(r.Rows, pair{text(subject(f), 160), text(f.Message, 240)})
			}
		}
		if n > len(r.Rows) {
			r.Rows = append(r.Rows, pair{"And " + number(n-len(r.Rows)) + " more", "the JSON report has all"})
		}
		size := []string{r.Finding, r.On, r.Owner, r.Reason, r.Note, r.Expires, r.Where}
		for _, x := range r.Rows {
			size = append(size, x.Name, x.Text)
		}
		if left.take(size...) {
			p.Exceptions = append(p.Exceptions, r)
		}
	}
	var parts []string
	for _, s := range stateNotes {
		if n := counts[s.State]; n > 0 {
			parts = append(parts, number(n)+" "+string(s.State)+" ("+s.Note+")")
		}
	}
	p.ExceptionsCaption = strings.Join(parts, "; ")
	if n := len(all) - len(p.Exceptions); n > 0 {
		p.ExceptionsLeft = plural(n, "more exception is", "more exceptions are") + " in the JSON report."
	}
}

func (p *page) gaps(d *Document, left *budget) {
	for _, g := range d.Gaps {
		r := gapRow{text(string(g.Layer), 40), text(g.Subject, 200), text(g.Reason, 400), text(g.Because, 200)}
		if r.Because == "" {
			r.Because = "–"
		}
		if len(p.Gaps) < 300 && left.take(r.Layer, r.Subject, r.Reason, r.Because) {
			p.Gaps = append(p.Gaps, r)
		}
	}
	p.GapsCaption = plural(len(d.Gaps), "gap", "gaps")
	if n := len(d.Gaps) - len(p.Gaps); n > 0 {
		p.GapsLeft = plural(n, "more gap is", "more gaps are") + " in the JSON report."
	}
}

func (p *page) unjudged(d *Document, left *budget) {
	groups := d.unjudged()
	leftReasons, leftThings := 0, 0
	for i, g := range groups {
		u := unjudgedGroup{Reason: text(g.Reason, 400), Count: number(len(g.Things)), Open: i < 3 && len(g.Things) <= 12}
		if i >= maxReasons || !left.take(u.Reason, u.Reason) {
			leftReasons++
			leftThings += len(g.Things)
			continue
		}
		for _, n := range g.Things[:min(len(g.Things), maxRowsPerCheck)] {
			r := pair{text(n.What, 200), text(place(n.File, n.Line), 160)}
			if !left.take(r.Name, r.Text) {
				break
			}
			u.Rows = append(u.Rows, r)
		}
		if n := len(g.Things) - len(u.Rows); n > 0 {
			u.Rest = "And " + number(n) + " more; the JSON report has all."
		}
		p.Unjudged = append(p.Unjudged, u)
	}
	if leftReasons > 0 {
		p.UnjudgedLeft = plural(leftReasons, "more reason", "more reasons") + " for " + plural(leftThings, "thing", "things") + " not judged, in the JSON report."
	}
}
