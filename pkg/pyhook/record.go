package pyhook

import (
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf8"
)

// The frame of a record on the pipe:
//
//	magic (4 bytes) | length of the payload (2 bytes, little endian) | payload
//
// and the payload is one tuple of integers, strings and flat tuples in marshal
// version 2. The magic lets the decoder find the next record after garbage,
// which the script can write into the pipe as well as the hook.
const (
	magic     = "\xf5SBX"
	headerLen = len(magic) + 2
	// maxRecord is PIPE_BUF of Linux: what write(2) promises to keep in one piece.
	maxRecord  = 4096
	maxPayload = maxRecord - headerLen
	maxItems   = 512 // elements of one tuple
)

var errMalformed = errors.New("malformed record")

// A reader takes values from one payload. After the first error it returns
// zero values only; err says so in the end.
type reader struct {
	buf []byte
	err error
}

func (r *reader) fail() { r.err, r.buf = errMalformed, nil }

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.buf) {
		r.fail()
		return nil
	}
	b := r.buf[:n]
	r.buf = r.buf[n:]
	return b
}

func (r *reader) tag() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) size() int {
	b := r.take(4)
	if b == nil {
		return 0
	}
	n := binary.LittleEndian.Uint32(b)
	if n > uint32(maxPayload) {
		r.fail()
		return 0
	}
	return int(n)
}

// int reads a non-negative integer of at most 63 bits: TYPE_INT, or TYPE_LONG
// with its digits of 15 bits.
func (r *reader) int() int64 {
	switch r.tag() {
	case 'i':
		if b := r.take(4); b != nil {
			if n := int32(binary.LittleEndian.Uint32(b)); n >= 0 {
				return int64(n)
			}
			r.fail()
		}
	case 'l':
		n := r.size()
		if r.err != nil || n == 0 || n > 5 {
			r.fail()
			return 0
		}
		var v uint64
		for i := range n {
			b := r.take(2)
			if b == nil {
				return 0
			}
			digit := uint64(binary.LittleEndian.Uint16(b))
			if digit >= 1<<15 || i == 4 && digit >= 1<<3 {
				r.fail()
				return 0
			}
			v |= digit << (15 * i)
		}
		return int64(v)
	default:
		r.fail()
	}
	return 0
}

// string reads TYPE_UNICODE and gives the bytes that the string stands for:
// lone surrogates of undecodable bytes become those bytes again (PEP 383), and
// anything else that is not UTF-8 the replacement character.
func (r *reader) string() string {
	if r.tag() != 'u' {
		r.fail()
		return ""
	}
	raw := r.take(r.size())
	if r.err != nil {
		return ""
	}
	if utf8.Valid(raw) {
		return string(raw)
	}
	var b strings.Builder
	for len(raw) > 0 {
		c, n := utf8.DecodeRune(raw)
		if c != utf8.RuneError || n != 1 {
			b.Write(raw[:n])
		} else if len(raw) >= 3 && raw[0] == 0xED && (raw[1] == 0xB2 || raw[1] == 0xB3) && raw[2]&0xC0 == 0x80 {
			n = 3
			b.WriteByte(0x80 + (raw[1]&1)<<6 + raw[2]&0x3F)
		} else {
			b.WriteRune(utf8.RuneError)
		}
		raw = raw[n:]
	}
	return b.String()
}

// tuple reads the head of a tuple and returns its length.
func (r *reader) tuple() int {
	if r.tag() != '(' {
		r.fail()
		return 0
	}
	n := r.size()
	if n > maxItems {
		r.fail()
		return 0
	}
	return n
}

// The kinds of record, the first element of every payload.
const (
	kindStart     = 1
	kindEvent     = 2
	kindException = 3
	kindEnd       = 4
)

// The verdicts as the hook writes them.
const (
	codeAllowed  = 0
	codeDenied   = 1
	codeObserved = 2
	codes        = 3
)

// A total is how often an operation had one verdict in one process.
type total struct {
	op    string
	code  int64
	count int64
}

// A record is one decoded payload. Which fields are set follows from kind.
type record struct {
	kind     int64
	pid, tid int64
	ns       int64 // CLOCK_MONOTONIC, as claimed

	op             string // event: audit event; exception: where it was caught ("main", ...)
	code           int64  // event
	count          int64  // event and exception: the how manieth this is
	target, detail string // event; exception: type and message
	file           string
	line           int64
	function       string

	version string  // start
	mode    string  // start
	status  int64   // end
	totals  []total // end
}

// parseRecord reads one payload, all of it, or fails.
func parseRecord(payload []byte) (record, error) {
	if len(payload) > maxPayload {
		return record{}, errMalformed
	}
	r := reader{buf: payload}
	n := r.tuple()
	rec := record{kind: r.int(), pid: r.int(), tid: r.int(), ns: r.int()}
	want := 0
	switch rec.kind {
	case kindStart:
		want = 6
		rec.version, rec.mode = r.string(), r.string()
	case kindEvent:
		want = 12
		rec.op, rec.code, rec.count = r.string(), r.int(), r.int()
		rec.target, rec.detail = r.string(), r.string()
		rec.file, rec.line, rec.function = r.string(), r.int(), r.string()
	case kindException:
		want = 11
		rec.op, rec.count = r.string(), r.int()
		rec.target, rec.detail = r.string(), r.string()
		rec.file, rec.line, rec.function = r.string(), r.int(), r.string()
	case kindEnd:
		want = 6
		rec.status = r.int()
		for range r.tuple() {
			if r.tuple() != 3 {
				r.fail()
			}
			t := total{op: r.string(), code: r.int(), count: r.int()}
			if r.err != nil {
				break
			}
			rec.totals = append(rec.totals, t)
		}
	default:
		r.fail()
	}
	const maxID = 1<<31 - 1
	if r.err != nil || n != want || len(r.buf) != 0 || rec.pid > maxID || rec.tid > maxID || rec.line > maxID || rec.code >= codes {
		return record{}, errMalformed
	}
	return rec, nil
}
