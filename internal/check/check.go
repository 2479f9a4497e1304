// Package check judges a snapshot: configuration in, findings out. A check is data and a pure function; the list of all
// of them is All. The package takes no clock, no network and no environment: the same snapshot and options give the same
// result, byte for byte.
package check

import (
	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Check is one question about a snapshot: what is asked, why it matters, how to mend it, and the function that answers.
//
// At least one of the judge functions is set. A judge says what is wrong through its Judge and returns; a judge that says
// nothing has passed its subject. Judges run in parallel and keep no state.
type Check struct {
	// ID is lower-case words joined by dashes; it is what exceptions and --check name, and never changes.
	ID    string
	Title string
	// Rationale says what an attacker gains, in plain words.
	Rationale string
	// Fix says what to write instead.
	Fix string
	// Severity is that of an ordinary finding; a judge may say a worse or a lesser one where the case is.
	Severity finding.Severity
	Layer    artifact.Layer
	// Standards holds identifiers only, such as "CIS 5.2.2": the texts of most are not free.
	Standards []string
	// NeedsSpec is true for a check that has nothing to say without a Platform spec.
	NeedsSpec bool

	// Container judges every container of every workload: init, regular and ephemeral.
	Container func(j *Judge, w *cluster.Workload, c *cluster.Container)
	// Workload judges everything that holds a pod.
	Workload func(j *Judge, w *cluster.Workload)
	// Object judges every object of Kinds, each "group/Kind" ("/Service" for the core group); "*" stands for all.
	Object func(j *Judge, o *cluster.Object)
	Kinds  []string
	// Snapshot judges the snapshot as a whole, and calls j.Subject before each thing that it judges.
	Snapshot func(j *Judge)
}
