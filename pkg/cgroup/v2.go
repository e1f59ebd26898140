package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pseudofs"
)

// openV2 makes the group on the unified hierarchy.
func (g *Group) openV2(own string, l Limits) {
	if why := g.findV2(own); why != nil {
		for _, layer := range []string{layerMemory, layerCPU, layerPIDs} {
			g.layers[layer] = Layer{State: Absent, Why: refusal(why), Fix: fix(why)}
		}
		return
	}
	have, err := pseudofs.ReadFile(filepath.Join(g.v2, "cgroup.controllers"))
	controllers := strings.Fields(string(have))
	for _, c := range []struct{ name, layer string }{{"memory", layerMemory}, {"pids", layerPIDs}, {"cpu", layerCPU}} {
		if err != nil || !slices.Contains(controllers, c.name) {
			g.layers[c.layer] = Layer{State: Absent, Why: fmt.Sprintf("controller %s is not delegated to %s", c.name, filepath.Dir(g.v2))}
			if c.layer == layerMemory && g.host.wants != "" {
				g.layers[c.layer] = noMemory(mountOf(own))
			}
			continue
		}
		g.note(c.layer, g.where(), nil)
		g.limitV2(c.name, c.layer, l)
	}
	g.dir, err = os.OpenFile(g.v2, unix.O_DIRECTORY|unix.O_PATH, 0)
	if err != nil {
		// Nobody can be started in it.
		for _, layer := range []string{layerMemory, layerCPU, layerPIDs} {
			g.note(layer, "", err)
		}
	}
}

// noMemory is for a hierarchy that has no memory controller at its very top.
func noMemory(top string) Layer {
	return Layer{
		State: Absent, Why: "memory is not in " + top + "/cgroup.controllers: the kernel was booted without this controller, or this container has none",
		Fix: "boot without cgroup_disable=memory (with cgroup_enable=memory where the kernel's makers disable it, as for the Raspberry Pi); in a container, have the memory controller delegated to it",
	}
}

// where says which group it is, and what had to be done for it.
func (g *Group) where() string {
	if len(g.how) == 0 {
		return "v2 " + g.name
	}
	return "v2 " + g.name + " (" + strings.Join(g.how, "; ") + ")"
}

// mountOf is the top of the hierarchy that a group is in. It is a variable part
// of the path only in tests, which work on a tree of their own.
func mountOf(group string) string {
	for dir := group; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "cgroup.controllers")); errors.Is(err, os.ErrNotExist) {
			return dir
		}
	}
	return group
}

// leafV2 makes the leaf in a group, which hands on its controllers.
func (g *Group) leafV2(in level) error {
	var refused error
	for _, c := range []string{"memory", "pids", "cpu"} {
		if slices.Contains(in.hands, c) {
			continue
		}
		// One by one: a controller that is missing must not cost the others.
		if err := writeFile(filepath.Join(in.dir, "cgroup.subtree_control"), "+"+c); refused == nil {
			refused = err
		}
	}
	dir := filepath.Join(in.dir, g.name)
	if err := g.host.mkdir(dir); err != nil {
		return &os.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	have, err := pseudofs.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil || !slices.Contains(strings.Fields(string(have)), in.controller()) {
		_ = g.host.rmdir(dir)
		if err == nil {
			err = refused
		}
		if err == nil {
			err = fmt.Errorf("%s hands on no %s controller", in.dir, in.controller())
		}
		return err
	}
	g.v2 = dir
	return nil
}

func (g *Group) limitV2(controller, layer string, l Limits) {
	switch {
	case controller == "memory" && l.Memory > 0:
		// The whole group is one program: half of it is of no use.
		for _, s := range []setting{
			{layer, "memory.max", l.Memory, int64(os.Getpagesize())},
			{layer, "memory.oom.group", 1, 0},
		} {
			observed, err := s.write(g.v2)
			g.note(layer, observed, err)
		}
		// A program must not live on in swap space after its memory is used up.
		observed, err := setting{layer, "memory.swap.max", 0, 0}.write(g.v2)
		if errors.Is(err, fs.ErrNotExist) {
			observed, err = "(no memory.swap.max: this kernel does not account for swap)", nil
		}
		g.note(layer, observed, err)
	case controller == "pids" && l.PIDs > 0:
		observed, err := setting{layer, "pids.max", l.PIDs, 0}.write(g.v2)
		g.note(layer, observed, err)
	case controller == "cpu" && l.CPUPercent > 0:
		want := fmt.Sprintf("%d %d", int64(l.CPUPercent)*period/100, period)
		file := filepath.Join(g.v2, "cpu.max")
		err := writeFile(file, want)
		if have, rerr := pseudofs.ReadFile(file); err == nil && (rerr != nil || strings.TrimSpace(string(have)) != want) {
			err = fmt.Errorf("cpu.max: wrote %q, it says %q", want, have)
		}
		g.note(layer, "cpu.max="+want, err)
	}
}

func (g *Group) usageV2() (Usage, error) {
	var r reader
	cpu := r.keys(g.v2, "cpu.stat") // there without the controller as well
	u := Usage{
		CPUUser:   time.Duration(cpu["user_usec"]) * time.Microsecond,
		CPUSystem: time.Duration(cpu["system_usec"]) * time.Microsecond,
		Throttled: time.Duration(cpu["throttled_usec"]) * time.Microsecond,
	}
	if g.layers[layerMemory].State == Active {
		before := r.number(g.v2, "memory.current")
		stat := r.keys(g.v2, "memory.stat")
		u.Anon, u.File, u.Kernel = stat["anon"], stat["file"], stat["kernel"]
		u.Droppable, u.Reread = stat["active_file"]+stat["inactive_file"], rereads(stat, "")
		u.MajorFaults = stat["pgmajfault"]
		u.Memory = min(before, r.number(g.v2, "memory.current"))
		u.MemoryPeak = r.optional(g.v2, "memory.peak") // Linux 5.19
	}
	if g.layers[layerPIDs].State == Active {
		u.PIDs = r.number(g.v2, "pids.current")
		u.PIDsPeak = r.optional(g.v2, "pids.peak") // Linux 6.6
	}
	return u, r.err
}

func (g *Group) eventsV2() (Events, error) {
	var e Events
	var r reader
	if g.layers[layerMemory].State == Active {
		memory := r.keys(g.v2, "memory.events")
		e.OOMKills, e.MemMax = memory["oom_kill"], memory["max"]
	}
	if g.layers[layerPIDs].State == Active {
		e.PIDsMax = r.keys(g.v2, "pids.events")["max"]
	}
	return e, r.err
}
