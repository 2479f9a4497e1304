package attack

import (
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/intelgraph/bulwark/internal/finding"
	"github.com/intelgraph/bulwark/internal/source"
)

//go:embed corpus/*.yaml
var files embed.FS

// entry is one line of the corpus, before it meets a platform.
type entry struct {
	At        source.Pos `json:"-"`
	ID        string     `json:"id"`
	Title     string     `json:"title"`
	Severity  severity   `json:"severity"`
	Intended  string     `json:"intended"`
	Says      string     `json:"says"`
	Standards []string   `json:"standards"`
	// Level is the Pod Security level from which on the attack is refused.
	Level string `json:"level"`
	// Needs names what a platform must have for the attack to make sense: component, registry, static.
	Needs string `json:"needs"`
	Field string `json:"field"`
	// Attack and Twin are the two values of Field.
	Attack any      `json:"attack"`
	Twin   any      `json:"twin"`
	Forms  []string `json:"forms"`
	// Everywhere repeats the attack in every namespace of the platform.
	Everywhere bool `json:"everywhere"`

	// For guards and access.
	Who         []string `json:"who"`
	Verb        string   `json:"verb"`
	Group       string   `json:"group"`
	Resource    string   `json:"resource"`
	Subresource string   `json:"subresource"`
	Name        string   `json:"name"`
	Cluster     bool     `json:"cluster"`
	Each        string   `json:"each"`
	// Object is what is created, but for Field.
	Object   map[string]any `json:"object"`
	Careless bool           `json:"careless"`
	NeedsPod bool           `json:"needsPod"`

	// nulls remembers which of Attack and Twin were written as null, which is a value here: "the field is absent".
	has map[string]bool
}

type severity struct{ finding.Severity }

// UnmarshalNode reads a severity's name.
func (s *severity) UnmarshalNode(d *source.Decoder, n *yaml.Node) {
	p, err := finding.ParseSeverity(n.Value)
	if err != nil {
		d.Errorf(n, "", "%v", err)
	}
	s.Severity = p
}

// UnmarshalNode reads an entry and notes which values were given.
func (e *entry) UnmarshalNode(d *source.Decoder, n *yaml.Node) {
	type plain entry
	var p plain
	d.Value(n, &p)
	*e = entry(p)
	e.At = source.NodePos(d.File, n)
	e.has = map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		e.has[n.Content[i].Value] = true
	}
}

var (
	podForms   = []string{"pod", "made", "controllers", "ephemeral", "status"}
	classNames = []string{"pods", "policies", "objects", "guards", "access"}
)

// load reads the embedded corpus. Its mistakes are the programmer's, and a test finds them; they are still errors and
// not panics, so that a damaged build says what is wrong.
func load() (map[string][]entry, error) {
	out := map[string][]entry{}
	for _, class := range classNames {
		name := "corpus/" + class + ".yaml"
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for _, doc := range source.Split(name, data) {
			n, err := doc.Parse(source.DefaultLimits)
			if err != nil {
				return nil, err
			}
			var es []entry
			errs := source.Decode(name, n, &es)
			for _, e := range es {
				if bad := e.check(class); bad != nil {
					errs = append(errs, &source.Error{Pos: e.At, Msg: bad.Error()})
				}
			}
			if err := errs.AsError(); err != nil {
				return nil, err
			}
			out[class] = append(out[class], es...)
		}
	}
	return out, nil
}

func (e entry) check(class string) error {
	switch {
	case e.ID == "" || e.Title == "" || len(e.Standards) == 0:
		return errors.New("an attack needs id, title and standards")
	case class == "pods" || class == "policies":
		if e.Field == "" || !e.has["attack"] || !e.has["twin"] || len(e.Forms) == 0 {
			return fmt.Errorf("%s needs field, attack, twin and forms", e.ID)
		}
		for _, f := range e.Forms {
			if !slices.Contains(podForms, f) {
				return fmt.Errorf("%s: unknown form %q; %s", e.ID, f, source.DidYouMean(f, podForms))
			}
		}
		if class == "pods" && (e.Says == "" || e.Level == "") {
			return fmt.Errorf("%s needs says and level", e.ID)
		}
		if class == "policies" && e.Intended == "" {
			return fmt.Errorf("%s needs intended", e.ID)
		}
	case class == "objects" && (e.Intended == "" || e.Resource == "" || e.Field == "" || len(e.Object) == 0 || !e.has["attack"] || !e.has["twin"]):
		return fmt.Errorf("%s needs intended, resource, object, field, attack and twin", e.ID)
	case class == "guards" && (e.Intended == "" || e.Verb == ""):
		return fmt.Errorf("%s needs intended and verb", e.ID)
	case class == "access" && (len(e.Who) == 0 || e.Verb == "" || e.Resource == ""):
		return fmt.Errorf("%s needs who, verb and resource", e.ID)
	}
	return nil
}

// fill replaces ${name} in every text of a value.
func fill(v any, vars map[string]string) any {
	switch x := v.(type) {
	case string:
		return fillText(x, vars)
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = fill(e, vars)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, e := range x {
			out[fillText(k, vars)] = fill(e, vars)
		}
		return out
	}
	return v
}

func fillText(s string, vars map[string]string) string {
	if !strings.Contains(s, "${") {
		return s
	}
	for k, v := range vars {
		s = strings.ReplaceAll(s, "${"+k+"}", v)
	}
	return s
}
