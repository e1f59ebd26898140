package profile

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// base is a profile in which everything can be made wider and narrower.
func base() Profile {
	return Profile{
		Require: []string{"netns", "seccomp"},
		Limits: Limits{
			Wall: 10 * time.Second, CPUTime: 10 * time.Second, Memory: 64 << 20, CPUPercent: 50, PIDs: 10, Output: 1 << 20,
			OutputAction: OutputKill, TmpSize: 1 << 20, TmpInodes: 100, OpenFiles: 100, FileSize: 1 << 20,
			Denials: 100, SameDenial: 10,
		},
		Python: Python{
			Hooks: HooksObserve, RestrictedImports: []string{"os", "socket"}, AllowedImports: []string{"math", "json"},
		},
		Files:   Files{ReadPaths: []string{"/a"}, WritePaths: []string{"/b"}},
		Network: NetworkLoopback,
		Seccomp: Seccomp{
			Groups: []string{"base"},
			Rules: []Rule{
				{Names: []string{"socket"}, Action: ActionAllow},
				{Names: []string{"socket"}, Action: ActionErrno, Errno: "EPERM", Args: []Arg{{Op: "eq", Value: 1}}},
				{Names: []string{"ptrace"}, Action: ActionKill},
			},
		},
	}
}

func TestWhatIsWider(t *testing.T) {
	rules := func(p *Profile) *[]Rule { return &p.Seccomp.Rules }
	// Per field, changes of base() that give a script more, and such that do not.
	tests := map[string]struct{ wider, not []func(*Profile) }{
		"require": {
			wider: []func(*Profile){
				func(p *Profile) { p.Require = p.Require[:1] },
				func(p *Profile) { p.Require = nil },
				func(p *Profile) { p.Require[0] = "rlimits" },
			},
			not: []func(*Profile){func(p *Profile) { p.Require = append(p.Require, "rlimits") }, func(p *Profile) { slices.Reverse(p.Require) }},
		},
		"limits.wall": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.Wall++ }, func(p *Profile) { p.Limits.Wall = 0 }},
			not:   []func(*Profile){func(p *Profile) { p.Limits.Wall-- }},
		},
		"limits.cpu_time": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.CPUTime++ }, func(p *Profile) { p.Limits.CPUTime = 0 }},
			not:   []func(*Profile){func(p *Profile) { p.Limits.CPUTime-- }},
		},
		"limits.memory": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.Memory++ }, func(p *Profile) { p.Limits.Memory = 0 }},
			not:   []func(*Profile){func(p *Profile) { p.Limits.Memory-- }},
		},
		"limits.cpu_percent": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.CPUPercent++ }, func(p *Profile) { p.Limits.CPUPercent = 0 }},
			not:   []func(*Profile){func(p *Profile) { p.Limits.CPUPercent-- }},
		},
		"limits.pids": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.PIDs++ }, func(p *Profile) { p.Limits.PIDs = 0 }},
			not:   []func(*Profile){func(p *Profile) { p.Limits.PIDs-- }},
		},
		"limits.output": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.Output++ }, func(p *Profile) { p.Limits.Output = 0 }},
			not:   []func(*Profile){func(p *Profile) { p.Limits.Output-- }},
		},
		"limits.output_action": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.OutputAction = OutputTruncate }},
		},
		"limits.tmp_size": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.TmpSize++ }},
			not:   []func(*Profile){func(p *Profile) { p.Limits.TmpSize-- }},
		},
		"limits.tmp_inodes": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.TmpInodes++ }},
			not:   []func(*Profile){func(p *Profile) { p.Limits.TmpInodes-- }},
		},
		"limits.open_files": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.OpenFiles++ }},
			not:   []func(*Profile){func(p *Profile) { p.Limits.OpenFiles-- }},
		},
		"limits.file_size": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.FileSize++ }, func(p *Profile) { p.Limits.FileSize = 0 }},
			not:   []func(*Profile){func(p *Profile) { p.Limits.FileSize-- }},
		},
		"limits.denials": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.Denials++ }, func(p *Profile) { p.Limits.Denials = 0 }},
			not:   []func(*Profile){func(p *Profile) { p.Limits.Denials-- }},
		},
		"limits.same_denial": {
			wider: []func(*Profile){func(p *Profile) { p.Limits.SameDenial++ }, func(p *Profile) { p.Limits.SameDenial = 0 }},
			not:   []func(*Profile){func(p *Profile) { p.Limits.SameDenial-- }},
		},
		"python.hooks": {
			wider: []func(*Profile){func(p *Profile) { p.Python.Hooks = HooksOff }},
			not:   []func(*Profile){func(p *Profile) { p.Python.Hooks = HooksEnforce }},
		},
		"python.restricted_imports": {
			wider: []func(*Profile){
				func(p *Profile) { p.Python.RestrictedImports = nil },
				func(p *Profile) { p.Python.RestrictedImports = []string{"os", "sys", "json"} },
			},
			not: []func(*Profile){func(p *Profile) { p.Python.RestrictedImports = []string{"socket", "sys", "os"} }},
		},
		"python.allowed_imports": {
			wider: []func(*Profile){
				func(p *Profile) { p.Python.AllowedImports = nil },
				func(p *Profile) { p.Python.AllowedImports = []string{"math", "os"} },
			},
			not: []func(*Profile){
				func(p *Profile) { p.Python.AllowedImports = []string{} },
				func(p *Profile) { p.Python.AllowedImports = []string{"json"} },
			},
		},
		"python.site_packages": {wider: []func(*Profile){func(p *Profile) { p.Python.SitePackages = true }}},
		"python.fast_exit":     {not: []func(*Profile){func(p *Profile) { p.Python.FastExit = true }}},
		"files.read":           {wider: []func(*Profile){func(p *Profile) { p.Files.Read = true }}},
		"files.read_paths": {
			wider: []func(*Profile){func(p *Profile) { p.Files.ReadPaths = []string{"/a", "/c"} }, func(p *Profile) { p.Files.ReadPaths = []string{"/c"} }},
			not:   []func(*Profile){func(p *Profile) { p.Files.ReadPaths = nil }},
		},
		"files.write": {wider: []func(*Profile){func(p *Profile) { p.Files.Write = true }}},
		"files.write_paths": {
			wider: []func(*Profile){func(p *Profile) { p.Files.WritePaths = []string{"/b", "/c"} }},
			not:   []func(*Profile){func(p *Profile) { p.Files.WritePaths = nil }},
		},
		"files.shared_memory": {wider: []func(*Profile){func(p *Profile) { p.Files.SharedMemory = true }}},
		"files.system":        {wider: []func(*Profile){func(p *Profile) { p.Files.System = true }}},
		"network": {
			wider: []func(*Profile){func(p *Profile) { p.Network = NetworkHost }},
			not:   []func(*Profile){func(p *Profile) { p.Network = NetworkNone }},
		},
		"seccomp.groups": {
			wider: []func(*Profile){func(p *Profile) { p.Seccomp.Groups = []string{"base", "locks"} }},
			not:   []func(*Profile){func(p *Profile) { p.Seccomp.Groups = []string{} }},
		},
		"seccomp.rules": {
			wider: []func(*Profile){
				func(p *Profile) { *rules(p) = append(*rules(p), Rule{Names: []string{"mount"}, Action: ActionAllow}) },
				func(p *Profile) { (*rules(p))[0].Names = []string{"socket", "mount"} },
				func(p *Profile) { *rules(p) = (*rules(p))[:2] },      // ptrace no longer kills
				func(p *Profile) { slices.Reverse((*rules(p))[:2]) },  // the refusal no longer has the last word
				func(p *Profile) { (*rules(p))[1].Args[0].Value = 2 }, // another call is refused
				func(p *Profile) { (*rules(p))[2].Action = ActionNotify },
				func(p *Profile) { (*rules(p))[2].Action = ActionAllow },
			},
			not: []func(*Profile){
				func(p *Profile) { *rules(p) = (*rules(p))[1:] },
				func(p *Profile) { *rules(p) = append(*rules(p), Rule{Names: []string{"mount"}, Action: ActionKill}) },
				func(p *Profile) { (*rules(p))[1].Action, (*rules(p))[1].Errno = ActionKill, "" },
				func(p *Profile) { (*rules(p))[1].Errno = "EACCES" },
				func(p *Profile) { (*rules(p))[0].Reason = "another" },
			},
		},
		"trace": {not: []func(*Profile){func(p *Profile) { p.Trace = true }}},
	}
	for _, f := range fields() {
		tt, ok := tests[f.name]
		if !ok {
			t.Errorf("nobody has said what makes %s wider", f.name)
		}
		delete(tests, f.name)
		check := func(change func(*Profile), want []string) {
			p := base()
			change(&p)
			var got []string
			for _, w := range widenings(base(), p) {
				got = append(got, w.Field)
				if w.From == w.To {
					t.Errorf("%s: the widening reads the same before and after: %s", f.name, w)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: from %s to %s, %q is said to be wider, want %q", f.name, f.show(base()), f.show(p), got, want)
			}
		}
		for _, change := range tt.wider {
			check(change, []string{f.name})
		}
		for _, change := range tt.not {
			check(change, nil)
		}
	}
	for name := range tests {
		t.Errorf("there is no field %s", name)
	}
}

func TestFromNoLimitToOneIsNotWider(t *testing.T) {
	from, to := base(), base()
	from.Limits = Limits{OutputAction: OutputKill}
	if got := widenings(from, to); got != nil {
		t.Errorf("said to be wider: %v", got)
	}
}

func ptr[T any](v T) *T { return &v }

func TestOverrides(t *testing.T) {
	tests := []struct {
		name  string
		o     Overrides
		want  func(*Profile) // what it changes
		wider []string
	}{
		{"nothing", Overrides{}, func(*Profile) {}, nil},
		{"shorter", Overrides{Wall: ptr(time.Second)}, func(p *Profile) { p.Limits.Wall = time.Second }, nil},
		{"longer", Overrides{Wall: ptr(time.Minute)}, func(p *Profile) { p.Limits.Wall = time.Minute }, []string{"limits.wall: 10s -> 1m"}},
		{"more processor time", Overrides{CPUTime: ptr(time.Minute)}, func(p *Profile) { p.Limits.CPUTime = time.Minute }, []string{"limits.cpu_time: 10s -> 1m"}},
		{"less memory", Overrides{Memory: ptr(Size(32 << 20))}, func(p *Profile) { p.Limits.Memory = 32 << 20 }, nil},
		{"more memory", Overrides{Memory: ptr(Size(1 << 30))}, func(p *Profile) { p.Limits.Memory = 1 << 30 }, []string{"limits.memory: 64MiB -> 1GiB"}},
		{"more of a processor", Overrides{CPUPercent: ptr(100)}, func(p *Profile) { p.Limits.CPUPercent = 100 }, []string{"limits.cpu_percent: 50 -> 100"}},
		{"more processes", Overrides{PIDs: ptr(int64(11))}, func(p *Profile) { p.Limits.PIDs = 11 }, []string{"limits.pids: 10 -> 11"}},
		{"output without limit", Overrides{Output: ptr(Size(0))}, func(p *Profile) { p.Limits.Output = 0 }, []string{"limits.output: 1MiB -> no limit"}},
		{"a larger /tmp holds larger files", Overrides{TmpSize: ptr(Size(2 << 20))}, func(p *Profile) {
			p.Limits.TmpSize, p.Limits.FileSize = 2<<20, 2<<20
		}, []string{"limits.tmp_size: 1MiB -> 2MiB", "limits.file_size: 1MiB -> 2MiB"}},
		{"a smaller /tmp", Overrides{TmpSize: ptr(Size(64 << 10))}, func(p *Profile) { p.Limits.TmpSize = 64 << 10 }, nil},
		{"fewer refusals", Overrides{Denials: ptr(int64(5))}, func(p *Profile) { p.Limits.Denials = 5 }, nil},
		{"refusals without end", Overrides{Denials: ptr(int64(0))}, func(p *Profile) { p.Limits.Denials = 0 }, []string{"limits.denials: 100 -> no limit"}},
		{"more of the same refusal", Overrides{SameDenial: ptr(int64(11))}, func(p *Profile) { p.Limits.SameDenial = 11 }, []string{"limits.same_denial: 10 -> 11"}},
		{"reading", Overrides{AllowRead: true}, func(p *Profile) { p.Files.Read = true }, []string{"files.read: false -> true"}},
		{"reading a path", Overrides{ReadPaths: []string{"/c"}}, func(p *Profile) {
			p.Files.ReadPaths = []string{"/a", "/c"}
		}, []string{"files.read_paths: [/a] -> [/a /c]"}},
		{"writing", Overrides{AllowWrite: true}, func(p *Profile) {
			p.Files.Write, p.Seccomp.Groups = true, []string{"base", "files-write"}
		}, []string{"files.write: false -> true", "seccomp.groups: [base] -> [base files-write]"}},
		{"writing a path", Overrides{WritePaths: []string{"/c"}}, func(p *Profile) {
			p.Files.WritePaths, p.Seccomp.Groups = []string{"/b", "/c"}, []string{"base", "files-write"}
		}, []string{"files.write_paths: [/b] -> [/b /c]", "seccomp.groups: [base] -> [base files-write]"}},
		{"the network", Overrides{HostNetwork: true}, func(p *Profile) {
			p.Network, p.Require, p.Python.RestrictedImports = NetworkHost, []string{"seccomp"}, []string{"os"}
			p.Seccomp.Groups = []string{"base", "sockets-inet"}
		}, []string{
			"require: [netns seccomp] -> [seccomp]", "python.restricted_imports: [os socket] -> [os]",
			"network: loopback -> host", "seccomp.groups: [base] -> [base sockets-inet]",
		}},
		{"the network without socket", Overrides{HostNetwork: true, RestrictedImports: ptr([]string{"os", "socket"})}, func(p *Profile) {
			p.Network, p.Require, p.Seccomp.Groups = NetworkHost, []string{"seccomp"}, []string{"base", "sockets-inet"}
		}, []string{"require: [netns seccomp] -> [seccomp]", "network: loopback -> host", "seccomp.groups: [base] -> [base sockets-inet]"}},
		{"more restricted imports", Overrides{RestrictedImports: ptr([]string{"os", "socket", "re"})}, func(p *Profile) {
			p.Python.RestrictedImports = []string{"os", "socket", "re"}
		}, nil},
		{"no restricted imports", Overrides{RestrictedImports: ptr([]string{})}, func(p *Profile) {
			p.Python.RestrictedImports = []string{}
		}, []string{"python.restricted_imports: [os socket] -> []"}},
		{"fewer imports", Overrides{AllowedImports: ptr([]string{"math"})}, func(p *Profile) { p.Python.AllowedImports = []string{"math"} }, nil},
		{"other imports", Overrides{AllowedImports: ptr([]string{"re"})}, func(p *Profile) {
			p.Python.AllowedImports = []string{"re"}
		}, []string{"python.allowed_imports: [math json] -> [re]"}},
		{"hooks off", Overrides{Hooks: ptr(HooksOff)}, func(p *Profile) { p.Python.Hooks = HooksOff }, []string{"python.hooks: observe -> off"}},
		{"hooks that enforce", Overrides{Hooks: ptr(HooksEnforce)}, func(p *Profile) { p.Python.Hooks = HooksEnforce }, nil},
		{"fast exit", Overrides{FastExit: ptr(true)}, func(p *Profile) { p.Python.FastExit = true }, nil},
		{"trace", Overrides{Trace: true}, func(p *Profile) { p.Trace = true }, nil},
	}
	covered := map[string]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := base()
			got, wider, err := p.With(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			want := base()
			tt.want(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if !reflect.DeepEqual(p, base()) {
				t.Errorf("the profile itself was changed, to %+v", p)
			}
			var lines []string
			for _, w := range wider {
				lines = append(lines, w.String())
			}
			if !slices.Equal(lines, tt.wider) {
				t.Errorf("wider is %q, want %q", lines, tt.wider)
			}
		})
		for i, v := 0, reflect.ValueOf(tt.o); i < v.NumField(); i++ {
			covered[v.Type().Field(i).Name] = covered[v.Type().Field(i).Name] || !v.Field(i).IsZero()
		}
	}
	for name, ok := range covered {
		if !ok {
			t.Errorf("no case has the override %s", name)
		}
	}
}

func TestAnOverrideThatGivesNothingNewIsNoWidening(t *testing.T) {
	p, err := Load("ci")
	if err != nil {
		t.Fatal(err)
	}
	_, wider, err := p.With(Overrides{AllowRead: true, AllowWrite: true, Wall: &p.Limits.Wall, Memory: &p.Limits.Memory, Hooks: &p.Python.Hooks})
	if err != nil || wider != nil {
		t.Errorf("wider is %v (%v), want nothing", wider, err)
	}
}

func TestAFlagForAFileSizeWithoutLimitLeavesItSo(t *testing.T) {
	p := base()
	p.Limits.FileSize = 0
	got, _, err := p.With(Overrides{TmpSize: ptr(Size(2 << 20))})
	if err != nil || got.Limits.FileSize != 0 {
		t.Errorf("the file size is limited to %s (%v)", got.Limits.FileSize, err)
	}
}

func TestBadOverrideNamesItsFlag(t *testing.T) {
	tests := []struct {
		name string
		o    Overrides
		want string
		hint string
	}{
		{"no time", Overrides{Wall: ptr(time.Duration(0))}, "--timeout: 0 is out of range", "seconds"},
		{"negative time", Overrides{Wall: ptr(-time.Second)}, "--timeout: -1 is out of range", "seconds"},
		{"too short a time", Overrides{Wall: ptr(time.Microsecond)}, "--timeout: 1e-06 is out of range", "0.001"},
		{"too long a time", Overrides{CPUTime: ptr(31 * 24 * time.Hour)}, "--cpu-time: 2.6784e+06 is out of range", "2592000"},
		{"no memory", Overrides{Memory: ptr(Size(0))}, "--memory: 0 MiB is out of range", "want MiB, 16 to"},
		{"negative memory", Overrides{Memory: ptr(Size(-1 << 20))}, "--memory: -1 MiB is out of range", "want MiB, 16 to"},
		{"memory for nothing", Overrides{Memory: ptr(Size(15 << 20))}, "--memory: 15 MiB is out of range", "want MiB, 16 to"},
		{"no /tmp", Overrides{TmpSize: ptr(Size(0))}, "--tmp-size: 0 MiB is out of range", "want MiB, 1 to"},
		{"negative output", Overrides{Output: ptr(Size(-1))}, "--output-limit: -1 is out of range", "bytes"},
		{"no processor", Overrides{CPUPercent: ptr(0)}, "--cpu: 0 is out of range", "percent"},
		{"too many processors", Overrides{CPUPercent: ptr(409601)}, "--cpu: 409601 is out of range", "percent"},
		{"fewer refusals than none", Overrides{Denials: ptr(int64(-1))}, "--max-denials: -1 is out of range", "0 (no limit) or more"},
		{"the same fewer times than never", Overrides{SameDenial: ptr(int64(-7))}, "--max-same-denial: -7 is out of range", "0 (no limit) or more"},
		{"one process", Overrides{PIDs: ptr(int64(1))}, "--pids: 1 is out of range", "want 2 to"},
		{"unknown mode", Overrides{Hooks: ptr(HookMode("enforced"))}, `--hooks: unknown word "enforced"`, "did you mean enforce?"},
		{"no module", Overrides{RestrictedImports: ptr([]string{"os", "a b"})}, `--restricted-imports[1]: "a b" is no module name`, "socket"},
		{"no module to allow", Overrides{AllowedImports: ptr([]string{"../x"})}, `--allowed-imports[0]: "../x" is no module name`, "socket"},
		{"the root", Overrides{ReadPaths: []string{"/"}}, `--allow-file-read[0]: "/" cannot be shown`, "folder"},
		{"a mount of the jail", Overrides{WritePaths: []string{"/dev/shm"}}, `--allow-file-write[0]: "/dev/shm" cannot be shown`, "folder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := base().With(tt.o)
			var e *FieldError
			if !errors.As(err, &e) {
				t.Fatalf("taken (%v)", err)
			}
			if e.Error() != tt.want || !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("the error is %q with the hint %q, want %q with %q", e, e.Hint, tt.want, tt.hint)
			}
			if !reflect.DeepEqual(got, base()) {
				t.Errorf("the profile was changed, to %+v", got)
			}
		})
	}
}

func TestDiffShowsWhatCameAndWent(t *testing.T) {
	a, b := base(), base()
	b.Limits.PIDs, b.Network = 20, NetworkNone
	b.Require = []string{"seccomp", "rlimits"}
	b.Python.FastExit = true
	want := []Change{
		{Field: "require", From: "[netns seccomp]", To: "[seccomp rlimits]", Added: []string{"rlimits"}, Removed: []string{"netns"}, Wider: true, Narrower: true},
		{Field: "limits.pids", From: "10", To: "20", Wider: true},
		{Field: "python.fast_exit", From: "false", To: "true"},
		{Field: "network", From: "loopback", To: "none", Narrower: true},
	}
	if got := Diff(a, b); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := Diff(a, base()); got != nil {
		t.Errorf("a profile differs from itself: %+v", got)
	}
}
