package pyhook

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/profile"
)

// What a script can tell of the hook, and nothing more: frames of ours below
// its own, which also count against a recursion limit that it sets.
func TestScriptSeesTheFramesBelowItsOwn(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		script := writeScript(t, "import sys\nf, names = sys._getframe().f_back, []\nwhile f:\n    names.append((f.f_code.co_filename, f.f_code.co_name))\n    f = f.f_back\nprint(names)\n")
		o := p.hooked(t, p.policy(profile.HooksEnforce, script))
		if want := "[('<sbx>', 'main'), ('<string>', '<module>')]\n"; o.stdout != want || o.stderr != "" {
			t.Errorf("got %s%s, want %s", o.stdout, o.stderr, want)
		}
	})
}

// The stack by which sbx checks what it reads is that of the source.
func TestCalibrationIsAStackOfTheBoot(t *testing.T) {
	lines := strings.Split(string(Source()), "\n")
	stack := Calibration()
	wants := []string{"call(*numbers)", "calibrate(config['calibrate'])", "begin(config, source, getframe(1).f_code"}
	if len(stack) != len(wants)+1 {
		t.Fatalf("%d frames: %+v", len(stack), stack)
	}
	for i, want := range wants {
		at := stack[i]
		if at.File != Filename || at.Line < 1 || at.Line > len(lines) || !strings.Contains(lines[at.Line-1], want) {
			t.Errorf("frame %d is at %+v, want the line of %s", i, at, want)
		}
		def := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "def "+at.Function+"(") })
		if def < 0 || def >= at.Line || slices.ContainsFunc(lines[def+1:at.Line], func(l string) bool { return strings.HasPrefix(l, "def ") }) {
			t.Errorf("line %d is not in %s", at.Line, at.Function)
		}
	}
}

// A call with wrong arguments must not tell how __import__ is wrapped.
func TestWrongCallOfImportKeepsTheName(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		script := writeScript(t, "for how in (lambda: __import__(), lambda: __import__('json', nothing=1)):\n    try:\n        how()\n    except TypeError as e:\n        print(e)\n")
		o := p.hooked(t, p.policy(profile.HooksEnforce, script))
		lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
		if p.minor < 10 { // told by the name in the code then
			lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "__new__() ") })
		}
		for _, l := range lines {
			if !strings.HasPrefix(l, "__import__() ") || strings.Contains(l, "make_imports") {
				t.Errorf("got %q", l)
			}
		}
	})
}

// The boot file is read from the descriptor to its end, however large; it is
// closed before the script starts, and so is everything but the events' pipe.
func TestScriptFindsNoDescriptorOfOursButThePipe(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		script := writeScript(t, "import os\nfor fd in range(3, 1100):\n    try:\n        os.fstat(fd)\n        print(fd)\n    except OSError:\n        pass\n")
		c := p.policy(profile.HooksObserve, script)
		c.Args = slices.Repeat([]string{strings.Repeat("x", 1000)}, 3000)
		// Whoever started the tests may have left some open; python alone sees them.
		known := strings.Fields(p.native(t, script).stdout)
		o := p.hooked(t, c)
		ours := slices.DeleteFunc(strings.Fields(o.stdout), func(fd string) bool { return slices.Contains(known, fd) })
		if !slices.Equal(ours, []string{strconv.Itoa(EventFD)}) || o.stderr != "" {
			t.Errorf("open are %q, want the pipe alone\n%s", ours, o.stderr)
		}
	})
}
