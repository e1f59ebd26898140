package profile

import (
	"fmt"
	"slices"
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
	Denials           *int64
	SameDenial        *int64
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
	set(&p.Limits.Denials, o.Denials)
	set(&p.Limits.SameDenial, o.SameDenial)
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
		if d.value != nil && (*d.value < minTime || *d.value > maxTime) {
			v.add(d.flag, fmt.Sprintf("%g is out of range", d.value.Seconds()), "want seconds, 0.001 to 2592000 (30 days)")
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
	for _, n := range []struct {
		flag  string
		value *int64
	}{{"--max-denials", o.Denials}, {"--max-same-denial", o.SameDenial}} {
		if n.value != nil && (*n.value < 0 || *n.value > maxDenials) {
			v.add(n.flag, fmt.Sprintf("%d is out of range", *n.value), "want how many refusals, 0 (no limit) or more")
		}
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
	v.paths("--allow-file-read", o.ReadPaths)
	v.paths("--allow-file-write", o.WritePaths)
	if len(v.found) > 0 {
		return v.found[0]
	}
	return nil
}
