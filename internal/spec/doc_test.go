package spec_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// docs reads the doc comments of the spec's types: "Type" and "Type.field" to text, on one line.
func docs(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "types.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	line := func(g ...*ast.CommentGroup) string {
		for _, c := range g {
			first, _, _ := strings.Cut(c.Text(), "\n\n") // what follows is for readers of the code
			if s := strings.Join(strings.Fields(first), " "); s != "" {
				return s
			}
		}
		return ""
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, s := range g.Specs {
			ts := s.(*ast.TypeSpec)
			st, ok := ts.Type.(*ast.StructType)
			if !ok {
				continue
			}
			out[ts.Name.Name] = line(ts.Doc, g.Doc)
			var above string // a comment over several fields is about each of them
			for _, field := range st.Fields.List {
				if field.Tag == nil || len(field.Names) == 0 {
					continue
				}
				name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json"), ",")
				if name == "-" || name == "" {
					continue
				}
				above = line(field.Doc, field.Comment)
				out[ts.Name.Name+"."+name] = above
			}
		}
	}
	return out
}

// TestFieldDocs holds that every field is explained, and that the generated table of explanations is that of types.go.
func TestFieldDocs(t *testing.T) {
	d := docs(t)
	delete(d, "Target") // is never written by a person
	keys := make([]string, 0, len(d))
	for k, v := range d {
		keys = append(keys, k)
		if v == "" {
			t.Errorf("%s has no doc comment in types.go", k)
		}
	}
	slices.Sort(keys)
	var b bytes.Buffer
	b.WriteString("// Code generated from types.go by go test ./internal/spec -run TestFieldDocs -update; DO NOT EDIT.\n\npackage spec\n\n")
	b.WriteString("// fieldDocs has the doc comment of each type and field of the spec, for the JSON Schema and docs/spec.md.\nvar fieldDocs = map[string]string{\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "%q: %q,\n", k, d[k])
	}
	b.WriteString("}\n")
	src, err := format.Source(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	const file = "fielddocs.go"
	if *update {
		if err := os.WriteFile(file, src, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, src) {
		t.Errorf("%s is not what types.go says; run: go test ./internal/spec -run TestFieldDocs -update", file)
	}
}
