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
	"regexp"
	"slices"
	"strconv"
	"strings"
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
	Runtime string // the ELF file that holds _PyRuntime
	Boot    []byte // marshalled code object of the hook
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

// versionSpec is how a version is named instead of a path.
var versionSpec = regexp.MustCompile(`^3\.\d{1,2}(\.\d{1,2})?$`)

// Find resolves what a user calls an interpreter: nothing (python3 on the
// search path), a version, or a path. Version managers put shell scripts on the
// path that choose an interpreter at every start; those are seen through, for
// they cost more than the interpreter.
func Find(spec, path string) (string, error) {
	switch {
	case strings.ContainsRune(spec, filepath.Separator):
		return executable(spec)
	case spec == "":
		return onPath("python3", path)
	case versionSpec.MatchString(spec):
		return byVersion(spec, path)
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
func byVersion(version, path string) (string, error) {
	parts := strings.Split(version, ".")
	if len(parts) == 2 {
		if exe, err := onPath("python"+version, path); err == nil {
			return exe, nil
		}
	}
	var best string
	var bestPatch int
	entries, _ := os.ReadDir(filepath.Join(pyenvRoot(), "versions"))
	for _, e := range entries {
		p := strings.Split(e.Name(), ".")
		if len(p) != 3 || !slices.Equal(p[:len(parts)], parts) {
			continue
		}
		patch, err := strconv.Atoi(p[2])
		if err == nil && (best == "" || patch > bestPatch) {
			best, bestPatch = e.Name(), patch
		}
	}
	if best == "" {
		return "", fmt.Errorf("python %s: not on the search path, and pyenv has none: %w", version, ErrNotFound)
	}
	return executable(filepath.Join(pyenvRoot(), "versions", best, "bin", "python3"))
}

func pyenvRoot() string {
	if root := os.Getenv("PYENV_ROOT"); root != "" {
		return root
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".pyenv")
}

// executable checks a file and sees through a pyenv shim.
func executable(file string) (string, error) {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return "", fmt.Errorf("%s: %w: %w", file, ErrNotExecutable, err)
		}
		return "", fmt.Errorf("%s: %w: %w", file, ErrNotFound, err)
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", fmt.Errorf("%s: %w: %w", file, ErrNotFound, err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%s: %w: mode %s", file, ErrNotExecutable, info.Mode())
	}
	magic := make([]byte, 4)
	f, err := os.Open(real)
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
	if shims := filepath.Join(pyenvRoot(), "shims"); filepath.Dir(abs) == shims {
		return shimTarget(filepath.Base(abs))
	}
	return "", fmt.Errorf("%s: %w: it is no ELF program", file, ErrNotExecutable)
}

// shimTarget is what the pyenv shim of that name would start, by pyenv's own
// rules: PYENV_VERSION, else the global version file.
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
	}
	return "", fmt.Errorf("pyenv shim %s: %w: no version is selected", name, ErrNotFound)
}
