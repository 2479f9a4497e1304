package attack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/compile/admission"
	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/spec"
)

// Control names, as they stand in Attack.Intended and in reports.
const (
	ControlRBAC    = "rbac"
	ControlNetwork = "network"
)

// ControlPolicy names an admission policy, ControlPodSecurity the enforce label of a namespace.
func ControlPolicy(id string) string             { return "policy/" + id }
func ControlPodSecurity(namespace string) string { return "podsecurity/" + namespace }

// Digest is a well-formed digest that no image has.
const Digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// ProbeName is the name label of the corpus' harmless pod: no component's.
const ProbeName = "bulwark-probe"

// DebuggedName is the name of the pod that debug attacks add a container to, UnplacedName that of one that could be
// bound to a node.
const (
	DebuggedName = ProbeName + "-debugged"
	UnplacedName = ProbeName + "-unplaced"
)

// HarmlessPolicy is the name of a policy, and of its binding, that judges nothing. `prove` makes it while it runs, so
// that the twin of deleting a policy has something to delete.
const HarmlessPolicy = "harmless.prove.bulwark.dev"

// For gives every attack that makes sense on a platform, in a fixed order, with IDs that are stable from run to run.
func For(p *spec.Platform) ([]Attack, error) {
	corpus, err := load()
	if err != nil {
		return nil, err
	}
	b := &builder{p: p, says: map[string][]string{}}
	for _, pol := range admission.Policies(p) {
		// The server says the title where the message is too long, or would hold a line break.
		b.says[pol.ID] = []string{pol.Message, pol.Title}
	}
	for _, ns := range spec.Sorted(p.Spec.Namespaces) {
		for _, class := range []string{"pods", "policies"} {
			for _, e := range corpus[class] {
				if err := b.pods(class, e, ns); err != nil {
					return nil, fmt.Errorf("%s: %w", e.At, err)
				}
			}
		}
		for _, e := range corpus["objects"] {
			if err := b.object(e, ns); err != nil {
				return nil, fmt.Errorf("%s: %w", e.At, err)
			}
		}
		for _, e := range corpus["guards"] {
			if err := b.guard(e, ns); err != nil {
				return nil, fmt.Errorf("%s: %w", e.At, err)
			}
		}
	}
	for _, e := range corpus["access"] {
		b.access(e)
	}
	b.network()
	seen := map[string]bool{}
	for _, a := range b.out {
		if seen[a.ID] {
			return nil, fmt.Errorf("two attacks are called %s", a.ID)
		}
		seen[a.ID] = true
	}
	return b.out, nil
}

type builder struct {
	p    *spec.Platform
	says map[string][]string // policy ID → what its refusals say
	out  []Attack
}

func (b *builder) add(a Attack) {
	a.Platform = b.p.Metadata.Name
	if id, ok := strings.CutPrefix(a.Intended, "policy/"); ok && a.Says == nil {
		a.Says = b.says[id]
	}
	b.out = append(b.out, a)
}

// first reports whether a namespace is the one in which attacks that need only one are tried: the first with components,
// else the first.
func (b *builder) first(ns string) bool { return ns == b.home() }

func (b *builder) home() string {
	all := spec.Sorted(b.p.Spec.Namespaces)
	for _, ns := range all {
		for _, c := range b.p.Spec.Components {
			if c.Namespace == ns {
				return ns
			}
		}
	}
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

func (b *builder) vars(ns string) map[string]string {
	s := &b.p.Spec
	v := map[string]string{
		"levelLabel":         s.LevelLabel(),
		"level":              s.Namespaces[ns].Level,
		"digest":             Digest,
		"namespace":          ns,
		"podSecurity":        s.Namespaces[ns].PodSecurity,
		"podSecurityVersion": "v" + s.Kubernetes,
		"registry":           "registry.example.com/",
	}
	if len(s.Trust.Registries) > 0 {
		v["registry"] = s.Trust.Registries[0]
		v["lookalike"] = strings.TrimSuffix(s.Trust.Registries[0], "/") + "-evil/"
	}
	for _, n := range spec.Sorted(s.Components) {
		if c := s.Components[n]; c.Namespace == ns && v["other"] == "" {
			v["other"], v["otherAccount"] = n, c.ServiceAccount
		}
	}
	return v
}

// harmless is the pod that every twin is, but for one field: restricted, labelled, pinned, without token. Its scheduling
// gate keeps it from ever running should somebody persist it.
func (b *builder) harmless(vars map[string]string) map[string]any {
	confined := func() map[string]any {
		return map[string]any{
			"runAsNonRoot": true, "runAsUser": spec.DefaultUser, "runAsGroup": spec.DefaultUser,
			"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
			"capabilities":   map[string]any{"drop": []any{"ALL"}},
			"seccompProfile": map[string]any{"type": "RuntimeDefault"},
		}
	}
	container := func(name string) map[string]any {
		return map[string]any{"name": name, "image": vars["registry"] + "probe:1.0.0@" + Digest, "securityContext": confined()}
	}
	return map[string]any{
		"metadata": map[string]any{"labels": map[string]any{spec.NameLabel: ProbeName, vars["levelLabel"]: vars["level"]}},
		"spec": map[string]any{
			"automountServiceAccountToken": false,
			"schedulingGates":              []any{map[string]any{"name": "bulwark.dev/prove"}},
			"securityContext":              map[string]any{"runAsNonRoot": true, "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
			"containers":                   []any{container("app")},
			"initContainers":               []any{container("prepare")},
		},
	}
}

// rank orders the Pod Security levels.
func rank(level string) int {
	return slices.Index([]string{"privileged", "baseline", "restricted"}, level)
}

// controller is how a kind wraps a pod, and which controller makes pods of it.
type controller struct {
	group, version, kind, resource string
	path                           string
	maker                          string
	extra                          map[string]any
}

var match = map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"bulwark.dev/prove": "yes"}}}

var controllers = []controller{
	{"apps", "v1", "Deployment", "deployments", "spec.template", "", match},
	{"apps", "v1", "ReplicaSet", "replicasets", "spec.template", "replicaset-controller", match},
	{"apps", "v1", "StatefulSet", "statefulsets", "spec.template", "statefulset-controller", match},
	{"apps", "v1", "DaemonSet", "daemonsets", "spec.template", "daemon-set-controller", match},
	{"batch", "v1", "Job", "jobs", "spec.template", "job-controller", nil},
	{"batch", "v1", "CronJob", "cronjobs", "spec.jobTemplate.spec.template", "", map[string]any{"schedule": "0 0 1 1 *", "suspend": true}},
	{"", "v1", "ReplicationController", "replicationcontrollers", "spec.template", "replication-controller", map[string]any{"selector": map[string]any{"bulwark.dev/prove": "yes"}}},
	{"", "v1", "PodTemplate", "podtemplates", "template", "", nil},
}

func (b *builder) pods(class string, e entry, ns string) error {
	s := &b.p.Spec
	if !b.first(ns) && !e.Everywhere {
		return nil
	}
	vars := b.vars(ns)
	switch e.Needs {
	case "registry":
		if len(s.Trust.Registries) == 0 {
			return nil
		}
	case "component":
		if vars["other"] == "" {
			return nil
		}
	}
	a := Attack{Layer: artifact.Admission, Title: e.Title, Severity: e.Severity.Severity, Standards: e.Standards, Differs: fillText(e.Field, vars)}
	if class == "pods" {
		if rank(s.Namespaces[ns].PodSecurity) < rank(e.Level) {
			return nil
		}
		a.Layer, a.Intended, a.Says = artifact.Pods, ControlPodSecurity(ns), []string{e.Says}
		a.Fix = "keep pod-security.kubernetes.io/enforce on the namespace: deploy with --stage enforce"
	} else {
		a.Intended = ControlPolicy(e.Intended)
		a.Fix = "deploy " + admission.Name(b.p.Metadata.Name, e.Intended) + " and its binding with --stage enforce"
	}
	suffix := ""
	if !b.first(ns) {
		suffix = "@" + ns
	}
	pair := func(form string, wrap func(pod map[string]any) (Request, error), field string) error {
		x := a
		x.ID = class + "/" + e.ID + "/" + form + suffix
		x.Differs = field
		for value, into := range map[*any]*Request{&e.Attack: &x.Attempt, &e.Twin: &x.Twin} {
			pod := b.harmless(vars)
			if form == "ephemeral" {
				debugger := clone(pod["spec"].(map[string]any)["containers"].([]any)[0]).(map[string]any)
				debugger["name"] = "debugger"
				pod["spec"].(map[string]any)["ephemeralContainers"] = []any{debugger}
			}
			if err := assign(pod, field, clone(fill(*value, vars))); err != nil {
				return err
			}
			r, err := wrap(pod)
			if err != nil {
				return err
			}
			*into = r
		}
		b.add(x)
		return nil
	}
	bare := func(as Identity, meta map[string]any) func(map[string]any) (Request, error) {
		return func(pod map[string]any) (Request, error) {
			pod["apiVersion"], pod["kind"] = "v1", "Pod"
			for k, v := range meta {
				pod["metadata"].(map[string]any)[k] = v
			}
			pod["metadata"].(map[string]any)["namespace"] = ns
			return Request{As: as, Verb: Create, Version: "v1", Resource: "pods", Namespace: ns, Object: pod}, nil
		}
	}
	field := fillText(e.Field, vars)
	for _, form := range e.Forms {
		switch form {
		case "pod":
			if err := pair("pod", bare(Deployer, map[string]any{"name": ProbeName}), field); err != nil {
				return err
			}
		case "made":
			for _, c := range controllers {
				if c.maker == "" {
					continue
				}
				as := ServiceAccount("kube-system", c.maker)
				if err := pair("made-by-"+c.maker, bare(as, map[string]any{"generateName": ProbeName + "-"}), field); err != nil {
					return err
				}
			}
		case "controllers":
			for _, c := range controllers {
				if err := pair(strings.ToLower(c.kind), func(pod map[string]any) (Request, error) { return c.wrap(pod, ns) }, field); err != nil {
					return err
				}
			}
		case "ephemeral":
			f := strings.Replace(field, "spec.containers[0]", "spec.ephemeralContainers[0]", 1)
			err := pair("ephemeral", func(pod map[string]any) (Request, error) {
				r, err := bare(Deployer, map[string]any{"name": DebuggedName})(pod)
				r.Verb, r.Subresource, r.Name, r.Needs = Debug, "ephemeralcontainers", DebuggedName, b.standing(ns, vars)
				return r, err
			}, f)
			if err != nil {
				return err
			}
		case "status":
			if err := b.status(a, e, ns, suffix); err != nil {
				return err
			}
		}
	}
	return nil
}

// standing is the harmless pod as it stands in the cluster for those attacks that need one.
func (b *builder) standing(ns string, vars map[string]string) map[string]any {
	pod := b.harmless(vars)
	pod["apiVersion"], pod["kind"] = "v1", "Pod"
	meta := pod["metadata"].(map[string]any)
	meta["name"], meta["namespace"] = DebuggedName, ns
	return pod
}

// status changes a label of a running pod through the status subresource, which every kubelet writes.
func (b *builder) status(a Attack, e entry, ns, suffix string) error {
	vars := b.vars(ns)
	keys, err := split(a.Differs)
	if err != nil {
		return err
	}
	request := func(value any) (Request, error) {
		patch := fill(value, vars)
		for i := len(keys) - 1; i >= 0; i-- {
			k, ok := keys[i].(string)
			if !ok {
				return Request{}, fmt.Errorf("%s: the form status only knows labels", e.ID)
			}
			patch = map[string]any{k: patch}
		}
		return Request{
			As: Deployer, Verb: Patch, Version: "v1", Resource: "pods", Subresource: "status", Namespace: ns, Name: DebuggedName,
			Needs: b.standing(ns, vars), Patch: patch.(map[string]any),
		}, nil
	}
	a.ID = "policies/" + e.ID + "/status" + suffix
	if a.Attempt, err = request(e.Attack); err != nil {
		return err
	}
	if a.Twin, err = request(e.Twin); err != nil {
		return err
	}
	b.add(a)
	return nil
}

// object builds attempts to create something that is neither a pod nor a template of one.
func (b *builder) object(e entry, ns string) error {
	if !b.first(ns) && !e.Everywhere {
		return nil
	}
	vars := b.vars(ns)
	if e.Needs == "component" && vars["other"] == "" {
		return nil
	}
	a := Attack{
		ID: "objects/" + e.ID, Layer: artifact.Admission, Title: e.Title, Severity: e.Severity.Severity, Standards: e.Standards,
		Intended: ControlPolicy(e.Intended), Differs: fillText(e.Field, vars),
		Fix: "deploy " + admission.Name(b.p.Metadata.Name, e.Intended) + " and its binding with --stage enforce",
	}
	if !b.first(ns) {
		a.ID += "@" + ns
	}
	for value, into := range map[*any]*Request{&e.Attack: &a.Attempt, &e.Twin: &a.Twin} {
		o := fill(clone(e.Object), vars).(map[string]any)
		if err := assign(o, a.Differs, clone(fill(*value, vars))); err != nil {
			return err
		}
		*into = Request{As: Deployer, Verb: Create, Version: "v1", Resource: e.Resource, Subresource: e.Subresource, Object: o}
		if e.Careless {
			into.As = Careless
		}
		if !e.Cluster {
			into.Namespace = ns
		}
		if e.NeedsPod {
			// Without a gate, which would forbid the binding; a scheduler that does not exist never places it.
			pod := b.standing(ns, vars)
			pod["metadata"].(map[string]any)["name"] = UnplacedName
			spec := pod["spec"].(map[string]any)
			delete(spec, "schedulingGates")
			spec["schedulerName"] = "nobody.prove.bulwark.dev"
			into.Needs = pod
		}
	}
	b.add(a)
	return nil
}

// wrap puts a pod into a controller's template.
func (c controller) wrap(pod map[string]any, ns string) (Request, error) {
	meta := pod["metadata"].(map[string]any)
	labels, _ := meta["labels"].(map[string]any)
	if labels == nil {
		labels = map[string]any{}
		meta["labels"] = labels
	}
	labels["bulwark.dev/prove"] = "yes"
	if c.kind == "Job" || c.kind == "CronJob" {
		pod["spec"].(map[string]any)["restartPolicy"] = "Never"
	}
	apiVersion := c.version
	if c.group != "" {
		apiVersion = c.group + "/" + c.version
	}
	o := map[string]any{"apiVersion": apiVersion, "kind": c.kind, "metadata": map[string]any{"name": ProbeName, "namespace": ns}}
	if c.extra != nil {
		o["spec"] = clone(c.extra)
	}
	if err := assign(o, c.path, pod); err != nil {
		return Request{}, err
	}
	if c.kind == "StatefulSet" {
		o["spec"].(map[string]any)["serviceName"] = ProbeName
	}
	return Request{As: Deployer, Verb: Create, Group: c.group, Version: c.version, Resource: c.resource, Namespace: ns, Object: o}, nil
}

// guard builds attempts on the namespace's labels and on the policies.
func (b *builder) guard(e entry, ns string) error {
	if !b.first(ns) && !e.Everywhere {
		return nil
	}
	if e.Needs == "static" && !b.p.Spec.HasFeature(admission.StaticFeature) {
		return nil
	}
	vars := b.vars(ns)
	a := Attack{
		ID: "guards/" + e.ID, Layer: artifact.Admission, Title: e.Title, Severity: e.Severity.Severity, Standards: e.Standards,
		Intended: ControlPolicy(e.Intended), Differs: fillText(e.Field, vars),
	}
	if !b.first(ns) {
		a.ID += "@" + ns
	}
	if e.Resource == "" {
		a.Fix = "deploy " + admission.Name(b.p.Metadata.Name, e.Intended) + " and its binding with --stage enforce"
		patch := func(v any) Request {
			m := map[string]any{}
			_ = assign(m, e.Field, map[string]any{})
			r := Request{As: Careless, Verb: Patch, Version: "v1", Resource: "namespaces", Subresource: e.Subresource, Name: ns}
			r.Patch = map[string]any{"metadata": map[string]any{"labels": fill(v, vars)}}
			return r
		}
		a.Attempt, a.Twin = patch(e.Attack), patch(e.Twin)
		b.add(a)
		return nil
	}
	a.Fix = "put " + admission.StaticPath + " into the API server's staticManifestsDir"
	pols := admission.Policies(b.p)
	for i, pol := range pols {
		if pol.Subject == admission.OnPolicies || (e.Each == "" && i > 0) {
			continue
		}
		x := a
		x.Differs = "metadata.name"
		if e.Each != "" {
			x.ID += "/" + pol.ID
		}
		request := func(name string) Request {
			r := Request{As: Careless, Verb: Verb(e.Verb), Group: "admissionregistration.k8s.io", Version: "v1", Resource: e.Resource, Name: name}
			if r.Verb == Patch {
				r.Patch = map[string]any{}
				_ = assign(r.Patch, e.Field, clone(e.Attack))
			}
			return r
		}
		x.Attempt, x.Twin = request(admission.Name(b.p.Metadata.Name, pol.ID)), request(HarmlessPolicy)
		b.add(x)
	}
	return nil
}

// access asks, as each account and team, for what it must not have.
func (b *builder) access(e entry) {
	s := &b.p.Spec
	add := func(who, title string, as Identity, ns string, name string, twin Request, differs string) {
		r := Request{As: as, Verb: Ask, Access: e.Verb, Group: e.Group, Resource: e.Resource, Subresource: e.Subresource, Namespace: ns, Name: name}
		if e.Cluster {
			r.Namespace = ""
		}
		b.add(Attack{
			ID: "access/" + e.ID + "/" + who, Layer: artifact.Access, Title: title + " " + e.Title, Severity: e.Severity.Severity,
			Intended: ControlRBAC, Standards: e.Standards, Differs: differs, Attempt: r, Twin: twin,
			Fix: "remove the grant: bulwark validate names the role and its binding",
		})
	}
	nameOf := func(ns string) string {
		switch e.Name {
		case "namespace":
			return ns
		case "any":
			return "default"
		}
		return e.Name
	}
	for _, n := range spec.Sorted(s.Components) {
		c := s.Components[n]
		as := ServiceAccount(c.Namespace, c.ServiceAccount)
		if slices.Contains(e.Who, "accounts") {
			// What every authenticated identity has: asking for its own rights (system:basic-user).
			twin := Request{As: as, Verb: Ask, Access: "create", Group: "authorization.k8s.io", Resource: "selfsubjectaccessreviews"}
			add(n, n+"'s account", as, c.Namespace, nameOf(c.Namespace), twin, "resource")
		}
		if slices.Contains(e.Who, "askers") {
			for _, ask := range c.MayAsk {
				if ask.Resource == e.Resource && ask.Group == e.Group && slices.Contains(ask.Verbs, e.Verb) && len(ask.Names) > 0 {
					twin := Request{As: as, Verb: Ask, Access: e.Verb, Group: e.Group, Resource: e.Resource, Namespace: c.Namespace, Name: ask.Names[0]}
					add(n, n+"'s account", as, c.Namespace, e.Name, twin, "name")
				}
			}
		}
	}
	home := b.home()
	for _, n := range spec.Sorted(s.Teams) {
		t := s.Teams[n]
		if !slices.Contains(e.Who, t.May) {
			continue
		}
		as := Team(t.Group)
		twin := Request{As: as, Verb: Ask, Access: "get", Resource: "pods", Namespace: home, Name: ProbeName}
		add(n, "team "+n, as, home, nameOf(home), twin, "resource")
	}
}

// network takes, for every port of a component, a component that no flow lets in, and as the twin one that a flow does.
func (b *builder) network() {
	s := &b.p.Spec
	allowed := map[string]map[string]bool{} // "component:port" → sources
	for _, f := range s.Flows {
		for _, t := range f.Targets {
			if t.Component == "" {
				continue
			}
			to := t.Component + ":" + t.PortName
			if allowed[to] == nil {
				allowed[to] = map[string]bool{}
			}
			for _, from := range f.From {
				allowed[to][from] = true
			}
		}
	}
	for _, to := range spec.Sorted(s.Components) {
		for _, port := range spec.Sorted(s.Components[to].Ports) {
			end := to + ":" + port
			for _, from := range spec.Sorted(s.Components) {
				if from == to || allowed[end][from] {
					continue
				}
				a := Attack{
					ID: "network/" + from + "/" + to + "-" + port, Layer: artifact.Network, Severity: finding.High,
					Title:    from + " connects to " + end + ", which no flow declares",
					Intended: ControlNetwork, Differs: "from", Standards: []string{"NIST AC-4", "CIS 5.3.2"},
					Attempt: Request{Verb: Connect, From: from, To: end},
					Fix:     "deploy the network layer and run a network plugin that enforces NetworkPolicy",
				}
				if honest := spec.Sorted(allowed[end]); len(honest) > 0 {
					a.Twin = Request{Verb: Connect, From: honest[0], To: end}
				} else {
					a.Twin = Request{Verb: Connect, From: to, To: end}
				}
				b.add(a)
				break
			}
		}
	}
}
