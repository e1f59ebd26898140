package pystack

import (
	"slices"

	"github.com/sbxproject/sbx/pkg/event"
)

// Bounds of the lists that are followed.
const (
	maxInterpreters = 16
	maxThreads      = 1024
	maxFrames       = 64            // of a stack
	maxEntries      = 4 * maxFrames // the interpreter's own between them included
)

// thread is a PyThreadState.
type thread struct {
	addr   uint64
	id     uint64 // of pthread_self(3)
	native int    // of gettid(2); 0 before 3.11
	frame  uint64 // innermost; with cframe set, where that stands
}

// threads calls look with each thread of each interpreter, newest first, until it
// returns false. It returns how many there were.
func (t *target) threads(l *layout, runtime uint64, look func(thread) bool) int {
	n := 0
	var buf [maxStruct + 8]byte
	b := buf[:l.threadSize()]
	interp := t.word(runtime + uint64(l.interpreters))
	for range maxInterpreters {
		if interp == 0 {
			break
		}
		at := t.word(interp + uint64(l.interpThreads))
		for at != 0 && n < maxThreads && t.all(b, at) {
			n++
			next := word(b, l.threadNext)
			if !look(l.thread(at, b)) || next == at {
				return n
			}
			at = next
		}
		next := t.word(interp + uint64(l.interpNext))
		if next == interp {
			break
		}
		interp = next
	}
	return n
}

// thread reads a PyThreadState.
func (l *layout) thread(addr uint64, b []byte) thread {
	th := thread{addr: addr, id: word(b, l.threadID), frame: word(b, l.threadFrame)}
	if l.threadNative >= 0 {
		th.native = int(word(b, l.threadNative) & 0x7fffffff)
	}
	return th
}

// again reads where a thread is now.
func (t *target) again(l *layout, th thread) thread {
	var buf [maxStruct + 8]byte
	if b := buf[:l.threadSize()]; t.all(b, th.addr) {
		return l.thread(th.addr, b)
	}
	return th
}

// tid is a thread's number as the C library knows it.
func (t *target) tid(th thread) int {
	var b [4]byte
	if th.id == 0 || !t.all(b[:], th.id+threadTID) {
		return 0
	}
	return int(half(b[:], 0) & 0x7fffffff)
}

// find looks for the thread with this number in the jail. Python's own note of it
// is wrong in a child that C code forked and that is to become another program
// (_posixsubprocess before 3.14, with a user or group), where the C library's is
// right.
func (t *target) find(l *layout, runtime uint64, nstid int) (found thread, ok bool, n int) {
	var others []thread
	n = t.threads(l, runtime, func(th thread) bool {
		if th.native == nstid {
			found, ok = th, true
			return false
		}
		others = append(others, th)
		return true
	})
	if ok {
		return found, true, n
	}
	for _, th := range others {
		if t.tid(th) == nstid {
			return th, true, n
		}
	}
	return thread{}, false, n
}

// code is what is wanted of a code object.
type code struct {
	addr           uint64
	file, function string
	first          int64
	table          []byte
	ok             bool
}

// A walk reads the frames of one stack.
type walk struct {
	*target
	l     *layout
	codes []code // seen on this stack: recursion is deep and dull
	seen  []uint64
}

// frames calls visit with each frame, innermost first, until it returns false.
func (w *walk) frames(th thread, visit func(event.Location) bool) {
	at := th.frame
	if w.l.cframe >= 0 && at != 0 {
		at = w.word(at + uint64(w.l.cframe))
	}
	var buf [maxStruct + 8]byte
	b := buf[:w.l.frameSize()]
	for n := 0; at != 0 && n < maxFrames && len(w.seen) < maxEntries; {
		if slices.Contains(w.seen, at) {
			return // a ring
		}
		w.seen = append(w.seen, at)
		if !w.all(b, at) {
			visit(event.Location{File: unknown, Claimed: true})
			return
		}
		at = word(b, w.l.previous)
		if w.l.owner >= 0 && b[w.l.owner] >= entryOwner {
			continue
		}
		n++
		if !visit(w.locate(b)) {
			return
		}
	}
}

// locate says where a frame stands.
func (w *walk) locate(frame []byte) event.Location {
	c := w.code(word(frame, w.l.code) &^ stackrefTag)
	out := event.Location{File: c.file, Function: c.function, Claimed: true}
	if !c.ok {
		return out
	}
	var at int64
	switch w.l.lines {
	case lnotab:
		at = int64(int32(half(frame, w.l.instr)))
	case linetable: // in instructions
		at = 2 * int64(int32(half(frame, w.l.instr)))
	default:
		at = int64(word(frame, w.l.instr) - c.addr - uint64(w.l.adaptive))
	}
	out.Line = w.l.lines.line(c.table, c.first, at)
	return out
}

// Sizes of what is read on suspicion: enough for most names and tables.
const (
	textGuess  = 256
	tableGuess = 512
	maxTable   = 1 << 20
)

// code reads a code object.
func (w *walk) code(addr uint64) code {
	if i := slices.IndexFunc(w.codes, func(c code) bool { return c.addr == addr }); i >= 0 {
		return w.codes[i]
	}
	c := code{addr: addr, file: unknown}
	var head [maxStruct + 8]byte
	var texts [2 * textGuess]byte
	b := head[:w.l.codeSize()]
	if w.all(b, addr) {
		spans := []span{
			{word(b, w.l.file), texts[:textGuess:textGuess]},
			{word(b, w.l.name), texts[textGuess:]},
			{word(b, w.l.table), make([]byte, tableGuess)},
		}
		w.together(spans)
		c.file = w.text(w.l, spans[0].addr, spans[0].buf, maxFile)
		c.function = w.text(w.l, spans[1].addr, spans[1].buf, maxName)
		c.first = int64(int32(half(b, w.l.first)))
		c.table, c.ok = w.bytes(spans[2].addr, spans[2].buf)
	}
	w.codes = append(w.codes, c)
	return c
}

// bytes reads the content of a bytes object, of which head is the beginning.
func (w *walk) bytes(addr uint64, head []byte) ([]byte, bool) {
	if len(head) < bytesValue {
		return nil, false
	}
	size := word(head, bytesSize)
	if size > maxTable {
		return nil, false
	}
	if have := head[bytesValue:]; size <= uint64(len(have)) {
		return have[:size], true
	}
	if w.target.bytes+int(size) > maxBytes {
		return nil, false // before memory is made for it
	}
	out := make([]byte, size)
	return out, w.all(out, addr+bytesValue)
}
