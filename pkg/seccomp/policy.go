package seccomp

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

// Actions that only groups use, beside those of the profiles. In both the call
// is notified, and let through after the look if Decide says so.
const (
	// ActionObserve lets the call through, seen: the walls around the jail bound
	// what it can do, and the report shall show it.
	ActionObserve profile.Action = "observe"
	// ActionSelf lets a signal through to the caller's own process and refuses it
	// to any other. The first argument says which; who the caller is, only the
	// supervisor knows.
	ActionSelf profile.Action = "self"
	// ActionGuard lets the call through when it names a path that may be
	// written, and refuses it with EROFS otherwise. The read-only mounts are the
	// wall: a path that is swapped after the look meets them.
	ActionGuard profile.Action = "guard"
)

// clause is one resolved rule for one system call.
type clause struct {
	match  match
	action profile.Action
	errno  unix.Errno
}

// Policy is a resolved policy: values only, safe for concurrent use.
type Policy struct {
	calls  [len(table)][]clause // the first clause that holds decides
	pins   []int                // ascending
	traced [len(table)]bool     // allowed calls that are notified for the report
}

// DecisionAction is what the supervisor does with a notified call.
type DecisionAction uint8

// The decisions. The zero value refuses.
const (
	Deny     DecisionAction = iota // answer with Errno
	Continue                       // let it through: observed, which is no promise
	Self                           // let it through if the first argument is the caller's own process, else EPERM
	Guard                          // EROFS if the path is outside of the writable mounts, else as Continue
)

// Decision is the answer to a notified call. Errno is set when Action is Deny.
type Decision struct {
	Action DecisionAction
	Errno  unix.Errno
	// Pinned says that the call was refused because it would close or replace a
	// pinned descriptor. Not only tampering does that: subprocess closes all
	// descriptors in the child before it executes.
	Pinned bool
}

// Resolve resolves the groups and rules of a profile. A rule overrides the
// groups and the rules before it for the calls that it matches. The descriptors
// in pins cannot be closed or replaced, whatever the rules say.
func Resolve(p profile.Seccomp, pins []int) (*Policy, error) {
	out := new(Policy)
	for _, fd := range pins {
		if fd < 0 || fd > maxFD {
			return nil, fmt.Errorf("pin descriptor %d: not a descriptor", fd)
		}
	}
	out.pins = slices.Clone(pins)
	slices.Sort(out.pins)
	out.pins = slices.Compact(out.pins)

	// Its flags are in memory, where the filter cannot see a CLONE_NEWUSER. glibc
	// falls back to clone(2) on ENOSYS, and on nothing else.
	out.add(unix.SYS_CLONE3, clause{action: profile.ActionErrno, errno: unix.ENOSYS})
	for i, r := range slices.Backward(p.Rules) {
		if err := out.addRule(r); err != nil {
			return nil, fmt.Errorf("seccomp rule %d (%s): %w", i+1, abridge(r.Names), err)
		}
	}
	groups, err := chosen(p.Groups)
	if err != nil {
		return nil, err
	}
	// The groups of a profile are a union, so that their order means nothing:
	// where two speak of the same call the more permissive one decides.
	for _, action := range []profile.Action{profile.ActionAllow, ActionObserve, ActionSelf, ActionGuard} {
		for _, g := range groups {
			for _, r := range g.Rules {
				if r.Action != action {
					continue
				}
				if err := out.addRule(r); err != nil {
					return nil, fmt.Errorf("seccomp group %s (%s): %w", g.Name, abridge(r.Names), err)
				}
			}
		}
	}
	return out, nil
}

// abridge keeps the first names of a list that can have hundreds.
func abridge(names []string) string {
	if len(names) > 3 {
		return strings.Join(names[:3], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}

func chosen(names []string) ([]Group, error) {
	all := Groups()
	var out []Group
	for _, n := range names {
		i := slices.IndexFunc(all, func(g Group) bool { return g.Name == n })
		if i < 0 {
			return nil, fmt.Errorf("unknown seccomp group %q", n)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// add appends a clause unless an equal one is there: groups may repeat rules of
// each other.
func (p *Policy) add(nr int, c clause) {
	if !slices.Contains(p.calls[nr], c) {
		p.calls[nr] = append(p.calls[nr], c)
	}
}

func (p *Policy) addRule(r profile.Rule) error {
	c := clause{action: r.Action}
	switch r.Action {
	case profile.ActionErrno:
		errno, err := errnoByName(r.Errno)
		if err != nil {
			return err
		}
		c.errno = errno
	case profile.ActionAllow, profile.ActionNotify, profile.ActionKill, ActionObserve, ActionSelf, ActionGuard:
		if r.Errno != "" {
			return fmt.Errorf("errno %s goes with the action errno only", r.Errno)
		}
	default:
		return fmt.Errorf("unknown action %q", r.Action)
	}
	if len(r.Names) == 0 {
		return errors.New("no system call is named")
	}
	for _, n := range r.Names {
		s, ok := ByName(n)
		if !ok {
			return fmt.Errorf("unknown system call %q", n)
		}
		ms, err := parse(s.NR, r.Args)
		if err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
		if c.action == profile.ActionKill && (s.NR == unix.SYS_EXECVE || s.NR == unix.SYS_EXECVEAT) {
			return fmt.Errorf("%s cannot be answered with kill: Python itself starts with it; use errno", n)
		}
		for _, c.match = range ms {
			if err := forbidden(s, c); err != nil {
				return err
			}
			p.add(s.NR, c)
		}
	}
	return nil
}

// Traced returns a copy of p in which the allowed calls that open, connect,
// listen or accept are notified and let through, for the report.
func (p *Policy) Traced() *Policy {
	out := *p
	for _, nr := range []int{
		unix.SYS_OPEN, unix.SYS_OPENAT, unix.SYS_CONNECT, unix.SYS_BIND,
		unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4,
	} {
		out.traced[nr] = true
	}
	return &out
}

// Asks says whether every call with this number is notified, whatever its
// arguments.
func (p *Policy) Asks(nr int) bool {
	if nr < 0 || nr >= len(table) || p.traced[nr] {
		return true
	}
	return !slices.ContainsFunc(p.calls[nr], func(c clause) bool {
		switch c.action {
		case profile.ActionAllow, profile.ActionErrno, profile.ActionKill:
			return true
		}
		return false
	})
}

// Decide answers for a call that the filter notified. It reads scalars only, so
// the answer holds for the call that the kernel then makes.
func (p *Policy) Decide(nr int, args [6]uint64) Decision {
	if p.hitsPin(nr, args) {
		return Decision{Action: Deny, Errno: unix.EPERM, Pinned: true}
	}
	return p.DecideWithoutPins(nr, args)
}

// DecideWithoutPins answers for a process that does not have what is pinned: the
// number is one like any other there.
func (p *Policy) DecideWithoutPins(nr int, args [6]uint64) Decision {
	if _, ok := Lookup(nr); !ok {
		// A program that probes for a call newer than the table falls back.
		return Decision{Action: Deny, Errno: unix.ENOSYS}
	}
	for _, c := range p.calls[nr] {
		if !c.match.holds(args) {
			continue
		}
		switch c.action {
		case profile.ActionAllow, ActionObserve:
			return Decision{Action: Continue}
		case ActionSelf:
			return Decision{Action: Self, Errno: unix.EPERM}
		case ActionGuard:
			return Decision{Action: Guard}
		case profile.ActionErrno:
			return Decision{Action: Deny, Errno: c.errno}
		}
		break
	}
	return Decision{Action: Deny, Errno: unix.EPERM}
}

// Refuses says whether the filter notifies this call and Decide refuses it.
func (p *Policy) Refuses(nr int, args [6]uint64) bool {
	for _, c := range p.calls[nr] {
		if c.match.holds(args) && (c.action == profile.ActionErrno || c.action == profile.ActionKill) {
			return false // the filter itself answers
		}
	}
	return p.Decide(nr, args).Action == Deny
}

// String is the resolved policy as text, one line for each call that has a
// clause: what [Policy.Key] hashes and what the tests compare.
func (p *Policy) String() string { return string(p.text()) }

func (p *Policy) text() []byte {
	b := make([]byte, 0, 16<<10)
	for _, fd := range p.pins {
		b = append(b, "pin "...)
		b = strconv.AppendInt(b, int64(fd), 10)
		b = append(b, '\n')
	}
	for nr := range p.calls {
		for _, c := range p.calls[nr] {
			b = append(b, table[nr].Name...)
			b = append(b, ' ')
			b = append(b, c.action...)
			if c.errno != 0 {
				b = append(b, '=')
				b = append(b, unix.ErrnoName(c.errno)...)
			}
			b = c.match.append(b)
			if p.traced[nr] {
				b = append(b, " traced"...)
			}
			b = append(b, '\n')
		}
	}
	return b
}

func (m match) append(b []byte) []byte {
	for i, c := range m {
		if c.mask == 0 {
			continue
		}
		b = append(b, " arg"...)
		b = strconv.AppendInt(b, int64(i), 10)
		b = append(b, "&0x"...)
		b = strconv.AppendUint(b, c.mask, 16)
		b = append(b, "==0x"...)
		b = strconv.AppendUint(b, c.value, 16)
	}
	return b
}

// Key identifies the resolved policy: equal keys, equal programs from the same
// libseccomp.
func (p *Policy) Key() string {
	sum := sha256.Sum256(p.text())
	return hex.EncodeToString(sum[:])
}

// errnoByName returns the error number of the architecture's table.
func errnoByName(name string) (unix.Errno, error) {
	switch name { // second names of numbers, errno(3)
	case "EWOULDBLOCK":
		return unix.EWOULDBLOCK, nil
	case "EDEADLOCK":
		return unix.EDEADLOCK, nil
	case "EOPNOTSUPP":
		return unix.EOPNOTSUPP, nil
	case "EUCLEAN":
		return unix.EUCLEAN, nil
	}
	const maxErrno = 133 // EHWPOISON, the last of asm-generic/errno.h
	for n := unix.Errno(1); n <= maxErrno; n++ {
		if name != "" && unix.ErrnoName(n) == name { // numbers like 41 have no name
			return n, nil
		}
	}
	return 0, fmt.Errorf("unknown errno %q", name)
}
