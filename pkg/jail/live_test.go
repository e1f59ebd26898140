package jail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/interp"
	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/pyhook"
)

func systemInterp(t *testing.T) *interp.Interpreter {
	t.Helper()
	in, err := system()
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func newRequest(t *testing.T, p profile.Profile, script string) Request {
	t.Helper()
	r, err := request(systemInterp(t), p, []byte(script))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func probeScript(t *testing.T) string {
	t.Helper()
	script, err := os.ReadFile("testdata/probe.py")
	if err != nil {
		t.Fatal(err)
	}
	return string(script)
}

// run enters a jail that must stand, and whose script must end well.
func run(t *testing.T, r Request, s seams) inside {
	t.Helper()
	in, err := enter(r, s)
	if err != nil {
		t.Fatalf("%v\n%s", err, in.stderr)
	}
	if in.exit == nil || in.exit.Status != 0 {
		t.Fatalf("the script ended with %+v\n%s%s", in.exit, in.stdout, in.stderr)
	}
	return in
}

// mountLine is a line of mountinfo (proc_pid_mountinfo(5)).
type mountLine struct {
	root, point, kind string
	options, super    []string
}

func parseMountinfo(t *testing.T, text string) []mountLine {
	t.Helper()
	var out []mountLine
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) != dash+4 {
			t.Fatalf("mountinfo line %q", line)
		}
		if dash != 6 {
			t.Errorf("%s propagates: %s", f[4], f[6:dash])
		}
		out = append(out, mountLine{f[3], f[4], f[dash+1], strings.Split(f[5], ","), strings.Split(f[dash+3], ",")})
	}
	return out
}

func TestJailFromInside(t *testing.T) {
	t.Setenv("SBX_TEST_SECRET", "of the caller")
	in := run(t, newRequest(t, strict(), probeScript(t)), seams{})
	v := parseVista(t, in.stdout, in.stderr)

	t.Run("the root holds the runtime, the script and nothing else", func(t *testing.T) {
		allowed := []string{"dev", "etc", "proc", "sandbox", "tmp"}
		for _, m := range slices.Concat(systemInterp(t).Mounts, systemInterp(t).SiteMounts) {
			allowed = append(allowed, strings.Split(m.Target, "/")[1])
		}
		for _, l := range systemInterp(t).Symlinks {
			allowed = append(allowed, strings.Split(l.Path, "/")[1])
		}
		for _, name := range v.Root {
			if !slices.Contains(allowed, name) {
				t.Errorf("/%s is there", name)
			}
		}
		wantDev := []string{"fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"}
		if !slices.Equal(v.Dev, wantDev) {
			t.Errorf("/dev holds %q, want %q", v.Dev, wantDev)
		}
		if want := []string{"group", "hosts", "nsswitch.conf", "passwd"}; !slices.Equal(slices.Sorted(maps.Keys(v.Etc)), want) {
			t.Errorf("/etc holds %q, want %q", slices.Sorted(maps.Keys(v.Etc)), want)
		}
	})
	t.Run("proc shows the script's own processes only", func(t *testing.T) {
		if want := []string{strconv.Itoa(v.PID[0])}; !slices.Equal(v.Processes, want) || !slices.Equal(v.Proc, []string{"self", "thread-self"}) {
			t.Errorf("/proc holds %q and %q", v.Processes, v.Proc)
		}
		if in.ready.Proc != procOptions[0] || in.ready.ProcWhy != "" {
			t.Errorf("init said proc %q, %q", in.ready.Proc, in.ready.ProcWhy)
		}
	})
	t.Run("every mount is restricted", func(t *testing.T) {
		for _, m := range parseMountinfo(t, v.Mountinfo) {
			need := []string{"nosuid"}
			if !strings.HasPrefix(m.point, "/dev/") {
				need = append(need, "nodev")
			}
			if m.kind == "tmpfs" || m.kind == "proc" || strings.HasPrefix(m.point, "/dev/") {
				need = append(need, "noexec")
			}
			if m.point != TmpDir && m.kind != "proc" {
				need = append(need, "ro")
			}
			for _, option := range need {
				if !slices.Contains(m.options, option) {
					t.Errorf("%s is %q: not %s", m.point, m.options, option)
				}
			}
			if m.kind == "tmpfs" && !slices.ContainsFunc(m.super, func(o string) bool { return strings.HasPrefix(o, "size=") }) ||
				m.kind == "tmpfs" && !slices.ContainsFunc(m.super, func(o string) bool { return strings.HasPrefix(o, "nr_inodes=") }) {
				t.Errorf("%s has no bound: %q", m.point, m.super)
			}
			if m.point == "/proc" && (!slices.Contains(m.super, "subset=pid") || !slices.Contains(m.super, "hidepid=invisible")) {
				t.Errorf("proc is mounted with %q", m.super)
			}
		}
	})
	t.Run("only the runtime and the devices are the host's files", func(t *testing.T) {
		for _, m := range parseMountinfo(t, v.Mountinfo) {
			if m.kind == "tmpfs" || m.kind == "proc" || strings.HasPrefix(m.point, "/dev/") {
				continue
			}
			if !slices.ContainsFunc(systemInterp(t).Mounts, func(i interp.Mount) bool { return i.Target == m.point }) {
				t.Errorf("%s shows %s of the host", m.point, m.root)
			}
		}
		cwd, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{cwd, os.TempDir() + "/", "probe.py", "of the caller"} {
			if strings.Contains(v.Mountinfo, secret) {
				t.Errorf("mountinfo tells %q", secret)
			}
		}
	})
	t.Run("the script is nobody in particular", func(t *testing.T) {
		if want := []int{UID, UID, UID, GID, GID, GID}; !slices.Equal(v.IDs, want) || len(v.Groups) != 0 && os.Geteuid() == 0 {
			t.Errorf("ids %d, groups %d", v.IDs, v.Groups)
		}
		for _, line := range []string{
			"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
			"CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "Threads:\t1", "PPid:\t1", "TracerPid:\t0",
		} {
			if !strings.Contains(v.Status, "\n"+line+"\n") {
				t.Errorf("status is without %q", line)
			}
		}
	})
	t.Run("it leads a session whose parent is init", func(t *testing.T) {
		if pid := v.PID[0]; pid == 1 || !slices.Equal(v.PID, []int{pid, 1, pid, pid}) {
			t.Errorf("pid, parent, session and group are %d", v.PID)
		}
	})
	t.Run("it inherits nothing of the caller", func(t *testing.T) {
		want := []string{
			"HOME=/tmp", "LANG=C.UTF-8", "MKL_NUM_THREADS=2", "NUMEXPR_NUM_THREADS=2", "OMP_NUM_THREADS=2",
			"OPENBLAS_NUM_THREADS=2", "PATH=/usr/local/bin:/usr/bin:/bin", "TMPDIR=/tmp",
		}
		if !slices.Equal(v.Environment, want) {
			t.Errorf("environment %q, want %q", v.Environment, want)
		}
		if want := map[string]string{"0": "pipe", "1": "pipe", "2": "pipe"}; !maps.Equal(v.Descriptors, want) {
			t.Errorf("descriptors %q, want %q", v.Descriptors, want)
		}
		if v.Host != "sbx" || v.Directory != TmpDir || v.Umask != 0o022 || len(v.Ignored) != 0 || v.Blocked != 0 || v.Stdin != "" {
			t.Errorf("host %q, directory %q, umask %o, %q ignored, %d blocked, input %q", v.Host, v.Directory, v.Umask, v.Ignored, v.Blocked, v.Stdin)
		}
		for line := range strings.Lines(v.Cgroup) {
			if !strings.HasSuffix(line, ":/\n") {
				t.Errorf("the cgroup is seen as %q", line)
			}
		}
	})
	t.Run("its network is a loopback that is down", func(t *testing.T) {
		if want := map[string]string{"lo": "down"}; !maps.Equal(v.Interfaces, want) {
			t.Errorf("interfaces %q, want %q", v.Interfaces, want)
		}
	})
	t.Run("its limits are those of the plan", func(t *testing.T) {
		for _, l := range rlimits(strict().Limits) {
			if have := v.Limits[l.Name]; len(have) == 2 && (uint64(have[0]) > l.Soft || uint64(have[1]) > l.Hard) {
				t.Errorf("%s is %d, want at most %d, %d", l.Name, have, l.Soft, l.Hard)
			}
		}
		for _, name := range []string{"RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_STACK", "RLIMIT_MEMLOCK"} {
			if len(v.Limits[name]) != 2 || v.Limits[name][0] < 0 {
				t.Errorf("%s is %d", name, v.Limits[name])
			}
		}
	})
	t.Run("what it tries is refused", func(t *testing.T) {
		if in.ready.LandlockABI < 1 {
			t.Fatalf("no Landlock: %s", in.ready.LandlockWhy)
		}
		checkAttempts(t, v, withLandlock(in.ready.LandlockABI))
	})
}

// mountsAlone are the answers where neither seccomp nor Landlock says a word:
// the mount table, the namespaces and the capabilities hold by themselves.
var mountsAlone = map[string]string{
	"write /": "EROFS", "mkdir /": "EROFS", "write /etc": "EROFS", "append /etc/passwd": "EACCES", "unlink /etc/passwd": "EROFS",
	"write /dev": "EROFS", "write /sandbox": "EROFS", "append script": "EACCES", "write stdlib": "EROFS",
	"append stdlib": "EACCES", "append interpreter": "EACCES",
	"write /dev/null": "", "write /dev/zero": "", "chmod /dev/null": "EROFS", "utime /dev/null": "EROFS",
	"write /tmp": "", "execute in /tmp": "EACCES", "device in /tmp": "EPERM", "inodes of /tmp": "ENOSPC", "bytes of /tmp": "ENOSPC",
	"write /dev/shm": "", "write /workspace": "ENOENT", "append /workspace/data": "ENOENT",
	"mount": "EPERM", "remount /": "EPERM", "umount /proc": "EPERM", "chroot": "EPERM", "pivot_root": "EPERM",
	"new mount namespace": "EPERM", "sethostname": "EPERM", "setuid 0": "EINVAL", "setgid 0": "EINVAL", "setgroups": "EPERM",
	"drop a capability": "EPERM", "kill init": "", "memory of init": "EPERM", "trace init": "EPERM",
	"environment of init": "ENOENT", "program of init": "ENOENT", "root of init": "ENOENT",
	"/proc/sys": "ENOENT", "/proc/kallsyms": "ENOENT", "/sys": "ENOENT", "up and out": "ENOENT",
	"more core": "not allowed to raise maximum limit", "more files": "not allowed to raise maximum limit",
	"connect": "ENETUNREACH", "connect outside": "ENETUNREACH", "raw socket": "EPERM", "packet socket": "EPERM", "terminal": "ENOENT",
}

// withLandlock is what the second wall changes.
func withLandlock(abi int) map[string]string {
	want := maps.Clone(mountsAlone)
	want["write /dev/zero"], want["device in /tmp"] = "EACCES", "EACCES"
	if abi >= 4 {
		want["connect"], want["connect outside"] = "EACCES", "EACCES"
	}
	if abi >= 6 {
		want["kill init"] = "EPERM"
	}
	return want
}

func checkAttempts(t *testing.T, v vista, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got, ok := v.Attempts[name]; !ok || got != want[name] {
			t.Errorf("%s: %q, want %q", name, got, want[name])
		}
	}
	if len(v.Attempts) != len(want) {
		t.Errorf("%d attempts, want %d", len(v.Attempts), len(want))
	}
}

func TestProfileOpensWhatItNames(t *testing.T) {
	p := strict()
	p.Files.SharedMemory, p.Network, p.Python.Hooks = true, profile.NetworkLoopback, profile.HooksObserve
	r := newRequest(t, p, probeScript(t))
	r.Workspace, r.Env = true, []string{"HOME=/workspace", "A=b=c"}
	r.Files = append(r.Files, Dir(WorkspaceDir+"/dir", 0o755), Bytes(WorkspaceDir+"/data", 0o644, []byte("data")),
		Source{File: File{Path: []byte(WorkspaceDir + "/dir/link"), Link: []byte("/etc/passwd")}},
		Bytes(WorkspaceDir+"/\xff not UTF-8", 0o644, nil))
	in := run(t, r, seams{})
	v := parseVista(t, in.stdout, in.stderr)

	want := withLandlock(in.ready.LandlockABI)
	want["write /dev/shm"], want["write /workspace"], want["append /workspace/data"] = "", "", ""
	want["connect"] = "ECONNREFUSED" // the loopback is up, and nobody listens
	want["connect outside"] = "ENETUNREACH"
	checkAttempts(t, v, want)
	if v.Interfaces["lo"] != "up" || len(v.Interfaces) != 1 {
		t.Errorf("interfaces %q, want lo alone, up", v.Interfaces)
	}
	if want := map[string]string{"0": "pipe", "1": "pipe", "2": "pipe", strconv.Itoa(pyhook.EventFD): "pipe"}; !maps.Equal(v.Descriptors, want) {
		t.Errorf("descriptors %q, want %q", v.Descriptors, want)
	}
	if v.Directory != WorkspaceDir || !slices.Contains(v.Environment, "HOME=/workspace") || !slices.Contains(v.Environment, "A=b=c") || slices.Contains(v.Environment, "HOME=/tmp") {
		t.Errorf("directory %q, environment %q", v.Directory, v.Environment)
	}
}

func TestWorkspaceIsForReadingUnlessTheScriptMayWrite(t *testing.T) {
	p := strict()
	p.Files.Write = false
	r := newRequest(t, p, probeScript(t))
	r.Workspace = true
	r.Files = append(r.Files, Bytes(WorkspaceDir+"/data", 0o644, []byte("data")))
	in := run(t, r, seams{})
	v := parseVista(t, in.stdout, in.stderr)
	for _, name := range []string{"write /workspace", "append /workspace/data", "write /tmp"} {
		if got := v.Attempts[name]; got != "EROFS" && got != "EACCES" {
			t.Errorf("%s: %q, want a refusal", name, got)
		}
	}
	for _, m := range parseMountinfo(t, v.Mountinfo) {
		if m.kind != "proc" && !slices.Contains(m.options, "ro") {
			t.Errorf("%s is %q", m.point, m.options)
		}
	}
}

// Host paths that the caller gives away. The directories above them are closed
// to others, as a home directory is: root hands in trees that it opened itself.
func TestGrantedPaths(t *testing.T) {
	base := t.TempDir()
	for _, name := range []string{"read", "write"} {
		dir := filepath.Join(base, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "data"), []byte("data"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]fs.FileMode{"write": 0o777, "write/data": 0o666, "read/data": 0o666, "file": 0o666, "other": 0o666} {
		file := filepath.Join(base, name)
		if name == "file" || name == "other" {
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(file, mode); err != nil { // the umask does not count
			t.Fatal(err)
		}
	}
	if err := os.Chmod(base, 0o700); err != nil {
		t.Fatal(err)
	}
	r := newRequest(t, strict(), fmt.Sprintf(`
import errno, os
base = %q
def attempt(what, name, flags):
    try:
        os.close(os.open(base + name, flags, 0o755))
        print(what, name, 'done')
    except OSError as e:
        print(what, name, errno.errorcode[e.errno])
for name in ('/read/data', '/write/data', '/file', '/other'):
    attempt('read', name, os.O_RDONLY)
    attempt('write', name, os.O_WRONLY | os.O_TRUNC)
for name in ('/read/made', '/write/made'):
    attempt('make', name, os.O_WRONLY | os.O_CREAT)
try:
    os.execv(base + '/write/made', ['made'])
except OSError as e:
    print('run', errno.errorcode[e.errno])
print(sorted(os.listdir(base)))
`, base))
	r.Read = []Grant{{Path: base + "/read", Dir: true}, {Path: "/etc/hosts"}}
	r.Write = []Grant{{Path: base + "/write", Dir: true}, {Path: base + "/file"}}
	in := run(t, r, seams{})
	want := `read /read/data done
write /read/data EROFS
read /write/data done
write /write/data done
read /file done
write /file done
read /other ENOENT
write /other ENOENT
make /read/made EROFS
make /write/made done
run EACCES
['file', 'read', 'write']
`
	// Both walls stand before a file that is for reading; which speaks first is
	// the kernel's affair.
	if got := strings.ReplaceAll(in.stdout, "/read/data EACCES", "/read/data EROFS"); got != want {
		t.Errorf("got\n%s%s\nwant\n%s", got, in.stderr, want)
	}
	if in.ready.LandlockABI < 1 {
		t.Errorf("a granted file put Landlock out: %s", in.ready.LandlockWhy)
	}
}

func TestJailWithoutProc(t *testing.T) {
	r := newRequest(t, strict(), "import os\nprint(os.listdir('/proc') if os.path.exists('/proc') else 'none')\n")
	in := run(t, r, seams{plan: func(b *Blueprint, _ *Spawn) {
		b.Config.Mounts = slices.DeleteFunc(b.Config.Mounts, func(m Mount) bool { return m.Kind == MountProc })
	}})
	if in.stdout != "none\n" || in.ready.Proc != "" {
		t.Errorf("%q, init said %q\n%s", in.stdout, in.ready.Proc, in.stderr)
	}
}

func TestProcThatCannotBeMountedIsSaid(t *testing.T) {
	var seen Ready
	mountProc(filepath.Join(t.TempDir(), "none"), &seen)
	if seen.Proc != "" || seen.ProcWhy == "" {
		t.Errorf("proc %q, why %q", seen.Proc, seen.ProcWhy)
	}
}

func TestInitOutlivesNothingAndNobody(t *testing.T) {
	r := newRequest(t, strict(), `
import os, sys, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
if os.fork() == 0:
    if os.fork() == 0:
        os._exit(0)  # an orphan, for init to reap
    os._exit(0)
os.wait()
sys.exit(3)
`)
	in, err := enter(r, seams{})
	if err != nil {
		t.Fatal(err)
	}
	if status := unix.WaitStatus(in.exit.Status); !status.Exited() || status.ExitStatus() != 3 {
		t.Errorf("status %#x, want exit status 3", in.exit.Status)
	}
	if in.exit.Survivors < 3 || in.exit.Survivors > 4 || in.exit.MaxRSS < 1<<20 || in.exit.User+in.exit.System <= 0 {
		t.Errorf("%+v, want three survivors, or the orphan with them, and accounts", in.exit)
	}
}

func TestRawWaitStatusSurvives(t *testing.T) {
	in, err := enter(newRequest(t, strict(), "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"), seams{})
	if err != nil {
		t.Fatal(err)
	}
	if status := unix.WaitStatus(in.exit.Status); !status.Signaled() || status.Signal() != unix.SIGSEGV || status.CoreDump() {
		t.Errorf("status %#x, want SIGSEGV without a core", in.exit.Status)
	}
}

func TestInitEndsWithItsHost(t *testing.T) {
	_, err := enter(newRequest(t, strict(), "import sys\nsys.stdin.read()\n"), seams{attend: func(j *Jail) error {
		if err := unix.Shutdown(j.conn.fd, unix.SHUT_WR); err != nil {
			return err
		}
		var m message
		if _, err := j.conn.receive(&m); !errors.Is(err, io.EOF) {
			return fmt.Errorf("got %+v, %w, want the end", m, err)
		}
		return errDone
	}})
	if !errors.Is(err, errDone) {
		t.Error(err)
	}
}

// errDone ends a jail from an attend.
var errDone = errors.New("seen enough")

func TestInitFromOutside(t *testing.T) {
	t.Setenv("SBX_TEST_SECRET", "of the caller")
	_, err := enter(newRequest(t, strict(), "import sys\nsys.stdin.read()\n"), seams{attend: func(j *Jail) error {
		dir := "/proc/" + strconv.Itoa(j.PID)
		// A process that is not dumpable belongs to root: to any other user, the
		// jail's included, even its owner's, it is closed.
		environ, err := os.ReadFile(dir + "/environ")
		if os.Geteuid() == 0 {
			if err != nil || len(environ) != 0 {
				t.Errorf("init's environment: %q, %v", environ, err)
			}
			cmdline, err := os.ReadFile(dir + "/cmdline")
			if err != nil || !bytes.Equal(bytes.TrimRight(cmdline, "\x00"), []byte(InitName)) {
				t.Errorf("init's arguments: %q, %v", cmdline, err)
			}
		} else if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("init's environment: %q, %v, want a refusal", environ, err)
		}
		info, err := os.Stat(dir + "/environ")
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Stat(dir+"/environ", &stat); err != nil {
			return err
		}
		if stat.Uid != 0 || info.Mode().Perm() != 0o400 {
			t.Errorf("init's environment belongs to %d, mode %s: it is dumpable", stat.Uid, info.Mode())
		}

		python, err := childOf(dir)
		if err != nil {
			return err
		}
		for _, kind := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"} {
			ours, err1 := os.Readlink("/proc/self/ns/" + kind)
			theirs, err2 := os.Readlink("/proc/" + python + "/ns/" + kind)
			if err := errors.Join(err1, err2); err != nil || ours == theirs {
				t.Errorf("namespace %s: %s inside and %s outside, %v", kind, theirs, ours, err)
			}
		}
		for _, name := range []string{"uid_map", "gid_map"} {
			data, err := os.ReadFile("/proc/" + python + "/" + name)
			f := strings.Fields(string(data))
			if err != nil || len(f) != 3 || f[0] != strconv.Itoa(UID) || f[1] == "0" || f[2] != "1" {
				t.Errorf("%s is %q, %v: want one id, and not root's", name, data, err)
			}
		}
		return errDone
	}})
	if !errors.Is(err, errDone) {
		t.Error(err)
	}
}

// childOf finds the only child of a process.
func childOf(dir string) (string, error) {
	files, err := filepath.Glob(dir + "/task/*/children")
	if err != nil {
		return "", err
	}
	var children []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		children = append(children, strings.Fields(string(data))...)
	}
	if len(children) != 1 {
		return "", fmt.Errorf("%s has children %q", dir, children)
	}
	return children[0], nil
}

func TestStageSaysWhatItCouldNotDo(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for name, tc := range map[string]struct {
		change func(*Blueprint, *Spawn)
		want   SetupError
	}{
		"no interpreter": {
			func(b *Blueprint, _ *Spawn) { b.Config.Argv[0] = "/none" },
			SetupError{Op: "execve", Path: "/none", Errno: unix.ENOENT},
		},
		"a script without execute permission as interpreter": {
			func(b *Blueprint, _ *Spawn) { b.Config.Argv[0] = ScriptDir + "/probe.py" },
			SetupError{Op: "execve", Path: ScriptDir + "/probe.py", Errno: unix.EACCES},
		},
		"a cgroup that takes nobody": {
			func(b *Blueprint, _ *Spawn) { b.Tasks = []*os.File{full} },
			SetupError{Op: "join cgroup", Path: "tasks", Errno: unix.ENOSPC},
		},
		"a filter that is damaged": {
			func(b *Blueprint, _ *Spawn) { b.Config.Filter[20] ^= 1 },
			SetupError{Op: "decode filter", Text: "unmarshal filter: checksum does not match"},
		},
		"a library that has gone": {
			func(b *Blueprint, _ *Spawn) {
				b.Config.Mounts = append(b.Config.Mounts, Mount{Kind: MountBind, Source: "/none", Target: "/none"})
			},
			SetupError{Op: "open_tree", Path: "/none", Errno: unix.ENOENT},
		},
		"a root that is too small": {
			func(b *Blueprint, _ *Spawn) { b.Config.RootSize = 4096 },
			SetupError{Op: "write", Errno: unix.ENOSPC},
		},
		"a root with too few inodes": {
			func(b *Blueprint, _ *Spawn) { b.Config.RootInodes = 8 },
			SetupError{Op: "mkdir", Errno: unix.ENOSPC},
		},
		"a kind of mount that is unknown": {
			func(b *Blueprint, _ *Spawn) {
				b.Config.Mounts = append(b.Config.Mounts, Mount{Kind: "loop", Target: "/x", Dir: true})
			},
			SetupError{Op: "mount loop", Path: "/x", Text: errFrame.Error()},
		},
		"a limit that does not exist": {
			func(b *Blueprint, _ *Spawn) {
				b.Config.Rlimits = append(b.Config.Rlimits, Rlimit{Name: "RLIMIT_NONE", Resource: 99})
			},
			SetupError{Op: "getrlimit", Path: "RLIMIT_NONE", Errno: unix.EINVAL},
		},
		"a boot file that is missing": {
			func(b *Blueprint, _ *Spawn) { b.Config.Boot = "/none" },
			SetupError{Op: "open", Path: "/none", Errno: unix.ENOENT},
		},
		"a host name that is too long": {
			func(b *Blueprint, _ *Spawn) { b.Config.Hostname = strings.Repeat("x", 65) },
			SetupError{Op: "sethostname", Path: strings.Repeat("x", 65), Errno: unix.EINVAL},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := enter(newRequest(t, strict(), "print('ran')\n"), seams{plan: tc.change})
			var got *SetupError
			if !errors.As(err, &got) {
				t.Fatalf("got %v, want a SetupError", err)
			}
			if tc.want.Path == "" {
				got.Path = ""
			}
			if *got != tc.want || in.stdout != "" {
				t.Errorf("got %+v, output %q; want %+v", *got, in.stdout, tc.want)
			}
		})
	}
}

func TestOptionalMountMayBeMissing(t *testing.T) {
	in := run(t, newRequest(t, strict(), "print('ran')\n"), seams{plan: func(b *Blueprint, _ *Spawn) {
		b.Config.Mounts = append(b.Config.Mounts, Mount{Kind: MountBind, Source: "/none", Target: "/none", Optional: true})
	}})
	if in.stdout != "ran\n" || !slices.Equal(in.ready.Missing, []string{"open_tree /none: no such file or directory"}) {
		t.Errorf("%q, missing %q", in.stdout, in.ready.Missing)
	}
}
