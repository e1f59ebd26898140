package jail

import (
	"errors"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// InitName is what argv[0] says in the init stage.
const InitName = "sbx-init"

// MaybeInit runs the init stage when this process is one, and then never
// returns. It is the first line of main and of every TestMain that starts
// jails: the stage is the same binary, so there is no second file to trust and
// no version skew.
func MaybeInit() {
	if len(os.Args) != 1 || os.Args[0] != InitName || os.Getpid() != 1 {
		return
	}
	unix.Exit(initStage()) // at once: there is nothing to flush, and the script's end waits for it
}

// initStage is the whole life of PID 1 of the jail.
func initStage() int {
	// The main thread is not the one that is restricted and starts Python. Who
	// asks about process 1, the kernel for one, looks at its main thread.
	runtime.LockOSThread()
	// Not dumpable before anything else: /proc/1/{exe,fd,environ} of the jail
	// belong to root from here on, so the script cannot reach the host's binary
	// through them (CVE-2019-5736, CVE-2016-9962).
	control := &conn{fd: fdControl}
	unix.CloseOnExec(fdControl)
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		_ = control.send(&message{Kind: kindFailed, Failed: failure("prctl", "PR_SET_DUMPABLE", err)})
		return 125
	}
	runtime.GOMAXPROCS(4)  // its threads wait in the kernel: none should wait for another's slot
	debug.SetGCPercent(-1) // a few hundred KB in all; a collection would only cost
	unix.Umask(0o022)

	exit, err := runInit(control)
	if err != nil {
		// The host is told; if it is gone there is nobody to tell.
		_ = control.send(&message{Kind: kindFailed, Failed: failure("init", "", err)})
		return 125
	}
	if err := control.send(&message{Kind: kindExited, Exited: exit}); err != nil {
		return 125
	}
	return 0
}

// runInit builds the jail around itself, starts Python and waits for it, in
// the order that the package comment gives.
func runInit(control *conn) (*Exit, error) {
	if err := defaultSignals(); err != nil {
		return nil, err
	}

	if err := closeFrom(fdFixed); err != nil {
		return nil, err
	}
	var cfg Config
	fds, err := control.receiveAll(&cfg, maxRights)
	if err == nil && (cfg.CgroupTasks < 0 || cfg.MountTrees < 0 || len(fds) != cfg.CgroupTasks+cfg.MountTrees) {
		err = errFrame
	}
	if err != nil {
		return nil, failure("receive configuration", "", err)
	}
	tasks, trees := fds[:cfg.CgroupTasks], fds[cfg.CgroupTasks:]

	var seen Ready
	if err := buildRoot(&cfg, trees, control, &seen); err != nil {
		return nil, err
	}
	if err := unix.Sethostname([]byte(cfg.Hostname)); err != nil {
		return nil, failure("sethostname", cfg.Hostname, err)
	}
	if cfg.Loopback {
		if err := loopbackUp(); err != nil {
			return nil, err
		}
	}
	if err := placeDescriptors(&cfg); err != nil {
		return nil, err
	}
	if err := sealRoot(); err != nil {
		return nil, err
	}

	python := newStarter(&cfg, tasks, &seen)
	listener, err := python.restrict()
	if err != nil {
		return nil, err
	}
	err = control.send(&message{Kind: kindReady, Ready: &seen}, listener)
	// Only the host may hold the listener: a copy in here would keep the
	// kernel from answering ENOSYS, and the run from ending, once the host's
	// is closed.
	unix.Close(listener)
	if err != nil {
		return nil, err
	}
	var m message
	if _, err := control.receive(&m); err != nil || m.Kind != kindGo {
		return nil, failure("wait for the host", "", errors.Join(err, errFrame))
	}

	// The host's end closing means that it died: PID 1 ends, and the kernel
	// kills everything in the namespace with it. Pdeathsig says the same; this
	// also holds where a parent thread outlives the process's main thread.
	go func() {
		var b [1]byte
		_, _ = control.Read(b[:])
		os.Exit(125)
	}()

	pid, err := python.start()
	if err != nil {
		return nil, err
	}
	if err := control.send(&message{Kind: kindStarted}); err != nil {
		return nil, err
	}
	return reap(pid)
}

// defaultSignals puts every signal back to its default. The kernel keeps a signal
// that comes from inside from PID 1 unless PID 1 handles it (pid_namespaces(7)),
// and the runtime handles nearly all of them: with its handlers the script could
// end its jail, and so choose its verdict. And what the caller ignores must not
// reach Python: execve(2) keeps it.
//
// Not even SIGURG stays the runtime's, whose scheduler does without: while its
// handler runs on the main thread all signals are blocked there, one that is blocked
// is not ignored, however it is handled (sig_ignored in kernel/signal.c), and goes to
// another thread, where its default ends the process (complete_signal).
func defaultSignals() error {
	const last = 64                       // _NSIG
	var fallback [4]uintptr               // struct kernel_sigaction: SIG_DFL, no flags, no mask
	const size = unsafe.Sizeof(uint64(0)) // of a sigset
	for s := uintptr(1); s <= last; s++ {
		switch unix.Signal(s) {
		case unix.SIGKILL, unix.SIGSTOP:
			continue
		}
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&fallback)), 0, size, 0, 0)
		if errno != 0 {
			return failure("rt_sigaction", strconv.Itoa(int(s)), errno)
		}
	}
	return nil
}

// reap waits for the script's main process and for every orphan, as PID 1 must
// (pid_namespaces(7)), then ends what is left.
func reap(main int) (*Exit, error) {
	var exit Exit
	for {
		var status unix.WaitStatus
		var ru unix.Rusage
		pid, err := unix.Wait4(-1, &status, 0, &ru)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, failure("wait4", "", err)
		}
		if pid == main {
			exit.Status = uint32(status)
			exit.User = time.Duration(ru.Utime.Nano())
			exit.System = time.Duration(ru.Stime.Nano())
			exit.MaxRSS = ru.Maxrss << 10
			break
		}
	}
	// kill(-1) reaches every process of the namespace but ourselves, in one
	// step under the kernel's task list lock: a fork bomb cannot outrun it.
	_ = unix.Kill(-1, unix.SIGKILL)
	for {
		_, err := unix.Wait4(-1, nil, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &exit, nil
		}
		exit.Survivors++
	}
}

// placeDescriptors puts what Python inherits on its fixed numbers. They are
// high, so that a script's own descriptors are numbered as usual.
func placeDescriptors(cfg *Config) error {
	if cfg.EventFD > 0 {
		if err := unix.Dup3(fdEvents, cfg.EventFD, 0); err != nil {
			return failure("dup3", "event pipe", err)
		}
	}
	unix.Close(fdEvents)
	fd, err := unix.Open(cfg.Boot, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return failure("open", cfg.Boot, err)
	}
	if err := unix.Dup3(fd, cfg.BootFD, 0); err != nil {
		return failure("dup3", cfg.Boot, err)
	}
	unix.Close(fd)
	if err := unix.Unlink(cfg.Boot); err != nil {
		return failure("unlink", cfg.Boot, err)
	}
	return nil
}

// closeFrom closes every descriptor from first on. A directory that the caller
// of sbx leaked would otherwise lead out of the jail (CVE-2024-21626).
func closeFrom(first int) error {
	err := unix.CloseRange(uint(first), ^uint(0)>>33, 0)
	if err == nil {
		return nil
	}
	// A kernel or an outer filter without close_range(2): one by one. The
	// directory is read by hand because os.Open would start the runtime's
	// poller, whose descriptors are in the way of what is closed here.
	dir, derr := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if derr != nil {
		return failure("close_range", "", err)
	}
	defer unix.Close(dir)
	var names []string
	buf := make([]byte, 32<<10)
	for {
		n, derr := unix.ReadDirent(dir, buf)
		if derr != nil {
			return failure("getdents64", "/proc/self/fd", derr)
		}
		if n == 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	for _, name := range names {
		if fd, err := strconv.Atoi(name); err == nil && fd >= first && fd != dir {
			unix.Close(fd)
		}
	}
	return nil
}

// writeFiles makes the directories and files whose bytes follow the Config.
func writeFiles(files []File, root string, content io.Reader) error {
	buf := make([]byte, 64<<10)
	for _, f := range files {
		path := root + string(f.Path)
		if f.Dir {
			if err := os.MkdirAll(path, os.FileMode(f.Mode)); err != nil {
				return failure("mkdir", path, err)
			}
			continue
		}
		if f.Link != nil {
			if err := unix.Symlink(string(f.Link), path); err != nil {
				return failure("symlink", path, err)
			}
			continue
		}
		// Not os.OpenFile, which would start the runtime's poller for them.
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, f.Mode&0o777)
		if err != nil {
			return failure("create", path, err)
		}
		err = fill(fd, content, f.Size, buf)
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return failure("write", path, err)
		}
	}
	return nil
}

// fill writes size bytes of content to fd: no more than the host announced. A
// shorter stream is the host's death.
func fill(fd int, content io.Reader, size int64, buf []byte) error {
	for size > 0 {
		n, err := content.Read(buf[:min(size, int64(len(buf)))])
		if err != nil {
			return err
		}
		size -= int64(n)
		for part := buf[:n]; len(part) > 0; {
			n, err := unix.Write(fd, part)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			part = part[n:]
		}
	}
	return nil
}

// starter owns the one thread that is restricted and that Python descends
// from. Everything it does to itself is per thread, so the rest of PID 1 stays
// able to reap and to report.
type starter struct {
	cfg   *Config
	tasks []int
	seen  *Ready

	go_     chan struct{}
	limited chan limited
	started chan started
}

type limited struct {
	listener int
	err      error
}

type started struct {
	pid int
	err error
}

func newStarter(cfg *Config, tasks []int, seen *Ready) *starter {
	return &starter{
		cfg: cfg, tasks: tasks, seen: seen,
		go_: make(chan struct{}), limited: make(chan limited, 1), started: make(chan started, 1),
	}
}

// restrict starts the thread and waits until it is restricted.
func (s *starter) restrict() (listener int, err error) {
	go s.thread()
	l := <-s.limited
	return l.listener, l.err
}

// start lets the thread start Python.
func (s *starter) start() (pid int, err error) {
	close(s.go_)
	p := <-s.started
	return p.pid, p.err
}

func (s *starter) thread() {
	// Never unlocked: the thread carries the filter for good, and the runtime
	// starts further threads from a clean one.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main goroutine had been moved to another thread before it was locked.
		// The main thread must stay free of the filter: before Linux 6.11 the
		// listener hangs up only when the last task is reaped (seccomp_filter_release
		// in release_task), and who reaps this one waits for that first.
		go s.thread()
		select {}
	}
	listener, err := restrictThread(s.cfg, s.tasks, s.seen)
	s.limited <- limited{listener, err}
	if err != nil {
		return
	}
	<-s.go_
	pid, err := syscall.ForkExec(s.cfg.Argv[0], s.cfg.Argv, &syscall.ProcAttr{
		Dir:   s.cfg.Dir,
		Env:   s.cfg.Env,
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		err = failure("execve", s.cfg.Argv[0], err)
	} else {
		// Copies of the script's output kept in here would hide its end from
		// the host; and PID 1 holds nothing that is of use to anybody
		// (CVE-2016-9962).
		for _, fd := range []int{0, 1, 2, s.cfg.BootFD, s.cfg.EventFD} {
			unix.Close(fd) // without a hook EventFD is 0, and closed
		}
	}
	s.started <- started{pid, err}
	select {} // a thread that ends would take its children's parent-death state along
}
