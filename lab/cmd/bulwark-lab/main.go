// Command bulwark-lab runs a real Kubernetes control plane in one process, for
// as long as it is needed: see bulwark-lab --help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/intelgraph/bulwark/lab/internal/cli"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	os.Exit(cli.Run(context.Background(), os.Args[1:], signals, os.Stdin, os.Stdout, os.Stderr))
}
