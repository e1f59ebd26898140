package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// period is the accounting period of the processor share, microseconds: the
// kernel's default.
const period = 100_000

// v1Controllers are the hierarchies that a run uses where the host has v1.
var v1Controllers = []struct{ name, layer string }{
	{"memory", layerMemory}, {"pids", layerPIDs}, {"cpu", layerCPU}, {"cpuacct", ""},
}

// openV1 makes one directory per controller, beneath the caller's own group, so
// that an outer limit keeps holding.
func (g *Group) openV1(parents map[string]string, l Limits) {
	made := map[string]bool{} // cpu and cpuacct are often one hierarchy
	for _, c := range v1Controllers {
		parent, ok := parents[c.name]
		if !ok {
			if c.layer != "" {
				g.layers[c.layer] = Layer{State: Absent, Why: "this host has no " + c.name + " controller"}
			}
			continue
		}
		if real, err := filepath.EvalSymlinks(parent); err == nil {
			parent = real
		}
		dir := filepath.Join(parent, g.name)
		if err := g.joinable(dir, made); err != nil {
			if c.layer != "" {
				g.layers[c.layer] = Layer{State: Absent, Why: refusal(err)}
			}
			continue
		}
		g.v1[c.name] = dir
		if c.layer != "" {
			g.note(c.layer, "v1 "+g.name, nil)
		}
		for _, s := range v1Settings(c.name, l) {
			observed, err := s.write(dir)
			g.note(s.layer, observed, err)
		}
		if c.name == "memory" && l.Memory > 0 {
			observed, err := noSwap(dir, l.Memory)
			g.note(layerMemory, observed, err)
		}
	}
}

// joinable makes the directory and opens the file through which the run joins.
func (g *Group) joinable(dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	if err := g.host.mkdir(dir); err != nil {
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	// Opened here, with our rights: those are what counts when the jail, who
	// has none, writes to it.
	fd, err := unix.Open(filepath.Join(dir, "tasks"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = g.host.rmdir(dir)
		return &os.PathError{Op: "open", Path: filepath.Join(dir, "tasks"), Err: err}
	}
	made[dir] = true
	g.tasks = append(g.tasks, os.NewFile(uintptr(fd), "tasks"))
	return nil
}

// v1Settings are the limit files of a controller, in the order in which they
// must be written.
func v1Settings(controller string, l Limits) []setting {
	switch {
	case controller == "memory" && l.Memory > 0:
		return []setting{{layerMemory, "memory.limit_in_bytes", l.Memory, int64(os.Getpagesize())}}
	case controller == "pids" && l.PIDs > 0:
		return []setting{{layerPIDs, "pids.max", l.PIDs, 0}}
	case controller == "cpu" && l.CPUPercent > 0:
		return []setting{
			{layerCPU, "cpu.cfs_period_us", period, 0},
			{layerCPU, "cpu.cfs_quota_us", int64(l.CPUPercent) * period / 100, 0},
		}
	}
	return nil
}

// noSwap keeps a run from living on in swap space after its memory is used up.
// Where the host does not account for swap the files are missing, and there is
// nothing to do.
//
// The limit of memory and swap together is one page higher: it is charged first,
// and were it the same, the limit of memory would never be met and
// memory.failcnt never counted.
func noSwap(dir string, memory int64) (string, error) {
	_ = writeFile(filepath.Join(dir, "memory.swappiness"), "0")
	page := int64(os.Getpagesize())
	observed, err := setting{layerMemory, "memory.memsw.limit_in_bytes", memory + page, page}.write(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "(no memory.memsw.limit_in_bytes: this kernel does not account for swap)", nil
	}
	return observed, err
}

func (g *Group) usageV1() (Usage, error) {
	var u Usage
	var r reader
	if dir, ok := g.v1["cpuacct"]; ok {
		u.CPUUser, u.CPUSystem = split(r.number(dir, "cpuacct.usage"),
			r.number(dir, "cpuacct.usage_user"), r.number(dir, "cpuacct.usage_sys"))
	}
	if dir, ok := g.v1["cpu"]; ok {
		u.Throttled = time.Duration(r.keys(dir, "cpu.stat")["throttled_time"])
	}
	if dir, ok := g.v1["memory"]; ok {
		before := r.number(dir, "memory.usage_in_bytes")
		stat := r.keys(dir, "memory.stat")
		u.Anon, u.File = stat["total_rss"], stat["total_cache"]
		u.Droppable, u.Reread = stat["total_active_file"]+stat["total_inactive_file"], rereads(stat, "total_")
		u.MajorFaults = stat["total_pgmajfault"]
		u.Memory = min(before, r.number(dir, "memory.usage_in_bytes"))
		u.MemoryPeak = r.number(dir, "memory.max_usage_in_bytes")
		u.Kernel = r.optional(dir, "memory.kmem.usage_in_bytes")
	}
	if dir, ok := g.v1["pids"]; ok {
		u.PIDs = r.number(dir, "pids.current")
		u.PIDsPeak = r.optional(dir, "pids.peak") // Linux 6.11
	}
	return u, r.err
}

// split divides the time that was used as the clock's ticks were. The ticks alone
// are no account: whoever sleeps at each of them is never seen.
func split(total, userTicks, systemTicks int64) (user, system time.Duration) {
	user = time.Duration(total)
	if systemTicks > 0 {
		user = time.Duration(float64(total) * (float64(userTicks) / (float64(userTicks) + float64(systemTicks))))
	}
	return user, time.Duration(total) - user
}

func (g *Group) eventsV1() (Events, error) {
	var e Events
	var r reader
	if dir, ok := g.v1["memory"]; ok {
		e.OOMKills = r.keys(dir, "memory.oom_control")["oom_kill"]
		e.MemMax = r.number(dir, "memory.failcnt")
	}
	if dir, ok := g.v1["pids"]; ok {
		e.PIDsMax = r.keys(dir, "pids.events")["max"]
	}
	return e, r.err
}
