package interp

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadRefusesWhatIsNoInterpreterOfOurs(t *testing.T) {
	change := func(f func(a *answer)) string {
		a := goodAnswer()
		f(&a)
		return fakePython(t, a)
	}
	raw := func(text string) string {
		exe := fake(t, "fake-python")
		put(t, 0o644, text, exe+".json")
		return exe
	}
	for _, c := range []struct {
		name, exe string
		err       error
		says      string
	}{
		{"a file that is not there", filepath.Join(t.TempDir(), "none"), ErrNotFound, "none"},
		{"an ELF file that is none", put(t, 0o755, elfStart, t.TempDir(), "python3"), ErrNotExecutable, "exec format error"},
		{"without the right to run it", put(t, 0o644, elfStart, t.TempDir(), "python3"), ErrNotExecutable, "permission denied"},
		{"a program that fails", fake(t, "fake-crash"), ErrUnsupported, "exit status 3: no module named encodings"},
		{"a program that is killed", fake(t, "fake-signal"), ErrUnsupported, "signal: killed"},
		{"a program that never stops talking", fake(t, "fake-flood"), ErrUnsupported, "no end"},
		{"Python 3.7, which does not read the hook", fake(t, "fake-deaf"), ErrUnsupported, "it is Python 3.7.1, and sbx needs 3.8 or later"},
		{"no answer", raw(""), ErrUnsupported, "not understood"},
		{"no JSON", raw("Python 3.11.2\n"), ErrUnsupported, "not understood"},
		{"half an answer", raw(`{"version": "3.11.2", "implem`), ErrUnsupported, "not understood"},
		{"two answers", raw(`{"version": "3.11.2"} {}`), ErrUnsupported, "not understood"},
		{"an answer of another kind", raw(`["3.11.2"]`), ErrUnsupported, "not understood"},
		{"no version", change(func(a *answer) { a.Version = "" }), ErrUnsupported, `version ""`},
		{"a version of words", change(func(a *answer) { a.Version = "three" }), ErrUnsupported, `version "three"`},
		{"Python 2", change(func(a *answer) { a.Version = "2.7.18" }), ErrUnsupported, "it is Python 2.7.18"},
		{"Python 4", change(func(a *answer) { a.Version = "4.0.0" }), ErrUnsupported, "it is Python 4.0.0"},
		{"another implementation", change(func(a *answer) { a.Implementation = "pypy" }), ErrUnsupported, "it is pypy, and sbx needs CPython"},
		{"a hook that is not hexadecimal", change(func(a *answer) { a.Boot = "xyz" }), ErrUnsupported, "marshalled hook"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := privateDir(t)
			in, err := Load(c.exe, dir)
			if in != nil || !errors.Is(err, c.err) {
				t.Fatalf("got %+v, %v, want %v", in, err, c.err)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.exe) {
				t.Errorf("%q does not say %q of %s", err, c.says, c.exe)
			}
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000 {
				t.Errorf("the message is no line: %q", err)
			}
			if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
				t.Errorf("a refusal is in the cache: %v, %v", left, err)
			}
		})
	}
}

func TestProbeGivesAwayNothingOfTheCaller(t *testing.T) {
	t.Setenv("LD_PRELOAD", "/nonexistent/evil.so")
	t.Setenv("PYTHONPATH", t.TempDir())
	t.Setenv("SECRET", "42")
	t.Chdir(t.TempDir())
	_, err := Load(fake(t, "fake-surroundings"), "")
	want := `env=["PATH=/usr/bin:/bin" "LANG=C.UTF-8"] dir=/ flags=["-I" "-S" "-B" "-c"]`
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestInterpretKeepsTheAnswer(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := goodAnswer()
	a.StdPath, a.SitePackages = []string{"/usr/lib"}, []string{"/usr/share"}
	out, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	in, err := interpret(self, self, out)
	if err != nil {
		t.Fatal(err)
	}
	if in.Path != self || in.Version != "3.11.2" || in.Major != 3 || in.Minor != 11 || in.Implementation != "cpython" ||
		in.Prefix != "/usr" || in.ExecPrefix != "/usr" || in.Stdlib != "/usr/lib" || !bytes.Equal(in.Boot, []byte{0xe3, 0}) {
		t.Errorf("got %+v", in)
	}
}

func TestLimitedBufferKeepsTheStart(t *testing.T) {
	var kept bytes.Buffer
	l := &limitedBuffer{buf: &kept, left: 5}
	for _, s := range []string{"abc", "", "defg", "h"} {
		if n, err := l.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("writing %q says %d, %v", s, n, err)
		}
	}
	if kept.String() != "abcde" {
		t.Errorf("kept %q", kept.String())
	}
}
