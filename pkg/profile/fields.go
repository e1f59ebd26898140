package profile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field is one thing that profiles can differ in.
type field struct {
	name string
	show func(Profile) string
	// list is set where the value is a list: of it, a difference shows what came
	// and what went.
	list func(Profile) []string
	// wider says that b gives a script more than a; nil for what is no question
	// of more or less.
	wider func(a, b Profile) bool
}

// fields lists everything that a profile says. A test compares it with the
// type: whoever adds a field decides here what more of it means.
func fields() []field {
	return []field{
		loses("require", func(p Profile) []string { return p.Require }),
		limit("limits.wall", func(p Profile) time.Duration { return p.Limits.Wall }, span),
		limit("limits.cpu_time", func(p Profile) time.Duration { return p.Limits.CPUTime }, span),
		limit("limits.memory", func(p Profile) Size { return p.Limits.Memory }, Size.String),
		limit("limits.cpu_percent", func(p Profile) int { return p.Limits.CPUPercent }, strconv.Itoa),
		limit("limits.pids", func(p Profile) int64 { return p.Limits.PIDs }, decimal),
		limit("limits.output", func(p Profile) Size { return p.Limits.Output }, Size.String),
		{
			name: "limits.output_action",
			show: func(p Profile) string { return string(p.Limits.OutputAction) },
			wider: func(a, b Profile) bool {
				return a.Limits.OutputAction == OutputKill && b.Limits.OutputAction != OutputKill
			},
		},
		limit("limits.tmp_size", func(p Profile) Size { return p.Limits.TmpSize }, Size.String),
		limit("limits.tmp_inodes", func(p Profile) int64 { return p.Limits.TmpInodes }, decimal),
		limit("limits.open_files", func(p Profile) uint64 { return p.Limits.OpenFiles }, func(n uint64) string { return strconv.FormatUint(n, 10) }),
		limit("limits.file_size", func(p Profile) Size { return p.Limits.FileSize }, Size.String),
		limit("limits.denials", func(p Profile) int64 { return p.Limits.Denials }, decimal),
		limit("limits.same_denial", func(p Profile) int64 { return p.Limits.SameDenial }, decimal),
		{
			name:  "python.hooks",
			show:  func(p Profile) string { return string(p.Python.Hooks) },
			wider: func(a, b Profile) bool { return hookRank(b.Python.Hooks) < hookRank(a.Python.Hooks) },
		},
		loses("python.restricted_imports", func(p Profile) []string { return p.Python.RestrictedImports }),
		{
			name: "python.allowed_imports",
			show: func(p Profile) string {
				if p.Python.AllowedImports == nil {
					return "any"
				}
				return showList(p.Python.AllowedImports)
			},
			wider: func(a, b Profile) bool {
				only := func(p Profile) []string { return p.Python.AllowedImports }
				return only(a) != nil && (only(b) == nil || more(only(a), only(b)))
			},
		},
		allowed("python.site_packages", func(p Profile) bool { return p.Python.SitePackages }),
		neither("python.fast_exit", func(p Profile) bool { return p.Python.FastExit }),
		allowed("files.read", func(p Profile) bool { return p.Files.Read }),
		gains("files.read_paths", func(p Profile) []string { return p.Files.ReadPaths }),
		allowed("files.write", func(p Profile) bool { return p.Files.Write }),
		gains("files.write_paths", func(p Profile) []string { return p.Files.WritePaths }),
		allowed("files.shared_memory", func(p Profile) bool { return p.Files.SharedMemory }),
		allowed("files.system", func(p Profile) bool { return p.Files.System }),
		{
			name:  "network",
			show:  func(p Profile) string { return string(p.Network) },
			wider: func(a, b Profile) bool { return networkRank(b.Network) > networkRank(a.Network) },
		},
		gains("seccomp.groups", func(p Profile) []string { return p.Seccomp.Groups }),
		{
			name:  "seccomp.rules",
			show:  func(p Profile) string { return showList(showRules(p.Seccomp.Rules)) },
			list:  func(p Profile) []string { return showRules(p.Seccomp.Rules) },
			wider: func(a, b Profile) bool { return rulesWider(a.Seccomp.Rules, b.Seccomp.Rules) },
		},
		neither("trace", func(p Profile) bool { return p.Trace }),
	}
}

// limit is a number of which 0 means none.
func limit[T int | int64 | uint64 | Size | time.Duration](name string, get func(Profile) T, show func(T) string) field {
	return field{
		name: name,
		show: func(p Profile) string {
			if get(p) == 0 {
				return "no limit"
			}
			return show(get(p))
		},
		wider: func(a, b Profile) bool { return get(a) != 0 && (get(b) == 0 || get(b) > get(a)) },
	}
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// allowed is a switch that gives something.
func allowed(name string, get func(Profile) bool) field {
	f := neither(name, get)
	f.wider = func(a, b Profile) bool { return !get(a) && get(b) }
	return f
}

// neither is a switch that gives and takes nothing.
func neither(name string, get func(Profile) bool) field {
	return field{name: name, show: func(p Profile) string { return strconv.FormatBool(get(p)) }}
}

// gains is a list of what is given.
func gains(name string, get func(Profile) []string) field {
	return field{
		name: name, list: get,
		show:  func(p Profile) string { return showList(get(p)) },
		wider: func(a, b Profile) bool { return more(get(a), get(b)) },
	}
}

// loses is a list of what is demanded or refused.
func loses(name string, get func(Profile) []string) field {
	f := gains(name, get)
	f.wider = func(a, b Profile) bool { return more(get(b), get(a)) }
	return f
}

// more says that b has a member that a has not.
func more(a, b []string) bool { return len(missing(a, b)) > 0 }

// missing are the members of b that a has not.
func missing(a, b []string) []string {
	have := make(map[string]bool, len(a))
	for _, s := range a {
		have[s] = true
	}
	var out []string
	for _, s := range b {
		if !have[s] {
			out = append(out, s)
		}
	}
	return out
}

func hookRank(m HookMode) int {
	return slices.Index([]HookMode{HooksOff, HooksObserve, HooksEnforce}, m)
}

func networkRank(n Network) int {
	return slices.Index([]Network{NetworkNone, NetworkLoopback, NetworkHost}, n)
}

// showList is for people, and for SHA256: two lists that differ read differently.
func showList(list []string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, s := range list {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word(s))
	}
	b.WriteByte(']')
	return b.String()
}

// word quotes what could be taken for something else in a list.
func word(s string) string {
	if q := strconv.Quote(s); s == "" || strings.ContainsAny(s, " []") || len(q) != len(s)+2 {
		return q
	}
	return s
}

// showRules has one entry for each rule, without its reason.
func showRules(rules []Rule) []string {
	var out []string
	for _, r := range rules {
		out = append(out, showAction(r)+" "+strings.Join(r.Names, ",")+showArgs(r.Args))
	}
	return out
}

func showAction(r Rule) string {
	if r.Errno != "" {
		return string(r.Action) + "=" + r.Errno
	}
	return string(r.Action)
}

func showArgs(args []Arg) string {
	var b strings.Builder
	for _, a := range args {
		fmt.Fprintf(&b, " arg%d %s %#x", a.Index, a.Op, a.Value)
		if a.Op == "masked_eq" {
			fmt.Fprintf(&b, " of %#x", a.Mask)
		}
	}
	return b.String()
}

// rulesWider says that b allows something by a rule that a does not, or no
// longer refuses or kills something, or has what both say in another order: the
// later of two rules wins. Where that is no certainty it is a suspicion, which
// is for people to look at.
func rulesWider(a, b []Rule) bool {
	split := func(rules []Rule) (all, allow, refuse, kill []string) {
		for _, r := range rules {
			for _, n := range r.Names {
				call := n + showArgs(r.Args)
				switch r.Action {
				case ActionAllow:
					allow = append(allow, call)
					all = append(all, "allow "+call)
					continue
				case ActionKill:
					kill = append(kill, call)
				}
				refuse = append(refuse, call)
				all = append(all, "refuse "+call)
			}
		}
		return all, allow, refuse, kill
	}
	allA, allowA, refuseA, killA := split(a)
	allB, allowB, refuseB, killB := split(b)
	if more(allowA, allowB) || more(refuseB, refuseA) || more(killB, killA) {
		return true
	}
	return !slices.Equal(members(allA, allB), members(allB, allA))
}

// members are those of list that are in set as well, in their order.
func members(list, set []string) []string {
	gone := map[string]bool{}
	for _, s := range missing(set, list) {
		gone[s] = true
	}
	var out []string
	for _, s := range list {
		if !gone[s] {
			out = append(out, s)
		}
	}
	return out
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
type Change struct {
	Field, From, To string
	// Added and Removed are set instead of From and To where the field is a list
	// whose members came or went.
	Added, Removed []string
	Wider          bool // the second gives a script more
	Narrower       bool // the first does; both can be so
}

// Diff lists how b differs from a.
func Diff(a, b Profile) []Change {
	var out []Change
	for _, f := range fields() {
		c := Change{Field: f.name, From: f.show(a), To: f.show(b)}
		if c.From == c.To {
			continue
		}
		if f.list != nil {
			c.Added, c.Removed = missing(f.list(a), f.list(b)), missing(f.list(b), f.list(a))
		}
		if f.wider != nil {
			c.Wider, c.Narrower = f.wider(a, b), f.wider(b, a)
		}
		out = append(out, c)
	}
	return out
}

// Value is what the profile says in one field, such as limits.wall, as [Diff]
// shows it; "" if there is no such field.
func (p Profile) Value(field string) string {
	for _, f := range fields() {
		if f.name == field {
			return f.show(p)
		}
	}
	return ""
}
