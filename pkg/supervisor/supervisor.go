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
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/pyhook"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

// Stacks reads the interpreter's frames of a stopped thread, innermost first.
type Stacks interface {
	Stack(pid, tid, nstid int) ([]event.Location, error)
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
	Stacks Stacks // nil: no stacks
	Trace  bool   // record calls that are let through as well
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
	listener listener
	memory   memory
	view     procView
	tasks    tasks
	hook     *pyhook.Decoder
	join     *joiner
	refused  map[int]uint64 // per system call number
	started  bool           // Python's execve was let through
	starter  int            // the thread of init that starts Python
	execErr  error
	result   Result
}

// New returns a supervisor; nothing happens before Serve.
func New(o Options) *Supervisor {
	s := &Supervisor{
		o: o, listener: listener{int(o.Listener.Fd())}, memory: vm{}, view: procView{"/proc"},
		tasks: tasks{root: "/proc", known: map[int]task{}}, refused: map[int]uint64{},
	}
	s.join = newJoiner(o.Recorder.Record)
	if o.Hook != nil {
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
	s.listener.syncWakeUp()

	poll := []unix.PollFd{{Fd: int32(s.listener.fd), Events: unix.POLLIN}, {Fd: -1}}
	if s.hook != nil {
		defer s.o.Hook.Close()
		fd := int(s.o.Hook.Fd())
		if err := unix.SetNonblock(fd, true); err != nil {
			return fmt.Errorf("hook pipe: %w", err)
		}
		poll[1] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	for {
		_, err := unix.Poll(poll, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("poll listener: %w", err)
		}
		if poll[1].Revents != 0 && !s.drain() {
			poll[1].Fd = -1
		}
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

// drain takes what the hook has written. It returns false at the pipe's end.
func (s *Supervisor) drain() bool {
	var buf [64 << 10]byte
	for {
		n, err := unix.Read(int(s.o.Hook.Fd()), buf[:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return errors.Is(err, unix.EAGAIN)
		case n == 0:
			return false
		default:
			s.hook.Feed(buf[:n])
		}
	}
}

func (s *Supervisor) finish() {
	if s.hook != nil {
		s.drain()
		s.result.Hook = s.hook.Stats()
	}
	s.join.flush()
}

// answer decides one call, describes it and answers it.
func (s *Supervisor) answer(n notification) {
	s.result.Notifications++
	tid, nr := int(n.TID), int(n.NR)
	if !s.started {
		s.launch(n)
		return
	}
	if tid == s.starter {
		// The thread of init that Python came from carries the filter as well,
		// and waits. What the runtime does there is ours.
		_ = s.listener.send(pass(n.ID))
		return
	}
	decision := s.o.Policy.Decide(nr, n.Args)
	if decision.Action == seccomp.Deny {
		s.refused[nr]++
		s.result.Denied++
		if s.refused[nr] > describeMax {
			// The answer before the account: a flood costs the script, not us.
			_ = s.listener.send(refuse(n.ID, decision.Errno))
			s.count(nr, decision.Errno)
			return
		}
	}
	c := describe(s.memory, s.view, tid, nr, n.Args)
	who := s.tasks.lookup(tid, time.Now())
	if s.hook != nil {
		s.drain()
	}
	answer, verdict, errno := s.judge(decision, who, tid, n, c)
	var stack []event.Location
	if verdict == event.Denied && s.o.Stacks != nil && s.refused[nr] <= stackMax {
		stack, _ = s.o.Stacks.Stack(who.tgid, tid, who.nstid)
	}
	if !s.listener.valid(n.ID) {
		// The thread was killed or interrupted: what was read may be another's.
		// The attempt stands, its arguments do not.
		c.target, c.detail = c.op, "the caller was gone before its arguments could be read"
	}
	answer.ID = n.ID
	_ = s.listener.send(answer)
	s.note(c, who, verdict, errno, stack)
}

// launch lets pass what init does to start Python: everything before the first
// execve is our own code.
func (s *Supervisor) launch(n notification) {
	if s.starter == 0 {
		s.starter = int(n.TID)
	}
	if n.NR != unix.SYS_EXECVE {
		_ = s.listener.send(pass(n.ID))
		return
	}
	s.started = true
	if s.o.OnExec != nil {
		if s.execErr = s.o.OnExec(int(n.TID)); s.execErr != nil {
			_ = s.listener.send(refuse(n.ID, unix.EPERM))
			return
		}
	}
	_ = s.listener.send(pass(n.ID))
}

// judge turns a decision into an answer.
func (s *Supervisor) judge(d seccomp.Decision, who task, tid int, n notification, c call) (response, event.Verdict, string) {
	nr := int(n.NR)
	switch d.Action {
	case seccomp.Continue:
		return pass(0), event.Observed, ""
	case seccomp.Self:
		// kill(2): 0 is the caller's own group, which is a session of its own.
		if pid := int32(n.Args[0]); pid == 0 || who.nspid != 0 && int(pid) == who.nspid {
			return pass(0), event.Observed, ""
		}
		s.refused[nr]++
		s.result.Denied++
	case seccomp.Guard:
		// A relative path that could not be resolved, or memory that could not
		// be read, is left to the kernel: the mounts refuse what is to be
		// refused, and the errno is its own.
		if len(c.paths) == 0 || beneath(c.paths, s.o.Writable) || !strings.HasPrefix(c.paths[0], "/") ||
			beneath(c.paths, devices) || s.view.missing(tid, c, creates(nr, n.Args)) {
			return pass(0), event.Observed, ""
		}
		s.refused[nr]++
		s.result.Denied++
		return refuse(0, unix.EROFS), event.Denied, "EROFS"
	}
	return refuse(0, d.Errno), event.Denied, unix.ErrnoName(d.Errno)
}

// devices may be opened for writing although their mounts are read-only: what
// is written to them goes nowhere.
var devices = []string{"/dev/null", "/dev/full", "/dev/zero", "/dev/fd", "/dev/stdout", "/dev/stderr", "/proc/self/fd"}

// creates says whether a call makes the name that it is given: then only the
// directory has to exist.
func creates(nr int, args [6]uint64) bool {
	switch nr {
	case unix.SYS_OPEN:
		return args[1]&unix.O_CREAT != 0
	case unix.SYS_OPENAT:
		return args[2]&unix.O_CREAT != 0
	case unix.SYS_CREAT, unix.SYS_MKDIR, unix.SYS_MKDIRAT, unix.SYS_SYMLINK, unix.SYS_SYMLINKAT,
		unix.SYS_LINK, unix.SYS_LINKAT, unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2,
		unix.SYS_MKNOD, unix.SYS_MKNODAT:
		return true
	}
	return false
}

// note records a call.
func (s *Supervisor) note(c call, who task, verdict event.Verdict, errno string, stack []event.Location) {
	e := event.Event{
		Time: time.Since(s.o.Start), Layer: event.Seccomp, Category: c.category, Op: c.op, Target: c.target,
		Verdict: verdict, Errno: errno, PID: who.nspid, TID: who.nstid, Stack: stack, Detail: c.detail,
	}
	if said, ok := s.join.explain(c.op, who); ok {
		e.Location, e.ExplainedBy = said.Location, said.Op
	} else {
		if len(stack) > 0 {
			e.Location = &stack[0]
		}
		e.Unexplained = verdict == event.Denied && s.silent(c.op)
	}
	if verdict == event.Observed && c.op == "execve" {
		e.Verdict = event.Allowed // a program of its own is always worth a line
	} else if verdict == event.Observed && !s.o.Trace {
		if e.ExplainedBy != "" { // the hook's word for it is kept
			e.Layer, e.Verdict, e.Op, e.ExplainedBy = event.Python, event.Allowed, e.ExplainedBy, ""
			s.o.Recorder.Record(e)
		}
		return
	}
	seq := s.o.Recorder.Record(e)
	if e.Unexplained {
		s.result.Unexplained++
		s.find(seq, e)
	}
}

// silent says whether a call of this kind, without an event of the hook before
// it, did not come through Python's own doors.
func (s *Supervisor) silent(op string) bool {
	if s.hook == nil || !expected[op] {
		return false
	}
	stats := s.hook.Stats()
	return stats.Started && stats.Suppressed == 0
}

// find makes a finding of an unexplained call, once for each activity.
func (s *Supervisor) find(seq uint64, e event.Event) {
	for _, f := range s.result.Findings {
		if f.Seq == seq {
			return
		}
	}
	if len(s.result.Findings) < findingsMax {
		s.result.Findings = append(s.result.Findings, Finding{
			Kind: "unexplained", Confidence: "high", Seq: seq,
			Text: fmt.Sprintf("%s reached the kernel without passing Python's own doors: ctypes, native code, or a silenced hook", e.Op),
		})
	}
}

// count accounts for a refused call of a flood without looking at it.
func (s *Supervisor) count(nr int, errno unix.Errno) {
	op, category := fmt.Sprintf("syscall_%d", nr), event.Syscall
	if sc, ok := seccomp.Lookup(nr); ok {
		op, category = sc.Name, sc.Category
	}
	s.o.Recorder.Record(event.Event{
		Time: time.Since(s.o.Start), Layer: event.Seccomp, Category: category, Op: op, Target: op,
		Verdict: event.Denied, Errno: unix.ErrnoName(errno),
		Detail: fmt.Sprintf("after %d refusals of this call its arguments are not read", describeMax),
	})
}
