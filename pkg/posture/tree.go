package posture

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pseudofs"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on every
// architecture that Linux gives user space (times(2)).
const tick = 10 * time.Millisecond

// maxTree bounds how many processes of a tree are looked at.
const maxTree = 10_000

// walk calls look with the /proc directory of a process and of each of its living
// descendants. It goes on where one has ended meanwhile, but for the first.
func walk(procRoot string, pid int, look func(dir string) error) error {
	todo := []int{pid}
	for n := 0; n < len(todo) && n < maxTree; n++ {
		dir := filepath.Join(procRoot, strconv.Itoa(todo[n]))
		if err := look(dir); err != nil {
			if n > 0 && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)) {
				continue
			}
			return fmt.Errorf("observe process: %w", err)
		}
		tasks, _ := filepath.Glob(filepath.Join(dir, "task", "*", "children"))
		for _, file := range tasks {
			data, err := pseudofs.ReadFile(file)
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
	return nil
}

// below is walk without the process itself, and with the numbers of the others.
func below(procRoot string, pid int, look func(dir string, n int) error) error {
	return walk(procRoot, pid, func(dir string) error {
		n, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || n == pid {
			return err
		}
		return look(dir, n)
	})
}

// errEnough ends a walk.
var errEnough = errors.New("enough")

// Descendants are the living descendants of a process, the elder first, up to a
// limit.
func Descendants(procRoot string, pid, limit int) []int {
	var out []int
	// What ends the walk early is nobody's error.
	_ = below(procRoot, pid, func(dir string, n int) error {
		if len(out) >= limit {
			return errEnough
		}
		out = append(out, n)
		return nil
	})
	return out
}

// Largest is the descendant of a process that has the most memory in use.
func Largest(procRoot string, pid int) (largest int, err error) {
	most := int64(-1)
	err = below(procRoot, pid, func(dir string, n int) error {
		data, err := pseudofs.ReadFile(filepath.Join(dir, "statm"))
		if err != nil {
			return err
		}
		f := strings.Fields(string(data))
		if len(f) < 2 {
			return errors.New("statm: no resident pages")
		}
		pages, err := strconv.ParseInt(f[1], 10, 64)
		if pages > most {
			most, largest = pages, n
		}
		return err
	})
	if err == nil && largest == 0 {
		err = fs.ErrNotExist
	}
	return largest, err
}

// Number is the number that a process has in its own pid namespace, 0 if it is
// gone.
func Number(procRoot string, pid int) int {
	data, err := pseudofs.ReadFile(filepath.Join(procRoot, strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(value)
			if len(f) == 0 {
				return 0
			}
			n, _ := strconv.Atoi(f[len(f)-1])
			return n
		}
	}
	return 0
}

// TreeCPU adds up the processor time of a process, its living descendants, and
// the children that each of them has reaped. Where a cgroup keeps the account,
// ask that: what a process used that nobody reaped and that is gone is missing
// here.
func TreeCPU(procRoot string, pid int) (time.Duration, error) {
	var total time.Duration
	err := walk(procRoot, pid, func(dir string) error {
		data, err := pseudofs.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			return err
		}
		used, err := parseCPU(string(data))
		total += used
		return err
	})
	if err != nil {
		return 0, err
	}
	return total, nil
}

// Memory is what processes hold that no file of a disk backs.
type Memory struct {
	Anonymous int64
	Shared    int64 // mapped files of tmpfs, and shared anonymous memory
}

// MemoryBelow adds up the memory of the living descendants of a process. Pages that
// two of them share count for both: it is an upper bound, and quick to read.
// [ShareBelow] is exact, and slow. Neither sees what is not mapped: a file of a
// tmpfs, or of memfd_create(2).
func MemoryBelow(procRoot string, pid int) (Memory, error) {
	return memoryBelow(procRoot, pid, "status", "RssAnon:", "RssShmem:")
}

// ShareBelow adds up the proportional share of memory of each descendant of a
// process (Pss of proc_pid_smaps(5)): a page that n processes share counts once in
// all.
func ShareBelow(procRoot string, pid int) (Memory, error) {
	return memoryBelow(procRoot, pid, "smaps_rollup", "Pss_Anon:", "Pss_Shmem:")
}

func memoryBelow(procRoot string, pid int, file, anonymous, shared string) (m Memory, err error) {
	m.Anonymous, err = sumBelow(procRoot, pid, file, func(data string) (int64, error) {
		n, err := sumKiB(data, shared)
		m.Shared += n
		if err != nil {
			return 0, err
		}
		return sumKiB(data, anonymous)
	})
	return m, err
}

// TasksBelow counts the threads of the living descendants of a process.
func TasksBelow(procRoot string, pid int) (int64, error) {
	return sumBelow(procRoot, pid, "status", func(data string) (int64, error) {
		for line := range strings.Lines(data) {
			if rest, ok := strings.CutPrefix(line, "Threads:"); ok {
				return strconv.ParseInt(strings.TrimSpace(rest), 10, 32)
			}
		}
		return 0, nil
	})
}

// sumBelow adds up what a file says of each descendant of a process, which itself
// is left out: the init stage of a jail is not the script.
func sumBelow(procRoot string, pid int, file string, parse func(string) (int64, error)) (int64, error) {
	var total int64
	top := true
	err := walk(procRoot, pid, func(dir string) error {
		data, err := pseudofs.ReadFile(filepath.Join(dir, file))
		if err != nil || top {
			top = false
			return err
		}
		n, err := parse(string(data))
		total += n
		return err
	})
	if err != nil {
		return 0, err
	}
	return total, nil
}

// sumKiB adds up lines of the form "Key: 12 kB". A process that has no memory any
// more has none of them.
func sumKiB(data, key string) (int64, error) {
	var total int64
	for line := range strings.Lines(data) {
		rest, ok := strings.CutPrefix(line, key)
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil || kib < 0 || kib > 1<<40 {
			return 0, fmt.Errorf("%q: %w", line, errStat)
		}
		total += kib << 10
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
