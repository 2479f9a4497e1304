package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
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
	// Findings are many: they are written one by one, in the same bytes, so that the text is never in memory as a whole.
	r.Findings = []finding.Finding{}
	if r.Exceptions == nil {
		r.Exceptions = []finding.ExceptionResult{}
	}
	if r.NotJudged == nil {
		r.NotJudged = []finding.NotJudged{}
	}
	if r.Checks == nil {
		r.Checks = []check.Tally{}
	}
	if len(res.Findings) == 0 {
		return encode(w, r)
	}
	var frame bytes.Buffer
	if err := encode(&frame, r); err != nil {
		return err
	}
	const empty = `"findings": []` // the first one is the result's own: before it stand only the version and numbers
	head, tail, ok := bytes.Cut(frame.Bytes(), []byte(empty))
	if !ok {
		return errors.New("report: the validation's JSON has no list of findings")
	}
	// A bufio.Writer keeps the first error of all writes; Flush gives it.
	out := bufio.NewWriter(w)
	_, _ = out.Write(head)
	_, _ = out.WriteString(`"findings": [`)
	for i := range res.Findings {
		b, err := json.MarshalIndent(&res.Findings[i], "    ", "  ")
		if err != nil {
			return err
		}
		if i > 0 {
			_ = out.WriteByte(',')
		}
		_, _ = out.WriteString("\n    ")
		_, _ = out.Write(b)
	}
	_, _ = out.WriteString("\n  ]")
	_, _ = out.Write(tail)
	return out.Flush()
}

// encode writes indented JSON. HTML characters stay escaped: the output is often pasted into pages.
func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
