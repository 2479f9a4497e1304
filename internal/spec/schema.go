package spec

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// SchemaID names the JSON Schema of this version of the spec.
const SchemaID = "https://bulwark.dev/schemas/platform.v1alpha1.json"

// object is a JSON object whose fields keep their order, so that people can read the schema from top to bottom.
type object []member

type member struct {
	key   string
	value any
}

// MarshalJSON writes the fields in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		k, err := marshal(m.key)
		if err != nil {
			return nil, err
		}
		v, err := marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(k)
		b.WriteByte(':')
		b.Write(v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// marshal leaves <, > and & as they are: patterns are read by people.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

func (o *object) add(key string, value any) { *o = append(*o, member{key, value}) }

// Schema gives the JSON Schema (draft 2020-12) of a Platform, made from the types and their rules. It knows all that a
// field can say by itself; that names exist, and that layers agree, only loading knows.
func Schema() []byte {
	s := schema{defs: map[string]object{}}
	root := s.structure(reflect.TypeFor[Platform]())
	out := object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"$id", SchemaID},
		{"title", "Bulwark Platform"},
	}
	out = append(out, root...)
	var defs object
	for _, name := range Sorted(s.defs) {
		defs.add(name, s.defs[name])
	}
	out.add("$defs", defs)
	raw, err := marshal(out)
	if err != nil {
		panic("spec: the schema does not marshal: " + err.Error()) // a mistake in this file, not of any input
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		panic("spec: the schema is not JSON: " + err.Error())
	}
	b.WriteByte('\n')
	return b.Bytes()
}

type schema struct{ defs map[string]object }

// ref gives a reference to a type's definition, which it makes once.
func (s *schema) ref(t reflect.Type) object {
	name := t.Name()
	if _, done := s.defs[name]; !done {
		s.defs[name] = nil // a type that holds itself would otherwise never end
		s.defs[name] = s.structure(t)
	}
	return object{{"$ref", "#/$defs/" + name}}
}

func (s *schema) structure(t reflect.Type) object {
	out := object{}
	if d := fieldDocs[t.Name()]; d != "" {
		out.add("description", d)
	}
	var props object
	var required []string
	for _, f := range fieldsOf(t) {
		id := t.Name() + "." + f.name
		r := rules[id]
		x := s.value(r, f.typ)
		if d := fieldDocs[id]; d != "" {
			x = append(object{{"description", described(d, r)}}, x...)
		}
		if v, ok := literal(r.byDefault, f.typ); ok {
			x.add("default", v)
		}
		// "name:" with nothing after it is as good as leaving the name out, where it may be left out.
		if !r.required {
			x = nullable(x)
		} else {
			required = append(required, f.name)
		}
		props.add(f.name, x)
	}
	out.add("type", "object")
	out.add("properties", props)
	if len(required) > 0 {
		out.add("required", required)
	}
	out.add("additionalProperties", false)
	switch t {
	case reflect.TypeFor[Signer]():
		out.add("oneOf", []object{{{"required", []string{"key"}}}, {{"required", []string{"keyless"}}}})
	case reflect.TypeFor[HTTPRule]():
		out.add("minProperties", 1)
	}
	return out
}

// described adds a default that is not a value, but words, to a description.
func described(doc string, r rule) string {
	if strings.HasPrefix(r.byDefault, "(") && !strings.Contains(doc, "efault") {
		return strings.TrimSuffix(doc, ".") + ". Default: " + strings.Trim(r.byDefault, "()") + "."
	}
	return doc
}

// literal gives a default that is a value.
func literal(text string, t reflect.Type) (any, bool) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if text == "" || strings.HasPrefix(text, "(") || strings.HasPrefix(text, `""`) {
		return nil, false
	}
	if t.Kind() == reflect.String {
		return text, true
	}
	var v any
	if json.Unmarshal([]byte(text), &v) == nil {
		return v, true
	}
	return nil, false
}

func nullable(x object) object {
	for i, m := range x {
		if m.key == "type" {
			out := append(object{}, x...)
			out[i].value = []any{m.value, "null"}
			for j := range out {
				if words, ok := out[j].value.([]string); ok && out[j].key == "enum" {
					out[j].value = append(anys(words), nil)
				}
			}
			return out
		}
	}
	var kept, alternatives object
	for _, m := range x {
		if m.key == "description" || m.key == "default" {
			kept = append(kept, m)
		} else {
			alternatives = append(alternatives, m)
		}
	}
	return append(kept, member{"anyOf", []object{alternatives, {{"type", "null"}}}})
}

func anys(words []string) []any {
	out := make([]any, len(words))
	for i, w := range words {
		out[i] = w
	}
	return out
}

// value gives the schema of a field's value.
func (s *schema) value(r rule, t reflect.Type) object {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[Port]():
		number := s.value(rules["Port.port"], reflect.TypeFor[int32]())
		return object{{"anyOf", []object{number, s.ref(t)}}}
	case t == reflect.TypeFor[Names]():
		one := s.value(rule{is: r.is, enum: r.enum}, reflect.TypeFor[string]())
		return object{{"anyOf", []object{one, s.value(r, reflect.TypeFor[[]string]())}}}
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.ref(t)
	case reflect.Map:
		out := object{{"type", "object"}}
		if r.keys != nil {
			out.add("propertyNames", pattern(r.keys))
		}
		elem := rule{is: r.is, enum: r.enum, empty: r.empty}
		x := s.value(elem, t.Elem())
		if structure := t.Elem(); structure.Kind() == reflect.Pointer && !s.needs(structure.Elem()) {
			x = nullable(x)
		}
		out.add("additionalProperties", x)
		if r.some {
			out.add("minProperties", 1)
		}
		return out
	case reflect.Slice:
		elem := r
		elem.some, elem.unique, elem.keys = false, false, nil
		out := object{{"type", "array"}, {"items", s.value(elem, t.Elem())}}
		if r.some {
			out.add("minItems", 1)
		}
		if r.unique {
			out.add("uniqueItems", true)
		}
		return out
	case reflect.Bool:
		return object{{"type", "boolean"}}
	case reflect.String:
		out := object{{"type", "string"}}
		switch {
		case r.enum != nil:
			out.add("enum", r.enum)
		case r.is != nil:
			out = append(out, pattern(r.is)...)
		case !r.empty:
			out.add("minLength", 1)
		}
		return out
	default:
		out := object{{"type", "integer"}}
		out.add("minimum", r.min)
		out.add("maximum", r.max)
		return out
	}
}

// needs reports whether a mapping of this type has a field that must be given.
func (s *schema) needs(t reflect.Type) bool {
	for _, f := range fieldsOf(t) {
		if rules[t.Name()+"."+f.name].required {
			return true
		}
	}
	return false
}

func pattern(f *format) object {
	out := object{{"pattern", f.pattern}}
	if f.maxLen > 0 {
		out.add("maxLength", f.maxLen)
	}
	if len(f.never) > 0 {
		out.add("not", object{{"enum", f.never}})
	}
	return out
}
