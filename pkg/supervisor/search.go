package supervisor

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
)

// A search is one program that a process looks for in the directories of PATH,
// as execvp(3) does: an execve(2) for each of them, of which all but the last lead
// nowhere. It is one activity.
type search struct {
	event event.Event
	tried []string
}

// Bounds on what is remembered of searches.
const (
	maxSearches = 64
	maxTried    = 16
)

// searched notes an execve(2) of a program that is not there.
func (s *Supervisor) searched(e event.Event, path string) {
	have := s.searches[e.PID]
	if have != nil && have.event.Target != e.Target {
		s.fruitless(have)
		have = nil
	}
	if have == nil {
		if len(s.searches) >= maxSearches {
			s.endSearches()
		}
		have = &search{event: e}
		s.searches[e.PID] = have
	}
	if len(have.tried) < maxTried {
		have.tried = append(have.tried, shorten(path, maxTarget))
	}
}

// found ends the search of a process that found its program, and says where that
// was not.
func (s *Supervisor) found(e event.Event) string {
	have := s.searches[e.PID]
	delete(s.searches, e.PID)
	switch {
	case have == nil:
		return ""
	case have.event.Target != e.Target:
		s.fruitless(have)
		return ""
	}
	return "; not there: " + strings.Join(have.tried, ", ")
}

// fruitless records a search that found nothing.
func (s *Supervisor) fruitless(t *search) {
	e := t.event
	e.Errno = unix.ErrnoName(unix.ENOENT)
	e.Detail = shorten(e.Detail+"; not there: "+strings.Join(t.tried, ", "), maxDetail)
	s.o.Recorder.Record(e)
}

// endSearches records those that found nothing so far, in the order in which they
// began.
func (s *Supervisor) endSearches() {
	for _, t := range slices.SortedFunc(maps.Values(s.searches), func(a, b *search) int { return cmp.Compare(a.event.Time, b.event.Time) }) {
		s.fruitless(t)
	}
	clear(s.searches)
}
