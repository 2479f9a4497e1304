// Package cli is the command line of bulwark-lab: flags, messages and exit
// codes. The work is done by package server.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/intelgraph/bulwark/lab/server"
)

// Exit codes. With a command, the command's own code is passed on; the codes
// from 125 are those of env(1) and timeout(1), so that the two rarely meet.
const (
	exitOK        = 0
	exitMisuse    = 2
	exitFailed    = 125 // the lab did not start, or broke down
	exitCannotRun = 126 // the command could not be run
	exitNotFound  = 127 // the command was not found
	exitSignal    = 128 // plus the number of the signal that ended the command or the start
)

const usage = `Run a real kube-apiserver %s with etcd in one process, for tests.

  bulwark-lab [flags]                    run until SIGINT or SIGTERM
  bulwark-lab [flags] -- command [args]  run for as long as the command does

Without a command, one line for a shell is printed once the server is ready:
  export KUBECONFIG=... BULWARK_LAB_AUDIT_LOG=...
With a command, these two are in its environment; its exit code is passed on.

The server has RBAC, Pod Security, validating and mutating admission policies and
an audit log. It has no scheduler and no nodes: pods are admitted, never run. The
kubeconfig is that of an admin who may do everything, impersonation included
(kubectl --as). Ports are free ones of 127.0.0.1, so that labs run side by side.

Flags:
%s
Exit codes: 0 good (or that of the command), 2 misuse, 125 the lab did not start or
broke down, 126 the command could not be run, 127 the command was not found,
128+n the command, or the start, was ended by signal n.
`

// options are what the flags set.
type options struct {
	server    server.Options
	readyFile string
	timeout   time.Duration
	verbose   bool
	parent    bool
	command   []string // empty: run until a signal comes
}

// events are what ends a lab before its time.
type events struct {
	signals  <-chan os.Signal
	orphaned chan struct{} // closed when the parent has ended
	fatal    <-chan struct{}
}

// errFatal says that Kubernetes wanted to end the process.
var errFatal = errors.New("the server gave up")

// Run runs bulwark-lab with args, which do not include the program's name, and
// returns its exit code. A value on signals ends it; ctx carries values only.
func Run(ctx context.Context, args []string, signals <-chan os.Signal, stdin *os.File, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, helpText())
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "bulwark-lab: %v\nTry bulwark-lab --help.\n", err)
		return exitMisuse
	}
	if !o.verbose && stderr == io.Writer(os.Stderr) {
		if stderr, err = takeStderr(); err != nil {
			fmt.Fprintf(os.Stderr, "bulwark-lab: %v\n", err)
			return exitFailed
		}
	}
	logs := captureLogs(o.verbose, stderr)
	code, err := o.run(ctx, events{signals: signals, orphaned: make(chan struct{}), fatal: logs.fatal}, stdin, stdout, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "bulwark-lab: %v\n", err)
	}
	if code == exitFailed {
		logs.explain(stderr)
	}
	return code
}

// flagSet returns the flags, which set o.
func flagSet(o *options) *pflag.FlagSet {
	f := pflag.NewFlagSet("bulwark-lab", pflag.ContinueOnError)
	f.SortFlags = false
	f.Usage = func() {}
	f.StringVar(&o.server.Dir, "dir", "", "keep everything in `DIR`, which must be empty or new and is kept\n(default: a temporary directory, removed at the end)")
	f.StringVar(&o.server.Kubeconfig, "kubeconfig", "", "write the kubeconfig to `FILE` (default DIR/kubeconfig); removed at the end")
	f.StringVar(&o.server.AuditLog, "audit-log", "", "append the audit log to `FILE` (default DIR/audit.log)")
	f.StringVar(&o.server.AuditPolicy, "audit-policy", "", "use the audit policy in `FILE` (default: Metadata of every request)")
	f.StringVar(&o.readyFile, "ready-file", "", "write the line for a shell to `FILE` once ready; removed at the end")
	f.DurationVar(&o.server.PolicyRefresh, "policy-refresh", 50*time.Millisecond, "look for changed admission policies every `DURATION`; a cluster does so every 1s,\nbut a lab's tests change policies often and wait each time")
	f.StringVar(&o.server.StaticPolicies, "static-policies", "", "let the server load the ValidatingAdmissionPolicies and bindings in `DIR` itself;\ntheir names must end in .static.k8s.io")
	f.BoolVar(&o.server.WorkloadControllers, "workload-controllers", false, "also run the controllers that make pods: deployments, replicasets,\nstatefulsets, daemonsets, jobs, cronjobs")
	f.StringArrayVar(&o.server.Flags, "apiserver-flag", nil, "pass `NAME=VALUE` to kube-apiserver as --NAME=VALUE; may be repeated")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "give up if the server is not ready after `DURATION`")
	f.BoolVar(&o.parent, "exit-with-parent", false, "end when the process that started this one has ended")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "show the server's own log on stderr")
	return f
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flagSet(o)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	rest := f.Args()
	switch dash := f.ArgsLenAtDash(); {
	case dash > 0 || dash < 0 && len(rest) > 0:
		return nil, fmt.Errorf("unexpected argument %q: a command goes after --", rest[0])
	case dash == 0 && len(rest) == 0:
		return nil, errors.New("there is no command after --")
	}
	o.command = rest
	if o.timeout <= 0 {
		return nil, fmt.Errorf("--timeout must be positive, but is %v", o.timeout)
	}
	if o.server.PolicyRefresh < 0 {
		return nil, fmt.Errorf("--policy-refresh must not be negative, but is %v", o.server.PolicyRefresh)
	}
	for i, flag := range o.server.Flags {
		o.server.Flags[i] = "--" + strings.TrimLeft(flag, "-")
	}
	return o, nil
}

func helpText() string {
	return fmt.Sprintf(usage, server.KubernetesVersion, flagSet(&options{}).FlagUsages())
}

// run starts the server, waits for what ends it, and stops it. The error is what
// the user must know beside the exit code.
func (o *options) run(ctx context.Context, e events, stdin *os.File, stdout, stderr io.Writer) (code int, err error) {
	if o.parent {
		ended := make(chan struct{})
		defer close(ended)
		go watchParent(ended, e.orphaned)
	}

	s, err := o.start(ctx, e)
	if by := (interrupted{}); errors.As(err, &by) {
		return exitSignal + int(by.signal), nil
	}
	if err != nil {
		return exitFailed, err
	}
	defer func() {
		if stopErr := s.Stop(); stopErr != nil {
			code, err = exitFailed, errors.Join(err, stopErr)
		}
	}()

	environment := []string{"KUBECONFIG=" + s.Kubeconfig(), "BULWARK_LAB_AUDIT_LOG=" + s.AuditLog()}
	line := "export"
	for _, variable := range environment {
		name, value, _ := strings.Cut(variable, "=")
		line += " " + name + "=" + shellQuote(value)
	}
	if o.readyFile != "" {
		defer os.Remove(o.readyFile)
		if err := server.WriteFileAtomic(o.readyFile, []byte(line+"\n")); err != nil {
			return exitFailed, fmt.Errorf("write the ready file: %w", err)
		}
	}

	if len(o.command) > 0 {
		return runCommand(o.command, environment, s, e, stdin, stdout, stderr)
	}
	fmt.Fprintln(stdout, line)
	select {
	case <-e.signals:
	case <-e.orphaned:
	case <-e.fatal:
		return exitFailed, errFatal
	case <-s.Done():
		return exitFailed, s.Err()
	}
	return exitOK, nil
}

// interrupted says that the start was given up because it was asked to.
type interrupted struct{ signal syscall.Signal }

func (i interrupted) Error() string { return "interrupted: " + i.signal.String() }

// start starts the server; an event gives it up.
func (o *options) start(ctx context.Context, e events) (*server.Server, error) {
	timed, cancelTimed := context.WithTimeoutCause(ctx, o.timeout,
		fmt.Errorf("not ready after %v (--timeout gives it longer)", o.timeout))
	defer cancelTimed()
	starting, cancel := context.WithCancelCause(timed)
	defer cancel(nil)
	started := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case s := <-e.signals:
			cancel(interrupted{s.(syscall.Signal)})
		case <-e.orphaned:
			cancel(interrupted{syscall.SIGHUP}) // what a terminal sends when it goes
		case <-e.fatal:
			cancel(errFatal)
		case <-started:
		}
	}()
	s, err := server.Start(starting, o.server)
	close(started)
	<-watched
	if err == nil && starting.Err() != nil {
		// The signal came in the last moment; it is used up, so act on it here.
		err = errors.Join(context.Cause(starting), s.Stop())
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// watchParent closes orphaned when this process gets another parent, which is
// how the end of the parent shows everywhere (getppid(2)).
func watchParent(ended <-chan struct{}, orphaned chan<- struct{}) {
	parent := os.Getppid()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for os.Getppid() == parent {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
	}
	close(orphaned)
}

// shellQuote quotes s for a POSIX shell, if it needs it.
func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
