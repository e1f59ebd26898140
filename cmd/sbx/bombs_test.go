package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBombsLeaveTheHostAsItWas: within a second of sbx's end there is no process,
// no cgroup and no memory in use that was not there before.
func TestBombsLeaveTheHostAsItWas(t *testing.T) {
	bombs := []struct{ name, profile, code string }{
		{"a fork bomb", "science", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"},
		{"a memory bomb of many processes", "science", "import os\nfor _ in range(7): os.fork()\nx = []\nwhile True: x.append(bytearray(1 << 20))"},
		{"a thread bomb", "strict", "import threading\ne = threading.Event()\nwhile True:\n    try: threading.Thread(target=e.wait).start()\n    except RuntimeError: pass"},
		{"a full /tmp", "science", "for i in range(100000):\n    try: open(f'/tmp/{i}', 'wb').write(b'x' * 8192)\n    except OSError: pass\nwhile True: pass"},
		{"processes that let go of everything", "science", "import os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            for fd in range(3): os.close(fd)\n            time.sleep(1000)\n        os._exit(0)"},
	}
	mark := fmt.Sprintf("SBX_TEST_BOMB=%d", os.Getpid())
	seen := false // that the processes can be told at all
	for _, b := range bombs {
		t.Run(b.name, func(t *testing.T) {
			shared, running := meminfo(t, "Shmem"), stages(t)
			cmd := sbxProcess(t, "run", "--profile", b.profile, "--timeout", "2", "--memory", "256", "--tmp-size", "128", "--env", mark, script(t, b.code))
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			var err error
			for over := false; !over; {
				select {
				case err = <-ended:
					over = true
				default:
					seen = seen || len(jailed(t, mark)) > 0
				}
			}
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatalf("%v: %s", err, out.String())
			}
			deadline := time.Now().Add(time.Second)
			for {
				left := leftOver(t, cmd.Process.Pid, mark, len(running), shared)
				if left == "" {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("a second later: %s", left)
				}
			}
		})
	}
	if !seen {
		t.Error("no process of any bomb was seen while it ran: the test shows nothing")
	}
}

// leftOver says what of a run is still there.
func leftOver(t *testing.T, pid int, mark string, stagesBefore int, shared int64) string {
	t.Helper()
	if now := stages(t); len(now) > stagesBefore {
		return fmt.Sprintf("%d stages of sbx, %d before", len(now), stagesBefore)
	}
	if groups := groupsOf(t, pid); len(groups) > 0 {
		return fmt.Sprintf("the cgroups %v", groups)
	}
	if procs := jailed(t, mark); len(procs) > 0 {
		return fmt.Sprintf("the processes %v", procs)
	}
	// Without processes there is no anonymous memory; what could be left is in file
	// systems. Other programs of the machine come and go; a bomb took 128 MiB.
	if now := meminfo(t, "Shmem"); now > shared+(64<<20) {
		return fmt.Sprintf("%d MiB in memory file systems, %d before", now>>20, shared>>20)
	}
	return ""
}

// jailed are the processes that have this variable in their environment.
func jailed(t *testing.T, variable string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, file := range files {
		if env, err := os.ReadFile(file); err == nil && strings.Contains(string(env), variable) {
			out = append(out, filepath.Dir(file))
		}
	}
	return out
}

// meminfo reads a figure of /proc/meminfo, in bytes.
func meminfo(t *testing.T, key string) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, key+": %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatalf("no %s in /proc/meminfo", key)
	return 0
}
