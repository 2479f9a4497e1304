package source

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var jsonTexts = []string{
	`{}`, `{"a": "\/x\/", "b": "\ud83d\ude00", "c": "\u003c", "d": "\\/", "e": "\ud83d!"}`,
	"{\n\t\"a\": [\n\t\t1,\n\t\t-2.5e3,\n\t\tnull,\n\t\ttrue\n\t]\n}\n", `{"a":{"b":[{"c":"d"},{}]},"e":""}`, `["x\\", "\"", "\b\f\n\r\t"]`,
	`{"no": "yes", "on": "1", "null": "~"}`, `{"a":"b: c # d", "x y": "- z"}`,
}

// sameAsJSON fails when a JSON text reads otherwise than encoding/json reads it.
func sameAsJSON(t *testing.T, text string) {
	t.Helper()
	var want any
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		return
	}
	switch want.(type) {
	case map[string]any, []any:
	default:
		return
	}
	var p Parser
	d := Document{File: "f", Line: 1, Text: []byte(text)}
	n, err := p.Parse(d, DefaultLimits)
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	var dec Decoder
	got, err := json.Marshal(dec.Any(n))
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	var again any
	if err := json.Unmarshal(got, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, again); diff != "" && len(dec.Errs) == 0 {
		t.Errorf("%s: -json +ours\n%s", text, diff)
	}
}

func TestJSONIsReadAsJSON(t *testing.T) {
	for _, text := range jsonTexts {
		sameAsJSON(t, text)
	}
}
