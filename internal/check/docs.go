package check

import (
	"fmt"
	"strings"
)

// Docs gives the pages of docs/checks by file name: one for each check, and README.md with a table of all.
func Docs() map[string]string {
	out := map[string]string{}
	var index strings.Builder
	index.WriteString("# Checks\n\nWhat `bulwark validate` asks of every manifest, chart and cluster. " +
		"`bulwark validate --explain ID` prints the same text. Generated from `internal/check`; " +
		"run `go test ./internal/check -update` after changing a check.\n\n" +
		"| check | severity | layer | looks for |\n| --- | --- | --- | --- |\n")
	for _, c := range All() {
		fmt.Fprintf(&index, "| [%s](%s.md) | %s | %s | %s |\n", c.ID, c.ID, c.Severity, c.Layer, c.Title)
		var b strings.Builder
		fmt.Fprintf(&b, "# %s\n\n%s.\n\n", c.ID, c.Title)
		fmt.Fprintf(&b, "| severity | layer | judges | standards |\n| --- | --- | --- | --- |\n| %s | %s | %s | %s |\n\n", c.Severity, c.Layer, c.judges(), strings.Join(c.Standards, ", "))
		fmt.Fprintf(&b, "**Why.** %s\n\n**Mend.** %s\n", c.Rationale, c.Fix)
		if c.NeedsSpec {
			b.WriteString("\nRuns only with a Platform spec (`-f platform.yaml`).\n")
		}
		fmt.Fprintf(&b, "\nFixtures that fail and that pass: [internal/check/testdata/%s.txtar](../../internal/check/testdata/%s.txtar).\n", c.ID, c.ID)
		out[c.ID+".md"] = b.String()
	}
	out["README.md"] = index.String()
	return out
}

// judges says in words what a check looks at.
func (c *Check) judges() string {
	var what []string
	if c.Container != nil {
		what = append(what, "each container, init and ephemeral ones too")
	}
	if c.Workload != nil {
		what = append(what, "each pod and pod template")
	}
	for _, k := range c.Kinds {
		if k == "*" {
			what = append(what, "each object")
		} else {
			what = append(what, "each "+k[strings.IndexByte(k, '/')+1:])
		}
	}
	if c.Snapshot != nil {
		if c.NeedsSpec || c == baseImage {
			what = append(what, "the spec")
		} else {
			what = append(what, "each namespace with pods")
		}
	}
	return strings.Join(what, "; ")
}
