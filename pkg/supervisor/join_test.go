package supervisor

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/pyhook"
)

// notes gathers what a joiner records.
type notes struct {
	*joiner
	events []event.Event
}

func newNotes() *notes {
	n := &notes{}
	n.joiner = newJoiner(func(e event.Event) uint64 {
		n.events = append(n.events, e)
		return uint64(len(n.events))
	})
	return n
}

// ops are the recorded operations with how often each happened.
func (n *notes) ops() []string {
	var out []string
	for _, e := range n.events {
		out = append(out, fmt.Sprintf("%s*%d", e.Op, max(e.Count, 1)))
	}
	return out
}

func said(tid int, op string) event.Event {
	return event.Event{
		Layer: event.Python, Op: op, PID: callerPID, TID: tid, Verdict: event.Allowed,
		Location: &event.Location{File: "a.py", Line: tid, Claimed: true},
	}
}

var caller = task{tgid: 900, nstid: 8, nspid: callerPID, parent: 1}

func TestExplain(t *testing.T) {
	child := task{tgid: 901, nstid: 20, nspid: 20, parent: callerPID}
	for _, c := range []struct {
		name string
		said []event.Event
		op   string
		who  task
		want string // the event that explains it, "" for none
		left []string
	}{
		{name: "an announced call", said: []event.Event{said(8, "open")}, op: "openat", who: caller, want: "open"},
		{name: "nothing was announced", op: "openat", who: caller},
		{name: "another kind of call", said: []event.Event{said(8, "open")}, op: "socket", who: caller, left: []string{"open*1"}},
		{name: "another thread of the process", said: []event.Event{said(9, "open")}, op: "openat", who: caller, left: []string{"open*1"}},
		{name: "a caller that nobody knows", said: []event.Event{said(0, "open")}, op: "openat", who: task{}, left: []string{"open*1"}},
		{
			name: "what was announced before the last event is over", said: []event.Event{said(8, "open"), said(8, "ctypes.dlsym")},
			op: "openat", who: caller, left: []string{"open*1", "ctypes.dlsym*1"},
		},
		{
			name: "the newest of two announcements", said: []event.Event{said(8, "open"), said(8, "os.mkdir")},
			op: "mkdir", who: caller, want: "os.mkdir", left: []string{"open*1"},
		},
		{
			name: "what the hook refused has no call", said: []event.Event{{Op: "open", TID: 8, Verdict: event.Denied}},
			op: "openat", who: caller, left: []string{"open*1"},
		},
		{
			name: "execve of a vforked child", said: []event.Event{said(8, "subprocess.Popen")},
			op: "execve", who: child, want: "subprocess.Popen",
		},
		{
			name: "another call of a child is its own", said: []event.Event{said(8, "socket.__new__")},
			op: "socket", who: child, left: []string{"socket.__new__*1"},
		},
		{
			name: "the vfork of a child is its own", said: []event.Event{said(8, "subprocess.Popen")},
			op: "vfork", who: child, left: []string{"subprocess.Popen*1"},
		},
		{
			name: "execve of a child of another", said: []event.Event{said(8, "subprocess.Popen")},
			op: "execve", who: task{nstid: 20, nspid: 20, parent: 6}, left: []string{"subprocess.Popen*1"},
		},
		{
			name: "of two threads that start a program, the one that said so last",
			said: []event.Event{said(8, "os.system"), said(9, "subprocess.Popen"), said(10, "open")},
			op:   "execve", who: child, want: "subprocess.Popen", left: []string{"os.system*1", "open*1"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNotes()
			for _, e := range c.said {
				n.announce(e)
			}
			got, ok := n.explain(c.op, c.who)
			if ok != (c.want != "") || got.Op != c.want {
				t.Errorf("explained by %q, want %q", got.Op, c.want)
			}
			n.flush()
			if !slices.Equal(n.ops(), c.left) {
				t.Errorf("recorded on their own: %q, want %q", n.ops(), c.left)
			}
		})
	}
}

func TestAnnouncementExplainsOneCall(t *testing.T) {
	n := newNotes()
	n.announce(said(8, "open"))
	if _, ok := n.explain("openat", caller); !ok {
		t.Fatal("the first call is not explained")
	}
	if e, ok := n.explain("openat", caller); ok {
		t.Errorf("a second call is explained by %+v", e)
	}
}

func TestLastingAnnouncementExplainsCallsUntilTheThreadSpeaksAgain(t *testing.T) {
	n := newNotes()
	n.announce(said(8, "socket.getaddrinfo"))
	for _, op := range []string{"socket", "connect", "socket", "sendto"} {
		if _, ok := n.explain(op, caller); !ok {
			t.Errorf("%s of a look-up is not explained", op)
		}
	}
	n.announce(said(9, "import"))
	if _, ok := n.explain("socket", caller); !ok {
		t.Error("another thread ended the look-up")
	}
	n.announce(said(8, "ctypes.dlsym"))
	if _, ok := n.explain("socket", caller); ok {
		t.Error("a call after the look-up is explained by it")
	}
	if want := []string{"import*1", "ctypes.dlsym*1"}; !slices.Equal(n.ops(), want) {
		t.Errorf("recorded %q, want %q: the look-up itself is the calls", n.ops(), want)
	}
}

func TestEventsWithoutACallAreRecordedAtOnceAndInOrder(t *testing.T) {
	n := newNotes()
	n.announce(said(8, "import"))
	if want := []string{"import*1"}; !slices.Equal(n.ops(), want) {
		t.Errorf("recorded %q, want %q", n.ops(), want)
	}
	for tid := range 20 {
		n.announce(event.Event{Op: "open", TID: tid + 100, Target: fmt.Sprint(tid)})
	}
	n.flush()
	for i, e := range n.events[1:] {
		if e.Target != fmt.Sprint(i) {
			t.Errorf("event %d is %s", i, e.Target)
		}
	}
}

func TestFloodOfMadeUpThreadsAndProcessesIsBounded(t *testing.T) {
	const flood = 20_000
	n := newNotes()
	recorded := 0
	n.record = func(event.Event) uint64 { recorded++; return 1 }
	for i := range flood {
		n.announce(event.Event{Op: "open", PID: i, TID: i + 1, Verdict: event.Allowed})
		n.replaced(i)
		n.unmatched("openat", task{nstid: i, nspid: i})
	}
	if len(n.byTID) > maxTIDs || len(n.said) > maxCounters || len(n.missed) > maxCounters || len(n.programs) > maxPrograms {
		t.Errorf("kept %d threads, %d and %d counters, %d programs", len(n.byTID), len(n.said), len(n.missed), len(n.programs))
	}
	n.flush()
	if recorded != flood {
		t.Errorf("%d events were recorded, want %d", recorded, flood)
	}
	if n.complete("openat", caller) {
		t.Error("what is missing from a table that was full is taken for silence")
	}
}

func TestCountsStayExactWhenTheHookOnlyCounts(t *testing.T) {
	for _, c := range []struct {
		name  string
		calls int // of those that the hook only counted, how many the kernel notified
		end   bool
		want  []string
	}{
		{name: "all were notified", calls: 47, want: nil},
		{name: "none was notified", calls: 0, want: []string{"socket.__new__*47"}},
		{name: "some were notified", calls: 40, want: []string{"socket.__new__*7"}},
		{name: "more were notified", calls: 60, want: nil},
		{name: "at the end of the process, all were notified", calls: 48, end: true, want: nil},
		{name: "at the end of the process, none was notified", calls: 0, end: true, want: []string{"socket.__new__*48"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNotes()
			for range pyhook.FloodCap {
				n.announce(said(8, "socket.__new__"))
				if _, ok := n.explain("socket", caller); !ok {
					t.Fatal("an announced call is not explained")
				}
			}
			for range c.calls {
				if _, ok := n.explain("socket", caller); ok {
					t.Fatal("a call without an event is explained")
				}
				n.unmatched("socket", caller)
			}
			e := said(8, "socket.__new__")
			e.Count = 48
			if c.end {
				e.Detail = countedOnly
			}
			n.announce(e)
			if _, ok := n.explain("socket", caller); ok == c.end {
				t.Errorf("the call after the counted ones: explained %v", ok)
			}
			n.flush()
			if !slices.Equal(n.ops(), c.want) {
				t.Errorf("recorded %q, want %q", n.ops(), c.want)
			}
		})
	}
}

func TestCallsBeforeTheHookOnlyCountsAreNotSubtracted(t *testing.T) {
	n := newNotes()
	n.unmatched("socket", caller) // a raw call
	e := said(8, "socket.__new__")
	e.Count = 5
	n.announce(e)
	n.flush()
	if want := []string{"socket.__new__*4", "socket.__new__*1"}; !slices.Equal(n.ops(), want) {
		t.Errorf("recorded %q, want %q", n.ops(), want)
	}
}

func TestMadeUpCountsDoNotWrapAround(t *testing.T) {
	n := newNotes()
	for range 100 {
		e := said(8, "open")
		e.Count = 1 << 62
		n.announce(e)
		if !n.capped("openat", callerPID) {
			t.Fatal("the count wrapped around")
		}
	}
}

func TestComplete(t *testing.T) {
	child := task{nstid: 20, nspid: 20, parent: callerPID}
	for _, c := range []struct {
		name string
		do   func(n *notes)
		who  task
		want bool
	}{
		{"a process with the hook", func(*notes) {}, caller, true},
		{"a process that nobody knows", func(*notes) {}, task{nstid: 3}, false},
		{"it runs another program now", func(n *notes) { n.replaced(callerPID) }, caller, false},
		{"its parent does", func(n *notes) { n.replaced(callerPID) }, child, false},
		{"its child does", func(n *notes) { n.replaced(20) }, caller, true},
		{"the other program was not there, and the hook speaks", func(n *notes) { n.replaced(callerPID); n.announce(said(8, "import")) }, caller, true},
		{"a process that is not known ran a program", func(n *notes) { n.replaced(0) }, task{nstid: 3, nspid: 3}, true},
		{"more programs than can be remembered", func(n *notes) {
			for pid := range maxPrograms + 1 {
				n.replaced(pid + 1000)
			}
			n.replaced(999)
		}, caller, false},
		{"the hook only counts", func(n *notes) {
			for range pyhook.FloodCap {
				n.announce(said(8, "open"))
			}
		}, caller, false},
		{"the hook only counts other calls", func(n *notes) {
			for range pyhook.FloodCap {
				n.announce(said(8, "os.remove"))
			}
		}, caller, true},
		{"the hook only counts in another process", func(n *notes) {
			for range pyhook.FloodCap {
				n.announce(event.Event{Op: "open", PID: 99, TID: 99})
			}
		}, caller, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNotes()
			c.do(n)
			if got := n.complete("openat", c.who); got != c.want {
				t.Errorf("complete = %v, want %v", got, c.want)
			}
		})
	}
}

// Records of the hook, as pkg/pyhook's package comment draws them.

func marshalInt(n int) []byte { return binary.LittleEndian.AppendUint32([]byte{'i'}, uint32(n)) }

func marshalString(s string) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{'u'}, uint32(len(s))), s...)
}

func marshalTuple(items ...[]byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte{'('}, uint32(len(items))), slices.Concat(items...)...)
}

func record(items ...any) []byte {
	var values [][]byte
	for _, v := range items {
		switch v := v.(type) {
		case int:
			values = append(values, marshalInt(v))
		case string:
			values = append(values, marshalString(v))
		case []byte:
			values = append(values, v)
		}
	}
	payload := marshalTuple(values...)
	return append(binary.LittleEndian.AppendUint16([]byte("\xf5SBX"), uint16(len(payload))), payload...)
}

func startRecord(pid int) []byte { return record(1, pid, pid, 1, "3.11.2", "observe") }

func eventRecord(pid, tid int, op string, count int) []byte {
	return record(2, pid, tid, 1, op, 0, count, "target", "", "a.py", 3, "f")
}

func endRecord(pid int, op string, count int) []byte {
	return record(4, pid, pid, 1, 0, marshalTuple(marshalTuple(marshalString(op), marshalInt(0), marshalInt(count))))
}

// TestTotalsOfTheHookAreKnownByTheirDetail ties countedOnly to the decoder's
// own words.
func TestTotalsOfTheHookAreKnownByTheirDetail(t *testing.T) {
	var got []event.Event
	d := pyhook.NewDecoder(func(e event.Event) { got = append(got, e) })
	d.Feed(slices.Concat(startRecord(2), endRecord(2, "open", pyhook.FloodCap+5)))
	if len(got) != 1 || got[0].Detail != countedOnly || got[0].Count != 5 {
		t.Errorf("the decoder gave %+v, %+v", got, d.Stats())
	}
}

// hooked adds the hook's pipe to a unit and returns its write end.
func hooked(t *testing.T, u *unit) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	u.hookFD, u.chunk = int(r.Fd()), make([]byte, 64<<10)
	u.hook = pyhook.NewDecoder(func(e event.Event) {
		e.Time = time.Since(u.o.Start)
		u.join.announce(e)
	})
	return w
}
