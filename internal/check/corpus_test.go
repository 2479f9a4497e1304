package check_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	psaapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	corev1 "k8s.io/api/core/v1"

	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/collect"
	"github.com/intelgraph/bulwark/internal/finding"
)

// corpus gives a folder of the independent test data, or skips saying so; with CI=true it must be there.
func corpus(t *testing.T, parts ...string) string {
	t.Helper()
	root := os.Getenv("BULWARK_CORPUS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "corpus")
	}
	dir := filepath.Join(append([]string{root}, parts...)...)
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the corpus is missing, and CI must have it: %v", err)
		}
		t.Skipf("the corpus is missing: %v; set BULWARK_CORPUS", err)
	}
	return dir
}

func readPath(t *testing.T, path string) *cluster.Snapshot {
	t.Helper()
	s, err := collect.Read(context.Background(), []string{path}, collect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func worst(r *check.Result) (s finding.Severity) {
	for _, f := range r.Findings {
		s = max(s, f.Severity)
	}
	return s
}

// Each of KubeHound's attacks has to be seen in its own file, and the harmless pod has to stay below high.
func TestKubeHound(t *testing.T) {
	dir := corpus(t, "kubehound-attacks")
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) != 24 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		r := check.Run(readPath(t, f), check.Options{Day: today})
		name := filepath.Base(f)
		if name == "CONTROL_POD.yaml" {
			if n := r.Summary.Findings.AtLeast(finding.High); n > 0 {
				t.Errorf("%s: %d findings are high; nothing is wrong with it", name, n)
			}
			continue
		}
		if worst(r) < finding.High {
			t.Errorf("%s: the worst finding is %s", name, worst(r))
		}
		// This file alone binds roles that are in another one: what they grant must be called unknown, not good.
		if name == "ROLE_BIND_RB_R-UG.yaml" && (r.Summary.Unknown == 0 || r.Summary.Findings.AtLeast(finding.High) > 0) {
			t.Errorf("%s: %d unknown; its roles are elsewhere", name, r.Summary.Unknown)
		}
	}
	// Together, each attack's role is there.
	r := check.Run(readPath(t, dir), check.Options{Day: today})
	for _, f := range r.Findings {
		if f.Verdict == finding.Unknown && strings.Contains(f.File, "ROLE_BIND_RB_R-UG") && !strings.Contains(f.Message, "was not read") {
			t.Errorf("%s", f.Message)
		}
	}
}

func TestBadPods(t *testing.T) {
	dir := corpus(t, "bad-pods")
	n := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		r := check.Run(readPath(t, path), check.Options{Day: today})
		high := r.Summary.Findings.AtLeast(finding.High)
		if harmless := strings.Contains(path, "nothing-allowed"); harmless && high > 0 {
			t.Errorf("%s: %d high findings", path, high)
		} else if !harmless && high == 0 {
			t.Errorf("%s: nothing high was found", path)
		}
		return nil
	})
	if err != nil || n != 128 {
		t.Errorf("%d files, %v", n, err)
	}
}

// A real application: findings that are there, nothing made up, and no pass for what is not in its files.
func TestOnlineBoutique(t *testing.T) {
	r := check.Run(readPath(t, corpus(t, "apps", "online-boutique")), check.Options{Day: today})
	if r.Summary.Workloads != 12 || len(r.NotJudged) > 0 {
		t.Errorf("%d workloads, not judged: %v", r.Summary.Workloads, r.NotJudged)
	}
	tally := map[string]check.Tally{}
	for _, x := range r.Checks {
		tally[x.Check] = x
	}
	// Its files hold no Namespace and no Secret object; its policies deny by default.
	for id, want := range map[string]check.Tally{
		"namespace-pod-security-missing": {},
		"secret-in-manifest":             {},
		"network-default-deny-ingress":   {Pass: 1},
		"container-privileged":           {Pass: 13},
		"image-digest-missing":           {Pass: 1, Fail: 12},
		"seccomp-unset":                  {Fail: 13},
		"service-exposed":                {Pass: 11, Fail: 1},
		"host-network":                   {Pass: 12},
		"mesh-mtls-not-strict":           {},
	} {
		got := tally[id]
		if got.Pass != want.Pass || got.Fail != want.Fail || got.Unknown != want.Unknown {
			t.Errorf("%s: %d pass, %d fail, %d unknown; want %d, %d, %d", id, got.Pass, got.Fail, got.Unknown, want.Pass, want.Fail, want.Unknown)
		}
	}
}

// The checks that claim a Pod Security Standard must agree with Kubernetes' own library on each of its test pods: what it
// refuses at a level, some check of that level finds; and what it admits, none does. A finding of severity low is a check
// going further than the standard.
func TestPodSecurityLibraryAgrees(t *testing.T) {
	dir := moduleDir(t, "k8s.io/pod-security-admission")
	eval, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := map[string]string{}
	for _, c := range check.All() {
		if c.Layer == "admission" || len(c.Kinds) > 0 {
			continue // namespaces claim levels too
		}
		for _, s := range c.Standards {
			if l, ok := strings.CutPrefix(s, "PSS "); ok {
				level[c.ID] = l
			}
		}
	}
	version := psaapi.MajorMinorVersion(1, 37)
	n, refused := 0, 0
	err = filepath.WalkDir(filepath.Join(dir, "test", "testdata"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".yaml") {
			return err
		}
		s := readPath(t, path)
		r := check.Run(s, check.Options{Day: today})
		for _, w := range s.Workloads() {
			n++
			pod := w.Typed.(*corev1.Pod)
			for _, l := range []psaapi.Level{psaapi.LevelBaseline, psaapi.LevelRestricted} {
				meta := pod.ObjectMeta
				verdict := policy.AggregateCheckResults(eval.EvaluatePod(psaapi.LevelVersion{Level: l, Version: version}, &meta, &pod.Spec))
				var found []string
				for _, f := range r.Findings {
					covered := level[f.Check] == "baseline" || level[f.Check] == "restricted" && l == psaapi.LevelRestricted
					// The standards let a container add what runtimes give; baseline is only about the rest.
					if f.Check == "capabilities-added" && l == psaapi.LevelBaseline && f.Severity >= finding.Medium {
						covered = true
					}
					// What restricted refuses and baseline admits, such as an added KILL, is low too.
					further := f.Severity == finding.Low && (l == psaapi.LevelBaseline || f.Check != "capabilities-added" && f.Check != "proc-mount-unmasked")
					if !covered || further {
						continue
					}
					found = append(found, f.Check)
				}
				if !verdict.Allowed {
					refused++
				}
				if verdict.Allowed != (len(found) == 0) {
					t.Errorf("%s at %s: the library says allowed=%v (%s), the checks found %v", path, l, verdict.Allowed, verdict.ForbiddenDetail(), found)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 4537 || refused < 3000 {
		t.Errorf("only %d pods, %d refused: where is the test data?", n, refused)
	}
}
