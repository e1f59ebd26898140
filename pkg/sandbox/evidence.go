package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/jail"
	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/report"
	"github.com/sbxproject/sbx/pkg/supervisor"
)

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

func survivors(exit *jail.Exit) int {
	if exit == nil {
		return 0
	}
	return exit.Survivors
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
	if e.MemoryPeak == 0 { // before Linux 5.19 cgroup v2 keeps none: the most that was seen
		e.MemoryPeak = x.account.seen()
	}
	_, _, e.Full, e.FullOf = x.account.disksUsed()
	e.TmpSize, e.TmpFiles = int64(l.TmpSize), l.TmpInodes
	e.ReadingStdin, e.At = x.readsInput, x.stoodMain
	if begun := x.account.begun; !begun.IsZero() {
		e.BegunWall, e.BegunCPU = begun.Sub(x.execAt), x.account.cpuBegun
	}
	e.NearAt, e.NearMemory = x.near.main, x.near.memory
	e.Reread, e.Thrashed = x.thrashed.bytes, x.thrashed.time
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
	if end.cause == causeNone && end.events.OOMKills > 0 {
		out = append(out, x.near.stood...)
	}
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
