// Package labtest starts bulwark-lab, a real kube-apiserver with etcd, for tests. Only tests import it.
package labtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Lab is a running API server that a test owns.
type Lab struct {
	// Config is that of an admin who may do everything, impersonation included.
	Config *rest.Config
	// Kubeconfig and AuditLog are files; they are gone when the test has ended.
	Kubeconfig string
	AuditLog   string
}

// ready is how long a lab may take: 3 s alone, more where many tests share two cores.
const ready = 2 * time.Minute

// Start runs a lab until the test ends. The binary is the one that the environment names in BULWARK_LAB, else
// build/bulwark-lab of this repository. Without a binary the test is skipped, or failed where CI=true.
//
// Flags are passed on; see `bulwark-lab --help`.
func Start(t testing.TB, flags ...string) *Lab {
	t.Helper()
	bin := binary(t)
	dir := t.TempDir()
	lab := &Lab{Kubeconfig: filepath.Join(dir, "kubeconfig"), AuditLog: filepath.Join(dir, "audit.log")}
	readyFile := filepath.Join(dir, "ready")
	args := append([]string{"--dir", filepath.Join(dir, "lab"), "--kubeconfig", lab.Kubeconfig, "--audit-log", lab.AuditLog, "--ready-file", readyFile}, flags...)
	// Not tied to a context: stop asks it to end by itself, and only kills what does not.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), bin, args...)
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot run %s: %v", bin, err)
	}
	done := make(chan struct{})
	var ended error // to be read once done is closed
	go func() {
		ended = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() { stop(t, cmd, done, &out) })

	deadline := time.After(ready)
	for {
		if _, err := os.Stat(readyFile); err == nil {
			break
		}
		select {
		case <-done:
			t.Fatalf("bulwark-lab ended before it was ready: %v\n%s", ended, out.String())
		case <-deadline:
			t.Fatalf("bulwark-lab is not ready after %v\n%s", ready, out.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", lab.Kubeconfig)
	if err != nil {
		t.Fatalf("the lab's kubeconfig: %v", err)
	}
	cfg.QPS, cfg.Burst = 500, 1000
	lab.Config = cfg
	return lab
}

// stop ends the lab and fails the test when it does not end by itself.
func stop(t testing.TB, cmd *exec.Cmd, done <-chan struct{}, out *output) {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("stop bulwark-lab: %v", err)
	}
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		<-done
		t.Errorf("bulwark-lab did not stop within 30 s of SIGTERM\n%s", out.String())
	}
}

func binary(t testing.TB) string {
	t.Helper()
	bin := os.Getenv("BULWARK_LAB")
	if bin == "" {
		bin = filepath.Join(root(t), "build", "bulwark-lab")
	}
	if _, err := os.Stat(bin); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no lab: %v; run `make lab`, or set BULWARK_LAB to its path", err)
		}
		t.Skipf("no lab: %v; run `make lab`, or set BULWARK_LAB to its path", err)
	}
	return bin
}

// root is the folder of go.mod above the test's working directory.
func root(t testing.TB) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = up
	}
}

// output keeps what the lab printed; it is written to by the process and read by the test.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
