package sandbox

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// killed is a run that notes what it was ended for.
type killed struct{ causes []cause }

func (k *killed) ender() *ender {
	return &ender{kill: func(c cause) { k.causes = append(k.causes, c) }}
}

func (k *killed) want(t *testing.T, want ...cause) {
	t.Helper()
	if !slices.Equal(k.causes, want) {
		t.Errorf("the run was killed for %q, want %q", k.causes, want)
	}
}

func TestEnderLetsTheFirstCauseStand(t *testing.T) {
	var run killed
	e := run.ender()
	e.end(causeMemory)
	e.end(causeWall)
	e.end(causeMemory)
	run.want(t, causeMemory)
	if got := e.close(); got != causeMemory {
		t.Errorf("the run ended for %q, want %q", got, causeMemory)
	}
}

func TestEnderTouchesNoRunThatIsOver(t *testing.T) {
	var run killed
	e := run.ender()
	if got := e.close(); got != causeNone {
		t.Errorf("a run that ended by itself is said to have ended for %q", got)
	}
	e.end(causeInterrupted)
	run.want(t)
	if got := e.close(); got != causeNone {
		t.Errorf("a cause came after the end: %q", got)
	}
}

func TestEndersAtTheSameTimeKillOnce(t *testing.T) {
	causes := []cause{causeWall, causeCPU, causeMemory, causeOutput, causeInterrupted, causeSupervisor, causeStart}
	for range 100 {
		var run killed
		e := run.ender()
		start := make(chan struct{})
		var all sync.WaitGroup
		for _, c := range causes {
			all.Go(func() { <-start; e.end(c) })
		}
		var reported cause
		all.Go(func() { <-start; reported = e.close() })
		close(start)
		all.Wait()
		switch {
		case reported == causeNone && len(run.causes) == 0: // it was over before the first
		case len(run.causes) != 1 || run.causes[0] != reported:
			t.Fatalf("killed for %q, reported %q", run.causes, reported)
		}
	}
}

// follow lets a clock run until it is over, or the run is.
func follow(ctx context.Context) func(first time.Duration, t tick) {
	return func(first time.Duration, t tick) {
		var c clocks
		ended := make(chan struct{})
		c.start(first, func() time.Duration {
			next := t()
			if next < 0 {
				close(ended)
			}
			return next
		})
		select {
		case <-ended:
		case <-ctx.Done():
		}
		c.stop()
		c.wait()
	}
}

func TestClocksThatAreStoppedTickNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clocks
		ticks := 0
		c.start(time.Second, func() time.Duration { ticks++; return time.Second })
		c.start(time.Hour, func() time.Duration { t.Error("a clock of an hour ticked"); return over })
		time.Sleep(3*time.Second + 1)
		c.stop()
		c.wait()
		time.Sleep(2 * time.Hour)
		if ticks != 3 {
			t.Errorf("%d ticks, want 3", ticks)
		}
		c.start(0, func() time.Duration { t.Error("a clock began after the end"); return over })
		synctest.Wait()
		c.stop()
		c.wait()
	})
}

// TestWaitWaitsForATickThatHadBegun, which then is not due again.
func TestWaitWaitsForATickThatHadBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clocks
		ticks := 0
		c.start(0, func() time.Duration {
			time.Sleep(time.Second)
			ticks++
			return 0
		})
		synctest.Wait()
		start := time.Now()
		c.stop()
		c.wait()
		if took := time.Since(start); ticks != 1 || took != time.Second {
			t.Errorf("%d ticks, waited %s; want one, which takes a second", ticks, took)
		}
		time.Sleep(time.Hour)
		if ticks != 1 {
			t.Errorf("%d ticks in the end", ticks)
		}
	})
}

func TestWallClockEndsTheRunAtItsLimit(t *testing.T) {
	for _, limit := range []time.Duration{-time.Second, 0, 1, time.Millisecond, 10 * time.Second, 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var run killed
			start := time.Now()
			follow(t.Context())(wallClock(limit, run.ender()))
			run.want(t, causeWall)
			if took, want := time.Since(start), max(limit, 0); took != want {
				t.Errorf("a limit of %s was up after %s", limit, took)
			}
		})
	}
}

func TestWallClockEndsWithTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second-1)
		defer cancel()
		var run killed
		start := time.Now()
		follow(ctx)(wallClock(time.Second, run.ender()))
		run.want(t)
		if took := time.Since(start); took != time.Second-1 {
			t.Errorf("it ended after %s", took)
		}
	})
}

// TestMemoryClockEndsTheRunAtTheLookThatFindsTooMuch: exactly the limit is
// allowed, and an account that cannot be read now may be read at the next look.
func TestMemoryClockEndsTheRunAtTheLookThatFindsTooMuch(t *testing.T) {
	unreadable := errors.New("no account")
	tests := []struct {
		name  string
		looks []int64 // -1 cannot be read
		at    int     // the look that finds too much, from 1
	}{
		{"at once", []int64{101}, 1},
		{"exactly the limit is not too much", []int64{100, 100, 101}, 3},
		{"below, above", []int64{0, 50, 99, 1 << 40}, 4},
		{"an account that is missing for a while", []int64{50, -1, -1, 101}, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var run killed
				looks := 0
				used := func() (int64, error) {
					have := tt.looks[looks]
					looks++
					if have < 0 {
						return 1 << 40, unreadable
					}
					return have, nil
				}
				start := time.Now()
				follow(t.Context())(memoryClock(100, used, run.ender()))
				run.want(t, causeMemory)
				if took, want := time.Since(start), time.Duration(tt.at)*memoryLook; looks != tt.at || took != want {
					t.Errorf("ended after %d looks and %s, want %d and %s", looks, took, tt.at, want)
				}
			})
		})
	}
}

func TestMemoryClockEndsWithTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*memoryLook+1)
		defer cancel()
		var run killed
		looks := 0
		follow(ctx)(memoryClock(100, func() (int64, error) { looks++; return 100, nil }, run.ender()))
		run.want(t)
		if looks != 3 {
			t.Errorf("looked %d times, want 3", looks)
		}
	})
}

// TestNearClock: a tree is seen near its limit however fast it comes there, again
// while it stays, and one that is far from it is hardly looked at.
func TestNearClock(t *testing.T) {
	const mib, limit = 1 << 20, 256 << 20
	for _, tt := range []struct {
		name  string
		have  func(time.Duration) int64
		ends  time.Duration
		near  int // times that it was seen there, at least
		looks int // at most
	}{
		{"far from it", func(time.Duration) int64 { return 10 * mib }, time.Second, 0, 20},
		{"half of it", func(time.Duration) int64 { return limit / 2 }, time.Second, 0, 40},
		{"growing slowly", func(d time.Duration) int64 { return int64(d) * 250 / int64(time.Second) * mib }, time.Second, 1, 100},
		{"growing fast", func(d time.Duration) int64 { return int64(d) * 4 }, 64 * time.Millisecond, 1, 30},
		{"idle, then growing fast", func(d time.Duration) int64 { return max(0, int64(d-time.Second)) * 2 }, time.Second + 128*time.Millisecond, 1, 60},
		{"staying there", func(time.Duration) int64 { return limit - 1 }, time.Second, 10, 20},
		{"to and fro", func(d time.Duration) int64 {
			if d/(200*time.Millisecond)%2 == 0 {
				return 10 * mib
			}
			return limit - mib
		}, time.Second, 4, 40},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.ends)
				defer cancel()
				start := time.Now()
				near, looks := 0, 0
				used := func() (int64, error) { looks++; return tt.have(time.Since(start)), nil }
				follow(ctx)(nearClock(limit, used, func(have int64) {
					near++
					if have < nearTo(limit) {
						t.Errorf("%d is near to %d", have, limit)
					}
				}))
				if near < tt.near || tt.near == 0 && near > 0 || looks > tt.looks {
					t.Errorf("seen near %d times in %d looks, want %d in at most %d", near, looks, tt.near, tt.looks)
				}
			})
		})
	}
	follow(t.Context())(nearClock(limit, func() (int64, error) { return limit, errors.New("no account") }, func(int64) { t.Error("near by an account that cannot be read") }))
}

func TestNearTo(t *testing.T) {
	for limit, want := range map[int64]int64{1 << 20: 1 << 19, 16 << 20: 8 << 20, 64 << 20: 56 << 20, 256 << 20: 240 << 20, 4 << 30: 4<<30 - 64<<20, 1 << 60: 1<<60 - 64<<20} {
		if got := nearTo(limit); got != want {
			t.Errorf("near to %d is %d, want %d", limit, got, want)
		}
	}
}

// TestCPUClockEndsTheRunWhenItsTimeIsUsedUp, whatever share of the machine it
// keeps busy: never before, and not much later.
func TestCPUClockEndsTheRunWhenItsTimeIsUsedUp(t *testing.T) {
	const limit = 10 * time.Second
	cpus := runtime.NumCPU()
	shares := []float64{0.01, 0.5, 1}
	for n := 2; n <= cpus; n *= 2 {
		shares = append(shares, float64(n))
	}
	shares = append(shares, float64(cpus))
	for _, busy := range shares {
		synctest.Test(t, func(t *testing.T) {
			var run killed
			looks := 0
			start := time.Now()
			used := func() (time.Duration, error) {
				looks++
				return time.Duration(busy * float64(time.Since(start))), nil
			}
			follow(t.Context())(cpuClock(limit, used, run.ender()))
			run.want(t, causeCPU)
			due := time.Duration(float64(limit) / busy)
			if late := time.Since(start) - due; late < -time.Microsecond || late > 2*time.Millisecond {
				t.Errorf("%g of %d processors busy: ended %s after its time was used up", busy, cpus, late)
			}
			if busy == float64(cpus) && looks > 2 {
				t.Errorf("all %d processors busy: looked %d times where the first look was due", cpus, looks)
			}
			if looks > 20000 {
				t.Errorf("%g of %d processors busy: looked %d times", busy, cpus, looks)
			}
		})
	}
}

func TestCPUClockLooksSeldomAtARunThatSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = time.Second
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var run killed
		looks := 0
		follow(ctx)(cpuClock(limit, func() (time.Duration, error) { looks++; return 0, nil }, run.ender()))
		run.want(t)
		if most := runtime.NumCPU() * int(time.Hour/limit); looks > most {
			t.Errorf("looked %d times in an hour, want at most %d", looks, most)
		}
	})
}

func TestCPUClockIsOverWhenTheAccountIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var run killed
		looks := 0
		start := time.Now()
		follow(t.Context())(cpuClock(time.Second, func() (time.Duration, error) {
			looks++
			return time.Hour, errors.New("no account")
		}, run.ender()))
		run.want(t)
		if want := time.Second / time.Duration(runtime.NumCPU()); looks != 1 || time.Since(start) != want {
			t.Errorf("%d looks in %s, want one after %s", looks, time.Since(start), want)
		}
	})
}

func TestCPUClockEndsWithTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var run killed
		follow(ctx)(cpuClock(time.Second, func() (time.Duration, error) {
			t.Error("a run that is over is looked at")
			return 0, nil
		}, run.ender()))
		run.want(t)
	})
}
