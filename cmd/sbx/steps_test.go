package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/report"
)

// asTracer as first argument makes the test binary a tracer: TARGET STEP SIGNAL and
// a command follow.
const asTracer = "-as-tracer"

// The processes of a run whose steps a tracer can count.
const (
	ofSbx  = "sbx"
	ofInit = "init"
)

// stepped is what became of a run of which one process got a signal at one of its
// steps. A step is one end of a system call of any of its threads.
type stepped struct {
	Steps  int // that were counted, until the signal or until the end
	Sent   bool
	Status int // of sbx; -1 when a signal ended it
}

// traceMain is the life of a tracer.
func traceMain(args []string) error {
	step, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	// Who is seized must not have begun: it waits for a line.
	gate, release, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", `read -r _ <&3; exec 3<&-; exec "$@"`, "sh"}, args[3:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdin, os.Stderr, os.Stderr, []*os.File{gate}
	if err := cmd.Start(); err != nil {
		return err
	}
	tr := &tracer{main: cmd.Process.Pid, target: args[0], step: step, signal: unix.Signal(number), release: release, known: map[int]bool{}}
	traced := make(chan error)
	go tr.thread(traced)
	if err := <-traced; err != nil {
		_ = cmd.Process.Kill()
		return err
	}
	if tr.Sent && tr.signal == unix.SIGSTOP {
		if err := tr.goOn(); err != nil {
			return err
		}
	}
	if !tr.over {
		for {
			var status unix.WaitStatus
			_, err := unix.Wait4(tr.main, &status, 0, nil)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
			if err == nil && !status.Stopped() { // there may be a last stop, until the thread is gone that traces
				tr.Status = status.ExitStatus()
				break
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(tr.stepped)
}

// tracer follows a run until its signal is sent, and then lets go of it.
type tracer struct {
	stepped
	main    int // sbx
	init    int
	target  string
	step    int
	signal  unix.Signal
	release *os.File
	known   map[int]bool
	over    bool
}

// thread traces. When it ends, so does the tracing: the kernel lets everybody go on.
func (tr *tracer) thread(done chan<- error) {
	runtime.LockOSThread() // for good: the runtime ends the thread with the goroutine
	if unix.Gettid() == unix.Getpid() {
		go tr.thread(done) // the main thread is not ended
		select {}
	}
	done <- tr.trace()
}

func (tr *tracer) trace() error {
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tr.main), 0, options, 0, 0); errno != 0 {
		return fmt.Errorf("PTRACE_SEIZE: %w", errno)
	}
	if _, err := tr.release.WriteString("go\n"); err != nil {
		return err
	}
	begun := false
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait4: %w", err)
		}
		if !status.Stopped() {
			if tid == tr.main {
				tr.over, tr.Status = true, status.ExitStatus()
				return nil
			}
			continue
		}
		event, deliver := int(status)>>16, 0
		switch {
		case status.StopSignal() == unix.SIGTRAP|0x80:
			if tr.Steps++; tr.Steps == tr.step {
				tr.Sent = true
				return unix.Kill(tr.targetPID(), tr.signal)
			}
		case event == unix.PTRACE_EVENT_STOP && !tr.known[tid]:
			if !tr.adopt(tid) {
				_ = unix.PtraceDetach(tid)
				continue
			}
		case event == unix.PTRACE_EVENT_EXEC && tid == tr.main:
			begun, tr.known[tid] = true, true
		case event == 0:
			deliver = int(status.StopSignal())
		}
		// ESRCH: somebody killed it, which wait4 will tell.
		resume := unix.PtraceCont
		if begun && tr.counts(tid) {
			resume = unix.PtraceSyscall
		}
		if err := resume(tid, deliver); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("go on: %w", err)
		}
	}
}

// adopt says whether a new thread belongs to sbx or to its init, the first process
// that it starts. Everybody else goes his own way.
func (tr *tracer) adopt(tid int) bool {
	group := groupOf(tid)
	if tr.init == 0 && group != tr.main && group != 0 {
		tr.init = group
	}
	tr.known[tid] = group == tr.main || group == tr.init && tr.target == ofInit
	return tr.known[tid]
}

func (tr *tracer) counts(tid int) bool {
	return (groupOf(tid) == tr.main) == (tr.target == ofSbx)
}

func (tr *tracer) targetPID() int {
	if tr.target == ofSbx {
		return tr.main
	}
	return tr.init
}

// goOn waits until the process has stopped, or is gone, and lets it go on.
func (tr *tracer) goOn() error {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		data, err := os.ReadFile(procFile(tr.targetPID(), "stat"))
		if i := strings.LastIndexByte(string(data), ')'); err != nil || i > 0 && strings.ContainsRune("TZX", rune(data[i+2])) {
			return ignoreGone(unix.Kill(tr.targetPID(), unix.SIGCONT))
		}
	}
	return fmt.Errorf("%s does not stop", tr.target)
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// groupOf is the process of a thread, 0 if it is gone.
func groupOf(tid int) int {
	data, err := os.ReadFile(procFile(tid, "status"))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "\nTgid:")
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.Atoi(strings.TrimSpace(line))
	return n
}

// everyStep in the environment makes TestEndedAtEveryStep take all of them.
const everyStep = "SBX_EVERY_STEP"

// TestEndedAtEveryStep: SIGKILL, SIGSTOP, SIGTERM and SIGINT to sbx and to its init
// stage, at each end of each of their system calls: at a few dozen of them that are
// chosen anew each time, or at all of them with SBX_EVERY_STEP=1. The run ends, with
// a sensible status and whole report or with none, and nothing of it is left.
func TestEndedAtEveryStep(t *testing.T) {
	const some = 8
	file := script(t, "import time; time.sleep(0.01)")
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	runScript(t, "pass", "--profile", "strict").wantVerdict(t, report.OK, 0) // fills the cache
	for _, target := range []string{ofSbx, ofInit} {
		total := stepOf(t, target, 1<<30, unix.SIGKILL, file)
		if total.Status != 0 || total.Steps < 100 || total.Sent {
			t.Fatalf("a run that nobody disturbs: %+v", total)
		}
		t.Logf("%s makes %d steps", target, total.Steps)
		for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGSTOP, unix.SIGTERM, unix.SIGINT} {
			stride := 1
			if os.Getenv(everyStep) == "" {
				stride = max(1, total.Steps/some)
			}
			steps := make(chan int)
			var workers sync.WaitGroup
			for range runtime.NumCPU() {
				workers.Go(func() {
					for step := range steps {
						stepOf(t, target, step, signal, file)
					}
				})
			}
			for step := 1 + rand.IntN(stride); step <= total.Steps; step += stride {
				steps <- step
			}
			close(steps)
			workers.Wait()
		}
	}
	wantGone(t, stages(t))
	// The next run removes the empty groups of those that were killed too early to
	// have a warden.
	runScript(t, "pass", "--profile", "strict").wantVerdict(t, report.OK, 0)
	if groups := abandonedGroups(t); len(groups) > 0 {
		t.Errorf("cgroups are left: %v", groups)
	}
	if after, err := os.ReadFile("/proc/self/mountinfo"); err != nil || string(after) != string(before) {
		t.Errorf("the mounts changed: %v", err)
	}
}

// abandonedGroups are groups of runs whose sbx is gone.
func abandonedGroups(t *testing.T) []string {
	t.Helper()
	return groupsWhere(t, func(f []string) bool {
		_, err := os.Stat("/proc/" + f[2])
		return os.IsNotExist(err)
	})
}

// stepOf makes a run whose target gets the signal at that step, and looks at what
// became of it.
func stepOf(t *testing.T, target string, step int, signal unix.Signal, file string) stepped {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Errorf("%s to %s at step %d: %s", unix.SignalName(signal), target, step, fmt.Sprintf(format, args...))
	}
	var out stepped
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		fail("%v", err)
		return out
	}
	run := sbxProcess(t, "run", "--profile", "strict", "--report", filepath.Join(dir, "report.json"), file)
	cmd := exec.CommandContext(t.Context(), run.Path, append([]string{asTracer, target, strconv.Itoa(step), strconv.Itoa(int(signal))}, run.Args...)...)
	cmd.Env = run.Env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	said, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(said, &out)
	}
	if err != nil {
		fail("the tracer failed: %v\n%s", err, stderr.String())
		return out
	}
	// A signal that its target ignores, as init does when its own code runs, or that
	// came when all was said, changes nothing; -1 is sbx's own end by it, before it
	// handles it or by SIGKILL.
	allowed, why := []int{0}, ""
	switch {
	case !out.Sent || signal == unix.SIGSTOP:
	case target == ofInit:
		allowed, why = []int{0, 125}, "init"
	case signal == unix.SIGKILL:
		allowed = []int{0, -1}
	default:
		allowed, why = []int{0, -1, 125, 128 + int(signal)}, "interrupted by "+unix.SignalName(signal)
	}
	if !slices.Contains(allowed, out.Status) {
		fail("status %d\n%s", out.Status, stderr.String())
	}
	if out.Status == 125 && !strings.Contains(stderr.String(), why) {
		fail("it does not say why: %s", stderr.String())
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 1 {
		fail("files are left: %v, %v", entries, err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil || e.Name() != "report.json" || !json.Valid(data) {
			fail("%s is no report: %v", e.Name(), err)
		}
	}
	if out.Status == 0 && len(entries) == 0 {
		fail("no report")
	}
	return out
}
