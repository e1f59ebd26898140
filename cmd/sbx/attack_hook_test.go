package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/report"
)

// tampering is what a script does to the hook in its own address space, which it
// always can: what follows must be refused all the same, and be in the report.
var tampering = []struct{ name, code string }{
	{"nothing", ``},
	{"functions by gc", `
import gc, types
def nothing(*args, **kwargs): return None
for o in gc.get_objects():
    if isinstance(o, types.FunctionType) and o.__code__.co_filename == "<sbx>":
        try: o.__code__ = nothing.__code__
        except ValueError:
            for cell in o.__closure__:
                try: cell.cell_contents = nothing
                except ValueError: pass
        o.__defaults__ = o.__kwdefaults__ = None
`},
	{"the frames below", `
import sys
frame = sys._getframe()
while frame:
    for space in (frame.f_globals, frame.f_locals):
        for key, value in list(space.items()):
            if key not in ("sys", "frame", "space", "key", "value", "forbidden") and frame is not sys._getframe():
                try: space[key] = True if isinstance(value, bool) else [] if isinstance(value, (list, tuple)) else (lambda *a, **k: None)
                except Exception: pass
    frame = frame.f_back
`},
	{"builtins", `
import builtins, posix, os, sys
for name in ("isinstance", "len", "str", "repr", "getattr", "__import__", "print", "type", "hash", "id", "any", "all", "tuple", "range", "min", "max"):
    if name != "print": setattr(builtins, name, lambda *a, **k: None)
posix.write = os.write = posix.fstat = lambda *a: 0
sys.excepthook = sys.unraisablehook = lambda *a: None
`},
	{"the list of audit hooks", `
# PEP 578 keeps them where native code of the same process can reach them.
import sys
try:
    import ctypes
except ImportError:
    import multiprocessing.sharedctypes
    ctypes = sys.modules["ctypes"]
try: ctypes.pythonapi._PySys_ClearAuditHooks(ctypes.c_void_p(0))
except Exception: pass
import gc
for o in gc.get_objects():
    if isinstance(o, list) and o and all(callable(f) and getattr(getattr(f, "__code__", None), "co_filename", "") == "<sbx>" for f in o):
        o.clear()
`},
	{"the traceback of a refusal", `
import sys
for attempt in (lambda: open("/etc/x", "w"), lambda: __import__("ctypes"), lambda: __import__("socket").socket()):
    try: attempt()
    except Exception as error:
        tb = error.__traceback__
        while tb:
            if tb.tb_frame.f_code.co_filename == "<sbx>":
                tb.tb_frame.f_globals.clear()
            tb = tb.tb_next
`},
	{"tracing", `
import sys, threading
def trace(frame, kind, arg):
    if frame.f_code.co_filename == "<sbx>":
        for key in list(frame.f_locals):
            try: frame.f_locals[key] = None
            except Exception: pass
        raise KeyError(key)
    return trace
sys.setprofile(lambda *a: None); threading.setprofile(lambda *a: None)
sys.settrace(trace); sys.settrace(None); sys.setprofile(None)
`},
	{"forged events", `
import sys
class Evil:
    def __repr__(self): raise RuntimeError
    __str__ = __fspath__ = __repr__
loop = []; loop.append(loop)
for event in ("socket.connect", "os.exec", "open", "subprocess.Popen", "sbx", "import", "a" * 10000, "\ud800"):
    for args in ((), (1,), (Evil(), "w", 0), (loop, loop, loop), ("/etc/shadow", "w", 0o1101), (b"\xff" * 5000,) * 3):
        try: sys.audit(event, *args)
        except Exception: pass
`},
	{"forged records", `
import os, struct
for body in (b"(\x02\0\0\0i\1\0\0\0", b"x" * 60000, b"(\xff\xff\xff\x7f", b"[" * 3000, b'{"verdict": "sbx-forged"}\n'):
    for fd in range(3, 64):
        try: os.write(fd, b"\xf5SBX" + struct.pack("<H", len(body) & 0xffff) + body)
        except OSError: pass
`},
	{"the pipe", `
import os, fcntl
for fd in range(3, 70):
    for cut in (lambda: os.close(fd), lambda: os.dup2(1, fd), lambda: os.dup2(os.open("/dev/null", os.O_WRONLY), fd, False), lambda: fcntl.fcntl(fd, fcntl.F_SETFD, 1)):
        try: cut()
        except OSError: pass
try: os.closerange(3, 100)
except OSError: pass
`},
	{"a full pipe", `
import os, fcntl
try:
    fcntl.fcntl(62, fcntl.F_SETFL, os.O_NONBLOCK)
    for _ in range(200): os.write(62, b"x" * 4096)
except OSError: pass
`},
	{"modules", `
import sys
for name in ("posix", "os", "io", "_io", "errno", "marshal", "_thread", "time", "importlib", "importlib._bootstrap"):
    if name in sys.modules and name not in ("posix",): sys.modules[name] = sys
sys.modules.pop("ctypes", None); sys.meta_path.clear(); sys.path_hooks.clear()
`},
}

// forbidden are things that stay refused whatever became of the hook. It binds
// what it needs before the tampering could take it away.
const forbidden = `
import posix, _socket
def forbidden(posix=posix, write=posix.write, _socket=_socket, OSError=OSError):
    done = ""
    try: posix.close(posix.open("/etc/sbx-attack", posix.O_CREAT | posix.O_WRONLY)); done += " write"
    except OSError: pass
    try: posix.close(posix.open("/etc/shadow", posix.O_RDONLY)); done += " read"
    except OSError: pass
    try: _socket.socket(2, 1, 0); done += " socket"
    except OSError: pass
    try:
        if posix.fork() == 0: posix._exit(0)
        done += " fork"
    except OSError: pass
    try: posix.kill(1, 9); done += " kill"
    except OSError: pass
    write(1, b"done:%b\n" % done.encode())
`

// TestAttackHook: the script takes the hook apart, and nothing more is possible
// than before; the kernel's word on what was refused is complete.
func TestAttackHook(t *testing.T) {
	for _, tt := range tampering {
		for _, mode := range attackModes {
			t.Run(tt.name+" "+mode, func(t *testing.T) {
				t.Parallel()
				// What is done to builtins and to modules may keep Python from ending
				// well: the end is not judged, but by the report.
				o := runScript(t, forbidden+"def tamper():\n    "+strings.ReplaceAll(tt.code, "\n", "\n    ")+"\n    return\ntry: tamper()\nexcept BaseException: pass\nforbidden()\n",
					append([]string{"--profile", "strict", "--hooks", mode}, attackFlags...)...)
				if o.stdout != "done:\n" {
					t.Errorf("printed %q\n%.2000s", o.stdout, o.stderr)
				}
				wantRefusal(t, o, "openat")
				if mode != "enforce" || tt.name != "nothing" {
					// Where the hook still works it refuses these two before the kernel.
					wantDenied(t, o, "socket", "socket.__new__")
					wantDenied(t, o, "clone", "os.fork")
				}
				wantRefusal(t, o, "kill")
				if v := o.report.ExecutionSummary.Verdict; v != report.OK && v != report.NonzeroExit && v != report.Exception {
					t.Errorf("verdict %s: %s", v, o.report.ExecutionSummary.Evidence)
				}
				wantForgeryContained(t, o)
			})
		}
	}
	// Control: without a jail all of it is done, so that "done:" alone means that
	// it was refused.
	h := newHost(t)
	out := h.outside(t, strings.ReplaceAll(strings.ReplaceAll(forbidden, "/etc/sbx-attack", h.Scratch+"/x"), "posix.kill(1, 9)", fmt.Sprintf("posix.kill(%d, 0)", h.PID))+"forbidden()\n")
	want := "done: write read socket fork kill\n"
	if os.Geteuid() != 0 {
		want = "done: write socket fork kill\n"
	}
	if out != want {
		t.Errorf("outside of the jail %q, want %q: the test shows nothing", out, want)
	}
}

// wantDenied wants one of these operations refused, whoever refused it.
func wantDenied(t *testing.T, o outcome, ops ...string) {
	t.Helper()
	for _, op := range ops {
		for _, a := range o.report.AllActivities {
			if a.Op == op && a.Verdict == event.Denied {
				return
			}
		}
	}
	t.Errorf("the report has none of %v refused", ops)
}

// wantForgeryContained: what the script put into the hook's channel is nowhere
// but where the hook's word is kept, and is never trusted.
func wantForgeryContained(t *testing.T, o outcome) {
	t.Helper()
	for _, a := range o.report.AllActivities {
		forged := strings.Contains(a.Target+a.Detail+a.Op, "sbx-forged")
		if a.Layer == event.Python && a.Trusted || forged && a.Trusted {
			t.Errorf("%s %s of layer %s is trusted", a.Op, a.Target, a.Layer)
		}
	}
	if s := o.report.ExecutionSummary; strings.Contains(s.Evidence+s.Hint, "sbx-forged") {
		t.Errorf("the summary says %q, %q", s.Evidence, s.Hint)
	}
}

// TestAttackPastTheHook: what ctypes asks the kernel for is in the report as what
// nobody announced, with a finding.
func TestAttackPastTheHook(t *testing.T) {
	tests := []struct{ op, code string }{
		{"socket", "call(41, 2, 1, 0)"},
		{"openat", "call(257, -100, b'/etc/sbx-attack', 65, 0o600)"},
		{"mkdir", "call(83, b'/etc/sbx-attack', 0o700)"},
		{"unlink", "call(87, b'/etc/passwd')"},
		{"execve", "call(59, b'/bin/sh', 0, 0)"},
		{"kill", "call(62, 1, 9)"},
		{"fork", "call(57)"},
	}
	for _, mode := range []string{"observe", "enforce"} {
		for _, tt := range tests {
			t.Run(mode+" "+tt.op, func(t *testing.T) {
				t.Parallel()
				o := runScript(t, attackCalls+"\ntry: "+tt.code+"\nexcept OSError: pass\n", "--profile", "strict", "--hooks", mode)
				for _, a := range o.report.AllActivities {
					if a.Op != tt.op || a.Layer != event.Seccomp || a.Verdict != event.Denied {
						continue
					}
					if !a.Unexplained || a.ExplainedBy != "" {
						t.Errorf("%s: unexplained %v, by %q", tt.op, a.Unexplained, a.ExplainedBy)
					}
					for _, f := range o.report.Findings {
						if f.Kind == "unexplained" && f.Seq == a.Seq {
							return
						}
					}
					t.Errorf("no finding says so: %+v", o.report.Findings)
					return
				}
				t.Errorf("no refused %s in the report\n%s", tt.op, o.stderr)
			})
		}
	}
}

// TestAttackAfterExec: a program that replaces Python has no hook, and the same
// jail.
func TestAttackAfterExec(t *testing.T) {
	for _, mode := range attackModes {
		o := runScript(t, "import os, sys\nos.execv(sys.executable, [sys.executable, '-I', '-S', '-c', "+fmt.Sprintf("%q", `
import posix
done = ""
for name in ("/etc/sbx-attack", "/usr/sbx-attack", "/sandbox/x"):
    try: posix.close(posix.open(name, posix.O_CREAT | posix.O_WRONLY)); done += name
    except OSError: pass
try: posix.open("/etc/shadow", 0); done += " read"
except OSError: pass
posix.write(1, b"done:%b\n" % done.encode())
`)+"])", "--profile", "observe", "--hooks", mode)
		o.wantVerdict(t, report.OK, 0)
		if o.stdout != "done:\n" {
			t.Errorf("hooks %s: printed %q", mode, o.stdout)
		}
		wantRefusal(t, o, "openat")
	}
}

// TestAttackRewrittenPath: a thread changes a path while the supervisor reads it
// (seccomp_unotify(2), "the memory of the target"). The kernel's walls decide, so
// neither name gives more than the mounts do.
func TestAttackRewrittenPath(t *testing.T) {
	h := newHost(t)
	const code = attackDriver + `
import threading
good, bad = (HOST["scratch"] if HOST["outside"] else "/tmp").encode() + b"/allowed", (HOST["scratch"] + "/victim" if HOST["outside"] else "/etc/passwd").encode()
width = max(len(good), len(bad)) + 1
buf, a, b = (ctypes.create_string_buffer(s.ljust(width, b"\0"), width) for s in (good, good, bad))
stop, opened, tried = [], set(), 0
def flip():
    while not stop:
        ctypes.memmove(buf, b, width)
        ctypes.memmove(buf, a, width)
thread = threading.Thread(target=flip)
thread.start()
while tried < 3000:
    tried += 1
    fd = libc.syscall(257, -100, buf, os.O_WRONLY | os.O_CREAT, 0o600)
    if fd >= 0:
        opened.add(os.stat(fd).st_ino)
        os.close(fd)
stop.append(1)
thread.join()
print(len(opened) > 0, os.path.exists(bad) and os.stat(bad).st_ino in opened)
`
	// Half-copied names make files of the scratch directory as well.
	if out := h.outside(t, code); !strings.HasPrefix(out, "True") {
		t.Errorf("outside of the jail %q: the test shows nothing", out)
	}
	for _, profile := range []string{"strict", "observe"} {
		o := h.inside(t, code, "--profile", profile, "--hooks", "off")
		o.wantVerdict(t, report.OK, 0)
		if o.stdout != "True False\n" {
			t.Errorf("%s: %q", profile, o.stdout)
		}
	}
	h.wantUntouched(t)
}

// TestAttackEventPipe: who means the hook's descriptor cannot close or replace it,
// so that what comes after the attempt is still announced. Of children that
// close all descriptors see TestClosingThePipe.
func TestAttackEventPipe(t *testing.T) {
	for _, mode := range []string{"observe", "enforce"} {
		o := runScript(t, attackCalls+`
before = os.fstat(62).st_ino
for cut in (lambda: os.close(62), lambda: os.dup2(1, 62), lambda: os.dup2(1, 62, False), lambda: os.closerange(3, 100), lambda: call(3, 62),
            lambda: call(3, (1 << 32) | 62), lambda: call(33, 1, 62), lambda: call(292, 1, 62, 0), lambda: call(436, 3, 100, 0), lambda: call(436, 3, 100, 4)):
    try: cut()
    except OSError: pass
print(os.fstat(62).st_ino == before)
open("/tmp/afterwards", "w")
`, "--profile", "strict", "--hooks", mode)
		o.wantVerdict(t, report.OK, 0)
		if o.stdout != "True\n" {
			t.Errorf("hooks %s: the descriptor is the same: %q", mode, o.stdout)
		}
		heard := false
		for _, a := range o.report.AllActivities {
			heard = heard || a.Target == "/tmp/afterwards" && (a.Layer == event.Python || a.ExplainedBy == "open")
		}
		if !heard {
			t.Errorf("hooks %s: what came after the attempt was not announced", mode)
		}
		wantRefusal(t, o, "close")
		wantRefusal(t, o, "close_range")
	}
}
