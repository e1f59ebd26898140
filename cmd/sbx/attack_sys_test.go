package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/report"
)

func itoa(n int) string { return strconv.Itoa(n) }

// deniedCalls are system calls that no profile gives, with arguments that can do
// nothing: the errno tells a call that the kernel looked at from one that the
// filter refused. Pointers are to nowhere, descriptors -1, commands unknown.
// What may be missing from a kernel answers ENOSYS there.
const deniedCalls = `
CALLS = {
    "acct": (163, 8), "add_key": (248, 0, 0, 0, 0, 0), "adjtimex": (159, 8), "bpf": (321, 9999, 0, 0), "cachestat": (451, -1, 0, 0, 0),
    "chown": (92, 8, -1, -1), "clock_adjtime": (305, 9999, 0), "clock_settime": (227, 9999, 0), "delete_module": (176, 8, 0x800),
    "fanotify_init": (300, -1, 0), "fanotify_mark": (301, -1, 0, 0, -1, 0), "fchown": (93, -1, -1, -1), "finit_module": (313, -1, 0, 0),
    "fsconfig": (431, -1, 0, 0, 0, 0), "fsmount": (432, -1, 0, 0), "fsopen": (430, 8, 0), "fspick": (433, -1, 8, 0), "init_module": (175, 8, 8, 8),
    "io_setup": (206, 0, 0), "io_uring_enter": (426, -1, 0, 0, 0, 0), "io_uring_register": (427, -1, 9999, 0, 0), "io_uring_setup": (425, 0, 0),
    "ioperm": (173, 0xffffffff, 1, 1), "iopl": (172, 9), "ioprio_set": (251, 9999, 0, 0), "kcmp": (312, 0x7fffffff, 0x7fffffff, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0xffff), "keyctl": (250, 9999, 0, 0, 0), "landlock_create_ruleset": (444, 8, 8, 0), "lchown": (94, 8, -1, -1),
    "listmount": (458, 0, 0, 0, 0), "lookup_dcookie": (212, 0, 0, 0), "mbind": (237, 1, 0, 0, 0, 0, 0), "memfd_secret": (447, 0xffff),
    "migrate_pages": (256, 0x7fffffff, 0, 0, 0), "mincore": (27, 1, 1, 0), "mknod": (133, 8, 0, 0), "mlock2": (325, 0, 0, 0xff), "mlockall": (151, 0xff),
    "modify_ldt": (154, 1, 0, 0), "mount": (165, 8, 8, 8, 0, 0), "mount_setattr": (442, -1, 8, 0, 0, 32), "move_mount": (429, -1, 8, -1, 8, 0),
    "move_pages": (279, 0x7fffffff, 0, 0, 0, 0, 0xff), "name_to_handle_at": (303, -1, 8, 0, 0, 0), "open_by_handle_at": (304, -1, 8, 0),
    "open_tree": (428, -1, 8, 1), "openat2": (437, -1, 8, 8, 0), "perf_event_open": (298, 8, 0, -1, -1, 0xffff), "personality": (135, 0x40000),
    "pidfd_getfd": (438, -1, 0, 0), "pivot_root": (155, 8, 8), "process_madvise": (440, -1, 0, 0, 0, 0), "process_mrelease": (448, -1, 0),
    "process_vm_readv": (310, 0x7fffffff, 0, 0, 0, 0, 0), "process_vm_writev": (311, 0x7fffffff, 0, 0, 0, 0, 0), "ptrace": (101, 0x9999, 0x7fffffff, 0, 0),
    "quotactl": (179, 0xffff00, 0, 0, 0), "quotactl_fd": (443, -1, 0xffff00, 0, 0), "reboot": (169, 0, 0, 0, 0), "remap_file_pages": (216, 1, 0, 0, 0, 0),
    "request_key": (249, 8, 0, 0, 0), "sched_setattr": (314, 0, 0, 0), "seccomp": (317, 9999, 0, 0), "setdomainname": (171, 0, -1), "setfsuid": (122, -1),
    "setgroups": (116, -1, 0), "sethostname": (170, 0, -1), "setns": (308, -1, 0), "settimeofday": (164, 1, 1), "setxattr": (188, 8, 8, 8, 0, 0xff),
    "splice": (275, -1, 0, -1, 0, 1, 0), "statmount": (457, 0, 0, 0, 0), "swapoff": (168, 8), "swapon": (167, 8, 0), "syslog": (103, 9999, 0, 0),
    "tee": (276, -1, -1, 1, 0), "umount2": (166, 8, 0), "unshare": (272, 1), "uselib": (134, 8), "userfaultfd": (323, 0xf0000000), "ustat": (136, 0, 0),
    "vmsplice": (278, -1, 0, 0, 0), "chroot": (161, 8), "lsm_set_self_attr": (460, 9999, 0, 0, 0), "map_shadow_stack": (453, 1, 0, 0xff), "syncfs": (306, -1),
}
def sweep():
    out = {}
    for name, (nr, *args) in CALLS.items():
        try:
            answer = str(call(nr, *args))
        except OSError as error:
            answer = errno.errorcode[error.errno]
        out[name] = answer
    return out
`

// TestAttackDeniedCalls: what no profile gives is refused in the kernel whatever
// its arguments, and the report names it.
func TestAttackDeniedCalls(t *testing.T) {
	h := newHost(t)
	code := attackDriver + deniedCalls + `
for name, answer in sweep().items():
    os.write(1, json.dumps([name, answer]).encode() + b"\n")
`
	outside := answers(t, h.outside(t, code))
	shown := 0
	for name, answer := range outside {
		switch answer {
		case "ENOSYS", "EPERM", "EACCES": // not in this kernel, or not for this user
		default:
			shown++
			_ = name
		}
	}
	// A plain user meets the kernel's own EPERM at most of the privileged ones.
	if want := len(outside) / 3; shown < want || len(outside) < 80 {
		t.Errorf("outside of the jail the kernel looks at %d of %d calls: the test shows too little: %v", shown, len(outside), outside)
	}
	allowed := map[string]string{ // what observe gives, and the kernel's answer to the arguments
		"mbind": "EINVAL",
	}
	for _, profile := range []string{"strict", "grader", "science", "ci", "observe"} {
		modes := attackModes
		if profile != "strict" && profile != "observe" {
			modes = []string{"off"}
		}
		for _, mode := range modes {
			t.Run(profile+" "+mode, func(t *testing.T) {
				o := h.inside(t, code, "--profile", profile, "--hooks", mode)
				o.wantVerdict(t, report.OK, 0)
				for name, answer := range answers(t, o.stdout) {
					if answer == "EPERM" {
						continue
					}
					if profile == "strict" || profile == "grader" || allowed[name] != answer {
						t.Errorf("%s: %s, want EPERM (outside %s)", name, answer, outside[name])
					}
				}
				for name := range outside {
					if allowed[name] == "" {
						wantRefusal(t, o, name)
					}
				}
				h.wantUntouched(t)
			})
		}
	}
}

// TestAttackCalls are those whose danger is in an argument, and those that do
// more than fail where they are allowed.
func TestAttackCalls(t *testing.T) {
	runAttacks(t, []attack{
		// A ring opens files and connects sockets past the filter.
		{name: "io_uring", code: `return call(425, 4, ctypes.create_string_buffer(120)) >= 0`,
			strict: "EPERM", control: "got True", plain: "-", op: "io_uring_setup"},
		{name: "userfaultfd", code: `return call(323, 1) >= 0`, strict: "EPERM", control: "got True", plain: "-", op: "userfaultfd"},
		{name: "a filter of its own", code: `
insn = ctypes.create_string_buffer(b"\x06\0\0\0\0\0\xff\x7f", 8)
prog = (ctypes.c_uint64 * 2)(1, ctypes.addressof(insn))
libc.prctl(38, 1, 0, 0, 0)
return call(317, 1, 0, prog)`,
			strict: "EPERM", control: "got 0", op: "seccomp"},
		{name: "a listener of its own", code: `
insn = ctypes.create_string_buffer(b"\x06\0\0\0\0\0\xff\x7f", 8)
prog = (ctypes.c_uint64 * 2)(1, ctypes.addressof(insn))
libc.prctl(38, 1, 0, 0, 0)
return call(317, 1, 8, prog) >= 0`,
			strict: "EPERM", control: "got True", op: "seccomp"},
		{name: "a filter by prctl", code: `
insn = ctypes.create_string_buffer(b"\x06\0\0\0\0\0\xff\x7f", 8)
prog = (ctypes.c_uint64 * 2)(1, ctypes.addressof(insn))
libc.prctl(38, 1, 0, 0, 0)
return call(157, 22, 2, prog, 0, 0)`,
			strict: "EPERM", control: "got 0", op: "prctl"},
		{name: "a filter by prctl, with garbage above the option", code: `return call(157, (1 << 32) | 22, 1, 0, 0, 0)`,
			// Outside it enters strict mode, in which the next call is the last.
			strict: "EPERM", control: "signal 9|signal 11", op: "prctl"},
		{name: "performance counters", code: `
attr = ctypes.create_string_buffer(128)
attr[0:8] = b"\x01\0\0\0\x80\0\0\0"
return call(298, attr, 0, -1, -1, 0) >= 0`,
			strict: "EPERM", control: "got True|ENOENT|EINVAL|E2BIG", plain: "-", op: "perf_event_open"},
		{name: "keyrings", code: `return call(250, 0, -3, 1) != 0`, strict: "EPERM", control: "got True", op: "keyctl"},
		{name: "keys", code: `return call(248, b"user", b"sbx-test", b"x", 1, -2) != 0`, strict: "EPERM", control: "got True", op: "add_key"},
		{name: "bpf maps", code: `
attr = (ctypes.c_uint32 * 16)(2, 4, 4, 1)
return call(321, 0, attr, 64) >= 0`,
			strict: "EPERM", control: "got True", plain: "-", op: "bpf"},
		{name: "the kernel's log", code: `return call(103, 10, 0, 0) >= 0`, strict: "EPERM", control: "got True", plain: "-", op: "syslog"},
		{name: "another personality", code: `return call(135, 0x0040000)`, strict: "EPERM", control: "got 0", op: "personality"},
		{name: "code where data is", code: `return call(135, 0x0400000)`, strict: "EPERM", control: "got", op: "personality"},
		{name: "real time", code: `return call(144, 0, 1, (ctypes.c_int * 1)(1))`, strict: "EPERM", control: "got 0", plain: "-", op: "sched_setscheduler"},
		{name: "more priority", code: `return call(141, 0, 0, -10)`, strict: "EACCES", control: "got 0", plain: "EACCES"},
		{name: "priority of the user's other processes", code: `return call(141, 2, 0, 0)`, strict: "EPERM", control: "got 0"}, // init, whose capabilities the script has not, is one of them
		{name: "memory that is not swapped", code: `return call(151, 1)`, strict: "EPERM", control: "got 0|ENOMEM", op: "mlockall"},
		{name: "a pipe for notifications of the kernel", code: `
fds = (ctypes.c_int * 2)()
return call(293, fds, 0x80)`,
			// CVE-2022-0995. Kernels without CONFIG_WATCH_QUEUE say ENOPKG.
			strict: "EPERM", control: "got 0|ENOPKG|EINVAL", op: "pipe2"},
		{name: "leases and notices on shared files", code: `
import fcntl
out = set()
f = open(os.__file__)
for command, value in ((1024, 0), (1026, 1), (8, os.getpid()), (10, 12)):
    try:
        call(72, f.fileno(), command, value)
        out.add(command)
    except OSError as error:
        if error.errno != errno.EPERM:
            out.add(command)
return sorted(out)`,
			strict: "got []", control: "reached", op: "fcntl"},
		{name: "a terminal", code: `return call(16, 0, 0x5412, b"x")`, strict: "EPERM", control: "reached", plain: "reached", op: "ioctl"},
		{name: "a call that nobody knows", code: `return call(999, 0, 0, 0)`, strict: "ENOSYS", control: "ENOSYS"},
		{name: "the size of kernel structures on a socket", code: `
import socket
a, b = socket.socketpair()
a.setsockopt(socket.SOL_SOCKET, 26, b"\0" * 16)  # SO_ATTACH_FILTER
return "attached"`,
			strict: "EPERM", control: "reached", op: "setsockopt"},
	})
}

// TestAttackForeignArchitectures: the 32-bit doors, where numbers mean other
// calls, kill the process (i386 by int 0x80), and so does x32.
func TestAttackForeignArchitectures(t *testing.T) {
	const machine = attackDriver + `
import mmap
m = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
m.write(MACHINE)
address = ctypes.addressof(ctypes.c_char.from_buffer(m))
result = ctypes.CFUNCTYPE(ctypes.c_long)(address)()
print("the kernel answered", "it" if result > 0 else result)
`
	doors := []struct{ name, code, outside string }{
		// mov eax, 20 (getpid of i386, writev here); int 0x80; cdqe; ret
		{"i386", `b"\x53\xb8\x14\0\0\0\xcd\x80\x48\x98\x5b\xc3"`, "the kernel answered it"},
		// mov eax, 0x40000027 (getpid of x32); syscall; ret
		{"x32", `b"\xb8\x27\0\0\x40\x0f\x05\xc3"`, "the kernel answered"},
	}
	h := newHost(t)
	for _, door := range doors {
		code := strings.Replace(machine, "MACHINE", door.code, 1)
		if out := h.outside(t, code); !strings.HasPrefix(out, door.outside) {
			t.Errorf("%s: outside of the jail %q: the test shows nothing", door.name, out)
		}
		for _, profile := range []string{"strict", "observe"} {
			for _, mode := range attackModes {
				t.Run(door.name+" "+profile+" "+mode, func(t *testing.T) {
					o := h.inside(t, code, "--profile", profile, "--hooks", mode)
					o.wantVerdict(t, report.PolicyKill, 159)
					if strings.Contains(o.stdout, "answered") {
						t.Errorf("the script said %q", o.stdout)
					}
				})
			}
		}
	}
}

// TestAllowedCallsReachTheKernel: that a refusal means something, calls that the
// profile allows get the kernel's answer to their bad arguments.
func TestAllowedCallsReachTheKernel(t *testing.T) {
	const code = attackCalls + `
CALLS = {
    "read": (0, -1, 8, 1), "write": (1, -1, 8, 1), "close": (3, -2), "fstat": (5, -1, 8), "stat": (4, 8, 8), "lseek": (8, -1, 0, 0), "munmap": (11, 1, 1),
    "mprotect": (10, 1, 1, 0), "pread64": (17, -1, 8, 1, 0), "readv": (19, -1, 8, 1), "access": (21, 8, 0), "pipe": (22, 8), "mremap": (25, 1, 1, 1, 0xff),
    "dup": (32, -1), "nanosleep": (35, 8, 0), "socketpair": (53, 1, 1, 0, 8), "fcntl": (72, -1, 1), "fsync": (74, -1), "ftruncate": (77, -1, 0),
    "getdents64": (217, -1, 8, 1), "getcwd": (79, 8, 64), "chdir": (80, 8), "readlink": (89, 8, 8, 1), "gettimeofday": (96, 8, 0), "getrlimit": (97, 99, 8),
    "clock_gettime": (228, 99, 8), "openat": (257, -100, 8, 0), "newfstatat": (262, -1, 8, 8, 0), "epoll_ctl": (233, -1, 1, -1, 0), "getrandom": (318, 8, 1, 0xff),
}
for name, (nr, *args) in CALLS.items():
    try:
        answer = str(call(nr, *args))
    except OSError as error:
        answer = errno.errorcode[error.errno]
    os.write(1, json.dumps([name, answer]).encode() + b"\n")
`
	for _, profile := range []string{"default", "strict", "observe"} {
		o := runScript(t, code, "--profile", profile, "--hooks", "off")
		o.wantVerdict(t, report.OK, 0)
		got := answers(t, o.stdout)
		if len(got) < 30 {
			t.Errorf("%s: %d answers", profile, len(got))
		}
		for name, answer := range got {
			if answer != "EFAULT" && answer != "EBADF" && answer != "EINVAL" {
				t.Errorf("%s: %s answers %s", profile, name, answer)
			}
		}
	}
}
