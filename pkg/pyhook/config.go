package pyhook

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/profile"
)

// Source is the text of the hook, compiled once per interpreter and handed over
// as marshalled code. Up to the form feed it is run.py, how the script is run:
// with hooks off there is no more to it. After that come hook.py, what is
// watched, and imports.py, imports and uncaught exceptions.
func Source() []byte { return slices.Concat(runSource, []byte("\f\n"), hookSource, importsSource) }

var (
	//go:embed run.py
	runSource []byte
	//go:embed hook.py
	hookSource []byte
	//go:embed imports.py
	importsSource []byte
)

// Filename is the file name that Source should be compiled under. It starts
// with '<' so that traceback and linecache look for no such file.
const Filename = "<sbx>"

// Descriptor numbers in the jail: high enough that a script's own descriptors
// get the numbers that they get without sbx, and below 64, which is what every
// process's table has from the start. A larger number makes the kernel grow the
// table of the init stage, whose threads share it: that waits for an RCU grace
// period, 12 ms where it was measured.
const (
	EventFD = 62
	BootFD  = 63
)

// Command is the text after python's -c. It is one line and holds no policy:
// CPython 3.13 keeps it as source for tracebacks.
const Command = "import marshal,posix;" +
	"boot=marshal.loads(posix.read(63,posix.fstat(63).st_size));posix.close(63);" +
	"hook={};exec(boot[1],hook);main=hook['main'];del hook;main(boot[0])"

// FloodCap is how many events of one operation and verdict are reported one by
// one; after that only the powers of two are, and the total at the end.
const FloodCap = 2000

// Config is what the hook is told about one run.
type Config struct {
	Mode    profile.HookMode
	EventFD int
	// Script is the path in the jail of a file, or of a directory or zip archive
	// with __main__.py. It becomes __file__ and the name in tracebacks.
	Script  string
	Display string   // what the user typed: sys.argv[0]; Script if empty
	Args    []string // sys.argv[1:]
	SysPath []string // sys.path[1:], complete; sys.path[0] is the script's directory
	Roots   []string // directories of the runtime: code there is not the script's

	RestrictedImports []string
	AllowedImports    []string // nil: no allow list

	// What the script may do; enforce mode refuses the rest before the call.
	Read, Write, Network, Processes bool
	// Prefixes in the jail that are readable and writable whatever Read and
	// Write say.
	ReadPaths, WritePaths []string

	// FastExit ends the process after atexit and flush, without tearing the
	// interpreter down, whenever nothing would be lost by that.
	FastExit bool
	Exe      string // sys.executable; unchanged if empty

	// Calibrate, unless it is zero, are the arguments of a setresuid(2) that the
	// boot makes before the script: numbers that nobody else knows, for a call that
	// is refused. The caller sees by it whether it reads the stack as [Calibration]
	// has it.
	Calibrate [3]uint32
}

// Boot is the function of the boot that calls the script. Of what called that one
// nothing is the script's.
const Boot = "main"

// Calibration is the stack of the call that Config.Calibrate asks for, innermost
// first.
func Calibration() []event.Location {
	var out []event.Location
	for _, at := range []struct{ function, call string }{
		{"calibrate", "        call(*numbers)\n"},
		{"begin", "        calibrate(config['calibrate'])\n"},
		{Boot, " = begin(config, source, getframe(1).f_code,"},
	} {
		before, _, _ := bytes.Cut(runSource, []byte(at.call))
		out = append(out, event.Location{
			File: Filename, Line: 1 + bytes.Count(before, []byte{'\n'}), Function: at.function, Claimed: true,
		})
	}
	// What python -c compiles is called that.
	return append(out, event.Location{File: "<string>", Line: 1, Function: "<module>", Claimed: true})
}

// Marshal returns the configuration as a dictionary in Python's marshal format,
// version 2, which every supported interpreter reads.
func (c Config) Marshal() ([]byte, error) {
	switch c.Mode {
	case profile.HooksEnforce, profile.HooksObserve, profile.HooksOff:
	default:
		return nil, fmt.Errorf("encode hook configuration: unknown hook mode %q", c.Mode)
	}
	if !path.IsAbs(c.Script) {
		return nil, fmt.Errorf("encode hook configuration: script path %q is not absolute", c.Script)
	}
	if c.EventFD < 0 {
		return nil, fmt.Errorf("encode hook configuration: event descriptor %d is negative", c.EventFD)
	}
	display := c.Display
	if display == "" {
		display = c.Script
	}
	var allowed any // None, unlike an empty list, allows every module
	if c.AllowedImports != nil {
		allowed = c.AllowedImports
	}
	var calibrate any
	if c.Calibrate != [3]uint32{} {
		calibrate = c.Calibrate
	}
	var e encoder
	e.byte('{')
	for _, entry := range []struct {
		key   string
		value any
	}{
		{"mode", string(c.Mode)},
		{"fd", c.EventFD},
		{"script", c.Script},
		{"display", display},
		{"args", c.Args},
		{"path", c.SysPath},
		{"roots", c.Roots},
		{"restricted", c.RestrictedImports},
		{"allowed", allowed},
		{"read", c.Read},
		{"write", c.Write},
		{"network", c.Network},
		{"processes", c.Processes},
		{"readpaths", c.ReadPaths},
		{"writepaths", c.WritePaths},
		{"fastexit", c.FastExit},
		{"exe", c.Exe},
		{"cap", FloodCap},
		{"calibrate", calibrate},
	} {
		e.string(entry.key)
		e.value(entry.value)
	}
	e.byte('0') // TYPE_NULL ends a dictionary
	if e.err != nil {
		return nil, fmt.Errorf("encode hook configuration: %w", e.err)
	}
	return e.buf, nil
}

// BootFile returns what is written to the boot descriptor: a marshalled tuple of
// the configuration and the code object. Version 2 data holds no references, so
// that the reference numbers inside the code stay right behind it.
//
// compiled is what an interpreter made of Source: marshal.dumps of the code of
// all of it, marshal.dumps of the code of what is before the form feed, and the
// length of the latter in four bytes, little endian.
func BootFile(compiled []byte, c Config) ([]byte, error) {
	all, small, err := split(compiled)
	if err != nil {
		return nil, fmt.Errorf("build boot file: %w", err)
	}
	config, err := c.Marshal()
	if err != nil {
		return nil, fmt.Errorf("build boot file: %w", err)
	}
	code := all
	if c.Mode == profile.HooksOff {
		code = small
	}
	var e encoder
	e.sized('(', 2)
	return append(append(e.buf, config...), code...), nil
}

const maxInt = 1<<31 - 1

// split takes apart what BootFile is given.
func split(compiled []byte) (all, small []byte, err error) {
	end := len(compiled) - 4
	if end < 0 {
		return nil, nil, errors.New("no code")
	}
	n := int(binary.LittleEndian.Uint32(compiled[end:]))
	if n == 0 || n >= end {
		return nil, nil, fmt.Errorf("code of %d bytes in two parts, the second of %d", end, n)
	}
	return compiled[:end-n], compiled[end-n : end], nil
}

// An encoder writes Python's marshal format, version 2 (Python/marshal.c).
type encoder struct {
	buf []byte
	err error
}

func (e *encoder) byte(b byte) { e.buf = append(e.buf, b) }

func (e *encoder) sized(tag byte, n int) {
	e.byte(tag)
	e.buf = binary.LittleEndian.AppendUint32(e.buf, uint32(n))
}

func (e *encoder) value(v any) {
	switch v := v.(type) {
	case nil:
		e.byte('N')
	case bool:
		if v {
			e.byte('T')
		} else {
			e.byte('F')
		}
	case int:
		e.sized('i', v)
	case [3]uint32:
		e.sized('(', len(v))
		for _, n := range v {
			e.sized('i', int(n&maxInt)) // TYPE_INT is signed
		}
	case string:
		e.string(v)
	case []string:
		e.sized('(', len(v))
		for _, s := range v {
			e.string(s)
		}
	}
}

// string writes s as Python's os.fsdecode would give it: a byte that is not
// UTF-8 becomes the lone surrogate U+DC80 to U+DCFF (PEP 383), which marshal
// keeps as the three bytes of its UTF-8 form.
func (e *encoder) string(s string) {
	if strings.IndexByte(s, 0) >= 0 {
		e.err = errors.Join(e.err, fmt.Errorf("string %q holds a NUL byte", s))
		return
	}
	var out []byte
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			low := s[0] - 0x80
			out = append(out, 0xED, 0xB2|low>>6, 0x80|low&0x3F)
		} else {
			out = append(out, s[:n]...)
		}
		s = s[n:]
	}
	e.sized('u', len(out))
	e.buf = append(e.buf, out...)
}
