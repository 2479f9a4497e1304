// Package source reads YAML and JSON that people wrote: it splits streams into documents, keeps the line and column of
// every field, and decodes strictly into Go structs, so that an error can name the place and the nearest valid name.
//
// Both the Platform spec and the manifests of a snapshot go through here; there is no second way to read YAML.
package source

import (
	"fmt"
	"strings"
)

// Pos is a place in a file. Line and Column count from 1; zero means unknown.
type Pos struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// IsZero reports whether the place is unknown.
func (p Pos) IsZero() bool { return p == Pos{} }

// String gives "file:line:column", leaving out what is unknown.
func (p Pos) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		if b.Len() > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
	}
	return b.String()
}

// Error is something wrong at a place, with what to do next.
type Error struct {
	Pos Pos
	// Msg says what is wrong, without a place and without a full stop.
	Msg string
	// Hint says what to do next ("did you mean …?"); it may be empty.
	Hint string
}

// Error gives "file:line:column: message; hint".
func (e *Error) Error() string {
	var b strings.Builder
	if p := e.Pos.String(); p != "" {
		b.WriteString(p)
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// Errors is a list of errors that prints one a line.
type Errors []*Error

// Error joins the errors, one a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// AsError gives nil for an empty list, so that a caller can return it as an error.
func (e Errors) AsError() error {
	if len(e) == 0 {
		return nil
	}
	return e
}
