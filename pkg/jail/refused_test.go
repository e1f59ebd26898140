package jail

import (
	"maps"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pyhook"
)

// Every layer that the kernel or an outer filter refuses stops the stage with
// the step's name and the errno, and the script does not run.
func TestRefusedLayerStopsTheStage(t *testing.T) {
	flags := func(arg, value uint32) []condition { return []condition{{arg, ^uint32(0), value}} }
	has := func(arg, bits uint32) []condition { return []condition{{arg, bits, bits}} }
	const scratch = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for name, tc := range map[string]struct {
		refusal refusal
		op      string
		path    string // a part of it
	}{
		"user namespace":          {refusal{NR: unix.SYS_CLONE, Errno: unix.EPERM, When: has(0, unix.CLONE_NEWUSER)}, "clone", "namespaces"},
		"user namespaces used up": {refusal{NR: unix.SYS_CLONE, Errno: unix.ENOSPC, When: has(0, unix.CLONE_NEWUSER)}, "clone", "namespaces"},
		"mount namespace":         {refusal{NR: unix.SYS_CLONE, Errno: unix.EPERM, When: has(0, unix.CLONE_NEWNS)}, "clone", "namespaces"},
		"network namespace":       {refusal{NR: unix.SYS_CLONE, Errno: unix.EINVAL, When: has(0, unix.CLONE_NEWNET)}, "clone", "namespaces"},
		"pid namespace":           {refusal{NR: unix.SYS_CLONE, Errno: unix.EINVAL, When: has(0, unix.CLONE_NEWPID)}, "clone", "namespaces"},
		"ipc namespace":           {refusal{NR: unix.SYS_CLONE, Errno: unix.EINVAL, When: has(0, unix.CLONE_NEWIPC)}, "clone", "namespaces"},
		"uts namespace":           {refusal{NR: unix.SYS_CLONE, Errno: unix.EINVAL, When: has(0, unix.CLONE_NEWUTS)}, "clone", "namespaces"},
		"not being dumpable":      {refusal{NR: unix.SYS_PRCTL, Errno: unix.EPERM, When: flags(0, unix.PR_SET_DUMPABLE)}, "prctl", "PR_SET_DUMPABLE"},
		"private mounts":          {refusal{NR: unix.SYS_MOUNT, Errno: unix.EPERM, When: flags(3, unix.MS_REC|unix.MS_PRIVATE)}, "make mounts private", "/"},
		"mount of the root":       {refusal{NR: unix.SYS_MOUNT, Errno: unix.EACCES, When: flags(3, unix.MS_NOSUID|unix.MS_NODEV)}, "mount", "new root"},
		"mount of scratch":        {refusal{NR: unix.SYS_MOUNT, Errno: unix.EPERM, When: flags(3, scratch)}, "mount tmpfs", "/"},
		"open_tree":               {refusal{NR: unix.SYS_OPEN_TREE, Errno: unix.ENOSYS}, "open_tree", "/"},
		"mount_setattr":           {refusal{NR: unix.SYS_MOUNT_SETATTR, Errno: unix.ENOSYS}, "mount_setattr", "/"},
		"move_mount":              {refusal{NR: unix.SYS_MOVE_MOUNT, Errno: unix.EPERM}, "move_mount", "/"},
		"pivot_root":              {refusal{NR: unix.SYS_PIVOT_ROOT, Errno: unix.EINVAL}, "pivot_root", "/"},
		"umount of the old root":  {refusal{NR: unix.SYS_UMOUNT2, Errno: unix.EPERM}, "umount", "the old root"},
		"sethostname":             {refusal{NR: unix.SYS_SETHOSTNAME, Errno: unix.EPERM}, "sethostname", "sbx"},
		"socket for the loopback": {refusal{NR: unix.SYS_SOCKET, Errno: unix.EAFNOSUPPORT, When: flags(0, unix.AF_INET), Loopback: true}, "socket", "AF_INET"},
		"ioctl for the loopback":  {refusal{NR: unix.SYS_IOCTL, Errno: unix.EPERM, When: flags(1, unix.SIOCSIFFLAGS), Loopback: true}, "ioctl SIOCSIFFLAGS", "lo"},
		"one limit":               {refusal{NR: unix.SYS_PRLIMIT64, Errno: unix.EPERM, When: flags(1, unix.RLIMIT_MEMLOCK)}, "getrlimit", "RLIMIT_MEMLOCK"},
		"bounding set":            {refusal{NR: unix.SYS_PRCTL, Errno: unix.EPERM, When: flags(0, unix.PR_CAPBSET_DROP)}, "prctl", "PR_CAPBSET_DROP 0"},
		"one of the bounding set": {refusal{NR: unix.SYS_PRCTL, Errno: unix.EPERM, When: append(flags(0, unix.PR_CAPBSET_DROP), flags(1, unix.CAP_SYS_PTRACE)...)}, "prctl", "PR_CAPBSET_DROP 19"},
		"ambient set":             {refusal{NR: unix.SYS_PRCTL, Errno: unix.EPERM, When: append(flags(0, unix.PR_CAP_AMBIENT), flags(1, unix.PR_CAP_AMBIENT_CLEAR_ALL)...)}, "prctl", "PR_CAP_AMBIENT_CLEAR_ALL"},
		"no_new_privs":            {refusal{NR: unix.SYS_PRCTL, Errno: unix.EINVAL, When: flags(0, unix.PR_SET_NO_NEW_PRIVS)}, "prctl", "PR_SET_NO_NEW_PRIVS"},
		"seccomp forbidden":       {refusal{NR: unix.SYS_SECCOMP, Errno: unix.EPERM}, "seccomp", "NEW_LISTENER"},
		"seccomp unknown":         {refusal{NR: unix.SYS_SECCOMP, Errno: unix.ENOSYS}, "seccomp", "NEW_LISTENER"},
		"a listener around sbx":   {refusal{NR: -1, Errno: unix.EBUSY, Listen: true}, "seccomp", "NEW_LISTENER"},
		"dup3 of the descriptors": {refusal{NR: unix.SYS_DUP3, Errno: unix.EBADF, When: flags(1, pyhook.BootFD)}, "dup3", bootFile},
		"unlink of the boot file": {refusal{NR: unix.SYS_UNLINKAT, Errno: unix.EROFS}, "unlink", bootFile},
		"links of the root":       {refusal{NR: unix.SYS_SYMLINKAT, Errno: unix.EPERM}, "symlink", "/"},
		"directories of the root": {refusal{NR: unix.SYS_MKDIRAT, Errno: unix.EPERM}, "mkdir", "/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := refused(t, tc.refusal)
			if a.Failed == nil {
				t.Fatalf("got %+v, want a failure of %s", a, tc.op)
			}
			if a.Failed.Op != tc.op || !strings.Contains(a.Failed.Path, tc.path) || a.Failed.Errno != tc.refusal.Errno {
				t.Errorf("got %v, want %s of %s: %v", a.Failed, tc.op, tc.path, tc.refusal.Errno)
			}
			if a.Ready != nil || a.Stdout != "" {
				t.Errorf("the stage went on: %+v, %q", a.Ready, a.Stdout)
			}
		})
	}
}

// What init can do without is reported, and the other layers are as before.
func TestMissingLayerIsReported(t *testing.T) {
	for name, tc := range map[string]struct {
		refusal refusal
		why     func(*Ready) string
		want    string // a part of it
	}{
		"Landlock unknown":      {refusal{NR: unix.SYS_LANDLOCK_CREATE_RULESET, Errno: unix.ENOSYS}, landlockWhy, "landlock_create_ruleset: function not implemented"},
		"Landlock off":          {refusal{NR: unix.SYS_LANDLOCK_CREATE_RULESET, Errno: unix.EOPNOTSUPP}, landlockWhy, "operation not supported"},
		"rules refused":         {refusal{NR: unix.SYS_LANDLOCK_ADD_RULE, Errno: unix.EPERM}, landlockWhy, "landlock_add_rule /: operation not permitted"},
		"domain refused":        {refusal{NR: unix.SYS_LANDLOCK_RESTRICT_SELF, Errno: unix.E2BIG}, landlockWhy, "landlock_restrict_self: argument list too long"},
		"domain without effect": {refusal{NR: unix.SYS_LANDLOCK_RESTRICT_SELF, Errno: 0}, landlockWhy, "probe /dev/zero after: <nil>, want EACCES"},
		"cgroup namespace": {
			refusal{NR: unix.SYS_UNSHARE, Errno: unix.EINVAL, When: []condition{{0, unix.CLONE_NEWCGROUP, unix.CLONE_NEWCGROUP}}},
			func(r *Ready) string { return r.CgroupNS }, "invalid argument",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := refused(t, tc.refusal)
			if a.Failed != nil || a.Other != "" || a.Ready == nil {
				t.Fatalf("failed with %v, %s", a.Failed, a.Other)
			}
			if got := tc.why(a.Ready); !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			want := maps.Clone(mountsAlone)
			if a.Ready.LandlockABI > 0 {
				want = withLandlock(a.Ready.LandlockABI)
			} else if a.Ready.Landlock != "" {
				t.Errorf("Landlock is said to be at work: %q", a.Ready.Landlock)
			}
			want["write /workspace"], want["append /workspace/data"] = "", ""
			checkAttempts(t, parseVista(t, a.Stdout, a.Stderr), want)
		})
	}
}

func landlockWhy(r *Ready) string { return r.LandlockWhy }

func TestWorkspaceForReadingHoldsWithoutLandlock(t *testing.T) {
	a := refused(t, refusal{NR: unix.SYS_LANDLOCK_CREATE_RULESET, Errno: unix.ENOSYS, ReadOnly: true})
	v := parseVista(t, a.Stdout, a.Stderr)
	for _, name := range []string{"write /workspace", "append /workspace/data", "write /tmp"} {
		if v.Attempts[name] != "EROFS" {
			t.Errorf("%s: %q, want EROFS", name, v.Attempts[name])
		}
	}
}

// What a careless or hostile caller hands down does not reach the script.
func TestCallersStateStaysOutside(t *testing.T) {
	for name, r := range map[string]refusal{
		"as it is":                        {},
		"where close_range(2) is unknown": {NR: unix.SYS_CLOSE_RANGE, Errno: unix.ENOSYS},
	} {
		t.Run(name, func(t *testing.T) {
			r.Ignored = []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGUSR1, unix.SIGCHLD, unix.SIGALRM}
			a := refused(t, r)
			v := parseVista(t, a.Stdout, a.Stderr)
			if len(v.Descriptors) != 3 {
				t.Errorf("descriptors %q", v.Descriptors)
			}
			if len(v.Ignored) != 0 {
				t.Errorf("the script ignores %q", v.Ignored)
			}
		})
	}
}

func TestLowerLimitsOfTheCallerStay(t *testing.T) {
	a := refused(t, refusal{Limits: []Rlimit{
		{Resource: unix.RLIMIT_STACK, Soft: 4 << 20, Hard: 6 << 20},
		{Resource: unix.RLIMIT_NOFILE, Soft: 1010, Hard: 1010},
		{Resource: unix.RLIMIT_CORE, Soft: 0, Hard: 0},
	}})
	v := parseVista(t, a.Stdout, a.Stderr)
	if got := v.Limits["RLIMIT_STACK"]; len(got) != 2 || got[0] != 6<<20 || got[1] != 6<<20 {
		t.Errorf("RLIMIT_STACK is %d, want what the caller's hard limit leaves", got)
	}
	if got := v.Limits["RLIMIT_NOFILE"]; len(got) != 2 || got[0] != 1010 || got[1] != 1010 {
		t.Errorf("RLIMIT_NOFILE is %d, want the caller's", got)
	}
}

func TestOldKernelsHaveNoKillableWait(t *testing.T) {
	const flag = unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	a := refused(t, refusal{NR: unix.SYS_SECCOMP, Errno: unix.EINVAL, When: []condition{{1, flag, flag}}})
	if a.Failed != nil || a.Ready == nil || a.Ready.WaitKillable {
		t.Errorf("got %+v, want a listener without the flag, and that said", a)
	}
}
