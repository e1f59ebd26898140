package cgroup

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	cgroup1stats "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"
	cgroup2stats "github.com/containerd/cgroups/v3/cgroup2/stats"
)

// The second opinion: github.com/containerd/cgroups reads the groups that this
// package makes, by its own paths and parsers, and must see the same.

// oracleV1 opens a group where the library finds it by itself: beneath the group
// of this process.
func oracleV1(t *testing.T, g *Group) *cgroup1stats.Metrics {
	t.Helper()
	control, err := cgroup1.Load(cgroup1.NestedPath(g.name), cgroup1.WithHierarchy(func() ([]cgroup1.Subsystem, error) {
		const root = "/sys/fs/cgroup"
		return []cgroup1.Subsystem{
			cgroup1.NewMemory(root), cgroup1.NewPids(root), cgroup1.NewCpu(root), cgroup1.NewCpuacct(root),
		}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	m, err := control.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func oracleV2(t *testing.T, mount, group string) *cgroup2stats.Metrics {
	t.Helper()
	m, err := cgroup2.Load(group, cgroup2.WithMountpoint(mount))
	if err != nil {
		t.Fatal(err)
	}
	stat, err := m.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return stat
}

// opinion is what both have to agree on; exact, once nobody is in the group.
type opinion struct {
	MemoryLimit, PIDsLimit      uint64
	PIDs, MemoryPeak, Throttled uint64
	CPU                         uint64
	OOMKills, MemMax            uint64
}

func oracle(t *testing.T, g *Group) opinion {
	t.Helper()
	if g.v2 == "" {
		m := oracleV1(t, g)
		return opinion{
			MemoryLimit: m.Memory.Usage.Limit, PIDsLimit: m.Pids.Limit, PIDs: m.Pids.Current,
			MemoryPeak: m.Memory.Usage.Max, Throttled: m.CPU.Throttling.ThrottledTime,
			CPU: m.CPU.Usage.Total, OOMKills: m.MemoryOomControl.OomKill, MemMax: m.Memory.Usage.Failcnt,
		}
	}
	mount := mountOf(g.v2)
	m := oracleV2(t, mount, strings.TrimPrefix(g.v2, mount))
	return opinion{
		MemoryLimit: m.Memory.UsageLimit, PIDsLimit: m.Pids.Limit, PIDs: m.Pids.Current,
		MemoryPeak: m.Memory.MaxUsage, Throttled: m.CPU.ThrottledUsec * 1000,
		CPU: (m.CPU.UserUsec + m.CPU.SystemUsec) * 1000, OOMKills: m.MemoryEvents.OomKill, MemMax: m.MemoryEvents.Max,
	}
}

// ours is the same of this package, with the limits that it reports.
func ours(t *testing.T, g *Group, l Limits) opinion {
	t.Helper()
	u, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	e, err := g.Events()
	if err != nil {
		t.Fatal(err)
	}
	return opinion{
		MemoryLimit: uint64(l.Memory), PIDsLimit: uint64(l.PIDs), PIDs: uint64(u.PIDs),
		MemoryPeak: uint64(u.MemoryPeak), Throttled: uint64(u.Throttled),
		CPU: uint64(u.CPUUser + u.CPUSystem), OOMKills: uint64(e.OOMKills), MemMax: uint64(e.MemMax),
	}
}

// settle compares both until they agree: the kernel books the last moments of a
// process that has ended a little later, so that two readings need not be the
// same at once.
func settle(t *testing.T, g *Group, l Limits) opinion {
	t.Helper()
	var want, got opinion
	for deadline := time.Now().Add(10 * time.Second); ; {
		want, got = oracle(t, g), ours(t, g, l)
		if want == got {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("the library says %+v\nthis package says %+v", want, got)
		}
	}
}

func TestOracleSeesTheLimitsOfANewGroup(t *testing.T) {
	l := Limits{Memory: 96 << 20, PIDs: 33, CPUPercent: 25}
	got := settle(t, openLive(t, l), l)
	if got.MemoryLimit != 96<<20 || got.PIDsLimit != 33 || got.OOMKills != 0 || got.PIDs != 0 {
		t.Errorf("both say %+v", got)
	}
}

func TestOracleSeesAMemoryBomb(t *testing.T) {
	l := Limits{Memory: 96 << 20, PIDs: 64}
	g := openLive(t, l)
	if err := command(t, g, "eat").Run(); !killedBySignal(err) {
		t.Fatalf("it ended with %v", err)
	}
	if got := settle(t, g, l); !oneKill(g, int64(got.OOMKills)) || got.MemMax == 0 || got.MemoryPeak < 64<<20 {
		t.Errorf("both say %+v", got)
	}
}

func TestOracleSeesThrottling(t *testing.T) {
	// So little that also a busy machine gives more.
	l := Limits{Memory: 512 << 20, PIDs: 64, CPUPercent: 5}
	g := openLive(t, l)
	if err := command(t, g, "burn").Run(); err != nil {
		t.Fatal(err)
	}
	if got := settle(t, g, l); got.Throttled == 0 || got.CPU == 0 {
		t.Errorf("both say %+v", got)
	}
}

func TestOracleSeesTheProcessesOfACrowd(t *testing.T) {
	l := Limits{Memory: 512 << 20, PIDs: 100}
	g := openLive(t, l)
	cmd := command(t, g, "crowd")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "all" {
	}
	u, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if want := oracle(t, g).PIDs; uint64(u.PIDs) != want || want < 40 {
		t.Errorf("%d processes, the library says %d", u.PIDs, want)
	}
	if err := g.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}

func TestOracleFindsTheSameHierarchies(t *testing.T) {
	p, err := thisHost().hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for c, dir := range p.v1 {
		path, err := cgroup1.NestedPath("")(cgroup1.Name(c))
		if err != nil {
			t.Errorf("the library knows no group of this process for %s: %v", c, err)
		} else if !strings.HasSuffix(dir+"/", strings.TrimSuffix(path, "/")+"/") {
			t.Errorf("%s is at %s, the library says %s", c, dir, path)
		}
	}
}

func TestOracleReadsAUnifiedGroup(t *testing.T) {
	f := newFakeV2(t)
	for file, content := range accounts {
		f.content[file] = content
	}
	g, err := f.open(Name(), everyLimit)
	if err != nil {
		t.Fatal(err)
	}
	mount := f.top
	m := oracleV2(t, mount, "/user/"+g.name)
	if m.Memory.UsageLimit != uint64(everyLimit.Memory) || m.Pids.Limit != uint64(everyLimit.PIDs) {
		t.Errorf("the library sees a limit of %d bytes and %d processes", m.Memory.UsageLimit, m.Pids.Limit)
	}
	u, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	e, err := g.Events()
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]int64{
		"user time":     {int64(m.CPU.UserUsec) * 1000, int64(u.CPUUser)},
		"system time":   {int64(m.CPU.SystemUsec) * 1000, int64(u.CPUSystem)},
		"throttled":     {int64(m.CPU.ThrottledUsec) * 1000, int64(u.Throttled)},
		"memory":        {int64(m.Memory.Usage), u.Memory},
		"memory peak":   {int64(m.Memory.MaxUsage), u.MemoryPeak},
		"anonymous":     {int64(m.Memory.Anon), u.Anon},
		"page cache":    {int64(m.Memory.File), u.File},
		"processes":     {int64(m.Pids.Current), u.PIDs},
		"kills":         {int64(m.MemoryEvents.OomKill), e.OOMKills},
		"limit was met": {int64(m.MemoryEvents.Max), e.MemMax},
	} {
		if pair[0] != pair[1] || pair[0] == 0 {
			t.Errorf("%s: the library reads %d, this package %d", what, pair[0], pair[1])
		}
	}
	data, err := os.ReadFile(filepath.Join(g.v2, "cpu.max"))
	if err != nil || string(data) != "50000 100000" {
		t.Errorf("cpu.max is %q, %v", data, err)
	}
}
