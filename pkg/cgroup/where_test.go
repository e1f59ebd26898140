package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestJudge(t *testing.T) {
	all := []string{"cpu", "io", "memory", "pids"}
	const self = 7
	for _, c := range []struct {
		what string
		l    level
		want place
		why  string
	}{
		{"the root, whoever is in it", level{has: all, members: []int{1, 2, self}, root: true}, ready, ""},
		{"a group without processes", level{has: all}, ready, ""},
		{"one that hands on memory already", level{has: all, hands: []string{"memory"}}, ready, ""},
		{"one that only holds us", level{has: all, members: []int{self}}, afterMove, ""},
		{"one that holds others as well", level{has: all, members: []int{3, self, 4}}, unfit, "processes other than sbx are in it (2)"},
		{"one that holds others only", level{has: all, members: []int{3}}, unfit, "other than sbx are in it (1)"},
		{"one that holds a process of a foreign pid namespace", level{has: all, members: []int{0, self}}, unfit, "(1)"},
		// The kernel lets cpu and pids be handed on with processes in it, and so
		// makes a threaded subtree of it: without memory that is worth nothing.
		{"one that hands on pids, with us in it", level{has: all, hands: []string{"pids"}, members: []int{self}}, afterMove, ""},
		{"one without the memory controller", level{has: []string{"cpu", "pids"}}, unfit, "no memory controller"},
		{"the root of a host whose controllers are on v1", level{has: []string{"hugetlb"}, root: true}, unfit, "no memory controller"},
		{"one that is not ours", level{has: all, refused: unix.EACCES}, unfit, "permission denied"},
		{"a mount that is read-only", level{has: all, refused: unix.EROFS, members: []int{self}}, unfit, "read-only"},
	} {
		got, err := c.l.judge(self)
		if got != c.want || (err != nil) != (c.want == unfit) {
			t.Errorf("%s: %v, %v, want %v", c.what, got, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %q does not say %q", c.what, err, c.why)
		}
	}
}

// members puts processes into a group of the fake.
func (f *fakeV2) members(t *testing.T, group string, pids ...int) {
	t.Helper()
	var text strings.Builder
	for _, pid := range pids {
		text.WriteString(strconv.Itoa(pid) + "\n")
	}
	put(t, filepath.Join(f.top, group, "cgroup.procs"), text.String())
}

func TestWhereAGroupIsMade(t *testing.T) {
	self := os.Getpid()
	const other = 1
	for _, c := range []struct {
		what   string
		change func(t *testing.T, f *fakeV2)
		in     string // where the group is, "" for nowhere
		moved  bool
		why    string
	}{
		{"root goes up, and moves nothing", func(t *testing.T, f *fakeV2) { f.members(t, "user/me", self) }, "user", false, ""},
		{
			"root goes up past a group with processes",
			func(t *testing.T, f *fakeV2) {
				f.members(t, "user/me", self, other)
				f.members(t, "user", other)
			},
			".", false, "",
		},
		{
			"a container's top with nobody but us in it",
			func(t *testing.T, f *fakeV2) {
				put(t, filepath.Join(f.self, "cgroup"), "0::/\n")
				put(t, filepath.Join(f.top, "cgroup.type"), "domain\n")
				f.members(t, "", self)
			},
			".", true, "",
		},
		{
			"a container's top with others in it",
			func(t *testing.T, f *fakeV2) {
				put(t, filepath.Join(f.self, "cgroup"), "0::/\n")
				put(t, filepath.Join(f.top, "cgroup.type"), "domain\n")
				f.members(t, "", self, other)
			},
			"", false, "first process move to a leaf",
		},
		{
			"a plain user whose own group is all there is",
			func(t *testing.T, f *fakeV2) {
				f.uid = 1000
				f.members(t, "user/me", self)
				f.marks("user/me")
			},
			"user/me", true, "",
		},
		{
			"a plain user in a leaf of a delegated group",
			func(t *testing.T, f *fakeV2) {
				f.uid = 1000
				f.members(t, "user/me", self, other)
				f.marks("user")
			},
			"user", false, "",
		},
		{
			"a plain user stays below what is delegated",
			func(t *testing.T, f *fakeV2) {
				f.uid = 1000
				f.members(t, "user/me", self, other)
				f.marks("user/me")
			},
			"", false, "no scope",
		},
		{
			"the groups of the user's own systemd are the last resort",
			func(t *testing.T, f *fakeV2) {
				f.uid = 1000
				f.members(t, "user/me", self, other)
				f.marks("user")
				if err := os.Mkdir(filepath.Join(f.top, "user", "init.scope"), 0o755); err != nil {
					t.Fatal(err)
				}
			},
			"user", false, "",
		},
		{
			"alone in a scope of the user's systemd",
			func(t *testing.T, f *fakeV2) { f.underManager(t, "user/run-1.scope", self) },
			"user/run-1.scope", true, "",
		},
		{
			"in a leaf of a scope of the user's systemd",
			func(t *testing.T, f *fakeV2) {
				f.underManager(t, "user/run-1.scope")
				put(t, filepath.Join(f.top, "user/run-1.scope/leaf/cgroup.type"), "domain\n")
				put(t, filepath.Join(f.top, "user/run-1.scope/leaf/cgroup.controllers"), "cpu memory pids\n")
				f.members(t, "user/run-1.scope/leaf", self, other)
				put(t, filepath.Join(f.self, "cgroup"), "0::/user/run-1.scope/leaf\n")
			},
			"user/run-1.scope", false, "",
		},
		{
			"with others in a scope of the user's systemd",
			func(t *testing.T, f *fakeV2) { f.underManager(t, "user/run-1.scope", self, other) },
			"user", false, "", // since there is no bus
		},
		{
			"moving out of our group fails",
			func(t *testing.T, f *fakeV2) {
				f.uid = 1000
				f.members(t, "user/me", self)
				f.marks("user/me")
				f.refuses["user/me"] = unix.EAGAIN
			},
			"", false, "resource temporarily unavailable",
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := newFakeV2(t)
			f.hands["user/me"] = "cpu memory pids"
			c.change(t, f)
			g, err := f.open(Name(), everyLimit)
			if err != nil {
				t.Fatal(err)
			}
			layer := g.Layers()[layerMemory]
			if c.in == "" {
				if layer.State != Absent || !strings.Contains(layer.Why, c.why) {
					t.Errorf("memory is %+v, want it absent because of %q", layer, c.why)
				}
				if left := groupsBelow(t, f.top); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
				return
			}
			if want := filepath.Join(f.top, c.in, g.name); g.v2 != want || layer.State != Active {
				t.Errorf("the group is %q, %+v, want %q", g.v2, layer, want)
			}
			leaf := filepath.Join(f.top, c.in, selfName())
			data, err := os.ReadFile(filepath.Join(leaf, "cgroup.procs"))
			if moved := err == nil && string(data) == "0"; moved != c.moved || moved != strings.Contains(layer.Observed, "moved to "+selfName()) {
				t.Errorf("moved: %v, %q; want %v", moved, layer.Observed, c.moved)
			}
		})
	}
}

// underManager makes of "user" the group of a user's systemd, and of another one
// of its units, in which we are.
func (f *fakeV2) underManager(t *testing.T, unit string, members ...int) {
	t.Helper()
	f.uid = 1000
	f.marks("user")
	if err := os.MkdirAll(filepath.Join(f.top, "user", "init.scope"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(f.top, unit, "cgroup.type"), "domain\n")
	put(t, filepath.Join(f.top, unit, "cgroup.controllers"), "cpu memory pids\n")
	put(t, filepath.Join(f.self, "cgroup"), "0::/"+unit+"\n")
	f.hands[unit] = "cpu memory pids"
	f.members(t, unit, members...)
}

// marks are the groups that systemd delegated.
func (f *fakeV2) marks(groups ...string) {
	f.delegated = func(dir string) bool {
		rel, err := filepath.Rel(f.top, dir)
		return err == nil && slices.Contains(groups, rel)
	}
}

func TestUpwardsEndsAtTheTop(t *testing.T) {
	f := newFakeV2(t)
	own := filepath.Join(f.top, "user/me")
	want := []string{own, filepath.Join(f.top, "user"), f.top}
	if got := upwards(own); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := upwards("/"); !slices.Equal(got, []string{"/"}) {
		t.Errorf("%q", got)
	}
}

// TestOwnLeafIsNotWaitedFor: a warden collects what its sbx left, and is itself
// where sbx moved to.
func TestOwnLeafIsNotWaitedFor(t *testing.T) {
	f := newFakeV2(t)
	dead := strings.TrimSuffix(staleName(1), "1") + "self"
	if err := os.MkdirAll(filepath.Join(f.top, "user", dead), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(f.self, "cgroup"), "0::/user/"+dead+"\n")
	f.busy[dead] = 1
	if c, err := f.collect(); c != (Collected{}) || err != nil {
		t.Errorf("collected %+v, %v", c, err)
	}
	put(t, filepath.Join(f.self, "cgroup"), "0::/user/me\n")
	f.busy[dead] = 0
	if c, err := f.collect(); c != (Collected{Removed: 1}) || err != nil {
		t.Errorf("collected %+v, %v, when nobody is in it", c, err)
	}
}

// TestCollectRemovesAScopeWithItsLeaf, where systemd did not.
func TestCollectRemovesAScopeWithItsLeaf(t *testing.T) {
	f := newFakeV2(t)
	scope := filepath.Join(f.top, "user", staleName(1)+".scope")
	for _, leaf := range []string{staleName(1), staleName(2)} {
		if err := os.MkdirAll(filepath.Join(scope, leaf), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// An ordinary file system says ENOTEMPTY where a cgroup says EBUSY.
	f.rmdir = func(dir string) error {
		err := unix.Rmdir(dir)
		if err == unix.ENOTEMPTY {
			return unix.EBUSY
		}
		return err
	}
	if c, err := f.collect(); c != (Collected{Removed: 1}) || err != nil {
		t.Errorf("collected %+v, %v", c, err)
	}
	if left := groupsBelow(t, f.top); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
