package collect

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const kubeconfig = `apiVersion: v1
kind: Config
current-context: staging
clusters:
- name: a
  cluster: {server: "https://a.example.com:6443"}
- name: b
  cluster: {server: "https://b.example.com:6443"}
users:
- name: u
  user: {token: not-a-secret}
contexts:
- name: staging
  context: {cluster: a, user: u}
- name: production
  context: {cluster: b, user: u}
- name: broken
  context: {cluster: gone, user: u}
`

func TestConnect(t *testing.T) {
	dir := t.TempDir()
	good, noCurrent, bad := filepath.Join(dir, "config"), filepath.Join(dir, "nocurrent"), filepath.Join(dir, "bad")
	for p, s := range map[string]string{good: kubeconfig, noCurrent: strings.Replace(kubeconfig, "current-context: staging\n", "", 1), bad: "clusters: [\n"} {
		if err := os.WriteFile(p, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Whatever this machine has configured is none of the test's business.
	t.Setenv("HOME", dir)
	t.Setenv("KUBECONFIG", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	tests := map[string]struct{ file, context, host, want string }{
		"current":         {good, "", "https://a.example.com:6443", ""},
		"named":           {good, "production", "https://b.example.com:6443", ""},
		"misspelt":        {good, "prodction", "", `no context "prodction" in ` + good + `; did you mean "production"? its contexts: broken, production, staging`},
		"broken":          {good, "broken", "", `the context "broken" of ` + good + ` names the cluster "gone", which is not in it; its contexts: `},
		"no current":      {noCurrent, "", "", "no current context in " + noCurrent + "; name one with --context: its contexts: broken, production, staging"},
		"missing":         {filepath.Join(dir, "confg"), "", "", `confg does not exist; did you mean "config"?`},
		"not a config":    {bad, "", "", "the kubeconfig does not load"},
		"none configured": {"", "", "", "no cluster is configured in"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cfg, err := Connect(tc.file, tc.context)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Host != tc.host || cfg.UserAgent != "bulwark" || cfg.QPS < 50 {
				t.Errorf("got %s, %s, %v", cfg.Host, cfg.UserAgent, cfg.QPS)
			}
		})
	}
}
