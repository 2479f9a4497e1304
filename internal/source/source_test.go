package source

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	in := "# only a comment\n---\na: 1\n---\n\n# nothing\n--- # with a comment\nb: |\n  --- not a marker\n  text\n...\nc: 3\n--- {d: 4}\n"
	var got []string
	for _, d := range Split("f", []byte(in)) {
		n, err := d.Parse(DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, NodePos("f", n).String()+" "+n.Content[0].Value)
	}
	want := []string{"f:3:1 a", "f:8:1 b", "f:12:1 c", "f:13:5 d"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseErrorsNameThePlace(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"syntax":        {"a: 1\n---\nb:\n\t- x\n", "f:4"},
		"binary":        {"a: 1\n---\nb: \x00\n", "f:3: binary data"},
		"not UTF-8":     {"a: \xff\xfe\n", "f:1: not UTF-8"},
		"deep":          {strings.Repeat("[", 200) + strings.Repeat("]", 200), "nested deeper than 100 levels"},
		"alias bomb":    {bomb(), "nodes once aliases are expanded"},
		"alias of self": {"a: &x [*x]\n", "nested deeper than"},
	} {
		var got error
		for _, d := range Split("f", []byte(tc.in)) {
			if _, err := d.Parse(DefaultLimits); err != nil {
				got = err
			}
		}
		if got == nil || !strings.Contains(got.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error with %q", name, got, tc.want)
		}
	}
}

// bomb is small and expands to 9^9 nodes.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 9; i++ {
		p, n := string(rune('0'+i-1)), string(rune('0'+i))
		b.WriteString("a" + n + ": &a" + n + " [" + strings.TrimSuffix(strings.Repeat("*a"+p+",", 9), ",") + "]\n")
	}
	return b.String()
}

func TestDecodeStrict(t *testing.T) {
	type inner struct {
		At   Pos `json:"-"`
		Name string
	}
	type outer struct {
		Text  string            `json:"text"`
		Count int               `json:"count"`
		Flag  bool              `json:"flag"`
		List  []string          `json:"list"`
		Inner *inner            `json:"inner"`
		Map   map[string]*inner `json:"map"`
	}
	for in, want := range map[string]string{
		"text: a\ncuont: 1\n":           `f:2:1: unknown field "cuont"; did you mean "count"?`,
		"text: a\ncount: 1\ntext: b\n":  `f:3:1: repeated field "text" (first on line 1); remove one of the two`,
		"text: 12\n":                    `f:1:7: expected text, found a number; quote it: "12"`,
		"text: yes\ncount: many\n":      `f:2:8: expected a whole number, found text`,
		"flag: 1\n":                     `f:1:7: expected true or false, found a number`,
		"list: a\n":                     `f:1:7: expected a list, found text`,
		"list: [a, {b: c}]\n":           `f:1:11: expected text, found a mapping`,
		"inner: [1]\n":                  `f:1:8: expected a mapping, found a list`,
		"inner: {Nane: x}\n":            `f:1:9: unknown field "Nane"; did you mean "Name"?`,
		"map: {a: {Name: x}, a: {}}\n":  `f:1:21: repeated field "a" (first on line 1); remove one of the two`,
		"count: 99999999999999999999\n": `f:1:8: expected a whole number, found a number`,
	} {
		n, err := Split("f", []byte(in))[0].Parse(DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		var o outer
		errs := Decode("f", n, &o)
		if got := errs.Error(); got != want {
			t.Errorf("%q:\n got %s\nwant %s", in, got, want)
		}
	}
	n, err := Split("f", []byte("base: &b {Name: x}\n"))[0].Parse(DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	var o outer
	if errs := Decode("f", n, &o); len(errs) != 1 {
		t.Errorf("got %v", errs)
	}
	n, err = Split("f", []byte("inner: &b\n  Name: x\nmap:\n  y: *b\n  z:\n    <<: *b\n  empty:\n"))[0].Parse(DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	o = outer{}
	if errs := Decode("f", n, &o); errs != nil {
		t.Fatal(errs)
	}
	if o.Map["y"].Name != "x" || o.Map["z"].Name != "x" || o.Map["empty"] == nil || o.Inner.At.Line != 1 { // an anchored node begins at its anchor
		t.Errorf("got %+v %+v", o, o.Inner)
	}
}

func TestTreeFinds(t *testing.T) {
	in := "kind: Pod\nmetadata:\n  labels:\n    app.kubernetes.io/name: x\nspec:\n  containers:\n  - name: a\n  - name: b\n    securityContext:\n      privileged: true\n"
	n, err := Split("f", []byte(in))[0].Parse(DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	tree := NewTree("f", n)
	for path, line := range map[string]int{
		"spec.containers[1].securityContext.privileged":   10,
		"spec.containers[1].securityContext.runAsNonRoot": 9, // where the missing field belongs
		"spec.containers[0].securityContext.runAsNonRoot": 7,
		"spec.containers[7].image":                        6,
		`metadata.labels["app.kubernetes.io/name"]`:       4,
		"": 1,
		"spec.initContainers[0].securityContext.privileged": 5,
	} {
		if got := tree.Find(path); got.Line != line {
			t.Errorf("%s: line %d, want %d", path, got.Line, line)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	known := []string{"replicas", "runtime", "resources", "route"}
	for got, want := range map[string]string{
		"replcias": `did you mean "replicas"?`, "Runtime": `did you mean "runtime"?`, "rout": `did you mean "route"?`,
		"zzzzzzzzz": "one of: replicas, runtime, resources, route",
	} {
		if s := DidYouMean(got, known); s != want {
			t.Errorf("%s: %s, want %s", got, s, want)
		}
	}
}
