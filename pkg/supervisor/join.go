package supervisor

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/pyhook"
)

// The maps below are made when they are first asked for: package initialisation
// is paid by every stage of a run, and only one of them supervises.

// announces maps audit events of the interpreter to the system calls that
// follow them on the same thread. The event is in the pipe before the call is
// entered, so a call without one did not come through Python's own doors.
var announces = sync.OnceValue(func() map[string][]string {
	return map[string][]string{
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
		"os.kill":          {"kill"},
		"os.killpg":        {"kill"},
		"subprocess.Popen": {"vfork", "fork", "clone", "execve"},
		"socket.getaddrinfo": {
			"socket", "connect", "bind", "sendto", "sendmmsg",
		},
		"socket.gethostbyname": {"socket", "connect", "bind", "sendto"},
		"socket.gethostbyaddr": {"socket", "connect", "bind", "sendto"},
		"socket.getnameinfo":   {"socket", "connect", "bind", "sendto"},
	}
})

// lasting are events that announce more than one call: a look-up opens several
// sockets, an execvp(3) tries every directory of PATH.
var lasting = map[string]bool{
	"socket.getaddrinfo": true, "socket.gethostbyname": true, "socket.gethostbyaddr": true, "socket.getnameinfo": true,
	"subprocess.Popen": true, "os.system": true, "os.posix_spawn": true, "os.exec": true, "pty.spawn": true,
}

// expected are the system calls that Python's own doors always announce.
var expected = sync.OnceValue(func() map[string]bool {
	out := map[string]bool{}
	for _, calls := range announces() {
		for _, c := range calls {
			out[c] = true
		}
	}
	// Also made for other ends, without an event.
	delete(out, "sendto")
	delete(out, "sendmsg")
	delete(out, "fchmod")
	return out
})

// announcers are the audit events that a system call can follow.
var announcers = sync.OnceValue(func() map[string][]string {
	out := map[string][]string{}
	for said, calls := range announces() {
		for _, c := range calls {
			out[c] = append(out[c], said)
		}
	}
	return out
})

// direct are the announcements that nothing comes after but their system call.
// Others may fail on the way, or take another one.
var direct = map[string]bool{
	"os.remove": true, "os.rename": true, "os.rmdir": true, "os.mkdir": true, "os.symlink": true, "os.link": true,
	"os.truncate": true, "os.utime": true, "os.setxattr": true, "os.removexattr": true, "os.kill": true, "os.killpg": true,
}

// Bounds on what is remembered of threads and processes, whose numbers in the
// hook's events the script can make up.
const (
	maxTIDs     = 512
	maxCounters = 4096
	maxPrograms = 4096
)

// countedOnly is the detail of the totals that the hook sends when a process
// ends: no call follows them.
const countedOnly = "counted without detail"

// pending is an announcement that waits for its system call.
type pending struct {
	event.Event
	order uint64
	used  bool // some call was explained by it
}

// counter is an operation of the hook, or a system call, in one process.
type counter struct {
	pid int
	op  string
}

// joiner puts the hook's events and the kernel's together.
type joiner struct {
	record func(event.Event) uint64
	// asks says whether every call of this name is notified, and claimed is told of
	// an announcement that such a call should have followed and did not. Both may be
	// nil.
	asks    func(call string) bool
	claimed func(e event.Event, seq uint64)
	byTID   map[int]pending // the last announcement of each thread
	order   uint64
	said    map[counter]uint64 // announcements of each operation
	missed  map[counter]uint64 // recorded calls whose announcement was only counted
	// Processes that run another program than the one with the hook in it.
	programs map[int]bool
	// lost says that a table was full: what a process did not say means nothing
	// any more.
	lost bool
}

func newJoiner(record func(event.Event) uint64) *joiner {
	return &joiner{
		record: record, byTID: map[int]pending{}, said: map[counter]uint64{}, missed: map[counter]uint64{},
		programs: map[int]bool{},
	}
}

// announce takes an event of the hook. One that lets a system call follow waits
// for it; others are recorded at once. Whatever the thread says next, the call
// that it announced before was made: an announcement that stayed longer would
// explain a later call that had none.
func (j *joiner) announce(e event.Event) {
	delete(j.programs, e.PID) // it has a hook
	if p, ok := j.byTID[e.TID]; ok {
		seq := j.settle(p)
		delete(j.byTID, e.TID)
		if j.untrue(p) && j.claimed != nil {
			j.claimed(p.Event, seq)
		}
	}
	if announces()[e.Op] == nil || e.Verdict == event.Denied {
		j.record(e)
		return
	}
	e = j.unfold(e)
	if e.Count == 0 {
		return
	}
	if len(j.byTID) >= maxTIDs {
		j.flush()
	}
	j.order++
	j.byTID[e.TID] = pending{Event: e, order: j.order}
}

// unfold takes apart an event that stands for others which the hook only
// counted. Those whose calls are recorded already are left out: one action is
// one activity. What is left of the event is the action that it announces itself,
// which comes last; at the end of a process there is none.
func (j *joiner) unfold(e event.Event) event.Event {
	e.Count = max(e.Count, 1)
	key := counter{e.PID, e.Op}
	if _, ok := j.said[key]; ok || len(j.said) < maxCounters {
		j.said[key] = min(j.said[key]+e.Count, 1<<62) // a made up count must not wrap
	} else {
		j.lost = true
	}
	others := e
	if e.Detail == countedOnly {
		e.Count = 0
	} else {
		e.Count, others.Count = 1, e.Count-1
	}
	for _, call := range announces()[e.Op] {
		key := counter{e.PID, call}
		if n := min(j.missed[key], others.Count); n > 0 {
			j.missed[key] -= n
			others.Count -= n
		}
	}
	if others.Count > 0 {
		j.record(others)
	}
	return e
}

// explain finds what announced a call of this task: on its own thread, else, in
// a child that is about to become another program and has no Python of its own,
// on the parent's.
func (j *joiner) explain(op string, t task) (event.Event, bool) {
	if t.nstid == 0 {
		return event.Event{}, false
	}
	if e, ok := j.take(t.nstid, op); ok {
		return e, true
	}
	if op != "execve" || t.parent == 0 {
		return event.Event{}, false
	}
	last, from := uint64(0), 0
	for tid, p := range j.byTID {
		if p.PID == t.parent && p.order > last && lasting[p.Op] && slices.Contains(announces()[p.Op], op) {
			last, from = p.order, tid
		}
	}
	if last == 0 {
		return event.Event{}, false
	}
	return j.take(from, op)
}

// take uses the announcement of op on a thread.
func (j *joiner) take(tid int, op string) (event.Event, bool) {
	p, ok := j.byTID[tid]
	if !ok || !slices.Contains(announces()[p.Op], op) {
		return event.Event{}, false
	}
	if lasting[p.Op] {
		p.used = true
		j.byTID[tid] = p
	} else {
		delete(j.byTID, tid)
	}
	return p.Event, true
}

// unmatched remembers a recorded call without an announcement, if the hook only
// counted it.
func (j *joiner) unmatched(op string, t task) {
	key := counter{t.nspid, op}
	if _, ok := j.missed[key]; j.capped(op, t.nspid) && (ok || len(j.missed) < maxCounters) {
		j.missed[key]++
	}
}

// capped says whether the hook may have stopped to announce each call of this
// kind.
func (j *joiner) capped(op string, pid int) bool {
	return slices.ContainsFunc(announcers()[op], func(said string) bool {
		return j.said[counter{pid, said}] >= pyhook.FloodCap
	})
}

// replaced notes that a process became another program, or tries to.
func (j *joiner) replaced(pid int) {
	if pid == 0 {
		return
	}
	if len(j.programs) >= maxPrograms {
		j.lost = true
		return
	}
	j.programs[pid] = true
}

// complete says whether a process would have announced a call of this kind.
func (j *joiner) complete(op string, t task) bool {
	if j.programs[t.parent] && !j.programs[t.nspid] {
		j.replaced(t.nspid) // the child of one is one
	}
	return !j.lost && t.nspid != 0 && !j.programs[t.nspid] && !j.capped(op, t.nspid)
}

// settle records an announcement that no notified call took up: an action that
// the filter allowed unseen, or one that did not take place.
func (j *joiner) settle(p pending) (seq uint64) {
	if !p.used {
		seq = j.record(p.Event)
	}
	return seq
}

// untrue says whether an announcement that is over should have been followed by a
// call that we would have been asked about.
func (j *joiner) untrue(p pending) bool {
	return !p.used && direct[p.Op] && j.asks != nil && !slices.ContainsFunc(announces()[p.Op], func(call string) bool { return !j.asks(call) })
}

// flush settles everything that waits, in the order in which it came.
func (j *joiner) flush() {
	waiting := slices.SortedFunc(maps.Values(j.byTID), func(a, b pending) int { return cmp.Compare(a.order, b.order) })
	for _, p := range waiting {
		j.settle(p)
	}
	clear(j.byTID)
}
