package sandbox

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/report"
)

func TestLayerIsMissingUnlessActiveOrAccepted(t *testing.T) {
	const name = "landlock"
	tests := []struct {
		name               string
		required, degraded bool
		seen               report.LayerState // "" is not at all
		missing            string            // in the error, "" where nothing is missing
		state              report.LayerState
	}{
		{"nobody asked, nobody saw it", false, false, "", "", report.LayerAbsent},
		{"nobody asked, active", false, false, report.LayerActive, "", report.LayerActive},
		{"nobody asked, absent", false, false, report.LayerAbsent, "", report.LayerAbsent},
		{"required, active", true, false, report.LayerActive, "", report.LayerActive},
		{"required, absent", true, false, report.LayerAbsent, "absent: the reason", report.LayerAbsent},
		{"required, nobody saw it", true, false, "", "absent: it was not observed", report.LayerAbsent},
		{"required, its loss accepted, active", true, true, report.LayerActive, "", report.LayerActive},
		{"required, its loss accepted, absent", true, true, report.LayerAbsent, "", report.LayerDegraded},
		{"required, its loss accepted, nobody saw it", true, true, "", "", report.LayerDegraded},
		{"its loss accepted although nobody asked", false, true, report.LayerAbsent, "", report.LayerAbsent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var require, accept []string
			if tt.required {
				require = []string{name}
			}
			if tt.degraded {
				accept = []string{name}
			}
			l, err := newLayers(require, accept)
			if err != nil {
				t.Fatal(err)
			}
			switch tt.seen {
			case report.LayerActive:
				l.active(name, "seen")
			case report.LayerAbsent:
				l.absent(name, "the reason")
			}
			missing := l.missing(LayerNames...)
			switch {
			case missing == nil && tt.missing != "":
				t.Errorf("nothing is missing, want %q", tt.missing)
			case missing != nil && tt.missing == "":
				t.Errorf("missing: %v", missing)
			case missing != nil:
				if !strings.Contains(missing.Error(), "required layer landlock: "+tt.missing) || !strings.Contains(missing.Hint, "--allow-degraded landlock") {
					t.Errorf("the error is %q with the hint %q, want %q", missing, missing.Hint, tt.missing)
				}
			}
			i := slices.IndexFunc(l.list(), func(l report.Layer) bool { return l.Name == name })
			if got := l.list()[i]; got.State != tt.state || got.Required != tt.required {
				t.Errorf("the report has %+v, want state %s, required %v", got, tt.state, tt.required)
			}
		})
	}
}

func TestMissingNamesTheFirstOfThoseThatWereAskedFor(t *testing.T) {
	l, err := newLayers([]string{"landlock", "netns", "seccomp"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.active("netns", "another inode")
	for _, tt := range []struct {
		ask  []string
		want string
	}{
		{nil, ""}, {[]string{"netns"}, ""}, {[]string{"userns"}, ""},
		{[]string{"seccomp", "landlock"}, "required layer seccomp"},
		{[]string{"netns", "landlock", "seccomp"}, "required layer landlock"},
	} {
		got := ""
		if err := l.missing(tt.ask...); err != nil {
			got = err.Op
		}
		if got != tt.want {
			t.Errorf("of %q, %q is missing, want %q", tt.ask, got, tt.want)
		}
	}
}

func TestAFixOfItsOwnIsTheHint(t *testing.T) {
	l, err := newLayers([]string{"cgroup.memory", "cgroup.pids"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.fixes["cgroup.memory"] = "boot otherwise"
	if hint := l.missing("cgroup.memory").Hint; hint != "boot otherwise; or accept the loss with --allow-degraded cgroup.memory" {
		t.Errorf("hint %q", hint)
	}
	if hint := l.missing("cgroup.pids").Hint; !strings.HasPrefix(hint, layerHint("cgroup.pids")) {
		t.Errorf("hint %q", hint)
	}
}

func TestLastWordOnALayerCounts(t *testing.T) {
	l, err := newLayers([]string{"cgroupns"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.active("cgroupns", "seen")
	l.absent("cgroupns", "gone")
	if l.missing("cgroupns") == nil {
		t.Error("what was seen before still counts")
	}
	l.active("cgroupns", "seen again")
	if err := l.missing("cgroupns"); err != nil {
		t.Error(err)
	}
}

func TestUnknownLayersAreRefused(t *testing.T) {
	tests := []struct {
		name               string
		require, degraded  []string
		op, path, hintWord string
	}{
		{"required", []string{"userns", "fairy"}, nil, "--require", "fairy", "landlock"},
		{"accepted", nil, []string{"Landlock"}, "--allow-degraded", "Landlock", "landlock"},
		{"empty", []string{""}, nil, "--require", "", "landlock"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newLayers(tt.require, tt.degraded)
			var own *Error
			if !errors.As(err, &own) {
				t.Fatalf("the error is %v", err)
			}
			if own.Op != tt.op || own.Path != tt.path || !strings.Contains(own.Hint, tt.hintWord) {
				t.Errorf("the error is %+v, want %s %s", own, tt.op, tt.path)
			}
		})
	}
}

// TestReportListsEveryLayerOnceAndInOrder: readers compare reports, so a layer
// that nobody asked for has its place too.
func TestReportListsEveryLayerOnceAndInOrder(t *testing.T) {
	l, err := newLayers(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.active("seccomp", "mode 2")
	l.active("userns", "another inode")
	var got []string
	for _, layer := range l.list() {
		got = append(got, layer.Name)
		switch {
		case layer.State == report.LayerActive && (layer.Observed == "" || layer.Why != ""):
			t.Errorf("%s is active, by %+v", layer.Name, layer)
		case layer.State != report.LayerActive && (layer.Why == "" || layer.Observed != ""):
			t.Errorf("%s is not there, by %+v", layer.Name, layer)
		}
	}
	if !slices.Equal(got, LayerNames) {
		t.Errorf("the report lists %q, want %q", got, LayerNames)
	}
	if sorted := slices.Sorted(slices.Values(LayerNames)); len(slices.Compact(sorted)) != len(LayerNames) {
		t.Errorf("a layer is named twice: %q", sorted)
	}
}

// TestEveryLayerHasAHintThatFits: what is to be done is never only to read on.
func TestEveryLayerHasAHintThatFits(t *testing.T) {
	words := map[string]string{
		"userns": "max_user_namespaces", "mountns": "user namespaces", "pidns": "user namespaces", "netns": "user namespaces",
		"ipcns": "user namespaces", "utsns": "user namespaces", "cgroupns": "unshare(2)", "no_new_privs": "prctl(2)",
		"capabilities": "capset(2)", "seccomp": "CONFIG_SECCOMP_FILTER", "seccomp_notify": "listener", "landlock": "lsm=landlock",
		"cgroup.memory": "delegated cgroup", "cgroup.cpu": "delegated cgroup", "cgroup.pids": "delegated cgroup",
		"rlimits": "prlimit(2)", "wall_clock": "--timeout", "python_hooks": "--hooks",
	}
	for _, name := range LayerNames {
		if word := words[name]; word == "" || !strings.Contains(layerHint(name), word) {
			t.Errorf("the hint for %s is %q, want one with %q", name, layerHint(name), word)
		}
	}
}
