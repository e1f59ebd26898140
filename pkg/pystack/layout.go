package pystack

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrUnsupported says that frames of this interpreter cannot be read.
var ErrUnsupported = errors.New("frames of this interpreter are not read")

// layout is where the fields lie in the structures of one version. A negative
// offset is a field that the version does not have.
type layout struct {
	interpreters int // _PyRuntimeState.interpreters.head

	interpNext, interpThreads int // PyInterpreterState: next, threads.head

	// PyThreadState: next, thread_id, native_thread_id; and frame, current_frame or
	// cframe, which leads to the frame in one step more.
	threadNext, threadID, threadNative, threadFrame int
	cframe                                          int // _PyCFrame.current_frame

	// _PyInterpreterFrame: previous, f_code or f_executable, prev_instr or
	// instr_ptr, owner. PyFrameObject: f_back, f_code, f_lasti.
	previous, code, instr, owner int

	// PyCodeObject: co_filename, co_qualname or co_name, co_firstlineno,
	// co_linetable or co_lnotab, co_code_adaptive.
	file, name, first, table, adaptive int
	lines                              lineTable

	// PyUnicodeObject: sizes of PyASCIIObject and PyCompactUnicodeObject, and the
	// bit of state at which kind begins.
	ascii, compact, kind int
}

// The same in every version.
const (
	textLength = 16 // PyASCIIObject.length
	textState  = 32 // PyASCIIObject.state
	bytesSize  = 16 // PyVarObject.ob_size
	bytesValue = 32 // PyBytesObject.ob_sval
)

// lineTable is how a code object keeps its lines.
type lineTable uint8

const (
	lnotab    lineTable = iota // to 3.9, Objects/lnotab_notes.txt
	linetable                  // 3.10, PEP 626
	locations                  // from 3.11, Objects/locations.md
)

// From this owner on a frame is no Python frame but the interpreter's own entry
// from C: FRAME_OWNED_BY_CSTACK of 3.12 and 3.13, FRAME_OWNED_BY_INTERPRETER of
// 3.14. Before 3.12 there are none.
const entryOwner = 3

// stackrefTag are the bits of a _PyStackRef (3.14) that are no address. Before,
// a code object's address has none of them set.
const stackrefTag = 3

// layoutOf returns the facts of one version. offsets is what the interpreter's
// file itself says, which versions before 3.13 do not.
//
// The numbers before 3.13 are offsetof() of the headers Include/cpython/code.h,
// pystate.h, unicodeobject.h and Include/internal/pycore_frame.h, pycore_interp.h,
// pycore_runtime.h, printed by a C program on x86-64.
func layoutOf(major, minor int, offsets []byte) (layout, error) {
	switch {
	case major != 3:
	case minor == 9, minor == 10:
		l := layout{
			interpreters: 32, interpNext: 0, interpThreads: 8,
			threadNext: 8, threadID: 176, threadNative: -1, threadFrame: 24, cframe: -1,
			previous: 24, code: 32, instr: 104, owner: -1,
			file: 104, name: 112, first: 40, table: 120, adaptive: -1, lines: lnotab,
			ascii: 48, compact: 72, kind: 2,
		}
		if minor == 10 {
			l.instr, l.lines = 96, linetable
		}
		return l, nil
	case minor == 11:
		return layout{
			interpreters: 40, interpNext: 0, interpThreads: 16,
			threadNext: 8, threadID: 152, threadNative: 160, threadFrame: 56, cframe: 8,
			previous: 48, code: 32, instr: 56, owner: 69,
			file: 112, name: 128, first: 72, table: 136, adaptive: 184, lines: locations,
			ascii: 48, compact: 72, kind: 2,
		}, nil
	case minor == 12:
		return layout{
			interpreters: 40, interpNext: 0, interpThreads: 72,
			threadNext: 8, threadID: 136, threadNative: 144, threadFrame: 56, cframe: 0,
			previous: 8, code: 0, instr: 56, owner: 70,
			file: 112, name: 128, first: 68, table: 136, adaptive: 192, lines: locations,
			ascii: 40, compact: 56, kind: 2,
		}, nil
	case minor == 13, minor == 14:
		return debugOffsets(minor, offsets)
	}
	return layout{}, fmt.Errorf("%w: CPython %d.%d, 3.9 to 3.14 are", ErrUnsupported, major, minor)
}

// offsetsSize is how much of _PyRuntime is kept for debugOffsets: all fields that
// it asks for.
const offsetsSize = 8 * 64

// cookie begins a _Py_DebugOffsets.
const cookie = "xdebugpy"

// debugOffsets reads _Py_DebugOffsets, with which _PyRuntime begins since 3.13
// (pycore_runtime.h; since 3.14 pycore_debug_offsets.h). Its fields are 64 bits
// wide; which is where differs by version: 3.14 put threads_main after
// threads_head, and two fields at the end of the interpreter's part and of the
// frame's part each.
func debugOffsets(minor int, b []byte) (layout, error) {
	if len(b) < offsetsSize || string(b[:len(cookie)]) != cookie {
		return layout{}, fmt.Errorf("%w: its _PyRuntime does not begin with debug offsets", ErrUnsupported)
	}
	bad := false
	field := func(i int, below uint64) int {
		n := binary.LittleEndian.Uint64(b[8*i:])
		bad = bad || n >= below
		return int(n & 0xffff)
	}
	version := binary.LittleEndian.Uint64(b[8:])
	if version>>24 != 3 || version>>16&0xff != uint64(minor) {
		return layout{}, fmt.Errorf("%w: its debug offsets are of version %x", ErrUnsupported, version)
	}
	if binary.LittleEndian.Uint64(b[16:]) != 0 {
		return layout{}, fmt.Errorf("%w: it is a free-threaded build", ErrUnsupported)
	}
	// Fields before the interpreter's threads_head are the same in both.
	thread, frame, code, kind := 19, 28, 34, 2
	if minor == 14 {
		thread, frame, code, kind = 22, 31, 39, 16
	}
	l := layout{
		interpreters: field(5, 1<<16), interpNext: field(8, 1<<16), interpThreads: field(9, 1<<16),
		threadNext: field(thread+2, maxStruct), threadFrame: field(thread+4, maxStruct), cframe: -1,
		threadID: field(thread+5, maxStruct), threadNative: field(thread+6, maxStruct),
		previous: field(frame+1, maxStruct), code: field(frame+2, maxStruct), instr: field(frame+3, maxStruct), owner: field(frame+5, maxStruct),
		file: field(code+1, maxStruct), name: field(code+3, maxStruct), table: field(code+4, maxStruct), first: field(code+5, maxStruct),
		adaptive: field(code+9, 1<<16), lines: locations,
		ascii: 40, compact: 56, kind: kind,
	}
	if bad {
		return layout{}, fmt.Errorf("%w: its debug offsets make no sense", ErrUnsupported)
	}
	return l, nil
}

// maxStruct bounds how much of one structure is read.
const maxStruct = 512 - 8

// Sizes of what is read of each structure.

func (l *layout) threadSize() int {
	return max(l.threadNext, l.threadID, l.threadNative, l.threadFrame) + 8
}

func (l *layout) frameSize() int { return max(l.previous, l.code, l.instr, l.owner) + 8 }

func (l *layout) codeSize() int { return max(l.file, l.name, l.first, l.table) + 8 }
