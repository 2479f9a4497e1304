package collect

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"go.yaml.in/yaml/v3"

	"github.com/intelgraph/bulwark/internal/cluster"
	"github.com/intelgraph/bulwark/internal/source"
)

// decoder turns texts into objects. It belongs to one goroutine.
type decoder struct {
	limits source.Limits
	parser source.Parser
}

func newDecoder(limits source.Limits) *decoder { return &decoder{limits: limits} }

// text decodes every document of a text. A bad document costs only itself.
func (d *decoder) text(t text) result {
	var r result
	docs := source.Split(t.file, t.data)
	for _, doc := range docs {
		doc.Line += t.line - 1
		n, err := d.parser.Parse(doc, d.limits)
		if err != nil {
			r.not = append(r.not, refusal(t.file, err))
			continue
		}
		d.document(t, n, &r)
	}
	if t.named && t.line == 1 && len(docs) == 0 {
		r.not = append(r.not, notJudged(t.file, source.Pos{File: t.file}, "empty: no YAML document in it"))
	}
	t.relocate(&r)
	return r
}

// relocate moves all places from a rendered text to the file that it came from.
func (t text) relocate(r *result) {
	if t.lines != nil {
		for i := range r.not {
			r.not[i].Line = t.lines(r.not[i].Line)
		}
		for _, o := range r.objects {
			o.Rendered = true
			o.At.Line = t.lines(o.At.Line)
			o.Tree = o.Tree.Move(t.lines)
			for _, p := range o.Problems {
				p.Pos.Line, p.Pos.Column = t.lines(p.Pos.Line), 0
			}
		}
	}
	if t.place != nil {
		for _, o := range r.objects {
			t.place(o)
		}
	}
}

// document appends the object of a document, or the objects of a List.
func (d *decoder) document(t text, n *yaml.Node, r *result) {
	at := source.NodePos(t.file, n)
	apiVersion, kind := typeOf(n)
	if reason := foreign(n, apiVersion, kind); reason != "" {
		// A walk over a folder meets files that are none of our business; a file that the user named is.
		if t.named || (n.Kind == yaml.MappingNode && (apiVersion == "") != (kind == "") && looksLikeObject(n)) {
			r.not = append(r.not, notJudged(t.file, at, reason))
		}
		return
	}
	if strings.HasSuffix(kind, "List") {
		if items := value(n, "items"); items != nil && items.Kind == yaml.SequenceNode {
			for i, item := range items.Content {
				if item.Kind == yaml.AliasNode {
					item = item.Alias
				}
				a, k := typeOf(item)
				if a == "" && k == "" && kind != "List" { // PodList's items carry no type of their own
					a, k = apiVersion, strings.TrimSuffix(kind, "List")
				}
				if reason := foreign(item, a, k); reason != "" {
					r.not = append(r.not, notJudged(fmt.Sprintf("%s, items[%d]", t.file, i), source.NodePos(t.file, item), reason))
					continue
				}
				r.objects = append(r.objects, object(t.file, item, a, k))
			}
			return
		}
		if kind == "List" {
			return // an empty list
		}
	}
	r.objects = append(r.objects, object(t.file, n, apiVersion, kind))
}

// Decode turns one document's node into an object, whatever its kind. File is for messages.
func object(file string, n *yaml.Node, apiVersion, kind string) *cluster.Object {
	o := &cluster.Object{APIVersion: apiVersion, Kind: kind, At: source.NodePos(file, n), Tree: source.NewTree(file, n)}
	o.At.Column = 0
	d := &source.Decoder{File: file, YAML11: true}
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		d.Errorf(n, `write it as "group/version"`, "apiVersion %q is not one", apiVersion)
	}
	if typed := newTyped(gv.WithKind(kind)); typed != nil && err == nil {
		d.Value(n, typed)
		typed = modern(typed)
		o.Typed = typed
		o.Meta = metaOf(typed)
	} else {
		content, _ := d.Any(n).(map[string]any)
		o.Content = content
		o.Meta = &metav1.ObjectMeta{}
		if m := value(n, "metadata"); m != nil {
			d.Value(m, o.Meta)
		}
	}
	if o.Meta.Name == "" && o.Meta.GenerateName == "" && gv.Group != "authorization.k8s.io" && gv.Group != "authentication.k8s.io" {
		d.Errorf(n, "give it a metadata.name", "%s has no name", kind)
	}
	o.Problems = d.Errs
	return o
}

func metaOf(o runtime.Object) *metav1.ObjectMeta {
	m, _ := o.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta)
	if m == nil {
		m = &metav1.ObjectMeta{}
	}
	return m
}

// typeOf gives a mapping's apiVersion and kind, "" where it has none.
func typeOf(n *yaml.Node) (apiVersion, kind string) {
	return text1(value(n, "apiVersion")), text1(value(n, "kind"))
}

func text1(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		return ""
	}
	return n.Value
}

// value gives a mapping's value at a key, aliases resolved, or nil.
func value(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key && n.Content[i].Kind == yaml.ScalarNode {
			v := n.Content[i+1]
			if v.Kind == yaml.AliasNode {
				v = v.Alias
			}
			return v
		}
	}
	return nil
}

// looksLikeObject tells a broken manifest from YAML of some other kind that happens to have a field "kind".
func looksLikeObject(n *yaml.Node) bool {
	m := value(n, "metadata")
	return m != nil && m.Kind == yaml.MappingNode && value(m, "name") != nil
}

// foreign says why a document is not a Kubernetes object, or "".
func foreign(n *yaml.Node, apiVersion, kind string) string {
	group, _, _ := strings.Cut(apiVersion, "/")
	switch {
	case n.Kind != yaml.MappingNode:
		return "not a Kubernetes object: " + source.Describe(n) + " where a mapping with apiVersion and kind is needed"
	case apiVersion == "" && kind == "":
		return "not a Kubernetes object: it has no apiVersion and no kind"
	case apiVersion == "":
		return fmt.Sprintf("this %s has no apiVersion; add it", kind)
	case kind == "":
		return fmt.Sprintf("this object of %s has no kind; add it", apiVersion)
	case group == "bulwark.dev" && kind == "Platform":
		return "this is a Platform spec; name it with -f"
	case group == "kustomize.config.k8s.io":
		return "this is a kustomization; name its folder"
	case apiVersion == "v1" && kind == "Config":
		return "this is a kubeconfig; use it with --kubeconfig"
	}
	return ""
}
