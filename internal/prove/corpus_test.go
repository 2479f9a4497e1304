package prove_test

import (
	"bytes"
	"context"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/collect"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/labtest"
	"github.com/intelgraph/bulwark/internal/prove"
)

func TestBadPodsOffline(t *testing.T) {
	dir := corpus(t, "bad-pods")
	snap, err := collect.Read(context.Background(), []string{dir}, collect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for level, want := range map[string]prove.CorpusSummary{
		"baseline":   {Attacks: 128, Blocked: 112, Admitted: 16},
		"restricted": {Attacks: 128, Blocked: 128},
	} {
		engine, err := prove.NewPodSecurity(level, "1.37")
		if err != nil {
			t.Fatal(err)
		}
		rep, err := prove.Corpus(context.Background(), engine, snap, level)
		if err != nil {
			t.Fatal(err)
		}
		if rep.Summary != want {
			t.Errorf("%s: got %+v, want %+v", level, rep.Summary, want)
		}
		for _, e := range rep.Attacks {
			harmless := level == "baseline" && strings.Contains(e.File, "nothing-allowed")
			if (e.Verdict == finding.Admitted) != harmless {
				t.Errorf("%s: %s is %s: %s", level, e.File, e.Verdict, e.Evidence)
			}
		}
	}
}

// TestBadPodsLive: the same on a real API server, which does not serve batch/v1beta1 any more: those 16 CronJobs are
// unknown there, and not blocked.
func TestBadPodsLive(t *testing.T) {
	dir := corpus(t, "bad-pods")
	snap, err := collect.Read(context.Background(), []string{dir}, collect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	lab := labtest.Start(t)
	ctx := context.Background()
	engine, clean, err := prove.NewLivePods(ctx, lab.Config, "baseline", "1.37")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := clean(ctx); err != nil {
			t.Error(err)
		}
	}()
	rep, err := prove.Corpus(ctx, engine, snap, "baseline")
	if err != nil {
		t.Fatal(err)
	}
	if want := (prove.CorpusSummary{Attacks: 128, Blocked: 98, Admitted: 14, Unknown: 16}); rep.Summary != want {
		t.Errorf("got %+v, want %+v", rep.Summary, want)
	}
	for _, e := range rep.Attacks {
		if (e.Verdict == finding.Unknown) != strings.Contains(e.File, "cronjob") {
			t.Errorf("%s is %s: %s", e.File, e.Verdict, e.Evidence)
		}
	}
}

// TestPodSecurityTestdata judges every labelled pod of Pod Security's own test data as labelled: 4,537 pods of versions
// 1.0 to 1.37. Those of 1.37 also inside a Deployment and a CronJob, and their container as an ephemeral one where its
// fields exist there.
func TestPodSecurityTestdata(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/pod-security-admission").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	root := filepath.Join(string(bytes.TrimSpace(out)), "test", "testdata")
	n, wrapped, ephemeral := 0, 0, 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		part := strings.Split(filepath.ToSlash(rel), "/") // level/version/pass|fail/file
		if len(part) != 4 || !strings.HasPrefix(part[1], "v1.") {
			return nil
		}
		engine, err := prove.NewPodSecurity(part[0], strings.TrimPrefix(part[1], "v"))
		if err != nil {
			return err
		}
		snap, err := collect.Read(context.Background(), []string{path}, collect.Options{})
		if err != nil {
			return err
		}
		if len(snap.Workloads()) != 1 || len(snap.NotJudged) > 0 {
			t.Errorf("%s: %d pods, not judged: %v", rel, len(snap.Workloads()), snap.NotJudged)
			return nil
		}
		n++
		w := snap.Workloads()[0]
		want := part[2] == "pass"
		try := func(form string, w *cluster.Workload, want bool) {
			if o := engine.TryPod(context.Background(), w); o.Admitted != want {
				t.Errorf("%s %s: admitted is %v: %v", rel, form, o.Admitted, o.Refusals)
			}
		}
		try("bare", w, want)
		if part[1] != "v1.37" {
			return nil
		}
		tmpl := corev1.PodTemplateSpec{ObjectMeta: *w.PodMeta, Spec: *w.Spec}
		d1 := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: tmpl}}
		d2 := &batchv1.CronJob{Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: tmpl}}}}
		for form, typed := range map[string]any{"Deployment": d1, "CronJob": d2} {
			wrapped++
			try("in "+form, cluster.AsWorkload(&cluster.Object{Kind: form, Meta: &metav1.ObjectMeta{}, Typed: typed}), want)
		}
		// The first container becomes an ephemeral one beside a harmless pod, so that it alone must decide. What an
		// ephemeral container may not have is left alone: ports, probes, lifecycle.
		c := w.Spec.Containers[0]
		if len(c.Ports) > 0 || c.LivenessProbe != nil || c.ReadinessProbe != nil || c.StartupProbe != nil || c.Lifecycle != nil {
			return nil
		}
		p := &corev1.Pod{ObjectMeta: *w.PodMeta, Spec: *w.Spec.DeepCopy()}
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon(*c.DeepCopy())}}
		p.Spec.EphemeralContainers[0].Name = "debugger"
		yes, no := true, false
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no,
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
		ephemeral++
		try("as an ephemeral container", cluster.AsWorkload(&cluster.Object{Kind: "Pod", Meta: &metav1.ObjectMeta{}, Typed: p}), want)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != 4537 {
		t.Errorf("%d pods, want 4537", n)
	}
	t.Logf("%d pods bare, %d in controllers, %d with an ephemeral container", n, wrapped, ephemeral)
	if wrapped < 2*148 || ephemeral < 100 {
		t.Errorf("%d wrapped, %d ephemeral", wrapped, ephemeral)
	}
}
