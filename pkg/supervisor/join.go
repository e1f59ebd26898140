package supervisor

import (
	"slices"

	"github.com/sbxproject/sbx/pkg/event"
)

// announces maps audit events of the interpreter to the system calls that
// follow them on the same thread. The event is in the pipe before the call is
// entered, so a call without one did not come through Python's own doors.
var announces = map[string][]string{
	"open":             {"openat", "open", "creat"},
	"os.remove":        {"unlink", "unlinkat"},
	"os.rename":        {"rename", "renameat", "renameat2"},
	"os.rmdir":         {"rmdir", "unlinkat"},
	"os.mkdir":         {"mkdir", "mkdirat"},
	"os.symlink":       {"symlink", "symlinkat"},
	"os.link":          {"link", "linkat"},
	"os.chmod":         {"chmod", "fchmodat", "fchmodat2", "fchmod"},
	"os.chown":         {"chown", "lchown", "fchownat", "fchown"},
	"os.truncate":      {"truncate"},
	"os.utime":         {"utimensat", "utimes", "utime", "futimesat"},
	"os.setxattr":      {"setxattr", "lsetxattr", "fsetxattr"},
	"os.removexattr":   {"removexattr", "lremovexattr", "fremovexattr"},
	"socket.__new__":   {"socket"},
	"socket.connect":   {"connect"},
	"socket.bind":      {"bind"},
	"socket.sendto":    {"sendto"},
	"socket.sendmsg":   {"sendmsg"},
	"os.fork":          {"fork", "clone", "vfork"},
	"os.forkpty":       {"fork", "clone", "vfork", "openat"},
	"pty.spawn":        {"fork", "clone", "vfork", "execve"},
	"os.exec":          {"execve"},
	"os.posix_spawn":   {"clone", "vfork", "execve"},
	"os.system":        {"clone", "vfork", "fork", "execve"},
	"subprocess.Popen": {"vfork", "fork", "clone", "execve"},
	"socket.getaddrinfo": {
		"socket", "connect", "bind", "sendto", "sendmmsg",
	},
	"socket.gethostbyname": {"socket", "connect", "bind", "sendto"},
	"socket.gethostbyaddr": {"socket", "connect", "bind", "sendto"},
	"socket.getnameinfo":   {"socket", "connect", "bind", "sendto"},
}

// lasting are events that announce more than one call: a look-up opens several
// sockets, an execvp(3) tries every directory of PATH.
var lasting = map[string]bool{
	"socket.getaddrinfo": true, "socket.gethostbyname": true, "socket.gethostbyaddr": true, "socket.getnameinfo": true,
	"subprocess.Popen": true, "os.system": true, "os.posix_spawn": true, "os.exec": true, "pty.spawn": true,
}

// expected are the system calls that Python's own doors always announce.
var expected = func() map[string]bool {
	out := map[string]bool{}
	for _, calls := range announces {
		for _, c := range calls {
			out[c] = true
		}
	}
	// Also made for other ends, without an event.
	delete(out, "sendto")
	delete(out, "sendmsg")
	delete(out, "fchmod")
	return out
}()

// Bounds on announcements that wait for their system call.
const (
	maxPending = 8
	maxTIDs    = 1024
)

// pending is an announcement.
type pending struct {
	event.Event
	used bool // some call was explained by it
}

// joiner puts the hook's events and the kernel's together.
type joiner struct {
	record func(event.Event) uint64
	byTID  map[int][]pending
}

func newJoiner(record func(event.Event) uint64) *joiner {
	return &joiner{record: record, byTID: map[int][]pending{}}
}

// announce takes an event of the hook. One that lets a system call follow waits
// for it; others are recorded at once.
func (j *joiner) announce(e event.Event) {
	if announces[e.Op] == nil || e.Verdict == event.Denied {
		j.record(e)
		return
	}
	if len(j.byTID) >= maxTIDs && j.byTID[e.TID] == nil {
		j.flush()
	}
	list := append(j.byTID[e.TID], pending{Event: e})
	if len(list) > maxPending {
		j.settle(list[0])
		list = list[1:]
	}
	j.byTID[e.TID] = list
}

// explain finds what announced a call of this task: on its own thread, else, in
// a child that has no Python of its own yet, on the parent's.
func (j *joiner) explain(op string, t task) (event.Event, bool) {
	if e, ok := j.take(t.nstid, op); ok {
		return e, true
	}
	for tid, list := range j.byTID {
		if t.parent != 0 && len(list) > 0 && list[0].PID == t.parent {
			if e, ok := j.take(tid, op); ok {
				return e, true
			}
		}
	}
	return event.Event{}, false
}

// take uses the newest announcement of op on a thread.
func (j *joiner) take(tid int, op string) (event.Event, bool) {
	list := j.byTID[tid]
	for i := len(list) - 1; i >= 0; i-- {
		p := &list[i]
		if !slices.Contains(announces[p.Op], op) {
			continue
		}
		p.used = true
		e := p.Event
		if !lasting[p.Op] {
			j.byTID[tid] = slices.Delete(list, i, i+1)
		}
		return e, true
	}
	return event.Event{}, false
}

// settle records an announcement that no notified call took up: an action that
// the filter allowed unseen.
func (j *joiner) settle(p pending) {
	if !p.used {
		j.record(p.Event)
	}
}

// flush settles everything that waits.
func (j *joiner) flush() {
	for tid, list := range j.byTID {
		for _, p := range list {
			j.settle(p)
		}
		delete(j.byTID, tid)
	}
}
