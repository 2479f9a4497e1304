package spec

import (
	"reflect"

	"go.yaml.in/yaml/v3"

	"github.com/intelgraph/bulwark/internal/source"
)

// ParseExceptions reads a file that holds a list of exceptions, as strictly as those in a spec are read. An empty file
// is an empty list.
func ParseExceptions(file string, data []byte) ([]*Exception, error) {
	if len(source.Split(file, data)) == 0 {
		return nil, nil
	}
	root, bad := document(file, data)
	if bad != nil {
		return nil, source.Errors{bad}
	}
	if root.Kind != yaml.SequenceNode {
		return nil, source.Errors{{Pos: source.NodePos(file, root), Msg: "expected a list of exceptions, found " + source.Describe(root), Hint: "begin each with a dash: - finding: …"}}
	}
	var out []*Exception
	v := &validator{p: &Platform{File: file}, file: file, root: root, errs: source.Decode(file, root, &out)}
	v.list("Spec.exceptions", rules["Spec.exceptions"], cursor{node: root, key: root}, reflect.TypeFor[Exception]())
	if len(v.errs) > 0 {
		return nil, sorted(v.errs)
	}
	return out, nil
}
