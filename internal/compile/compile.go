// Package compile makes a plan of a spec: every layer's objects and files, in the order in which they are deployed, and
// the gaps that no layer closes. It is pure: the same spec, lock and stage give the same bytes.
package compile

import (
	"fmt"
	"slices"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/compile/access"
	"github.com/intelgraph/bulwark/internal/compile/admission"
	"github.com/intelgraph/bulwark/internal/compile/implied"
	"github.com/intelgraph/bulwark/internal/compile/network"
	"github.com/intelgraph/bulwark/internal/compile/pods"
	"github.com/intelgraph/bulwark/internal/spec"
)

// Options change what is compiled.
type Options struct {
	// Stage is how far the platform has adopted its policies; "" means enforce.
	Stage artifact.Stage
}

// Stages lists the stages in the order in which people adopt them.
var Stages = []artifact.Stage{artifact.Audit, artifact.Warn, artifact.Enforce}

// CheckStage gives an error for a stage that is none of Stages.
func CheckStage(stage artifact.Stage) error {
	if slices.Contains(Stages, stage) {
		return nil
	}
	return fmt.Errorf("unknown stage %q; one of: audit, warn, enforce", stage)
}

// layers lists the compilers of the layers; there is no other registration.
var layers = []struct {
	layer   artifact.Layer
	compile func(*spec.Platform, *spec.Lock, artifact.Stage) (artifact.Part, error)
}{
	{artifact.Pods, pods.Compile},
	{artifact.Access, access.Compile},
	{artifact.Network, network.Compile},
	{artifact.Admission, admission.Compile},
}

// Compile makes the plan of a platform that spec.Load has completed; the lock may be nil. Artifacts are in order of
// deployment: namespaces, accounts, roles, bindings, network policies, admission policies, their bindings, files.
func Compile(p *spec.Platform, lock *spec.Lock, opts Options) (*artifact.Plan, error) {
	stage := opts.Stage
	if stage == "" {
		stage = artifact.Enforce
	}
	if err := CheckStage(stage); err != nil {
		return nil, err
	}
	if err := implied.Reserved(p); err != nil {
		return nil, err
	}
	plan := &artifact.Plan{Platform: p.Metadata.Name}
	for _, l := range layers {
		part, err := l.compile(p, lock, stage)
		if err != nil {
			return nil, fmt.Errorf("compile the layer %s: %w", l.layer, err)
		}
		plan.Artifacts = append(plan.Artifacts, part.Artifacts...)
		plan.Gaps = append(plan.Gaps, part.Gaps...)
	}
	plan.Gaps = append(plan.Gaps, absent(p)...)
	slices.SortStableFunc(plan.Artifacts, func(a, b artifact.Artifact) int { return rank(a) - rank(b) })
	slices.SortStableFunc(plan.Gaps, func(a, b artifact.Gap) int {
		return slices.Index(artifact.Layers, a.Layer) - slices.Index(artifact.Layers, b.Layer)
	})
	if err := unique(plan.Artifacts); err != nil {
		return nil, err
	}
	return plan, nil
}

// unique gives an error when two artifacts are one object, or one file.
func unique(artifacts []artifact.Artifact) error {
	seen := map[string]bool{}
	for _, a := range artifacts {
		if seen[a.ID()] {
			return fmt.Errorf("%s is generated twice, because of %s; rename one of the two in the spec", a.ID(), artifact.Because(a.Why))
		}
		seen[a.ID()] = true
	}
	return nil
}

// ranks is the order of deployment: a thing comes after what it needs, and what closes comes before what runs.
var ranks = map[string]int{
	"Namespace":                        0,
	"CustomResourceDefinition":         1,
	"ServiceAccount":                   2,
	"Role":                             3,
	"ClusterRole":                      3,
	"RoleBinding":                      4,
	"ClusterRoleBinding":               4,
	"ConfigMap":                        5,
	"NetworkPolicy":                    6,
	"ValidatingAdmissionPolicy":        7,
	"MutatingAdmissionPolicy":          7,
	"ValidatingAdmissionPolicyBinding": 8,
	"MutatingAdmissionPolicyBinding":   8,
}

func rank(a artifact.Artifact) int {
	if a.Object == nil {
		return 100
	}
	kind, _ := a.Object["kind"].(string)
	if r, known := ranks[kind]; known {
		return r
	}
	return 50
}
