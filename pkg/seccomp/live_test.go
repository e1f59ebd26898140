package seccomp

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

// scenarioVariable makes the test binary a child that loads a filter: a filter
// cannot be taken off again.
const scenarioVariable = "SBX_SECCOMP_TEST_SCENARIO"

func TestMain(m *testing.M) {
	scenario, ok := os.LookupEnv(scenarioVariable)
	if !ok {
		os.Exit(m.Run())
	}
	if err := runScenario(scenario); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// outcome is what the child has to tell.
type outcome struct {
	WaitKillable bool
	Errno        map[string]string // of each step; "" is success
	Notified     []string          // names of the calls in the order of their arrival
}

// notification is struct seccomp_notif, response struct seccomp_notif_resp.
type notification struct {
	ID         uint64
	PID, Flags uint32
	NR         int32
	Arch       uint32
	IP         uint64
	Args       [6]uint64
}

type response struct {
	ID    uint64
	Val   int64
	Error int32
	Flags uint32
}

func runScenario(name string) error {
	runtime.LockOSThread()
	var out outcome
	var err error
	switch name {
	case "policy":
		out, err = livePolicy()
	case "x32":
		err = liveX32()
	case "errors":
		out, err = liveErrors()
	default:
		err = fmt.Errorf("unknown scenario %q", name)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

const livePin = 1000

func livePolicy() (outcome, error) {
	p, err := Resolve(profile.Seccomp{Groups: []string{"base", "threads", "sockets-pair", "files-write"}}, []int{livePin})
	if err != nil {
		return outcome{}, err
	}
	prog, err := p.Compile()
	if err != nil {
		return outcome{}, err
	}
	if err := unix.Dup3(2, livePin, unix.O_CLOEXEC); err != nil {
		return outcome{}, fmt.Errorf("make the pinned descriptor: %w", err)
	}
	file, err := os.CreateTemp("", "sbx-seccomp-")
	if err != nil {
		return outcome{}, err
	}
	defer os.Remove(file.Name())
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return outcome{}, fmt.Errorf("set no_new_privs: %w", err)
	}

	var out outcome
	var mu sync.Mutex
	listener, waitKillable, err := prog.Install(0)
	if err != nil {
		return outcome{}, err
	}
	// Only the locked thread has the filter, so another one can answer.
	go answer(listener, p, func(name string) {
		mu.Lock()
		defer mu.Unlock()
		out.Notified = append(out.Notified, name)
	})
	errnos := map[string]string{}
	for _, s := range liveSteps(file.Name(), prog) {
		errnos[s.name] = errnoName(s.do())
	}
	mu.Lock()
	defer mu.Unlock()
	out.Errno, out.WaitKillable = errnos, waitKillable
	return out, nil
}

type step struct {
	name string
	do   func() error
}

func liveSteps(file string, prog Program) []step {
	raw := func(nr uintptr, args ...uintptr) func() error {
		return func() error {
			args = append(args, 0, 0, 0)
			if _, _, errno := unix.Syscall(nr, args[0], args[1], args[2]); errno != 0 {
				return errno
			}
			return nil
		}
	}
	open := func(flags int) func() error {
		return func() error {
			_, err := unix.Open(file, flags, 0)
			return err
		}
	}
	return []step{
		{"getppid", raw(unix.SYS_GETPPID)},
		{"read", open(unix.O_RDONLY)},
		{"write", open(unix.O_WRONLY)},
		{"socket", raw(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM)},
		{"socketpair", func() error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err }},
		{"clone3", raw(unix.SYS_CLONE3)},
		{"unknown", raw(1000)},
		{"fork", raw(unix.SYS_FORK)},
		{"kill", raw(unix.SYS_KILL, uintptr(os.Getpid()), 0)},
		{"close pin", raw(unix.SYS_CLOSE, livePin)},
		{"close_range pin", raw(unix.SYS_CLOSE_RANGE, 900, 2000)},
		{"pin is open", raw(unix.SYS_FCNTL, livePin, unix.F_GETFD)},
		{"close above pin", raw(unix.SYS_CLOSE, livePin+1)},
		{"second filter", func() error { _, _, err := prog.Install(0); return err }},
		{"strict mode", raw(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_STRICT)},
		{"undumpable", raw(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)},
	}
}

func answer(listener int, p *Policy, seen func(name string)) {
	for {
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
			if errno == unix.EINTR || errno == unix.ENOENT {
				continue
			}
			return
		}
		s, _ := Lookup(int(n.NR))
		seen(s.Name)
		r := response{ID: n.ID}
		switch d := p.Decide(int(n.NR), n.Args); d.Action {
		case Continue:
			r.Flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
		case Guard:
			r.Error = -int32(unix.EROFS)
		default:
			r.Error = -int32(d.Errno)
		}
		// ENOENT: the caller is gone, which leaves nobody to answer.
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
	}
}

func errnoName(err error) string {
	var errno unix.Errno
	if err == nil {
		return ""
	}
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func liveX32() error {
	p, err := Resolve(profile.Seccomp{Groups: []string{"base", "threads"}}, nil)
	if err != nil {
		return err
	}
	prog, err := p.Compile()
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, err := prog.Install(0); err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall(unix.SYS_GETPPID|x32Bit, 0, 0, 0)
	return fmt.Errorf("an x32 call returned %w", errno)
}

// liveErrors loads a filter that allows everything, to see the kernel's own
// refusals.
func liveErrors() (outcome, error) {
	out := outcome{Errno: map[string]string{}}
	prog := Program{Filter: []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}}

	// Without no_new_privs a filter takes CAP_SYS_ADMIN, so drop that first.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return out, fmt.Errorf("drop capabilities: %w", err)
	}
	_, _, err := prog.Install(0)
	out.Errno["without no_new_privs"] = errnoName(err)

	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return out, err
	}
	_, _, err = prog.Install(1 << 20)
	out.Errno["unknown flag"] = errnoName(err)
	bad := Program{Filter: []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}, {Code: 0xffff}}}
	_, _, err = bad.Install(0)
	out.Errno["invalid program"] = errnoName(err)
	listener, _, err := prog.Install(unix.SECCOMP_FILTER_FLAG_LOG)
	out.Errno["first"] = errnoName(err)
	flags, err := unix.FcntlInt(uintptr(listener), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		return out, fmt.Errorf("the listener stays open at exec: %#x, %w", flags, err)
	}
	_, _, err = prog.Install(0)
	out.Errno["second listener"] = errnoName(err)
	return out, nil
}

func runChild(t *testing.T, scenario string) (outcome, *os.ProcessState) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), scenarioVariable+"="+scenario)
	cmd.Stderr = t.Output()
	b, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var out outcome
	if cmd.ProcessState.Success() {
		if err := json.Unmarshal(b, &out); err != nil {
			t.Fatalf("the child said %q: %v", b, err)
		}
	}
	return out, cmd.ProcessState
}

func TestLivePolicy(t *testing.T) {
	out, state := runChild(t, "policy")
	if !state.Success() {
		t.Fatalf("the child ended with %v", state)
	}
	if !out.WaitKillable {
		t.Error("the kernel refused WAIT_KILLABLE_RECV, which it has from 5.19 on")
	}
	for name, want := range map[string]string{
		"getppid": "", "read": "", "write": "EROFS",
		"socket": "EPERM", "socketpair": "",
		"clone3": "ENOSYS", "unknown": "ENOSYS", "fork": "EPERM", "kill": "EPERM",
		"close pin": "EPERM", "close_range pin": "EPERM", "pin is open": "", "close above pin": "EBADF",
		"second filter": "EPERM", "strict mode": "EPERM", "undumpable": "EPERM",
	} {
		if got, ok := out.Errno[name]; !ok || got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	want := []string{
		"openat", "socket", "", "fork", "kill", "close", "close_range", "close", "seccomp", "prctl", "prctl",
	}
	if !slices.Equal(out.Notified, want) {
		t.Errorf("notified %q, want %q", out.Notified, want)
	}
}

func TestLiveX32CallKillsTheProcess(t *testing.T) {
	_, state := runChild(t, "x32")
	if status, ok := state.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != unix.SIGSYS {
		t.Errorf("the child ended with %v, want SIGSYS", state)
	}
}

func TestLiveInstallKeepsTheErrno(t *testing.T) {
	out, state := runChild(t, "errors")
	if !state.Success() {
		t.Fatalf("the child ended with %v", state)
	}
	for name, want := range map[string]string{
		"without no_new_privs": "EACCES", "unknown flag": "EINVAL", "invalid program": "EINVAL",
		"first": "", "second listener": "EBUSY",
	} {
		if got := out.Errno[name]; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
