package supervisor

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/pyhook"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

func TestRefuseNeverLetsTheCallSucceed(t *testing.T) {
	for _, errno := range []unix.Errno{0, unix.EPERM, unix.ENOSYS, 4095, 4096, 1 << 31, ^unix.Errno(0)} {
		r := refuse(3, errno)
		if r.ID != 3 || r.Flags != 0 || r.Val != 0 || r.Error >= 0 || r.Error < -4095 {
			t.Errorf("refuse(%d) = %+v", errno, r)
		}
	}
	if r := refuse(1, unix.EACCES); r.Error != -int32(unix.EACCES) {
		t.Errorf("refuse(EACCES) = %+v", r)
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		groups []string
		nr     int
		args   []uint64
		want   string
	}{
		{"a call of no group", []string{"base"}, unix.SYS_UNSHARE, []uint64{unix.CLONE_NEWUSER}, "EPERM"},
		{"clone3", []string{"base", "threads"}, unix.SYS_CLONE3, nil, "ENOSYS"},
		{"a call that no table has", []string{"base"}, 5000, nil, "ENOSYS"},
		{"a number below 0", []string{"base"}, -1, nil, "ENOSYS"},
		{"a program where there may be others", []string{"base", "processes"}, unix.SYS_EXECVE, nil, "continue"},
		{"a program where there may be none", []string{"base"}, unix.SYS_EXECVE, nil, "EPERM"},
		{"kill of its own process", []string{"threads"}, unix.SYS_KILL, []uint64{callerPID, 9}, "continue"},
		{"kill with garbage above the number", []string{"threads"}, unix.SYS_KILL, []uint64{0xffff<<32 | callerPID, 9}, "continue"},
		{"kill of its own group", []string{"threads"}, unix.SYS_KILL, []uint64{0, 9}, "continue"},
		{"kill of init", []string{"threads"}, unix.SYS_KILL, []uint64{1, 9}, "EPERM"},
		{"kill by its number outside of the jail", []string{"threads"}, unix.SYS_KILL, []uint64{callerTID, 9}, "EPERM"},
		{"kill of all", []string{"threads"}, unix.SYS_KILL, []uint64{1<<64 - 1, 9}, "EPERM"},
		{"kill of all, as 32 bits", []string{"threads"}, unix.SYS_KILL, []uint64{0xffffffff, 9}, "EPERM"},
		{"kill of a group", []string{"threads"}, unix.SYS_KILL, []uint64{1<<64 - callerPID, 9}, "EPERM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUnit(t, c.groups...)
			if got := u.call(t, c.nr, c.args...); got != c.want {
				t.Errorf("answered with %s, want %s", got, c.want)
			}
			var denied uint64
			if c.want != "continue" {
				denied = 1
			}
			if r := u.Result(); r.Notifications != 1 || r.Denied != denied {
				t.Errorf("result = %+v", r)
			}
			for _, e := range u.recorder.Snapshot().Entries {
				if e.Verdict == event.Denied && e.Errno != c.want {
					t.Errorf("recorded with errno %s", e.Errno)
				}
			}
		})
	}
}

func TestKillByACallerThatNobodyKnowsIsRefused(t *testing.T) {
	u := newUnit(t, "threads")
	u.tasks = tasks{root: t.TempDir(), known: map[int]task{}}
	if got := u.call(t, unix.SYS_KILL, callerPID, 9); got != "EPERM" {
		t.Errorf("answered with %s", got)
	}
}

func TestDecisionsThatNobodyMakesRefuse(t *testing.T) {
	u := newUnit(t)
	for _, d := range []seccomp.Decision{{}, {Action: 99}} {
		r, verdict, errno := u.judge(own(d, caller, 0), callerTID, notification{NR: unix.SYS_SOCKET}, call{})
		if verdictOf(r) != "EPERM" || verdict != event.Denied || errno != "EPERM" {
			t.Errorf("%+v is answered with %+v, %s, %s", d, r, verdict, errno)
		}
	}
}

// guarded is a unit whose caller's paths are those of this process, with a
// directory that may be written and one that may not.
func guarded(t *testing.T) (u *unit, work, sealed string) {
	t.Helper()
	u = newUnit(t, "base", "files-write")
	work, sealed = t.TempDir(), t.TempDir()
	for _, dir := range []string{work, sealed} {
		if err := os.WriteFile(dir+"/file", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir+"/dir", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		work + "/out": sealed, sealed + "/dangling": "nothing", sealed + "/tolink": "file",
	} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	u.o.Writable = []string{work}
	u.view = procView{"/proc"}
	return u, work, sealed
}

func TestGuard(t *testing.T) {
	const wild = base + 1<<30
	u, work, sealed := guarded(t)
	dir, err := os.Open(work)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	write, create := uint64(unix.O_WRONLY), uint64(unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	open := func(flags uint64) func(s []uint64) []uint64 {
		return func(s []uint64) []uint64 { return []uint64{atCWD, s[0], flags, 0o644} }
	}
	plain := func(s []uint64) []uint64 { return s }

	for _, c := range []struct {
		name  string
		nr    int
		texts []string
		args  func(s []uint64) []uint64
		want  string
	}{
		{"a file in a writable directory", unix.SYS_OPENAT, []string{work + "/new"}, open(create), "continue"},
		{"the writable directory itself", unix.SYS_UTIME, []string{work}, plain, "continue"},
		{"a file elsewhere", unix.SYS_OPENAT, []string{sealed + "/file"}, open(write), "EROFS"},
		{"a new file elsewhere", unix.SYS_OPENAT, []string{sealed + "/new"}, open(create), "EROFS"},
		{"a directory whose name begins like a writable one", unix.SYS_MKDIR, []string{work + "2/.."}, plain, "continue"}, // there already: EEXIST
		{"dots that lead out", unix.SYS_OPENAT, []string{work + "/.." + strings.TrimPrefix(sealed, parentOf(work)) + "/file"}, open(write), "EROFS"},
		{"dots that lead back in", unix.SYS_OPENAT, []string{sealed + "/../" + strings.TrimPrefix(work, parentOf(work)) + "/x"}, open(create), "continue"},
		{"relative to a writable directory", unix.SYS_OPENAT, []string{"new"}, func(s []uint64) []uint64 { return []uint64{uint64(dir.Fd()), s[0], create, 0} }, "continue"},
		{"relative and out of a writable directory", unix.SYS_OPENAT, []string{"../../../../../../../../etc/passwd"}, func(s []uint64) []uint64 { return []uint64{uint64(dir.Fd()), s[0], write, 0} }, "EROFS"},
		{"relative to no directory: ENOTDIR is the kernel's", unix.SYS_OPENAT, []string{"x"}, func(s []uint64) []uint64 { return []uint64{1<<64 - 1, s[0], create, 0} }, "continue"},
		{"the second path relative to no directory: EBADF is the kernel's", unix.SYS_RENAMEAT, []string{sealed + "/file", "x"}, func(s []uint64) []uint64 { return []uint64{atCWD, s[0], 1<<64 - 1, s[1]} }, "continue"},
		{"a link in a writable directory: the mounts are the wall", unix.SYS_OPENAT, []string{work + "/out/file"}, open(write), "continue"},
		{"a link elsewhere", unix.SYS_OPENAT, []string{sealed + "/tolink"}, open(write), "EROFS"},
		{"memory that cannot be read: EFAULT is the kernel's", unix.SYS_RMDIR, nil, func([]uint64) []uint64 { return []uint64{wild} }, "continue"},
		{"one of two paths that cannot be read", unix.SYS_RENAME, []string{sealed + "/file"}, func(s []uint64) []uint64 { return []uint64{wild, s[0]} }, "continue"},
		{"NULL: utimensat of a descriptor", unix.SYS_UTIMENSAT, nil, func([]uint64) []uint64 { return []uint64{3, 0, 0, 0} }, "continue"},
		{"an empty name: ENOENT is the kernel's", unix.SYS_OPENAT, []string{""}, open(create), "continue"},
		{"a name without an end: ENAMETOOLONG is the kernel's", unix.SYS_RMDIR, []string{"/" + strings.Repeat("x", 2*maxString)}, plain, "continue"},
		{"a file that is not there: ENOENT is the kernel's", unix.SYS_OPENAT, []string{sealed + "/nothing"}, open(write), "continue"},
		{"a directory that is not there", unix.SYS_OPENAT, []string{sealed + "/nothing/new"}, open(create), "continue"},
		{"below a file: ENOTDIR is the kernel's", unix.SYS_OPENAT, []string{sealed + "/file/new"}, open(create), "continue"},
		{"a directory opened for writing: EISDIR is the kernel's", unix.SYS_OPENAT, []string{sealed + "/dir"}, open(create), "continue"},
		{"a file without a name in a directory", unix.SYS_OPENAT, []string{sealed + "/dir"}, open(write | unix.O_TMPFILE), "EROFS"},
		{"a new directory", unix.SYS_MKDIR, []string{sealed + "/new"}, plain, "EROFS"},
		{"a directory that is there: EEXIST is the kernel's", unix.SYS_MKDIR, []string{sealed + "/dir"}, plain, "continue"},
		{"a link where there is a dangling one: EEXIST is the kernel's", unix.SYS_SYMLINK, []string{"x", sealed + "/dangling"}, plain, "continue"},
		{"a new file where there is one: EEXIST is the kernel's", unix.SYS_OPENAT, []string{sealed + "/file"}, open(create | unix.O_EXCL), "continue"},
		{"a link to a file elsewhere", unix.SYS_SYMLINK, []string{"/etc/passwd", work + "/link"}, plain, "continue"},
		{"a rename out", unix.SYS_RENAME, []string{work + "/file", sealed + "/new"}, plain, "EROFS"},
		{"a rename in", unix.SYS_RENAME, []string{sealed + "/file", work + "/new"}, plain, "EROFS"},
		{"a rename inside", unix.SYS_RENAME, []string{work + "/file", work + "/new"}, plain, "continue"},
		{"the last file", unix.SYS_UNLINK, []string{sealed + "/file"}, plain, "EROFS"},
		{"a dangling link", unix.SYS_UNLINK, []string{sealed + "/dangling"}, plain, "EROFS"},
		{"a file that was never there", unix.SYS_UNLINK, []string{sealed + "/nothing"}, plain, "ENOENT"},
		{"a directory that was never there", unix.SYS_RMDIR, []string{sealed + "/nothing"}, plain, "ENOENT"},
		{"a name in a directory that was never there", unix.SYS_UNLINKAT, []string{sealed + "/nothing/new"}, func(s []uint64) []uint64 { return []uint64{atCWD, s[0], 0} }, "ENOENT"},
		{"a name below a file", unix.SYS_UNLINK, []string{sealed + "/file/new"}, plain, "ENOTDIR"},
		{"a rename of nothing", unix.SYS_RENAME, []string{sealed + "/nothing", sealed + "/new"}, plain, "ENOENT"},
		{"a rename of nothing, to where it may not be", unix.SYS_RENAME, []string{work + "/nothing", sealed + "/new"}, plain, "ENOENT"},
		{"a null device", unix.SYS_OPENAT, []string{"/dev/null"}, open(write), "continue"},
		{"standard output by its name", unix.SYS_OPENAT, []string{"/dev/stdout"}, open(write), "continue"},
		{"a descriptor by its name", unix.SYS_OPENAT, []string{"/proc/self/fd/1"}, open(write), "continue"},
		{"relative to the null device: ENOTDIR is the kernel's", unix.SYS_OPENAT, []string{"../zero"}, func(s []uint64) []uint64 { return []uint64{uint64(null.Fd()), s[0], write, 0} }, "continue"},
		{"another file beside the descriptors", unix.SYS_OPENAT, []string{"/proc/self/fd/../oom_score_adj"}, open(write), "EROFS"},
		{"a file of proc, which shows us another self", unix.SYS_OPENAT, []string{"/proc/self/oom_score_adj"}, open(write), "EROFS"},
		{"a process that is not there", unix.SYS_OPENAT, []string{"/proc/1073741824/oom_score_adj"}, open(write), "EROFS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newFakeMemory()
			var args [6]uint64
			copy(args[:], c.args(at(m, c.texts...)))
			described := describe(m, u.view, os.Getpid(), c.nr, args)
			n := notification{NR: int32(c.nr), Args: args}
			r, verdict, errno := u.judge(u.o.Policy.Decide(c.nr, args), os.Getpid(), n, described)
			if got := verdictOf(r); got != c.want {
				t.Errorf("answered with %s, want %s (%+v)", got, c.want, described)
			}
			if (verdict == event.Denied) != (c.want == "EROFS") || c.want != "continue" && errno != c.want {
				t.Errorf("recorded as %s with errno %q", verdict, errno)
			}
		})
	}
}

func parentOf(dir string) string { return dir[:strings.LastIndexByte(dir, '/')] }

func TestUnknownCallsShareOneCount(t *testing.T) {
	const calls = 3 * describeMax
	u := newUnit(t, "base")
	for i := range calls {
		if got := u.call(t, 100_000+i); got != "ENOSYS" {
			t.Fatalf("answered with %s", got)
		}
	}
	if len(u.refused) != 1 || u.Result().Denied != calls {
		t.Errorf("%d counts are kept, %d calls were refused", len(u.refused), u.Result().Denied)
	}
	log := u.recorder.Snapshot()
	if log.Total != calls || log.Tallies[event.Syscall].Denied != calls {
		t.Errorf("total %d, %+v", log.Total, log.Tallies)
	}
}

func TestFloodIsNotReadButCounted(t *testing.T) {
	const calls = describeMax + 500
	u := newUnit(t, "base")
	name := at(u.memory, "/etc")[0]
	for range calls {
		if got := u.call(t, unix.SYS_RMDIR, name); got != "EPERM" {
			t.Fatalf("answered with %s", got)
		}
	}
	if u.memory.calls != describeMax {
		t.Errorf("memory was read for %d calls, want %d", u.memory.calls, describeMax)
	}
	log := u.recorder.Snapshot()
	if len(log.Entries) != 2 || log.Entries[0].Repeats != describeMax || log.Entries[1].Repeats != 500 {
		t.Errorf("entries = %+v", log.Entries)
	}
	if log.Entries[0].Target != "/etc" || log.Entries[1].Target != "rmdir" || log.Entries[1].Errno != "EPERM" {
		t.Errorf("entries = %+v", log.Entries)
	}
}

func TestRefusedSignalsAreAFloodAsWell(t *testing.T) {
	u := newUnit(t, "threads")
	for range describeMax + 10 {
		u.call(t, unix.SYS_KILL, 1, 9)
	}
	if log := u.recorder.Snapshot(); len(log.Entries) != 2 || log.Entries[1].Repeats != 10 || u.Result().Denied != describeMax+10 {
		t.Errorf("entries = %+v, result %+v", log.Entries, u.Result())
	}
}

// stackLog counts what it is asked for.
type stackLog struct {
	asked int
	frame event.Location
	task  [2]int
	known [2]int // who was calibrated with
}

func (s *stackLog) Stack(pid, nstid int) ([]event.Location, *event.Location, error) {
	s.asked++
	s.task = [2]int{pid, nstid}
	return []event.Location{s.frame}, &s.frame, nil
}

func (s *stackLog) Calibrate(pid, nstid int) { s.known = [2]int{pid, nstid} }

func TestStackOfARefusedCall(t *testing.T) {
	u := newUnit(t, "base")
	stacks := &stackLog{frame: event.Location{File: "x.py", Line: 9, Claimed: true}}
	u.o.Stacks = stacks
	for range stackMax + 100 {
		u.call(t, unix.SYS_UNSHARE, 0)
	}
	if stacks.asked != stackMax {
		t.Errorf("the stack was read %d times, want %d", stacks.asked, stackMax)
	}
	if stacks.task != [2]int{callerTID, callerPID} {
		t.Errorf("the stack of %v was read", stacks.task)
	}
	e := u.recorder.Snapshot().Entries[0]
	if e.Location == nil || *e.Location != stacks.frame || !slices.Equal(e.Stack, []event.Location{stacks.frame}) {
		t.Errorf("recorded at %+v with stack %+v", e.Location, e.Stack)
	}
}

func TestCalibrationIsRefusedOnceAndNoActivity(t *testing.T) {
	u := newUnit(t, "base")
	stacks := &stackLog{frame: event.Location{File: "x.py", Line: 9, Claimed: true}}
	u.o.Stacks = stacks
	u.o.Calibration = Calibration{NR: unix.SYS_SETRESUID, Args: [3]uint64{11, 12, 13}}
	call := func(args ...uint64) {
		t.Helper()
		if got := u.call(t, unix.SYS_SETRESUID, args...); got != "EPERM" {
			t.Errorf("answered with %s", got)
		}
	}
	call(11, 12, 14)
	if stacks.known != [2]int{} || stacks.asked != 1 {
		t.Errorf("another call was taken for the calibration, of %v", stacks.known)
	}
	call(11, 12, 13)
	if stacks.known != [2]int{callerTID, callerPID} || stacks.asked != 1 || len(u.recorder.Snapshot().Entries) != 1 {
		t.Errorf("calibrated with %v, %d stacks read, recorded %+v", stacks.known, stacks.asked, u.recorder.Snapshot().Entries)
	}
	call(11, 12, 13)
	if stacks.asked != 2 || u.Result().Denied != 2 {
		t.Errorf("the second one is no refused call: %d stacks read, %+v", stacks.asked, u.Result())
	}
}

func TestCallerThatIsGoneLeavesNoArguments(t *testing.T) {
	u := newUnit(t, "base")
	u.o.Stacks = &stackLog{frame: event.Location{File: "of another.py"}}
	u.channel.gone = true
	u.call(t, unix.SYS_RMDIR, at(u.memory, "/of/another")[0])
	e := u.recorder.Snapshot().Entries[0]
	if e.Target != "rmdir" || strings.Contains(e.Detail, "another") || e.Stack != nil || e.Location != nil || e.Verdict != event.Denied {
		t.Errorf("recorded %+v", e)
	}
}

func TestOnlyInitIsExemptAfterTheStart(t *testing.T) {
	const initPID, initTID, pythonPID = 1<<30 + 1, 1<<30 + 2, 1<<30 + 3
	for _, c := range []struct {
		name  string
		first int // who is heard of first
	}{
		{"the filter notifies init's clone", initTID},
		// Then the first thread that is heard of is Python's own.
		{"the filter allows init's clone", pythonPID},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUnit(t, "base", "processes")
			u.started = false
			writeStatus(t, u.tasks.root, initTID, initPID, 1, 1, 5)
			writeStatus(t, u.tasks.root, pythonPID, pythonPID, initPID, 2, 2)
			ask := func(tid, nr int) string {
				u.answer(notification{ID: 1, TID: uint32(tid), NR: int32(nr)})
				return verdictOf(u.channel.last(t))
			}
			for _, step := range []struct {
				tid, nr int
				want    string
			}{
				{c.first, unix.SYS_CLONE, "continue"},
				{pythonPID, unix.SYS_EXECVE, "continue"},
				{pythonPID, unix.SYS_UNSHARE, "EPERM"},
				{pythonPID, unix.SYS_SECCOMP, "EPERM"},
				{initTID, unix.SYS_UNSHARE, "continue"},
				{callerTID, unix.SYS_UNSHARE, "EPERM"},
				{1<<30 + 9, unix.SYS_UNSHARE, "EPERM"}, // nobody knows it
			} {
				if got := ask(step.tid, step.nr); got != step.want {
					t.Errorf("call %d of %d is answered with %s, want %s", step.nr, step.tid, got, step.want)
				}
			}
		})
	}
}

func TestNobodyIsExemptWhenInitIsNotKnown(t *testing.T) {
	u := newUnit(t, "base")
	u.started = false
	u.tasks = tasks{root: t.TempDir(), known: map[int]task{}}
	if got := u.call(t, unix.SYS_EXECVE); got != "continue" {
		t.Errorf("Python's start is answered with %s", got)
	}
	if got := u.call(t, unix.SYS_UNSHARE); got != "EPERM" {
		t.Errorf("a call after it is answered with %s", got)
	}
}

func TestStart(t *testing.T) {
	errNo := errors.New("a layer is absent")
	t.Run("is refused when OnExec says so, for good", func(t *testing.T) {
		u := newUnit(t, "processes")
		u.started = false
		asked := 0
		u.o.OnExec = func(pid int) error {
			if asked++; pid != callerTID {
				t.Errorf("OnExec is asked about %d", pid)
			}
			return errNo
		}
		for range 2 {
			if got := u.call(t, unix.SYS_EXECVE); got != "EPERM" {
				t.Errorf("answered with %s", got)
			}
		}
		if !errors.Is(u.execErr, errNo) || asked != 1 {
			t.Errorf("the reason is %v, asked %d times", u.execErr, asked)
		}
	})
	t.Run("comes again when a signal took it back", func(t *testing.T) {
		u := newUnit(t, "base")
		u.started = false
		asked := 0
		u.o.OnExec = func(int) error { asked++; return nil }
		u.channel.lost = unix.ENOENT
		u.call(t, unix.SYS_EXECVE)
		u.channel.lost = nil
		if got := u.call(t, unix.SYS_EXECVE); got != "continue" || asked != 1 {
			t.Errorf("the second try is answered with %s, OnExec asked %d times", got, asked)
		}
		if got := u.call(t, unix.SYS_EXECVE); got != "EPERM" {
			t.Errorf("a program after the start is answered with %s", got)
		}
	})
}

func TestDrain(t *testing.T) {
	t.Run("without a hook does nothing", func(t *testing.T) {
		newUnit(t).drain()
	})
	t.Run("does not wait at an empty pipe", func(t *testing.T) {
		u := newUnit(t)
		hooked(t, u)
		u.drain()
		u.drain()
	})
	t.Run("takes what is there, also more than one read", func(t *testing.T) {
		u := newUnit(t)
		w := hooked(t, u)
		u.chunk = u.chunk[:100]
		for i := range 50 {
			if _, err := w.Write(eventRecord(2, 2, "import", i+1)); err != nil {
				t.Fatal(err)
			}
		}
		u.drain()
		if got := u.hook.Stats().Records; got != 50 {
			t.Errorf("%d records were read, want 50", got)
		}
	})
	t.Run("does not follow a thread that keeps writing", func(t *testing.T) {
		u := newUnit(t)
		w := hooked(t, u)
		events := 0
		u.hook = pyhook.NewDecoder(func(event.Event) {
			events++
			if events > 10 {
				t.Fatal("what is written while it drains is drained as well")
			}
			if _, err := w.Write(eventRecord(2, 2, "import", 1)); err != nil {
				t.Fatal(err)
			}
		})
		if _, err := w.Write(eventRecord(2, 2, "import", 1)); err != nil {
			t.Fatal(err)
		}
		u.drain()
		if events != 1 {
			t.Errorf("%d events were read, want 1", events)
		}
	})
	t.Run("ends when the writer is gone", func(t *testing.T) {
		u := newUnit(t)
		w := hooked(t, u)
		w.Close()
		u.drain()
	})
}

func TestPipeThatNobodyWritesToIsLeftAlone(t *testing.T) {
	u := newUnit(t)
	w := hooked(t, u)
	if _, err := w.Write(startRecord(2)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	poll := []unix.PollFd{{Fd: int32(u.hookFD), Events: unix.POLLIN}}
	for range 2 {
		if _, err := unix.Poll(poll, -1); err != nil {
			t.Fatal(err)
		}
		u.hear(&poll[0])
	}
	if poll[0].Fd != -1 || !u.hook.Stats().Started {
		t.Errorf("descriptor %d is still polled, %+v", poll[0].Fd, u.hook.Stats())
	}
}

func TestJoinOfBothWitnesses(t *testing.T) {
	start := startRecord(callerPID)
	open := eventRecord(callerPID, callerPID, "socket.__new__", 1)
	for _, c := range []struct {
		name        string
		stream      []byte
		explained   string
		unexplained bool
		entries     int
	}{
		{"the hook announced the call", slices.Concat(start, open), "socket.__new__", false, 1},
		{"the hook said nothing", start, "", true, 1},
		{"there is no hook yet", nil, "", false, 1},
		{"the hook announced it on another thread", slices.Concat(start, eventRecord(callerPID, 99, "socket.__new__", 1)), "", true, 1},
		{"the hook announced something else", slices.Concat(start, eventRecord(callerPID, callerPID, "os.mkdir", 1)), "", true, 1},
		{"the announcement is older than the last event", slices.Concat(start, open, eventRecord(callerPID, callerPID, "ctypes.dlsym", 1)), "", true, 3},
		{"only garbage came", []byte("\xf5SBX\xff\xff garbage"), "", false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUnit(t, "base")
			w := hooked(t, u)
			if _, err := w.Write(c.stream); err != nil {
				t.Fatal(err)
			}
			u.call(t, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
			log := u.recorder.Snapshot()
			i := slices.IndexFunc(log.Entries, func(e event.Entry) bool { return e.Layer == event.Seccomp })
			if i < 0 || len(log.Entries) != c.entries {
				t.Fatalf("entries = %+v", log.Entries)
			}
			e := log.Entries[i]
			if e.ExplainedBy != c.explained || e.Unexplained != c.unexplained || e.Target != "AF_INET" {
				t.Errorf("recorded %+v", e)
			}
			if (e.Location != nil) != (c.explained != "") || e.Location != nil && e.Location.Line != 3 {
				t.Errorf("recorded at %+v", e.Location)
			}
			r := u.Result()
			if (r.Unexplained == 1) != c.unexplained || len(r.Findings) != int(r.Unexplained) {
				t.Errorf("result = %+v", r)
			}
			for _, f := range r.Findings {
				if f.Kind != "unexplained" || f.Seq != e.Seq || !strings.Contains(f.Text, "socket") {
					t.Errorf("finding = %+v", f)
				}
			}
		})
	}
}

func TestRepeatsOfAnUnexplainedCallAreOneFinding(t *testing.T) {
	u := newUnit(t, "base")
	w := hooked(t, u)
	if _, err := w.Write(startRecord(callerPID)); err != nil {
		t.Fatal(err)
	}
	for range 7 {
		u.call(t, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	}
	for family := range uint64(100) {
		u.call(t, unix.SYS_SOCKET, family, unix.SOCK_STREAM, 0)
	}
	r := u.Result()
	if r.Unexplained != 107 || len(r.Findings) != findingsMax {
		t.Errorf("%d unexplained, %d findings", r.Unexplained, len(r.Findings))
	}
	if log := u.recorder.Snapshot(); log.Entries[0].Repeats != 8 || log.Total != 107 {
		t.Errorf("the first entry has %d repeats, %d in all", log.Entries[0].Repeats, log.Total)
	}
}

// TestFloodThroughPythonsDoorsCountsEachCallOnce is a script that makes one
// refused socket after the other: the hook stops to announce each, and the
// supervisor to look at each.
func TestFloodThroughPythonsDoorsCountsEachCallOnce(t *testing.T) {
	const calls = 5000
	u := newUnit(t, "base")
	w := hooked(t, u)
	write := func(b []byte) {
		t.Helper()
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	write(startRecord(callerPID))
	for i := 1; i <= calls; i++ {
		if i <= pyhook.FloodCap || i&(i-1) == 0 {
			write(eventRecord(callerPID, callerPID, "socket.__new__", i))
		}
		u.call(t, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	}
	write(endRecord(callerPID, "socket.__new__", calls))
	u.finish()
	log := u.recorder.Snapshot()
	if got := log.Tallies[event.Network]; got != (event.Tally{Denied: calls}) || log.Total != calls {
		t.Errorf("tally %+v of %d, want %d denied", got, log.Total, calls)
	}
	if r := u.Result(); r.Unexplained != 0 || len(r.Findings) != 0 {
		t.Errorf("a script that only used Python's doors: %+v", r)
	}
}

func TestProgramsThatTheScriptStartsHaveNoHookToExplainThem(t *testing.T) {
	u := newUnit(t, "base", "processes")
	w := hooked(t, u)
	if _, err := w.Write(slices.Concat(startRecord(callerPID), eventRecord(callerPID, callerPID, "subprocess.Popen", 1))); err != nil {
		t.Fatal(err)
	}
	const child = 1<<30 + 50
	writeStatus(t, u.tasks.root, child, child, callerTID, 50, 50)
	ask := func(nr int) string {
		u.answer(notification{ID: 1, TID: child, NR: int32(nr)})
		return verdictOf(u.channel.last(t))
	}
	if got := ask(unix.SYS_EXECVE); got != "continue" {
		t.Fatalf("execve is answered with %s", got)
	}
	if got := ask(unix.SYS_SOCKET); got != "EPERM" {
		t.Fatalf("socket is answered with %s", got)
	}
	entries := u.recorder.Snapshot().Entries
	if len(entries) != 2 || entries[0].ExplainedBy != "subprocess.Popen" || entries[0].Verdict != event.Allowed {
		t.Errorf("entries = %+v", entries)
	}
	if entries[len(entries)-1].Unexplained || len(u.Result().Findings) != 0 {
		t.Errorf("a program without Python is taken for tampering: %+v", u.Result())
	}
}

func TestTraceRecordsWhatIsLetThrough(t *testing.T) {
	for _, trace := range []bool{false, true} {
		u := newUnit(t, "base", "files-write")
		u.o.Policy, u.o.Trace = u.o.Policy.Traced(), trace
		u.call(t, unix.SYS_OPENAT, atCWD, at(u.memory, "/etc/hosts")[0], 0)
		entries := u.recorder.Snapshot().Entries
		if !trace && len(entries) != 0 {
			t.Errorf("without trace: %+v", entries)
		}
		if trace && (len(entries) != 1 || entries[0].Verdict != event.Observed || entries[0].Target != "/etc/hosts" || entries[0].Unexplained) {
			t.Errorf("with trace: %+v", entries)
		}
	}
}

func TestSetsID(t *testing.T) {
	const create, at = unix.O_CREAT | unix.O_WRONLY, 0xffffff9c
	for _, tt := range []struct {
		nr   int
		args [6]uint64
		want bool
	}{
		{unix.SYS_CHMOD, [6]uint64{1, 0o4755}, true},
		{unix.SYS_CHMOD, [6]uint64{1, 0o2755}, true},
		{unix.SYS_CHMOD, [6]uint64{1, 0o1777}, false},
		{unix.SYS_FCHMODAT, [6]uint64{at, 1, 0o4755}, true},
		{unix.SYS_FCHMODAT2, [6]uint64{at, 1, 0o2755}, true},
		{unix.SYS_FCHMODAT, [6]uint64{at, 1, 0o755}, false},
		{unix.SYS_OPENAT, [6]uint64{at, 1, create, 0o4755}, true},
		{unix.SYS_OPENAT, [6]uint64{at, 1, unix.O_WRONLY, 0o4755}, false}, // its mode means nothing
		{unix.SYS_OPENAT, [6]uint64{at, 1, unix.O_TMPFILE | unix.O_RDWR, 0o6755}, true},
		{unix.SYS_OPENAT, [6]uint64{at, 1, unix.O_DIRECTORY, 0o6755}, false},
		{unix.SYS_OPEN, [6]uint64{1, create, 0o4755}, true},
		{unix.SYS_CREAT, [6]uint64{1, 0o4755}, true},
		{unix.SYS_MKDIR, [6]uint64{1, 0o2755}, true},
		{unix.SYS_MKDIRAT, [6]uint64{at, 1, 0o2755}, true},
		{unix.SYS_UNLINK, [6]uint64{1, 0o6000}, false},
	} {
		if got := setsID(tt.nr, tt.args); got != tt.want {
			t.Errorf("call %d %#o: %v, want %v", tt.nr, tt.args, got, tt.want)
		}
	}
}
