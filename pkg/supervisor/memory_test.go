package supervisor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const base = 0x7f0000000000 // of a page

func TestReadString(t *testing.T) {
	for _, c := range []struct {
		name string
		at   uint64
		data string // mapped at the address, with whole pages around it
		want string
		fail bool
	}{
		{name: "a name", at: base, data: "/etc/passwd\x00rest", want: "/etc/passwd"},
		{name: "an empty name", at: base, data: "\x00", want: ""},
		{name: "over the end of a page", at: base + pageSize - 3, data: "abcdef\x00", want: "abcdef"},
		{name: "just before memory that is not mapped", at: base + pageSize - 4, data: "abc\x00", want: "abc"},
		{name: "into memory that is not mapped", at: base + pageSize - 4, data: "abcd", fail: true},
		{name: "NULL", at: 0, fail: true},
		{name: "not mapped", at: base + 1<<20, fail: true},
		{name: "the last byte of the address space", at: ^uint64(0), fail: true},
		{name: "no UTF-8", at: base, data: "\xff\xfe\x80\x00", want: "\xff\xfe\x80"},
		{name: "one byte below the limit", at: base, data: strings.Repeat("x", maxString-1) + "\x00", want: strings.Repeat("x", maxString-1)},
		{name: "without an end", at: base + 5, data: strings.Repeat("x", 3*maxString), want: strings.Repeat("x", maxString) + "..."},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newFakeMemory()
			m.put(c.at, []byte(c.data))
			got, err := readString(m, 1, c.at, maxString)
			if c.fail != (err != nil) || got != c.want {
				t.Errorf("readString = %q, %v", got, err)
			}
			if c.fail && !errors.Is(err, errMemory) {
				t.Errorf("the error %v is not errMemory", err)
			}
			if m.asked > maxString+pageSize || m.calls > 3 {
				t.Errorf("%d bytes were read in %d calls", m.asked, m.calls)
			}
		})
	}
}

func TestReadStringOfTenMegabytesReadsNoMoreThanItsLimit(t *testing.T) {
	m := newFakeMemory()
	page := [pageSize]byte(bytes.Repeat([]byte("x"), pageSize))
	for i := range uint64(10 << 20 / pageSize) {
		m.pages[base/pageSize+i] = &page
	}
	got, err := readString(m, 1, base+1, maxString)
	if err != nil || len(got) != maxString+len("...") {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if m.asked != maxString {
		t.Errorf("%d bytes were read, want %d", m.asked, maxString)
	}
}

func TestReadArgv(t *testing.T) {
	const text, far = base + 1<<20, base + 1<<30
	m := newFakeMemory()
	m.put(text, []byte("ls\x00-l\x00\xff\x00"))
	long := uint64(text + 2*pageSize)
	m.put(long, append(bytes.Repeat([]byte("y"), 3*maxArgv), 0))
	many := make([]uint64, 5000)
	for i := range many {
		many[i] = text
	}
	m.putVector(base, text, text+3, text+6, 0)
	m.putVector(base+0x1000, 0)
	m.putVector(base+0x2000, many...)
	m.putVector(base+0x20000, text, long, text, 0)
	m.putVector(base+0x30000, text, far, 0)
	m.putVector(base+0x40ff8, text) // and nothing after the page

	for _, c := range []struct {
		name string
		at   uint64
		want []string
		fail bool
	}{
		{name: "arguments", at: base, want: []string{"ls", "-l", "\xff"}},
		{name: "no arguments", at: base + 0x1000, want: nil},
		{name: "NULL", at: 0, fail: true},
		{name: "thousands", at: base + 0x2000, want: append(repeat("ls", maxArgs), "...")},
		{name: "one that fills the bound", at: base + 0x20000, want: []string{"ls", strings.Repeat("y", maxArgv-3) + "...", "..."}},
		{name: "one that is not mapped", at: base + 0x30000, want: []string{"ls"}, fail: true},
		{name: "no end before memory that is not mapped", at: base + 0x40ff8, want: []string{"ls"}, fail: true},
		{name: "addresses that wrap around", at: ^uint64(0) - 7, fail: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.asked, m.calls = 0, 0
			got, err := readArgv(m, 1, c.at)
			if c.fail != (err != nil) || quoteAll(got) != quoteAll(c.want) {
				t.Errorf("readArgv = %.200q, %v", got, err)
			}
			if m.calls > 3*maxArgs || m.asked > maxArgs*(8+pageSize+maxArgv) {
				t.Errorf("%d bytes were read in %d calls", m.asked, m.calls)
			}
		})
	}
}

func repeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func TestSockaddr(t *testing.T) {
	inet6 := append([]byte{10, 0, 0, 80, 0, 0, 0, 0}, bytes.Repeat([]byte{0}, 16)...)
	inet6[8], inet6[23] = 0xfe, 1
	inet6 = append(inet6, 0, 0, 0, 0)
	path := "/run/" + strings.Repeat("s", 103)
	for _, c := range []struct {
		name   string
		bytes  []byte
		length uint64 // of bytes if 0
		want   string
	}{
		{name: "inet", bytes: []byte{2, 0, 0, 80, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0}, want: "192.0.2.1:80"},
		{name: "inet, too short for an address", bytes: []byte{2, 0, 0, 80, 192}, want: "AF_INET"},
		{name: "inet6", bytes: inet6, want: "[fe00::1]:80"},
		{name: "inet6, too short for an address", bytes: inet6[:20], want: "AF_INET6"},
		{name: "unix with a name", bytes: []byte("\x01\x00/run/x.sock\x00junk"), want: "unix:/run/x.sock"},
		{name: "unix with a name that fills it", bytes: []byte("\x01\x00" + path), want: "unix:" + path},
		{name: "unix, abstract", bytes: []byte("\x01\x00\x00name\x00"), want: "unix:@name"},
		{name: "unix, unnamed", bytes: []byte{1, 0}, want: "unix:"},
		{name: "netlink", bytes: []byte{16, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0}, want: "netlink:5"},
		{name: "netlink, too short", bytes: []byte{16, 0, 0, 0, 5}, want: "AF_NETLINK"},
		{name: "vsock", bytes: []byte{40, 0, 0, 0, 0x39, 5, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}, want: "vsock:2:1337"},
		{name: "packet", bytes: []byte{17, 0, 0, 3, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, want: "packet:2"},
		{name: "packet, too short", bytes: []byte{17, 0, 0, 3, 2, 0}, want: "AF_PACKET"},
		{name: "alg", bytes: append(append(append([]byte{38, 0}, pad("hash", 14)...), make([]byte, 8)...), pad("sha256", 64)...), want: "alg:hash/sha256"},
		{name: "alg, too short", bytes: append([]byte{38, 0}, pad("hash", 14)...), want: "AF_ALG"},
		{name: "vsock, too short", bytes: []byte{40, 0, 0, 0, 0x39, 5, 0, 0}, want: "AF_VSOCK"},
		{name: "a family without a decoder", bytes: []byte{38, 0, 1, 2, 3}, want: "AF_ALG"},
		{name: "no family that exists", bytes: []byte{0xff, 0xff, 0}, want: "65535"},
		{name: "longer than any address", bytes: append([]byte{2, 0, 0, 80, 127, 0, 0, 1}, make([]byte, 300)...), length: 1 << 31, want: "127.0.0.1:80"},
		{name: "not even a family", bytes: []byte{2, 0}, length: 1, want: ""},
		{name: "no length", bytes: []byte{2, 0}, length: 1 << 32, want: ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newFakeMemory()
			m.put(base, c.bytes)
			length := c.length
			if length == 0 {
				length = uint64(len(c.bytes))
			}
			got, err := readSockaddr(m, 1, base, length&0xffffffff)
			if got != c.want || (c.want == "") != (err != nil) {
				t.Errorf("readSockaddr = %q, %v; want %q", got, err, c.want)
			}
			if m.asked > maxAddr {
				t.Errorf("%d bytes were read, want at most %d", m.asked, maxAddr)
			}
		})
	}
}

func TestSockaddrThatEndsInMemoryThatIsNotMappedIsNotShown(t *testing.T) {
	m := newFakeMemory()
	m.put(base+pageSize-8, []byte{2, 0, 0, 80, 127, 0, 0, 1})
	if got, err := readSockaddr(m, 1, base+pageSize-8, 16); err == nil {
		t.Errorf("readSockaddr = %q", got)
	}
}

// TestOwnMemory reads this process with the system call itself.
func TestOwnMemory(t *testing.T) {
	two, err := unix.Mmap(-1, 0, 2*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(two)
	if err := unix.Mprotect(two[pageSize:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	first := two[:pageSize]
	for i := range first {
		first[i] = 'x'
	}
	address := func(offset int) uint64 { return uint64(uintptr(unsafe.Pointer(&first[offset]))) }
	pid := os.Getpid()

	copy(first, "/tmp/\xff\x00")
	if got, err := readString(vm{}, pid, address(0), maxString); got != "/tmp/\xff" || err != nil {
		t.Errorf("a name: %q, %v", got, err)
	}
	if got, err := readString(vm{}, pid, address(pageSize-4), maxString); !errors.Is(err, unix.EFAULT) {
		t.Errorf("a string that runs into a page without access: %q, %v", got, err)
	}
	first[pageSize-1] = 0
	if got, err := readString(vm{}, pid, address(pageSize-4), maxString); got != "xxx" || err != nil {
		t.Errorf("a string that ends with the page: %q, %v", got, err)
	}
	for name, at := range map[string]uint64{"NULL": 0, "no address": 1 << 63, "the top": ^uint64(0)} {
		if got, err := readString(vm{}, pid, at, maxString); !errors.Is(err, errMemory) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if n, err := (vm{}).readAt(pid, nil, 0); n != 0 || err != nil {
		t.Errorf("nothing to read: %d, %v", n, err)
	}
	if _, err := (vm{}).readAt(1<<30, make([]byte, 1), address(0)); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a process that is not there: %v, want ESRCH", err)
	}
}

// pad fills a text up with zeros.
func pad(s string, n int) []byte { return append([]byte(s), make([]byte, n-len(s))...) }

func TestReadOpenHow(t *testing.T) {
	words := func(list ...uint64) []byte {
		var b []byte
		for _, w := range list {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
		return b
	}
	for _, tt := range []struct {
		bytes []byte
		want  string
	}{
		{words(unix.O_WRONLY|unix.O_CREAT, 0o644, unix.RESOLVE_IN_ROOT), "{flags=O_WRONLY|O_CREAT, mode=0644, resolve=RESOLVE_IN_ROOT}"},
		{words(0, 0, 0), "{flags=O_RDONLY}"},
		{words(1<<40, 0, 1<<50), "{flags=O_RDONLY|0x10000000000, resolve=0x4000000000000}"},
		{words(0, 0), ""},
	} {
		m := newFakeMemory()
		at := uint64(2*pageSize - len(tt.bytes)) // nothing behind it
		m.put(at, tt.bytes)
		got, err := readOpenHow(m, 1, at)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q, %v; want %q", got, err, tt.want)
		}
	}
}
