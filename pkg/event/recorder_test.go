package event

import (
	"sync"
	"testing"
	"time"
)

func TestRecorderFoldsRepeats(t *testing.T) {
	r := NewRecorder(10)
	e := Event{Layer: Seccomp, Category: Network, Op: "socket", Target: "AF_INET", Verdict: Denied, Errno: "EPERM", Location: &Location{File: "a.py", Line: 3}}
	first := r.Record(e)
	e.Time, e.PID, e.Detail = time.Second, 7, "other"
	if again := r.Record(e); again != first {
		t.Errorf("a repeat got sequence number %d, want %d", again, first)
	}
	e.Location = &Location{File: "a.py", Line: 4}
	if other := r.Record(e); other == first {
		t.Error("an event of another line was folded into the first")
	}
	log := r.Snapshot()
	if len(log.Entries) != 2 || log.Entries[0].Repeats != 2 || log.Entries[0].LastTime != time.Second {
		t.Errorf("entries = %+v", log.Entries)
	}
	if got := log.Tallies[Network]; got != (Tally{Denied: 3}) {
		t.Errorf("tally = %+v, want three denied", got)
	}
}

func TestRecorderBoundsKeptEventsAndCountsTheRest(t *testing.T) {
	const kept, sent, workers = 50, 1000, 8
	r := NewRecorder(kept)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range sent {
				r.Record(Event{Layer: Python, Category: Import, Op: "import", Verdict: Allowed, Location: &Location{File: "m", Line: w*sent + i}})
			}
		})
	}
	wg.Wait()
	log := r.Snapshot()
	if len(log.Entries) != kept {
		t.Errorf("kept %d entries, want %d", len(log.Entries), kept)
	}
	if got := log.Dropped[Python]; got != workers*sent-kept {
		t.Errorf("dropped = %d, want %d", got, workers*sent-kept)
	}
	if log.Total != workers*sent || log.Tallies[Import].Allowed != workers*sent {
		t.Errorf("total %d, tally %+v: counts must stay exact", log.Total, log.Tallies[Import])
	}
	// Another layer has its own room: a flood of hook events cannot push out
	// what the kernel says.
	if r.Record(Event{Layer: Seccomp, Category: File, Op: "openat", Verdict: Denied}) == 0 {
		t.Error("a flood in one layer used up the room of another")
	}
}

func TestCountIsTakenFromTheSource(t *testing.T) {
	r := NewRecorder(4)
	r.Record(Event{Layer: Python, Category: File, Op: "open", Verdict: Denied, Count: 900})
	r.Drop(Python, 5)
	log := r.Snapshot()
	if log.Total != 905 || log.Entries[0].Repeats != 900 || log.Dropped[Python] != 5 {
		t.Errorf("log = %+v", log)
	}
}
