package check

import "github.com/intelgraph/bulwark/internal/finding"

// Result is the JSON contract of `bulwark validate -o json`, version v1. Fields are added, never removed or renamed.
type Result struct {
	Version string  `json:"version"`
	Summary Summary `json:"summary"`
	// Findings are sorted from the worst; those with verdict unknown come after all that failed. Those with AcceptedBy
	// set do not stand: exception number AcceptedBy (from 1) accepts them.
	Findings   []finding.Finding         `json:"findings"`
	Exceptions []finding.ExceptionResult `json:"exceptions"`
	// NotJudged lists what was not looked at, and why.
	NotJudged []finding.NotJudged `json:"notJudged"`
	// Checks says how often each check that ran gave which verdict, in the order of All.
	Checks []Tally `json:"checks"`
}

// Summary counts. A judgement is one check on one subject; a judgement that failed may have several findings.
type Summary struct {
	Objects   int `json:"objects"`
	Workloads int `json:"workloads"`
	// Checks is the number of checks that ran.
	Checks int `json:"checks"`
	// Judgements by verdict.
	Pass          int `json:"pass"`
	Fail          int `json:"fail"`
	NotApplicable int `json:"notApplicable"`
	Unknown       int `json:"unknown"`
	// Findings that stand: verdict fail and not accepted, by severity.
	Findings Counts `json:"findings"`
	// Accepted is the number of findings that exceptions accept.
	Accepted int `json:"accepted"`
	// NotJudged is the length of Result.NotJudged.
	NotJudged int `json:"notJudged"`
}

// Counts counts by severity.
type Counts struct {
	Critical int `json:"critical"`
	High     int `json:"high"`
	Medium   int `json:"medium"`
	Low      int `json:"low"`
	Info     int `json:"info"`
}

// Add counts one.
func (c *Counts) Add(s finding.Severity) {
	switch s {
	case finding.Critical:
		c.Critical++
	case finding.High:
		c.High++
	case finding.Medium:
		c.Medium++
	case finding.Low:
		c.Low++
	default:
		c.Info++
	}
}

// AtLeast gives how many are at or above a severity.
func (c Counts) AtLeast(s finding.Severity) int {
	n := 0
	for i, k := range [...]int{c.Info, c.Low, c.Medium, c.High, c.Critical} {
		if finding.Severity(i) >= s {
			n += k
		}
	}
	return n
}

// Tally counts the judgements of one check.
type Tally struct {
	Check         string           `json:"check"`
	Title         string           `json:"title"`
	Severity      finding.Severity `json:"severity"`
	Pass          int              `json:"pass"`
	Fail          int              `json:"fail"`
	NotApplicable int              `json:"notApplicable"`
	Unknown       int              `json:"unknown"`
}
