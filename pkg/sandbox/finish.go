package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/cgroup"
	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/jail"
	"github.com/sbxproject/sbx/pkg/posture"
	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/report"
	"github.com/sbxproject/sbx/pkg/supervisor"
)

// observe looks at Python's process while its execve(2) waits: every layer is
// on, and none of the script's code has run. A required layer that is not seen
// there refuses the start.
func (x *execution) observe(pid int) error {
	p, err := posture.Collect("/proc", pid)
	if err != nil {
		return &Error{Op: "observe the jail", Err: err, Hint: "mount /proc on the host"}
	}
	for name, o := range posture.Layers(p, posture.ReadNamespaces("/proc", unix.Gettid())) {
		if o.Active {
			x.layers.active(name, o.Observed)
		} else if _, said := x.layers.seen[name]; !said || name != "cgroupns" {
			x.layers.absent(name, o.Observed)
		}
	}
	// That we are asked is the observation.
	x.layers.active("seccomp_notify", x.layers.seen["seccomp_notify"].Observed+", asked about Python's execve(2)")
	x.observeGroups(pid)
	x.observeLimits(pid)
	x.python = pid
	if err := x.account.openDisks(pid, x.disks); err != nil {
		return &Error{Op: "observe the jail", Err: err, Hint: bugHint}
	}
	if err := x.boundProcesses(pid); err != nil {
		return &Error{Op: "bound the number of processes", Err: err, Hint: layerHint("cgroup.pids")}
	}
	// Of the hook nothing can be seen yet; its start record is looked for at
	// the end.
	x.execAt = time.Now()
	for _, name := range LayerNames {
		if name == "python_hooks" {
			continue
		}
		if missing := x.layers.missing(name); missing != nil {
			return missing
		}
	}
	close(x.observed)
	return nil
}

// observeGroups looks whether Python is in the group that holds its limits: a
// group with the right numbers and nobody in it holds nothing.
func (x *execution) observeGroups(pid int) {
	groups, err := posture.Groups("/proc", pid)
	for name, controller := range map[string]string{"cgroup.memory": "memory", "cgroup.cpu": "cpu", "cgroup.pids": "pids"} {
		if x.layers.seen[name].State != report.LayerActive {
			continue
		}
		if x.group.V2Dir() != nil {
			controller = ""
		}
		switch {
		case err != nil:
			x.layers.absent(name, err.Error())
		case groups[controller] != x.group.Name():
			x.layers.absent(name, fmt.Sprintf("its process is in the group %q, not in %s", groups[controller], x.group.Name()))
		}
	}
}

// observeLimits reads Python's limits, each of which may be lower than asked for
// and never higher.
func (x *execution) observeLimits(pid int) {
	seen := make([]string, 0, len(x.rlimits))
	for _, want := range x.rlimits {
		var have unix.Rlimit
		if err := unix.Prlimit(pid, want.Resource, nil, &have); err != nil {
			x.layers.absent("rlimits", fmt.Sprintf("%s cannot be read: %v", want.Name, err))
			return
		}
		if have.Cur > want.Soft || have.Max > want.Hard {
			x.layers.absent("rlimits", fmt.Sprintf("%s is %d, at most %d; want %d, at most %d", want.Name, have.Cur, have.Max, want.Soft, want.Hard))
			return
		}
		seen = append(seen, fmt.Sprintf("%s=%d", want.Name, have.Cur))
	}
	x.layers.active("rlimits", fmt.Sprint(seen))
}

// ending is how a run ended, with its accounts.
type ending struct {
	at    time.Time
	cause cause
	// failure is what the supervisor failed of, nil when it served to the end.
	failure error
	// accounts is why the group's account is not whole: what could not be read
	// is zero.
	accounts error
	exit     *jail.Exit // nil when the init stage died first
	usage    cgroup.Usage
	events   cgroup.Events
	sup      supervisor.Result
}

// finish ends what is left of the run and takes the accounts, before the group
// that keeps them is removed.
func (x *execution) finish(ctx context.Context, exit *jail.Exit, c cause) *ending {
	end := &ending{exit: exit, at: time.Now(), cause: c}
	x.jail.Kill()
	if x.group.V2Dir() != nil {
		// The same for whoever might be in the group and not in the pid namespace.
		// It is one write(2); on v1, where it is a hunt, Close does it if need be.
		_ = x.group.Kill()
	}
	end.failure = x.supervision() // which ends with the last task, and looks at the jail until then
	end.sup = x.supervisor.Result()
	_, _ = x.jail.Wait()
	x.jail = nil

	x.deliver(ctx, c)
	x.account.inFiles() // for the last time
	var usage, events error
	end.usage, usage = x.group.Usage()
	end.events, events = x.group.Events()
	end.accounts = errors.Join(usage, events)
	if stats := end.sup.Hook; !x.hooked() {
		x.layers.absent("python_hooks", "the hook is off")
	} else if stats.Started {
		x.layers.active("python_hooks", fmt.Sprintf("its start record, mode %s; evidence, no wall", stats.Mode))
	} else {
		x.layers.absent("python_hooks", "no start record came from the hook")
	}
	return end
}

// deliver waits until the reader has what the script printed. A slow one has the
// time that the script would have had, since it would have made the script wait.
func (x *execution) deliver(ctx context.Context, c cause) {
	grace := streamGrace
	if left := x.spec.Profile.Limits.Wall - time.Since(x.execAt); c == causeNone && left > grace {
		grace = left
	}
	drained := make(chan struct{})
	go func() { x.streams.Wait(); close(drained) }()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-drained:
		return
	case <-timer.C:
	case <-ctx.Done(): // a further signal to sbx
	}
	x.out.abandon(x.pipes.fromOut)
	x.err.abandon(x.pipes.fromErr)
}

// report decides the verdict and builds the report.
func (x *execution) report(end *ending) *report.Report {
	s := &x.spec
	e := x.evidence(end)
	out, errs := x.out.result(), x.err.result()
	tmpBytes, tmpFiles, _, _ := x.account.disksUsed()
	return report.Build(report.Input{
		Version: s.Version, Name: s.ReportName, Start: x.start, End: end.at,
		Log: x.recorder.Snapshot(), Evidence: e,
		Usage: report.Usage{
			WallSeconds:    end.at.Sub(x.execAt).Seconds(),
			CPUUserSeconds: x.user(end).Seconds(), CPUSystemSeconds: x.system(end).Seconds(),
			ThrottledSeconds: end.usage.Throttled.Seconds(),
			PeakMemoryBytes:  e.MemoryPeak, Memory: x.memory(e.MemoryPeak), PeakProcesses: x.tasks(end),
			PeakTmpBytes: tmpBytes, PeakTmpFiles: tmpFiles,
			StdoutBytes: out.Bytes, StderrBytes: errs.Bytes,
			SurvivorsKilled: survivors(end.exit), StartPhases: x.phases,
		},
		Stdout: report.RawStream(out), Stderr: report.RawStream(errs),
		Layers:  x.layers.list(),
		Profile: report.Profile{Name: s.Profile.Name, SHA256: s.Profile.SHA256(), Widened: widened(s.Widenings, s.AllowDegraded)},
		Script:  report.Script{Path: s.Script, SHA256: x.program.SHA256},
		Host:    report.Host{Kernel: kernel(), Python: x.interp.Version, PythonPath: x.interp.Path, UID: x.ids.UID},
		Limits:  x.limits(end, e), Findings: x.findings(end), Dropped: dropped(end.sup),
	})
}

// tasks is the most processes and threads that there were at once: by the
// kernel's count, where it keeps one (pids.peak, Linux 6.6 on cgroup v2, 6.11 on
// v1), else as far as they were looked at.
func (x *execution) tasks(end *ending) int64 {
	x.account.mu.Lock()
	defer x.account.mu.Unlock()
	return max(1, end.usage.PIDsPeak-x.initTasks, x.account.tasks)
}

func survivors(exit *jail.Exit) int {
	if exit == nil {
		return 0
	}
	return exit.Survivors
}

// cpuUsed is the processor time of the whole tree so far: by the group's account,
// or, without one, as far as the processes themselves tell.
func (x *execution) cpuUsed() (time.Duration, error) {
	u, err := x.group.Usage()
	if err == nil && u.CPUUser+u.CPUSystem > 0 {
		return u.CPUUser + u.CPUSystem, nil
	}
	return posture.TreeCPU("/proc", x.jail.PID)
}

// memoryUsed is what the tree holds, for a run without a cgroup. The quick sum
// counts what processes share more than once, so what it finds too much is looked
// at again.
func (x *execution) memoryUsed() (int64, error) {
	m, err := posture.MemoryBelow("/proc", x.jail.PID)
	if err != nil {
		return 0, err
	}
	files := x.account.inFiles()
	used := m.Anonymous + m.Shared + files
	if used > int64(x.spec.Profile.Limits.Memory) {
		if m, err := posture.ShareBelow("/proc", x.jail.PID); err == nil {
			// Files of the jail's file systems that are mapped are in both.
			used = m.Anonymous + max(m.Shared, files)
		}
	}
	if used > x.memoryPeak.Load() {
		x.memoryPeak.Store(used)
	}
	return used, nil
}

// boundProcesses sees to it that the limit on processes and threads is the
// script's alone. Tasks of the init stage are counted as well: on cgroup v2 all of
// them, on v1 the one that was restricted and joined. Where no cgroup bounds the
// processes it sets RLIMIT_NPROC on Python: in a user namespace the kernel counts
// the tasks of the namespace (user_namespaces(7), since Linux 5.14). The init stage
// keeps its own limit, or a thread bomb would keep it from reaping.
func (x *execution) boundProcesses(pid int) error {
	limit := x.spec.Profile.Limits.PIDs
	if limit == 0 {
		return nil
	}
	x.initTasks = 1
	if held := x.held("cgroup.pids"); !held || x.group.V2Dir() != nil {
		own, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", x.jail.PID))
		if err != nil {
			return err
		}
		x.initTasks = int64(len(own))
		if !held {
			n := uint64(limit + x.initTasks)
			return unix.Prlimit(pid, unix.RLIMIT_NPROC, &unix.Rlimit{Cur: n, Max: n}, nil)
		}
	}
	observed, err := x.group.BoundProcesses(limit + x.initTasks)
	if err != nil {
		x.layers.absent("cgroup.pids", err.Error())
		return nil // observe decides whether the run can do without
	}
	x.layers.active("cgroup.pids", fmt.Sprintf("%s %s, %d of which are for the init stage", x.group.Name(), observed, x.initTasks))
	return nil
}

// user and system prefer the group's account, which knows the whole tree, to
// that of wait4(2), which knows what was reaped.
func (x *execution) user(end *ending) time.Duration {
	if end.usage.CPUUser > 0 {
		return end.usage.CPUUser
	}
	if end.exit != nil {
		return end.exit.User
	}
	return x.cpuAtKill
}

func (x *execution) system(end *ending) time.Duration {
	if end.exit != nil && end.usage.CPUSystem == 0 {
		return end.exit.System
	}
	return end.usage.CPUSystem
}

// evidence gathers what the verdict is decided from.
func (x *execution) evidence(end *ending) report.Evidence {
	l := x.spec.Profile.Limits
	e := report.Evidence{
		EndedBy: string(end.cause), Error: failure(end.failure),
		WallLimit: l.Wall, CPULimit: l.CPUTime, Wall: end.at.Sub(x.execAt), CPU: x.user(end) + x.system(end),
		MemoryLimit: int64(l.Memory), MemoryPeak: end.usage.MemoryPeak, MemoryHits: end.events.MemMax, OOMKills: end.events.OOMKills,
		PIDsLimit: l.PIDs, PIDsRefused: end.events.PIDsMax,
		OutputLimit: int64(l.Output), OutputBytes: max(x.out.result().Bytes, x.err.result().Bytes),
		Uncaught: end.sup.Hook.Uncaught, UncaughtType: end.sup.Hook.UncaughtType, UncaughtMessage: end.sup.Hook.UncaughtMessage,
	}
	if e.MemoryPeak == 0 {
		e.MemoryPeak = x.memoryPeak.Load()
	}
	_, _, e.Full, e.FullOf = x.account.disksUsed()
	e.TmpSize, e.TmpFiles = int64(l.TmpSize), l.TmpInodes
	e.ReadingStdin, e.At = x.readsInput, x.stoodMain
	if begun := x.account.begun; !begun.IsZero() {
		e.BegunWall, e.BegunCPU = begun.Sub(x.execAt), x.account.cpuBegun
	}
	e.Tried, e.Same, e.Denials = x.refused.what, x.refused.same, x.refused.sum
	e.Stderr, e.SitePackages = string(x.err.end(lastWords)), x.spec.Profile.Python.SitePackages
	if end.cause == causeInterrupted {
		var by Interrupt
		if errors.As(x.interrupted(), &by) {
			e.Caller = by.Signal
		}
		e.Signal = cmp.Or(e.Caller, "SIGTERM")
	}
	if end.exit == nil {
		e.InitLost = end.cause == causeNone
		if e.Signal == "" {
			e.Signal = "SIGKILL"
		}
		return e
	}
	if e.MemoryPeak == 0 {
		e.MemoryPeak = end.exit.MaxRSS
	}
	status := unix.WaitStatus(end.exit.Status)
	if status.Signaled() {
		e.Signal = report.SignalName(int(status.Signal()))
	} else if end.cause == causeNone {
		e.Exited, e.Code = true, status.ExitStatus()
	}
	return e
}

func failure(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// limits lists what bounded the run, with what was used.
func (x *execution) limits(end *ending, e report.Evidence) []report.Limit {
	l := x.spec.Profile.Limits
	verdict := report.Classify(e).Verdict
	out := []report.Limit{}
	add := func(on bool, name string, limit, used float64, unit, by string, hit bool) {
		if on {
			out = append(out, report.Limit{Resource: name, Limit: limit, Unit: unit, Used: used, EnforcedBy: by, Hit: hit})
		}
	}
	add(l.Wall > 0, "wall_time", l.Wall.Seconds(), e.Wall.Seconds(), "seconds", "supervisor", verdict == report.WallTimeLimit)
	add(l.CPUTime > 0, "cpu_time", l.CPUTime.Seconds(), e.CPU.Seconds(), "seconds", "supervisor", verdict == report.CPUTimeLimit)
	add(l.Memory > 0, "memory", float64(l.Memory), float64(e.MemoryPeak), "bytes", x.enforcer("cgroup.memory"), verdict == report.MemoryLimit && e.MetMemoryLimit())
	add(l.CPUPercent > 0, "cpu_percent", float64(l.CPUPercent), percent(e), "percent", x.enforcer("cgroup.cpu"), end.usage.Throttled > 0)
	add(l.PIDs > 0, "processes", float64(l.PIDs), float64(x.tasks(end)), "processes", x.enforcer("cgroup.pids"), e.PIDsRefused > 0)
	add(l.Output > 0, "output", float64(l.Output), float64(e.OutputBytes), "bytes", "supervisor", e.OutputBytes > int64(l.Output))
	size, files := x.diskLimits()
	tmpBytes, tmpFiles, _, of := x.account.disksUsed()
	add(size > 0, "tmp", float64(size), float64(tmpBytes), "bytes", "tmpfs", of == "bytes")
	add(files > 0, "tmp_files", float64(files), float64(tmpFiles), "files", "tmpfs", of == "files")
	add(true, "open_files", float64(l.OpenFiles), 0, "descriptors", "rlimit", false)
	add(l.FileSize > 0, "file_size", float64(l.FileSize), 0, "bytes", "rlimit", e.Signal == "SIGXFSZ")
	return out
}

// enforcer names what holds a limit, "none" where nothing does.
func (x *execution) enforcer(layer string) string {
	switch {
	case x.layers.seen[layer].State == report.LayerActive:
		return "cgroup"
	case layer == "cgroup.memory":
		return "supervisor"
	case layer == "cgroup.pids":
		return "rlimit"
	}
	return "none"
}

func percent(e report.Evidence) float64 {
	if e.Wall <= 0 {
		return 0
	}
	return 100 * float64(e.CPU) / float64(e.Wall)
}

func (x *execution) findings(end *ending) []report.Finding {
	var out []report.Finding
	for _, f := range end.sup.Findings {
		out = append(out, report.Finding(f))
	}
	out = append(out, tampering(x.recorder.Snapshot())...)
	out = append(out, x.stood...)
	stats := end.sup.Hook
	add := func(kind, confidence, text string, args ...any) {
		out = append(out, report.Finding{Kind: kind, Confidence: confidence, Text: fmt.Sprintf(text, args...)})
	}
	if x.hooked() {
		if stats.Started && !stats.Ended && end.exit != nil && unix.WaitStatus(end.exit.Status).Exited() && end.cause == causeNone {
			add("hook_silent", "medium", "the hook announced no end: os._exit, a crash, or a script that silenced it")
		}
		if !stats.Started {
			add("hook_silent", report.High, "the hook never said that it started: what Python itself saw is not in this report")
		}
		if stats.Malformed > 0 {
			add("forged_events", "high", "%d stretches of the hook's channel were no events: something else wrote to it", stats.Malformed)
		}
	}
	if confidence, text := x.noStack(end.sup.Denied); text != "" {
		add("no_stack", confidence, "%s", text)
	}
	if end.accounts != nil {
		add("no_account", report.High, "the account of the cgroup could not be read, figures and limits of this report may be missing: %v", end.accounts)
	}
	for _, name := range x.program.Skipped {
		add("not_copied", "high", "%s is neither a file nor a directory nor a link, and was not copied", name)
	}
	if x.ready.Proc == "" {
		add("no_proc", "high", "the jail has no /proc: %s", x.ready.ProcWhy)
	}
	return out
}

func dropped(r supervisor.Result) map[string]uint64 {
	return map[string]uint64{"hook.malformed": r.Hook.Malformed, "hook.suppressed": r.Hook.Suppressed}
}

func widened(list []profile.Widening, degraded []string) []report.Widening {
	var out []report.Widening
	for _, w := range list {
		out = append(out, report.Widening(w))
	}
	for _, name := range degraded {
		out = append(out, report.Widening{Field: "require", From: name, To: "may be missing"})
	}
	return out
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// refused is the refusal by which a budget was spent.
type refused struct {
	what string
	same uint64 // how often that same thing was tried; 0 if it is the sum that is too high
	sum  uint64
}

// refusedOnceMore ends a run that keeps trying. It is called by whoever records
// the event.
func (x *execution) refusedOnceMore(e event.Event, same, sum uint64) {
	what := e.Op
	if e.Target != "" && e.Target != e.Op {
		what += " " + e.Target
	}
	x.refused = refused{what, same, sum}
	x.ender.end(causeDenials)
}

// kill ends the jail, and writes down why.
func (x *execution) kill(c cause) {
	select {
	case <-x.observed: // afterwards nobody could tell
		x.cpuAtKill, _ = x.cpuUsed()
		x.readsInput, _ = posture.ReadsInput("/proc", x.python)
		x.stood = x.stoodAt()
		x.lookAtUse()
	default: // the script has not begun
	}
	x.jail.Kill()
	op := map[cause]string{causeWall: "wall_time", causeCPU: "cpu_time", causeMemory: "memory", causeOutput: "output", causeDenials: "denials", causeInterrupted: "interrupt", causeSupervisor: "supervisor"}[c]
	x.recorder.Record(event.Event{
		Time: time.Since(x.start), Layer: event.Supervisor, Category: event.Resource, Op: op, Target: op, Verdict: event.Killed,
	})
}
