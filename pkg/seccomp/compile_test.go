package seccomp

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

// TestEveryRuleOfEveryGroup takes each rule alone, so that nothing else can
// allow what its conditions should not.
func TestEveryRuleOfEveryGroup(t *testing.T) {
	for _, g := range Groups() {
		t.Run(g.Name, func(t *testing.T) {
			if g.Reason == "" {
				t.Error("the group gives no reason")
			}
			for _, r := range g.Rules {
				if r.Reason == "" {
					t.Errorf("rule %v gives no reason", r.Names)
				}
				p := resolve(t, profile.Seccomp{Rules: []profile.Rule{r}})
				m := compile(t, p)
				for _, name := range r.Names {
					checkRule(t, p, m, r, name)
				}
			}
		})
	}
}

func checkRule(t *testing.T, p *Policy, m machine, r profile.Rule, name string) {
	t.Helper()
	s, _ := ByName(name)
	want, decision := uint32(retAllow), Continue
	switch r.Action {
	case ActionObserve:
		want = retNotify
	case ActionGuard:
		want, decision = retNotify, Guard
	case ActionSelf:
		want, decision = retNotify, Self
	}
	var match [6]uint64
	for _, a := range r.Args {
		match[a.Index] |= a.Value
	}
	if got := m.native(t, s.NR, match); got != want {
		t.Errorf("%s%x: the filter says %#x, want %#x", name, match, got, want)
	}
	if got := p.Decide(s.NR, match); got.Action != decision {
		t.Errorf("%s%x: decided %v, want %v", name, match, got.Action, decision)
	}
	for _, a := range r.Args {
		role, _ := role(s.NR, a.Index)
		if role.width() == 32 {
			garbage := match
			garbage[a.Index] |= 0xdeadbeef << 32
			if got := m.native(t, s.NR, garbage); got != want {
				t.Errorf("%s%x: the filter looks at bits that the kernel drops", name, garbage)
			}
		}
		mask := a.Mask
		if a.Op == "eq" {
			mask = ^uint64(0)
		}
		for bit := uint64(1); bit != 0; bit <<= 1 {
			if mask&bit == 0 {
				continue
			}
			broken := match
			broken[a.Index] ^= bit
			if got := m.native(t, s.NR, broken); got != retNotify {
				t.Errorf("%s%x: the filter says %#x though argument %d is wrong", name, broken, got, a.Index)
			}
			if got := p.Decide(s.NR, broken); got != (Decision{Action: Deny, Errno: unix.EPERM}) {
				t.Errorf("%s%x: decided %+v though argument %d is wrong", name, broken, got, a.Index)
			}
		}
	}
}

func TestSweepOfAllNumbers(t *testing.T) {
	empty := compile(t, resolve(t, profile.Seccomp{}))
	full := compile(t, resolve(t, profile.Seccomp{Groups: groupNames()}, 1000))
	for nr := range uint32(1024) {
		for _, m := range []machine{empty, full} {
			for _, arch := range []uint32{archI386, archAarch64, 0, ^uint32(0)} {
				if got := m.run(t, arch, nr, [6]uint64{}); got != retKill {
					t.Fatalf("call %d of architecture %#x: %#x, want the process killed", nr, arch, got)
				}
			}
			if got := m.run(t, archX8664, nr|x32Bit, [6]uint64{}); got != retKill {
				t.Fatalf("x32 call %d: %#x, want the process killed", nr, got)
			}
		}
		want := uint32(retNotify)
		if nr == unix.SYS_CLONE3 {
			want = retErrno | uint32(unix.ENOSYS)
		}
		if got := empty.native(t, int(nr), [6]uint64{}); got != want {
			t.Errorf("call %d without any group: %#x, want %#x", nr, got, want)
		}
		if _, known := Lookup(int(nr)); known {
			continue
		}
		if got := full.native(t, int(nr), [6]uint64{}); got != retNotify {
			t.Errorf("unknown call %d: %#x, want it notified", nr, got)
		}
	}
	for _, nr := range []uint32{x32Bit - 1, 1 << 31, ^uint32(0) - 1, ^uint32(0)} {
		if got := full.run(t, archX8664, nr, [6]uint64{}); got == retAllow {
			t.Errorf("call %#x is allowed", nr)
		}
	}
}

// never are the calls that no group may give, whatever the arguments.
var never = []string{
	"io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "keyctl", "add_key", "request_key",
	"userfaultfd", "perf_event_open", "mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount",
	"fspick", "open_tree", "open_tree_attr", "move_mount", "mount_setattr", "statmount", "listmount",
	"unshare", "setns", "listns", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd",
	"kcmp", "seccomp", "execveat", "openat2", "open_by_handle_at", "name_to_handle_at", "kexec_load", "kexec_file_load",
	"init_module", "finit_module", "delete_module", "create_module", "reboot", "swapon", "swapoff", "acct", "quotactl",
	"syslog", "sethostname", "setdomainname", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime",
	"iopl", "ioperm", "modify_ldt", "uselib", "vhangup", "lookup_dcookie", "fanotify_init", "fanotify_mark",
	"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups", "capset",
	"chown", "fchown", "lchown", "fchownat", "mknod", "mknodat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat",
	"mlock", "mlock2", "mlockall", "mincore", "cachestat", "memfd_secret", "migrate_pages", "move_pages",
	"sched_setattr", "ioprio_set", "io_setup", "io_submit", "splice", "tee", "vmsplice", "remap_file_pages",
	"sync", "syncfs", "process_mrelease", "map_shadow_stack", "mq_open",
}

func TestNoGroupGivesTheNeverAllowed(t *testing.T) {
	p := resolve(t, profile.Seccomp{Groups: groupNames()})
	m := compile(t, p)
	for _, name := range never {
		s, ok := ByName(name)
		if !ok {
			t.Errorf("%s is not in the table", name)
			continue
		}
		for _, args := range argumentSamples(s.NR) {
			if got := m.native(t, s.NR, args); got != retNotify {
				t.Fatalf("%s%x: %#x, want it notified", name, args, got)
			}
			if got := p.Decide(s.NR, args); got.Action != Deny || got.Errno != unix.EPERM {
				t.Fatalf("%s%x: decided %+v, want EPERM", name, args, got)
			}
		}
	}
}

// argumentSamples returns calls with values that conditions are made of.
func argumentSamples(nr int) [][6]uint64 {
	rng := rand.New(rand.NewPCG(1, uint64(nr)))
	interesting := []uint64{
		0, 1, 2, 3, 16, 22, 47, 999, 1000, 1001, 1<<32 - 1, 1 << 32, 1<<32 + 1000, 1 << 63, ^uint64(0),
		writeFlags, threadClone, foreignClone, unix.CLONE_NEWUSER | threadClone, unix.O_CLOEXEC, unix.O_TMPFILE, unix.O_DIRECTORY,
	}
	out := make([][6]uint64, 200)
	for i := range out {
		for j := range out[i] {
			v := interesting[rng.IntN(len(interesting))]
			switch rng.IntN(4) {
			case 0:
				v |= 1 << rng.IntN(64)
			case 1:
				v = uint64(rng.IntN(64))
			}
			out[i][j] = v
		}
	}
	return out
}

// TestFilterAgreesWithDecide checks that the two readings of a policy are the
// same: what the filter allows unseen Decide would let through, and what it
// notifies was not plainly allowed.
func TestFilterAgreesWithDecide(t *testing.T) {
	rules := []profile.Rule{
		{Names: []string{"openat"}, Action: profile.ActionErrno, Errno: "EACCES", Args: []profile.Arg{{Index: 2, Op: "masked_eq", Mask: unix.O_CLOEXEC | unix.O_DIRECTORY, Value: unix.O_CLOEXEC}}},
		{Names: []string{"close"}, Action: profile.ActionAllow, Args: []profile.Arg{{Index: 0, Op: "ge", Value: 3}}},
		{Names: []string{"lseek"}, Action: profile.ActionKill, Args: []profile.Arg{{Index: 0, Op: "masked_eq", Mask: 15, Value: 2}, {Index: 2, Op: "masked_eq", Mask: 3, Value: 1}}},
		{Names: []string{"lseek"}, Action: profile.ActionErrno, Errno: "EINVAL", Args: []profile.Arg{{Index: 2, Op: "lt", Value: 16}}},
		{Names: []string{"dup2", "read"}, Action: profile.ActionNotify, Args: []profile.Arg{{Index: 0, Op: "eq", Value: 2}}},
		{Names: []string{"socket"}, Action: profile.ActionNotify, Args: []profile.Arg{{Index: 0, Op: "eq", Value: unix.AF_UNIX}}},
	}
	for name, p := range map[string]*Policy{
		"groups":        resolve(t, profile.Seccomp{Groups: groupNames()}),
		"pins":          resolve(t, profile.Seccomp{Groups: groupNames()}, 1000, 1001),
		"low pin":       resolve(t, profile.Seccomp{Groups: groupNames()}, 0),
		"rules":         resolve(t, profile.Seccomp{Groups: groupNames(), Rules: rules}, 1000),
		"traced":        resolve(t, profile.Seccomp{Groups: groupNames(), Rules: rules}, 1000).Traced(),
		"rules only":    resolve(t, profile.Seccomp{Rules: rules}),
		"rules of file": resolve(t, profile.Seccomp{Groups: []string{"base"}, Rules: rules[:1]}),
	} {
		t.Run(name, func(t *testing.T) {
			m := compile(t, p)
			for nr := range table {
				for _, args := range argumentSamples(nr) {
					got, want := m.native(t, nr, args), expected(p, nr, args)
					if !slices.Contains(want, got) {
						t.Fatalf("%s%x: the filter says %#x, want one of %#x", table[nr].Name, args, got, want)
					}
				}
			}
		})
	}
}

// expected says what the filter may answer, from the clauses alone.
func expected(p *Policy, nr int, args [6]uint64) []uint32 {
	if p.hitsPin(nr, args) {
		return []uint32{retNotify}
	}
	for _, c := range p.calls[nr] {
		if !c.match.holds(args) {
			continue
		}
		switch {
		case c.action == profile.ActionErrno:
			return []uint32{retErrno | uint32(c.errno)}
		case c.action == profile.ActionKill:
			return []uint32{retKill}
		case c.action == profile.ActionAllow && !p.traced[nr]:
			if pinnable(nr) && len(p.pins) > 0 {
				return []uint32{retAllow, retNotify}
			}
			return []uint32{retAllow}
		}
		break
	}
	return []uint32{retNotify}
}

func TestPins(t *testing.T) {
	const pin = 1000
	p := resolve(t, profile.Seccomp{Groups: []string{"base"}}, pin)
	m := compile(t, p)
	const garbage = 7 << 32
	tests := []struct {
		name    string
		args    [6]uint64
		denied  bool
		unseen  bool
		comment string
	}{
		{"close", [6]uint64{3}, false, true, "below"},
		{"close", [6]uint64{pin - 1}, false, true, "just below"},
		{"close", [6]uint64{pin}, true, false, "the pin"},
		{"close", [6]uint64{pin | garbage}, true, false, "the pin, as the kernel reads it"},
		{"close", [6]uint64{pin + 1}, false, false, "above"},
		{"close", [6]uint64{1<<32 - 1}, false, false, "-1"},
		{"dup2", [6]uint64{pin, 5}, false, true, "a copy of the pin harms nothing"},
		{"dup2", [6]uint64{5, pin}, true, false, "over the pin"},
		{"dup2", [6]uint64{5, pin | garbage}, true, false, "over the pin, as the kernel reads it"},
		{"dup3", [6]uint64{5, pin, unix.O_CLOEXEC}, true, false, "over the pin"},
		{"dup3", [6]uint64{5, 6, unix.O_CLOEXEC}, false, true, "elsewhere"},
		{"close_range", [6]uint64{3, 1<<32 - 1, 0}, true, false, "all"},
		{"close_range", [6]uint64{3, 1<<32 - 1, unix.CLOSE_RANGE_CLOEXEC}, true, false, "all, later"},
		{"close_range", [6]uint64{0, pin, 0}, true, false, "up to the pin"},
		{"close_range", [6]uint64{pin, pin, 0}, true, false, "the pin"},
		{"close_range", [6]uint64{garbage, pin | garbage, 0}, true, false, "up to the pin, as the kernel reads it"},
		{"close_range", [6]uint64{garbage | (pin + 1), 1<<32 - 1, 0}, false, false, "above"},
		{"close_range", [6]uint64{3, pin - 1, 0}, false, true, "below"},
		{"dup", [6]uint64{pin}, false, true, "takes a free number"},
	}
	for _, tt := range tests {
		s, _ := ByName(tt.name)
		if got := m.native(t, s.NR, tt.args) == retAllow; got != tt.unseen {
			t.Errorf("%s%x (%s): allowed by the filter: %v, want %v", tt.name, tt.args, tt.comment, got, tt.unseen)
		}
		want := Decision{Action: Continue}
		if tt.denied {
			want = Decision{Action: Deny, Errno: unix.EPERM, Pinned: true}
		}
		if got := p.Decide(s.NR, tt.args); got != want {
			t.Errorf("%s%x (%s): decided %+v, want %+v", tt.name, tt.args, tt.comment, got, want)
		}
	}
	// No rule lifts a pin.
	lifted := resolve(t, profile.Seccomp{Rules: []profile.Rule{{Names: []string{"close"}, Action: profile.ActionAllow}}}, pin)
	if got := compile(t, lifted).native(t, unix.SYS_CLOSE, [6]uint64{pin}); got != retNotify {
		t.Errorf("a rule lifted the pin: %#x", got)
	}
}

func TestTracedCallsAreNotifiedAndLetThrough(t *testing.T) {
	p := resolve(t, profile.Seccomp{Groups: []string{"base"}})
	traced := p.Traced()
	if p.Key() == traced.Key() {
		t.Error("a traced policy has the key of the plain one")
	}
	args := [6]uint64{0, 0, unix.O_CLOEXEC}
	if got := compile(t, p).native(t, unix.SYS_OPENAT, args); got != retAllow {
		t.Errorf("tracing changed the policy it was made from: %#x", got)
	}
	if got := compile(t, traced).native(t, unix.SYS_OPENAT, args); got != retNotify {
		t.Errorf("openat: %#x, want it notified", got)
	}
	if got := traced.Decide(unix.SYS_OPENAT, args); got.Action != Continue {
		t.Errorf("openat: decided %+v, want it let through", got)
	}
	if got := traced.Decide(unix.SYS_CONNECT, args); got != (Decision{Action: Deny, Errno: unix.EPERM}) {
		t.Errorf("connect: decided %+v, want it refused: tracing allows nothing", got)
	}
}

func TestTooComplexRulesAreAnError(t *testing.T) {
	args := []profile.Arg{{Index: 1, Op: "ne", Value: 5}, {Index: 2, Op: "ne", Value: 5}, {Index: 3, Op: "ne", Value: 5}}
	_, err := Resolve(profile.Seccomp{Rules: []profile.Rule{{Names: []string{"sendto"}, Action: profile.ActionAllow, Args: args}}}, nil)
	if err == nil || !strings.Contains(err.Error(), "too complex") {
		t.Errorf("resolve: %v, want an error that says the rule is too complex", err)
	}

	// libseccomp shares equal code between calls, so the values differ.
	var rules []profile.Rule
	for nr := range 100 {
		if len(table[nr].Args) > 1 && table[nr].Args[1].width() == 64 {
			other := profile.Arg{Index: 1, Op: "ne", Value: uint64(nr) << 20}
			rules = append(rules, profile.Rule{Names: []string{table[nr].Name}, Action: profile.ActionAllow, Args: []profile.Arg{other}})
		}
	}
	p := resolve(t, profile.Seccomp{Rules: rules})
	if prog, err := p.Compile(); err == nil {
		t.Errorf("compiled to %d instructions, want an error: the kernel takes %d", len(prog.Filter), maxInstructions)
	}
}

// TestExecIsAlwaysNotified: Python's own execve is where the jail is observed, so
// no rule may answer it in the filter.
func TestExecIsAlwaysNotified(t *testing.T) {
	for _, name := range []string{"execve", "execveat"} {
		s, _ := ByName(name)
		for _, tt := range []struct {
			rule profile.Rule
			want Decision
		}{
			{profile.Rule{Action: profile.ActionAllow}, Decision{Action: Continue}},
			{profile.Rule{Action: profile.ActionErrno, Errno: "EACCES"}, Decision{Action: Deny, Errno: unix.EACCES}},
		} {
			tt.rule.Names = []string{name}
			p := resolve(t, profile.Seccomp{Rules: []profile.Rule{tt.rule}})
			if got := compile(t, p).native(t, s.NR, [6]uint64{}); got != retNotify {
				t.Errorf("%s %s: the filter answers %#x", name, tt.rule.Action, got)
			}
			if got := p.Decide(s.NR, [6]uint64{}); got != tt.want {
				t.Errorf("%s %s: decided %+v, want %+v", name, tt.rule.Action, got, tt.want)
			}
		}
		_, err := Resolve(profile.Seccomp{Rules: []profile.Rule{{Names: []string{name}, Action: profile.ActionKill}}}, nil)
		if err == nil || !strings.Contains(err.Error(), "Python itself starts with it") {
			t.Errorf("kill on %s: %v, want an error that says why not", name, err)
		}
	}
}

func TestErrnoNames(t *testing.T) {
	for name, want := range map[string]unix.Errno{"EPERM": unix.EPERM, "ENOSYS": unix.ENOSYS, "EAGAIN": unix.EAGAIN,
		"EWOULDBLOCK": unix.EAGAIN, "EOPNOTSUPP": unix.EOPNOTSUPP, "EDEADLOCK": unix.EDEADLOCK, "EUCLEAN": unix.EUCLEAN} {
		if got, err := errnoByName(name); got != want || err != nil {
			t.Errorf("%s: %d, %v, want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"", "EPRM", "1", "eperm"} {
		if got, err := errnoByName(name); err == nil {
			t.Errorf("%q is taken for %d", name, got)
		}
	}
}
