package spec

import (
	"reflect"

	"go.yaml.in/yaml/v3"

	"github.com/intelgraph/bulwark/internal/source"
)

// UnmarshalNode reads a list of names, or a single name.
func (x *Names) UnmarshalNode(d *source.Decoder, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		if n.ShortTag() == "!!null" {
			return
		}
		var one string
		d.Value(n, &one)
		*x = Names{one}
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.Errorf(n, "", "expected a name or a list of names, found %s", source.Describe(n))
		return
	}
	var many []string
	d.Value(n, &many)
	*x = many
}

// UnmarshalNode reads a port number, or a mapping with more to say.
func (x *Port) UnmarshalNode(d *source.Decoder, n *yaml.Node) {
	switch n.Kind {
	case yaml.ScalarNode:
		d.Value(n, &x.Port)
	case yaml.MappingNode:
		d.Struct(n, reflect.ValueOf(x).Elem())
	default:
		d.Errorf(n, "", "expected a port number or a mapping, found %s", source.Describe(n))
	}
}
