// Package interp finds a Python interpreter and learns, once, what of the host
// it needs to run: its libraries, its standard library, its packages.
//
// The answers come from the interpreter itself and from its own loader, not
// from guesses about distributions; they are cached, because asking costs more
// than a run. The package never runs code of installed packages, and decides
// nothing about what a script may do.
package interp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sbxproject/sbx/pkg/pystack"
)

// What can be wrong with an interpreter.
var (
	ErrNotFound      = errors.New("no such interpreter")
	ErrNotExecutable = errors.New("interpreter cannot be executed")
	ErrUnsupported   = errors.New("interpreter is not supported")
)

// Interpreter is what is known of one interpreter.
type Interpreter struct {
	Path           string // the real executable: absolute, links resolved
	Version        string // 3.11.2
	Major, Minor   int
	Implementation string // cpython
	Prefix         string
	ExecPrefix     string
	Stdlib         string
	StdPath        []string // sys.path of an isolated start without site
	SitePackages   []string // existing directories of installed packages
	Mounts         []Mount  // what it needs, parents first
	SiteMounts     []Mount  // what SitePackages need in addition
	Symlinks       []Symlink
	SiteSymlinks   []Symlink
	// Hide are directories of packages that lie inside Mounts: to be covered
	// where packages are not wanted.
	Hide    []string
	Runtime string        // the ELF file that holds _PyRuntime
	Image   pystack.Image // where in that file; zero where it does not say
	Boot    []byte        // marshalled code object of the hook
}

// Mount is a file or directory of the host that the jail shows, read-only, at
// the same path.
type Mount struct {
	Source, Target string
	Dir            bool
}

// Symlink is a symbolic link that must exist for the paths to resolve as they
// do on the host.
type Symlink struct{ Path, Target string }

// version reads how a version is named instead of a path: 3.11 or 3.11.2.
func version(spec string) (parts []int, ok bool) {
	for part := range strings.SplitSeq(spec, ".") {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil {
			return nil, false
		}
		parts = append(parts, int(n))
	}
	return parts, len(parts) == 2 || len(parts) == 3
}

// Find resolves what a user calls an interpreter: nothing (python3 on the
// search path), a version, or a path. Version managers put shell scripts on the
// path that choose an interpreter at every start; those are seen through, for
// they cost more than the interpreter.
func Find(spec, path string) (string, error) {
	if strings.ContainsRune(spec, filepath.Separator) {
		return executable(spec)
	}
	if spec == "" {
		return onPath("python3", path)
	}
	if parts, ok := version(spec); ok {
		return byVersion(spec, parts, path)
	}
	return onPath(spec, path)
}

// onPath looks for name in the directories of path.
func onPath(name, path string) (string, error) {
	found := fmt.Errorf("%s: not on the search path: %w", name, ErrNotFound)
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // a relative entry depends on where sbx was started
		}
		file := filepath.Join(dir, name)
		if _, err := os.Stat(file); err != nil {
			continue
		}
		exe, err := executable(file)
		if err == nil {
			return exe, nil
		}
		found = err
	}
	return "", found
}

// byVersion looks for pythonX.Y on the path, then among pyenv's versions.
func byVersion(spec string, parts []int, path string) (string, error) {
	err := fmt.Errorf("python %s: not on the search path, and pyenv has none: %w", spec, ErrNotFound)
	if len(parts) == 2 {
		exe, perr := onPath("python"+spec, path)
		if perr == nil {
			return exe, nil
		}
		if !errors.Is(perr, ErrNotFound) {
			err = perr // there is one, and something is wrong with it
		}
	}
	if best := newest(parts); best != "" {
		return executable(filepath.Join(pyenvRoot(), "versions", best, "bin", fmt.Sprintf("python%d", parts[0])))
	}
	return "", err
}

// newest is the newest of pyenv's versions that begins with these numbers.
func newest(parts []int) string {
	var best string
	var bestParts []int
	root := pyenvRoot()
	if root == "" {
		return ""
	}
	entries, _ := os.ReadDir(filepath.Join(root, "versions"))
	for _, e := range entries {
		p, ok := version(e.Name())
		if !ok || len(p) != 3 || !slices.Equal(p[:len(parts)], parts) {
			continue
		}
		if best == "" || slices.Compare(p, bestParts) > 0 {
			best, bestParts = e.Name(), p
		}
	}
	return best
}

// pyenvRoot is "" where there is none; a relative one would depend on where sbx
// was started.
func pyenvRoot() string {
	root := os.Getenv("PYENV_ROOT")
	if home := os.Getenv("HOME"); root == "" && home != "" {
		root = filepath.Join(home, ".pyenv")
	}
	if !filepath.IsAbs(root) {
		return ""
	}
	return root
}

// executable checks a file and sees through a pyenv shim.
func executable(file string) (string, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return "", fmt.Errorf("%s: %w: %w", file, ErrNotExecutable, err)
		}
		return "", fmt.Errorf("%s: %w: %w", file, ErrNotFound, err)
	}
	// Only a regular file is opened: a FIFO would be waited for.
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%s: %w: mode %s", file, ErrNotExecutable, info.Mode())
	}
	magic := make([]byte, 4)
	f, err := os.Open(abs)
	if err != nil {
		return "", fmt.Errorf("%s: %w: %w", file, ErrNotExecutable, err)
	}
	_, err = f.Read(magic)
	f.Close()
	if err == nil && string(magic) == "\x7fELF" {
		// The name as given, not the resolved one: beside it may be the
		// pyvenv.cfg of a virtual environment.
		return abs, nil
	}
	if filepath.Dir(abs) == filepath.Join(pyenvRoot(), "shims") {
		return shimTarget(filepath.Base(abs))
	}
	return "", fmt.Errorf("%s: %w: it is no ELF program", file, ErrNotExecutable)
}

// shimTarget is what the pyenv shim of that name would start, by pyenv's own
// rules: PYENV_VERSION, else the global version file. The .python-version of a
// project is not asked: it may come with the program that is to be locked up.
func shimTarget(name string) (string, error) {
	versions := os.Getenv("PYENV_VERSION")
	if versions == "" {
		data, err := os.ReadFile(filepath.Join(pyenvRoot(), "version"))
		if err == nil {
			versions = string(data)
		}
	}
	for _, v := range strings.FieldsFunc(versions, func(r rune) bool { return r == ':' || r == '\n' || r == ' ' }) {
		file := filepath.Join(pyenvRoot(), "versions", v, "bin", name)
		if _, err := os.Stat(file); err == nil {
			return executable(file)
		}
		// pyenv takes 3.11 for its newest 3.11.
		if parts, ok := version(v); ok && len(parts) == 2 && newest(parts) != "" {
			return executable(filepath.Join(pyenvRoot(), "versions", newest(parts), "bin", name))
		}
	}
	return "", fmt.Errorf("pyenv shim %s: %w: no version is selected", name, ErrNotFound)
}
