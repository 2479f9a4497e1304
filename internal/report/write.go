package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/intelgraph/bulwark/internal/check"
	"github.com/intelgraph/bulwark/internal/finding"
)

// Format is an output format of Write.
type Format string

// The formats of a validation.
const (
	Table    Format = "table"
	JSON     Format = "json"
	SARIF    Format = "sarif"
	JUnit    Format = "junit"
	Markdown Format = "markdown"
)

// Formats lists them in the order in which help shows them.
var Formats = []Format{Table, JSON, SARIF, JUnit, Markdown}

// ParseFormat reads a format's name; "md" and "xml" are accepted for markdown and junit.
func ParseFormat(s string) (Format, error) {
	switch f := Format(strings.ToLower(s)); {
	case slices.Contains(Formats, f):
		return f, nil
	case f == "md":
		return Markdown, nil
	case f == "xml":
		return JUnit, nil
	}
	names := make([]string, len(Formats))
	for i, f := range Formats {
		names[i] = string(f)
	}
	return "", fmt.Errorf("unknown output format %q; one of: %s", s, strings.Join(names, ", "))
}

// Options are what a writer may know beside the result.
type Options struct {
	// Colour allows ANSI colours in the table.
	Colour bool
	// Width is the terminal's width in cells; lines of the table wrap there. Zero means 100; the least is 40.
	Width int
	// PerCheck caps how many findings of one check the formats for people list; zero means 10, less than zero no cap.
	PerCheck int
	// Tool is Bulwark's version, for SARIF.
	Tool string
	// Root is the folder, slash-separated and absolute, to which SARIF's locations are relative; empty leaves absolute
	// files absolute.
	Root string
	// Rule describes a check by its ID, for SARIF's help texts; may be nil.
	Rule func(id string) (check.Check, bool)
}

func (o Options) perCheck() int {
	switch {
	case o.PerCheck == 0:
		return 10
	case o.PerCheck < 0:
		return int(^uint(0) >> 1)
	}
	return o.PerCheck
}

// Write writes a validation. The result is not changed. An error is the writer's, or an unknown format.
func Write(w io.Writer, format Format, res *check.Result, opts Options) error {
	switch format {
	case Table:
		return writeTable(w, res, opts)
	case JSON:
		return writeJSON(w, res)
	case SARIF:
		return writeSARIF(w, res, opts)
	case JUnit:
		return writeJUnit(w, res)
	case Markdown:
		return writeMarkdown(w, res, opts)
	}
	_, err := ParseFormat(string(format))
	return err
}

// stateNotes says for each state of an exception what it means, in the order in which they are shown: the ones that
// want work first.
var stateNotes = []struct {
	State finding.ExceptionState
	Note  string
}{
	{finding.Expired, "no longer accepts anything; its findings stand"},
	{finding.TooBroad, "accepts more objects than one exception should"},
	{finding.Unused, "covers nothing any more; remove it"},
	{finding.Used, "accepts findings until it expires"},
}

// exceptionsByState lists exceptions in the order of stateNotes, each with its number in the result.
func exceptionsByState(all []finding.ExceptionResult) []numberedException {
	var out []numberedException
	for _, s := range stateNotes {
		for i, e := range all {
			if e.State == s.State {
				out = append(out, numberedException{i + 1, e})
			}
		}
	}
	return out
}

type numberedException struct {
	Number int
	finding.ExceptionResult
}
