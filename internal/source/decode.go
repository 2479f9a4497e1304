package source

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// NodeUnmarshaler is implemented by types that a person may write in more than one form, such as a port that is a
// number or a mapping. UnmarshalNode reports what is wrong through d and never panics.
type NodeUnmarshaler interface {
	UnmarshalNode(d *Decoder, n *yaml.Node)
}

// Decoder decodes nodes into Go values by their json tags and collects every error it meets, not only the first.
//
// Strict about: unknown fields, repeated keys, wrong types. A struct field "At source.Pos" tagged `json:"-"` receives the
// place of the struct's node.
type Decoder struct {
	File string
	// YAML11 reads plain yes, no, on and off (and y and n) as true and false, as Kubernetes' own tools do; else they are
	// text.
	YAML11 bool
	Errs   Errors
	active map[*yaml.Node]bool
}

// Decode decodes one node into the value that into points to and returns all errors found.
func Decode(file string, n *yaml.Node, into any) Errors {
	d := &Decoder{File: file}
	d.Value(n, into)
	return d.Errs
}

// Value decodes n into the value that into points to.
func (d *Decoder) Value(n *yaml.Node, into any) {
	v := reflect.ValueOf(into).Elem()
	d.value(n, v, planOf(v.Type()))
}

// Errorf records an error at a node.
func (d *Decoder) Errorf(n *yaml.Node, hint, format string, args ...any) {
	d.Errs = append(d.Errs, &Error{Pos: NodePos(d.File, n), Msg: fmt.Sprintf(format, args...), Hint: hint})
}

// Describe names the kind of a node for an error message: "a mapping", "a list", "text", "a number" ….
func Describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return Describe(n.Alias)
	}
	switch tagOf(n) {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "a number"
	}
	return "text"
}

var (
	nodeUnmarshaler = reflect.TypeFor[NodeUnmarshaler]()
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	posType         = reflect.TypeFor[Pos]()
	textMap         = reflect.TypeFor[map[string]string]()
)

// tagOf is n.ShortTag, which the parser has resolved already for nearly all nodes.
func tagOf(n *yaml.Node) string {
	if len(n.Tag) > 2 && n.Tag[:2] == "!!" {
		return n.Tag
	}
	return n.ShortTag()
}

func (d *Decoder) value(n *yaml.Node, v reflect.Value, p *plan) {
	if n.Kind == yaml.AliasNode {
		if d.active[n.Alias] {
			d.Errorf(n, "", "an alias contains itself")
			return
		}
		if d.active == nil {
			d.active = map[*yaml.Node]bool{}
		}
		d.active[n.Alias] = true
		d.value(n.Alias, v, p)
		delete(d.active, n.Alias)
		return
	}
	null := n.Kind == yaml.ScalarNode && tagOf(n) == "!!null"
	if p.kind == reflect.Pointer {
		if null {
			v.SetZero()
			return
		}
		if v.IsNil() {
			v.Set(reflect.New(p.elem.typ))
		}
		d.value(n, v.Elem(), p.elem)
		return
	}
	if p.byNode && v.CanAddr() {
		d.stamp(n, v, p)
		v.Addr().Interface().(NodeUnmarshaler).UnmarshalNode(d, n)
		return
	}
	if p.byJSON && v.CanAddr() {
		d.viaJSON(n, v)
		return
	}
	if null {
		return
	}
	switch p.kind {
	case reflect.Struct:
		d.structure(n, v, p)
	case reflect.Map:
		d.mapping(n, v, p)
	case reflect.Slice:
		d.sequence(n, v, p)
	case reflect.Interface:
		if x := d.Any(n); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		d.scalar(n, v)
	}
}

func (d *Decoder) stamp(n *yaml.Node, v reflect.Value, p *plan) {
	if p.at != nil {
		v.FieldByIndex(p.at).Set(reflect.ValueOf(NodePos(d.File, n)))
	}
}

// Struct decodes a mapping into a struct by the struct's json tags, ignoring a NodeUnmarshaler on the struct itself, so
// that an UnmarshalNode can fall back to the ordinary form.
func (d *Decoder) Struct(n *yaml.Node, v reflect.Value) { d.structure(n, v, planOf(v.Type())) }

func (d *Decoder) structure(n *yaml.Node, v reflect.Value, p *plan) {
	if n.Kind != yaml.MappingNode {
		d.Errorf(n, "", "expected a mapping, found %s", Describe(n))
		return
	}
	d.stamp(n, v, p)
	d.pairs(n, func(k, val *yaml.Node) {
		f, ok := p.fields[k.Value]
		if !ok {
			d.Errorf(k, DidYouMean(k.Value, p.names), "unknown field %q", k.Value)
			return
		}
		x := v
		for _, i := range f.index {
			x = x.Field(i)
		}
		d.value(val, x, f.plan)
	})
}

// pairs calls f for each key and value of a mapping, merge keys ("<<") resolved, and reports repeated keys.
func (d *Decoder) pairs(n *yaml.Node, f func(k, v *yaml.Node)) {
	var seen map[string]int
	small := len(n.Content) <= 32
	if !small {
		seen = make(map[string]int, len(n.Content)/2)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			d.Errorf(k, templateHint(n), "a key must be text, found %s", Describe(k))
			continue
		}
		if k.Tag == "!!merge" {
			d.merge(n, n.Content[i+1], f)
			continue
		}
		prev := 0
		if small {
			for j := 0; j < i; j += 2 {
				if o := n.Content[j]; o.Kind == yaml.ScalarNode && o.Value == k.Value && o.Tag != "!!merge" {
					prev = o.Line
					break
				}
			}
		} else if prev = seen[k.Value]; prev == 0 {
			seen[k.Value] = k.Line
		}
		if prev != 0 {
			d.Errorf(k, "remove one of the two", "repeated field %q (first on line %d)", k.Value, prev)
			continue
		}
		f(k, n.Content[i+1])
	}
}

func (d *Decoder) merge(into, from *yaml.Node, f func(k, v *yaml.Node)) {
	if from.Kind == yaml.AliasNode {
		from = from.Alias
	}
	switch from.Kind {
	case yaml.SequenceNode:
		for _, x := range from.Content {
			d.merge(into, x, f)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(from.Content); i += 2 {
			k := from.Content[i]
			own := false
			for j := 0; j+1 < len(into.Content); j += 2 {
				own = own || into.Content[j].Value == k.Value
			}
			if !own && k.Kind == yaml.ScalarNode {
				f(k, from.Content[i+1])
			}
		}
	default:
		d.Errorf(from, "", "a merge key needs a mapping, found %s", Describe(from))
	}
}

func (d *Decoder) mapping(n *yaml.Node, v reflect.Value, p *plan) {
	if n.Kind != yaml.MappingNode {
		d.Errorf(n, "", "expected a mapping, found %s", Describe(n))
		return
	}
	t := p.typ
	if t.Key().Kind() != reflect.String {
		d.Errorf(n, "", "cannot decode into %s", t)
		return
	}
	if t == textMap && v.CanAddr() { // labels, annotations, data
		m := make(map[string]string, len(n.Content)/2)
		d.pairs(n, func(k, val *yaml.Node) {
			var s string
			switch {
			case val.Kind == yaml.ScalarNode && tagOf(val) == "!!str" && !d.isWord(val):
				s = val.Value
			default:
				d.value(val, reflect.ValueOf(&s).Elem(), p.elem)
			}
			m[d.keyOf(k)] = s
		})
		*v.Addr().Interface().(*map[string]string) = m
		return
	}
	m := reflect.MakeMapWithSize(t, len(n.Content)/2)
	d.pairs(n, func(k, val *yaml.Node) {
		e := reflect.New(p.elem.typ).Elem()
		d.value(val, e, p.elem)
		// A mapping entry that is empty ("name:") still exists; give pointers a value so that users need no nil checks.
		if p.elem.kind == reflect.Pointer && e.IsNil() {
			e.Set(reflect.New(p.elem.elem.typ))
			d.stamp(k, e.Elem(), p.elem.elem)
		}
		m.SetMapIndex(reflect.ValueOf(d.keyOf(k)).Convert(t.Key()), e)
	})
	v.Set(m)
}

func (d *Decoder) sequence(n *yaml.Node, v reflect.Value, p *plan) {
	if p.elem.kind == reflect.Uint8 {
		d.viaJSON(n, v)
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.Errorf(n, "", "expected a list, found %s", Describe(n))
		return
	}
	s := reflect.MakeSlice(p.typ, len(n.Content), len(n.Content))
	for i, x := range n.Content {
		d.value(x, s.Index(i), p.elem)
	}
	v.Set(s)
}

// word gives the truth of a plain scalar that YAML 1.1 takes for true or false and YAML 1.2 for text.
func word(v string) (truth, is bool) {
	if len(v) > 3 || len(v) == 0 {
		return false, false
	}
	switch v {
	case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON":
		return true, true
	case "n", "N", "no", "No", "NO", "off", "Off", "OFF":
		return false, true
	}
	return false, false
}

const quotedStyles = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle

// isWord reports whether a scalar is true or false to this decoder though the parser took it for text.
func (d *Decoder) isWord(n *yaml.Node) bool {
	if !d.YAML11 || n.Style&quotedStyles != 0 {
		return false
	}
	_, is := word(n.Value)
	return is
}

// keyOf gives a key as JSON has it: the key "on" is true to YAML 1.1, and "true" to JSON.
func (d *Decoder) keyOf(k *yaml.Node) string {
	if d.YAML11 && len(k.Value) <= 3 && k.Style&quotedStyles == 0 {
		if truth, is := word(k.Value); is {
			return strconv.FormatBool(truth)
		}
	}
	return k.Value
}

func (d *Decoder) scalar(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.Errorf(n, templateHint(n), "expected %s, found %s", wanted(v.Kind()), Describe(n))
		return
	}
	tag := tagOf(n)
	switch v.Kind() {
	case reflect.String:
		if tag != "!!str" && tag != "!!timestamp" {
			d.Errorf(n, fmt.Sprintf("quote it: %q", n.Value), "expected text, found %s", Describe(n))
			return
		}
		if d.isWord(n) {
			d.Errorf(n, fmt.Sprintf("quote it: %q", n.Value), "expected text, found true or false, which is what a bare %s means", n.Value)
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		if d.isWord(n) {
			truth, _ := word(n.Value)
			v.SetBool(truth)
			return
		}
		b, err := strconv.ParseBool(strings.ToLower(n.Value))
		if tag != "!!bool" || err != nil {
			d.Errorf(n, "", "expected true or false, found %s", Describe(n))
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, ok := whole(n, tag)
		if !ok && d.YAML11 && tag == "!!float" {
			// JSON does not tell 1e3, 1.0 or 08 from a whole number.
			var x float64
			if n.Decode(&x) == nil && x == float64(int64(x)) && x > -1<<53 && x < 1<<53 {
				i, ok = int64(x), true
			}
		}
		if !ok {
			d.Errorf(n, "", "expected a whole number, found %s", Describe(n))
			return
		}
		if v.OverflowInt(i) {
			d.Errorf(n, "", "%s is too large a number here", n.Value)
			return
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		var u uint64
		if tag != "!!int" || n.Decode(&u) != nil || v.OverflowUint(u) {
			d.Errorf(n, "", "expected a whole number that is not negative, found %s", Describe(n))
			return
		}
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		var x float64
		if (tag != "!!float" && tag != "!!int") || n.Decode(&x) != nil {
			d.Errorf(n, "", "expected a number, found %s", Describe(n))
			return
		}
		v.SetFloat(x)
	default:
		d.Errorf(n, "", "cannot decode into %s", v.Type())
	}
}

// whole reads an int as the library does, and faster where it is written in the usual way.
func whole(n *yaml.Node, tag string) (int64, bool) {
	if tag != "!!int" {
		return 0, false
	}
	if v := n.Value; len(v) > 0 && len(v) < 18 && (v[0] != '0' || len(v) == 1) {
		i := int64(0)
		for k := 0; ; k++ {
			if k == len(v) {
				return i, true
			}
			if v[k] < '0' || v[k] > '9' {
				break
			}
			i = i*10 + int64(v[k]-'0')
		}
	}
	var i int64
	return i, n.Decode(&i) == nil
}

// templateHint knows "{{ .Values.name }}", which YAML takes for a mapping with a mapping as its key.
func templateHint(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0 && len(n.Content) > 0 && n.Content[0].Kind == yaml.MappingNode {
		return "{{ … }} is a template's; render it first"
	}
	return ""
}

func wanted(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	}
	return "a number"
}

// viaJSON serves types with their own JSON form: quantities, times, int-or-string.
func (d *Decoder) viaJSON(n *yaml.Node, v reflect.Value) {
	b, ok := d.scalarJSON(n)
	var err error
	if !ok {
		b, err = json.Marshal(d.Any(n))
	}
	if err == nil {
		if u, own := v.Addr().Interface().(json.Unmarshaler); own && ok {
			err = u.UnmarshalJSON(b)
		} else {
			err = json.Unmarshal(b, v.Addr().Interface())
		}
	}
	if err != nil {
		d.Errorf(n, "", "%s: %s", v.Type().Name(), strings.TrimPrefix(err.Error(), "json: "))
	}
}

// scalarJSON writes a scalar as JSON where that needs no thought.
func (d *Decoder) scalarJSON(n *yaml.Node) ([]byte, bool) {
	if n.Kind != yaml.ScalarNode {
		return nil, false
	}
	v := n.Value
	switch tagOf(n) {
	case "!!str":
		if d.isWord(n) {
			return nil, false
		}
		for i := 0; i < len(v); i++ {
			if c := v[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
				return nil, false
			}
		}
		b := make([]byte, 0, len(v)+2)
		b = append(b, '"')
		b = append(b, v...)
		return append(b, '"'), true
	case "!!int":
		for i := 0; i < len(v); i++ {
			if v[i] < '0' || v[i] > '9' || v[0] == '0' && len(v) > 1 || len(v) > 17 {
				return nil, false
			}
		}
		return []byte(v), true
	}
	return nil, false
}

// Any gives the node as map[string]any, []any, string, bool, int64, float64 or nil: the shapes that encoding/json and
// unstructured.Unstructured know.
func (d *Decoder) Any(n *yaml.Node) any {
	switch n.Kind {
	case yaml.AliasNode:
		return d.Any(n.Alias)
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		d.pairs(n, func(k, v *yaml.Node) { m[d.keyOf(k)] = d.Any(v) })
		return m
	case yaml.SequenceNode:
		s := make([]any, len(n.Content))
		for i, x := range n.Content {
			s[i] = d.Any(x)
		}
		return s
	}
	switch tag := tagOf(n); tag {
	case "!!null":
		return nil
	case "!!str":
		if d.isWord(n) {
			truth, _ := word(n.Value)
			return truth
		}
	case "!!bool":
		b, _ := strconv.ParseBool(strings.ToLower(n.Value))
		return b
	case "!!int":
		if i, ok := whole(n, tag); ok {
			return i
		}
		var f float64
		if n.Decode(&f) == nil {
			return f
		}
	case "!!float":
		var f float64
		if n.Decode(&f) == nil {
			return f
		}
	}
	return n.Value
}

// plan is what the decoder knows of a type.
type plan struct {
	typ            reflect.Type
	kind           reflect.Kind
	byNode, byJSON bool
	// elem is the plan of what a pointer, slice or map holds.
	elem *plan
	// fields, by JSON name; names are sorted, for messages.
	fields map[string]*field
	names  []string
	// at is the index of the field At, which receives the place.
	at []int
}

type field struct {
	index []int
	plan  *plan
}

var plans sync.Map // reflect.Type → *plan; a pure function of the type

func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	// A type may contain itself, so the plan is complete only when all that it reaches are: build them together.
	building := map[reflect.Type]*plan{}
	p := build(t, building)
	for t, p := range building {
		plans.LoadOrStore(t, p)
	}
	return p
}

func build(t reflect.Type, building map[reflect.Type]*plan) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	if p, ok := building[t]; ok {
		return p
	}
	p := &plan{typ: t, kind: t.Kind(), byNode: reflect.PointerTo(t).Implements(nodeUnmarshaler)}
	p.byJSON = !p.byNode && reflect.PointerTo(t).Implements(jsonUnmarshaler)
	building[t] = p
	switch p.kind {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		p.elem = build(t.Elem(), building)
	case reflect.Struct:
		if f, ok := t.FieldByName("At"); ok && f.Type == posType {
			p.at = f.Index
		}
		p.fields = map[string]*field{}
		var add func(t reflect.Type, at []int)
		add = func(t reflect.Type, at []int) {
			for i := range t.NumField() {
				sf := t.Field(i)
				name, opts, _ := strings.Cut(sf.Tag.Get("json"), ",")
				idx := append(slices.Clone(at), i)
				if sf.Anonymous && (name == "" || strings.Contains(opts, "inline")) && sf.Type.Kind() == reflect.Struct {
					add(sf.Type, idx)
					continue
				}
				if !sf.IsExported() || name == "-" {
					continue
				}
				if name == "" {
					name = sf.Name
				}
				p.fields[name] = &field{index: idx, plan: build(sf.Type, building)}
				p.names = append(p.names, name)
			}
		}
		add(t, nil)
		slices.Sort(p.names)
	}
	return p
}

// DidYouMean gives `did you mean "x"?` for the nearest of the names, or a list of them when none is near and they are
// few, or nothing.
func DidYouMean(got string, names []string) string {
	// In a short name, as many changes as it has letters make any other name of it.
	best, dist := "", min(len(got), 1+max(2, len(got)/3))
	for _, n := range names {
		if x := distance(strings.ToLower(got), strings.ToLower(n)); x < dist {
			best, dist = n, x
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(names) > 0 && len(names) <= 12 {
		return "one of: " + strings.Join(names, ", ")
	}
	return ""
}

// distance is Damerau's: a swap of two neighbours counts one.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	prev2 := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	cur := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
