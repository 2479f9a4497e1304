// Command bulwark is the workstation tool; see `bulwark --help`.
package main

import (
	"os"
	"time"

	"github.com/intelgraph/bulwark/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() {
	os.Exit(cli.Main(os.Args[1:], &cli.App{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Version: version, Now: time.Now}))
}
