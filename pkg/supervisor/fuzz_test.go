package supervisor

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzSockaddr(f *testing.F) {
	for _, seed := range []string{
		"\x02\x00\x00\x50\x7f\x00\x00\x01", "\x0a\x00\x00\x50" + strings.Repeat("\x00", 24), "\x01\x00/run/x", "\x01\x00\x00abstract",
		"\x01\x00", "\x10\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00", "\x28\x00\x00\x00\x05\x00\x00\x00\x02\x00\x00\x00", "\xff\xff", "\x00",
	} {
		f.Add([]byte(seed), uint32(len(seed)))
	}
	f.Add([]byte("\x02\x00"), ^uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, length uint32) {
		m := newFakeMemory()
		m.put(base, b)
		got, err := readSockaddr(m, 1, base, uint64(length))
		if (err != nil) != (got == "") {
			t.Errorf("%q and %v", got, err)
		}
		// The longest is an abstract name with a prefix.
		if len(got) > maxAddr+len("unix:@") || m.asked > maxAddr {
			t.Errorf("%d bytes were read and became %d", m.asked, len(got))
		}
	})
}

// FuzzDescribe lets the target choose a call, its arguments, and what is in a
// few pages of its memory.
func FuzzDescribe(f *testing.F) {
	seed := func(nr int, memory string, args ...uint64) {
		var b []byte
		for _, a := range args {
			b = binary.LittleEndian.AppendUint64(b, a)
		}
		f.Add(nr, b, []byte(memory))
	}
	vector := binary.LittleEndian.AppendUint64(nil, base+24)
	vector = append(vector, make([]byte, 16)...)
	seed(unix.SYS_OPENAT, "/etc/passwd\x00", atCWD, base, unix.O_WRONLY)
	seed(unix.SYS_RENAMEAT, "a\x00../b\x00", 3, base, 4, base+2)
	seed(unix.SYS_EXECVE, string(vector)+"ls\x00", base+24, base, 0)
	seed(unix.SYS_EXECVE, strings.Repeat("\x00\x00\x00\x00\x00\x7f\x00\x00", 600), base, base)
	seed(unix.SYS_CONNECT, "\x02\x00\x00\x50\x7f\x00\x00\x01", 3, base, 16)
	seed(unix.SYS_SENDMSG, string(vector), 3, base)
	seed(unix.SYS_RMDIR, strings.Repeat("\xff", 9000), base)
	seed(unix.SYS_RMDIR, "", ^uint64(0))
	seed(1<<31-1, "", 1, 2, 3)
	v := fakeView{dir: "/work", fds: map[int]string{3: "/usr", 4: "socket:[1]"}}
	f.Fuzz(func(t *testing.T, nr int, raw, content []byte) {
		if len(content) > 16*pageSize {
			t.Skip("longer than any bound")
		}
		var args [6]uint64
		for i := range args {
			if len(raw) >= 8 {
				args[i], raw = binary.LittleEndian.Uint64(raw), raw[8:]
			}
		}
		m := newFakeMemory()
		m.put(base, content)
		c := describe(m, v, 1, nr, args)
		if c.op == "" || c.target == "" || c.detail == "" || c.category == "" {
			t.Errorf("describe = %+v", c)
		}
		if len(c.target) > maxTarget+3 || len(c.detail) > maxDetail+3 || len(c.paths) > 2 {
			t.Errorf("target of %d bytes, detail of %d, %d paths", len(c.target), len(c.detail), len(c.paths))
		}
		if m.asked > 3*(maxString+pageSize)+maxArgs*(8+pageSize+maxArgv) || m.calls > 8*maxArgs {
			t.Errorf("%d bytes were read in %d calls", m.asked, m.calls)
		}
		for _, p := range c.paths {
			if !c.vague && (!strings.HasPrefix(p, "/") || strings.Contains(p+"/", "/../") || strings.IndexByte(p, 0) >= 0) {
				t.Errorf("path %q is not vague", p)
			}
		}
	})
}

func FuzzParseTask(f *testing.F) {
	for _, seed := range []string{
		"Name:\tx\nTgid:\t900\nPid:\t905\nPPid:\t890\nNStgid:\t900\t2\nNSpid:\t905\t7\n",
		"Tgid:\t-1\nPPid:\t99999999999999999999\nNStgid:\nNSpid", ":\n:", "", "Tgid\x00:1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, status string) {
		tgid, nstid, nspid, ppid := parseTask(status)
		for _, n := range []int{tgid, nstid, nspid, ppid} {
			if n < 0 {
				t.Errorf("%d, %d, %d, %d", tgid, nstid, nspid, ppid)
			}
		}
		if !strings.Contains(status, "Tgid:") && tgid != 0 {
			t.Errorf("a process %d out of nothing", tgid)
		}
	})
}
