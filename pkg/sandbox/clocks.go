package sandbox

import (
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

// A tick is what a clock does when it is due. It returns after what time it is due
// again, or over.
type tick func() (next time.Duration)

// over says that a clock is not due again.
const over time.Duration = -1

// clocks are what looks at a run from outside, and can end it. They are timers
// without goroutines of their own, each of which a short run would have to start, and
// to wait for at its end, for nothing.
type clocks struct {
	mu      sync.Mutex
	stopped bool
	timers  []*time.Timer
	ticking sync.WaitGroup
}

// start makes a clock that is due after first.
func (c *clocks) start(first time.Duration, t tick) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var timer *time.Timer
	timer = time.AfterFunc(first, func() {
		if !c.begin() {
			return
		}
		defer c.ticking.Done()
		if next := t(); next >= 0 {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.stopped {
				timer.Reset(next)
			}
		}
	})
	c.timers = append(c.timers, timer)
}

func (c *clocks) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.ticking.Add(1)
	}
	return !c.stopped
}

// stop lets no tick begin any more.
func (c *clocks) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	for _, timer := range c.timers {
		timer.Stop()
	}
}

// wait waits, after stop, for the ticks that had begun.
func (c *clocks) wait() { c.ticking.Wait() }

// wallClock ends the run when its wall-clock time is up. The runtime's timers
// follow CLOCK_MONOTONIC: setting the host's date does not move them.
func wallClock(limit time.Duration, e *ender) (first time.Duration, t tick) {
	return limit, func() time.Duration {
		e.end(causeWall)
		return over
	}
}

// memoryLook is how often a tree without a cgroup is asked for its memory. At a
// few GB per second, which is what touching memory takes, it can pass its limit by
// some tens of MB between two looks.
const memoryLook = 10 * time.Millisecond

// memoryClock ends the run when its tree holds more memory than the limit. It is
// what is left where no cgroup can hold it, and the report calls it degraded.
func memoryClock(limit int64, used func() (int64, error), e *ender) (first time.Duration, t tick) {
	return memoryLook, func() time.Duration {
		if have, err := used(); err == nil && have > limit {
			e.end(causeMemory)
			return over
		}
		return memoryLook
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

// nearClock calls near for a tree that comes close to its limit of memory, and now
// and then while it stays there: whom the kernel kills nobody can ask any more.
func nearClock(limit int64, used func() (int64, error), near func(have int64)) (first time.Duration, t tick) {
	at := nearTo(limit)
	every, last, before := nearLook, time.Now(), int64(0)
	return untilNear(at, 0, 0), func() (next time.Duration) {
		have, err := used()
		now := time.Now()
		switch {
		case err != nil:
			return over
		case have < at:
			every = nearLook
			next = untilNear(at-have, have-before, now.Sub(last))
		default:
			near(have)
			next = every
			every = min(2*every, lastLook)
		}
		last, before = now, have
		return next
	}
}

// cpuClock ends the run when its whole tree has used up its CPU time. It looks
// again when the limit could be reached at the earliest, with every processor
// busy: a run that sleeps costs a few looks in all.
func cpuClock(limit time.Duration, used func() (time.Duration, error), e *ender) (first time.Duration, t tick) {
	cpus := time.Duration(max(1, runtime.NumCPU()))
	return limit / cpus, func() time.Duration {
		have, err := used()
		if err != nil {
			return over // RLIMIT_CPU is left
		}
		if have >= limit {
			e.end(causeCPU)
			return over
		}
		return max((limit-have)/cpus, 2*time.Millisecond)
	}
}
