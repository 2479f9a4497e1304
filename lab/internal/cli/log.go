package cli

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"

	"k8s.io/klog/v2"
)

// keptErrors is how many of the server's last errors are shown when it fails.
const keptErrors = 10

// logs holds the last errors that Kubernetes logged, since a server that does
// not start often says why in its log only.
type logs struct {
	fatal chan struct{} // closed when Kubernetes wants to end the process

	mu     sync.Mutex
	errors [][]byte
}

// captureLogs directs klog, of which a process has one, to stderr if verbose,
// and otherwise to the returned logs.
func captureLogs(verbose bool, stderr io.Writer) *logs {
	l := &logs{fatal: make(chan struct{})}
	f := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(f)
	for name, value := range map[string]string{
		"logtostderr":     "false",
		"stderrthreshold": "4", // one above FATAL: never beside the output set here
		"one_output":      "true",
	} {
		if err := f.Set(name, value); err != nil {
			panic(fmt.Sprintf("klog has no flag %s any more: %v", name, err)) // a test runs this
		}
	}
	// klog would leave everything behind. The goroutine that gave up waits until
	// the lab has been taken down in order.
	var once sync.Once
	klog.OsExit = func(int) {
		once.Do(func() { close(l.fatal) })
		select {}
	}
	if verbose {
		klog.SetOutput(stderr)
	} else {
		klog.SetOutput(l)
	}
	return l
}

// takeStderr returns a file that writes to stderr, and makes os.Stderr itself
// discard what is written to it. The storage of the API server warns there of
// each request that the end cuts off, through a logger made before main runs
// (etcd3ClientLogger in k8s.io/apiserver/pkg/storage/storagebackend/factory), so
// the file it holds is all that can be changed. Traces of panics go to the file
// descriptor and are still seen.
func takeStderr() (*os.File, error) {
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("silence the server: %w", err)
	}
	stderr := *os.Stderr
	*os.Stderr = *nowhere
	return &stderr, nil
}

// Write implements io.Writer for klog, which writes one entry at a time. The
// first byte of an entry is its severity.
func (l *logs) Write(entry []byte) (int, error) {
	if len(entry) > 0 && (entry[0] == 'E' || entry[0] == 'F') {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.errors = append(l.errors, bytes.Clone(entry))
		if len(l.errors) > keptErrors {
			l.errors = l.errors[1:]
		}
	}
	return len(entry), nil
}

// explain writes the errors that were kept.
func (l *logs) explain(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errors) > 0 {
		fmt.Fprintln(w, "The server's last errors:")
	}
	for _, entry := range l.errors {
		_, _ = w.Write(entry)
	}
}
