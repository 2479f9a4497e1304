package cli

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"
)

// TestFatalIsAnEvent ends no process: a server that gives up is taken down in
// order, and its last words are shown.
func TestFatalIsAnEvent(t *testing.T) {
	l := captureLogs(false, io.Discard)
	klog.Info("all is well")
	klog.Error("the disk is full")
	go klog.Exit("boom") // this goroutine ends with the tests
	select {
	case <-l.fatal:
	case <-time.After(10 * time.Second):
		t.Fatal("the event did not come")
	}
	var got bytes.Buffer
	l.explain(&got)
	for _, want := range []string{"the disk is full", "boom"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("got %q, want it to contain %q", &got, want)
		}
	}
	if strings.Contains(got.String(), "all is well") {
		t.Errorf("got %q, want errors only", &got)
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/tmp/lab-1/audit.log": "/tmp/lab-1/audit.log",
		"":                     "''",
		"a b":                  "'a b'",
		"it's":                 `'it'\''s'`,
		"$(reboot)":            "'$(reboot)'",
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", in, got, want)
		}
	}
}
