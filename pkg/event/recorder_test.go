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

func TestBudgetIsOverOnce(t *testing.T) {
	denied := func(target string) Event {
		return Event{Layer: Seccomp, Category: Network, Op: "socket", Target: target, Verdict: Denied}
	}
	for _, tt := range []struct {
		name    string
		budget  Budget
		events  []Event
		at      int    // which event is one too many, 0 for none
		same    uint64 // what Over is told
		largest int
	}{
		{"no budget", Budget{}, []Event{denied("a"), denied("a")}, 0, 0, 9},
		{"in all", Budget{Denials: 2}, []Event{denied("a"), denied("b"), denied("c"), denied("d")}, 3, 0, 9},
		{"of the same", Budget{Same: 2}, []Event{denied("a"), denied("b"), denied("a"), denied("b"), denied("b")}, 5, 3, 9},
		{"to the last", Budget{Denials: 3, Same: 2}, []Event{denied("a"), denied("a"), denied("b")}, 0, 0, 9},
		{"allowed ones are free", Budget{Denials: 1}, []Event{{Verdict: Allowed}, {Verdict: Observed}, {Verdict: Killed}, denied("a")}, 0, 0, 9},
		{"a source that folds", Budget{Same: 4}, []Event{{Verdict: Denied, Count: 4}, {Verdict: Denied, Count: 100}}, 2, 104, 9},
		{"those that are not kept count in all", Budget{Denials: 2, Same: 1}, []Event{denied("a"), denied("b"), denied("c")}, 3, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := NewRecorder(tt.largest)
			calls, at, now, same := 0, 0, 0, uint64(0)
			tt.budget.Over = func(_ Event, n, sum uint64) {
				calls, at, same = calls+1, now, n
				if n == 0 && sum != tt.budget.Denials+1 {
					t.Errorf("told of %d refusals, the budget is %d", sum, tt.budget.Denials)
				}
				r.Record(Event{Layer: Supervisor, Verdict: Killed}) // as who ends a run does
			}
			r.SetBudget(tt.budget)
			for i, e := range tt.events {
				now = i + 1
				r.Record(e)
			}
			if calls > 1 || at != tt.at || same != tt.same {
				t.Errorf("over %d times, at event %d with %d of the same; want event %d with %d", calls, at, same, tt.at, tt.same)
			}
		})
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
