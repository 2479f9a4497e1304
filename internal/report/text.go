package report

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/intelgraph/bulwark/internal/finding"
)

// plain makes foreign text fit for one line that people read: white space becomes a blank; whatever moves a cursor,
// changes the reading direction or is invisible becomes the replacement character, so that a hostile name neither acts on
// a terminal nor hides (https://trojansource.codes).
func plain(s string) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			b.WriteByte(' ')
		case hidden(r):
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hidden reports runes that a reader does not see or that change how others are shown: controls, format characters
// (bidirectional overrides, zero-width ones, tags), surrogates and private use.
func hidden(r rune) bool {
	return r == utf8.RuneError || unicode.Is(unicode.C, r) || r == 0x115F || r == 0x1160 || r == 0x3164 || r == 0xFFA0
}

// clip shortens text to n runes and says so with an ellipsis.
func clip(s string, n int) string {
	if len(s) <= n || utf8.RuneCountInString(s) <= n {
		return s
	}
	for i := range s {
		if n--; n == 0 {
			return strings.TrimRight(s[:i], " ") + "…"
		}
	}
	return s
}

// place gives "file:line", or as much of it as is known.
func place(file string, line int) string {
	switch {
	case file == "":
		return ""
	case line <= 0:
		return file
	}
	return file + ":" + strconv.Itoa(line)
}

// plural gives "1 finding", "2 findings", "1,234 findings".
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// number groups digits by three: 12345 is "12,345".
func number(n int) string {
	if n < 0 {
		return "-" + number(-n)
	}
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// list joins words as people do: "a", "a and b", "a, b and c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// subject names a finding's object with the container it is about.
func subject(f finding.Finding) string {
	s := f.Object.String()
	if f.Container != "" {
		s += " [" + f.Container + "]"
	}
	return s
}

// exceptionNumber is the number under which people find an exception in the report: its place in the list, from one.
func exceptionNumber(i int) string { return fmt.Sprintf("E%d", i) }
