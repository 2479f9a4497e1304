package prove

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// AuditLog reads the API server's audit log while it grows. It names every policy that refused a request, where the
// server's answer names only the first. It is safe for use by several goroutines.
type AuditLog struct {
	path string

	mu      sync.Mutex
	offset  int64
	partial []byte
	// wanted are the requests that somebody will ask about; what others did on the same server is not kept.
	wanted map[string]bool
	seen   map[string][]string
	// broken is set when the log gave no answer: it is not this server's, or late. Then no request waits for it any more.
	broken error
}

// OpenAuditLog starts reading at the end of the file: what happened before is none of this run's.
func OpenAuditLog(path string) (*AuditLog, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return &AuditLog{path: path, offset: st.Size(), wanted: map[string]bool{}, seen: map[string][]string{}}, nil
}

// The annotations in which admission writes what it found.
const (
	policyAnnotation      = "validation.policy.admission.k8s.io/validation_failure"
	podSecurityAnnotation = "pod-security.kubernetes.io/audit-violations"
)

// auditPatience is how long the log may be late.
const auditPatience = 3 * time.Second

// expect must be called before the request is sent that find will be asked about.
func (a *AuditLog) expect(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted[id] = true
}

// find gives what the audit log recorded for a request. It waits, because the log may be written after the answer.
func (a *AuditLog) find(ctx context.Context, id string) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer delete(a.wanted, id)
	if a.broken != nil {
		return nil, a.broken
	}
	deadline := time.Now().Add(auditPatience)
	for {
		if err := a.read(); err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		if texts, ok := a.seen[id]; ok {
			delete(a.seen, id)
			return texts, nil
		}
		if time.Now().After(deadline) {
			a.broken = fmt.Errorf("the audit log %s has no entry for the request; is it this server's, and written without delay? Without --audit-log the answers of the server count alone", a.path)
			return nil, a.broken
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (a *AuditLog) read() error {
	f, err := os.Open(a.path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() < a.offset { // rotated: the file is a new one
		a.offset, a.partial = 0, nil
	}
	if _, err := f.Seek(a.offset, io.SeekStart); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(f, auditChunk))
	if err != nil {
		return err
	}
	a.offset += int64(len(data))
	data = append(a.partial, data...)
	for {
		line, rest, ok := bytes.Cut(data, []byte("\n"))
		if !ok {
			break
		}
		data = rest
		var e auditv1.Event
		if err := json.Unmarshal(line, &e); err != nil {
			a.broken = fmt.Errorf("%s: an entry is no audit event: %w", a.path, err)
			return a.broken
		}
		if id := string(e.AuditID); e.Stage == auditv1.StageResponseComplete && a.wanted[id] {
			a.seen[id] = texts(e.Annotations)
		}
	}
	a.partial = bytes.Clone(data)
	return nil
}

// auditChunk bounds what is read of a busy server's log at once.
const auditChunk = 16 << 20

func texts(annotations map[string]string) []string {
	out := []string{}
	if v := annotations[podSecurityAnnotation]; v != "" {
		out = append(out, v)
	}
	if v := annotations[policyAnnotation]; v != "" {
		var failures []struct{ Message, Policy string }
		if json.Unmarshal([]byte(v), &failures) == nil {
			for _, f := range failures {
				out = append(out, recorded+f.Policy+": "+f.Message)
			}
		}
	}
	return out
}
