package report

import (
	"fmt"
	"time"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/prove"
)

// hostile is a name that tries every place at once: HTML, Markdown, a table's cell, a terminal, a mention, the reading
// direction.
const hostile = "<script>alert(1)</script>|`x`\n# h\x1b[31mred\x1b]8;;https://evil.example\x07 @admins #1 ![i](https://evil.example/p) \u202etxt.exe"

func sampleResult() *check.Result {
	obj := func(kind, ns, name string) finding.Object {
		v := map[string]string{"Deployment": "apps/v1", "CronJob": "batch/v1", "ClusterRole": "rbac.authorization.k8s.io/v1"}[kind]
		if v == "" {
			v = "v1"
		}
		return finding.Object{APIVersion: v, Kind: kind, Namespace: ns, Name: name}
	}
	r := &check.Result{
		Version: "v1",
		Summary: check.Summary{Objects: 41, Workloads: 9, Checks: 47, Pass: 1210, Fail: 17, NotApplicable: 88, Unknown: 1},
		Findings: []finding.Finding{
			{Check: "rbac-wildcard", Title: "A role grants every verb on every resource", Severity: finding.Critical, Object: obj("ClusterRole", "", "ops-everything"), Path: "rules[0]", File: "k8s/legacy/rbac.yaml", Line: 14,
				Message: `rules[0] allows "*" on "*" in "*"`, Fix: "Name the verbs and resources that the account needs.", Standards: []string{"CIS 5.1.3", "NIST AC-6"}},
			{Check: "run-as-root", Title: "A container may run as root", Severity: finding.High, Object: obj("Deployment", "intelgraph-production", "maestro"), Container: "maestro", Path: "spec.template.spec.containers[0].securityContext.runAsNonRoot", File: "charts/maestro/templates/deployment.yaml", Line: 52,
				Message: "runAsNonRoot is not set, and the image does not say which user it runs as", Fix: "Set securityContext.runAsNonRoot: true and a numeric runAsUser.", Standards: []string{"CIS 5.2.7", "PSS restricted", "NIST AC-6(10)"}},
			{Check: "run-as-root", Title: "A container may run as root", Severity: finding.High, Object: obj("CronJob", "intelgraph-production", "backup"), Container: "dump", Path: "spec.jobTemplate.spec.template.spec.containers[0].securityContext.runAsUser", File: "k8s/legacy/backup.yaml", Line: 31,
				Message: "runAsUser is 0", Fix: "Set securityContext.runAsNonRoot: true and a numeric runAsUser.", Standards: []string{"CIS 5.2.7", "PSS restricted", "NIST AC-6(10)"}},
			{Check: "image-tag-mutable", Title: "An image is named by a tag that can move", Severity: finding.Medium, Object: obj("Deployment", "intelgraph-production", "server"), Container: "server", Path: "spec.template.spec.containers[0].image", File: "k8s/server.yaml", Line: 40,
				Message: "image ghcr.io/brianlong/intelgraph/server:latest has no digest", Fix: "Name it by digest: `bulwark lock` writes platform.lock.", Standards: []string{"NIST CM-14", "OWASP D4"}},
			{Check: "image-tag-mutable", Title: "An image is named by a tag that can move", Severity: finding.Medium, Object: finding.Object{APIVersion: "v1", Kind: "Pod", Namespace: "default", Name: hostile}, Container: "c|`", Path: "spec.containers[0].image", File: "k8s/" + "odd |name`<b>.yaml", Line: 3,
				Message: "image " + hostile + " has no digest", Fix: "Name it by digest: `bulwark lock` writes platform.lock.", Standards: []string{"NIST CM-14", "OWASP D4"}},
			{Check: "probe-missing", Title: "A container has no readiness probe", Severity: finding.Low, Object: obj("Deployment", "intelgraph-production", "client"), Container: "client", Path: "spec.template.spec.containers[0].readinessProbe", File: "k8s/client.yaml", Line: 28,
				Message: "no readinessProbe", Fix: "Add one, so that traffic waits for the container."},
			{Check: "label-owner", Title: "A namespace names no owner", Severity: finding.Info, Object: obj("Namespace", "", "intelgraph-staging"), Path: "metadata.labels", File: "k8s/namespaces.yaml", Line: 9,
				Message: "no label says whose it is", Fix: "Add app.kubernetes.io/part-of."},
			{Check: "base-image-out-of-support", Title: "A base image is out of support", Severity: finding.High, Object: finding.Object{Kind: "component", Name: "maestro"}, File: "platforms/intelgraph/platform.yaml", Line: 38,
				Message: "gcr.io/distroless/nodejs18-debian12 has had no updates since 2025-04-30", Fix: "Use nodejs22-debian12.", AcceptedBy: 1, Standards: []string{"NIST SI-2"}},
			{Check: "token-automounted", Title: "A pod mounts a token that it does not need", Severity: finding.Medium, Object: obj("Deployment", "intelgraph-staging", "a"), File: "k8s/staging.yaml", Line: 12, Message: "automountServiceAccountToken is not false", Fix: "Set it to false.", AcceptedBy: 4},
			{Check: "token-automounted", Title: "A pod mounts a token that it does not need", Severity: finding.Medium, Object: obj("Deployment", "intelgraph-staging", "b"), File: "k8s/staging.yaml", Line: 61, Message: "automountServiceAccountToken is not false", Fix: "Set it to false.", AcceptedBy: 4},
			{Check: "network-isolated", Title: "A pod accepts traffic from everywhere", Severity: finding.High, Verdict: finding.Unknown, Object: obj("Deployment", "intelgraph-production", "ingestion"), File: "k8s/ingestion.yaml", Line: 1,
				Message: "a policy of a kind that is not read here may select it: CiliumNetworkPolicy"},
		},
		Exceptions: []finding.ExceptionResult{
			{Exception: finding.Exception{Finding: "base-image-out-of-support", On: "component/maestro", Owner: "platform-team@intelgraph.ai", Reason: "Node 18 until the maestro 3 release", Expires: "2027-03-31", File: "platforms/intelgraph/platform.yaml", Line: 120}, State: finding.Used, Matched: 1},
			{Exception: finding.Exception{Finding: "privileged", On: "DaemonSet kube-system/node-agent", Owner: "sre@intelgraph.ai", Reason: "Reads the host's cgroups", Expires: "2027-01-15", File: "platforms/intelgraph/platform.yaml", Line: 125}, State: finding.Unused, Note: "covers nothing; remove it"},
			{Exception: finding.Exception{Finding: "run-as-root", On: "CronJob intelgraph-production/backup", Owner: "data@intelgraph.ai", Reason: "Waits for the rootless image", Expires: "2026-06-30", File: "platforms/intelgraph/platform.yaml", Line: 130}, State: finding.Expired, Matched: 1, Note: "expired on 2026-06-30; mend the finding or renew the exception with its owner"},
			{Exception: finding.Exception{Finding: "token-automounted", On: "*", Owner: "<b>x</b>|@all", Reason: "Staging " + hostile, Expires: "2027-02-01", File: "platforms/intelgraph/platform.yaml", Line: 135}, State: finding.TooBroad, Matched: 2, Note: "covers many objects; name the ones that are meant"},
		},
		NotJudged: []finding.NotJudged{
			{What: "k8s/broken.yaml document 2", Reason: "it does not parse: did not find expected key", File: "k8s/broken.yaml", Line: 17},
			{What: "secrets in namespace kube-system", Reason: "the cluster does not let us list them"},
			{What: "admission webhook failure policy", Reason: "the cluster does not let us list them"},
			{What: hostile, Reason: "a chart that does not render: " + hostile, File: "charts/" + hostile, Line: 1},
		},
		Checks: []check.Tally{
			{Check: "rbac-wildcard", Title: "A role grants every verb on every resource", Severity: finding.Critical, Pass: 6, Fail: 1},
			{Check: "run-as-root", Title: "A container may run as root", Severity: finding.High, Pass: 12, Fail: 2},
			{Check: "privileged", Title: "A container is privileged", Severity: finding.Critical, Pass: 14, NotApplicable: 2},
			{Check: "network-isolated", Title: "A pod accepts traffic from everywhere", Severity: finding.High, Pass: 8, Unknown: 1},
			{Check: "base-image-out-of-support", Title: "A base image is out of support", Severity: finding.High, Pass: 6, Fail: 1},
		},
	}
	r.Summary.NotJudged = len(r.NotJudged)
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Verdict == "" {
			f.Verdict = finding.Fail
		}
		f.Stamp()
		switch {
		case f.Verdict != finding.Fail:
		case f.AcceptedBy > 0:
			r.Summary.Accepted++
		default:
			r.Summary.Findings.Add(f.Severity)
		}
	}
	return r
}

// sampleProof builds a proof with every state: blocked by one and by several controls, missed, detected, unknown, not
// tried, a twin that was refused, and an ablation.
func sampleProof() *prove.Report {
	rep := &prove.Report{Version: "v1", Platform: "intelgraph", Engine: "kube-apiserver v1.37.2"}
	ok := prove.Twin{Verdict: finding.Admitted, Differs: "spec.containers[0].securityContext.privileged"}
	add := func(layer artifact.Layer, id, title string, v finding.Verdict, intended string, by []string, evidence string) *prove.Result {
		rep.Attacks = append(rep.Attacks, prove.Result{ID: id, Layer: layer, Title: title, Severity: finding.High, Verdict: v, Intended: intended, By: by, Evidence: evidence, Twin: ok,
			Standards: []string{"PSS restricted", "NIST AC-6"}, Fix: "Keep the control in place and enforcing."})
		return &rep.Attacks[len(rep.Attacks)-1]
	}
	const ps = "podsecurity/intelgraph-production"
	pods := []struct{ id, title string }{
		{"pod-privileged", "A privileged pod"}, {"pod-host-pid", "A pod in the host's process namespace"}, {"pod-host-network", "A pod in the host's network"}, {"pod-host-path", "A pod that mounts the host's root"},
		{"deployment-privileged", "A privileged pod inside a Deployment"}, {"cronjob-privileged", "A privileged pod inside a CronJob"}, {"ephemeral-privileged", "A privileged ephemeral container in a running pod"}, {"pod-cap-sys-admin", "A pod with CAP_SYS_ADMIN"},
	}
	for i, p := range pods {
		by := []string{ps}
		if i%2 == 0 {
			by = append(by, "policy/container-context")
		}
		add(artifact.Pods, p.id, p.title, finding.Blocked, ps, by, `pods "x" is forbidden: violates PodSecurity "restricted:v1.37": privileged (container "x" must not set securityContext.privileged=true)`)
	}
	for _, p := range []struct{ id, title, policy string }{
		{"image-lookalike-prefix", "An image from a registry whose name only begins like ours", "policy/trusted-registries"}, {"image-no-registry", "An image without a registry", "policy/trusted-registries"},
		{"image-tag-and-digest", "An image with a tag and a digest", "policy/image-digest"}, {"label-missing", "A workload without the required labels", "policy/required-labels"},
		{"root-writable", "A container with a writable root", "policy/container-context"}, {"namespace-label-removed", "Removing the Pod Security label from a namespace", "policy/protect-pod-security-labels"},
		{"policy-deleted", "Deleting the admission policy", "policy/protect-policies"},
	} {
		by := []string{p.policy}
		if p.id == "image-no-registry" {
			by = append(by, "policy/image-digest")
		}
		if p.id == "policy-deleted" {
			by = append(by, "rbac/deployer")
		}
		add(artifact.Admission, p.id, p.title, finding.Blocked, p.policy, by, "ValidatingAdmissionPolicy '"+p.policy+"' denied request: the image must come from one of ghcr.io/brianlong/intelgraph/, gcr.io/distroless/")
	}
	m := add(artifact.Admission, "binding-narrowed", "Narrowing a policy's binding to no namespace", finding.Missed, "policy/protect-policies", nil, `validatingadmissionpolicybinding.admissionregistration.k8s.io/bulwark-image-digest patched`)
	m.Severity, m.Fix = finding.Critical, "Let the policy protect bindings too: match validatingadmissionpolicybindings on UPDATE."
	tw := add(artifact.Admission, "seccomp-unset", "A pod without a seccomp profile", finding.Blocked, "policy/seccomp", []string{"policy/seccomp", ps}, "denied: seccompProfile.type must be RuntimeDefault or Localhost")
	tw.Twin = prove.Twin{Verdict: finding.Blocked, Differs: "spec.securityContext.seccompProfile.type", Evidence: "denied: label app.kubernetes.io/part-of is missing"}
	for _, p := range []struct{ id, title string }{{"developer-reads-secrets", "A developer reads a secret"}, {"sre-edits-roles", "An SRE grants themselves a role"}, {"maestro-lists-secrets", "The maestro account lists secrets"}, {"security-execs", "An auditor opens a shell in a pod"}} {
		r := add(artifact.Access, p.id, p.title, finding.Blocked, "rbac/"+p.id[:3], []string{"rbac/" + p.id[:3]}, `secrets is forbidden: User "dev" cannot get resource "secrets" in API group "" in the namespace "intelgraph-production"`)
		r.Twin.Differs = "the resource"
	}
	u := add(artifact.Access, "impersonate-admin", "An SRE impersonates an administrator", finding.Unknown, "rbac/sre", []string{"apiserver/not-found"}, "the request was answered 404: the account is missing")
	u.Twin.Verdict = finding.Unknown
	add(artifact.Detection, "shell-in-container", "A shell starts in a distroless container", finding.Detected, "rule/unexpected-shell", []string{"rule/unexpected-shell"}, "rule IntelGraph Unauthorized Process in Container fired after 41 ms")
	for _, p := range []struct{ id, title string }{{"net-cross-namespace", "Staging reaches the production database"}, {"net-egress-internet", "The server talks to an undeclared host"}, {"net-metadata", "A pod reads the cloud's metadata address"}} {
		n := add(artifact.Network, p.id, p.title, finding.Unknown, "networkpolicy/default-deny", nil, "no network plugin runs here")
		n.NoEngine, n.Twin = true, prove.Twin{Verdict: finding.Unknown, Differs: "the source namespace"}
	}
	h := add(artifact.Pods, "hostile-name", "A pod named "+hostile, finding.Blocked, ps, []string{ps}, "forbidden: "+hostile)
	h.Twin.Differs = hostile
	rep.Summary = Tally(rep.Attacks)
	rep.NotJudged = []finding.NotJudged{{What: "attack net-metadata", Reason: "no network plugin runs here"}, {What: "audit log", Reason: "the API server writes none, so only the first refusal is named"}}
	ab := &prove.Ablation{}
	for _, c := range []struct {
		name  string
		layer artifact.Layer
	}{{ps, artifact.Pods}, {"policy/container-context", artifact.Admission}, {"policy/trusted-registries", artifact.Admission}, {"policy/image-digest", artifact.Admission}, {"policy/required-labels", artifact.Admission}, {"policy/seccomp", artifact.Admission},
		{"policy/protect-pod-security-labels", artifact.Admission}, {"policy/protect-policies", artifact.Admission}, {"rbac/dev", artifact.Access}, {"rbac/sre", artifact.Access}, {"rbac/mae", artifact.Access}, {"rbac/sec", artifact.Access}} {
		a := prove.AblatedControl{Control: c.name, Layer: c.layer, Missed: []string{}}
		for _, r := range rep.Attacks {
			if r.Verdict == finding.Blocked && len(r.By) == 1 && r.By[0] == c.name {
				a.Missed = append(a.Missed, r.ID)
				ab.SingleLayer = append(ab.SingleLayer, r.ID)
			}
		}
		if c.name == "rbac/sre" {
			a.Unknown = []string{"impersonate-admin"}
		}
		ab.Controls = append(ab.Controls, a)
	}
	rep.Ablation = ab
	return rep
}

func sampleDocument() *Document {
	return &Document{
		Platform: "intelgraph", Spec: "platforms/intelgraph/platform.yaml", Cluster: "production-eu", Stage: artifact.Enforce,
		Generated: time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC), Tool: "v0.2.0",
		Layers: []Layer{
			{Layer: artifact.Pods, Declared: 16, Present: 16, Looked: true}, {Layer: artifact.Network, Declared: 24, Present: 22, Unlisted: 2, Looked: true},
			{Layer: artifact.Access, Declared: 31, Present: 31, Looked: true}, {Layer: artifact.Admission, Declared: 14, Present: 14, Looked: true},
		},
		Validation: sampleResult(), ValidationFrom: "cluster production-eu",
		Proof: sampleProof(), ProofFrom: "prove.json",
		Gaps: []artifact.Gap{
			{Layer: artifact.Network, Subject: "flow maestro → dns:api.github.com:443", Reason: "plain network policies cannot name a host; Cilium can", Because: "platform.yaml:92 spec.flows[8]"},
			{Layer: artifact.Mesh, Subject: "mutual TLS between components", Reason: "the mesh layer is not compiled yet", Because: "platform.yaml:31 spec.mesh"},
			{Layer: artifact.Secrets, Subject: "rotation of " + hostile, Reason: "nothing rotates it", Because: "platform.yaml:101 spec.secrets.rotation"},
		},
		NotJudged: []finding.NotJudged{{What: "base image digests", Reason: "platform.lock holds no digest for them", File: "platforms/intelgraph/platform.lock"}},
	}
}

// healthyDocument is one in which all is well and known.
func healthyDocument() *Document {
	d := sampleDocument()
	d.Gaps, d.NotJudged = nil, nil
	d.Layers = []Layer{{Layer: artifact.Pods, Declared: 16, Present: 16, Looked: true}}
	d.Validation = &check.Result{Version: "v1", Summary: check.Summary{Objects: 41, Checks: 47, Pass: 900}}
	var attacks []prove.Result
	for _, a := range d.Proof.Attacks {
		if a.Layer == artifact.Pods {
			attacks = append(attacks, a)
		}
	}
	d.Proof = &prove.Report{Version: "v1", Engine: "kube-apiserver v1.37.2", Attacks: attacks, Summary: Tally(attacks), Ablation: &prove.Ablation{Controls: []prove.AblatedControl{{Control: "podsecurity/intelgraph-production", Layer: artifact.Pods, Missed: []string{}}, {Control: "policy/container-context", Layer: artifact.Admission, Missed: []string{}}}}}
	return d
}

// crowd is a result with n findings over checks checks.
func crowd(n, checks int, name func(i int) string) *check.Result {
	r := &check.Result{Version: "v1", Summary: check.Summary{Objects: n, Checks: checks}}
	for i := range n {
		id := fmt.Sprintf("check-%02d", i%checks)
		f := finding.Finding{Check: id, Title: "Check number " + id, Verdict: finding.Fail, Severity: finding.Severity(i % checks % 5), File: fmt.Sprintf("k8s/file-%d.yaml", i), Line: i + 1,
			Object:  finding.Object{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "n", Name: name(i)},
			Message: "something about " + name(i) + " is wrong", Fix: "Mend it."}
		f.Stamp()
		r.Findings = append(r.Findings, f)
		r.Summary.Findings.Add(f.Severity)
	}
	return r
}
