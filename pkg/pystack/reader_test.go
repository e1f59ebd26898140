package pystack

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbxproject/sbx/pkg/event"
)

// shown is a stack as function:line of each frame, with the file where it is not
// the script's. Of the library's modules it has no line, which differs by version.
func shown(stack []event.Location) string {
	var out []string
	for _, at := range stack {
		s := fmt.Sprintf("%s:%d", at.Function, at.Line)
		switch name := filepath.Base(at.File); name {
		case "script.py":
		case "threading.py", "contextlib.py":
			s = at.Function + "@" + name
		default:
			s += "@" + name
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// settled reads a stack until it is the wanted one: a script that has said that it
// waits may not wait yet.
func settled(t *testing.T, want string, read func() ([]event.Location, error)) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		stack, err := read()
		if err == nil && shown(stack) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("stack %s (%v), want %s", shown(stack), err, want)
		}
	}
}

// TestStacks: where the thread stands, in every way in which Python calls.
func TestStacks(t *testing.T) {
	tests := []struct {
		name, code string
		want       string // {x.} is x. where names are qualified
	}{
		{"plain", "def f():\n    hold()\nf()\n", "hold:3 f:5 <module>:6"},
		{"method", "class C:\n    def get(self):\n        hold()\nC().get()\n", "hold:3 {C.}get:6 <module>:7"},
		{"nested", "def f():\n    def g():\n        hold()\n    g()\nf()\n", "hold:3 {f.<locals>.}g:6 f:7 <module>:8"},
		{"generator", "def g():\n    x = 1\n    yield hold()\nlist(g())\n", "hold:3 g:6 <module>:7"},
		{"generator expression", "list(hold()\n  for _ in\n  (1, 2))\n", "hold:3 <genexpr>:4 <module>:4"},
		{"coroutine", "async def c():\n    hold()\nasync def d():\n    await c()\nd().send(None)\n", "hold:3 c:5 d:7 <module>:8"},
		{"lambda", "sorted([1, 2],\n  key=lambda q: hold())\n", "hold:3 <lambda>:5 <module>:4"},
		{"exec", "exec('\\n\\nhold()')\n", "hold:3 <module>:3@<string> <module>:4"},
		{"a name of its own", "exec(compile('hold()', '/usr/lib/innocent.py', 'exec'))\n", "hold:3 <module>:1@innocent.py <module>:4"},
		{"Latin-1, UCS-2, UCS-4", "for n in ('é', 'ж', '😀'):\n    exec(compile('def f():\\n g()\\n', n, 'exec'))\n    g = f\nexec(compile('def ä(): hold()\\nä()', '日本', 'exec'))\n", "hold:3 ä:1@日本 <module>:2@日本 <module>:7"},
		{"characters of one byte", "exec(compile('hold()', 'caf\\xe9', 'exec'))\n", "hold:3 <module>:1@café <module>:4"},
		{"characters of four bytes", "exec(compile('hold()', '\\U0001f600', 'exec'))\n", "hold:3 <module>:1@😀 <module>:4"},
		{"bytes that are no text", "exec(compile('hold()', 'a\\udcff', 'exec'))\n", "hold:3 <module>:1@a\xff <module>:4"},
		{"a long name", "exec(compile('hold()', 'x' * 5000, 'exec'))\n", "hold:3 <module>:1@" + strings.Repeat("x", 400) + "... <module>:4"},
		{"a line far away", "\n" + strings.Repeat("\n", 70000) + "hold()\n", "hold:3 <module>:70005"},
		{"a large table", strings.Repeat("x = [1, 2, (3)]\n", 30000) + "hold()\n", "hold:3 <module>:30004"},
		{"a finalizer", "class D:\n    def __del__(self):\n        hold()\nD()\n", "hold:3 {D.}__del__:6 <module>:7"},
		{"called from C", "import functools\nfunctools.reduce(lambda a, b:\n    hold(), [1, 2])\n", "hold:3 <lambda>:6 <module>:5"},
		{"the library's own", "import contextlib\ns = contextlib.ExitStack()\ns.callback(hold)\ns.close()\n",
			"hold:3 {_BaseExitStack._create_cb_wrapper.<locals>.}_exit_wrapper@contextlib.py {ExitStack.}__exit__@contextlib.py {ExitStack.}close@contextlib.py <module>:7"},
	}
	eachPython(t, func(t *testing.T, p python) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				want := tt.want
				for strings.Contains(want, "{") {
					before, rest, _ := strings.Cut(want, "{")
					inner, after, _ := strings.Cut(rest, "}")
					if p.Minor < 11 {
						inner = ""
					}
					want = before + inner + after
				}
				s := p.start(t, waiting+tt.code)
				tid := s.hear(t)[0]
				r := p.reader()
				settled(t, want, func() ([]event.Location, error) {
					stack, place, err := r.Stack(s.Process.Pid, tid)
					if err == nil && (place == nil || *place != stack[0]) {
						t.Errorf("the place is %+v", place)
					}
					for i := range stack {
						if !stack[i].Claimed {
							t.Errorf("%+v is no claim", stack[i])
						}
					}
					return stack, err
				})
			})
		}
	})
}

// TestThreads: each has a stack of its own, and none is another's.
func TestThreads(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		s := p.start(t, waiting+`
def work(n):
    if n == 0:
        hold()
    elif n == 1:
        hold()
    else:
        hold()
for n in range(3):
    threading.Thread(target=work, args=(n,)).start()
hold()
`)
		var tids []int
		for range 4 {
			tids = append(tids, s.hear(t)[0])
		}
		r := p.reader()
		seen := map[string]int{}
		for _, tid := range tids {
			stack, _, err := r.Stack(s.Process.Pid, tid)
			if err != nil || len(stack) < 2 {
				t.Fatalf("thread %d: %s (%v)", tid, shown(stack), err)
			}
			seen[shown(stack[1:2])]++
		}
		for _, want := range []string{"work:7", "work:9", "work:11", "<module>:14"} {
			if seen[want] != 1 {
				t.Errorf("%d threads are at %s, want one: %v", seen[want], want, seen)
			}
		}
		if _, _, err := r.Stack(s.Process.Pid, 1<<22+7); err == nil {
			t.Error("a thread that there is not has a stack")
		}

		threads, err := r.Threads(s.Process.Pid, 16, time.Now().Add(time.Minute))
		if err != nil || len(threads) != 4 {
			t.Fatalf("%d threads (%v), want 4", len(threads), err)
		}
		if threads[0].TID != s.Process.Pid || threads[0].NSTID != tids[slices.Index(tids, s.Process.Pid)] {
			t.Errorf("the first is %+v, want the main thread %d", threads[0], s.Process.Pid)
		}
		if some, err := r.Threads(s.Process.Pid, 2, time.Now().Add(time.Minute)); err != nil || len(some) != 2 {
			t.Errorf("%d threads (%v), want 2", len(some), err)
		}
		if none, err := r.Threads(s.Process.Pid, 16, time.Time{}); err != nil || len(none) != 1 {
			t.Errorf("%d threads (%v) after the deadline, want 1", len(none), err)
		}
	})
}

// TestARunningThread is read while it moves: what comes is a place of its own.
func TestARunningThread(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		s := p.start(t, waiting+`
def down(n):
    if n:
        down(n - 1)
def spin():
    while True:
        down(9)
threading.Thread(target=spin, daemon=True).start()
hold()
`)
		s.hear(t)
		r := p.reader()
		whole := 0
		for range 200 {
			threads, err := r.Threads(s.Process.Pid, 16, time.Now().Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			for _, th := range threads {
				if len(th.Stack) > kept {
					t.Fatalf("a stack of %d frames", len(th.Stack))
				}
				if strings.Contains(shown(th.Stack), " spin:10 ") {
					whole++
				}
			}
		}
		if whole == 0 {
			t.Errorf("in 200 looks the thread was seen whole %d times", whole)
		}
	})
}

// TestForkedChildren: a child of fork has memory of its own, with its own number.
func TestForkedChildren(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		s := p.start(t, waiting+`
def work():
    pid = os.fork()
    if pid == 0:
        hold()
    os.waitpid(pid, 0)
threading.Thread(target=work).start()
`)
		child := s.hear(t)[0]
		settled(t, map[bool]string{
			false: "hold:3 work:8 run@threading.py _bootstrap_inner@threading.py _bootstrap@threading.py",
			true:  "hold:3 work:8 Thread.run@threading.py Thread._bootstrap_inner@threading.py Thread._bootstrap@threading.py",
		}[p.Minor >= 11], func() ([]event.Location, error) {
			stack, _, err := p.reader().Stack(child, child)
			return stack, err
		})
	})
}

// TestOwnFrames are left out, and the place to name is the script's.
func TestOwnFrames(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		s := p.start(t, waiting+`
def inner(): hold()
space = {'inner': inner}
exec(compile('def emit():\n inner()\n', '<sbx>', 'exec'), space)
exec(compile('def lib(): emit()\n', '/opt/lib/x.py', 'exec'), space)
exec(compile('def user(): lib()\n', '/home/user.py', 'exec'), space)
exec(compile('def main():\n user()\n', '<sbx>', 'exec'), space)
space['main']()
`)
		tid := s.hear(t)[0]
		r := p.reader()
		file := s.Args[len(s.Args)-1]
		r.roots = []string{"/opt/lib/", filepath.Dir(file) + "/"}
		settled(t, "hold:3 inner:5 lib:1@x.py user:1@user.py", func() ([]event.Location, error) {
			stack, place, err := r.Stack(s.Process.Pid, tid)
			if err == nil && (place == nil || place.File != "/home/user.py") {
				t.Errorf("the place is %+v, want the one in user.py", place)
			}
			return stack, err
		})
	})
}

// TestDeepStacks: what is kept has a bound, and what is read for it as well.
func TestDeepStacks(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		s := p.start(t, waiting+`
sys.setrecursionlimit(10000)
def down(n):
    if n == 0:
        hold()
    else:
        down(n - 1)
down(900)
`)
		tid := s.hear(t)[0]
		want := "hold:3 down:8" + strings.Repeat(" down:10", kept-2)
		settled(t, want, func() ([]event.Location, error) {
			stack, _, err := p.reader().Stack(s.Process.Pid, tid)
			return stack, err
		})
		// All of it the runtime's: looked through for the script's, up to a bound.
		r := p.reader()
		r.roots = []string{"/"}
		stack, place, err := r.Stack(s.Process.Pid, tid)
		if err != nil || len(stack) != kept || place == nil || place.Function != "hold" {
			t.Errorf("%d frames, at %+v (%v)", len(stack), place, err)
		}
	})
}

// TestCalibration: the known stack turns reading on, another one off for good.
func TestCalibration(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		s := p.start(t, waiting+"hold()\n")
		tid := s.hear(t)[0]
		file := s.Args[len(s.Args)-1]
		known := []event.Location{{File: file, Line: 3, Function: "hold", Claimed: true}, {File: file, Line: 4, Function: "<module>", Claimed: true}}
		settled(t, "hold:3 <module>:4", func() ([]event.Location, error) {
			stack, _, err := p.reader().Stack(s.Process.Pid, tid)
			return stack, err
		})
		fresh := func(known []event.Location) *Reader {
			r := p.reader()
			r.proven, r.o.Known = false, known
			return r
		}
		r := fresh(known)
		r.Calibrate(s.Process.Pid, tid)
		if err := r.Off(); err != nil {
			t.Fatalf("it is off: %v", err)
		}
		if stack, _, err := r.Stack(s.Process.Pid, tid); err != nil || !slices.Equal(stack, known) {
			t.Errorf("read %s (%v)", shown(stack), err)
		}
		r.Calibrate(s.Process.Pid, 1<<22+7) // the first answer stands
		if err := r.Off(); err != nil {
			t.Errorf("a second calibration turned it off: %v", err)
		}

		other := slices.Clone(known)
		other[1].Line++
		for name, r := range map[string]*Reader{"another line": fresh(other), "a frame less": fresh(known[:1]), "none": fresh(nil)} {
			r.Calibrate(s.Process.Pid, tid)
			if r.Off() == nil {
				t.Errorf("%s: it is on", name)
			}
			if stack, place, err := r.Stack(s.Process.Pid, tid); err == nil || stack != nil || place != nil {
				t.Errorf("%s: read %s", name, shown(stack))
			}
			if _, err := r.Threads(s.Process.Pid, 1, time.Now().Add(time.Minute)); err == nil {
				t.Errorf("%s: read threads", name)
			}
		}
		r = fresh(known)
		r.Calibrate(s.Process.Pid, 1<<22+7)
		if r.Off() == nil {
			t.Error("no thread: it is on")
		}
		// Without a calibration the boot's frame must be there.
		r = fresh(known)
		if stack, _, err := r.Stack(s.Process.Pid, tid); err == nil || r.Off() == nil {
			t.Errorf("nothing was shown, and read %s", shown(stack))
		}
		r = fresh(known)
		r.o.Own, r.o.Boot = file, "<module>"
		if _, _, err := r.Stack(s.Process.Pid, tid); err == nil || r.Off() != nil {
			t.Errorf("the boot's frame was there: %v, off %v", err, r.Off())
		}
	})
}

// TestAddressesOfAnotherFile are not those of this interpreter.
func TestAddressesOfAnotherFile(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		if p.image.Fixed {
			return // it is where it was linked
		}
		s := p.start(t, waiting+"hold()\n")
		tid := s.hear(t)[0]
		r := p.reader()
		r.o.File = "/bin/sh"
		if stack, _, err := r.Stack(s.Process.Pid, tid); err == nil {
			t.Errorf("read %s", shown(stack))
		}
	})
}

func TestUnsupportedVersions(t *testing.T) {
	for _, v := range [][2]int{{3, 8}, {3, 15}, {2, 7}, {3, 13}, {3, 14}} {
		r := New(Options{Major: v[0], Minor: v[1], Image: Image{Symbol: 4096, Fixed: true}})
		if err := r.Off(); err == nil || !strings.Contains(err.Error(), ErrUnsupported.Error()) {
			t.Errorf("%v: %v", v, err)
		}
		if _, _, err := r.Stack(1, 1); err == nil {
			t.Errorf("%v: a stack", v)
		}
	}
	if err := New(Options{Major: 3, Minor: 11, File: "/x"}).Off(); err == nil {
		t.Error("without a symbol it is on")
	}
}

func BenchmarkStack(b *testing.B) {
	all, err := pythons()
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range all {
		for _, depth := range []int{1, 4, 14} {
			s := p.start(b, waiting+fmt.Sprintf("def down(n):\n    hold() if n == 0 else down(n - 1)\ndown(%d)\n", depth-1))
			tid := s.hear(b)[0]
			r := p.reader()
			if _, _, err := r.Stack(s.Process.Pid, tid); err != nil {
				b.Fatal(err)
			}
			for r.runtime = range r.places(s.Process.Pid) { // as after a calibration
				break
			}
			b.Run(fmt.Sprintf("%s/depth=%d", p.Version, depth+2), func(b *testing.B) {
				for b.Loop() {
					if _, _, err := r.Stack(s.Process.Pid, tid); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkCalibrate is what the start of each run pays beside the call itself.
func BenchmarkCalibrate(b *testing.B) {
	all, err := pythons()
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range all {
		s := p.start(b, waiting+"def f():\n    hold()\nf()\n")
		tid := s.hear(b)[0]
		file := s.Args[len(s.Args)-1]
		known := []event.Location{
			{File: file, Line: 3, Function: "hold", Claimed: true}, {File: file, Line: 5, Function: "f", Claimed: true},
			{File: file, Line: 6, Function: "<module>", Claimed: true},
		}
		b.Run(p.Version, func(b *testing.B) {
			for b.Loop() {
				r := New(Options{Major: p.Major, Minor: p.Minor, File: p.file, Image: p.image, Known: known})
				r.Calibrate(s.Process.Pid, tid)
				if err := r.Off(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
