package pystack

import "golang.org/x/sys/unix"

// threadTID is where glibc keeps a thread's number, from the address that
// pthread_self(3) returns: struct pthread of nptl/descr.h, whose head takes 192
// bytes here and which continues with a list_t. Not tested.
const threadTID = 192 + 16

// Calls that make the caller wait until its child has another memory. This
// architecture has no vfork(2): the C library uses clone(2).
const (
	sysVfork = -1
	sysClone = unix.SYS_CLONE
)
