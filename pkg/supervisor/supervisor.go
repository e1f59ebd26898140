// Package supervisor answers the notifications of a jail's seccomp filter: it
// receives each call that the filter does not allow, decides, describes it for
// the report, and answers.
//
// It decides on scalars only; what pointers lead to is read for the report, or
// to refuse what the mounts would refuse anyway, and never to grant anything:
// the target can change it in the meantime (seccomp_unotify(2)). It holds no
// policy of its own, and keeps a bounded amount of memory however many calls
// there are.
//
// The events of the hook inside the interpreter come through here as well. An
// action that both saw is recorded once, as the kernel's event with the line
// that Python gave.
package supervisor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/pyhook"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

// Stacks reads the interpreter's frames of a thread that stands still. pid is its
// process in our numbers, nstid itself in the jail's.
type Stacks interface {
	// Stack returns the frames, innermost first, and the one to name, which is nil
	// only with an error.
	Stack(pid, nstid int) ([]event.Location, *event.Location, error)
	// Calibrate is told that the thread stands in the call of a [Calibration].
	Calibrate(pid, nstid int)
}

// Calibration is one call that the interpreter's boot makes at a known place
// before the script starts. It is told by arguments that nobody else knows, is
// refused, and is no activity of the run.
type Calibration struct {
	NR   int // 0, which is read(2) and never refused, is none
	Args [3]uint64
}

// Options is what a supervisor works with.
type Options struct {
	Listener *os.File // closed by Serve
	Policy   *seccomp.Policy
	Recorder *event.Recorder
	Start    time.Time
	Writable []string // directories of the jail that may be written
	Hook     *os.File // read end of the hook's pipe, nil without a hook; closed by Serve
	// OnExec is called with Python's process while its execve(2) waits. An error
	// refuses it, and is what Serve returns.
	OnExec func(pid int) error
	// OnBegin is called once, when the script is about to begin: while the
	// interpreter stands in the call of Calibration, or, without one, when the hook
	// says so. OnEnd is called when the hook says that the script has ended. What the
	// hook says is its word: both are for accounts only. They may be nil.
	OnBegin, OnEnd func()
	Stacks         Stacks // nil: no stacks
	Calibration    Calibration
	Trace          bool // record calls that are let through as well
}

// Finding is something that the two witnesses say together.
type Finding struct {
	Kind       string
	Text       string
	Confidence string
	Seq        uint64
}

// Result is what is known when the last task is gone.
type Result struct {
	Notifications uint64
	Denied        uint64
	Unexplained   uint64
	Findings      []Finding
	Hook          pyhook.Stats // zero without a hook
}

// Bounds under a flood of refused calls, per system call.
const (
	describeMax = 2000 // calls whose arguments are read
	stackMax    = 200  // calls whose stack is read
	findingsMax = 20
)

// Supervisor serves one listener.
type Supervisor struct {
	o        Options
	listener channel
	memory   memory
	view     procView
	tasks    tasks
	hook     *pyhook.Decoder
	join     *joiner
	hookFD   int
	pipe     string          // the hook's pipe, as /proc/PID/fd names it
	chunk    []byte          // what drain reads into
	refused  map[int]uint64  // per system call number, see bucket
	searches map[int]*search // by process
	swept    map[int]bool    // processes that closed the hook's pipe
	asked    bool            // OnExec was called
	begun    bool            // the script begins
	ended    bool            // the hook said that it has ended
	started  bool            // Python's execve was let through
	init     int             // the process that started Python, 0 if not known
	main     int             // its first process, in the jail's numbers
	execErr  error
	result   Result
}

// New returns a supervisor; nothing happens before Serve.
func New(o Options) *Supervisor {
	s := &Supervisor{
		o: o, listener: listener{int(o.Listener.Fd())}, memory: vm{}, view: procView{"/proc"},
		tasks: tasks{root: "/proc", known: map[int]task{}}, refused: map[int]uint64{}, searches: map[int]*search{},
		swept: map[int]bool{}, hookFD: -1,
	}
	s.join = newJoiner(o.Recorder.Record)
	s.join.asks = func(call string) bool {
		sc, ok := seccomp.ByName(call)
		return ok && o.Policy.Asks(sc.NR)
	}
	s.join.claimed = s.findClaim
	if o.Hook != nil {
		// Asked for once: Fd makes a descriptor of os.Pipe blocking each time.
		s.hookFD, s.chunk = int(o.Hook.Fd()), make([]byte, 64<<10)
		s.pipe = pipeName(s.hookFD)
		s.hook = pyhook.NewDecoder(func(e event.Event) {
			e.Time = time.Since(o.Start) // the hook's own clock is a claim
			s.join.announce(e)
		})
	}
	return s
}

// Result is what Serve found; it is to be asked after Serve has returned.
func (s *Supervisor) Result() Result { return s.result }

// Serve answers until the last task that the filter holds is gone.
func (s *Supervisor) Serve() error {
	// Receiving and answering on one thread lets the kernel switch straight to
	// it and back.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer s.o.Listener.Close()
	fd := int(s.o.Listener.Fd())
	listener{fd}.syncWakeUp()

	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: -1}}
	if s.hook != nil {
		defer s.o.Hook.Close()
		if err := unix.SetNonblock(s.hookFD, true); err != nil {
			return fmt.Errorf("hook pipe: %w", err)
		}
		poll[1] = unix.PollFd{Fd: int32(s.hookFD), Events: unix.POLLIN}
	}
	for {
		_, err := unix.Poll(poll, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("poll listener: %w", err)
		}
		s.hear(&poll[1])
		switch events := poll[0].Revents; {
		case events&unix.POLLIN != 0:
			n, err := s.listener.receive()
			if errors.Is(err, unix.ENOENT) {
				continue // withdrawn; poll says whether anybody is left
			}
			if err != nil {
				return fmt.Errorf("receive notification: %w", err)
			}
			s.answer(n)
		case events != 0: // POLLHUP: nobody is left
			s.finish()
			return s.execErr
		}
	}
}

// hear takes what the hook wrote, and stops to listen when the pipe is empty and
// nobody is left to write: poll(2) would return for it at once, for ever.
func (s *Supervisor) hear(p *unix.PollFd) {
	if p.Revents&unix.POLLIN != 0 {
		s.drain()
	} else if p.Revents != 0 {
		p.Fd = -1
	}
}

// drain takes what the hook had written when it was called, and no more: a
// thread that keeps writing must not keep the others' calls waiting. An event is
// in the pipe before its call is entered, so nothing that explains a waiting
// call is left behind.
func (s *Supervisor) drain() {
	if s.hook == nil {
		return
	}
	left, err := unix.IoctlGetInt(s.hookFD, unix.TIOCINQ) // FIONREAD, pipe(7)
	for err == nil && left > 0 {
		var n int
		n, err = unix.Read(s.hookFD, s.chunk[:min(left, len(s.chunk))])
		if errors.Is(err, unix.EINTR) {
			err = nil
			continue
		}
		if n <= 0 {
			return
		}
		s.hook.Feed(s.chunk[:n])
		left -= n
		s.tell()
	}
}

// begin passes on that the script begins.
func (s *Supervisor) begin() {
	if !s.begun && s.o.OnBegin != nil {
		s.o.OnBegin()
	}
	s.begun = true
}

// tell passes on that the script begins, and that it has ended.
func (s *Supervisor) tell() {
	if s.ended {
		return
	}
	stats := s.hook.Stats()
	if stats.Started {
		s.begin()
	}
	if stats.Ended {
		s.ended = true
		if s.o.OnEnd != nil {
			s.o.OnEnd()
		}
	}
}

func (s *Supervisor) finish() {
	s.drain()
	if s.hook != nil {
		s.result.Hook = s.hook.Stats()
	}
	s.join.flush()
	s.endSearches()
	s.findSilent()
}

// answer decides one call, describes it and answers it.
func (s *Supervisor) answer(n notification) {
	s.result.Notifications++
	if !s.started {
		s.launch(n)
		return
	}
	tid, nr := int(n.TID), int(n.NR)
	who := s.tasks.lookup(tid, time.Now())
	if s.init != 0 && who.tgid == s.init {
		// The thread of init that Python came from carries the filter as well,
		// and waits. What the runtime does there is ours.
		_ = s.listener.send(pass(n.ID))
		return
	}
	if s.calibrates(n) {
		if s.listener.valid(n.ID) {
			s.o.Stacks.Calibrate(who.tgid, who.nstid)
			s.begin()
		}
		// Without WAIT_KILLABLE_RECV a signal takes the call back, and it comes again.
		if s.listener.send(refuse(n.ID, unix.EPERM)) == nil {
			s.o.Calibration = Calibration{}
		}
		return
	}
	decision := s.o.Policy.Decide(nr, n.Args)
	if decision.Pinned && !s.holdsPipe(tid) {
		decision = s.o.Policy.DecideWithoutPins(nr, n.Args)
	}
	decision = own(decision, who, n.Args[0])
	s.drain()
	if decision.Pinned && who.tgid != 0 && who.nspid != s.main {
		s.letGo(n, who)
		return
	}
	if decision.Action == seccomp.Deny && s.refuse(nr) > describeMax {
		// The answer before the account: a flood costs the script, not us.
		_ = s.listener.send(refuse(n.ID, decision.Errno))
		s.count(nr, decision.Errno, who)
		return
	}
	c := describe(s.memory, s.view, tid, nr, n.Args)
	answer, verdict, errno := s.judge(decision, tid, n, c)
	nowhere := verdict == event.Observed && c.op == "execve" && len(c.paths) == 1 && s.view.look(tid, c.paths[0], true) == absent
	var stack []event.Location
	var place *event.Location
	if verdict == event.Denied && s.o.Stacks != nil && s.refused[bucket(nr)] <= stackMax {
		stack, place, _ = s.o.Stacks.Stack(who.tgid, who.nstid)
	}
	if !s.listener.valid(n.ID) {
		// The thread was killed or interrupted: what was read may be another's.
		// The attempt stands, its arguments do not.
		c.target, c.detail = c.op, "the caller was gone before its arguments could be read"
		stack, place = nil, nil
	}
	answer.ID = n.ID
	_ = s.listener.send(answer)
	s.note(c, who, verdict, errno, stack, place, nowhere)
}

// calibrates says whether this is the calibration, which is answered once.
func (s *Supervisor) calibrates(n notification) bool {
	c := s.o.Calibration
	return s.o.Stacks != nil && c.NR != 0 && int(n.NR) == c.NR && [3]uint64(n.Args[:3]) == c.Args
}

// bucket is the number under which refusals of a call are counted. The caller
// chooses the number, so all that the table does not know share one: counted one
// by one they would be as many as the caller likes.
func bucket(nr int) int {
	if _, ok := seccomp.Lookup(nr); !ok {
		return -1
	}
	return nr
}

// refuse counts one refusal and returns how many there are of its kind.
func (s *Supervisor) refuse(nr int) uint64 {
	s.result.Denied++
	s.refused[bucket(nr)]++
	return s.refused[bucket(nr)]
}

// launch lets pass what init does to start Python: everything before the first
// execve is our own code.
func (s *Supervisor) launch(n notification) {
	if n.NR != unix.SYS_EXECVE {
		_ = s.listener.send(pass(n.ID))
		return
	}
	if !s.asked && s.o.OnExec != nil {
		s.asked = true
		s.execErr = s.o.OnExec(int(n.TID))
	}
	if s.execErr != nil {
		_ = s.listener.send(refuse(n.ID, unix.EPERM))
		return
	}
	// Init is who Python's process descends from, and not the first thread that
	// was heard of: where the filter allows the clone, that is Python's own.
	_, _, s.main, s.init = s.tasks.status(int(n.TID))
	// An answer that does not arrive starts nothing: without WAIT_KILLABLE_RECV
	// a signal takes the call back, and it comes again.
	s.started = s.listener.send(pass(n.ID)) == nil
}

// own decides a signal that may go to the caller's own process only.
func own(d seccomp.Decision, who task, target uint64) seccomp.Decision {
	if d.Action != seccomp.Self {
		return d
	}
	// kill(2): 0 is the caller's own group, which is a session of its own.
	if pid := int32(target); pid == 0 || who.nspid != 0 && int(pid) == who.nspid {
		return seccomp.Decision{Action: seccomp.Continue}
	}
	return seccomp.Decision{Action: seccomp.Deny, Errno: d.Errno}
}

// judge turns a decision into an answer.
func (s *Supervisor) judge(d seccomp.Decision, tid int, n notification, c call) (response, event.Verdict, string) {
	switch d.Action {
	case seccomp.Continue:
		return pass(0), event.Observed, ""
	case seccomp.Guard:
		if setsID(int(n.NR), n.Args) {
			// In the jail nosuid makes it harmless. On a folder of the host that
			// the caller lets be written it would be the caller's own setuid file.
			s.refuse(int(n.NR))
			return refuse(0, unix.EPERM), event.Denied, "EPERM"
		}
		// It may write there, or its own answer is the better one: the mounts refuse
		// what is to be refused.
		if c.vague || len(c.paths) == 0 || beneath(c.paths, s.o.Writable) || beneath(c.paths, devices) {
			return pass(0), event.Observed, ""
		}
		in := intended(int(n.NR), n.Args)
		if errno := s.view.missing(tid, c, in); errno != 0 {
			return refuse(0, errno), event.Observed, unix.ErrnoName(errno)
		}
		if s.view.otherwise(tid, c, in) {
			return pass(0), event.Observed, ""
		}
		s.refuse(int(n.NR))
		d.Errno = unix.EROFS
	}
	answer := refuse(0, d.Errno)
	return answer, event.Denied, unix.ErrnoName(unix.Errno(-answer.Error))
}

// setsID says whether a call gives a file the set-user-ID or set-group-ID bit.
func setsID(nr int, args [6]uint64) bool {
	var mode uint64
	switch nr {
	case unix.SYS_CHMOD, unix.SYS_CREAT, unix.SYS_MKDIR:
		mode = args[1]
	case unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_MKDIRAT:
		mode = args[2]
	case unix.SYS_OPEN:
		if args[1]&createFlags != 0 {
			mode = args[2]
		}
	case unix.SYS_OPENAT:
		if args[2]&createFlags != 0 {
			mode = args[3]
		}
	}
	return mode&(unix.S_ISUID|unix.S_ISGID) != 0
}

// createFlags make open(2) look at its mode.
const createFlags = unix.O_CREAT | unix.O_TMPFILE&^unix.O_DIRECTORY

// devices may be opened for writing although their mounts are read-only: what
// is written to them goes nowhere.
var devices = []string{"/dev/null", "/dev/full", "/dev/zero", "/dev/fd", "/dev/stdout", "/dev/stderr", "/proc/self/fd"}

// note records a call. Where the hook said where it comes from, that stands; else
// the place that its stack has. nowhere says of an execve(2) that is let through
// that there is no such program.
func (s *Supervisor) note(c call, who task, verdict event.Verdict, errno string, stack []event.Location, place *event.Location, nowhere bool) {
	e := event.Event{
		Time: time.Since(s.o.Start), Layer: event.Seccomp, Category: c.category, Op: c.op, Target: c.target,
		Verdict: verdict, Errno: errno, PID: who.nspid, TID: who.nstid, Stack: stack, Detail: c.detail,
	}
	said, explained := s.join.explain(c.op, who)
	if explained {
		e.Location, e.ExplainedBy = said.Location, said.Op
	} else {
		e.Location = place
		e.Unexplained = verdict == event.Denied && c.detail != nameServiceProbe && s.silent(c.op, who)
		if c.detail == nameServiceProbe {
			e.Detail += ", as the C library does to look for a name service cache"
		}
	}
	if verdict == event.Observed && c.op == "execve" {
		e.Verdict = event.Allowed // a program of its own is always worth a line
		if nowhere {
			s.searched(e, c.paths[0])
			return
		}
		s.join.replaced(who.nspid)
		delete(s.swept, who.nspid)
		e.Detail = shorten(e.Detail+s.found(e), maxDetail)
	} else if verdict == event.Observed && !s.o.Trace {
		if e.ExplainedBy != "" { // the hook's word for it is kept
			e.Layer, e.Verdict, e.Op, e.ExplainedBy = event.Python, event.Allowed, e.ExplainedBy, ""
			s.o.Recorder.Record(e)
		}
		return
	}
	if !explained {
		s.join.unmatched(c.op, who)
	}
	seq := s.o.Recorder.Record(e)
	if e.Unexplained {
		s.result.Unexplained++
		s.find(seq, e)
	}
}

// nameServiceProbe is what getpwuid(3), getaddrinfo(3) and their like begin with
// in the GNU C library, which looks for nscd whatever nsswitch.conf says. Python
// knows nothing of it, and makes no such socket by itself.
const nameServiceProbe = "socket(AF_UNIX, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0)"

// silent says whether a call of this kind, without an event of the hook before
// it, did not come through Python's own doors.
func (s *Supervisor) silent(op string, who task) bool {
	return s.hook != nil && expected()[op] && s.hook.Stats().Started && s.join.complete(op, who)
}

// find makes a finding of an unexplained call.
func (s *Supervisor) find(seq uint64, e event.Event) {
	s.finding(Finding{
		Kind: "unexplained", Confidence: "high", Seq: seq,
		Text: fmt.Sprintf("%s reached the kernel without passing Python's own doors: ctypes, native code, or a silenced hook", e.Op),
	})
}

// findClaim makes a finding of an announcement without its call.
func (s *Supervisor) findClaim(e event.Event, seq uint64) {
	s.finding(Finding{
		Kind: "no_trace", Confidence: "medium", Seq: seq,
		Text: fmt.Sprintf("the hook announced %s, and the kernel was asked for no such call: the event is made up, or something else in the interpreter stopped it", e.Op),
	})
}

// finding keeps one for each activity, and not more than a report needs.
func (s *Supervisor) finding(f Finding) {
	same := func(have Finding) bool { return have.Kind == f.Kind && have.Seq == f.Seq }
	if len(s.result.Findings) < findingsMax && !slices.ContainsFunc(s.result.Findings, same) {
		s.result.Findings = append(s.result.Findings, f)
	}
}

// count accounts for a refused call of a flood without looking at it. What
// announced it is used up all the same, or it would count as an action of its
// own.
func (s *Supervisor) count(nr int, errno unix.Errno, who task) {
	op, category := "unknown", event.Syscall
	if sc, ok := seccomp.Lookup(nr); ok {
		op, category = sc.Name, sc.Category
	}
	if _, ok := s.join.explain(op, who); !ok {
		s.join.unmatched(op, who)
	}
	s.o.Recorder.Record(event.Event{
		Time: time.Since(s.o.Start), Layer: event.Seccomp, Category: category, Op: op, Target: op,
		Verdict: event.Denied, Errno: unix.ErrnoName(errno),
		Detail: fmt.Sprintf("after %d refusals of this call its arguments are not read", describeMax),
	})
}
