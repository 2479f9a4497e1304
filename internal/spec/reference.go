package spec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// introduction opens docs/spec.md. What it shows loads; a test holds that.
const introduction = `# The Platform spec

Generated from what loads it: ~go test ./internal/spec -run TestReference -update~ writes this file anew. ~bulwark schema~
prints the same as a JSON Schema (draft 2020-12), for editors.

The smallest spec has a namespace and a component. Everything else has a safe default, and nothing may talk to anything:

~~~yaml
apiVersion: bulwark.dev/v1alpha1
kind: Platform
metadata:
  name: shop
spec:
  namespaces:
    shop:
  components:
    web:
      image: registry.example.com/shop/web
~~~

## How a spec is read

- One file, one document, UTF-8, at most 1 MiB. YAML 1.2: the field ~on~ of an exception is a name, and not true.
- All errors are told at once. Each has the file, the line, the column and, where something is near, the name that was
  probably meant: ~platform.yaml:57:11: "web" has no port "htpp"; did you mean "http"?~
- A field that is unknown or written twice is an error; so is a value of the wrong type. ~name:~ with nothing after it is as
  good as no field.
- Names are checked: flows, routes, secrets, responses and exceptions name only what exists.
- Contradictions are errors, where each layer alone would look right:
  - traffic that one flow allows only with certain requests and another allows whatever the request;
  - http rules to something that is not a component: requests are judged where they arrive;
  - a flow from outside the mesh to a port that asks for mutual TLS;
  - a token, or a header pattern, on a port outside the mesh, where no layer can check it;
  - two components with one service account in one namespace, or with two versions of one image;
  - storage on a DaemonSet, or on a Deployment of several replicas; paths that lie in one another;
  - root, except in a namespace whose ~podSecurity~ is ~privileged~;
  - the right to every Secret, to every resource or verb, or to ~escalate~, ~bind~ and ~impersonate~;
  - an engine that is to judge policies and that the cluster does not have; a mesh without istio;
  - an overlap of secret rotation that is not longer than the refresh; a template that uses a key that the secret does not have.
- Whether an exception has expired is not judged here, but when findings are: the same spec loads the same on every day.

## Images and platform.lock

~image~ has neither tag nor digest. ~version~ is the tag, and ~bulwark lock~ asks the registry which digest it is now. ~base~ is
the base image of the Dockerfile with its tag; it is locked too, and not checked against ~trust.registries~, because it is
built upon and never run. ~latest~ is refused in both.

platform.lock stands beside the spec and is committed with it:

| in the lock | means | used |
| --- | --- | --- |
| ~images~ | the registry said so | yes |
| ~images~ with ~stale~ | it said so before, and did not answer last time | yes: content has one digest for ever |
| ~images~ with ~given~ | a person said so with ~--image~, and no registry has confirmed it yet | yes |
| ~unresolved~ | no digest, and why | the image is reported as not locked |

A digest is used only for the tag that it was resolved for: after a change of ~version~ the image is unlocked until ~bulwark
lock~ runs again. ~bulwark lock --check~ writes nothing and exits 1 when a tag has moved or the lock is not that of the
spec, and 3 when a registry does not answer: an outage is not a tag that moved.
`

// Reference gives docs/spec.md: every type and field of the spec with its rule, its default and its meaning, made from
// what loading itself uses.
func Reference() []byte {
	var b strings.Builder
	b.WriteString(strings.ReplaceAll(strings.ReplaceAll(introduction, "~~~", "```"), "~", "`"))
	todo := []reflect.Type{reflect.TypeFor[Platform]()}
	for i := 0; i < len(todo); i++ {
		t := todo[i]
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| field | form | default | meaning |\n| --- | --- | --- | --- |\n", t.Name(), cell(fieldDocs[t.Name()]))
		for _, f := range fieldsOf(t) {
			r := rules[t.Name()+"."+f.name]
			form, next := formOf(r, f.typ)
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
func formOf(r rule, t reflect.Type) (form string, next reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[Names]():
		return "a name, or a list of names", nil
	case reflect.TypeFor[Port]():
		return "a number from 1 to 65535, or [Port](#port)", t
	}
	switch t.Kind() {
	case reflect.Struct:
		return "[" + t.Name() + "](#" + strings.ToLower(t.Name()) + ")", t
	case reflect.Map:
		form, next = formOf(r, t.Elem())
		return "mapping, each name " + r.keys.what + ", each value " + form, next
	case reflect.Slice:
		form, next = formOf(r, t.Elem())
		return "list, each " + form, next
	case reflect.Bool:
		return "true or false", nil
	case reflect.String:
		switch {
		case len(r.enum) == 1:
			return "`" + r.enum[0] + "`", nil
		case r.enum != nil:
			return "one of `" + strings.Join(r.enum, "`, `") + "`", nil
		case r.is != nil:
			return r.is.what, nil
		}
		return "text", nil
	}
	return fmt.Sprintf("a whole number from %d to %d", r.min, r.max), nil
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
