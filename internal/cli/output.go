package cli

import (
	"encoding/json"
	"io"
)

// printJSON writes indented JSON, as every command's -o json does.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
