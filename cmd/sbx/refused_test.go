package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/report"
)

// native calls the kernel past everything that Python has.
const native = `
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(nr, *args):
    result = libc.syscall(nr, *args)
    return ctypes.get_errno() if result == -1 else -result
`

// TestTheKernelRefusesWithTheHookOff goes, for each thing that a script must not
// do, through Python's door or past it, and wants the refusal in the script and
// the decoded call in the report. The hook is off: only the kernel is left.
func TestTheKernelRefusesWithTheHookOff(t *testing.T) {
	tests := []struct {
		name, code string
		op, errno  string
		detail     string
	}{
		{"socket", "import socket; return socket.socket()", "socket", "EPERM", "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0)"},
		{"vsock", "return call(41, 40, 1, 0)", "socket", "EPERM", "socket(AF_VSOCK, SOCK_STREAM, 0)"},
		{"connect", "return call(42, 0, struct.pack('<H', 2) + struct.pack('>H', 80) + bytes([192, 0, 2, 1]) + bytes(8), 16)", "connect", "EPERM", "connect(0, 192.0.2.1:80, 16)"},
		{"write outside /tmp", "return open('/etc/motd', 'w')", "openat", "EROFS", `openat(AT_FDCWD, "/etc/motd", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666)`},
		{"write to the script", "return open(__file__, 'a')", "openat", "EROFS", `openat(AT_FDCWD, "/sandbox/script.py", O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC, 0666)`},
		{"subprocess", "import subprocess; return subprocess.run(['/bin/ls', '-l'], close_fds=False)", "clone", "EPERM", "clone(CLONE_VM|CLONE_VFORK|SIGCHLD, "},
		{"fork", "return os.fork()", "clone", "EPERM", "SIGCHLD"},
		{"fork by number", "return call(57)", "fork", "EPERM", "fork()"},
		{"exec", "return os.execv('/bin/sh', ['sh', '-c', 'id'])", "execve", "EPERM", `execve("/bin/sh", ["sh", "-c", "id"], `},
		{"signal", "return os.kill(1, 9)", "kill", "EPERM", "kill(1, SIGKILL)"},
		{"signal to everybody", "return os.kill(-1, 15)", "kill", "EPERM", "kill(-1, SIGTERM)"},
		{"mount", "return call(165, b'none', b'/mnt', b'tmpfs', 0, 0)", "mount", "EPERM", `mount("none", "/mnt", "tmpfs", 0, `},
		{"unshare", "return call(272, 0x10000000)", "unshare", "EPERM", "unshare(CLONE_NEWUSER)"},
		{"ptrace", "return call(101, 16, 1, 0, 0)", "ptrace", "EPERM", "ptrace(PTRACE_ATTACH, 1, "},
		{"bpf", "return call(321, 5, b'x' * 64, 64)", "bpf", "EPERM", "bpf(BPF_PROG_LOAD, "},
		{"io_uring", "return call(425, 8, ctypes.create_string_buffer(200))", "io_uring_setup", "EPERM", "io_uring_setup(8, "},
		{"a call that nobody knows", "return call(999, 1, 2, 3)", "syscall_999", "ENOSYS", "syscall_999(0x1, 0x2, 0x3"},
		{"a filter of its own", "return call(317, 1, 0, 0)", "seccomp", "EPERM", "seccomp(SECCOMP_SET_MODE_FILTER"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := runScript(t, native+`
import errno
def attempt():
    `+tt.code+`
try:
    code = attempt()
except OSError as error:
    code = error.errno
print(errno.errorcode.get(code, code))
`, "--profile", "strict", "--hooks", "off")
			o.wantVerdict(t, report.OK, 0)
			if got := strings.TrimSpace(o.stdout); got != tt.errno {
				t.Errorf("the script saw %q, want %s", got, tt.errno)
			}
			a, ok := o.activity(tt.op)
			if !ok {
				t.Fatalf("no %s in the report: %+v", tt.op, o.report.AllActivities)
			}
			if a.Verdict != event.Denied || a.Layer != event.Seccomp || a.Errno != tt.errno || !a.Trusted {
				t.Errorf("%s: verdict %s of layer %s with %s, trusted %v; want denied of seccomp with %s, trusted",
					tt.op, a.Verdict, a.Layer, a.Errno, a.Trusted, tt.errno)
			}
			if !strings.Contains(a.Detail, tt.detail) {
				t.Errorf("decoded as %s, want %s", a.Detail, tt.detail)
			}
			if !strings.Contains(o.stderr, "refused: "+tt.op) {
				t.Errorf("the summary does not name %s:\n%s", tt.op, o.stderr)
			}
		})
	}
}

// TestOneActivityForBothWitnesses: what Python announced and the kernel refused
// is one line of the report, with the place in the script.
func TestOneActivityForBothWitnesses(t *testing.T) {
	o := runScript(t, `def put(path):
    with open(path, "w") as f:
        f.write("x")

for _ in range(3):
    try:
        put("/etc/motd")
    except OSError:
        pass
`, "--profile", "strict", "--hooks", "observe")
	o.wantVerdict(t, report.OK, 0)
	a, ok := o.activity("openat")
	if !ok {
		t.Fatalf("no openat: %+v", o.report.AllActivities)
	}
	if a.Location == nil || !strings.HasSuffix(a.Location.File, "script.py") || a.Location.Line != 2 || a.Location.Function != "put" {
		t.Errorf("located at %+v, want script.py:2 in put", a.Location)
	}
	if a.ExplainedBy != "open" || a.Unexplained || a.Count != 3 {
		t.Errorf("explained by %q (unexplained %v), %d times; want by open, 3 times", a.ExplainedBy, a.Unexplained, a.Count)
	}
	if f := o.report.FileOperations; f.Blocked != 3 {
		t.Errorf("file operations: %d blocked, want 3, each counted once", f.Blocked)
	}
}

// TestASignalHasItsLine: the hook does not judge signals, and still says where
// they came from.
func TestASignalHasItsLine(t *testing.T) {
	o := runScript(t, "import os\ntry:\n    os.kill(1, 9)\nexcept PermissionError:\n    os.kill(os.getpid(), 0)\n", "--profile", "strict")
	o.wantVerdict(t, report.OK, 0)
	a, ok := o.activity("kill")
	if !ok || a.Verdict != event.Denied || a.ExplainedBy != "os.kill" || a.Location == nil || a.Location.Line != 3 {
		t.Errorf("the refused signal: %+v at %+v, want it explained by os.kill at line 3", a, a.Location)
	}
	if a, ok := o.activity("os.kill"); !ok || a.Verdict != event.Allowed || a.Location == nil || a.Location.Line != 5 {
		t.Errorf("the allowed signal: %+v, want one allowed os.kill at line 5", a)
	}
}

// TestACallPastPythonIsUnexplained: ctypes does not pass the doors at which
// Python announces what it does.
func TestACallPastPythonIsUnexplained(t *testing.T) {
	o := runScript(t, native+"call(41, 2, 1, 0)\n", "--profile", "strict", "--hooks", "observe")
	a, ok := o.activity("socket")
	if !ok || !a.Unexplained {
		t.Fatalf("socket by number: %+v, want it unexplained", a)
	}
	for _, f := range o.report.Findings {
		if f.Kind == "unexplained" && f.Seq == a.Seq {
			return
		}
	}
	t.Errorf("no finding says so: %+v", o.report.Findings)
}

// TestTheScriptCannotEndItsInit: PID 1 keeps every signal at its default, so that
// the kernel keeps those from inside away from it (pid_namespaces(7)). Otherwise
// the script could choose its verdict.
func TestTheScriptCannotEndItsInit(t *testing.T) {
	for _, profile := range []string{"strict", "grader", "ci"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			o := runScript(t, native+`
for tid in range(1, 40):
    if tid != os.getpid():
        for signal in range(1, 65):
            call(234, 1, tid, signal)  # tgkill
for signal in range(1, 65):
    call(62, 1, signal)  # kill
# While a handler runs, what it blocks is not ignored: it waits, and kills another thread.
for _ in range(20):
    for signal in range(1, 65):
        call(62, 1, 23)  # SIGURG, which Go's runtime handles
        call(62, 1, signal)
print("still here")
`, "--profile", profile, "--hooks", "off", "--cpu-time", "60", "--timeout", "60")
			o.wantVerdict(t, report.OK, 0)
			if o.stdout != "still here\n" {
				t.Errorf("printed %q", o.stdout)
			}
		})
	}
}

// TestNoSetUserIDFiles, by whatever call: on a folder of the host they would be
// the caller's.
func TestNoSetUserIDFiles(t *testing.T) {
	dir := shared(t, 0o777)
	o := invoke(t, "run", "--profile", "strict", "--allow-file-write="+dir, script(t, `
import os, stat, sys
path = sys.argv[1] + "/made"
fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o755)
attempts = [lambda: os.chmod(path, 0o4755), lambda: os.fchmod(fd, 0o2755), lambda: os.chmod("made", 0o4755, dir_fd=os.open(sys.argv[1], 0)),
            lambda: os.open(path + "2", os.O_CREAT | os.O_WRONLY, 0o4755), lambda: os.mkdir(path + "3", 0o2777)]
for attempt in attempts:
    try:
        attempt()
        print("done")
    except PermissionError:
        print("refused")
os.chmod(path, 0o700)
print(oct(os.stat(path).st_mode & 0o7777))
`), dir)
	o.wantVerdict(t, report.OK, 0)
	if want := strings.Repeat("refused\n", 5) + "0o700\n"; o.stdout != want {
		t.Errorf("printed %q, want %q", o.stdout, want)
	}
}

// TestStartingAProgramIsNoTamper: a program that is looked for in PATH is one
// activity, and that subprocess closes what is open is none.
func TestStartingAProgramIsNoTamper(t *testing.T) {
	o := runScript(t, `import subprocess
print(subprocess.run(["echo", "there"], capture_output=True).stdout)
try:
    subprocess.run(["nothere"])
except FileNotFoundError as e:
    print("not there")
`, "--profile", "ci")
	o.wantVerdict(t, report.OK, 0)
	if o.stdout != "b'there\\n'\nnot there\n" {
		t.Fatalf("printed %q", o.stdout)
	}
	var got []string
	for _, a := range o.report.AllActivities {
		if a.Verdict == event.Denied {
			t.Errorf("refused: %s", a.Detail)
		}
		if a.Op == "execve" {
			got = append(got, fmt.Sprintf("%s %s%s at %d, by %s", a.Target, a.Errno, a.Verdict, a.Location.Line, a.ExplainedBy))
			name, _, _ := strings.Cut(a.Target, " ")
			if where := "; not there: /usr/local/bin/" + name; !strings.Contains(a.Detail, where) {
				t.Errorf("no %q in %q", where, a.Detail)
			}
		}
	}
	slices.Sort(got)
	if want := []string{"echo there allowed at 2, by subprocess.Popen", "nothere ENOENTallowed at 4, by subprocess.Popen"}; !slices.Equal(got, want) {
		t.Errorf("activities %q, want %q", got, want)
	}
	for _, f := range o.report.Findings {
		t.Errorf("a finding: %s", f.Text)
	}
}

// TestManyDescriptors: where the hook's pipe is not, its number is one like any
// other, to be closed, replaced and written to; and nobody writes to it but its owner.
func TestManyDescriptors(t *testing.T) {
	const use = `
import os, sys
files = [open(f"/tmp/{os.getpid()}.{i}", "w+b") for i in range(100)]
numbers = [f.fileno() for f in files]
if 62 in numbers:
    os.dup2(1, 62)
    os.dup2(1, 62, False)
    os.dup2(files[0].fileno(), 62)
import json, colorsys # what a hook would announce
for f in files:
    f.seek(0)
    assert f.read() == b"", "written to by somebody else"
    f.close()
print(62 in numbers, flush=True)
`
	for _, c := range []struct{ name, code, want string }{
		{"the first process", use, "False"},
		{"a program without the pipe", `import subprocess, sys; subprocess.run([sys.executable, "-c", ` + strconv.Quote(use) + `], check=True)`, "True"},
		{"a thread of such a program", `import subprocess, sys; subprocess.run([sys.executable, "-c", "import threading\nt = threading.Thread(target=exec, args=(" + repr(` + strconv.Quote(use) + `) + ", {}))\nt.start(); t.join()"], check=True)`, "True"},
		{"a program that gets some descriptors", `import os, subprocess, sys
r, w = os.pipe()
null = os.open("/dev/null", os.O_RDWR) # neighbours: CPython 3.11 then closes one by one what /proc/self/fd lists
subprocess.run([sys.executable, "-c", ` + strconv.Quote(use) + `], check=True, pass_fds=[r, w, null])`, "True"},
		{"a child that closed everything", "import os\nif os.fork() == 0:\n    os.closerange(3, 1 << 20)\n    exec(" + strconv.Quote(use) + ")\n    os._exit(0)\nassert os.wait()[1] == 0", "True"},
		{"a child that did not", "import os\nif os.fork() == 0:\n    exec(" + strconv.Quote(use) + ")\n    os._exit(0)\nassert os.wait()[1] == 0", "False"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := runScript(t, c.code, "--profile", "science")
			o.wantVerdict(t, report.OK, 0)
			if o.stdout != c.want+"\n" {
				t.Errorf("%q, %q: want %s", o.stdout, o.stderr, c.want)
			}
			if o.report.Syscalls.Blocked+o.report.FileOperations.Blocked > 0 {
				t.Errorf("something was refused: %s", o.stderr)
			}
		})
	}
}

// TestClosingThePipe: a child that closes everything, at once or one by one, as
// children do that become daemons, may, and it is said that the hook is not heard any
// more, unless it becomes another program. The script's first process is refused.
func TestClosingThePipe(t *testing.T) {
	for closing, silent := range map[string]bool{
		"os.closerange(3, 1 << 20)":                         true,
		"os.closerange(3, 63)":                              true,
		"for fd in range(3, 100): close(fd)":                true,
		"os.dup2(1, 62)":                                    true,
		"os.closerange(3, 1 << 20); program()":              false,
		"for fd in range(3, 100): close(fd)\n    program()": false,
	} {
		o := runScript(t, `import os, sys
def close(fd):
    try: os.close(fd)
    except OSError as e: assert e.errno == 9, (fd, e)
def program(): os.execv(sys.executable, [sys.executable, "-c", "print('child')"])
if os.fork() == 0:
    os.setsid()
    `+closing+`
    print("child", flush=True)
    os._exit(0)
assert os.wait()[1] == 0
`, "--profile", "science")
		o.wantVerdict(t, report.OK, 0)
		if o.stdout != "child\n" {
			t.Errorf("%s: printed %q", closing, o.stdout)
		}
		found := o.findings("hook_closed")
		if silent != (len(found) == 1 && strings.Contains(found[0].Text, "closed the hook's descriptor")) {
			t.Errorf("%s: findings %+v", closing, o.report.Findings)
		}
		if o.report.Syscalls.Blocked+o.report.FileOperations.Blocked > 0 {
			t.Errorf("%s: something was refused: %s", closing, o.stderr)
		}
	}
	for _, call := range []string{"os.close(62)", "os.dup2(1, 62)", "os.closerange(60, 70)", "os.closerange(3, 1024)"} {
		o := runScript(t, "import os\ntry: "+call+"\nexcept OSError as e: print(e.errno)\n", "--profile", "strict")
		o.wantVerdict(t, report.OK, 0)
		if len(o.findings("hook_closed"))+len(o.findings("hook_silent")) != 0 {
			t.Errorf("%s: findings %+v", call, o.report.Findings)
		}
		if o.report.Syscalls.Blocked+o.report.FileOperations.Blocked == 0 {
			t.Errorf("%s was not refused", call)
		}
	}
}
