package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram in the environment makes the test binary behave like bulwark-lab, so
// that the tests run the real thing without building it a second time.
const asProgram = "BULWARK_LAB_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	os.Unsetenv(asProgram)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	os.Exit(Run(context.Background(), os.Args[1:], signals, os.Stdin, os.Stdout, os.Stderr))
}

// lab is one run of bulwark-lab with a TMPDIR of its own.
type lab struct {
	*exec.Cmd
	temp           string
	stdout, stderr bytes.Buffer
}

func newLab(t *testing.T, args ...string) *lab {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{Cmd: exec.Command(self, args...), temp: t.TempDir()}
	l.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+l.temp)
	l.Stdout, l.Stderr = &l.stdout, &l.stderr
	t.Cleanup(func() {
		if l.Process != nil && l.ProcessState == nil {
			_ = l.Process.Kill()
			_ = l.Wait()
		}
	})
	return l
}

// check waits for the end and checks the exit code, and that nothing is left.
func (l *lab) check(t *testing.T, want int) {
	t.Helper()
	var exit *exec.ExitError
	if err := l.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := l.ProcessState.ExitCode(); got != want {
		t.Errorf("exit code %d, want %d; stdout:\n%s\nstderr:\n%s", got, want, &l.stdout, &l.stderr)
	}
	left, err := os.ReadDir(l.temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range left {
		t.Errorf("%s is left in TMPDIR", each.Name())
	}
}

func (l *lab) start(t *testing.T) {
	t.Helper()
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
}

// firstLine returns the first line of what the lab prints to stdout.
func (l *lab) firstLine(t *testing.T) string {
	t.Helper()
	l.Stdout = nil
	out, err := l.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.start(t)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("read the first line: %v; stderr:\n%s", err, &l.stderr)
	}
	return strings.TrimSuffix(line, "\n")
}

func TestCommand(t *testing.T) {
	t.Parallel()
	kept := filepath.Join(t.TempDir(), "audit.log")
	l := newLab(t, "--audit-log", kept, "--", "sh", "-c",
		`test -s "$KUBECONFIG" && test -s "$BULWARK_LAB_AUDIT_LOG" && echo "log=$BULWARK_LAB_AUDIT_LOG"; sleep 600 & echo "child=$!"; exit 7`)
	began := time.Now()
	l.start(t)
	l.check(t, 7)
	if took := time.Since(began); took > time.Minute {
		t.Errorf("took %v: the lab waited for a process that the command left behind", took)
	}
	out := l.stdout.String()
	if !strings.Contains(out, "log="+kept) {
		t.Errorf("the environment of the command: got %q", out)
	}
	if info, err := os.Stat(kept); err != nil || info.Size() == 0 {
		t.Errorf("an audit log that was asked for is kept: %v, %v", info, err)
	}
	// The group of the command is gone, and with it what it left behind.
	_, child, _ := strings.Cut(out, "child=")
	child, _, _ = strings.Cut(child, "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(child))
	if err != nil {
		t.Fatalf("no child in %q", out)
	}
	waitGone(t, pid)
}

// waitGone waits until no process has pid, or only a dead one that nobody has
// waited for, which kill(2) does not tell apart.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return
		}
		status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err == nil && bytes.Contains(status, []byte(") Z ")) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs", pid)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestQuiet ends the lab while its controllers are busy; what they then complain
// of is not for the user, but what the command says is.
func TestQuiet(t *testing.T) {
	t.Parallel()
	for range 3 {
		l := newLab(t, "--", "sh", "-c", "echo heard >&2")
		l.start(t)
		l.check(t, 0)
		if got := l.stderr.String(); got != "heard\n" {
			t.Errorf("stderr: got %q, want what the command said", got)
		}
	}
	l := newLab(t, "-v", "--", "true")
	l.start(t)
	l.check(t, 0)
	if !strings.Contains(l.stderr.String(), "Serving securely") {
		t.Errorf("stderr with -v: %s", &l.stderr)
	}
}

func TestCommandEndsBySignal(t *testing.T) {
	t.Parallel()
	t.Run("of its own", func(t *testing.T) {
		l := newLab(t, "--", "sh", "-c", "kill -9 $$")
		l.start(t)
		l.check(t, 128+int(syscall.SIGKILL))
	})
	t.Run("passed on", func(t *testing.T) {
		l := newLab(t, "--", "sh", "-c", "trap 'exit 3' TERM; echo running; while :; do sleep 0.1; done")
		if got := l.firstLine(t); got != "running" {
			t.Fatalf("got %q", got)
		}
		if err := l.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		l.check(t, 3)
	})
}

func TestNoCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ready, kubeconfig := filepath.Join(dir, "ready"), filepath.Join(dir, "it's a kubeconfig")
	l := newLab(t, "--ready-file", ready, "--kubeconfig", kubeconfig)
	line := l.firstLine(t)
	if data, err := os.ReadFile(ready); err != nil || strings.TrimSpace(string(data)) != line {
		t.Errorf("ready file: got %q, %v, want %q", data, err, line)
	}
	// The line is for a shell, so a shell judges it.
	got, err := exec.Command("sh", "-c", line+`; printf %s "$KUBECONFIG"; test -s "$BULWARK_LAB_AUDIT_LOG"`).Output()
	if err != nil || string(got) != kubeconfig {
		t.Errorf("%s: got %q, %v, want %q", line, got, err, kubeconfig)
	}
	if info, err := os.Stat(kubeconfig); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v", info, err)
	}
	if err := l.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	l.check(t, 0)
	for _, file := range []string{ready, kubeconfig} {
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", file, err)
		}
	}
	if l.stderr.Len() > 0 {
		t.Errorf("stderr: %s", &l.stderr)
	}
}

func TestInterruptedStart(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start(t)
	// As soon as there is something to clean up, and long before it is ready.
	for range 500 {
		if left, _ := os.ReadDir(l.temp); len(left) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := l.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	l.check(t, 128+int(syscall.SIGTERM))
}

func TestExitWithParent(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	out := filepath.Join(t.TempDir(), "out")
	// The shell starts the lab, waits for its line and ends; nobody signals the lab.
	shell := exec.Command("sh", "-c", `"$0" --exit-with-parent >"$1" & echo $!; while ! test -s "$1"; do sleep 0.1; done`, l.Path, out)
	shell.Env = l.Env
	pid, err := shell.Output()
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err != nil {
		t.Fatal(err)
	}
	waitGone(t, number)
	if left, _ := os.ReadDir(l.temp); len(left) > 0 {
		t.Errorf("%s is left in TMPDIR", left[0].Name())
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args []string
		code int
		want string // in stderr
	}{
		{"no such flag", []string{"--nope"}, exitMisuse, "unknown flag: --nope"},
		{"command without dashes", []string{"kubectl"}, exitMisuse, "a command goes after --"},
		{"argument before dashes", []string{"x", "--", "kubectl"}, exitMisuse, "a command goes after --"},
		{"dashes without command", []string{"--"}, exitMisuse, "no command after --"},
		{"no time", []string{"--timeout", "0s"}, exitMisuse, "--timeout must be positive"},
		{"too little time", []string{"--timeout", "1ms"}, exitFailed, "--timeout gives it longer"},
		{"no static policies", []string{"--static-policies", "/nowhere"}, exitFailed, "/nowhere"},
		{"bad flag of the server", []string{"--apiserver-flag", "etcd-prefix"}, exitFailed, "etcd-prefix"},
		{"no such command", []string{"--", "no-such-command"}, exitNotFound, "no-such-command"},
		{"not a program", []string{"--", "/etc/hostname"}, exitCannotRun, "/etc/hostname"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t, test.args...)
			l.start(t)
			l.check(t, test.code)
			if got := l.stderr.String(); !strings.Contains(got, test.want) {
				t.Errorf("stderr: got %q, want it to contain %q", got, test.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	l := newLab(t, "--help")
	l.start(t)
	l.check(t, exitOK)
	if !strings.Contains(l.stdout.String(), "v1.37.2") || l.stderr.Len() > 0 {
		t.Errorf("stdout:\n%s\nstderr:\n%s", &l.stdout, &l.stderr)
	}
}
