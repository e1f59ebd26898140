package profile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Known are the names that a profile may use. They come from those who give
// them a meaning: a policy knows nothing of how it is enforced.
type Known struct {
	Layers   []string
	Groups   []string
	Syscalls []string
}

// Bounds of what can be meant. Beyond them is a slip of the pen.
const (
	maxTime      = 30 * 24 * time.Hour
	minMemory    = Size(16 << 20) // the interpreter alone needs 8 MiB
	maxSize      = Size(1 << 50)
	minPIDs      = 2
	maxPIDs      = 4 << 20 // PID_MAX_LIMIT of 64-bit kernels
	maxPercent   = 100 * 4096
	minTmp       = Size(64 << 10)
	minInodes    = 16
	maxInodes    = 1 << 30
	minOpenFiles = 64 // the hook's descriptors are 62 and 63
	maxOpenFiles = 1 << 20
)

// Validate finds every mistake, joined into one error of *FieldError values.
func (p *Profile) Validate(known Known) error {
	v := &validator{known: known}
	l := p.Limits
	v.duration("limits.wall", l.Wall)
	v.duration("limits.cpu_time", l.CPUTime)
	v.size("limits.memory", l.Memory, minMemory, true)
	v.number("limits.cpu_percent", int64(l.CPUPercent), 1, maxPercent, true)
	v.number("limits.pids", l.PIDs, minPIDs, maxPIDs, true)
	v.size("limits.output", l.Output, 0, true)
	v.size("limits.tmp_size", l.TmpSize, minTmp, false)
	v.number("limits.tmp_inodes", l.TmpInodes, minInodes, maxInodes, false)
	v.number("limits.open_files", int64(min(l.OpenFiles, 1<<62)), minOpenFiles, maxOpenFiles, false)
	v.size("limits.file_size", l.FileSize, 0, true)
	v.oneOf("limits.output_action", string(l.OutputAction), string(OutputTruncate), string(OutputKill))
	v.oneOf("python.hooks", string(p.Python.Hooks), string(HooksEnforce), string(HooksObserve), string(HooksOff))
	v.oneOf("network", string(p.Network), string(NetworkNone), string(NetworkLoopback), string(NetworkHost))
	v.names("require", p.Require, known.Layers)
	v.modules("python.restricted_imports", p.Python.RestrictedImports)
	v.modules("python.allowed_imports", p.Python.AllowedImports)
	v.paths("files.read_paths", p.Files.ReadPaths)
	v.paths("files.write_paths", p.Files.WritePaths)
	v.names("seccomp.groups", p.Seccomp.Groups, known.Groups)
	for i := range p.Seccomp.Rules {
		v.rule(fmt.Sprintf("seccomp.rules[%d]", i), &p.Seccomp.Rules[i])
	}
	return errors.Join(v.found...)
}

type validator struct {
	known Known
	found []error
}

func (v *validator) add(path, problem, hint string) {
	v.found = append(v.found, &FieldError{Path: path, Problem: problem, Hint: hint})
}

func (v *validator) duration(path string, d time.Duration) {
	if d < 0 || d > maxTime {
		v.add(path, fmt.Sprintf("%s is out of range", d), "want a time such as 10s or 1m30s, at most 30 days; 0s is no limit")
	}
}

func (v *validator) size(path string, s, least Size, zero bool) {
	if s == 0 && zero {
		return
	}
	if s < least || s > maxSize {
		v.add(path, fmt.Sprintf("%s is out of range", s), fmt.Sprintf("want %s to %s", least, maxSize))
	}
}

func (v *validator) number(path string, n, least, most int64, zero bool) {
	if n == 0 && zero {
		return
	}
	if n < least || n > most {
		v.add(path, fmt.Sprintf("%d is out of range", n), fmt.Sprintf("want %d to %d", least, most))
	}
}

func (v *validator) oneOf(path, word string, words ...string) {
	if !slices.Contains(words, word) {
		v.add(path, fmt.Sprintf("unknown word %q", word), "want one of: "+strings.Join(words, " "))
	}
}

func (v *validator) names(path string, list, known []string) {
	for i, name := range list {
		if slices.Contains(known, name) {
			continue
		}
		hint := "want one of: " + strings.Join(known, " ")
		if near := nearest(name, known); near != "" {
			hint = "did you mean " + near + "?"
		} else if len(known) > 40 {
			hint = ""
		}
		v.add(fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("unknown name %q", name), hint)
	}
}

func (v *validator) modules(path string, list []string) {
	for i, name := range list {
		ok := name != ""
		for part := range strings.SplitSeq(name, ".") {
			ok = ok && part != "" && !strings.ContainsAny(part, " \t/\\,;:'\"()")
		}
		if !ok {
			v.add(fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("%q is no module name", name), "want names such as socket or urllib.request")
		}
	}
}

func (v *validator) paths(path string, list []string) {
	for i, name := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case !strings.HasPrefix(name, "/"):
			v.add(at, fmt.Sprintf("%q is not absolute", name), "want a path that begins with /")
		case name == "/" || slices.Contains([]string{"/proc", "/sys", "/dev", "/tmp", "/sandbox", "/workspace"}, strings.TrimRight(name, "/")):
			v.add(at, fmt.Sprintf("%q cannot be shown", name), "name the folder that is needed, not the root or a mount of the jail's own")
		}
	}
}

// argOps are the comparisons of an argument.
var argOps = []string{"eq", "ne", "lt", "le", "gt", "ge", "masked_eq"}

func (v *validator) rule(path string, r *Rule) {
	if len(r.Names) == 0 {
		v.add(path+".names", "is empty", "name at least one system call")
	}
	v.names(path+".names", r.Names, v.known.Syscalls)
	v.oneOf(path+".action", string(r.Action), string(ActionAllow), string(ActionNotify), string(ActionErrno), string(ActionKill))
	if strings.TrimSpace(r.Reason) == "" {
		v.add(path+".reason", "is missing", "say why the rule is there: it will be read when it is doubted")
	}
	if (r.Errno != "") != (r.Action == ActionErrno) {
		v.add(path+".errno", "goes with action errno, and only with it", "")
	}
	for i, a := range r.Args {
		at := fmt.Sprintf("%s.args[%d]", path, i)
		v.number(at+".index", int64(a.Index), 0, 5, true)
		v.oneOf(at+".op", a.Op, argOps...)
		if a.Mask != 0 && a.Op != "masked_eq" {
			v.add(at+".mask", "goes with op masked_eq only", "")
		}
	}
}
