package supervisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

// fakeMemory is an address space of single pages. Like process_vm_readv(2) it
// reads up to the first page that is not there.
type fakeMemory struct {
	pages map[uint64]*[pageSize]byte
	asked int // bytes asked for in all
	calls int
}

func newFakeMemory() *fakeMemory { return &fakeMemory{pages: map[uint64]*[pageSize]byte{}} }

func (m *fakeMemory) readAt(_ int, p []byte, addr uint64) (int, error) {
	m.calls++
	m.asked += len(p)
	n := 0
	for n < len(p) {
		at := addr + uint64(n)
		page, ok := m.pages[at/pageSize]
		if !ok {
			break
		}
		n += copy(p[n:], page[at%pageSize:])
	}
	if n == 0 && len(p) > 0 {
		return -1, unix.EFAULT
	}
	return n, nil
}

// put maps what b needs and writes it.
func (m *fakeMemory) put(addr uint64, b []byte) {
	for i, c := range b {
		at := addr + uint64(i)
		if m.pages[at/pageSize] == nil {
			m.pages[at/pageSize] = new([pageSize]byte)
		}
		m.pages[at/pageSize][at%pageSize] = c
	}
}

// putVector writes addresses one after the other.
func (m *fakeMemory) putVector(addr uint64, list ...uint64) {
	for i, v := range list {
		m.put(addr+8*uint64(i), binary.LittleEndian.AppendUint64(nil, v))
	}
}

// fakeView is a target that stands somewhere and has some descriptors.
type fakeView struct {
	dir string
	fds map[int]string
}

var errNoLink = errors.New("no such link")

func (v fakeView) cwd(int) (string, error) {
	if v.dir == "" {
		return "", errNoLink
	}
	return v.dir, nil
}

func (v fakeView) fd(_, fd int) (string, error) {
	if name, ok := v.fds[fd]; ok {
		return name, nil
	}
	return "", errNoLink
}

// fakeChannel keeps the answers.
type fakeChannel struct {
	answers []response
	gone    bool  // callers do not wait for their answers
	lost    error // what send returns
}

func (c *fakeChannel) receive() (notification, error) { return notification{}, unix.ENOENT }
func (c *fakeChannel) valid(uint64) bool              { return !c.gone }
func (c *fakeChannel) send(r response) error {
	c.answers = append(c.answers, r)
	return c.lost
}

func (c *fakeChannel) last(t *testing.T) response {
	t.Helper()
	if len(c.answers) == 0 {
		t.Fatal("the call was not answered")
	}
	return c.answers[len(c.answers)-1]
}

// verdictOf says in a word what an answer does to the caller.
func verdictOf(r response) string {
	switch {
	case r.Flags == flagContinue && r.Error == 0 && r.Val == 0:
		return "continue"
	case r.Flags == 0 && r.Error < 0 && r.Val == 0:
		return unix.ErrnoName(unix.Errno(-r.Error))
	}
	return fmt.Sprintf("impossible answer %+v", r)
}

func policy(t testing.TB, groups ...string) *seccomp.Policy {
	t.Helper()
	p, err := seccomp.Resolve(profile.Seccomp{Groups: groups}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unit is a supervisor after Python's start, between fakes.
type unit struct {
	*Supervisor
	channel  *fakeChannel
	memory   *fakeMemory
	recorder *event.Recorder
}

// The caller of a unit's calls. Its numbers are those of no process here.
const (
	callerTID = 1 << 30
	callerPID = 7 // in the jail
)

func newUnit(t *testing.T, groups ...string) *unit {
	t.Helper()
	r := event.NewRecorder(1000)
	s := &Supervisor{
		o:       Options{Policy: policy(t, groups...), Recorder: r, Writable: []string{"/work"}},
		view:    procView{t.TempDir()},
		tasks:   tasks{root: t.TempDir(), known: map[int]task{}},
		refused: map[int]uint64{}, hookFD: -1, started: true,
	}
	u := &unit{s, &fakeChannel{}, newFakeMemory(), r}
	s.listener, s.memory = u.channel, u.memory
	s.join = newJoiner(r.Record)
	writeStatus(t, s.tasks.root, callerTID, callerTID, 1, callerPID, callerPID)
	return u
}

// call lets the caller make a call and returns what it is answered.
func (u *unit) call(t *testing.T, nr int, args ...uint64) string {
	t.Helper()
	n := notification{ID: 1, TID: callerTID, NR: int32(nr)}
	copy(n.Args[:], args)
	u.answer(n)
	return verdictOf(u.channel.last(t))
}

// policyOf guards the named calls and refuses the rest.
func policyOf(t testing.TB, guarded ...string) *seccomp.Policy {
	t.Helper()
	p, err := seccomp.Resolve(profile.Seccomp{Rules: []profile.Rule{{Names: guarded, Action: seccomp.ActionGuard}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
