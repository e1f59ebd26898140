package supervisor

import (
	"errors"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pseudofs"
)

// task is a thread of the jail.
type task struct {
	tgid         int // its process, in our numbers
	nstid, nspid int // thread and process, in the jail's numbers
	parent       int // the parent process, in the jail's numbers; 0 if unknown
	seen         time.Time
}

// fresh is how long a task is believed without another look. Numbers are used
// again only after all others were.
const fresh = 5 * time.Millisecond

// tasks answers who a thread is, from /proc.
type tasks struct {
	root  string
	known map[int]task
}

const maxKnown = 1024

// lookup reads who tid is. It must be asked while the thread is stopped in its
// call: afterwards it may be gone.
func (t *tasks) lookup(tid int, now time.Time) task {
	if k, ok := t.known[tid]; ok && now.Sub(k.seen) < fresh {
		return k
	}
	k := task{seen: now}
	var ppid int
	k.tgid, k.nstid, k.nspid, ppid = t.status(tid)
	if ppid > 0 {
		_, _, k.parent, _ = t.status(ppid)
	}
	if k.tgid == 0 {
		return k // gone, or not to be read just now
	}
	if len(t.known) >= maxKnown {
		clear(t.known)
	}
	t.known[tid] = k
	return k
}

// status reads the numbers of a thread; zeros where it is gone.
func (t *tasks) status(tid int) (tgid, nstid, nspid, ppid int) {
	data, err := pseudofs.ReadFile(t.root + "/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return 0, 0, 0, 0
	}
	return parseTask(string(data))
}

func parseTask(status string) (tgid, nstid, nspid, ppid int) {
	last := func(value string) int {
		f := strings.Fields(value)
		if len(f) == 0 {
			return 0
		}
		n, err := strconv.Atoi(f[len(f)-1])
		if err != nil || n < 0 {
			return 0
		}
		return n
	}
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "Tgid":
			tgid = last(value)
		case "PPid":
			ppid = last(value)
		case "NStgid":
			nspid = last(value)
		case "NSpid":
			nstid = last(value)
		}
	}
	return tgid, nstid, nspid, ppid
}

// procView is the target's view of paths, by the links of /proc. They are read
// as text and never followed from here.
type procView struct{ root string }

func (p procView) cwd(tid int) (string, error) {
	return os.Readlink(p.root + "/" + strconv.Itoa(tid) + "/cwd")
}

func (p procView) fd(tid, fd int) (string, error) {
	return os.Readlink(p.root + "/" + strconv.Itoa(tid) + "/fd/" + strconv.Itoa(fd))
}

// presence is what a path leads to.
type presence uint8

const (
	unclear presence = iota // it could not be found out
	absent
	file // anything but a directory
	directory
)

// look says what a path leads to for the target, a link at its end included if
// follow is set. RESOLVE_IN_ROOT keeps every link inside the jail's root; magic
// links, which would lead through our own /proc, are refused (openat2(2)).
func (p procView) look(tid int, name string, follow bool) presence {
	if beneath([]string{name}, []string{"/proc"}) {
		return unclear // /proc/self is who asks, and that would be us
	}
	root, err := unix.Open(p.root+"/"+strconv.Itoa(tid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return unclear
	}
	defer unix.Close(root)
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	if !follow {
		how.Flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Openat2(root, name, &how)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return absent
	}
	if err != nil {
		return unclear
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return unclear
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return directory
	}
	return file
}

// intent is what a call that writes wants of its names.
type intent struct {
	create bool // makes a name, or moves one: only its directory has to exist
	fresh  bool // and fails with EEXIST if it is there
	data   bool // writes into it, which fails with EISDIR for a directory
	remove bool // takes the first name away
}

func intended(nr int, args [6]uint64) intent {
	open := func(flags uint64) intent {
		create := flags&unix.O_CREAT != 0
		return intent{create: create, fresh: create && flags&unix.O_EXCL != 0, data: flags&unix.O_DIRECTORY == 0}
	}
	switch nr {
	case unix.SYS_OPEN:
		return open(args[1])
	case unix.SYS_OPENAT:
		return open(args[2])
	case unix.SYS_CREAT:
		return intent{create: true, data: true}
	case unix.SYS_TRUNCATE:
		return intent{data: true}
	case unix.SYS_MKDIR, unix.SYS_MKDIRAT, unix.SYS_SYMLINK, unix.SYS_SYMLINKAT,
		unix.SYS_LINK, unix.SYS_LINKAT, unix.SYS_MKNOD, unix.SYS_MKNODAT:
		return intent{create: true, fresh: true}
	case unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		return intent{create: true, remove: true}
	case unix.SYS_UNLINK, unix.SYS_UNLINKAT, unix.SYS_RMDIR:
		return intent{remove: true}
	}
	return intent{}
}

// missing is the error of a call that is to take away a name that is not there, as
// it is in a directory that can be written; 0 for any other call. On a read-only
// mount the kernel says EROFS before it looks, and programs that clean up before
// they begin expect ENOENT.
func (p procView) missing(tid int, c call, in intent) unix.Errno {
	if !in.remove || p.look(tid, c.paths[0], false) != absent {
		return 0
	}
	if p.look(tid, path.Dir(c.paths[0]), true) == file {
		return unix.ENOTDIR
	}
	return unix.ENOENT
}

// otherwise says whether the kernel would answer a call that writes with
// something else than EROFS, for what is there or is not: then its answer is the
// right one.
func (p procView) otherwise(tid int, c call, in intent) bool {
	for i, name := range c.paths {
		last := i == len(c.paths)-1
		if last && in.fresh {
			if at := p.look(tid, name, false); at == file || at == directory {
				return true
			}
		}
		if last && in.data && p.look(tid, name, true) == directory {
			return true
		}
		if in.create {
			name = path.Dir(name)
		}
		if at := p.look(tid, name, in.create || !in.remove); at == absent || in.create && at == file {
			return true
		}
	}
	return false
}
