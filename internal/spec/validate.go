package spec

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/template/parse"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/intelgraph/bulwark/internal/source"
)

var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// validator collects everything that is wrong with a spec.
type validator struct {
	p     *Platform
	file  string
	root  *yaml.Node
	errs  source.Errors
	depth int
}

// run checks each field by itself, fills in the defaults, and then checks what fields say together.
func (v *validator) run() {
	top := cursor{node: v.root}
	v.structure(top, reflect.TypeFor[Platform]())
	v.p.fill()
	v.p.complete()
	s := top.field("spec")
	if !s.given() {
		return
	}
	v.cluster(s)
	v.trust(s.field("trust"))
	v.names(s)
	for _, c := range s.field("components").entries() {
		if x := v.p.Spec.Components[c.key.Value]; x != nil {
			v.component(s, c, c.key.Value, x)
		}
	}
	v.flows(s)
	v.secrets(s.field("secrets"))
	v.teams(s.field("teams"))
	v.response(s.field("response"))
	v.exceptions(s.field("exceptions"))
}

// fill gives the empty entries of lists and mappings a value, so that nothing that reads them meets nil. Each such entry
// is an error already, or means "all defaults".
func (p *Platform) fill() {
	s := &p.Spec
	fillList(s.Flows)
	fillList(s.Response)
	fillList(s.Exceptions)
	fillList(s.Trust.Signers)
	for _, c := range s.Components {
		fillList(c.MayAsk)
	}
	for _, f := range s.Flows {
		fillList(f.HTTP)
	}
}

func fillList[T any](list []*T) {
	for i := range list {
		if list[i] == nil {
			list[i] = new(T)
		}
	}
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// isMapping reports whether a section could be read, so that names in it may be looked up. When it could not, that is
// told already, and to call every name unknown would only be noise.
func (c cursor) isMapping() bool {
	n := c.resolved()
	return n == nil || n.Kind == yaml.MappingNode || !c.given()
}

// cluster checks what the cluster is said to run against what the spec asks of it.
func (v *validator) cluster(s cursor) {
	x := &v.p.Spec
	a := s.field("admission")
	runs := func(c cursor, engine string) {
		if engine != "native" && contains(Engines, engine) && !x.HasFeature(engine) {
			v.errorf(c, "add it to has, or name another engine", "%s %s is not among what the cluster has", c.name(), quote(engine))
		}
	}
	runs(a.field("enforce"), x.Admission.Enforce)
	for i, e := range x.Admission.Audit {
		c := a.field("audit").index(i)
		runs(c, e)
		if e == x.Admission.Enforce {
			v.errorf(c, "remove it from audit", "%s enforces already; what enforces also reports", quote(e))
		}
	}
	if x.Mesh != nil && x.Mesh.Kind == "istio" && !x.HasFeature("istio") {
		v.errAt(s.field("mesh").key, "add istio to has, or remove mesh", "a mesh of istio, but the cluster does not have istio")
	}
	cp := s.field("controlPlane").field("cidrs")
	for i, p := range x.ControlPlane.CIDRs {
		if strings.HasSuffix(p, "/0") {
			v.errorf(cp.index(i), "leave cidrs out for any address", "%s is every address", quote(p))
		}
	}
}

func (v *validator) trust(c cursor) {
	t := &v.p.Spec.Trust
	names := map[string]int{}
	for i, x := range t.Signers {
		at := c.field("signers").index(i)
		if !at.given() {
			continue
		}
		key, keyless := at.field("key").given(), at.field("keyless").given()
		switch {
		case key && keyless:
			v.errAt(at.field("keyless").key, "make it two signers", "signer %s has both key and keyless", quote(x.Name))
		case !key && !keyless:
			v.errorf(at, "add key: FILE, or keyless: {issuer: …, subject: …}", "signer %s has neither key nor keyless", quote(x.Name))
		}
		v.once(names, at.field("name"), x.Name)
	}
}

// once reports a name that stands in a list twice.
func (v *validator) once(seen map[string]int, c cursor, name string) {
	if name == "" || !c.given() {
		return
	}
	if line := seen[name]; line != 0 {
		v.errorf(c, "choose another name", "%s %s is taken (line %d)", c.name(), quote(name), line)
		return
	}
	seen[name] = c.node.Line
}

// names checks that each word means one thing: flows name components and peers alike.
func (v *validator) names(s cursor) {
	for _, e := range s.field("peers").entries() {
		if v.p.Spec.Components[e.key.Value] != nil {
			_, k := e.key.Value, e.key
			v.errAt(k, "rename the peer", "%s is a component already; flows could not tell them apart", quote(e.key.Value))
		}
		v.ports(e.field("ports"))
	}
	for _, e := range s.field("namespaces").entries() {
		if strings.HasPrefix(e.key.Value, "kube-") {
			v.errAt(e.key, "declare namespaces of your own", "namespace %s belongs to Kubernetes", quote(e.key.Value))
		}
	}
	accounts := map[string]string{}
	versions := map[string]cursor{}
	for _, e := range s.field("components").entries() {
		c := v.p.Spec.Components[e.key.Value]
		if c == nil {
			continue
		}
		at := e.field("serviceAccount")
		blame := at.at()
		if !at.given() {
			blame = e.key
		}
		if c.ServiceAccount == "default" {
			v.errAt(blame, "give the component an account of its own", "serviceAccount \"default\" is shared by every pod that names none")
		}
		if other := accounts[c.Namespace+"/"+c.ServiceAccount]; other != "" {
			v.errAt(blame, "give each component an account of its own", "component %s has the service account %s of component %s; who shares an account shares its rights",
				quote(e.key.Value), quote(c.ServiceAccount), quote(other))
		} else {
			accounts[c.Namespace+"/"+c.ServiceAccount] = e.key.Value
		}
		if c.Image == "" {
			continue
		}
		tag := e.field("version")
		if first, ok := versions[c.Image]; !ok {
			versions[c.Image] = e
		} else if other := v.p.Spec.Components[first.key.Value]; other.Version != c.Version {
			blame := tag.node
			if blame == nil {
				blame = e.key
			}
			v.errAt(blame, "platform.lock has one digest an image: give both the same version", "component %s wants version %s of the image of which component %s wants %s",
				quote(e.key.Value), quote(c.Version), quote(first.key.Value), quote(other.Version))
		}
	}
}

// ports checks that no two ports of one owner are the same.
func (v *validator) ports(c cursor) {
	type number struct {
		port     string
		protocol string
	}
	seen := map[number]*yaml.Node{}
	for _, e := range c.entries() {
		port, protocol := e.resolved(), "TCP"
		if port != nil && port.Kind == yaml.MappingNode {
			if p := e.field("protocol").resolved(); p != nil && p.Kind == yaml.ScalarNode {
				protocol = p.Value
			}
			port = e.field("port").resolved()
		}
		if port == nil || port.Kind != yaml.ScalarNode {
			continue
		}
		n := number{port.Value, protocol}
		if first := seen[n]; first != nil {
			v.errAt(e.key, "remove one of the two", "port %s is %s %s already (line %d)", quote(e.key.Value), protocol, port.Value, first.Line)
			continue
		}
		seen[n] = e.key
	}
}

func (v *validator) component(s, c cursor, name string, x *Component) {
	spec := &v.p.Spec
	ns := c.field("namespace")
	switch {
	case !ns.given() && x.Namespace == "" && len(spec.Namespaces) > 1:
		v.errAt(c.key, "one of: "+strings.Join(Sorted(spec.Namespaces), ", "), "missing field %q of %s", "namespace", c.path)
	case x.Namespace != "" && spec.Namespaces[x.Namespace] == nil && s.field("namespaces").isMapping():
		v.errorf(ns, orAdd(source.DidYouMean(x.Namespace, Sorted(spec.Namespaces)), "add it to namespaces"), "namespace %s is not declared", quote(x.Namespace))
	}
	v.imageOf(c.field("image"), x.Image)
	v.ports(c.field("ports"))
	v.user(c, x, spec.Namespaces[x.Namespace])
	v.volumes(c, x)
	if x.Kind == "DaemonSet" && c.field("replicas").given() {
		v.errAt(c.field("replicas").key, "remove it", "a DaemonSet has no replicas: it runs on every node")
	}
	if c.field("probe").given() && !hasTCP(x.Ports) {
		v.errorf(c.field("probe"), "declare the port that answers it", "probe %s, but component %s has no TCP port", quote(x.Probe), quote(name))
	}
	res := c.field("resources")
	if lo, err := resource.ParseQuantity(x.Resources.Memory); err == nil {
		if hi, err := resource.ParseQuantity(x.Resources.MemoryLimit); err == nil && lo.Cmp(hi) > 0 {
			at := res.field("memory")
			if !at.given() {
				at = res.field("memoryLimit")
			}
			v.errorf(at, "raise memoryLimit", "memory %s is over memoryLimit %s", x.Resources.Memory, x.Resources.MemoryLimit)
		}
	}
	for i, a := range x.MayAsk {
		v.ask(c.field("mayAsk").index(i), a)
	}
	for i, secret := range x.Secrets {
		v.secretExists(c.field("secrets").index(i), secret)
	}
	if x.Route != nil {
		v.route(s, c.field("route"), name, x)
	}
}

func orAdd(hint, other string) string {
	if hint == "" {
		return other
	}
	return hint
}

func hasTCP(ports map[string]*Port) bool {
	for _, p := range ports {
		if p.Protocol == "TCP" {
			return true
		}
	}
	return false
}

// imageOf checks that an image comes from where images may come from. How it is written is checked already, except that
// a tag or a digest deserves a better answer than a pattern.
func (v *validator) imageOf(c cursor, name string) {
	if name == "" || !c.given() {
		return
	}
	last := name[strings.LastIndexByte(name, '/')+1:]
	tagged := ""
	if strings.Contains(last, "@") {
		tagged = "a digest"
	} else if strings.Contains(last, ":") && strings.Contains(name, "/") {
		tagged = "a tag"
	}
	if tagged != "" {
		// Replace what the pattern said about the same place.
		pos := source.NodePos(v.file, c.node)
		v.errs = slices.DeleteFunc(v.errs, func(e *source.Error) bool { return e.Pos == pos && strings.HasPrefix(e.Msg, "image ") })
		v.errorf(c, "digests live in platform.lock; the tag to lock goes into version", "image %s has %s", quote(name), tagged)
		return
	}
	if why, _ := image.wrong(name); why != "" {
		return
	}
	for _, r := range v.p.Spec.Trust.Registries {
		if why, _ := registry.wrong(r); why != "" || strings.HasPrefix(name, r) { // of a bad registry nothing follows
			return
		}
	}
	v.errorf(c, "trust.registries has "+strings.Join(v.p.Spec.Trust.Registries, ", "), "image %s is in no trusted registry", quote(name))
}

func (v *validator) user(c cursor, x *Component, ns *Namespace) {
	if ns != nil && ns.PodSecurity == "privileged" {
		return
	}
	if u := c.field("user"); u.given() && x.User != nil && *x.User == 0 && isInt(u) {
		v.errorf(u, "name the image's own user, or leave it out for 65532; only a namespace with podSecurity: privileged may have root", "user 0 is root")
	}
	if g := c.field("group"); g.given() && x.Group != nil && *x.Group == 0 && isInt(g) {
		v.errorf(g, "leave it out to have the user's number", "group 0 is root's")
	}
}

func isInt(c cursor) bool {
	n := c.resolved()
	return n != nil && n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int"
}

// volumes checks that every path is one volume's, and that the kind of workload can keep what it stores.
func (v *validator) volumes(c cursor, x *Component) {
	if len(x.Storage) > 0 {
		at := c.field("storage").key
		switch {
		case x.Kind == "DaemonSet":
			v.errAt(at, "use a StatefulSet, or writes", "a DaemonSet has no storage of its own: its pods would share one claim")
		case x.Kind == "Deployment" && x.Replicas != nil && *x.Replicas > 1:
			v.errAt(at, "use kind: StatefulSet", "a Deployment of %d replicas shares one claim, and a second pod cannot mount it", *x.Replicas)
		}
	}
	type volume struct {
		path, what string
		at         *yaml.Node
	}
	var all []volume
	for _, e := range c.field("storage").entries() {
		all = append(all, volume{e.key.Value, "storage", e.key})
	}
	for i, p := range x.Writes {
		if e := c.field("writes").index(i); e.node != nil {
			all = append(all, volume{p, "writes", e.node})
		}
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.path == "" || b.path == "" || a.path == b.path && a.what == b.what { // told already
				continue
			}
			switch {
			case a.path == b.path:
				v.errAt(a.at, "remove one of the two", "%s %s is %s already (line %d)", a.what, quote(a.path), b.what, b.at.Line)
			case strings.HasPrefix(a.path, b.path+"/"):
				v.errAt(a.at, "remove it: what lies below is writable too", "%s %s lies in %s %s (line %d)", a.what, quote(a.path), b.what, quote(b.path), b.at.Line)
			case strings.HasPrefix(b.path, a.path+"/"):
				v.errAt(a.at, "remove one of the two", "%s %s holds %s %s (line %d)", a.what, quote(a.path), b.what, quote(b.path), b.at.Line)
			}
		}
	}
}

// coreResources are the namespaced resources of the core group, as the API server of DefaultKubernetes lists them.
var coreResources = []string{"bindings", "configmaps", "endpoints", "events", "limitranges", "persistentvolumeclaims", "pods", "podtemplates", "replicationcontrollers", "resourcequotas", "secrets", "serviceaccounts", "services"}

// clusterResources are those that no Role can grant.
var clusterResources = []string{"componentstatuses", "namespaces", "nodes", "persistentvolumes"}

func (v *validator) ask(c cursor, a *Ask) {
	res := c.field("resource")
	kind, sub, _ := strings.Cut(a.Resource, "/")
	if a.Group == "" && res.given() && apiResourceOK(a.Resource) {
		switch {
		case contains(clusterResources, kind):
			v.errorf(res, "a component's rights end at its namespace", "%s belong to the cluster", kind)
		case !contains(coreResources, kind):
			v.errorf(res, orAdd(source.DidYouMean(kind, coreResources), "name its API group in group"), "unknown resource %s of the core group", quote(kind))
		}
	}
	if kind == "secrets" && a.Group == "" && len(a.Names) == 0 {
		v.errorf(res, "add names: [...]", "the right to all Secrets of the namespace")
	}
	if len(a.Names) > 0 && sub == "" {
		for i, verb := range a.Verbs {
			if verb == "create" || verb == "deletecollection" {
				v.errorf(c.field("verbs").index(i), "make it an entry of its own, without names", "%s with names grants nothing: the API server does not know the name yet (RBAC, \"Referring to resources\")", verb)
			}
		}
	}
}

func apiResourceOK(s string) bool { why, _ := apiResource.wrong(s); return why == "" }

func (v *validator) secretExists(c cursor, name string) {
	var items []string
	at := cursor{node: v.root}.field("spec").field("secrets").field("items")
	if v.p.Spec.Secrets != nil {
		items = Sorted(v.p.Spec.Secrets.Items)
	}
	if name != "" && !contains(items, name) && at.isMapping() {
		v.errorf(c, orAdd(source.DidYouMean(name, items), "declare it in secrets.items"), "unknown secret %s", quote(name))
	}
}

func (v *validator) route(s, c cursor, name string, x *Component) {
	if p := c.field("port"); p.given() && x.Route.Port != "" {
		if port := x.Ports[x.Route.Port]; port == nil {
			v.errorf(p, orAdd(source.DidYouMean(x.Route.Port, Sorted(x.Ports)), "declare the component's ports"), "component %s has no port %s", quote(name), quote(x.Route.Port))
		} else if port.Protocol != "TCP" {
			v.errorf(p, "name a TCP port", "port %s is %s; a route carries HTTP", quote(x.Route.Port), port.Protocol)
		}
	}
	if r := x.Route.RateLimit; r.Burst > 0 && r.Burst < r.RequestsPerMinute/60 {
		v.errorf(c.field("rateLimit").field("burst"), "", "burst %d is below what requestsPerMinute allows in a second", r.Burst)
	}
	peers := Sorted(v.p.Spec.Peers)
	switch g := c.field("gateway"); {
	case g.given():
		if v.p.Spec.Peers[x.Route.Gateway] == nil && x.Route.Gateway != "" && s.field("peers").isMapping() {
			v.errorf(g, source.DidYouMean(x.Route.Gateway, peers), "unknown peer %s", quote(x.Route.Gateway))
		}
	case x.Route.Gateway == "" && s.field("peers").isMapping():
		if found := v.p.Spec.gateways(); len(found) > 1 {
			v.errAt(c.key, "add gateway: to the route", "which peer serves the route of %s: %s?", name, strings.Join(found, " or "))
		} else {
			v.errAt(c.key, "declare a peer named "+strings.Join(Gateways, ", ")+", or name yours with gateway", "no peer serves the route of %s", name)
		}
	}
	// Two routes of one host would answer for each other.
	for _, other := range Sorted(v.p.Spec.Components) {
		if other >= name {
			break
		}
		if o := v.p.Spec.Components[other].Route; o != nil && o.Host == x.Route.Host && o.Host != "" {
			v.errorf(c.field("host"), "give each route a host of its own", "host %s is the route of component %s already", quote(x.Route.Host), quote(other))
		}
	}
}

func (v *validator) secrets(c cursor) {
	x := v.p.Spec.Secrets
	if x == nil {
		return
	}
	if x.Store != nil && x.Store.Vault != nil {
		at := c.field("store").field("vault").field("peer")
		peer := v.p.Spec.Peers[x.Store.Vault.Peer]
		known := cursor{node: v.root}.field("spec").field("peers").isMapping()
		switch {
		case x.Store.Vault.Peer == "" || !known:
		case peer == nil:
			v.errorf(at, orAdd(source.DidYouMean(x.Store.Vault.Peer, Sorted(v.p.Spec.Peers)), "declare it in peers"), "unknown peer %s", quote(x.Store.Vault.Peer))
		case len(peer.Ports) == 0:
			v.errorf(at, "give the peer ports, such as {api: 8200}", "peer %s has no port, so nobody could reach the store", quote(x.Store.Vault.Peer))
		}
	}
	if x.Rotation != nil {
		overlap, e1 := time.ParseDuration(x.Rotation.Overlap)
		refresh, e2 := time.ParseDuration(x.Refresh)
		if e1 == nil && e2 == nil && overlap <= refresh {
			at := c.field("rotation").field("overlap")
			if !at.given() {
				at = c.field("refresh")
			}
			v.errorf(at, "make overlap longer than refresh and a rollout together", "overlap %s is not longer than refresh %s: pods would hold a password that no longer works", x.Rotation.Overlap, x.Refresh)
		}
	}
	for _, e := range c.field("items").entries() {
		item := x.Items[e.key.Value]
		if item == nil {
			continue
		}
		for _, t := range e.field("template").entries() {
			if n := t.resolved(); n != nil && n.Kind == yaml.ScalarNode {
				v.template(t, n.Value, item.Keys)
			}
		}
		if item.Rotates == nil || item.Rotates.Postgres == nil {
			continue
		}
		name := item.Rotates.Postgres.Component
		at := e.field("rotates").field("postgres").field("component")
		if v.componentExists(at, name) {
			if target := v.p.Spec.Components[name]; target.Runtime != "" && target.Runtime != "postgres" {
				v.errorf(at, "name the database's component", "component %s runs %s, not postgres", quote(name), target.Runtime)
			}
		}
	}
}

// componentExists reports whether there is such a component, and tells the user when not.
func (v *validator) componentExists(c cursor, name string) bool {
	if name == "" || !c.given() {
		return false
	}
	if v.p.Spec.Components[name] != nil {
		return true
	}
	if (cursor{node: v.root}).field("spec").field("components").isMapping() {
		v.errorf(c, source.DidYouMean(name, Sorted(v.p.Spec.Components)), "unknown component %s", quote(name))
	}
	return false
}

// template checks that a secret's template parses and uses only keys that the secret has. What its functions do is
// between the user and the secret operator, which has many.
func (v *validator) template(c cursor, text string, keys []string) {
	t := parse.New("template")
	t.Mode = parse.SkipFuncCheck
	trees := map[string]*parse.Tree{}
	if _, err := t.Parse(text, "", "", trees); err != nil {
		msg := err.Error()
		if i := strings.LastIndex(msg, "template:"); i >= 0 {
			if j := strings.Index(msg[i:], ": "); j >= 0 {
				msg = msg[i+j+2:]
			}
		}
		v.errorf(c, "write it as Go templates are written, such as {{ .password }}", "not a template: %s", msg)
		return
	}
	for _, name := range Sorted(trees) {
		for _, f := range templateFields(trees[name].Root, nil) {
			if !contains(keys, f) {
				v.errorf(c, source.DidYouMean(f, keys), "template uses %s, which is not among keys", quote(f))
			}
		}
	}
}

// templateFields lists the fields of the dot that a template reads. It stays out of range and with, which change what
// the dot is.
func templateFields(n parse.Node, out []string) []string {
	list := func(l *parse.ListNode) {
		if l != nil {
			for _, x := range l.Nodes {
				out = templateFields(x, out)
			}
		}
	}
	pipe := func(p *parse.PipeNode) {
		if p != nil {
			for _, cmd := range p.Cmds {
				for _, a := range cmd.Args {
					out = templateFields(a, out)
				}
			}
		}
	}
	switch x := n.(type) {
	case *parse.ListNode:
		list(x)
	case *parse.ActionNode:
		pipe(x.Pipe)
	case *parse.PipeNode:
		pipe(x)
	case *parse.IfNode:
		pipe(x.Pipe)
		list(x.List)
		list(x.ElseList)
	case *parse.RangeNode:
		pipe(x.Pipe)
	case *parse.WithNode:
		pipe(x.Pipe)
	case *parse.FieldNode:
		if len(x.Ident) > 0 && !slices.Contains(out, x.Ident[0]) {
			out = append(out, x.Ident[0])
		}
	}
	return out
}

func (v *validator) teams(c cursor) {
	groups := map[string]int{}
	for _, e := range c.entries() {
		if t := v.p.Spec.Teams[e.key.Value]; t != nil {
			v.once(groups, e.field("group"), t.Group)
		}
	}
}

func (v *validator) response(c cursor) {
	for i, r := range v.p.Spec.Response {
		at := c.index(i)
		for j, name := range r.When.Component {
			v.componentExists(at.field("when").field("component").index(j), name)
		}
		if t := slices.Index(r.Do, "terminate"); t >= 0 && !contains(r.Do[:t], "capture") {
			v.errorf(at.field("do").index(t), "put capture before it", "terminate destroys the evidence")
		}
	}
}

func (v *validator) exceptions(c cursor) {
	seen := map[string]int{}
	for i, e := range v.p.Spec.Exceptions {
		at := c.index(i)
		on := at.field("on")
		if name, ok := strings.CutPrefix(e.On, "component/"); ok && !strings.Contains(name, "*") {
			v.componentExists(on, name)
		}
		if on.given() && e.On != "" && strings.Trim(e.On, "*/ ") == "" {
			v.errorf(on, "name what it is about, such as component/web", "on %s would accept the finding everywhere", quote(e.On))
		}
		if key := e.Finding + "\x00" + e.On; at.given() && e.Finding != "" && e.On != "" {
			if line := seen[key]; line != 0 {
				v.errorf(at, "remove one of the two", "an exception for %s on %s stands on line %d already", quote(e.Finding), quote(e.On), line)
			} else {
				seen[key] = at.node.Line
			}
		}
	}
}
