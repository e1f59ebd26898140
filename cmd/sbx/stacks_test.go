package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/report"
)

// interpreters are those of this machine whose stacks are read, by version.
func interpreters(t *testing.T) map[string]string {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	candidates, err := filepath.Glob(filepath.Join(home, ".pyenv/versions/3.*/bin/python3"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, exe := range append(candidates, "/usr/bin/python3") {
		said, err := exec.Command(exe, "-c", "import sys; print(sys.version.split()[0], sys.version_info >= (3, 9))").Output()
		if version, ok := strings.CutSuffix(string(said), " True\n"); err == nil && ok {
			out[version] = exe
		}
	}
	if len(out) == 0 {
		t.Fatal("no interpreter of Python 3.9 or later")
	}
	return out
}

// sites is a program that calls the kernel past Python from many places. Each
// place makes a call of its own, by whose number the report tells them apart.
const sites = `
import ctypes, os, sys, threading
libc = ctypes.CDLL(None)
def raw(nr):
    libc.syscall(nr, 0, 0, 0)
class Plain:
    def method(self):
        raw(155)
Plain().method()
def work():
    raw(169)
t = threading.Thread(target=work); t.start(); t.join()
def generator():
    yield 1
    yield raw(161)
list(generator())
[raw(164)
 for _ in range(1)]
exec("\n\nraw(165)")
sorted([1, 2], key=lambda x:
    raw(166) or x)
async def coroutine():
    raw(167)
try:
    coroutine().send(None)
except StopIteration:
    pass
class Finalized:
    def __del__(self):
        raw(168)
Finalized()
`

// site is where a call of sites must come from: the frame that called raw.
type site struct {
	op, function string
	line         int
	file         string // "" is the script
}

func sitesOf(minor string, qualified bool) []site {
	q := func(long, short string) string {
		if qualified {
			return long
		}
		return short
	}
	comprehension := "<listcomp>"
	if minor == "12" || minor == "13" { // inlined, PEP 709
		comprehension = "<module>"
	}
	return []site{
		{"pivot_root", q("Plain.method", "method"), 8, ""},
		{"reboot", "work", 11, ""},
		{"chroot", "generator", 15, ""},
		{"settimeofday", comprehension, 17, ""},
		{"mount", "<module>", 3, "<string>"},
		{"umount2", "<lambda>", 21, ""},
		{"swapon", "coroutine", 23, ""},
		{"swapoff", q("Finalized.__del__", "__del__"), 30, ""},
	}
}

// TestEveryRefusedCallHasItsLine: for each version and each way of calling, with
// the hook off and with it on, the place in the report is the right one, and so
// are those who called it.
func TestEveryRefusedCallHasItsLine(t *testing.T) {
	for version, exe := range interpreters(t) {
		for _, hooks := range []string{"off", "observe"} {
			t.Run(version+", hooks "+hooks, func(t *testing.T) {
				t.Parallel()
				o := runScript(t, sites, "--profile", "strict", "--hooks", hooks, "--python", exe)
				o.wantVerdict(t, report.OK, 0)
				noFinding(t, o, "no_stack")
				minor := strings.Split(version, ".")[1]
				for _, s := range sitesOf(minor, len(minor) == 2 && minor >= "11") {
					a, ok := o.activity(s.op)
					if !ok || a.Verdict != event.Denied {
						t.Errorf("no refused %s: %+v", s.op, a)
						continue
					}
					if len(a.Stack) < 2 {
						t.Errorf("%s has the stack %+v", s.op, a.Stack)
						continue
					}
					wantPlace(t, s.op, a.Location, "raw", 5, "")
					wantPlace(t, s.op, &a.Stack[0], "raw", 5, "")
					wantPlace(t, s.op, &a.Stack[1], s.function, s.line, s.file)
					last := a.Stack[len(a.Stack)-1]
					if s.op != "reboot" && last.Function != "<module>" {
						t.Errorf("%s: the outermost frame is %+v, want the script's own", s.op, last)
					}
				}
				for _, a := range o.report.AllActivities {
					if a.Op == "setresuid" {
						t.Errorf("the calibration is in the report: %+v", a)
					}
					for _, at := range a.Stack {
						if strings.HasPrefix(at.File, "<sbx") {
							t.Errorf("%s: a frame of the hook is in the stack: %+v", a.Op, a.Stack)
						}
					}
				}
			})
		}
	}
}

func wantPlace(t *testing.T, op string, at *report.Location, function string, line int, file string) {
	t.Helper()
	if file == "" {
		file = "/sandbox/script.py"
	}
	if at == nil || at.Function != function || at.Line != line || at.File != file || !at.Claimed {
		t.Errorf("%s is at %+v, want %s:%d in %s", op, at, file, line, function)
	}
}

func noFinding(t *testing.T, o outcome, kind string) {
	t.Helper()
	for _, f := range o.report.Findings {
		if f.Kind == kind {
			t.Errorf("a finding: %s", f.Text)
		}
	}
}

// TestChildrenHaveTheirLines: forked ones and those of multiprocessing, new
// interpreters, and children that are about to become another program.
func TestChildrenHaveTheirLines(t *testing.T) {
	for version, exe := range interpreters(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			o := runScript(t, `
import ctypes, multiprocessing, os, subprocess, sys, threading
def raw(nr):
    ctypes.CDLL(None).syscall(nr, 0, 0, 0)
def child(nr):
    raw(nr)
def spawn():
    subprocess.run([sys.executable, "-c", "import ctypes\ndef f():\n  ctypes.CDLL(None).syscall(165, 0, 0, 0)\nf()"], pass_fds=[0])
def closing():
    pid = os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 5, "/etc/denied", os.O_WRONLY | os.O_CREAT, 0o600)])
    os.waitpid(pid, 0)
if __name__ == "__main__":
    pid = os.fork()
    if pid == 0:
        raw(155)
        os._exit(0)
    os.waitpid(pid, 0)
    p = multiprocessing.get_context("fork").Process(target=child, args=(161,)); p.start(); p.join()
    spawn()
    t = threading.Thread(target=closing); t.start(); t.join()
`, "--profile", "ci", "--hooks", "off", "--python", exe)
			o.wantVerdict(t, report.OK, 0)
			noFinding(t, o, "no_stack")
			for _, s := range []struct {
				op    string
				depth int
				site
			}{
				{"pivot_root", 0, site{function: "raw", line: 4}},
				{"pivot_root", 1, site{function: "<module>", line: 15}},
				{"chroot", 1, site{function: "child", line: 6}},
				{"mount", 0, site{function: "f", line: 3, file: "<string>"}},
				{"mount", 1, site{function: "<module>", line: 4, file: "<string>"}},
				{"openat", 0, site{function: "closing", line: 10}},
			} {
				i := slices.IndexFunc(o.report.AllActivities, func(a report.Activity) bool {
					return a.Op == s.op && a.Verdict == event.Denied && (s.op != "openat" || strings.Contains(a.Target, "/etc/denied"))
				})
				if i < 0 {
					t.Errorf("no refused %s: %+v", s.op, o.report.AllActivities)
					continue
				}
				a := o.report.AllActivities[i]
				if len(a.Stack) <= s.depth {
					t.Errorf("%s has the stack %+v", s.op, a.Stack)
					continue
				}
				wantPlace(t, s.op, &a.Stack[s.depth], s.function, s.line, s.file)
			}
		})
	}
}

// TestWhereItStood: a run that sbx ends is told where each thread was.
func TestWhereItStood(t *testing.T) {
	const program = `
import threading, time
def spin(n):
    while True: n += 1
def sleeper():
    time.sleep(100)
def main():
    threading.Thread(target=sleeper, daemon=True).start()
    spin(0)
main()
`
	for version, exe := range interpreters(t) {
		for name, limit := range map[string][]string{"wall": {"--timeout", "1.5"}, "cpu": {"--cpu-time", "0.4"}} {
			t.Run(version+", "+name, func(t *testing.T) {
				t.Parallel()
				o := runScript(t, program, append([]string{"--profile", "strict", "--python", exe}, limit...)...)
				o.wantVerdict(t, map[string]report.Verdict{"wall": report.WallTimeLimit, "cpu": report.CPUTimeLimit}[name], 124)
				wants := []string{"was at script.py:4 in spin (from script.py:9 in main, script.py:10)"}
				if len(o.report.Findings) > 1 { // on a machine that is very busy there is no time for the other
					wants = append(wants, "was at script.py:6 in sleeper (from ")
				}
				for _, want := range wants {
					if !slices.ContainsFunc(o.report.Findings, func(f report.Finding) bool {
						return f.Kind == "stood_at" && strings.Contains(f.Text, want)
					}) {
						t.Errorf("no finding says %q: %+v", want, o.report.Findings)
					}
				}
				if !strings.Contains(o.stderr, "script.py:4 in spin") {
					t.Errorf("the summary does not name the line:\n%s", o.stderr)
				}
			})
		}
	}
}

// TestAScriptThatChangesItsInterpreter gets its calls refused and recorded; what
// the report says of their places is bounded, whatever the memory holds.
func TestAScriptThatChangesItsInterpreter(t *testing.T) {
	fields := map[string][3]int{ // co_filename, co_linetable or co_lnotab; native_thread_id, 0 for none
		"3.9": {104, 120, 0}, "3.10": {104, 120, 0}, "3.11": {112, 136, 160}, "3.12": {112, 136, 144}, "3.13": {112, 136, 160},
	}
	for version, exe := range interpreters(t) {
		f, ok := fields[version[:strings.LastIndexByte(version, '.')]]
		if !ok {
			continue
		}
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			o := runScript(t, fmt.Sprintf(`
import ctypes
libc = ctypes.CDLL(None)
FILE, TABLE, NATIVE = %d, %d, %d
def word(at): return ctypes.c_uint64.from_address(at)
def fire(nr): libc.syscall(nr, 0, 0, 0)
code = id(fire.__code__)
name = word(code + FILE)
for bad in (0, 0x41414141, 2**64 - 1, code):
    old, name.value = name.value, bad
    fire(155)
    name.value = old
size = word(word(code + TABLE).value + 16)
for bad in (2**62, 2**64 - 1, 2**20):
    old, size.value = size.value, bad
    fire(161)
    size.value = old
length = word(name.value + 16)
for bad in (2**62, 2**64 - 1, 2**30):
    old, length.value = length.value, bad
    fire(165)
    length.value = old
if NATIVE:
    get = ctypes.pythonapi.PyThreadState_Get
    get.restype = ctypes.c_void_p
    native = word(get() + NATIVE)
    old, native.value = native.value, 99999
    fire(166)
    native.value = old
fire(167)
print("survived")
`, f[0], f[1], f[2]), "--profile", "strict", "--hooks", "off", "--python", exe)
			o.wantVerdict(t, report.OK, 0)
			if o.stdout != "survived\n" {
				t.Errorf("printed %q", o.stdout)
			}
			for _, op := range []string{"pivot_root", "chroot", "mount", "swapon"} {
				if a, ok := o.activity(op); !ok || a.Verdict != event.Denied {
					t.Errorf("%s: %+v", op, a)
				}
			}
			if a, _ := o.activity("swapon"); a.Location == nil || a.Location.Line != 6 {
				t.Errorf("after all is put right a call is at %+v", a.Location)
			}
		})
	}
}

// TestNoStackIsSaid: of a version whose frames are not read, and only where a call
// was refused.
func TestNoStackIsSaid(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(home, ".pyenv/versions/3.8.*/bin/python3"))
	if err != nil || len(found) == 0 {
		t.Skip("there is no Python 3.8 here")
	}
	o := runScript(t, native+"call(155, 0, 0)\n", "--profile", "strict", "--hooks", "off", "--python", found[0])
	o.wantVerdict(t, report.OK, 0)
	if !slices.ContainsFunc(o.report.Findings, func(f report.Finding) bool { return f.Kind == "no_stack" && strings.Contains(f.Text, "3.8") }) {
		t.Errorf("no finding says that no stacks are read: %+v", o.report.Findings)
	}
	o = runScript(t, "print(1)\n", "--profile", "strict", "--python", found[0])
	noFinding(t, o, "no_stack")
}

// TestAPolicyThatAnswersTheCalibrationItself: the reader is checked by the boot's
// frame then, and reads all the same.
func TestAPolicyThatAnswersTheCalibrationItself(t *testing.T) {
	file := filepath.Join(t.TempDir(), "own.yaml")
	for name, action := range map[string]string{"errno": "action: errno\n      errno: EACCES", "kill": "action: kill"} {
		t.Run(name, func(t *testing.T) {
			file := strings.Replace(file, "own", name, 1)
			if err := os.WriteFile(file, []byte("extends: strict\nseccomp:\n  rules:\n    - names: [setresuid]\n      "+action+"\n      reason: a test\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			o := runScript(t, native+"call(155, 0, 0)\n", "--profile", file, "--hooks", "off")
			o.wantVerdict(t, report.OK, 0)
			noFinding(t, o, "no_stack")
			if a, _ := o.activity("pivot_root"); a.Location == nil || a.Location.Line != 5 || a.Location.Function != "call" {
				t.Errorf("located at %+v", a.Location)
			}
		})
	}
}
