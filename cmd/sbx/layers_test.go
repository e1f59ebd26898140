package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/report"
	"github.com/sbxproject/sbx/pkg/sandbox"
)

// poorerVariable names what a host lacks on which the process is to run sbx.
const poorerVariable = "SBX_TEST_HOST_WITHOUT"

// denial is a system call that an outer filter answers with an errno. mask is
// looked for in its first argument; where equal, the argument must be mask.
type denial struct {
	nr    uint32
	mask  uint32
	equal bool
	errno unix.Errno
}

var poorerHosts = map[string][]denial{
	"user namespaces":  {{nr: unix.SYS_CLONE, mask: unix.CLONE_NEWUSER, errno: unix.EPERM}, {nr: unix.SYS_CLONE3, errno: unix.ENOSYS}, {nr: unix.SYS_UNSHARE, mask: unix.CLONE_NEWUSER, errno: unix.EPERM}},
	"mount":            {{nr: unix.SYS_MOUNT, errno: unix.EPERM}},
	"pivot_root":       {{nr: unix.SYS_PIVOT_ROOT, errno: unix.EPERM}},
	"open_tree":        {{nr: unix.SYS_OPEN_TREE, errno: unix.ENOSYS}},
	"no_new_privs":     {{nr: unix.SYS_PRCTL, mask: unix.PR_SET_NO_NEW_PRIVS, equal: true, errno: unix.EINVAL}},
	"bounding set":     {{nr: unix.SYS_PRCTL, mask: unix.PR_CAPBSET_DROP, equal: true, errno: unix.EPERM}},
	"limits":           {{nr: unix.SYS_PRLIMIT64, errno: unix.EPERM}, {nr: unix.SYS_SETRLIMIT, errno: unix.EPERM}},
	"seccomp":          {{nr: unix.SYS_SECCOMP, errno: unix.ENOSYS}},
	"Landlock":         {{nr: unix.SYS_LANDLOCK_CREATE_RULESET, errno: unix.ENOSYS}},
	"cgroup namespace": {{nr: unix.SYS_UNSHARE, mask: unix.CLONE_NEWCGROUP, errno: unix.EPERM}},
}

// becomePoorer takes away, for good, what poorerVariable names. It runs in a
// child of the test binary, before sbx.
func becomePoorer() error {
	name := os.Getenv(poorerVariable)
	switch {
	case name == "":
		return nil
	case name == "cgroups":
		return unix.Mount("none", "/sys/fs/cgroup", "tmpfs", 0, "")
	case name == "a listener":
		return outerFilter(nil, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH)
	case poorerHosts[name] == nil:
		return fmt.Errorf("no host without %q", name)
	}
	return outerFilter(poorerHosts[name], unix.SECCOMP_FILTER_FLAG_TSYNC)
}

// outerFilter installs a filter as a container's is: around sbx.
func outerFilter(denials []denial, flags uintptr) error {
	const offsetNR, offsetArg0 = 0, 16 // struct seccomp_data, seccomp(2)
	stmt := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	var filter []unix.SockFilter
	for _, d := range denials {
		body := []unix.SockFilter{stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ERRNO|uint32(d.errno))}
		if d.mask != 0 {
			test := uint16(unix.BPF_JSET)
			if d.equal {
				test = unix.BPF_JEQ
			}
			body = append([]unix.SockFilter{
				stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetArg0),
				{Code: unix.BPF_JMP | test | unix.BPF_K, K: d.mask, Jf: 1},
			}, body...)
		}
		filter = append(filter, stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetNR),
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: d.nr, Jf: uint8(len(body))})
		filter = append(filter, body...)
	}
	filter = append(filter, stmt(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW))
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	return nil
}

// onPoorerHost runs sbx where something is missing.
func onPoorerHost(t *testing.T, without string, args ...string) outcome {
	t.Helper()
	cmd := sbxProcess(t, args...)
	cmd.Env = append(os.Environ(), poorerVariable+"="+without)
	if without == "cgroups" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	return outcome{status: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// TestWithoutALayerNothingStarts takes each layer away. The script must not run,
// and the message names what is missing and what to do.
func TestWithoutALayerNothingStarts(t *testing.T) {
	tests := []struct {
		without  string
		flags    []string
		error    string // in the error
		hint     string // in the hint
		rootOnly string // why a plain user's run does not get there
	}{
		{"user namespaces", nil, "clone the jail's namespaces: ", "namespaces", ""},
		{"mount", nil, "operation not permitted", "forbids mounts", ""},
		{"pivot_root", nil, "pivot_root", "forbids mounts", ""},
		{"open_tree", nil, "open_tree", "Linux 5.12", ""},
		{"no_new_privs", nil, "PR_SET_NO_NEW_PRIVS", "", "the outer filter needs no_new_privs itself"},
		{"bounding set", nil, "PR_CAPBSET_DROP", "", ""},
		{"limits", nil, "rlimit", "", ""},
		{"seccomp", nil, "seccomp", "CONFIG_SECCOMP_FILTER", ""},
		{"a listener", nil, "seccomp", "another supervisor", ""},
		{"Landlock", []string{"--require", "landlock"}, "required layer landlock: absent: ", "lsm=landlock", ""},
		{"cgroup namespace", nil, "required layer cgroupns: absent: ", "", ""},
		{"cgroups", nil, "required layer cgroup.memory: absent: ", "delegated cgroup", "a plain user here has no cgroup at all"},
		{"", []string{"--require", "python_hooks", "--hooks", "off"}, "required layer python_hooks: absent: the hook is off", "--hooks", ""},
	}
	for _, tt := range tests {
		t.Run(tt.without+strings.Join(tt.flags, " "), func(t *testing.T) {
			t.Parallel()
			if tt.rootOnly != "" && os.Geteuid() != 0 {
				t.Skip(tt.rootOnly)
			}
			args := append([]string{"run", "--profile", "strict"}, tt.flags...)
			o := onPoorerHost(t, tt.without, append(args, script(t, "print('it ran')"))...)
			if o.status != 125 || o.stdout != "" {
				t.Errorf("status %d, the script printed %q; want 125 and nothing", o.status, o.stdout)
			}
			wantError(t, o.stderr, tt.error, tt.hint)
		})
	}
}

// wantError wants one error and one hint, a line each, and nothing else.
func wantError(t *testing.T, stderr, text, hint string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "sbx: error: ") || !strings.HasPrefix(lines[1], "sbx: hint: ") {
		t.Errorf("want a line of error and a line of hint:\n%s", stderr)
		return
	}
	if !strings.Contains(lines[0], text) {
		t.Errorf("the error does not say %q: %s", text, lines[0])
	}
	if !strings.Contains(lines[1], hint) {
		t.Errorf("the hint does not say %q: %s", hint, lines[1])
	}
}

// TestALayerWhoseLossIsAccepted: the run goes on, and its report says so.
func TestALayerWhoseLossIsAccepted(t *testing.T) {
	tests := []struct {
		without, layer string
		flags          []string
		state          report.LayerState
	}{
		{"cgroup namespace", "cgroupns", []string{"--allow-degraded", "cgroupns"}, report.LayerDegraded},
		{"Landlock", "landlock", nil, report.LayerAbsent},
		{"Landlock", "landlock", []string{"--require", "landlock", "--allow-degraded", "landlock"}, report.LayerDegraded},
		{"cgroups", "cgroup.memory", []string{"--allow-degraded", "cgroup.memory", "--allow-degraded", "cgroup.pids"}, report.LayerDegraded},
	}
	for _, tt := range tests {
		t.Run(tt.without+" "+string(tt.state), func(t *testing.T) {
			t.Parallel()
			if tt.without == "cgroups" && os.Geteuid() != 0 {
				t.Skip("a plain user here has no cgroup at all: every other test of this file shows it")
			}
			file := t.TempDir() + "/report.json"
			args := append([]string{"run", "--profile", "strict", "--report", file}, tt.flags...)
			o := onPoorerHost(t, tt.without, append(args, script(t, "print('it ran')"))...)
			if o.status != 0 || o.stdout != "it ran\n" {
				t.Fatalf("status %d, printed %q: %s", o.status, o.stdout, o.stderr)
			}
			for _, l := range readReport(t, file).Isolation.Layers {
				if l.Name == tt.layer {
					if l.State != tt.state || l.Why == "" {
						t.Errorf("the report says %+v, want %s and why", l, tt.state)
					}
					return
				}
			}
			t.Errorf("the report does not know %s", tt.layer)
		})
	}
}

// TestEveryLayerIsObserved on a host that has them all: each is active, and the
// report says what was seen of it.
func TestEveryLayerIsObserved(t *testing.T) {
	missing := strings.Join(missingLayers(t), " ")
	// landlock_create_ruleset(2) with this flag tells the version.
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 {
		missing += " landlock"
	}
	o := runScript(t, "pass", "--profile", "strict")
	o.wantVerdict(t, report.OK, 0)
	seen := map[string]bool{}
	for _, l := range o.report.Isolation.Layers {
		seen[l.Name] = true
		if strings.Contains(missing, l.Name) || l.Name == "cgroup.cpu" && strings.Contains(missing, "cgroup") {
			continue
		}
		if l.State != report.LayerActive || l.Observed == "" {
			t.Errorf("%s is %s, observed %q, why %q", l.Name, l.State, l.Observed, l.Why)
		}
	}
	for _, name := range sandbox.LayerNames {
		if !seen[name] {
			t.Errorf("the report does not know %s", name)
		}
	}
}

// TestASbxThatTheJailsUserMayNotExecute: the init stage is the same file.
func TestASbxThatTheJailsUserMayNotExecute(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the jail of a plain user is that user")
	}
	cmd := sbxProcess(t, "run", "--profile", "strict", script(t, "print('it ran')"))
	data, err := os.ReadFile(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = t.TempDir() + "/private"
	if err := os.WriteFile(cmd.Path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	if cmd.ProcessState.ExitCode() != 125 || stdout.String() != "" {
		t.Errorf("status %d, %q", cmd.ProcessState.ExitCode(), stdout.String())
	}
	wantError(t, stderr.String(), "clone the jail's namespaces: permission denied", "chmod o+x")
}
