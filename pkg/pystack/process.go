package pystack

import (
	"bytes"
	"errors"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// procfs is what the kernel says of processes. Names in it are the target's to
// choose, numbers are not.
type procfs struct{ root string }

// Bounds of what is read of /proc.
const (
	maxMaps   = 1 << 20
	maxStatus = 1 << 14
	maxTasks  = 128
)

// read reads a file of a process, up to a limit.
func (p procfs) read(limit int64, elem ...string) ([]byte, error) {
	f, err := os.Open(filepath.Join(append([]string{p.root}, elem...)...))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// A backing is the file behind a mapping. The inode tells it wherever it is
// mounted; the path is for file systems that give stat(2) another device than
// they give /proc/PID/maps, as btrfs and overlayfs do.
type backing struct {
	device, inode uint64
	path          string
}

func backingOf(file string) backing {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return backing{path: file}
	}
	return backing{st.Dev, st.Ino, file}
}

// base finds where a process has the first page of a file: the lowest mapping of
// its beginning.
func (p procfs) base(pid int, of backing) (uint64, error) {
	data, err := p.read(maxMaps, strconv.Itoa(pid), "maps")
	if err != nil {
		return 0, err
	}
	for len(data) > 0 {
		var line []byte
		line, data, _ = bytes.Cut(data, []byte{'\n'})
		if start, ok := of.begins(line); ok {
			return start, nil
		}
	}
	return 0, errors.New("the process has no mapping of the interpreter")
}

// begins reads one line of /proc/PID/maps (proc_pid_maps(5)):
//
//	7f4a1c000000-7f4a1c0c5000 r--p 00000000 fe:00 131090   /usr/lib/libpython3.12.so.1.0
//
// and says where it starts, if it is a mapping of the beginning of this file.
func (b backing) begins(line []byte) (uint64, bool) {
	var f [5]string
	for i := range f {
		word, rest, ok := bytes.Cut(line, []byte{' '})
		if !ok && i < len(f)-1 {
			return 0, false
		}
		f[i], line = string(word), rest
	}
	if f[2] != "00000000" || f[4] == "0" {
		return 0, false
	}
	low, _, _ := strings.Cut(f[0], "-")
	start, err := strconv.ParseUint(low, 16, 64)
	if err != nil {
		return 0, false
	}
	if name := bytes.TrimLeft(line, " "); len(name) > 0 && string(name) == b.path {
		return start, true
	}
	major, minor, _ := strings.Cut(f[3], ":")
	hi, err1 := strconv.ParseUint(major, 16, 32)
	lo, err2 := strconv.ParseUint(minor, 16, 32)
	inode, err3 := strconv.ParseUint(f[4], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return 0, false
	}
	return start, inode != 0 && inode == b.inode && unix.Mkdev(uint32(hi), uint32(lo)) == b.device
}

// status reads two numbers of a task: itself in its own pid namespace, and its
// parent process in ours. Zeros are not known.
func (p procfs) status(elem ...string) (nstid, parent int) {
	data, err := p.read(maxStatus, append(elem, "status")...)
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		if len(f) == 0 {
			continue
		}
		n, err := strconv.Atoi(f[len(f)-1])
		if err != nil || n < 0 {
			continue
		}
		switch key {
		case "NSpid":
			nstid = n
		case "PPid":
			parent = n
		}
	}
	return nstid, parent
}

// tasks are the threads of a process.
func (p procfs) tasks(pid int) []string {
	dir, err := os.Open(filepath.Join(p.root, strconv.Itoa(pid), "task"))
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(maxTasks) // of those that are there
	slices.SortFunc(names, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return names
}

// blocked is the system call in which a task waits.
type blocked struct {
	nr   int64
	args [6]uint64
	sp   uint64
}

// syscall reads /proc/PID/syscall (proc_pid_syscall(5)).
func (p procfs) syscall(elem ...string) (blocked, bool) {
	data, err := p.read(maxStatus, append(elem, "syscall")...)
	if err != nil {
		return blocked{}, false
	}
	f := strings.Fields(string(data))
	const fields = 9 // the number, six arguments, stack pointer, program counter
	if len(f) != fields {
		return blocked{}, false
	}
	var b blocked
	if b.nr, err = strconv.ParseInt(f[0], 10, 32); err != nil {
		return blocked{}, false
	}
	for i := range b.args {
		if b.args[i], err = strconv.ParseUint(f[1+i], 0, 64); err != nil {
			return blocked{}, false
		}
	}
	b.sp, err = strconv.ParseUint(f[7], 0, 64)
	return b, err == nil
}

// waits says how far the stack of a child is from where its creator would have
// put it, if this is a creator that waits for its child: the child of vfork(2)
// goes on where its parent was, that of clone(2) below the stack that it was
// given. The child of posix_spawn(3) is of the latter kind.
func (b blocked) waits(child uint64) (distance uint64, ok bool) {
	top := b.sp
	switch b.nr {
	case sysVfork:
	case sysClone:
		if b.args[0]&unix.CLONE_VFORK == 0 {
			return 0, false
		}
		if b.args[1] != 0 {
			top = b.args[1]
		}
	case unix.SYS_CLONE3:
		// Its arguments are in memory, and in the jail it is never had. Who is seen in
		// it waits for its child; for which one is not known.
		return maxFrame - 1, true
	default:
		return 0, false
	}
	distance, borrow := bits.Sub64(top, child, 0)
	if borrow != 0 { // a vforked child may have returned from frames of its parent
		distance = child - top
	}
	return distance, true
}

// maxFrame is how much of a stack a child may have used before it makes its call.
const maxFrame = 1 << 20

// creator is the number, in the jail, of the thread that waits for a child of
// vfork(2), and its process. Zeros if there is none or it is not clear which.
func (p procfs) creator(child int) (pid, nstid int) {
	_, pid = p.status(strconv.Itoa(child))
	at, ok := p.syscall(strconv.Itoa(child))
	if pid <= 1 || !ok {
		return 0, 0
	}
	process := strconv.Itoa(pid)
	best, second, found := uint64(maxFrame), uint64(maxFrame), ""
	for _, task := range p.tasks(pid) {
		b, ok := p.syscall(process, "task", task)
		if !ok {
			continue
		}
		distance, ok := b.waits(at.sp)
		switch {
		case !ok || distance > second:
		case distance < best:
			best, second, found = distance, best, task
		default:
			second = distance
		}
	}
	if found == "" || best == second {
		return 0, 0
	}
	nstid, _ = p.status(process, "task", found)
	return pid, nstid
}
