package report

import (
	"io"
	"time"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/prove"
)

// documentJSON is the document's JSON form, version v1: complete, and with the results of validate and prove in their own
// contracts.
type documentJSON struct {
	Version        string              `json:"version"`
	Tool           string              `json:"tool"`
	Platform       string              `json:"platform"`
	Spec           string              `json:"spec,omitempty"`
	Cluster        string              `json:"cluster,omitempty"`
	Stage          artifact.Stage      `json:"stage,omitempty"`
	Generated      string              `json:"generated"`
	Posture        Posture             `json:"posture"`
	ProofFrom      string              `json:"proofFrom,omitempty"`
	Proof          *prove.Report       `json:"proof,omitempty"`
	ValidationFrom string              `json:"validationFrom,omitempty"`
	Validation     *check.Result       `json:"validation,omitempty"`
	Gaps           []artifact.Gap      `json:"gaps"`
	NotJudged      []finding.NotJudged `json:"notJudged"`
}

// WriteDocumentJSON writes everything that the document holds. NotJudged gathers what validation, attacks and the caller
// could not judge, so that a reader finds it in one place.
func WriteDocumentJSON(w io.Writer, d *Document) error {
	out := documentJSON{Version: DocumentVersion, Tool: d.Tool, Platform: d.Platform, Spec: d.Spec, Cluster: d.Cluster, Stage: d.Stage,
		Generated: d.Generated.UTC().Format(time.RFC3339), Posture: d.Posture(), ProofFrom: d.ProofFrom, Proof: d.Proof, ValidationFrom: d.ValidationFrom, Validation: d.Validation,
		Gaps: orEmpty(d.Gaps), NotJudged: []finding.NotJudged{}}
	for _, g := range d.unjudged() {
		out.NotJudged = append(out.NotJudged, g.Things...)
	}
	return encode(w, out)
}
