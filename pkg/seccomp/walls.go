package seccomp

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

// maxFD is the largest descriptor that close_range(2) and dup2(2) can name
// without a sign.
const maxFD = 1<<31 - 1

// Forbidden says why no rule may allow a system call, and whether that is so.
// prctl is not among them: only its option PR_SET_SECCOMP is refused.
func Forbidden(name string) (reason string, ok bool) {
	switch name {
	case "seccomp":
		return "a second filter hides attempts, and its own listener can let calls through (seccomp_unotify(2))", true
	case "clone3":
		return "its flags are in memory, where a filter cannot see them; callers fall back to clone on ENOSYS", true
	case "io_uring_setup", "io_uring_enter", "io_uring_register":
		return "a ring opens files and connects sockets without passing the filter", true
	case "userfaultfd":
		return "it can stall whoever reads the caller's memory, the supervisor included", true
	}
	return "", false
}

// permits reports whether a clause lets calls through.
func (c clause) permits() bool {
	return c.action == profile.ActionAllow || c.action == ActionObserve || c.action == ActionSelf || c.action == ActionGuard
}

func forbidden(s Syscall, c clause) error {
	if s.NR == unix.SYS_CLONE3 && c.action == profile.ActionErrno && c.errno == unix.ENOSYS {
		return nil
	}
	if s.NR == unix.SYS_CLONE3 {
		reason, _ := Forbidden(s.Name)
		return fmt.Errorf("%s always answers ENOSYS: %s", s.Name, reason)
	}
	if !c.permits() {
		return nil
	}
	if reason, ok := Forbidden(s.Name); ok {
		return fmt.Errorf("%s is never allowed: %s", s.Name, reason)
	}
	if s.NR == unix.SYS_PRCTL {
		if c.match[0].holds(unix.PR_SET_SECCOMP) {
			reason, _ := Forbidden("seccomp")
			return fmt.Errorf("prctl is never allowed with PR_SET_SECCOMP, and this rule does not exclude it: %s", reason)
		}
	}
	return nil
}

// Importable returns what of rules written for another program, such as a
// container runtime, [Resolve] takes, and the names of the calls it left out: the
// forbidden ones, and those that the table does not have.
func Importable(rules []profile.Rule) (kept []profile.Rule, dropped []string) {
	for _, r := range rules {
		var names []string
		for _, n := range r.Names {
			one := r
			one.Names = []string{n}
			if err := new(Policy).addRule(one); err != nil {
				dropped = append(dropped, n)
				continue
			}
			names = append(names, n)
		}
		if len(names) > 0 {
			r.Names = names
			kept = append(kept, r)
		}
	}
	slices.Sort(dropped)
	return kept, slices.Compact(dropped)
}

// pinnable are the calls that close or replace a descriptor. dup(2) and
// F_DUPFD take a free one, so they are not among them.
func pinnable(nr int) bool {
	switch nr {
	case unix.SYS_CLOSE, unix.SYS_DUP2, unix.SYS_DUP3, unix.SYS_CLOSE_RANGE:
		return true
	}
	return false
}

// hitsPin reports whether a call would close or replace a pinned descriptor.
func (p *Policy) hitsPin(nr int, args [6]uint64) bool {
	if len(p.pins) == 0 || !pinnable(nr) {
		return false
	}
	var first, last uint32 // the kernel reads unsigned int
	switch nr {
	case unix.SYS_CLOSE:
		first, last = uint32(args[0]), uint32(args[0])
	case unix.SYS_CLOSE_RANGE:
		first, last = uint32(args[0]), uint32(args[1])
	default:
		first, last = uint32(args[1]), uint32(args[1])
	}
	return slices.ContainsFunc(p.pins, func(fd int) bool { return first <= uint32(fd) && uint32(fd) <= last })
}

// belowPins says which argument of a call that closes or replaces descriptors
// must stay below the lowest pin for the filter to let it through unseen. The few
// calls above it are notified and told apart by [Policy.Decide]: a filter that
// did so itself would compare bit by bit on every close.
func (p *Policy) belowPins(nr int) (arg int, limit uint64, ok bool) {
	if len(p.pins) == 0 || !pinnable(nr) {
		return 0, 0, false
	}
	arg = 1
	if nr == unix.SYS_CLOSE {
		arg = 0
	}
	return arg, uint64(p.pins[0]), true
}
