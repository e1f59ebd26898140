package supervisor

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/pyhook"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

func TestSweeps(t *testing.T) {
	const pipe = pyhook.EventFD
	for name, c := range map[string]struct {
		nr          int32
		first, last uint64
		want        bool
	}{
		"subprocess":            {unix.SYS_CLOSE_RANGE, 9, 1<<31 - 1, true},
		"closefrom":             {unix.SYS_CLOSE_RANGE, 3, 1<<32 - 1, true},
		"a daemon":              {unix.SYS_CLOSE_RANGE, 3, 1023, true},
		"from the pipe on":      {unix.SYS_CLOSE_RANGE, pipe, 1<<32 - 1, true},
		"up to the pipe":        {unix.SYS_CLOSE_RANGE, 3, pipe, false},
		"the pipe alone":        {unix.SYS_CLOSE_RANGE, pipe, pipe, false},
		"the pipe and its like": {unix.SYS_CLOSE_RANGE, pipe - 2, pipe + 2, false},
		"beyond it":             {unix.SYS_CLOSE_RANGE, pipe + 1, 1<<31 - 1, false},
		"below it":              {unix.SYS_CLOSE_RANGE, 0, pipe - 1, false},
		"backwards":             {unix.SYS_CLOSE_RANGE, 1 << 31, 3, false},
		"garbage above 32 bits": {unix.SYS_CLOSE_RANGE, 7<<32 | 3, 7<<32 | 1023, true},
		"close":                 {unix.SYS_CLOSE, pipe, 1023, false},
		"dup2":                  {unix.SYS_DUP2, 3, 1023, false},
	} {
		if got := sweeps(notification{NR: c.nr, Args: [6]uint64{c.first, c.last}}); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestPinsOfWhoHasNoPipe: the pipe's number is pinned where it means the pipe, or
// where nobody can tell.
func TestPinsOfWhoHasNoPipe(t *testing.T) {
	for name, c := range map[string]struct {
		link string // what its number leads to
		want string
	}{
		"the pipe":       {"pipe:[4711]", "EPERM"},
		"another pipe":   {"pipe:[471]", "continue"},
		"a file":         {"/tmp/pipe:[4711]", "continue"},
		"nothing":        {"", "continue"},
		"not to be told": {"\x00", "EPERM"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUnit(t, "base")
			var err error
			if u.o.Policy, err = seccomp.Resolve(profile.Seccomp{Groups: []string{"base"}}, []int{pyhook.EventFD}); err != nil {
				t.Fatal(err)
			}
			u.pipe, u.view, u.swept = "pipe:[4711]", procView{t.TempDir()}, map[int]bool{}
			dir := filepath.Join(u.view.root, strconv.Itoa(callerTID), "fd")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(dir, strconv.Itoa(pyhook.EventFD))
			if c.link == "\x00" {
				err = os.Mkdir(link, 0o755) // EINVAL
			} else if c.link != "" {
				err = os.Symlink(c.link, link)
			}
			if err != nil {
				t.Fatal(err)
			}
			for nr, args := range map[int][]uint64{
				unix.SYS_CLOSE: {pyhook.EventFD}, unix.SYS_DUP2: {1, pyhook.EventFD}, unix.SYS_DUP3: {1, pyhook.EventFD, 0}, unix.SYS_CLOSE_RANGE: {3, 1023, 0},
			} {
				want := c.want
				if nr == unix.SYS_CLOSE_RANGE {
					want = "continue" // a child's sweep
				}
				if got := u.call(t, nr, args...); got != want {
					t.Errorf("system call %d is answered with %s, want %s", nr, got, want)
				}
			}
			if swept := len(u.swept) > 0; swept != (c.want == "EPERM") {
				t.Errorf("it is said to have closed the pipe: %v", swept)
			}
		})
	}
}

// TestPipeName: the kernel's name of a pipe is the same at both ends.
func TestPipeName(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(w.Fd())))
	if err != nil || pipeName(int(r.Fd())) != link {
		t.Errorf("%q, %v; by its other end %q", link, err, pipeName(int(r.Fd())))
	}
	if got := pipeName(-1); got != "" {
		t.Errorf("no descriptor has the name %q", got)
	}
}

func TestProcessesByTheirNumbers(t *testing.T) {
	for want, pids := range map[string][]int{
		"process 7": {7}, "processes [7 9]": {9, 7}, "processes [1 2 3 4 5] and 2 more": {7, 6, 5, 4, 3, 2, 1},
	} {
		set := map[int]bool{}
		for _, pid := range pids {
			set[pid] = true
		}
		if got := processes(set); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSameMemory(t *testing.T) {
	if !sameMemory(os.Getpid(), os.Getpid()) {
		t.Error("a process does not share its memory with itself")
	}
	if sameMemory(os.Getpid(), os.Getppid()) || sameMemory(os.Getpid(), 0) {
		t.Error("a process shares its memory with its parent, or with nobody")
	}
}
