package sandbox

import (
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/cgroup"
	"github.com/sbxproject/sbx/pkg/jail"
)

// wardenName is argv[0] of the warden.
const wardenName = "sbx-warden"

// wardenDelay is how long a run lasts before it gets a warden. A run that is
// killed earlier leaves empty cgroup directories, which the next run removes.
const wardenDelay = 25 * time.Millisecond

// MaybeStage runs a stage of sbx when this process is one, and then never
// returns. It is the first line of main, and of a TestMain whose tests run
// scripts.
func MaybeStage() {
	jail.MaybeInit()
	if len(os.Args) == 1 && os.Args[0] == wardenName {
		watch()
		os.Exit(0)
	}
}

// A warden outlives an sbx that is killed: processes and mounts of a run go
// with its init, but only somebody outside can remove its cgroup. It waits for
// the end of a pipe that only sbx holds.
type warden struct {
	pid  int
	pipe *os.File
}

func startWarden() (*warden, error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	defer unix.Close(fd[0])
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		unix.Close(fd[1])
		return nil, err
	}
	defer null.Close()
	pid, err := syscall.ForkExec("/proc/self/exe", []string{wardenName}, &syscall.ProcAttr{
		Dir: "/", Env: []string{}, Files: []uintptr{uintptr(fd[0]), null.Fd(), null.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		unix.Close(fd[1])
		return nil, err
	}
	return &warden{pid: pid, pipe: os.NewFile(uintptr(fd[1]), "warden")}, nil
}

// dismiss ends a warden that is not needed any more.
func (w *warden) dismiss() {
	if w == nil {
		return
	}
	_ = unix.Kill(w.pid, unix.SIGKILL)
	_, _ = unix.Wait4(w.pid, nil, 0, nil)
	_ = w.pipe.Close()
}

// watch is the life of a warden.
func watch() {
	owner := os.Getppid()
	_ = unix.CloseRange(3, ^uint(0)>>33, 0)
	_, _ = io.Copy(io.Discard, os.Stdin)
	// The kernel is still ending the jail's processes: their groups can be
	// removed when the last one is gone.
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		// A process that ends closes its pipes some time before it is gone, and until
		// then nothing of it counts as abandoned.
		gone := os.Getppid() != owner
		c, err := cgroup.Collect()
		if err == nil && c.Left == 0 && (gone || c.Removed > 0) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
