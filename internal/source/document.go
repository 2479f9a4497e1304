package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Limits bound what one file may cost. A yaml.v3 node takes about 24 times its text in memory, so the cap on a document,
// not on a file, is what bounds the peak.
type Limits struct {
	// Document is the largest single document, in bytes.
	Document int
	// Depth is the deepest nesting of mappings and sequences.
	Depth int
	// Nodes is the largest number of nodes in a document after aliases are expanded.
	Nodes int
}

// DefaultLimits: etcd refuses objects over 1.5 MiB, so 3 MiB of YAML text is more than any object that can exist.
var DefaultLimits = Limits{Document: 3 << 20, Depth: 100, Nodes: 500_000}

// Document is one YAML document of a file.
type Document struct {
	// File as the user named it; Line is the line in File of the document's first byte, from 1.
	File string
	Line int
	// Text is the document's bytes, without the separator. It aliases the input.
	Text []byte
}

// Split cuts a stream at its document markers without parsing it. A line that begins with "---" at column one is a
// marker even inside a block scalar (YAML 1.2.2, section 9.2), so a line scan is exact. Documents that hold only
// comments and blank lines are left out.
func Split(file string, data []byte) []Document {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var docs []Document
	start, line, startLine := 0, 1, 1
	flush := func(end int) {
		if text := data[start:end]; !blank(text) {
			docs = append(docs, Document{File: file, Line: startLine, Text: text})
		}
	}
	for i := 0; i < len(data); {
		next := len(data)
		if j := bytes.IndexByte(data[i:], '\n'); j >= 0 {
			next = i + j + 1
		}
		l := data[i:next]
		if marker(l, "---") {
			flush(i)
			// What follows the marker on its own line ("--- {a: b}") belongs to the document; keep it by keeping the columns.
			if rest := bytes.TrimSpace(l[3:]); len(rest) > 0 && rest[0] != '#' {
				start, startLine = i, line
			} else {
				start, startLine = next, line+1
			}
		} else if marker(l, "...") {
			flush(i)
			start, startLine = next, line+1
		}
		i = next
		line++
	}
	flush(len(data))
	return docs
}

func marker(line []byte, m string) bool {
	if !bytes.HasPrefix(line, []byte(m)) {
		return false
	}
	return len(line) == len(m) || strings.IndexByte(" \t\r\n", line[len(m)]) >= 0
}

func blank(text []byte) bool {
	for len(text) > 0 {
		var l []byte
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			l, text = text[:i], text[i+1:]
		} else {
			l, text = text, nil
		}
		if l = bytes.TrimSpace(l); len(l) > 0 && l[0] != '#' && l[0] != '%' {
			return false
		}
	}
	return true
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// Parse gives the document's root node, with lines counted in the whole file and aliases still in place. The error, if
// any, is an *Error with the place.
func (d Document) Parse(lim Limits) (*yaml.Node, error) {
	at := Pos{File: d.File, Line: d.Line}
	if len(d.Text) > lim.Document {
		return nil, &Error{Pos: at, Msg: fmt.Sprintf("document of %d bytes is over the cap of %d", len(d.Text), lim.Document), Hint: "split it; no Kubernetes object is this large"}
	}
	if i := bytes.IndexByte(d.Text, 0); i >= 0 {
		return nil, &Error{Pos: at, Msg: "binary data, not YAML", Hint: "name the manifests or their folder"}
	}
	if !utf8.Valid(d.Text) {
		return nil, &Error{Pos: at, Msg: "not UTF-8 text", Hint: "save the file as UTF-8"}
	}
	var root yaml.Node
	err := yaml.NewDecoder(bytes.NewReader(d.Text)).Decode(&root)
	if err != nil && bytes.IndexByte(d.Text, '\\') >= 0 && json.Valid(d.Text) {
		root = yaml.Node{}
		err = yaml.NewDecoder(bytes.NewReader(yamlEscapes(d.Text))).Decode(&root)
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &Error{Pos: at, Msg: "empty document"}
		}
		msg := err.Error()
		if m := yamlLine.FindStringSubmatch(msg); m != nil {
			msg = m[2]
			if n, e := strconv.Atoi(m[1]); e == nil {
				at.Line = d.Line + n - 1
			}
		}
		return nil, &Error{Pos: at, Msg: "YAML: " + msg}
	}
	n := &root
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	c := counter{lim: lim, file: d.File, offset: d.Line - 1}
	if err := c.walk(n, 0, true); err != nil {
		return nil, err
	}
	return n, nil
}

// yamlEscapes rewrites the two escapes of JSON that the library does not read: an escaped slash, and a character outside
// the basic plane as two halves. Lines stay what they are.
func yamlEscapes(text []byte) []byte {
	out := make([]byte, 0, len(text))
	half := func(i int) rune {
		if i+6 > len(text) || text[i] != '\\' || text[i+1] != 'u' {
			return -1
		}
		n, err := strconv.ParseUint(string(text[i+2:i+6]), 16, 32)
		if err != nil {
			return -1
		}
		return rune(n)
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 >= len(text) {
			out = append(out, text[i])
			continue
		}
		switch c := text[i+1]; {
		case c == '/':
			out = append(out, '/')
			i++
		case c == 'u' && utf16.IsSurrogate(half(i)):
			r := utf16.DecodeRune(half(i), half(i+6)) // the replacement character where the other half is missing
			if r != utf8.RuneError {
				i += 6
			}
			out = utf8.AppendRune(out, r)
			i += 5
		default:
			out = append(out, text[i], c)
			i++
		}
	}
	return out
}

// counter shifts lines to the file's and refuses what would explode: nesting, and aliases of aliases.
type counter struct {
	lim    Limits
	file   string
	offset int
	nodes  int
}

func (c *counter) walk(n *yaml.Node, depth int, shift bool) error {
	c.nodes++
	if shift {
		n.Line += c.offset
	}
	if c.nodes > c.lim.Nodes {
		return &Error{Pos: Pos{File: c.file, Line: n.Line, Column: n.Column}, Msg: fmt.Sprintf("more than %d nodes once aliases are expanded", c.lim.Nodes), Hint: "write the repeated parts out"}
	}
	if depth > c.lim.Depth {
		return &Error{Pos: Pos{File: c.file, Line: n.Line, Column: n.Column}, Msg: fmt.Sprintf("nested deeper than %d levels", c.lim.Depth)}
	}
	if n.Kind == yaml.AliasNode {
		return c.walk(n.Alias, depth+1, false)
	}
	for _, k := range n.Content {
		if err := c.walk(k, depth+1, shift); err != nil {
			return err
		}
	}
	return nil
}

// NodePos is the place of a node that Parse gave.
func NodePos(file string, n *yaml.Node) Pos { return Pos{File: file, Line: n.Line, Column: n.Column} }
