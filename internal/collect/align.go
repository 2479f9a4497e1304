package collect

import "strings"

// align says which line of a template each line of its output most likely came from: the longest common subsequence of
// lines, in which {{ … }} stands for anything. A line that came from an expression alone, such as one of toYaml, gets
// the line of the nearest one above it that is known.
func align(template, output string) func(line int) int {
	t, o := strings.Split(template, "\n"), strings.Split(output, "\n")
	m, n := len(t), len(o)
	if m*n > 4<<20 {
		// Too long to compare all pairs; the place of the template is all that can be said.
		return func(int) int { return 1 }
	}
	pat := make([]pattern, m)
	for i := range t {
		pat[i] = newPattern(t[i])
	}
	for i := range o {
		o[i] = strings.TrimSpace(o[i])
	}
	// best[i][j] is the weight of the best alignment of t[i:] and o[j:].
	best := make([]int32, (m+1)*(n+1))
	at := func(i, j int) int { return i*(n+1) + j }
	weight := make([]int8, m*n)
	for i := m - 1; i >= 0; i-- {
		for j := n - 1; j >= 0; j-- {
			w := pat[i].weight(o[j])
			weight[i*n+j] = w
			b := max(best[at(i+1, j)], best[at(i, j+1)])
			if w > 0 {
				b = max(b, best[at(i+1, j+1)]+int32(w))
			}
			best[at(i, j)] = b
		}
	}
	from := make([]int, n)
	for i, j := 0, 0; i < m && j < n; {
		w := int32(weight[i*n+j])
		switch {
		case w > 0 && best[at(i, j)] == best[at(i+1, j+1)]+w:
			from[j] = i + 1
			i, j = i+1, j+1
		case best[at(i, j)] == best[at(i+1, j)]:
			i++
		default:
			j++
		}
	}
	last := 1
	for j := range from {
		if from[j] == 0 {
			from[j] = last
		}
		last = from[j]
	}
	return func(line int) int {
		if line < 1 || line > n {
			return line
		}
		return from[line-1]
	}
}

// pattern is a template's line, cut at its expressions.
type pattern struct {
	parts []string
	// literal is how many bytes outside expressions there are.
	literal int
}

func newPattern(line string) pattern {
	var p pattern
	line = strings.TrimSpace(line)
	for {
		head, rest, ok := strings.Cut(line, "{{")
		p.parts = append(p.parts, head)
		p.literal += len(strings.TrimSpace(head))
		if !ok {
			return p
		}
		_, line, _ = strings.Cut(rest, "}}")
	}
}

// weight is 0 where the output line cannot come from this line, more the surer it does.
func (p pattern) weight(out string) int8 {
	if p.literal == 0 || out == "" {
		return 0
	}
	if len(p.parts) == 1 {
		if p.parts[0] == out {
			return 3
		}
		return 0
	}
	rest, ok := strings.CutPrefix(out, strings.TrimLeft(p.parts[0], " "))
	if !ok {
		if rest, ok = strings.CutPrefix(out, strings.TrimSpace(p.parts[0])); !ok {
			return 0
		}
	}
	for _, part := range p.parts[1:] {
		part = strings.TrimSpace(part)
		i := strings.Index(rest, part)
		if i < 0 {
			return 0
		}
		rest = rest[i+len(part):]
	}
	return 2
}
