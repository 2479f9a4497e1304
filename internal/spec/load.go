package spec

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/intelgraph/bulwark/internal/source"
)

// MaxSize is the largest spec file that Load reads, in bytes. The reference platform has 7 KiB; a spec for a thousand
// components would have about 300 KiB.
const MaxSize = 1 << 20

// limits bound what a spec may cost once parsed; see source.Limits.
var limits = source.Limits{Document: MaxSize, Depth: 40, Nodes: 100_000}

// Load reads, checks and completes the spec in a file. A bad spec gives a source.Errors with every error found, in the
// order of the file; a file that cannot be read gives an error that wraps the cause.
func Load(file string) (*Platform, error) {
	data, err := read(file, MaxSize)
	if err != nil {
		return nil, err
	}
	return Parse(file, data)
}

// read reads a file of at most max bytes.
func read(file string, max int64) ([]byte, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w; name the platform's file with -f", file, fs.ErrNotExist)
	} else if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s: is a folder; name the file in it, such as %s/platform.yaml", file, file)
	}
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if int64(len(data)) > max {
		return nil, &source.Error{Pos: source.Pos{File: file}, Msg: fmt.Sprintf("the file is over the cap of %d KiB", max>>10), Hint: "is it a Platform?"}
	}
	return data, nil
}

// Parse checks and completes the spec in data; file is its name for messages. It reads nothing else: same bytes, same
// result. The error is a source.Errors, in which each error has a line.
func Parse(file string, data []byte) (*Platform, error) {
	root, err := document(file, data)
	if err != nil {
		return nil, source.Errors{err}
	}
	if err := header(file, root); err != nil {
		return nil, err.AsError()
	}
	p := &Platform{File: file, tree: source.NewTree(file, root)}
	v := &validator{p: p, file: file, root: root, errs: source.Decode(file, root, p)}
	v.run()
	if len(v.errs) > 0 {
		return nil, sorted(v.errs)
	}
	return p, nil
}

// document gives the root of the only document in data.
func document(file string, data []byte) (*yaml.Node, *source.Error) {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return nil, &source.Error{Pos: source.Pos{File: file, Line: 1}, Msg: "binary data, not YAML", Hint: "name the platform's file with -f"}
	}
	docs := source.Split(file, data)
	switch {
	case len(docs) == 0:
		return nil, &source.Error{Pos: source.Pos{File: file, Line: 1}, Msg: "the file holds no document", Hint: "a Platform begins with apiVersion: " + APIVersion}
	case len(docs) > 1:
		return nil, &source.Error{Pos: source.Pos{File: file, Line: docs[1].Line}, Msg: fmt.Sprintf("a second document; a spec file holds one Platform, this one holds %d documents", len(docs)), Hint: "split the file"}
	}
	root, err := docs[0].Parse(limits)
	if err != nil {
		var e *source.Error
		if !errors.As(err, &e) {
			e = &source.Error{Pos: source.Pos{File: file, Line: docs[0].Line}, Msg: err.Error()}
		}
		return nil, e
	}
	return root, nil
}

// header checks what the document says it is, first: errors about the fields of something else help nobody.
func header(file string, root *yaml.Node) source.Errors {
	var errs source.Errors
	add := func(n *yaml.Node, hint, format string, args ...any) {
		errs = append(errs, &source.Error{Pos: source.NodePos(file, n), Msg: fmt.Sprintf(format, args...), Hint: hint})
	}
	if root.Kind != yaml.MappingNode {
		add(root, "a Platform begins with apiVersion: "+APIVersion, "expected a Platform, found %s", source.Describe(root))
		return errs
	}
	c := cursor{node: root, key: root}
	for _, f := range []struct{ name, want string }{{"apiVersion", APIVersion}, {"kind", Kind}} {
		x := c.field(f.name)
		switch {
		case !x.given():
			// A misspelt name ("apiversion") is told by the decoder, which knows the nearest one.
			if n := c.misspelt(f.name); n != nil {
				add(n, fmt.Sprintf("did you mean %q?", f.name), "unknown field %q", n.Value)
			} else {
				add(root, fmt.Sprintf("add %s: %s", f.name, f.want), "missing field %q", f.name)
			}
		case x.node.Kind != yaml.ScalarNode || x.node.Value != f.want:
			add(x.node, "this version of Bulwark reads "+f.want, "%s is %s", f.name, shown(x.node))
		}
	}
	return errs
}

// shown gives a scalar quoted and shortened, anything else described.
func shown(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return source.Describe(n)
	}
	return quote(n.Value)
}

// quote gives a value for a message: quoted, on one line, and no longer than people read.
func quote(s string) string {
	if r := []rune(s); len(r) > 64 {
		s = string(r[:61]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// sorted orders errors as they stand in the file and drops repeated ones.
func sorted(errs source.Errors) source.Errors {
	slices.SortStableFunc(errs, func(a, b *source.Error) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column), cmp.Compare(a.Msg, b.Msg))
	})
	return slices.CompactFunc(errs, func(a, b *source.Error) bool { return *a == *b })
}

// Where gives the place of a field path such as "spec.components.maestro.ports.http", or of the deepest part of it that
// was written. A name with dots is written spec.peers["a.b"].
func (p *Platform) Where(path string) source.Pos { return p.tree.Find(path) }
