package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/report"
)

// forever announces itself and then stays.
const forever = `
import time
time.sleep(0.2)
print("READY", flush=True)
while True:
    time.sleep(60)
`

// startForever starts sbx as a process and returns when its script runs.
func startForever(t *testing.T, code string, flags ...string) (*exec.Cmd, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	args := append([]string{"run", "--profile", "strict", "--timeout", "60", "--report", file}, flags...)
	cmd := sbxProcess(t, append(args, script(t, code))...)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "READY\n" {
		t.Fatalf("the script did not start: %q, %v", line, err)
	}
	return cmd, file
}

// descendants are the processes that came from pid.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, file := range tasks {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for f := range strings.FieldsSeq(string(data)) {
			child, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			out = append(append(out, child), descendants(t, child)...)
		}
	}
	return out
}

// handles opens pidfds, which tell the end of a process that is nobody's child.
func handles(t *testing.T, pids []int) []int {
	t.Helper()
	var out []int
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatalf("pidfd_open %d: %v", pid, err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		out = append(out, fd)
	}
	return out
}

// wantGone waits until every process has ended.
func wantGone(t *testing.T, pidfds []int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for i, fd := range pidfds {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(poll, int(time.Until(deadline).Milliseconds()))
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				t.Errorf("process %d of %d is still there after 10 s: %v", i+1, len(pidfds), err)
			}
			break
		}
	}
}

// groupsOf are the cgroups that the sbx with this pid made.
func groupsOf(t *testing.T, pid int) []string {
	t.Helper()
	return groupsWhere(t, func(f []string) bool { return f[2] == strconv.Itoa(pid) })
}

// groupsWhere are the cgroups of runs whose name, taken apart, is as wanted: its
// third part is the pid of the sbx that made it.
func groupsWhere(t *testing.T, wanted func(name []string) bool) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "sbx-") {
			if f := strings.Split(d.Name(), "-"); len(f) == 5 && wanted(f) {
				out = append(out, path)
			}
		}
		return nil // what is gone may be somebody's who ends just now
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestKilledSbxLeavesNothing: SIGKILL in the middle of a run.
func TestKilledSbxLeavesNothing(t *testing.T) {
	cmd, file := startForever(t, forever)
	pids := descendants(t, cmd.Process.Pid)
	for deadline := time.Now().Add(10 * time.Second); len(pids) < 3; pids = descendants(t, cmd.Process.Pid) {
		if time.Now().After(deadline) {
			t.Fatalf("sbx has the descendants %v, want init, Python and the warden", pids)
		}
	}
	if os.Geteuid() == 0 && len(groupsOf(t, cmd.Process.Pid)) == 0 {
		t.Fatal("no cgroup was found: the test would show nothing")
	}
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	left := handles(t, pids)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	wantGone(t, left)
	if groups := groupsOf(t, cmd.Process.Pid); len(groups) > 0 {
		t.Errorf("cgroups are left: %v", groups)
	}
	if after, err := os.ReadFile("/proc/self/mountinfo"); err != nil || string(after) != string(before) {
		t.Errorf("the mounts changed: %v", err)
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(entries) != 0 {
		t.Errorf("files are left where the report was due: %v, %v", entries, err)
	}
}

// TestASignalEndsTheRunAndTheReportIsWritten: what Ctrl-C does.
func TestASignalEndsTheRunAndTheReportIsWritten(t *testing.T) {
	for signal, status := range map[unix.Signal]int{unix.SIGINT: 130, unix.SIGTERM: 143, unix.SIGHUP: 129} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			t.Parallel()
			cmd, file := startForever(t, forever)
			left := handles(t, descendants(t, cmd.Process.Pid))
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != status {
				t.Errorf("exit status %d, want %d", got, status)
			}
			r := readReport(t, file)
			if r == nil {
				t.Fatal("no report was written")
			}
			s := r.ExecutionSummary
			if s.Verdict != report.Signaled || s.Signal != unix.SignalName(signal) || s.Success {
				t.Errorf("verdict %s by %q, want signaled by %s; evidence %q", s.Verdict, s.Signal, unix.SignalName(signal), s.Evidence)
			}
			if r.Output.Stdout.Head != "READY\n" {
				t.Errorf("the output in the report is %q", r.Output.Stdout.Head)
			}
			wantGone(t, left)
			if groups := groupsOf(t, cmd.Process.Pid); len(groups) > 0 {
				t.Errorf("cgroups are left: %v", groups)
			}
		})
	}
}

// TestTwoHundredRuns in parallel batches: two hundred right reports, each with
// its own script's words, and nothing left over.
func TestTwoHundredRuns(t *testing.T) {
	const runs, atOnce = 200, 8
	fds := countDescriptors(t)
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range runs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			kinds := []struct {
				code    string
				verdict report.Verdict
				status  int
			}{
				{"print(%d)", report.OK, 0},
				{"print(%d); raise SystemExit(3)", report.NonzeroExit, 3},
				{"print(%d); {}[1]", report.Exception, 1},
				{"print(%d, flush=True); import os; os.abort()", report.Signaled, 134},
			}
			k := kinds[i%len(kinds)]
			o := runScript(t, fmt.Sprintf(k.code, i), "--profile", "strict")
			o.wantVerdict(t, k.verdict, k.status)
			want := strconv.Itoa(i) + "\n"
			if o.stdout != want || o.report.Output.Stdout.Head != want {
				t.Errorf("run %d printed %q, in the report %q", i, o.stdout, o.report.Output.Stdout.Head)
			}
		})
	}
	wg.Wait()
	if now := countDescriptors(t); now > fds+4 { // the runtime's poller opens its own, once
		t.Errorf("%d descriptors before, %d after", fds, now)
	}
	if groups := groupsOf(t, os.Getpid()); len(groups) > 0 {
		t.Errorf("cgroups are left: %v", groups)
	}
}

func countDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestSurvivorsEndWithTheScript: a child that outlives its parent, in a profile
// that allows processes.
func TestSurvivorsEndWithTheScript(t *testing.T) {
	o := runScript(t, `
import os, time
if os.fork() == 0:
    os.setsid()
    time.sleep(1000)
print("done")
`, "--profile", "science")
	o.wantVerdict(t, report.OK, 0)
	if o.report.Usage.SurvivorsKilled != 1 {
		t.Errorf("%d survivors killed, want 1", o.report.Usage.SurvivorsKilled)
	}
}

// stages are the init stages and wardens of this binary that are still there.
func stages(t *testing.T) []int {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, exe := range exes {
		dir := filepath.Dir(exe)
		target, err := os.Readlink(exe)
		line, err2 := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || err2 != nil || target != self || !strings.HasPrefix(string(line), "sbx-") {
			continue // not ours, or gone
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			t.Cleanup(func() { unix.Close(fd) })
			out = append(out, fd)
		}
	}
	return out
}

// TestASignalWhileTheScriptIsRead from a pipe that nobody closes.
func TestASignalWhileTheScriptIsRead(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd := sbxProcess(t, "run", "--profile", "strict", "-")
	cmd.Stdin = r
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("print(1)\n"); err != nil {
		t.Fatal(err)
	}
	// It reads when the pipe is empty again.
	for n := 1; n > 0; {
		if n, err = unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// -1: ended by the signal itself, where it came before the handler.
	if status := cmd.ProcessState.ExitCode(); status != 125 && status != -1 {
		t.Errorf("status %d: %s", status, stderr.String())
	}
	if status := cmd.ProcessState.ExitCode(); status == 125 && !strings.Contains(stderr.String(), "interrupted by SIGTERM") {
		t.Errorf("it says %q", stderr.String())
	}
}
