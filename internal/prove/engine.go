package prove

import (
	"context"

	"github.com/intelgraph/bulwark/internal/attack"
)

// Engine is something real that judges a request.
type Engine interface {
	// Name says what judged, for the report: "Kubernetes v1.37.2 at https://…" or "offline: Pod Security v1.37, CEL".
	Name() string
	// Try makes the request, or judges it, without changing anything. It never returns an error: what could not be
	// judged is an outcome.
	Try(ctx context.Context, r attack.Request) Outcome
}

// Outcome is what an engine said to one request.
type Outcome struct {
	Admitted bool
	// Refusals lists who refused; an API server names only the first, the offline engine all.
	Refusals []Refusal
	// Warnings lists who did not refuse but told the requester; Recorded who left a trace in the audit log.
	Warnings, Recorded []Refusal
	// Unknown says why the request could not be judged; then the rest is empty.
	Unknown string
	// NoEngine is true when this engine has no means to judge such a request.
	NoEngine bool
}

// Refusal is one control's no.
type Refusal struct {
	// Control is policy/ID, podsecurity/NAMESPACE, rbac, or "other" for what no control of ours said.
	Control string
	Message string
	// Policy is the admission policy's whole name where a policy refused, so that another platform's is told apart.
	Policy string
}

func unknown(reason string) Outcome { return Outcome{Unknown: reason} }

func noEngine(reason string) Outcome { return Outcome{Unknown: reason, NoEngine: true} }
