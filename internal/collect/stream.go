package collect

import (
	"bytes"
	"fmt"
	"io"

	"github.com/intelgraph/bulwark/internal/source"
)

// block is about how much text one job holds: enough to make handing it over cheap, little enough to keep all workers
// busy on a single large file.
const block = 256 << 10

// stream cuts a reader at document markers into texts of about one block, without ever holding more than one document
// over the cap: a document that is too large is refused where it begins, and what follows it is still read.
func stream(r io.Reader, size int64, t text, limit int, emit func(text), tooLarge func(line int)) error {
	line := t.line
	var carry []byte
	skipping := false
	for {
		want := block
		if size > 0 && size < int64(block) && carry == nil {
			want = int(size) + 1 // one byte more, so that the end shows in the same read
		}
		buf := make([]byte, len(carry), len(carry)+want)
		copy(buf, carry)
		n, err := io.ReadFull(r, buf[len(carry):cap(buf)])
		buf = buf[:len(carry)+n]
		end := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return err
		}
		if skipping {
			// Look for the next document only.
			at := firstMarker(buf)
			if at < 0 && !end {
				line, carry = skip(buf, line)
				continue
			}
			if at < 0 {
				return nil
			}
			line += bytes.Count(buf[:at], newline)
			buf, skipping = buf[at:], false
		}
		if end {
			if len(buf) > 0 {
				t.line, t.data = line, buf
				emit(t)
			}
			return nil
		}
		at := lastMarker(buf)
		if at <= 0 {
			if len(buf) > limit {
				tooLarge(line)
				skipping = true
				line, carry = skip(buf, line)
				continue
			}
			carry = buf
			continue
		}
		t.line, t.data = line, buf[:at:at]
		emit(t)
		line += bytes.Count(buf[:at], newline)
		carry = buf[at:]
	}
}

// skip drops all whole lines of b and gives the line and the bytes of what is left. Of a line that has gone on too long
// to be a marker, only a space is kept.
func skip(b []byte, line int) (int, []byte) {
	last := bytes.LastIndexByte(b, '\n') + 1
	line += bytes.Count(b[:last], newline)
	if last == 0 || len(b)-last > 16 {
		return line, []byte{' '}
	}
	return line, bytes.Clone(b[last:])
}

var newline = []byte{'\n'}

// lastMarker gives the index of the last whole line "---", or -1.
func lastMarker(b []byte) int {
	for end := len(b); ; {
		i := bytes.LastIndex(b[:end], []byte("\n---"))
		if i < 0 {
			if isMarker(b) {
				return 0
			}
			return -1
		}
		if isMarker(b[i+1:]) {
			return i + 1
		}
		end = i + 3
	}
}

// firstMarker gives the index of the first whole line "---", or -1.
func firstMarker(b []byte) int {
	if isMarker(b) {
		return 0
	}
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("\n---"))
		if i < 0 {
			return -1
		}
		if isMarker(b[at+i+1:]) {
			return at + i + 1
		}
		at += i + 4
	}
}

// isMarker reports whether b begins with a document marker whose end is in b.
func isMarker(b []byte) bool {
	return len(b) > 3 && string(b[:3]) == "---" && (b[3] == '\n' || b[3] == ' ' || b[3] == '\t' || b[3] == '\r')
}

// tooLargeError words the refusal of a document over the cap.
func tooLargeError(file string, line, limit int) *source.Error {
	return &source.Error{
		Pos:  source.Pos{File: file, Line: line},
		Msg:  fmt.Sprintf("this document is over the cap of %d bytes", limit),
		Hint: "no Kubernetes object is this large; split a List into documents, and judge a whole cluster with --context",
	}
}
