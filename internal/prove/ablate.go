package prove

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	admv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/compile/admission"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Remover takes one control away and puts it back.
type Remover interface {
	// Remove takes the control away and returns the engine that judges without it.
	Remove(ctx context.Context, control string) (Engine, error)
	// Restore puts it back and returns when it is in force again. It is called once after each Remove, also when
	// Remove failed.
	Restore(ctx context.Context, control string) error
}

// Ablate removes each control in turn and tries again every attack that was blocked. An attack that then gets through
// rested on that control alone.
//
// Only attacks that some ablated control could stop are tried: what RBAC refuses is refused by the absence of a grant,
// which cannot be removed.
func Ablate(ctx context.Context, rm Remover, plan *artifact.Plan, rep *Report, attacks []attack.Attack, progress func(done, total int)) error {
	blocked := map[string]bool{}
	for _, r := range rep.Attacks {
		blocked[r.ID] = r.Verdict == finding.Blocked
	}
	ab := &Ablation{Controls: Controls(plan), SingleLayer: []string{}}
	for i := range ab.Controls {
		if err := ablate(ctx, rm, &ab.Controls[i], attacks, blocked); err != nil {
			return err
		}
		for _, id := range ab.Controls[i].Missed {
			if !slices.Contains(ab.SingleLayer, id) {
				ab.SingleLayer = append(ab.SingleLayer, id)
			}
		}
		if progress != nil {
			progress(i+1, len(ab.Controls))
		}
	}
	slices.Sort(ab.SingleLayer)
	rep.Ablation = ab
	return nil
}

func ablate(ctx context.Context, rm Remover, c *AblatedControl, attacks []attack.Attack, blocked map[string]bool) (err error) {
	defer func() {
		// What was taken away is put back even when the user has pressed Ctrl-C.
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if e := rm.Restore(back, c.Control); e != nil {
			err = errors.Join(err, fmt.Errorf("%s was removed and could NOT be put back: %w; run `bulwark deploy` now", c.Control, e))
		}
	}()
	engine, err := rm.Remove(ctx, c.Control)
	if err != nil {
		return fmt.Errorf("remove %s: %w", c.Control, err)
	}
	for _, a := range attacks {
		if !blocked[a.ID] || a.Intended == attack.ControlRBAC || a.Intended == attack.ControlNetwork {
			continue
		}
		switch o := engine.Try(ctx, a.Attempt); {
		case o.Unknown != "":
			c.Unknown = append(c.Unknown, a.ID)
		case o.Admitted:
			c.Missed = append(c.Missed, a.ID)
		}
	}
	return ctx.Err()
}

// OfflineRemover ablates in the mind of the offline engine; nothing is touched.
type OfflineRemover struct{ Engine *Offline }

// Remove implements Remover.
func (o OfflineRemover) Remove(_ context.Context, control string) (Engine, error) {
	return o.Engine.Without(control), nil
}

// Restore implements Remover.
func (o OfflineRemover) Restore(context.Context, string) error { return nil }

// LiveRemover ablates for real: for seconds the cluster lacks the control. Only for clusters that can bear it.
type LiveRemover struct {
	dyn     dynamic.Interface
	engine  *Live
	offline *Offline
	plan    *artifact.Plan
	attacks []attack.Attack
	// was holds what was taken away, as it was: the cluster may be at another stage than the plan.
	was map[string]*unstructured.Unstructured
}

// NewLiveRemover prepares removal on a cluster. The offline engine, made of the cluster's own defences, finds for each
// control an attack that only it stops; that attack tells when the removal and the return are in force.
func NewLiveRemover(cfg *rest.Config, engine *Live, offline *Offline, plan *artifact.Plan, attacks []attack.Attack) (*LiveRemover, error) {
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &LiveRemover{dyn: dyn, engine: engine, offline: offline, plan: plan, attacks: attacks, was: map[string]*unstructured.Unstructured{}}, nil
}

// object finds the control's artifact.
func (l *LiveRemover) object(control string) (*artifact.Artifact, error) {
	kind, name, _ := strings.Cut(control, "/")
	want := map[string]string{"policy": "ValidatingAdmissionPolicy", "binding": "ValidatingAdmissionPolicyBinding", "podsecurity": "Namespace"}[kind]
	for i := range l.plan.Artifacts {
		a := &l.plan.Artifacts[i]
		if a.Object == nil || a.Object["kind"] != want {
			continue
		}
		u := unstructured.Unstructured{Object: a.Object}
		if u.GetName() == name || u.GetLabels()[admission.PolicyLabel] == name {
			return a, nil
		}
	}
	return nil, fmt.Errorf("the plan has no object for %s", control)
}

func (l *LiveRemover) resource(control string) dynamic.ResourceInterface {
	kind, _, _ := strings.Cut(control, "/")
	if kind == "podsecurity" {
		return l.dyn.Resource(namespaces)
	}
	r := map[string]string{"policy": "validatingadmissionpolicies", "binding": "validatingadmissionpolicybindings"}[kind]
	return l.dyn.Resource(admv1.SchemeGroupVersion.WithResource(r))
}

var namespaces = corev1.SchemeGroupVersion.WithResource("namespaces")

// Remove implements Remover.
func (l *LiveRemover) Remove(ctx context.Context, control string) (Engine, error) {
	a, err := l.object(control)
	if err != nil {
		return nil, err
	}
	name := (&unstructured.Unstructured{Object: a.Object}).GetName()
	isNamespace := strings.HasPrefix(control, "podsecurity/")
	ri := l.resource(control)
	live, err := ri.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	l.was[control] = asApplied(live, &unstructured.Unstructured{Object: a.Object})
	if isNamespace {
		_, err = ri.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":null}}}`), metav1.PatchOptions{FieldManager: artifact.FieldManager})
	} else {
		err = ri.Delete(ctx, name, metav1.DeleteOptions{})
	}
	if err != nil {
		return nil, err
	}
	return l.engine, l.wait(ctx, control, true)
}

// Restore implements Remover.
func (l *LiveRemover) Restore(ctx context.Context, control string) error {
	u := l.was[control]
	if u == nil {
		return nil // nothing was taken away
	}
	if _, err := l.resource(control).Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: artifact.FieldManager, Force: true}); err != nil {
		return err
	}
	delete(l.was, control)
	return l.wait(ctx, control, false)
}

// asApplied gives what must be applied so that an object is again as it is: of policies everything that is not the
// server's, of a namespace the fields that the plan has, with the values that the cluster has.
func asApplied(live, planned *unstructured.Unstructured) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetAPIVersion(planned.GetAPIVersion())
	u.SetKind(planned.GetKind())
	u.SetName(live.GetName())
	labels, annotations := live.GetLabels(), live.GetAnnotations()
	if live.GetKind() == "Namespace" {
		wanted := planned.GetLabels()
		maps.DeleteFunc(labels, func(k, _ string) bool {
			_, ours := wanted[k]
			return !ours && !strings.HasPrefix(k, "pod-security.kubernetes.io/")
		})
		wanted = planned.GetAnnotations()
		maps.DeleteFunc(annotations, func(k, _ string) bool { _, ours := wanted[k]; return !ours })
	} else if spec, ok := live.Object["spec"]; ok {
		u.Object["spec"] = spec
	}
	u.SetLabels(labels)
	u.SetAnnotations(annotations)
	return u
}

// wait until an attack that only this control stops is admitted (gone) or refused again. Policies take effect, and
// lapse, up to a second late, and no status field says when.
func (l *LiveRemover) wait(ctx context.Context, control string, gone bool) error {
	sentinel := l.sentinel(ctx, control)
	if sentinel == nil {
		// Nothing rests on it alone, so no request can show it: wait longer than any server needs.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(3 * time.Second):
			return nil
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for streak := 0; ; {
		// Two in a row, because an API server of several replicas answers differently for a while.
		if o := l.engine.Try(ctx, sentinel.Attempt); o.Unknown == "" && o.Admitted == gone {
			if streak++; streak == 2 {
				return nil
			}
			continue
		}
		streak = 0
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not take effect within 20 s", control)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (l *LiveRemover) sentinel(ctx context.Context, control string) *attack.Attack {
	without := l.offline.Without(control)
	for i := range l.attacks {
		a := &l.attacks[i]
		if a.Intended == attack.ControlRBAC || a.Intended == attack.ControlNetwork {
			continue
		}
		if o := without.Try(ctx, a.Attempt); o.Unknown == "" && o.Admitted {
			if o := l.offline.Try(ctx, a.Attempt); o.Unknown == "" && !o.Admitted {
				return a
			}
		}
	}
	return nil
}
