package event

import (
	"sync"
	"time"
)

// Entry is an event as recorded: numbered, with repeats folded into it.
type Entry struct {
	Event
	Seq      uint64
	Repeats  uint64        // how many times in all, at least 1
	LastTime time.Duration // of the last repeat
}

// Tally counts the events of one category.
type Tally struct{ Allowed, Denied uint64 }

// Log is what a run left behind.
type Log struct {
	Entries []Entry // in order of first appearance
	Tallies map[Category]Tally
	Total   uint64           // events recorded, repeats and dropped ones included
	Dropped map[Layer]uint64 // events counted above but not kept in Entries
}

// key is what makes two events the same activity, repeated.
type key struct {
	layer             Layer
	category          Category
	op, target, errno string
	verdict           Verdict
	file              string
	line              int
	explained         string
	unexplained       bool
}

// Budget is how many refusals a run may collect, in all and of the same activity;
// zero is no limit. Over is called once, when there is one more, with that event,
// how many there are of it, or 0 if it is the sum that is too high, and that sum.
type Budget struct {
	Denials, Same uint64
	Over          func(e Event, same, sum uint64)
}

// A Recorder gathers events from several goroutines. The target of a run
// controls how many there are, so it keeps at most a set number per layer and
// counts the rest exactly.
type Recorder struct {
	mu       sync.Mutex
	perLayer int
	kept     map[Layer]int
	index    map[key]int
	log      Log
	budget   Budget
	denied   uint64
}

// NewRecorder returns a Recorder that keeps at most perLayer distinct events of
// each layer.
func NewRecorder(perLayer int) *Recorder {
	return &Recorder{
		perLayer: perLayer,
		kept:     map[Layer]int{},
		index:    map[key]int{},
		log:      Log{Tallies: map[Category]Tally{}, Dropped: map[Layer]uint64{}},
	}
}

// SetBudget bounds the refusals. It is to be called before the first event.
func (r *Recorder) SetBudget(b Budget) { r.budget = b }

// Record adds e, or folds it into an earlier event that differs only in time,
// pid and detail. It returns the sequence number of the entry, 0 if e was only
// counted.
func (r *Recorder) Record(e Event) uint64 {
	n := max(e.Count, 1)
	r.mu.Lock()
	seq, repeats := r.add(e, n)
	over := r.spend(e, n, repeats)
	r.mu.Unlock()
	if over != nil {
		over()
	}
	return seq
}

// spend counts a refusal, and returns what is to be called if it is one too many.
func (r *Recorder) spend(e Event, n, repeats uint64) func() {
	if e.Verdict != Denied || r.budget.Over == nil {
		return nil
	}
	r.denied += n
	b := r.budget
	switch {
	case b.Same > 0 && repeats > b.Same:
	case b.Denials > 0 && r.denied > b.Denials:
		repeats = 0
	default:
		return nil
	}
	r.budget.Over = nil
	sum := r.denied
	return func() { b.Over(e, repeats, sum) }
}

// add counts an event, and keeps it where there is room. It returns the number of
// its entry, and how often the same was recorded, which is 0 where it is only
// counted.
func (r *Recorder) add(e Event, n uint64) (seq, repeats uint64) {
	r.log.Total += n
	t := r.log.Tallies[e.Category]
	if e.Verdict == Denied || e.Verdict == Killed {
		t.Denied += n
	} else {
		t.Allowed += n
	}
	r.log.Tallies[e.Category] = t

	k := key{
		layer: e.Layer, category: e.Category, op: e.Op, target: e.Target, errno: e.Errno,
		verdict: e.Verdict, explained: e.ExplainedBy, unexplained: e.Unexplained,
	}
	if e.Location != nil {
		k.file, k.line = e.Location.File, e.Location.Line
	}
	if i, ok := r.index[k]; ok {
		r.log.Entries[i].Repeats += n
		r.log.Entries[i].LastTime = e.Time
		return r.log.Entries[i].Seq, r.log.Entries[i].Repeats
	}
	if r.kept[e.Layer] >= r.perLayer {
		r.log.Dropped[e.Layer] += n
		return 0, 0
	}
	r.kept[e.Layer]++
	seq = uint64(len(r.log.Entries)) + 1
	r.index[k] = len(r.log.Entries)
	r.log.Entries = append(r.log.Entries, Entry{Event: e, Seq: seq, Repeats: n, LastTime: e.Time})
	return seq, n
}

// Drop counts n events of a layer that were lost before they could be recorded.
func (r *Recorder) Drop(l Layer, n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.Dropped[l] += n
	r.log.Total += n
}

// Snapshot returns a copy of what was recorded so far.
func (r *Recorder) Snapshot() Log {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := Log{
		Entries: append([]Entry(nil), r.log.Entries...),
		Tallies: make(map[Category]Tally, len(r.log.Tallies)),
		Total:   r.log.Total,
		Dropped: make(map[Layer]uint64, len(r.log.Dropped)),
	}
	for c, t := range r.log.Tallies {
		out.Tallies[c] = t
	}
	for l, n := range r.log.Dropped {
		out.Dropped[l] = n
	}
	return out
}
