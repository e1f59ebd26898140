package pystack

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
)

// Options say which interpreter is read.
type Options struct {
	Major, Minor int
	File         string // the interpreter's file that holds _PyRuntime, on the host
	Image        Image  // what [Locate] says of it
	// Own begins the file names of sbx's own code, and Boot is the function in such
	// a file below which there is nothing of the script's.
	Own, Boot string
	Roots     []string         // directories of the runtime: code there is not the script's
	Known     []event.Location // the stack that Calibrate is to read
}

// kept is how many frames of a stack are kept; more are read only for the place
// to name.
const kept = 16

// A Reader reads the stacks of one interpreter's processes. It may be used by
// several goroutines.
type Reader struct {
	o      Options
	layout layout
	roots  []string
	memory memory
	proc   procfs

	mu      sync.Mutex
	off     error // why nothing is read; nil while all is well
	proven  bool  // a known stack was read as it is
	doubt   error // why that could not be shown when it was asked for
	backing backing
	looked  bool   // for backing
	runtime uint64 // where _PyRuntime was when that was shown
}

// New returns a reader. What is wrong with the options, [Reader.Off] says.
func New(o Options) *Reader {
	r := &Reader{o: o, memory: vm{}, proc: procfs{"/proc"}}
	r.layout, r.off = layoutOf(o.Major, o.Minor, o.Image.Offsets)
	if r.off == nil && o.Image.Symbol == 0 {
		r.off = fmt.Errorf("%w: %s has no symbol _PyRuntime", ErrUnsupported, o.File)
	}
	for _, dir := range o.Roots {
		if dir != "" {
			r.roots = append(r.roots, strings.TrimRight(dir, "/")+"/")
		}
	}
	return r
}

// Off says why stacks are not read, nil where they are, or where nobody asked.
func (r *Reader) Off() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.off == nil && !r.proven {
		return r.doubt
	}
	return r.off
}

var (
	errNoThread   = errors.New("no thread of the interpreter has this number")
	errNoFrame    = errors.New("the thread has no frame")
	errUncertain  = errors.New("no stack of this run could be checked yet")
	errNoRuntime  = errors.New("the process has no interpreter of this kind")
	errNoIdentity = errors.New("the caller is not known any more")
)

// Stack returns the frames of a thread that stands still, innermost first, and
// the one to name, which may be beyond them. pid and nstid are its process in
// sbx's pid namespace and itself in its own.
func (r *Reader) Stack(pid, nstid int) ([]event.Location, *event.Location, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.off != nil {
		return nil, nil, r.off
	}
	if pid <= 0 || nstid <= 0 {
		return nil, nil, errNoIdentity
	}
	t := &target{memory: r.memory, pid: pid}
	th, runtime, err := r.find(t, nstid)
	if err != nil {
		return nil, nil, err
	}
	if !r.proven {
		if r.doubt = r.prove(t, runtime); r.doubt != nil {
			return nil, nil, r.doubt
		}
	}
	stack, place := r.frames(t, th)
	if place == nil {
		return nil, nil, errNoFrame
	}
	return stack, place, nil
}

// find looks for a thread: in the process itself, else, for a child of vfork(2),
// the thread that waits for it.
func (r *Reader) find(t *target, nstid int) (thread, uint64, error) {
	err := errNoRuntime
	for runtime := range r.places(t.pid) {
		th, ok, n := t.find(&r.layout, runtime, nstid)
		if ok {
			return th, runtime, nil
		}
		if n == 0 {
			continue
		}
		if _, creator := r.proc.creator(t.pid); creator != 0 {
			if th, ok, _ := t.find(&r.layout, runtime, creator); ok {
				return th, runtime, nil
			}
		}
		err = errNoThread
	}
	return thread{}, 0, err
}

// places are the addresses at which a process can have its _PyRuntime: where the
// run's first process has it, which holds for all that it forks, and what its
// mappings say, which holds for an interpreter that was started anew.
func (r *Reader) places(pid int) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		if r.o.Image.Fixed {
			yield(r.o.Image.Symbol)
			return
		}
		if r.runtime != 0 && !yield(r.runtime) {
			return
		}
		if !r.looked {
			r.backing, r.looked = backingOf(r.o.File), true
		}
		base, err := r.proc.base(pid, r.backing)
		if at := base + r.o.Image.Symbol - r.o.Image.First; err == nil && at != r.runtime {
			yield(at)
		}
	}
}

// frames reads a stack without sbx's own frames.
func (r *Reader) frames(t *target, th thread) (stack []event.Location, place *event.Location) {
	w := &walk{target: t, l: &r.layout}
	mine := false
	w.frames(th, func(at event.Location) bool {
		if r.own(at) {
			return at.Function != r.o.Boot
		}
		if len(stack) < kept {
			stack = append(stack, at)
		}
		if !mine && (place == nil || !r.ofRuntime(at)) {
			place, mine = &at, !r.ofRuntime(at)
		}
		return len(stack) < kept || !mine
	})
	return stack, place
}

// own says whether a frame is sbx's: its boot's or its hook's.
func (r *Reader) own(at event.Location) bool {
	return r.o.Own != "" && strings.HasPrefix(at.File, r.o.Own)
}

// ofRuntime says whether a frame is none of the script's own code.
func (r *Reader) ofRuntime(at event.Location) bool {
	return at.File == unknown || strings.HasPrefix(at.File, "<frozen ") ||
		slices.ContainsFunc(r.roots, func(dir string) bool { return strings.HasPrefix(at.File, dir) })
}

// Calibrate reads the stack of a thread that stands where Options.Known has it, and
// turns the reader off if it reads another. The first answer stands.
func (r *Reader) Calibrate(pid, nstid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.off != nil || r.proven {
		return
	}
	t := &target{memory: r.memory, pid: pid}
	th, runtime, err := r.find(t, nstid)
	if err != nil {
		r.off = fmt.Errorf("a stack that is known could not be read: %w", cmp.Or(r.denied(pid), err))
		return
	}
	var got []event.Location
	w := &walk{target: t, l: &r.layout}
	w.frames(th, func(at event.Location) bool {
		got = append(got, at)
		return true
	})
	if !slices.Equal(got, r.o.Known) {
		r.off = fmt.Errorf("a stack that is known was read as another: %s, want %s", format(got), format(r.o.Known))
		return
	}
	r.proven, r.runtime = true, runtime
}

// denied is the kernel's refusal to let us read a process, nil where it lets us.
func (r *Reader) denied(pid int) error {
	if _, ok := r.memory.(vm); !ok {
		return nil
	}
	for at := range r.places(pid) {
		var b [1]byte
		local := []unix.Iovec{{Base: &b[0], Len: 1}}
		_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: 1}}, 0)
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("process_vm_readv: %w", err)
		}
	}
	return nil
}

// prove is what is left where no known stack could be read: a thread, which is
// the main one, must stand above the boot's own frame.
func (r *Reader) prove(t *target, runtime uint64) error {
	var all []thread
	t.threads(&r.layout, runtime, func(th thread) bool { all = append(all, th); return true })
	for _, th := range slices.Backward(all) { // the main thread is the last
		found := false
		n := 0
		(&walk{target: t, l: &r.layout}).frames(th, func(at event.Location) bool {
			n++
			found = r.own(at) && at.Function == r.o.Boot && at.Line > 0
			return !found
		})
		if found {
			r.proven, r.runtime = true, runtime
			return nil
		}
		if n == maxFrames {
			return errUncertain // deeper than what is read
		}
	}
	return errors.New("no stack of the process begins with sbx's own frame")
}

func format(stack []event.Location) string {
	var out []string
	for _, at := range stack[:min(len(stack), 4)] {
		out = append(out, fmt.Sprintf("%.80s:%d in %.80s", at.File, at.Line, at.Function))
	}
	if len(out) == 0 {
		return "no frame"
	}
	return strings.Join(out, ", ")
}

// Thread is where one thread of a process stands.
type Thread struct {
	TID, NSTID int // in sbx's pid namespace, and in its own
	Stack      []event.Location
	Place      *event.Location // the one of Stack to name, as of [Reader.Stack]
}

// settle is how often the stack of a running thread is read until it is the same
// twice.
const settle = 3

// Threads reads the stacks of up to limit threads of a process, the main thread
// first, that may be running: each stack is read until it stands still for a
// moment, and may be a little off where it does not. After the deadline only the
// first one is read.
func (r *Reader) Threads(pid, limit int, deadline time.Time) ([]Thread, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.off != nil {
		return nil, r.off
	}
	if !r.proven {
		return nil, errUncertain
	}
	t := &target{memory: r.memory, pid: pid}
	for runtime := range r.places(pid) {
		var all []thread
		t.threads(&r.layout, runtime, func(th thread) bool { all = append(all, th); return true })
		if len(all) > 0 {
			return r.stand(t, all, limit, deadline), nil
		}
	}
	return nil, errNoRuntime
}

func (r *Reader) stand(t *target, all []thread, limit int, deadline time.Time) []Thread {
	var out []Thread
	tids := map[int]int{}
	for _, task := range r.proc.tasks(t.pid) {
		if nstid, _ := r.proc.status(strconv.Itoa(t.pid), "task", task); nstid != 0 {
			tids[nstid], _ = strconv.Atoi(task)
		}
	}
	for _, th := range slices.Backward(all) {
		if len(out) >= limit || len(out) > 0 && time.Now().After(deadline) {
			break
		}
		nstid := th.native
		if tids[nstid] == 0 {
			nstid = t.tid(th) // see find
		}
		if tids[nstid] == 0 {
			continue // gone; of a child of vfork(2), its parent's
		}
		stack, place := r.frames(t, th)
		for range settle {
			again, at := r.frames(t, t.again(&r.layout, th))
			if slices.Equal(stack, again) {
				break
			}
			stack, place = again, at
		}
		if len(stack) > 0 {
			out = append(out, Thread{TID: tids[nstid], NSTID: nstid, Stack: stack, Place: place})
		}
	}
	return out
}
