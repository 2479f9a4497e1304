// Package cli is the command line: one file a command, each a constructor, an options struct and a run function. It is
// the only place with flags, streams and exit codes.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes, the same for every command.
const (
	ExitOK = 0
	// ExitFindings: findings at or above the threshold, drift, or an attack that was missed.
	ExitFindings = 1
	// ExitMisuse: bad flags or bad input.
	ExitMisuse = 2
	// ExitUnknown: something that should have been judged could not be.
	ExitUnknown = 3
)

// App carries the streams and the few outside facts that commands may use.
type App struct {
	In       io.Reader
	Out, Err io.Writer
	// Version is printed by `bulwark version`.
	Version string
	// Now is the clock; only the CLI has one.
	Now func() time.Time
}

// ExitError ends the program with a code; a nil Err prints nothing more, because the output has said it already.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Exit gives an error that ends the program with a code and no further message.
func Exit(code int) error { return &ExitError{Code: code} }

// Misuse wraps an error that the user's input caused.
func Misuse(err error) error { return &ExitError{Code: ExitMisuse, Err: err} }

// Main runs the program and returns the exit code.
func Main(args []string, app *App) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := NewRoot(app)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	var exit *ExitError
	if errors.As(err, &exit) {
		if exit.Err != nil {
			fmt.Fprintf(app.Err, "bulwark: %v\n", exit.Err)
		}
		return exit.Code
	}
	fmt.Fprintf(app.Err, "bulwark: %v\n", err)
	return ExitMisuse
}

// NewRoot builds the command tree.
func NewRoot(app *App) *cobra.Command {
	root := &cobra.Command{
		Use:   "bulwark",
		Short: "Describe a Kubernetes platform once; compile, deploy, attack and report its defences",
		Long: `Bulwark compiles one Platform spec into every layer of defence, deploys it, attacks it, and reports only what was proven.

Exit codes: 0 good; 1 findings at or above the threshold, drift, or a missed attack; 2 misuse or bad input;
3 something that should have been judged could not be.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       app.Version,
	}
	root.SetIn(app.In)
	root.SetOut(app.Out)
	root.SetErr(app.Err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Misuse(fmt.Errorf("%w; see `%s --help`", err, c.CommandPath()))
	})
	root.AddCommand(commands(app)...)
	return root
}

// terminal reports whether a stream is a terminal that may get colour and progress.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
