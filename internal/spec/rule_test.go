package spec

import (
	"reflect"
	"regexp"
	"slices"
	"testing"
)

// TestEveryFieldHasARule: a field without a rule would be read unchecked. A text needs words or a form; a number bounds.
func TestEveryFieldHasARule(t *testing.T) {
	known := map[string]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || known[typ.Name()] {
			return
		}
		known[typ.Name()] = true
		for _, f := range fieldsOf(typ) {
			id := typ.Name() + "." + f.name
			r, ok := rules[id]
			if !ok {
				t.Errorf("%s has no rule", id)
			}
			known[id] = true
			elem, isMap := f.typ, false
			for elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice || elem.Kind() == reflect.Map {
				isMap = isMap || elem.Kind() == reflect.Map
				elem = elem.Elem()
			}
			if isMap && r.keys == nil {
				t.Errorf("%s: any name would do", id)
			}
			switch elem.Kind() {
			case reflect.String:
				if r.is == nil && r.enum == nil {
					t.Errorf("%s: any text would do", id)
				}
			case reflect.Int, reflect.Int32, reflect.Int64:
				if r.max == 0 {
					t.Errorf("%s: any number would do", id)
				}
			}
			if r.byDefault != "" && r.required {
				t.Errorf("%s is required and has a default", id)
			}
			walk(f.typ)
		}
	}
	walk(reflect.TypeFor[Platform]())
	for id := range rules {
		if !known[id] {
			t.Errorf("%s has a rule and does not exist", id)
		}
	}
	for id, words := range refused {
		r := rules[id]
		for w := range words {
			if r.enum != nil && slices.Contains(r.enum, w) {
				t.Errorf("%s: %q is allowed and refused", id, w)
			}
			if r.is != nil && regexp.MustCompile(r.is.pattern).MatchString(w) {
				t.Errorf("%s: %q is refused, but the schema's pattern takes it", id, w)
			}
		}
	}
}
