package prove_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/compile"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/prove"
	"github.com/intelgraph/bulwark/internal/spec"
)

type world struct {
	platform *spec.Platform
	plan     *artifact.Plan
	attacks  []attack.Attack
	offline  *prove.Offline
}

func reference(t testing.TB) *world {
	t.Helper()
	p, err := spec.Load(filepath.Join("..", "..", "platforms", "intelgraph", "platform.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{platform: p}
	if w.plan, err = compile.Compile(p, nil, compile.Options{}); err != nil {
		t.Fatal(err)
	}
	if w.attacks, err = attack.For(p); err != nil {
		t.Fatal(err)
	}
	d, err := prove.FromPlan(w.plan)
	if err != nil {
		t.Fatal(err)
	}
	if w.offline, err = prove.NewOffline(d); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestOfflineReferencePlatform(t *testing.T) {
	w := reference(t)
	rep, err := prove.Run(context.Background(), w.offline, w.attacks, prove.Options{Platform: "intelgraph"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rep.Attacks {
		switch {
		case r.NoEngine:
			if r.Layer != artifact.Access && r.Layer != artifact.Network {
				t.Errorf("%s has no engine", r.ID)
			}
		case r.Verdict != finding.Blocked || r.Twin.Verdict != finding.Admitted:
			t.Errorf("%s: %s (%s), twin %s (%s), by %v", r.ID, r.Verdict, r.Evidence, r.Twin.Verdict, r.Twin.Evidence, r.By)
		}
	}
	s := rep.Summary
	t.Logf("%+v", s)
	if s.Blocked < 40 || s.Attacks != s.Blocked+s.Detected+s.Missed+s.Unknown {
		t.Errorf("summary %+v", s)
	}
}

// TestEveryControlOwnsAnAttack: each policy, each binding and each Pod Security label stops at least one attack that
// nothing else stops.
func TestEveryControlOwnsAnAttack(t *testing.T) {
	w := reference(t)
	ctx := context.Background()
	rep, err := prove.Run(ctx, w.offline, w.attacks, prove.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := prove.Ablate(ctx, prove.OfflineRemover{Engine: w.offline}, w.plan, rep, w.attacks, nil); err != nil {
		t.Fatal(err)
	}
	if n := len(rep.Ablation.Controls); n < 2*10+2 {
		t.Errorf("%d controls were ablated", n)
	}
	for _, c := range rep.Ablation.Controls {
		t.Logf("%s: %d", c.Control, len(c.Missed))
		if len(c.Missed) == 0 {
			t.Errorf("%s owns no attack", c.Control)
		}
		if len(c.Unknown) > 0 {
			t.Errorf("%s: not judged: %v", c.Control, c.Unknown)
		}
	}
}

func TestStagesDetectInsteadOfBlocking(t *testing.T) {
	w := reference(t)
	for _, stage := range []artifact.Stage{artifact.Audit, artifact.Warn} {
		plan, err := compile.Compile(w.platform, nil, compile.Options{Stage: stage})
		if err != nil {
			t.Fatal(err)
		}
		d, err := prove.FromPlan(plan)
		if err != nil {
			t.Fatal(err)
		}
		engine, err := prove.NewOffline(d)
		if err != nil {
			t.Fatal(err)
		}
		rep, err := prove.Run(context.Background(), engine, w.attacks, prove.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if rep.Summary.Detected == 0 {
			t.Errorf("stage %s: nothing is detected", stage)
		}
		for _, r := range rep.Attacks {
			// Removing a label that this stage does not set yet changes nothing, so nothing notices it; nor does turning a
			// binding to recording that only records.
			if absent := strings.HasPrefix(r.ID, "guards/drop-") || stage == artifact.Audit && r.ID == "guards/weaken-binding"; r.Verdict == finding.Blocked || (r.Verdict == finding.Missed && !absent) {
				t.Errorf("stage %s: %s is %s", stage, r.ID, r.Verdict)
			}
		}
		if rep.Summary.TwinsAdmitted != rep.Summary.Twins {
			t.Errorf("stage %s: %+v", stage, rep.Summary)
		}
	}
}

// TestTwinDiffersInOneField holds the corpus to its promise.
func TestTwinDiffersInOneField(t *testing.T) {
	for _, a := range reference(t).attacks {
		if a.Attempt.Verb != a.Twin.Verb {
			t.Errorf("%s: the twin has another verb", a.ID)
		}
		if cmp.Equal(a.Attempt, a.Twin) {
			t.Errorf("%s: the twin is the attack", a.ID)
		}
		if a.Attempt.Verb == attack.Create || a.Attempt.Verb == attack.Debug {
			if diff := cmp.Diff(a.Attempt, a.Twin, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Object" }, cmp.Ignore())); diff != "" {
				t.Errorf("%s: the twin differs outside of the object:\n%s", a.ID, diff)
			}
		}
		if a.Differs == "" || a.Title == "" || a.Fix == "" || len(a.Standards) == 0 || a.Intended == "" {
			t.Errorf("%s is incomplete: %+v", a.ID, a)
		}
	}
}

// TestUnintendedRefusalProvesNothing: a refusal by anybody but the intended control is unknown.
func TestUnintendedRefusalProvesNothing(t *testing.T) {
	w := reference(t)
	for _, a := range w.attacks {
		if a.ID != "policies/unpinned/pod" {
			continue
		}
		other := a
		other.Intended = attack.ControlPolicy("read-only-root")
		rep, err := prove.Run(context.Background(), w.offline, []attack.Attack{other}, prove.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := rep.Attacks[0]; got.Verdict != finding.Unknown || !strings.Contains(got.Evidence, "not by policy/read-only-root") {
			t.Errorf("got %s: %s", got.Verdict, got.Evidence)
		}
		// The twin that is refused too takes the proof away.
		broken := a
		broken.Twin = a.Attempt
		rep, err = prove.Run(context.Background(), w.offline, []attack.Attack{broken}, prove.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := rep.Attacks[0]; got.Verdict != finding.Unknown || got.Twin.Verdict != finding.Blocked {
			t.Errorf("got %s, twin %s", got.Verdict, got.Twin.Verdict)
		}
		return
	}
	t.Fatal("no such attack")
}

func corpus(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("BULWARK_CORPUS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "corpus")
	}
	dir := filepath.Join(root, name)
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the corpus is not there: %v", err)
		}
		t.Skipf("the corpus %s is not there; set BULWARK_CORPUS", dir)
	}
	return dir
}

// waitFor gives what takes effect late the time it needs.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 20 s")
		}
		time.Sleep(200 * time.Millisecond)
	}
}
