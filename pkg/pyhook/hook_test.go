package pyhook

import (
	"fmt"
	"github.com/sbxproject/sbx/pkg/event"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/profile"
)

// addresses differ from run to run.
var addresses = regexp.MustCompile(`0x[0-9a-f]{6,}`)

// TestHookKeepsBehaviour compares scripts that the policy has nothing against
// with the same scripts run by python alone: output, traceback and exit status,
// byte for byte.
func TestHookKeepsBehaviour(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		t.Parallel()
		dir := workdir(t)
		scripts, err := filepath.Glob(filepath.Join(dir, "same", "*"))
		permitted, err2 := filepath.Glob(filepath.Join(dir, "open", "*"))
		if err != nil || err2 != nil || len(scripts) == 0 || len(permitted) == 0 {
			t.Fatalf("no scripts to compare: %v, %v", err, err2)
		}
		modes := []profile.HookMode{profile.HooksEnforce, profile.HooksOff, profile.HooksObserve}
		for i, script := range append(scripts, permitted...) {
			want := p.native(t, script, "one", "two words")
			// Each script meets each mode under some interpreter, and enforce,
			// which changes the most, under every other one.
			turn := i + p.minor
			c := p.policy(modes[turn/2%3], script, "one", "two words")
			if turn%2 == 0 {
				c.Mode = profile.HooksEnforce
			}
			c.FastExit = turn/6%2 == 0
			if filepath.Base(filepath.Dir(script)) == "open" {
				c.Read, c.Write, c.Processes = true, true, true
			}
			got := p.hooked(t, c)
			if got.stdout != want.stdout || addresses.ReplaceAllString(got.stderr, "") != addresses.ReplaceAllString(want.stderr, "") || got.state != want.state {
				t.Errorf("%s, %s, fast exit %t:\n%s\n%q\n%s\nwant\n%s\n%q\n%s", filepath.Base(script), c.Mode, c.FastExit,
					got.state, got.stdout, got.stderr, want.state, want.stdout, want.stderr)
			}
			if got.stats.Malformed != 0 {
				t.Errorf("%s, %s: %d malformed records", filepath.Base(script), c.Mode, got.stats.Malformed)
			}
		}
	})
}

// seen lists the events of one verdict as "op target:line", in order.
func seen(o outcome, v event.Verdict) []string {
	var out []string
	for _, e := range o.events {
		if e.Verdict == v {
			line := 0
			if e.Location != nil {
				line = e.Location.Line
			}
			out = append(out, fmt.Sprintf("%s %s:%d", e.Op, e.Target, line))
		}
	}
	return out
}

var refusedTargets = []string{
	"import os:20", "import os:1", "import os:22", "import urllib.request:23", "import urllib.robotparser:24", "import xml.sax:1",
	"open /etc/passwd:26", "open /etc/passwd:27", "open /etc/passwd:28", "open /etc/passwd:29", "open /etc/passwd:30",
	"open BASE/../../../../../etc/passwd:31", "open made:32", "os.listdir /etc:33", "os.scandir /etc:34",
	"os.remove /tmp/none:35", "os.rename /tmp/b:36", "os.mkdir /tmp/none:37", "os.symlink /tmp/none:38",
	"socket.__new__ AF_INET:39", "socket.__new__ AF_UNIX:40", "socket.getaddrinfo example.org:80:41",
	"os.system true:42", "os.fork :43", "os.exec /bin/true:44", "os.posix_spawn /bin/true:45",
	"compile BASE/__init__.py:46", "code.__new__ <frozen os>:47",
}

func TestHookRefuses(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		c := p.policy(profile.HooksEnforce, filepath.Join(workdir(t), "policy", "refused.py"))
		c.RestrictedImports = []string{"os", "sys", "subprocess", "shutil", "socket", "urllib", "xml.sax"}
		o := p.hooked(t, c)
		if strings.Contains(o.stdout, "NOT REFUSED") || o.stderr != "" || o.state != "exit status 0" {
			t.Errorf("%s\n%s%s", o.state, o.stdout, o.stderr)
		}
		got := seen(o, event.Denied)
		for i := range got {
			at := strings.Index(got[i], "/json/")
			if at > 0 {
				got[i] = got[i][:strings.IndexByte(got[i], '/')] + "BASE" + got[i][at+len("/json"):]
			}
		}
		if !slices.Equal(got, refusedTargets) {
			t.Errorf("denied events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(refusedTargets, "\n"))
		}
		if !o.stats.Started || !o.stats.Ended || o.stats.ExitCode != 0 || o.stats.Version != p.version || o.stats.Malformed != 0 {
			t.Errorf("stats = %+v", o.stats)
		}
	})
}

func TestHookPermits(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		dir, readable, writable := workdir(t), t.TempDir(), t.TempDir()
		file := filepath.Join(readable, "data")
		if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
			t.Fatal(err)
		}
		c := p.policy(profile.HooksEnforce, filepath.Join(dir, "policy", "permitted.py"), file, writable)
		c.AllowedImports = []string{"json", "asyncio", "logging", "datetime", "inspect", "traceback", "concurrent.futures", "helper", "sys"}
		c.ReadPaths, c.WritePaths = []string{readable}, []string{writable}
		o := p.hooked(t, c)
		want := `"""What the policy lets through, some of it on behalf of the library."""
data
def f():
    return 'source'
1
[Errno 13] open '/etc/passwd': reading files is not allowed (sbx policy)
`
		if o.stdout != want || o.stderr != "" || o.state != "exit status 0" {
			t.Errorf("%s\n%s%s", o.state, o.stdout, o.stderr)
		}
		wantFiles := []string{"open /dev/null:7", "open " + c.Script + ":8", "open " + file + ":9",
			"open " + writable + "/made:10", "open " + writable + "/unclosed:12"}
		got := slices.DeleteFunc(seen(o, event.Allowed), func(s string) bool { return strings.HasPrefix(s, "import ") })
		if !slices.Equal(got, wantFiles) {
			t.Errorf("allowed file events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wantFiles, "\n"))
		}
		if denied := seen(o, event.Denied); !slices.Equal(denied, []string{"open /etc/passwd:0"}) {
			t.Errorf("denied = %q", denied)
		}
		if kept, err := os.ReadFile(filepath.Join(writable, "unclosed")); err != nil || string(kept) != "kept" {
			t.Errorf("a file left open holds %q, %v: the fast exit lost what was buffered", kept, err)
		}
	})
}

func TestHookObservesWithoutRefusing(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		dir := workdir(t)
		script := filepath.Join(dir, "observed.py")
		const text = "import os\nopen('/dev/zero').close()\nos.listdir('/')\nos.waitpid(os.fork() or os._exit(0), 0)\n"
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := p.policy(profile.HooksObserve, script)
		c.RestrictedImports = []string{"os"}
		o := p.hooked(t, c)
		want := []string{"import os:1", "open /dev/zero:2", "os.listdir /:3", "os.fork :4"}
		if got := seen(o, event.Observed); !slices.Equal(got, want) || o.state != "exit status 0" {
			t.Errorf("%s, observed %q, want %q\n%s", o.state, got, want, o.stderr)
		}
		if denied := seen(o, event.Denied); denied != nil {
			t.Errorf("observe mode denied %q", denied)
		}
		c.Mode = profile.HooksOff
		if o := p.hooked(t, c); o.raw != 0 || o.state != "exit status 0" {
			t.Errorf("hooks off: %s, %d bytes of events", o.state, o.raw)
		}
	})
}

func TestHookSurvivesTampering(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		o := p.hooked(t, p.policy(profile.HooksEnforce, filepath.Join(workdir(t), "policy", "tamper.py")))
		if strings.Contains(o.stdout, "OPENED") || strings.Count(o.stdout, "closed ") != 10 || o.stderr != "" || o.state != "exit status 0" {
			t.Errorf("%s\n%s%s", o.state, o.stdout, o.stderr)
		}
		if o.stats.Malformed != 0 || o.stats.Ended {
			t.Errorf("the script replaced the pipe, stats = %+v", o.stats)
		}
		for _, want := range []string{"compile ", "sys.settrace ", "sys.setprofile "} {
			if !slices.ContainsFunc(append(seen(o, event.Denied), seen(o, event.Observed)...), func(s string) bool { return strings.HasPrefix(s, want) }) {
				t.Errorf("no event for %s", want)
			}
		}
	})
}

func TestHookCountsFloods(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		o := p.hooked(t, p.policy(profile.HooksEnforce, filepath.Join(workdir(t), "policy", "flood.py")))
		if o.stdout != "100000\n" {
			t.Fatalf("%s\n%s%s", o.state, o.stdout, o.stderr)
		}
		var total uint64
		for _, e := range o.events {
			if e.Op == "open" && e.Verdict == event.Denied {
				total += max(e.Count, 1)
			}
		}
		if total != 100000 {
			t.Errorf("counted %d refusals, want 100000", total)
		}
		if len(o.events) > FloodCap+20 || o.raw > (FloodCap+20)*200 {
			t.Errorf("%d events, %d bytes for a flood", len(o.events), o.raw)
		}
	})
}

func TestHookReportsExceptions(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		script := filepath.Join(workdir(t), "policy", "raises.py")
		o := p.hooked(t, p.policy(profile.HooksEnforce, script))
		if n := p.native(t, script); addresses.ReplaceAllString(o.stderr, "") != addresses.ReplaceAllString(n.stderr, "") || o.stdout != n.stdout {
			t.Errorf("%s%s\nwant\n%s%s", o.stdout, o.stderr, n.stdout, n.stderr)
		}
		var got []string
		for _, e := range o.events {
			if e.Category == event.Exception {
				got = append(got, fmt.Sprintf("%s: %s at %d, %s", e.Op, e.Target, e.Location.Line, e.Detail))
				if !e.Location.Claimed || e.Layer != event.Python || e.PID == 0 || e.TID == 0 {
					t.Errorf("event = %+v", e)
				}
			}
		}
		if len(got) != 3 || !strings.HasPrefix(got[0], "ValueError: invalid literal for int() with base 10: 'x' at ") ||
			got[1] != "LookupError: in __del__ at 10, ignored by the interpreter" || got[2] != "Odd: 1, <object> at 13, uncaught in main" {
			t.Errorf("exceptions:\n%s", strings.Join(got, "\n"))
		}
		if !o.stats.Uncaught || o.stats.UncaughtType != "Odd" || o.stats.ExitCode != 1 || !o.stats.Ended {
			t.Errorf("stats = %+v", o.stats)
		}
	})
}
