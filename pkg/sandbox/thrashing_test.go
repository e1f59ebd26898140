package sandbox

import (
	"testing"
	"time"

	"github.com/sbxproject/sbx/pkg/cgroup"
)

func TestThrashing(t *testing.T) {
	const mib, limit = 1 << 20, 64 << 20
	// each is what a tree does in each tenth of a second.
	thrashes := cgroup.Usage{Reread: 20 * mib, MajorFaults: 150}
	full := cgroup.Usage{Memory: limit, Droppable: mib / 8}
	for _, tt := range []struct {
		name   string
		at     cgroup.Usage
		each   cgroup.Usage
		change func(at, each *cgroup.Usage, look int)
		limit  int64
		after  int // looks; 0 is never
	}{
		{"nothing left", full, thrashes, nil, limit, 20},
		{"nothing left later on", cgroup.Usage{Memory: limit / 2}, thrashes, func(at, _ *cgroup.Usage, look int) {
			if look == 30 {
				at.Memory, at.Droppable = limit, 0
			}
		}, limit, 50},
		{"full and computing, then nothing left", full, cgroup.Usage{}, func(_, each *cgroup.Usage, look int) {
			if look == 20 {
				*each = thrashes
			}
		}, limit, 40},
		{"nothing left, now and then something", full, thrashes, func(at, _ *cgroup.Usage, look int) {
			at.Memory = limit
			if look%15 == 0 {
				at.Memory = limit / 2
			}
		}, limit, 0},
		{"no limit", full, thrashes, nil, 0, 0},
		{"much may be dropped", cgroup.Usage{Memory: limit, Droppable: mib}, thrashes, nil, limit, 0},
		{"room is left", cgroup.Usage{Memory: limit - 4*mib}, thrashes, nil, limit, 0},
		{"full, and busy or asleep", full, cgroup.Usage{}, nil, limit, 0},
		{"full, and reading a file again and again", full, cgroup.Usage{Reread: 80 * mib, MajorFaults: 3}, nil, limit, 0},
		{"full, and a little is read anew", full, cgroup.Usage{Reread: mib / 8, MajorFaults: 10}, nil, limit, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var w thrashing
			now, at, each := time.Unix(0, 0), tt.at, tt.each
			for look := range 100 {
				if tt.change != nil {
					tt.change(&at, &each, look)
				}
				if seen, yes := w.look(now, at, tt.limit); yes {
					if look != tt.after || seen.time != thrashTime || seen.bytes != 400*mib {
						t.Errorf("ended at look %d, want %d: %+v", look, tt.after, seen)
					}
					return
				}
				now = now.Add(thrashTime / 20)
				at.Reread, at.MajorFaults = at.Reread+each.Reread, at.MajorFaults+each.MajorFaults
			}
			if tt.after != 0 {
				t.Errorf("not ended, want it at look %d", tt.after)
			}
		})
	}
}
