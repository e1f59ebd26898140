package pystack

import "golang.org/x/sys/unix"

// threadTID is where glibc keeps a thread's number, from the address that
// pthread_self(3) returns: struct pthread of nptl/descr.h, whose head takes 704
// bytes here and which continues with a list_t. fork(3) keeps it right.
const threadTID = 704 + 16

// Calls that make the caller wait until its child has another memory.
const (
	sysVfork = unix.SYS_VFORK
	sysClone = unix.SYS_CLONE
)
