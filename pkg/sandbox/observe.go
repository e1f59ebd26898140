package sandbox

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/posture"
	"github.com/sbxproject/sbx/pkg/report"
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

// boundProcesses sees to it that the limit on processes and threads is the
// script's alone. Tasks of the init stage are counted as well: on cgroup v2 all of
// them, on v1 the one that was restricted and joined. Where no cgroup bounds the
// processes it sets RLIMIT_NPROC on Python: in a user namespace the kernel counts
// the tasks of the namespace (user_namespaces(7), since Linux 5.14). The init stage
// keeps its own limit, or a thread bomb would keep it from reaping.
func (x *execution) boundProcesses(pid int) error {
	limit, held := x.spec.Profile.Limits.PIDs, x.held("cgroup.pids")
	x.initTasks = 1
	if !held || x.group.V2Dir() != nil {
		own, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", x.jail.PID))
		if err != nil {
			return err
		}
		x.initTasks = int64(len(own))
	}
	switch n := uint64(limit + x.initTasks); {
	case limit == 0:
		return nil
	case !held:
		return unix.Prlimit(pid, unix.RLIMIT_NPROC, &unix.Rlimit{Cur: n, Max: n}, nil)
	}
	observed, err := x.group.BoundProcesses(limit + x.initTasks)
	if err != nil {
		x.layers.absent("cgroup.pids", err.Error())
		return nil // observe decides whether the run can do without
	}
	x.layers.active("cgroup.pids", fmt.Sprintf("%s %s, %d of which are for the init stage", x.group.Name(), observed, x.initTasks))
	return nil
}
