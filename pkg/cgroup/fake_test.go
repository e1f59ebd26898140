package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeV2 is a unified hierarchy of ordinary files: a host with v2 is not at hand
// everywhere, and some of its answers cannot be had at will.
type fakeV2 struct {
	host
	top string
	// hands are the controllers that a group hands on to those below it, by its
	// path from the top.
	hands map[string]string
	// without are files that this kernel does not have.
	without []string
	// content is what a file holds at the start, instead of nothing.
	content map[string]string
	// refuses are groups in which none can be made, and why.
	refuses map[string]error
	// busy is how often a directory answers EBUSY to rmdir.
	busy map[string]int
}

// newFakeV2 has groups from the top down to our own, "user/me"; the top and
// "user" hand on what a run needs.
func newFakeV2(t *testing.T) *fakeV2 {
	t.Helper()
	top := filepath.Join(t.TempDir(), "with space", "cgroup")
	put(t, filepath.Join(top, "cgroup.controllers"), "cpuset cpu io memory pids\n")
	for _, dir := range []string{"", "user", "user/me"} {
		put(t, filepath.Join(top, dir, "cgroup.controllers"), "cpu memory pids\n")
		put(t, filepath.Join(top, dir, "cgroup.subtree_control"), "")
		if dir != "" {
			put(t, filepath.Join(top, dir, "cgroup.type"), "domain\n")
		}
	}
	f := &fakeV2{
		host: fakeHost(t, "41 31 0:38 / "+escape(top)+" rw - cgroup2 cgroup2 rw\n", "0::/user/me\n"),
		top:  top, hands: map[string]string{"": "cpu memory pids", "user": "cpu memory pids"},
		content: map[string]string{}, refuses: map[string]error{}, busy: map[string]int{},
	}
	f.mkdir, f.rmdir = f.make, f.remove
	return f
}

// v2Files are those of a group with each controller, as Linux 6.12 has them.
var v2Files = map[string][]string{
	"":       {"cgroup.procs", "cgroup.kill", "cgroup.type", "cgroup.subtree_control", "cpu.stat"},
	"cpu":    {"cpu.max"},
	"memory": {"memory.max", "memory.swap.max", "memory.oom.group", "memory.current", "memory.peak", "memory.stat", "memory.events"},
	"pids":   {"pids.max", "pids.current", "pids.peak", "pids.events"},
}

func (f *fakeV2) make(dir string) error {
	parent, err := filepath.Rel(f.top, filepath.Dir(dir))
	if err != nil {
		return err
	}
	parent = strings.TrimPrefix(parent, ".")
	if err := f.refuses[parent]; err != nil {
		return err
	}
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return err
	}
	controllers := f.hands[parent]
	files := map[string]string{"cgroup.controllers": controllers + "\n"}
	for _, c := range append(strings.Fields(controllers), "") {
		for _, name := range v2Files[c] {
			if !slices.Contains(f.without, name) {
				files[name] = f.content[name]
			}
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeV2) remove(dir string) error {
	if n := f.busy[filepath.Base(dir)]; n > 0 {
		f.busy[filepath.Base(dir)]--
		return unix.EBUSY
	}
	if _, err := os.Stat(dir); err != nil {
		return unix.ENOENT
	}
	return os.RemoveAll(dir)
}

func (f *fakeV2) get(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{f.top}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var everyLimit = Limits{Memory: 64 << 20, PIDs: 32, CPUPercent: 50}

func TestV2GroupIsMadeBesideOurOwn(t *testing.T) {
	f := newFakeV2(t)
	name := Name()
	g, err := f.open(name, everyLimit)
	if err != nil {
		t.Fatal(err)
	}
	// Our own group has us in it and cannot hand controllers on.
	for file, want := range map[string]string{
		"memory.max": "67108864", "memory.oom.group": "1", "memory.swap.max": "0",
		"pids.max": "32", "cpu.max": "50000 100000",
	} {
		if got := f.get(t, "user", name, file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	if _, err := os.Stat(filepath.Join(f.top, "user/me", name)); err == nil {
		t.Error("the attempt in our own group was left behind")
	}
	if got := f.get(t, "user", "cgroup.subtree_control"); !strings.HasPrefix(got, "+") {
		t.Errorf("controllers were not handed on: %q", got)
	}
	for layer, want := range map[string]string{
		layerMemory: "v2 " + name + " memory.max=67108864 memory.oom.group=1 memory.swap.max=0",
		layerPIDs:   "v2 " + name + " pids.max=32",
		layerCPU:    "v2 " + name + " cpu.max=50000 100000",
	} {
		if got := g.Layers()[layer]; got != (Layer{State: Active, Observed: want}) {
			t.Errorf("%s is %+v, want %q", layer, got, want)
		}
	}
	if g.V2Dir() == nil || filepath.Base(g.V2Dir().Name()) != name {
		t.Errorf("the directory to clone into is %v", g.V2Dir())
	}
	if len(g.Tasks()) != 0 {
		t.Error("there are v1 files to join by")
	}
	if err := g.Kill(); err != nil {
		t.Error(err)
	}
	if got := f.get(t, "user", name, "cgroup.kill"); got != "1" {
		t.Errorf("cgroup.kill got %q", got)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(f.top, "user", name)); err == nil {
		t.Error("the group is still there after Close")
	}
}

func TestV2GroupIsMadeInOurOwnWhereThatHandsOn(t *testing.T) {
	f := newFakeV2(t)
	f.hands["user/me"] = "cpu memory pids"
	g, err := f.open(Name(), everyLimit)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(f.top, "user/me", g.name); g.v2 != want {
		t.Errorf("the group is %s, want %s", g.v2, want)
	}
}

func TestV2WithoutLimitsWritesNone(t *testing.T) {
	f := newFakeV2(t)
	g, err := f.open(Name(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"memory.max", "memory.oom.group", "pids.max", "cpu.max"} {
		if got := f.get(t, "user", g.name, file); got != "" {
			t.Errorf("%s got %q", file, got)
		}
	}
	for name, layer := range g.Layers() {
		if layer.State != Active {
			t.Errorf("%s is %+v", name, layer)
		}
	}
}

func TestV2WhatIsMissingIsAbsentWithItsReason(t *testing.T) {
	all := []string{layerMemory, layerCPU, layerPIDs}
	for _, c := range []struct {
		name   string
		change func(f *fakeV2)
		absent []string
		why    string
	}{
		{
			"no group may be made anywhere",
			func(f *fakeV2) {
				for _, dir := range []string{"", "user", "user/me"} {
					f.refuses[dir] = unix.EACCES
				}
			},
			all, "have a group delegated to this user",
		},
		{
			"a container with cgroups mounted read-only",
			func(f *fakeV2) {
				for _, dir := range []string{"", "user", "user/me"} {
					f.refuses[dir] = unix.EROFS
				}
			},
			all, "mount them writable",
		},
		{
			"nobody hands on controllers",
			func(f *fakeV2) { f.hands = nil },
			all, "no memory controller",
		},
		{
			"the cpu controller is not delegated",
			func(f *fakeV2) { f.hands = map[string]string{"user": "memory pids"} },
			[]string{layerCPU}, "controller cpu is not delegated",
		},
		{
			"the pids controller is not delegated",
			func(f *fakeV2) { f.hands = map[string]string{"user": "memory cpu"} },
			[]string{layerPIDs}, "controller pids is not delegated",
		},
		{
			"a limit that cannot be written",
			func(f *fakeV2) { f.without = []string{"pids.max"} },
			[]string{layerPIDs}, "pids.max",
		},
		{
			"a limit that the kernel does not take",
			func(f *fakeV2) { f.content["memory.max"] = "6710886400" },
			[]string{layerMemory}, "wrote 67108864, it says 6710886400",
		},
		{
			"a processor share that the kernel does not take",
			func(f *fakeV2) { f.content["cpu.max"] = "50000 1000000" },
			[]string{layerCPU}, `wrote "50000 100000", it says "50000 1000000"`,
		},
		{
			"a limit that reads as nonsense",
			func(f *fakeV2) { f.content["pids.max"] = "max" },
			[]string{layerPIDs}, "pids.max",
		},
		{
			"a kernel that cannot kill a group as a whole",
			func(f *fakeV2) { f.without = []string{"memory.oom.group"} },
			[]string{layerMemory}, "memory.oom.group",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeV2(t)
			c.change(f)
			g, err := f.open(Name(), everyLimit)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range all {
				layer := g.Layers()[name]
				if !slices.Contains(c.absent, name) {
					if layer.State != Active || layer.Why != "" {
						t.Errorf("%s is %+v, want it active", name, layer)
					}
					continue
				}
				if layer.State != Absent || !strings.Contains(layer.Why, c.why) || strings.Contains(layer.Why, "\n") {
					t.Errorf("%s is %+v, want it absent because of %q", name, layer, c.why)
				}
			}
			if err := g.Close(); err != nil {
				t.Error(err)
			}
			if left := groupsBelow(t, f.top); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestV2SwapFileIsOptional(t *testing.T) {
	f := newFakeV2(t)
	f.without = []string{"memory.swap.max"}
	g, err := f.open(Name(), everyLimit)
	if err != nil {
		t.Fatal(err)
	}
	if layer := g.Layers()[layerMemory]; layer.State != Active {
		t.Errorf("memory is %+v on a host without swap accounts", layer)
	}
}

// TestV2WithoutMemoryAtAll: a kernel that was booted with cgroup_disable=memory
// still bounds processes. With v1 beside it, that has the last word.
func TestV2WithoutMemoryAtAll(t *testing.T) {
	f := newFakeV2(t)
	put(t, filepath.Join(f.top, "cgroup.controllers"), "cpuset cpu io pids\n")
	for _, dir := range []string{"user", "user/me"} {
		put(t, filepath.Join(f.top, dir, "cgroup.controllers"), "cpu pids\n")
	}
	f.hands = map[string]string{"": "cpu pids", "user": "cpu pids"}
	g, err := f.open("sbx-1-1-1-1", Limits{Memory: 64 << 20, PIDs: 8, CPUPercent: 50})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	l := g.Layers()
	if l[layerPIDs].State != Active || l[layerCPU].State != Active {
		t.Errorf("layers %+v, want pids and cpu active", l)
	}
	if m := l[layerMemory]; m.State != Absent || !strings.Contains(m.Why, "cgroup.controllers") || !strings.Contains(m.Fix, "cgroup_disable=memory") {
		t.Errorf("memory is %+v", m)
	}
	if g.V2Dir() == nil {
		t.Error("nobody can be started in the group")
	}
}

func TestV2HierarchyWithoutControllersIsNotUsed(t *testing.T) {
	f := newFakeV2(t)
	put(t, filepath.Join(f.top, "cgroup.controllers"), "hugetlb misc\n")
	g, err := f.open(Name(), everyLimit)
	if err != nil {
		t.Fatal(err)
	}
	if g.V2Dir() != nil || g.Layers()[layerMemory].State != Absent {
		t.Errorf("memory is %+v", g.Layers()[layerMemory])
	}
}

// groupsBelow are the groups of ours in a tree.
func groupsBelow(t *testing.T, top string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(top, func(name string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), prefix) {
			out = append(out, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// accounts are the files of a group that has run, by Linux 6.12.
var accounts = map[string]string{
	"cpu.stat":       "usage_usec 30000\nuser_usec 20000\nsystem_usec 10000\nnr_periods 9\nnr_throttled 3\nthrottled_usec 7000\n",
	"memory.current": "1000\n", "memory.peak": "4000\n",
	"memory.stat":   "anon 100\nfile 200\nkernel 300\nslab 5\nactive_file 30\ninactive_file 70\nworkingset_refault_anon 4\nworkingset_refault_file 9\npgmajfault 6\n",
	"memory.events": "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 1\n",
	"pids.current":  "2\n", "pids.peak": "8\n", "pids.events": "max 5\n",
}

func TestV2Accounts(t *testing.T) {
	full := Usage{
		CPUUser: 20 * time.Millisecond, CPUSystem: 10 * time.Millisecond, Throttled: 7 * time.Millisecond,
		Memory: 1000, MemoryPeak: 4000, Anon: 100, File: 200, Kernel: 300, Droppable: 100, Reread: 9 * int64(os.Getpagesize()), MajorFaults: 6, PIDs: 2, PIDsPeak: 8,
	}
	events := Events{OOMKills: 1, MemMax: 12, PIDsMax: 5}
	for _, c := range []struct {
		name   string
		change func(f *fakeV2)
		usage  func(u *Usage)
		events Events
	}{
		{"all of them", func(*fakeV2) {}, func(*Usage) {}, events},
		{
			"Linux 5.15 keeps no peaks",
			func(f *fakeV2) { f.without = []string{"memory.peak", "pids.peak"} },
			func(u *Usage) { u.MemoryPeak, u.PIDsPeak = 0, 0 }, events,
		},
		{
			"Linux 5.15 does not count the kernel's part",
			func(f *fakeV2) {
				f.content["memory.stat"] = strings.ReplaceAll(f.content["memory.stat"], "kernel 300\n", "")
			},
			func(u *Usage) { u.Kernel = 0 }, events,
		},
		{
			"Linux 5.8 counts together what is read anew",
			func(f *fakeV2) {
				f.content["memory.stat"] = strings.NewReplacer("workingset_refault_anon 4\n", "", "refault_file", "refault").Replace(f.content["memory.stat"])
			},
			func(*Usage) {}, events,
		},
		{
			"without the cpu controller there is no throttling",
			func(f *fakeV2) {
				f.hands = map[string]string{"user": "memory pids"}
				f.content["cpu.stat"] = "usage_usec 30000\nuser_usec 20000\nsystem_usec 10000\n"
			},
			func(u *Usage) { u.Throttled = 0 }, events,
		},
		{
			"without the pids controller nobody is counted",
			func(f *fakeV2) { f.hands = map[string]string{"user": "memory cpu"} },
			func(u *Usage) { u.PIDs, u.PIDsPeak = 0, 0 }, Events{OOMKills: 1, MemMax: 12},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeV2(t)
			for file, content := range accounts {
				f.content[file] = content
			}
			c.change(f)
			g, err := f.open(Name(), everyLimit)
			if err != nil {
				t.Fatal(err)
			}
			want := full
			c.usage(&want)
			if got, err := g.Usage(); got != want || err != nil {
				t.Errorf("usage is %+v, %v\nwant %+v", got, err, want)
			}
			if got, err := g.Events(); got != c.events || err != nil {
				t.Errorf("events are %+v, %v\nwant %+v", got, err, c.events)
			}
		})
	}
}

func TestV2AccountsThatCannotBeReadAreAnError(t *testing.T) {
	for _, c := range []struct{ file, content string }{
		{"memory.current", "much"}, {"memory.current", ""}, {"pids.current", "-"},
	} {
		t.Run(fmt.Sprintf("%s %q", c.file, c.content), func(t *testing.T) {
			f := newFakeV2(t)
			for file, content := range accounts {
				f.content[file] = content
			}
			f.content[c.file] = c.content
			g, err := f.open(Name(), everyLimit)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := g.Usage(); err == nil || !strings.Contains(err.Error(), c.file) || !strings.Contains(err.Error(), g.name) {
				t.Errorf("usage says %v", err)
			}
		})
	}
}

func TestCloseWaitsForTheLastProcess(t *testing.T) {
	f := newFakeV2(t)
	g, err := f.open(Name(), everyLimit)
	if err != nil {
		t.Fatal(err)
	}
	f.busy[g.name] = 3
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if left := groupsBelow(t, f.top); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := g.Close(); err != nil {
		t.Errorf("a second Close says %v", err)
	}
}

func TestRemoveGivesUpInTheEnd(t *testing.T) {
	h := host{rmdir: func(string) error { return unix.EBUSY }}
	if err := h.remove("/groups/one", time.Now()); err == nil || !strings.Contains(err.Error(), "/groups/one") {
		t.Errorf("got %v, want an error that names the group", err)
	}
	h.rmdir = func(string) error { return unix.EACCES }
	if err := h.remove("/groups/one", time.Now().Add(time.Hour)); err == nil {
		t.Error("a refusal is waited for")
	}
}

// staleName is a group whose owner is gone.
func staleName(n int) string {
	return fmt.Sprintf("%s%d-%d-%d-%d", prefix, pidNamespace(), os.Getpid(), startTime(os.Getpid())+1, n)
}

func TestV2CollectGoesUpToTheTop(t *testing.T) {
	f := newFakeV2(t)
	stale := staleName
	for _, dir := range []string{"user/me/" + stale(1), "user/" + stale(2), stale(3), "other/" + stale(4), "user/" + Name(), "user/service"} {
		if err := os.MkdirAll(filepath.Join(f.top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f.busy[stale(2)] = 1
	if c, err := f.collect(); c != (Collected{Removed: 2, Left: 1}) || err != nil {
		t.Errorf("first: %+v, %v, want the busy one to be left", c, err)
	}
	if c, err := f.collect(); c != (Collected{Removed: 1}) || err != nil {
		t.Errorf("second: %+v, %v", c, err)
	}
	left := groupsBelow(t, f.top)
	if len(left) != 2 || !strings.Contains(left[0], "other/"+stale(4)) || abandoned(filepath.Base(left[1]), pidNamespace()) {
		t.Errorf("%q remain, want the one in another branch and the living one", left)
	}
	if _, err := os.Stat(filepath.Join(f.top, "user/service")); err != nil {
		t.Error("a group that is not ours was removed")
	}
}

func TestCollectDoesNotWaitForOtherUsersGroups(t *testing.T) {
	f := newFakeV2(t)
	name := fmt.Sprintf("%s%d-%d-1", prefix, os.Getpid(), startTime(os.Getpid())+1)
	if err := os.Mkdir(filepath.Join(f.top, name), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, errno := range []unix.Errno{unix.EACCES, unix.EPERM, unix.EROFS, unix.ENOENT} {
		f.rmdir = func(string) error { return errno }
		if c, err := f.collect(); c != (Collected{}) || err != nil {
			t.Errorf("%v: %+v, %v", errno, c, err)
		}
	}
}

func TestKillTasksOfAGroupThatIsGone(t *testing.T) {
	if err := killTasks(filepath.Join(t.TempDir(), "gone"), time.Now()); err != nil {
		t.Error(err)
	}
}

func TestKillTasksSparesInitAndNonsense(t *testing.T) {
	// 0 is a process of another pid namespace, 1 would be the host's init.
	dir := t.TempDir()
	put(t, filepath.Join(dir, "cgroup.procs"), "0\n1\nx\n")
	if err := killTasks(dir, time.Now()); err == nil || !strings.Contains(err.Error(), "3 processes") {
		t.Errorf("got %v", err)
	}
}

func TestReadInt(t *testing.T) {
	for _, c := range []struct {
		content string
		want    int64
		ok      bool
	}{
		{"12\n", 12, true}, {"-1\n", -1, true}, {"max\n", 0, true}, {"9223372036854771712\n", 9223372036854771712, true},
		{"", 0, false}, {"1 2\n", 0, false}, {"9223372036854775808\n", 0, false}, {"maximum\n", 0, false},
	} {
		file := filepath.Join(t.TempDir(), "pids.max")
		put(t, file, c.content)
		got, err := readInt(file)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%q is %d, %v", c.content, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), "pids.max") {
			t.Errorf("%q: %v does not name the file", c.content, err)
		}
	}
}

func TestSplitKeepsTheTotal(t *testing.T) {
	const hour = int64(time.Hour)
	for _, c := range []struct {
		what                string
		total, user, system int64
		want                time.Duration
	}{
		{"nothing", 0, 0, 0, 0},
		{"no tick fell into it", 1000, 0, 0, 1000},
		{"all in the program", 1000, 5, 0, 1000},
		{"all in the kernel", 1000, 0, 5, 0},
		{"ticks that saw less than there was", 1000, 1, 3, 250},
		{"ticks that saw more than there was", 100, 600, 200, 75},
		{"a month of both", 720 * hour, 360 * hour, 360 * hour, 360 * time.Hour},
	} {
		user, system := split(c.total, c.user, c.system)
		if user != c.want || user+system != time.Duration(c.total) {
			t.Errorf("%s: %v and %v of %d, want %v first", c.what, user, system, c.total, c.want)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add("oom_kill 1\nlow 0\n")
	f.Add("cache 1 2\nrss\n\n-1 -1\nx 99999999999999999999\n")
	f.Fuzz(func(t *testing.T, data string) {
		for key, n := range parseKeys(data) {
			if !strings.Contains(data, key) || strings.ContainsAny(key, " \n") {
				t.Errorf("key %q = %d is not in %q", key, n, data)
			}
		}
	})
}

func TestFixOfAReadOnlyMount(t *testing.T) {
	if got := fix(&os.PathError{Op: "mkdir in", Path: "/sys/fs/cgroup", Err: unix.EROFS}); !strings.Contains(got, "remount,rw") {
		t.Errorf("EROFS: %q", got)
	}
	if got := fix(unix.EACCES); got != "" {
		t.Errorf("EACCES: %q, want what always helps", got)
	}
}

func TestRefusalSaysWhatHelps(t *testing.T) {
	for errno, want := range map[unix.Errno]string{
		unix.EACCES: "run as root", unix.EPERM: "run as root", unix.EROFS: "mount them writable",
		unix.EBUSY: "delegated", unix.EOPNOTSUPP: "delegated", unix.EINVAL: "ask for less", unix.ENOENT: "not visible",
	} {
		text := refusal(&os.PathError{Op: "mkdir", Path: "/sys/fs/cgroup/x", Err: errno})
		if !strings.Contains(text, want) || !strings.Contains(text, "/sys/fs/cgroup/x") {
			t.Errorf("%v: %q does not say %q", errno, text, want)
		}
	}
	if got := refusal(unix.ENOSPC); got != unix.ENOSPC.Error() {
		t.Errorf("an unknown refusal becomes %q", got)
	}
}

// TestTheNextRunRemovesWhatAKilledOneLeft: the groups of dead owners beside the
// run's own.
func TestTheNextRunRemovesWhatAKilledOneLeft(t *testing.T) {
	f := newFakeV2(t)
	g, err := f.open(Name(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Dir(g.dirs()[0])
	dead := filepath.Join(beside, fmt.Sprintf("%s%d-%d-%d-1", prefix, pidNamespace(), os.Getpid(), startTime(os.Getpid())+1))
	living := filepath.Join(beside, Name())
	for _, dir := range []string{dead, living} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	g.Sweep()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); err == nil {
		t.Error("the group of a dead owner is still there")
	}
	if _, err := os.Stat(living); err != nil {
		t.Error("the group of a living owner was removed")
	}
}
