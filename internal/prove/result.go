// Package prove tries attacks on engines, each with its harmless twin, and says what was proven.
package prove

import (
	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Report is the JSON contract of `bulwark prove -o json`, version v1. Fields are added, never removed or renamed.
type Report struct {
	Version  string   `json:"version"`
	Platform string   `json:"platform,omitempty"`
	Engine   string   `json:"engine"`
	Summary  Summary  `json:"summary"`
	Attacks  []Result `json:"attacks"`
	// Ablation is set by --ablate.
	Ablation *Ablation `json:"ablation,omitempty"`
	// NotJudged lists what no engine here could try, and why.
	NotJudged []finding.NotJudged `json:"notJudged"`
}

// Summary counts verdicts. Attacks = Blocked + Detected + Missed + Unknown.
type Summary struct {
	Attacks  int `json:"attacks"`
	Blocked  int `json:"blocked"`
	Detected int `json:"detected"`
	Missed   int `json:"missed"`
	Unknown  int `json:"unknown"`
	// NoEngine is the part of Unknown for which no engine runs here (network attacks without a CNI): nobody tried.
	NoEngine      int `json:"noEngine"`
	Twins         int `json:"twins"`
	TwinsAdmitted int `json:"twinsAdmitted"`
}

// Result is one attack with what became of it and of its twin.
type Result struct {
	ID    string         `json:"id"`
	Layer artifact.Layer `json:"layer"`
	Title string         `json:"title"`
	// Severity is how bad a miss would be.
	Severity finding.Severity `json:"severity"`
	Verdict  finding.Verdict  `json:"verdict"`
	// Intended names the control that is meant to refuse it, such as "policy/required-labels" or "podsecurity/NAMESPACE".
	Intended string `json:"intended"`
	// By names every control that refused it, or would have.
	By []string `json:"by"`
	// Evidence is what the engine said, word for word but shortened; never a secret.
	Evidence string `json:"evidence"`
	Twin     Twin   `json:"twin"`
	// NoEngine is true when nothing here could try it.
	NoEngine  bool     `json:"noEngine,omitempty"`
	Standards []string `json:"standards,omitempty"`
	Fix       string   `json:"fix,omitempty"`
}

// Twin is the harmless request that differs from the attack in one field.
type Twin struct {
	// Verdict is admitted, or blocked (a policy that breaks honest work), or unknown.
	Verdict  finding.Verdict `json:"verdict"`
	Differs  string          `json:"differs"`
	Evidence string          `json:"evidence,omitempty"`
}

// Ablation says which attacks get through when one control is removed.
type Ablation struct {
	// Controls lists the controls that were removed, in turn.
	Controls []AblatedControl `json:"controls"`
	// SingleLayer lists the attacks that rest on one control alone.
	SingleLayer []string `json:"singleLayer"`
}

// AblatedControl is one removed control with what then got through.
type AblatedControl struct {
	Control string         `json:"control"`
	Layer   artifact.Layer `json:"layer"`
	// Missed lists the attacks that got through without it; Unknown those whose verdict could not be told.
	Missed  []string `json:"missed"`
	Unknown []string `json:"unknown,omitempty"`
}
