package sandbox

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sbxproject/sbx/pkg/report"
)

// LayerNames are the layers of isolation, in the order of the report.
var LayerNames = []string{
	"userns", "mountns", "pidns", "netns", "ipcns", "utsns", "cgroupns", "no_new_privs", "capabilities",
	"seccomp", "seccomp_notify", "landlock", "cgroup.memory", "cgroup.cpu", "cgroup.pids", "rlimits",
	"wall_clock", "python_hooks",
}

// layers gathers what was observed of each layer.
type layers struct {
	required map[string]bool
	degraded map[string]bool // the caller accepts their absence
	seen     map[string]report.Layer
	fixes    map[string]string // for absent ones, where layerHint would not help
}

func newLayers(require, allowDegraded []string) (*layers, error) {
	l := &layers{required: map[string]bool{}, degraded: map[string]bool{}, seen: map[string]report.Layer{}, fixes: map[string]string{}}
	for _, list := range []struct {
		names []string
		to    map[string]bool
		flag  string
	}{{require, l.required, "--require"}, {allowDegraded, l.degraded, "--allow-degraded"}} {
		for _, name := range list.names {
			if !slices.Contains(LayerNames, name) {
				return nil, &Error{Op: list.flag, Path: name, Err: fmt.Errorf("no such layer"), Hint: "layers: " + strings.Join(LayerNames, " ")}
			}
			list.to[name] = true
		}
	}
	return l, nil
}

// active records what was observed of a layer that is at work.
func (l *layers) active(name, observed string) {
	l.seen[name] = report.Layer{Name: name, State: report.LayerActive, Observed: observed}
}

// absent records why a layer is not there.
func (l *layers) absent(name, why string) {
	l.seen[name] = report.Layer{Name: name, State: report.LayerAbsent, Why: why}
}

// missing returns the first required layer that is absent and whose absence
// nobody accepted; nil when there is none. Layers that nobody asked for and
// nobody saw are not missing.
func (l *layers) missing(names ...string) *Error {
	for _, name := range names {
		seen := l.seen[name]
		if seen.State == report.LayerActive || !l.required[name] || l.degraded[name] {
			continue
		}
		why := seen.Why
		if why == "" {
			why = "it was not observed on the running process"
		}
		return &Error{
			Op: "required layer " + name, Err: fmt.Errorf("absent: %s", why),
			Hint: cmp.Or(l.fixes[name], layerHint(name)) + "; or accept the loss with --allow-degraded " + name,
		}
	}
	return nil
}

// list is the isolation section of the report.
func (l *layers) list() []report.Layer {
	out := make([]report.Layer, 0, len(LayerNames))
	for _, name := range LayerNames {
		layer, ok := l.seen[name]
		if !ok {
			layer = report.Layer{Name: name, State: report.LayerAbsent, Why: "not asked for by the profile"}
		}
		layer.Required = l.required[name]
		if layer.State == report.LayerAbsent && l.required[name] && l.degraded[name] {
			layer.State = report.LayerDegraded
		}
		out = append(out, layer)
	}
	return out
}

// layerHint says what brings a layer back.
func layerHint(name string) string {
	switch name {
	case "userns", "mountns", "pidns", "netns", "ipcns", "utsns":
		return "allow user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0"
	case "cgroup.memory", "cgroup.cpu", "cgroup.pids":
		return "run as root, or give this user a delegated cgroup (systemd-run --user --scope -p Delegate=yes)"
	case "seccomp", "seccomp_notify":
		return "the kernel must have CONFIG_SECCOMP_FILTER and no outer filter may forbid seccomp(2) or hold a listener of its own"
	case "landlock":
		return "boot with lsm=landlock,... (kernel 5.13 and later)"
	case "cgroupns":
		return "the kernel must have CONFIG_CGROUPS, and no outer filter may forbid unshare(2)"
	case "no_new_privs", "capabilities":
		return "no outer filter may forbid prctl(2) and capset(2)"
	case "rlimits":
		return "no outer filter may forbid prlimit(2)"
	case "wall_clock":
		return "set a limit with --timeout, or with limits.wall in the profile"
	case "python_hooks":
		return "use --hooks observe or enforce"
	}
	return "see sbx run --help"
}
