package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/jail"
)

// maxScript bounds a script. The largest module of the standard library is a
// hundredth of it.
const maxScript = 16 << 20

// treeLimits bound the copy of a directory.
type treeLimits struct {
	bytes   int64
	entries int64
}

// program is what will run: where it comes from, and what the jail gets.
type program struct {
	Host    string // as the user named it
	Jail    string // in the jail
	SHA256  string // of the script, or of __main__.py
	Files   []jail.Source
	Skipped []string // entries of a directory that cannot be copied
	root    *os.Root // kept open until the files were sent
}

func (p *program) Close() {
	if p.root != nil {
		_ = p.root.Close()
	}
}

// loadProgram reads the script, or lists the directory that holds it. Nothing
// but a regular file is ever read: a FIFO would block, a device never ends.
func loadProgram(script, workspace string, stdin io.Reader, limits treeLimits) (*program, error) {
	if workspace != "" {
		return loadWorkspace(script, workspace, limits)
	}
	if script == "-" {
		data, err := io.ReadAll(io.LimitReader(stdin, maxScript+1))
		if err != nil {
			return nil, &Error{Op: "read script from standard input", Err: err}
		}
		return single("<stdin>", "stdin.py", data)
	}
	f, info, err := openScript(script)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.IsDir() {
		return loadDirectory(script, limits)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxScript+1))
	if err != nil {
		return nil, scriptError(script, err)
	}
	return single(script, jail.ScriptName(script), data)
}

// openScript opens a script without following it into anything that blocks.
func openScript(script string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(script, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, scriptError(script, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		err = fmt.Errorf("it is a %s, not a regular file", kindOf(info.Mode()))
	}
	if err != nil {
		f.Close()
		return nil, nil, scriptError(script, err)
	}
	return f, info, nil
}

func kindOf(m fs.FileMode) string {
	switch {
	case m&fs.ModeNamedPipe != 0:
		return "FIFO"
	case m&fs.ModeDevice != 0:
		return "device"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "special file"
}

func scriptError(script string, err error) error {
	e := &Error{Op: "read script", Path: script, Err: err, Exit: 126, Hint: "a script is a regular file, a directory with a __main__.py, or - for standard input"}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Exit, e.Hint = 127, "check the path; flags of sbx come before the script, its own arguments after it"
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "make it readable for the user who runs sbx (chmod +r)"
	}
	return e
}

func single(host, name string, data []byte) (*program, error) {
	if len(data) > maxScript {
		return nil, &Error{Op: "read script", Path: host, Exit: 126, Err: fmt.Errorf("it is larger than %d MiB", maxScript>>20), Hint: "pass data in files beside the script with --workspace, not inside it"}
	}
	if err := checkEncoding(data); err != nil {
		return nil, &Error{Op: "read script", Path: host, Exit: 126, Err: err, Hint: "save it as UTF-8, or declare its encoding in the first line: # -*- coding: latin-1 -*-"}
	}
	sum := sha256.Sum256(data)
	to := path.Join(jail.ScriptDir, name)
	return &program{Host: host, Jail: to, SHA256: hex.EncodeToString(sum[:]), Files: []jail.Source{jail.Bytes(to, 0o444, data)}}, nil
}

// coding is the declaration of PEP 263.
var coding = regexp.MustCompile(`^[ \t\f]*#.*?coding[:=][ \t]*[-_.a-zA-Z0-9]+`)

// checkEncoding refuses what Python would refuse, before anything is started.
func checkEncoding(data []byte) error {
	if utf8.Valid(data) || bytes.HasPrefix(data, []byte("PK\x03\x04")) { // a zip application
		return nil
	}
	rest := data
	for range 2 {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		if coding.Match(line) {
			return nil
		}
		rest = after
	}
	line := 1
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n <= 1 {
			break
		}
		if r == '\n' {
			line++
		}
		data = data[n:]
	}
	return fmt.Errorf("line %d is not UTF-8 and no encoding is declared", line)
}

// loadDirectory copies a directory with a __main__.py, as "python DIR" runs it.
func loadDirectory(dir string, limits treeLimits) (*program, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, scriptError(dir, err)
	}
	p := &program{Host: dir, root: root}
	sum, err := hashFile(root, "__main__.py")
	if err != nil {
		p.Close()
		return nil, &Error{
			Op: "run directory", Path: dir, Exit: 126, Err: fmt.Errorf("__main__.py: %w", errors.Unwrap(err)),
			Hint: "name the script itself and pass its folder with --workspace, or add a __main__.py",
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	p.SHA256, p.Jail = sum, path.Join(jail.ScriptDir, jail.ScriptName(abs))
	return p, p.copyTree(p.Jail, limits)
}

// loadWorkspace copies a folder; the script is in it, or beside it.
func loadWorkspace(script, dir string, limits treeLimits) (*program, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &Error{Op: "open workspace", Path: dir, Err: err, Hint: "name an existing directory that you may read"}
	}
	p := &program{Host: script, root: root}
	rel, inside, err := within(dir, script)
	if err != nil {
		p.Close()
		return nil, err
	}
	if inside {
		p.Jail = path.Join(jail.WorkspaceDir, rel)
		main := rel
		if info, err := root.Stat(rel); err == nil && info.IsDir() {
			main = path.Join(rel, "__main__.py")
		}
		if p.SHA256, err = hashFile(root, main); err != nil {
			p.Close()
			return nil, scriptError(script, err)
		}
	} else {
		alone, err := loadProgram(script, "", nil, limits)
		if err != nil {
			p.Close()
			return nil, err
		}
		p.Jail, p.SHA256, p.Files = alone.Jail, alone.SHA256, alone.Files
	}
	return p, p.copyTree(jail.WorkspaceDir, limits)
}

// within says where script is below dir.
func within(dir, script string) (rel string, inside bool, err error) {
	if script == "-" {
		return "", false, &Error{Op: "run", Path: "-", Err: errors.New("a script from standard input together with a workspace"), Hint: "put the script into the workspace"}
	}
	realDir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", false, &Error{Op: "open workspace", Path: dir, Err: err}
	}
	realScript, err := filepath.EvalSymlinks(script)
	if err != nil {
		return "", false, scriptError(script, err)
	}
	if realDir, err = filepath.Abs(realDir); err != nil {
		return "", false, &Error{Op: "open workspace", Path: dir, Err: err}
	}
	if realScript, err = filepath.Abs(realScript); err != nil {
		return "", false, scriptError(script, err)
	}
	rel, err = filepath.Rel(realDir, realScript)
	if err != nil || !filepath.IsLocal(rel) {
		return "", false, nil
	}
	return rel, true, nil
}

func hashFile(root *os.Root, name string) (string, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxScript)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// copyTree lists the directory for the jail. The bytes are read later, through
// the same root: a name that was swapped for a link out of it cannot be
// followed.
func (p *program) copyTree(to string, limits treeLimits) error {
	var total, entries int64
	err := fs.WalkDir(p.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		entries++
		target := path.Join(to, name)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch mode := info.Mode(); {
		case mode.IsDir():
			p.Files = append(p.Files, jail.Dir(target, 0o755))
		case mode&fs.ModeSymlink != 0:
			link, err := p.root.Readlink(name)
			if err != nil {
				return err
			}
			p.Files = append(p.Files, jail.Source{File: jail.File{Path: []byte(target), Link: []byte(link)}})
		case mode.IsRegular():
			total += info.Size()
			p.Files = append(p.Files, jail.Source{
				File: jail.File{Path: []byte(target), Mode: uint32(mode.Perm() | 0o600), Size: info.Size()},
				Open: func() (io.ReadCloser, error) {
					return p.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
				},
			})
		default:
			p.Skipped = append(p.Skipped, name)
		}
		if total > limits.bytes || entries > limits.entries {
			return fmt.Errorf("more than %d MiB or %d files", limits.bytes>>20, limits.entries)
		}
		return nil
	})
	if err != nil {
		p.Close()
		return &Error{Op: "copy directory", Path: p.Host, Err: err, Hint: "choose a smaller folder, or raise --tmp-size"}
	}
	return nil
}
