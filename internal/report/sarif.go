package report

import (
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/finding"
)

// The part of SARIF 2.1.0 that Bulwark writes (https://docs.oasis-open.org/sarif/sarif/v2.1.0/). Only required properties
// and those that viewers use.
type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool        sarifTool         `json:"tool"`
	Automation  sarifAutomation   `json:"automationDetails"`
	Invocations []sarifInvocation `json:"invocations"`
	ColumnKind  string            `json:"columnKind"`
	Results     []sarifResult     `json:"results"`
	Properties  map[string]any    `json:"properties"`
}

type sarifAutomation struct {
	ID string `json:"id"`
}

type sarifTool struct {
	Driver sarifDriver `json:"driver"`
}

type sarifDriver struct {
	Name           string      `json:"name"`
	Version        string      `json:"version,omitempty"`
	InformationURI string      `json:"informationUri"`
	Rules          []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Short      sarifText      `json:"shortDescription"`
	Full       *sarifText     `json:"fullDescription,omitempty"`
	Help       sarifHelp      `json:"help"`
	Default    sarifConfig    `json:"defaultConfiguration"`
	Properties map[string]any `json:"properties"`
}

type sarifText struct {
	Text string `json:"text"`
}

type sarifHelp struct {
	Text     string `json:"text"`
	Markdown string `json:"markdown"`
}

type sarifConfig struct {
	Level string `json:"level"`
}

type sarifResult struct {
	RuleID       string             `json:"ruleId"`
	RuleIndex    int                `json:"ruleIndex"`
	Kind         string             `json:"kind"`
	Level        string             `json:"level"`
	Message      sarifText          `json:"message"`
	Locations    []sarifLocation    `json:"locations"`
	Fingerprints map[string]string  `json:"partialFingerprints,omitempty"`
	Suppressions []sarifSuppression `json:"suppressions"`
	Properties   map[string]any     `json:"properties"`
}

type sarifLocation struct {
	Physical *sarifPhysical `json:"physicalLocation,omitempty"`
	Logical  []sarifLogical `json:"logicalLocations,omitempty"`
}

type sarifPhysical struct {
	Artifact sarifArtifact `json:"artifactLocation"`
	Region   *sarifRegion  `json:"region,omitempty"`
}

type sarifArtifact struct {
	URI  string `json:"uri"`
	Base string `json:"uriBaseId,omitempty"`
}

type sarifRegion struct {
	StartLine int `json:"startLine"`
}

type sarifLogical struct {
	Name     string `json:"name"`
	FullName string `json:"fullyQualifiedName"`
	Kind     string `json:"kind"`
}

type sarifSuppression struct {
	Kind          string         `json:"kind"`
	Status        string         `json:"status"`
	Justification string         `json:"justification"`
	Properties    map[string]any `json:"properties,omitempty"`
}

type sarifInvocation struct {
	Successful    bool                `json:"executionSuccessful"`
	Notifications []sarifNotification `json:"toolExecutionNotifications"`
	Configuration []sarifNotification `json:"toolConfigurationNotifications"`
}

type sarifNotification struct {
	Level     string          `json:"level"`
	Message   sarifText       `json:"message"`
	Locations []sarifLocation `json:"locations,omitempty"`
}

// sarifLevels and securitySeverities map ours to SARIF's level and to the number by which GitHub sorts
// (https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning):
// above 9.0 critical, 7.0 high, 4.0 medium, 0.1 low. The number is always a number: "null" or "undefined" there makes
// GitHub refuse the whole file.
var (
	sarifLevels        = map[finding.Severity]string{finding.Critical: "error", finding.High: "error", finding.Medium: "warning", finding.Low: "note", finding.Info: "note"}
	securitySeverities = map[finding.Severity]string{finding.Critical: "9.5", finding.High: "8.0", finding.Medium: "5.5", finding.Low: "2.0", finding.Info: "0.0"}
)

// writeSARIF writes SARIF 2.1.0. Accepted findings are results with a suppression, unknown ones results of kind "open",
// what was not judged at all a notification, and exceptions that want attention a configuration notification.
func writeSARIF(w io.Writer, res *check.Result, opts Options) error {
	run := sarifRun{
		Tool:       sarifTool{Driver: sarifDriver{Name: "Bulwark", Version: opts.Tool, InformationURI: "https://github.com/intelgraph/bulwark", Rules: []sarifRule{}}},
		Automation: sarifAutomation{ID: "bulwark/validate/"},
		ColumnKind: "utf16CodeUnits",
		Results:    []sarifResult{},
		Properties: map[string]any{"exceptions": orEmpty(res.Exceptions), "summary": res.Summary},
	}
	index := map[string]int{}
	rule := func(id, title string, sev finding.Severity, fix string, standards []string) int {
		if i, ok := index[id]; ok {
			return i
		}
		index[id] = len(run.Tool.Driver.Rules)
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, newRule(id, title, sev, fix, standards, opts))
		return index[id]
	}
	first := map[string]finding.Finding{}
	for _, f := range res.Findings {
		if _, ok := first[f.Check]; !ok {
			first[f.Check] = f
		}
	}
	for _, t := range res.Checks {
		f := first[t.Check]
		rule(t.Check, t.Title, t.Severity, f.Fix, f.Standards)
	}
	for _, f := range res.Findings {
		if f.Verdict != finding.Fail && f.Verdict != finding.Unknown {
			continue
		}
		text := plain(f.Message)
		if f.Fix != "" {
			text = strings.TrimRight(text, ".") + ". Fix: " + plain(f.Fix)
		}
		r := sarifResult{
			RuleID: f.Check, RuleIndex: rule(f.Check, f.Title, f.Severity, f.Fix, f.Standards),
			Kind: "fail", Level: sarifLevels[f.Severity],
			Message:      sarifText{unlink(text)},
			Locations:    locations(f, opts.Root),
			Suppressions: []sarifSuppression{},
			Properties:   map[string]any{"severity": f.Severity, "security-severity": securitySeverities[f.Severity], "object": f.Object, "verdict": f.Verdict},
		}
		if f.Path != "" {
			r.Properties["path"] = f.Path
		}
		if f.Container != "" {
			r.Properties["container"] = f.Container
		}
		if f.Fingerprint != "" {
			r.Fingerprints = map[string]string{"bulwark/v1": f.Fingerprint, "primaryLocationLineHash": f.Fingerprint + ":1"}
		}
		switch {
		case f.Verdict == finding.Unknown:
			// SARIF 3.27.9: open means that the tool could not tell; 3.27.10: then level is none.
			r.Kind, r.Level = "open", "none"
			r.Message.Text = "Not judged: " + r.Message.Text
		case f.AcceptedBy > 0:
			s := sarifSuppression{Kind: "external", Status: "accepted", Justification: accepted(res, f)}
			if i := f.AcceptedBy - 1; i < len(res.Exceptions) {
				e := res.Exceptions[i]
				s.Properties = map[string]any{"owner": e.Owner, "expires": e.Expires, "state": e.State}
			}
			r.Suppressions = append(r.Suppressions, s)
		}
		run.Results = append(run.Results, r)
	}
	inv := sarifInvocation{Successful: true, Notifications: []sarifNotification{}, Configuration: []sarifNotification{}}
	for _, n := range res.NotJudged {
		note := sarifNotification{Level: "warning", Message: sarifText{unlink("Not judged: " + plain(n.What) + ": " + plain(n.Reason))}}
		if n.File != "" {
			note.Locations = []sarifLocation{{Physical: physical(n.File, n.Line, opts.Root)}}
		}
		inv.Notifications = append(inv.Notifications, note)
	}
	for _, e := range exceptionsByState(res.Exceptions) {
		level := "warning"
		if e.State == finding.Used {
			level = "note"
		}
		note := sarifNotification{Level: level, Message: sarifText{unlink(fmt.Sprintf("Exception %s for %s on %s is %s; owner %s, expires %s. %s",
			exceptionNumber(e.Number), plain(e.Finding), plain(e.On), e.State, plain(e.Owner), plain(e.Expires), plain(e.Note)))}}
		note.Message.Text = strings.TrimSpace(note.Message.Text)
		if e.File != "" {
			note.Locations = []sarifLocation{{Physical: physical(e.File, e.Line, opts.Root)}}
		}
		inv.Configuration = append(inv.Configuration, note)
	}
	run.Invocations = []sarifInvocation{inv}
	return encode(w, sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}})
}

func newRule(id, title string, sev finding.Severity, fix string, standards []string, opts Options) sarifRule {
	var rationale, layer string
	if opts.Rule != nil {
		if c, ok := opts.Rule(id); ok {
			title, sev, fix, standards, rationale, layer = c.Title, c.Severity, c.Fix, c.Standards, c.Rationale, string(c.Layer)
		}
	}
	if title == "" {
		title = id
	}
	text, md := []string{plain(title) + "."}, []string{"**" + escapeMarkdown(title) + "**"}
	if rationale != "" {
		text, md = append(text, "Why: "+plain(rationale)), append(md, escapeMarkdown(rationale))
	}
	if fix != "" {
		text, md = append(text, "Fix: "+plain(fix)), append(md, "**Fix:** "+escapeMarkdown(fix))
	}
	if len(standards) > 0 {
		text, md = append(text, "Standards: "+plain(strings.Join(standards, ", "))), append(md, "Standards: "+escapeMarkdown(strings.Join(standards, ", ")))
	}
	tags := []string{"security", "kubernetes"}
	if layer != "" {
		tags = append(tags, layer)
	}
	for _, s := range standards {
		// GitHub takes 20 tags a rule.
		if len(tags) < 20 && !slices.Contains(tags, s) {
			tags = append(tags, s)
		}
	}
	r := sarifRule{
		ID: id, Name: camel(id), Short: sarifText{plain(title)},
		Help:       sarifHelp{Text: strings.Join(text, "\n"), Markdown: strings.Join(md, "\n\n")},
		Default:    sarifConfig{sarifLevels[sev]},
		Properties: map[string]any{"security-severity": securitySeverities[sev], "tags": tags, "precision": "high", "problem.severity": map[string]string{"error": "error", "warning": "warning", "note": "recommendation"}[sarifLevels[sev]]},
	}
	if rationale != "" {
		r.Full = &sarifText{plain(rationale)}
	}
	return r
}

// camel gives "RunAsRoot" for "run-as-root": SARIF wants a rule's name to be an identifier that people can read.
func camel(id string) string {
	var b strings.Builder
	for _, w := range strings.FieldsFunc(id, func(r rune) bool { return r == '-' || r == '_' || r == '/' || r == '.' || r == ' ' }) {
		b.WriteString(strings.ToUpper(w[:1]) + w[1:])
	}
	if b.Len() == 0 {
		return "Rule"
	}
	return strings.ToValidUTF8(b.String(), "")
}

// unlink keeps foreign text from forming an embedded link, which SARIF allows in plain messages (3.11.6).
func unlink(s string) string { return strings.ReplaceAll(s, "](", "] (") }

func locations(f finding.Finding, root string) []sarifLocation {
	l := sarifLocation{Logical: []sarifLogical{{Name: f.Object.Name, FullName: subject(f), Kind: "resource"}}}
	if f.File != "" {
		l.Physical = physical(f.File, f.Line, root)
	}
	return []sarifLocation{l}
}

// physical gives a place as a URI: relative to the source root where it can be, with forward slashes and everything
// escaped that a URI reserves.
func physical(file string, line int, root string) *sarifPhysical {
	name := strings.ReplaceAll(file, `\`, "/")
	if root != "" && path.IsAbs(name) {
		if rel, ok := strings.CutPrefix(path.Clean(name), strings.TrimSuffix(path.Clean(root), "/")+"/"); ok {
			name = rel
		}
	}
	p := &sarifPhysical{}
	switch clean := path.Clean(name); {
	case path.IsAbs(clean):
		p.Artifact.URI = (&url.URL{Scheme: "file", Path: clean}).String()
	default:
		// A colon in the first segment would read as a scheme; url.URL puts "./" before it.
		p.Artifact = sarifArtifact{URI: (&url.URL{Path: clean}).String(), Base: "%SRCROOT%"}
	}
	if line > 0 {
		p.Region = &sarifRegion{StartLine: line}
	}
	return p
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
