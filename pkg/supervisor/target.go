package supervisor

import (
	"errors"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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
	if len(t.known) >= maxKnown {
		clear(t.known)
	}
	t.known[tid] = k
	return k
}

// status reads the numbers of a thread; zeros where it is gone.
func (t *tasks) status(tid int) (tgid, nstid, nspid, ppid int) {
	data, err := os.ReadFile(t.root + "/" + strconv.Itoa(tid) + "/status")
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

// present says whether a path exists for the target. RESOLVE_IN_ROOT keeps
// every link inside the jail's root; magic links, which would lead through our
// own /proc, are refused (openat2(2)).
func (p procView) present(tid int, name string) bool {
	root, err := unix.Open(p.root+"/"+strconv.Itoa(tid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true // not known: the refusal stands
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err == nil {
		unix.Close(fd)
		return true
	}
	return !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR)
}

// missing says whether a call that writes would fail for want of something that
// is not there: then the kernel's own answer is the right one.
func (p procView) missing(tid int, c call, creates bool) bool {
	for _, name := range c.paths {
		if !path.IsAbs(name) {
			continue
		}
		if creates {
			name = path.Dir(name)
		}
		if !p.present(tid, name) {
			return true
		}
	}
	return false
}
