package sandbox

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/cgroup"
	"github.com/sbxproject/sbx/pkg/jail"
	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/report"
)

// TestDeliver: how long a reader may take, counted from when Python started.
func TestDeliver(t *testing.T) {
	const wall = 30 * time.Second
	tests := []struct {
		name      string
		cause     cause
		ran       time.Duration // before the end
		reader    time.Duration // until the reader has everything
		interrupt time.Duration // until a signal comes; 0 is never
		waits     time.Duration
		given     bool
	}{
		{"a quick reader", causeNone, time.Second, time.Millisecond, 0, time.Millisecond, true},
		{"one that takes what was left of the time", causeNone, time.Second, 28 * time.Second, 0, 28 * time.Second, true},
		{"one that takes longer", causeNone, time.Second, time.Hour, 0, 29 * time.Second, false},
		{"little time left", causeNone, wall - time.Second, time.Hour, 0, streamGrace, false},
		{"the time is up", causeWall, wall, time.Hour, 0, streamGrace, false},
		{"sbx ended it early", causeMemory, time.Second, time.Hour, 0, streamGrace, false},
		{"a further signal", causeNone, time.Second, time.Hour, 5 * time.Second, 5 * time.Second, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := openedPipes(t, false)
			synctest.Test(t, func(t *testing.T) {
				x := &execution{out: &stream{}, err: &stream{}, pipes: p, execAt: time.Now()}
				x.spec.Profile.Limits = profile.Limits{Wall: wall}
				time.Sleep(tt.ran)
				x.drained = make(chan struct{})
				defer time.AfterFunc(tt.reader, func() { close(x.drained) }).Stop()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.interrupt > 0 {
					time.AfterFunc(tt.interrupt, cancel)
				}
				start := time.Now()
				x.deliver(ctx, tt.cause)
				if waited := time.Since(start); waited != tt.waits {
					t.Errorf("it waited %s, want %s", waited, tt.waits)
				}
				if got := !x.out.result().Truncated; got != tt.given {
					t.Errorf("the reader got everything: %v, want %v", got, tt.given)
				}
			})
		})
	}
}

// TestAGroupWithoutItsProcessIsAbsent: its numbers are right, and hold nobody.
func TestAGroupWithoutItsProcessIsAbsent(t *testing.T) {
	g, err := cgroup.Open(cgroup.Name(), cgroup.Limits{Memory: 64 << 20, PIDs: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	x := &execution{group: g, layers: &layers{seen: map[string]report.Layer{}}}
	for _, name := range []string{"cgroup.memory", "cgroup.pids"} {
		x.layers.active(name, "its files say so")
	}
	x.observeGroups(os.Getpid())
	for _, name := range []string{"cgroup.memory", "cgroup.pids"} {
		if l := x.layers.seen[name]; l.State != report.LayerAbsent || !strings.Contains(l.Why, "not in "+g.Name()) {
			t.Errorf("%s: %+v, want it absent and why", name, l)
		}
	}
}

// TestLimitsAreReadFromTheProcess, and one that is higher than asked for is none.
func TestLimitsAreReadFromTheProcess(t *testing.T) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		want  jail.Rlimit
		state report.LayerState
	}{
		"as asked for":  {jail.Rlimit{Name: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE, Soft: own.Cur, Hard: own.Max}, report.LayerActive},
		"lower":         {jail.Rlimit{Name: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE, Soft: own.Cur + 1, Hard: own.Max + 1}, report.LayerActive},
		"higher":        {jail.Rlimit{Name: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE, Soft: own.Cur - 1, Hard: own.Max}, report.LayerAbsent},
		"can be raised": {jail.Rlimit{Name: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE, Soft: own.Cur, Hard: own.Max - 1}, report.LayerAbsent},
		"no such limit": {jail.Rlimit{Name: "RLIMIT_999", Resource: 999}, report.LayerAbsent},
	} {
		x := &execution{layers: &layers{seen: map[string]report.Layer{}}, rlimits: []jail.Rlimit{tt.want}}
		x.observeLimits(os.Getpid())
		if l := x.layers.seen["rlimits"]; l.State != tt.state || l.Observed+l.Why == "" {
			t.Errorf("%s: %+v, want %s", name, l, tt.state)
		}
	}
}
