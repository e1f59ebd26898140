package pystack

import (
	"encoding/binary"
	"testing"

	"github.com/sbxproject/sbx/pkg/event"
)

// TestLayoutOf314 reads a memory that was made by hand from the headers of 3.14,
// of which no interpreter was at hand: the order of the debug offsets, tagged
// references to code, entry frames, and the state of a str in its upper half.
func TestLayoutOf314(t *testing.T) {
	memory := map[uint64][]byte{}
	put := func(addr uint64, size int, words map[int]uint64) {
		b := make([]byte, size)
		for at, n := range words {
			binary.LittleEndian.PutUint64(b[at:], n)
		}
		memory[addr] = b
	}
	str := func(addr uint64, s string) {
		const asciiCompact = (1 | 8 | 16) << 16
		put(addr, 40, map[int]uint64{textLength: uint64(len(s)), textState: asciiCompact | 3})
		memory[addr] = append(append(memory[addr], s...), make([]byte, 64)...)
	}
	const runtime, interp, thread, entry, frame, code, name, file, table = 0x1000, 0x20000, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000, 0x8000, 0x9000
	offsets := make([]byte, offsetsSize)
	copy(offsets, cookie)
	for i, n := range map[int]uint64{
		1: 0x030e00f0, 5: 800, 8: 7300, 9: 7344, // version, interpreters_head, next, threads_head
		24: 8, 26: 72, 27: 152, 28: 160, // next, current_frame, thread_id, native_thread_id
		32: 8, 33: 0, 34: 56, 36: 74, // previous, executable, instr_ptr, owner
		40: 112, 42: 128, 43: 136, 44: 68, 48: 208, // filename, qualname, linetable, firstlineno, co_code_adaptive
	} {
		binary.LittleEndian.PutUint64(offsets[8*i:], n)
	}
	put(runtime, 1024, map[int]uint64{800: interp})
	put(interp, 8192, map[int]uint64{7344: thread})
	put(thread, 512, map[int]uint64{72: frame, 160: 42})
	put(frame, 128, map[int]uint64{0: code | 1, 8: entry, 56: code + 208 + 4})
	put(entry, 128, map[int]uint64{72: entryOwner << 16})
	put(code, 512, map[int]uint64{112: file, 128: name, 136: table, 68: 10})
	str(file, "/x.py")
	str(name, "C.f")
	// Two code units of line 10, then one of line 12 (form "one line", two on).
	put(table, bytesValue, map[int]uint64{bytesSize: 6})
	memory[table] = append(memory[table], 0x80|10<<3|1, 0, 0, 0x80|12<<3, 0, 0)

	c := captured{Major: 3, Minor: 14, Offsets: offsets, Runtime: runtime, Memory: memory}
	r := c.reader()
	if err := r.Off(); err != nil {
		t.Fatal(err)
	}
	stack, _, err := r.Stack(1, 42)
	want := event.Location{File: "/x.py", Line: 12, Function: "C.f", Claimed: true}
	if err != nil || len(stack) != 1 || stack[0] != want {
		t.Errorf("read %+v (%v), want %+v", stack, err, want)
	}
}
