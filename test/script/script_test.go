// Package script runs the binary as its users do: each txtar file is a session, with the files that it needs.
package script

import (
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/intelgraph/bulwark/internal/cli"
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
	testscript.Run(t, testscript.Params{Dir: ".", RequireExplicitExec: false})
}
