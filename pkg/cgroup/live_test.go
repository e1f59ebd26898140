package cgroup

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests make groups on the host that they run on. As root, on a host with
// writable hierarchies, none of them is skipped.

const (
	scenarioVariable = "SBX_CGROUP_TEST_SCENARIO"
	joinVariable     = "SBX_CGROUP_TEST_JOIN" // how many v1 files are inherited
)

func TestMain(m *testing.M) {
	scenario, ok := os.LookupEnv(scenarioVariable)
	if !ok {
		os.Exit(m.Run())
	}
	// os.Exit sleeps for a second under the race detector.
	if err := runScenario(scenario); err != nil {
		fmt.Fprintln(os.Stderr, err)
		unix.Exit(1)
	}
	unix.Exit(0)
}

func runScenario(name string) error {
	if n, ok := os.LookupEnv(joinVariable); ok {
		return join(n)
	}
	switch name {
	case "eat":
		return eat(256 << 20)
	case "burn":
		return burn(60 * time.Millisecond)
	case "crowd":
		// dash gives up with status 2 at the first fork that is refused; those
		// that it did start stay, also in sessions of their own.
		return unix.Exec("/bin/sh", []string{"sh", "-c", `
			trap "" TERM HUP INT
			echo "$$"
			i=0; while [ $i -lt 40 ]; do setsid tail -f /dev/null >/dev/null 2>&1 & i=$((i+1)); done
			echo all
			exec tail -f /dev/null`}, os.Environ())
	case "own":
		return own()
	case "alone":
		return alone()
	case "wait":
		fmt.Fprintln(os.Stdout, "here")
		_, _ = os.Stdin.Read(make([]byte, 1))
		return nil
	}
	return fmt.Errorf("unknown scenario %q", name)
}

// join enters a v1 group as a jail does: the thread writes 0 for itself, and what
// it becomes or starts is in the group.
func join(n string) error {
	runtime.LockOSThread()
	count, err := strconv.Atoi(n)
	if err != nil {
		return err
	}
	for fd := 3; fd < 3+count; fd++ {
		if _, err := unix.Write(fd, []byte("0")); err != nil {
			return fmt.Errorf("join by descriptor %d: %w", fd, err)
		}
		unix.CloseOnExec(fd)
	}
	if err := os.Unsetenv(joinVariable); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

// eat touches so much memory, a page at a time.
func eat(size int) error {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < size; i += 4096 {
		mem[i] = 1
	}
	return errors.New("nobody stopped it")
}

// burn uses so much processor time, most of it its own.
func burn(want time.Duration) error {
	for x := uint64(1); ; {
		for range 1 << 20 {
			x = x*6364136223846793005 + 1442695040888963407
		}
		if x == 0 {
			return errors.New("the generator stands still")
		}
		var ru unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
			return err
		}
		if time.Duration(ru.Utime.Nano()+ru.Stime.Nano()) >= want {
			return nil
		}
	}
}

// own makes a group in the tree that standard input describes, says so, and
// lives until its input ends.
func own() error {
	in := bufio.NewReader(os.Stdin)
	self, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	h := thisHost()
	h.self = strings.TrimSuffix(self, "\n")
	g, err := h.open(Name(), Limits{})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(g.dirs()); err != nil {
		return err
	}
	_, _ = in.ReadByte()
	return nil
}

// openLive makes a group here.
func openLive(t *testing.T, l Limits) *Group {
	t.Helper()
	requireWritable(t)
	g, err := Open(Name(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(g.Kill(), g.Close()); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{layerMemory, layerCPU, layerPIDs} {
		if layer := g.Layers()[name]; layer.State != Active {
			t.Fatalf("%s is absent: %s", name, layer.Why)
		}
	}
	return g
}

// requireWritable lets nobody pass who may not make groups. Only two things are
// an excuse: not being root, and a container that mounts cgroups read-only.
func requireWritable(t *testing.T) places {
	t.Helper()
	p, err := thisHost().hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	dirs := values(p.v1)
	if p.v2 != "" {
		dirs = []string{p.v2}
	}
	for _, dir := range dirs {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		if st.Flags&unix.ST_RDONLY != 0 {
			t.Skipf("%s is mounted read-only, as in a container", dir)
		}
		if os.Geteuid() != 0 && p.v2 == "" && unix.Access(dir, unix.W_OK) != nil {
			t.Skipf("making groups takes root here: %s belongs to root", dir)
		}
	}
	if os.Geteuid() != 0 && p.v2 != "" {
		g, err := Open(Name(), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		if layer := g.Layers()[layerMemory]; layer.State != Active {
			t.Skipf("no group is delegated to user %d: %s", os.Geteuid(), layer.Why)
		}
	}
	return p
}

// command starts this binary in the group.
func command(t *testing.T, g *Group, scenario string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), scenarioVariable+"="+scenario)
	cmd.Stderr = t.Output()
	if dir := g.V2Dir(); dir != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	} else {
		cmd.ExtraFiles = g.Tasks()
		cmd.Env = append(cmd.Env, joinVariable+"="+strconv.Itoa(len(g.Tasks())))
	}
	return cmd
}

func killedBySignal(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == unix.SIGKILL
}

// oneKill says whether so many kills are the end of one process: where v2 kills
// a group as a whole, the first victim is counted twice.
func oneKill(g *Group, n int64) bool { return n == 1 || n == 2 && g.v2 != "" }

func TestLiveLimitsAreReadBack(t *testing.T) {
	const page = 1 << 16 // a multiple of every page size
	g := openLive(t, Limits{Memory: 3*page + 1, PIDs: 7, CPUPercent: 30})
	memory, cpu := "memory.limit_in_bytes", "cpu.cfs_period_us=100000 cpu.cfs_quota_us=30000"
	if g.v2 != "" {
		memory, cpu = "memory.max", "cpu.max=30000 100000"
	}
	for layer, want := range map[string]string{
		// The kernel rounds to pages, and what it says is what is reported.
		layerMemory: fmt.Sprintf("%s=%d", memory, 3*page),
		layerPIDs:   "pids.max=7", layerCPU: cpu,
	} {
		if got := g.Layers()[layer].Observed; !strings.Contains(got, want) || !strings.Contains(got, g.name) {
			t.Errorf("%s: %q does not say %q of %s", layer, got, want, g.name)
		}
	}
}

func TestLiveSwapIsNoWayAroundTheMemoryLimit(t *testing.T) {
	g := openLive(t, Limits{Memory: 64 << 20})
	file, want := filepath.Join(g.v1["memory"], "memory.memsw.limit_in_bytes"), int64(64<<20+os.Getpagesize())
	if g.v2 != "" {
		file, want = filepath.Join(g.v2, "memory.swap.max"), 0
	}
	got, err := readInt(file)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("this kernel does not account for swap: there is no %s", filepath.Base(file))
	}
	if got != want || err != nil {
		t.Errorf("%s is %d, %v, want %d", filepath.Base(file), got, err, want)
	}
}

func TestLiveMemoryBombIsKilledWithEvidence(t *testing.T) {
	const limit = 96 << 20
	g := openLive(t, Limits{Memory: limit})
	if err := command(t, g, "eat").Run(); !killedBySignal(err) {
		t.Errorf("it ended with %v, want SIGKILL", err)
	}
	events, err := g.Events()
	if err != nil {
		t.Fatal(err)
	}
	if !oneKill(g, events.OOMKills) || events.MemMax == 0 || events.PIDsMax != 0 {
		t.Errorf("events are %+v, want one kill, refused allocations and nothing else", events)
	}
	usage, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	// A process that is being killed may go a little over it.
	if usage.MemoryPeak > limit*11/10 || usage.MemoryPeak < limit*9/10 {
		t.Errorf("the peak is %d, want nearly the limit of %d", usage.MemoryPeak, limit)
	}
	if usage.Memory >= limit/2 || usage.PIDs != 0 {
		t.Errorf("after its end the group holds %d bytes and %d processes", usage.Memory, usage.PIDs)
	}
}

func TestLiveForkIsRefusedAndCounted(t *testing.T) {
	g := openLive(t, Limits{PIDs: 12})
	cmd := command(t, g, "crowd")
	cmd.Stderr = nil // the shell says that it cannot fork
	out, err := cmd.Output()
	if err == nil || bytes.Contains(out, []byte("all")) {
		t.Errorf("40 processes were started under a limit of 12: %q, %v", out, err)
	}
	usage, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if usage.PIDs == 0 || usage.PIDs > 12 {
		t.Errorf("%d processes are in the group, want some, and 12 at most", usage.PIDs)
	}
	events, err := g.Events()
	if err != nil {
		t.Fatal(err)
	}
	if events.PIDsMax == 0 || events.OOMKills != 0 {
		t.Errorf("events are %+v, want refused forks and nothing else", events)
	}
}

func TestLiveProcessorShareThrottlesAndIsCounted(t *testing.T) {
	// So little that a busy machine gives it as well: who does not get his share
	// is not throttled.
	g := openLive(t, Limits{CPUPercent: 5})
	if err := command(t, g, "burn").Run(); err != nil {
		t.Fatal(err)
	}
	usage, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if usage.Throttled == 0 {
		t.Error("60 ms of work at 5 ms per 100 ms were not throttled")
	}
	// Part of its 60 ms went by before it joined the group. To be throttled it
	// must have used up the 5 ms of a period in it.
	if used := usage.CPUUser + usage.CPUSystem; used < 5*time.Millisecond {
		t.Errorf("%v are on the account, want 5 ms or more", used)
	}
	if usage.CPUUser == 0 {
		t.Error("no time of it is user time")
	}
}

func TestLiveWithoutLimitNothingIsThrottled(t *testing.T) {
	g := openLive(t, Limits{})
	if err := command(t, g, "burn").Run(); err != nil {
		t.Fatal(err)
	}
	usage, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if usage.Throttled != 0 || usage.CPUUser+usage.CPUSystem == 0 || usage.MemoryPeak == 0 && g.v2 == "" {
		t.Errorf("usage is %+v", usage)
	}
	if events, err := g.Events(); events != (Events{}) || err != nil {
		t.Errorf("events are %+v, %v", events, err)
	}
}

func TestLiveKillEndsEveryProcess(t *testing.T) {
	g := openLive(t, Limits{PIDs: 100})
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
	if usage, err := g.Usage(); usage.PIDs < 40 || err != nil {
		t.Fatalf("%d processes are there, %v, want a crowd", usage.PIDs, err)
	}
	if err := g.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); !killedBySignal(err) {
		t.Errorf("the first process ended with %v, want SIGKILL", err)
	}
	// A group can be removed only when nobody is in it.
	dirs := g.dirs()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
}

func TestLiveGroupWithProcessesIsNotRemoved(t *testing.T) {
	g := openLive(t, Limits{})
	cmd := command(t, g, "wait")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "here\n" || err != nil {
		t.Fatalf("the child says %q, %v", line, err)
	}
	for _, dir := range g.dirs() {
		if err := g.host.remove(dir, time.Now()); !errors.Is(err, unix.EBUSY) {
			t.Errorf("%s: %v, want EBUSY: the child is in it", dir, err)
		}
		procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if want := strconv.Itoa(cmd.Process.Pid) + "\n"; string(procs) != want || err != nil {
			t.Errorf("%s holds %q, %v, want %q", dir, procs, err, want)
		}
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestLiveGroupThatVanishesIsAnError(t *testing.T) {
	g := openLive(t, Limits{Memory: 64 << 20})
	for _, dir := range g.dirs() {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			t.Fatal(err)
		}
	}
	if _, err := g.Usage(); err == nil || !strings.Contains(err.Error(), g.name+" was removed") {
		t.Errorf("usage says %v", err)
	}
	if _, err := g.Events(); err == nil || !strings.Contains(err.Error(), g.name+" was removed") {
		t.Errorf("events say %v", err)
	}
	// Whoever is told to join it is refused, and does not run outside of it.
	if err := command(t, g, "burn").Run(); err == nil {
		t.Error("a process was started in a group that is not there")
	}
	if err := g.Kill(); err != nil {
		t.Errorf("kill says %v, and there is nobody to kill", err)
	}
	if err := g.Close(); err != nil {
		t.Errorf("close says %v, and nothing is left to remove", err)
	}
}

func TestLiveTakenNameIsRefused(t *testing.T) {
	g := openLive(t, Limits{})
	again, err := Open(g.name, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	// On v2 the first reason is that our own group cannot hand on controllers.
	if layer := again.Layers()[layerMemory]; layer.State != Absent || g.v2 == "" && !strings.Contains(layer.Why, "exists") {
		t.Errorf("memory is %+v, want the name to be taken", layer)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := g.Usage(); err != nil {
		t.Errorf("closing the second one took the first one away: %v", err)
	}
}

// private is a host whose hierarchies are a group of this test in the real ones,
// so that what is collected is ours alone.
func private(t *testing.T) host {
	t.Helper()
	p := requireWritable(t)
	name := fmt.Sprintf("test-sbx-%d-%d", os.Getpid(), count.Add(1))
	parents := p.v1
	if p.v2 != "" {
		// A sibling of a group that was made has the same controllers.
		parents = map[string]string{"": filepath.Dir(openLive(t, Limits{}).v2)}
	}
	var mounts, own strings.Builder
	for c, dir := range parents {
		dir = filepath.Join(dir, name)
		if err := unix.Mkdir(dir, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := thisHost().remove(dir, time.Now().Add(killTime)); err != nil {
				t.Error(err)
			}
		})
		kind := "cgroup"
		if c == "" {
			kind = "cgroup2"
		}
		fmt.Fprintf(&mounts, "35 31 0:32 / %s rw - %s cgroup rw,%s\n", escape(dir), kind, c)
		fmt.Fprintf(&own, "1:%s:/\n", c)
	}
	return fakeHost(t, mounts.String(), own.String())
}

// owner starts a process that makes a group, and returns the group's directories
// and what ends the process.
func owner(t *testing.T, h host) (dirs []string, end func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), scenarioVariable+"=own")
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(stdin, h.self); err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(stdout).Decode(&dirs); err != nil {
		t.Fatal(err)
	}
	if len(dirs) == 0 {
		t.Fatal("the owner has no group")
	}
	end = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(func() {
		end()
		for _, dir := range dirs {
			_ = unix.Rmdir(dir)
		}
	})
	return dirs, end
}

func TestLiveCollectRemovesGroupsOfDeadOwnersOnly(t *testing.T) {
	h := private(t)
	dead, kill := owner(t, h)
	living, _ := owner(t, h)
	kill()
	if c, err := h.collect(); c != (Collected{Removed: 1}) || err != nil {
		t.Errorf("collected %+v, %v", c, err)
	}
	for _, dir := range dead {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of a dead owner is still there", dir)
		}
	}
	for _, dir := range living {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("the group of a living owner was removed: %v", err)
		}
	}
}

func TestLiveCollectCountsGroupsThatAreStillInUse(t *testing.T) {
	h := private(t)
	dirs, kill := owner(t, h)
	dir := dirs[0] // on v1 one of several, and it is enough for a group to be left
	members := &Group{}
	if v2, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		t.Fatal(err)
	} else if tasks, err := os.OpenFile(filepath.Join(dir, "tasks"), os.O_WRONLY, 0); err == nil {
		members.tasks = []*os.File{tasks}
		v2.Close()
	} else {
		members.dir = v2
	}
	defer members.closeFiles()
	cmd := command(t, members, "crowd")
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
	kill()
	if c, err := h.collect(); c != (Collected{Left: 1}) || err != nil {
		t.Errorf("collected %+v, %v, want the one with processes to be left", c, err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	if err := killTasks(dir, time.Now().Add(killTime)); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := h.remove(dir, time.Now().Add(killTime)); err != nil {
		t.Error(err)
	}
	if c, err := h.collect(); c.Left != 0 || err != nil {
		t.Errorf("afterwards %+v, %v", c, err)
	}
}

func TestPlainUserIsToldWhatHelps(t *testing.T) {
	g, err := Open(Name(), everyLimit)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, name := range []string{layerMemory, layerCPU, layerPIDs} {
		layer, ok := g.Layers()[name]
		if !ok {
			t.Fatalf("nothing is said of %s", name)
		}
		if layer.State == Active {
			if layer.Why != "" || layer.Observed == "" {
				t.Errorf("%s is %+v: active, and nothing was observed", name, layer)
			}
			continue
		}
		if layer.Observed != "" || !slices.ContainsFunc([]string{"run as root", "mount", "delegated"}, func(s string) bool { return strings.Contains(layer.Why, s) }) {
			t.Errorf("%s is %+v: absent, and the reason does not say what helps", name, layer)
		}
	}
	if _, err := g.Usage(); err != nil {
		t.Errorf("usage without a group: %v", err)
	}
}

func BenchmarkOpenClose(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("making groups takes root")
	}
	for b.Loop() {
		g, err := Open(Name(), everyLimit)
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUsage(b *testing.B) {
	g, err := Open(Name(), everyLimit)
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	for b.Loop() {
		if _, err := g.Usage(); err != nil {
			b.Fatal(err)
		}
	}
}
