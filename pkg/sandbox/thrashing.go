package sandbox

import (
	"time"

	"github.com/sbxproject/sbx/pkg/cgroup"
)

// A tree whose memory is used up need not meet the kernel's out-of-memory killer.
// The pages of files can always be dropped, those of the running programs among
// them, and as long as one can be the kernel kills nobody: the programs fault
// their own code in again and again and get nowhere, for minutes. Refaults
// (Documentation/admin-guide/cgroup-v2.rst, workingset_refault_file) tell this
// from a tree that computes with little memory left.

// thrashTime is how long a tree must have got nowhere. The figures of one look
// say nothing: whoever meets his limit drops pages for a moment.
const thrashTime = 2 * time.Second

// thrashing watches for it, from look to look.
type thrashing struct {
	since time.Time    // the tree has had no memory left since then
	begun cgroup.Usage // and what it had used until then
}

// thrashed is how much was read anew, and in what time.
type thrashed struct {
	bytes int64
	time  time.Duration
}

// look says whether the tree did nothing else for thrashTime: its memory was used
// up, less than the code of an interpreter was left of what can be dropped, and ten
// times as much was dropped and read anew, by page faults. Who only reads much with
// little memory left calls read(2), or has more than this to do it with.
//
// How the processor time divides says nothing: some kernels call the time of a page
// fault the program's own.
func (t *thrashing) look(now time.Time, u cgroup.Usage, limit int64) (thrashed, bool) {
	const (
		left   = 512 << 10 // bytes that can be dropped
		around = 256 << 10 // the most that a fault reads in, with readahead
	)
	if limit <= 0 || u.Memory < limit-limit/32 || u.Droppable > left {
		t.since = time.Time{}
		return thrashed{}, false
	}
	over := now.Sub(t.since)
	if !t.since.IsZero() && over < thrashTime {
		return thrashed{}, false
	}
	begun, first := t.begun, t.since.IsZero()
	t.since, t.begun = now, u
	if first {
		return thrashed{}, false
	}
	anew, faults := u.Reread-begun.Reread, u.MajorFaults-begun.MajorFaults
	return thrashed{anew, over}, anew >= 10*left && anew <= faults*around
}
