package report

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text makes bytes from the jail into text: valid UTF-8, at most limit bytes of
// it taken, bytes that are not UTF-8 as \xNN. A backslash stays as it is, so
// the form is for reading, and the count of bytes stands beside it.
func Text(b []byte, limit int) string {
	cut := len(b) > limit
	if cut {
		// Not inside a character, if there is one.
		end := limit
		for end > 0 && end > limit-utf8.UTFMax && !utf8.RuneStart(b[end]) {
			end--
		}
		b = b[:end]
	}
	var out strings.Builder
	out.Grow(len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&out, `\x%02x`, b[0])
		} else {
			out.Write(b[:n])
		}
		b = b[n:]
	}
	if cut {
		out.WriteString("...")
	}
	return out.String()
}

// unsafeRune says that a character can do something to a terminal, or to the
// order in which text is read, or is not seen at all: controls, bidirectional
// and other invisible formatting, separators of lines, and what has no meaning.
func unsafeRune(r rune) bool {
	if r < utf8.RuneSelf {
		return r < ' ' || r == 0x7f
	}
	return !unicode.IsPrint(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// EscapeTerminal makes a string safe to print in one line on a terminal.
func EscapeTerminal(s string) string {
	if strings.IndexFunc(s, unsafeRune) < 0 && utf8.ValidString(s) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&out, `\x%02x`, s[i])
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\t':
			out.WriteString(`\t`)
		case r == '\r':
			out.WriteString(`\r`)
		case unsafeRune(r) && r <= 0xff:
			fmt.Fprintf(&out, `\x%02x`, r)
		case unsafeRune(r) && r <= 0xffff:
			fmt.Fprintf(&out, `\u%04x`, r)
		case unsafeRune(r):
			fmt.Fprintf(&out, `\U%08x`, r)
		default:
			out.WriteString(s[i : i+n])
		}
		i += n
	}
	return out.String()
}

// clip shortens a text for people; it keeps the beginning.
func clip(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-3]) + "..."
}

// word shows a name that a script chose as one word of a line: safe, short, and
// in quotes where it could be taken for more than itself. What is cut is cut
// from the middle: both ends of a path say something.
func word(s string, width int) string {
	if most := width * utf8.UTFMax * 2; len(s) > most {
		s = s[:most/2] + s[len(s)-most/2:]
	}
	s = EscapeTerminal(s)
	if r := []rune(s); len(r) > width {
		half := (width - 3) / 2
		s = string(r[:half]) + "..." + string(r[len(r)-half:])
	}
	if s == "" || strings.ContainsAny(s, " \"(),") {
		return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
	}
	return s
}

// escapeJSON writes what encoding/json leaves as it is, but a terminal or a page
// would not, as \u escapes. It only touches the inside of strings: outside of
// them JSON has no such characters.
func escapeJSON(data []byte) []byte {
	if strings.IndexFunc(string(data), func(r rune) bool { return r != '\n' && unsafeRune(r) }) < 0 {
		return data
	}
	out := make([]byte, 0, len(data)+64)
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == '\n' || !unsafeRune(r):
			out = append(out, data[i:i+n]...)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		i += n
	}
	return out
}

// escapedSize is at least the number of bytes of a string in JSON as
// escapeJSON leaves it.
func escapedSize(s string) int {
	n := 2
	for _, r := range s {
		switch {
		case r == '"', r == '\\':
			n += 2
		case r == '<', r == '>', r == '&', r == utf8.RuneError, r < utf8.RuneSelf && unsafeRune(r):
			n += 6
		case unsafeRune(r):
			n += 12
		default:
			n += utf8.RuneLen(r)
		}
	}
	return n
}
