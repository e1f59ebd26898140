package pyhook

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/profile"
)

// long is a TYPE_LONG of the given digits of 15 bits.
type long []uint16

// pack encodes nested values as marshal version 2 does.
func pack(v any) []byte {
	var e encoder
	switch v := v.(type) {
	case []any:
		e.sized('(', len(v))
		for _, x := range v {
			e.buf = append(e.buf, pack(x)...)
		}
	case long:
		e.sized('l', len(v))
		for _, d := range v {
			e.buf = binary.LittleEndian.AppendUint16(e.buf, d)
		}
	case []byte:
		e.sized('u', len(v))
		e.buf = append(e.buf, v...)
	default:
		e.value(v)
	}
	return e.buf
}

func frame(payload []byte) []byte {
	out := binary.LittleEndian.AppendUint16([]byte(magic), uint16(len(payload)))
	return append(out, payload...)
}

func rec(v ...any) []byte { return frame(pack(v)) }

var (
	startRecord = rec(1, 7, 7, 1000, "3.13.0", "enforce")
	openRecord  = rec(2, 7, 8, 5000, "open", 1, 1, "/etc/passwd", "read", "/sandbox/a.py", 3, "f")
	errorRecord = rec(3, 7, 7, 6000, "main", 1, "ValueError", "bad", "/sandbox/a.py", 9, "<module>")
	endRecord   = rec(4, 7, 7, 7000, 1, []any{})
)

func decode(stream []byte) ([]event.Event, Stats) {
	var events []event.Event
	d := NewDecoder(func(e event.Event) { events = append(events, e) })
	d.Feed(stream)
	return events, d.Stats()
}

func TestDecoderGolden(t *testing.T) {
	at := func(line int, function string) *event.Location {
		return &event.Location{File: "/sandbox/a.py", Line: line, Function: function, Claimed: true}
	}
	want := []event.Event{
		{Time: 4 * time.Microsecond, Layer: event.Python, Category: event.File, Op: "open", Target: "/etc/passwd",
			Verdict: event.Denied, PID: 7, TID: 8, Location: at(3, "f"), Detail: "read", Count: 1},
		{Time: 5 * time.Microsecond, Layer: event.Python, Category: event.Exception, Op: "ValueError", Target: "bad",
			Verdict: event.Observed, PID: 7, TID: 7, Location: at(9, "<module>"), Detail: "uncaught in main", Count: 1},
	}
	wantStats := Stats{Started: true, Ended: true, Version: "3.13.0", Mode: "enforce", ExitCode: 1, Uncaught: true,
		UncaughtType: "ValueError", UncaughtMessage: "bad", Records: 4}
	stream := bytes.Join([][]byte{startRecord, openRecord, errorRecord, endRecord}, nil)
	for size := 1; size <= len(stream); size++ {
		var got []event.Event
		d := NewDecoder(func(e event.Event) { got = append(got, e) })
		for rest := stream; len(rest) > 0; {
			n := min(size, len(rest))
			d.Feed(rest[:n])
			rest = rest[n:]
		}
		if !reflect.DeepEqual(got, want) || d.Stats() != wantStats {
			t.Fatalf("in pieces of %d:\n%+v\n%+v", size, got, d.Stats())
		}
	}
}

func TestDecoderStrings(t *testing.T) {
	for _, tt := range []struct{ raw, want string }{
		{"plain", "plain"},
		{"caf\xc3\xa9 \xf0\x9f\x90\x8d", "café 🐍"},
		{"\xed\xb2\x80\xed\xb3\xbf", "\x80\xff"},     // PEP 383
		{"a\xed\xa0\xbdb", "a\uFFFD\uFFFD\uFFFDb"},   // another lone surrogate
		{"\xff\xed\xb2", "\uFFFD\uFFFD\uFFFD"},       // not UTF-8 at all
		{"\x1b[31m\u202e\x00", "\x1b[31m\u202e\x00"}, // kept: whoever prints escapes
	} {
		got, _ := decode(rec(2, 7, 8, 0, "open", 0, 1, []byte(tt.raw), "", "", 0, ""))
		if len(got) != 1 || got[0].Target != tt.want || got[0].Location != nil {
			t.Errorf("%q: %+v, want target %q", tt.raw, got, tt.want)
		}
	}
}

func TestDecoderRefuses(t *testing.T) {
	for name, bad := range map[string][]byte{
		"unknown kind":            rec(9, 7, 7, 0, "open", 0),
		"unknown operation":       rec(2, 7, 7, 0, "os.nothing", 0, 1, "", "", "", 0, ""),
		"exception as operation":  rec(2, 7, 7, 0, "main", 0, 1, "", "", "", 0, ""),
		"operation as exception":  rec(3, 7, 7, 0, "open", 1, "E", "", "", 0, ""),
		"unknown verdict":         rec(2, 7, 7, 0, "open", 3, 1, "", "", "", 0, ""),
		"count of zero":           rec(2, 7, 7, 0, "open", 0, 0, "", "", "", 0, ""),
		"count beyond reason":     rec(2, 7, 7, 0, "open", 0, long{0, 0, 0, 0x1000}, "", "", "", 0, ""),
		"negative pid":            rec(2, -7, 7, 0, "open", 0, 1, "", "", "", 0, ""),
		"pid of 32 bits":          rec(2, long{0, 0, 2}, 7, 0, "open", 0, 1, "", "", "", 0, ""),
		"integer of 64 bits":      rec(2, 7, 7, long{0, 0, 0, 0, 8}, "open", 0, 1, "", "", "", 0, ""),
		"digit of 16 bits":        rec(2, 7, 7, long{0x8000}, "open", 0, 1, "", "", "", 0, ""),
		"bool for integer":        rec(2, 7, 7, 0, "open", true, 1, "", "", "", 0, ""),
		"integer for string":      rec(2, 7, 7, 0, 5, 0, 1, "", "", "", 0, ""),
		"too few elements":        rec(2, 7, 7, 0, "open", 0, 1, "", "", "", 0),
		"too many elements":       rec(2, 7, 7, 0, "open", 0, 1, "", "", "", 0, "", ""),
		"bytes after the tuple":   frame(append(pack([]any{4, 7, 7, 0, 0, []any{}}), 'N')),
		"second start":            startRecord,
		"string beyond the end":   frame([]byte("(\x01\x00\x00\x00u\xff\xff\x00\x00")),
		"tuple of four thousand":  frame([]byte("(\x00\x10\x00\x00")),
		"empty payload":           frame(nil),
		"total of another shape":  rec(4, 7, 7, 0, 0, []any{[]any{"open", 0}}),
		"total of no operation":   rec(4, 7, 7, 0, 0, []any{[]any{"x", 0, 5000}}),
		"length beyond PIPE_BUF":  []byte(magic + "\xff\xff"),
		"text":                    []byte("{\"event\": \"open\"}\n"),
		"half a magic":            []byte("\xf5SB"),
		"magic again and again":   bytes.Repeat([]byte(magic), 300),
		"an empty record's magic": []byte(magic + "\x00\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			events, stats := decode(bytes.Join([][]byte{startRecord, bad, openRecord}, nil))
			if len(events) != 1 || events[0].Op != "open" || events[0].Verdict != event.Denied || stats.Malformed == 0 || stats.Records != 2 {
				t.Errorf("events %+v, stats %+v: want the record after the bad one, and the bad one counted", events, stats)
			}
		})
	}
}

func TestDecoderFoldsCounts(t *testing.T) {
	one := func(n any) []byte { return rec(2, 7, 8, 0, "open", 1, n, "x", "", "", 0, "") }
	events, stats := decode(bytes.Join([][]byte{
		startRecord, one(FloodCap), one(2048), one(4096), one(4096), // the repeat makes no sense
		rec(4, 7, 7, 0, 0, []any{[]any{"open", 1, 5000}, []any{"import", 0, 2001}}),
	}, nil))
	var counts []uint64
	for _, e := range events {
		counts = append(counts, e.Count)
	}
	if want := []uint64{1, 48, 2048, 904, 1}; !reflect.DeepEqual(counts, want) {
		t.Errorf("counts %d, want %d", counts, want)
	}
	if stats.Malformed != 1 || stats.Suppressed != 47+2047+904+1 {
		t.Errorf("stats = %+v", stats)
	}
}

func TestDecoderIsBounded(t *testing.T) {
	d := NewDecoder(func(event.Event) {})
	for pid := range maxCounters + 100 {
		d.Feed(rec(2, pid, 8, 0, "open", 1, 4096, "x", "", "", 0, ""))
	}
	if len(d.seen) > maxCounters || d.Stats().Malformed == 0 {
		t.Errorf("%d counters kept, stats %+v", len(d.seen), d.Stats())
	}
	for range 100 {
		d.Feed(bytes.Repeat([]byte(magic+"\xf0\x0f"), 1000))
	}
	if cap(d.buf) > 4*maxRecord {
		t.Errorf("buffer of %d bytes kept", cap(d.buf))
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add(bytes.Join([][]byte{startRecord, openRecord, errorRecord, endRecord}, nil))
	f.Add(rec(4, 7, 7, 0, 0, []any{[]any{"open", 1, 5000}}))
	f.Add(append([]byte("garbage\xf5S"), openRecord...))
	f.Add(rec(2, 7, 8, long{1, 2, 3}, "open", 0, 1, []byte("\xed\xb2\x80"), "", "", 0, ""))
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole, stats := decode(stream)
		var pieces []event.Event
		d := NewDecoder(func(e event.Event) { pieces = append(pieces, e) })
		for i := range stream {
			d.Feed(stream[i : i+1])
		}
		if !reflect.DeepEqual(whole, pieces) || d.Stats().Records != stats.Records {
			t.Errorf("the split changes the events:\n%+v\n%+v", whole, pieces)
		}
		if len(d.buf) > maxRecord || len(whole) > len(stream) {
			t.Errorf("%d bytes kept, %d events from %d bytes", len(d.buf), len(whole), len(stream))
		}
		for _, e := range whole {
			if e.Layer != event.Python || e.Op == "" || e.Time < 0 || e.PID < 0 || len(e.Target) > 3*maxRecord || e.Location != nil && !e.Location.Claimed {
				t.Errorf("event %+v", e)
			}
		}
	})
}

func TestConfigRoundTrip(t *testing.T) {
	c := Config{
		Mode: profile.HooksObserve, EventFD: 5, Script: "/sandbox/caf\u00e9.py", Display: "x\xffy", Args: []string{"", "🐍"},
		SysPath: []string{"/lib"}, Roots: []string{"/usr/lib/python3.11"}, RestrictedImports: []string{"os"}, AllowedImports: []string{},
		Read: true, Network: true, ReadPaths: []string{"/data"}, FastExit: true, Exe: "/usr/bin/python3",
		Calibrate: [3]uint32{1, 1<<31 - 1, 3},
	}
	data, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const want = `{'mode': 'observe', 'fd': 5, 'script': '/sandbox/caf\xe9.py', 'display': 'x\udcffy', 'args': ('', '\U0001f40d'), ` +
		`'path': ('/lib',), 'roots': ('/usr/lib/python3.11',), 'restricted': ('os',), 'allowed': (), 'read': True, 'write': False, ` +
		`'network': True, 'processes': False, 'readpaths': ('/data',), 'writepaths': (), 'fastexit': True, 'exe': '/usr/bin/python3', 'cap': 2000, 'calibrate': (1, 2147483647, 3)}`
	eachPython(t, func(t *testing.T, p python) {
		cmd := exec.CommandContext(t.Context(), p.exe, "-c", "import marshal, sys; print(ascii(marshal.loads(sys.stdin.buffer.read())))")
		cmd.Stdin, cmd.Env = bytes.NewReader(data), os.Environ()
		if o := finish(t, cmd); strings.TrimSpace(o.stdout) != want {
			t.Errorf("%s%s\nwant %s", o.stdout, o.stderr, want)
		}
	})
}

func TestConfigRefuses(t *testing.T) {
	good := Config{Mode: profile.HooksEnforce, Script: "/a.py"}
	for name, change := range map[string]func(*Config){
		"no mode":         func(c *Config) { c.Mode = "" },
		"relative script": func(c *Config) { c.Script = "a.py" },
		"NUL":             func(c *Config) { c.Args = []string{"a\x00b"} },
		"descriptor":      func(c *Config) { c.EventFD = -1 },
	} {
		c := good
		change(&c)
		if _, err := BootFile([]byte("allpart\x04\x00\x00\x00"), c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Hooks cost their code only where they are on.
func TestBootFileHoldsWhatTheModeNeeds(t *testing.T) {
	for mode, code := range map[profile.HookMode]string{
		profile.HooksEnforce: "all", profile.HooksObserve: "all", profile.HooksOff: "part",
	} {
		c := Config{Mode: mode, Script: "/a.py"}
		config, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		boot, err := BootFile([]byte("allpart\x04\x00\x00\x00"), c)
		if want := "(\x02\x00\x00\x00" + string(config) + code; err != nil || string(boot) != want {
			t.Errorf("%s: %q, %v, want %q", mode, boot, err, want)
		}
	}
}

func TestBootFileRefusesCodeThatIsNotInTwoParts(t *testing.T) {
	for name, compiled := range map[string]string{
		"nothing":             "",
		"less than a length":  "\x01\x00\x00",
		"a length alone":      "\x00\x00\x00\x00",
		"an empty part":       "allpart\x00\x00\x00\x00",
		"nothing but a part":  "part\x04\x00\x00\x00",
		"a part out of reach": "allpart\x08\x00\x00\x00",
		"a part of 4 GiB":     "allpart\xff\xff\xff\xff",
	} {
		if boot, err := BootFile([]byte(compiled), Config{Mode: profile.HooksOff, Script: "/a.py"}); err == nil {
			t.Errorf("%s: no error, %q", name, boot)
		}
	}
}
