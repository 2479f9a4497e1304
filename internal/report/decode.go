package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/prove"
)

// MaxInput is the size in bytes above which a result file is refused.
const MaxInput = 64 << 20

// ReadProof reads what `bulwark prove -o json` wrote. The file is foreign: an unknown field, a verdict that does not
// exist or a summary that does not agree with its attacks is an error that names the place, because a report on a file
// that was changed or that a newer version wrote would claim what nobody proved.
func ReadProof(name string, r io.Reader) (*prove.Report, error) {
	var rep prove.Report
	if err := decode(name, "bulwark prove -o json", r, &rep); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for i, a := range rep.Attacks {
		at := fmt.Sprintf("%s: attacks[%d]", name, i)
		switch {
		case a.ID == "":
			return nil, fmt.Errorf("%s has no id", at)
		case seen[a.ID]:
			return nil, fmt.Errorf("%s: the id %q occurs twice", at, a.ID)
		case !slices.Contains([]finding.Verdict{finding.Blocked, finding.Detected, finding.Missed, finding.Unknown}, a.Verdict):
			return nil, fmt.Errorf("%s (%s): verdict %q; one of: blocked, detected, missed, unknown", at, a.ID, a.Verdict)
		case !slices.Contains([]finding.Verdict{"", finding.Admitted, finding.Blocked, finding.Unknown}, a.Twin.Verdict):
			return nil, fmt.Errorf("%s (%s): the twin's verdict is %q; one of: admitted, blocked, unknown", at, a.ID, a.Twin.Verdict)
		case a.Verdict == finding.Blocked && len(a.By) == 0:
			return nil, fmt.Errorf("%s (%s): blocked, but \"by\" names nothing that refused it", at, a.ID)
		case a.NoEngine && a.Verdict != finding.Unknown:
			return nil, fmt.Errorf("%s (%s): verdict %q though no engine tried it", at, a.ID, a.Verdict)
		}
		seen[a.ID] = true
	}
	if got := Tally(rep.Attacks); got != rep.Summary {
		return nil, fmt.Errorf("%s: its summary says %s, but its attacks say %s; run `bulwark prove` again", name, countsOf(rep.Summary), countsOf(got))
	}
	if ab := rep.Ablation; ab != nil {
		for _, id := range ab.SingleLayer {
			if !seen[id] {
				return nil, fmt.Errorf("%s: ablation.singleLayer names the attack %q, which is not in the file", name, id)
			}
		}
	}
	return &rep, nil
}

func countsOf(s prove.Summary) string {
	return fmt.Sprintf("%d attacks (%d blocked, %d detected, %d missed, %d unknown, of these %d without an engine) and %d of %d twins admitted",
		s.Attacks, s.Blocked, s.Detected, s.Missed, s.Unknown, s.NoEngine, s.TwinsAdmitted, s.Twins)
}

// ReadValidation reads what `bulwark validate -o json` wrote, as strictly.
func ReadValidation(name string, r io.Reader) (*check.Result, error) {
	var res check.Result
	if err := decode(name, "bulwark validate -o json", r, &res); err != nil {
		return nil, err
	}
	var counts check.Counts
	acceptedOnes := 0
	for i, f := range res.Findings {
		at := fmt.Sprintf("%s: findings[%d]", name, i)
		switch {
		case f.Check == "":
			return nil, fmt.Errorf("%s names no check", at)
		case !slices.Contains([]finding.Verdict{finding.Pass, finding.Fail, finding.NotApplicable, finding.Unknown}, f.Verdict):
			return nil, fmt.Errorf("%s (%s): verdict %q; one of: pass, fail, not applicable, unknown", at, f.Check, f.Verdict)
		case f.AcceptedBy < 0 || f.AcceptedBy > len(res.Exceptions):
			return nil, fmt.Errorf("%s (%s): accepted by exception %d, but the file holds %d", at, f.Check, f.AcceptedBy, len(res.Exceptions))
		case f.AcceptedBy > 0 && res.Exceptions[f.AcceptedBy-1].State == finding.Expired:
			return nil, fmt.Errorf("%s (%s): accepted by exception %d, which is expired", at, f.Check, f.AcceptedBy)
		case f.Verdict == finding.Fail && f.AcceptedBy == 0:
			counts.Add(f.Severity)
		case f.Verdict == finding.Fail:
			acceptedOnes++
		}
	}
	for i, e := range res.Exceptions {
		if !slices.Contains([]finding.ExceptionState{finding.Used, finding.Unused, finding.Expired, finding.TooBroad}, e.State) {
			return nil, fmt.Errorf("%s: exceptions[%d]: state %q; one of: used, unused, expired, too broad", name, i, e.State)
		}
	}
	if counts != res.Summary.Findings || acceptedOnes != res.Summary.Accepted {
		return nil, fmt.Errorf("%s: its summary counts %+v and %d accepted, but its findings are %+v and %d; run `bulwark validate` again", name, res.Summary.Findings, res.Summary.Accepted, counts, acceptedOnes)
	}
	return &res, nil
}

// decode reads one JSON value of version v1 and nothing after it.
func decode(name, command string, r io.Reader, into any) error {
	data, err := io.ReadAll(io.LimitReader(r, MaxInput+1))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > MaxInput {
		return fmt.Errorf("%s: larger than %d MiB; a result of `%s` is not", name, MaxInput>>20, command)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return fmt.Errorf("%s: empty; write it with `%s`", name, command)
	}
	var head struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return fmt.Errorf("%s%s: not a result of `%s`: %w", name, lineOf(data, err), command, err)
	}
	if head.Version != "v1" {
		return fmt.Errorf("%s: version %q; this Bulwark reads \"v1\" as `%s` writes it", name, clip(plain(head.Version), 40), command)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		where := lineOf(data, err)
		if where == "" {
			where = position(data, d.InputOffset())
		}
		return fmt.Errorf("%s%s: not a result of `%s` of this version: %w", name, where, command, err)
	}
	return nil
}

// lineOf gives ":line:column" of a JSON error that knows its offset.
func lineOf(data []byte, err error) string {
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return position(data, syntax.Offset)
	case errors.As(err, &typed):
		return position(data, typed.Offset)
	}
	return ""
}

func position(data []byte, offset int64) string {
	before := string(data[:min(max(offset, 0), int64(len(data)))])
	return fmt.Sprintf(":%d:%d", 1+strings.Count(before, "\n"), len(before)-strings.LastIndex(before, "\n"))
}
