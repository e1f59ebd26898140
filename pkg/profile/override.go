package profile

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Overrides are what a command line changes of a profile; nil leaves it alone.
type Overrides struct {
	Wall              *time.Duration
	CPUTime           *time.Duration
	Memory            *Size
	CPUPercent        *int
	PIDs              *int64
	Output            *Size
	TmpSize           *Size
	AllowRead         bool
	ReadPaths         []string
	AllowWrite        bool
	WritePaths        []string
	HostNetwork       bool
	RestrictedImports *[]string
	AllowedImports    *[]string
	Hooks             *HookMode
	FastExit          *bool
	Trace             bool
}

// Widening is a change that gives a script more than its profile does.
type Widening struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

func (w Widening) String() string { return fmt.Sprintf("%s: %s -> %s", w.Field, w.From, w.To) }

// With returns the profile with the overrides, and the ways in which it is now
// wider. Errors name the flag.
func (p Profile) With(o Overrides) (Profile, []Widening, error) {
	old := p
	if err := o.check(); err != nil {
		return p, nil, err
	}
	set(&p.Limits.Wall, o.Wall)
	set(&p.Limits.CPUTime, o.CPUTime)
	set(&p.Limits.Memory, o.Memory)
	set(&p.Limits.CPUPercent, o.CPUPercent)
	set(&p.Limits.PIDs, o.PIDs)
	set(&p.Limits.Output, o.Output)
	set(&p.Limits.TmpSize, o.TmpSize)
	if o.TmpSize != nil && p.Limits.FileSize > 0 {
		p.Limits.FileSize = max(p.Limits.FileSize, p.Limits.TmpSize)
	}
	set(&p.Python.RestrictedImports, o.RestrictedImports)
	set(&p.Python.AllowedImports, o.AllowedImports)
	set(&p.Python.Hooks, o.Hooks)
	set(&p.Python.FastExit, o.FastExit)
	p.Trace = p.Trace || o.Trace
	p.Files.Read = p.Files.Read || o.AllowRead
	p.Files.ReadPaths = slices.Concat(p.Files.ReadPaths, o.ReadPaths)
	p.Files.WritePaths = slices.Concat(p.Files.WritePaths, o.WritePaths)
	if o.AllowWrite {
		p.Files.Write = true
	}
	if (o.AllowWrite || len(o.WritePaths) > 0) && !slices.Contains(p.Seccomp.Groups, "files-write") {
		p.Seccomp.Groups = append(slices.Clip(p.Seccomp.Groups), "files-write")
	}
	if o.HostNetwork {
		p.Network = NetworkHost
		p.Require = slices.DeleteFunc(slices.Clone(p.Require), func(l string) bool { return l == "netns" })
		if !slices.Contains(p.Seccomp.Groups, "sockets-inet") {
			p.Seccomp.Groups = append(slices.Clip(p.Seccomp.Groups), "sockets-inet")
		}
		// The old program lifted its import ban together with the switch.
		p.Python.RestrictedImports = without(p.Python.RestrictedImports, o.RestrictedImports, "socket", "urllib")
	}
	return p, widenings(old, p), nil
}

// without drops names from a list that the caller did not set himself.
func without(list []string, given *[]string, names ...string) []string {
	if given != nil {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(names, s) })
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// check refuses numbers that cannot be meant, by the name of their flag.
func (o Overrides) check() error {
	v := &validator{}
	for _, d := range []struct {
		flag  string
		value *time.Duration
	}{{"--timeout", o.Wall}, {"--cpu-time", o.CPUTime}} {
		if d.value != nil && (*d.value <= 0 || *d.value > maxTime) {
			v.add(d.flag, fmt.Sprintf("%g is out of range", d.value.Seconds()), "want seconds, more than 0 and at most 30 days (2592000)")
		}
	}
	mib := func(flag string, s *Size, least Size) {
		if s != nil && (*s < least || *s > maxSize) {
			v.add(flag, fmt.Sprintf("%d MiB is out of range", int64(*s)>>20), fmt.Sprintf("want MiB, %d to %d", max(1, least>>20), maxSize>>20))
		}
	}
	mib("--memory", o.Memory, minMemory)
	mib("--tmp-size", o.TmpSize, minTmp)
	if o.Output != nil && (*o.Output < 0 || *o.Output > maxSize) {
		v.add("--output-limit", fmt.Sprintf("%d is out of range", *o.Output), "want bytes, 0 (no limit) or more")
	}
	if o.CPUPercent != nil && (*o.CPUPercent < 1 || *o.CPUPercent > maxPercent) {
		v.add("--cpu", fmt.Sprintf("%d is out of range", *o.CPUPercent), "want percent of one CPU: 50 is half of one, 200 is two")
	}
	if o.PIDs != nil && (*o.PIDs < minPIDs || *o.PIDs > maxPIDs) {
		v.add("--pids", fmt.Sprintf("%d is out of range", *o.PIDs), fmt.Sprintf("want %d to %d processes and threads", minPIDs, maxPIDs))
	}
	if o.Hooks != nil {
		v.oneOf("--hooks", string(*o.Hooks), string(HooksEnforce), string(HooksObserve), string(HooksOff))
	}
	if o.RestrictedImports != nil {
		v.modules("--restricted-imports", *o.RestrictedImports)
	}
	if o.AllowedImports != nil {
		v.modules("--allowed-imports", *o.AllowedImports)
	}
	if len(v.found) > 0 {
		return v.found[0]
	}
	return nil
}

// field is one thing that profiles can differ in.
type field struct {
	name string
	show func(Profile) string
	// wider says that b gives a script more than a; nil for what is no question
	// of more or less.
	wider func(a, b Profile) bool
}

// limit compares numbers of which 0 means none.
func limit[T int | int64 | uint64 | Size | time.Duration](get func(Profile) T) func(a, b Profile) bool {
	return func(a, b Profile) bool {
		x, y := get(a), get(b)
		return x != 0 && (y == 0 || y > x)
	}
}

func allowed(get func(Profile) bool) func(a, b Profile) bool {
	return func(a, b Profile) bool { return !get(a) && get(b) }
}

// gains says that b has a member that a has not.
func gains(get func(Profile) []string) func(a, b Profile) bool {
	return func(a, b Profile) bool {
		return slices.ContainsFunc(get(b), func(s string) bool { return !slices.Contains(get(a), s) })
	}
}

func loses(get func(Profile) []string) func(a, b Profile) bool {
	return func(a, b Profile) bool { return gains(get)(b, a) }
}

var strength = map[HookMode]int{HooksOff: 0, HooksObserve: 1, HooksEnforce: 2}

var reach = map[Network]int{NetworkNone: 0, NetworkLoopback: 1, NetworkHost: 2}

// fields lists everything that a profile says. A test compares it with the
// type: whoever adds a field decides here what more of it means.
func fields() []field {
	list := func(get func(Profile) []string) func(Profile) string {
		return func(p Profile) string { return "[" + strings.Join(get(p), " ") + "]" }
	}
	flag := func(get func(Profile) bool) func(Profile) string {
		return func(p Profile) string { return fmt.Sprint(get(p)) }
	}
	require := func(p Profile) []string { return p.Require }
	restricted := func(p Profile) []string { return p.Python.RestrictedImports }
	only := func(p Profile) []string { return p.Python.AllowedImports }
	readPaths := func(p Profile) []string { return p.Files.ReadPaths }
	writePaths := func(p Profile) []string { return p.Files.WritePaths }
	groups := func(p Profile) []string { return p.Seccomp.Groups }
	rules := func(p Profile) []string {
		var out []string
		for _, r := range p.Seccomp.Rules {
			out = append(out, fmt.Sprintf("%s %s %v", r.Action, strings.Join(r.Names, ","), r.Args))
		}
		return out
	}
	site := func(p Profile) bool { return p.Python.SitePackages }
	read := func(p Profile) bool { return p.Files.Read }
	write := func(p Profile) bool { return p.Files.Write }
	shm := func(p Profile) bool { return p.Files.SharedMemory }
	system := func(p Profile) bool { return p.Files.System }
	return []field{
		{"require", list(require), loses(require)},
		{"limits.wall", func(p Profile) string { return p.Limits.Wall.String() }, limit(func(p Profile) time.Duration { return p.Limits.Wall })},
		{"limits.cpu_time", func(p Profile) string { return p.Limits.CPUTime.String() }, limit(func(p Profile) time.Duration { return p.Limits.CPUTime })},
		{"limits.memory", func(p Profile) string { return p.Limits.Memory.String() }, limit(func(p Profile) Size { return p.Limits.Memory })},
		{"limits.cpu_percent", func(p Profile) string { return fmt.Sprint(p.Limits.CPUPercent) }, limit(func(p Profile) int { return p.Limits.CPUPercent })},
		{"limits.pids", func(p Profile) string { return fmt.Sprint(p.Limits.PIDs) }, limit(func(p Profile) int64 { return p.Limits.PIDs })},
		{"limits.output", func(p Profile) string { return p.Limits.Output.String() }, limit(func(p Profile) Size { return p.Limits.Output })},
		{"limits.output_action", func(p Profile) string { return string(p.Limits.OutputAction) }, nil},
		{"limits.tmp_size", func(p Profile) string { return p.Limits.TmpSize.String() }, limit(func(p Profile) Size { return p.Limits.TmpSize })},
		{"limits.tmp_inodes", func(p Profile) string { return fmt.Sprint(p.Limits.TmpInodes) }, limit(func(p Profile) int64 { return p.Limits.TmpInodes })},
		{"limits.open_files", func(p Profile) string { return fmt.Sprint(p.Limits.OpenFiles) }, limit(func(p Profile) uint64 { return p.Limits.OpenFiles })},
		{"limits.file_size", func(p Profile) string { return p.Limits.FileSize.String() }, limit(func(p Profile) Size { return p.Limits.FileSize })},
		{"python.hooks", func(p Profile) string { return string(p.Python.Hooks) }, func(a, b Profile) bool { return strength[b.Python.Hooks] < strength[a.Python.Hooks] }},
		{"python.restricted_imports", list(restricted), loses(restricted)},
		{"python.allowed_imports", list(only), func(a, b Profile) bool {
			return a.Python.AllowedImports != nil && (b.Python.AllowedImports == nil || gains(only)(a, b))
		}},
		{"python.site_packages", flag(site), allowed(site)},
		{"python.fast_exit", flag(func(p Profile) bool { return p.Python.FastExit }), nil},
		{"files.read", flag(read), allowed(read)},
		{"files.read_paths", list(readPaths), gains(readPaths)},
		{"files.write", flag(write), allowed(write)},
		{"files.write_paths", list(writePaths), gains(writePaths)},
		{"files.shared_memory", flag(shm), allowed(shm)},
		{"files.system", flag(system), allowed(system)},
		{"network", func(p Profile) string { return string(p.Network) }, func(a, b Profile) bool { return reach[b.Network] > reach[a.Network] }},
		{"seccomp.groups", list(groups), gains(groups)},
		{"seccomp.rules", list(rules), gains(rules)},
		{"trace", flag(func(p Profile) bool { return p.Trace }), nil},
	}
}

func widenings(a, b Profile) []Widening {
	var out []Widening
	for _, f := range fields() {
		if f.wider != nil && f.wider(a, b) {
			out = append(out, Widening{f.name, f.show(a), f.show(b)})
		}
	}
	return out
}

// Change is one difference between two profiles.
type Change struct{ Field, From, To string }

// Diff lists how b differs from a.
func Diff(a, b Profile) []Change {
	var out []Change
	for _, f := range fields() {
		if x, y := f.show(a), f.show(b); x != y {
			out = append(out, Change{f.name, x, y})
		}
	}
	return out
}
