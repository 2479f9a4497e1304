package spec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Reference gives docs/spec.md: every type and field of the spec with its rule, its default and its meaning, made from
// what loading itself uses.
func Reference() []byte {
	var b strings.Builder
	b.WriteString("# The Platform spec\n\n" +
		"Generated from the types that load it; `go test ./internal/spec -run TestReference -update` writes it anew. `bulwark schema`\n" +
		"prints the same for editors. The smallest spec names a namespace and a component:\n\n" +
		"```yaml\napiVersion: " + APIVersion + "\nkind: " + Kind + "\nmetadata: {name: shop}\nspec:\n  trust: {registries: [registry.example.com/shop/]}\n" +
		"  namespaces: {shop: {}}\n  components:\n    web: {namespace: shop, image: registry.example.com/shop/web, runtime: node, ports: {http: 8080}}\n```\n\n" +
		"An error names the file, the line, the column and the nearest valid name; all errors are told at once.\n")
	todo := []reflect.Type{reflect.TypeFor[Platform]()}
	for i := 0; i < len(todo); i++ {
		t := todo[i]
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| field | form | default | meaning |\n| --- | --- | --- | --- |\n", t.Name(), cell(fieldDocs[t.Name()]))
		for _, f := range fieldsOf(t) {
			r := rules[t.Name()+"."+f.name]
			form, next := formOf(f.typ)
			if len(r.enum) > 0 {
				form = "one of: " + strings.Join(r.enum, ", ")
				if f.typ.Kind() == reflect.Slice {
					form = "list, each " + form
				}
			}
			byDefault := r.byDefault
			if r.required {
				byDefault = "required"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, cell(form), cell(byDefault), cell(fieldDocs[t.Name()+"."+f.name]))
			if next != nil && !slices.Contains(todo, next) {
				todo = append(todo, next)
			}
		}
	}
	return []byte(b.String())
}

// formOf says how a field is written, and gives the struct type behind it that needs a section of its own.
func formOf(t reflect.Type) (form string, next reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[Names]():
		return "a name, or a list of names", nil
	case reflect.TypeFor[Port]():
		return "a number, or [Port](#port)", t
	}
	switch t.Kind() {
	case reflect.Struct:
		return "[" + t.Name() + "](#" + strings.ToLower(t.Name()) + ")", t
	case reflect.Map:
		form, next = formOf(t.Elem())
		return "mapping of names to " + form, next
	case reflect.Slice:
		form, next = formOf(t.Elem())
		return "list of " + form, next
	case reflect.Bool:
		return "true or false", nil
	case reflect.String:
		return "text", nil
	}
	return "number", nil
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
