package sandbox

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sbxproject/sbx/pkg/profile"
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
				letGo := make(chan struct{})
				x.streams.Go(func() {
					select {
					case <-time.After(tt.reader):
					case <-letGo:
					}
				})
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
				close(letGo)
			})
		})
	}
}
