package source

import (
	"strings"
	"unicode/utf8"
	"unsafe"

	"go.yaml.in/yaml/v3"
)

// Parser parses documents one after the other and reuses its memory: the nodes of a document are good until the next
// Parse. The strings in them share the document's text, which must not change as long as they are in use. The zero
// Parser is ready. It belongs to one goroutine.
//
// Manifests are nearly always written in a small part of YAML: block mappings and sequences, scalars on one line, literal
// blocks, small flow collections. That part is read here, about ten times faster than by the library; at the first sign
// of anything else (anchors, tags, folded scalars, errors …) the library starts over with the document. Both give the
// same nodes, comments aside, which a test and a fuzz test hold.
type Parser struct {
	s     string
	lim   Limits
	first int // the document's line in its file

	pos  int // of the next byte
	line int // of pos, from 0
	ls   int // the offset at which the line begins
	ind  int // the column of the content at pos, -1 at the end of the text
	wide bool
	bad  bool
	deep int
	left int

	chunks [][]yaml.Node
	used   int // nodes handed out
	stack  []*yaml.Node
	ptrs   []*yaml.Node
}

const chunk = 256

// Parse gives what Document.Parse gives.
func (p *Parser) Parse(d Document, lim Limits) (*yaml.Node, error) {
	if n := p.fast(d, lim); n != nil {
		return n, nil
	}
	return d.Parse(lim)
}

// fast gives nil for a document that it does not read.
func (p *Parser) fast(d Document, lim Limits) *yaml.Node {
	if len(d.Text) > lim.Document || len(d.Text) == 0 {
		return nil
	}
	wide, ok := plainText(d.Text)
	if !ok {
		return nil
	}
	*p = Parser{
		s: unsafe.String(&d.Text[0], len(d.Text)), lim: lim, first: d.Line, wide: wide, left: lim.Nodes,
		chunks: p.chunks, stack: p.stack[:0], ptrs: p.ptrs[:0],
	}
	if len(p.chunks) > 64 { // one huge document must not hold its memory for the rest of the run
		p.chunks, p.ptrs, p.stack = p.chunks[:1], nil, nil
	}
	p.advance(0)
	if p.ind < 0 || p.bad {
		return nil
	}
	n := p.block(-1)
	if p.bad || p.ind >= 0 {
		return nil
	}
	return n
}

// plainText reports whether a text holds only bytes that mean the same everywhere, and whether some are not ASCII.
func plainText(b []byte) (wide, ok bool) {
	for _, c := range b {
		if c < 0x20 && c != '\n' && c != '\t' || c == 0x7f {
			return false, false
		}
		wide = wide || c >= 0x80
	}
	if !wide {
		return false, true
	}
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n <= 1 || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r > 0xfffd && r < 0x10000 {
			return true, false
		}
		b = b[n:]
	}
	return true, true
}

// node hands out a node at an offset of the current line.
func (p *Parser) node(kind yaml.Kind, at int) *yaml.Node {
	if p.left--; p.left < 0 {
		p.bad = true
	}
	c, i := p.used/chunk, p.used%chunk
	if c == len(p.chunks) {
		p.chunks = append(p.chunks, make([]yaml.Node, chunk))
	}
	p.used++
	n := &p.chunks[c][i]
	*n = yaml.Node{Kind: kind, Line: p.first + p.line, Column: p.column(at)}
	return n
}

func (p *Parser) column(at int) int {
	if p.wide {
		return utf8.RuneCountInString(p.s[p.ls:at]) + 1
	}
	return at - p.ls + 1
}

// collect makes the nodes above a mark of the stack the content of n.
func (p *Parser) collect(n *yaml.Node, from int) {
	k := len(p.stack) - from
	if cap(p.ptrs)-len(p.ptrs) < k {
		p.ptrs = make([]*yaml.Node, 0, max(2*chunk, k))
	}
	at := len(p.ptrs)
	p.ptrs = append(p.ptrs, p.stack[from:]...)
	n.Content = p.ptrs[at : at+k : at+k]
	p.stack = p.stack[:from]
}

// advance goes to the first content at or after an offset that is the start of a line.
func (p *Parser) advance(at int) {
	for at < len(p.s) {
		i := at
		for i < len(p.s) && p.s[i] == ' ' {
			i++
		}
		if i < len(p.s) && p.s[i] != '\n' && p.s[i] != '#' {
			if p.s[i] == '\t' || i == at && (strings.HasPrefix(p.s[i:], "---") || strings.HasPrefix(p.s[i:], "...")) {
				p.bad = true // a document marker is not looked for here
			}
			p.ls, p.pos, p.ind = at, i, i-at
			return
		}
		e := strings.IndexByte(p.s[i:], '\n')
		if e < 0 {
			break
		}
		at = i + e + 1
		p.line++
	}
	p.pos, p.ind = len(p.s), -1
}

// next goes to the next content after the line on which at is.
func (p *Parser) next(at int) {
	e := strings.IndexByte(p.s[at:], '\n')
	if e < 0 {
		p.pos, p.ind = len(p.s), -1
		return
	}
	p.line++
	p.advance(at + e + 1)
}

// ended reports whether nothing but spaces and a comment follows on the line, and gives the offset of the line's end.
func (p *Parser) ended(at int) bool {
	i := at
	for i < len(p.s) && p.s[i] == ' ' {
		i++
	}
	return i == len(p.s) || p.s[i] == '\n' || p.s[i] == '#' && i > at
}

// block reads the mapping or sequence whose first line is the current one, which is deeper than above.
func (p *Parser) block(above int) *yaml.Node {
	if p.deep++; p.deep > p.lim.Depth || p.deep > 60 || p.bad {
		p.bad = true
		return nil
	}
	defer func() { p.deep-- }()
	if p.ind <= above {
		p.bad = true
		return nil
	}
	if p.dash() {
		return p.sequence(p.ind)
	}
	if strings.IndexByte("{[", p.s[p.pos]) >= 0 && above < 0 { // a JSON document
		n, at := p.flow(p.pos)
		if p.bad || !p.ended(at) {
			p.bad = true
			return nil
		}
		p.next(at)
		return n
	}
	return p.mapping(p.ind)
}

// dash reports whether the content at pos is a sequence's entry.
func (p *Parser) dash() bool {
	if p.s[p.pos] != '-' {
		return false
	}
	return p.pos+1 == len(p.s) || p.s[p.pos+1] == ' ' || p.s[p.pos+1] == '\n'
}

func (p *Parser) mapping(ind int) *yaml.Node {
	m := p.node(yaml.MappingNode, p.pos)
	m.Tag = "!!map"
	from := len(p.stack)
	for p.ind == ind && !p.bad {
		key, at := p.key()
		if key == nil {
			p.bad = true
			return nil
		}
		p.stack = append(p.stack, key)
		v := p.value(ind, at, true)
		p.stack = append(p.stack, v)
	}
	if p.ind > ind {
		p.bad = true
	}
	p.collect(m, from)
	return m
}

func (p *Parser) sequence(ind int) *yaml.Node {
	q := p.node(yaml.SequenceNode, p.pos)
	q.Tag = "!!seq"
	from := len(p.stack)
	for p.ind == ind && !p.bad && p.dash() {
		p.stack = append(p.stack, p.value(ind, p.pos+1, false))
	}
	if p.ind > ind {
		p.bad = true
	}
	p.collect(q, from)
	return q
}

// key reads "key:" at pos and gives the offset after the colon; nil when there is no key that is read here.
func (p *Parser) key() (*yaml.Node, int) {
	s, at := p.s, p.pos
	switch s[at] {
	case '"', '\'':
		n, end := p.quoted(at)
		if n == nil {
			return nil, 0
		}
		for end < len(s) && s[end] == ' ' {
			end++
		}
		if end < len(s) && s[end] == ':' && (end+1 == len(s) || s[end+1] == ' ' || s[end+1] == '\n') && end-at < 1000 {
			return n, end + 1
		}
		return nil, 0
	}
	if !startsPlain(s[at:]) {
		return nil, 0
	}
	for i := at; i < len(s); i++ {
		switch s[i] {
		case ':':
			if i+1 == len(s) || s[i+1] == ' ' || s[i+1] == '\n' {
				if i == at || i-at > 1000 {
					return nil, 0
				}
				n := p.node(yaml.ScalarNode, at)
				n.Value = strings.TrimRight(s[at:i], " ")
				n.Tag = plainTag(n.Value)
				return n, i + 1
			}
		case '\n', '\t':
			return nil, 0
		case '#':
			if s[i-1] == ' ' {
				return nil, 0
			}
		}
	}
	return nil, 0
}

// startsPlain reports whether a plain scalar begins here that needs no second look.
func startsPlain(s string) bool {
	switch s[0] {
	case '?', ':', ',', '[', ']', '{', '}', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', ' ', '\n', '\t':
		return false
	case '-':
		return len(s) > 1 && s[1] != ' ' && s[1] != '\n' && s[1] != '\t'
	}
	return true
}

// value reads what follows a colon or a dash at an offset; ind is the column of the key or the dash. It leaves the
// parser at the next line's content.
func (p *Parser) value(ind, at int, mapping bool) *yaml.Node {
	s := p.s
	start := at
	for at < len(s) && s[at] == ' ' {
		at++
	}
	if at == len(s) || s[at] == '\n' || s[at] == '#' && at > start {
		line, ls := p.line, p.ls
		p.next(at)
		if p.bad {
			return nil
		}
		if p.ind > ind {
			return p.block(ind)
		}
		if mapping && p.ind == ind && p.dash() {
			if p.deep++; p.deep > 60 {
				p.bad = true
				return nil
			}
			defer func() { p.deep-- }()
			return p.sequence(ind)
		}
		p.line, line = line, p.line // the place of nothing is right after the colon or the dash
		p.ls, ls = ls, p.ls
		n := p.node(yaml.ScalarNode, start)
		p.line, p.ls = line, ls
		n.Tag = "!!null"
		return n
	}
	if s[at] == '\t' {
		p.bad = true
		return nil
	}
	if !mapping { // "- key: value" and "- - value" begin a block on the dash's own line
		pos := p.pos
		p.pos = at
		if p.dash() {
			p.ind = at - p.ls
			return p.block(ind)
		}
		used, left := p.used, p.left
		if k, _ := p.key(); k != nil {
			p.used, p.left = used, left
			p.ind = at - p.ls
			return p.block(ind)
		}
		p.used, p.left = used, left
		p.pos = pos
		if p.bad {
			return nil
		}
	}
	var n *yaml.Node
	end := at
	switch c := s[at]; {
	case c == '"' || c == '\'':
		n, end = p.quoted(at)
	case c == '{' || c == '[':
		n, end = p.flow(at)
	case c == '|':
		return p.literal(ind, at)
	case startsPlain(s[at:]):
		n, end = p.plain(at)
	}
	if n == nil || p.bad || !p.ended(end) {
		p.bad = true
		return nil
	}
	p.next(end)
	if p.ind > ind { // the scalar goes on, or something is wrong
		p.bad = true
	}
	return n
}

// plain reads a plain scalar to the end of the line.
func (p *Parser) plain(at int) (*yaml.Node, int) {
	s, i := p.s, at
	for ; i < len(s) && s[i] != '\n'; i++ {
		switch s[i] {
		case ':':
			if i+1 == len(s) || s[i+1] == ' ' || s[i+1] == '\n' || s[i+1] == '\t' {
				return nil, 0
			}
		case '#':
			if s[i-1] == ' ' {
				goto done
			}
		case '\t':
			return nil, 0
		}
	}
done:
	v := strings.TrimRight(s[at:i], " ")
	n := p.node(yaml.ScalarNode, at)
	n.Value, n.Tag = v, plainTag(v)
	return n, at + len(v)
}

// quoted reads a quoted scalar that ends on its line and gives the offset after the quote.
func (p *Parser) quoted(at int) (*yaml.Node, int) {
	s, q := p.s, p.s[at]
	i, escaped := at+1, false
	for ; ; i++ {
		if i >= len(s) || s[i] == '\n' {
			return nil, 0
		}
		if s[i] == q {
			if q == '\'' && i+1 < len(s) && s[i+1] == '\'' {
				escaped = true
				i++
				continue
			}
			break
		}
		if q == '"' && s[i] == '\\' {
			if i+1 >= len(s) || strings.IndexByte(`"\nt`, s[i+1]) < 0 {
				return nil, 0
			}
			escaped = true
			i++
		}
	}
	n := p.node(yaml.ScalarNode, at)
	n.Tag, n.Value, n.Style = "!!str", s[at+1:i], yaml.DoubleQuotedStyle
	if q == '\'' {
		n.Style = yaml.SingleQuotedStyle
		if escaped {
			n.Value = strings.ReplaceAll(n.Value, "''", "'")
		}
	} else if escaped {
		n.Value = unescape(n.Value)
	}
	return n, i + 1
}

func unescape(v string) string {
	b := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		c := v[i]
		if c == '\\' {
			i++
			switch c = v[i]; c {
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			}
		}
		b = append(b, c)
	}
	return string(b)
}

// literal reads a block scalar that begins with "|", "|-" or "|+".
func (p *Parser) literal(ind, at int) *yaml.Node {
	s := p.s
	n := p.node(yaml.ScalarNode, at)
	n.Tag, n.Style = "!!str", yaml.LiteralStyle
	chomp := byte(0)
	i := at + 1
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		chomp = s[i]
		i++
	}
	if !p.ended(i) {
		p.bad = true
		return nil
	}
	e := strings.IndexByte(s[i:], '\n')
	if e < 0 {
		p.bad = true
		return nil
	}
	i += e + 1
	p.line++
	// The first line with content sets the indentation.
	width := -1
	for j := i; j < len(s); {
		k := j
		for k < len(s) && s[k] == ' ' {
			k++
		}
		if k < len(s) && s[k] != '\n' {
			width = k - j
			if s[k] == '\t' {
				p.bad = true
			}
			break
		}
		if k-j > 0 { // blank lines with spaces before the first content are subtle
			p.bad = true
			return nil
		}
		if k == len(s) {
			break
		}
		j = k + 1
	}
	if width <= ind || width <= 0 || p.bad {
		p.bad = true
		return nil
	}
	b := make([]byte, 0, min(len(s)-i, 1024))
	last := 0 // the length up to the last line with content, its line break left out
	broken := false
	for i < len(s) {
		k := i
		for k < len(s) && k-i < width && s[k] == ' ' {
			k++
		}
		if k < len(s) && k-i < width && s[k] != '\n' {
			if s[k] == '\t' {
				p.bad = true
			}
			break // less indented
		}
		e := strings.IndexByte(s[k:], '\n')
		if e < 0 {
			if k == len(s) && k-i < width { // spaces at the very end
				p.bad = true
				return nil
			}
			b = append(b, s[k:]...)
			if len(s) > k {
				last, broken = len(b), true
			}
			i = len(s)
			break
		}
		b = append(b, s[k:k+e]...)
		if e > 0 {
			last = len(b)
		}
		b = append(b, '\n')
		i = k + e + 1
		p.line++
	}
	switch {
	case chomp == '-' || broken:
		b = b[:last]
	case chomp == 0:
		b = b[:min(last+1, len(b))]
	}
	n.Value = string(b)
	p.advance(i)
	if p.ind > ind {
		p.bad = true
	}
	return n
}

// flow reads a flow mapping or sequence and gives the offset after it. It may span lines.
func (p *Parser) flow(at int) (*yaml.Node, int) {
	if p.deep++; p.deep > p.lim.Depth || p.deep > 60 {
		p.bad = true
		return nil, 0
	}
	defer func() { p.deep-- }()
	s := p.s
	kind, tag, closing := yaml.SequenceNode, "!!seq", byte(']')
	if s[at] == '{' {
		kind, tag, closing = yaml.MappingNode, "!!map", '}'
	}
	n := p.node(kind, at)
	n.Tag, n.Style = tag, yaml.FlowStyle
	from := len(p.stack)
	at = p.space(at + 1)
	if at < len(s) && s[at] == closing {
		return n, at + 1
	}
	for !p.bad {
		if kind == yaml.MappingNode {
			line := p.line
			k, end := p.flowScalar(at, true)
			if k == nil {
				break
			}
			for end < len(s) && s[end] == ' ' {
				end++
			}
			if end >= len(s) || s[end] != ':' || p.line != line || end-at > 1000 {
				break
			}
			if k.Style == 0 && (end+1 >= len(s) || s[end+1] != ' ' && s[end+1] != '\n') {
				break
			}
			p.stack = append(p.stack, k)
			at = p.space(end + 1)
		}
		if at >= len(s) {
			break
		}
		var v *yaml.Node
		if s[at] == '{' || s[at] == '[' {
			v, at = p.flow(at)
		} else {
			v, at = p.flowScalar(at, false)
		}
		if v == nil {
			break
		}
		p.stack = append(p.stack, v)
		at = p.space(at)
		if at >= len(s) {
			break
		}
		if s[at] == closing {
			p.collect(n, from)
			return n, at + 1
		}
		if s[at] != ',' {
			break
		}
		at = p.space(at + 1)
	}
	p.bad = true
	return nil, 0
}

// space skips spaces and line breaks within a flow collection.
func (p *Parser) space(at int) int {
	for at < len(p.s) {
		switch p.s[at] {
		case ' ':
			at++
		case '\n':
			at++
			p.line++
			p.ls = at
			if at < len(p.s) && strings.IndexByte(" \n", p.s[at]) < 0 && p.ls != 0 {
				// Something at column one, which block context may read differently: only a JSON document does that.
				if p.deep > 1 || p.s[at] != '}' && p.s[at] != ']' {
					p.bad = true
				}
			}
		default:
			return at
		}
	}
	return at
}

// flowScalar reads a quoted scalar or a plain one up to a flow indicator, on one line.
func (p *Parser) flowScalar(at int, key bool) (*yaml.Node, int) {
	s := p.s
	if at >= len(s) {
		return nil, 0
	}
	if s[at] == '"' || s[at] == '\'' {
		return p.quoted(at)
	}
	if !startsPlain(s[at:]) || s[at] == '-' && at+1 < len(s) && strings.IndexByte(",[]{}", s[at+1]) >= 0 {
		return nil, 0
	}
	i := at
loop:
	for ; i < len(s); i++ {
		switch s[i] {
		case ',', '[', ']', '{', '}':
			break loop
		case ':':
			if i+1 == len(s) || strings.IndexByte(" \n,[]{}", s[i+1]) >= 0 {
				if !key {
					return nil, 0
				}
				break loop
			}
		case '#', '\n', '\t', '?':
			return nil, 0
		}
	}
	v := strings.TrimRight(s[at:i], " ")
	if v == "" {
		return nil, 0
	}
	n := p.node(yaml.ScalarNode, at)
	n.Value, n.Tag = v, plainTag(v)
	return n, at + len(v)
}

// plainTag gives the tag that the library resolves a plain scalar to.
func plainTag(v string) string {
	if v == "" {
		return "!!null"
	}
	switch c := v[0]; c {
	case 't', 'T', 'f', 'F', 'n', 'N', '~':
		switch v {
		case "true", "True", "TRUE", "false", "False", "FALSE":
			return "!!bool"
		case "~", "null", "Null", "NULL":
			return "!!null"
		}
		return "!!str"
	case '<':
		if v == "<<" {
			return "!!merge"
		}
		return "!!str"
	case '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		digits, dots := true, 0
		for i := 0; i < len(v); i++ {
			switch c := v[i]; {
			case c >= '0' && c <= '9':
			case c == '.':
				digits = false
				dots++
			case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F', strings.IndexByte("xXoO_+-:,tTzZ ", c) >= 0:
				digits = false
			default:
				return "!!str" // no number and no date holds this byte: 500m, 256Mi, 25%
			}
		}
		if digits && len(v) < 18 && (c != '0' || len(v) == 1) {
			return "!!int"
		}
		if dots > 1 {
			return "!!str" // an IP address, a version
		}
	case '+', '-', '.':
		// A flag of a command, the most common of these.
		if len(v) > 1 && v[0] == '-' && v[1] == '-' {
			return "!!str"
		}
	default:
		return "!!str"
	}
	n := yaml.Node{Kind: yaml.ScalarNode, Value: v}
	return n.ShortTag()
}
