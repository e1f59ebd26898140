package supervisor

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pyhook"
)

func TestSweeps(t *testing.T) {
	const pipe = pyhook.EventFD
	for name, c := range map[string]struct {
		nr          int32
		first, last uint64
		want        bool
	}{
		"subprocess":            {unix.SYS_CLOSE_RANGE, 9, 1<<31 - 1, true},
		"closefrom":             {unix.SYS_CLOSE_RANGE, 3, 1<<32 - 1, true},
		"a daemon":              {unix.SYS_CLOSE_RANGE, 3, 1023, true},
		"from the pipe on":      {unix.SYS_CLOSE_RANGE, pipe, 1<<32 - 1, true},
		"up to the pipe":        {unix.SYS_CLOSE_RANGE, 3, pipe, false},
		"the pipe alone":        {unix.SYS_CLOSE_RANGE, pipe, pipe, false},
		"the pipe and its like": {unix.SYS_CLOSE_RANGE, pipe - 2, pipe + 2, false},
		"beyond it":             {unix.SYS_CLOSE_RANGE, pipe + 1, 1<<31 - 1, false},
		"below it":              {unix.SYS_CLOSE_RANGE, 0, pipe - 1, false},
		"backwards":             {unix.SYS_CLOSE_RANGE, 1 << 31, 3, false},
		"garbage above 32 bits": {unix.SYS_CLOSE_RANGE, 7<<32 | 3, 7<<32 | 1023, true},
		"close":                 {unix.SYS_CLOSE, pipe, 1023, false},
		"dup2":                  {unix.SYS_DUP2, 3, 1023, false},
	} {
		if got := sweeps(notification{NR: c.nr, Args: [6]uint64{c.first, c.last}}); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestProcessesByTheirNumbers(t *testing.T) {
	for want, pids := range map[string][]int{
		"process 7": {7}, "processes [7 9]": {9, 7}, "processes [1 2 3 4 5] and 2 more": {7, 6, 5, 4, 3, 2, 1},
	} {
		set := map[int]bool{}
		for _, pid := range pids {
			set[pid] = true
		}
		if got := processes(set); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSameMemory(t *testing.T) {
	if !sameMemory(os.Getpid(), os.Getpid()) {
		t.Error("a process does not share its memory with itself")
	}
	if sameMemory(os.Getpid(), os.Getppid()) || sameMemory(os.Getpid(), 0) {
		t.Error("a process shares its memory with its parent, or with nobody")
	}
}
