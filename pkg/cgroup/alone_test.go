package cgroup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mountVariable is where the scenario "alone" mounts cgroup v2 for itself, as a
// container has it.
const mountVariable = "SBX_CGROUP_TEST_MOUNT"

// found is what the scenario "alone" saw.
type found struct {
	Layers map[string]Layer
	Before string // the lines of /proc/self/cgroup
	After  string
	Killed bool
	Events Events
}

// alone makes a group in whatever it was started in, has a program eat up its
// memory, and tells what came of it.
func alone() error {
	var f found
	if dir := os.Getenv(mountVariable); dir != "" {
		if err := unix.Mount("none", dir, "cgroup2", 0, ""); err != nil {
			return err
		}
	}
	own := func() string {
		data, _ := os.ReadFile("/proc/self/cgroup")
		return string(data)
	}
	f.Before = own()
	g, err := Open(Name(), Limits{Memory: 64 << 20, PIDs: 64, CPUPercent: 80})
	if err != nil {
		return err
	}
	f.Layers, f.After = g.Layers(), own()
	if dir := g.V2Dir(); dir != nil {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), scenarioVariable+"=eat")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		f.Killed = killedBySignal(cmd.Run())
		if f.Events, err = g.Events(); err != nil {
			return err
		}
	}
	if err := g.Close(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

// unified is a group of this test in a real unified hierarchy with all
// controllers, made by root.
func unified(t *testing.T) string {
	t.Helper()
	if p := requireWritable(t); p.v2 == "" {
		t.Skip("this host has its controllers in cgroup v1; make test-cgroup2 has them in v2")
	}
	if os.Geteuid() != 0 {
		t.Skip("making a container, and giving a group away, takes root")
	}
	dir := filepath.Join(filepath.Dir(openLive(t, Limits{}).v2), fmt.Sprintf("test-sbx-%d-%d", os.Getpid(), count.Add(1)))
	if err := unix.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// What moved aside is gone, its leaf is not.
		if c, err := thisHost().sweep("", map[string]bool{dir: true}); err != nil || c.Left != 0 {
			t.Errorf("collected %+v, %v", c, err)
		}
		if err := thisHost().remove(dir, time.Now().Add(killTime)); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// runAlone starts the scenario in a group.
func runAlone(t *testing.T, group string, change func(cmd *exec.Cmd)) found {
	t.Helper()
	dir, err := os.OpenFile(group, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	// By this link whoever it runs as needs no way to the file.
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), scenarioVariable+"=alone")
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	change(cmd)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var f found
	if err := json.Unmarshal(out, &f); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return f
}

// wantLimits wants every controller at work, and the bomb killed by it.
func (f found) wantLimits(t *testing.T) {
	t.Helper()
	for _, name := range []string{layerMemory, layerPIDs, layerCPU} {
		if l := f.Layers[name]; l.State != Active || !strings.Contains(l.Observed, "sbx itself moved to "+prefix) {
			t.Errorf("%s is %+v", name, l)
		}
	}
	if !f.Killed || f.Events.OOMKills == 0 {
		t.Errorf("the bomb was killed: %v, events are %+v", f.Killed, f.Events)
	}
	if f.Before == f.After || !strings.HasSuffix(f.After, "-self\n") {
		t.Errorf("it was in %q and is in %q", f.Before, f.After)
	}
}

// TestLiveContainer is what a container has that may write to its cgroups: a
// mount whose top is the group with its own processes in it.
func TestLiveContainer(t *testing.T) {
	group, mount := unified(t), t.TempDir()
	f := runAlone(t, group, func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWCGROUP | unix.CLONE_NEWNS
		cmd.Env = append(cmd.Env, mountVariable+"="+mount)
	})
	// The host's own mount is there as well, and is not what shows our group.
	if f.Before != "0::/\n" {
		t.Errorf("it began in %q, want the top of its namespace", f.Before)
	}
	f.wantLimits(t)
}

const plainUser = 65534

// delegate gives a group away (cgroups(7), "Cgroups v2 delegation").
func delegate(t *testing.T, group string) {
	t.Helper()
	for _, name := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
		if err := os.Chown(filepath.Join(group, name), plainUser, plainUser); err != nil {
			t.Fatal(err)
		}
	}
}

func asPlainUser(cmd *exec.Cmd) {
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: plainUser, Gid: plainUser}
	cmd.Env = append(slices.DeleteFunc(cmd.Env, func(s string) bool {
		return strings.HasPrefix(s, "DBUS_SESSION_BUS_ADDRESS=") || strings.HasPrefix(s, "XDG_RUNTIME_DIR=")
	}), "XDG_RUNTIME_DIR=/nowhere")
}

// TestLiveDelegatedGroup: the plain user's own group, of which sbx is the only
// member.
func TestLiveDelegatedGroup(t *testing.T) {
	group := unified(t)
	delegate(t, group)
	runAlone(t, group, asPlainUser).wantLimits(t)
}

// TestLiveDelegatedGroupWithOthers in it cannot hand on controllers, and is not
// emptied behind their backs.
func TestLiveDelegatedGroupWithOthers(t *testing.T) {
	group := unified(t)
	delegate(t, group)
	dir, err := os.OpenFile(group, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	other := command(t, &Group{dir: dir}, "wait")
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	f := runAlone(t, group, asPlainUser)
	for name, l := range f.Layers {
		if l.State != Absent || !strings.Contains(l.Why, "processes other than sbx are in it (1)") || !strings.Contains(l.Why, "/nowhere/bus") {
			t.Errorf("%s is %+v", name, l)
		}
	}
	if f.Before != f.After {
		t.Errorf("it was moved from %q to %q, for nothing", f.Before, f.After)
	}
	// Nothing may be left switched on that makes of it a threaded subtree.
	if have, err := os.ReadFile(filepath.Join(group, "cgroup.subtree_control")); err != nil || strings.TrimSpace(string(have)) != "" {
		t.Errorf("it hands on %q, %v", have, err)
	}
	stdin.Close()
	if err := other.Wait(); err != nil {
		t.Error(err)
	}
}

// TestLiveGroupsWithoutPermission are told apart from those that are only full.
func TestLiveGroupsWithoutPermission(t *testing.T) {
	f := runAlone(t, unified(t), asPlainUser)
	for name, l := range f.Layers {
		if l.State != Absent || !strings.Contains(l.Why, "permission denied") || !strings.Contains(l.Why, "run as root") {
			t.Errorf("%s is %+v", name, l)
		}
	}
}

// TestLiveCollectAll finds what lies beside no group of this process.
func TestLiveCollectAll(t *testing.T) {
	h := private(t)
	p, err := h.hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	dirs := values(p.v1)
	if p.v2 != "" {
		dirs = []string{p.v2}
	}
	var dead []string
	for _, dir := range dirs {
		session := filepath.Join(dir, "session")
		dead = append(dead, filepath.Join(session, fmt.Sprintf("%s%d-%d-%d-1", prefix, pidNamespace(), os.Getpid(), startTime(os.Getpid())+1)))
		for _, d := range []string{session, dead[len(dead)-1]} {
			if err := unix.Mkdir(d, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Rmdir(d) })
		}
	}
	if c, err := h.collect(); c != (Collected{}) || err != nil {
		t.Errorf("collect: %+v, %v", c, err)
	}
	if c, err := h.collectAll(); c != (Collected{Removed: 1}) || err != nil {
		t.Errorf("collectAll: %+v, %v", c, err)
	}
	for _, dir := range dead {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", dir)
		}
	}
}
