package artifact

import (
	"bytes"
	"fmt"
	"strings"
)

// diffContext is the number of equal lines around a change, as in diff -u.
const diffContext = 3

// Diff gives the unified diff of two texts, or "" when they are equal. A nil text is a file that does not exist. Time is
// O((len+len)·changes) in lines (Myers, "An O(ND) Difference Algorithm", 1986); texts with more than maxChanges changes
// are shown as replaced whole, so that memory stays bounded.
func Diff(oldName, newName string, before, after []byte) string {
	if bytes.Equal(before, after) && (before == nil) == (after == nil) {
		return ""
	}
	if before == nil {
		oldName = "/dev/null"
	}
	if after == nil {
		newName = "/dev/null"
	}
	a, b := lines(before), lines(after)
	ops := edits(a, b)
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", oldName, newName)
	for i := 0; i < len(ops); {
		if ops[i].kind == ' ' {
			i++
			continue
		}
		// A hunk reaches to the last change that is at most two contexts away from the one before it.
		start, end := max(0, i-diffContext), i
		for j := i; j < len(ops) && j-end <= 2*diffContext; j++ {
			if ops[j].kind != ' ' {
				end = j
			}
		}
		stop := min(len(ops), end+1+diffContext)
		hunk(&out, ops[start:stop])
		i = stop
	}
	return out.String()
}

// edit is one line of a diff; a and b count the lines of both texts before it.
type edit struct {
	kind byte // ' ', '-' or '+'
	text string
	a, b int
}

func hunk(out *strings.Builder, ops []edit) {
	var na, nb int
	for _, o := range ops {
		if o.kind != '+' {
			na++
		}
		if o.kind != '-' {
			nb++
		}
	}
	fmt.Fprintf(out, "@@ -%s +%s @@\n", span(ops[0].a, na), span(ops[0].b, nb))
	for _, o := range ops {
		out.WriteByte(o.kind)
		out.WriteString(o.text)
		if !strings.HasSuffix(o.text, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

func span(before, n int) string {
	if n == 0 {
		return fmt.Sprintf("%d,0", before)
	}
	if n == 1 {
		return fmt.Sprint(before + 1)
	}
	return fmt.Sprintf("%d,%d", before+1, n)
}

func lines(text []byte) []string {
	var out []string
	for l := range bytes.Lines(text) {
		out = append(out, string(l))
	}
	return out
}

// maxChanges bounds the memory of edits: it keeps one row of at most this many numbers for each change.
const maxChanges = 2000

// edits is Myers' greedy algorithm with the rows kept for the way back.
func edits(a, b []string) []edit {
	var rows [][]int32
	v := map[int]int32{1: 0}
	found := -1
search:
	for d := 0; d <= min(len(a)+len(b), maxChanges); d++ {
		row := make([]int32, 2*d+1)
		for k := -d; k <= d; k += 2 {
			var x int
			if k == -d || k != d && v[k-1] < v[k+1] {
				x = int(v[k+1])
			} else {
				x = int(v[k-1]) + 1
			}
			for x < len(a) && x-k < len(b) && a[x] == b[x-k] {
				x++
			}
			v[k] = int32(x)
			row[k+d] = int32(x)
			if x >= len(a) && x-k >= len(b) {
				rows, found = append(rows, row), d
				break search
			}
		}
		rows = append(rows, row)
	}
	if found < 0 {
		return replaced(a, b)
	}
	var back []edit
	x, y := len(a), len(b)
	for d := found; d > 0; d-- {
		prev := rows[d-1]
		at := func(k int) int {
			if k < -(d-1) || k > d-1 {
				return -1
			}
			return int(prev[k+d-1])
		}
		k := x - y
		pk := k - 1
		if k == -d || k != d && at(k-1) < at(k+1) {
			pk = k + 1
		}
		px := at(pk)
		py := px - pk
		for x > px && y > py {
			x, y = x-1, y-1
			back = append(back, edit{' ', a[x], x, y})
		}
		if pk == k+1 {
			y--
			back = append(back, edit{'+', b[y], x, y})
		} else {
			x--
			back = append(back, edit{'-', a[x], x, y})
		}
	}
	for x > 0 && y > 0 {
		x, y = x-1, y-1
		back = append(back, edit{' ', a[x], x, y})
	}
	out := make([]edit, len(back))
	for i, e := range back {
		out[len(back)-1-i] = e
	}
	return out
}

func replaced(a, b []string) []edit {
	out := make([]edit, 0, len(a)+len(b))
	for i, l := range a {
		out = append(out, edit{'-', l, i, 0})
	}
	for i, l := range b {
		out = append(out, edit{'+', l, len(a), i})
	}
	return out
}
