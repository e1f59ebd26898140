package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/report"
)

// TestAttackProcesses: other processes are neither seen nor reached, init
// included, and nobody becomes somebody else.
func TestAttackProcesses(t *testing.T) {
	runAttacks(t, []attack{
		{name: "processes of others", code: `
mine = {str(os.getpid())} | set(os.listdir("/proc/self/task"))
return [p for p in os.listdir("/proc") if p.isdigit() and p not in mine] != []`,
			strict: "got False", control: "got True"},
		// hidepid hides from the listing and from names; threads of init have
		// numbers of their own.
		{name: "init by name, thread by thread", code: `
mine = set(os.listdir("/proc/self/task"))
seen = []
for pid in range(1, 400):
    for name in ("status", "environ", "maps", "mem", "fd", "exe", "root", "cwd", "ns/mnt", "auxv", "stack", "syscall", "cmdline", "task"):
        path = "/proc/%d/%s" % (pid, name)
        if str(pid) not in mine and os.path.lexists(path):
            seen.append(path)
return seen`,
			strict: "got []", control: "reached"},
		{name: "the secret in an environment", code: `
found = []
for pid in list(range(1, 400)) + [HOST["pid"], "self", "thread-self"]:
    try:
        if HOST["secret"].encode() in open("/proc/%s/environ" % pid, "rb").read():
            found.append(pid)
    except OSError:
        pass
return found != [] or HOST["secret"] in str(os.environ)`,
			strict: "got False", control: "got True"},
		{name: "a signal to a process of the host", code: `return os.kill(HOST["pid"], 0)`,
			strict: "EPERM", observe: "ESRCH", control: "got None", op: "kill"},
		{name: "a signal to its thread", code: `return call(234, HOST["pid"], HOST["pid"], 0)`,
			strict: "ESRCH", control: "got 0"},
		{name: "a descriptor for a process", code: `return call(434, 1, 0) >= 0`,
			strict: "EPERM", observe: "got True", control: "got True", op: "pidfd_open"},
		// PTRACE_SEIZE, which does not stop its target.
		{name: "ptrace", code: `return call(101, 0x4206, HOST["pid"], 0, 0)`, strict: "EPERM", control: "got 0", plain: "-", op: "ptrace"},
		{name: "ptrace of init", code: `return call(101, 0x4206, HOST["pid"] if HOST["outside"] else 1, 0, 0)`, strict: "EPERM", control: "got 0", plain: "-", op: "ptrace"},
		{name: "tracing by the parent", code: `return call(101, 0, 0, 0, 0)`, strict: "EPERM", control: "got 0", op: "ptrace"},
		// Memory and descriptors of init (CVE-2016-9962): by proc, by ptrace, and by
		// the calls that need neither.
		{name: "memory of another process", code: `
buf = ctypes.create_string_buffer(8)
class iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
mine = iovec(ctypes.addressof(buf), 8)
for pid in (HOST["pid"],) if HOST["outside"] else (1, os.getppid()):
    call(310, pid, ctypes.byref(mine), 1, ctypes.byref(mine), 1, 0)
return "read"`,
			// The address is nowhere in another process: EFAULT comes after the check.
			strict: "EPERM", control: "reached", plain: "-", op: "process_vm_readv"},
		{name: "its own memory by the same call", code: `
buf = ctypes.create_string_buffer(8)
class iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
mine = iovec(ctypes.addressof(buf), 8)
return call(311, os.getpid(), ctypes.byref(mine), 1, ctypes.byref(mine), 1, 0)`,
			strict: "EPERM", control: "got 8", op: "process_vm_writev"},
		{name: "memory of init by proc", code: `return os.open("/proc/%d/mem" % (HOST["pid"] if HOST["outside"] else 1), os.O_RDONLY)`, strict: "ENOENT", control: "got", plain: "-"},
		{name: "descriptors of init by proc", code: `return os.listdir("/proc/%d/fd" % (HOST["pid"] if HOST["outside"] else 1)) != []`, strict: "ENOENT", control: "got True"},
		{name: "a descriptor of another process", code: `return call(438, -1, 0, 0)`, strict: "EPERM", control: "EBADF", op: "pidfd_getfd"},
		// CVE-2019-5736: the host's program through /proc/PID/exe.
		{name: "the program of init for writing", code: `
for pid in range(1, 100):
    try:
        os.close(os.open("/proc/%d/exe" % pid, os.O_WRONLY))
        return pid
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EROFS, errno.EACCES):
            raise
return "none"`,
			// Of a process that runs, it is ETXTBSY that keeps the writer away.
			strict: "got none", control: "ETXTBSY|got", plain: "-"},
		{name: "its own program for writing", code: `return os.open("/proc/self/exe", os.O_WRONLY)`,
			strict: "EROFS|EACCES", control: "ETXTBSY", plain: "-"},
		{name: "knobs of the kernel", code: `
seen = []
for path in ("sys/kernel/core_pattern", "sys/kernel/modprobe", "sys/vm/overcommit_memory", "sysrq-trigger", "kcore", "kallsyms", "keys", "kmsg",
             "timer_list", "iomem", "config.gz", "sched_debug", "mounts", "modules", "version", "cmdline", "interrupts", "sys", "bus", "fs", "irq", "acpi", "scsi"):
    if os.path.exists("/proc/" + path) and path != "mounts":
        seen.append(path)
return seen`,
			strict: "got []", control: "reached"},
		{name: "who the kernel kills first", code: `
with open("/proc/self/oom_score_adj", "w") as f:
    f.write("500")
return "written"`,
			strict: "EROFS", control: "got written"},
		{name: "its own files of proc", code: `
done = []
for name in ("comm", "clear_refs", "oom_adj", "coredump_filter", "attr/current", "setgroups", "uid_map", "projid_map", "timerslack_ns", "mem", "autogroup"):
    try:
        os.close(os.open("/proc/self/" + name, os.O_WRONLY))
        done.append(name)
    except OSError:
        pass
return done != []`,
			strict: "got False", control: "got True"},
		{name: "control groups", code: `
groups = [line.split(":", 2)[2].strip() for line in open("/proc/self/cgroup")]
return os.path.exists("/sys/fs/cgroup") or [g for g in groups if g != "/"] != []`,
			strict: "got False", control: "got True"},
		{name: "sysfs", code: `return os.listdir("/sys") != []`, strict: "ENOENT", control: "got True"},
		{name: "namespaces by unshare", code: `
def answer(flag):
    try:
        return call(272, flag)
    except OSError as error:
        return errno.errorcode[error.errno]
kinds = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x80, 0)
return sorted({str(answer(k)) for k in kinds})`,
			strict: "got ['EPERM']", control: "reached", op: "unshare"},
		{name: "namespaces by clone", code: `
pids = []
for flag in (0x10000000, 0x00020000, 0x20000000, 0x40000000, 0x8000):
    for high in (0, 1 << 32):
        try:
            pid = call(56, flag | high | 17, 0, 0, 0, 0)
        except OSError as error:
            if error.errno == errno.EPERM:
                continue
            raise
        if pid == 0:
            os._exit(0)
        pids.append(pid)
return pids != []`,
			strict: "got False", control: "got True", op: "clone"},
		// Its flags are in memory: it must not exist, or glibc would not fall back.
		{name: "namespaces by clone3", code: `return call(435, 0, 0)`, strict: "ENOSYS", control: "EINVAL"},
		{name: "a namespace of the host", code: `return call(308, -1, 0)`, strict: "EPERM", control: "EBADF", op: "setns"},
		{name: "another user", code: `
def answer(nr, *args):
    try:
        return str(call(nr, *args))
    except OSError as error:
        return errno.errorcode[error.errno]
return sorted({answer(105, -1), answer(106, -1), answer(113, -1, -1), answer(114, -1, -1), answer(117, -1, -1, -1), answer(119, -1, -1, -1), answer(116, -1, 0)})`,
			strict: "got ['EPERM']", control: "reached", op: "setuid"},
		{name: "capabilities", code: `
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
data = (ctypes.c_uint32 * 6)()
call(125, header, data)
return [n for n in data] != [0] * 6`,
			// A plain user has none outside either: the set of what can be got is its control.
			strict: "EPERM|got False", control: "got True", plain: "got False"},
		{name: "capabilities by capset", code: `return call(126, (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())`, strict: "EPERM", control: "got 0", op: "capset"},
		{name: "options of prctl", code: `
done = []
for option, *args in ((4, 1), (22, 2, 0), (8, 1), (28, 1), (47, 2, 0, 0, 0), (24, 0), (35, 1, 0, 0, 0), (40, 1), (36, 1), (26, 1), (41, 0, 0, 0, 0), (59, 1)):
    try:
        call(157, option, *args)
        done.append(option)
    except OSError:
        pass
return done`,
			strict: "got []", observe: "got [36]|got []", control: "reached", op: "prctl"},
		{name: "limits", code: `
import resource
done = []
if HOST["outside"]:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 4096))
for name in dir(resource):
    if name.startswith("RLIMIT_"):
        kind = getattr(resource, name)
        soft, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY:
            continue
        try:
            resource.setrlimit(kind, (soft, hard + 1))
            done.append(name)
        except (ValueError, OSError):
            pass
return done != []`,
			// It takes CAP_SYS_RESOURCE, which not every root has.
			strict: "got False", control: "got True|got False"},
		{name: "limits of another process", code: `return call(302, 1, 7, (ctypes.c_uint64 * 2)(64, 64), 0)`, strict: "EPERM", control: "-", op: "prlimit64"},
		{name: "a session of its own", code: `return os.getsid(0) == os.getpid() and os.getpid() != 1`, strict: "got True", control: "-"},
		{name: "the name of the host", code: `return os.uname().nodename == HOST["name"]`, strict: "got False", control: "got True"},
		// The script can take away what announces it.
		{name: "a process that nobody announced", code: `
import subprocess
audit, sys.audit = sys.audit, lambda *a: None
try:
    return subprocess.run([sys.executable, "-I", "-S", "-c", "0"], close_fds=False).returncode
finally:
    sys.audit = audit`,
			strict: "EPERM", observe: "got 0", control: "got 0"},
		{name: "fork", code: `
pid = os.fork()
if pid == 0:
    os._exit(0)
return os.waitpid(pid, 0)[1]`,
			strict: "EPERM", observe: "got 0", control: "got 0", op: "clone"},
	})
}

// TestAttackInitHoldsNothing: once Python was started nothing of the stage is
// left that it could reach (CVE-2016-9962): seen from outside, init is not
// dumpable, and holds no descriptor but its end of the control socket.
func TestAttackInitHoldsNothing(t *testing.T) {
	for _, profile := range []string{"strict", "observe"} {
		t.Run(profile, func(t *testing.T) {
			cmd, _ := startForever(t, forever, "--profile", profile)
			init, _ := family(t, cmd.Process.Pid)
			if os.Geteuid() != 0 {
				// Its proc files are root's: it is not dumpable.
				if _, err := os.ReadDir(procFile(init, "fd")); !os.IsPermission(err) {
					t.Errorf("a plain user can list init's descriptors: %v", err)
				}
				return
			}
			// It lets go as soon as execve(2) has returned; by then a machine with much
			// to do may have let the script say its first word.
			for deadline := time.Now().Add(10 * time.Second); ; {
				held := slices.DeleteFunc(descriptorsOf(t, init), func(name string) bool {
					return strings.HasPrefix(name, "socket:") || strings.HasPrefix(name, "anon_inode:[event")
				})
				if len(held) == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("init holds %s", held)
				}
			}
			env, err := os.ReadFile(procFile(init, "environ"))
			if err != nil || len(env) != 0 {
				t.Errorf("init's environment is %q, %v", env, err)
			}
		})
	}
}

// TestAttackTerminal: the caller's terminal gets no characters typed into it
// (CVE-2017-5226), nor does the script get hold of it.
func TestAttackTerminal(t *testing.T) {
	const code = attackDriver + `
def typed():
    done = []
    for fd in (0, 1, 2):
        for request in (0x5412, (1 << 32) | 0x5412, 0x541c):  # TIOCSTI, with garbage above (CVE-2019-10063), TIOCLINUX
            try:
                call(16, fd, request, b"x\0\0\0")
                done.append(request)
            except OSError:
                pass
    try:
        call(16, os.open("/dev/tty", os.O_RDWR), 0x5412, b"x")
        done.append("/dev/tty")
    except OSError:
        pass
    terminal = open("/proc/self/stat").read().rsplit(")", 1)[1].split()[4]
    return [os.isatty(fd) for fd in (0, 1, 2)], done != [], terminal != "0"
attempt("typed", typed)
`
	run := func(t *testing.T, cmd *exec.Cmd) (string, int) {
		t.Helper()
		master, slave := openTerminal(t)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
		// Raw, so that what is typed is there at once, and not echoed.
		tio, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		tio.Lflag &^= unix.ICANON | unix.ECHO
		if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, tio); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		typed, err := unix.IoctlGetInt(int(slave.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64<<10)
		n, err := master.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n]), typed
	}
	argument, err := json.Marshal(host{})
	if err != nil {
		t.Fatal(err)
	}
	for _, profile := range []string{"strict", "observe"} {
		for _, mode := range attackModes {
			t.Run(profile+" "+mode, func(t *testing.T) {
				out, typed := run(t, sbxProcess(t, "run", "--profile", profile, "--hooks", mode, "--stdin", "-", script(t, code), string(argument)))
				if !strings.Contains(out, `got ([False, False, False], False, False)`) || typed != 0 {
					t.Errorf("%d characters were typed; the script said %q", typed, out)
				}
			})
		}
	}
	// Control: outside the characters arrive, where the kernel lets anybody do it
	// or the user is root.
	if legacy, err := os.ReadFile("/proc/sys/dev/tty/legacy_tiocsti"); os.Geteuid() != 0 && err == nil && strings.TrimSpace(string(legacy)) != "1" {
		return
	}
	h := newHost(t)
	out, typed := run(t, exec.CommandContext(t.Context(), h.Python, "-I", "-S", script(t, code), string(argument)))
	if typed == 0 || !strings.Contains(out, "got ([True, True, True], True, True)") {
		t.Errorf("outside of the jail %d characters were typed: %q; the test shows nothing", typed, out)
	}
}

// openTerminal makes a pseudoterminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		t.Fatal(errno)
	}
	slave = os.NewFile(fd, "terminal")
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

func procFile(pid int, name string) string {
	return filepath.Join("/proc", itoa(pid), name)
}

// descriptorsOf lists what the descriptors of a process lead to.
func descriptorsOf(t *testing.T, pid int) []string {
	t.Helper()
	entries, err := os.ReadDir(procFile(pid, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(procFile(pid, "fd"), e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, to)
	}
	slices.Sort(out)
	return out
}

// TestAttackCrashLeavesNothing: a script that dumps core makes no file, and runs
// no handler of the host.
func TestAttackCrashLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range attackModes {
		cmd := sbxProcess(t, "run", "--profile", "strict", "--hooks", mode, script(t, `
import os, resource
try: resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
except (ValueError, OSError): pass
os.abort()
`))
		var stderr bytes.Buffer
		cmd.Stderr, cmd.Dir = &stderr, dir
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != 134 {
			t.Errorf("hooks %s: status %d, want 134: %s", mode, got, stderr.String())
		}
	}
	if files := filesIn(t, dir); files != "" {
		t.Errorf("left behind: %s", files)
	}
}

// TestAttackSurvivors: processes that leave their session, close everything and
// ignore all signals end with the run.
func TestAttackSurvivors(t *testing.T) {
	mark := "SBX_TEST_SURVIVOR=" + itoa(os.Getpid())
	for _, mode := range attackModes {
		o := invoke(t, "run", "--profile", "observe", "--hooks", mode, "--env", mark, script(t, `
import os, signal, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        for s in range(1, 65):
            try: signal.signal(s, signal.SIG_IGN)
            except (OSError, ValueError): pass
        if os.fork() == 0:
            os.closerange(0, 3)
            time.sleep(1000)
        os._exit(0)
`))
		o.wantVerdict(t, report.OK, 0)
		if left := jailed(t, mark); len(left) > 0 {
			t.Errorf("hooks %s: %v are left", mode, left)
		}
		if o.report.Usage.SurvivorsKilled == 0 {
			t.Errorf("hooks %s: nobody survived the script: the test shows nothing", mode)
		}
	}
}

// TestAttackRunsAreSeparate: two runs at the same time that want to meet, by
// names of files, of sockets and of shared memory, do not.
func TestAttackRunsAreSeparate(t *testing.T) {
	const leave = attackCalls + `
import socket
for name in ("/tmp/mark", "/dev/shm/mark"):
    open(name, "w").close()
listener = socket.socket(socket.AF_UNIX)
listener.bind("\0sbx-test-mark")
listener.listen()
inner = socket.create_server(("127.0.0.1", 40404))
call(29, 0x5b5b5b, 4096, 0o1666)
`
	const look = `
def found(f):
    try: return f()
    except OSError: return False
def reach(family, address):
    s = socket.socket(family)
    s.connect(address)
    return True
print([os.path.exists("/tmp/mark"), os.path.exists("/dev/shm/mark"), found(lambda: reach(socket.AF_UNIX, "\0sbx-test-mark")),
       found(lambda: reach(socket.AF_INET, ("127.0.0.1", 40404))), found(lambda: call(29, 0x5b5b5b, 4096, 0) >= 0)])
`
	flags := []string{"--profile", "observe", "--hooks", "off"}
	startForever(t, leave+forever, flags...)
	o := runScript(t, attackCalls+"import socket\n"+look, flags...)
	o.wantVerdict(t, report.OK, 0)
	if o.stdout != "[False, False, False, False, False]\n" {
		t.Errorf("of another run it found %s", o.stdout)
	}
	o = runScript(t, leave+look, flags...)
	if o.stdout != "[True, True, True, True, True]\n" {
		t.Errorf("of itself it found %s: the test shows nothing", o.stdout)
	}
}
