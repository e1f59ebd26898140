package pystack

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// span is a piece of a target's memory, and where it goes.
type span struct {
	addr uint64
	buf  []byte
}

// memory reads a process's address space: the spans one after the other, up to
// the first byte that is not there. It returns how many bytes came.
type memory interface {
	read(pid int, spans []span) int
}

// vm is process_vm_readv(2).
type vm struct{}

func (vm) read(pid int, spans []span) int {
	var local [maxSpans]unix.Iovec
	var remote [maxSpans]unix.RemoteIovec
	for i, s := range spans {
		local[i].Base = &s.buf[0]
		local[i].SetLen(len(s.buf))
		remote[i] = unix.RemoteIovec{Base: uintptr(s.addr), Len: len(s.buf)}
	}
	n, err := unix.ProcessVMReadv(pid, local[:len(spans)], remote[:len(spans)], 0)
	if err != nil {
		return 0
	}
	return n
}

const maxSpans = 3

// Bounds of what is read for one stack, or for all threads of one process. The
// first is 2 ms of system calls.
const (
	maxReads = 2048
	maxBytes = 2 << 20
)

// target is the memory of one process, as far as it may still be read.
type target struct {
	memory memory
	pid    int
	reads  int
	bytes  int
}

// some reads what is there of buf, from its beginning.
func (t *target) some(buf []byte, addr uint64) int {
	if len(buf) == 0 || !t.pay(len(buf)) {
		return 0
	}
	n := t.memory.read(t.pid, []span{{addr, buf}})
	return max(0, min(n, len(buf)))
}

// all reads the whole of buf, or says that it cannot be had.
func (t *target) all(buf []byte, addr uint64) bool { return t.some(buf, addr) == len(buf) }

// together reads several spans in one step and cuts each to what is there of it.
func (t *target) together(spans []span) {
	want := 0
	for _, s := range spans {
		want += len(s.buf)
	}
	if t.pay(want) && t.memory.read(t.pid, spans) == want {
		return
	}
	// One of them ends at memory that is not mapped, which hides those after it.
	for i := range spans {
		spans[i].buf = spans[i].buf[:t.some(spans[i].buf, spans[i].addr)]
	}
}

// pay takes one read out of what is allowed.
func (t *target) pay(bytes int) bool {
	t.reads++
	t.bytes += bytes
	return t.reads <= maxReads && t.bytes <= maxBytes
}

// word reads a pointer; 0 where there is none.
func (t *target) word(addr uint64) uint64 {
	var b [8]byte
	if !t.all(b[:], addr) {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}

// word is the number at an offset that lies within b.
func word(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// half is the number of 32 bits at an offset that lies within b.
func half(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
