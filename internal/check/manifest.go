package check

import (
	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// The API server drops a field that it does not know, unless asked to be strict. A misspelt securityContext is no
// securityContext.
var unknownField = &Check{
	ID: "manifest-unknown-field", Title: "Manifest has a field that the API does not have", Severity: finding.Medium, Layer: artifact.Admission,
	Rationale: "The API server drops what it does not know. A misspelt or misplaced defence is silently no defence, and the file looks as if it had one.",
	Fix:       "Correct the field's name, place or type; `kubectl apply --validate=strict` refuses such files.",
	Standards: []string{"NIST CM-6", "OWASP K8s K01"},
	Kinds:     []string{"*"},
	Object: func(j *Judge, o *cluster.Object) {
		if o.Typed == nil {
			j.Skip() // the fields of custom kinds are not known here
			return
		}
		for _, p := range o.Problems {
			m := p.Msg
			if p.Hint != "" {
				m += "; " + p.Hint
			}
			j.FailAt(p.Pos, m)
		}
	},
}
