package interp

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/pyhook"
)

// interpreters are those of this host, by version; at least one is there.
func interpreters(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, spec := range []string{"/usr/bin/python3", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"} {
		exe, err := Find(spec, os.Getenv("PATH"))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		found[strings.Trim(spec, "/")] = exe
	}
	if len(found) == 0 {
		t.Fatal("no interpreter: these tests need /usr/bin/python3 (apt-get install python3)")
	}
	return found
}

// view is what a jail shows of an interpreter: nothing but the closure.
type view struct {
	mounts []Mount
	links  []Symlink
}

func viewOf(in *Interpreter, site bool) view {
	v := view{in.Mounts, in.Symlinks}
	if site {
		v.mounts, v.links = slices.Concat(v.mounts, in.SiteMounts), slices.Concat(v.links, in.SiteSymlinks)
	}
	return v
}

// shows says whether a path that works on the host works in the jail, and leads
// to the same file.
func (v view) shows(name string) error {
	rest := strings.Split(strings.Trim(path.Clean(name), "/"), "/")
	at := "/"
	for range 1000 {
		if len(rest) == 0 {
			break
		}
		next := path.Join(at, rest[0])
		rest = rest[1:]
		if i := slices.IndexFunc(v.mounts, func(m Mount) bool { return m.Target == next }); i >= 0 {
			if !v.mounts[i].Dir && len(rest) > 0 {
				return fmt.Errorf("%s: %s is a file", name, next)
			}
			// From here on it is the host's own tree.
			real, err := filepath.EvalSymlinks(path.Join(append([]string{v.mounts[i].Source}, rest...)...))
			if err != nil {
				return err
			}
			if !v.mounts[i].Dir || real == next || strings.HasPrefix(real, v.mounts[i].Source+"/") || real == v.mounts[i].Source {
				return nil
			}
			return v.shows(real) // a link out of the mount
		}
		if i := slices.IndexFunc(v.links, func(l Symlink) bool { return l.Path == next }); i >= 0 {
			target := v.links[i].Target
			if path.IsAbs(target) {
				at = "/"
			}
			rest = slices.Concat(strings.Split(strings.Trim(target, "/"), "/"), rest)
			continue
		}
		at = next
	}
	return fmt.Errorf("%s is not in the closure", name)
}

func TestViewTellsWhatIsMissing(t *testing.T) {
	v := view{mounts: []Mount{{"/usr/bin", "/usr/bin", true}, {"/bin/sh", "/shell", false}}, links: []Symlink{{"/b", "usr/bin"}, {"/l", "/l"}}}
	for name, want := range map[string]bool{
		"/usr/bin/env": true, "/b/env": true, "/shell": true,
		"/usr/lib": false, "/bin/sh": false, "/shell/x": false, "/b/none": false, "/l": false, "/": false,
	} {
		if err := v.shows(name); (err == nil) != want {
			t.Errorf("%s: %v, want it shown: %v", name, err, want)
		}
	}
}

// loads has the loader's own word on what a file is linked against.
func loads(t *testing.T, files ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ldd", files...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var libs []string
	for line := range strings.Lines(string(out)) {
		for field := range strings.FieldsSeq(line) {
			if path.IsAbs(field) && !strings.HasSuffix(field, ":") && !slices.Contains(libs, field) {
				libs = append(libs, field)
			}
		}
	}
	if len(libs) == 0 {
		t.Fatalf("ldd says %q", out)
	}
	return libs
}

func TestClosureHoldsWhatTheLoaderNames(t *testing.T) {
	for name, exe := range interpreters(t) {
		t.Run(name, func(t *testing.T) {
			in, err := Load(exe, "")
			if err != nil {
				t.Fatal(err)
			}
			files := []string{in.Path}
			for _, dir := range in.StdPath {
				found, err := filepath.Glob(filepath.Join(dir, "*.so"))
				if err != nil {
					t.Fatal(err)
				}
				// One of each letter is enough of them.
				files = append(files, slices.CompactFunc(found, func(a, b string) bool {
					return path.Base(a)[:2] == path.Base(b)[:2]
				})...)
			}
			v := viewOf(in, false)
			for _, lib := range loads(t, files...) {
				if err := v.shows(lib); err != nil {
					t.Error(err)
				}
			}
			for _, file := range append(files, exe) {
				if err := v.shows(file); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// everything imports every extension module of the standard library and prints
// what the process then has mapped.
const everything = `
import sys, os, glob, importlib
for folder in sys.path:
    for file in sorted(glob.glob(os.path.join(folder, "*.so"))):
        try:
            importlib.import_module(os.path.basename(file).split(".")[0])
        except BaseException:
            pass
import json, ssl, sqlite3, decimal, zoneinfo, encodings.idna
sys.stdout.write("\n" + "\n".join(sorted({l.split(None, 5)[5].strip() for l in open("/proc/self/maps") if "/" in l})) + "\n")
`

func TestClosureHoldsWhatARunMaps(t *testing.T) {
	for name, exe := range interpreters(t) {
		t.Run(name, func(t *testing.T) {
			in, err := Load(exe, "")
			if err != nil {
				t.Fatal(err)
			}
			source := everything
			if in.Minor < 9 {
				source = strings.Replace(source, ", zoneinfo", "", 1)
			}
			cmd := exec.CommandContext(t.Context(), exe, "-I", "-S", "-B", "-c", source)
			cmd.Env = []string{"PATH=/usr/bin:/bin"}
			cmd.Stderr = t.Output()
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			v, mapped := viewOf(in, false), 0
			for line := range strings.Lines(string(out)) {
				line = strings.TrimSpace(line)
				// The locale archive is a convenience of the C library.
				if !path.IsAbs(line) || strings.HasPrefix(line, "/usr/lib/locale") || strings.Contains(line, "/gconv/") {
					continue
				}
				mapped++
				if err := v.shows(line); err != nil {
					t.Error(err)
				}
			}
			if mapped < 10 {
				t.Errorf("only %d files were mapped: %q", mapped, out)
			}
		})
	}
}

func TestLoadLearnsWhatTheInterpreterSays(t *testing.T) {
	for name, exe := range interpreters(t) {
		t.Run(name, func(t *testing.T) {
			in, err := Load(exe, "")
			if err != nil {
				t.Fatal(err)
			}
			real, err := filepath.EvalSymlinks(exe)
			if err != nil {
				t.Fatal(err)
			}
			ask := exec.CommandContext(t.Context(), exe, "-I", "-S", "-B", "-c", `
import sys, os, marshal
code = marshal.loads(sys.stdin.buffer.read())
print("%d.%d.%d" % sys.version_info[:3], sys.prefix, sys.exec_prefix, os.path.dirname(os.__file__), type(code).__name__, code.co_filename, sep="\n")`)
			ask.Env = []string{"PATH=/usr/bin:/bin"}
			ask.Stdin = bytes.NewReader(in.Boot)
			ask.Stderr = t.Output()
			out, err := ask.Output()
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(strings.TrimSpace(string(out)), "\n")
			got := []string{in.Version, in.Prefix, in.ExecPrefix, in.Stdlib, "code", pyhook.Filename}
			if !slices.Equal(got, want) {
				t.Errorf("learnt %q\nit says %q", got, want)
			}
			if in.Path != real || in.Implementation != "cpython" || in.Version != fmt.Sprintf("%d.%d.", in.Major, in.Minor)+strings.SplitN(in.Version, ".", 3)[2] {
				t.Errorf("path %s, implementation %s, version %s = %d.%d", in.Path, in.Implementation, in.Version, in.Major, in.Minor)
			}
			v := viewOf(in, true)
			for _, dir := range slices.Concat([]string{in.Stdlib, filepath.Join(in.Stdlib, "encodings", "utf_8.py")}, in.StdPath, in.SitePackages) {
				if err := v.shows(dir); err != nil {
					t.Error(err)
				}
			}
			if !definesRuntime(t, in.Runtime) {
				t.Errorf("%s does not define _PyRuntime", in.Runtime)
			}
			for _, m := range slices.Concat(in.Mounts, in.SiteMounts) {
				if info, err := os.Lstat(m.Source); err != nil || info.IsDir() != m.Dir || m.Source != m.Target {
					t.Errorf("mount %+v: %v, %v", m, info, err)
				}
			}
			for _, l := range slices.Concat(in.Symlinks, in.SiteSymlinks) {
				if target, err := os.Readlink(l.Path); target != l.Target || err != nil {
					t.Errorf("link %+v leads to %s, %v on the host", l, target, err)
				}
			}
		})
	}
}

func definesRuntime(t *testing.T, file string) bool {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(symbols, func(s elf.Symbol) bool {
		return s.Name == "_PyRuntime" && s.Section != elf.SHN_UNDEF
	})
}

func TestOldInterpretersAreRefused(t *testing.T) {
	for _, spec := range []string{"2.7", "3.6", "3.7"} {
		t.Run(spec, func(t *testing.T) {
			exe, err := Find(spec, os.Getenv("PATH"))
			if errors.Is(err, ErrNotFound) {
				t.Skipf("no Python %s is here; a fake one is refused elsewhere", spec)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load(exe, privateDir(t))
			if !errors.Is(err, ErrUnsupported) {
				t.Fatalf("got %v, want %v", err, ErrUnsupported)
			}
			// Python 2 does not even know the flags.
			if says := "it is Python " + spec; spec != "2.7" && !strings.Contains(err.Error(), says) {
				t.Errorf("%q does not say %q", err, says)
			}
		})
	}
}

func TestHostileCallerChangesNothing(t *testing.T) {
	exe, err := Find("", "/usr/bin")
	if err != nil {
		t.Fatal(err)
	}
	clean, err := Load(exe, "")
	if err != nil {
		t.Fatal(err)
	}
	evil := t.TempDir()
	for _, module := range []string{"json.py", "os.py", "site.py", "sitecustomize.py", "usercustomize.py"} {
		put(t, 0o644, "raise SystemExit('taken over')\n", evil, module)
	}
	for _, lib := range []string{"libm.so.6", "libz.so.1", "libexpat.so.1", "libc.so.6"} {
		put(t, 0o755, "not a library", evil, lib)
	}
	for name, value := range map[string]string{
		"PYTHONPATH": evil, "PYTHONHOME": evil, "PYTHONSTARTUP": filepath.Join(evil, "os.py"), "PYTHONPLATLIBDIR": "evil",
		"PYTHONUSERBASE": evil, "PYTHONEXECUTABLE": filepath.Join(evil, "python"), "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "",
		"PYTHONPYCACHEPREFIX": evil, "PYTHONINSPECT": "1", "PYTHONUTF8": "0", "PYTHONIOENCODING": "utf-16", "__PYVENV_LAUNCHER__": evil,
		"LD_PRELOAD": filepath.Join(evil, "libm.so.6"), "LD_LIBRARY_PATH": evil, "LD_AUDIT": filepath.Join(evil, "libm.so.6"),
		"LC_ALL": "tr_TR.UTF-8", "VIRTUAL_ENV": evil, "HOME": evil, "XDG_CONFIG_HOME": evil,
	} {
		t.Setenv(name, value)
	}
	t.Chdir(evil)
	got, err := Load(exe, "")
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, clean)
}

func TestVirtualEnvironmentHasItsOwnPackages(t *testing.T) {
	base, err := Find("", "/usr/bin")
	if err != nil {
		t.Fatal(err)
	}
	without, err := Load(base, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, cfg string
		system    bool
	}{
		{"alone", "home = /usr/bin\ninclude-system-site-packages = false\n", false},
		{"by default", "home = /usr/bin\n", false},
		{"with those of the system", "home = /usr/bin\nInclude-System-Site-Packages=True\n", true},
		{"with a key that only looks so", "x-include-system-site-packages = true\ninclude-system-site-packages\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			venv := filepath.Join(t.TempDir(), "a b")
			packages := filepath.Join(venv, "lib", fmt.Sprintf("python%d.%d", without.Major, without.Minor), "site-packages")
			put(t, 0o644, "", packages, "module.py")
			put(t, 0o644, c.cfg, venv, "pyvenv.cfg")
			exe := filepath.Join(venv, "bin", "python")
			if err := errors.Join(os.Mkdir(filepath.Dir(exe), 0o755), os.Symlink(base, exe)); err != nil {
				t.Fatal(err)
			}
			if found, err := Find(exe, ""); found != exe || err != nil {
				t.Fatalf("found %s, %v, want the name as given", found, err)
			}
			in, err := Load(exe, "")
			if err != nil {
				t.Fatal(err)
			}
			want := []string{packages}
			if c.system {
				want = append(want, without.SitePackages...)
			}
			if !slices.Equal(in.SitePackages, want) {
				t.Errorf("packages are in %q, want %q", in.SitePackages, want)
			}
			if in.Path != without.Path || in.Stdlib != without.Stdlib {
				t.Errorf("interpreter %s, library %s; want %s, %s", in.Path, in.Stdlib, without.Path, without.Stdlib)
			}
			v := viewOf(in, true)
			for _, name := range append(want, exe) {
				if err := v.shows(name); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A virtual environment that venv itself makes, asked where it would look.
func TestVirtualEnvironmentAgreesWithPython(t *testing.T) {
	for name, base := range interpreters(t) {
		t.Run(name, func(t *testing.T) {
			venv := filepath.Join(t.TempDir(), "venv")
			exe := filepath.Join(venv, "bin", "python")
			run := func(args ...string) string {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
				cmd.Env = []string{"PATH=/usr/bin:/bin"}
				cmd.Stderr = t.Output()
				out, err := cmd.Output()
				if err != nil {
					t.Fatal(err)
				}
				return strings.TrimSpace(string(out))
			}
			run(base, "-I", "-m", "venv", "--without-pip", venv)
			want := strings.Split(run(exe, "-I", "-c", `import sys; print(*[p for p in sys.path if p.endswith("-packages")], sep="\n")`), "\n")
			in, err := Load(exe, "")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(in.SitePackages, want) {
				t.Errorf("packages are in %q, it looks in %q", in.SitePackages, want)
			}
		})
	}
}

func TestResolveNotesEveryLink(t *testing.T) {
	links := map[string]string{
		"/lib": "usr/lib", "/usr/lib/libz.so.1": "libz.so.1.3", "/opt/py": "/srv/python", "/srv/python/bin/python3": "../lib/../bin/python3.11",
		"/loop": "loop2", "/loop2": "/loop", "/up": "../../../usr", "/self": ".", "/slash": "/",
	}
	readlink := func(name string) (string, error) {
		if target, ok := links[name]; ok {
			return target, nil
		}
		return "", errors.New("no link")
	}
	for _, c := range []struct {
		name, want string
		passed     []string
		fails      bool
	}{
		{"/usr/bin/env", "/usr/bin/env", nil, false},
		{"/lib/libz.so.1", "/usr/lib/libz.so.1.3", []string{"/lib", "/usr/lib/libz.so.1"}, false},
		{"/opt/py/bin/python3", "/srv/python/bin/python3.11", []string{"/opt/py", "/srv/python/bin/python3"}, false},
		{"/up/bin", "/usr/bin", []string{"/up"}, false},
		{"/self/self/lib", "/usr/lib", []string{"/self", "/lib"}, false},
		{"/slash/lib/x", "/usr/lib/x", []string{"/slash", "/lib"}, false},
		{"//usr/./x/../bin/", "/usr/bin", nil, false},
		{"/", "/", nil, false},
		{"/loop/x", "", []string{"/loop", "/loop2"}, true},
	} {
		tr := &tree{readlink: readlink}
		got, err := tr.resolve(c.name)
		var passed []string
		for _, l := range tr.links {
			passed = append(passed, l.Path)
			if links[l.Path] != l.Target {
				t.Errorf("%s: link %+v is noted, want %s", c.name, l, links[l.Path])
			}
		}
		if got != c.want || (err != nil) != c.fails || !slices.Equal(passed, c.passed) {
			t.Errorf("%s is %q by way of %q, %v; want %q by way of %q", c.name, got, passed, err, c.want, c.passed)
		}
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("/a/b", "/a", "c")
	f.Add("/a/../b", "/b", "../../a")
	f.Add("/a", "/a", "a/a")
	f.Add("", "/", "")
	f.Fuzz(func(t *testing.T, name, link, target string) {
		tr := &tree{readlink: func(s string) (string, error) {
			if s == link {
				return target, nil
			}
			return "", errors.New("no link")
		}}
		got, err := tr.resolve(name)
		if err == nil && (!path.IsAbs(got) || path.Clean(got) != got) {
			t.Errorf("%q is %q", name, got)
		}
		if len(tr.links) > 1 {
			t.Errorf("one link is noted %d times", len(tr.links))
		}
	})
}

func TestFinish(t *testing.T) {
	dir := func(name string) Mount { return Mount{name, name, true} }
	file := func(name string) Mount { return Mount{name, name, false} }
	for _, c := range []struct {
		name      string
		mounts    []Mount
		links     []Symlink
		shown     []Mount
		want      []Mount
		wantLinks []Symlink
	}{
		{
			"parents come before children",
			[]Mount{file("/usr/lib/z"), dir("/opt"), file("/etc/a")}, nil, nil,
			[]Mount{file("/etc/a"), dir("/opt"), file("/usr/lib/z")}, nil,
		},
		{
			"what a folder shows anyway is left out",
			[]Mount{file("/usr/lib/a/b/c.so"), dir("/usr/lib/a"), dir("/usr/lib/a/b")}, []Symlink{{"/usr/lib/a/x", "b"}, {"/usr/lib/ax", "b"}}, nil,
			[]Mount{dir("/usr/lib/a")}, []Symlink{{"/usr/lib/ax", "b"}},
		},
		{
			"a name that only begins like a folder is not in it",
			[]Mount{dir("/usr/lib/a"), file("/usr/lib/ab")}, nil, nil,
			[]Mount{dir("/usr/lib/a"), file("/usr/lib/ab")}, nil,
		},
		{
			"what another list shows is left out",
			[]Mount{file("/lib/x"), file("/site/y"), dir("/lib/in")}, []Symlink{{"/lib/in/l", "x"}}, []Mount{file("/lib/x"), dir("/lib/in"), dir("/site")},
			nil, nil,
		},
		{
			"a file has nothing below it",
			[]Mount{file("/a"), file("/a/b")}, nil, nil,
			[]Mount{file("/a"), file("/a/b")}, nil,
		},
		{"twice the same", []Mount{file("/a"), file("/a")}, nil, nil, []Mount{file("/a")}, nil},
		{"nothing", nil, nil, nil, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			shown := slices.Clone(c.shown)
			mounts, links := finish(c.mounts, c.links, c.shown)
			if !slices.Equal(mounts, c.want) || !slices.Equal(links, c.wantLinks) {
				t.Errorf("got  %v, %v\nwant %v, %v", mounts, links, c.want, c.wantLinks)
			}
			if !slices.Equal(c.shown, shown) {
				t.Errorf("the other list became %v", c.shown)
			}
		})
	}
}

func TestParseList(t *testing.T) {
	for _, c := range []struct {
		name, out string
		want      []string
	}{
		{
			"glibc",
			"\tlinux-vdso.so.1 (0x00007ffd)\n\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f25)\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f25)\n",
			[]string{"/lib/x86_64-linux-gnu/libz.so.1", "/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"},
		},
		{
			"musl",
			"\t/lib/ld-musl-x86_64.so.1 (0x7f1)\n\tlibc.musl-x86_64.so.1 => /lib/ld-musl-x86_64.so.1 (0x7f1)\n",
			[]string{"/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-x86_64.so.1"},
		},
		{"a library that is missing", "\tlibtk8.6.so => not found\n\tlibz.so.1 => /lib/libz.so.1 (0x2)\n", []string{"/lib/libz.so.1"}},
		{"a path with a space", "\tliba.so => /opt/a b/liba.so (0x2)\n", []string{"/opt/a b/liba.so"}},
		{"a relative path", "\tliba.so => ./liba.so (0x2)\n", nil},
		{"a static program", "\tstatically linked\n", nil},
		{"no last line feed", "\tliba.so => /a.so (0x2)", []string{"/a.so"}},
		{"nothing", "", nil},
	} {
		if got := parseList([]byte(c.out)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte("\tlibz.so.1 => /lib/libz.so.1 (0x7f)\n\t/lib64/ld.so (0x1)\n"))
	f.Add([]byte(" => (0x\n => / (0x"))
	f.Fuzz(func(t *testing.T, out []byte) {
		for _, file := range parseList(out) {
			if !path.IsAbs(file) || strings.Contains(file, "\n") || !bytes.Contains(out, []byte(file)) {
				t.Errorf("%q comes out of %q", file, out)
			}
		}
	})
}

// program is a minimal ELF file with these program headers.
func program(t testing.TB, interp string, interpSize uint64) []byte {
	t.Helper()
	var b bytes.Buffer
	header := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	prog := elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 120, Filesz: interpSize, Memsz: interpSize}
	if interp == "" {
		prog.Type = uint32(elf.PT_LOAD)
	}
	for _, part := range []any{header, prog, []byte(interp)} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestELFNeeds(t *testing.T) {
	const loader = "/lib64/ld.so\x00"
	whole := program(t, loader, uint64(len(loader)))
	for _, c := range []struct {
		name   string
		data   []byte
		loader string
		ok     bool
	}{
		{"a dynamic program", whole, "/lib64/ld.so", true},
		{"a static program", program(t, "", 0), "", true},
		{"a loader's name that goes on after the file", program(t, loader, 100), "", false},
		{"a loader's name of a gigabyte", program(t, loader, 1<<30), "", true},
		{"cut in the header", whole[:40], "", false},
		{"cut in the program headers", whole[:80], "", false},
		{"the magic alone", whole[:4], "", false},
		{"a script", []byte("#!/bin/sh\n"), "", false},
		{"empty", nil, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := put(t, 0o644, string(c.data), t.TempDir(), "program")
			got, needed, err := elfNeeds(file)
			if got != c.loader || len(needed) != 0 || (err == nil) != c.ok {
				t.Errorf("loader %q, needs %q, %v; want %q, ok %v", got, needed, err, c.loader, c.ok)
			}
			if err != nil && !strings.Contains(err.Error(), file) {
				t.Errorf("%q does not name the file", err)
			}
		})
	}
}

func TestELFNeedsOfAnInterpreter(t *testing.T) {
	loader, needed, err := elfNeeds("/usr/bin/python3")
	if err != nil {
		t.Fatal(err)
	}
	all := loads(t, "/usr/bin/python3")
	if !slices.Contains(all, loader) {
		t.Errorf("loader %q is not among %q", loader, all)
	}
	if len(needed) == 0 {
		t.Error("it needs no library")
	}
	for _, soname := range needed {
		if !slices.ContainsFunc(all, func(f string) bool { return path.Base(f) == soname }) {
			t.Errorf("%s is not among %q", soname, all)
		}
	}
}

func FuzzELFNeeds(f *testing.F) {
	whole := program(f, "/lib64/ld.so\x00", 13)
	f.Add(whole)
	f.Add(whole[:64])
	f.Add(program(f, "", 0))
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		file := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		loader, needed, err := elfNeeds(file)
		if err != nil && (loader != "" || needed != nil) {
			t.Errorf("error and answer: %q, %q, %v", loader, needed, err)
		}
		if len(loader) > len(data) {
			t.Errorf("a loader of %d bytes out of %d", len(loader), len(data))
		}
	})
}

func TestScanPassesByWhatIsNoLibrary(t *testing.T) {
	loader, _, err := elfNeeds("/usr/bin/python3")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put(t, 0o644, "no library", dir, "a.so")
	put(t, 0o644, elfStart, dir, "deep", "b.so.1")
	put(t, 0o644, "", dir, "empty.so")
	if err := os.Symlink("/usr/bin/python3", filepath.Join(dir, "link.so")); err != nil {
		t.Fatal(err)
	}
	l := &libraries{loader: loader, known: map[string]bool{}}
	l.scan(dir)
	l.scan(filepath.Join(dir, "none"))
	if len(l.files) != 0 {
		t.Errorf("found %q", l.files)
	}
	python, err := os.ReadFile("/usr/bin/python3")
	if err != nil {
		t.Fatal(err)
	}
	put(t, 0o644, string(python), dir, "deep", "native.cpython-311.so")
	l.scan(dir)
	for _, lib := range loads(t, "/usr/bin/python3") {
		if !slices.Contains(l.files, lib) {
			t.Errorf("%s is missing of %q", lib, l.files)
		}
	}
}
