package supervisor

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
)

// at writes the texts one after the other from base on and returns where each
// is.
func at(m *fakeMemory, texts ...string) []uint64 {
	var out []uint64
	addr := uint64(base)
	for _, s := range texts {
		m.put(addr, append([]byte(s), 0))
		out = append(out, addr)
		addr += uint64(len(s)) + 1
	}
	return out
}

const atCWD = 1<<64 + unix.AT_FDCWD

func TestDescribe(t *testing.T) {
	m := newFakeMemory()
	s := at(m, "/etc/passwd", "data", "../up", "", "/tmp/./a/../b", "new", "\xffname", "ls", "-l")
	passwd, data, up, empty, dotted, other, odd, ls := s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
	const vector, addr, header, wild = base + 1<<20, base + 2<<20, base + 3<<20, base + 1<<30
	m.putVector(vector, ls, s[8], 0)
	m.put(addr, []byte{2, 0, 0, 80, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	m.putVector(header, addr)
	m.put(header+8, binary.LittleEndian.AppendUint32(nil, 16))
	m.putVector(header+0x1000, 0, 0)
	v := fakeView{dir: "/work", fds: map[int]string{3: "/usr/lib", 4: "pipe:[7]", 5: "/"}}

	for _, c := range []struct {
		name   string
		nr     int
		args   []uint64
		target string
		detail string
		paths  []string
		vague  bool
	}{
		{
			name: "an absolute path", nr: unix.SYS_OPENAT, args: []uint64{atCWD, passwd, unix.O_WRONLY | unix.O_CLOEXEC, 0},
			target: "/etc/passwd", detail: `openat(AT_FDCWD, "/etc/passwd", O_WRONLY|O_CLOEXEC, 00)`, paths: []string{"/etc/passwd"},
		},
		{
			name: "relative to where the target stands", nr: unix.SYS_OPENAT, args: []uint64{atCWD, data, unix.O_RDWR | unix.O_CREAT, 0o644},
			target: "/work/data", detail: `openat(AT_FDCWD, "data", O_RDWR|O_CREAT, 0644)`, paths: []string{"/work/data"},
		},
		{
			name: "relative, of a call without a directory", nr: unix.SYS_MKDIR, args: []uint64{up, 0o700},
			target: "/up", detail: `mkdir("../up", 0700)`, paths: []string{"/up"},
		},
		{
			name: "relative to a descriptor", nr: unix.SYS_UNLINKAT, args: []uint64{3, data, 0},
			target: "/usr/lib/data", detail: `unlinkat(3, "data", 0)`, paths: []string{"/usr/lib/data"},
		},
		{
			name: "an absolute path does not look at the descriptor", nr: unix.SYS_UNLINKAT, args: []uint64{99, passwd, 0},
			target: "/etc/passwd", detail: `unlinkat(99, "/etc/passwd", 0)`, paths: []string{"/etc/passwd"},
		},
		{
			name: "relative to no directory", nr: unix.SYS_UNLINKAT, args: []uint64{4, data, 0},
			target: "data", detail: `unlinkat(4, "data", 0)`, paths: []string{"data"}, vague: true,
		},
		{
			name: "relative to a descriptor that is not open", nr: unix.SYS_UNLINKAT, args: []uint64{1<<64 - 1, data, 0},
			target: "data", detail: `unlinkat(-1, "data", 0)`, paths: []string{"data"}, vague: true,
		},
		{
			name: "garbage above the 32 bits of a descriptor", nr: unix.SYS_UNLINKAT, args: []uint64{0xdead_0000_0005, data, 0},
			target: "/data", detail: `unlinkat(5, "data", 0)`, paths: []string{"/data"},
		},
		{
			name: "an empty name is the descriptor itself or nothing", nr: unix.SYS_FCHMODAT2, args: []uint64{3, empty, 0o600, unix.AT_EMPTY_PATH},
			target: "/usr/lib", detail: `fchmodat2(3, "", 0600, AT_EMPTY_PATH)`, paths: []string{"/usr/lib"}, vague: true,
		},
		{
			name: "dots are resolved by words", nr: unix.SYS_RMDIR, args: []uint64{dotted},
			target: "/tmp/b", detail: `rmdir("/tmp/./a/../b")`, paths: []string{"/tmp/b"},
		},
		{
			name: "no UTF-8", nr: unix.SYS_RMDIR, args: []uint64{odd},
			target: "/work/\xffname", detail: `rmdir("\xffname")`, paths: []string{"/work/\xffname"},
		},
		{
			name: "two paths", nr: unix.SYS_RENAMEAT, args: []uint64{3, data, atCWD, other},
			target: "/usr/lib/data -> /work/new", detail: `renameat(3, "data", AT_FDCWD, "new")`, paths: []string{"/usr/lib/data", "/work/new"},
		},
		{
			name: "the directory of one path is not that of the next", nr: unix.SYS_LINKAT, args: []uint64{3, data, 4, other, 0},
			target: "/usr/lib/data -> new", detail: `linkat(3, "data", 4, "new", 0)`, paths: []string{"/usr/lib/data", "new"}, vague: true,
		},
		{
			name: "what a link says is no path of the call", nr: unix.SYS_SYMLINK, args: []uint64{passwd, data},
			target: "/work/data", detail: `symlink("/etc/passwd", "data")`, paths: []string{"/work/data"},
		},
		{name: "NULL for a path", nr: unix.SYS_RMDIR, args: []uint64{0}, target: "rmdir", detail: "rmdir(0x0)", vague: true},
		{name: "a path that is not mapped", nr: unix.SYS_RMDIR, args: []uint64{wild}, target: "rmdir", detail: "rmdir(0x7f0040000000)", vague: true},
		{
			name: "one of two paths that is not mapped", nr: unix.SYS_RENAME, args: []uint64{wild, passwd},
			target: "/etc/passwd", detail: `rename(0x7f0040000000, "/etc/passwd")`, paths: []string{"/etc/passwd"}, vague: true,
		},
		{
			name: "a command", nr: unix.SYS_EXECVE, args: []uint64{passwd, vector, 0},
			target: "ls -l", detail: `execve("/etc/passwd", ["ls", "-l"], 0x0)`, paths: []string{"/etc/passwd"},
		},
		{
			name: "a command without arguments", nr: unix.SYS_EXECVE, args: []uint64{passwd, 0, 0},
			target: "/etc/passwd", detail: `execve("/etc/passwd", 0x0, 0x0)`, paths: []string{"/etc/passwd"},
		},
		{name: "connect", nr: unix.SYS_CONNECT, args: []uint64{5, addr, 16}, target: "192.0.2.1:80", detail: "connect(5, 192.0.2.1:80, 16)"},
		{name: "connect to nothing", nr: unix.SYS_CONNECT, args: []uint64{5, 0, 16}, target: "connect", detail: "connect(5, 0x0, 16)"},
		{name: "connect with a length below 0", nr: unix.SYS_CONNECT, args: []uint64{5, addr, 1<<64 - 1}, target: "192.0.2.1:80", detail: "connect(5, 192.0.2.1:80, -1)"},
		{name: "sendto", nr: unix.SYS_SENDTO, args: []uint64{5, base, 3, 0, addr, 16}, target: "192.0.2.1:80", detail: "sendto(5, 0x7f0000000000, 3, 0x0, 192.0.2.1:80, 16)"},
		{name: "sendmsg", nr: unix.SYS_SENDMSG, args: []uint64{5, header, 0}, target: "192.0.2.1:80", detail: "sendmsg(5, {192.0.2.1:80}, 0x0)"},
		{name: "sendmsg without an address", nr: unix.SYS_SENDMSG, args: []uint64{5, header + 0x1000, 0}, target: "sendmsg", detail: "sendmsg(5, 0x7f0000301000, 0x0)"},
		{name: "sendmmsg", nr: unix.SYS_SENDMMSG, args: []uint64{5, header, 1, 0}, target: "192.0.2.1:80", detail: "sendmmsg(5, {192.0.2.1:80}, 1, 0x0)"},
		{name: "socket", nr: unix.SYS_SOCKET, args: []uint64{unix.AF_PACKET, unix.SOCK_RAW | unix.SOCK_CLOEXEC, 3}, target: "AF_PACKET", detail: "socket(AF_PACKET, SOCK_RAW|SOCK_CLOEXEC, 3)"},
		{name: "clone", nr: unix.SYS_CLONE, args: []uint64{unix.CLONE_NEWUSER | unix.CLONE_NEWNS | uint64(unix.SIGCHLD)}, target: "CLONE_NEWNS|CLONE_NEWUSER|SIGCHLD", detail: "clone(CLONE_NEWNS|CLONE_NEWUSER|SIGCHLD, 0x0, 0x0, 0x0, 0x0)"},
		{name: "unshare", nr: unix.SYS_UNSHARE, args: []uint64{unix.CLONE_NEWNET}, target: "CLONE_NEWNET", detail: "unshare(CLONE_NEWNET)"},
		{name: "kill", nr: unix.SYS_KILL, args: []uint64{1<<64 - 1, uint64(unix.SIGKILL)}, target: "SIGKILL to pid -1", detail: "kill(-1, SIGKILL)"},
		{name: "prctl", nr: unix.SYS_PRCTL, args: []uint64{unix.PR_SET_SECCOMP, 2}, target: "PR_SET_SECCOMP", detail: "prctl(PR_SET_SECCOMP, 0x2, 0x0, 0x0, 0x0)"},
		{name: "ptrace", nr: unix.SYS_PTRACE, args: []uint64{unix.PTRACE_ATTACH, 1}, target: "PTRACE_ATTACH", detail: "ptrace(PTRACE_ATTACH, 1, 0x0, 0x0)"},
		{name: "mount", nr: unix.SYS_MOUNT, args: []uint64{data, passwd, ls, unix.MS_BIND | unix.MS_RDONLY, 0}, target: "/work/data -> /etc/passwd", detail: `mount("data", "/etc/passwd", "ls", MS_RDONLY|MS_BIND, 0x0)`, paths: []string{"/work/data", "/etc/passwd"}},
		{name: "a number without a name", nr: 1000, args: []uint64{1, 2, 3}, target: "syscall_1000", detail: "syscall_1000(0x1, 0x2, 0x3, ...)"},
		{name: "a number below 0", nr: -1, target: "syscall_-1", detail: "syscall_-1(0x0, 0x0, 0x0, ...)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var args [6]uint64
			copy(args[:], c.args)
			got := describe(m, v, 1, c.nr, args)
			if got.target != c.target || got.detail != c.detail || !slices.Equal(got.paths, c.paths) || got.vague != c.vague {
				t.Errorf("describe = target %q\ndetail %s\npaths %q, vague %v", got.target, got.detail, got.paths, got.vague)
			}
		})
	}
}

func TestDescribeGivesCategories(t *testing.T) {
	for nr, want := range map[int]event.Category{
		unix.SYS_SOCKET: event.Network, unix.SYS_OPENAT: event.File, unix.SYS_EXECVE: event.Process,
		unix.SYS_KEYCTL: event.Syscall, 1000: event.Syscall,
	} {
		if got := describe(newFakeMemory(), fakeView{}, 1, nr, [6]uint64{}).category; got != want {
			t.Errorf("call %d is of category %s, want %s", nr, got, want)
		}
	}
}

func TestRelativePathStaysAsItIsWhenNobodyKnowsTheDirectory(t *testing.T) {
	m := newFakeMemory()
	name := at(m, "data")[0]
	c := describe(m, fakeView{}, 1, unix.SYS_RMDIR, [6]uint64{name})
	if c.target != "data" || !c.vague {
		t.Errorf("describe = %+v", c)
	}
}

// TestDescribeKeepsLittle lets a caller choose the longest arguments for every
// call, readable and not.
func TestDescribeKeepsLittle(t *testing.T) {
	m := newFakeMemory()
	long := uint64(base + 1<<20)
	m.put(long, slices.Repeat([]byte{0xff}, 4*maxString))
	vector := uint64(base)
	m.putVector(vector, slices.Repeat([]uint64{long}, 500)...)
	v := fakeView{dir: "/" + strings.Repeat("d", maxString)}
	for nr := -1; nr < 500; nr++ {
		for _, p := range []uint64{long, vector, 0, ^uint64(0)} {
			m.asked, m.calls = 0, 0
			c := describe(m, v, 1, nr, [6]uint64{p, p, p, p, p, p})
			if len(c.target) > maxTarget+3 || len(c.detail) > maxDetail+3 {
				t.Errorf("call %d with %#x: target of %d bytes, detail of %d", nr, p, len(c.target), len(c.detail))
			}
			if m.asked > 6*(maxString+pageSize)+maxArgs*(8+pageSize+maxArgv) {
				t.Errorf("call %d with %#x: %d bytes were read", nr, p, m.asked)
			}
			if c.op == "" || c.target == "" || c.category == "" || c.detail == "" {
				t.Errorf("call %d with %#x: %+v", nr, p, c)
			}
		}
	}
}

func TestShortenCutsBetweenCharacters(t *testing.T) {
	if got := shorten("abc", 3); got != "abc" {
		t.Errorf("a text that fits became %q", got)
	}
	for limit := 4; limit < 20; limit++ {
		got := shorten(strings.Repeat("aä€😀", 5), limit)
		if !utf8.ValidString(got) || len(got) > limit+3 || !strings.HasSuffix(got, "...") {
			t.Errorf("limit %d: %q", limit, got)
		}
	}
	if got := shorten(strings.Repeat("\x80", 20), 8); len(got) > 11 || len(got) < 4 {
		t.Errorf("what is no UTF-8 became %q", got)
	}
}

func TestBeneath(t *testing.T) {
	for _, c := range []struct {
		paths, dirs []string
		want        bool
	}{
		{[]string{"/tmp/x"}, []string{"/tmp"}, true},
		{[]string{"/tmp"}, []string{"/tmp"}, true},
		{[]string{"/tmpx"}, []string{"/tmp"}, false},
		{[]string{"/"}, []string{"/tmp"}, false},
		{[]string{"/tmp/x", "/etc/x"}, []string{"/tmp"}, false},
		{[]string{"/tmp/x", "/work/x"}, []string{"/tmp", "/work"}, true},
		{[]string{"tmp/x"}, []string{"/tmp"}, false},
		{[]string{"/tmp/x"}, nil, false},
	} {
		if got := beneath(c.paths, c.dirs); got != c.want {
			t.Errorf("beneath(%q, %q) = %v", c.paths, c.dirs, got)
		}
	}
}

func TestQuoteIsThatOfStrconv(t *testing.T) {
	texts := []string{"", "/usr/lib/x86_64-linux-gnu", "\u00e9\u202e", "\xff", "a b~ '"}
	for b := range 256 {
		texts = append(texts, "/a"+string([]byte{byte(b)})+"b")
	}
	for _, s := range texts {
		if got, want := quote(s), strconv.Quote(s); got != want {
			t.Errorf("%q becomes %s, want %s", s, got, want)
		}
	}
}
