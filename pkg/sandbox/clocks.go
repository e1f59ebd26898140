package sandbox

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// cause is why sbx ended a run; the first one stands.
type cause string

// The causes.
const (
	causeNone        cause = ""
	causeWall        cause = "wall"
	causeCPU         cause = "cpu"
	causeMemory      cause = "memory"
	causeThrashing   cause = "thrashing"
	causeOutput      cause = "output"
	causeDenials     cause = "denials"
	causeInterrupted cause = "interrupted"
	causeSupervisor  cause = "supervisor"
	causeStart       cause = "start"
)

// ender ends a run once, and remembers why.
type ender struct {
	kill func(cause)

	mu    sync.Mutex
	first cause
	over  bool // the script ended by itself: nothing is to be blamed any more
}

// end kills the run for this cause, unless it has ended already.
func (e *ender) end(c cause) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.first == causeNone && !e.over {
		e.first = c
		e.kill(c)
	}
}

// close says that the run is over, and returns why sbx ended it, if it did.
func (e *ender) close() cause {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	return e.first
}

// watchWall ends the run when its wall-clock time is up. The runtime's timers
// follow CLOCK_MONOTONIC: setting the host's date does not move them.
func watchWall(ctx context.Context, limit time.Duration, e *ender) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-timer.C:
		e.end(causeWall)
	case <-ctx.Done():
	}
}

// memoryLook is how often a tree without a cgroup is asked for its memory. At a
// few GB per second, which is what touching memory takes, it can pass its limit by
// some tens of MB between two looks.
const memoryLook = 10 * time.Millisecond

// watchMemory ends the run when its tree holds more memory than the limit. It is
// what is left where no cgroup can hold it, and the report calls it degraded.
func watchMemory(ctx context.Context, limit int64, used func() (int64, error), e *ender) {
	ticker := time.NewTicker(memoryLook)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if have, err := used(); err == nil && have > limit {
			e.end(causeMemory)
			return
		}
	}
}

// What it means to be near the limit of memory, and how often such a tree is looked
// at: a program that lives there must not pay for it.
const (
	nearLeast = 8 << 20 // bytes below the limit
	nearMost  = 64 << 20
	nearLook  = 5 * time.Millisecond
	fast      = 4 << 30 // bytes that a tree touches in a second, if it does nothing else
)

// nearTo is how much memory is near to a limit: the last sixteenth, within bounds.
func nearTo(limit int64) int64 { return limit - min(max(limit/16, nearLeast), nearMost, limit/2) }

// untilNear is when a tree that grew by so much since the last look, which took so
// long, could be near: if it is as fast as they are, or twice as fast as it was.
func untilNear(left, grown int64, took time.Duration) time.Duration {
	speed := float64(fast)
	if took > 0 {
		speed = max(speed, 2*float64(grown)/took.Seconds())
	}
	return min(max(time.Duration(float64(left)/speed*float64(time.Second)), time.Millisecond), lastLook)
}

// watchNear calls near for a tree that comes close to its limit of memory, and now
// and then while it stays there: whom the kernel kills nobody can ask any more.
func watchNear(ctx context.Context, limit int64, used func() (int64, error), near func(have int64)) {
	at := nearTo(limit)
	timer := time.NewTimer(untilNear(at, 0, 0))
	defer timer.Stop()
	every, last, before := nearLook, time.Now(), int64(0)
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		have, err := used()
		now := time.Now()
		switch {
		case err != nil:
			return
		case have < at:
			every = nearLook
			timer.Reset(untilNear(at-have, have-before, now.Sub(last)))
		default:
			near(have)
			timer.Reset(every)
			every = min(2*every, lastLook)
		}
		last, before = now, have
	}
}

// watchCPU ends the run when its whole tree has used up its CPU time. It looks
// again when the limit could be reached at the earliest, with every processor
// busy: a run that sleeps costs a few looks in all.
func watchCPU(ctx context.Context, limit time.Duration, used func() (time.Duration, error), e *ender) {
	cpus := time.Duration(max(1, runtime.NumCPU()))
	timer := time.NewTimer(limit / cpus)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		have, err := used()
		if err != nil {
			return // RLIMIT_CPU is left
		}
		if have >= limit {
			e.end(causeCPU)
			return
		}
		timer.Reset(max((limit-have)/cpus, 2*time.Millisecond))
	}
}
