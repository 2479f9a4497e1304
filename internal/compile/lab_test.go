package compile

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/collect"
	"github.com/intelgraph/bulwark/internal/labtest"
	"github.com/intelgraph/bulwark/internal/spec"
)

// client applies unstructured objects as kubectl's server-side apply does.
type client struct {
	dynamic dynamic.Interface
	mapper  meta.RESTMapper
}

func newClient(t *testing.T, cfg *rest.Config) *client {
	t.Helper()
	typed, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(typed.Discovery())
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &client{dyn, restmapper.NewDiscoveryRESTMapper(groups)}
}

func (c *client) resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := o.GroupVersionKind()
	m, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.dynamic.Resource(m.Resource).Namespace(o.GetNamespace()), nil
	}
	return c.dynamic.Resource(m.Resource), nil
}

func (c *client) apply(ctx context.Context, o *unstructured.Unstructured, dryRun ...string) error {
	r, err := c.resource(o)
	if err != nil {
		return err
	}
	_, err = r.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: "test", DryRun: dryRun})
	return err
}

// TestServerAccepts applies every object of every platform to a real API server, in the plan's order, with strict field
// validation; then it lets a deployer bring the chart's workloads and their pods while the platform's own policies
// enforce: what is compiled must pass what is compiled.
func TestServerAccepts(t *testing.T) {
	lab := labtest.Start(t)
	for _, file := range platforms {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			strict := rest.CopyConfig(lab.Config)
			strict.WarningHandler = rest.NoWarnings{}
			admin := newClient(t, strict)
			p, _ := load(t, file)
			lock := &spec.Lock{}
			for _, n := range spec.Sorted(p.Spec.Components) {
				lock.Images = append(lock.Images, spec.LockedImage{Image: p.Spec.Components[n].Image, Digest: "sha256:" + strings.Repeat("0", 64)})
			}
			plan, err := Compile(p, lock, Options{})
			if err != nil {
				t.Fatal(err)
			}
			applied := 0
			for _, a := range plan.Artifacts {
				if a.Object == nil {
					continue
				}
				if err := admin.apply(ctx, &unstructured.Unstructured{Object: runtime.DeepCopyJSON(jsonOf(a.Object))}); err != nil {
					t.Errorf("%s: %v", a.ID(), err)
				}
				applied++
			}
			t.Logf("%d objects applied", applied)
			ourPods(ctx, t, admin, p, plan)
		})
	}
}

// jsonOf has the numbers that unstructured objects may have: int64, not float64.
func jsonOf(o map[string]any) map[string]any {
	u := &unstructured.Unstructured{}
	b, err := (&unstructured.Unstructured{Object: o}).MarshalJSON()
	if err == nil {
		err = u.UnmarshalJSON(b)
	}
	if err != nil {
		panic(err)
	}
	return u.Object
}

// ourPods brings the chart's objects and a pod of each workload, as a dry run.
func ourPods(ctx context.Context, t *testing.T, admin *client, p *spec.Platform, plan *artifact.Plan) {
	t.Helper()
	dir := t.TempDir()
	chart := ""
	for path, content := range planFiles(t, plan) {
		if !strings.HasPrefix(path, "charts/") {
			continue
		}
		file := filepath.Join(dir, path)
		if strings.HasSuffix(path, "/Chart.yaml") {
			chart = filepath.Dir(file)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	snap, err := collect.Read(ctx, []string{chart}, collect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range snap.NotJudged {
		t.Errorf("the chart: %s: %s", n.What, n.Reason)
	}
	pod := func(w *cluster.Workload) *unstructured.Unstructured {
		x := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: *w.PodMeta.DeepCopy(), Spec: *w.Spec.DeepCopy()}
		x.Name, x.Namespace = w.Name()+"-0", w.Meta.Namespace
		for i := range x.Spec.Containers { // the volumes of claim templates come with the StatefulSet controller
			for _, m := range x.Spec.Containers[i].VolumeMounts {
				if !hasVolume(x.Spec.Volumes, m.Name) {
					x.Spec.Volumes = append(x.Spec.Volumes, corev1.Volume{Name: m.Name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: m.Name + "-" + x.Name}}})
				}
			}
		}
		return unstruct(t, x)
	}
	// The policies act a moment after they are there; without this wait the test would pass before they do.
	weak := pod(snap.Workloads()[0])
	weak.Object["spec"].(map[string]any)["containers"] = []any{map[string]any{"name": "x", "image": "registry.evil.example/x:latest"}}
	refused := map[string]bool{}
	for deadline := time.Now().Add(30 * time.Second); len(refused) == 0 && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err := admin.apply(ctx, weak, metav1.DryRunAll); apierrors.IsForbidden(err) {
			refused[err.Error()] = true
		}
	}
	if len(refused) == 0 {
		t.Fatal("a pod that breaks every rule is admitted")
	}
	time.Sleep(2 * time.Second) // all policies, not only the first
	for _, o := range snap.Objects {
		u := unstruct(t, o.Typed.(runtime.Object))
		u.SetGroupVersionKind(schema.FromAPIVersionAndKind(o.APIVersion, o.Kind))
		if err := admin.apply(ctx, u, metav1.DryRunAll); err != nil {
			t.Errorf("the chart's %s %s: %v", o.Kind, o.Name(), err)
		}
	}
	for _, w := range snap.Workloads() {
		if err := admin.apply(ctx, pod(w), metav1.DryRunAll); err != nil {
			t.Errorf("a pod of %s %s: %v", w.Kind, w.Name(), err)
		}
	}
	if n := len(snap.Workloads()); n != len(p.Spec.Components) {
		t.Errorf("%d workloads, want %d", n, len(p.Spec.Components))
	}
	t.Logf("%d objects of the chart and a pod of each workload admitted; a weak pod is refused: %s", len(snap.Objects), strings.Join(spec.Sorted(refused), "; "))
}

func hasVolume(volumes []corev1.Volume, name string) bool {
	for _, v := range volumes {
		if v.Name == name {
			return true
		}
	}
	return false
}

func unstruct(t *testing.T, o runtime.Object) *unstructured.Unstructured {
	t.Helper()
	if gvks, _, err := scheme.Scheme.ObjectKinds(o); err == nil {
		o.GetObjectKind().SetGroupVersionKind(gvks[0])
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(fmt.Errorf("%T: %w", o, err))
	}
	m = maps.Clone(m)
	delete(m, "status")
	artifact.Prune(m)
	return &unstructured.Unstructured{Object: m}
}
