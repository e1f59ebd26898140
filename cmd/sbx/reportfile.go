package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/sandbox"
)

// reportFile is where a report goes. It is opened before the run, so that a
// path that cannot be written is found before anything is started, and it
// appears under its name whole or not at all.
//
// A symbolic link is followed, as a shell's redirection would: the file that it
// leads to is replaced, the link stays. A link to nothing is refused.
type reportFile struct {
	name string
	// At most one of the two: a descriptor that is written as it is; a file
	// without a name, which gets one at the end.
	direct  *os.File
	unnamed *os.File
	empty   bool        // direct is to be emptied first
	dir     *os.File    // where the report will be: held open, for a script with a grant could swap the name
	base    string      // its name in there
	mode    fs.FileMode // of the file that is there; 0 if there is none
}

const reportHint = "name a file in a directory that you may write, or fd:N for an open descriptor"

func openReport(name string) (*reportFile, error) {
	r := &reportFile{name: name}
	if err := r.open(); err != nil {
		r.discard()
		return nil, &sandbox.Error{Op: "open report", Path: name, Err: err, Hint: reportHint}
	}
	return r, nil
}

func (r *reportFile) open() error {
	if number, ok := descriptor(r.name); ok {
		return r.openDescriptor(number)
	}
	// The kernel follows links, by its own rules for directories that everybody
	// may write to (proc_sys_fs(5), protected_symlinks), and says where it came to.
	there, err := os.OpenFile(r.name, unix.O_PATH, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if target, err := os.Readlink(r.name); err == nil {
			return fmt.Errorf("it is a link to %s, which does not exist", target)
		}
		return r.openBeside(r.name)
	}
	if err != nil {
		return err
	}
	defer there.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(there.Fd()), &stat); err != nil {
		return err
	}
	opened := fmt.Sprintf("/proc/self/fd/%d", there.Fd())
	switch {
	case stat.Mode&unix.S_IFMT == unix.S_IFDIR:
		return unix.EISDIR
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		// O_NONBLOCK: a FIFO without a reader is an error now, not a hang.
		r.direct, err = os.OpenFile(r.name, os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		return err
	case isOpenAs(1, &stat):
		return r.openDescriptor("1")
	case isOpenAs(2, &stat):
		return r.openDescriptor("2")
	case stat.Nlink == 0 || isMounted(there):
		// No other file can take its place: it was removed, or it is mounted
		// there, as containers are given single files.
		r.empty = true
		r.direct, err = os.OpenFile(opened, os.O_WRONLY, 0)
		return err
	}
	if err := unix.Access(opened, unix.W_OK); err != nil {
		return err
	}
	path, err := os.Readlink(opened)
	if err != nil {
		return err
	}
	r.mode = fs.FileMode(stat.Mode).Perm() // what its owner keeps to himself stays so
	return r.openBeside(path)
}

// isOpenAs says whether a file is one of the streams of sbx. It must not be
// replaced then: what the script writes there would be lost.
func isOpenAs(fd int, file *unix.Stat_t) bool {
	var stat unix.Stat_t
	return unix.Fstat(fd, &stat) == nil && stat.Dev == file.Dev && stat.Ino == file.Ino
}

// isMounted says whether a file is a mount of its own: rename(2) then answers
// EBUSY.
func isMounted(file *os.File) bool {
	var stat unix.Statx_t
	err := unix.Statx(int(file.Fd()), "", unix.AT_EMPTY_PATH, 0, &stat)
	return err == nil && stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// descriptor says which descriptor a name stands for. The files of /dev and
// /proc that do so are not opened: that would be another description of the
// same file, with an offset of its own.
func descriptor(name string) (number string, ok bool) {
	if number, ok = strings.CutPrefix(name, "fd:"); ok {
		return number, true
	}
	switch name = filepath.Clean(name); name {
	case "/dev/stdout":
		return "1", true
	case "/dev/stderr":
		return "2", true
	}
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if number, ok = strings.CutPrefix(name, dir); ok {
			return number, true
		}
	}
	return "", false
}

// openDescriptor takes a descriptor that sbx was given. It writes to a copy, for
// there may be more to say on this one.
func (r *reportFile) openDescriptor(number string) error {
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return fmt.Errorf("%q is no descriptor number", number)
	}
	flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	own, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
	if err != nil {
		return err
	}
	if own&unix.FD_CLOEXEC != 0 {
		return unix.EBADF // one of the runtime's own: execve(2) handed down no such descriptor
	}
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		return errors.New("the descriptor is not open for writing")
	}
	fd, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	if n > 2 {
		unix.CloseOnExec(int(n))
	}
	r.direct = os.NewFile(uintptr(fd), r.name)
	return nil
}

// openBeside makes the file that will be renamed to path, or shows that it can
// be made.
func (r *reportFile) openBeside(path string) error {
	var err error
	if r.dir, err = os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return err
	}
	r.base = filepath.Base(path)
	r.unnamed, err = r.openAt(".", unix.O_TMPFILE)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		// A file system without unnamed files: show that the directory can be
		// written, and make the file when there is something to put into it.
		var probe *os.File
		name, perr := newName(func(name string) error {
			probe, err = r.openAt(name, unix.O_CREAT|unix.O_EXCL)
			return err
		})
		if err = perr; err == nil {
			err = errors.Join(probe.Close(), unix.Unlinkat(int(r.dir.Fd()), name, 0))
		}
	}
	return err
}

// openAt opens a file of the report's directory for writing.
func (r *reportFile) openAt(name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(r.dir.Fd()), name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, uint32(r.perm()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: filepath.Join(r.dir.Name(), name), Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// perm is what the report's mode is at first.
func (r *reportFile) perm() fs.FileMode {
	if r.mode != 0 {
		return r.mode
	}
	return 0o644
}

// write puts the report under its name.
func (r *reportFile) write(render func(io.Writer) error) error {
	var buf bytes.Buffer
	if err := render(&buf); err != nil {
		return &sandbox.Error{Op: "render report", Err: err}
	}
	if err := r.put(buf.Bytes()); err != nil {
		return &sandbox.Error{Op: "write report", Path: r.name, Err: err, Hint: "the run itself is over; make room and run it again"}
	}
	return nil
}

func (r *reportFile) put(data []byte) error {
	if r.direct != nil {
		var err error
		if r.empty {
			err = r.direct.Truncate(0)
		}
		if err == nil {
			_, err = r.direct.Write(data)
		}
		return errors.Join(err, r.direct.Close())
	}
	out, temp := r.unnamed, ""
	var err error
	if out == nil {
		temp, err = newName(func(temp string) error {
			out, err = r.openAt(temp, unix.O_CREAT|unix.O_EXCL)
			return err
		})
		if err != nil {
			return err
		}
	}
	_, err = out.Write(data)
	if err == nil && r.mode != 0 {
		err = out.Chmod(r.mode) // whatever the umask
	}
	if err == nil && out == r.unnamed {
		// linkat(2) cannot replace, rename(2) can: link under a name of our
		// own, then move it over.
		temp, err = newName(func(temp string) error {
			return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", out.Fd()), int(r.dir.Fd()), temp, unix.AT_SYMLINK_FOLLOW)
		})
	}
	dir := int(r.dir.Fd())
	if err = errors.Join(err, out.Close()); err == nil {
		if err = unix.Renameat(dir, temp, dir, r.base); err != nil {
			err = &os.PathError{Op: "rename", Path: r.name, Err: err}
		}
	}
	if err != nil && temp != "" {
		_ = unix.Unlinkat(dir, temp, 0)
	}
	return errors.Join(err, r.dir.Close())
}

// newName calls make with names until one is not taken, and returns that one.
func newName(make func(string) error) (string, error) {
	for {
		name := fmt.Sprintf(".sbx-report-%d", rand.Uint64())
		switch err := make(name); {
		case err == nil:
			return name, nil
		case !errors.Is(err, fs.ErrExist):
			return "", err
		}
	}
}

// discard lets go of a report that will not be written.
func (r *reportFile) discard() {
	if r == nil {
		return
	}
	for _, f := range []*os.File{r.direct, r.unnamed, r.dir} {
		if f != nil {
			_ = f.Close()
		}
	}
}
