// Package finding holds what a check, an attack or a rule has to say: what, where, how bad, the evidence and the way to
// mend it; and the exceptions that accept some of it for a time.
package finding

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// Verdict is the outcome of a check or of an attack. Unknown always carries a reason and is never good news.
type Verdict string

// Verdicts of checks.
const (
	Pass          Verdict = "pass"
	Fail          Verdict = "fail"
	NotApplicable Verdict = "not applicable"
)

// Verdicts of attacks.
const (
	// Blocked: the policy or check that was meant to refuse the attack refused it.
	Blocked Verdict = "blocked"
	// Detected: it was not refused, but the detection that was meant to see it did.
	Detected Verdict = "detected"
	// Missed: nothing stopped it.
	Missed Verdict = "missed"
	// Admitted is the verdict of a harmless twin that got through, as it must.
	Admitted Verdict = "admitted"
)

// Unknown: it could not be judged. For checks and attacks.
const Unknown Verdict = "unknown"

// Severity orders findings.
type Severity int

// Severities, from the least. Their text forms are the ones of SARIF viewers and vulnerability scanners.
const (
	Info Severity = iota
	Low
	Medium
	High
	Critical
)

// Severities lists them from the worst.
var Severities = []Severity{Critical, High, Medium, Low, Info}

var severityNames = [...]string{"info", "low", "medium", "high", "critical"}

// String gives the lower-case name.
func (s Severity) String() string {
	if s < Info || s > Critical {
		return fmt.Sprintf("severity(%d)", int(s))
	}
	return severityNames[s]
}

// MarshalJSON gives the name.
func (s Severity) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON reads the name.
func (s *Severity) UnmarshalJSON(b []byte) error {
	var t string
	if err := json.Unmarshal(b, &t); err != nil {
		return err
	}
	p, err := ParseSeverity(t)
	*s = p
	return err
}

// ParseSeverity reads a name.
func ParseSeverity(t string) (Severity, error) {
	for i, n := range severityNames {
		if strings.EqualFold(t, n) {
			return Severity(i), nil
		}
	}
	return Info, fmt.Errorf("unknown severity %q; one of: %s", t, strings.Join(severityNames[:], ", "))
}

// Object names a Kubernetes object, or a thing of the spec ("component/maestro").
type Object struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// String gives "Kind namespace/name".
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Finding is one thing that is wrong, or that could not be judged.
type Finding struct {
	// Check is the ID of the check, attack or rule that says it.
	Check    string   `json:"check"`
	Title    string   `json:"title"`
	Verdict  Verdict  `json:"verdict"`
	Severity Severity `json:"severity"`
	Object   Object   `json:"object"`
	// Container is the container's name where the finding is about one.
	Container string `json:"container,omitempty"`
	// Path is the field, such as "spec.template.spec.containers[0].image".
	Path string `json:"path,omitempty"`
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Message says what was found, with the value that is wrong; never a secret.
	Message   string   `json:"message"`
	Fix       string   `json:"fix,omitempty"`
	Standards []string `json:"standards,omitempty"`
	// Fingerprint is equal from run to run for the same finding; it does not depend on lines.
	Fingerprint string `json:"fingerprint"`
	// AcceptedBy is the index+1 of the exception in the report that accepts this finding; zero means it stands.
	AcceptedBy int `json:"acceptedBy,omitempty"`
}

// Stamp sets the fingerprint from the check, the object, the container and the path.
func (f *Finding) Stamp() {
	var buf [256]byte // on the stack: a run makes tens of thousands
	b := buf[:0]
	for i, s := range [...]string{f.Check, f.Object.APIVersion, f.Object.Kind, f.Object.Namespace, f.Object.Name, f.Container, f.Path} {
		if i > 0 {
			b = append(b, 0)
		}
		b = append(b, s...)
	}
	h := sha256.Sum256(b)
	f.Fingerprint = hex.EncodeToString(h[:8])
}

// NotJudged is something that nobody looked at, and why: a file that does not parse, a kind that may not be listed, a
// field that needs a running node. It is part of every output.
type NotJudged struct {
	What   string `json:"what"`
	Reason string `json:"reason"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
}
