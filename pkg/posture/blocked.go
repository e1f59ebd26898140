package posture

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pseudofs"
)

// ReadsInput says whether some thread of a process waits in a read(2) of its
// standard input, by /proc/PID/task/TID/syscall (proc_pid_syscall(5)). A kernel
// without that file says nothing, and neither does a thread that runs.
func ReadsInput(procRoot string, pid int) (bool, error) {
	dir := filepath.Join(procRoot, strconv.Itoa(pid), "task")
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return false, fmt.Errorf("observe process: %w", err)
	}
	for _, task := range tasks[:min(len(tasks), maxTree)] {
		data, err := pseudofs.ReadFile(filepath.Join(dir, task.Name(), "syscall"))
		if err == nil && readsInput(string(data)) {
			return true, nil
		}
	}
	return false, nil
}

// readsInput understands "0 0x0 0x7f... ": the number of the call, then its
// arguments in hexadecimal. A thread that is in none has "running" or "-1".
func readsInput(syscall string) bool {
	f := strings.Fields(syscall)
	return len(f) > 1 && f[0] == strconv.Itoa(unix.SYS_READ) && f[1] == "0x0"
}
