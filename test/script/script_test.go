// Package script runs the binary as its users do: each txtar file is a session, with the files that it needs.
package script

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/intelgraph/bulwark/internal/cli"
	"github.com/intelgraph/bulwark/internal/labtest"
)

// now is the day on which every script runs, so that ends of support and exceptions do not age with the test.
var now = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"bulwark": func() {
			os.Exit(cli.Main(os.Args[1:], &cli.App{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Version: "test", Now: func() time.Time { return now }}))
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: ".", RequireExplicitExec: false, Setup: setup(t, "")})
}

// TestLab runs the scripts that need a cluster, side by side on one real API server; each has a platform of its own name.
// Its policies take effect as late as a real cluster's.
func TestLab(t *testing.T) {
	lab := labtest.Start(t, "--policy-refresh", "1s")
	testscript.Run(t, testscript.Params{Dir: "lab", Setup: setup(t, lab.Kubeconfig)})
}

// setup tells a script where the repository and the cluster are.
func setup(t *testing.T, kubeconfig string) func(*testscript.Env) error {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return func(e *testscript.Env) error {
		e.Setenv("ROOT", root)
		e.Setenv("KUBECONFIG", kubeconfig)
		return nil
	}
}
