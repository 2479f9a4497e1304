package prove

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/compile/admission"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Options say what Run does beside trying.
type Options struct {
	Platform string
	// Also judges every attack too and names further controls that would refuse; an API server names only the first.
	Also *Offline
	// Progress is called after each attack; it may be nil.
	Progress func(done, total int)
}

// Run tries every attack and its twin on an engine. It returns an error only when the context ends.
func Run(ctx context.Context, engine Engine, attacks []attack.Attack, opts Options) (*Report, error) {
	rep := &Report{Version: "v1", Platform: opts.Platform, Engine: engine.Name(), Attacks: []Result{}, NotJudged: []finding.NotJudged{}}
	for i, a := range attacks {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("stopped after %d of %d attacks: %w", i, len(attacks), err)
		}
		rep.Attacks = append(rep.Attacks, try(ctx, engine, a, opts.Also))
		if opts.Progress != nil {
			opts.Progress(i+1, len(attacks))
		}
	}
	rep.count()
	return rep, nil
}

func (rep *Report) count() {
	s := &rep.Summary
	*s = Summary{Attacks: len(rep.Attacks)}
	untried := map[string]int{}
	for _, r := range rep.Attacks {
		switch r.Verdict {
		case finding.Blocked:
			s.Blocked++
		case finding.Detected:
			s.Detected++
		case finding.Missed:
			s.Missed++
		default:
			s.Unknown++
		}
		if r.NoEngine {
			s.NoEngine++
			untried[fmt.Sprintf("%s attacks: %s", r.Layer, r.Evidence)]++
			continue
		}
		s.Twins++
		if r.Twin.Verdict == finding.Admitted {
			s.TwinsAdmitted++
		}
		if r.Verdict == finding.Unknown {
			rep.NotJudged = append(rep.NotJudged, finding.NotJudged{What: "attack " + r.ID, Reason: r.Evidence})
		}
	}
	for _, k := range slices.Sorted(func(yield func(string) bool) {
		for k := range untried {
			if !yield(k) {
				return
			}
		}
	}) {
		what, reason, _ := strings.Cut(k, ": ")
		rep.NotJudged = append(rep.NotJudged, finding.NotJudged{What: fmt.Sprintf("%d %s", untried[k], what), Reason: reason})
	}
}

func try(ctx context.Context, engine Engine, a attack.Attack, also *Offline) Result {
	r := Result{
		ID: a.ID, Layer: a.Layer, Title: a.Title, Severity: a.Severity, Intended: a.Intended, By: []string{},
		Standards: a.Standards, Fix: a.Fix, Twin: Twin{Differs: a.Differs, Verdict: finding.Unknown},
	}
	got := own(a.Platform, engine.Try(ctx, a.Attempt))
	if got.NoEngine {
		r.Verdict, r.NoEngine, r.Evidence = finding.Unknown, true, got.Unknown
		r.Twin.Evidence = got.Unknown
		return r
	}
	twin := own(a.Platform, engine.Try(ctx, a.Twin))
	r.Twin.Verdict, r.Twin.Evidence = twinVerdict(twin)
	r.Verdict, r.Evidence = verdict(a, got, twin)
	for _, refs := range [][]Refusal{got.Refusals, got.Recorded} {
		r.name(refs)
	}
	if also != nil && got.Unknown == "" && !got.Admitted {
		r.name(own(a.Platform, also.Try(ctx, a.Attempt)).Refusals)
	}
	if r.Verdict == finding.Detected {
		r.name(got.Warnings)
	}
	slices.Sort(r.By)
	return r
}

// own gives policies that are not the platform's their whole names, because another platform's may have the same IDs.
func own(platform string, o Outcome) Outcome {
	mend := func(refs []Refusal) []Refusal {
		refs = slices.Clone(refs)
		for i, r := range refs {
			id, ok := strings.CutPrefix(r.Control, "policy/")
			if ok && r.Policy != "" && r.Policy != admission.Name(platform, id) && r.Policy != admission.StaticName(platform, id) {
				refs[i].Control = attack.ControlPolicy(r.Policy)
			}
		}
		return refs
	}
	o.Refusals, o.Warnings, o.Recorded = mend(o.Refusals), mend(o.Warnings), mend(o.Recorded)
	return o
}

func (r *Result) name(refs []Refusal) {
	for _, ref := range refs {
		if ref.Control != "other" && !slices.Contains(r.By, ref.Control) {
			r.By = append(r.By, ref.Control)
		}
	}
}

func twinVerdict(o Outcome) (finding.Verdict, string) {
	switch {
	case o.Unknown != "":
		return finding.Unknown, o.Unknown
	case o.Admitted:
		return finding.Admitted, ""
	}
	return finding.Blocked, shorten(o.Refusals[0].Control + ": " + o.Refusals[0].Message)
}

// verdict is the heart of the matter: blocked only when the control that was meant to refuse refused, and only when the
// twin shows that nothing else would have.
func verdict(a attack.Attack, got, twin Outcome) (finding.Verdict, string) {
	if got.Unknown != "" {
		return finding.Unknown, got.Unknown
	}
	if got.Admitted {
		for _, w := range slices.Concat(got.Warnings, got.Recorded) {
			if meant(a, w) {
				return finding.Detected, shorten("admitted, but noticed by " + w.Control + ": " + w.Message)
			}
		}
		return finding.Missed, "admitted"
	}
	i := slices.IndexFunc(got.Refusals, func(r Refusal) bool { return meant(a, r) })
	if i < 0 {
		first := got.Refusals[0]
		if j := slices.IndexFunc(got.Refusals, func(r Refusal) bool { return r.Control == a.Intended }); j >= 0 {
			return finding.Unknown, shorten(fmt.Sprintf("refused by %s, but for another reason: %s", a.Intended, got.Refusals[j].Message))
		}
		return finding.Unknown, shorten(fmt.Sprintf("refused by %s, not by %s: %s", first.Control, a.Intended, first.Message))
	}
	if !twin.Admitted {
		reason := twin.Unknown
		if reason == "" {
			reason = twin.Refusals[0].Control + ": " + twin.Refusals[0].Message
		}
		return finding.Unknown, shorten("refused, but so is the harmless twin, so nothing is proven: " + reason)
	}
	return finding.Blocked, shorten(got.Refusals[i].Message)
}

func meant(a attack.Attack, r Refusal) bool {
	return r.Control == a.Intended && (len(a.Says) == 0 || slices.ContainsFunc(a.Says, func(s string) bool { return strings.Contains(r.Message, s) }))
}

func shorten(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 400 {
		s = strings.ToValidUTF8(s[:400], "") + " …"
	}
	return s
}

// Controls lists what can be removed and put back: every admission policy, every binding, every enforce label.
func Controls(plan *artifact.Plan) []AblatedControl {
	var out []AblatedControl
	for _, a := range plan.Artifacts {
		if a.Object == nil {
			continue
		}
		meta, _ := a.Object["metadata"].(map[string]any)
		name, _ := meta["name"].(string)
		labels, _ := meta["labels"].(map[string]any)
		id, _ := labels["bulwark.dev/policy"].(string)
		switch a.Object["kind"] {
		case "Namespace":
			if labels["pod-security.kubernetes.io/enforce"] != nil {
				out = append(out, AblatedControl{Control: attack.ControlPodSecurity(name), Layer: a.Layer, Missed: []string{}})
			}
		case "ValidatingAdmissionPolicy":
			out = append(out, AblatedControl{Control: attack.ControlPolicy(id), Layer: a.Layer, Missed: []string{}})
		case "ValidatingAdmissionPolicyBinding":
			out = append(out, AblatedControl{Control: "binding/" + id, Layer: a.Layer, Missed: []string{}})
		}
	}
	return out
}
