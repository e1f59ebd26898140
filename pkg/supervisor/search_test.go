package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/pyhook"
)

// searching is a supervisor that has only what a search needs.
func searching() *Supervisor {
	return &Supervisor{o: Options{Recorder: event.NewRecorder(1000)}, searches: map[int]*search{}, sweeping: map[int]bool{}}
}

func try(pid int, target string) event.Event {
	return event.Event{Layer: event.Seccomp, Category: event.Process, Op: "execve", Target: target, Verdict: event.Allowed, PID: pid, Detail: "execve(...)"}
}

// recordedTries are the activities of a supervisor: target, errno and what their
// detail ends in.
func recordedTries(s *Supervisor) []string {
	var out []string
	for _, e := range s.o.Recorder.Snapshot().Entries {
		out = append(out, strings.TrimSpace(e.Target+" "+e.Errno)+strings.TrimPrefix(e.Detail, "execve(...)"))
	}
	return out
}

func TestASearchIsOneActivity(t *testing.T) {
	s := searching()
	s.searched(try(7, "id"), "/usr/local/bin/id")
	s.searched(try(8, "nothere"), "/usr/local/bin/nothere")
	s.searched(try(7, "id"), "/usr/bin/id")
	if got := s.found(try(7, "id")); got != "; not there: /usr/local/bin/id, /usr/bin/id" {
		t.Errorf("found after %q", got)
	}
	if got := s.found(try(7, "id")); got != "" {
		t.Errorf("found at once, after %q", got)
	}
	s.searched(try(8, "nothere"), "/bin/nothere")
	s.searched(try(8, "other"), "/bin/other") // another one by the same process
	s.searched(try(9, "sh"), "/bin/sh")
	if got := s.found(try(9, "true")); got != "" { // it gave up on sh
		t.Errorf("found after %q", got)
	}
	s.endSearches()
	want := []string{
		"nothere ENOENT; not there: /usr/local/bin/nothere, /bin/nothere",
		"sh ENOENT; not there: /bin/sh",
		"other ENOENT; not there: /bin/other",
	}
	if got := recordedTries(s); !slices.Equal(got, want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
	if len(s.searches) != 0 {
		t.Errorf("%d searches are left", len(s.searches))
	}
}

func TestSearchesAreBounded(t *testing.T) {
	s := searching()
	for pid := range 10 * maxSearches {
		for dir := range 10 * maxTried {
			s.searched(try(pid, fmt.Sprint("x", pid)), fmt.Sprintf("/%d/x", dir))
		}
		if len(s.searches) > maxSearches || len(s.searches[pid].tried) > maxTried {
			t.Fatalf("%d searches, %d tries of one", len(s.searches), len(s.searches[pid].tried))
		}
	}
	s.endSearches()
	if n := len(recordedTries(s)); n != 10*maxSearches {
		t.Errorf("%d searches are recorded, want %d", n, 10*maxSearches)
	}
}

func TestSweeps(t *testing.T) {
	const pipe = pyhook.EventFD
	type call struct {
		nr          int32
		first, last uint64
		want        bool
	}
	tests := map[string][]call{
		"subprocess":                {{unix.SYS_CLOSE_RANGE, 9, 1<<31 - 1, true}, {unix.SYS_CLOSE, pipe, 0, true}, {unix.SYS_CLOSE, pipe, 0, true}},
		"a daemon":                  {{unix.SYS_CLOSE_RANGE, 3, 1023, true}, {unix.SYS_CLOSE, pipe, 0, true}},
		"the pipe alone":            {{unix.SYS_CLOSE, pipe, 0, false}},
		"the pipe and its like":     {{unix.SYS_CLOSE_RANGE, pipe, pipe, false}, {unix.SYS_CLOSE_RANGE, pipe - 2, pipe + 2, false}, {unix.SYS_CLOSE, pipe, 0, false}},
		"what does not reach it":    {{unix.SYS_CLOSE_RANGE, pipe + 1, 1<<31 - 1, false}, {unix.SYS_CLOSE_RANGE, 0, pipe - 1, false}},
		"backwards":                 {{unix.SYS_CLOSE_RANGE, 1 << 31, 3, false}},
		"another call":              {{unix.SYS_DUP2, 3, pipe, false}, {unix.SYS_DUP3, 3, pipe, false}},
		"garbage above 32 bits":     {{unix.SYS_CLOSE_RANGE, 7<<32 | 3, 7<<32 | 1023, true}, {unix.SYS_CLOSE, 1<<32 | pipe, 0, true}},
		"another one than the pipe": {{unix.SYS_CLOSE_RANGE, 3, 1023, true}, {unix.SYS_CLOSE, 5, 0, false}},
	}
	for name, calls := range tests {
		s := searching()
		for _, c := range calls {
			n := notification{NR: c.nr, Args: [6]uint64{c.first, c.last}}
			if got := s.sweeps(n, task{nstid: 4}); got != c.want {
				t.Errorf("%s: %d(%d, %d) is part of a sweep: %v, want %v", name, c.nr, c.first, c.last, got, c.want)
			}
		}
		if s.sweeps(notification{NR: unix.SYS_CLOSE, Args: [6]uint64{pipe}}, task{nstid: 5}) {
			t.Errorf("%s: the sweep of one thread excuses another", name)
		}
	}
	s := searching()
	for tid := range 3 * maxSweeps {
		s.sweeps(notification{NR: unix.SYS_CLOSE_RANGE, Args: [6]uint64{3, 1023}}, task{nstid: tid})
		if len(s.sweeping) > maxSweeps {
			t.Fatalf("%d threads are remembered", len(s.sweeping))
		}
	}
}
