package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/report"
)

// TestHarmlessProgramsBehaveAsWithoutSbx runs real programs with every mode of
// the hook: nothing is refused, nothing is found, and what they print and
// return is what plain Python makes of them.
func TestHarmlessProgramsBehaveAsWithoutSbx(t *testing.T) {
	tests := []struct {
		name, file, input string
		args              []string
		verdict           report.Verdict
	}{
		{"the standard library in wide use", "testdata/programs/stdlib.py", "", nil, report.OK},
		{"a program of 300 lines that reads its input", "testdata/programs/inventory.py", "testdata/programs/inventory.in", []string{"one", "two words", "--help"}, report.NonzeroExit},
	}
	for _, tt := range tests {
		for _, hooks := range []string{"enforce", "observe", "off"} {
			t.Run(tt.name+", hooks "+hooks, func(t *testing.T) {
				t.Parallel()
				var input []byte
				if tt.input != "" {
					var err error
					if input, err = os.ReadFile(tt.input); err != nil {
						t.Fatal(err)
					}
				}
				bare := exec.CommandContext(t.Context(), "python3", append([]string{tt.file}, tt.args...)...)
				bare.Env = append(os.Environ(), "LANG=C.UTF-8")
				bare.Stdin = bytes.NewReader(input)
				want, _ := bare.Output() // its status is compared below

				o := invokeWith(t, bytes.NewReader(input), append([]string{"run", "--profile", "strict", "--hooks", hooks, "--stdin", "-", tt.file}, tt.args...)...)
				o.wantVerdict(t, tt.verdict, bare.ProcessState.ExitCode())
				if o.stdout != string(want) {
					t.Errorf("printed\n%s\nwithout sbx\n%s", o.stdout, want)
				}
				for _, a := range o.report.AllActivities {
					if a.Verdict == event.Denied && a.Unexplained {
						t.Errorf("refused and unexplained: %s %s", a.Op, a.Detail)
					}
				}
				for _, f := range o.report.Findings {
					t.Errorf("a finding about a harmless program: %s: %s", f.Kind, f.Text)
				}
			})
		}
	}
}

// TestOutputPassesThroughByteForByte: 50 MB of every byte value, under a limit
// that lets them pass.
func TestOutputPassesThroughByteForByte(t *testing.T) {
	const size = 50 << 20
	o := runScript(t, `
import sys
block = bytes(range(256)) * 4096
for _ in range(50):
    sys.stdout.buffer.write(block)
`, "--profile", "strict", "--output-limit", "0")
	o.wantVerdict(t, report.OK, 0)
	if len(o.stdout) != size || o.report.Usage.StdoutBytes != size || o.report.Output.Stdout.Truncated {
		t.Fatalf("%d bytes came through, the report says %d (truncated %v), want %d",
			len(o.stdout), o.report.Usage.StdoutBytes, o.report.Output.Stdout.Truncated, size)
	}
	var block [256]byte
	for i := range block {
		block[i] = byte(i)
	}
	for i := 0; i < size; i += 256 {
		if o.stdout[i:i+256] != string(block[:]) {
			t.Fatalf("byte %d and after are not what was written", i)
		}
	}
}

// TestOutputOverItsLimit: the reader gets the limit, the count goes on, head and
// tail are in the report, and the run goes on.
func TestOutputOverItsLimit(t *testing.T) {
	const limit = 1 << 20
	o := runScript(t, `
print("first")
for _ in range(50):
    print("x" * (1 << 20))
print("last")
`, "--profile", "strict")
	o.wantVerdict(t, report.OK, 0)
	wrote := int64(len("first\nlast\n") + 50*(1<<20+1))
	out := o.report.Output.Stdout
	if len(o.stdout) != limit || out.Bytes != wrote || !out.Truncated {
		t.Errorf("%d bytes passed, %d counted (truncated %v); want %d and %d", len(o.stdout), out.Bytes, out.Truncated, limit, wrote)
	}
	if !strings.HasPrefix(out.Head, "first\nxxx") || !strings.HasSuffix(out.Tail, "xxx\nlast\n") {
		t.Errorf("head %.20q, tail ends in %q", out.Head, out.Tail[max(0, len(out.Tail)-20):])
	}
}

// TestInput: nothing unless asked for, then all of it.
func TestInput(t *testing.T) {
	file := script(t, "import sys; data = sys.stdin.read(); print(len(data), data[:5])")
	input := strings.Repeat("hello\n", 500_000)
	o := invokeWith(t, strings.NewReader(input), "run", "--profile", "strict", "--stdin", "-", file)
	o.wantVerdict(t, report.OK, 0)
	if o.stdout != "3000000 hello\n" {
		t.Errorf("--stdin -: it read %q", o.stdout)
	}
	data := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(data, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	shared, err := os.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	o = invokeWith(t, shared, "run", "--profile", "strict", file)
	if at, err := shared.Seek(0, io.SeekCurrent); o.stdout != "0 \n" || at != 0 || err != nil {
		t.Errorf("without --stdin: it read %q, and %d bytes were taken from the caller (%v)", o.stdout, at, err)
	}
	o = invoke(t, "run", "--profile", "strict", "--stdin", data, file)
	if o.stdout != "11 from \n" {
		t.Errorf("--stdin FILE: it read %q", o.stdout)
	}
	o = invokeWith(t, strings.NewReader(input), "run", "--profile", "strict", "--stdin", "-", script(t, "print(input())"))
	o.wantVerdict(t, report.OK, 0)
	if o.stdout != "hello\n" {
		t.Errorf("a script that stops reading: %q", o.stdout)
	}
}

// TestTheScriptFromStandardInput: sbx run -.
func TestTheScriptFromStandardInput(t *testing.T) {
	o := invokeWith(t, strings.NewReader("import sys; print(sys.argv, __name__)"), "run", "--profile", "strict", "-", "a", "--b")
	o.wantVerdict(t, report.OK, 0)
	if !strings.Contains(o.stdout, "'a', '--b'] __main__") {
		t.Errorf("printed %q", o.stdout)
	}
}

// TestEndings: how a script can end, what sbx says of it, and its exit status.
func TestEndings(t *testing.T) {
	tests := []struct {
		name, code string
		flags      []string
		verdict    report.Verdict
		status     int
		stderr     string // part of what the user reads
	}{
		{"the end of the file", "x = 1", nil, report.OK, 0, ""},
		{"sys.exit(7)", "import sys; sys.exit(7)", nil, report.NonzeroExit, 7, ""},
		{"sys.exit with a message", "import sys; sys.exit('no luck')", nil, report.NonzeroExit, 1, "no luck\n"},
		{"os._exit", "import os; os._exit(9)", nil, report.NonzeroExit, 9, ""},
		{"an uncaught exception", "def f():\n    return 1 / 0\nf()", nil, report.Exception, 1, "ZeroDivisionError: division by zero"},
		{"an exception of another kind", "raise SystemError('odd')", nil, report.Exception, 1, "SystemError: odd"},
		{"a syntax error", "def f(:\n", nil, report.Exception, 1, "SyntaxError"},
		{"an exception in a thread", "import threading\nt = threading.Thread(target=lambda: [][1])\nt.start()\nt.join()\nprint('after')", nil, report.OK, 0, "IndexError: list index out of range"},
		{"an exception at exit", "import atexit\natexit.register(lambda: 1 / 0)", nil, report.OK, 0, "ZeroDivisionError"},
		{"abort", "import os; os.abort()", nil, report.Signaled, 134, ""},
		{"a crash", "import ctypes; ctypes.string_at(0)", []string{"--hooks", "observe"}, report.Signaled, 139, ""},
		{"its own SIGTERM", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)", nil, report.Signaled, 143, ""},
		{"an endless loop", "while True: pass", []string{"--timeout", "0.5"}, report.WallTimeLimit, 124, ""},
		{"sleeping for ever", "import time; time.sleep(1e6)", []string{"--timeout", "0.3"}, report.WallTimeLimit, 124, ""},
		{"ignoring signals", "import signal, time\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n  except (OSError, ValueError): pass\ntime.sleep(1e6)", []string{"--timeout", "0.3"}, report.WallTimeLimit, 124, ""},
		{"waiting for input that is empty", "input()", nil, report.Exception, 1, "EOFError"},
		{"processor time", "while True: pass", []string{"--cpu-time", "0.3"}, report.CPUTimeLimit, 124, ""},
		{"recursion", "def f(): f()\nf()", nil, report.Exception, 1, "RecursionError"},
		{"a wrong kind of output", "import sys; sys.stdout.buffer.write(b'\\xff\\x00\\x1b[31m')", nil, report.OK, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := runScript(t, tt.code, append([]string{"--profile", "strict"}, tt.flags...)...)
			o.wantVerdict(t, tt.verdict, tt.status)
			if !strings.Contains(o.stderr, tt.stderr) {
				t.Errorf("no %q in:\n%s", tt.stderr, o.stderr)
			}
			if o.report.ExecutionSummary.Evidence == "" {
				t.Error("the verdict has no evidence")
			}
			if o.report.ExecutionSummary.Success != (tt.verdict == report.OK) {
				t.Errorf("success is %v", o.report.ExecutionSummary.Success)
			}
		})
	}
}

// TestAnExceptionInAThreadIsInTheReport although the run goes on.
func TestAnExceptionInAThreadIsInTheReport(t *testing.T) {
	o := runScript(t, `import threading
def work():
    return {}["missing"]
t = threading.Thread(target=work)
t.start()
t.join()
print("after")
`, "--profile", "strict")
	o.wantVerdict(t, report.OK, 0)
	if o.stdout != "after\n" || o.report.Exceptions.Total != 1 {
		t.Fatalf("printed %q, %d exceptions in the report, want 1", o.stdout, o.report.Exceptions.Total)
	}
	e := o.report.Exceptions.Details[0]
	if !strings.Contains(e.Op+e.Target+e.Detail, "KeyError") || e.Location == nil || e.Location.Line != 3 {
		t.Errorf("the exception is %+v at %+v, want KeyError at line 3", e, e.Location)
	}
}

// TestMemory: the limit ends the run, and the report proves it: held by the
// group or, for a user who has none, by sbx's own look at the processes.
func TestMemory(t *testing.T) {
	by := "cgroup"
	if len(missingLayers(t)) > 0 {
		by = "supervisor"
	}
	o := runScript(t, "data = [bytearray(1 << 20) for _ in range(1000)]", "--profile", "strict", "--memory", "64")
	o.wantVerdict(t, report.MemoryLimit, 137)
	for _, l := range o.report.ResourceLimits.Details {
		if l.Resource == "memory" {
			if !l.Hit || l.EnforcedBy != by || l.Limit != 64<<20 || l.Used < 60<<20 {
				t.Errorf("memory: %+v", l)
			}
			return
		}
	}
	t.Error("the report has no memory limit")
}

// TestThreads: the limit on processes and threads refuses one more, to a user
// with and without a cgroup, and ends nothing.
func TestThreads(t *testing.T) {
	o := runScript(t, `
import threading
done = threading.Event()
n = 0
try:
    for n in range(1000):
        threading.Thread(target=done.wait, daemon=True).start()
except RuntimeError as error:
    print("refused", n < 40, error)
done.set()
`, "--profile", "strict")
	o.wantVerdict(t, report.OK, 0)
	if !strings.HasPrefix(o.stdout, "refused True") {
		t.Errorf("printed %q", o.stdout)
	}
}

// TestEveryPython that this host has: a version manager's, and the one on PATH.
func TestEveryPython(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(home, ".pyenv", "versions", "3.*", "bin", "python3"))
	if err != nil {
		t.Fatal(err)
	}
	for _, python := range append(found, "python3") {
		t.Run(python, func(t *testing.T) {
			t.Parallel()
			info, err := exec.CommandContext(t.Context(), python, "-c", "import sys; print(sys.version_info >= (3, 8))").Output()
			if err != nil {
				t.Fatal(err)
			}
			o := invoke(t, "run", "--profile", "strict", "--python", python, script(t, `
import ctypes
`), "x")
			if strings.TrimSpace(string(info)) == "False" {
				if o.status != 126 {
					t.Errorf("status %d, want 126", o.status)
				}
				wantError(t, o.stderr, "sbx needs 3.8 or later", "--python")
				return
			}
			o.wantVerdict(t, report.Exception, 1)
			if !strings.Contains(o.stderr, "not allowed (sbx policy)") {
				t.Errorf("the hook did not speak: %s", o.stderr)
			}
			o = runScript(t, "import json, sqlite3, threading, asyncio, ssl, zlib, lzma, bz2, decimal; print(json.dumps([1]))", "--profile", "strict", "--python", python)
			o.wantVerdict(t, report.OK, 0)
			if o.stdout != "[1]\n" {
				t.Errorf("printed %q", o.stdout)
			}
		})
	}
}

// TestASlowReaderGetsEverything, and one that never reads does not hold the
// report: it says what was not taken.
func TestASlowReaderGetsEverything(t *testing.T) {
	const size = 150_000 // more than a pipe holds, less than it and what sbx has in hand
	code := script(t, "import sys; sys.stdout.write('x' * 150000)")
	start := func(flags ...string) (*exec.Cmd, *os.File, string) {
		file := filepath.Join(t.TempDir(), "report.json")
		cmd := sbxProcess(t, append(append([]string{"run", "--profile", "strict", "--report", file}, flags...), code)...)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		cmd.Stdout = w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		return cmd, r, file
	}
	cmd, out, file := start("--timeout", "30")
	for waiting := 0; waiting < 65536; { // the pipe is full
		var err error
		if waiting, err = unix.IoctlGetInt(int(out.Fd()), unix.TIOCINQ); err != nil {
			t.Fatal(err)
		}
	}
	data, err := io.ReadAll(out)
	if err != nil || len(data) != size {
		t.Errorf("%d bytes, %v; want %d", len(data), err, size)
	}
	_ = cmd.Wait()
	if r := readReport(t, file); r.Output.Stdout.Truncated || r.Output.Stdout.Bytes != size {
		t.Errorf("the report says %d bytes, truncated %v", r.Output.Stdout.Bytes, r.Output.Stdout.Truncated)
	}

	cmd, _, file = start("--timeout", "1")
	_ = cmd.Wait()
	r := readReport(t, file)
	if r == nil || !r.Output.Stdout.Truncated || r.Output.Stdout.Bytes != size {
		t.Fatalf("status %d, report %+v", cmd.ProcessState.ExitCode(), r)
	}
}

// TestTimeZonesWithoutReadingFiles: what the library reads for itself is no file of
// the script's.
func TestTimeZonesWithoutReadingFiles(t *testing.T) {
	o := runScript(t, `
import datetime, zoneinfo
print(datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")).utcoffset())
`)
	o.wantVerdict(t, report.OK, 0)
	if o.stdout != "2:00:00\n" || o.report.FileOperations.Blocked > 0 {
		t.Errorf("printed %q, and refused: %s", o.stdout, o.stderr)
	}
}

// TestCleaningUpWhatIsNotThere, as programs do before they begin: the folder of the
// script cannot be written, and still what is not there is not there.
func TestCleaningUpWhatIsNotThere(t *testing.T) {
	o := runScript(t, `
import os, pathlib
for gone in (lambda: os.remove("out.txt"), lambda: os.rmdir("build"), lambda: os.rename("new", "old"), lambda: os.replace("/tmp/new", "old"),
             lambda: pathlib.Path("cache/x").unlink(), lambda: pathlib.Path("/nowhere/x").unlink()):
    try: gone()
    except FileNotFoundError: print("gone")
pathlib.Path("x").unlink(missing_ok=True)
try: os.remove(__file__)
except OSError as e: print(e.errno)
`, "--profile", "strict")
	o.wantVerdict(t, report.OK, 0)
	if want := strings.Repeat("gone\n", 6) + "30\n"; o.stdout != want { // EROFS
		t.Errorf("printed %q, want %q", o.stdout, want)
	}
	if n := o.report.Syscalls.Blocked + o.report.FileOperations.Blocked; n != 1 {
		t.Errorf("%d were refused, want the removal of the script alone: %s", n, o.stderr)
	}
}
