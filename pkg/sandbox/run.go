package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/cgroup"
	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/interp"
	"github.com/sbxproject/sbx/pkg/jail"
	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/pyhook"
	"github.com/sbxproject/sbx/pkg/pystack"
	"github.com/sbxproject/sbx/pkg/report"
	"github.com/sbxproject/sbx/pkg/seccomp"
	"github.com/sbxproject/sbx/pkg/supervisor"
)

// keptEvents is how many distinct events of each layer a report can hold;
// beyond that they are counted.
const keptEvents = 4000

// slots is how many goroutines of a run can wait in a system call at once: the
// supervisor, both output streams, the input, the control channel, the hook.
const slots = 8

// streamGrace is how long a reader may take at least to accept what is left of
// the output after the run has ended.
const streamGrace = 2 * time.Second

// startLimit is how long the jail may take to stand and Python to start: half a
// minute is an unreachable file system, not a slow one. The first look at an
// interpreter, which asks it for all that it needs and is then kept, may take longer
// where it has thousands of packages.
const (
	startLimit = 30 * time.Second
	lookLimit  = 2 * time.Minute
)

// execution is the state of one Run: every part is a value made by the story
// below, none is global.
type execution struct {
	spec   Spec
	start  time.Time
	phases []report.Phase

	exe     string              // the interpreter as the caller finds it
	interp  *interp.Interpreter // and what is known of it
	program *program
	read    []jail.Grant // host paths that the jail shows
	write   []jail.Grant
	policy  *seccomp.Policy
	layers  *layers
	site    cgroup.Site
	group   *cgroup.Group
	pipes   *pipes
	jail    *jail.Jail
	ready   *jail.Ready
	rlimits []jail.Rlimit // what Python is to have
	disks   []string      // the jail's own writable file systems
	python  int           // the script's main process
	account *account
	ids     jail.IDs
	ender   *ender
	out     *stream
	err     *stream
	pumps   atomic.Int32  // streams that are not at their end
	drained chan struct{} // closed by the last

	stacks      *pystack.Reader
	calibration supervisor.Calibration // of stacks; zero where it is not had
	stood       []report.Finding       // where the threads were when sbx ended the run
	stoodMain   string                 // where the main thread was
	near        near                   // where it was when its memory was nearly used up

	recorder    *event.Recorder
	supervisor  *supervisor.Supervisor
	served      chan error
	observed    chan struct{} // closed when Python was observed, its execve waiting
	execAt      time.Time     // and let through then
	refused     refused       // what made causeDenials
	thrashed    thrashed      // and causeThrashing
	initTasks   int64         // tasks of the init stage in the group
	readsInput  bool          // when sbx ended it, it waited for its input
	cpuAtKill   time.Duration // what the tree had used when sbx ended it, where no group counts
	interrupted func() error  // why the caller's context ended
	unwatch     func() bool   // stops waiting for the caller's interrupt
	startTimer  *time.Timer
	clocks      clocks
	warden      *warden
}

// Run executes one program and reports on it. The error is an [*Error]: sbx
// refused or failed to start it. A program that fails, or that a limit ended,
// is a report.
func Run(ctx context.Context, spec Spec) (*report.Report, error) {
	// The parent-death signal of the jail follows this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	x := &execution{spec: spec, start: spec.Start, recorder: event.NewRecorder(keptEvents), observed: make(chan struct{}), account: &account{}}
	if x.start.IsZero() {
		x.start = time.Now()
	}
	defer x.close()

	if err := x.choose(ctx); err != nil { // 1
		return nil, err
	}
	x.site = cgroup.Find()
	if x.site.Born() {
		if err := x.makeGroup(); err != nil { // 2
			return nil, err
		}
	}
	x.interrupted = func() error { return context.Cause(ctx) }
	if err := x.enter(ctx); err != nil { // 3, 4, 5, 6, 7
		return nil, x.startError(err)
	}
	exit, err := x.attend() // 8, 9, 10
	if err != nil {
		return nil, x.startError(err)
	}
	cause := x.ender.close()
	x.clocks.stop()
	end := x.finish(ctx, exit, cause) // 11
	return x.report(end), nil         // 12
}

// hooked says whether the script runs with the hook.
func (x *execution) hooked() bool { return x.spec.Profile.Python.Hooks != profile.HooksOff }

// meanwhile lets the caller do what it has to do besides.
func (x *execution) meanwhile() {
	if call := x.spec.Meanwhile; call != nil {
		x.spec.Meanwhile = nil
		call()
	}
}

// phase notes how long the start has taken so far.
func (x *execution) phase(name string) {
	x.phases = append(x.phases, report.Phase{Name: name, At: time.Since(x.start)})
}

// choose looks at what the caller names: the layers, the interpreter, the
// program, the host paths. What is wrong with them is said before anything is
// started.
func (x *execution) choose(ctx context.Context) error {
	s := &x.spec
	require := append(append([]string(nil), s.Profile.Require...), s.Require...)
	var err error
	if x.layers, err = newLayers(require, s.AllowDegraded); err != nil {
		return err
	}
	if x.exe, err = interp.Find(s.Python, s.PathEnv); err != nil {
		return interpreterError(s.Python, err)
	}
	if s.Program == nil {
		s.Program = strings.NewReader("")
	}
	if s.Script == "-" || s.Workspace != "" {
		x.meanwhile() // to be read, it may take any time
	}
	limits := treeLimits{bytes: int64(s.Profile.Limits.TmpSize), entries: s.Profile.Limits.TmpInodes}
	if x.program, err = loadProgram(s.Script, s.Workspace, cancelable{ctx, s.Program}, limits); err != nil {
		return err
	}
	files := s.Profile.Files
	if x.read, err = grants("--allow-file-read", files.ReadPaths, 0o4); err != nil {
		return err
	}
	x.write, err = grants("--allow-file-write", files.WritePaths, 0o6)
	return err
}

// prepare learns what the interpreter needs and compiles the policy: both come
// from a cache in most cases.
func (x *execution) prepare() error {
	s := &x.spec
	var err error
	if x.interp, err = interp.Load(x.exe, s.CacheDir); err != nil {
		return interpreterError(s.Python, err)
	}
	x.phase("interpreter")
	var pins []int
	if x.hooked() {
		pins = []int{pyhook.EventFD}
	}
	if x.policy, err = seccomp.Resolve(s.Profile.Seccomp, pins); err != nil {
		return &Error{Op: "system-call policy of profile " + s.Profile.Name, Err: err, Hint: "sbx profile check names the rule"}
	}
	if s.Profile.Trace {
		x.policy = x.policy.Traced()
	}
	x.readStacks()
	return nil
}

func interpreterError(spec string, err error) error {
	e := &Error{Op: "find interpreter", Path: spec, Err: err, Exit: exitNotFound, Hint: "name one with --python: a path, or a version such as 3.12 (CPython 3.8 and later)"}
	if strings.HasPrefix(err.Error(), spec) {
		e.Path = "" // it is named already
	}
	if errors.Is(err, interp.ErrNotExecutable) || errors.Is(err, interp.ErrUnsupported) {
		e.Exit = exitNotExecutable
	}
	return e
}

// Exit statuses of a run that did not take place, as shells have them.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// makeGroup makes the run's cgroup, and says what of it is missing.
func (x *execution) makeGroup() error {
	l := x.spec.Profile.Limits
	group, err := x.site.Open(cgroup.Name(), cgroup.Limits{Memory: int64(l.Memory), PIDs: l.PIDs, CPUPercent: l.CPUPercent})
	if err != nil {
		return &Error{Op: "make cgroup", Err: err, Hint: layerHint("cgroup.memory")}
	}
	x.group = group
	for name, layer := range group.Layers() {
		if layer.State == cgroup.Active {
			x.layers.active(name, layer.Observed)
		} else {
			x.layers.absent(name, layer.Why)
			x.layers.fixes[name] = layer.Fix
		}
	}
	x.phase("cgroup")
	if err := x.layers.missing("cgroup.memory", "cgroup.cpu", "cgroup.pids"); err != nil {
		return err
	}
	return nil
}

// enter starts the init stage, makes a group that is joined later and plans the
// jail while that comes up, and waits until it stands.
func (x *execution) enter(ctx context.Context) error {
	if err := x.spawn(); err != nil { // 3
		return err
	}
	// From here on there is time: the stage needs longer to come up than all of this.
	// What brings threads comes no earlier, since the clone copies a process and waits
	// for each of them that maps its stack meanwhile.
	//
	// Threads here mostly wait in the kernel. With a slot each they need no other to be
	// taken from them first, which the runtime looks for only every now and then: up to
	// 10 ms on a machine with two processors.
	runtime.GOMAXPROCS(max(slots, runtime.GOMAXPROCS(0)))
	x.meanwhile()
	x.ender = &ender{kill: x.kill}
	x.recorder.SetBudget(event.Budget{
		Denials: uint64(x.spec.Profile.Limits.Denials), Same: uint64(x.spec.Profile.Limits.SameDenial), Over: x.refusedOnceMore,
	})
	x.unwatch = context.AfterFunc(ctx, func() { x.ender.end(causeInterrupted) })
	x.startTimer = time.AfterFunc(lookLimit, func() { x.ender.end(causeStart) })
	x.carryStreams()
	if x.group == nil {
		if err := x.makeGroup(); err != nil {
			return err
		}
	}
	blueprint, err := x.plan() // 4, 5
	if err != nil {
		return err
	}
	x.startTimer.Reset(startLimit)
	blueprint.Tasks = x.group.Tasks()
	x.phase("plan")
	x.rlimits, x.disks = blueprint.Config.Rlimits, scratch(blueprint)
	if err := x.jail.Build(blueprint); err != nil { // 6
		return jailError(err)
	}
	x.program.Close()
	ready, listener, err := x.jail.Ready()
	if err != nil {
		return jailError(err)
	}
	x.ready = ready
	x.phase("jail")
	x.supervisor = supervisor.New(supervisor.Options{
		Listener: listener, Policy: x.policy, Recorder: x.recorder, Start: x.start,
		Writable: blueprint.Writable, Hook: x.pipes.fromHook, OnExec: x.observe, OnBegin: x.begun, OnEnd: func() { x.lookAtUse() },
		Stacks: x.stacks, Calibration: x.calibration, Trace: x.spec.Profile.Trace,
	})
	return x.judge() // 7
}

// plan turns the profile, the interpreter and the program into a blueprint.
func (x *execution) plan() (*jail.Blueprint, error) {
	if err := x.prepare(); err != nil {
		return nil, err
	}
	program, err := seccomp.CompileCached(x.policy, x.spec.CacheDir)
	if err != nil {
		return nil, &Error{Op: "compile filter", Err: err, Hint: layerHint("seccomp")}
	}
	filter, err := program.MarshalBinary()
	if err != nil {
		return nil, &Error{Op: "encode filter", Err: err}
	}
	boot, err := x.boot()
	if err != nil {
		return nil, &Error{Op: "prepare the hook", Err: err}
	}
	blueprint, err := jail.Plan(x.request(filter, boot))
	if err != nil {
		return nil, &Error{Op: "plan jail", Err: err, Hint: planHint(err)}
	}
	return blueprint, nil
}

// spawn clones the init stage into its namespaces, with the script's streams.
func (x *execution) spawn() error {
	var err error
	if x.ids, err = jail.HostIDs(); err != nil {
		return &Error{Op: "choose ids", Err: err, Hint: "mount /proc"}
	}
	if x.pipes, err = openPipes(x.hooked()); err != nil {
		return err
	}
	p := x.pipes
	if err := p.give(x.ids.UID, x.ids.GID); err != nil {
		return &Error{Op: "give the script its streams", Err: err, Hint: "as root, sbx makes its pipes the jail's (fchown(2)): it needs CAP_CHOWN, or run it as a plain user"}
	}
	spawn := jail.Spawn{
		IDs: x.ids, Namespaces: jail.Namespaces(x.spec.Profile),
		Stdin: p.stdin, Stdout: p.stdout, Stderr: p.stderr, Events: p.events,
	}
	if x.group != nil {
		spawn.CgroupDir = x.group.V2Dir()
	}
	x.jail, err = jail.Start(spawn)
	p.closeJail()
	if err != nil {
		return jailError(err)
	}
	x.phase("clone")
	return nil
}

// judge records what the init stage observed and refuses a run that lacks a
// required layer. What can only be seen on Python's own process follows in
// observe.
func (x *execution) judge() error {
	r, l := x.ready, x.layers
	if r.Landlock != "" {
		l.active("landlock", r.Landlock)
	} else {
		l.absent("landlock", r.LandlockWhy)
	}
	notify := "listener held by sbx"
	if r.WaitKillable {
		notify += ", WAIT_KILLABLE_RECV"
	}
	l.active("seccomp_notify", notify)
	if x.spec.Profile.Limits.Wall > 0 {
		l.active("wall_clock", fmt.Sprintf("timer of %s on CLOCK_MONOTONIC", x.spec.Profile.Limits.Wall))
	} else {
		l.absent("wall_clock", "the profile sets no limit")
	}
	if r.CgroupNS != "" {
		l.absent("cgroupns", r.CgroupNS)
	}
	if err := l.missing("landlock", "seccomp_notify", "wall_clock"); err != nil {
		return err
	}
	if !x.hooked() && l.required["python_hooks"] {
		l.absent("python_hooks", "the hook is off")
		if err := l.missing("python_hooks"); err != nil {
			return err
		}
	}
	return nil
}

// attend starts Python and stays with it until it ends or is ended.
func (x *execution) attend() (*jail.Exit, error) {
	if x.spec.Stdin == nil {
		_ = x.pipes.feed.Close() // an input that is empty
	} else {
		go feedStdin(x.pipes.feed, x.spec.Stdin)
	}

	x.served = make(chan error, 1)
	go func() {
		err := x.supervisor.Serve()
		if err != nil {
			// Nobody answers any more: the kernel says ENOSYS to what would be
			// notified, and a script must not go on in such a jail.
			x.ender.end(causeSupervisor)
		}
		x.served <- err
	}()

	if err := x.jail.Go(); err != nil {
		return nil, jailError(err)
	}
	if err := x.jail.Started(); err != nil {
		return nil, jailError(err)
	}
	x.startTimer.Stop()
	select {
	case <-x.observed:
	default:
		return nil, &Error{Op: "observe the jail", Err: errors.New("the interpreter started without having been seen"), Hint: "report this as a bug, with the profile"}
	}
	x.phase("python")
	x.startClocks()
	go report.Rehearse()
	exit, err := x.jail.Exited()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, unix.ECONNRESET) {
		return nil, jailError(err)
	}
	return exit, nil
}

// carryStreams begins to carry the script's output.
func (x *execution) carryStreams() {
	limits := x.spec.Profile.Limits
	x.out = &stream{to: x.spec.Stdout, limit: int64(limits.Output)}
	x.err = &stream{to: x.spec.Stderr, limit: int64(limits.Output)}
	if limits.OutputAction == profile.OutputKill {
		over := func() { x.ender.end(causeOutput) }
		x.out.over, x.err.over = over, over
	}
	x.pumps.Store(2)
	x.drained = make(chan struct{})
	go x.carry(x.out, x.pipes.fromOut)
	go x.carry(x.err, x.pipes.fromErr)
}

// carry copies a stream to its end.
func (x *execution) carry(s *stream, from *os.File) {
	s.pump(from)
	if x.pumps.Add(-1) == 0 {
		close(x.drained)
	}
}

// startError prefers, for a Python that did not start, what sbx knows of the
// reason: it ended the start itself, or did not observe a required layer.
func (x *execution) startError(err error) error {
	if x.ender == nil {
		return err
	}
	switch x.ender.close() {
	case causeInterrupted:
		return &Error{Op: "start the script", Err: x.interrupted(), Hint: "nothing ran, and nothing is left"}
	case causeStart:
		return &Error{Op: "start the script", Err: fmt.Errorf("not started after %s", time.Since(x.start).Round(time.Second)), Hint: "look for a file system that does not answer (NFS, FUSE) on the way to the interpreter or the script"}
	}
	if x.served == nil {
		return err
	}
	x.jail.Kill()
	var own *Error
	if errors.As(x.supervision(), &own) {
		return own
	}
	return err
}

// supervision waits for the end of the supervisor and says what it failed of.
func (x *execution) supervision() error {
	err := <-x.served
	x.served = nil
	return err
}

// startClocks starts what looks at the run from outside, and can end it.
func (x *execution) startClocks() {
	limits := x.spec.Profile.Limits
	if limits.Wall > 0 {
		x.clocks.start(wallClock(limits.Wall-time.Since(x.execAt), x.ender))
	}
	if limits.CPUTime > 0 {
		x.clocks.start(cpuClock(limits.CPUTime, x.cpuUsed, x.ender))
	}
	if limits.Memory > 0 && !x.held("cgroup.memory") {
		x.clocks.start(memoryClock(int64(limits.Memory), x.memoryUsed, x.ender))
	}
	if limits.Memory > 0 && x.held("cgroup.memory") {
		used := func() (int64, error) { memory, _, err := x.group.Now(); return memory, err }
		x.clocks.start(nearClock(int64(limits.Memory), used, x.stoodNear))
	}
	x.clocks.start(x.accountClock())
	x.clocks.start(0, func() time.Duration { x.group.Sweep(); return over }) // while there is nothing else to do
	x.clocks.start(wardenDelay, x.hireWarden)
}

// hireWarden gives the run somebody who removes its cgroup if sbx is killed. A run
// without one goes on: what it would leave is empty, and the next run removes it.
func (x *execution) hireWarden() time.Duration {
	x.warden, _ = startWarden()
	return over
}

// close lets go of everything, in the reverse order of its making. It may be
// reached from any step.
func (x *execution) close() {
	x.clocks.stop()
	x.clocks.wait()
	if x.unwatch != nil {
		x.unwatch()
		x.startTimer.Stop()
		x.ender.close() // from here on nobody else kills: the number may be another's after Wait
	}
	if x.jail != nil {
		x.jail.Kill()
	}
	if x.served != nil {
		_ = x.supervision()
	}
	if x.jail != nil {
		_, _ = x.jail.Wait()
		x.jail = nil
	}
	if x.pipes != nil {
		x.pipes.closeAll()
	}
	x.account.close() // what is in the file systems belongs to the group as well
	if x.group != nil {
		_ = x.group.Close()
		x.group = nil
	}
	x.warden.dismiss()
	x.warden = nil
	if x.program != nil {
		x.program.Close()
	}
}

// jailError says what a step of the jail's making means for the user.
func jailError(err error) error {
	var step *jail.SetupError
	if errors.As(err, &step) && step.Op == "clone" && step.Errno == unix.EACCES && os.Geteuid() == 0 {
		// The init stage is this binary, and by then the jail's user.
		if info, serr := os.Stat("/proc/self/exe"); serr == nil && info.Mode()&1 == 0 {
			exe, _ := os.Executable()
			return &Error{Op: "build jail", Err: err, Hint: "as root, the jail is a user of its own, who must be able to execute sbx: chmod o+x " + exe}
		}
	}
	return &Error{Op: "build jail", Err: err, Hint: jailHint(err, os.Geteuid() == 0)}
}
