package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/google/go-cmp/cmp"

	"github.com/intelgraph/bulwark/internal/deploy"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/labtest"
)

const preflightPlatform = `apiVersion: bulwark.dev/v1alpha1
kind: Platform
metadata: {name: preflight}
spec:
  kubernetes: "1.37"
  namespaces: {preflight: {}}
  components:
    web: {namespace: preflight, image: ghcr.io/example/web, runtime: node, ports: {http: 8080}}
`

// TestDeployPreflight has a pod that Pod Security refuses and one that only the platform's own policies refuse: the
// command must name both, with the policy, and touch nothing; at a lower stage it goes on.
func TestDeployPreflight(t *testing.T) {
	lab := labtest.Start(t)
	k := kubernetes.NewForConfigOrDie(lab.Config)
	ctx := t.Context()
	if _, err := k.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "preflight"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if _, err := k.CoreV1().ServiceAccounts("preflight").Get(ctx, "default", metav1.GetOptions{}); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	restricted := corev1.SecurityContext{
		RunAsNonRoot: new(true), AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	for name, sc := range map[string]*corev1.SecurityContext{"careless": &restricted, "privileged": {Privileged: new(true)}} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "docker.io/library/c:latest", SecurityContext: sc}}}}
		if _, err := k.CoreV1().Pods("preflight").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "platform.yaml")
	if err := os.WriteFile(file, []byte(preflightPlatform), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(want int, args ...string) (out, errs string) {
		t.Helper()
		var o, e bytes.Buffer
		app := &App{In: strings.NewReader(""), Out: &o, Err: &e, Version: "test", Now: time.Now}
		if got := Main(append([]string{"deploy", "-f", file, "--kubeconfig", lab.Kubeconfig}, args...), app); got != want {
			t.Fatalf("deploy %v: exit code %d, want %d\n%s%s", args, got, want, o.String(), e.String())
		}
		return o.String(), e.String()
	}

	out, errs := run(ExitFindings)
	for _, want := range []string{"stage enforce would refuse 2 running pods", "preflight/careless: ", "policy/no-latest", "nothing was changed", "--stage warn", "--force"} {
		if !strings.Contains(errs, want) {
			t.Errorf("the error lacks %q:\n%s", want, errs)
		}
	}
	if !strings.Contains(out, "would be refused: Pod preflight/privileged\n") || !strings.Contains(out, "Pod Security restricted:v1.37") {
		t.Errorf("the output does not name the pod:\n%s", out)
	}
	if _, err := k.NetworkingV1().NetworkPolicies("preflight").Get(ctx, "default-deny", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the run that stopped has applied something: %v", err)
	}

	out, _ = run(ExitOK, "--stage", "warn", "-o", "json")
	var res deploy.Result
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatal(err)
	}
	if res.Summary.WouldRefuse != 2 || res.Summary.InForce != res.Summary.Controls || len(res.NotJudged) > 0 {
		t.Errorf("warn: %+v\n%+v", res.Summary, res.NotJudged)
	}
	out, _ = run(ExitOK, "--force")
	if !strings.Contains(out, "would be refused: Pod preflight/careless\n") {
		t.Errorf("--force does not say what it passed over:\n%s", out)
	}
	// They are warned of, not refused, where the stage does so.
	if out, _ = run(ExitOK, "--stage", "audit"); !strings.Contains(out, "would be recorded: Pod preflight/careless\n") {
		t.Errorf("audit:\n%s", out)
	}
}

func TestDeployLines(t *testing.T) {
	o := func(a deploy.Action, kind, ns, name, message string) deploy.Outcome {
		return deploy.Outcome{Action: a, Message: message, Object: finding.Object{Kind: kind, Namespace: ns, Name: name}}
	}
	in := []deploy.Outcome{
		o(deploy.Unchanged, "Role", "a", "same", ""),
		o(deploy.Created, "Namespace", "", "a", ""),
		o(deploy.Created, "Role", "a", "1", ""), o(deploy.Created, "Role", "a", "2", ""), o(deploy.Created, "Role", "a", "3", ""), o(deploy.Created, "Role", "a", "4", ""),
		o(deploy.Created, "Role", "b", "1", ""), o(deploy.Created, "Role", "b", "2", ""),
		o(deploy.Failed, "Role", "b", "3", "why\nnot"),
	}
	want := []string{
		"created     Namespace a", "created     4 × Role in a", "created     Role b/1", "created     Role b/2", "failed      Role b/3  why not",
	}
	if diff := cmp.Diff(want, deployLines(in, false)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := deployLines(in, true); len(got) != len(in) {
		t.Errorf("verbose hides something:\n%s", strings.Join(got, "\n"))
	}
}
