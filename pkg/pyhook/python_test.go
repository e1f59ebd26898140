package pyhook

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/profile"
)

// A python is one interpreter to test with.
type python struct {
	exe     string
	version string
	minor   int
	prefix  string
	path    []string // sys.path[1:] with site
	code    []byte   // Source, as BootFile takes it
}

const probe = `
import sys, marshal, json
source = sys.stdin.buffer.read()
code, small = [marshal.dumps(compile(s, sys.argv[1], 'exec', dont_inherit=True, optimize=2)) for s in (source, source.partition(b'\f')[0])]
code += small + len(small).to_bytes(4, 'little')
print(json.dumps({'version': sys.version.split()[0], 'major': sys.version_info[0], 'minor': sys.version_info[1],
    'prefix': sys.prefix, 'path': sys.path[1:], 'exe': sys.executable, 'code': code.hex()}))
`

var pythons = sync.OnceValues(func() ([]python, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	candidates, err := filepath.Glob(filepath.Join(home, ".pyenv/versions/*/bin/python3"))
	if err != nil {
		return nil, err
	}
	candidates = append(candidates, "/usr/bin/python3")
	for _, name := range []string{"python3", "python3.8", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14"} {
		if exe, err := exec.LookPath(name); err == nil {
			candidates = append(candidates, exe)
		}
	}
	var found []python
	for _, exe := range candidates {
		cmd := exec.Command(exe, "-c", probe, Filename)
		cmd.Stdin = bytes.NewReader(Source())
		out, err := cmd.Output()
		if err != nil {
			continue // not there, or older than the hook's syntax
		}
		var p struct {
			Version, Prefix, Exe, Code string
			Major, Minor               int
			Path                       []string
		}
		if err := json.Unmarshal(out, &p); err != nil {
			return nil, err
		}
		if p.Major != 3 || p.Minor < 8 || slices.ContainsFunc(found, func(o python) bool { return o.version == p.Version }) {
			continue
		}
		code := make([]byte, len(p.Code)/2)
		for i := range code {
			code[i] = unhex(p.Code[2*i])<<4 | unhex(p.Code[2*i+1])
		}
		found = append(found, python{p.Exe, p.Version, p.Minor, p.Prefix, p.Path, code})
	}
	slices.SortFunc(found, func(a, b python) int { return cmp.Compare(a.minor, b.minor) })
	if len(found) == 0 {
		return nil, errors.New("no interpreter of Python 3.8 or later found")
	}
	return found, nil
})

func unhex(c byte) byte { return byte(strings.IndexByte("0123456789abcdef", c)) }

// eachPython runs f for every interpreter of the machine.
func eachPython(t *testing.T, f func(*testing.T, python)) {
	t.Helper()
	all, err := pythons()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		t.Run(p.version, func(t *testing.T) { f(t, p) })
	}
}

// An outcome is what can be seen of a run from outside.
type outcome struct {
	stdout, stderr string
	state          string // exit status or signal
	events         []event.Event
	stats          Stats
	raw            int // bytes of the event stream
}

// workdir returns a fresh directory with a copy of testdata.
func workdir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (p python) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), p.exe, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/nonexistent", "TMPDIR=" + t.TempDir()}
	cmd.Dir = t.TempDir()
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

func finish(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{stdout: out.String(), stderr: errs.String(), state: cmd.ProcessState.String()}
}

// native runs a script without sbx.
func (p python) native(t *testing.T, script string, args ...string) outcome {
	t.Helper()
	return finish(t, p.command(t, append([]string{"-B", script}, args...)...))
}

// policy is a configuration that permits nothing, for the given script.
func (p python) policy(mode profile.HookMode, script string, args ...string) Config {
	return Config{
		Mode: mode, EventFD: EventFD, Script: script, Args: args, SysPath: p.path, FastExit: true,
		Roots: []string{p.prefix + "/lib", "/usr/lib/python3"}, Exe: p.exe,
	}
}

// hooked runs a script under the hook, with a plain pipe and no jail.
func (p python) hooked(t *testing.T, c Config, adjust ...func(*exec.Cmd)) outcome {
	t.Helper()
	boot, err := BootFile(p.code, c)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.CreateTemp(t.TempDir(), "boot")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(boot); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := p.command(t, "-I", "-S", "-B", "-c", Command)
	cmd.ExtraFiles = make([]*os.File, BootFD-2)
	cmd.ExtraFiles[EventFD-3], cmd.ExtraFiles[BootFD-3] = w, file
	for _, f := range adjust {
		f(cmd)
	}
	var events []event.Event
	d := NewDecoder(func(e event.Event) { events = append(events, e) })
	raw := make(chan int)
	go func() {
		n, buf := 0, make([]byte, 64<<10)
		for {
			k, err := r.Read(buf)
			d.Feed(buf[:k])
			n += k
			if err != nil {
				raw <- n
				return
			}
		}
	}()
	done := make(chan struct{})
	go func() {
		// The read ends when the last writer is gone, this copy included.
		<-done
		w.Close()
	}()
	o := finish(t, cmd)
	close(done)
	o.raw = <-raw
	o.events, o.stats = events, d.Stats()
	return o
}
