package seccomp

import "strconv"

// Role says what an argument of a system call is.
type Role uint8

// The roles. Those up to RoleBytesLen are plain numbers and addresses; the
// others have a decoder or lead to memory that has one.
const (
	RoleHex          Role = iota // a full register without a known meaning
	RoleFlags                    // 32 bits of flags without a decoder
	RoleInt                      // int or unsigned int
	RoleLong                     // long, loff_t, off_t
	RolePointer                  // address of something that is not decoded
	RoleBytesLen                 // size_t, number of bytes or of elements
	RolePath                     // address of a path name
	RoleString                   // address of another NUL-terminated string
	RoleArgv                     // address of an argument vector
	RoleEnvp                     // address of an environment vector
	RoleSockaddr                 // address of a struct sockaddr that the kernel reads
	RoleMsghdr                   // address of a struct msghdr that the kernel reads
	RoleMmsghdr                  // address of an array of struct mmsghdr
	RoleOpenHow                  // address of a struct open_how
	RoleCloneArgs                // address of a struct clone_args
	RoleFD                       // file descriptor
	RoleDirFD                    // directory descriptor or AT_FDCWD, for the path that follows
	RoleOpenFlags                // O_*, and the SOCK_, EFD_, IN_ and SFD_ flags with the same values
	RoleMode                     // umode_t, permission bits
	RoleAtFlags                  // AT_*
	RoleFamily                   // AF_*
	RoleSockType                 // SOCK_*, type and flags
	RoleProtocol                 // protocol of a socket
	RoleSockaddrLen              // length of the struct sockaddr before it
	RoleSockLevel                // SOL_*, IPPROTO_*
	RoleCloneFlags               // CLONE_*, with the exit signal in the low byte
	RoleUnshareFlags             // CLONE_NEW*, CLONE_FS, CLONE_FILES
	RoleSignal                   // signal number
	RolePID                      // process, thread or group id
	RoleUID                      // user id
	RoleGID                      // group id
	RoleIoctl                    // ioctl(2) request
	RoleFcntl                    // fcntl(2) command
	RolePrctl                    // prctl(2) option
	RoleProt                     // PROT_*
	RoleMapFlags                 // MAP_*
	RoleMountFlags               // MS_*
	RoleUmountFlags              // MNT_*, UMOUNT_*
	RoleBPF                      // bpf(2) command
	RolePtrace                   // ptrace(2) request
	RoleKeyctl                   // keyctl(2) operation
	RoleSeccomp                  // seccomp(2) operation
	RoleRLimit                   // RLIMIT_*
	RoleIOURing                  // IORING_REGISTER_*
)

// width is how many low bits of the register the kernel looks at. What stands
// above them is garbage that a caller may choose (the kernel truncates to the
// declared type), so a condition must not depend on it.
func (r Role) width() uint {
	switch r {
	case RoleMode:
		return 16 // umode_t is an unsigned short
	case RoleHex, RoleLong, RolePointer, RoleBytesLen, RolePath, RoleString, RoleArgv, RoleEnvp,
		RoleSockaddr, RoleMsghdr, RoleMmsghdr, RoleOpenHow, RoleCloneArgs,
		RoleProt, RoleMapFlags, RoleMountFlags:
		return 64
	}
	return 32
}

// Pointer reports whether the argument is an address.
func (r Role) Pointer() bool {
	switch r {
	case RolePointer, RolePath, RoleString, RoleArgv, RoleEnvp, RoleSockaddr, RoleMsghdr,
		RoleMmsghdr, RoleOpenHow, RoleCloneArgs:
		return true
	}
	return false
}

// Format writes an argument in the words of the manual pages, an address as a
// number.
func (r Role) Format(v uint64) string {
	switch r {
	case RoleFD:
		return strconv.Itoa(int(int32(v)))
	case RoleInt, RolePID, RoleUID, RoleGID, RoleSockaddrLen, RoleProtocol:
		return strconv.Itoa(int(int32(v)))
	case RoleLong, RoleBytesLen:
		return strconv.FormatInt(int64(v), 10)
	case RoleFlags:
		return hexNumber(v & 0xffffffff)
	}
	if f := decoder(r); f != nil {
		return f(v)
	}
	return hexNumber(v)
}

func decoder(r Role) func(uint64) string {
	switch r {
	case RoleDirFD:
		return DirFD
	case RoleOpenFlags:
		return OpenFlags
	case RoleMode:
		return Mode
	case RoleAtFlags:
		return AtFlags
	case RoleFamily:
		return Family
	case RoleSockType:
		return SockType
	case RoleSockLevel:
		return SockLevel
	case RoleCloneFlags:
		return CloneFlags
	case RoleUnshareFlags:
		return UnshareFlags
	case RoleSignal:
		return Signal
	case RoleIoctl:
		return IoctlRequest
	case RoleFcntl:
		return FcntlCommand
	case RolePrctl:
		return PrctlOption
	case RoleProt:
		return Prot
	case RoleMapFlags:
		return MapFlags
	case RoleMountFlags:
		return MountFlags
	case RoleUmountFlags:
		return UmountFlags
	case RoleBPF:
		return BPFCommand
	case RolePtrace:
		return PtraceRequest
	case RoleKeyctl:
		return KeyctlOperation
	case RoleSeccomp:
		return SeccompOperation
	case RoleRLimit:
		return RLimitResource
	case RoleIOURing:
		return IOURingRegister
	}
	return nil
}
