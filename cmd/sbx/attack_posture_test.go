package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/interp"
	"github.com/sbxproject/sbx/pkg/posture"
	"github.com/sbxproject/sbx/pkg/profile"
)

// stance is what a process of a profile may have at most. Everything else is the
// same in all of them.
type stance struct {
	writable []string // mounts
	system   bool     // the host's programs are shown
	packages bool     // and the interpreter's site packages
	threads  bool     // the environment names a number of threads
	hook     bool     // there is a descriptor of the hook
}

var stances = map[string]stance{
	"default": {packages: true, threads: true, hook: true},
	"strict":  {writable: []string{"/tmp"}, hook: true},
	"grader":  {writable: []string{"/tmp"}, packages: true, hook: true},
	"science": {writable: []string{"/dev/shm", "/tmp"}, packages: true, hook: true},
	"ci":      {writable: []string{"/dev/shm", "/tmp"}, packages: true, system: true, hook: true},
	"observe": {writable: []string{"/dev/shm", "/tmp"}, packages: true, system: true, hook: true},
}

// sleeper says what it sees of itself, and stays until its input ends.
const sleeper = `
import json, sys
posix = sys.modules["posix"]
def read(name):
    fd = posix.open("/proc/self/" + name, posix.O_RDONLY)
    data = b""
    while part := posix.read(fd, 65536): data += part
    posix.close(fd)
    return data.decode()
print(json.dumps({name: read(name) for name in ("status", "mountinfo", "limits", "environ", "cgroup", "uid_map", "gid_map")}), flush=True)
sys.stdin.read()
`

// TestPosture looks at the processes of each built-in profile while the script
// waits: from the host, and as they see themselves. They may have fewer rights
// than the table says, and never more.
func TestPosture(t *testing.T) {
	names := profile.Builtin()
	if len(names) != len(stances) {
		t.Fatalf("the profiles are %v", names)
	}
	exe, err := interp.Find("", os.Getenv("PATH"))
	if err != nil {
		t.Fatal(err)
	}
	in, err := interp.Load(exe, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := profile.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			// The hook observing: under default it would keep the script from looking.
			cmd := sbxProcess(t, "run", "--profile", name, "--hooks", "observe", "--timeout", "60", "--stdin", "-", script(t, sleeper))
			cmd.Stderr, cmd.Env = t.Output(), append(os.Environ(), secretVariable+"=of the caller")
			input, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			output, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Wait() }()
			defer input.Close()
			line, err := bufio.NewReader(output).ReadBytes('\n')
			if err != nil {
				rest, _ := io.ReadAll(output)
				t.Fatalf("the script did not start: %v, %s", err, rest)
			}
			var self map[string]string
			if err := json.Unmarshal(line, &self); err != nil {
				t.Fatal(err)
			}
			init, python := family(t, cmd.Process.Pid)
			wantPosture(t, python)
			wantPythonPosture(t, python, p, stances[name], in)
			if os.Geteuid() == 0 { // a plain user here has no groups: missingLayers
				wantGroupLimits(t, groupsOf(t, cmd.Process.Pid), p)
			}
			wantInitPosture(t, init)

			for _, key := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters"} {
				inside, outside := statusLine(self["status"], key), statusLine(readProc(t, python, "status"), key)
				if inside == "" || inside != outside {
					t.Errorf("%s is %q for the script and %q for the host", key, inside, outside)
				}
			}
			if got := strings.Fields(statusLine(self["status"], "Uid")); !slices.Equal(got, []string{"1000", "1000", "1000", "1000"}) {
				t.Errorf("the script is the user %v", got)
			}
			if in, out := strings.Count(self["mountinfo"], "\n"), strings.Count(readProc(t, python, "mountinfo"), "\n"); in != out {
				t.Errorf("the script sees %d mounts, the host %d", in, out)
			}
			for l := range strings.Lines(self["cgroup"]) {
				if !strings.HasSuffix(l, ":/\n") {
					t.Errorf("the script sees its group as %q", l)
				}
			}
			if self["limits"] != readProc(t, python, "limits") {
				t.Errorf("the script sees other limits: %s", self["limits"])
			}
		})
	}
}

// family are init and Python below an sbx.
func family(t *testing.T, sbx int) (init, python int) {
	t.Helper()
	for _, pid := range descendants(t, sbx) {
		p, err := posture.Collect("/proc", pid)
		if err != nil || len(p.Status.NSpid) != 2 {
			continue // the warden, which is in no namespace
		}
		if p.Status.NSpid[1] == 1 {
			init = pid
		} else {
			python = pid
		}
	}
	if init == 0 || python == 0 {
		t.Fatalf("init is %d, Python is %d", init, python)
	}
	return init, python
}

func readProc(t *testing.T, pid int, name string) string {
	t.Helper()
	data, err := os.ReadFile(procFile(pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func statusLine(status, key string) string {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// wantPosture is about privilege: nobody has any.
func wantPosture(t *testing.T, pid int) {
	t.Helper()
	p, err := posture.Collect("/proc", pid)
	if err != nil {
		t.Fatal(err)
	}
	self, err := posture.Collect("/proc", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	s := p.Status
	for i := range s.UID {
		if s.UID[i] != s.UID[0] || s.GID[i] != s.GID[0] || s.UID[i] == 0 || s.GID[i] == 0 {
			t.Errorf("on the host it is user %v, group %v", s.UID, s.GID)
		}
	}
	if root := os.Geteuid() == 0; root && (s.Groups != 0 || s.UID[0] < 1<<30) || !root && s.UID[0] != os.Geteuid() {
		t.Errorf("on the host it is user %d with %d groups", s.UID[0], s.Groups)
	}
	if s.Inheritable|s.Permitted|s.Effective|s.Bounding|s.Ambient != 0 || !s.NoNewPrivs || s.Seccomp != unix.SECCOMP_MODE_FILTER || s.SeccompFilters != self.Status.SeccompFilters+1 {
		t.Errorf("%+v", s)
	}
	outside := posture.ReadNamespaces("/proc", os.Getpid())
	for _, kind := range posture.Kinds {
		if p.Namespaces[kind] == 0 || p.Namespaces[kind] == outside[kind] {
			t.Errorf("its %s namespace is %d, the host's %d", kind, p.Namespaces[kind], outside[kind])
		}
	}
	if want := fmt.Sprintf("1000 %d 1", s.UID[0]); p.UIDMap != want {
		t.Errorf("uid_map is %q, want %q", p.UIDMap, want)
	}
	if want := fmt.Sprintf("1000 %d 1", s.GID[0]); p.GIDMap != want {
		t.Errorf("gid_map is %q, want %q", p.GIDMap, want)
	}
}

func wantPythonPosture(t *testing.T, pid int, p *profile.Profile, s stance, in *interp.Interpreter) {
	t.Helper()
	runtime := slices.Clone(in.Hide)
	shown := in.Mounts
	if s.packages {
		shown = slices.Concat(in.Mounts, in.SiteMounts)
	}
	for _, m := range shown {
		runtime = append(runtime, m.Target)
	}
	if s.system {
		runtime = append(runtime, "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
	}
	devices := []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
	var writable []string
	for line := range strings.Lines(readProc(t, pid, "mountinfo")) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if dash != 6 {
			t.Errorf("%s propagates: %s", f[4], line)
		}
		point, options, kind := f[4], strings.Split(f[5], ","), f[dash+1]
		need := []string{"ro", "nosuid", "nodev", "noexec"}
		switch {
		case slices.Contains(devices, point):
			need = []string{"ro", "nosuid", "noexec"}
		case slices.Contains(s.writable, point):
			need, writable = need[1:], append(writable, point)
		case point == "/" || point == "/proc":
		case slices.ContainsFunc(runtime, func(r string) bool { return point == r || strings.HasPrefix(point, r+"/") }):
			if kind != "tmpfs" {
				need = need[:3]
			}
		default:
			t.Errorf("%s is mounted", point)
		}
		for _, option := range need {
			if !slices.Contains(options, option) {
				t.Errorf("%s is not %s: %s", point, option, f[5])
			}
		}
		if kind == "tmpfs" && point != "/" && !strings.Contains(f[dash+3], "size=") {
			t.Errorf("%s has no size: %s", point, f[dash+3])
		}
	}
	if slices.Sort(writable); !slices.Equal(writable, s.writable) {
		t.Errorf("writable are %v, want %v", writable, s.writable)
	}

	want := []string{"pipe", "pipe", "pipe"}
	if s.hook {
		want = append(want, "pipe")
	}
	var have []string
	for _, to := range descriptorsOf(t, pid) {
		kind, _, _ := strings.Cut(to, ":")
		have = append(have, kind)
	}
	if !slices.Equal(have, want) {
		t.Errorf("its descriptors are %v", descriptorsOf(t, pid))
	}

	env := []string{"HOME", "LANG", "PATH", "TMPDIR"}
	if s.threads {
		env = append(env, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
	}
	for kv := range strings.SplitSeq(strings.TrimSuffix(readProc(t, pid, "environ"), "\x00"), "\x00") {
		if name, _, _ := strings.Cut(kv, "="); !slices.Contains(env, name) {
			t.Errorf("its environment has %s", kv)
		}
	}

	limits := map[int]uint64{
		unix.RLIMIT_CORE: 0, unix.RLIMIT_MEMLOCK: 64 << 10, unix.RLIMIT_MSGQUEUE: 0, unix.RLIMIT_SIGPENDING: 1024, unix.RLIMIT_RTPRIO: 0,
		unix.RLIMIT_NICE: 0, unix.RLIMIT_STACK: 64 << 20, unix.RLIMIT_NOFILE: p.Limits.OpenFiles, unix.RLIMIT_FSIZE: uint64(p.Limits.FileSize),
	}
	if p.Limits.CPUTime > 0 {
		limits[unix.RLIMIT_CPU] = uint64(p.Limits.CPUTime.Seconds()) + 3
	}
	for resource, most := range limits {
		var have unix.Rlimit
		if err := unix.Prlimit(pid, resource, nil, &have); err != nil || have.Max > most || have.Cur > most {
			t.Errorf("limit %d is %d, at most %d, %v; want at most %d", resource, have.Cur, have.Max, err, most)
		}
	}

	if os.Geteuid() != 0 {
		return // there is no group: missingLayers
	}
	groups, err := posture.Groups("/proc", pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, controller := range []string{"memory", "pids"} {
		name, ok := groups[controller]
		if !ok {
			name = groups[""] // cgroup v2
		}
		if !strings.HasPrefix(name, "sbx-") {
			t.Errorf("it is in the %s group %q", controller, name)
		}
	}
}

// wantGroupLimits reads the limits of the run's control groups, of either version.
func wantGroupLimits(t *testing.T, dirs []string, p *profile.Profile) {
	t.Helper()
	for name, limit := range map[string]struct {
		files []string
		most  int64
	}{
		"memory": {[]string{"memory.max", "memory.limit_in_bytes"}, int64(p.Limits.Memory)},
		"pids":   {[]string{"pids.max"}, p.Limits.PIDs + 16}, // and what init takes
	} {
		bounded := false
		for _, dir := range dirs {
			for _, file := range limit.files {
				data, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil {
					continue
				}
				n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
				bounded = bounded || err == nil && n > 0 && n <= limit.most
			}
		}
		if !bounded {
			t.Errorf("no group of %v holds its %s to %d", dirs, name, limit.most)
		}
	}
}

// wantInitPosture is about PID 1: it has nothing that is worth reaching.
func wantInitPosture(t *testing.T, pid int) {
	t.Helper()
	p, err := posture.Collect("/proc", pid)
	if err != nil {
		t.Fatal(err)
	}
	if p.Status.UID[0] == 0 || p.Status.GID[0] == 0 {
		t.Errorf("on the host init is user %d, group %d", p.Status.UID[0], p.Status.GID[0])
	}
	// Not dumpable: its files of proc are root's (proc_pid(5)).
	var stat unix.Stat_t
	if err := unix.Stat(procFile(pid, "environ"), &stat); err != nil || stat.Uid != 0 {
		t.Errorf("init's environment belongs to %d, %v: it is dumpable", stat.Uid, err)
	}
	if os.Geteuid() != 0 {
		return // a plain user cannot read more, and that is the point
	}
	if env := readProc(t, pid, "environ"); env != "" {
		t.Errorf("init's environment is %q", env)
	}
	sockets := 0
	for _, to := range descriptorsOf(t, pid) {
		switch {
		case strings.HasPrefix(to, "socket:"):
			sockets++
		case to != "anon_inode:[eventpoll]" && to != "anon_inode:[eventfd]": // the runtime's poller
			t.Errorf("init holds %s", to)
		}
	}
	if sockets > 1 {
		t.Errorf("init holds %d sockets", sockets)
	}
	if root, err := os.Readlink(procFile(pid, "root")); err != nil || root != "/" {
		t.Errorf("init's root is %q, %v", root, err)
	}
}
