package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/prove"
)

// DocumentVersion is the version of the document's JSON form. Fields are added, never removed or renamed.
const DocumentVersion = "v1"

// Document is the input of the posture report: what the spec declares, what was found and what was proven. A nil Proof
// or Validation means that this was not done, and the report says so; it is not the same as "nothing was found".
type Document struct {
	Platform string
	// Spec is the spec's file as the user named it.
	Spec string
	// Cluster is the name of the context that was looked at; empty when only files were.
	Cluster string
	Stage   artifact.Stage
	// Generated is the time that the report carries; the caller's, as the package has no clock.
	Generated time.Time
	// Tool is Bulwark's version.
	Tool   string
	Layers []Layer
	// Validation is what the checks said, and ValidationFrom where that comes from: "the cluster lab", "validate.json".
	Validation     *check.Result
	ValidationFrom string
	// Proof is what the attacks said, and ProofFrom where that comes from.
	Proof     *prove.Report
	ProofFrom string
	Gaps      []artifact.Gap
	// NotJudged is what the caller could not do at all, beside what Validation and Proof name themselves.
	NotJudged []finding.NotJudged
}

// Layer says what the plan declares for one layer and how much of it a cluster has.
type Layer struct {
	Layer artifact.Layer `json:"layer"`
	// Declared counts the plan's objects.
	Declared int `json:"declared"`
	// Present counts those that the cluster has; meaningful only when Looked.
	Present int `json:"present"`
	// Unlisted counts those whose kind the cluster would not list: present or not, nobody knows.
	Unlisted int `json:"unlisted"`
	// Looked is false when no cluster was read.
	Looked bool `json:"looked"`
}

// Layers counts a plan's objects by layer and, with a live snapshot, how many of them exist there by kind, namespace and
// name. It says nothing of their content: that is what drift checks and attacks are for.
func Layers(plan *artifact.Plan, snap *cluster.Snapshot) []Layer {
	looked := snap != nil && snap.Live
	byLayer := map[artifact.Layer]*Layer{}
	have, unlisted := map[string]bool{}, map[string]bool{}
	if looked {
		for _, o := range snap.Objects {
			have[identity(o.Group(), o.Kind, o.Meta.Namespace, o.Meta.Name)] = true
		}
		for _, u := range snap.Unlisted {
			unlisted[strings.TrimPrefix(u, "/")] = true
		}
	}
	for _, a := range plan.Artifacts {
		if a.Object == nil {
			continue
		}
		l := byLayer[a.Layer]
		if l == nil {
			l = &Layer{Layer: a.Layer, Looked: looked}
			byLayer[a.Layer] = l
		}
		l.Declared++
		apiVersion, _ := a.Object["apiVersion"].(string)
		kind, _ := a.Object["kind"].(string)
		m, _ := a.Object["metadata"].(map[string]any)
		ns, _ := m["namespace"].(string)
		name, _ := m["name"].(string)
		gv, err := schema.ParseGroupVersion(apiVersion)
		if err != nil || !looked {
			continue
		}
		resource, _ := meta.UnsafeGuessKindToResource(gv.WithKind(kind))
		switch {
		case have[identity(gv.Group, kind, ns, name)]:
			l.Present++
		case unlisted[strings.TrimPrefix(gv.Group+"/"+resource.Resource, "/")]:
			l.Unlisted++
		}
	}
	var out []Layer
	for _, l := range layerOrder(byLayer) {
		out = append(out, *byLayer[l])
	}
	return out
}

func identity(parts ...string) string { return strings.Join(parts, "\x00") }

// layerOrder gives a map's layers in the order in which reports show them; unknown ones, from a newer version's file,
// come last by name.
func layerOrder[V any](m map[artifact.Layer]V) []artifact.Layer {
	var out []artifact.Layer
	for _, l := range artifact.Layers {
		if _, ok := m[l]; ok {
			out = append(out, l)
		}
	}
	var rest []artifact.Layer
	for l := range m {
		if !slices.Contains(artifact.Layers, l) {
			rest = append(rest, l)
		}
	}
	slices.Sort(rest)
	return append(out, rest...)
}

// offline reports whether the attacks were judged by libraries on the plan and not by an API server. What such a run
// blocks is what the plan would block where it is deployed; it says nothing of a cluster.
func (d *Document) offline() bool {
	return d.Proof != nil && strings.HasPrefix(d.Proof.Engine, "offline")
}

// Tone is how a statement is coloured. There is no tone for unknown that looks like good.
type Tone string

// Tones.
const (
	Good Tone = "good"
	Warn Tone = "warn"
	Bad  Tone = "bad"
)

// Posture is what the report says at a glance. All of it is counted here from the single results, never copied from a
// summary in a file.
type Posture struct {
	Tone Tone `json:"tone"`
	// Headline is the verdict in one sentence; Notes are the sentences that qualify it.
	Headline string   `json:"headline"`
	Notes    []string `json:"notes"`
	// Offline is true when attacks were judged on the plan, without an API server.
	Offline bool `json:"offline,omitempty"`
	// Attacks counts verdicts; nil when no attack results were given.
	Attacks *prove.Summary `json:"attacks,omitempty"`
	// Standing counts findings that fail and that no exception accepts, by severity.
	Standing map[string]int `json:"standing,omitempty"`
	// Accepted counts findings that an exception accepts.
	Accepted int `json:"accepted"`
	// NotJudged counts what nobody could judge: files, objects, checks and attacks.
	NotJudged int            `json:"notJudged"`
	Gaps      int            `json:"gaps"`
	Layers    []LayerPosture `json:"layers"`
}

// LayerPosture is one layer's ladder: declared by the plan, present in the cluster, enforced (a control of the layer was
// seen refusing, or detecting, something), proven (its attacks were blocked).
type LayerPosture struct {
	Layer
	// Controls lists the controls that this layer's attacks are meant to meet; Enforcing those of them that refused or
	// detected at least one attack.
	Controls  []string `json:"controls"`
	Enforcing []string `json:"enforcing"`
	Attacks   int      `json:"attacks"`
	Blocked   int      `json:"blocked"`
	Detected  int      `json:"detected"`
	Missed    int      `json:"missed"`
	// Unknown were tried without a clear answer; NotTried found no engine.
	Unknown  int `json:"unknown"`
	NotTried int `json:"notTried"`
	Gaps     int `json:"gaps"`
}

// Tone is the layer's: good only when every attack on it was blocked or detected and nothing is declared as a gap.
func (l LayerPosture) Tone() Tone {
	switch {
	case l.Missed > 0:
		return Bad
	case l.Attacks == 0, l.Unknown+l.NotTried+l.Gaps > 0, l.Looked && l.Present < l.Declared:
		return Warn
	}
	return Good
}

// Posture counts and words what the document holds.
func (d *Document) Posture() Posture {
	p := Posture{Gaps: len(d.Gaps), NotJudged: len(d.NotJudged), Notes: []string{}}
	if d.Validation != nil {
		p.Standing = map[string]int{}
		for _, f := range d.Validation.Findings {
			switch {
			case f.Verdict == finding.Fail && f.AcceptedBy == 0:
				p.Standing[f.Severity.String()]++
			case f.Verdict == finding.Fail:
				p.Accepted++
			case f.Verdict == finding.Unknown:
				p.NotJudged++
			}
		}
		p.NotJudged += len(d.Validation.NotJudged)
	}
	if d.Proof != nil {
		s := Tally(d.Proof.Attacks)
		p.Attacks, p.Offline = &s, d.offline()
		p.NotJudged += s.Unknown
		for _, n := range d.Proof.NotJudged {
			if !namesAttack(n, d.Proof.Attacks) {
				p.NotJudged++
			}
		}
	}
	p.Layers = d.layers()
	p.Tone, p.Headline, p.Notes = d.verdict(p)
	return p
}

// Tally counts the verdicts of attacks.
func Tally(attacks []prove.Result) prove.Summary {
	var s prove.Summary
	for _, a := range attacks {
		s.Attacks++
		switch a.Verdict {
		case finding.Blocked:
			s.Blocked++
		case finding.Detected:
			s.Detected++
		case finding.Missed:
			s.Missed++
		default:
			s.Unknown++
			if a.NoEngine {
				s.NoEngine++
			}
		}
		// The twin of an attack that nothing here can try was not tried either; it is not counted twice.
		if a.Twin.Verdict != "" && !a.NoEngine {
			s.Twins++
			if a.Twin.Verdict == finding.Admitted {
				s.TwinsAdmitted++
			}
		}
	}
	return s
}

// namesAttack reports whether a not-judged entry is about attacks that the list holds as unknown already: one by its ID,
// or several of one reason ("12 network attacks").
func namesAttack(n finding.NotJudged, attacks []prove.Result) bool {
	if !strings.Contains(n.What, "attack") {
		return false
	}
	return slices.ContainsFunc(attacks, func(a prove.Result) bool {
		return a.Verdict == finding.Unknown && (n.What == "attack "+a.ID || n.Reason == a.Evidence)
	})
}

func (d *Document) verdict(p Posture) (Tone, string, []string) {
	notes := []string{}
	tone := Good
	worsen := func(t Tone) {
		if t == Bad || tone == Good {
			tone = t
		}
	}
	var headline string
	switch s := p.Attacks; {
	case s == nil:
		headline = "No attack was tried, so nothing here is proven."
		worsen(Warn)
	case s.Attacks-s.NoEngine == 0:
		headline = "No attack could be tried here, so nothing is proven."
		worsen(Warn)
	default:
		tried := s.Attacks - s.NoEngine
		blocked := "blocked"
		if p.Offline {
			blocked = "blocked by the plan"
			notes = append(notes, "The attacks were judged on the plan, with the libraries of an API server; no cluster was attacked.")
			worsen(Warn)
		}
		if s.Missed > 0 {
			headline = fmt.Sprintf("%s of %s got through", number(s.Missed), plural(tried, "attack", "attacks"))
			if s.Blocked > 0 {
				headline += fmt.Sprintf("; %s %s", number(s.Blocked), blocked)
			}
			worsen(Bad)
		} else {
			headline = fmt.Sprintf("%s of %s %s", number(s.Blocked), plural(tried, "attack", "attacks"), blocked)
		}
		if s.Detected > 0 {
			headline += fmt.Sprintf("; %s detected only", number(s.Detected))
			worsen(Warn)
		}
		if n := s.Unknown - s.NoEngine; n > 0 {
			headline += fmt.Sprintf("; %s without a clear answer", number(n))
			worsen(Warn)
		}
		if s.NoEngine > 0 {
			headline += fmt.Sprintf("; %s not tried", number(s.NoEngine))
			if why := d.notTried(); why != "" {
				headline += ": " + why
			}
			worsen(Warn)
		}
		headline = strings.TrimRight(headline, ".") + "."
		if refused := s.Twins - s.TwinsAdmitted; refused > 0 {
			twins := 0
			for _, a := range d.Proof.Attacks {
				if a.Twin.Verdict == finding.Blocked {
					twins++
				}
			}
			if twins > 0 {
				notes = append(notes, plural(twins, "harmless twin was", "harmless twins were")+" refused: a policy breaks honest work.")
				worsen(Bad)
			}
			if open := refused - twins; open > 0 {
				notes = append(notes, plural(open, "harmless twin", "harmless twins")+" could not be judged.")
				worsen(Warn)
			}
		}
	}
	if p.Standing == nil {
		notes = append(notes, "Configuration was not validated.")
		worsen(Warn)
	} else if d.Validation.Summary.Objects == 0 && len(d.Validation.Findings) == 0 {
		notes = append(notes, "No object was looked at, so nothing is known about configuration.")
		worsen(Warn)
	} else {
		var parts []string
		total := 0
		for _, s := range finding.Severities {
			if n := p.Standing[s.String()]; n > 0 {
				total += n
				parts = append(parts, number(n)+" "+s.String())
			}
		}
		if total == 0 {
			notes = append(notes, "No finding stands.")
		} else {
			verb := " stand"
			if total == 1 {
				verb = " stands"
			}
			notes = append(notes, plural(total, "finding", "findings")+verb+": "+list(parts)+".")
			worsen(Warn)
		}
		if p.Standing[finding.Critical.String()] > 0 {
			worsen(Bad)
		}
		if p.Accepted > 0 {
			notes = append(notes, plural(p.Accepted, "more is", "more are")+" accepted by exceptions.")
		}
	}
	if p.NotJudged > 0 {
		notes = append(notes, plural(p.NotJudged, "thing was", "things were")+" not judged.")
		worsen(Warn)
	}
	if p.Gaps > 0 {
		notes = append(notes, plural(p.Gaps, "thing", "things")+" that the spec asks for "+map[bool]string{true: "is", false: "are"}[p.Gaps == 1]+" not protected.")
		worsen(Warn)
	}
	missing, unseen := 0, 0
	var unproven []string
	for _, l := range p.Layers {
		if l.Looked {
			missing += l.Declared - l.Present - l.Unlisted
			unseen += l.Unlisted
		}
		if p.Attacks != nil && l.Declared > 0 && l.Attacks == 0 {
			unproven = append(unproven, strings.ReplaceAll(string(l.Layer.Layer), "-", " "))
		}
	}
	if missing > 0 {
		notes = append(notes, plural(missing, "object of the plan is", "objects of the plan are")+" not in the cluster.")
		worsen(Warn)
	}
	if unseen > 0 {
		notes = append(notes, plural(unseen, "object of the plan is", "objects of the plan are")+" of kinds that the cluster does not let us list.")
		worsen(Warn)
	}
	if len(unproven) > 0 {
		notes = append(notes, "Declared, but not attacked: "+list(unproven)+".")
		worsen(Warn)
	}
	if d.Stage != "" && d.Stage != artifact.Enforce {
		notes = append(notes, "The stage is "+string(d.Stage)+": policies "+map[artifact.Stage]string{artifact.Audit: "record", artifact.Warn: "warn"}[d.Stage]+" and do not refuse.")
		worsen(Warn)
	}
	return tone, headline, notes
}

// notTried gives the reason why attacks found no engine, when one reason explains most of them.
func (d *Document) notTried() string {
	count := map[string]int{}
	for _, a := range d.Proof.Attacks {
		if a.Verdict == finding.Unknown && a.NoEngine && a.Evidence != "" {
			count[a.Evidence]++
		}
	}
	best := ""
	for e, n := range count {
		if n > count[best] || n == count[best] && e < best {
			best = e
		}
	}
	return clip(plain(best), 90)
}

func (d *Document) layers() []LayerPosture {
	by := map[artifact.Layer]*LayerPosture{}
	at := func(l artifact.Layer) *LayerPosture {
		if by[l] == nil {
			by[l] = &LayerPosture{Layer: Layer{Layer: l}, Controls: []string{}, Enforcing: []string{}}
		}
		return by[l]
	}
	for _, l := range d.Layers {
		at(l.Layer).Layer = l
	}
	for _, g := range d.Gaps {
		at(g.Layer).Gaps++
	}
	if d.Proof != nil {
		home := d.controlLayers()
		for _, a := range d.Proof.Attacks {
			l := at(a.Layer)
			l.Attacks++
			switch {
			case a.Verdict == finding.Blocked:
				l.Blocked++
			case a.Verdict == finding.Detected:
				l.Detected++
			case a.Verdict == finding.Missed:
				l.Missed++
			case a.NoEngine:
				l.NotTried++
			default:
				l.Unknown++
			}
			for _, c := range a.By {
				if h, ok := home[c]; ok && (a.Verdict == finding.Blocked || a.Verdict == finding.Detected) {
					add(&at(h).Enforcing, c)
				}
			}
		}
		for c, l := range home {
			add(&at(l).Controls, c)
		}
	}
	out := make([]LayerPosture, 0, len(by))
	for _, l := range layerOrder(by) {
		slices.Sort(by[l].Controls)
		slices.Sort(by[l].Enforcing)
		out = append(out, *by[l])
	}
	return out
}

// controlLayers gives the layer of each control that an attack is meant to meet or has met: what the ablation says, else
// the layer of the first attack that is meant to meet it.
func (d *Document) controlLayers() map[string]artifact.Layer {
	known := map[string]artifact.Layer{}
	if d.Proof.Ablation != nil {
		for _, c := range d.Proof.Ablation.Controls {
			known[c.Control] = c.Layer
		}
	}
	out := map[string]artifact.Layer{}
	for _, a := range d.Proof.Attacks {
		if a.Intended == "" {
			continue
		}
		if l, ok := known[a.Intended]; ok {
			out[a.Intended] = l
		} else if _, ok := out[a.Intended]; !ok {
			out[a.Intended] = a.Layer
		}
	}
	for _, a := range d.Proof.Attacks {
		for _, c := range a.By {
			if l, ok := known[c]; ok {
				out[c] = l
			}
		}
	}
	return out
}

func add(to *[]string, s string) {
	if !slices.Contains(*to, s) {
		*to = append(*to, s)
	}
}

// findingGroup is the findings of one check, of one severity.
type findingGroup struct {
	Check, Title, Fix string
	Severity          finding.Severity
	Standards         []string
	Findings          []finding.Finding
}

// group sorts findings for people: by severity, then the checks with the most to mend, then by place. Same input, same
// order, whatever order the findings came in.
func group(findings []finding.Finding) []findingGroup {
	type key struct {
		severity finding.Severity
		check    string
	}
	index := map[key]int{}
	counts := map[key]int{} // findings are large and may be many: each group gets the room that it needs
	for i := range findings {
		counts[key{findings[i].Severity, findings[i].Check}]++
	}
	var out []findingGroup
	for i := range findings {
		f := &findings[i]
		k := key{f.Severity, f.Check}
		at, ok := index[k]
		if !ok {
			at = len(out)
			index[k] = at
			out = append(out, findingGroup{Check: f.Check, Title: f.Title, Severity: f.Severity, Standards: f.Standards, Findings: make([]finding.Finding, 0, counts[k])})
		}
		g := &out[at]
		g.Findings = append(g.Findings, *f)
	}
	for i := range out {
		g := &out[i]
		slices.SortStableFunc(g.Findings, compareFindings)
		g.Fix = g.Findings[0].Fix
	}
	slices.SortStableFunc(out, func(a, b findingGroup) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(len(b.Findings), len(a.Findings)), cmp.Compare(a.Check, b.Check))
	})
	return out
}

func compareFindings(a, b finding.Finding) int {
	if d := cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)); d != 0 {
		return d
	}
	return cmp.Or(cmp.Compare(a.Object.String(), b.Object.String()),
		cmp.Compare(a.Container, b.Container), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
}

// standing, accepted and unknown split findings three ways. Passes are in none of them.
func split(findings []finding.Finding) (standing, accepted, unknown []finding.Finding) {
	plainly := func(f *finding.Finding) bool { return f.Verdict == finding.Fail && f.AcceptedBy == 0 }
	// Validation puts what stands first. When nothing else is among it, that part is taken as it is: there may be very many.
	n := 0
	for n < len(findings) && plainly(&findings[n]) {
		n++
	}
	standing = findings[:n:n]
	for i := n; i < len(findings); i++ {
		switch f := &findings[i]; {
		case plainly(f):
			standing = append(standing, *f)
		case f.Verdict == finding.Fail:
			accepted = append(accepted, *f)
		case f.Verdict == finding.Unknown:
			unknown = append(unknown, *f)
		}
	}
	return standing, accepted, unknown
}

// unjudged is one reason for which things were not judged, with the things.
type unjudged struct {
	Reason string
	Things []finding.NotJudged
}

// unjudgedOf gathers what was not judged by reason, the commonest first. Findings of unknown verdict count.
func unjudgedOf(notJudged []finding.NotJudged, unknown []finding.Finding) []unjudged {
	all := slices.Clone(notJudged)
	for _, f := range unknown {
		all = append(all, finding.NotJudged{What: f.Check + " on " + subject(f), Reason: f.Message, File: f.File, Line: f.Line})
	}
	index := map[string]int{}
	var out []unjudged
	for _, n := range all {
		i, ok := index[n.Reason]
		if !ok {
			i = len(out)
			index[n.Reason] = i
			out = append(out, unjudged{Reason: n.Reason})
		}
		out[i].Things = append(out[i].Things, n)
	}
	slices.SortStableFunc(out, func(a, b unjudged) int {
		return cmp.Or(cmp.Compare(len(b.Things), len(a.Things)), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// unjudged gathers everything of the document that was not judged.
func (d *Document) unjudged() []unjudged {
	all := slices.Clone(d.NotJudged)
	var unknown []finding.Finding
	if d.Validation != nil {
		all = append(all, d.Validation.NotJudged...)
		_, _, unknown = split(d.Validation.Findings)
	}
	if d.Proof != nil {
		for _, a := range d.Proof.Attacks {
			if a.Verdict == finding.Unknown {
				reason := a.Evidence
				if reason == "" {
					reason = "no reason was given"
				}
				all = append(all, finding.NotJudged{What: "attack " + a.ID, Reason: reason})
			}
		}
		for _, n := range d.Proof.NotJudged {
			if !namesAttack(n, d.Proof.Attacks) {
				all = append(all, n)
			}
		}
	}
	return unjudgedOf(all, unknown)
}
