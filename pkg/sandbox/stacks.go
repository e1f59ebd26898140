package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/jail"
	"github.com/sbxproject/sbx/pkg/posture"
	"github.com/sbxproject/sbx/pkg/pyhook"
	"github.com/sbxproject/sbx/pkg/pystack"
	"github.com/sbxproject/sbx/pkg/report"
	"github.com/sbxproject/sbx/pkg/supervisor"
)

// readStacks makes the reader of Python's stacks, and chooses the call by which
// it is calibrated. Reading begins when that call comes.
func (x *execution) readStacks() {
	in := x.interp
	x.stacks = pystack.New(pystack.Options{
		Major: in.Major, Minor: in.Minor, File: in.Runtime, Image: in.Image,
		Own: pyhook.Filename, Boot: pyhook.Boot, Known: pyhook.Calibration(), Roots: x.roots(),
	})
	if x.stacks.Off() != nil {
		return
	}
	// Numbers that no user has and that nobody else knows. A rule may answer the
	// call without asking, or with death: then the reader is checked later.
	c := supervisor.Calibration{NR: unix.SYS_SETRESUID}
	for i := range c.Args {
		c.Args[i] = 1<<30 | uint64(rand.Uint32N(1<<30))
	}
	if x.policy.Refuses(c.NR, [6]uint64{c.Args[0], c.Args[1], c.Args[2]}) {
		x.calibration = c
	}
}

// roots are the directories of the runtime, whose code is not the script's.
func (x *execution) roots() []string {
	roots := append([]string(nil), x.interp.StdPath...)
	if x.spec.Profile.Python.SitePackages {
		roots = append(roots, x.interp.SitePackages...)
	}
	return roots
}

// Bounds of what is looked at when sbx ends a run.
const (
	stoodProcesses = 8
	stoodThreads   = 16
	stoodTime      = 20 * time.Millisecond
	stoodCallers   = 4
)

// stoodAt says where each thread of the run's Python processes is. They may be
// running, so it is not certain.
func (x *execution) stoodAt() []report.Finding {
	if x.stacks == nil || x.stacks.Off() != nil || x.jail == nil {
		return nil
	}
	var out []report.Finding
	deadline := time.Now().Add(stoodTime)
	for _, pid := range posture.Descendants("/proc", x.jail.PID, stoodProcesses) {
		if len(out) > 0 && time.Now().After(deadline) {
			break // something is said, however busy the machine is
		}
		found, first := x.threadsOf(pid, deadline)
		out = append(out, found...)
		if pid == x.python {
			x.stoodMain = first
		}
	}
	return out
}

// threadsOf says where each thread of a process is, and by itself where the first
// one is. A process that runs no Python, or is gone, has none.
func (x *execution) threadsOf(pid int, deadline time.Time) (out []report.Finding, first string) {
	threads, err := x.stacks.Threads(pid, stoodThreads, deadline)
	if err != nil {
		return nil, ""
	}
	process := posture.Number("/proc", pid)
	for i, th := range threads {
		who := fmt.Sprintf("thread %d of process %d", th.NSTID, process)
		if i == 0 {
			first = place(*th.Place)
			if pid == x.python {
				who = "the main thread"
			}
		}
		out = append(out, report.Finding{Kind: "stood_at", Confidence: report.Medium, Text: stood(who, th)})
	}
	return out, first
}

// near is the last that was seen of a tree whose memory was nearly used up.
type near struct {
	memory int64 // that it had
	main   string
	stood  []report.Finding
}

// stoodNear notes where the largest process is: the kernel, which may be about to
// end the run, would choose it.
func (x *execution) stoodNear(have int64) {
	if x.stacks == nil || x.stacks.Off() != nil {
		return
	}
	pid, err := posture.Largest("/proc", x.jail.PID)
	if err != nil {
		return
	}
	if stood, first := x.threadsOf(pid, time.Now().Add(stoodTime)); len(stood) > 0 {
		x.near = near{have, first, stood}
	}
}

// stood says in a line where a thread was, and who had called that.
func stood(who string, th pystack.Thread) string {
	var b strings.Builder
	b.WriteString(who + " was at " + place(th.Stack[0]))
	callers := th.Stack[1:]
	for i, at := range callers[:min(len(callers), stoodCallers)] {
		b.WriteString(cmp.Or(strings.Repeat(", ", min(i, 1)), " (from "))
		b.WriteString(place(at))
	}
	if len(callers) > stoodCallers {
		b.WriteString(", ...")
	}
	if len(callers) > 0 {
		b.WriteString(")")
	}
	return b.String()
}

// place names a location as people do: the script's files without the directory
// that they have in the jail.
func place(at event.Location) string {
	s := fmt.Sprintf("%s:%d", strings.TrimPrefix(at.File, jail.ScriptDir+"/"), at.Line)
	if at.Function != "" && at.Function != "<module>" {
		s += " in " + at.Function
	}
	return s
}

// noStack says why refused calls have no line of their own, if there were any.
func (x *execution) noStack(denied uint64) (confidence, text string) {
	err := x.stacks.Off()
	switch {
	case err == nil || errors.Is(err, pystack.ErrUnsupported) && denied == 0:
		return "", ""
	case errors.Is(err, pystack.ErrUnsupported):
		return report.High, fmt.Sprintf("refused calls have the line that the hook gave, or none: %v", err)
	case errors.Is(err, unix.EPERM): // ptrace(2), "Ptrace access mode checking"
		return report.High, fmt.Sprintf("the memory of the script's processes may not be read: refused calls have the line that the hook gave, or none, arguments in memory are shown as addresses, what only the mounts refused is listed as let through, and nobody sees that the script waits for its input: %v; see sysctl kernel.yama.ptrace_scope (3 forbids it to everybody, until the next boot)", err)
	}
	return report.High, fmt.Sprintf("the stacks of this run could not be relied on and were not read: %v", err)
}
