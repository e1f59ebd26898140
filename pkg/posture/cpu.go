package posture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on every
// architecture that Linux gives user space (times(2)).
const tick = 10 * time.Millisecond

// maxTree bounds how many processes TreeCPU looks at.
const maxTree = 10_000

// TreeCPU adds up the processor time of a process, its living descendants, and
// the children that each of them has reaped. Where a cgroup keeps the account,
// ask that: what a process used that nobody reaped and that is gone is missing
// here.
func TreeCPU(procRoot string, pid int) (time.Duration, error) {
	var total time.Duration
	todo := []int{pid}
	for n := 0; n < len(todo) && n < maxTree; n++ {
		dir := filepath.Join(procRoot, strconv.Itoa(todo[n]))
		data, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			if n == 0 {
				return 0, fmt.Errorf("observe process: %w", err)
			}
			continue // it has ended
		}
		used, err := parseCPU(string(data))
		if err != nil {
			return 0, err
		}
		total += used
		tasks, _ := filepath.Glob(filepath.Join(dir, "task", "*", "children"))
		for _, file := range tasks {
			data, err := os.ReadFile(file)
			if err != nil {
				continue // the thread has ended
			}
			for f := range strings.FieldsSeq(string(data)) {
				if child, err := strconv.Atoi(f); err == nil {
					todo = append(todo, child)
				}
			}
		}
	}
	return total, nil
}

var errStat = errors.New("stat of the process is not understood")

// parseCPU adds utime, stime, cutime and cstime, fields 14 to 17 of
// /proc/PID/stat (proc_pid_stat(5)). The name in field 2 is the program's to
// choose; it ends at the last parenthesis.
func parseCPU(stat string) (time.Duration, error) {
	const first, count, after = 14, 4, 3 // after: the number of the field behind the name
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < first-after+count {
		return 0, errStat
	}
	var ticks uint64
	for _, text := range f[first-after : first-after+count] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > 1<<40 {
			return 0, fmt.Errorf("%q: %w", text, errStat)
		}
		ticks += uint64(n)
	}
	return time.Duration(ticks) * tick, nil
}
