// Package pseudofs reads files of the proc and cgroup file systems, which the
// kernel makes up while they are read: they have no size, a read(2) returns what
// fits, and one that has passed the end returns 0 (proc(5)).
//
// It is for the way of a run. os.ReadFile offers each of them to the runtime's
// poller, which files of a cgroup accept (they can be polled for changes), and then
// its thread wakes for every one that is read: eight system calls and a wake-up,
// where three calls do.
//
// What this package must not do: write, or know what a file says.
package pseudofs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// chunk is more than most of these files hold. It is read on the stack: what is kept
// is as large as the file.
const chunk = 1 << 10

// ReadFile returns what a file says. Its errors are those of os.ReadFile.
func ReadFile(name string) ([]byte, error) {
	fd, err := open(name)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var buf [chunk]byte
	data := []byte{}
	for {
		n, err := unix.Read(fd, buf[:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return data, &os.PathError{Op: "read", Path: name, Err: err}
		case n == 0:
			return data, nil
		default:
			data = append(data, buf[:n]...)
		}
	}
}

func open(name string) (int, error) {
	for {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
