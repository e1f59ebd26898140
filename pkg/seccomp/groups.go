package seccomp

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

// Group is a named set of rules, for the profiles.
type Group struct {
	Name   string
	Reason string // what a profile gets, and why it is safe to give
	Rules  []profile.Rule
}

// Groups returns all groups. No group has a call that creates namespaces, mounts,
// traces, loads code into the kernel, or reaches other processes' memory; what is
// in none of them is refused and reported.
func Groups() []Group {
	return []Group{
		{"base", "computation and reading: memory, descriptors, clocks, signals to oneself", slices.Concat(
			memoryRules(), descriptorRules(), readingRules(), timeRules(), selfRules(),
		)},
		{"threads", "threads of the same process, and signals that the process sends to itself", threadRules()},
		{"sockets-pair", "unix socket pairs, which asyncio and multiprocessing wake each other with", socketPairRules()},
		{"files-write", "changes to files by name, where a mount is writable", writeRules()},
		{"processes", "child processes in the same namespaces", slices.Concat(processRules(), signalRules())},
		{"signals", "signals to other processes of the jail; the pid namespace bounds them", signalRules()},
		{"sockets-inet", "internet and unix sockets; the network namespace bounds what they reach", slices.Concat(
			socketPairRules(), inetRules(),
		)},
		{"locks", "whole-file locks: on a shared file they are a channel to other runs", []profile.Rule{
			allow("a lock on a shared read-only file can be seen by other runs", "flock"),
		}},
		{"inotify", "file change notification: on a shared file it shows what others open", []profile.Rule{
			allow("watching a shared file shows when others use it",
				"inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch"),
		}},
		{"memory-files", "anonymous files in memory, charged to the cgroup", memoryFileRules()},
		{"sysv-ipc", "System V shared memory, semaphores and queues, in the jail's own IPC namespace", []profile.Rule{
			allow("the IPC namespace is the jail's own",
				"shmget", "shmat", "shmdt", "shmctl", "semget", "semop", "semtimedop", "semctl",
				"msgget", "msgsnd", "msgrcv", "msgctl"),
		}},
		{"scheduling", "scheduling policies that take nothing from others, and memory placement", schedulingRules()},
	}
}

func allow(reason string, names ...string) profile.Rule {
	return profile.Rule{Names: names, Action: profile.ActionAllow, Reason: reason}
}

// when is allow for one call under conditions that must all hold.
func when(reason, name string, args ...profile.Arg) profile.Rule {
	return profile.Rule{Names: []string{name}, Action: profile.ActionAllow, Args: args, Reason: reason}
}

// each is when for several calls, and for each of several values of an argument.
func each(reason string, names []string, index uint, values ...uint64) []profile.Rule {
	var out []profile.Rule
	for _, v := range values {
		out = append(out, profile.Rule{
			Names: names, Action: profile.ActionAllow, Args: []profile.Arg{is(index, v)}, Reason: reason,
		})
	}
	return out
}

// is holds for a 32-bit argument that equals v. The kernel takes an int from the
// low half of the register, so the high half must not count.
func is(index uint, v uint64) profile.Arg { return masked32(index, 0xffffffff, v) }

// none holds when no bit of flags is set.
func none(index uint, flags uint64) profile.Arg { return masked32(index, flags, 0) }

// null holds for a pointer that is not given.
func null(index uint) profile.Arg { return profile.Arg{Index: index, Op: "eq"} }

func masked32(index uint, mask, v uint64) profile.Arg {
	return profile.Arg{Index: index, Op: "masked_eq", Mask: mask, Value: v}
}

// writeFlags are the open flags that can change a file. Of O_TMPFILE it is the
// bit that O_DIRECTORY does not share (asm-generic/fcntl.h: __O_TMPFILE).
const writeFlags = unix.O_ACCMODE | unix.O_CREAT | unix.O_TRUNC | unix.O_APPEND | unix.O_TMPFILE&^unix.O_DIRECTORY

// foreignClone are the clone flags that leave the process's namespaces or its
// place in the process tree. CLONE_NEWTIME shares its bit with the exit signal
// and cannot be given to clone(2).
const foreignClone = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
	unix.CLONE_PARENT | unix.CLONE_PTRACE | unix.CLONE_UNTRACED

const threadClone = unix.CLONE_THREAD | unix.CLONE_VM | unix.CLONE_SIGHAND

func threadRules() []profile.Rule {
	return []profile.Rule{
		when("a thread of this process, in the same namespaces", "clone",
			masked32(0, threadClone|foreignClone, threadClone)),
		allow("pthread_kill, raise and abort; the pid namespace bounds the targets, and its init keeps every signal at its default, so that none from inside reaches it", "tgkill"),
		{
			Names: []string{"kill"}, Action: ActionSelf,
			Reason: "a program that signals itself is common; any other is no business of a program without children",
		},
	}
}

func processRules() []profile.Rule {
	rules := []profile.Rule{
		when("a child in the same namespaces, untraced", "clone", none(0, foreignClone)),
		allow("a child in the same namespaces", "fork", "vfork"),
		{
			Names: []string{"execve"}, Action: ActionObserve,
			Reason: "the new program keeps the filter and no_new_privs; the report names it",
		},
		allow("job control among the jail's own processes", "setpgid", "setsid"),
		allow("the kernel refuses more priority, setpriority(2)", "setpriority"),
	}
	return append(rules, each("orphans of the jail's own processes", []string{"prctl"}, 0,
		unix.PR_SET_CHILD_SUBREAPER, unix.PR_GET_CHILD_SUBREAPER)...)
}

func signalRules() []profile.Rule {
	return []profile.Rule{
		allow("the pid namespace bounds the targets",
			"kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "pidfd_send_signal"),
	}
}

func memoryFileRules() []profile.Rule {
	rules := []profile.Rule{allow("memory that is charged to the cgroup; execveat stays refused", "memfd_create")}
	return append(rules, each("seals of memory files", []string{"fcntl"}, 1, unix.F_ADD_SEALS, unix.F_GET_SEALS)...)
}

func schedulingRules() []profile.Rule {
	const (
		other = 0 // SCHED_OTHER
		batch = 3 // SCHED_BATCH
		idle  = 5 // SCHED_IDLE
	)
	rules := each("policies without real time", []string{"sched_setscheduler"}, 1, other, batch, idle)
	return append(rules,
		allow("outside of real-time policies the priority must be 0, sched(7)", "sched_setparam"),
		allow("placement of one's own memory", "get_mempolicy", "set_mempolicy", "mbind"),
	)
}

// writeRules are guarded: read-only mounts are the wall, the look at the path
// gives the report its line and the caller an honest EROFS.
func writeRules() []profile.Rule {
	return []profile.Rule{{
		Names: []string{
			"open", "openat", "creat", "truncate",
			"mkdir", "mkdirat", "rmdir", "unlink", "unlinkat",
			"rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
			"chmod", "fchmodat", "fchmodat2",
			"utime", "utimes", "futimesat", "utimensat",
		},
		Action: ActionGuard,
		Reason: "read-only mounts bound what can change; the supervisor refuses set-user-ID and set-group-ID bits",
	}}
}
