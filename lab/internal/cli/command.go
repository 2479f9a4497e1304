package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/intelgraph/bulwark/lab/server"
)

// commandGrace is how long the command gets to end after a signal.
const commandGrace = 5 * time.Second

// runCommand runs the command beside the server and returns its exit code. When
// it returns, no process of the command's group is left.
func runCommand(command, environment []string, s *server.Server, e events,
	stdin *os.File, stdout, stderr io.Writer) (int, error) {
	c := exec.Command(command[0], command[1:]...)
	c.Env = append(os.Environ(), environment...)
	c.Stdin, c.Stdout, c.Stderr = stdin, stdout, stderr
	// A group of its own, so that what the command leaves behind can be found.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if term.IsTerminal(int(stdin.Fd())) {
		// Only the foreground group may read from the terminal.
		c.SysProcAttr.Foreground = true
		c.SysProcAttr.Ctty = int(stdin.Fd())
	}
	// A process that the command left behind must not keep Wait waiting for its
	// output.
	c.WaitDelay = time.Second
	if err := c.Start(); err != nil {
		code := exitCannotRun
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			code = exitNotFound
		}
		return code, fmt.Errorf("run the command: %w", err)
	}
	group := -c.Process.Pid
	defer func() { _ = syscall.Kill(group, syscall.SIGKILL) }() // fails if nobody is left

	exited := make(chan error, 1)
	go func() { exited <- c.Wait() }()

	orphaned, fatal, down := e.orphaned, e.fatal, s.Done()
	var broken error
	var kill <-chan time.Time
	for {
		select {
		case err := <-exited:
			if broken != nil {
				return exitFailed, broken
			}
			return exitCode(err)
		case signal := <-e.signals:
			_ = syscall.Kill(group, signal.(syscall.Signal))
		case <-orphaned:
			orphaned = nil
			_ = syscall.Kill(group, syscall.SIGTERM)
		case <-fatal:
			fatal, broken = nil, errFatal
			_ = syscall.Kill(group, syscall.SIGTERM)
		case <-down:
			down, broken = nil, fmt.Errorf("the server went down while the command ran: %w", s.Err())
			_ = syscall.Kill(group, syscall.SIGTERM)
		case <-kill:
			_ = syscall.Kill(group, syscall.SIGKILL)
		}
		if kill == nil {
			kill = time.After(commandGrace)
		}
	}
}

// exitCode turns what exec.Cmd.Wait returned into an exit code.
func exitCode(err error) (int, error) {
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return exitOK, nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return exitCannotRun, fmt.Errorf("run the command: %w", err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignal + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}
