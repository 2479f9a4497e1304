package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/finding"
)

// mode is the Pod Security mode in which a stage acts.
func mode(stage artifact.Stage) string {
	if stage == artifact.Enforce || stage == "" {
		return "enforce"
	}
	return string(stage)
}

// levelOf reads a stage's Pod Security level from the labels that the plan gives a namespace; ok is false when it gives
// none. An error is a level or version that Kubernetes would not understand either.
func levelOf(labels map[string]string, stage artifact.Stage) (lv psa.LevelVersion, ok bool, err error) {
	key := podSecurityPrefix + mode(stage)
	level, ok := labels[key]
	if !ok {
		return lv, false, nil
	}
	if lv.Level, err = psa.ParseLevel(level); err != nil {
		return lv, true, fmt.Errorf("%s=%q: %w", key, level, err)
	}
	lv.Version = psa.LatestVersion()
	if v, given := labels[key+"-version"]; given {
		if lv.Version, err = psa.ParseVersion(v); err != nil {
			return lv, true, fmt.Errorf("%s-version=%q: %w", key, v, err)
		}
	}
	return lv, true, nil
}

// preflight names the pods that run in the plan's namespaces and that the stage would refuse, tell of or record if they
// were created now: judged by the Pod Security library at the level that the plan gives, and by opts.Judges.
func (c *conn) preflight(ctx context.Context, f *forecast, opts Options) ([]Refused, []finding.NotJudged, error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("the Pod Security library: %w", err)
	}
	var refused []Refused
	var notJudged []finding.NotJudged
	pods, policies := 0, 0
	for _, it := range f.items {
		if it.is("ValidatingAdmissionPolicy") {
			policies++
		}
	}
	for _, it := range f.items {
		if !it.is("Namespace") || it.live == nil {
			continue
		}
		ns := &corev1.Namespace{}
		planned := it.would
		if planned == nil {
			planned = it.want
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(planned.Object, ns); err != nil {
			return nil, nil, &StoppedError{Reason: StopInput, Message: it.String() + " is not a namespace", Err: err}
		}
		lv, leveled, err := levelOf(ns.Labels, opts.Stage)
		if err != nil {
			return nil, nil, &StoppedError{Reason: StopInput, Message: it.String() + " has a Pod Security label that nobody understands", Err: err}
		}
		list := metav1.ListOptions{Limit: 500}
		for {
			page, err := c.typed.CoreV1().Pods(ns.Name).List(ctx, list)
			if err != nil {
				return nil, nil, c.lost(ctx, "listing the pods of namespace "+ns.Name, err)
			}
			for i := range page.Items {
				pod := &page.Items[i]
				if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
					continue
				}
				pods++
				r := Refused{Namespace: ns.Name, Pod: pod.Name, Owner: owner(pod)}
				if leveled {
					r.Reasons = podSecurity(evaluator, lv, pod)
				}
				for _, judge := range opts.Judges {
					reasons, err := judge(ns, pod)
					if err != nil {
						notJudged = append(notJudged, finding.NotJudged{What: "running pod " + ns.Name + "/" + pod.Name + " against the admission policies", Reason: err.Error()})
					}
					r.Reasons = append(r.Reasons, reasons...)
				}
				if len(r.Reasons) > 0 {
					refused = append(refused, r)
				}
			}
			if list.Continue = page.Continue; list.Continue == "" {
				break
			}
		}
		opts.tell("check", 1, 1, "pods that run in "+ns.Name)
	}
	if pods > 0 && policies > 0 && len(opts.Judges) == 0 {
		notJudged = append(notJudged, finding.NotJudged{What: fmt.Sprintf("%d running pods against %d admission policies", pods, policies), Reason: "no engine was given that judges them before they are in force"})
	}
	return refused, notJudged, nil
}

// podSecurity gives what the Pod Security library has against a pod, one reason a check.
func podSecurity(evaluator policy.Evaluator, lv psa.LevelVersion, pod *corev1.Pod) []string {
	var out []string
	for _, r := range evaluator.EvaluatePod(lv, &pod.ObjectMeta, &pod.Spec) {
		if r.Allowed {
			continue
		}
		s := fmt.Sprintf("Pod Security %s: %s", lv.String(), r.ForbiddenReason)
		if r.ForbiddenDetail != "" {
			s += " (" + r.ForbiddenDetail + ")"
		}
		out = append(out, s)
	}
	return out
}

func owner(pod *corev1.Pod) string {
	if o := metav1.GetControllerOf(pod); o != nil {
		return o.Kind + " " + o.Name
	}
	return ""
}

// refusedPods is the reason not to enforce. It shows a few; the result has all.
func refusedPods(refused []Refused) *StoppedError {
	const show = 10
	e := &StoppedError{Reason: StopPods, Message: fmt.Sprintf("stage enforce would refuse %d running pods when they are next created", len(refused)),
		Next: "mend them, begin with --stage warn, or go on with --force: they run until they are restarted"}
	for _, r := range refused[:min(show, len(refused))] {
		e.Details = append(e.Details, r.String())
	}
	if more := len(refused) - show; more > 0 {
		e.Details = append(e.Details, fmt.Sprintf("and %d more; `-o json` lists all", more))
	}
	return e
}

// String gives "namespace/pod (ReplicaSet name): reason; reason".
func (r Refused) String() string {
	s := r.Namespace + "/" + r.Pod
	if r.Owner != "" {
		s += " (" + r.Owner + ")"
	}
	return s + ": " + strings.Join(slices.Compact(slices.Clone(r.Reasons)), "; ")
}
