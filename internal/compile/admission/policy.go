// Package admission compiles the policies that decide what the API server admits. Each policy is written once, in CEL,
// for the pod inside an object; the emitters turn that one source into the forms that engines read.
//
// What a policy may use is what every engine of the field knows: object, oldObject, request, authorizer and variables.
package admission

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/intelgraph/bulwark/internal/artifact"
	"github.com/intelgraph/bulwark/internal/compile/implied"
	"github.com/intelgraph/bulwark/internal/spec"
)

// Subject is what a policy judges.
type Subject int

// The subjects.
const (
	// OnPods: bare pods, ephemeral containers and the templates of every controller.
	OnPods Subject = iota
	// OnNamespaces: changes of the platform's own namespaces.
	OnNamespaces
	// OnBindings: the scheduler's binding of a pod to a node, which also carries labels to the pod (Kubernetes 1.35).
	OnBindings
	// OnSecrets: secrets that are tokens.
	OnSecrets
	// OnPolicies: changes of the admission configuration itself. Policies that are created through the API cannot judge
	// it (k8s.io/apiserver exempts it, so that nobody locks himself out); only those that the API server loads from disk
	// can (KEP-5793), so this subject is emitted as a file for the control plane.
	OnPolicies
)

// Variable is a named CEL expression; later ones may use earlier ones as variables.NAME.
type Variable struct{ Name, Expression string }

// Policy is one rule of admission, independent of the engine that enforces it.
type Policy struct {
	// ID is its short name, such as "required-labels"; attacks and reports refer to it as policy/ID.
	ID string
	// Title says in a sentence what it refuses, and Rationale why that matters.
	Title, Rationale string
	Subject          Subject
	Variables        []Variable
	// Offenders is a CEL list of texts that name what is wrong; the policy refuses when it is not empty.
	Offenders string
	// Unless is a CEL condition under which the offenders do not matter; it may be empty. It stands apart because a
	// message may not use the authorizer.
	Unless string
	// Message precedes the offenders in a refusal.
	Message string
	// ReadsLabels is true when the policy's answer depends on the pod's labels. Such a policy also judges pods/status,
	// through which labels can be changed.
	ReadsLabels bool
	Why         []artifact.Cause
}

// StaticFeature is the value of `has` that says the API server loads policies from disk.
const StaticFeature = "static-admission"

// Name is the policy's name in the cluster: ID.PLATFORM.bulwark.dev.
func Name(platform, id string) string { return id + "." + platform + ".bulwark.dev" }

// StaticName is the name of a policy that the API server loads from disk; Kubernetes wants the suffix (KEP-5793).
func StaticName(platform, id string) string { return id + "." + platform + ".bulwark.static.k8s.io" }

// Decision is the CEL expression that must hold for a request to be admitted.
func (pol Policy) Decision() string {
	d := "size(variables.offenders) == 0"
	if pol.Unless != "" {
		d += " || " + pol.Unless
	}
	return d
}

// Guard is the right that lets somebody change what protects the platform: the verb "change" on NAME of the resource
// "guards" in the group bulwark.dev. The resource does not exist; RBAC does not mind. Cluster administrators have it by
// their wildcard; a role that lists verbs one by one does not have it unless somebody meant it.
func Guard(platform string) string {
	return fmt.Sprintf("authorizer.group('bulwark.dev').resource('guards').name(%s).check('change').allowed()", quote(platform))
}

// quote gives a CEL string literal. The spec's names are DNS names, paths and image prefixes; %q of Go is a superset of
// what they need, and CEL reads its escapes the same way.
func quote(s string) string { return strconv.Quote(s) }

func list(items []string) string {
	q := make([]string, len(items))
	for i, s := range items {
		q[i] = quote(s)
	}
	return "[" + strings.Join(q, ", ") + "]"
}

// lists are the three lists of containers. Their types differ, so CEL cannot join them; the names in them it can.
var lists = []string{"variables.containers", "variables.inits", "variables.ephemerals"}

// each gives a CEL list of the names of containers, of all three lists, for which good is false; good is a predicate
// over c.
func each(good string) string {
	var parts []string
	for _, l := range lists {
		parts = append(parts, fmt.Sprintf("%s.filter(c, !(%s)).map(c, c.name)", l, good))
	}
	return strings.Join(parts, " + ")
}

// eachImage is like each for every image that the pod pulls: of containers, and of image volumes, which come from
// registries as well; good is a predicate over the text %s.
func eachImage(good string) string {
	var parts []string
	offence := func(list, item, condition, ref, name string) {
		parts = append(parts, fmt.Sprintf("%s.filter(%s, %s!(%s)).map(%s, %s + ': ' + %s)", list, item, condition, strings.ReplaceAll(good, "%s", ref), item, name, ref))
	}
	for _, l := range lists {
		offence(l, "c", "", "c.?image.orValue('')", "c.name")
	}
	offence("variables.volumes", "v", "has(v.image) && ", "v.image.?reference.orValue('')", "'volume ' + v.name")
	return strings.Join(parts, " + ")
}

// SeccompProfile is the name, relative to the kubelet's seccomp folder, of a runtime's profile on this platform. The
// node runtime's is the one that the guide names.
func SeccompProfile(platform, runtime string) string {
	if runtime == "" || runtime == "node" {
		return "profiles/" + platform + "-seccomp.json"
	}
	return "profiles/" + platform + "-" + runtime + "-seccomp.json"
}

// Policies gives the platform's policies in the order in which they are deployed.
func Policies(p *spec.Platform) []Policy {
	s := &p.Spec
	component := func(name string) artifact.Cause {
		return implied.ComponentWhy(p, name)
	}
	var components []artifact.Cause
	for _, n := range spec.Sorted(s.Components) {
		components = append(components, component(n))
	}
	key := Variable{"who", fmt.Sprintf("request.namespace + '/' + variables.labels[?%s].orValue('')", quote(spec.NameLabel))}

	out := []Policy{{
		ID:          "required-labels",
		Title:       "A pod without the labels that say what it is and how sensitive it is",
		Rationale:   "Network policies, identities, quotas and alerts all select on labels. A pod without them is outside of every rule that follows.",
		Variables:   []Variable{{"required", list([]string{spec.NameLabel, s.LevelLabel()})}},
		Offenders:   "variables.required.filter(l, variables.labels[?l].orValue('') == '')",
		Message:     "these labels are required on the pod: ",
		ReadsLabels: true,
		Why:         []artifact.Cause{implied.Why(p, "spec.labelPrefix")},
	}}

	out = append(out, identity(p, key, components))

	if len(s.Trust.Registries) > 0 {
		out = append(out, Policy{
			ID:        "allowed-registries",
			Title:     "An image from a registry that the platform does not trust",
			Rationale: "Prefixes are compared on a path boundary, so that neither a look-alike folder nor a look-alike host passes, and what follows must be a plain image reference, so that no trick of parsing leads elsewhere.",
			Variables: []Variable{
				{"registries", list(s.Trust.Registries)},
				{"reference", quote(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[a-f0-9]{64})?$`)},
			},
			Offenders: eachImage("variables.registries.exists(r, %s.startsWith(r) && %s.substring(size(r)).matches(variables.reference))"),
			Message:   "these images are not from a trusted registry: ",
			Why:       []artifact.Cause{implied.Why(p, "spec.trust.registries")},
		})
	}
	out = append(out, Policy{
		ID:        "image-digests",
		Title:     "An image that is not pinned by digest",
		Rationale: "A tag can be moved after the image was scanned and signed; a digest cannot.",
		Offenders: eachImage("%s.matches('@sha256:[a-f0-9]{64}$')"),
		Message:   "these images have no digest: ",
		Why:       components,
	}, Policy{
		ID:        "no-latest",
		Title:     "An image with the tag latest, or with neither tag nor digest",
		Rationale: "Beside a digest, the tag latest is a lie that people and dashboards read; without one, it is whatever was pushed last.",
		Offenders: eachImage("!%s.split('@')[0].endsWith(':latest') && (%s.contains('@') || %s.matches(':[^/]+$'))"),
		Message:   "these images say latest, or nothing: ",
		Why:       components,
	}, Policy{
		ID:        "read-only-root",
		Title:     "A container whose root file system can be written",
		Rationale: "What cannot be written cannot be replaced: no dropped tool, no changed binary. Pod Security does not ask for it.",
		Offenders: each("c.?securityContext.?readOnlyRootFilesystem.orValue(false)"),
		Message:   "these containers lack readOnlyRootFilesystem: ",
		Why:       components,
	})
	out = append(out, user(p, key, components), seccomp(p, key, components), token(p, key, components), bindings(p, components), tokenSecrets(components), namespaces(p))
	if s.HasFeature(StaticFeature) {
		out = append(out, policies(p, out))
	}
	return out
}

// identity ties a component's name to its account, both ways: who carries the name must use the account, and who uses
// the account must carry the name.
func identity(p *spec.Platform, key Variable, why []artifact.Cause) Policy {
	accounts := map[string]string{}
	for _, n := range spec.Sorted(p.Spec.Components) {
		c := p.Spec.Components[n]
		accounts[c.Namespace+"/"+n] = c.ServiceAccount
	}
	owned := map[string]bool{}
	for k, sa := range accounts {
		ns, _, _ := strings.Cut(k, "/")
		owned[ns+"/"+sa] = true
	}
	return Policy{
		ID:        "declared-identity",
		Title:     "A pod that runs under another component's name or service account",
		Rationale: "The name opens network flows and the account opens the API and, in a mesh, its peers. Whoever may create a pod could otherwise take any of them.",
		Variables: []Variable{
			key,
			{"account", "variables.pod.?serviceAccountName.orValue('') == '' ? 'default' : variables.pod.serviceAccountName"},
			{"accounts", mapping(accounts, quote)},
			{"owned", list(spec.Sorted(owned))},
		},
		Offenders: "variables.accounts[?variables.who].hasValue() ? (variables.accounts[variables.who] == variables.account ? [] : [variables.account + ' instead of ' + variables.accounts[variables.who]])" +
			" : ((request.namespace + '/' + variables.account) in variables.owned ? [variables.account + ' belongs to a component'] : [])",
		Message:     "the service account does not belong to the component that the pod's name label states: ",
		ReadsLabels: true,
		Why:         why,
	}
}

func user(p *spec.Platform, key Variable, why []artifact.Cause) Policy {
	users, groups := map[string]string{}, map[string]string{}
	for _, n := range spec.Sorted(p.Spec.Components) {
		c := p.Spec.Components[n]
		users[c.Namespace+"/"+n] = strconv.FormatInt(c.UID(), 10)
		groups[c.Namespace+"/"+n] = strconv.FormatInt(c.GID(), 10)
	}
	plain := func(s string) string { return s }
	return Policy{
		ID:        "declared-user",
		Title:     "A container that runs as another user than its component's, or a pod in another group",
		Rationale: "Files of a volume belong to a numeric user. A pod that may pick the number may pick the owner of somebody else's data. A group of its choice, for the pod or its volumes, opens what that group may read. Pod Security only asks that the user is not zero.",
		Variables: []Variable{
			key,
			{"uid", fmt.Sprintf("%s[?variables.who].orValue(%d)", mapping(users, plain), spec.DefaultUser)},
			{"gid", fmt.Sprintf("%s[?variables.who].orValue(%d)", mapping(groups, plain), spec.DefaultUser)},
			{"podUser", "variables.pod.?securityContext.?runAsUser.orValue(-1)"},
			{"podGroup", "variables.pod.?securityContext.?runAsGroup.orValue(-1)"},
			{"more", "(variables.pod.?securityContext.?fsGroup.hasValue() ? [variables.pod.securityContext.fsGroup] : []) + variables.pod.?securityContext.?supplementalGroups.orValue([])"},
		},
		Offenders: each("c.?securityContext.?runAsUser.orValue(variables.podUser) == variables.uid && c.?securityContext.?runAsGroup.orValue(variables.podGroup) == variables.gid") +
			" + variables.more.filter(g, g != variables.gid).map(g, 'group ' + string(g))",
		Message:     "these do not run as the declared user and group: ",
		ReadsLabels: true,
		Why:         why,
	}
}

func seccomp(p *spec.Platform, key Variable, why []artifact.Cause) Policy {
	profiles := map[string]string{}
	for _, n := range spec.Sorted(p.Spec.Components) {
		c := p.Spec.Components[n]
		profiles[c.Namespace+"/"+n] = SeccompProfile(p.Metadata.Name, c.Runtime)
	}
	return Policy{
		ID:        "seccomp-profile",
		Title:     "A container with no seccomp profile, or with a file that is not its component's",
		Rationale: "Pod Security accepts any Localhost file, also one that allows everything. Here it must be RuntimeDefault or the profile that was compiled for the component.",
		Variables: []Variable{
			key,
			{"profile", fmt.Sprintf("%s[?variables.who].orValue('')", mapping(profiles, quote))},
			{"podType", "variables.pod.?securityContext.?seccompProfile.?type.orValue('')"},
			{"podFile", "variables.pod.?securityContext.?seccompProfile.?localhostProfile.orValue('')"},
		},
		Offenders: each("c.?securityContext.?seccompProfile.?type.orValue(variables.podType) == 'RuntimeDefault'" +
			" || (c.?securityContext.?seccompProfile.?type.orValue(variables.podType) == 'Localhost' && variables.profile != ''" +
			" && (c.?securityContext.?seccompProfile.?type.hasValue() ? c.securityContext.seccompProfile.?localhostProfile.orValue('') : variables.podFile) == variables.profile)"),
		Message:     "these containers need seccomp RuntimeDefault or their component's own Localhost profile: ",
		ReadsLabels: true,
		Why:         why,
	}
}

func token(p *spec.Platform, key Variable, why []artifact.Cause) Policy {
	s := &p.Spec
	var askers, audiences []string
	for _, n := range spec.Sorted(s.Components) {
		if c := s.Components[n]; c.NeedsToken() {
			askers = append(askers, c.Namespace+"/"+n)
		}
	}
	// Tokens for others than the API server are how a sidecar and a secret store know a pod; they open nothing here.
	if s.Mesh != nil && s.Mesh.Kind == "istio" {
		audiences = append(audiences, "istio-ca")
	}
	if s.Secrets != nil && s.Secrets.Store != nil && s.Secrets.Store.Vault != nil && s.Secrets.Store.Vault.Audience != "" {
		audiences = append(audiences, s.Secrets.Store.Vault.Audience)
	}
	slices.Sort(audiences)
	return Policy{
		ID:        "no-unasked-token",
		Title:     "A pod that mounts a token of the Kubernetes API although its component asks nothing of it",
		Rationale: "A stolen token is the shortest way from a web application to the cluster. Switching the mount off is not enough: a projected volume can bring a token back, or a certificate that Kubernetes itself signs.",
		Variables: []Variable{
			key,
			{"asks", fmt.Sprintf("variables.who in %s", list(askers))},
			{"audiences", list(audiences)},
		},
		Offenders: "variables.asks ? [] : ((variables.pod.?automountServiceAccountToken.orValue(true) ? ['automountServiceAccountToken is not false'] : [])" +
			" + variables.volumes.filter(v, has(v.projected) && v.projected.?sources.orValue([]).exists(s, has(s.serviceAccountToken) && !(s.serviceAccountToken.?audience.orValue('') in variables.audiences) || has(s.podCertificate) && s.podCertificate.?signerName.orValue('').startsWith('kubernetes.io/'))).map(v, 'volume ' + v.name))",
		Message:     "this component asks nothing of the Kubernetes API, so it gets no token: ",
		ReadsLabels: true,
		Why:         why,
	}
}

// Guarded are the labels of a pod that decide what it may do, where it may connect to and who watches it.
func Guarded(p *spec.Platform) []string { return []string{spec.NameLabel, p.Spec.LevelLabel()} }

// bindings: whoever may bind a pod to a node may write its labels, past every policy that judges pods.
func bindings(p *spec.Platform, why []artifact.Cause) Policy {
	return Policy{
		ID:        "binding-labels",
		Title:     "A binding of a pod to a node that rewrites what the pod is",
		Rationale: "The API server copies a binding's labels over the pod's, without asking the policies for pods. A scheduler has no reason to rename what it places.",
		Subject:   OnBindings,
		Variables: []Variable{{"guarded", list(Guarded(p))}},
		Offenders: "variables.guarded.filter(l, l in object.metadata.?labels.orValue({}))",
		Message:   "a binding may not set these labels of a pod: ",
		Why:       why,
	}
}

// tokenSecrets: a secret of this type is filled with a token that never expires, of any account that it names, and every
// pod may mount it.
func tokenSecrets(why []artifact.Cause) Policy {
	const annotation = "kubernetes.io/service-account.name"
	return Policy{
		ID:        "no-token-secrets",
		Title:     "A secret that asks for a token that never expires",
		Rationale: "Kubernetes writes a token of the account that the secret names into it, for whoever made it. It does not expire, it is not bound to a pod, and a volume brings it into any.",
		Subject:   OnSecrets,
		Variables: []Variable{
			{"account", fmt.Sprintf("object.metadata.?annotations[?%s].orValue('')", quote(annotation))},
			{"before", fmt.Sprintf("request.operation == 'CREATE' ? '' : oldObject.metadata.?annotations[?%s].orValue('')", quote(annotation))},
		},
		// What exists keeps working: its data may be written, its account may not be changed.
		Offenders: "object.?type.orValue('') == 'kubernetes.io/service-account-token' && (request.operation == 'CREATE' || variables.account != variables.before) ? [variables.account] : []",
		Message:   "tokens are asked for by the pod that needs one, and expire; this secret would hold one for ever, of the account ",
		Why:       why,
	}
}

// namespaces guards the labels that Pod Security and the network policies of others select on. The status and finalize
// subresources can change labels too, and so can whoever deletes a namespace and makes it again.
func namespaces(p *spec.Platform) Policy {
	var why []artifact.Cause
	enforce, version, level := map[string]string{}, map[string]string{}, map[string]string{}
	for _, n := range spec.Sorted(p.Spec.Namespaces) {
		ns := p.Spec.Namespaces[n]
		why = append(why, implied.Why(p, implied.Path("spec", "namespaces", n)))
		enforce[n], version[n], level[n] = ns.PodSecurity, "v"+p.Spec.Kubernetes, ns.Level
	}
	// A namespace that is made anew is compared with what the spec says, one that is there with what it was.
	declared := func(label string, values map[string]string) string {
		return fmt.Sprintf("%s: %s[?object.metadata.name].orValue('')", quote(label), mapping(values, quote))
	}
	return Policy{
		ID:        "protect-namespaces",
		Title:     "A change of the labels that Pod Security reads, by somebody who may only deploy",
		Rationale: "Whoever may patch a namespace may otherwise switch Pod Security off for it; whoever may make it again makes it without. Only who may change the guards of the platform may touch these labels.",
		Subject:   OnNamespaces,
		Variables: []Variable{
			{"declared", "{" + strings.Join([]string{
				declared("pod-security.kubernetes.io/enforce", enforce),
				declared("pod-security.kubernetes.io/enforce-version", version),
				declared(p.Spec.LevelLabel(), level),
			}, ", ") + "}"},
			{"before", "request.operation == 'CREATE' ? variables.declared : oldObject.metadata.?labels.orValue({})"},
			{"after", "object.metadata.?labels.orValue({})"},
			{"guarded", fmt.Sprintf("(variables.before.map(k, k) + variables.after.map(k, k)).filter(k, request.operation == 'CREATE' ? k in variables.declared : (k.startsWith('pod-security.kubernetes.io/') || k in %s))", list([]string{p.Spec.LevelLabel(), artifact.PlatformLabel}))},
		},
		Offenders: "variables.guarded.filter(k, variables.before[?k] != variables.after[?k])",
		Unless:    Guard(p.Metadata.Name),
		Message:   "these labels protect the namespace and may only be changed by who may change the platform's guards: ",
		Why:       why,
	}
}

func policies(p *spec.Platform, guarded []Policy) Policy {
	var names []string
	for _, g := range guarded {
		names = append(names, Name(p.Metadata.Name, g.ID))
	}
	return Policy{
		ID:        "protect-policies",
		Title:     "The removal or weakening of an admission policy by somebody who may only deploy",
		Rationale: "Policies in the API cannot guard the API's policies; one that the API server reads from disk can.",
		Subject:   OnPolicies,
		Variables: []Variable{
			{"names", list(names)},
		},
		// The name is taken from the object, because a request that deletes a collection names none. Writing a policy back
		// as it is must pass: a storage migration does that to every object.
		Offenders: "variables.names.filter(n, n == oldObject.metadata.name && (request.operation == 'DELETE' || object.spec != oldObject.spec || object.metadata.?labels != oldObject.metadata.?labels))",
		Unless:    Guard(p.Metadata.Name),
		Message:   "this admission policy protects the platform and may only be changed by who may change the platform's guards: ",
		Why:       []artifact.Cause{implied.Why(p, "spec.has")},
	}
}

func mapping(m map[string]string, value func(string) string) string {
	parts := make([]string, 0, len(m))
	for _, k := range spec.Sorted(m) {
		parts = append(parts, quote(k)+": "+value(m[k]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
