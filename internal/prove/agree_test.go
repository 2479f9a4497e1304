package prove_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/intelgraph/bulwark/internal/attack"
	"github.com/intelgraph/bulwark/internal/prove"
)

// change is one thing that a random pod may have, by the path of a JSON object and some values; a nil value removes it.
type change struct {
	path   []any
	values []any
}

func at(path string) []any {
	var out []any
	for _, p := range strings.Split(path, "|") {
		switch p {
		case "0":
			out = append(out, 0)
		default:
			out = append(out, p)
		}
	}
	return out
}

const zeros = attack.Digest

// changes are what policies and Pod Security read, each with values on both sides of the line and beside it.
func changes(registry, component, account string) []change {
	contexts := func(prefix string) []change {
		return []change{
			{at(prefix + "|securityContext|runAsUser"), []any{nil, 0, 999, 1000, 65532}},
			{at(prefix + "|securityContext|runAsGroup"), []any{nil, 0, 999, 65532}},
			{at(prefix + "|securityContext|runAsNonRoot"), []any{nil, true, false}},
			{at(prefix + "|securityContext|seccompProfile"), []any{nil, m{"type": "RuntimeDefault"}, m{"type": "Unconfined"}, m{"type": "Localhost", "localhostProfile": "profiles/x.json"}, m{"type": "Localhost", "localhostProfile": "profiles/intelgraph-seccomp.json"}}},
			{at(prefix + "|securityContext|appArmorProfile"), []any{nil, m{"type": "RuntimeDefault"}, m{"type": "Unconfined"}}},
			{at(prefix + "|securityContext|seLinuxOptions"), []any{nil, m{"type": "container_t"}, m{"type": "spc_t"}, m{"user": "u"}}},
		}
	}
	var out []change
	for _, c := range []string{"spec|containers|0", "spec|initContainers|0"} {
		out = append(out, contexts(c)...)
		out = append(out,
			change{at(c + "|image"), []any{
				registry + "probe:1.0.0@" + zeros, registry + "probe:1.0.0", registry + "probe@" + zeros, registry + "a/b/c:v1@" + zeros,
				registry + "/probe@" + zeros, registry + "Probe@" + zeros, registry + "probe:latest@" + zeros, registry + "probe:LATEST@" + zeros,
				registry + "probe@" + zeros + "@" + zeros, registry + "probe@sha512:" + strings.Repeat("0", 128), registry + "probe\u200b@" + zeros,
				"docker.io/library/nginx", "nginx:latest", "host:5000/x:1@" + zeros, strings.ToUpper(registry) + "x@" + zeros, registry + "..@" + zeros,
			}},
			change{at(c + "|securityContext|readOnlyRootFilesystem"), []any{nil, true, false}},
			change{at(c + "|securityContext|allowPrivilegeEscalation"), []any{nil, true, false}},
			change{at(c + "|securityContext|privileged"), []any{nil, true, false}},
			change{at(c + "|securityContext|capabilities"), []any{nil, m{"drop": l{"ALL"}}, m{"drop": l{"ALL"}, "add": l{"NET_BIND_SERVICE"}}, m{"add": l{"SYS_ADMIN"}}}},
			change{at(c + "|securityContext|procMount"), []any{nil, "Default", "Unmasked"}},
			change{at(c + "|securityContext"), []any{nil, m{}}},
			change{at(c + "|ports"), []any{nil, l{m{"containerPort": 80}}, l{m{"containerPort": 80, "hostPort": 80}}}},
			change{at(c + "|securityContext|windowsOptions"), []any{nil, m{"runAsUserName": "ContainerUser"}, m{"hostProcess": true}}},
		)
	}
	out = append(out, contexts("spec")...)
	return append(out,
		change{at("spec|initContainers|0|restartPolicy"), []any{nil, "Always"}},
		change{at("spec|initContainers"), []any{nil}},
		change{at("spec|securityContext"), []any{nil, m{}}},
		change{at("spec|securityContext|fsGroup"), []any{nil, 0, 999, 65532}},
		change{at("spec|securityContext|supplementalGroups"), []any{nil, l{}, l{65532}, l{0, 65532}}},
		change{at("spec|securityContext|sysctls"), []any{nil, l{m{"name": "net.ipv4.tcp_syncookies", "value": "1"}}, l{m{"name": "kernel.msgmax", "value": "1"}}}},
		change{at("spec|hostPID"), []any{nil, true, false}},
		change{at("spec|hostNetwork"), []any{nil, true}},
		change{at("spec|hostUsers"), []any{nil, true, false}},
		change{at("spec|os"), []any{nil, m{"name": "linux"}, m{"name": "windows"}}},
		change{at("spec|automountServiceAccountToken"), []any{nil, true, false}},
		change{at("spec|serviceAccountName"), []any{nil, "", "default", account}},
		change{at("spec|serviceAccount"), []any{nil, "default", account}},
		change{at("metadata|labels|app.kubernetes.io/name"), []any{nil, "", "anything", component}},
		change{at("metadata|labels|security.intelgraph.ai/level"), []any{nil, "", "low"}},
		change{at("metadata|labels"), []any{nil, m{}}},
		change{at("spec|volumes"), []any{nil,
			l{m{"name": "v"}}, l{m{"name": "v", "emptyDir": m{}}}, l{m{"name": "v", "hostPath": m{"path": "/"}}}, l{m{"name": "v", "nfs": m{"server": "s", "path": "/"}}},
			l{m{"name": "v", "image": m{"reference": registry + "data@" + zeros}}}, l{m{"name": "v", "image": m{"reference": "docker.io/data"}}},
			l{m{"name": "v", "secret": m{"secretName": "s"}}}, l{m{"name": "v", "projected": m{"sources": l{}}}},
			l{m{"name": "v", "projected": m{"sources": l{m{"serviceAccountToken": m{"path": "t"}}}}}},
			l{m{"name": "v", "projected": m{"sources": l{m{"serviceAccountToken": m{"path": "t", "audience": "vault"}}}}}},
			l{m{"name": "v", "projected": m{"sources": l{m{"serviceAccountToken": m{"path": "t", "audience": "istio-ca"}}, m{"configMap": m{"name": "c"}}}}}},
			l{m{"name": "v", "projected": m{"sources": l{m{"clusterTrustBundle": m{"name": "x", "path": "p"}}}}}},
			l{m{"name": "v", "projected": m{"sources": l{m{"podCertificate": m{"signerName": "kubernetes.io/kube-apiserver-client-pod", "keyType": "ED25519", "credentialBundlePath": "b"}}}}}},
			l{m{"name": "v", "csi": m{"driver": "d"}}}, l{m{"name": "v", "ephemeral": m{"volumeClaimTemplate": m{"spec": m{"accessModes": l{"ReadWriteOnce"}, "resources": m{"requests": m{"storage": "1Gi"}}}}}}},
		}},
	)
}

type (
	m = map[string]any
	l = []any
)

func put(root map[string]any, path []any, value any) {
	var at any = root
	for i, p := range path {
		last := i == len(path)-1
		switch k := p.(type) {
		case string:
			mm, ok := at.(m)
			if !ok {
				return
			}
			switch {
			case last && value == nil:
				delete(mm, k)
			case last:
				mm[k] = value
			case mm[k] == nil:
				if _, index := path[i+1].(int); index {
					return
				}
				mm[k] = m{}
			}
			at = mm[k]
		case int:
			ll, ok := at.(l)
			if !ok || k >= len(ll) {
				return
			}
			at = ll[k]
		}
	}
}

// TestOfflineAgreesWithAPIServer judges random pods, bare and in controllers, by a real API server and by the offline
// engine. What the server finds invalid is left out, and counted, so that the test cannot pass by asking nothing.
func TestOfflineAgreesWithAPIServer(t *testing.T) {
	w := reference(t)
	lab := start(t, w)
	engine := setup(t, lab, w)
	ctx := context.Background()
	base := map[string]attack.Request{}
	var forms []string
	var registry string
	for _, a := range w.attacks {
		if form, ok := strings.CutPrefix(a.ID, "policies/unpinned/"); ok && form != "ephemeral" {
			base[form], forms = a.Twin, append(forms, form)
		}
		if a.ID == "policies/unpinned/pod" {
			registry = w.platform.Spec.Trust.Registries[0]
		}
	}
	slices.Sort(forms)
	const component = "maestro"
	all := changes(registry, component, w.platform.Spec.Components[component].ServiceAccount)
	const seed, want = 20261123, 400
	rnd := rand.New(rand.NewPCG(seed, 0))
	admitted, refused, invalid := 0, 0, 0
	seen := map[string]int{}
	for n := 0; n < want; {
		form := "pod"
		if rnd.IntN(3) == 0 {
			form = forms[rnd.IntN(len(forms))]
		}
		r := base[form]
		b, err := json.Marshal(r.Object)
		if err != nil {
			t.Fatal(err)
		}
		var o map[string]any
		if err := json.Unmarshal(b, &o); err != nil {
			t.Fatal(err)
		}
		pod := holder(o)
		var did []string
		for range 1 + rnd.IntN(4) {
			c := all[rnd.IntN(len(all))]
			v := c.values[rnd.IntN(len(c.values))]
			did = append(did, fmt.Sprintf("%v=%v", c.path, v))
			put(pod, c.path, clone(v))
		}
		if form != "pod" {
			// Without it, a controller's selector selects nothing, which is invalid.
			put(pod, at("metadata|labels|bulwark.dev/prove"), "yes")
		}
		r.Object = o
		got := engine.Try(ctx, r)
		if got.Unknown != "" || (!got.Admitted && got.Refusals[0].Control == "other") {
			if got.Unknown == "" && strings.Contains(got.Refusals[0].Message, "nvalid") {
				if invalid++; invalid > want {
					t.Fatalf("%d of the pods are invalid; the changes are badly chosen", invalid)
				}
				continue
			}
			t.Fatalf("%s %v: %+v", form, did, got)
		}
		n++
		offline := w.offline.Try(ctx, r)
		if offline.Unknown != "" || offline.Admitted != got.Admitted {
			t.Errorf("%s %v\nserver:  %+v\noffline: %+v", form, did, got, offline)
			continue
		}
		if got.Admitted {
			admitted++
			continue
		}
		refused++
		theirs, ours := controls(got.Refusals, got.Recorded), controls(offline.Refusals)
		for _, c := range ours {
			seen[c]++
		}
		// Pod Security ends the server's chain before policies are asked.
		if i := slices.IndexFunc(theirs, func(c string) bool { return strings.HasPrefix(c, "podsecurity/") }); i >= 0 && form == "pod" {
			theirs, ours = theirs[i:i+1], slices.DeleteFunc(ours, func(c string) bool { return !strings.HasPrefix(c, "podsecurity/") })
		} else if form != "pod" {
			// Of templates it only warns, and the server records that beside the policies.
			theirs = slices.DeleteFunc(theirs, func(c string) bool { return strings.HasPrefix(c, "podsecurity/") })
		}
		if diff := cmp.Diff(ours, theirs); diff != "" {
			t.Errorf("%s %v: (-offline +server)\n%s", form, did, diff)
		}
	}
	t.Logf("%d admitted, %d refused, %d invalid; refusals by control: %v", admitted, refused, invalid, seen)
	if admitted < want/10 || refused < want/3 || len(seen) < 9 {
		t.Errorf("too one-sided to show anything: %d admitted, %d refused, by %d controls", admitted, refused, len(seen))
	}
}

func controls(lists ...[]prove.Refusal) []string {
	out := []string{}
	for _, r := range slices.Concat(lists...) {
		if !slices.Contains(out, r.Control) {
			out = append(out, r.Control)
		}
	}
	slices.Sort(out)
	return out
}

// holder finds the pod or template in an object.
func holder(o map[string]any) map[string]any {
	if spec, ok := o["spec"].(m); ok && spec["containers"] != nil {
		return o
	}
	for _, k := range []string{"template", "spec", "jobTemplate"} {
		if child, ok := o[k].(m); ok {
			if h := holder(child); h != nil {
				return h
			}
		}
	}
	return nil
}

func clone(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}
