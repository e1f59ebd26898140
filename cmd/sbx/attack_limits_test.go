package main

import (
	"testing"

	"github.com/sbxproject/sbx/pkg/report"
)

// TestAttackEndlessRuns: neither ignored signals, nor a call that never returns
// to the interpreter, nor children keep a run beyond its clocks.
func TestAttackEndlessRuns(t *testing.T) {
	stubborn := ignoreSignals + `
import os, threading
threading.Thread(target=lambda: time.sleep(1e6)).start()
`
	clocks := []struct {
		name, code string
		flags      []string
		want       report.Verdict
	}{
		{"asleep", stubborn + "time.sleep(1e6)", []string{"--timeout", "1"}, report.WallTimeLimit},
		{"one call of C", stubborn + "sum(iter(int, 1))", []string{"--timeout", "1"}, report.WallTimeLimit},
		{"one call of C, by its processor time", stubborn + "sum(iter(int, 1))", []string{"--cpu-time", "0.5"}, report.CPUTimeLimit},
	}
	for _, c := range clocks {
		for _, mode := range attackModes {
			t.Run(c.name+" "+mode, func(t *testing.T) {
				t.Parallel()
				flags := append([]string{"--profile", "strict", "--hooks", mode, "--timeout", "20", "--cpu-time", "15"}, c.flags...)
				o := runScript(t, c.code, flags...)
				o.wantVerdict(t, c.want, 124)
				if u := o.report.Usage; u.WallSeconds > 15 {
					t.Errorf("it ran for %.1f s", u.WallSeconds)
				}
			})
		}
	}
}
