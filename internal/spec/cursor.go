package spec

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/intelgraph/bulwark/internal/source"
)

// cursor is a place in the spec's document: a value, the key under which it stands, and its field path. The zero value
// of node says that nothing was written there; key then is the nearest node that was, so that an error has a place.
type cursor struct {
	node, key *yaml.Node
	path      string
	// label is what messages call the value where the last part of the path is a name of the user's.
	label string
}

// given reports whether a value was written; "name:" with nothing after it was not.
func (c cursor) given() bool {
	return c.node != nil && (c.node.Kind != yaml.ScalarNode || c.node.ShortTag() != "!!null")
}

// at is the node to blame: the value, or what is nearest to it.
func (c cursor) at() *yaml.Node {
	if c.node != nil {
		return c.node
	}
	return c.key
}

func (c cursor) resolved() *yaml.Node {
	// An alias to an alias cannot be written; the count only guards against trees that no parser made.
	n := c.node
	for i := 0; n != nil && n.Kind == yaml.AliasNode && i < 8; i++ {
		n = n.Alias
	}
	return n
}

// field gives the value of a key, or a cursor without a node.
func (c cursor) field(name string) cursor {
	out := cursor{key: c.at(), path: join(c.path, name)}
	if k, v := lookup(c.resolved(), name, 0); v != nil {
		out.key, out.node = k, v
	}
	return out
}

// lookup finds a key of a mapping, through merge keys.
func lookup(n *yaml.Node, name string, depth int) (k, v *yaml.Node) {
	if n == nil || depth > 8 {
		return nil, nil
	}
	if n.Kind == yaml.AliasNode {
		return lookup(n.Alias, name, depth+1)
	}
	if n.Kind == yaml.SequenceNode && depth > 0 { // "<<: [*a, *b]"
		for _, x := range n.Content {
			if k, v := lookup(x, name, depth+1); v != nil {
				return k, v
			}
		}
		return nil, nil
	}
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	var merged *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch key := n.Content[i]; {
		case key.Tag == "!!merge":
			merged = n.Content[i+1]
		case key.Kind == yaml.ScalarNode && key.Value == name:
			return key, n.Content[i+1]
		}
	}
	return lookup(merged, name, depth+1)
}

// index gives an element of a list.
func (c cursor) index(i int) cursor {
	out := cursor{key: c.at(), path: c.path + "[" + strconv.Itoa(i) + "]", label: c.label}
	if n := c.resolved(); n != nil && n.Kind == yaml.SequenceNode && i < len(n.Content) {
		out.node, out.key = n.Content[i], n.Content[i]
	} else if n != nil && n.Kind == yaml.ScalarNode && i == 0 { // a list written as a single name
		out.node = n
	}
	return out
}

// misspelt gives the key of a mapping that was probably meant to be name, or nil.
func (c cursor) misspelt(name string) *yaml.Node {
	n := c.resolved()
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := n.Content[i]; k.Kind == yaml.ScalarNode && k.Value != "" && source.DidYouMean(k.Value, []string{name}) == `did you mean "`+name+`"?` {
			return k
		}
	}
	return nil
}

// join appends a name to a field path; a name that is not plain is bracketed, as source.Tree reads it.
func join(path, name string) string {
	if strings.ContainsAny(name, ".[]") {
		return path + `["` + name + `"]`
	}
	if path == "" {
		return name
	}
	return path + "." + name
}
