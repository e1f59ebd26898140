package cgroup

import (
	"fmt"
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
				g.layers[c.layer] = Layer{State: Absent, Why: err.Error()}
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
			noSwap(dir, l.Memory)
		}
	}
}

// joinable makes the directory and opens the file through which the run joins.
func (g *Group) joinable(dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	// Opened here, with our rights: those are what counts when the jail, who
	// has none, writes to it.
	fd, err := unix.Open(filepath.Join(dir, "tasks"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Rmdir(dir)
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
func noSwap(dir string, memory int64) {
	_ = writeFile(filepath.Join(dir, "memory.swappiness"), "0")
	_ = writeFile(filepath.Join(dir, "memory.memsw.limit_in_bytes"), fmt.Sprint(memory))
}

func (g *Group) usageV1() (Usage, error) {
	var u Usage
	if dir, ok := g.v1["cpuacct"]; ok {
		user, err := readInt(filepath.Join(dir, "cpuacct.usage_user"))
		if err != nil {
			return u, err
		}
		system, err := readInt(filepath.Join(dir, "cpuacct.usage_sys"))
		if err != nil {
			return u, err
		}
		u.CPUUser, u.CPUSystem = time.Duration(user), time.Duration(system)
	}
	if dir, ok := g.v1["cpu"]; ok {
		u.Throttled = time.Duration(readKeys(filepath.Join(dir, "cpu.stat"))["throttled_time"])
	}
	if dir, ok := g.v1["memory"]; ok {
		var err error
		if u.MemoryPeak, err = readInt(filepath.Join(dir, "memory.max_usage_in_bytes")); err != nil {
			return u, err
		}
		if u.Memory, err = readInt(filepath.Join(dir, "memory.usage_in_bytes")); err != nil {
			return u, err
		}
		stat := readKeys(filepath.Join(dir, "memory.stat"))
		u.Anon, u.File = stat["total_rss"], stat["total_cache"]
		u.Kernel, _ = readInt(filepath.Join(dir, "memory.kmem.usage_in_bytes"))
	}
	if dir, ok := g.v1["pids"]; ok {
		u.PIDs, _ = readInt(filepath.Join(dir, "pids.current"))
		u.PIDsPeak, _ = readInt(filepath.Join(dir, "pids.peak")) // Linux 6.11
	}
	return u, nil
}

func (g *Group) eventsV1() Events {
	var e Events
	if dir, ok := g.v1["memory"]; ok {
		e.OOMKills = readKeys(filepath.Join(dir, "memory.oom_control"))["oom_kill"]
		e.MemMax, _ = readInt(filepath.Join(dir, "memory.failcnt"))
	}
	if dir, ok := g.v1["pids"]; ok {
		e.PIDsMax = readKeys(filepath.Join(dir, "pids.events"))["max"]
	}
	return e
}
