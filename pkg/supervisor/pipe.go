package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pyhook"
)

// Children close the hook's pipe, and mean it as little as any other descriptor:
// before they become another program (subprocess) or a daemon they close all that
// they have, at once (close_range(2)) or one by one. They may: the C library, where
// it is refused close_range, closes what /proc/self/fd lists until the list is empty
// (closefrom(3)), with a descriptor that cannot be closed for ever. The script's
// first process is refused.
//
// A process without the pipe has a hook that nobody hears. That is known, and
// said. What it then opens under the pipe's number is its own, to be closed and
// replaced as it likes; so are the descriptors of a program that was started
// without the pipe.

// maxSwept bounds how many processes are remembered to have closed their pipe.
const maxSwept = 4096

// letGo lets a child close or replace its pipe.
func (s *Supervisor) letGo(n notification, who task) {
	// Until it executes a program, a child of vfork(2) is its parent with other
	// descriptors, and nothing in it has a hook.
	_, _, _, parent := s.tasks.status(who.tgid)
	if !sameMemory(who.tgid, parent) && len(s.swept) < maxSwept {
		s.swept[who.nspid] = true
	}
	s.join.replaced(who.nspid)
	_ = s.listener.send(pass(n.ID))
}

// pipeName is how /proc/PID/fd names a pipe at both of its ends, "" if it cannot
// be told.
func pipeName(fd int) string {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return ""
	}
	return fmt.Sprintf("pipe:[%d]", stat.Ino)
}

// holdsPipe says whether the pipe's number means the pipe in a thread's table of
// descriptors. Where that cannot be told, it does. The answer stays true: while
// it does, every call that could change it waits here, and where it does not,
// there is nothing to keep.
func (s *Supervisor) holdsPipe(tid int) bool {
	name, err := s.view.fd(tid, pyhook.EventFD)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	return err != nil || s.pipe == "" || name == s.pipe
}

// sameMemory says whether two processes share their address space (kcmp(2),
// KCMP_VM). A kernel without that call says no.
func sameMemory(pid, other int) bool {
	const kcmpVM = 1
	if pid <= 0 || other <= 0 {
		return false
	}
	different, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(other), kcmpVM, 0, 0, 0)
	return errno == 0 && different == 0
}

// findSilent says which processes went on without their pipe.
func (s *Supervisor) findSilent() {
	if len(s.swept) == 0 {
		return
	}
	s.finding(Finding{
		Kind: "hook_closed", Confidence: "high",
		Text: fmt.Sprintf("the hook was cut off by the program in %s, which closed the hook's descriptor, as daemons do that close all they have: of what Python itself saw after that this report knows nothing", processes(s.swept)),
	})
}

// processes names the first of some processes.
func processes(set map[int]bool) string {
	const named = 5
	pids := slices.Sorted(maps.Keys(set))
	text := fmt.Sprintf("process %d", pids[0])
	if len(pids) > 1 {
		text = fmt.Sprintf("processes %v", pids[:min(len(pids), named)])
	}
	if len(pids) > named {
		text += fmt.Sprintf(" and %d more", len(pids)-named)
	}
	return text
}
