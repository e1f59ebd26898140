package pyhook

import (
	"archive/zip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/profile"
)

func writeScript(t *testing.T, text string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "script.py")
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return script
}

// A flush that fails at the end is told by the interpreter in its own words,
// with status 120.
func TestHookLeavesFlushErrorsToPython(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		script := writeScript(t, "print('x' * 100)\n")
		full := func(cmd *exec.Cmd) {
			f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			cmd.Stdout = f
		}
		bare := p.command(t, "-B", script)
		full(bare)
		want := finish(t, bare)
		got := p.hooked(t, p.policy(profile.HooksEnforce, script), full)
		if got.state != want.state || got.stderr != want.stderr || got.stats.ExitCode != 120 {
			t.Errorf("%s, %q, status %d; want %s, %q", got.state, got.stderr, got.stats.ExitCode, want.state, want.stderr)
		}
	})
}

// An interrupt kills the process by SIGINT, after atexit, as natively.
func TestHookDiesOfInterrupt(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		script := writeScript(t, "import atexit, signal\natexit.register(print, 'atexit')\nsignal.raise_signal(signal.SIGINT)\n")
		want := p.native(t, script)
		got := p.hooked(t, p.policy(profile.HooksEnforce, script))
		if got.state != want.state || got.state != "signal: interrupt" || got.stderr != want.stderr || got.stdout != "atexit\n" {
			t.Errorf("%s\n%s%s\nwant %s\n%s%s", got.state, got.stdout, got.stderr, want.state, want.stdout, want.stderr)
		}
		if !got.stats.Ended || got.stats.ExitCode != 130 || got.stats.UncaughtType != "KeyboardInterrupt" {
			t.Errorf("stats = %+v", got.stats)
		}
	})
}

func TestHookRunsArchives(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		name := filepath.Join(t.TempDir(), "app.pyz")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		z := zip.NewWriter(f)
		for file, text := range map[string]string{
			"__main__.py": "import sys, helper\nprint(sys.argv, sys.path[0], __file__, __loader__)\nhelper.fail()\n",
			"helper.py":   "def fail():\n    raise ValueError('from the archive')\n",
		} {
			w, err := z.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		want := p.native(t, name, "arg")
		got := p.hooked(t, p.policy(profile.HooksEnforce, name, "arg"))
		if got.state != want.state || addresses.ReplaceAllString(got.stdout, "") != addresses.ReplaceAllString(want.stdout, "") || got.stderr != want.stderr {
			t.Errorf("%s\n%s%s\nwant %s\n%s%s", got.state, got.stdout, got.stderr, want.state, want.stdout, want.stderr)
		}
	})
}

func TestHookOutlivesItsReader(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		script := writeScript(t, "for i in range(50):\n    open('/dev/null').close()\nprint('done')\n")
		c := p.policy(profile.HooksEnforce, script)
		for name, fd := range map[string]func(*exec.Cmd){
			"closed": func(cmd *exec.Cmd) { cmd.ExtraFiles[EventFD-3] = nil },
			"no reader": func(cmd *exec.Cmd) {
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				r.Close()
				t.Cleanup(func() { w.Close() })
				cmd.ExtraFiles[EventFD-3] = w
			},
		} {
			if o := p.hooked(t, c, fd); o.stdout != "done\n" || o.stderr != "" || o.state != "exit status 0" {
				t.Errorf("%s: %s\n%s%s", name, o.state, o.stdout, o.stderr)
			}
		}
	})
}

func TestHookFollowsThreadsAndForks(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		script := writeScript(t, `import os, threading, warnings
warnings.simplefilter('ignore')  # 3.12 warns of a fork while a joined thread is still ending, and opens this file to quote it
def work():
    for _ in range(500):
        open('/dev/null').close()
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
pid = os.fork()
work()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
`)
		c := p.policy(profile.HooksEnforce, script)
		c.Processes = true
		o := p.hooked(t, c)
		var total uint64
		pids, tids := map[int]bool{}, map[int]bool{}
		for _, e := range o.events {
			if e.Op == "open" {
				total += max(e.Count, 1)
				pids[e.PID], tids[e.TID] = true, true
			}
		}
		// The child counts from one again and does not reach the cap.
		if total != 3000 || len(pids) != 2 || len(tids) != 6 || o.stats.Malformed != 0 || o.state != "exit status 0" {
			t.Errorf("%s, %d opens of %d processes and %d threads, %+v\n%s", o.state, total, len(pids), len(tids), o.stats, o.stderr)
		}
	})
}

func TestHookShowsWhatTheUserTyped(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		script := writeScript(t, "import sys\nprint(sys.argv, getattr(sys, 'orig_argv', None), sys.executable)\n")
		c := p.policy(profile.HooksEnforce, script, "-v", "\xff")
		c.Display, c.Exe = "dir/shown.py", "/usr/bin/shown"
		o := p.hooked(t, c)
		want := `['dir/shown.py', '-v', '\udcff'] ['/usr/bin/shown', 'dir/shown.py', '-v', '\udcff'] /usr/bin/shown`
		if p.minor < 10 {
			want = strings.Replace(want, `['/usr/bin/shown', 'dir/shown.py', '-v', '\udcff']`, "None", 1)
		}
		if strings.TrimSpace(o.stdout) != want {
			t.Errorf("%s%s\nwant %s", o.stdout, o.stderr, want)
		}
	})
}

// Whatever runs beside the script may use its own default arguments only: the
// script can change builtins, module globals and, on 3.13, closure cells.
func TestHookHandlersAreSelfContained(t *testing.T) {
	const check = `
import dis, sys, types
live = {'exact', 'word', 'text', 'send', 'number', 'emit', 'restart', 'runtime', 'mine', 'absolute', 'permitted', 'judge',
        'handler', 'audit', 'strip', 'value', 'message', 'syntax', 'report', 'denied', 'check', 'failed', 'later', '__new__', 'excepthook'}
found = set()
def walk(code):
    name = code.co_name
    if name in live or name.startswith('on_') and code.co_argcount and code.co_varnames[0] == 'args':
        found.add(name)
        inner = [code] + [c for c in code.co_consts if isinstance(c, types.CodeType)]
        for c in inner:
            for i in dis.get_instructions(c):
                if i.opname in ('LOAD_GLOBAL', 'LOAD_NAME') or i.opname == 'LOAD_DEREF' and i.argval not in code.co_cellvars:
                    print(name, i.opname, i.argval)
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            walk(c)
walk(compile(sys.stdin.buffer.read(), 'hook', 'exec'))
print('missing', sorted(live - found))
`
	eachPython(t, func(t *testing.T, p python) {
		cmd := p.command(t, "-c", check)
		cmd.Stdin = strings.NewReader(string(Source()))
		if o := finish(t, cmd); o.stdout != "missing []\n" || o.stderr != "" {
			t.Errorf("%s%s", o.stdout, o.stderr)
		}
	})
}
