package supervisor

import (
	"slices"
	"testing"

	"github.com/sbxproject/sbx/pkg/event"
)

// TestClaims: announcements of which the kernel should have heard, and did not.
func TestClaims(t *testing.T) {
	everything := func(string) bool { return true }
	for _, tt := range []struct {
		name string
		asks func(call string) bool
		do   func(n *notes)
		want []string
	}{
		{"the call came", everything, func(n *notes) {
			n.announce(said(8, "os.remove"))
			n.explain("unlink", caller)
			n.announce(said(8, "import"))
		}, nil},
		{"no call came", everything, func(n *notes) { n.announce(said(8, "os.remove")); n.announce(said(8, "import")) }, []string{"os.remove"}},
		{"another call came", everything, func(n *notes) {
			n.announce(said(8, "os.remove"))
			n.explain("mkdir", caller)
			n.announce(said(8, "os.remove"))
			n.explain("unlinkat", caller)
			n.announce(said(8, "import"))
		}, []string{"os.remove"}},
		{"it may yet come", everything, func(n *notes) { n.announce(said(8, "os.remove")) }, nil},
		{"the end came first", everything, func(n *notes) { n.announce(said(8, "os.remove")); n.flush() }, nil},
		{"the hook refused it", everything, func(n *notes) {
			n.announce(event.Event{Op: "os.remove", TID: 8, Verdict: event.Denied})
			n.announce(said(8, "import"))
		}, nil},
		{"it can fail before its call", everything, func(n *notes) { n.announce(said(8, "open")); n.announce(said(8, "import")) }, nil},
		{"some such calls are allowed unseen", func(call string) bool { return call != "unlinkat" }, func(n *notes) {
			n.announce(said(8, "os.remove"))
			n.announce(said(8, "import"))
		}, nil},
		{"nobody knows what is asked", nil, func(n *notes) { n.announce(said(8, "os.remove")); n.announce(said(8, "import")) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNotes()
			n.asks = tt.asks
			var got []string
			n.claimed = func(e event.Event, seq uint64) {
				got = append(got, e.Op)
				if seq == 0 || n.events[seq-1].Op != e.Op {
					t.Errorf("%s is said to be activity %d", e.Op, seq)
				}
			}
			tt.do(n)
			if !slices.Equal(got, tt.want) {
				t.Errorf("claims %q, want %q", got, tt.want)
			}
		})
	}
}

// TestEveryDirectAnnouncementHasACall that it announces.
func TestEveryDirectAnnouncementHasACall(t *testing.T) {
	for op := range direct {
		if len(announces()[op]) == 0 || lasting[op] {
			t.Errorf("%s announces %q", op, announces()[op])
		}
	}
}
