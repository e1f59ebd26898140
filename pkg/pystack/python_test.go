package pystack

import (
	"bufio"
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
)

// python is one interpreter to test with.
type python struct {
	Exe, Version, Library string
	Major, Minor          int
	file                  string // that holds _PyRuntime
	image                 Image
}

const probe = `
import sys, sysconfig, json, os
print(json.dumps({'Exe': sys.executable, 'Version': sys.version.split()[0], 'Major': sys.version_info[0], 'Minor': sys.version_info[1],
    'Library': os.path.join(sysconfig.get_config_var('LIBDIR') or '', sysconfig.get_config_var('INSTSONAME') or '')}))
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
	var found []python
	for _, exe := range candidates {
		out, err := exec.Command(exe, "-c", probe).Output()
		if err != nil {
			continue // not there, or not for this user
		}
		var p python
		if err := json.Unmarshal(out, &p); err != nil {
			return nil, err
		}
		if p.Major != 3 || p.Minor < 9 || slices.ContainsFunc(found, func(o python) bool { return o.Version == p.Version }) {
			continue
		}
		if p.file, err = filepath.EvalSymlinks(p.Exe); err != nil {
			return nil, err
		}
		if p.image, err = Locate(p.file); err != nil {
			p.file = p.Library
			if p.image, err = Locate(p.file); err != nil {
				return nil, err
			}
		}
		found = append(found, p)
	}
	slices.SortFunc(found, func(a, b python) int { return cmp.Compare(a.Minor, b.Minor) })
	if len(found) == 0 {
		return nil, errors.New("no interpreter of Python 3.9 or later found")
	}
	return found, nil
})

// eachPython runs f for every interpreter of the machine whose frames are read.
func eachPython(t *testing.T, f func(*testing.T, python)) {
	t.Helper()
	all, err := pythons()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		t.Run(p.Version, func(t *testing.T) { f(t, p) })
	}
}

// reader reads without having been shown a known stack.
func (p python) reader() *Reader {
	r := New(Options{Major: p.Major, Minor: p.Minor, File: p.file, Image: p.image, Own: "<sbx>", Boot: "main", Roots: []string{filepath.Dir(p.file) + "/nowhere"}})
	r.proven = true
	return r
}

// running is an interpreter that runs a script, says numbers and waits.
type running struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start runs a script file. The test reads what it says and lets it go on.
func (p python) start(t testing.TB, text string) *running {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script.py")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), p.Exe, "-I", "-S", "-B", file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said: %s", p.Version, stderr.Bytes())
		}
	})
	return &running{cmd, in, bufio.NewReader(out)}
}

// hear reads one line of numbers.
func (r *running) hear(t testing.TB) []int {
	t.Helper()
	line, err := r.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the script said %q: %v", line, err)
	}
	var out []int
	if err := json.Unmarshal([]byte("["+strings.Join(strings.Fields(line), ",")+"]"), &out); err != nil {
		t.Fatalf("the script said %q: %v", line, err)
	}
	return out
}

// waiting is the beginning of scripts whose threads are looked at: hold() says who
// it is and waits until the test ends.
const waiting = `import os, sys, threading, time
def hold():
    sys.stdout.write("%d\n" % threading.get_native_id()); sys.stdout.flush(); os.read(0, 1)
`
