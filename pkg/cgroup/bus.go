package cgroup

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The little of D-Bus that one call takes (D-Bus Specification, "Message
// Protocol"). github.com/godbus/dbus/v5 is the tests' second opinion: linked into
// sbx it brings the package net with it, which costs each of the two starts of
// a run 0.05 ms of initialisation, with a bus or without.

// Kinds of messages.
const (
	kindCall   = 1
	kindError  = 3
	kindSignal = 4
)

// Fields of a header.
const (
	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldErrorName   = 4
	fieldReplySerial = 5
	fieldDestination = 6
	fieldSignature   = 8
)

// encoder appends in little-endian order. What it appends to must itself begin
// at a multiple of 8.
type encoder []byte

func (e *encoder) align(n int) {
	for len(*e)%n != 0 {
		*e = append(*e, 0)
	}
}

func (e *encoder) raw(s string) { *e = append(*e, s...) }

func (e *encoder) u32(n uint32) {
	e.align(4)
	*e = binary.LittleEndian.AppendUint32(*e, n)
}

// str is a string or an object path.
func (e *encoder) str(s string) {
	e.u32(uint32(len(s)))
	e.raw(s)
	e.raw("\x00")
}

func (e *encoder) signature(s string) {
	*e = append(*e, byte(len(s)))
	e.raw(s)
	e.raw("\x00")
}

// array begins one of elements with that alignment; what it returns ends it.
func (e *encoder) array(align int) (end func()) {
	e.u32(0)
	at := len(*e) - 4
	e.align(align)
	begin := len(*e)
	return func() { binary.LittleEndian.PutUint32((*e)[at:], uint32(len(*e)-begin)) }
}

// call appends a method call.
func (e *encoder) call(serial uint32, destination, path, iface, member, signature string, body encoder) {
	m := encoder{'l', kindCall, 0, 1} // flags 0, protocol 1
	m.u32(uint32(len(body)))
	m.u32(serial)
	fields := m.array(8)
	for _, f := range []struct {
		code        byte
		kind, value string
	}{
		{fieldPath, "o", path}, {fieldInterface, "s", iface}, {fieldMember, "s", member},
		{fieldDestination, "s", destination}, {fieldSignature, "g", signature},
	} {
		if f.value == "" {
			continue
		}
		m.align(8)
		m = append(m, f.code)
		m.signature(f.kind)
		if f.kind == "g" {
			m.signature(f.value)
		} else {
			m.str(f.value)
		}
	}
	fields()
	m.align(8)
	*e = append(append(*e, m...), body...)
}

// message is what is read of one: of its body only the leading words, which is
// what an error and the signal JobRemoved (uoss) have.
type message struct {
	kind              byte
	reply             uint32
	member, errorName string
	words             [4]string
}

var errMessage = errors.New("not a message of D-Bus")

// maxMessage is far above all that systemd has to say to us.
const maxMessage = 1 << 20

// decoder reads what a bus says.
type decoder struct {
	from io.Reader
	in   *bufio.Reader
}

func (d *decoder) buffered() *bufio.Reader {
	if d.in == nil {
		d.in = bufio.NewReader(d.from)
	}
	return d.in
}

// line reads one of the authentication.
func (d *decoder) line() (string, error) {
	line, err := d.buffered().ReadSlice('\n')
	return strings.TrimRight(string(line), "\r\n"), err
}

func (d *decoder) message() (message, error) {
	var head [16]byte
	if _, err := io.ReadFull(d.buffered(), head[:]); err != nil {
		return message{}, err
	}
	body, fields := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[12:])
	if head[0] != 'l' || head[3] != 1 || body > maxMessage || fields > maxMessage {
		return message{}, fmt.Errorf("%w: it begins with %x", errMessage, head)
	}
	rest := make([]byte, (fields+7)/8*8+body)
	if _, err := io.ReadFull(d.buffered(), rest); err != nil {
		return message{}, err
	}
	m := message{kind: head[1]}
	signature, err := m.header(rest[:fields])
	if err != nil {
		return message{}, err
	}
	m.readWords(signature, rest[uint32(len(rest))-body:])
	return m, nil
}

// header reads the fields that matter.
func (m *message) header(fields []byte) (signature string, err error) {
	for r := (cursor{data: fields}); ; {
		r.align(8)
		if r.at >= len(r.data) {
			return signature, nil
		}
		code, kind := r.byte(), r.signature()
		var text string
		switch kind {
		case "s", "o":
			text = r.str()
		case "g":
			text = r.signature()
		case "u":
			n := r.u32()
			if code == fieldReplySerial {
				m.reply = n
			}
		default:
			r.bad = true
		}
		if r.bad {
			return "", fmt.Errorf("%w: field %d of its header", errMessage, code)
		}
		switch code {
		case fieldMember:
			m.member = text
		case fieldErrorName:
			m.errorName = text
		case fieldSignature:
			signature = text
		}
	}
}

// readWords reads numbers and strings up to the first of another type.
func (m *message) readWords(signature string, body []byte) {
	r := cursor{data: body}
	for i := 0; i < len(m.words) && i < len(signature); i++ {
		switch signature[i] {
		case 'u':
			r.u32()
		case 's', 'o':
			m.words[i] = r.str()
		default:
			return
		}
		if r.bad {
			m.words[i] = ""
			return
		}
	}
}

// cursor reads values; past the end they are zero and it is bad.
type cursor struct {
	data []byte
	at   int
	bad  bool
}

func (c *cursor) align(n int) { c.at = (c.at + n - 1) / n * n }

func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || c.at > len(c.data) || n > len(c.data)-c.at {
		c.bad = true
		return nil
	}
	c.at += n
	return c.data[c.at-n : c.at]
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u32() uint32 {
	c.align(4)
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) str() string {
	n := c.u32()
	s := string(c.take(int(n)))
	c.take(1)
	return s
}

func (c *cursor) signature() string {
	n := c.byte()
	s := string(c.take(int(n)))
	c.take(1)
	return s
}
