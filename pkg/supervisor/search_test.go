package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/event"
)

// searching is a supervisor that has only what a search needs.
func searching() *Supervisor {
	return &Supervisor{o: Options{Recorder: event.NewRecorder(1000)}, searches: map[int]*search{}}
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
