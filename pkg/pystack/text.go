package pystack

import (
	"encoding/binary"
	"unicode/utf8"
)

// Bounds of what is kept of a name, in characters: those of the hook, so that
// both witnesses call a place the same.
const (
	maxFile = 400
	maxName = 200
)

// unknown stands for what cannot be read or makes no sense.
const unknown = "?"

// text reads a str (PEP 393) at addr, of which head is the beginning. Lone
// surrogates of undecodable bytes become those bytes again (PEP 383), other
// surrogates the replacement character.
func (t *target) text(l *layout, addr uint64, head []byte, limit int) string {
	if len(head) < l.compact {
		return unknown
	}
	length, state := word(head, textLength), half(head, textState)>>l.kind
	kind, compact, ascii := uint64(state&7), state&8 != 0, state&16 != 0
	if !compact || kind != 1 && kind != 2 && kind != 4 || ascii && kind != 1 || length > 1<<40 {
		return unknown
	}
	data := l.compact
	if ascii {
		data = l.ascii
	}
	n := int(min(length, uint64(limit)))
	size := n * int(kind)
	var raw []byte
	if data+size <= len(head) {
		raw = head[data : data+size]
	} else {
		raw = make([]byte, size)
		if !t.all(raw, addr+uint64(data)) {
			return unknown
		}
	}
	out := make([]byte, 0, size+4)
	for ; len(raw) > 0; raw = raw[kind:] {
		var c uint32
		switch kind {
		case 1:
			c = uint32(raw[0])
		case 2:
			c = uint32(binary.LittleEndian.Uint16(raw))
		default:
			c = binary.LittleEndian.Uint32(raw)
		}
		switch {
		case c >= 0xdc80 && c <= 0xdcff:
			out = append(out, byte(c))
		case c > utf8.MaxRune: // as a rune it could be negative
			out = utf8.AppendRune(out, utf8.RuneError)
		default:
			out = utf8.AppendRune(out, rune(c))
		}
	}
	if length > uint64(n) {
		out = append(out, "..."...)
	}
	return string(out)
}
