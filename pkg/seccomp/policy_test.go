package seccomp

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

var update = flag.Bool("update", false, "write the golden files anew")

func rule(action profile.Action, names ...string) profile.Rule {
	return profile.Rule{Names: names, Action: action}
}

func TestResolveErrors(t *testing.T) {
	prctl := func(option uint64) profile.Rule {
		r := rule(profile.ActionAllow, "prctl")
		r.Args = []profile.Arg{{Op: "eq", Value: option}}
		return r
	}
	errno := func(name, text string) profile.Rule {
		r := rule(profile.ActionErrno, name)
		r.Errno = text
		return r
	}
	allowErrno := rule(profile.ActionAllow, "read")
	allowErrno.Errno = "EPERM"
	badArg := rule(profile.ActionAllow, "read")
	badArg.Args = []profile.Arg{{Index: 3, Op: "eq"}}
	tests := []struct {
		name string
		p    profile.Seccomp
		pins []int
		want string
	}{
		{"unknown group", profile.Seccomp{Groups: []string{"bass"}}, nil, `"bass"`},
		{"unknown call", profile.Seccomp{Rules: []profile.Rule{rule(profile.ActionAllow, "opennat")}}, nil, `"opennat"`},
		{"names the rule", profile.Seccomp{Rules: []profile.Rule{rule(profile.ActionAllow, "read"), rule(profile.ActionAllow, "nope")}}, nil, "rule 2 (nope)"},
		{"no names", profile.Seccomp{Rules: []profile.Rule{rule(profile.ActionAllow)}}, nil, "no system call"},
		{"unknown action", profile.Seccomp{Rules: []profile.Rule{rule("permit", "read")}}, nil, `"permit"`},
		{"no action", profile.Seccomp{Rules: []profile.Rule{rule("", "read")}}, nil, `""`},
		{"unknown errno", profile.Seccomp{Rules: []profile.Rule{errno("read", "EPREM")}}, nil, "EPREM"},
		{"no errno", profile.Seccomp{Rules: []profile.Rule{errno("read", "")}}, nil, "errno"},
		{"errno of an allow rule", profile.Seccomp{Rules: []profile.Rule{allowErrno}}, nil, "EPERM"},
		{"bad argument", profile.Seccomp{Rules: []profile.Rule{badArg}}, nil, "read has 3 arguments"},
		{"negative pin", profile.Seccomp{}, []int{-1}, "-1"},
		{"seccomp", profile.Seccomp{Rules: []profile.Rule{rule(profile.ActionAllow, "seccomp")}}, nil, "rule 1 (seccomp)"},
		{"seccomp observed", profile.Seccomp{Rules: []profile.Rule{rule(ActionObserve, "seccomp")}}, nil, "never allowed"},
		{"seccomp guarded", profile.Seccomp{Rules: []profile.Rule{rule(ActionGuard, "seccomp")}}, nil, "never allowed"},
		{"prctl", profile.Seccomp{Rules: []profile.Rule{rule(profile.ActionAllow, "prctl")}}, nil, "PR_SET_SECCOMP"},
		{"prctl PR_SET_SECCOMP", profile.Seccomp{Rules: []profile.Rule{prctl(unix.PR_SET_SECCOMP)}}, nil, "PR_SET_SECCOMP"},
		{"clone3", profile.Seccomp{Rules: []profile.Rule{rule(profile.ActionAllow, "clone3")}}, nil, "ENOSYS"},
		{"clone3 notified", profile.Seccomp{Rules: []profile.Rule{rule(profile.ActionNotify, "clone3")}}, nil, "ENOSYS"},
		{"clone3 EPERM", profile.Seccomp{Rules: []profile.Rule{errno("clone3", "EPERM")}}, nil, "ENOSYS"},
		{"io_uring", profile.Seccomp{Rules: []profile.Rule{rule(profile.ActionAllow, "read", "io_uring_setup")}}, nil, "io_uring_setup"},
		{"userfaultfd", profile.Seccomp{Rules: []profile.Rule{rule(profile.ActionAllow, "userfaultfd")}}, nil, "userfaultfd"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Resolve(tt.p, tt.pins)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	for _, r := range []profile.Rule{prctl(unix.PR_SET_DUMPABLE), rule(profile.ActionKill, "seccomp"), errno("clone3", "ENOSYS")} {
		if _, err := Resolve(profile.Seccomp{Rules: []profile.Rule{r}}, nil); err != nil {
			t.Errorf("%s %v: %v", r.Action, r.Names, err)
		}
	}
}

func TestLaterRulesOverride(t *testing.T) {
	base := []string{"base", "files-write"}
	refuse := rule(profile.ActionErrno, "openat", "uname")
	refuse.Errno = "EACCES"
	partly := rule(profile.ActionAllow, "openat")
	partly.Args = []profile.Arg{{Index: 2, Op: "masked_eq", Mask: unix.O_CLOEXEC, Value: unix.O_CLOEXEC}}
	read, cloexec, write := [6]uint64{}, [6]uint64{2: unix.O_CLOEXEC}, [6]uint64{2: unix.O_WRONLY}
	tests := []struct {
		name                 string
		rules                []profile.Rule
		read, cloexec, write Decision
	}{
		{"groups alone", nil, Decision{Action: Continue}, Decision{Action: Continue}, Decision{Action: Guard}},
		{"refused", []profile.Rule{refuse}, Decision{Action: Deny, Errno: unix.EACCES}, Decision{Action: Deny, Errno: unix.EACCES}, Decision{Action: Deny, Errno: unix.EACCES}},
		{"refused, then partly allowed", []profile.Rule{refuse, partly}, Decision{Action: Deny, Errno: unix.EACCES}, Decision{Action: Continue}, Decision{Action: Deny, Errno: unix.EACCES}},
		{"partly allowed, then refused", []profile.Rule{partly, refuse}, Decision{Action: Deny, Errno: unix.EACCES}, Decision{Action: Deny, Errno: unix.EACCES}, Decision{Action: Deny, Errno: unix.EACCES}},
		{"notified", []profile.Rule{rule(profile.ActionNotify, "openat")}, Decision{Action: Deny, Errno: unix.EPERM}, Decision{Action: Deny, Errno: unix.EPERM}, Decision{Action: Deny, Errno: unix.EPERM}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := resolve(t, profile.Seccomp{Groups: base, Rules: tt.rules})
			for _, c := range []struct {
				args [6]uint64
				want Decision
			}{{read, tt.read}, {cloexec, tt.cloexec}, {write, tt.write}} {
				if got := p.Decide(unix.SYS_OPENAT, c.args); got != c.want {
					t.Errorf("openat%x: %+v, want %+v", c.args, got, c.want)
				}
			}
		})
	}
}

func TestDecide(t *testing.T) {
	strict := resolve(t, profile.Seccomp{Groups: []string{"base", "threads", "sockets-pair", "files-write"}}, 1000)
	all := resolve(t, profile.Seccomp{Groups: groupNames()}, 1000)
	perm, cont := Decision{Action: Deny, Errno: unix.EPERM}, Decision{Action: Continue}
	tests := []struct {
		call        string
		args        [6]uint64
		strict, all Decision
	}{
		{"openat", [6]uint64{2: unix.O_WRONLY | unix.O_CREAT}, Decision{Action: Guard}, Decision{Action: Guard}},
		{"openat", [6]uint64{2: unix.O_TMPFILE}, Decision{Action: Guard}, Decision{Action: Guard}},
		{"openat2", [6]uint64{}, perm, perm},
		{"unlink", [6]uint64{}, Decision{Action: Guard}, Decision{Action: Guard}},
		{"mknod", [6]uint64{}, perm, perm},
		{"execve", [6]uint64{}, perm, cont},
		{"execveat", [6]uint64{}, perm, perm},
		{"fork", [6]uint64{}, perm, cont},
		{"clone", [6]uint64{unix.CLONE_VM | unix.CLONE_VFORK | uint64(unix.SIGCHLD)}, perm, cont},
		{"clone", [6]uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, perm, perm},
		{"clone", [6]uint64{threadClone | unix.CLONE_NEWNET}, perm, perm},
		{"clone3", [6]uint64{}, Decision{Action: Deny, Errno: unix.ENOSYS}, Decision{Action: Deny, Errno: unix.ENOSYS}},
		{"kill", [6]uint64{2, 9}, Decision{Action: Self, Errno: unix.EPERM}, cont},
		{"tkill", [6]uint64{2, 9}, perm, cont},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC}, perm, cont},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_RAW}, perm, perm},
		{"socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, perm, perm},
		{"socket", [6]uint64{unix.AF_VSOCK, unix.SOCK_STREAM}, perm, perm},
		{"socket", [6]uint64{unix.AF_ALG, unix.SOCK_SEQPACKET}, perm, perm},
		{"socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, perm, cont},
		{"socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, perm, perm},
		{"socketpair", [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM}, cont, cont},
		{"socketpair", [6]uint64{unix.AF_TIPC, unix.SOCK_STREAM}, perm, perm},
		{"sendto", [6]uint64{4: 0}, cont, cont},
		{"sendto", [6]uint64{4: 0x7f0000000000}, perm, cont},
		{"setsockopt", [6]uint64{3, unix.SOL_SOCKET, unix.SO_REUSEADDR}, cont, cont},
		{"setsockopt", [6]uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}, perm, perm},
		{"setsockopt", [6]uint64{3, unix.SOL_SOCKET, unix.SO_ATTACH_BPF}, perm, perm},
		{"setsockopt", [6]uint64{3, unix.SOL_SOCKET, unix.SO_BINDTODEVICE}, perm, perm},
		{"setsockopt", [6]uint64{3, unix.IPPROTO_TCP, unix.TCP_NODELAY}, perm, cont},
		{"setsockopt", [6]uint64{3, unix.IPPROTO_TCP, unix.TCP_ULP}, perm, perm},
		{"setsockopt", [6]uint64{3, unix.IPPROTO_IP, 64}, perm, perm},
		{"ioctl", [6]uint64{0, unix.TIOCSTI}, perm, perm},
		{"ioctl", [6]uint64{0, 1<<32 | unix.TIOCSTI}, perm, perm},
		{"ioctl", [6]uint64{0, unix.TCGETS}, cont, cont},
		{"fcntl", [6]uint64{0, unix.F_SETLEASE}, perm, perm},
		{"fcntl", [6]uint64{0, unix.F_NOTIFY}, perm, perm},
		{"fcntl", [6]uint64{0, unix.F_SETOWN}, perm, perm},
		{"fcntl", [6]uint64{0, unix.F_ADD_SEALS}, perm, cont},
		{"prctl", [6]uint64{unix.PR_SET_DUMPABLE}, perm, perm},
		{"prctl", [6]uint64{unix.PR_SET_SECCOMP, 2}, perm, perm},
		{"prctl", [6]uint64{1<<32 | unix.PR_SET_SECCOMP, 2}, perm, perm},
		{"prctl", [6]uint64{unix.PR_SET_NAME}, cont, cont},
		{"personality", [6]uint64{0xffffffff}, cont, cont},
		{"personality", [6]uint64{0x0040000}, perm, perm},
		{"prlimit64", [6]uint64{0, unix.RLIMIT_NOFILE, 0x1000}, cont, cont},
		{"prlimit64", [6]uint64{1, unix.RLIMIT_NOFILE, 0x1000}, perm, perm},
		{"prlimit64", [6]uint64{1, unix.RLIMIT_NOFILE, 0}, cont, cont},
		{"pipe2", [6]uint64{0, unix.O_CLOEXEC}, cont, cont},
		{"pipe2", [6]uint64{0, unix.O_EXCL}, perm, perm},
		{"flock", [6]uint64{}, perm, cont},
		{"sched_setscheduler", [6]uint64{0, 1}, perm, perm},
	}
	for _, tt := range tests {
		s, ok := ByName(tt.call)
		if !ok {
			t.Fatalf("%s is not in the table", tt.call)
		}
		if got := strict.Decide(s.NR, tt.args); got != tt.strict {
			t.Errorf("strict: %s%x: %+v, want %+v", tt.call, tt.args, got, tt.strict)
		}
		if got := all.Decide(s.NR, tt.args); got != tt.all {
			t.Errorf("all groups: %s%x: %+v, want %+v", tt.call, tt.args, got, tt.all)
		}
	}
	for _, nr := range []int{-1, 400, len(table), 1 << 30, 1<<63 - 1} {
		if got := all.Decide(nr, [6]uint64{}); got != (Decision{Action: Deny, Errno: unix.ENOSYS}) {
			t.Errorf("call %d: %+v, want ENOSYS", nr, got)
		}
	}
	if (Decision{}).Action != Deny {
		t.Error("the zero decision does not refuse")
	}
}

func TestOrderOfGroupsMeansNothing(t *testing.T) {
	names := groupNames()
	args := argumentSamples(unix.SYS_OPENAT)
	p := resolve(t, profile.Seccomp{Groups: names})
	slices.Reverse(names)
	q := resolve(t, profile.Seccomp{Groups: append(names, names...)})
	for nr := range table {
		for _, a := range args {
			if p.Decide(nr, a) != q.Decide(nr, a) {
				t.Fatalf("%s%x depends on the order of the groups", table[nr].Name, a)
			}
		}
	}
}

func TestKey(t *testing.T) {
	base := profile.Seccomp{Groups: []string{"base"}}
	key := resolve(t, base, 1000).Key()
	if again := resolve(t, base, 1000, 1000).Key(); again != key {
		t.Error("equal policies have different keys")
	}
	errno := rule(profile.ActionErrno, "uname")
	errno.Errno = "EPERM"
	other := errno
	other.Errno = "EACCES"
	keys := map[string]bool{key: true}
	for _, p := range []*Policy{
		resolve(t, base),
		resolve(t, base, 1001),
		resolve(t, profile.Seccomp{Groups: []string{"base", "locks"}}, 1000),
		resolve(t, profile.Seccomp{Groups: base.Groups, Rules: []profile.Rule{errno}}, 1000),
		resolve(t, profile.Seccomp{Groups: base.Groups, Rules: []profile.Rule{other}}, 1000),
		resolve(t, base, 1000).Traced(),
	} {
		if keys[p.Key()] {
			t.Errorf("key %s stands for two policies", p.Key())
		}
		keys[p.Key()] = true
	}
}

func TestImportable(t *testing.T) {
	enosys := rule(profile.ActionErrno, "clone3")
	enosys.Errno = "ENOSYS"
	rules := []profile.Rule{
		rule(profile.ActionAllow, "read", "seccomp", "chown32", "write"),
		rule(profile.ActionAllow, "prctl", "clone3"),
		enosys,
	}
	kept, dropped := Importable(rules)
	if want := []string{"chown32", "clone3", "prctl", "seccomp"}; !slices.Equal(dropped, want) {
		t.Errorf("dropped %v, want %v", dropped, want)
	}
	if len(kept) != 2 || !slices.Equal(kept[0].Names, []string{"read", "write"}) || kept[1].Names[0] != "clone3" {
		t.Errorf("kept %v", kept)
	}
	if _, err := Resolve(profile.Seccomp{Rules: kept}, nil); err != nil {
		t.Errorf("what was kept does not resolve: %v", err)
	}
	if len(rules[0].Names) != 4 {
		t.Error("the rules that were handed in changed")
	}
}

func TestGroupNames(t *testing.T) {
	want := []string{
		"base", "threads", "sockets-pair", "files-write", "processes", "signals", "sockets-inet",
		"locks", "inotify", "memory-files", "sysv-ipc", "scheduling",
	}
	if got := groupNames(); !slices.Equal(got, want) {
		t.Errorf("groups %v, want %v: profiles name them", got, want)
	}
}

// TestGolden keeps the resolved policies of the usual sets of groups, so that a
// change to a group shows as a change to what runs are allowed.
func TestGolden(t *testing.T) {
	strict := []string{"base", "threads", "sockets-pair", "files-write"}
	science := append(slices.Clone(strict), "processes", "locks", "memory-files")
	for name, groups := range map[string][]string{
		"default": {"base", "threads", "sockets-pair"},
		"strict":  strict,
		"grader":  strict,
		"science": science,
		"ci":      append(slices.Clone(science), "sockets-inet"),
		"observe": groupNames(),
	} {
		t.Run(name, func(t *testing.T) {
			got := resolve(t, profile.Seccomp{Groups: groups}, 1000).String()
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.MkdirAll("testdata", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the policy differs from %s; look at the difference, then run the test with -update\n%s", file, diff(string(want), got))
			}
		})
	}
}

func diff(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, l := range w {
		if !slices.Contains(g, l) {
			b.WriteString("- " + l + "\n")
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			b.WriteString("+ " + l + "\n")
		}
	}
	return b.String()
}

func TestAsks(t *testing.T) {
	p, err := Resolve(profile.Seccomp{Groups: []string{"base", "files-write"}, Rules: []profile.Rule{
		{Names: []string{"socket"}, Action: profile.ActionAllow, Args: []profile.Arg{{Index: 0, Op: "eq", Value: 1}}},
		{Names: []string{"ptrace"}, Action: profile.ActionKill},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for nr, want := range map[int]bool{
		unix.SYS_UNLINK: true, unix.SYS_MOUNT: true, unix.SYS_KILL: true, 1 << 20: true, -1: true,
		unix.SYS_READ: false, unix.SYS_OPENAT: false, unix.SYS_SOCKET: false, unix.SYS_PTRACE: false, unix.SYS_CLONE3: false,
	} {
		if got := p.Asks(nr); got != want {
			t.Errorf("call %d: %v, want %v", nr, got, want)
		}
	}
	if !p.Traced().Asks(unix.SYS_OPENAT) {
		t.Error("a traced call is not asked about")
	}
}

// TestRefuses: of which calls the supervisor is asked and says no.
func TestRefuses(t *testing.T) {
	errno := rule(profile.ActionErrno, "setresuid")
	errno.Errno = "EACCES"
	kill := rule(profile.ActionKill, "setresuid")
	kill.Args = []profile.Arg{{Op: "eq", Value: 7}}
	for _, tt := range []struct {
		name  string
		rules []profile.Rule
		want  bool
	}{
		{"no rule", nil, true},
		{"notify", []profile.Rule{rule(profile.ActionNotify, "setresuid")}, true},
		{"allow", []profile.Rule{rule(profile.ActionAllow, "setresuid")}, false},
		{"errno, by the filter itself", []profile.Rule{errno}, false},
		{"kill", []profile.Rule{rule(profile.ActionKill, "setresuid")}, false},
		{"kill, of other arguments", []profile.Rule{kill}, true},
	} {
		p, err := Resolve(profile.Seccomp{Groups: []string{"base"}, Rules: tt.rules}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Refuses(unix.SYS_SETRESUID, [6]uint64{1, 2, 3}); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
