// Package pyhook is the witness inside the interpreter: the Python source of an
// audit hook (PEP 578) with a wrapper around builtins.__import__, the form in
// which it and its configuration are handed to a fresh interpreter, and the
// decoder of what it reports.
//
// It exists because the kernel sees openat and socket, but not the line of the
// script, the module that was imported or the exception that nobody caught; and
// because a refusal that is raised before the system call can say in words what
// the policy is.
//
// It must not be relied on for containment. The hook lives in the address space
// of the script: ctypes, the garbage collector or a module's back door can
// silence it or forge its records. Whatever it refuses the kernel must refuse
// too, and every record is decoded as hostile input: bounded, strictly typed,
// and counted when it is malformed.
//
// The interpreter is started as
//
//	python -I -S -B -c Command
//
// with the boot file on descriptor BootFD and the write end of a pipe on
// descriptor EventFD. A record is one write(2) of at most PIPE_BUF bytes, which
// pipe(7) makes atomic: records of threads and forked children do not mix, and
// what has been written survives SIGKILL.
//
// Before the script the boot makes one call that is refused, if it is asked to, by
// which the caller checks that it reads the interpreter's stack right: [Calibration].
package pyhook
