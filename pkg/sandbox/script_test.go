package sandbox

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/jail"
)

// roomy is more than any test copies.
var roomy = treeLimits{bytes: 1 << 20, entries: 1000}

// tree makes files below a directory of the test: a name that ends in a slash is
// a directory, a text that begins with "-> " a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			mustDo(t, os.MkdirAll(file, 0o755))
			continue
		}
		mustDo(t, os.MkdirAll(filepath.Dir(file), 0o755))
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			mustDo(t, os.Symlink(strings.ReplaceAll(target, "DIR", dir), file))
			continue
		}
		mustDo(t, os.WriteFile(file, []byte(text), 0o644))
	}
	return dir
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// load loads a program that must be found.
func load(t *testing.T, script, workspace string, limits treeLimits) *program {
	t.Helper()
	p, err := loadProgram(script, workspace, nil, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// content reads what the jail would get of one of its files.
func content(t *testing.T, s jail.Source) string {
	t.Helper()
	f, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(data)) != s.Size {
		t.Errorf("%s has %d bytes, the jail was told %d", s.Path, len(data), s.Size)
	}
	return string(data)
}

// listing is what the jail gets, a line for each: "/sandbox/", "/sandbox/x=text",
// "/sandbox/l -> x".
func listing(t *testing.T, p *program) []string {
	t.Helper()
	var out []string
	for _, f := range p.Files {
		switch {
		case f.Dir:
			out = append(out, string(f.Path)+"/")
		case f.Link != nil:
			out = append(out, string(f.Path)+" -> "+string(f.Link))
		default:
			out = append(out, string(f.Path)+"="+content(t, f))
		}
	}
	return out
}

func wantListing(t *testing.T, p *program, want ...string) {
	t.Helper()
	if got := listing(t, p); !slices.Equal(got, want) {
		t.Errorf("the jail gets\n%q, want\n%q", got, want)
	}
}

// refusal is a load that must fail.
func refusal(t *testing.T, script, workspace string, limits treeLimits) *Error {
	t.Helper()
	p, err := loadProgram(script, workspace, strings.NewReader(""), limits)
	var own *Error
	if !errors.As(err, &own) {
		t.Fatalf("%q with workspace %q is %+v, error %v; want a refusal", script, workspace, p, err)
	}
	if own.Hint == "" {
		t.Errorf("%v: no hint", err)
	}
	return own
}

func TestScriptIsCopiedAsOneFile(t *testing.T) {
	dir := tree(t, map[string]string{"a.py": "print(1)\n", "other.py": "", "link": "-> a.py"})
	for name, in := range map[string]string{"a.py": "/sandbox/a.py", "link": "/sandbox/link"} {
		p := load(t, filepath.Join(dir, name), "", roomy)
		wantListing(t, p, in+"=print(1)\n")
		if p.Host != filepath.Join(dir, name) || p.Jail != in || p.SHA256 != hashOf("print(1)\n") {
			t.Errorf("the program is %+v", *p)
		}
		if mode := p.Files[0].Mode; mode != 0o444 {
			t.Errorf("its mode is %#o, want read-only", mode)
		}
	}
}

func TestScriptCanBeEmpty(t *testing.T) {
	dir := tree(t, map[string]string{"a.py": ""})
	p := load(t, filepath.Join(dir, "a.py"), "", roomy)
	wantListing(t, p, "/sandbox/a.py=")
	if p.SHA256 != hashOf("") {
		t.Errorf("its hash is %s", p.SHA256)
	}
}

func TestScriptFromStandardInput(t *testing.T) {
	p, err := loadProgram("-", "", strings.NewReader("print(1)"), roomy)
	if err != nil {
		t.Fatal(err)
	}
	wantListing(t, p, "/sandbox/stdin.py=print(1)")
	if p.Host != "<stdin>" || p.SHA256 != hashOf("print(1)") {
		t.Errorf("the program is %+v", *p)
	}
	broken := io.MultiReader(strings.NewReader("print("), errorReader{unix.EIO})
	if _, err := loadProgram("-", "", broken, roomy); !errors.Is(err, unix.EIO) {
		t.Errorf("an input that breaks off answers %v", err)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

func TestScriptOfTheLargestSize(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.py")
	for _, tt := range []struct {
		size int64
		want string // in the error
	}{{maxScript, ""}, {maxScript + 1, "larger than 16 MiB"}, {1 << 40, "larger than 16 MiB"}} {
		mustDo(t, os.WriteFile(file, nil, 0o600))
		mustDo(t, os.Truncate(file, tt.size))
		for _, workspace := range []string{"", filepath.Dir(file)} {
			p, err := loadProgram(file, workspace, nil, treeLimits{bytes: 1 << 41, entries: 10})
			if tt.want == "" {
				if err != nil {
					t.Errorf("%d bytes: %v", tt.size, err)
				} else {
					p.Close()
				}
				continue
			}
			var own *Error
			if !errors.As(err, &own) || own.Exit != 126 || !strings.Contains(own.Error(), tt.want) || !strings.Contains(own.Hint, "--workspace") {
				t.Errorf("%d bytes, workspace %q: the error is %v", tt.size, workspace, err)
			}
		}
	}
	if _, err := loadProgram("-", "", zeros{}, roomy); err == nil || !strings.Contains(err.Error(), "<stdin>: it is larger") {
		t.Errorf("an input without an end answers %v", err)
	}
}

func TestDirectoryRunsItsMain(t *testing.T) {
	dir := tree(t, map[string]string{
		"app/__main__.py": "import lib", "app/lib/__init__.py": "x = 1", "app/empty/": "", "app/abs": "-> /etc/passwd",
		"app/out": "-> ../../outside", "app/in": "-> lib", "outside": "secret",
	})
	p := load(t, filepath.Join(dir, "app"), "", roomy)
	wantListing(t, p, "/sandbox/app/", "/sandbox/app/__main__.py=import lib", "/sandbox/app/abs -> /etc/passwd", "/sandbox/app/empty/",
		"/sandbox/app/in -> lib", "/sandbox/app/lib/", "/sandbox/app/lib/__init__.py=x = 1", "/sandbox/app/out -> ../../outside")
	if p.Jail != "/sandbox/app" || p.SHA256 != hashOf("import lib") {
		t.Errorf("the program is %+v", *p)
	}
}

func TestDirectoryIsNamedAsItIsWhereverOneStands(t *testing.T) {
	dir := tree(t, map[string]string{"app/__main__.py": ""})
	t.Chdir(filepath.Join(dir, "app"))
	if p := load(t, ".", "", roomy); p.Jail != "/sandbox/app" {
		t.Errorf("it is %s in the jail", p.Jail)
	}
}

func TestDirectoryThatCannotRun(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		make  func(dir string) error
		want  string
	}{
		{"no __main__.py", map[string]string{"app/module.py": ""}, nil, "__main__.py: no such file or directory"},
		{"__main__.py is a directory", map[string]string{"app/__main__.py/": ""}, nil, "__main__.py: it is a directory, not a regular file"},
		{"__main__.py is a FIFO", map[string]string{"app/": ""}, func(dir string) error { return unix.Mkfifo(dir+"/app/__main__.py", 0o644) }, "__main__.py: it is a FIFO, not a regular file"},
		{"__main__.py leads out", map[string]string{"app/__main__.py": "-> ../real.py", "real.py": "secret"}, nil, "__main__.py: path escapes"},
		{"__main__.py leads out, absolutely", map[string]string{"app/__main__.py": "-> DIR/real.py", "real.py": "secret"}, nil, "__main__.py: path escapes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := tree(t, tt.files)
			if tt.make != nil {
				mustDo(t, tt.make(dir))
			}
			err := refusal(t, filepath.Join(dir, "app"), "", roomy)
			if err.Exit != 126 || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Hint, "--workspace") {
				t.Errorf("the error is %q (exit status %d), want %q", err, err.Exit, tt.want)
			}
		})
	}
}

// TestMainIsTheBytesThatWereHashed, whatever its file has become meanwhile, and
// by whichever of its names.
func TestMainIsTheBytesThatWereHashed(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		real  string
	}{
		{"a file", map[string]string{"app/__main__.py": "first"}, "app/__main__.py"},
		{"a link in the directory", map[string]string{"app/__main__.py": "-> lib/real.py", "app/lib/real.py": "first"}, "app/lib/real.py"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := tree(t, tt.files)
			p := load(t, filepath.Join(dir, "app"), "", roomy)
			mustDo(t, os.WriteFile(filepath.Join(dir, tt.real), []byte("other"), 0o600))
			if got := listing(t, p); !slices.Contains(got, "/sandbox/"+tt.real+"=first") || p.SHA256 != hashOf("first") {
				t.Errorf("the jail gets %q, the hash is %s", got, p.SHA256)
			}
		})
	}
}

func TestWorkspaceIsCopiedWithTheScriptInIt(t *testing.T) {
	dir := tree(t, map[string]string{
		"w/main.py": "main", "w/data/in.txt": "data", "w/pkg/__main__.py": "package", "w/inner": "-> data/run.py", "w/data/run.py": "run",
		"w/outward": "-> ../out.py", "out.py": "out", "inward": "-> w/main.py", "again": "-> w", "w/dir": "-> pkg",
	})
	whole := []string{
		"/workspace/", "/workspace/data/", "/workspace/data/in.txt=data", "/workspace/data/run.py=run", "/workspace/dir -> pkg",
		"/workspace/inner -> data/run.py", "/workspace/main.py=main", "/workspace/outward -> ../out.py",
		"/workspace/pkg/", "/workspace/pkg/__main__.py=package",
	}
	tests := []struct {
		name, script, workspace string
		jail, main              string
		before                  []string // what the jail gets before the workspace
	}{
		{"in it", "w/main.py", "w", "/workspace/main.py", "main", nil},
		{"below", "w/data/run.py", "w", "/workspace/data/run.py", "run", nil},
		{"by a path with dots", "w/data/../main.py", "w/", "/workspace/main.py", "main", nil},
		{"a directory in it", "w/pkg", "w", "/workspace/pkg", "package", nil},
		{"a link to a directory in it", "w/dir", "w", "/workspace/pkg", "package", nil},
		{"a link in it to a file in it", "w/inner", "w", "/workspace/data/run.py", "run", nil},
		{"a link from outside", "inward", "w", "/workspace/main.py", "main", nil},
		{"a workspace that is a link", "w/main.py", "again", "/workspace/main.py", "main", nil},
		{"outside", "out.py", "w", "/sandbox/out.py", "out", []string{"/sandbox/out.py=out"}},
		{"a link that leads out", "w/outward", "w", "/sandbox/outward", "out", []string{"/sandbox/outward=out"}},
	}
	for _, tt := range tests {
		for _, from := range []string{"absolute", "relative"} {
			t.Run(tt.name+", "+from, func(t *testing.T) {
				script, workspace := tt.script, tt.workspace
				if from == "absolute" {
					script, workspace = dir+"/"+script, dir+"/"+workspace
				} else {
					t.Chdir(dir)
				}
				p := load(t, script, workspace, roomy)
				wantListing(t, p, append(tt.before, whole...)...)
				if p.Host != script || p.Jail != tt.jail || p.SHA256 != hashOf(tt.main) {
					t.Errorf("the program is %s, hash %s; want %s, %s", p.Jail, p.SHA256, tt.jail, hashOf(tt.main))
				}
			})
		}
	}
}

func TestWorkspaceItselfCanBeTheProgram(t *testing.T) {
	dir := tree(t, map[string]string{"__main__.py": "main"})
	p := load(t, dir, dir, roomy)
	wantListing(t, p, "/workspace/", "/workspace/__main__.py=main")
	if p.Jail != "/workspace" || p.SHA256 != hashOf("main") {
		t.Errorf("the program is %+v", *p)
	}
}

func TestDirectoryBesideAWorkspace(t *testing.T) {
	dir := tree(t, map[string]string{"app/__main__.py": "app", "app/lib.py": "lib", "w/data": "data"})
	mustDo(t, unix.Mkfifo(dir+"/app/fifo", 0o644))
	mustDo(t, unix.Mkfifo(dir+"/w/fifo", 0o644))
	p := load(t, dir+"/app", dir+"/w", roomy)
	wantListing(t, p, "/sandbox/app/", "/sandbox/app/__main__.py=app", "/sandbox/app/lib.py=lib", "/workspace/", "/workspace/data=data")
	if p.Jail != "/sandbox/app" || p.SHA256 != hashOf("app") {
		t.Errorf("the program is %+v", *p)
	}
	if want := []string{"fifo", "fifo"}; !slices.Equal(p.Skipped, want) {
		t.Errorf("%q were left out, want %q", p.Skipped, want)
	}
	p.Close()
	for _, f := range p.Files {
		if f.Open != nil && path.Base(string(f.Path)) != "__main__.py" {
			if _, err := f.Open(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("%s can be opened after Close: %v", f.Path, err)
			}
		}
	}
}

func TestNoSuchScript(t *testing.T) {
	dir := tree(t, map[string]string{
		"w/a.py": "", "w/loop": "-> loop", "w/dangling": "-> nowhere", "w/empty/": "", "locked/a.py": "", "w/unreadable.py": "",
	})
	mustDo(t, os.Chmod(dir+"/w/unreadable.py", 0))
	tests := []struct {
		name, script, workspace string
		exit                    int
		want, hint              string
		notRoot                 bool
	}{
		{"a missing file", "none.py", "", 127, "no such file", "check the path", false},
		{"a file as folder", "w/a.py/x", "", 126, "not a directory", "regular file", false},
		{"a link to nothing", "w/dangling", "", 127, "no such file", "check the path", false},
		{"a link to itself", "w/loop", "", 126, "too many", "regular file", false},
		{"a name with a NUL byte", "a\x00b.py", "", 126, "invalid argument", "regular file", false},
		{"unreadable", "w/unreadable.py", "", 126, "permission denied", "chmod +r", true},
		{"a missing file in a workspace", "w/none.py", "w", 127, "no such file", "check the path", false},
		{"a link to nothing in a workspace", "w/dangling", "w", 127, "no such file", "check the path", false},
		{"a link to itself in a workspace", "w/loop", "w", 126, "too many", "regular file", false},
		{"a folder without __main__.py in a workspace", "w/empty", "w", 127, "__main__.py", "check the path", false},
		{"unreadable in a workspace", "w/unreadable.py", "w", 126, "permission denied", "chmod +r", true},
		{"a missing workspace", "w/a.py", "none", 0, "no such file", "existing directory", false},
		{"a workspace that is a file", "w/a.py", "w/a.py", 0, "not a directory", "existing directory", false},
		{"a script from standard input in a workspace", "-", "w", 0, "together with a workspace", "into the workspace", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.notRoot && os.Geteuid() == 0 {
				t.Skip("root reads everything")
			}
			t.Chdir(dir)
			err := refusal(t, tt.script, tt.workspace, roomy)
			if err.Exit != tt.exit || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Hint, tt.hint) {
				t.Errorf("the error is %q with exit status %d and the hint %q; want %q, %d, %q", err, err.Exit, err.Hint, tt.want, tt.exit, tt.hint)
			}
		})
	}
}

// TestSpecialFilesAreNeverRead: a FIFO would block, a device never ends. Nobody
// writes to the FIFO of this test: waiting for it would hang.
func TestSpecialFilesAreNeverRead(t *testing.T) {
	dir := tree(t, map[string]string{"a.py": "", "fifo.py": "-> fifo"})
	mustDo(t, unix.Mkfifo(dir+"/fifo", 0o644))
	t.Chdir(dir)
	listener, err := net.Listen("unix", "socket") // a relative name, for its length is bounded
	mustDo(t, err)
	defer listener.Close()
	tests := []struct{ name, script, workspace, want string }{
		{"a FIFO", "fifo", "", "it is a FIFO"},
		{"a link to a FIFO", "fifo.py", "", "it is a FIFO"},
		{"a FIFO in a workspace", "fifo", ".", "it is a FIFO"},
		{"a device", "/dev/zero", "", "it is a device"},
		{"a device beside a workspace", "/dev/null", ".", "it is a device"},
		{"a socket", "socket", "", "it is a socket"},
		{"a FIFO for a workspace", "a.py", "fifo", "not a directory"},
		{"a device for a workspace", "a.py", "/dev/zero", "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := refusal(t, tt.script, tt.workspace, roomy); !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %q, want %q", err, tt.want)
			}
		})
	}
	t.Run("beside the script", func(t *testing.T) {
		p := load(t, "a.py", ".", roomy)
		wantListing(t, p, "/workspace/", "/workspace/a.py=", "/workspace/fifo.py -> fifo")
		if want := []string{"fifo", "socket"}; !slices.Equal(p.Skipped, want) {
			t.Errorf("%q were left out, want %q", p.Skipped, want)
		}
	})
}

func TestDeviceInAWorkspaceIsLeftOut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes devices")
	}
	dir := tree(t, map[string]string{"a.py": ""})
	mustDo(t, unix.Mknod(dir+"/zero", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	p := load(t, dir+"/a.py", dir, roomy)
	if want := []string{"zero"}; !slices.Equal(p.Skipped, want) {
		t.Errorf("%q were left out, want %q", p.Skipped, want)
	}
	if err := refusal(t, dir+"/zero", dir, roomy); !strings.Contains(err.Error(), "it is a device") {
		t.Errorf("as the script it is %v", err)
	}
}

func TestTreeHasLimits(t *testing.T) {
	// Five entries with the folder itself, 30 bytes with the script.
	dir := tree(t, map[string]string{"__main__.py": "0123456789", "data/a": "0123456789", "data/b": "0123456789"})
	tests := []struct {
		name   string
		limits treeLimits
		fits   bool
	}{
		{"just fits", treeLimits{30, 5}, true},
		{"a byte too much", treeLimits{29, 5}, false},
		{"an entry too much", treeLimits{30, 4}, false},
		{"half of it", treeLimits{30, 2}, false},
		{"nothing fits", treeLimits{0, 0}, false},
	}
	for _, tt := range tests {
		for name, workspace := range map[string]string{"a directory": "", "a workspace": dir} {
			t.Run(tt.name+", "+name, func(t *testing.T) {
				if tt.fits {
					if p := load(t, dir, workspace, tt.limits); len(p.Files) != 5 {
						t.Errorf("%d entries, want 5", len(p.Files))
					}
					return
				}
				err := refusal(t, dir, workspace, tt.limits)
				if !strings.Contains(err.Error(), "more than") || !strings.Contains(err.Hint, "--tmp-size") {
					t.Errorf("the error is %q with the hint %q", err, err.Hint)
				}
			})
		}
	}
}

// TestHugeSparseFileIsTooLarge by its size, not by what it occupies.
func TestHugeSparseFileIsTooLarge(t *testing.T) {
	dir := tree(t, map[string]string{"__main__.py": "", "hole": ""})
	mustDo(t, os.Truncate(dir+"/hole", 1<<40))
	if err := refusal(t, dir, "", roomy); !strings.Contains(err.Error(), "more than 1 MiB") {
		t.Errorf("the error is %q", err)
	}
}

func TestModesOfACopy(t *testing.T) {
	dir := tree(t, map[string]string{"__main__.py": "", "tool": "", "secret": "", "sub/": ""})
	for name, mode := range map[string]fs.FileMode{"tool": 0o755 | fs.ModeSetuid, "secret": 0o400, "sub": 0o700 | fs.ModeSticky} {
		mustDo(t, os.Chmod(filepath.Join(dir, name), mode))
	}
	p := load(t, dir+"/__main__.py", dir, roomy)
	want := map[string]uint32{"/workspace": 0o755, "/workspace/__main__.py": 0o644, "/workspace/tool": 0o755, "/workspace/secret": 0o600, "/workspace/sub": 0o755}
	for _, f := range p.Files {
		if f.Mode != want[string(f.Path)] {
			t.Errorf("%s has the mode %#o, want %#o", f.Path, f.Mode, want[string(f.Path)])
		}
	}
}

// TestNamesThatAreNotUTF8 are names as any other, of files, links and folders.
func TestNamesThatAreNotUTF8(t *testing.T) {
	dir := tree(t, map[string]string{"__main__.py": "", "caf\xe9.txt": "data", "d\xffr/x": "below", "link\xfe": "-> d\xffr/\xff", "new\nline": ""})
	p := load(t, dir+"/__main__.py", dir, roomy)
	wantListing(t, p, "/workspace/", "/workspace/__main__.py=", "/workspace/caf\xe9.txt=data", "/workspace/d\xffr/", "/workspace/d\xffr/x=below",
		"/workspace/link\xfe -> d\xffr/\xff", "/workspace/new\nline=")

	p = load(t, dir+"/caf\xe9.txt", dir, roomy)
	if p.Jail != "/workspace/caf\xe9.txt" || p.SHA256 != hashOf("data") {
		t.Errorf("as the script it is %+v", *p)
	}
	if p = load(t, dir+"/caf\xe9.txt", "", roomy); p.Jail != "/sandbox/script.py" {
		t.Errorf("as a script alone it is %q", p.Jail)
	}
}

// deepTree makes a directory with a __main__.py and so many levels below it.
func deepTree(t *testing.T, levels int) string {
	t.Helper()
	dir := t.TempDir()
	mustDo(t, os.WriteFile(dir+"/__main__.py", nil, 0o600))
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for range levels {
		mustDo(t, err)
		mustDo(t, unix.Mkdirat(fd, "deep", 0o755))
		below, oerr := unix.Openat(fd, "deep", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		fd, err = below, oerr
	}
	mustDo(t, err)
	unix.Close(fd)
	return dir
}

func TestDeepTreeNeedsNoDescriptorPerLevel(t *testing.T) {
	dir := deepTree(t, 200)
	var limit unix.Rlimit
	mustDo(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	mustDo(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 100, Max: limit.Max}))
	p, err := loadProgram(dir, "", nil, roomy)
	mustDo(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	mustDo(t, err)
	defer p.Close()
	if len(p.Files) != 202 {
		t.Errorf("%d entries, want 202", len(p.Files))
	}
}

// TestTreeThatIsTooDeepForItsPaths could be listed, but nobody in the jail could
// name what is at its bottom.
func TestTreeThatIsTooDeepForItsPaths(t *testing.T) {
	dir := deepTree(t, unix.PathMax/len("deep/"))
	if err := refusal(t, dir, "", treeLimits{1 << 20, 1 << 20}); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("the error is %v", err)
	}
}

// TestFileThatChangedAfterItWasListed is never taken for what it was.
func TestFileThatChangedAfterItWasListed(t *testing.T) {
	replace := func(text string) func(name string) error {
		return func(name string) error { return os.WriteFile(name, []byte(text), 0o600) }
	}
	swap := func(make func(name string) error) func(name string) error {
		return func(name string) error { return errors.Join(os.Remove(name), make(name)) }
	}
	tests := []struct {
		name   string
		change func(name string) error
		want   error // nil is any
	}{
		{"longer", replace("longer than it was"), jail.ErrChanged},
		{"shorter", replace("x"), jail.ErrChanged},
		{"removed", os.Remove, fs.ErrNotExist},
		{"another file of the same size", func(name string) error {
			return errors.Join(os.WriteFile(name+".new", []byte("other"), 0o600), os.Rename(name+".new", name))
		}, jail.ErrChanged},
		{"a directory", swap(func(name string) error { return os.Mkdir(name, 0o755) }), jail.ErrChanged},
		{"a FIFO", swap(func(name string) error { return unix.Mkfifo(name, 0o600) }), jail.ErrChanged},
		{"a link out", swap(func(name string) error { return os.Symlink("/etc/passwd", name) }), nil},
		{"a relative link out", swap(func(name string) error { return os.Symlink("../../secret", name) }), nil},
		{"a link within", swap(func(name string) error { return os.Symlink("../other", name) }), jail.ErrChanged},
		{"its folder a link out", func(name string) error {
			dir := filepath.Dir(name)
			return errors.Join(os.Rename(dir, dir+".old"), os.Symlink("../secrets", dir))
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := tree(t, map[string]string{"w/__main__.py": "", "w/sub/file": "first", "w/other": "first", "secret": "first", "secrets/file": "first"})
			p := load(t, dir+"/w", "", roomy)
			i := slices.IndexFunc(p.Files, func(f jail.Source) bool { return string(f.Path) == "/sandbox/w/sub/file" })
			before := p.Files[i]
			mustDo(t, tt.change(dir+"/w/sub/file"))
			f, err := before.Open()
			if err == nil {
				defer f.Close()
				data, _ := io.ReadAll(f)
				t.Fatalf("it is opened, and reads %q", data)
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("the error is %v, want %v", err, tt.want)
			}
		})
	}
}

// encodings are sources, and whether checkEncoding refuses them. Those that it
// refuses Python refuses too; those that it lets pass may have other faults.
var encodings = []struct {
	name, source string
	line         int // that is refused; 0 is none
}{
	{"empty", "", 0},
	{"ASCII", "x = 1\n", 0},
	{"UTF-8", "x = 'café'\n", 0},
	{"UTF-8 with a BOM", "\ufeffx = 'café'\n", 0},
	{"UTF-8 with a BOM and a cookie", "\ufeff# coding: utf-8\nx = 'café'\n", 0},
	{"a BOM, then latin-1", "\ufeffx = 'caf\xe9'\n", 1},
	{"a BOM and a cookie that it contradicts", "\ufeff# coding: latin-1\nx = 'caf\xe9'\n", 2},
	{"latin-1 without a cookie", "x = 'caf\xe9'\n", 1},
	{"latin-1 in line 3", "x = 1\r\n\ny = 'caf\xe9'\n", 3},
	{"latin-1 in a comment", "x = 1 # caf\xe9", 1},
	{"a cookie in line 1", "# coding: latin-1\nx = 'caf\xe9'\n", 0},
	{"a cookie with an equals sign", "# coding=latin-1\nx = 'caf\xe9'\n", 0},
	{"a cookie as Emacs has it", "# -*- coding: latin-1 -*-\nx = 'caf\xe9'\n", 0},
	{"a cookie as vim has it", "# vim: set fileencoding=latin-1 :\nx = 'caf\xe9'\n", 0},
	{"a cookie after latin-1 in the same line", "# \xe9 coding: latin-1\nx = 1\n", 0},
	{"a cookie in line 2, after a comment", "#!/usr/bin/python\n# coding: latin-1\nx = 'caf\xe9'\n", 0},
	{"a cookie in line 2, after an empty line", "\n# coding: latin-1\nx = 'caf\xe9'\n", 0},
	{"a cookie in line 2, after blanks", " \t\f\n# coding: latin-1\nx = 'caf\xe9'\n", 0},
	{"a cookie in line 2, after code", "import os\n# coding: latin-1\nx = 'caf\xe9'\n", 3},
	{"a cookie in line 2, lines as on Windows", "# x\r\n# coding: latin-1\r\nx = 'caf\xe9'\r\n", 0},
	{"a cookie in line 3, lines as on Windows", "# x\r\n#\r\n# coding: latin-1\r\nx = 'caf\xe9'\r\n", 4},
	{"a cookie in line 2, lines ended by CR", "# x\r# coding: latin-1\rx = 'caf\xe9'\r", 0},
	{"a cookie in line 3", "#\n#\n# coding: latin-1\nx = 'caf\xe9'\n", 4},
	{"a cookie that is no comment", "coding: latin-1\nx = 'caf\xe9'\n", 2},
	{"a cookie with a blank before the colon", "# coding : latin-1\nx = 'caf\xe9'\n", 2},
	{"a cookie without a name", "# coding:\nx = 'caf\xe9'\n", 2},
	{"a cookie that is indented", " \t# coding: latin-1\nx = 'caf\xe9'\n", 0},
	{"UTF-16", "\xff\xfex\x00=\x001\x00", 1},
	{"a surrogate", "x = '\xed\xa0\x80'\n", 1},
	{"an overlong form", "# \xc0\x80\n", 1},
	{"cut off in the middle of a letter", "x = 1\n# caf\xc3", 2},
	{"NUL bytes", "x = 1\x00\n", 0}, // UTF-8; Python itself says what is wrong
	{"no zip file, though it begins so", "PK\x03\x04\xff\n", 1},
}

func TestCheckEncoding(t *testing.T) {
	for _, tt := range encodings {
		t.Run(tt.name, func(t *testing.T) {
			want := ""
			if tt.line > 0 {
				want = fmt.Sprintf("line %d is not UTF-8 and no encoding is declared", tt.line)
			}
			got := ""
			if err := checkEncoding([]byte(tt.source)); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("the answer to %q is %q, want %q", tt.source, got, want)
			}
		})
	}
}

func TestZipApplicationIsNoText(t *testing.T) {
	var archive bytes.Buffer
	archive.WriteString("#!/usr/bin/env python3\n")
	z := zip.NewWriter(&archive)
	z.SetOffset(int64(archive.Len()))
	f, err := z.Create("__main__.py")
	mustDo(t, err)
	_, err = f.Write([]byte("print(1)"))
	mustDo(t, errors.Join(err, z.Close()))
	if utf8.Valid(archive.Bytes()) {
		t.Fatal("the archive is UTF-8 by chance")
	}
	for name, data := range map[string][]byte{"plain": archive.Bytes()[bytes.IndexByte(archive.Bytes(), '\n')+1:], "with a line for the kernel": archive.Bytes()} {
		if err := checkEncoding(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestScriptThatPythonCouldNotDecodeIsRefused(t *testing.T) {
	dir := tree(t, map[string]string{"a.py": "x = 1\ny = 'caf\xe9'\n"})
	if err := refusal(t, dir+"/a.py", "", roomy); err.Exit != 126 || !strings.Contains(err.Error(), "line 2 is not UTF-8") || !strings.Contains(err.Hint, "coding: latin-1") {
		t.Errorf("the error is %q with exit status %d and the hint %q", err, err.Exit, err.Hint)
	}
}

// pythonRefuses asks the interpreter which sources it cannot compile or decode.
// compile() alone overlooks what is in a comment, which running a file does not.
func pythonRefuses(t *testing.T, sources [][]byte) []bool {
	t.Helper()
	const ask = `
import io, json, sys, tokenize, warnings
warnings.simplefilter("ignore")
out = []
for source in json.load(sys.stdin):
    try:
        source = bytes.fromhex(source)
        compile(source, "x", "exec")
        source.decode(tokenize.detect_encoding(io.BytesIO(source).readline)[0])
        out.append(False)
    except (SyntaxError, ValueError):
        out.append(True)
print(json.dumps(out))
`
	var texts []string
	for _, s := range sources {
		texts = append(texts, hex.EncodeToString(s))
	}
	in, err := json.Marshal(texts)
	mustDo(t, err)
	cmd := exec.CommandContext(t.Context(), "python3", "-I", "-S", "-c", ask)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), t.Output()
	answer, err := cmd.Output()
	mustDo(t, err)
	var out []bool
	mustDo(t, json.Unmarshal(answer, &out))
	return out
}

// TestWhatIsRefusedForItsEncodingPythonRefusesToo: a check before the start must
// not be stricter than what would have run.
func TestWhatIsRefusedForItsEncodingPythonRefusesToo(t *testing.T) {
	var sources [][]byte
	for _, e := range encodings {
		sources = append(sources, []byte(e.source))
	}
	// And everything that three lines can be made of.
	lines := []string{"", "#", "# coding: latin-1", "x = 1", "# \xe9", " \t# vim: fileencoding=latin-1", "\f"}
	for _, a := range lines {
		for _, b := range lines {
			for _, c := range lines {
				for _, end := range []string{"\n", "\r\n"} {
					sources = append(sources, []byte(strings.Join([]string{a, b, c, "y = '\xe9'", ""}, end)))
				}
			}
		}
	}
	refused := pythonRefuses(t, sources)
	for i, s := range sources {
		if err := checkEncoding(s); err != nil && !refused[i] {
			t.Errorf("%q is refused (%v), Python takes it", s, err)
		}
	}
}

func FuzzCheckEncoding(f *testing.F) {
	for _, e := range encodings {
		f.Add([]byte(e.source))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := checkEncoding(data)
		if err == nil {
			return
		}
		if utf8.Valid(data) {
			t.Fatalf("UTF-8 is refused: %v", err)
		}
		// The line that is named is the first that is wrong.
		var line int
		if _, serr := fmt.Sscanf(err.Error(), "line %d is not UTF-8", &line); serr != nil {
			t.Fatalf("no line in %q", err)
		}
		lines := bytes.SplitAfter(data, []byte("\n"))
		if line < 1 || line > len(lines) || utf8.Valid(lines[line-1]) || !utf8.Valid(bytes.Join(lines[:line-1], nil)) {
			t.Errorf("line %d is named of %q", line, data)
		}
		if checkEncoding(append([]byte("# coding: latin-1\n"), data...)) != nil {
			t.Errorf("a declared encoding is refused before %q", data)
		}
	})
}
