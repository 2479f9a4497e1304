package spec_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/intelgraph/bulwark/internal/source"
	"github.com/intelgraph/bulwark/internal/spec"
)

func compiledSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(spec.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft4) // so that only our own $schema makes it 2020-12
	if err := c.AddResource(spec.SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(spec.SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	if s.DraftVersion != 2020 {
		t.Errorf("draft = %d, want 2020", s.DraftVersion)
	}
	return s
}

// judge gives the schema's verdict on a spec.
func judge(t testing.TB, s *jsonschema.Schema, text string) error {
	t.Helper()
	// Not through a YAML 1.1 reader: it would take the field "on" for true. Editors read YAML 1.2, as Bulwark does.
	n, err := source.Split("", []byte(text))[0].Parse(source.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	var plain any
	if errs := source.Decode("", n, &plain); len(errs) > 0 {
		t.Fatal(errs)
	}
	b, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

func TestSchemaAcceptsWhatLoads(t *testing.T) {
	s := compiledSchema(t)
	for _, file := range []string{reference, "testdata/base.yaml", "testdata/minimal.yaml", "testdata/forms.yaml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := spec.Parse(file, b); err != nil {
			t.Errorf("%s does not load: %v", file, err)
		}
		if err := judge(t, s, string(b)); err != nil {
			t.Errorf("%s: the schema refuses what loads: %v", file, err)
		}
	}
}

// TestSchemaRefuses holds that the schema by itself refuses the mistakes that are marked so, and none that is not: then
// the mark is wrong, and the table says less than is true. Loading refuses all of them, in TestMistakes.
func TestSchemaRefuses(t *testing.T) {
	s := compiledSchema(t)
	text := base(t)
	if err := judge(t, s, text); err != nil {
		t.Fatalf("the base must pass: %v", err)
	}
	for _, e := range mistakes {
		if strings.HasPrefix(e.name, "repeated") { // YAMLToJSON refuses these; JSON has no such thing
			continue
		}
		err := judge(t, s, e.apply(t, text))
		if e.schema && err == nil {
			t.Errorf("%s: the schema accepts it", e.name)
		}
		if !e.schema && err != nil {
			t.Errorf("%s: the schema refuses it: mark it so: %v", e.name, err)
		}
	}
}

func TestSchemaIsStable(t *testing.T) {
	a, b := spec.Schema(), spec.Schema()
	if !bytes.Equal(a, b) {
		t.Error("two calls give different bytes")
	}
	var doc map[string]any
	if err := json.Unmarshal(a, &doc); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"$schema", "$id", "title", "description"} {
		if doc[key] == nil {
			t.Errorf("no %s", key)
		}
	}
}
