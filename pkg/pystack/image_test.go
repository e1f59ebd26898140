package pystack

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/event"
)

var capture = flag.Bool("capture", false, "write testdata/*.json anew from the interpreters of this machine")

// captured is what was read of a process for one stack: an address space with
// holes.
type captured struct {
	Major, Minor int
	Offsets      []byte `json:",omitempty"`
	Runtime      uint64
	NSTID        int
	Want         []event.Location
	Memory       map[uint64][]byte
}

// read is like process_vm_readv(2), which reads up to what is not there.
func (c captured) read(_ int, spans []span) int {
	n := 0
	for _, s := range spans {
		got := c.at(s.buf, s.addr)
		if n += got; got < len(s.buf) {
			break
		}
	}
	return n
}

func (c captured) at(buf []byte, addr uint64) int {
	for at, b := range c.Memory {
		if off := addr - at; off < uint64(len(b)) {
			return copy(buf, b[off:])
		}
	}
	return 0
}

func (c captured) reader() *Reader {
	r := New(Options{Major: c.Major, Minor: c.Minor, Image: Image{Symbol: c.Runtime, Fixed: true, Offsets: c.Offsets}})
	r.proven, r.memory, r.proc = true, c, procfs{"/nowhere"}
	return r
}

// recorder keeps what passes through it. What overlaps is kept as one piece.
type recorder struct {
	vm
	pieces map[uint64][]byte
}

func (r recorder) read(pid int, spans []span) int {
	n := r.vm.read(pid, spans)
	left := n
	for _, s := range spans {
		got := min(left, len(s.buf))
		if left -= got; got > len(r.pieces[s.addr]) {
			r.pieces[s.addr] = slices.Clone(s.buf[:got])
		}
	}
	return n
}

func (r recorder) joined() map[uint64][]byte {
	out := map[uint64][]byte{}
	var last uint64
	for _, at := range slices.Sorted(maps.Keys(r.pieces)) {
		b := r.pieces[at]
		if end := last + uint64(len(out[last])); len(out) > 0 && at <= end {
			if at+uint64(len(b)) > end {
				out[last] = append(out[last], b[end-at:]...)
			}
			continue
		}
		out[at], last = b, at
	}
	return out
}

const captureScript = waiting + `
class Käse:
    def wait(self):
        hold()
def gen():
    yield Käse().wait()
def work():
    exec(compile("list(gen())", "日本.py", "exec"))
threading.Thread(target=lambda: time.sleep(600), daemon=True).start()
work()
`

// TestCapture writes the images that the other tests use.
func TestCapture(t *testing.T) {
	if !*capture {
		t.Skip("only with -capture")
	}
	eachPython(t, func(t *testing.T, p python) {
		s := p.start(t, captureScript)
		tid := s.hear(t)[0]
		r := p.reader()
		memory := recorder{pieces: map[uint64][]byte{}}
		r.memory = memory
		var runtime uint64
		for runtime = range r.places(s.Process.Pid) {
			break
		}
		stack, _, err := r.Stack(s.Process.Pid, tid)
		if err != nil {
			t.Fatal(err)
		}
		_, _, _ = r.Stack(s.Process.Pid, 1<<22+7) // all threads
		c := captured{p.Major, p.Minor, p.image.Offsets, runtime, tid, stack, memory.joined()}
		dir := filepath.Dir(s.Args[len(s.Args)-1])
		elsewhere := strings.NewReplacer(dir, strings.Repeat("x", len(dir)), "root", "home") // no name of this machine
		for i := range c.Want {
			c.Want[i].File = elsewhere.Replace(c.Want[i].File)
		}
		for _, b := range c.Memory {
			copy(b, elsewhere.Replace(string(b)))
		}
		data, err := json.MarshalIndent(c, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("testdata/%s.json", p.Version), append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	})
}

// images are what was captured, oldest version first.
func images(t testing.TB) []captured {
	t.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("images %v (%v), want one for each version", files, err)
	}
	var out []captured
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var c captured
		if err := json.Unmarshal(data, &c); err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b captured) int { return a.Minor - b.Minor })
	return out
}

// TestImages reads interpreters that are not on this machine.
func TestImages(t *testing.T) {
	for _, c := range images(t) {
		stack, place, err := c.reader().Stack(1, c.NSTID)
		if err != nil || !slices.Equal(stack, c.Want) || *place != c.Want[0] {
			t.Errorf("3.%d: %s (%v), want %s", c.Minor, shown(stack), err, shown(c.Want))
		}
		if want := map[bool]string{true: "Käse.wait:7", false: "wait:7"}[c.Minor >= 11]; !strings.Contains(shown(c.Want), want) {
			t.Errorf("3.%d: captured is %s, want %s in it", c.Minor, shown(c.Want), want)
		}
	}
}

// FuzzMemory changes what an interpreter's memory holds. Whatever is there, the
// reader ends, and what it says has its bounds.
func FuzzMemory(f *testing.F) {
	all := images(f)
	change := func(image byte, changes ...uint64) []byte {
		out := []byte{image}
		for _, n := range changes {
			out = binary.LittleEndian.AppendUint64(out, n)
		}
		return out
	}
	for i, c := range all {
		f.Add(change(byte(i)))
		pieces := slices.Sorted(maps.Keys(c.Memory))
		for piece := range pieces {
			for _, at := range []uint64{0, 8, 16, 24, 32, 56, 72, 112, 120, 136} {
				for _, value := range []uint64{pieces[piece], 1<<62 - 1} {
					f.Add(change(byte(i), uint64(piece), at, value))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		c := all[int(data[0])%len(all)]
		original := c.Memory
		c.Memory = maps.Clone(original)
		pieces := slices.Sorted(maps.Keys(original))
		for data = data[1:]; len(data) >= 24; data = data[24:] {
			at := pieces[binary.LittleEndian.Uint64(data)%uint64(len(pieces))]
			b := slices.Clone(c.Memory[at])
			if off := binary.LittleEndian.Uint64(data[8:]) % uint64(len(b)); off+8 <= uint64(len(b)) {
				copy(b[off:], data[16:24])
			}
			c.Memory[at] = b
		}
		r := c.reader()
		meter := &counting{memory: c}
		r.memory = meter
		stack, place, err := r.Stack(1, c.NSTID)
		if err == nil && (len(stack) == 0 || place == nil) || err != nil && (stack != nil || place != nil) {
			t.Errorf("%d frames at %v with the error %v", len(stack), place, err)
		}
		check := func(stack []event.Location) {
			if len(stack) > kept {
				t.Errorf("%d frames", len(stack))
			}
			for _, at := range stack {
				if len(at.File) > 4*maxFile+3 || len(at.Function) > 4*maxName+3 || at.Line < 0 || at.Line > maxLine || !at.Claimed {
					t.Errorf("a frame at %+v", at)
				}
			}
		}
		check(stack)
		// maxReads for each of the two, and as many bytes as are allowed.
		if meter.reads > maxReads+1 || meter.bytes > maxBytes {
			t.Errorf("%d reads of %d bytes", meter.reads, meter.bytes)
		}
	})
}

// counting counts what is read.
type counting struct {
	memory
	reads, bytes int
}

func (c *counting) read(pid int, spans []span) int {
	c.reads++
	for _, s := range spans {
		c.bytes += len(s.buf)
	}
	return c.memory.read(pid, spans)
}

// FuzzLines decodes line tables that nobody made.
func FuzzLines(f *testing.F) {
	f.Add([]byte{0x80, 0}, int64(1), int64(0))
	f.Add([]byte{0xf7, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f}, int64(1), int64(2))
	f.Add([]byte{255, 127, 1, 128, 3, 255}, int64(-5), int64(1)<<62)
	f.Fuzz(func(t *testing.T, table []byte, first, at int64) {
		for _, k := range []lineTable{lnotab, linetable, locations} {
			if line := k.line(table, int64(int32(first)), at); line < 0 || line > maxLine {
				t.Errorf("table %d: line %d", k, line)
			}
		}
	})
}

func TestLocate(t *testing.T) {
	if _, err := Locate("/bin/sh"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("of a program without the symbol: %v", err)
	}
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte("\x7fELF and nothing more"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{file, file + " is not there"} {
		if _, err := Locate(file); err == nil {
			t.Errorf("%s: no error", file)
		}
	}
	eachPython(t, func(t *testing.T, p python) {
		if (p.image.Offsets != nil) != (p.Minor >= 13) {
			t.Errorf("debug offsets of %d bytes", len(p.image.Offsets))
		}
	})
}

// TestDebugOffsets that make no sense are not used.
func TestDebugOffsets(t *testing.T) {
	good := make([]byte, offsetsSize)
	copy(good, cookie)
	put := func(b []byte, i int, n uint64) { binary.LittleEndian.PutUint64(b[8*i:], n) }
	for _, minor := range []int{13, 14} {
		put(good, 1, uint64(0x03000000+minor<<16))
		if _, err := layoutOf(3, minor, good); err != nil {
			t.Errorf("3.%d: %v", minor, err)
		}
		for name, change := range map[string]func([]byte){
			"cookie": func(b []byte) { b[0] = 'y' }, "version": func(b []byte) { put(b, 1, 0x030f0000) },
			"free-threaded": func(b []byte) { put(b, 2, 1) }, "far away": func(b []byte) { put(b, 9, 1<<16) },
			"a large frame": func(b []byte) { put(b, 33, maxStruct) }, "negative": func(b []byte) { put(b, 5, ^uint64(0)) },
		} {
			bad := slices.Clone(good)
			change(bad)
			if _, err := layoutOf(3, minor, bad); !errors.Is(err, ErrUnsupported) {
				t.Errorf("3.%d, %s: %v", minor, name, err)
			}
		}
		if _, err := layoutOf(3, minor, good[:100]); !errors.Is(err, ErrUnsupported) {
			t.Errorf("3.%d, cut: %v", minor, err)
		}
	}
}
