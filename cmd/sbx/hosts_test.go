package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/report"
)

// hostVariable says on which of otherHosts the tests run. Only scripts/test-kernel
// sets it, in a guest whose kernel it has booted or set up like that: none of this
// can be done to a machine that others use.
const hostVariable = "SBX_TEST_HOST"

// otherHost is a kernel that is set up in a way that takes something from sbx.
type otherHost struct {
	file, says string // what shows that it is that host; "" says that file is not there
	plain      []try  // by a plain user with a delegated cgroup
	root       []try
}

// try is one run of sbx there.
type try struct {
	flags []string
	// For a run that is refused, parts of the error and of the hint.
	error, hint string
	// For one that takes place, the layers that it lacks, and part of why.
	lacks map[string]report.LayerState
	why   string
}

var otherHosts = map[string]otherHost{
	// A patch of Debian's, which other distributions took.
	"no user namespaces for plain users": {
		file: "/proc/sys/kernel/unprivileged_userns_clone", says: "0",
		plain: []try{{error: "clone the jail's namespaces: operation not permitted", hint: "sysctl kernel.unprivileged_userns_clone=1"}},
		root:  []try{{}},
	},
	// namespaces(7), "The /proc/sys/user directory".
	"no user namespaces": {
		file: "/proc/sys/user/max_user_namespaces", says: "0",
		plain: []try{{error: "clone the jail's namespaces: no space left on device", hint: "sysctl user.max_user_namespaces"}},
		root:  []try{{error: "clone the jail's namespaces: no space left on device", hint: "sysctl user.max_user_namespaces"}},
	},
	"cgroups read-only": {
		file: "/sys/fs/cgroup", says: "read-only",
		plain: readOnlyCgroups, root: readOnlyCgroups,
	},
	"no Landlock": {
		file: "/sys/kernel/security/lsm", says: "-landlock",
		plain: noLandlock, root: noLandlock,
	},
	"no memory controller": {
		file: "/sys/fs/cgroup/cgroup.controllers", says: "-memory",
		plain: noMemoryController, root: noMemoryController,
	},
}

var readOnlyCgroups = []try{
	{error: "required layer cgroup.memory: absent: ", hint: "mount -o remount,rw /sys/fs/cgroup"},
	{
		flags: []string{"--allow-degraded", "cgroup.memory", "--allow-degraded", "cgroup.pids"}, why: "read-only",
		lacks: map[string]report.LayerState{"cgroup.memory": report.LayerDegraded, "cgroup.pids": report.LayerDegraded},
	},
}

var noLandlock = []try{
	{lacks: map[string]report.LayerState{"landlock": report.LayerAbsent}, why: "landlock_create_ruleset"},
	{flags: []string{"--require", "landlock"}, error: "required layer landlock: absent: landlock_create_ruleset", hint: "lsm=landlock"},
	{
		flags: []string{"--require", "landlock", "--allow-degraded", "landlock"}, why: "landlock_create_ruleset",
		lacks: map[string]report.LayerState{"landlock": report.LayerDegraded},
	},
}

var noMemoryController = []try{
	{error: "required layer cgroup.memory: absent: ", hint: "cgroup_disable=memory"},
	{
		flags: []string{"--allow-degraded", "cgroup.memory"}, why: "memory",
		lacks: map[string]report.LayerState{"cgroup.memory": report.LayerDegraded},
	},
}

// thisHost is the host that the tests run on, checked.
func thisHost(t *testing.T) otherHost {
	t.Helper()
	name := os.Getenv(hostVariable)
	if name == "" {
		t.Skip("needs a kernel that is set up otherwise, as scripts/test-kernel does in a guest")
	}
	h, ok := otherHosts[name]
	if !ok {
		t.Fatalf("no host %q", name)
	}
	if h.says == "read-only" {
		var fs unix.Statfs_t
		if err := unix.Statfs(h.file, &fs); err != nil || fs.Flags&unix.ST_RDONLY == 0 {
			t.Fatalf("%s is not read-only (%v)", h.file, err)
		}
		return h
	}
	data, err := os.ReadFile(h.file)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.FieldsFunc(string(data), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
	without, found := strings.CutPrefix(h.says, "-")
	if slices.Contains(words, without) == found {
		t.Fatalf("this is no host %q: %s says %q", name, h.file, data)
	}
	return h
}

// TestOtherHosts: the script does not run unless every required layer is had or its
// loss was accepted; cause and fix are said; nothing stays behind.
func TestOtherHosts(t *testing.T) {
	h := thisHost(t)
	// Whoever outlives sbx becomes ours, and is seen.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	tries := h.plain
	if os.Geteuid() == 0 {
		tries = h.root
	}
	for _, tt := range tries {
		t.Run("flags "+strings.Join(tt.flags, " "), func(t *testing.T) {
			temporary := t.TempDir()
			t.Setenv("TMPDIR", temporary)
			file := filepath.Join(t.TempDir(), "report.json")
			flags := append([]string{"run", "--profile", "strict", "--report", file}, tt.flags...)
			// Without what sbxProcess adds: the cause is to be seen.
			cmd := sbxProcess(t, append(flags, script(t, "print('it ran')"))...)
			cmd.Args = append(cmd.Args[:2:2], append(flags, cmd.Args[len(cmd.Args)-1])...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run()
			left := handles(t, descendants(t, os.Getpid()))
			wantGone(t, left)
			o := outcome{status: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(), report: readReport(t, file)}
			if tt.error != "" {
				if o.status != 125 || o.stdout != "" || o.report != nil {
					t.Errorf("status %d, the script printed %q, report %v; want 125 and nothing", o.status, o.stdout, o.report)
				}
				wantError(t, o.stderr, tt.error, tt.hint)
			} else if o.status != 0 || o.stdout != "it ran\n" || o.report == nil {
				t.Errorf("status %d, printed %q: %s", o.status, o.stdout, o.stderr)
			} else {
				o.wantLayers(t, tt.lacks, tt.why)
			}
			files, err := filepath.Glob(temporary + "/*")
			if err != nil {
				t.Fatal(err)
			}
			if files = append(files, groupsOf(t, cmd.ProcessState.Pid())...); len(files) > 0 {
				t.Errorf("left behind: %q", files)
			}
		})
	}
}

// wantLayers fails the test unless every layer is active but these.
func (o outcome) wantLayers(t *testing.T, lacks map[string]report.LayerState, why string) {
	t.Helper()
	for _, l := range o.report.Isolation.Layers {
		want, ok := lacks[l.Name]
		if !ok && l.Name == "cgroup.cpu" && lacks["cgroup.pids"] != "" {
			continue // strict has no such limit, and does not require it
		}
		if !ok {
			want = report.LayerActive
		}
		if l.State != want {
			t.Errorf("%s is %s (%s%s), want %s", l.Name, l.State, l.Observed, l.Why, want)
		}
		if ok && !strings.Contains(l.Why, why) {
			t.Errorf("%s: %q does not say %q", l.Name, l.Why, why)
		}
	}
}

// TestMemoryWithoutItsController: sbx watches it itself where that was accepted.
func TestMemoryWithoutItsController(t *testing.T) {
	if os.Getenv(hostVariable) != "no memory controller" {
		t.Skip("a host that has the controller uses it, and TestLimits shows a user who has none")
	}
	o := runScript(t, "x = []\nwhile True: x.append(bytearray(1 << 20))", "--profile", "strict", "--memory", "64",
		"--allow-degraded", "cgroup.memory", "--timeout", "60", "--cpu-time", "60")
	o.wantVerdict(t, report.MemoryLimit, 137)
	for _, l := range o.report.ResourceLimits.Details {
		if l.Resource == "memory" && l.EnforcedBy != "supervisor" || l.Resource == "processes" && l.EnforcedBy != "cgroup" {
			t.Errorf("%s is held by %s", l.Resource, l.EnforcedBy)
		}
	}
}

// TestMemoryThatNobodyMayRead: Yama's ptrace_scope 3 forbids process_vm_readv(2) to
// everybody (Documentation/admin-guide/LSM/Yama.rst). The kernel's refusals and the
// hook's lines stay; the report says what cannot be read, and why.
func TestMemoryThatNobodyMayRead(t *testing.T) {
	if scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err != nil || strings.TrimSpace(string(scope)) != "3" {
		t.Skipf("Yama lets sbx read its own descendants: ptrace_scope %q (%v); scripts/test-kernel has a kernel with 3", scope, err)
	}
	o := runScript(t, native+`
import socket
call(165, b"none", b"/mnt", b"tmpfs", 0, 0)
try: socket.socket()
except OSError as e: print(e.errno)
try: open("/etc/motd", "w")
except OSError as e: print(e.errno)
`, "--profile", "strict", "--hooks", "observe")
	o.wantVerdict(t, report.OK, 0)
	if o.stdout != "1\n30\n" {
		t.Errorf("printed %q, want EPERM and EROFS", o.stdout)
	}
	if a, ok := o.activity("mount"); !ok || a.Verdict != event.Denied || !strings.HasPrefix(a.Detail, "mount(0x") || a.Location != nil {
		t.Errorf("mount: %+v at %+v", a, a.Location)
	}
	if a, ok := o.activity("socket"); !ok || a.Verdict != event.Denied || a.Location == nil || a.Location.Line != 10 {
		t.Errorf("socket: %+v at %+v", a, a.Location)
	}
	found := o.findings("no_stack")
	if len(found) != 1 || !strings.Contains(found[0].Text, "process_vm_readv") || !strings.Contains(found[0].Text, "let through") || !strings.Contains(found[0].Text, "kernel.yama.ptrace_scope") {
		t.Errorf("findings %+v", o.report.Findings)
	}
}
