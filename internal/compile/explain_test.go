package compile

import (
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	plan := compileFile(t, platforms[0], "")
	for _, tt := range []struct {
		query string
		ids   int
		want  []string
	}{
		{"NetworkPolicy intelgraph-production/default-deny", 1, []string{"platform.yaml:", "spec.namespaces.intelgraph-production", "closes every pod to all incoming traffic"}},
		{"networkpolicy/intelgraph-production/default-deny", 1, []string{"closes every pod"}},
		{"intelgraph-production/allow-dns", 1, []string{"(implied: DNS)", "TCP 53, UDP 53", "in namespace kube-system"}},
		{"default-deny", 2, nil},
		{"egress.maestro.to.api-server", 1, []string{"spec.components.maestro.mayAsk (implied: it reaches the API server)", "any address on TCP 443, TCP 6443"}},
		{"egress.secret-rotator.to.vault.api", 1, []string{"(implied: the rotator writes to the store)", "TCP 8200"}},
		{"egress.client.to.istiod", 1, []string{"spec.mesh (implied", "TCP 15012"}},
		{"Role intelgraph-production/component.maestro", 1, []string{"lets get, list, watch configmaps named maestro-config", "metadata.name=NAME"}},
		{"RoleBinding intelgraph-production/component.maestro", 1, []string{"service account intelgraph-production/maestro-orchestrator-sa"}},
		{"v1/Namespace intelgraph-staging", 1, []string{"refuses pods below the Pod Security level restricted of Kubernetes v1.37"}},
		{"charts/maestro/values.yaml", 1, []string{"is a file"}},
		{"k8s/security/pod-security-policy.yaml", 2, nil},
		{"orchestrator-sa", 1, []string{"gets no token"}},
		{"required-labels.intelgraph.bulwark.dev", 2, []string{"refuses: "}},
	} {
		t.Run(tt.query, func(t *testing.T) {
			got, err := Explain(plan, tt.query)
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			for _, e := range got {
				text.WriteString(e.Text())
			}
			if len(got) != tt.ids {
				t.Errorf("%d objects, want %d:\n%s", len(got), tt.ids, text.String())
			}
			for _, w := range tt.want {
				if !strings.Contains(text.String(), w) {
					t.Errorf("lacks %q:\n%s", w, text.String())
				}
			}
		})
	}
	for query, want := range map[string]string{
		"NetworkPolicy intelgraph-production/default-dney": `did you mean "NetworkPolicy intelgraph-production/default-deny"?`,
		"defalt-deny":  `did you mean "default-deny"?`,
		"xyzzy-plough": "bulwark render",
		"":             "the plan has no object",
		"  ":           "the plan has no object",
	} {
		if _, err := Explain(plan, query); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", query, err, want)
		}
	}
}

// TestExplainEverything: no object is without a reason and a plain sentence.
func TestExplainEverything(t *testing.T) {
	for _, file := range platforms {
		for _, stage := range Stages {
			plan := compileFile(t, file, stage)
			for _, a := range plan.Artifacts {
				got, err := Explain(plan, a.ID())
				if err != nil || len(got) != 1 {
					t.Errorf("%s: %d explanations, %v", a.ID(), len(got), err)
					continue
				}
				if len(got[0].Because) == 0 || len(got[0].Does) == 0 || strings.Contains(got[0].Text(), "is applied as it stands") {
					t.Errorf("not explained:\n%s", got[0].Text())
				}
			}
		}
	}
}
