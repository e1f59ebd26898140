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
	"slices"
	"strings"
	"sync"
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

	main   *mainFile // of a directory
	root   *os.Root  // kept open until the files were sent
	beside *program  // what runs, where that is not in the workspace
}

func (p *program) Close() {
	if p.root != nil {
		_ = p.root.Close()
	}
	if p.beside != nil {
		p.beside.Close()
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
	// Looked at first, because some devices do something when they are opened,
	// and a socket cannot be; and again, because another may have come.
	info, err := os.Stat(script)
	if err == nil && !info.IsDir() {
		if err := regular(info); err != nil {
			return nil, nil, scriptError(script, err)
		}
	}
	f, err := os.OpenFile(script, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, scriptError(script, err)
	}
	if info, err = f.Stat(); err == nil && !info.IsDir() {
		err = regular(info)
	}
	if err != nil {
		f.Close()
		return nil, nil, scriptError(script, err)
	}
	return f, info, nil
}

// regular says what is wrong with a file that is not a regular one.
func regular(info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		return nil
	}
	return fmt.Errorf("it is a %s, not a regular file", kindOf(info.Mode()))
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&fs.ModeNamedPipe != 0:
		return "FIFO"
	case m&fs.ModeDevice != 0:
		return "device"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "special file"
}

var errTooLarge = fmt.Errorf("it is larger than %d MiB", maxScript>>20)

func scriptError(script string, err error) error {
	e := &Error{Op: "read script", Path: script, Err: err, Exit: 126, Hint: "a script is a regular file, a directory with a __main__.py, or - for standard input"}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Exit, e.Hint = 127, "check the path; flags of sbx come before the script, its own arguments after it"
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "make it readable for the user who runs sbx (chmod +r)"
	case errors.Is(err, errTooLarge):
		e.Hint = "pass data in files beside the script with --workspace, not inside it"
	}
	return e
}

func single(host, name string, data []byte) (*program, error) {
	if len(data) > maxScript {
		return nil, scriptError(host, errTooLarge)
	}
	if err := checkEncoding(data); err != nil {
		return nil, &Error{Op: "read script", Path: host, Exit: 126, Err: err, Hint: "save it as UTF-8, or declare its encoding in the first line: # -*- coding: latin-1 -*-"}
	}
	sum := sha256.Sum256(data)
	to := path.Join(jail.ScriptDir, name)
	return &program{Host: host, Jail: to, SHA256: hex.EncodeToString(sum[:]), Files: []jail.Source{jail.Bytes(to, 0o444, data)}}, nil
}

// coding is the declaration of PEP 263, compiled when a script needs it.
var coding = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[ \t\f]*#.*?coding[:=][ \t]*[-_.a-zA-Z0-9]+`) })

// endOfArchive is in every zip file. A zip application may begin with a line for
// the kernel, #!/usr/bin/env python3.
var endOfArchive = []byte("PK\x05\x06")

// checkEncoding refuses what Python would refuse, before anything is started.
func checkEncoding(data []byte) error {
	if utf8.Valid(data) || bytes.Contains(data, endOfArchive) {
		return nil
	}
	rest := data
	for range 2 {
		line, after := firstLine(rest)
		if coding().Match(line) {
			return nil
		}
		if line = bytes.TrimLeft(line, " \t\f"); len(line) > 0 && line[0] != '#' {
			break // after code nothing is declared
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

// firstLine splits where Python does: at \n, \r\n, and \r alone.
func firstLine(data []byte) (line, rest []byte) {
	end := bytes.IndexAny(data, "\r\n")
	if end < 0 {
		return data, nil
	}
	next := end + 1
	if bytes.HasPrefix(data[end:], []byte("\r\n")) {
		next++
	}
	return data[:end], data[next:]
}

// loadDirectory copies a directory with a __main__.py, as "python DIR" runs it.
func loadDirectory(dir string, limits treeLimits) (*program, error) {
	root, err := openRoot(dir)
	if err != nil {
		return nil, scriptError(dir, err)
	}
	p := &program{Host: dir, root: root}
	if p.main, err = readMain(root, "__main__.py"); err != nil {
		p.Close()
		var named *fs.PathError
		if errors.As(err, &named) {
			err = named.Err
		}
		return nil, &Error{
			Op: "run directory", Path: dir, Exit: 126, Err: fmt.Errorf("__main__.py: %w", err),
			Hint: "name the script itself and pass its folder with --workspace, or add a __main__.py",
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	p.SHA256, p.Jail = p.main.sum(), path.Join(jail.ScriptDir, jail.ScriptName(abs))
	return p, p.copyTree(p.Jail, limits)
}

// loadWorkspace copies a folder; the script is in it, or beside it.
func loadWorkspace(script, dir string, limits treeLimits) (*program, error) {
	root, err := openRoot(dir)
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
		if p.main, err = readMain(root, main); err != nil {
			p.Close()
			return nil, scriptError(script, err)
		}
		p.SHA256 = p.main.sum()
	} else {
		if p.beside, err = loadProgram(script, "", nil, limits); err != nil {
			p.Close()
			return nil, err
		}
		p.Jail, p.SHA256, p.Files, p.Skipped = p.beside.Jail, p.beside.SHA256, p.beside.Files, p.beside.Skipped
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

// openRoot opens a directory. The slash keeps open(2) from waiting at a FIFO: it
// asks for a directory.
func openRoot(dir string) (*os.Root, error) { return os.OpenRoot(dir + "/") }

// mainFile is the file of a directory that runs. Its bytes are kept: those of
// the hash are those that run, whatever becomes of the file.
type mainFile struct {
	info fs.FileInfo
	data []byte
}

func (m *mainFile) sum() string {
	sum := sha256.Sum256(m.data)
	return hex.EncodeToString(sum[:])
}

func readMain(root *os.Root, name string) (*mainFile, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxScript+1))
	if err == nil && len(data) > maxScript {
		err = errTooLarge
	}
	return &mainFile{info, data}, err
}

// copyTree lists the directory for the jail. The bytes are read later, through
// the same root: a name that was swapped for a link out of it cannot be
// followed.
func (p *program) copyTree(to string, limits treeLimits) error {
	var total, entries int64
	err := walk(p.root, ".", limits.entries, func(name string, info fs.FileInfo) error {
		entries++
		target := path.Join(to, name)
		if len(target) >= unix.PathMax {
			return fmt.Errorf("a path of %d bytes: %w", len(target), unix.ENAMETOOLONG)
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
		case p.main != nil && os.SameFile(info, p.main.info):
			total += int64(len(p.main.data))
			p.Files = append(p.Files, jail.Bytes(target, uint32(mode.Perm()|0o600), p.main.data))
		case mode.IsRegular():
			total += info.Size()
			p.Files = append(p.Files, jail.Source{
				File: jail.File{Path: []byte(target), Mode: uint32(mode.Perm() | 0o600), Size: info.Size()},
				Open: func() (io.ReadCloser, error) { return openListed(p.root, name, info) },
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

// openListed opens a file of the directory, which must still be the one that was
// listed: of another size it would not fit what the jail was told, and a FIFO in
// its place would be waited for.
func openListed(root *os.Root, name string, listed fs.FileInfo) (io.ReadCloser, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!os.SameFile(info, listed) || info.Size() != listed.Size()) {
		err = jail.ErrChanged
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// walk visits a directory and what is in it, each directory before its entries,
// these by name. It is not [fs.WalkDir], which takes no names that are not UTF-8.
// Of one directory it reads one entry more than the limit, which visit refuses.
func walk(root *os.Root, dir string, most int64, visit func(name string, info fs.FileInfo) error) error {
	info, entries, err := list(root, dir, int(most)+1)
	if err == nil {
		err = visit(dir, info)
	}
	for _, e := range entries {
		if err != nil {
			return err
		}
		name := path.Join(dir, e.Name())
		info, err = e.Info()
		switch {
		case err != nil:
		case info.IsDir():
			err = walk(root, name, most, visit)
		default:
			err = visit(name, info)
		}
	}
	return err
}

// list reads at most so many entries of a directory, and sorts them.
func list(root *os.Root, dir string, most int) (fs.FileInfo, []fs.DirEntry, error) {
	f, err := root.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	entries, err := f.ReadDir(most)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return info, entries, nil
}
