package source

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Tree remembers where each field of a document stands, in about 20 bytes a field, so that the nodes themselves need
// not be kept. The zero Tree knows no place.
type Tree struct {
	file  string
	marks []mark
}

type mark struct {
	key  string
	line int32
	// end is the index after the last descendant: children of i are found by walking from i+1 to end.
	end int32
}

// NewTree notes the places of a node that Parse gave.
func NewTree(file string, n *yaml.Node) Tree {
	t := Tree{file: file, marks: make([]mark, 0, countMarks(n))}
	t.add("", n.Line, n)
	return t
}

// Move gives the tree with every line replaced by what f says: for text that was rendered from another file.
func (t Tree) Move(f func(line int) int) Tree {
	out := Tree{file: t.file, marks: slices.Clone(t.marks)}
	for i := range out.marks {
		out.marks[i].line = int32(f(int(out.marks[i].line)))
	}
	return out
}

func countMarks(n *yaml.Node) int {
	c := 1
	step, first := 1, 0
	if n.Kind == yaml.MappingNode {
		step, first = 2, 1
	}
	for i := first; i < len(n.Content); i += step {
		c += countMarks(n.Content[i])
	}
	return c
}

func (t *Tree) add(key string, line int, n *yaml.Node) {
	at := len(t.marks)
	t.marks = append(t.marks, mark{key: key, line: int32(line)})
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			t.add(n.Content[i].Value, n.Content[i].Line, n.Content[i+1])
		}
	case yaml.SequenceNode:
		for i, x := range n.Content {
			t.add(index(i), x.Line, x)
		}
	}
	t.marks[at].end = int32(len(t.marks))
}

var small = [...]string{"[0]", "[1]", "[2]", "[3]", "[4]", "[5]", "[6]", "[7]", "[8]", "[9]"}

func index(i int) string {
	if i < len(small) {
		return small[i]
	}
	return "[" + strconv.Itoa(i) + "]"
}

// Find gives the place of a field path such as `spec.containers[0].securityContext.privileged`; a key with dots is
// written `metadata.labels["app.kubernetes.io/name"]`. Of a path that does not exist, it gives the place of the deepest
// part that does: that is where the missing field belongs.
func (t Tree) Find(path string) Pos {
	if len(t.marks) == 0 {
		return Pos{File: t.file}
	}
	at := 0
	for path != "" {
		var key string
		key, path = nextKey(path)
		found := -1
		for i := at + 1; i < int(t.marks[at].end); i = int(t.marks[i].end) {
			if t.marks[i].key == key {
				found = i
				break
			}
		}
		if found < 0 {
			break
		}
		at = found
	}
	return Pos{File: t.file, Line: int(t.marks[at].line)}
}

func nextKey(path string) (key, rest string) {
	if strings.HasPrefix(path, `["`) {
		if end := strings.Index(path, `"]`); end > 0 {
			return path[2:end], strings.TrimPrefix(path[end+2:], ".")
		}
	}
	end := strings.IndexAny(path, ".[")
	switch {
	case end < 0:
		return path, ""
	case end == 0: // "[3]" or a stray dot
		if close := strings.IndexByte(path, ']'); path[0] == '[' && close > 0 {
			return path[:close+1], strings.TrimPrefix(path[close+1:], ".")
		}
		return nextKey(path[1:])
	case path[end] == '.':
		return path[:end], path[end+1:]
	}
	return path[:end], path[end:]
}
