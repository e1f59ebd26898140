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

// TestPins: the pipe's number is pinned in the script's first process, if it means
// the pipe there or if nobody can tell. A child may close it, and is remembered.
func TestPins(t *testing.T) {
	const first, child, nobody = callerPID, callerPID + 1, 0
	for name, c := range map[string]struct {
		main  int    // who the first process is; the caller is callerPID
		link  string // what its number leads to
		want  string
		swept bool
	}{
		"the pipe":                 {first, "pipe:[4711]", "EPERM", false},
		"another pipe":             {first, "pipe:[471]", "continue", false},
		"a file":                   {first, "/tmp/pipe:[4711]", "continue", false},
		"nothing":                  {first, "", "continue", false},
		"not to be told":           {first, "\x00", "EPERM", false},
		"a child's pipe":           {child, "pipe:[4711]", "continue", true},
		"a child's file":           {child, "/tmp/pipe:[4711]", "continue", false},
		"a child's, not to tell":   {child, "\x00", "continue", true},
		"the pipe of who is gone":  {nobody, "pipe:[4711]", "EPERM", false},
		"the number of who's gone": {nobody, "", "continue", false},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUnit(t, "base")
			var err error
			if u.o.Policy, err = seccomp.Resolve(profile.Seccomp{Groups: []string{"base"}}, []int{pyhook.EventFD}); err != nil {
				t.Fatal(err)
			}
			u.main, u.pipe, u.view, u.swept = c.main, "pipe:[4711]", procView{t.TempDir()}, map[int]bool{}
			if c.main == nobody {
				u.tasks.root, u.main = t.TempDir(), first
			}
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
				unix.SYS_CLOSE: {pyhook.EventFD}, unix.SYS_DUP2: {1, pyhook.EventFD}, unix.SYS_DUP3: {1, pyhook.EventFD, 0},
				unix.SYS_CLOSE_RANGE: {3, 1023, unix.CLOSE_RANGE_CLOEXEC},
			} {
				clear(u.swept)
				if got := u.call(t, nr, args...); got != c.want {
					t.Errorf("system call %d is answered with %s, want %s", nr, got, c.want)
				}
				if u.swept[callerPID] != c.swept {
					t.Errorf("system call %d: it is said to have closed the pipe: %v", nr, u.swept)
				}
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
