package spec

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/intelgraph/bulwark/internal/source"
)

// structure checks what is written against the rules of each field. The decoder has already told of unknown fields and
// wrong types, so what has a wrong type is passed over here.
func (v *validator) structure(c cursor, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	n := c.resolved()
	if n == nil || t.Kind() != reflect.Struct || v.depth > limits.Depth {
		return
	}
	v.depth++
	defer func() { v.depth-- }()
	if t == reflect.TypeFor[Port]() && n.Kind == yaml.ScalarNode {
		v.value("Port.port", rules["Port.port"], c, reflect.Int32)
		return
	}
	if n.Kind != yaml.MappingNode && c.given() {
		return
	}
	for _, f := range fieldsOf(t) {
		id := t.Name() + "." + f.name
		r := rules[id]
		x := c.field(f.name)
		if !x.given() {
			if r.required {
				v.missing(c, t, f.name)
			}
			continue
		}
		v.field(id, r, x, f.typ)
	}
}

// field checks one field that was given.
func (v *validator) field(id string, r rule, c cursor, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	n := c.resolved()
	switch t.Kind() {
	case reflect.Struct:
		v.structure(c, t)
	case reflect.Map:
		if n.Kind != yaml.MappingNode {
			return
		}
		if r.some && len(n.Content) == 0 {
			v.errorf(c, "", "%s is empty", c.name())
		}
		for _, e := range c.entries() {
			if r.keys != nil {
				if why, hint := r.keys.wrong(e.key.Value); why != "" {
					v.errAt(e.key, hint, "%s %s", quote(e.key.Value), why)
				}
			}
			v.field(id, r, e, t.Elem())
		}
	case reflect.Slice:
		v.list(id, r, c, t.Elem())
	default:
		v.value(id, r, c, t.Kind())
	}
}

// list checks a list, or a single name that stands for one.
func (v *validator) list(id string, r rule, c cursor, elem reflect.Type) {
	n := c.resolved()
	if n.Kind == yaml.ScalarNode {
		v.value(id, r, c, elem.Kind())
		return
	}
	if n.Kind != yaml.SequenceNode {
		return
	}
	if r.some && len(n.Content) == 0 {
		v.errorf(c, "", "%s is empty", c.name())
	}
	seen := map[string]int{}
	for i, x := range n.Content {
		e := c.index(i)
		if !e.given() {
			v.errAt(x, "remove it", "an empty entry in %s", c.name())
			continue
		}
		v.field(id, r, e, elem)
		if s := e.resolved(); r.unique && s.Kind == yaml.ScalarNode {
			if first := seen[s.Value]; first != 0 {
				v.errAt(x, "remove one of the two", "%s is listed twice (first on line %d)", quote(s.Value), first)
				continue
			}
			seen[s.Value] = x.Line
		}
	}
}

// value checks a scalar of the right type.
func (v *validator) value(id string, r rule, c cursor, kind reflect.Kind) {
	n := c.resolved()
	if n.Kind != yaml.ScalarNode {
		return
	}
	switch kind {
	case reflect.String:
		if tag := n.ShortTag(); tag != "!!str" && tag != "!!timestamp" {
			return
		}
		v.text(id, r, c, n.Value)
	case reflect.Int, reflect.Int32, reflect.Int64:
		var i int64
		if n.ShortTag() != "!!int" || n.Decode(&i) != nil {
			return
		}
		if i < r.min || i > r.max {
			v.errorf(c, "", "%s is %d; it must be from %d to %d", c.name(), i, r.min, r.max)
		}
	}
}

func (v *validator) text(id string, r rule, c cursor, s string) {
	if s == "" {
		hint := "leave the field out for its default"
		if r.required {
			hint = ""
		}
		if !r.empty {
			v.errorf(c, hint, "%s is empty", c.name())
		}
		return
	}
	if why, ok := refused[id][s]; ok {
		v.errorf(c, "", "%s %s is refused: it %s", c.name(), quote(s), why)
		return
	}
	if r.enum != nil {
		if !contains(r.enum, s) {
			v.errorf(c, source.DidYouMean(s, r.enum), "unknown %s %s", c.name(), quote(s))
		}
		return
	}
	if r.is != nil {
		if why, hint := r.is.wrong(s); why != "" {
			v.errorf(c, hint, "%s %s %s", c.name(), quote(s), why)
		}
	}
}

// missing reports a required field, unless the decoder has told of a misspelt one that is meant.
func (v *validator) missing(c cursor, t reflect.Type, name string) {
	hint := fmt.Sprintf("did you mean %q?", name)
	if k := c.misspelt(name); k != nil {
		for _, e := range v.errs {
			if e.Pos == source.NodePos(v.file, k) && e.Hint == hint {
				return
			}
		}
	}
	at := c.at()
	// A list's element or the whole document has no key of its own; a mapping's value is best named by its key.
	if c.key != nil {
		at = c.key
	}
	of := c.path
	if of == "" {
		of = "the Platform"
	}
	v.errAt(at, "", "missing field %q of %s", name, of)
}

func (v *validator) errorf(c cursor, hint, format string, args ...any) {
	v.errAt(c.at(), hint, format, args...)
}

func (v *validator) errAt(n *yaml.Node, hint, format string, args ...any) {
	if n == nil {
		n = v.root
	}
	v.errs = append(v.errs, &source.Error{Pos: source.NodePos(v.file, n), Msg: fmt.Sprintf(format, args...), Hint: hint})
}

// oneOf gives the word for one of what a field lists, where the field's name is not that word.
var oneOf = map[string]string{
	"attestations": "attestation", "audiences": "audience", "audit": "engine", "cidrs": "network", "compliance": "standard",
	"do": "action", "flows": "flow", "has": "feature", "keys": "key", "methods": "method", "names": "name",
	"origins": "origin", "paths": "path", "ports": "port", "processes": "process", "registries": "registry", "rules": "rule",
	"secrets": "secret", "verbs": "verb", "writes": "path", "add": "system call", "headers": "header", "labels": "label",
}

// name is what messages call the value: its field, or one of what the list or mapping holds that it stands in.
func (c cursor) name() string {
	if c.label != "" {
		return c.label
	}
	p := c.path
	for strings.HasSuffix(p, "]") {
		p = p[:strings.LastIndexByte(p, '[')]
	}
	field := p[strings.LastIndexByte(p, '.')+1:]
	if one := oneOf[field]; one != "" && strings.HasSuffix(c.path, "]") {
		return one
	}
	return field
}

// entries gives the values of a mapping, those of merged mappings too, in the order of the text.
func (c cursor) entries() []cursor {
	var out []cursor
	seen := map[string]bool{}
	var add func(n *yaml.Node, depth int)
	add = func(n *yaml.Node, depth int) {
		if n == nil || depth > 8 {
			return
		}
		switch n.Kind {
		case yaml.AliasNode:
			add(n.Alias, depth+1)
		case yaml.SequenceNode:
			for _, x := range n.Content {
				add(x, depth+1)
			}
		case yaml.MappingNode:
			var merged *yaml.Node
			for i := 0; i+1 < len(n.Content); i += 2 {
				k, x := n.Content[i], n.Content[i+1]
				if k.Tag == "!!merge" {
					merged = x
				} else if k.Kind == yaml.ScalarNode && !seen[k.Value] {
					seen[k.Value] = true
					out = append(out, cursor{node: x, key: k, path: join(c.path, k.Value), label: cmp.Or(oneOf[c.name()], c.name())})
				}
			}
			add(merged, depth+1)
		}
	}
	if n := c.resolved(); n != nil && n.Kind == yaml.MappingNode {
		add(n, 0)
	}
	return out
}

// typeField is a field of a spec's struct as it is written.
type typeField struct {
	name string
	typ  reflect.Type
}

// fieldsOf lists the fields that a person may write, in the order of the source.
func fieldsOf(t reflect.Type) []typeField {
	var out []typeField
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() && name != "-" && name != "" {
			out = append(out, typeField{name, f.Type})
		}
	}
	return out
}
