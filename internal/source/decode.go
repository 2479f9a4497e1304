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
func (d *Decoder) Value(n *yaml.Node, into any) { d.value(n, reflect.ValueOf(into).Elem()) }

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
	switch n.ShortTag() {
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
)

func (d *Decoder) value(n *yaml.Node, v reflect.Value) {
	if n.Kind == yaml.AliasNode {
		if d.active[n.Alias] {
			d.Errorf(n, "", "an alias contains itself")
			return
		}
		if d.active == nil {
			d.active = map[*yaml.Node]bool{}
		}
		d.active[n.Alias] = true
		d.value(n.Alias, v)
		delete(d.active, n.Alias)
		return
	}
	null := n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
	if v.Kind() == reflect.Pointer {
		if null {
			v.SetZero()
			return
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem())
		return
	}
	if v.CanAddr() {
		if pt := v.Addr().Type(); pt.Implements(nodeUnmarshaler) {
			d.stamp(n, v)
			v.Addr().Interface().(NodeUnmarshaler).UnmarshalNode(d, n)
			return
		} else if pt.Implements(jsonUnmarshaler) {
			d.viaJSON(n, v)
			return
		}
	}
	if null {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.Struct(n, v)
	case reflect.Map:
		d.mapping(n, v)
	case reflect.Slice:
		d.sequence(n, v)
	case reflect.Interface:
		if x := d.Any(n); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		d.scalar(n, v)
	}
}

func (d *Decoder) stamp(n *yaml.Node, v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	if f := v.FieldByName("At"); f.IsValid() && f.Type() == posType {
		f.Set(reflect.ValueOf(NodePos(d.File, n)))
	}
}

// Struct decodes a mapping into a struct by the struct's json tags, ignoring a NodeUnmarshaler on the struct itself, so
// that an UnmarshalNode can fall back to the ordinary form.
func (d *Decoder) Struct(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.Errorf(n, "", "expected a mapping, found %s", Describe(n))
		return
	}
	d.stamp(n, v)
	fs := fieldsOf(v.Type())
	d.pairs(n, func(k, val *yaml.Node) {
		idx, ok := fs.byName[k.Value]
		if !ok {
			d.Errorf(k, DidYouMean(k.Value, fs.names), "unknown field %q", k.Value)
			return
		}
		d.value(val, fieldByIndex(v, idx))
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
			d.Errorf(k, "", "a key must be text, found %s", Describe(k))
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

func (d *Decoder) mapping(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.Errorf(n, "", "expected a mapping, found %s", Describe(n))
		return
	}
	t := v.Type()
	if t.Key().Kind() != reflect.String {
		d.Errorf(n, "", "cannot decode into %s", t)
		return
	}
	m := reflect.MakeMapWithSize(t, len(n.Content)/2)
	d.pairs(n, func(k, val *yaml.Node) {
		e := reflect.New(t.Elem()).Elem()
		d.value(val, e)
		// A mapping entry that is empty ("name:") still exists; give pointers a value so that users need no nil checks.
		if e.Kind() == reflect.Pointer && e.IsNil() {
			e.Set(reflect.New(t.Elem().Elem()))
			d.stamp(k, e.Elem())
		}
		m.SetMapIndex(reflect.ValueOf(k.Value).Convert(t.Key()), e)
	})
	v.Set(m)
}

func (d *Decoder) sequence(n *yaml.Node, v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		d.viaJSON(n, v)
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.Errorf(n, "", "expected a list, found %s", Describe(n))
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, x := range n.Content {
		d.value(x, s.Index(i))
	}
	v.Set(s)
}

func (d *Decoder) scalar(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.Errorf(n, "", "expected %s, found %s", wanted(v.Kind()), Describe(n))
		return
	}
	tag := n.ShortTag()
	switch v.Kind() {
	case reflect.String:
		if tag != "!!str" && tag != "!!timestamp" {
			d.Errorf(n, fmt.Sprintf("quote it: %q", n.Value), "expected text, found %s", Describe(n))
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		b, err := strconv.ParseBool(strings.ToLower(n.Value))
		if tag != "!!bool" || err != nil {
			d.Errorf(n, "", "expected true or false, found %s", Describe(n))
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		var i int64
		if tag != "!!int" || n.Decode(&i) != nil || v.OverflowInt(i) {
			d.Errorf(n, "", "expected a whole number, found %s", Describe(n))
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
	b, err := json.Marshal(d.Any(n))
	if err == nil {
		err = json.Unmarshal(b, v.Addr().Interface())
	}
	if err != nil {
		d.Errorf(n, "", "%s: %s", v.Type().Name(), strings.TrimPrefix(err.Error(), "json: "))
	}
}

// Any gives the node as map[string]any, []any, string, bool, int64, float64 or nil: the shapes that encoding/json and
// unstructured.Unstructured know.
func (d *Decoder) Any(n *yaml.Node) any {
	switch n.Kind {
	case yaml.AliasNode:
		return d.Any(n.Alias)
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		d.pairs(n, func(k, v *yaml.Node) { m[k.Value] = d.Any(v) })
		return m
	case yaml.SequenceNode:
		s := make([]any, len(n.Content))
		for i, x := range n.Content {
			s[i] = d.Any(x)
		}
		return s
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		b, _ := strconv.ParseBool(strings.ToLower(n.Value))
		return b
	case "!!int":
		var i int64
		if n.Decode(&i) == nil {
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

type fields struct {
	byName map[string][]int
	names  []string
}

var fieldCache sync.Map // reflect.Type → *fields; a pure function of the type

func fieldsOf(t reflect.Type) *fields {
	if f, ok := fieldCache.Load(t); ok {
		return f.(*fields)
	}
	f := &fields{byName: map[string][]int{}}
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
			f.byName[name] = idx
			f.names = append(f.names, name)
		}
	}
	add(t, nil)
	slices.Sort(f.names)
	fieldCache.Store(t, f)
	return f
}

func fieldByIndex(v reflect.Value, idx []int) reflect.Value {
	for _, i := range idx {
		v = v.Field(i)
	}
	return v
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
