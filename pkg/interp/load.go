package interp

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"

	"github.com/sbxproject/sbx/pkg/pyhook"
	"github.com/sbxproject/sbx/pkg/pystack"
)

//go:embed probe.py
var probeSource string

// maxAnswer bounds what a probe may print.
const maxAnswer = 16 << 20

// minMinor is the oldest supported CPython: 3.8 brought audit hooks (PEP 578).
const minMinor = 8

// answer is what probe.py prints.
type answer struct {
	Version        string   `json:"version"`
	Implementation string   `json:"implementation"`
	Prefix         string   `json:"prefix"`
	ExecPrefix     string   `json:"exec_prefix"`
	Stdlib         string   `json:"stdlib"`
	StdPath        []string `json:"std_path"`
	SitePackages   []string `json:"site_packages"`
	Extensions     []string `json:"extensions"`
	Shared         bool     `json:"shared"`
	Boot           string   `json:"boot"`
}

// Load returns what is known of an interpreter: from the cache in cacheDir
// while neither the interpreter nor sbx's hook has changed, else by asking it.
// An empty cacheDir means no cache.
func Load(exe, cacheDir string) (*Interpreter, error) {
	real, err := filepath.EvalSymlinks(exe)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", exe, ErrNotFound, err)
	}
	key, err := cacheKey(exe, real, pyhook.Source())
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", exe, ErrNotFound, err)
	}
	cache := openCache(cacheDir, key)
	if in := cache.read(); in != nil {
		return in, nil
	}
	in, err := probe(exe, real)
	if err != nil {
		return nil, err
	}
	cache.write(in)
	return in, nil
}

// probe asks the interpreter.
func probe(exe, real string) (*Interpreter, error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-I", "-S", "-B", "-c", probeSource)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}
	cmd.Stdin = bytes.NewReader(pyhook.Source())
	cmd.Dir = "/"
	cmd.WaitDelay = probeTime
	var stderr bytes.Buffer
	cmd.Stderr = &limitedBuffer{buf: &stderr, left: 4096}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", exe, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", exe, ErrNotExecutable, err)
	}
	out, err := io.ReadAll(io.LimitReader(stdout, maxAnswer))
	if len(out) == maxAnswer {
		cancel() // or it would be waited for: it goes on writing
		_ = cmd.Wait()
		return nil, fmt.Errorf("%s: %w: its answer has no end", exe, ErrUnsupported)
	}
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("%s: %w: it does not run: %w: %s", exe, ErrUnsupported, err, firstLine(stderr.Bytes()))
	}
	return interpret(exe, real, out)
}

// maxLine bounds what is repeated of an interpreter's own words.
const maxLine = 200

func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
	if len(line) > maxLine {
		line = append(line[:maxLine:maxLine], "..."...)
	}
	return string(line)
}

// interpret turns a probe's answer into an Interpreter.
func interpret(exe, real string, out []byte) (*Interpreter, error) {
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		return nil, fmt.Errorf("%s: %w: its answer is not understood: %w", exe, ErrUnsupported, err)
	}
	in := &Interpreter{
		Path: real, Version: a.Version, Implementation: a.Implementation,
		Prefix: a.Prefix, ExecPrefix: a.ExecPrefix, Stdlib: a.Stdlib,
		StdPath: a.StdPath, SitePackages: a.SitePackages,
	}
	if n, err := fmt.Sscanf(a.Version, "%d.%d.", &in.Major, &in.Minor); n != 2 {
		return nil, fmt.Errorf("%s: %w: version %q: %w", exe, ErrUnsupported, a.Version, err)
	}
	if in.Major != 3 || in.Minor < minMinor {
		return nil, fmt.Errorf("%s: %w: it is Python %s, and sbx needs 3.%d or later", exe, ErrUnsupported, a.Version, minMinor)
	}
	if a.Implementation != "cpython" {
		return nil, fmt.Errorf("%s: %w: it is %s, and sbx needs CPython", exe, ErrUnsupported, a.Implementation)
	}
	var err error
	if in.Boot, err = hex.DecodeString(a.Boot); err != nil {
		return nil, fmt.Errorf("%s: %w: its marshalled hook: %w", exe, ErrUnsupported, err)
	}
	if err := closure(in, exe, a.Extensions); err != nil {
		return nil, err
	}
	// Without it the stacks of a run cannot be read, which its report will say.
	in.Image, _ = pystack.Locate(in.Runtime)
	return in, nil
}

// limitedBuffer keeps the first bytes and takes the rest.
type limitedBuffer struct {
	buf  *bytes.Buffer
	left int
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	n := min(l.left, len(p))
	l.buf.Write(p[:n])
	l.left -= n
	return len(p), nil
}
