package check_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/collect"
	"github.com/intelgraph/bulwark/internal/finding"
)

// judge gives "severity verdict object: message" of one check's findings.
func judge(t *testing.T, id string, s *cluster.Snapshot, opts check.Options) []string {
	t.Helper()
	opts.Only, opts.Day = []string{id}, today
	var out []string
	for _, f := range check.Run(s, opts).Findings {
		out = append(out, fmt.Sprintf("%s %s %s: %s", f.Severity, f.Verdict, f.Object, f.Message))
	}
	return out
}

func live(s *cluster.Snapshot, unlisted ...string) *cluster.Snapshot {
	l := cluster.New(s.Objects, true, nil)
	l.Unlisted = unlisted
	return l
}

const rbac = "apiVersion: rbac.authorization.k8s.io/v1\n"

func TestRBACSeverities(t *testing.T) {
	role := rbac + "kind: %s\nmetadata: {name: r%s}\nrules:\n- {apiGroups: ['%s'], resources: ['%s'], verbs: ['%s']%s}\n"
	bindTo := "---\n" + rbac + "kind: %sBinding\nmetadata: {name: b%s}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: %s, name: r}\nsubjects:\n- {kind: User, name: eve, apiGroup: rbac.authorization.k8s.io}\n"
	ns := ", namespace: shop"
	clusterRole := func(group, resource, verb, more string) string {
		return fmt.Sprintf(role, "ClusterRole", "", group, resource, verb, more)
	}
	bound := fmt.Sprintf(bindTo, "ClusterRole", "", "ClusterRole")
	for _, c := range []struct {
		name, check, text string
		want              []string
	}{
		{"bound in the whole cluster", "rbac-secrets-read", clusterRole("", "secrets", "list", "") + bound, []string{"high fail ClusterRole r: list secrets; held by User eve"}},
		{"bound in one namespace", "rbac-secrets-read", clusterRole("", "secrets", "list", "") + fmt.Sprintf(bindTo, "Role", ns, "ClusterRole"), []string{"high fail ClusterRole r: list secrets; held by User eve in shop"}},
		{"bound to nobody counts less", "rbac-secrets-read", clusterRole("", "secrets", "list", ""), []string{"medium fail ClusterRole r: list secrets; bound to nobody in what was read"}},
		{"names narrow secrets", "rbac-secrets-read", clusterRole("", "secrets", "get", ", resourceNames: [tls]") + bound, nil},
		{"a wildcard group reads secrets too", "rbac-secrets-read", clusterRole("*", "secrets", "get", "") + bound, []string{"high fail ClusterRole r: get secrets; held by User eve"}},
		{"another group's secrets are something else", "rbac-secrets-read", clusterRole("example.com", "secrets", "get", "") + bound, nil},
		{"every resource holds secrets", "rbac-secrets-read", clusterRole("", "*", "watch", "") + bound, []string{"high fail ClusterRole r: watch secrets; held by User eve"}},
		{"everything is said once", "rbac-secrets-read", clusterRole("*", "*", "*", "") + bound, nil},
		{"everything", "rbac-wildcard", clusterRole("*", "*", "*", "") + bound, []string{"critical fail ClusterRole r: grants every verb on every resource; held by User eve"}},
		{"names do not allow create", "rbac-workload-create", clusterRole("", "pods", "create", ", resourceNames: [web]") + bound, nil},
		{"names narrow patch", "rbac-workload-create", clusterRole("apps", "deployments", "patch", ", resourceNames: [web]") + bound, []string{"medium fail ClusterRole r: patch deployments named web; held by User eve"}},
		{"a subresource is not the resource", "rbac-workload-create", clusterRole("apps", "deployments/scale", "patch", "") + bound, nil},
		{"get is enough for exec", "rbac-pod-exec", clusterRole("", "pods/exec", "get", "") + bound, []string{"high fail ClusterRole r: get pods/exec; held by User eve"}},
		{"any subresource of that name", "rbac-node-proxy", clusterRole("", "*/proxy", "get", "") + bound, []string{"critical fail ClusterRole r: get nodes/proxy; held by User eve"}},
		{"a Role cannot give nodes", "rbac-node-proxy", fmt.Sprintf(role, "Role", ns, "", "nodes/proxy", "get", "") + fmt.Sprintf(bindTo, "Role", ns, "Role"),
			[]string{"high fail Role shop/r: get nodes/proxy; held by User eve in shop. A Role cannot give this, as the resource is in no namespace; the rule says what somebody meant to give"}},
		{"half of the certificate pair", "rbac-csr-approve", clusterRole("certificates.k8s.io", "certificatesigningrequests/approval", "update", "") + bound,
			[]string{"high fail ClusterRole r: update certificatesigningrequests/approval, though not create; held by User eve"}},
		{"a token for a named account", "rbac-token-request", clusterRole("", "serviceaccounts/token", "create", ", resourceNames: [web]") + bound, nil},
		{"binding named roles only", "rbac-bind", clusterRole("rbac.authorization.k8s.io", "clusterroles", "bind", ", resourceNames: [view]") + bound, []string{"high fail ClusterRole r: bind clusterroles named view; held by User eve"}},
		{"aggregation into view is for everybody who has view", "rbac-secrets-read",
			strings.Replace(clusterRole("", "secrets", "get", ""), "{name: r}", "{name: r, labels: {rbac.authorization.k8s.io/aggregate-to-view: 'true'}}", 1),
			[]string{"high fail ClusterRole r: get secrets; held by everybody who has view"}},
		{"aggregation into a bound role", "rbac-secrets-read",
			strings.Replace(clusterRole("", "secrets", "get", ""), "{name: r}", "{name: part, labels: {to: r}}", 1) +
				"---\n" + rbac + "kind: ClusterRole\nmetadata: {name: r}\naggregationRule: {clusterRoleSelectors: [{matchLabels: {to: r}}]}\nrules: []\n" + bound,
			[]string{"high fail ClusterRole part: get secrets; held by User eve"}},
		{"somebody hides behind the bootstrap label", "rbac-admin-binding",
			rbac + "kind: ClusterRoleBinding\nmetadata: {name: cluster-admin, labels: {kubernetes.io/bootstrapping: rbac-defaults}}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\n" +
				"subjects:\n- {kind: Group, name: 'system:masters', apiGroup: rbac.authorization.k8s.io}\n- {kind: User, name: eve, apiGroup: rbac.authorization.k8s.io}\n",
			[]string{"critical fail ClusterRoleBinding cluster-admin: cluster-admin for Group system:masters, User eve"}},
		{"what the API server itself binds", "rbac-admin-binding",
			rbac + "kind: ClusterRoleBinding\nmetadata: {name: cluster-admin, labels: {kubernetes.io/bootstrapping: rbac-defaults}}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\n" +
				"subjects:\n- {kind: Group, name: 'system:masters', apiGroup: rbac.authorization.k8s.io}\n", nil},
		{"a made-up built-in role", "rbac-wildcard",
			rbac + "kind: ClusterRole\nmetadata: {name: 'system:helper', labels: {kubernetes.io/bootstrapping: rbac-defaults}}\nrules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]\n",
			[]string{"high fail ClusterRole system:helper: grants every verb on every resource; bound to nobody in what was read"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, judge(t, c.check, read(t, c.text), check.Options{})); d != "" {
				t.Error(d)
			}
		})
	}
}

// On files an absent role may be anywhere; on a cluster that showed its roles it does not exist.
func TestRoleUnseen(t *testing.T) {
	s := read(t, rbac+"kind: RoleBinding\nmetadata: {name: b, namespace: shop}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}\nsubjects: [{kind: User, name: eve, apiGroup: rbac.authorization.k8s.io}]\n")
	for _, c := range []struct {
		name string
		snap *cluster.Snapshot
		want string
	}{
		{"files", s, "high unknown"},
		{"live", live(s), "medium fail"},
		{"live, unlisted", live(s, "rbac.authorization.k8s.io/roles"), "high unknown"},
	} {
		got := judge(t, "rbac-role-unseen", c.snap, check.Options{})
		if len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

func TestDefaultDeny(t *testing.T) {
	pod := "---\napiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: shop, labels: {app: %[1]s}}\nspec: {containers: [{name: c, image: i}]}\n"
	np := "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: %s}\nspec: %s\n"
	web, db := fmt.Sprintf(pod, "web"), fmt.Sprintf(pod, "db")
	for _, c := range []struct {
		name, check string
		text        string
		live        bool
		unlisted    []string
		want        []string
	}{
		{"no policy", "network-default-deny-ingress", web + db, true, nil, []string{"medium fail Namespace shop: nothing denies traffic into 2 of 2 workloads in namespace shop, Pod shop/web the first"}},
		{"files say less", "network-default-deny-ingress", web, false, nil, []string{"medium fail Namespace shop: nothing denies traffic into 1 of 1 workloads in namespace shop, Pod shop/web; only files were read, what else the cluster holds was not seen"}},
		{"one in another namespace", "network-default-deny-ingress", web + fmt.Sprintf(np, "other", "{podSelector: {}}"), true, nil, []string{"medium fail Namespace shop: nothing denies traffic into 1 of 1 workloads in namespace shop, Pod shop/web"}},
		{"all pods", "network-default-deny-ingress", web + db + fmt.Sprintf(np, "shop", "{podSelector: {}}"), true, nil, nil},
		{"no policyTypes is not egress", "network-default-deny-egress", web + fmt.Sprintf(np, "shop", "{podSelector: {}}"), true, nil, []string{"medium fail Namespace shop: nothing denies traffic out of 1 of 1 workloads in namespace shop, Pod shop/web"}},
		{"each pod, but not the next", "network-default-deny-ingress", web + fmt.Sprintf(np, "shop", "{podSelector: {matchLabels: {app: web}}}"), true, nil, []string{"low fail Namespace shop: every pod of namespace shop is selected by some policy, but none selects all pods: the next pod is open"}},
		{"some pods", "network-default-deny-ingress", web + db + fmt.Sprintf(np, "shop", "{podSelector: {matchLabels: {app: web}}}"), true, nil, []string{"medium fail Namespace shop: nothing denies traffic into 1 of 2 workloads in namespace shop, Pod shop/db"}},
		{"policies were not shown", "network-default-deny-ingress", web, true, []string{"networking.k8s.io/networkpolicies"}, []string{"medium unknown Namespace shop: NetworkPolicies could not be listed"}},
		{"another engine's policy", "network-default-deny-ingress", web + "---\napiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: all}\nspec: {}\n", true, nil,
			[]string{"medium unknown Namespace shop: no NetworkPolicy denies traffic into namespace shop, but CiliumClusterwideNetworkPolicy all may; its kind is not judged"}},
		{"Cilium's default deny", "network-default-deny-ingress", web + "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: all, namespace: shop}\nspec: {endpointSelector: {}, ingress: [{}]}\n", true, nil, nil},
		{"Kubernetes' own namespace", "network-default-deny-ingress", strings.ReplaceAll(web, "shop", "kube-system"), true, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := read(t, c.text)
			if c.live {
				s = live(s, c.unlisted...)
			}
			if d := cmp.Diff(c.want, judge(t, c.check, s, check.Options{})); d != "" {
				t.Error(d)
			}
		})
	}
}

// A controller's pods repeat its template and are judged there; a container that somebody put into one of them is in no
// template and is judged in the pod.
func TestOwnedPods(t *testing.T) {
	s := read(t, `
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: i, securityContext: {privileged: true}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec:
  containers: [{name: app, image: i, securityContext: {privileged: true}}]
  ephemeralContainers: [{name: debugger, image: i, securityContext: {privileged: true}}]
---
apiVersion: v1
kind: Pod
metadata: {name: lost-1, namespace: shop, labels: {app: web}}
spec: {containers: [{name: app, image: i, securityContext: {privileged: true}}]}
`)
	yes := true
	s.Objects[0].Meta.UID = "owner"
	for i, uid := range []string{"owner", "somebody who is not here"} {
		s.Objects[i+1].Meta.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", UID: types.UID(uid), Controller: &yes}}
	}
	var got []string
	for _, f := range check.Run(live(s), check.Options{Only: []string{"container-privileged"}, Day: today}).Findings {
		got = append(got, f.Object.String()+" "+f.Container)
	}
	want := []string{"Pod shop/lost-1 app", "Pod shop/web-1 debugger", "ReplicaSet shop/web app"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Kinds that are not Kubernetes' own hold pods too.
func TestPodsInCustomKinds(t *testing.T) {
	s := read(t, `
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: web, namespace: shop}
spec:
  template:
    spec: {containers: [{name: app, image: i, securityContext: {privileged: true}}]}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: odd, namespace: shop}
spec:
  template:
    spec: {containers: [{name: app, image: 7}]}
`)
	r := check.Run(s, check.Options{Only: []string{"container-privileged"}, Day: today})
	if len(r.Findings) != 1 || r.Findings[0].Path != "spec.template.spec.containers[0].securityContext.privileged" || r.Findings[0].Line != 7 {
		t.Errorf("%+v", r.Findings)
	}
	if len(r.NotJudged) != 1 || !strings.Contains(r.NotJudged[0].What, "shop/odd") || r.NotJudged[0].Line == 0 {
		t.Errorf("not judged: %+v", r.NotJudged)
	}
}

func TestExceptions(t *testing.T) {
	p, plan := platform(t, strings.Replace(shop, "runtime: node", "runtime: node\n      base: gcr.io/distroless/nodejs18-debian12:nonroot", 1))
	pod := `
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {app.kubernetes.io/name: web}}
spec: {hostPID: true, hostIPC: true, containers: [{name: c, image: i}]}
---
`
	text := fmt.Sprintf(pod, "a", "shop") + fmt.Sprintf(pod, "b", "shop") + fmt.Sprintf(pod, "a", "elsewhere")
	ex := func(id, on, expires string) finding.Exception {
		return finding.Exception{Finding: id, On: on, Owner: "team@example.com", Reason: "for now", Expires: expires}
	}
	r := check.Run(read(t, text), check.Options{Spec: p, Plan: plan, Day: today, Only: []string{"host-pid", "host-ipc", "base-image-out-of-support"}, Exceptions: []finding.Exception{
		ex("host-pid", "component/web", "2027-01-01"),
		ex("host-pid", "Pod shop/a", "2027-01-01"),
		ex("host-ipc", "shop/*", "2026-11-22"),
		ex("host-ipc", "Pod shop/nobody", "2027-01-01"),
		ex("host-ipc", "*", "2027-01-01"),
		ex("base-image-out-of-support", "component/web", "2026-11-23"),
		ex("seccomp-unset", "component/web", "2027-01-01"),
		ex("host-ipc", "Pod [shop", "2027-01-01"),
	}})
	var states []string
	for _, e := range r.Exceptions {
		states = append(states, fmt.Sprintf("%s %d %s", e.State, e.Matched, e.Note))
	}
	want := []string{
		"used 2 ",
		"unused 1 exception 1 already accepts all that it covers; remove one of the two",
		"expired 2 expired on 2026-11-22; mend the finding or renew the exception with its owner",
		"unused 0 covers nothing of what was judged; remove it",
		"unused 0 covers nothing of what was judged; remove it",
		"used 1 ",
		"unused 0 its check did not run, so nothing is known of what it covers",
		"unused 0 \"Pod [shop\" is not a valid pattern, so it covers nothing; close its brackets",
	}
	if d := cmp.Diff(want, states); d != "" {
		t.Error(d)
	}
	// The pod of another namespace that wears the component's label is not the component.
	if got := r.Summary; got.Accepted != 3 || got.Findings.High != 4 {
		t.Errorf("accepted %d, standing %+v", got.Accepted, got.Findings)
	}
}

// The result must not depend on how many processors there are.
func TestDeterministic(t *testing.T) {
	var b strings.Builder
	for i := range 400 {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p%d, namespace: n%d}\nspec: {hostPID: true, containers: [{name: c, image: i}, {name: d, image: 'node:%d'}]}\n", i, i%7, 10+i%20)
	}
	s := read(t, b.String())
	var first string
	for _, n := range []int{1, 2, 8} {
		old := runtime.GOMAXPROCS(n)
		j, err := json.Marshal(check.Run(s, check.Options{Day: today}))
		runtime.GOMAXPROCS(old)
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(j)
		} else if string(j) != first {
			t.Errorf("another result with %d processors", n)
		}
	}
}

// Counts in the summary are those of the lists.
func TestSummary(t *testing.T) {
	s := read(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {hostPID: true, containers: [{name: c, image: i}]}\n")
	r := check.Run(s, check.Options{Day: today, Skip: []string{"host-ipc"}})
	var pass, fail, na, unknown int
	for _, c := range r.Checks {
		if c.Check == "host-ipc" {
			t.Error("a skipped check ran")
		}
		pass, fail, na, unknown = pass+c.Pass, fail+c.Fail, na+c.NotApplicable, unknown+c.Unknown
	}
	if d := cmp.Diff([]int{pass, fail, na, unknown}, []int{r.Summary.Pass, r.Summary.Fail, r.Summary.NotApplicable, r.Summary.Unknown}); d != "" {
		t.Error(d)
	}
	if r.Summary.Findings.AtLeast(finding.Info) != len(r.Findings) || r.Summary.Checks != len(r.Checks) || r.Version != "v1" {
		t.Errorf("%+v", r.Summary)
	}
	if !slices.IsSortedFunc(r.Findings, func(a, b finding.Finding) int { return int(b.Severity) - int(a.Severity) }) {
		t.Error("the worst is not first")
	}
	if err := check.Known("host-pidd"); err == nil || !strings.Contains(err.Error(), `did you mean "host-pid"?`) {
		t.Errorf("%v", err)
	}
}

// A plan against itself has no drift, through the decoder and back.
func TestPlanHasNoDrift(t *testing.T) {
	p, plan := platform(t, shop)
	s, err := collect.FromPlan(plan)
	if err != nil {
		t.Fatal(err)
	}
	r := check.Run(s, check.Options{Spec: p, Plan: plan, Day: today})
	for _, f := range r.Findings {
		if strings.HasPrefix(f.Check, "drift-") || f.Severity >= finding.High {
			t.Errorf("%s %s %s: %s", f.Check, f.Severity, f.Object, f.Message)
		}
	}
	if r.Summary.Objects < 10 {
		t.Errorf("%d objects", r.Summary.Objects)
	}
}
