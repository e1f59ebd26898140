package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGCRemovesTheGroupOfAKilledRun whose warden was killed as well.
func TestGCRemovesTheGroupOfAKilledRun(t *testing.T) {
	cmd, _ := startForever(t, forever)
	if len(groupsOf(t, cmd.Process.Pid)) == 0 {
		if len(missingLayers(t)) > 0 {
			t.Skip("no group can be made here: there is nothing to collect")
		}
		t.Fatal("the run has no group")
	}
	pids := descendants(t, cmd.Process.Pid)
	left := handles(t, pids)
	for _, pid := range pids {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.HasPrefix(string(line), "sbx-warden") {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	wantGone(t, left)
	if len(groupsOf(t, cmd.Process.Pid)) == 0 {
		t.Log("another run has removed the group already")
	}
	o := invoke(t, "gc")
	if o.status != 0 || !regexp.MustCompile(`^removed ([0-9]+ groups|1 group) of runs that were killed\n$`).MatchString(o.stdout) {
		t.Errorf("status %d, it says %q, %q", o.status, o.stdout, o.stderr)
	}
	if groups := groupsOf(t, cmd.Process.Pid); len(groups) > 0 {
		t.Errorf("cgroups are left: %v", groups)
	}
}

// TestGCSparesARunThatGoesOn: its group, and so its limits, stay.
func TestGCSparesARunThatGoesOn(t *testing.T) {
	cmd, file := startForever(t, forever)
	before := groupsOf(t, cmd.Process.Pid)
	if o := invoke(t, "gc"); o.status != 0 {
		t.Errorf("status %d: %s", o.status, o.stderr)
	}
	if after := groupsOf(t, cmd.Process.Pid); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("the groups were %v and are %v", before, after)
	}
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if r := readReport(t, file); r == nil || r.ExecutionSummary.Signal != "SIGINT" {
		t.Errorf("the run did not go on to its end: %+v", r)
	}
}

func TestGCTakesNoArguments(t *testing.T) {
	o := invoke(t, "gc", "everything")
	if o.status != 125 || o.stdout != "" {
		t.Errorf("status %d, printed %q", o.status, o.stdout)
	}
	wantError(t, o.stderr, `takes no arguments, and got "everything"`, "sbx gc --help")
}

// TestGCWithoutCgroups has nothing to look at, and says so.
func TestGCWithoutCgroups(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("hiding the hierarchies takes root")
	}
	o := onPoorerHost(t, "cgroups", "gc")
	if o.status != 125 || o.stdout != "" {
		t.Errorf("status %d, printed %q", o.status, o.stdout)
	}
	wantError(t, o.stderr, "cgroup", "/sys/fs/cgroup")
}
