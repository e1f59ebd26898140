package sandbox

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/cgroup"
	"github.com/sbxproject/sbx/pkg/jail"
	"github.com/sbxproject/sbx/pkg/posture"
	"github.com/sbxproject/sbx/pkg/report"
)

// An account is what a run used, as far as the kernel keeps no account that
// outlives it: what its memory consisted of, what the interpreter held before
// the script began, how full its writable file systems were, and, on kernels
// without pids.peak, how many tasks there were. It is looked at now and then.
type account struct {
	disks []*disk

	mu       sync.Mutex
	baseline int64
	largest  footprint
	tasks    int64

	begun    time.Time     // when the script was about to begin
	cpuBegun time.Duration // and what the tree had used until then
}

// footprint is the memory of a tree at one moment.
type footprint struct{ total, anonymous, file, kernel int64 }

// exceeds says whether this is the footprint to keep. Of two that are about as large
// it is the one that is better accounted for: the kernel may add up memory.stat some
// time after what it counts at once.
func (f footprint) exceeds(have footprint) bool {
	known := func(f footprint) int64 { return f.anonymous + f.file + f.kernel }
	if slack := have.total / 64; f.total >= have.total-slack && f.total <= have.total+slack {
		return known(f) > known(have)
	}
	return f.total > have.total
}

// disk is a writable file system of the jail. The descriptor keeps it there
// until it was looked at for the last time, after the last process is gone.
type disk struct {
	name         string
	fd           int
	bytes, files int64  // the most that were in use
	full         string // "bytes" or "files", when there was no room for more
}

// How often a run is looked at: soon after its start, then less and less.
const (
	firstLook = 10 * time.Millisecond
	lastLook  = 100 * time.Millisecond
)

// openDisks takes hold of the writable file systems, through the process whose
// execve(2) waits: what lies at these names is what init mounted there.
func (a *account) openDisks(pid int, names []string) error {
	for _, name := range names {
		path := fmt.Sprintf("/proc/%d/root%s", pid, name)
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s of the jail: %w", name, err)
		}
		a.disks = append(a.disks, &disk{name: name, fd: fd})
	}
	return nil
}

func (a *account) close() {
	for _, d := range a.disks {
		unix.Close(d.fd)
	}
	a.disks = nil
}

// look notes what is in use, and returns how many bytes.
func (d *disk) look() int64 {
	var st unix.Statfs_t
	if unix.Fstatfs(d.fd, &st) != nil || st.Blocks == 0 {
		return 0
	}
	now := int64(st.Blocks-st.Bfree) * st.Bsize
	d.bytes = max(d.bytes, now)
	d.files = max(d.files, int64(st.Files-st.Ffree))
	switch {
	case st.Bfree == 0:
		d.full = "bytes"
	case st.Ffree == 0:
		d.full = "files"
	}
	return now
}

// add notes a footprint and a number of tasks.
func (a *account) add(f footprint, tasks int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	most := max(f.total, a.largest.total)
	if f.exceeds(a.largest) {
		a.largest = f
	}
	a.largest.total = most
	a.tasks = max(a.tasks, tasks)
}

// seen is the largest memory that was looked at.
func (a *account) seen() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(a.largest.total, a.baseline)
}

// inFiles is what the writable file systems hold now. They are memory.
func (a *account) inFiles() (bytes int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.disks {
		bytes += d.look()
	}
	return bytes
}

// disksUsed are the most bytes and files that were in use, and which of the
// file systems was full, and of what.
func (a *account) disksUsed() (bytes, files int64, full, of string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.disks {
		bytes, files = bytes+d.bytes, files+d.files
		if d.full != "" {
			full, of = d.name, d.full
		}
	}
	return bytes, files, full, of
}

// scratch are the writable file systems that are the jail's own.
func scratch(b *jail.Blueprint) []string {
	var out []string
	for _, m := range b.Config.Mounts {
		if m.Kind == jail.MountTmpfs && m.Attr&unix.MOUNT_ATTR_RDONLY == 0 {
			out = append(out, m.Target)
		}
	}
	return out
}

// accountClock looks at the run now and then.
func (x *execution) accountClock() (first time.Duration, t tick) {
	var memory thrashing
	every := firstLook
	return every, func() time.Duration {
		u := x.lookAtUse()
		if seen, yes := memory.look(time.Now(), u, int64(x.spec.Profile.Limits.Memory)); yes {
			x.thrashed = seen
			x.ender.end(causeThrashing)
			return over
		}
		every = min(2*every, lastLook)
		return every
	}
}

// lookAtUse notes what the tree holds now: by its group, whose accounts it
// returns, or by what its processes say of themselves.
func (x *execution) lookAtUse() (u cgroup.Usage) {
	memory, pids := x.held("cgroup.memory"), x.held("cgroup.pids")
	if memory || pids {
		var err error
		if u, err = x.group.Usage(); err != nil {
			u = cgroup.Usage{}
		}
	}
	f, tasks := footprint{u.Memory, u.Anon, u.File, u.Kernel}, u.PIDs-x.initTasks
	if !memory {
		f, _ = x.processesHold()
	}
	if !pids {
		tasks, _ = posture.TasksBelow("/proc", x.jail.PID)
	}
	x.account.add(f, tasks)
	x.account.inFiles()
	return u
}

// held says whether a layer was observed to be at work.
func (x *execution) held(layer string) bool {
	return x.layers.seen[layer].State == report.LayerActive
}

// begun is called when the script is about to begin: what is in use by then is
// the interpreter's own.
func (x *execution) begun() {
	memory, cpu, err := x.group.Now()
	if err != nil || !x.held("cgroup.memory") {
		memory, _ = x.memoryUsed()
	}
	if err != nil || cpu == 0 {
		cpu, _ = x.cpuUsed()
	}
	a := x.account
	a.mu.Lock()
	defer a.mu.Unlock()
	a.baseline, a.begun, a.cpuBegun = memory, time.Now(), cpu
}

// memory says what the peak of a run's memory consists of.
func (x *execution) memory(peak int64) report.Memory {
	a := x.account
	a.mu.Lock()
	defer a.mu.Unlock()
	m := report.Memory{
		Baseline: a.baseline, Anonymous: a.largest.anonymous, File: a.largest.file, Kernel: a.largest.kernel,
		MeasuredBy: "cgroup",
	}
	if !x.held("cgroup.memory") {
		m.MeasuredBy = "processes"
	}
	if a.baseline > 0 {
		m.Script = max(0, peak-a.baseline)
	}
	return m
}

// diskLimits are the two bounds of the writable file systems, for the report.
func (x *execution) diskLimits() (size, files int64) {
	l := x.spec.Profile.Limits
	n := int64(len(x.account.disks))
	return n * int64(l.TmpSize), n * l.TmpInodes
}

// tasks is the most processes and threads that there were at once: by the
// kernel's count, where it keeps one (pids.peak, Linux 6.6 on cgroup v2, 6.11 on
// v1), else as far as they were looked at.
func (x *execution) tasks(end *ending) int64 {
	x.account.mu.Lock()
	defer x.account.mu.Unlock()
	return max(1, end.usage.PIDsPeak-x.initTasks, x.account.tasks)
}

// cpuUsed is the processor time of the whole tree so far: by the group's account,
// or, without one, as far as the processes themselves tell.
func (x *execution) cpuUsed() (time.Duration, error) {
	if _, cpu, err := x.group.Now(); err == nil && cpu > 0 {
		return cpu, nil
	}
	return posture.TreeCPU("/proc", x.jail.PID)
}

// memoryUsed is what the tree holds, for a run without a cgroup.
func (x *execution) memoryUsed() (int64, error) {
	f, err := x.processesHold()
	if err == nil {
		x.account.add(f, 0)
	}
	return f.total, err
}

// processesHold adds up what the processes say that they hold, and their files in
// memory. The quick sum counts what processes share more than once, so what it
// finds too much is looked at again.
func (x *execution) processesHold() (footprint, error) {
	m, err := posture.MemoryBelow("/proc", x.jail.PID)
	if err != nil {
		return footprint{}, err
	}
	files := x.account.inFiles()
	shared := m.Shared + files
	if limit := int64(x.spec.Profile.Limits.Memory); limit > 0 && m.Anonymous+shared > limit {
		if exact, err := posture.ShareBelow("/proc", x.jail.PID); err == nil {
			// Files of the jail's file systems that are mapped are in both.
			m, shared = exact, max(exact.Shared, files)
		}
	}
	return footprint{total: m.Anonymous + shared, anonymous: m.Anonymous, file: shared}, nil
}
