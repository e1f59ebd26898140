package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/report"
)

// limited is a program that runs out of something, or nearly, and what sbx must
// say of it.
type limited struct {
	name    string
	profile string // strict unless it is said
	flags   []string
	code    string
	verdict report.Verdict
	status  int
	words   string // part of the evidence or of the hint
	finding string // kind of one finding; "" is none about a near miss
	// grouped says that only a cgroup can tell or hold this: a user without one
	// gets another answer, which is not looked at here.
	grouped bool
}

const ignoreSignals = `
import signal, time
for s in range(1, 65):
    try: signal.signal(s, signal.SIG_IGN)
    except (OSError, ValueError): pass
`

// daemon leaves a process behind that holds the output open.
const daemon = `
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
os.wait()
print("done")
`

var limitTable = []limited{
	// Wall-clock time.
	{"an endless loop", "", sec("1"), "x = 1\nwhile True: pass", report.WallTimeLimit, 124, "at script.py:2; it had used", "", false},
	{"asleep", "", sec("4"), "import time; time.sleep(1e6)", report.WallTimeLimit, 124, "waiting, not computing", "asleep", false},
	{"signals ignored", "", sec("4"), ignoreSignals + "time.sleep(1e6)", report.WallTimeLimit, 124, "limit 4 s", "asleep", false},
	{"a call of C that never returns", "", sec("1"), "sum(iter(int, 1))", report.WallTimeLimit, 124, "a loop that never ends", "", false},
	{"stopped", "", sec("4"), "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", report.WallTimeLimit, 124, "limit 4 s", "asleep", false},
	{"a deadlock", "", sec("4"), "import threading; l = threading.Lock(); l.acquire(); l.acquire()", report.WallTimeLimit, 124, "waiting, not computing", "asleep", false},
	{"an endless thread", "", sec("1"), "import threading\ndef f():\n    while True: pass\nthreading.Thread(target=f).start()", report.WallTimeLimit, 124, "a loop that never ends", "", false},
	{"an atexit handler that never ends", "", sec("1"), "import atexit\ndef f():\n    while True: pass\natexit.register(f)", report.WallTimeLimit, 124, "a loop that never ends", "", false},
	{"a child that never ends", "science", sec("1"), "import os\nif os.fork() == 0:\n    while True: pass\nos.wait()", report.WallTimeLimit, 124, "a loop that never ends", "", false},
	{"a traceback that never ends", "", sec("1"), "import sys\ndef hook(*a):\n    while True: pass\nsys.excepthook = hook\n1 / 0", report.WallTimeLimit, 124, "a loop that never ends", "", false},

	// Processor time.
	{"processor time", "", cpu("1"), "def f():\n    while True: pass\nf()", report.CPUTimeLimit, 124, "at script.py:2 in f", "", false},
	{"processor time in C", "", cpu("1"), "sum(iter(int, 1))", report.CPUTimeLimit, 124, "limit 1 s", "", false},
	{"processor time of threads", "", cpu("1"), "import hashlib, threading\ndef f():\n    while True: hashlib.pbkdf2_hmac('sha256', b'x', b'y', 200000)\nfor _ in range(3): threading.Thread(target=f).start()", report.CPUTimeLimit, 124, "--cpu-time", "", false},
	{"processor time of a child", "science", cpu("1"), "import os\nif os.fork() == 0:\n    while True: pass\nos.wait()", report.CPUTimeLimit, 124, "--cpu-time", "", false},
	{"processor time of children that nobody reaps", "science", cpu("1.2"), "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True:\n    if os.fork() == 0:\n        end = time.process_time() + 0.1\n        while time.process_time() < end: pass\n        os._exit(0)\n    time.sleep(0.1)", report.CPUTimeLimit, 124, "--cpu-time", "", true},

	// Memory.
	{"a list that grows", "", mem("64"), "x = []\nwhile True: x.append(bytearray(1 << 20))", report.MemoryLimit, 137, "raise --memory", "", false},
	{"memory that is used up bit by bit", "", mem("64"), "import time\ndef hold():\n    x = []\n    while True:\n        x.append(bytearray(1 << 20))\n        time.sleep(0.02)\nhold()", report.MemoryLimit, 137, "in use it was at script.py:", "", true},
	{"a text that grows", "", mem("64"), "s = 'x' * 1024\nwhile True: s += s", report.MemoryLimit, 137, "64 MiB", "", false},
	{"one large value", "", mem("64"), "x = b'x' * (1 << 28)", report.MemoryLimit, 137, "64 MiB", "", false},
	{"memory of threads", "", mem("64"), "import threading\nx = []\ndef f():\n    while True: x.append(bytearray(1 << 20))\nfor _ in range(4): threading.Thread(target=f).start()", report.MemoryLimit, 137, "64 MiB", "", false},
	{"memory of a child", "science", mem("96"), "import os\nif os.fork() == 0:\n    x = []\n    while True: x.append(bytearray(1 << 20))\n_, status = os.wait()\nraise SystemExit(status != 0)", report.MemoryLimit, 137, "out of memory", "", false},
	{"memory of many processes, each with little", "science", mem("96"), "import os, time\nfor _ in range(16):\n    if os.fork() == 0:\n        x = b'x' * (16 << 20)\n        time.sleep(60)\n        os._exit(0)\nbad = False\nfor _ in range(16):\n    _, status = os.wait()\n    bad = bad or status != 0\n    if bad: raise SystemExit(3)", report.MemoryLimit, 137, "out of memory", "", false},
	{"files in /tmp are memory", "", append(mem("48"), "--tmp-size", "512"), "f = open('/tmp/x', 'wb')\nfor i in range(400):\n    open(f'/tmp/{i}', 'wb').write(b'x' * (1 << 20))", report.MemoryLimit, 137, "48 MiB", "", false},
	{"MemoryError", "", mem("64"), "bytearray(1 << 62)", report.Exception, 1, "raise --memory", "", false},
	{"MemoryError that is caught", "", mem("64"), "import traceback\ntry: bytearray(1 << 62)\nexcept MemoryError: traceback.print_exc()", report.OK, 0, "", "near_miss.memory", false},
	{"memory that is asked for and not used", "", mem("64"), "import mmap; x = mmap.mmap(-1, 1 << 29); x[0] = 1", report.OK, 0, "", "", false},

	// Processes and threads.
	{"threads without end", "", nil, "import threading\ne = threading.Event()\nwhile True: threading.Thread(target=e.wait, daemon=True).start()", report.Exception, 1, "raise --pids", "near_miss.pids", false},
	{"threads without end that are caught", "", nil, "import threading\ne = threading.Event()\ntry:\n    while True: threading.Thread(target=e.wait, daemon=True).start()\nexcept RuntimeError: e.set()", report.OK, 0, "", "near_miss.pids", true},
	{"processes without end", "science", []string{"--pids", "24"}, "import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(60)", report.Exception, 1, "raise --pids", "near_miss.pids", true},
	{"a fork bomb", "science", append(sec("3"), "--pids", "24"), "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", report.WallTimeLimit, 124, "limit 3 s", "near_miss.pids", true},
	{"a process where there are none", "", nil, "import os; os.fork()", report.Exception, 1, "another profile", "", false},
	{"a daemon that holds the output", "science", nil, daemon, report.OK, 0, "", "", false},

	// Output.
	{"much output", "", nil, "for _ in range(5000): print('x' * 1000)", report.OK, 0, "", "near_miss.output", false},
	{"much output without a line", "", nil, "import sys\nfor _ in range(5000): sys.stdout.write('x' * 1000)", report.OK, 0, "", "near_miss.output", false},
	{"many errors", "", nil, "import sys\nfor _ in range(5000): print('x' * 1000, file=sys.stderr)", report.OK, 0, "", "near_miss.output", false},
	{"output to the last byte", "", []string{"--output-limit", "1000"}, "import sys; sys.stdout.write('x' * 1000)", report.OK, 0, "", "", false},
	{"too much output for the profile", "testdata/output_kill.yaml", nil, "while True: print('x' * 1000)", report.OutputLimit, 137, "--output-limit", "", false},

	// Files.
	{"/tmp is full", "", nil, "open('/tmp/a', 'wb').write(b'x' * (15 << 20)); open('/tmp/b', 'wb').write(b'x' * (15 << 20))", report.Exception, 1, "--tmp-size", "near_miss.tmp", false},
	{"/tmp is full, which is caught", "", nil, "import os\ntry:\n    for i in range(40): open(f'/tmp/{i}', 'wb').write(b'x' * (1 << 20))\nexcept OSError: pass", report.OK, 0, "", "near_miss.tmp", false},
	{"too many files", "", nil, "for i in range(10000): open(f'/tmp/{i}', 'wb').close()", report.Exception, 1, "--tmp-size", "near_miss.tmp", false},
	{"a file that is too large", "", nil, "f = open('/tmp/a', 'wb')\nf.seek(1 << 40)\nf.write(b'x')\nf.flush()", report.Exception, 1, "limits.file_size", "known_failure", false},
	{"a hole is no file", "", nil, "f = open('/tmp/a', 'wb'); f.truncate(15 << 20); print(f.seek(0, 2))", report.OK, 0, "", "", false},
	{"a deep tree with odd names", "", nil, "import os\nos.chdir('/tmp')\nfor i in range(1500):\n    os.mkdir('x' * 200 + chr(i % 9 + 1)); os.chdir('x' * 200 + chr(i % 9 + 1))\nopen(b'\\xff\\xfe\\n\\x1b[31m', 'w').close()", report.OK, 0, "", "", false},
	{"too many open files", "", nil, "files = [open('/dev/null') for _ in range(5000)]", report.Exception, 1, "limits.open_files", "known_failure", false},

	// Refusals.
	{"the same refusal too often", "", []string{"--max-same-denial", "5"}, "import socket\nwhile True:\n    try: socket.socket()\n    except OSError: pass", report.PolicyKill, 159, "tried the same thing 6 times and was refused each time: socket", "", false},
	{"the same refusal too often, by the kernel alone", "", []string{"--max-same-denial", "5", "--hooks", "off"}, "import socket\nwhile True:\n    try: socket.socket()\n    except OSError: pass", report.PolicyKill, 159, "--max-same-denial", "", false},
	{"too many refusals", "", []string{"--max-denials", "20"}, "i = 0\nwhile True:\n    i += 1\n    try: open(f'/etc/{i}', 'w')\n    except OSError: pass", report.PolicyKill, 159, "refused 21 times, the last time: openat /etc/21", "", false},
	{"as many refusals as there may be", "", []string{"--max-denials", "3"}, "for i in range(3):\n    try: open(f'/etc/{i}', 'w')\n    except OSError: pass", report.OK, 0, "", "", false},

	// Endings that look like a limit and are none, and failures that are known.
	{"SIGKILL by itself", "", nil, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", report.Signaled, 137, "no limit of sbx", "", false},
	{"exit status 137", "", nil, "raise SystemExit(137)", report.NonzeroExit, 137, "exit status 137", "", false},
	{"exit status 124", "", nil, "raise SystemExit(124)", report.NonzeroExit, 124, "exit status 124", "", false},
	{"SIGXCPU by itself", "", nil, "import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", report.Signaled, 152, "no limit of sbx", "", false},
	{"a crash", "", []string{"--hooks", "observe"}, "import ctypes; ctypes.string_at(0)", report.Signaled, 139, "native code crashed", "", false},
	{"no input", "", nil, "input()", report.Exception, 1, "--stdin FILE", "", false},
	{"a lock of multiprocessing", "default", nil, "import multiprocessing; multiprocessing.Lock()", report.Exception, 1, "--profile science", "known_failure", false},
	{"a module that is not there", "", nil, "import surely_not_there", report.Exception, 1, "--profile grader", "known_failure", false},
}

func sec(s string) []string { return []string{"--timeout", s} }
func cpu(s string) []string { return []string{"--cpu-time", s} }
func mem(s string) []string { return []string{"--memory", s} }

// TestLimits: each way to run out of something, and each near miss, with its
// verdict, its evidence, and what to do next. It runs where the limits are held
// by a cgroup of either version, and where a user has none.
func TestLimits(t *testing.T) {
	if len(limitTable) < 40 {
		t.Fatalf("%d programs", len(limitTable))
	}
	alone := len(missingLayers(t)) > 0
	for _, tt := range limitTable {
		t.Run(tt.name, func(t *testing.T) {
			if tt.grouped && alone {
				t.Skip("this user has no cgroup, and nothing else can hold this")
			}
			t.Parallel()
			profile := tt.profile
			if profile == "" {
				profile = "strict"
			}
			o := runScript(t, tt.code, append([]string{"--profile", profile}, tt.flags...)...)
			o.wantVerdict(t, tt.verdict, tt.status)
			s := o.report.ExecutionSummary
			if s.Evidence == "" || !strings.Contains(s.Evidence+"; "+s.Hint, tt.words) {
				t.Errorf("evidence %q, hint %q: no %q", s.Evidence, s.Hint, tt.words)
			}
			if s.Verdict != report.OK && s.Hint == "" {
				t.Errorf("%q, and no hint", s.Evidence)
			}
			o.wantNearMiss(t, tt.finding)
			o.wantUsage(t)
		})
	}
}

// wantNearMiss fails the test unless the one near miss of the run is of this
// kind, "" for none.
func (o outcome) wantNearMiss(t *testing.T, kind string) {
	t.Helper()
	var kinds []string
	for _, f := range o.report.Findings {
		if strings.HasPrefix(f.Kind, "near_miss.") || f.Kind == "asleep" || f.Kind == "known_failure" {
			kinds = append(kinds, f.Kind)
		}
	}
	if kind == "" && len(kinds) > 0 || kind != "" && !slices.Contains(kinds, kind) {
		t.Errorf("findings %+v, want %q", o.report.Findings, kind)
	}
}

// wantUsage fails the test unless the figures of the report agree with each other
// and with the limits.
func (o outcome) wantUsage(t *testing.T) {
	t.Helper()
	u := o.report.Usage
	if u.PeakMemoryBytes <= 0 || u.Memory.Baseline < 0 || u.Memory.Script > u.PeakMemoryBytes || u.PeakProcesses < 1 || u.CPUUserSeconds+u.CPUSystemSeconds < 0 {
		t.Errorf("usage %+v", u)
	}
	for _, l := range o.report.ResourceLimits.Details {
		if slices.Contains([]string{"processes", "tmp", "tmp_files"}, l.Resource) && l.Used > l.Limit {
			t.Errorf("%s: %g used of %g, by %s", l.Resource, l.Used, l.Limit, l.EnforcedBy)
		}
	}
}

// TestWaitingForInput: what never came, and the line that waits for it.
func TestWaitingForInput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	o := invokeWith(t, r, "run", "--profile", "strict", "--timeout", "3", "--stdin", "-", script(t, "import time\nname = input()"))
	o.wantVerdict(t, report.WallTimeLimit, 124)
	finding, hint := "near_miss.stdin", "waiting for input"
	// An architecture without it, such as User-Mode Linux; or Yama lets nobody read it
	// (proc_pid_syscall(5): PTRACE_MODE_ATTACH_FSCREDS).
	scope, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if _, err := os.Stat("/proc/self/syscall"); err != nil || strings.TrimSpace(string(scope)) == "3" {
		finding, hint = "asleep", "waiting, not computing"
	}
	o.wantNearMiss(t, finding)
	for _, f := range o.report.Findings {
		if f.Kind == "near_miss.stdin" && !strings.HasSuffix(f.Text, ", at script.py:2") {
			t.Errorf("%q does not name the line", f.Text)
		}
	}
	if s := o.report.ExecutionSummary; !strings.Contains(s.Hint, hint) {
		t.Errorf("hint %q", s.Hint)
	}
}

// TestMemoryFigures: what a program allocates is what the report says, within
// 5 %, and the interpreter's own is told apart.
func TestMemoryFigures(t *testing.T) {
	for _, mib := range []int{40, 150} {
		for _, kind := range []struct{ name, code string }{
			{"a bytearray", "x = bytearray(%d << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\n"},
			{"many small values", "x = [b'%%d' %% i * (1 << 12) for i in range(1000, 1000 + %d * 64)]\n"},
		} {
			t.Run(fmt.Sprintf("%s of %d MiB", kind.name, mib), func(t *testing.T) {
				o := runScript(t, fmt.Sprintf(kind.code+"import time; time.sleep(0.6)", mib), "--profile", "strict")
				o.wantVerdict(t, report.OK, 0)
				m := o.report.Usage.Memory
				want := float64(int64(mib) << 20)
				if m.Baseline < 1<<20 || m.Baseline > 40<<20 {
					t.Errorf("the baseline is %d bytes", m.Baseline)
				}
				// A MiB is what the imports take, and what cgroup v1 charges in
				// advance; the interpreter's own anonymous memory is in the baseline.
				if have := float64(m.Script); have < want*0.95 || have > want*1.05+(1<<20) {
					t.Errorf("the script's own: %d bytes, want %.0f; %+v", m.Script, want, m)
				}
				if have := float64(m.Anonymous); have < want*0.95 || have > want*1.05+float64(m.Baseline) {
					t.Errorf("anonymous: %d bytes, want %.0f; %+v", m.Anonymous, want, m)
				}
			})
		}
	}
}

// TestAlmostOutOfMemory: 97 % of the limit is worth a word.
func TestAlmostOutOfMemory(t *testing.T) {
	const limit = 96
	code := "import sys, time; x = b'x' * int(sys.argv[1]); time.sleep(0.15)"
	file := script(t, code)
	o := invoke(t, "run", "--profile", "strict", "--memory", fmt.Sprint(limit), file, "1")
	o.wantVerdict(t, report.OK, 0)
	o.wantNearMiss(t, "")
	own := o.report.Usage.PeakMemoryBytes
	o = invoke(t, "run", "--profile", "strict", "--memory", fmt.Sprint(limit), file, fmt.Sprint(limit<<20*985/1000-own))
	o.wantVerdict(t, report.OK, 0)
	o.wantNearMiss(t, "near_miss.memory")
}

// TestAFullWorkspace: the copy has a bound of its own.
func TestAFullWorkspace(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "main.py")
	if err := os.WriteFile(file, []byte("open('big', 'wb').write(b'x' * (70 << 20))"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	profile := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(profile, []byte("extends: grader\nlimits:\n  file_size: 1GiB\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := invoke(t, "run", "--profile", profile, "--workspace", dir, file)
	o.wantVerdict(t, report.Exception, 1)
	o.wantNearMiss(t, "near_miss.tmp")
	if !slices.ContainsFunc(o.report.Findings, func(f report.Finding) bool { return strings.Contains(f.Text, "/workspace was full") }) {
		t.Errorf("findings %+v", o.report.Findings)
	}
}
