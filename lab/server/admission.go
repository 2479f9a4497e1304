package server

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// admissionConfigFile writes to dir an AdmissionConfiguration that makes the
// ValidatingAdmissionPolicy plugin load the manifests in policies, and returns
// its path.
//
// The plugin refuses a directory that holds anything but
// ValidatingAdmissionPolicies and their bindings, names that do not end in
// ".static.k8s.io", and parameters
// (k8s.io/apiserver/pkg/admission/plugin/policy/manifest/loader).
func admissionConfigFile(dir, policies string) (string, error) {
	policies, err := filepath.Abs(policies) // the plugin takes absolute paths only
	if err != nil {
		return "", fmt.Errorf("find the absolute path of the static policies: %w", err)
	}
	if info, err := os.Stat(policies); err != nil {
		return "", fmt.Errorf("read the static policies: %w", err)
	} else if !info.IsDir() {
		return "", fmt.Errorf("the static policies are a directory of manifests, but %s is a file", policies)
	}
	// JSON is YAML, and quotes whatever the path has in it.
	config, err := json.Marshal(map[string]any{
		"apiVersion": "apiserver.config.k8s.io/v1",
		"kind":       "AdmissionConfiguration",
		"plugins": []any{map[string]any{
			"name": "ValidatingAdmissionPolicy",
			"configuration": map[string]any{
				"apiVersion":         "apiserver.config.k8s.io/v1",
				"kind":               "ValidatingAdmissionPolicyConfiguration",
				"staticManifestsDir": policies,
			},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("encode the admission configuration: %w", err)
	}
	path := filepath.Join(dir, "admission.yaml")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return "", fmt.Errorf("write the admission configuration: %w", err)
	}
	return path, nil
}
