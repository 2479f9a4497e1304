package prove_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/compile"
	"github.com/intelgraph/bulwark/internal/compile/admission"
	"github.com/intelgraph/bulwark/internal/deploy"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/labtest"
	"github.com/intelgraph/bulwark/internal/prove"
	"github.com/intelgraph/bulwark/internal/spec"
)

// start deploys the reference platform to a lab whose API server has the static policies on its disk.
func start(t *testing.T, w *world) *labtest.Lab {
	t.Helper()
	lab := bare(t, w)
	install(t, lab, w.plan, artifact.Enforce)
	return lab
}

// bare starts such a lab and deploys nothing.
func bare(t *testing.T, w *world, flags ...string) *labtest.Lab {
	t.Helper()
	dir := t.TempDir()
	for _, a := range w.plan.Artifacts {
		if a.Path == admission.StaticPath {
			if err := os.WriteFile(filepath.Join(dir, "policies.yaml"), a.Content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return labtest.Start(t, append(flags, "--static-policies", dir)...)
}

func install(t *testing.T, lab *labtest.Lab, plan *artifact.Plan, stage artifact.Stage) {
	t.Helper()
	if _, err := deploy.Run(context.Background(), lab.Config, plan, deploy.Options{Stage: stage}); err != nil {
		t.Fatal(err)
	}
}

func setup(t *testing.T, lab *labtest.Lab, w *world) *prove.Live {
	t.Helper()
	ctx := context.Background()
	clean, err := prove.Setup(ctx, lab.Config, spec.Sorted(w.platform.Spec.Namespaces), w.attacks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := clean(ctx); err != nil {
			t.Error(err)
		}
	})
	log, err := prove.OpenAuditLog(lab.AuditLog)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := prove.NewLive(lab.Config, log)
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func TestLiveReferencePlatform(t *testing.T) {
	w := reference(t)
	lab := start(t, w)
	engine := setup(t, lab, w)
	ctx := context.Background()

	rep, err := prove.Run(ctx, engine, w.attacks, prove.Options{Platform: "intelgraph"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rep.Attacks {
		if r.NoEngine != (r.Layer == artifact.Network) {
			t.Errorf("%s: noEngine is %v", r.ID, r.NoEngine)
		}
		if !r.NoEngine && (r.Verdict != finding.Blocked || r.Twin.Verdict != finding.Admitted) {
			t.Errorf("%s: %s (%s), twin %s (%s), by %v", r.ID, r.Verdict, r.Evidence, r.Twin.Verdict, r.Twin.Evidence, r.By)
		}
	}
	t.Logf("%s: %+v", rep.Engine, rep.Summary)

	// The audit log of the real server and the offline engine name the same controls, attack by attack. The offline
	// engine knows the static policy from the plan.
	for _, a := range w.attacks {
		if a.Intended == attack.ControlRBAC || a.Intended == attack.ControlNetwork || a.Intended == attack.ControlPolicy("protect-policies") {
			continue
		}
		i := slices.IndexFunc(rep.Attacks, func(r prove.Result) bool { return r.ID == a.ID })
		var offline []string
		for _, ref := range w.offline.Try(ctx, a.Attempt).Refusals {
			if !slices.Contains(offline, ref.Control) {
				offline = append(offline, ref.Control)
			}
		}
		slices.Sort(offline)
		// Pod Security ends the server's chain before policies run, so then the server knows of no more.
		online := rep.Attacks[i].By
		if slices.Contains(online, a.Intended) && a.Layer == artifact.Pods {
			online = []string{a.Intended}
			offline = slices.DeleteFunc(offline, func(c string) bool { return c != a.Intended })
		}
		if diff := cmp.Diff(offline, online); diff != "" {
			t.Errorf("%s: offline and API server differ (-offline +server):\n%s", a.ID, diff)
		}
	}
}

// TestEveryControlOwnsAnAttackLive removes each policy, each binding and each Pod Security label from a real API server
// and sees an attack get through that was blocked before, and blocked again after.
func TestEveryControlOwnsAnAttackLive(t *testing.T) {
	w := reference(t)
	lab := start(t, w)
	engine := setup(t, lab, w)
	ctx := context.Background()
	// One kind of controller stands for all: the offline ablation, which this one must agree with, takes every form.
	w.attacks = slices.DeleteFunc(w.attacks, func(a attack.Attack) bool {
		parts := strings.Split(a.ID, "/")
		form, _, _ := strings.Cut(parts[len(parts)-1], "@")
		return a.Intended == attack.ControlRBAC || a.Intended == attack.ControlNetwork ||
			slices.Contains([]string{"policies", "pods"}, parts[0]) && !slices.Contains([]string{"pod", "cronjob", "ephemeral", "status"}, form)
	})
	t.Logf("%d attacks", len(w.attacks))
	rep, err := prove.Run(ctx, engine, w.attacks, prove.Options{})
	if err != nil {
		t.Fatal(err)
	}
	before := rep.Summary
	rm, err := prove.NewLiveRemover(lab.Config, engine, w.offline, w.plan, w.attacks)
	if err != nil {
		t.Fatal(err)
	}
	if err := prove.Ablate(ctx, rm, w.plan, rep, w.attacks, nil); err != nil {
		t.Fatal(err)
	}
	expect := *rep
	if err := prove.Ablate(ctx, prove.OfflineRemover{Engine: w.offline}, w.plan, &expect, w.attacks, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range rep.Ablation.Controls {
		if len(c.Missed) == 0 {
			t.Errorf("%s owns no attack", c.Control)
		}
		if len(c.Unknown) > 0 {
			t.Errorf("%s: not judged: %v", c.Control, c.Unknown)
		}
	}
	if diff := cmp.Diff(expect.Ablation, rep.Ablation); diff != "" {
		t.Errorf("offline and real ablation differ (-offline +real):\n%s", diff)
	}
	again, err := prove.Run(ctx, engine, w.attacks, prove.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, again.Summary); diff != "" {
		t.Errorf("the cluster is not as before:\n%s", diff)
	}
}

// TestNothingStaysBehind: cleaning up leaves no object of the run.
func TestNothingStaysBehind(t *testing.T) {
	w := reference(t)
	lab := start(t, w)
	ctx := context.Background()
	namespaces := spec.Sorted(w.platform.Spec.Namespaces)
	for range 2 { // the second run meets nothing of the first
		clean, err := prove.Setup(ctx, lab.Config, namespaces, w.attacks)
		if err != nil {
			t.Fatal(err)
		}
		if err := clean(ctx); err != nil {
			t.Fatal(err)
		}
	}
	cl, err := kubernetes.NewForConfig(lab.Config)
	if err != nil {
		t.Fatal(err)
	}
	sel := metav1.ListOptions{LabelSelector: prove.TemporaryLabel}
	pods, err := cl.CoreV1().Pods("").List(ctx, sel)
	if err != nil {
		t.Fatal(err)
	}
	roles, err := cl.RbacV1().Roles("").List(ctx, sel)
	if err != nil {
		t.Fatal(err)
	}
	pols, err := cl.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(ctx, sel)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(pods.Items) + len(roles.Items) + len(pols.Items); n > 0 {
		t.Errorf("%d objects stayed behind", n)
	}
}

// TestWithoutStaticPolicies: on a server that reads no policies from disk, the attacks on policies get through, and are
// called missed.
func TestWithoutStaticPolicies(t *testing.T) {
	w := reference(t)
	lab := labtest.Start(t)
	install(t, lab, w.plan, artifact.Enforce)
	engine := setup(t, lab, w)
	var some []attack.Attack
	for _, a := range w.attacks {
		if a.Intended == attack.ControlPolicy("protect-policies") {
			some = append(some, a)
		}
	}
	rep, err := prove.Run(context.Background(), engine, some, prove.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Summary.Missed != len(some) || len(some) == 0 {
		t.Errorf("%+v", rep.Summary)
	}
}

// TestLiveStages: at warn the server tells and at audit it records, and both are detections.
func TestLiveStages(t *testing.T) {
	w := reference(t)
	lab := labtest.Start(t)
	var engine *prove.Live
	for _, stage := range []artifact.Stage{artifact.Audit, artifact.Warn} {
		plan, err := compile.Compile(w.platform, nil, compile.Options{Stage: stage})
		if err != nil {
			t.Fatal(err)
		}
		install(t, lab, plan, stage)
		if engine == nil {
			engine = setup(t, lab, w)
		}
		var some []attack.Attack
		for _, a := range w.attacks {
			if a.ID == "pods/privileged/pod" || a.ID == "policies/unpinned/pod" {
				some = append(some, a)
			}
		}
		waitFor(t, func() bool {
			rep, err := prove.Run(context.Background(), engine, some, prove.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rep.Attacks {
				t.Logf("stage %s: %s is %s: %s", stage, r.ID, r.Verdict, r.Evidence)
			}
			return rep.Summary.Detected == 2
		})
	}

	// The cluster warns now and the plan refuses: what ablation takes away it must put back as it was.
	ctx := context.Background()
	d, err := prove.FromCluster(ctx, lab.Config)
	if err != nil {
		t.Fatal(err)
	}
	offline, err := prove.NewOffline(d)
	if err != nil {
		t.Fatal(err)
	}
	rm, err := prove.NewLiveRemover(lab.Config, engine, offline, w.plan, w.attacks)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kubernetes.NewForConfig(lab.Config)
	if err != nil {
		t.Fatal(err)
	}
	bindings := cl.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	name := admission.Name("intelgraph", "image-digests")
	before, err := bindings.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rm.Remove(ctx, "binding/image-digests"); err != nil {
		t.Fatal(err)
	}
	if err := rm.Restore(ctx, "binding/image-digests"); err != nil {
		t.Fatal(err)
	}
	after, err := bindings.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before.Spec, after.Spec); diff != "" || before.UID == after.UID {
		t.Errorf("the binding is not as it was (-before +after), or was not removed:\n%s", diff)
	}
	if diff := cmp.Diff(before.Labels, after.Labels); diff != "" {
		t.Error(diff)
	}
}
