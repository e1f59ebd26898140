package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
type reportFile struct {
	name string
	// Exactly one of the two: a descriptor that is written as it is, or a file
	// without a name that gets one at the end.
	direct  *os.File
	unnamed *os.File
	path    string // what the unnamed file will be called
}

const reportHint = "name a file in a directory that you may write, or fd:N for an open descriptor"

func openReport(name string) (*reportFile, error) {
	r := &reportFile{name: name}
	fail := func(err error) (*reportFile, error) {
		return nil, &sandbox.Error{Op: "open report", Path: name, Err: err, Hint: reportHint}
	}
	if n, ok := strings.CutPrefix(name, "fd:"); ok {
		fd, err := strconv.Atoi(n)
		if err != nil || fd < 0 {
			return fail(fmt.Errorf("%q is no descriptor number", n))
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return fail(err)
		}
		if flags&unix.O_ACCMODE == unix.O_RDONLY {
			return fail(errors.New("the descriptor is not open for writing"))
		}
		unix.CloseOnExec(fd)
		r.direct = os.NewFile(uintptr(fd), name)
		return r, nil
	}
	path, err := filepath.EvalSymlinks(name)
	if errors.Is(err, fs.ErrNotExist) {
		path, err = name, nil
	}
	if err != nil {
		return fail(err)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fail(err)
	case info.IsDir():
		return fail(unix.EISDIR)
	case !info.Mode().IsRegular():
		// O_NONBLOCK: a FIFO without a reader is an error now, not a hang.
		if r.direct, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0); err != nil {
			return fail(err)
		}
		return r, nil
	default:
		if err := unix.Access(path, unix.W_OK); err != nil {
			return fail(err)
		}
	}
	r.path = path
	r.unnamed, err = os.OpenFile(filepath.Dir(path), os.O_WRONLY|unix.O_TMPFILE, 0o644)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		// A file system without unnamed files: show that the directory can be
		// written, and make the file when there is something to put into it.
		var probe *os.File
		if probe, err = os.CreateTemp(filepath.Dir(path), ".sbx-report-*"); err == nil {
			err = errors.Join(probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		return fail(err)
	}
	return r, nil
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
		_, err := r.direct.Write(data)
		return errors.Join(err, r.direct.Close())
	}
	temp := filepath.Join(filepath.Dir(r.path), fmt.Sprintf(".sbx-report-%d", os.Getpid()))
	out := r.unnamed
	if out == nil {
		var err error
		if out, err = os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
			return err
		}
	}
	_, err := out.Write(data)
	if err == nil && r.unnamed != nil {
		// linkat(2) cannot replace, rename(2) can: link under a name of our
		// own, then move it over.
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", out.Fd()), unix.AT_FDCWD, temp, unix.AT_SYMLINK_FOLLOW)
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(temp, r.path)
	}
	if err != nil {
		_ = os.Remove(temp)
	}
	return err
}

// discard lets go of a report that will not be written.
func (r *reportFile) discard() {
	if r != nil && r.unnamed != nil {
		_ = r.unnamed.Close()
	}
}
