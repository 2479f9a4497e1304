package report

import (
	"encoding/json"
	"io"

	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/finding"
)

// writeJSON writes the contract of `bulwark validate -o json`, version v1: complete, with [] and never null for an empty
// list, so that a reader needs no second case.
func writeJSON(w io.Writer, res *check.Result) error {
	r := *res
	if r.Version == "" {
		r.Version = "v1"
	}
	if r.Findings == nil {
		r.Findings = []finding.Finding{}
	}
	if r.Exceptions == nil {
		r.Exceptions = []finding.ExceptionResult{}
	}
	if r.NotJudged == nil {
		r.NotJudged = []finding.NotJudged{}
	}
	if r.Checks == nil {
		r.Checks = []check.Tally{}
	}
	return encode(w, r)
}

// encode writes indented JSON. HTML characters stay escaped: the output is often pasted into pages.
func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
