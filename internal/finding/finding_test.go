package finding

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var today = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func names(f Finding) []string {
	out := []string{f.Object.String(), f.Object.Namespace + "/" + f.Object.Name}
	if f.Object.Name == "maestro" {
		out = append(out, "component/maestro")
	}
	return out
}

func failing(check, kind, ns, name string) Finding {
	return Finding{Check: check, Verdict: Fail, Object: Object{Kind: kind, Namespace: ns, Name: name}}
}

func TestAccept(t *testing.T) {
	findings := []Finding{
		failing("host-network", "Deployment", "prod", "maestro"),
		failing("host-network", "DaemonSet", "prod", "agent"),
		failing("privileged", "Deployment", "prod", "maestro"),
		{Check: "host-network", Verdict: Unknown, Object: Object{Kind: "Deployment", Namespace: "prod", Name: "maestro"}},
	}
	for i := range 7 {
		findings = append(findings, failing("no-limits", "Deployment", "prod", fmt.Sprint("d", i)))
	}
	exceptions := []Exception{
		{Finding: "host-network", On: "component/maestro", Expires: "2026-11-23"}, // good until the end of today
		{Finding: "host-network", On: "DaemonSet prod/agent", Expires: "2026-11-22"},
		{Finding: "privileged", On: "Deployment prod/other", Expires: "2030-01-01"},
		{Finding: "no-limits", On: "Deployment prod/*", Expires: "2030-01-01"},
		{Finding: "privileged", On: "*/*", Expires: "2030-01-01"},
	}
	results := Accept(findings, exceptions, today, names)
	var got []string
	for _, r := range results {
		got = append(got, fmt.Sprintf("%s %d", r.State, r.Matched))
	}
	if diff := cmp.Diff([]string{"used 1", "expired 1", "unused 0", "too broad 7", "too broad 1"}, got); diff != "" {
		t.Error(diff)
	}
	// An expired exception accepts nothing; one that is too broad still does; an unknown verdict is never accepted.
	var accepted []int
	for _, f := range findings[:4] {
		accepted = append(accepted, f.AcceptedBy)
	}
	if diff := cmp.Diff([]int{1, 0, 5, 0}, accepted); diff != "" {
		t.Error(diff)
	}
}

func TestFingerprint(t *testing.T) {
	a := failing("privileged", "Pod", "prod", "x")
	a.Line, a.Message = 3, "one"
	b := a
	b.Line, b.Message = 30, "two"
	a.Stamp()
	b.Stamp()
	if a.Fingerprint != b.Fingerprint {
		t.Error("the fingerprint depends on the line or the message")
	}
	c := a
	c.Container = "y"
	c.Stamp()
	if c.Fingerprint == a.Fingerprint {
		t.Error("two containers have one fingerprint")
	}
}

func TestSeverity(t *testing.T) {
	for _, s := range Severities {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back Severity
		if err := json.Unmarshal(b, &back); err != nil || back != s {
			t.Errorf("%s: got %s, %v", s, back, err)
		}
	}
	if _, err := ParseSeverity("hihg"); err == nil {
		t.Error("no error for a severity that does not exist")
	}
}
