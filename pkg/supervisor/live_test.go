package supervisor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

// The live tests play a run with the test binary in all parts. The test itself
// is the supervisor. It starts an init stage in namespaces of its own, which
// loads a filter into one thread, hands the listener over and starts, from that
// thread, the target: a process whose every thread has the filter.
const (
	stageVariable    = "SBX_SUPERVISOR_TEST_STAGE"
	scenarioVariable = "SBX_SUPERVISOR_TEST_SCENARIO"
	dirVariable      = "SBX_SUPERVISOR_TEST_DIR"
	callsVariable    = "SBX_SUPERVISOR_TEST_CALLS"

	socketFD = 3 // of the init stage
	hookFD   = 4 // of both
)

func TestMain(m *testing.M) {
	stage, ok := os.LookupEnv(stageVariable)
	if !ok {
		os.Exit(m.Run())
	}
	var err error
	switch stage {
	case "init":
		err = initStage()
	case "target":
		err = targetStage()
	default:
		err = fmt.Errorf("unknown stage %q", stage)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, stage, err)
		os.Exit(1)
	}
}

// notified are the calls that the filter notifies; all others it allows, the
// clone of the target included. openat is one of them if it writes.
var notified = []int{
	unix.SYS_UNSHARE, unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_KILL, unix.SYS_RMDIR, unix.SYS_UNLINKAT,
	unix.SYS_MKDIRAT, unix.SYS_KEYCTL, unix.SYS_EXECVE,
}

func liveFilter() seccomp.Program {
	const nr, flags = 0, 32 // offsets in struct seccomp_data: nr, the low half of args[2]
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	ret := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	prog := []unix.SockFilter{load(nr)}
	for _, n := range notified {
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(n), Jf: 1}, ret(unix.SECCOMP_RET_USER_NOTIF))
	}
	return seccomp.Program{Filter: append(prog,
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: 1000, Jf: 1}, ret(unix.SECCOMP_RET_USER_NOTIF),
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_OPENAT, Jf: 3},
		load(flags),
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.O_ACCMODE | unix.O_CREAT, Jf: 1},
		ret(unix.SECCOMP_RET_USER_NOTIF),
		ret(unix.SECCOMP_RET_ALLOW),
	)}
}

// initStage keeps its main thread unrestricted, as sbx does: before Linux 6.11 a
// filter is in use until its last task is reaped, and a main thread is reaped by
// the test, which waits for the end of the listener first.
func initStage() error {
	runtime.LockOSThread()
	done := make(chan error)
	go func() { done <- restrictedThread() }()
	return <-done
}

func restrictedThread() error {
	runtime.LockOSThread()
	if dir := os.Getenv(dirVariable); dir != "" {
		sealed := dir + "/sealed"
		if err := unix.Mount(sealed, sealed, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", sealed, err)
		}
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, sealed, 0, &attr); err != nil {
			return fmt.Errorf("make %s read-only: %w", sealed, err)
		}
	}
	unix.CloseOnExec(socketFD)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fd, _, err := liveFilter().Install(0)
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(socketFD, []byte{1}, unix.UnixRights(fd), nil, 0); err != nil {
		return fmt.Errorf("send the listener: %w", err)
	}
	// While a copy is open the listener does not hang up.
	unix.Close(fd)
	unix.Close(socketFD)
	if err := os.Setenv(stageVariable, "target"); err != nil {
		return err
	}
	pid, err := syscall.ForkExec("/proc/self/exe", os.Args[:1], &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2, hookFD, hookFD},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		tell("start", err)
		return nil
	}
	tell("init", rawCall(unix.SYS_UNSHARE, 0)) // its own thread is not judged
	_, err = unix.Wait4(pid, nil, 0, nil)
	return err
}

var telling sync.Mutex

// tell gives the test one result.
func tell(name string, err error) {
	telling.Lock()
	defer telling.Unlock()
	fmt.Fprintf(os.Stdout, "%s=%s\n", name, errnoName(err))
}

func errnoName(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func rawCall(nr uintptr, args ...uintptr) error {
	args = append(args, 0, 0, 0, 0)
	if _, _, errno := unix.Syscall6(nr, args[0], args[1], args[2], args[3], 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func targetStage() error {
	scenarios := map[string]func(dir string, calls int) error{
		"refusals": targetRefusals, "signals": targetSignals, "flood": targetFlood, "rewrite": targetRewrite,
		"block": targetBlock, "hook": targetHook, "unknown": targetUnknown, "pause": targetPause,
		"bench": targetBench,
	}
	do, ok := scenarios[os.Getenv(scenarioVariable)]
	if !ok {
		return fmt.Errorf("unknown scenario")
	}
	calls, _ := strconv.Atoi(os.Getenv(callsVariable))
	return do(os.Getenv(dirVariable), calls)
}

func pointer(s string) (uintptr, []byte) {
	b := append([]byte(s), 0)
	return uintptr(unsafe.Pointer(&b[0])), b
}

func targetRefusals(dir string, _ int) error {
	tell("unshare", rawCall(unix.SYS_UNSHARE, unix.CLONE_NEWUSER))
	tell("keyctl", rawCall(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID))
	tell("unknown", rawCall(5000))
	_, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	tell("socket", err)
	tell("connect", unix.Connect(99, &unix.SockaddrInet4{Port: 80, Addr: [4]byte{192, 0, 2, 1}}))
	tell("kill self", unix.Kill(os.Getpid(), 0))
	tell("kill init", unix.Kill(1, 0))
	tell("kill all", unix.Kill(-1, 0))
	tell("rmdir", unix.Rmdir("/etc"))
	tell("rmdir of nothing", unix.Rmdir("/nothing here"))
	tell("rmdir NULL", rawCall(unix.SYS_RMDIR, 0))
	tell("execve", unix.Exec("/bin/true", []string{"true", "-x"}, nil))
	for name, file := range map[string]string{
		"write work": dir + "/work/new", "write sealed": dir + "/sealed/new", "write link": dir + "/work/out/new",
	} {
		fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		tell(name, err)
		unix.Close(fd)
	}
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		tell("thread", rawCall(unix.SYS_UNSHARE, 0))
		tell("kill from thread", unix.Kill(os.Getpid(), 0))
		close(done)
	}()
	<-done
	return nil
}

// targetSignals lets a timer interrupt refused calls.
func targetSignals(_ string, calls int) error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGALRM)
	every := unix.Timeval{Usec: 50}
	if _, err := unix.Setitimer(unix.ITIMER_REAL, unix.Itimerval{Interval: every, Value: every}); err != nil {
		return err
	}
	for range calls {
		if err := rawCall(unix.SYS_UNSHARE, 0); !errors.Is(err, unix.EPERM) {
			tell("wrong", err)
		}
	}
	if _, err := unix.Setitimer(unix.ITIMER_REAL, unix.Itimerval{}); err != nil {
		return err
	}
	<-c // at least one came
	tell("done", nil)
	return nil
}

const floodThreads = 8

func targetFlood(_ string, calls int) error {
	var wg sync.WaitGroup
	for range floodThreads {
		wg.Go(func() {
			runtime.LockOSThread()
			for range calls / floodThreads {
				if err := rawCall(unix.SYS_UNSHARE, 0); !errors.Is(err, unix.EPERM) {
					tell("wrong", err)
				}
			}
		})
	}
	wg.Wait()
	tell("done", nil)
	return nil
}

func targetUnknown(_ string, calls int) error {
	for i := range calls {
		if err := rawCall(uintptr(1000 + i)); !errors.Is(err, unix.ENOSYS) {
			tell("wrong", err)
		}
	}
	tell("done", nil)
	return nil
}

// targetRewrite opens a file for writing while another thread changes the
// directory in its path to and fro.
func targetRewrite(dir string, calls int) error {
	at, path := pointer(dir + "/sealed/file")
	work := []byte(dir + "/work///file") // of the same length
	sealed := []byte(dir + "/sealed/file")
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			rewrite(path, work)
			rewrite(path, sealed)
		}
	})
	opened := 0
	for range calls {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(1<<64+unix.AT_FDCWD), at, unix.O_WRONLY|unix.O_CLOEXEC, 0, 0, 0)
		if errno == 0 {
			opened++
			_, _ = unix.Write(int(fd), []byte("x"))
			unix.Close(int(fd))
		} else if errno != unix.EROFS && errno != unix.ENOENT { // ENOENT: half of each
			tell("wrong", errno)
		}
		if errno := rawCall(unix.SYS_RMDIR, at); !errors.Is(errno, unix.EPERM) {
			tell("wrong", errno)
		}
	}
	stop.Store(true)
	wg.Wait()
	runtime.KeepAlive(path)
	tell("done", nil)
	return nil
}

// rewrite is not looked at by the race detector: the race is what is tested.
//
//go:norace
func rewrite(to, from []byte) {
	copy(to, from)
}

// targetBlock makes one call that it is killed in.
func targetBlock(string, int) error {
	at, b := pointer("/etc")
	_ = rawCall(unix.SYS_RMDIR, at)
	runtime.KeepAlive(b)
	tell("alive", nil)
	return nil
}

// targetPause sleeps for good, in a call that nobody is notified of.
func targetPause(string, int) error {
	tell("ready", nil)
	return rawCall(unix.SYS_PAUSE)
}

func targetHook(string, int) error {
	runtime.LockOSThread()
	pid, tid := os.Getpid(), unix.Gettid()
	write := func(b []byte) { _, _ = unix.Write(hookFD, b) }
	socket := func() { _ = rawCall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0) }
	write(startRecord(pid))
	write(eventRecord(pid, tid, "socket.__new__", 1))
	socket()
	write(eventRecord(pid, tid+1000, "socket.__new__", 1)) // forged: of a thread that is not there
	_ = rawCall(unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_STREAM, 0)
	write([]byte("\xf5SBX and garbage"))
	return nil
}

func targetBench(_ string, calls int) error {
	runtime.LockOSThread()
	at, b := pointer("/usr/lib/python3/dist-packages")
	start := time.Now()
	for range calls {
		_ = rawCall(unix.SYS_RMDIR, at)
	}
	took := time.Since(start)
	runtime.KeepAlive(b)
	tell("ns", errors.New(strconv.FormatInt(took.Nanoseconds(), 10)))
	return nil
}

// play is one run: Options and Supervisor may be changed before serve.
type play struct {
	*Supervisor
	recorder *event.Recorder
	init     *os.Process
	output   *os.File
}

type setting struct {
	scenario string
	calls    int
	dir      string
	hook     bool
	groups   []string
}

func start(t testing.TB, s setting) *play {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	output, stdout := pipe(t)
	defer stdout.Close()
	hook, hookWriter := pipe(t)
	defer hookWriter.Close()

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ids := []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	init, err := os.StartProcess(exe, []string{exe}, &os.ProcAttr{
		Env: append(os.Environ(),
			"GORACE=atexit_sleep_ms=0", // a second for each stage
			stageVariable+"=init", scenarioVariable+"="+s.scenario, dirVariable+"="+s.dir, callsVariable+"="+strconv.Itoa(s.calls)),
		Files: []*os.File{nil, stdout, os.Stderr, theirs, hookWriter},
		Sys: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
			UidMappings: ids, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// PID 1 takes all others along. Both fail if serve was reached.
		_ = init.Kill()
		_, _ = init.Wait()
		output.Close()
		hook.Close()
	})
	theirs.Close() // or an init stage that fails would be waited for
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(ours.Fd()), make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		t.Fatalf("the init stage sent no listener: %v", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	recorder := event.NewRecorder(1000)
	groups := s.groups
	if groups == nil {
		groups = []string{"base", "threads", "files-write"}
	}
	o := Options{
		Listener: os.NewFile(uintptr(fds[0]), "listener"), Policy: policy(t, groups...), Recorder: recorder,
		Start: time.Now(), Writable: []string{s.dir + "/work"},
	}
	if s.hook {
		o.Hook = hook
	}
	return &play{New(o), recorder, init, output}
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
}

// serve answers until the end and returns what the stages told.
func (p *play) serve(t testing.TB) map[string]string {
	t.Helper()
	if err := p.Serve(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := p.init.Wait(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(p.output)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		told[name] = value
	}
	return told
}

// scene makes a writable and a sealed directory.
func scene(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"work", "sealed"} {
		if err := os.Mkdir(dir+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+name+"/file", []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../sealed", dir+"/work/out"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLiveRefusals(t *testing.T) {
	dir := scene(t)
	p := start(t, setting{scenario: "refusals", dir: dir})
	told := p.serve(t)
	for name, want := range map[string]string{
		"init": "", "unshare": "EPERM", "keyctl": "EPERM", "unknown": "ENOSYS", "socket": "EPERM", "connect": "EPERM",
		"kill self": "", "kill init": "EPERM", "kill all": "EPERM", "execve": "EPERM",
		"rmdir": "EROFS", "rmdir of nothing": "ENOENT", "rmdir NULL": "EFAULT",
		"write work": "", "write sealed": "EROFS", "write link": "EROFS",
		"thread": "EPERM", "kill from thread": "",
	} {
		if got, ok := told[name]; !ok || got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	recorded := map[string]event.Event{}
	for _, e := range p.recorder.Snapshot().Entries {
		recorded[e.Detail] = e.Event
	}
	for detail, target := range map[string]string{
		"unshare(CLONE_NEWUSER)":                   "CLONE_NEWUSER",
		"connect(99, 192.0.2.1:80, 16)":            "192.0.2.1:80",
		"kill(1, 0)":                               "0 to pid 1",
		"kill(-1, 0)":                              "0 to pid -1",
		`unlinkat(AT_FDCWD, "/etc", AT_REMOVEDIR)`: "/etc",
		"socket(AF_PACKET, SOCK_RAW, 0)":           "AF_PACKET",
		fmt.Sprintf("openat(AT_FDCWD, %q, O_WRONLY|O_CREAT|O_CLOEXEC, 0600)", dir+"/sealed/new"): dir + "/sealed/new",
	} {
		e, ok := recorded[detail]
		// The target is the jail's second process.
		if !ok || e.Target != target || e.Verdict != event.Denied || e.PID < 2 || e.PID > 100 || e.TID < e.PID || e.Layer != event.Seccomp {
			t.Errorf("%s is recorded as %+v", detail, e)
		}
	}
	if _, err := os.Stat(dir + "/work/new"); err != nil {
		t.Error(err)
	}
}

func TestLiveSignalsDoNotDisturbTheAnswers(t *testing.T) {
	const calls = 1000
	p := start(t, setting{scenario: "signals", calls: calls})
	told := p.serve(t)
	if _, ok := told["done"]; !ok || told["wrong"] != "" {
		t.Errorf("the target told %q", told)
	}
	// A call that a signal takes back comes again, so there may be more.
	if got := p.Result().Denied; got < calls {
		t.Errorf("%d calls were refused, want at least %d", got, calls)
	}
}

func TestLiveFlood(t *testing.T) {
	const calls = 16_000
	p := start(t, setting{scenario: "flood", calls: calls})
	told := p.serve(t)
	if _, ok := told["done"]; !ok || told["wrong"] != "" {
		t.Errorf("the target told %q", told)
	}
	log := p.recorder.Snapshot()
	if p.Result().Denied != calls || log.Total != calls || log.Tallies[event.Process].Denied != calls {
		t.Errorf("%d calls were refused, %d recorded, %+v", p.Result().Denied, log.Total, log.Tallies)
	}
	if len(log.Entries) != 2 {
		t.Errorf("%d entries are kept of one call", len(log.Entries))
	}
}

func TestLiveUnknownCalls(t *testing.T) {
	const calls = 3000
	p := start(t, setting{scenario: "unknown", calls: calls})
	told := p.serve(t)
	if _, ok := told["done"]; !ok || told["wrong"] != "" || len(p.refused) != 1 || p.Result().Denied != calls {
		t.Errorf("the target told %q; %d counts of %d calls", told, len(p.refused), p.Result().Denied)
	}
}

// TestLiveRewrittenPath is the race that no supervisor can win (seccomp_unotify(2)):
// what may be written is what the mounts say, whatever was read.
func TestLiveRewrittenPath(t *testing.T) {
	dir := scene(t)
	p := start(t, setting{scenario: "rewrite", dir: dir, calls: 2000, groups: []string{"base", "threads"}})
	// Of the two calls one is guarded, and one refused whatever its path says.
	p.o.Policy = policyOf(t, "openat")
	told := p.serve(t)
	if _, ok := told["done"]; !ok || told["wrong"] != "" {
		t.Errorf("the target told %q", told)
	}
	if b, err := os.ReadFile(dir + "/sealed/file"); string(b) != "old" || err != nil {
		t.Errorf("the sealed file is %q, %v", b, err)
	}
}

// gate is memory that stops the supervisor at its first read of a target.
type gate struct {
	vm
	once sync.Once
	do   func(tid int)
}

func (g *gate) readAt(tid int, p []byte, addr uint64) (int, error) {
	g.once.Do(func() { g.do(tid) })
	return g.vm.readAt(tid, p, addr)
}

// end kills a process and waits until it is gone.
func end(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Error(err)
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(poll, -1); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func TestLiveTargetThatDiesBeforeTheAnswer(t *testing.T) {
	p := start(t, setting{scenario: "block"})
	// execve is let through unread, so the first read is of the target's call.
	p.memory = &gate{do: func(tid int) { end(t, tid) }}
	told := p.serve(t)
	if _, alive := told["alive"]; alive {
		t.Error("the target went on")
	}
	entries := p.recorder.Snapshot().Entries
	for _, e := range entries {
		if e.Target != "rmdir" || !strings.Contains(e.Detail, "gone") {
			t.Errorf("recorded %+v", e)
		}
	}
	if got := p.Result().Notifications; got < 2 {
		t.Errorf("%d notifications", got)
	}
}

// withdrawn is a channel that says ENOENT before each notification.
type withdrawn struct {
	channel
	said  bool
	times int
}

func (w *withdrawn) receive() (notification, error) {
	if w.said = !w.said; w.said {
		w.times++
		return notification{}, unix.ENOENT
	}
	return w.channel.receive()
}

func TestLiveWithdrawnNotificationIsNotTheEnd(t *testing.T) {
	p := start(t, setting{scenario: "refusals", dir: scene(t)})
	w := &withdrawn{channel: p.listener}
	p.listener = w
	if told := p.serve(t); told["unshare"] != "EPERM" || told["thread"] != "EPERM" || w.times < 10 {
		t.Errorf("%d times ENOENT, and the target told %q", w.times, told)
	}
}

type broken struct{ channel }

func (broken) receive() (notification, error) { return notification{}, unix.EFAULT }

func TestLiveListenerThatFailsIsAnError(t *testing.T) {
	p := start(t, setting{scenario: "refusals"})
	p.listener = broken{p.listener}
	if err := p.Serve(); !errors.Is(err, unix.EFAULT) {
		t.Errorf("Serve = %v, want EFAULT", err)
	}
	if err := p.o.Listener.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the listener was left open: %v", err)
	}
}

func TestLiveRefusedStart(t *testing.T) {
	p := start(t, setting{scenario: "refusals"})
	errNo := errors.New("a layer is absent")
	p.o.OnExec = func(int) error { return errNo }
	if err := p.Serve(); !errors.Is(err, errNo) {
		t.Errorf("Serve = %v, want what OnExec said", err)
	}
	b, err := io.ReadAll(p.output)
	if err != nil || !bytes.Equal(b, []byte("start=EPERM\n")) {
		t.Errorf("the stages told %q, %v", b, err)
	}
}

// TestLiveEndWhileNothingComes ends a run whose target sleeps, as a cancelled
// context does: by killing its init. Nothing else wakes the supervisor.
func TestLiveEndWhileNothingComes(t *testing.T) {
	p := start(t, setting{scenario: "pause"})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(p.output)
		for lines.Scan() {
			if lines.Text() == "ready=" {
				end(t, p.init.Pid)
			}
		}
	}()
	if err := p.Serve(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	<-ended
}

func TestLiveEndWhileACallWaits(t *testing.T) {
	p := start(t, setting{scenario: "block"})
	p.memory = &gate{do: func(int) { end(t, p.init.Pid) }}
	if told := p.serve(t); len(told) > 1 {
		t.Errorf("the stages told %q", told)
	}
}

func TestLiveEndBeforeTheFirstCall(t *testing.T) {
	p := start(t, setting{scenario: "block"})
	end(t, p.init.Pid)
	if told := p.serve(t); len(told) > 0 {
		t.Errorf("the stages told %q", told)
	}
}

func TestLiveHook(t *testing.T) {
	p := start(t, setting{scenario: "hook", hook: true})
	p.serve(t)
	r := p.Result()
	if !r.Hook.Started || r.Hook.Records != 3 || r.Hook.Malformed != 1 || r.Unexplained != 1 || len(r.Findings) != 1 {
		t.Errorf("result = %+v", r)
	}
	var got []string
	for _, e := range p.recorder.Snapshot().Entries {
		got = append(got, fmt.Sprintf("%s %s %q %v", e.Layer, e.Op, e.ExplainedBy, e.Unexplained))
	}
	want := []string{
		`seccomp socket "socket.__new__" false`, `seccomp socket "" true`, `python socket.__new__ "" false`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("recorded\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLiveLeavesNothingBehind(t *testing.T) {
	run := func() {
		p := start(t, setting{scenario: "hook", hook: true})
		p.serve(t)
		p.output.Close()
	}
	run() // the runtime opens its own descriptors on first use
	files, goroutines := descriptors(t), runtime.NumGoroutine()
	for range 3 {
		run()
	}
	if got := descriptors(t); got != files {
		t.Errorf("%d descriptors, %d before", got, files)
	}
	if got := runtime.NumGoroutine(); got != goroutines {
		t.Errorf("%d goroutines, %d before", got, goroutines)
	}
}

// unhurried is memory that makes the supervisor forget the flood, so that every
// call is read.
type unhurried struct {
	vm
	s *Supervisor
}

func (u unhurried) readAt(tid int, p []byte, addr uint64) (int, error) {
	clear(u.s.refused)
	return u.vm.readAt(tid, p, addr)
}

// BenchmarkRefusedCall is the round trip of one refused call whose path is read,
// as the target sees it.
func BenchmarkRefusedCall(b *testing.B) {
	p := start(b, setting{scenario: "bench", calls: b.N, groups: []string{"base", "threads"}})
	p.memory = unhurried{s: p.Supervisor}
	b.ReportAllocs()
	told := p.serve(b)
	ns, err := strconv.ParseInt(told["ns"], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(ns)/float64(b.N), "ns/call")
}
