package seccomp

import (
	"slices"
	"testing"

	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
)

func TestTableAgreesWithLibseccomp(t *testing.T) {
	agreed := 0
	for nr := range table {
		got, err := libseccomp.ScmpSyscall(nr).GetNameByArch(libseccomp.ArchAMD64)
		if err != nil {
			continue // newer than the library, or a hole
		}
		agreed++
		if s, ok := Lookup(nr); !ok || s.Name != got {
			t.Errorf("call %d is %q, libseccomp says %q", nr, s.Name, got)
		}
	}
	if agreed < 350 {
		t.Errorf("libseccomp knows %d calls, want at least 350", agreed)
	}
}

func TestTableIsComplete(t *testing.T) {
	for nr := range table {
		_, ok := Lookup(nr)
		// 337 to 423 stay empty: from 424 on, all architectures number alike.
		if want := nr < 337 || nr >= 424; ok != want {
			t.Errorf("call %d in the table: %v, want %v", nr, ok, want)
		}
	}
	for _, nr := range []int{-1, len(table), 1 << 40} {
		if s, ok := Lookup(nr); ok {
			t.Errorf("call %d is %q", nr, s.Name)
		}
	}
	if last := unix.SYS_RSEQ_SLICE_YIELD; len(table) != last+1 {
		t.Errorf("the table ends at %d, want %d", len(table)-1, last)
	}
}

func TestTableEntries(t *testing.T) {
	categories := []event.Category{event.File, event.Network, event.Process, event.Syscall, event.Resource}
	for _, name := range Names() {
		s, ok := ByName(name)
		if !ok {
			t.Fatalf("%s is not found by its name", name)
		}
		if again, ok := Lookup(s.NR); !ok || again.Name != name {
			t.Errorf("%s and its number %d disagree", name, s.NR)
		}
		if !slices.Contains(categories, s.Category) {
			t.Errorf("%s has category %q", name, s.Category)
		}
		if len(s.Args) > 6 {
			t.Errorf("%s has %d arguments", name, len(s.Args))
		}
		for i, r := range s.Args {
			next := RoleHex
			if i+1 < len(s.Args) {
				next = s.Args[i+1]
			}
			// The decoder of the second relies on the first.
			if r == RoleSockaddr && next != RoleSockaddrLen {
				t.Errorf("%s: a socket address without its length", name)
			}
			if r == RoleDirFD && next != RolePath && next != RolePointer {
				t.Errorf("%s: a directory without a path", name)
			}
		}
	}
	if _, ok := ByName("opennat"); ok {
		t.Error("found a call that does not exist")
	}
}

// TestRoles spells out the calls whose decoding a report depends on.
func TestRoles(t *testing.T) {
	for name, want := range map[string][]Role{
		"open":              {RolePath, RoleOpenFlags, RoleMode},
		"openat":            {RoleDirFD, RolePath, RoleOpenFlags, RoleMode},
		"openat2":           {RoleDirFD, RolePath, RoleOpenHow, RoleBytesLen},
		"unlinkat":          {RoleDirFD, RolePath, RoleAtFlags},
		"renameat2":         {RoleDirFD, RolePath, RoleDirFD, RolePath, RoleFlags},
		"symlinkat":         {RoleString, RoleDirFD, RolePath},
		"execve":            {RolePath, RoleArgv, RoleEnvp},
		"execveat":          {RoleDirFD, RolePath, RoleArgv, RoleEnvp, RoleAtFlags},
		"socket":            {RoleFamily, RoleSockType, RoleProtocol},
		"connect":           {RoleFD, RoleSockaddr, RoleSockaddrLen},
		"bind":              {RoleFD, RoleSockaddr, RoleSockaddrLen},
		"sendto":            {RoleFD, RolePointer, RoleBytesLen, RoleFlags, RoleSockaddr, RoleSockaddrLen},
		"sendmsg":           {RoleFD, RoleMsghdr, RoleFlags},
		"clone":             {RoleCloneFlags, RolePointer, RolePointer, RolePointer, RoleHex},
		"clone3":            {RoleCloneArgs, RoleBytesLen},
		"kill":              {RolePID, RoleSignal},
		"tgkill":            {RolePID, RolePID, RoleSignal},
		"pidfd_send_signal": {RoleFD, RoleSignal, RolePointer, RoleFlags},
		"mount":             {RolePath, RolePath, RoleString, RoleMountFlags, RolePointer},
		"umount2":           {RolePath, RoleUmountFlags},
		"move_mount":        {RoleDirFD, RolePath, RoleDirFD, RolePath, RoleFlags},
		"unshare":           {RoleUnshareFlags},
		"setns":             {RoleFD, RoleUnshareFlags},
		"ptrace":            {RolePtrace, RolePID, RolePointer, RolePointer},
		"bpf":               {RoleBPF, RolePointer, RoleInt},
		"keyctl":            {RoleKeyctl, RoleHex, RoleHex, RoleHex, RoleHex},
		"ioctl":             {RoleFD, RoleIoctl, RoleHex},
		"prctl":             {RolePrctl, RoleHex, RoleHex, RoleHex, RoleHex},
		"seccomp":           {RoleSeccomp, RoleFlags, RolePointer},
		"prlimit64":         {RolePID, RoleRLimit, RolePointer, RolePointer},
		"fork":              nil,
	} {
		s, ok := ByName(name)
		if !ok || !slices.Equal(s.Args, want) {
			t.Errorf("%s takes %v, want %v", name, s.Args, want)
		}
	}
}

func TestFormat(t *testing.T) {
	tests := []struct {
		role Role
		v    uint64
		want string
	}{
		{RoleOpenFlags, 0, "O_RDONLY"},
		{RoleOpenFlags, unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC, "O_WRONLY|O_CREAT|O_TRUNC"},
		{RoleOpenFlags, unix.O_RDWR | unix.O_TMPFILE, "O_RDWR|O_TMPFILE"},
		{RoleOpenFlags, unix.O_DIRECTORY | unix.O_CLOEXEC, "O_RDONLY|O_DIRECTORY|O_CLOEXEC"},
		{RoleOpenFlags, unix.O_SYNC, "O_RDONLY|O_SYNC"},
		{RoleOpenFlags, 1 << 30, "O_RDONLY|0x40000000"},
		{RoleOpenFlags, 1<<40 | 1, "O_WRONLY"},
		{RoleMode, 0o755, "0755"},
		{RoleMode, 1<<32 | 0o644, "0644"},
		{RoleDirFD, 1<<64 - 100, "AT_FDCWD"},
		{RoleDirFD, 1<<32 - 100, "AT_FDCWD"},
		{RoleDirFD, 7, "7"},
		{RoleFD, 1<<32 - 1, "-1"},
		{RoleAtFlags, 0, "0"},
		{RoleAtFlags, unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"},
		{RoleFamily, unix.AF_INET, "AF_INET"},
		{RoleFamily, unix.AF_VSOCK, "AF_VSOCK"},
		{RoleFamily, 99, "99"},
		{RoleSockType, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, "SOCK_STREAM|SOCK_CLOEXEC"},
		{RoleSockType, unix.SOCK_RAW, "SOCK_RAW"},
		{RoleSockLevel, unix.SOL_SOCKET, "SOL_SOCKET"},
		{RoleCloneFlags, unix.CLONE_NEWUSER | uint64(unix.SIGCHLD), "CLONE_NEWUSER|SIGCHLD"},
		{RoleCloneFlags, uint64(unix.SIGCHLD), "SIGCHLD"},
		{RoleCloneFlags, 0, "0"},
		{RoleUnshareFlags, unix.CLONE_NEWTIME, "CLONE_NEWTIME"},
		{RoleSignal, 9, "SIGKILL"},
		{RoleSignal, 0, "0"},
		{RoleSignal, 34, "SIGRT_2"},
		{RoleSignal, 1<<32 - 1, "-1"},
		{RoleProt, 0, "PROT_NONE"},
		{RoleProt, unix.PROT_READ | unix.PROT_EXEC, "PROT_READ|PROT_EXEC"},
		{RoleMapFlags, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, "MAP_PRIVATE|MAP_ANONYMOUS"},
		{RoleMountFlags, unix.MS_MGC_VAL | unix.MS_BIND | unix.MS_REC, "MS_BIND|MS_REC"},
		{RoleMountFlags, 0, "0"},
		{RoleUmountFlags, unix.MNT_DETACH, "MNT_DETACH"},
		{RolePrctl, unix.PR_SET_SECCOMP, "PR_SET_SECCOMP"},
		{RolePrctl, 12345, "12345"},
		{RoleIoctl, unix.TIOCSTI, "TIOCSTI"},
		{RoleIoctl, 0xdeadbeef, "0xdeadbeef"},
		{RoleFcntl, unix.F_SETLEASE, "F_SETLEASE"},
		{RoleBPF, unix.BPF_PROG_LOAD, "BPF_PROG_LOAD"},
		{RolePtrace, unix.PTRACE_ATTACH, "PTRACE_ATTACH"},
		{RoleKeyctl, unix.KEYCTL_READ, "KEYCTL_READ"},
		{RoleSeccomp, unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"},
		{RoleRLimit, unix.RLIMIT_NOFILE, "RLIMIT_NOFILE"},
		{RoleInt, 1<<32 - 1, "-1"},
		{RoleLong, 1<<64 - 5, "-5"},
		{RoleFlags, 1<<40 | 0x10, "0x10"},
		{RoleHex, 1 << 40, "0x10000000000"},
		{RolePath, 0x7fff0000, "0x7fff0000"},
	}
	for _, tt := range tests {
		if got := tt.role.Format(tt.v); got != tt.want {
			t.Errorf("role %d of %#x is %q, want %q", tt.role, tt.v, got, tt.want)
		}
	}
}

// TestFormatIsBounded: the numbers come from the jail.
func TestFormatIsBounded(t *testing.T) {
	for r := RoleHex; r <= RoleRLimit+1; r++ {
		for bit := range 65 {
			v := uint64(1)<<bit - 1
			for _, v := range []uint64{v, ^v, v + 1} {
				if got := r.Format(v); got == "" || len(got) > 512 {
					t.Errorf("role %d of %#x is %q", r, v, got)
				}
			}
		}
	}
}
