package seccomp

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

// memoryRules leave out mlock (unswappable memory), mincore and cachestat (they
// show what others have in the page cache, CVE-2019-5489).
func memoryRules() []profile.Rule {
	return []profile.Rule{
		allow("memory of the process itself", "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "msync"),
		allow("waiting within the process, or on memory it shares",
			"futex", "futex_waitv", "futex_wake", "futex_wait", "futex_requeue", "membarrier"),
		allow("random bytes", "getrandom"),
	}
}

func descriptorRules() []profile.Rule {
	// Not F_NOTIFY and leases (they show what others do with a shared file), not
	// F_SETOWN and F_SETSIG (signals to a process of choice).
	fcntl := []uint64{
		unix.F_DUPFD, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL,
		unix.F_GETLK, unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW,
		unix.F_DUPFD_CLOEXEC, unix.F_SETPIPE_SZ, unix.F_GETPIPE_SZ,
	}
	// Not TIOCSTI and its like, which type into a terminal.
	ioctl := []uint64{unix.TCGETS, unix.TIOCGWINSZ, fionread, fionbio, fioclex, fionclex}
	return slices.Concat(
		[]profile.Rule{
			allow("data of open descriptors",
				"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2",
				"lseek", "sendfile", "copy_file_range", "readahead", "fadvise64"),
			allow("descriptors opened for writing are bounded by the mounts",
				"ftruncate", "fallocate", "fsync", "fdatasync", "sync_file_range"),
			when("but set-user-ID and set-group-ID, which would count outside where the caller grants a folder", "fchmod",
				none(1, unix.S_ISUID|unix.S_ISGID)),
			allow("the process's own descriptor table", "close", "close_range", "dup", "dup2", "dup3"),
			allow("waiting for descriptors",
				"poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl",
				"epoll_wait", "epoll_pwait", "epoll_pwait2"),
			allow("descriptors without a name",
				"pipe", "eventfd", "eventfd2", "signalfd", "signalfd4", "timerfd_create", "timerfd_settime", "timerfd_gettime"),
			when("a pipe; O_EXCL would make it a notification queue of the kernel (CVE-2022-0995)", "pipe2",
				none(1, unix.O_EXCL)),
		},
		each("record locks, of which one for writing needs a writable descriptor; the rest concerns the descriptor only", []string{"fcntl"}, 1, fcntl...),
		each("requests that change at most the descriptor's own flags", []string{"ioctl"}, 1, ioctl...),
	)
}

// Requests that golang.org/x/sys/unix does not have (asm-generic/ioctls.h).
const (
	fionread = 0x541b
	fionbio  = 0x5421
	fionclex = 0x5450
	fioclex  = 0x5451
)

// readingRules leave out openat2, whose flags are in memory, and
// name_to_handle_at. Extended attributes can be read, since shutil.copystat takes
// a refusal for an error.
func readingRules() []profile.Rule {
	return []profile.Rule{
		when("reading; the mounts decide what there is", "open", none(1, writeFlags)),
		when("reading; the mounts decide what there is", "openat", none(2, writeFlags)),
		allow("what there is, and what it is called",
			"stat", "fstat", "lstat", "newfstatat", "statx", "statfs", "fstatfs",
			"access", "faccessat", "faccessat2", "readlink", "readlinkat", "getdents", "getdents64",
			"getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr"),
		allow("the process's own place in the tree", "getcwd", "chdir", "fchdir", "umask"),
	}
}

func timeRules() []profile.Rule {
	return []profile.Rule{
		allow("reading clocks", "clock_gettime", "clock_getres", "gettimeofday", "time", "times"),
		allow("sleeping, and timers that signal the process itself",
			"nanosleep", "clock_nanosleep", "alarm", "pause", "setitimer", "getitimer",
			"timer_create", "timer_settime", "timer_gettime", "timer_getoverrun", "timer_delete"),
	}
}

// selfRules concern the calling process, or read what it may know. prctl has no
// PR_SET_DUMPABLE: a process that is not dumpable hides its memory from an
// unprivileged supervisor, and with it the arguments of its refused calls.
func selfRules() []profile.Rule {
	const personalityQuery = 0xffffffff
	prctl := []uint64{
		unix.PR_SET_PDEATHSIG, unix.PR_GET_PDEATHSIG, unix.PR_GET_DUMPABLE, unix.PR_SET_NAME, unix.PR_GET_NAME,
		unix.PR_GET_SECCOMP, unix.PR_CAPBSET_READ, unix.PR_SET_TIMERSLACK, unix.PR_GET_TIMERSLACK,
		unix.PR_GET_NO_NEW_PRIVS, unix.PR_SET_VMA,
	}
	return slices.Concat(
		[]profile.Rule{
			allow("ids and capabilities, reading",
				"getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid",
				"getgroups", "getpgid", "getpgrp", "getsid", "capget"),
			allow("start and end of threads and processes",
				"arch_prctl", "set_tid_address", "set_robust_list", "rseq", "exit", "exit_group", "wait4", "waitid"),
			allow("the process's own signal handling",
				"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigsuspend",
				"rt_sigtimedwait", "sigaltstack", "restart_syscall"),
			allow("the machine, as far as the namespaces show it", "uname", "sysinfo", "getcpu"),
			allow("usage, priority and scheduling, reading",
				"getrusage", "getrlimit", "getpriority", "ioprio_get",
				"sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_getattr",
				"sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval"),
			allow("giving up the processor, and choosing among the processors of the cgroup",
				"sched_yield", "sched_setaffinity"),
			when("less priority for the caller itself; the kernel refuses more, setpriority(2)", "setpriority",
				is(0, unix.PRIO_PROCESS), is(1, 0)),
			allow("the process's own limits: the kernel refuses to raise a hard one", "setrlimit"),
			when("the process's own limits: the kernel refuses to raise a hard one", "prlimit64", is(0, 0)),
			when("reading limits", "prlimit64", null(2)),
			when("the query; anything else weakens address randomization", "personality", is(0, personalityQuery)),
		},
		each("names, and flags that take nothing from the supervisor", []string{"prctl"}, 0, prctl...),
	)
}
