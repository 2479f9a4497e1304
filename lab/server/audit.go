package server

import (
	"fmt"
	"os"
	"path/filepath"
)

// defaultAuditPolicy logs who did what to which object, and with it the
// annotations that name every policy that failed
// (validation.policy.admission.k8s.io/validation_failure) and what Pod Security
// said (pod-security.kubernetes.io/*). Bodies are left out: they would put the
// content of Secrets into a file. RequestReceived is left out because it comes
// before anything is known.
const defaultAuditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// auditPolicyFile returns the path of the audit policy: file if one is given,
// and otherwise the default one, written to dir.
func auditPolicyFile(dir, file string) (string, error) {
	if file != "" {
		return file, nil
	}
	path := filepath.Join(dir, "audit-policy.yaml")
	if err := os.WriteFile(path, []byte(defaultAuditPolicy), 0o600); err != nil {
		return "", fmt.Errorf("write the audit policy: %w", err)
	}
	return path, nil
}
