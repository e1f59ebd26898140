package jail

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/seccomp"
)

// restrictThread gives up, for the calling thread and what descends from it,
// everything that the script must not have. The order matters: each step needs
// something that a later one takes away.
func restrictThread(cfg *Config, tasks []int, seen *Ready) (listener int, err error) {
	// 1. The cgroups, while the descriptors are still there. Writing 0 moves
	//    the writing thread alone and skips the lock that a move by pid takes
	//    (11 ms, perf figures in the benchmark).
	for _, fd := range tasks {
		_, err := unix.Write(fd, []byte("0"))
		unix.Close(fd)
		if err != nil {
			return -1, failure("join cgroup", "tasks", err)
		}
	}
	// 2. The cgroup namespace comes after joining: its root is the group that
	//    the thread is in at that moment (cgroup_namespaces(7)).
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		seen.CgroupNS = err.Error()
	}
	// 3. The kernel's own timer slack, whatever this process was started with: it is
	//    inherited. Who does not know the call has none.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0)
	// 4. Limits, before CAP_SYS_RESOURCE is gone.
	if err := setRlimits(cfg.Rlimits); err != nil {
		return -1, err
	}
	// 5. The bounding set needs CAP_SETPCAP, so it goes before the rest.
	if err := dropCapabilities(); err != nil {
		return -1, err
	}
	// 6. no_new_privs: execve(2) grants nothing from here on; Landlock and
	//    seccomp(2) ask for it.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, failure("prctl", "PR_SET_NO_NEW_PRIVS", err)
	}
	// 7. Landlock.
	restrictLandlock(cfg.Landlock, seen)
	// 8. The filter last: every call after it is judged by it. It holds for
	//    this thread only (no TSYNC); PID 1's other threads go on as before.
	var program seccomp.Program
	if err := program.UnmarshalBinary(cfg.Filter); err != nil {
		return -1, failure("decode filter", "", err)
	}
	listener, seen.WaitKillable, err = program.Install(0)
	if err != nil {
		return -1, failure("seccomp", "SECCOMP_FILTER_FLAG_NEW_LISTENER", err)
	}
	return listener, nil
}

// timerSlack is that of the first process, in nanoseconds (init/init_task.c).
const timerSlack = 50_000

// setRlimits sets each limit and reads it back.
func setRlimits(limits []Rlimit) error {
	for _, l := range limits {
		want := syscall.Rlimit{Cur: l.Soft, Max: l.Hard}
		var have syscall.Rlimit
		if err := syscall.Getrlimit(l.Resource, &have); err != nil {
			return failure("getrlimit", l.Name, err)
		}
		// A hard limit of the caller's that is lower stays: it cannot be raised
		// and need not be.
		want.Max = min(want.Max, have.Max)
		want.Cur = min(want.Cur, want.Max)
		// The syscall package's own call, because it also tells the package to
		// leave RLIMIT_NOFILE alone when it starts a process.
		if err := syscall.Setrlimit(l.Resource, &want); err != nil {
			return failure("setrlimit", l.Name, err)
		}
		if err := syscall.Getrlimit(l.Resource, &have); err != nil || have != want {
			return failure("setrlimit", l.Name, errors.Join(err, fmt.Errorf("read back %d/%d, want %d/%d", have.Cur, have.Max, want.Cur, want.Max)))
		}
	}
	return nil
}

// dropCapabilities empties the bounding, ambient, inheritable, permitted and
// effective sets (capabilities(7)).
func dropCapabilities() error {
	for c := uintptr(0); c <= 63; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // past the kernel's last capability
		}
		if err != nil {
			return failure("prctl", fmt.Sprintf("PR_CAPBSET_DROP %d", c), err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return failure("prctl", "PR_CAP_AMBIENT_CLEAR_ALL", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return failure("capset", "", err)
	}
	return nil
}

// landlockFS is what each ABI can handle (landlock(7)).
func landlockFS(abi int) uint64 {
	fs := uint64(1<<13 - 1) // ABI 1: execute to make_sym
	if abi >= 2 {
		fs |= ll.AccessFSRefer
	}
	if abi >= 3 {
		fs |= ll.AccessFSTruncate
	}
	if abi >= 5 {
		fs |= ll.AccessFSIoctlDev
	}
	return fs
}

const (
	landlockRead = ll.AccessFSExecute | ll.AccessFSReadFile | ll.AccessFSReadDir
	// In scratch directories: everything but devices and execution.
	landlockScratch = ll.AccessFSReadFile | ll.AccessFSReadDir | ll.AccessFSWriteFile | ll.AccessFSRemoveDir |
		ll.AccessFSRemoveFile | ll.AccessFSMakeDir | ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSMakeFifo |
		ll.AccessFSMakeSym | ll.AccessFSRefer | ll.AccessFSTruncate
	landlockFile = ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate
	// landlockProbe may be written by its permissions and by its mount, and is
	// left out of the rules: that it refuses shows that Landlock is at work.
	landlockProbe = "/dev/zero"
)

// restrictLandlock puts the thread into a Landlock domain and records what a
// probe showed. Whether a run may go on without is the host's decision.
func restrictLandlock(cfg Landlock, seen *Ready) {
	abi, err := ll.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		seen.LandlockWhy = fmt.Sprintf("landlock_create_ruleset: %v", err)
		return
	}
	if err := writable(landlockProbe); err != nil {
		seen.LandlockWhy = fmt.Sprintf("probe %s before: %v", landlockProbe, err)
		return
	}
	if err := enterDomain(cfg, abi); err != nil {
		seen.LandlockWhy = err.Error()
		return
	}
	if err := writable(landlockProbe); !errors.Is(err, unix.EACCES) {
		seen.LandlockWhy = fmt.Sprintf("probe %s after: %v, want EACCES", landlockProbe, err)
		return
	}
	seen.LandlockABI = abi
	seen.Landlock = fmt.Sprintf("ABI %d, open(%s, O_WRONLY) refused with EACCES", abi, landlockProbe)
}

// landlockRuleset is what the rule set of a jail handles: all that the ABI knows,
// so that what no rule allows is refused.
func landlockRuleset(cfg Landlock, abi int) ll.RulesetAttr {
	attr := ll.RulesetAttr{HandledAccessFS: landlockFS(abi)}
	if abi >= 4 && cfg.DenyTCP {
		attr.HandledAccessNet = ll.AccessNetBindTCP | ll.AccessNetConnectTCP
	}
	if abi >= 6 {
		attr.Scoped = ll.ScopeAbstractUnixSocket | ll.ScopeSignal
	}
	return attr
}

func enterDomain(cfg Landlock, abi int) error {
	attr := landlockRuleset(cfg, abi)
	fs := attr.HandledAccessFS
	ruleset, err := ll.LandlockCreateRuleset(&attr, 0)
	if err != nil {
		return failure("landlock_create_ruleset", "", err)
	}
	defer unix.Close(ruleset)
	allow := func(path string, access uint64) error {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return failure("open", path, err)
		}
		defer unix.Close(fd)
		rule := ll.PathBeneathAttr{AllowedAccess: access & fs, ParentFd: fd}
		if err := ll.LandlockAddPathBeneathRule(ruleset, &rule, 0); err != nil {
			return failure("landlock_add_rule", path, err)
		}
		return nil
	}
	if err := allow("/", landlockRead); err != nil {
		return err
	}
	for _, p := range cfg.Writable {
		if err := allow(p, landlockScratch); err != nil {
			return err
		}
	}
	for _, p := range slices.Concat(cfg.Files, cfg.Devices) {
		if err := allow(p, landlockFile); err != nil {
			return err
		}
	}
	if err := ll.LandlockRestrictSelf(ruleset, 0); err != nil {
		return failure("landlock_restrict_self", "", err)
	}
	return nil
}

// writable says whether path can be opened for writing.
func writable(path string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	unix.Close(fd)
	return nil
}

// loopbackUp brings up lo, which is down in a new network namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return failure("socket", "AF_INET", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return failure("ifreq", "lo", err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return failure("ioctl SIOCSIFFLAGS", "lo", err)
	}
	return nil
}
