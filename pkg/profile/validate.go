package profile

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Known is what a profile may speak of. It comes from those who give it a
// meaning: a policy knows nothing of how it is enforced.
type Known struct {
	Layers   []string
	Groups   []string
	Syscalls []string
	// Rule says what is wrong with a rule whose names are known; nil asks nobody.
	Rule func(Rule) error
	// Importable returns what may be taken of imported rules, and the names of
	// the calls that may not; nil takes them all.
	Importable func([]Rule) (kept []Rule, refused []string)
}

// Mistakes are the mistakes of a profile.
type Mistakes []*FieldError

// maxMistakes bounds how many are looked for.
const maxMistakes = 20

// Error is one line: the first mistake, and how many more there are.
func (m Mistakes) Error() string {
	text := m[0].Error()
	switch more := len(m) - 1; {
	case len(m) >= maxMistakes:
		text += " (and many more mistakes)"
	case more == 1:
		text += " (and 1 more mistake)"
	case more > 1:
		text += fmt.Sprintf(" (and %d more mistakes)", more)
	}
	return text
}

// Unwrap makes each of them visible to [errors.As].
func (m Mistakes) Unwrap() []error {
	out := make([]error, len(m))
	for i, e := range m {
		out[i] = e
	}
	return out
}

// Bounds of what can be meant. Beyond them is a slip of the pen.
const (
	minTime      = time.Millisecond
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
	maxDenials   = 1 << 40
)

// Validate finds all mistakes, or the first twenty; its error is [Mistakes].
func (p *Profile) Validate(known Known) error {
	v := &validator{known: known}
	v.text("name", p.Name)
	v.text("description", p.Description)
	l := p.Limits
	v.duration("limits.wall", l.Wall)
	v.duration("limits.cpu_time", l.CPUTime)
	v.size("limits.memory", l.Memory, minMemory, true)
	number(v, "limits.cpu_percent", l.CPUPercent, 1, maxPercent, true)
	number(v, "limits.pids", l.PIDs, minPIDs, maxPIDs, true)
	v.size("limits.output", l.Output, 0, true)
	v.size("limits.tmp_size", l.TmpSize, minTmp, false)
	number(v, "limits.tmp_inodes", l.TmpInodes, minInodes, maxInodes, false)
	number(v, "limits.open_files", l.OpenFiles, minOpenFiles, maxOpenFiles, false)
	v.size("limits.file_size", l.FileSize, 0, true)
	number(v, "limits.denials", l.Denials, 1, maxDenials, true)
	number(v, "limits.same_denial", l.SameDenial, 1, maxDenials, true)
	v.oneOf("limits.output_action", string(l.OutputAction), string(OutputTruncate), string(OutputKill))
	v.oneOf("python.hooks", string(p.Python.Hooks), string(HooksEnforce), string(HooksObserve), string(HooksOff))
	v.oneOf("network", string(p.Network), string(NetworkNone), string(NetworkLoopback), string(NetworkHost))
	v.names("require", p.Require, known.Layers)
	v.modules("python.restricted_imports", p.Python.RestrictedImports)
	v.modules("python.allowed_imports", p.Python.AllowedImports)
	v.paths("files.read_paths", p.Files.ReadPaths)
	v.paths("files.write_paths", p.Files.WritePaths)
	if len(p.Seccomp.Groups)+len(p.Seccomp.Rules) == 0 {
		v.add("seccomp.groups", "is empty: no program can start", "every Python needs base; or extend a built-in profile")
	}
	v.names("seccomp.groups", p.Seccomp.Groups, known.Groups)
	for i := range p.Seccomp.Rules {
		if v.full() {
			break
		}
		v.rule(fmt.Sprintf("seccomp.rules[%d]", i), &p.Seccomp.Rules[i])
	}
	if len(v.found) > 0 {
		return v.found
	}
	return nil
}

type validator struct {
	known Known
	found Mistakes
}

func (v *validator) add(path, problem, hint string) {
	if !v.full() {
		v.found = append(v.found, &FieldError{Path: path, Problem: problem, Hint: hint})
	}
}

func (v *validator) full() bool { return len(v.found) == maxMistakes }

// text is shown to people, in one line.
func (v *validator) text(path, s string) {
	if len(s) > 200 || strings.ContainsFunc(s, unicode.IsControl) {
		v.add(path, "is no line of at most 200 bytes", "")
	}
}

func (v *validator) duration(path string, d time.Duration) {
	if d != 0 && (d < minTime || d > maxTime) {
		v.add(path, span(d)+" is out of range", "want a time such as 10s or 1m30s, 1ms to 30 days (720h); 0s is no limit")
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

func number[T int | int64 | uint64](v *validator, path string, n, least, most T, zero bool) {
	if n == 0 && zero {
		return
	}
	if n < least || n > most {
		v.add(path, fmt.Sprintf("%d is out of range", n), fmt.Sprintf("want %d to %d", least, most))
	}
}

func (v *validator) oneOf(path, word string, words ...string) {
	hint := "want one of: " + strings.Join(words, " ")
	switch {
	case slices.Contains(words, word):
	case word == "":
		v.add(path, "is missing", hint)
	default:
		if near := nearest(word, words); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
		v.add(path, fmt.Sprintf("unknown word %q", shorten(word)), hint)
	}
}

func (v *validator) names(path string, list, known []string) {
	for i, name := range list {
		if v.full() {
			return
		}
		if slices.Contains(known, name) {
			continue
		}
		hint := "want one of: " + strings.Join(known, " ")
		if near := nearest(name, known); near != "" {
			hint = "did you mean " + near + "?"
		} else if len(known) > 40 {
			hint = ""
		}
		v.add(fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("unknown name %q", shorten(name)), hint)
	}
}

func (v *validator) modules(path string, list []string) {
	for i, name := range list {
		ok := len(name) <= 255
		for part := range strings.SplitSeq(name, ".") {
			ok = ok && part != "" && !strings.ContainsFunc(part, func(r rune) bool {
				return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.Is(unicode.M, r)
			})
		}
		if !ok {
			v.add(fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("%q is no module name", shorten(name)), "want names such as socket or urllib.request")
		}
	}
}

// own are directories that the jail makes for itself.
var own = []string{"/proc", "/sys", "/dev", "/sandbox"}

func (v *validator) paths(field string, list []string) {
	for i, name := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		clean := path.Clean(name)
		switch {
		case !strings.HasPrefix(name, "/"):
			v.add(at, fmt.Sprintf("%q is not absolute", shorten(name)), "want a path that begins with /")
		case len(name) > 4095 || strings.ContainsRune(name, 0): // PATH_MAX with its NUL
			v.add(at, fmt.Sprintf("%q is no path", shorten(name)), "")
		case slices.Contains([]string{"/", "/etc", "/tmp", "/workspace"}, clean),
			slices.ContainsFunc(own, func(dir string) bool { return clean == dir || strings.HasPrefix(clean, dir+"/") }):
			v.add(at, fmt.Sprintf("%q cannot be shown", shorten(name)), "name the folder that is needed, not the root or a mount of the jail's own")
		}
	}
}

// argOps are the comparisons of an argument.
var argOps = []string{"eq", "ne", "lt", "le", "gt", "ge", "masked_eq"}

func (v *validator) rule(path string, r *Rule) {
	before := len(v.found)
	if len(r.Names) == 0 {
		v.add(path+".names", "is empty", "name at least one system call")
	}
	v.names(path+".names", r.Names, v.known.Syscalls)
	v.oneOf(path+".action", string(r.Action), string(ActionAllow), string(ActionNotify), string(ActionErrno), string(ActionKill))
	if strings.TrimSpace(r.Reason) == "" {
		v.add(path+".reason", "is missing", "say why the rule is there: it will be read when it is doubted")
	}
	if (r.Errno != "") != (r.Action == ActionErrno) {
		v.add(path+".errno", "goes with action errno, and only with it", "such as errno: ENOSYS")
	}
	for i, a := range r.Args {
		at := fmt.Sprintf("%s.args[%d]", path, i)
		if a.Index > 5 {
			v.add(at+".index", fmt.Sprintf("%d is out of range", a.Index), "want 0 to 5: a system call has at most six arguments")
		}
		v.oneOf(at+".op", a.Op, argOps...)
		if a.Mask != 0 && a.Op != "masked_eq" {
			v.add(at+".mask", "goes with op masked_eq only", "")
		}
	}
	if v.known.Rule == nil || len(v.found) > before || v.full() {
		return
	}
	if err := v.known.Rule(*r); err != nil {
		v.add(path, err.Error(), "")
	}
}
