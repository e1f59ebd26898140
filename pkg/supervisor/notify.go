package supervisor

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The listener's protocol, seccomp_unotify(2). The sizes are part of the
// kernel's interface and are in the request numbers.

// notification is struct seccomp_notif.
type notification struct {
	ID   uint64
	TID  uint32 // of the caller, in our pid namespace
	_    uint32
	NR   int32
	Arch uint32
	IP   uint64
	Args [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	ID    uint64
	Val   int64
	Error int32 // negative errno: with a positive one the refused call succeeds
	Flags uint32
}

const (
	ioctlRecv     = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	ioctlSend     = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	ioctlIDValid  = 0x40082102 // SECCOMP_IOCTL_NOTIF_ID_VALID
	ioctlSetFlags = 0x40082104 // SECCOMP_IOCTL_NOTIF_SET_FLAGS, Linux 6.6

	flagContinue   = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE
	flagSyncWakeUp = 1 // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
)

// channel is where notifications come from and answers go.
type channel interface {
	receive() (notification, error)
	send(r response) error
	valid(id uint64) bool
}

// listener is the descriptor of a filter's notifications.
type listener struct{ fd int }

// syncWakeUp asks the kernel to wake the other side on the same processor: a
// round trip takes 6 microseconds with it and 25 to 55 without. Kernels before
// 6.6 do not know it.
func (l listener) syncWakeUp() {
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), ioctlSetFlags, flagSyncWakeUp)
}

// receive takes the next notification. ENOENT means that it was withdrawn: the
// caller was killed, or a signal interrupted the call.
func (l listener) receive() (notification, error) {
	var n notification // the kernel wants it zeroed
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), ioctlRecv, uintptr(unsafe.Pointer(&n)))
		if errno == 0 {
			return n, nil
		}
		if !errors.Is(errno, unix.EINTR) {
			return n, errno
		}
	}
}

// send answers. ENOENT means that nobody waits for it any more.
func (l listener) send(r response) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), ioctlSend, uintptr(unsafe.Pointer(&r)))
		if errno == 0 {
			return nil
		}
		if !errors.Is(errno, unix.EINTR) {
			return errno
		}
	}
}

// valid says whether the caller still waits: what was read from its memory, or
// from /proc by its number, belongs to this call only if it does.
func (l listener) valid(id uint64) bool {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), ioctlIDValid, uintptr(unsafe.Pointer(&id)))
	return errno == 0
}

func pass(id uint64) response { return response{ID: id, Flags: flagContinue} }

// refuse answers with an errno. Without one the refused call would succeed, and
// what is no errno (MAX_ERRNO of linux/err.h) the caller would take for a result.
func refuse(id uint64, errno unix.Errno) response {
	const maxErrno = 4095
	if errno == 0 || errno > maxErrno {
		errno = unix.EPERM
	}
	return response{ID: id, Error: -int32(errno)}
}
