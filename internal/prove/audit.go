package prove

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// AuditLog reads the API server's audit log while it grows. It names every policy that refused a request, where the
// server's answer names only the first.
type AuditLog struct {
	path    string
	offset  int64
	partial []byte
	seen    map[string][]string
}

// OpenAuditLog starts reading at the end of the file: what happened before is none of this run's.
func OpenAuditLog(path string) (*AuditLog, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return &AuditLog{path: path, offset: st.Size(), seen: map[string][]string{}}, nil
}

// The annotations in which admission writes what it found.
const (
	policyAnnotation      = "validation.policy.admission.k8s.io/validation_failure"
	podSecurityAnnotation = "pod-security.kubernetes.io/audit-violations"
)

// find gives what the audit log recorded for a request. It waits, because the log may be written after the answer.
func (a *AuditLog) find(ctx context.Context, id string) ([]string, error) {
	deadline := time.Now().Add(3 * time.Second)
	for {
		if err := a.read(); err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		if texts, ok := a.seen[id]; ok {
			delete(a.seen, id)
			return texts, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the audit log %s has no entry for the request; is it this server's, and written without delay?", a.path)
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
	if _, err := f.Seek(a.offset, io.SeekStart); err != nil {
		return err
	}
	data, err := io.ReadAll(f)
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
			return fmt.Errorf("an entry is no audit event: %w", err)
		}
		if e.Stage == auditv1.StageResponseComplete {
			a.seen[string(e.AuditID)] = texts(e.Annotations)
		}
	}
	a.partial = bytes.Clone(data)
	return nil
}

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
