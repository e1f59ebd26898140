package seccomp

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// name gives a number, or a set of bits, the name it has in the manual pages.
type name struct {
	value uint64
	text  string
}

func hexNumber(v uint64) string { return "0x" + strconv.FormatUint(v, 16) }

// one names a number of an enumeration.
func one(v uint64, names []name) string {
	for _, n := range names {
		if n.value == v {
			return n.text
		}
	}
	return strconv.FormatInt(int64(int32(v)), 10)
}

// bits names the flags set in v, which is empty when there are none. Flags that
// contain others stand before them in names.
func bits(v uint64, names []name) string {
	var parts []string
	for _, n := range names {
		if v&n.value == n.value {
			parts = append(parts, n.text)
			v &^= n.value
		}
	}
	if v != 0 {
		parts = append(parts, hexNumber(v))
	}
	return strings.Join(parts, "|")
}

func orZero(s string) string {
	if s == "" {
		return "0"
	}
	return s
}

// OpenFlags writes the flags of open(2).
func OpenFlags(v uint64) string {
	v &= 0xffffffff
	access := [...]string{"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"}[v&unix.O_ACCMODE]
	if rest := bits(v&^unix.O_ACCMODE, openNames); rest != "" {
		return access + "|" + rest
	}
	return access
}

// DirFD writes a directory descriptor.
func DirFD(v uint64) string {
	if int32(v) == unix.AT_FDCWD {
		return "AT_FDCWD"
	}
	return strconv.Itoa(int(int32(v)))
}

// Mode writes permission bits as chmod(1) takes them.
func Mode(v uint64) string { return "0" + strconv.FormatUint(v&0xffff, 8) }

// AtFlags writes the AT_ flags of the calls whose name ends in at.
func AtFlags(v uint64) string { return orZero(bits(v&0xffffffff, atNames)) }

// Family writes an address family.
func Family(v uint64) string { return one(v&0xffffffff, familyNames) }

// SockType writes the type argument of socket(2), flags included.
func SockType(v uint64) string {
	v &= 0xffffffff
	kind := one(v&0xf, sockTypeNames)
	if rest := bits(v&^0xf, sockFlagNames); rest != "" {
		return kind + "|" + rest
	}
	return kind
}

// SockLevel writes the level argument of setsockopt(2).
func SockLevel(v uint64) string { return one(v&0xffffffff, sockLevelNames) }

// CloneFlags writes the flags of clone(2), with the exit signal.
func CloneFlags(v uint64) string {
	v &= 0xffffffff
	flags := bits(v&^0xff, cloneNames)
	if v&0xff == 0 {
		return orZero(flags)
	}
	if flags == "" {
		return Signal(v & 0xff)
	}
	return flags + "|" + Signal(v&0xff)
}

// UnshareFlags writes the flags of unshare(2) and setns(2), where 0x80 is a
// namespace and no signal.
func UnshareFlags(v uint64) string { return orZero(bits(v, unshareNames)) }

// Signal writes a signal number.
func Signal(v uint64) string {
	n := v & 0xffffffff
	if n == 0 {
		return "0"
	}
	const rtmin, rtmax = 32, 64 // the kernel's SIGRTMIN, signal(7)
	if n >= rtmin && n <= rtmax {
		return "SIGRT_" + strconv.FormatUint(n-rtmin, 10)
	}
	if s := unix.SignalName(unix.Signal(n)); s != "" {
		return s
	}
	return strconv.Itoa(int(int32(n)))
}

// Prot writes the protection argument of mmap(2).
func Prot(v uint64) string {
	if v == unix.PROT_NONE {
		return "PROT_NONE"
	}
	return bits(v, protNames)
}

// MapFlags writes the flags of mmap(2).
func MapFlags(v uint64) string { return orZero(bits(v, mapNames)) }

// MountFlags writes the flags of mount(2).
func MountFlags(v uint64) string {
	if v&unix.MS_MGC_MSK == unix.MS_MGC_VAL {
		v &^= unix.MS_MGC_MSK // ignored since Linux 2.4, mount(2)
	}
	return orZero(bits(v, mountNames))
}

// UmountFlags writes the flags of umount2(2).
func UmountFlags(v uint64) string { return orZero(bits(v&0xffffffff, umountNames)) }

// PrctlOption writes the first argument of prctl(2).
func PrctlOption(v uint64) string { return one(v&0xffffffff, prctlNames) }

// IoctlRequest writes the request of ioctl(2).
func IoctlRequest(v uint64) string {
	v &= 0xffffffff
	for _, n := range ioctlNames {
		if n.value == v {
			return n.text
		}
	}
	return hexNumber(v)
}

// FcntlCommand writes the command of fcntl(2).
func FcntlCommand(v uint64) string { return one(v&0xffffffff, fcntlNames) }

// BPFCommand writes the command of bpf(2).
func BPFCommand(v uint64) string { return one(v&0xffffffff, bpfNames) }

// PtraceRequest writes the request of ptrace(2).
func PtraceRequest(v uint64) string { return one(v&0xffffffff, ptraceNames) }

// KeyctlOperation writes the operation of keyctl(2).
func KeyctlOperation(v uint64) string { return one(v&0xffffffff, keyctlNames) }

// SeccompOperation writes the operation of seccomp(2).
func SeccompOperation(v uint64) string { return one(v&0xffffffff, seccompNames) }

// IOURingRegister writes the operation of io_uring_register(2).
func IOURingRegister(v uint64) string { return one(v&0xffffffff, ioURingNames) }

// ResolveFlags writes the resolve field of openat2(2).
func ResolveFlags(v uint64) string { return orZero(bits(v, resolveNames)) }

// RLimitResource writes the resource of setrlimit(2).
func RLimitResource(v uint64) string { return one(v&0xffffffff, rlimitNames) }
