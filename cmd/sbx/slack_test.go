package main

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/report"
)

// TestTimerSlack: that of sbx, and of all its threads, is large; the script has what
// any process has.
func TestTimerSlack(t *testing.T) {
	if slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || slack != 1e6 {
		t.Errorf("sbx has a timer slack of %d ns, %v", slack, err)
	}
	o := runScript(t, "print(open('/proc/self/timerslack_ns').read())", "--profile", "strict", "--hooks", "observe")
	o.wantVerdict(t, report.OK, 0)
	if o.stdout != "50000\n\n" {
		t.Errorf("the script has a timer slack of %q ns, want 50000", o.stdout)
	}
}
