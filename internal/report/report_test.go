package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/prove"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; write it with `go test ./internal/report -update`", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); if that is meant, run the test with -update:\n%s", name, diff)
	}
}

func sampleRule(id string) (check.Check, bool) {
	if id != "run-as-root" {
		return check.Check{}, false
	}
	return check.Check{ID: id, Title: "A container may run as root", Rationale: "Whoever breaks out of a container that runs as root is root on the node.", Fix: "Set securityContext.runAsNonRoot: true and a numeric runAsUser.",
		Severity: finding.High, Layer: artifact.Pods, Standards: []string{"CIS 5.2.7", "PSS restricted", "NIST AC-6(10)"}}, true
}

func written(t *testing.T, f Format, res *check.Result, o Options) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, f, res, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestValidationGoldens(t *testing.T) {
	o := Options{Tool: "v0.2.0", Root: "/src", Rule: sampleRule}
	for _, f := range []struct {
		format Format
		name   string
	}{{Table, "validate.txt"}, {JSON, "validate.json"}, {SARIF, "validate.sarif"}, {JUnit, "validate.xml"}, {Markdown, "validate.md"}} {
		t.Run(string(f.format), func(t *testing.T) {
			before := sampleResult()
			res := sampleResult()
			got := written(t, f.format, res, o)
			golden(t, f.name, got)
			if diff := cmp.Diff(before, res); diff != "" {
				t.Errorf("writing changed the result:\n%s", diff)
			}
			if again := written(t, f.format, sampleResult(), o); !bytes.Equal(got, again) {
				t.Error("the same result gives other bytes")
			}
		})
	}
	narrow := o
	narrow.Width, narrow.Colour = 60, true
	golden(t, "validate-narrow-colour.txt", written(t, Table, sampleResult(), narrow))
	golden(t, "validate-empty.txt", written(t, Table, &check.Result{}, o))
}

func TestDocumentGoldens(t *testing.T) {
	for _, f := range []struct {
		name  string
		doc   *Document
		write func(io.Writer, *Document) error
	}{
		{"report.html", sampleDocument(), WriteHTML}, {"report.md", sampleDocument(), WriteDocumentMarkdown}, {"report.json", sampleDocument(), WriteDocumentJSON},
		{"report-healthy.md", healthyDocument(), WriteDocumentMarkdown}, {"report-nothing.md", &Document{Platform: "bare"}, WriteDocumentMarkdown},
	} {
		t.Run(f.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := f.write(&b, f.doc); err != nil {
				t.Fatal(err)
			}
			golden(t, f.name, b.Bytes())
		})
	}
}

// Every format shows every state: exceptions in all four, what stands, what is accepted and why, what was not judged.
func TestEveryFormatSaysEverything(t *testing.T) {
	outputs := map[string]string{}
	for _, f := range Formats {
		outputs[string(f)] = string(written(t, f, sampleResult(), Options{Width: 10000}))
	}
	for name, write := range map[string]func(io.Writer, *Document) error{"report html": WriteHTML, "report md": WriteDocumentMarkdown, "report json": WriteDocumentJSON} {
		var b bytes.Buffer
		if err := write(&b, sampleDocument()); err != nil {
			t.Fatal(err)
		}
		outputs[name] = b.String()
	}
	for name, out := range outputs {
		plainOut := strings.NewReplacer(`\:`, ":", `\_`, "_").Replace(out)
		for _, want := range []string{
			"used", "unused", "expired", "too broad", // exceptions
			"rbac-wildcard", "k8s/legacy/rbac.yaml", // stands
			"Node 18 until the maestro 3 release", "2027-03-31", // accepted, why, until when
			"the cluster does not let us list them", "it does not parse", // not judged
			"CiliumNetworkPolicy", // a check that could not tell
		} {
			if !strings.Contains(plainOut, want) {
				t.Errorf("%s does not say %q", name, want)
			}
		}
	}
}

// No control character, override or escape sequence of a foreign name reaches a terminal.
func TestTableIsInert(t *testing.T) {
	for _, r := range string(written(t, Table, sampleResult(), Options{})) {
		if r != '\n' && hidden(r) && r != unicode.ReplacementChar {
			t.Fatalf("the table holds %U", r)
		}
	}
}

func TestTableFitsWidth(t *testing.T) {
	for _, width := range []int{40, 60, 80, 120} {
		for _, l := range strings.Split(string(written(t, Table, sampleResult(), Options{Width: width})), "\n") {
			// The summary is one line, so that `tail -1` finds it.
			if n := len([]rune(l)); n > width && !strings.Contains(l, "objects,") {
				t.Errorf("width %d: a line of %d: %s", width, n, l)
			}
		}
	}
}

func TestPeopleFormatsAreBoundedProgramsComplete(t *testing.T) {
	res := crowd(5000, 12, func(i int) string { return "object-" + strconv.Itoa(i) })
	for _, f := range Formats {
		out := string(written(t, f, res, Options{}))
		n := len(regexp.MustCompile(`object-\d+ is wrong`).FindAllString(out, -1))
		switch f {
		case Table, Markdown:
			if n != 12*10 || !strings.Contains(out, " more") {
				t.Errorf("%s lists %d findings, want 10 of each of 12 checks and how many more", f, n)
			}
		default:
			if n < 5000 {
				t.Errorf("%s lists %d of 5000 findings", f, n)
			}
		}
	}
}

func TestJSONContract(t *testing.T) {
	var got struct {
		Version  string
		Summary  map[string]any
		Findings []struct {
			Check, Verdict, Severity string
			Object                   finding.Object
			File, Message, Fix       string
			Line                     int
		}
		NotJudged []finding.NotJudged
	}
	if err := json.Unmarshal(written(t, JSON, sampleResult(), Options{}), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != "v1" || len(got.Findings) != 11 || len(got.NotJudged) != 4 {
		t.Errorf("version %q, %d findings, %d not judged", got.Version, len(got.Findings), len(got.NotJudged))
	}
	if f := got.Findings[0]; f.Check != "rbac-wildcard" || f.Verdict != "fail" || f.Severity != "critical" || f.Object.Name != "ops-everything" || f.Line != 14 || f.Fix == "" {
		t.Errorf("the first finding: %+v", f)
	}
	if empty := written(t, JSON, &check.Result{}, Options{}); bytes.Contains(empty, []byte("null")) {
		t.Errorf("an empty result holds null:\n%s", empty)
	}
	back, err := ReadValidation("v.json", bytes.NewReader(written(t, JSON, sampleResult(), Options{})))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleResult().Exceptions, back.Exceptions); diff != "" {
		t.Error(diff)
	}
}

// The structure that SARIF 2.1.0 asks for, and what GitHub adds to it. With BULWARK_SARIF_SCHEMA naming OASIS's schema
// it is validated by that too.
func TestSARIF(t *testing.T) {
	raw := written(t, SARIF, sampleResult(), Options{Tool: "v0.2.0", Rule: sampleRule})
	if file := os.Getenv("BULWARK_SARIF_SCHEMA"); file != "" {
		s, err := jsonschema.NewCompiler().Compile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range [][]byte{raw, written(t, SARIF, &check.Result{}, Options{}), written(t, SARIF, crowd(300, 7, func(i int) string { return hostile }), Options{})} {
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Validate(v); err != nil {
				t.Errorf("%#v", err)
			}
		}
	}
	var log struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name  string
					Rules []struct {
						ID, Name         string
						ShortDescription struct{ Text string }
						Help             struct{ Text, Markdown string }
						DefaultConfig    struct{ Level string } `json:"defaultConfiguration"`
						Properties       map[string]any
					}
				}
			}
			Invocations []struct {
				ExecutionSuccessful                                        bool
				ToolExecutionNotifications, ToolConfigurationNotifications []struct {
					Level   string
					Message struct{ Text string }
				}
			}
			Results []struct {
				RuleID, Kind, Level string
				RuleIndex           int
				Message             struct{ Text string }
				Locations           []struct {
					PhysicalLocation *struct {
						ArtifactLocation struct{ URI, URIBaseID string }
						Region           *struct{ StartLine int }
					}
					LogicalLocations []struct{ FullyQualifiedName string }
				}
				PartialFingerprints map[string]string
				Suppressions        []struct{ Kind, Status, Justification string }
			}
		}
	}
	if err := json.Unmarshal(raw, &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || log.Schema == "" || len(log.Runs) != 1 {
		t.Fatalf("version %q, schema %q, %d runs", log.Version, log.Schema, len(log.Runs))
	}
	run := log.Runs[0]
	ids := map[string]bool{}
	for i, r := range run.Tool.Driver.Rules {
		if ids[r.ID] {
			t.Errorf("rule %s occurs twice", r.ID)
		}
		ids[r.ID] = true
		score, err := strconv.ParseFloat(fmt.Sprint(r.Properties["security-severity"]), 64)
		if err != nil || score < 0 || score > 10 {
			t.Errorf("rules[%d]: security-severity %v", i, r.Properties["security-severity"])
		}
		if r.Help.Text == "" || r.Help.Markdown == "" || r.ShortDescription.Text == "" || !strings.Contains("error warning note", r.DefaultConfig.Level) {
			t.Errorf("rules[%d] is incomplete: %+v", i, r)
		}
	}
	if len(run.Results) != 11 {
		t.Errorf("%d results, want all 11", len(run.Results))
	}
	levels, kinds, suppressed := map[string]int{}, map[string]int{}, 0
	prints := map[string]bool{}
	for i, r := range run.Results {
		if r.RuleIndex >= len(run.Tool.Driver.Rules) || run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("results[%d]: ruleIndex %d is not %s", i, r.RuleIndex, r.RuleID)
		}
		levels[r.Level]++
		kinds[r.Kind]++
		if r.Kind != "fail" && r.Level != "none" {
			t.Errorf("results[%d]: kind %s with level %s", i, r.Kind, r.Level)
		}
		for _, s := range r.Suppressions {
			suppressed++
			if s.Kind != "external" || s.Status != "accepted" || !strings.Contains(s.Justification, "until") {
				t.Errorf("results[%d]: %+v", i, s)
			}
		}
		p := r.Locations[0].PhysicalLocation
		if p == nil || strings.HasPrefix(p.ArtifactLocation.URI, "/") || strings.ContainsAny(p.ArtifactLocation.URI, "\\ |<`") || p.ArtifactLocation.URIBaseID != "%SRCROOT%" {
			t.Errorf("results[%d]: location %+v", i, p)
		} else if p.Region == nil || p.Region.StartLine < 1 {
			t.Errorf("results[%d]: no line", i)
		}
		if f := r.PartialFingerprints["primaryLocationLineHash"]; f == "" || prints[f] {
			t.Errorf("results[%d]: fingerprint %q is empty or not the finding's own", i, f)
		} else {
			prints[f] = true
		}
		if strings.Contains(r.Message.Text, "](") {
			t.Errorf("results[%d]: the message forms a link: %s", i, r.Message.Text)
		}
	}
	if suppressed != 3 || kinds["open"] != 1 || kinds["fail"] != 10 {
		t.Errorf("%d suppressed, kinds %v, levels %v", suppressed, kinds, levels)
	}
	inv := run.Invocations[0]
	if len(inv.ToolExecutionNotifications) != 4 || len(inv.ToolConfigurationNotifications) != 4 {
		t.Errorf("%d notifications on what was not judged, want 4; %d on exceptions, want 4", len(inv.ToolExecutionNotifications), len(inv.ToolConfigurationNotifications))
	}
}

func TestSARIFPlaces(t *testing.T) {
	for _, c := range []struct{ file, root, uri, base string }{
		{"k8s/a.yaml", "", "k8s/a.yaml", "%SRCROOT%"},
		{"./k8s/../k8s/a.yaml", "", "k8s/a.yaml", "%SRCROOT%"},
		{`k8s\win\a.yaml`, "", "k8s/win/a.yaml", "%SRCROOT%"},
		{"/src/k8s/a.yaml", "/src", "k8s/a.yaml", "%SRCROOT%"},
		{"/src/k8s/a.yaml", "/src/", "k8s/a.yaml", "%SRCROOT%"},
		{"/srcx/a.yaml", "/src", "file:///srcx/a.yaml", ""},
		{"a b#c?.yaml", "", "a%20b%23c%3F.yaml", "%SRCROOT%"},
		{"http:x/a.yaml", "", "./http:x/a.yaml", "%SRCROOT%"},
	} {
		p := physical(c.file, 3, c.root)
		if p.Artifact.URI != c.uri || p.Artifact.Base != c.base {
			t.Errorf("%s below %q: %+v, want %s %s", c.file, c.root, p.Artifact, c.uri, c.base)
		}
	}
}

func TestJUnit(t *testing.T) {
	raw := written(t, JUnit, sampleResult(), Options{})
	var got junitSuites
	if err := xml.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	var tests, failures, errs, skipped int
	suites := map[string]junitSuite{}
	for _, s := range got.Suites {
		var n, f, e, k int
		for _, c := range s.Cases {
			n++
			if c.Failure != nil {
				f++
			}
			if c.Error != nil {
				e++
			}
			if c.Skipped != nil {
				k++
			}
			if c.Name == "" || c.Class == "" {
				t.Errorf("suite %s has a case without a name", s.Name)
			}
		}
		if n != s.Tests || f != s.Failures || e != s.Errors || k != s.Skipped {
			t.Errorf("suite %s counts %d/%d/%d/%d, holds %d/%d/%d/%d", s.Name, s.Tests, s.Failures, s.Errors, s.Skipped, n, f, e, k)
		}
		tests, failures, errs, skipped = tests+n, failures+f, errs+e, skipped+k
		suites[s.Name] = s
	}
	if got.Tests != tests || got.Failures != failures || got.Errors != errs || got.Skipped != skipped {
		t.Errorf("the whole counts %+v", got)
	}
	if failures != 7 || errs != 5 || suites["not judged"].Errors != 4 || suites["network-isolated"].Errors != 1 || suites["privileged"].Skipped != 1 || suites["exceptions"].Tests != 4 {
		t.Errorf("%d failures, want 7; %d errors, want 5 (4 not judged, 1 unknown); %+v", failures, errs, suites)
	}
}

// The page of 5,000 findings and of names that are nothing but escapes stays small and says how much it left out.
func TestPageIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		n, checks int
		object    func(int) string
	}{
		"many":      {5000, 50, func(i int) string { return "object-" + strconv.Itoa(i) }},
		"hostile":   {5000, 50, func(i int) string { return strings.Repeat(`<"&'>`, 200) + strconv.Itoa(i) }},
		"wide":      {5000, 5000, func(i int) string { return strings.Repeat("界", 500) }},
		"long tail": {200000, 3, func(i int) string { return "x" }},
	} {
		t.Run(name, func(t *testing.T) {
			d := sampleDocument()
			d.Validation = crowd(c.n, c.checks, c.object)
			for i := range 3000 {
				d.Proof.Attacks = append(d.Proof.Attacks, prove.Result{ID: fmt.Sprint(c.object(i), i), Layer: artifact.Layer(fmt.Sprint("layer", i%90)), Title: c.object(i), Verdict: finding.Blocked, Intended: "a/" + c.object(i), By: []string{"a/" + c.object(i), "b" + strconv.Itoa(i) + "/x"}, Evidence: c.object(i), Twin: prove.Twin{Verdict: finding.Admitted}})
				d.Gaps = append(d.Gaps, artifact.Gap{Layer: "mesh", Subject: c.object(i), Reason: c.object(i)})
				d.NotJudged = append(d.NotJudged, finding.NotJudged{What: c.object(i), Reason: c.object(i % 100)})
				d.Validation.Exceptions = append(d.Validation.Exceptions, finding.ExceptionResult{Exception: finding.Exception{Finding: c.object(i), On: c.object(i), Reason: c.object(i)}, State: finding.Unused})
				d.Proof.Ablation.Controls = append(d.Proof.Ablation.Controls, prove.AblatedControl{Control: c.object(i), Missed: []string{c.object(i)}})
			}
			for format, write := range map[string]func(io.Writer, *Document) error{"html": WriteHTML, "md": WriteDocumentMarkdown} {
				var b bytes.Buffer
				if err := write(&b, d); err != nil {
					t.Fatal(err)
				}
				t.Logf("%s: %d KiB", format, b.Len()>>10)
				if format == "html" && b.Len() > 5<<20 {
					t.Errorf("the page has %d bytes, more than 5 MB", b.Len())
				}
				if format == "md" && b.Len() > 1<<20+200<<10 {
					t.Errorf("the Markdown has %d bytes, more than 1.2 MiB", b.Len())
				}
				if !strings.Contains(b.String(), "more") {
					t.Error("it does not say what it left out")
				}
			}
		})
	}
}

// A comment that GitHub refuses helps nobody; and findings must not push out what was not judged.
func TestMarkdownFitsAComment(t *testing.T) {
	for _, name := range []string{"x", hostile, strings.Repeat("界|", 300)} {
		res := crowd(5000, 400, func(int) string { return name })
		for i := range 500 {
			res.NotJudged = append(res.NotJudged, finding.NotJudged{What: name, Reason: fmt.Sprint("reason ", i, name)})
			res.Exceptions = append(res.Exceptions, finding.ExceptionResult{Exception: finding.Exception{Finding: name, On: name, Reason: name}, State: finding.Expired})
		}
		out := string(written(t, Markdown, res, Options{}))
		if len(out) > 65536 || !strings.Contains(out, "### ❔ Not judged: 500") || !strings.Contains(out, "reason 0") || !strings.Contains(out, "**expired**") || !strings.Contains(out, "more; the JSON output lists all") {
			t.Errorf("%d bytes; it must stay below 65536 and still name exceptions and what was not judged:\n%.300s", len(out), out[len(out)-300:])
		}
	}
}

func TestPageTones(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Document)
		tone   Tone
		says   string
	}{
		{"all well", func(*Document) {}, Good, "9 of 9 attacks blocked."},
		{"a missed attack", func(d *Document) { d.Proof.Attacks[0].Verdict = finding.Missed }, Bad, "1 of 9 attacks got through; 8 blocked."},
		{"an unknown attack", func(d *Document) { d.Proof.Attacks[0].Verdict = finding.Unknown }, Warn, "8 of 9 attacks blocked; 1 without a clear answer."},
		{"an untried attack", func(d *Document) {
			d.Proof.Attacks[0].Verdict, d.Proof.Attacks[0].NoEngine, d.Proof.Attacks[0].Evidence = finding.Unknown, true, "no network plugin here"
		}, Warn, "8 of 8 attacks blocked; 1 not tried: no network plugin here."},
		{"nothing tried", func(d *Document) {
			for i := range d.Proof.Attacks {
				d.Proof.Attacks[i].Verdict, d.Proof.Attacks[i].NoEngine = finding.Unknown, true
			}
		}, Warn, "No attack could be tried here"},
		{"attacks on the plan only", func(d *Document) { d.Proof.Engine = "offline: the Pod Security library" }, Warn, "9 of 9 attacks blocked by the plan."},
		{"no attacks", func(d *Document) { d.Proof = nil }, Warn, "No attack was tried"},
		{"a refused twin", func(d *Document) { d.Proof.Attacks[0].Twin.Verdict = finding.Blocked }, Bad, "9 of 9 attacks blocked."},
		{"an unknown twin", func(d *Document) { d.Proof.Attacks[0].Twin.Verdict = finding.Unknown }, Warn, "9 of 9 attacks blocked."},
		{"not validated", func(d *Document) { d.Validation = nil }, Warn, "9 of 9"},
		{"a low finding", func(d *Document) {
			d.Validation.Findings = []finding.Finding{{Check: "x", Verdict: finding.Fail, Severity: finding.Low}}
		}, Warn, "9 of 9"},
		{"a critical finding", func(d *Document) {
			d.Validation.Findings = []finding.Finding{{Check: "x", Verdict: finding.Fail, Severity: finding.Critical}}
		}, Bad, "9 of 9"},
		{"something not judged", func(d *Document) { d.Validation.NotJudged = []finding.NotJudged{{What: "x", Reason: "y"}} }, Warn, "9 of 9"},
		{"no object looked at", func(d *Document) { d.Validation.Summary.Objects = 0 }, Warn, "9 of 9"},
		{"a gap", func(d *Document) { d.Gaps = []artifact.Gap{{Subject: "x"}} }, Warn, "9 of 9"},
		{"a declared layer that nothing attacks", func(d *Document) { d.Layers = append(d.Layers, Layer{Layer: artifact.Mesh, Declared: 3}) }, Warn, "9 of 9"},
		{"a declared object that is not there", func(d *Document) { d.Layers[0].Present-- }, Warn, "9 of 9"},
		{"the audit stage", func(d *Document) { d.Stage = artifact.Audit }, Warn, "9 of 9"},
		{"an empty file's summary is not believed", func(d *Document) { d.Proof.Attacks = nil; d.Proof.Summary.Blocked = 99 }, Warn, "No attack could be tried"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := healthyDocument()
			c.change(d)
			p := d.Posture()
			if p.Tone != c.tone || !strings.Contains(p.Headline, c.says) {
				t.Errorf("%s %q %q, want %s and %q", p.Tone, p.Headline, p.Notes, c.tone, c.says)
			}
			var b bytes.Buffer
			if err := WriteHTML(&b, d); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(b.String(), `class="verdict `+string(c.tone)+`"`) {
				t.Errorf("the page is not %s", c.tone)
			}
		})
	}
}

func TestLayers(t *testing.T) {
	object := func(apiVersion, kind, ns, name string, layer artifact.Layer) artifact.Artifact {
		return artifact.Artifact{Layer: layer, Object: map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"namespace": ns, "name": name}}}
	}
	plan := &artifact.Plan{Artifacts: []artifact.Artifact{
		object("v1", "Namespace", "", "a", artifact.Pods), object("networking.k8s.io/v1", "NetworkPolicy", "a", "deny", artifact.Network),
		object("networking.k8s.io/v1", "NetworkPolicy", "a", "gone", artifact.Network), object("v1", "Secret", "a", "s", artifact.Secrets), {Layer: artifact.Pods, Path: "charts/x", Content: []byte("x")},
	}}
	snap := cluster.New([]*cluster.Object{
		{APIVersion: "v1", Kind: "Namespace", Meta: &metav1.ObjectMeta{Name: "a"}},
		{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy", Meta: &metav1.ObjectMeta{Namespace: "a", Name: "deny"}},
		{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy", Meta: &metav1.ObjectMeta{Namespace: "b", Name: "gone"}},
	}, true, nil)
	snap.Unlisted = []string{"/secrets"}
	want := []Layer{{artifact.Pods, 1, 1, 0, true}, {artifact.Network, 2, 1, 0, true}, {artifact.Secrets, 1, 0, 1, true}}
	if diff := cmp.Diff(want, Layers(plan, snap)); diff != "" {
		t.Error(diff)
	}
	for _, l := range Layers(plan, nil) {
		if l.Looked || l.Present > 0 {
			t.Errorf("without a cluster: %+v", l)
		}
	}
}

func TestReadProof(t *testing.T) {
	var good bytes.Buffer
	if err := encode(&good, sampleProof()); err != nil {
		t.Fatal(err)
	}
	back, err := ReadProof("prove.json", bytes.NewReader(good.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleProof(), back); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct {
		name string
		text string
		want string
	}{
		{"empty", "", "empty; write it with `bulwark prove -o json`"},
		{"not JSON", "hello", "prove.json:1:2: not a result of `bulwark prove -o json`: invalid character"},
		{"cut off", good.String()[:good.Len()/2], "unexpected end of JSON input"},
		{"other version", `{"version":"v9"}`, `version "v9"; this Bulwark reads "v1"`},
		{"no version", `{}`, `version ""`},
		{"an array", `[]`, "prove.json:1:2"},
		{"unknown field", `{"version":"v1","bogus":1}`, `unknown field "bogus"`},
		{"wrong type", "{\"version\":\"v1\",\n\"attacks\":7}", "prove.json:2:12"},
		{"more after it", good.String() + "{}", "invalid character"},
		{"a summary that lies", strings.Replace(good.String(), `"missed": 1`, `"missed": 0`, 1), "its summary says"},
		{"a verdict that is none", strings.Replace(good.String(), `"verdict": "missed"`, `"verdict": "fine"`, 1), `verdict "fine"; one of: blocked, detected, missed, unknown`},
		{"blocked by nobody", `{"version":"v1","engine":"x","summary":{"attacks":1,"blocked":1},"attacks":[{"id":"a","verdict":"blocked","severity":"high"}]}`, `"by" names nothing`},
		{"blocked though not tried", `{"version":"v1","engine":"x","attacks":[{"id":"a","verdict":"blocked","by":["x"],"noEngine":true,"severity":"high"}]}`, "though no engine tried it"},
		{"twice", `{"version":"v1","engine":"x","attacks":[{"id":"a","verdict":"missed","severity":"high"},{"id":"a","verdict":"missed","severity":"high"}]}`, "occurs twice"},
		{"a severity that is none", `{"version":"v1","engine":"x","attacks":[{"id":"a","verdict":"missed","severity":"awful"}]}`, "awful"},
		{"ablation of another file", `{"version":"v1","engine":"x","summary":{},"attacks":[],"ablation":{"singleLayer":["z"]}}`, "not in the file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ReadProof("prove.json", strings.NewReader(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	if _, err := ReadProof("prove.json", io.LimitReader(endless{}, MaxInput*2)); err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("a huge file: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestReadValidation(t *testing.T) {
	good := string(written(t, JSON, sampleResult(), Options{}))
	for _, c := range []struct{ name, from, to, want string }{
		{"a summary that lies", `"critical": 1`, `"critical": 0`, "its summary counts"},
		{"a verdict that is none", `"verdict": "fail"`, `"verdict": "ok"`, `verdict "ok"`},
		{"accepted by nobody", `"acceptedBy": 1`, `"acceptedBy": 77`, "exception 77, but the file holds 4"},
		{"accepted by an expired one", `"acceptedBy": 1`, `"acceptedBy": 3`, "which is expired"},
		{"a state that is none", `"state": "used"`, `"state": "forever"`, `state "forever"`},
	} {
		if !strings.Contains(good, c.from) {
			t.Fatalf("%s: the sample holds no %s", c.name, c.from)
		}
		_, err := ReadValidation("validate.json", strings.NewReader(strings.Replace(good, c.from, c.to, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func TestParseFormat(t *testing.T) {
	for in, want := range map[string]Format{"table": Table, "JSON": JSON, "md": Markdown, "xml": JUnit, "sarif": SARIF} {
		if got, err := ParseFormat(in); err != nil || got != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	if _, err := ParseFormat("yaml"); err == nil || !strings.Contains(err.Error(), "table, json, sarif, junit, markdown") {
		t.Errorf("yaml: %v", err)
	}
	if err := Write(io.Discard, "yaml", &check.Result{}, Options{}); err == nil {
		t.Error("Write takes yaml")
	}
}

// failing fails after n bytes: each writer must say that its output is not whole.
type failing struct{ n int }

func (f *failing) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestWritersReportErrors(t *testing.T) {
	for _, f := range Formats {
		if err := Write(&failing{100}, f, sampleResult(), Options{}); err == nil {
			t.Errorf("%s: no error from a full disk", f)
		}
	}
	for i, write := range []func(io.Writer, *Document) error{WriteHTML, WriteDocumentMarkdown, WriteDocumentJSON} {
		if err := write(&failing{100}, sampleDocument()); err == nil {
			t.Errorf("document writer %d: no error from a full disk", i)
		}
	}
}

var inertMarkdown = regexp.MustCompile(`^(?:&(?:amp|lt|gt);|\\[\\` + "`" + `*_\[\]|~!:$.]|[@#]<!-- -->|[^\\` + "`" + `*_\[\]|~!:$<>&@#\n\r])*$`)

func FuzzEscapeMarkdown(f *testing.F) {
	for _, s := range []string{hostile, "", "a|b", "`", "\\|", "@org/team", "www.evil.example", "a\r\nb\u2028c", "&#x40;me", "\xff\xfe", "<!-- -->", "$x$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := escapeMarkdown(s); !inertMarkdown.MatchString(got) {
			t.Errorf("%q is not inert: %q", s, got)
		}
		code := codeMarkdown(s)
		switch inner := strings.Trim(code, "`"); {
		case code == "–":
		case strings.HasPrefix(code, "<code>"):
			if !inertMarkdown.MatchString(strings.TrimSuffix(strings.TrimPrefix(code, "<code>"), "</code>")) {
				t.Errorf("%q is not inert code: %q", s, code)
			}
		case strings.ContainsAny(inner, "`|\n\\<&") || len(code) != len(inner)+2:
			t.Errorf("%q breaks out of a code span: %q", s, code)
		}
	})
}

func FuzzWriters(f *testing.F) {
	f.Add(hostile, "k8s/a.yaml", 3)
	f.Add("", "", -1)
	f.Add("\x1b[2J", `C:\x|y`, 1<<30)
	f.Add("]]>", "%zz", 0)
	f.Fuzz(func(t *testing.T, s, file string, line int) {
		res := &check.Result{Findings: []finding.Finding{{Check: s, Title: s, Verdict: finding.Fail, Severity: finding.High, Object: finding.Object{Kind: s, Namespace: s, Name: s}, Container: s, Path: s, File: file, Line: line, Message: s, Fix: s, Standards: []string{s}}},
			NotJudged:  []finding.NotJudged{{What: s, Reason: s, File: file, Line: line}},
			Exceptions: []finding.ExceptionResult{{Exception: finding.Exception{Finding: s, On: s, Owner: s, Reason: s, File: file, Line: line}, State: finding.Unused, Note: s}}}
		for _, r := range string(written(t, Table, res, Options{Width: 60})) {
			if r != '\n' && hidden(r) && r != unicode.ReplacementChar {
				t.Fatalf("the table holds %U", r)
			}
		}
		for _, l := range strings.Split(string(written(t, Markdown, res, Options{})), "\n") {
			if strings.HasPrefix(l, "| ") {
				// Every row of the three-column tables and of the wider ones keeps the number of cells of its head.
				if n := strings.Count(strings.ReplaceAll(l, `\|`, ""), "|"); n != 4 && n != 8 && n != 9 {
					t.Errorf("a row of %d bars: %s", n, l)
				}
			}
		}
		if err := xml.Unmarshal(written(t, JUnit, res, Options{}), new(junitSuites)); err != nil {
			t.Errorf("JUnit: %v", err)
		}
		for _, format := range []Format{JSON, SARIF} {
			if out := written(t, format, res, Options{}); !json.Valid(out) {
				t.Errorf("%s is not JSON", format)
			}
		}
		var b bytes.Buffer
		d := &Document{Platform: s, Cluster: s, Spec: file, Tool: s, Validation: res, ProofFrom: s, Gaps: []artifact.Gap{{Layer: artifact.Layer(s), Subject: s, Reason: s, Because: s}},
			Proof: &prove.Report{Engine: s, Attacks: []prove.Result{{ID: s, Layer: artifact.Layer(s), Title: s, Verdict: finding.Verdict(s), Intended: s, By: []string{s, "a/" + s}, Evidence: s, Fix: s, Standards: []string{s}, Twin: prove.Twin{Verdict: finding.Unknown, Differs: s, Evidence: s}}},
				Ablation: &prove.Ablation{Controls: []prove.AblatedControl{{Control: s, Layer: artifact.Layer(s), Missed: []string{s}}}, SingleLayer: []string{s}}}}
		if err := WriteHTML(&b, d); err != nil {
			t.Fatal(err)
		}
		page := b.String()
		if n := strings.Count(strings.ToLower(page), "<script"); n != 0 {
			t.Errorf("the page holds a script")
		}
		if strings.Count(page, "<table") != strings.Count(page, "</table>") || strings.Count(page, "</html>") != 1 || strings.Count(page, "<style>") != 1 {
			t.Error("the page's parts do not match")
		}
	})
}

func FuzzReadProof(f *testing.F) {
	var b bytes.Buffer
	_ = encode(&b, sampleProof())
	f.Add(b.Bytes())
	f.Add([]byte(`{"version":"v1","attacks":[{"id":"a","verdict":"unknown","severity":"low"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rep, err := ReadProof("p", bytes.NewReader(data))
		if err != nil {
			return
		}
		if err := WriteHTML(io.Discard, &Document{Proof: rep}); err != nil {
			t.Error(err)
		}
	})
}
