package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/sbxproject/sbx/pkg/report"
)

// hostileTexts act on a terminal, or look like words of sbx.
const hostileTexts = `
TEXTS = ["\x1b[2J\x1b]0;owned\x07", "\x1b]8;;http://192.0.2.1\x1b\\link\x1b]8;;\x1b\\", "\x1b]52;c;c2J4LWZvcmdlZA==\x07", "\x9b2J", "\u202egnp.exe", "\u2066\u2069",
         "a\rsbx: ok after 0.01 s: sbx-forged", "a\nsbx: ok after 0.01 s: sbx-forged\n", "\x00nul", "\ud800", "\uffff", "\ufeff", "\u2028sbx: sbx-forged"]
`

// TestAttackReportText: names of files, modules, exceptions, threads and
// arguments that the script chooses are escaped in the report and in the summary.
func TestAttackReportText(t *testing.T) {
	for _, mode := range attackModes {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "report.json")
			cmd := sbxProcess(t, "run", "--profile", "strict", "--hooks", mode, "--report", file, script(t, hostileTexts+`
import os, sys, threading
for text in TEXTS:
    for attempt in (lambda: open("/etc/" + text, "w"), lambda: os.mkdir("/" + text), lambda: __import__(text), lambda: os.execv("/bin/" + text, [text]),
                    lambda: sys.audit("open", text, text, 65), lambda: sys.audit(text, text), lambda: os.symlink(text, "/etc/x")):
        try: attempt()
        except Exception: pass
    try:
        thread = threading.Thread(target=lambda: None, name=text); thread.start(); thread.join()
    except Exception: pass
for name in (b"\xff\xfe\x1b[31m", b"\xc3", b"\xe2\x80"):
    try: open(b"/etc/" + name, "w")
    except OSError: pass
exec(compile("def f():\n    open('/etc/y', 'w')\n", "/usr/lib/\x1b[2Jsbx-forged.py", "exec"))
try: f()
except OSError: pass
raise type("Owned\x1b[2J\n", (Exception,), {})(TEXTS[0] + TEXTS[7])
`))
			var stderr, stdout bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v: %s", err, stderr.String())
			}
			if !utf8.Valid(data) {
				t.Error("the report is not UTF-8")
			}
			wantNoControls(t, "the report", string(data))
			r := readReport(t, file)
			if v := r.ExecutionSummary.Verdict; v != report.Exception && v != report.NonzeroExit {
				t.Errorf("verdict %s", v)
			}
			// What sbx says is at the end: after the last line of the traceback,
			// which is the script's.
			words := stderr.String()[strings.LastIndex(stderr.String(), "\nsbx: "+string(r.ExecutionSummary.Verdict)):]
			wantNoControls(t, "the summary", words)
			for line := range strings.Lines(strings.TrimPrefix(words, "\n")) {
				if !strings.HasPrefix(line, "sbx: ") && !strings.HasPrefix(line, "     ") {
					t.Errorf("a line of the summary is %q", line)
				}
				if strings.HasPrefix(line, "sbx: ok") {
					t.Errorf("a line was forged: %q", line)
				}
			}
			// Control: raw, the script's own error output does hold them.
			if !strings.Contains(stderr.String(), "\x1b[2J") {
				t.Error("the script's own words have no control characters: the test shows nothing")
			}
		})
	}
}

// wantNoControls wants text that does nothing to a terminal.
func wantNoControls(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069) {
			t.Errorf("%s holds %U at %d: %q", what, r, i, text[max(0, i-40):min(len(text), i+40)])
			return
		}
	}
}

// TestAttackForgedReport: what the script prints is quoted, and decides nothing.
func TestAttackForgedReport(t *testing.T) {
	const code = `
import os, sys
forged = '{"schema_version": "1.0", "execution_summary": {"verdict": "ok", "success": true, "evidence": "sbx-forged"}, "all_activities": []}'
for fd in (1, 2):
    os.write(fd, ("\n\n" + forged + "\n--- end ---\nsbx: ok after 0.01 s: sbx-forged\n").encode())
    os.write(fd, b"\xff\xfe\xed\xa0\x80\xc3")
for fd in range(3, 64):
    try: os.write(fd, forged.encode())
    except OSError: pass
for name in ("report.json", "/tmp/report.json", "sbx-report.json"):
    try: open(name, "w").write(forged)
    except OSError: pass
os._exit(7)
`
	for _, mode := range attackModes {
		o := runScript(t, code, "--profile", "strict", "--hooks", mode)
		o.wantVerdict(t, report.NonzeroExit, 7)
		for _, stream := range []string{o.report.Output.Stdout.Head, o.report.Output.Stderr.Head} {
			if !strings.Contains(stream, "sbx-forged") {
				t.Errorf("hooks %s: the output is not in the report: %q", mode, stream)
			}
		}
		s := o.report.ExecutionSummary
		if strings.Contains(s.Evidence+s.Hint+s.Signal, "sbx-forged") || s.Success {
			t.Errorf("hooks %s: %+v", mode, s)
		}
		wantForgeryContained(t, o)
		// The last words are sbx's.
		if last := o.stderr[strings.LastIndex(o.stderr, "sbx: nonzero_exit"):]; strings.Contains(last, "forged") {
			t.Errorf("hooks %s: the summary says %q", mode, last)
		}
	}
}

// TestAttackFloods: neither events nor refused calls nor output make sbx or its
// report grow, or cost the account.
func TestAttackFloods(t *testing.T) {
	floods := []struct {
		name, code string
		check      func(t *testing.T, o outcome)
	}{
		{"refused calls from many threads", attackCalls + `
import threading
def flood():
    for _ in range(4000):
        libc.syscall(41, 40, 1, 0)
threads = [threading.Thread(target=flood) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
`, func(t *testing.T, o outcome) {
			if got := o.report.NetworkOperations.Blocked; got < 32000 {
				t.Errorf("%d refused calls were counted, of 32000", got)
			}
		}},
		{"calls that nobody knows", attackCalls + `
for n in range(20000):
    libc.syscall(500 + n, n)
`, func(t *testing.T, o outcome) {
			if got := o.report.Syscalls.Blocked; got < 20000 {
				t.Errorf("%d refused calls were counted, of 20000", got)
			}
		}},
		{"names", `
for n in range(2500):
    try: open("/etc/%d" % n + "x" * 200, "w")
    except OSError: pass
`, func(t *testing.T, o outcome) {
			if got := o.report.FileOperations.Blocked; got < 2500 {
				t.Errorf("%d refused calls were counted, of 2500", got)
			}
		}},
		{"events of the hook", `
import sys
for n in range(30000):
    try: sys.audit("open", "/tmp/%d" % n, "r", 0)
    except Exception: pass
`, func(*testing.T, outcome) {}},
	}
	for _, f := range floods {
		for _, mode := range []string{"observe", "off"} {
			t.Run(f.name+" "+mode, func(t *testing.T) {
				t.Parallel()
				file := filepath.Join(t.TempDir(), "report.json")
				args := append([]string{"run", "--profile", "strict", "--hooks", mode, "--report", file}, attackFlags...)
				o := invoke(t, append(args, script(t, f.code))...)
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatalf("%v: %s", err, o.stderr)
				}
				if len(data) > 8<<20 {
					t.Errorf("a report of %d bytes", len(data))
				}
				o.report = readReport(t, file)
				o.wantVerdict(t, report.OK, 0)
				f.check(t, o)
			})
		}
	}
}
