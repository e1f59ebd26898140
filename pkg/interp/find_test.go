package interp

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// put makes a file with what it needs above it.
func put(t *testing.T, mode os.FileMode, content string, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil { // whatever the umask says
		t.Fatal(err)
	}
	return name
}

const (
	elfStart = "\x7fELF and so on" // Find looks no further
	script   = "#!/bin/sh\nexit 9\n"
)

// noPyenv hides the version manager of whoever runs the tests.
func noPyenv(t *testing.T) {
	t.Helper()
	t.Setenv("HOME", "")
	t.Setenv("PYENV_ROOT", "")
	t.Setenv("PYENV_VERSION", "")
}

func TestFind(t *testing.T) {
	noPyenv(t)
	dir := t.TempDir()
	good := put(t, 0o755, elfStart, dir, "good", "python3")
	put(t, 0o755, elfStart, dir, "good", "python3.11")
	put(t, 0o755, elfStart, dir, "good", "snake")
	put(t, 0o755, script, dir, "wrapped", "python3")
	put(t, 0o644, elfStart, dir, "plain", "python3")
	put(t, 0o644, elfStart, dir, "plain", "python3.11")
	put(t, 0o755, "", dir, "empty", "python3")
	if err := os.MkdirAll(filepath.Join(dir, "folder", "python3"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "links"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"python3": good, "dangling": "nowhere", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, "links", name)); err != nil {
			t.Fatal(err)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	in := func(names ...string) string {
		for i, n := range names {
			names[i] = filepath.Join(dir, n)
		}
		return strings.Join(names, ":")
	}

	for _, c := range []struct {
		name, spec, path string
		want             string
		err              error
		says             string
	}{
		{name: "python3 of the search path", path: in("good"), want: in("good/python3")},
		{name: "the first one wins", path: in("links", "good"), want: in("links/python3")},
		{name: "a name", spec: "snake", path: in("good"), want: in("good/snake")},
		{name: "a version", spec: "3.11", path: in("good"), want: in("good/python3.11")},
		{name: "an absolute path", spec: good, want: good},
		{name: "a relative path is made absolute", spec: "./good/python3", want: good},
		{name: "a path is not looked for", spec: "good/snake", path: "/usr/bin", want: in("good/snake")},
		{name: "a link keeps its name, for pyvenv.cfg", spec: "links/python3", want: in("links/python3")},
		{name: "what cannot be run is passed by", path: in("plain", "folder", "wrapped", "empty", "good"), want: good},

		{name: "nothing on the path", path: in("links/none", "plain/none"), err: ErrNotFound, says: "python3: not on the search path"},
		{name: "an empty path", err: ErrNotFound, says: "not on the search path"},
		{name: "relative entries depend on where sbx was started", path: "good:.:", err: ErrNotFound},
		{name: "an unknown name", spec: "viper", path: in("good"), err: ErrNotFound, says: "viper"},
		{name: "an unknown version", spec: "3.99", path: in("good"), err: ErrNotFound, says: "3.99"},
		{name: "a patch level is only known of pyenv", spec: "3.11.2", path: in("good"), err: ErrNotFound, says: "pyenv has none"},
		{name: "a number that is no version", spec: "3", path: in("good"), err: ErrNotFound},
		{name: "a missing file", spec: "./good/nothing", err: ErrNotFound, says: "./good/nothing"},
		{name: "a dangling link", spec: "links/dangling", err: ErrNotFound},
		{name: "a link to itself", spec: "links/loop", err: ErrNotFound},
		{name: "a file for a folder", spec: "good/python3/python3", err: ErrNotFound},
		{name: "a folder", spec: "./folder", err: ErrNotExecutable, says: "drwx"},
		{name: "a folder of that name on the path", path: in("folder"), err: ErrNotExecutable},
		{name: "not executable", spec: "plain/python3", err: ErrNotExecutable, says: "-rw-r--r--"},
		{name: "not executable on the path", path: in("plain"), err: ErrNotExecutable},
		{name: "a version that is not executable", spec: "3.11", path: in("plain"), err: ErrNotExecutable, says: "plain/python3.11"},
		{name: "a script", spec: "wrapped/python3", err: ErrNotExecutable, says: "no ELF program"},
		{name: "an empty file", spec: "empty/python3", err: ErrNotExecutable, says: "no ELF program"},
		{name: "a FIFO is not waited for", spec: fifo, err: ErrNotExecutable, says: "mode p"},
		{name: "a device", spec: "/dev/null", err: ErrNotExecutable},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Find(c.spec, c.path)
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("found %q, %v, want %q, %v", got, err, c.want, c.err)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q does not say %q", err, c.says)
			}
		})
	}
}

func TestFindWithoutSearchPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may search every folder")
	}
	noPyenv(t)
	exe := put(t, 0o755, elfStart, t.TempDir(), "closed", "python3")
	closed := filepath.Dir(exe)
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(closed, 0o700) })
	if _, err := Find(exe, ""); !errors.Is(err, ErrNotExecutable) {
		t.Errorf("got %v, want %v", err, ErrNotExecutable)
	}
	if _, err := Find("", closed); !errors.Is(err, ErrNotFound) {
		t.Errorf("on the path: got %v, want %v", err, ErrNotFound)
	}
}

func TestFindSeesThroughPyenv(t *testing.T) {
	root := filepath.Join(t.TempDir(), "pyenv")
	versions := filepath.Join(root, "versions")
	for _, v := range []string{"3.8.18", "3.11.7", "3.11.10", "3.12.1", "2.7.18", "3.13-dev", "pypy3.10-7.3.15", "work"} {
		put(t, 0o755, elfStart, versions, v, "bin", "python3")
		put(t, 0o755, elfStart, versions, v, "bin", "python")
	}
	put(t, 0o755, elfStart, versions, "2.7.18", "bin", "python2")
	put(t, 0o755, elfStart, versions, "3.12.1", "bin", "python3.12")
	for _, shim := range []string{"python3", "python", "python3.12", "python3.9"} {
		put(t, 0o755, script, root, "shims", shim)
	}
	debian := put(t, 0o755, elfStart, t.TempDir(), "python3")
	shims := filepath.Join(root, "shims")
	path := shims + ":" + filepath.Dir(debian)
	of := func(v, name string) string { return filepath.Join(versions, v, "bin", name) }

	for _, c := range []struct {
		name, spec    string
		global, local string // pyenv's version file, PYENV_VERSION
		want          string
		err           error
	}{
		{name: "the global version", global: "3.11.7\n", want: of("3.11.7", "python3")},
		{name: "PYENV_VERSION goes first", global: "3.11.7\n", local: "3.8.18", want: of("3.8.18", "python3")},
		{name: "the first version that has the program", global: "work\n3.12.1\n", spec: "python3.12", want: of("3.12.1", "python3.12")},
		{name: "versions in one line", local: "3.8.18:3.12.1", spec: "python3.12", want: of("3.12.1", "python3.12")},
		{name: "a prefix is its newest version, by number", global: "3.11\n", want: of("3.11.10", "python3")},
		{name: "a version with a name", local: "work", want: of("work", "python3")},
		{name: "the shim by its path", spec: filepath.Join(shims, "python"), global: "3.12.1", want: of("3.12.1", "python")},
		{name: "system is the next on the path", global: "system\n", want: debian},
		{name: "no version is selected", want: debian},
		{name: "a version that is not installed", global: "3.10.1\n", want: debian},
		{name: "a shim without a version, by its path", spec: filepath.Join(shims, "python"), err: ErrNotFound},

		{name: "a version that is not selected", spec: "3.12", global: "3.8.18", want: of("3.12.1", "python3")},
		{name: "the newest of a version", spec: "3.11", global: "3.8.18", want: of("3.11.10", "python3")},
		{name: "with its patch level", spec: "3.11.7", want: of("3.11.7", "python3")},
		{name: "an old one is found, and refused later", spec: "2.7", want: of("2.7.18", "python2")},
		{name: "a version that nobody has", spec: "3.9", global: "3.8.18", err: ErrNotFound},
		{name: "a version is no pattern", spec: "3.1", err: ErrNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("HOME", t.TempDir())
			t.Setenv("PYENV_ROOT", root)
			t.Setenv("PYENV_VERSION", c.local)
			if err := os.RemoveAll(filepath.Join(root, "version")); err != nil {
				t.Fatal(err)
			}
			if c.global != "" {
				put(t, 0o644, c.global, root, "version")
			}
			got, err := Find(c.spec, path)
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("found %q, %v, want %q, %v", got, err, c.want, c.err)
			}
		})
	}
}

func TestFindUsesPyenvOfTheHome(t *testing.T) {
	home := t.TempDir()
	want := put(t, 0o755, elfStart, home, ".pyenv", "versions", "3.12.1", "bin", "python3")
	noPyenv(t)
	t.Setenv("HOME", home)
	if got, err := Find("3.12", ""); got != want || err != nil {
		t.Errorf("found %q, %v, want %q", got, err, want)
	}
}

// Where sbx is started may belong to the program that is to be locked up: what
// lies there never names the interpreter.
func TestFindTakesNothingFromTheWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	put(t, 0o755, elfStart, dir, "versions", "3.12.1", "bin", "python3")
	put(t, 0o755, elfStart, dir, "python3.12")
	put(t, 0o644, "3.12.1\n", dir, ".python-version")
	t.Chdir(dir)
	for _, c := range []struct{ name, root, home string }{
		{"no home", "", ""}, {"a relative PYENV_ROOT", ".", ""}, {"a relative home", "", "."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("PYENV_VERSION", "")
			t.Setenv("PYENV_ROOT", c.root)
			t.Setenv("HOME", c.home)
			if got, err := Find("3.12", ".:"); !errors.Is(err, ErrNotFound) {
				t.Errorf("found %q, %v", got, err)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	for spec, want := range map[string]int{
		"3.8": 2, "3.11.2": 3, "2.7": 2, "3.100": 2,
		"": 0, "3": 0, "3.": 0, ".3": 0, "3.11.2.1": 0, "3.x": 0, "+3.8": 0, "3.-1": 0, "3. 8": 0, "3.9999": 0, "3.8\n": 0,
	} {
		parts, ok := version(spec)
		if ok != (want > 0) || ok && len(parts) != want {
			t.Errorf("version(%q) is %v, %v", spec, parts, ok)
		}
	}
}
