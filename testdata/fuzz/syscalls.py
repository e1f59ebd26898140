"""Makes random system calls with random arguments: argv is a seed and a number.

It runs inside of the jail, and nothing that it does may reach anything outside.
Calls that would only end it early are rare, so that there is time for the others.
"""
import ctypes
import random
import signal
import sys

seed, count = int(sys.argv[1]), int(sys.argv[2])
rng = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

PATHS = [
    b"/", b".", b"..", b"/etc/passwd", b"/etc/shadow", b"/tmp", b"/tmp/x", b"/tmp/../etc/motd", b"/proc/self/mem",
    b"/proc/1/environ", b"/proc/1/root", b"/proc/self/exe", b"/proc/self/fd/62", b"/proc/sys/kernel/core_pattern",
    b"/sys/kernel", b"/dev/null", b"/dev/mem", b"/dev/shm", b"/dev/ptmx", b"/dev/kmsg", b"/dev/fuse", b"/root", b"/home",
    b"/var/run/docker.sock", b"/run", b"", b"x" * 300, b"\xff\xfe\x1b[31m", b"tmpfs", b"proc", b"overlay", b"user", b"hash",
]
# Addresses of sockets: loopback, an abstract name, a path, netlink, vsock, packet.
ADDRESSES = [
    b"\x02\0\0\x50\x7f\0\0\x01" + bytes(8), b"\x01\0\0sbx-fuzz-canary", b"\x01\0/run/systemd/notify\0",
    b"\x10\0\0\0" + bytes(8), b"\x28\0\0\0\x39\x05\0\0\x02\0\0\0" + bytes(4), b"\x11\0\0\x03\x01\0\0\0" + bytes(12),
    b"\x0a\0\0\x50" + bytes(20) + b"\x01" + bytes(7),
]
LATE = {60, 231, 15, 11, 10, 25, 12, 9, 28, 149, 151, 219, 324, 330}  # exits, sigreturn, and the memory of this program
CALLS = [nr for nr in list(range(0, 335)) + list(range(424, 475)) if nr not in LATE]

keep = [ctypes.create_string_buffer(p + b"\0") for p in PATHS] + [ctypes.create_string_buffer(a, 128) for a in ADDRESSES]
scratch = ctypes.create_string_buffer(1 << 16)


def pointer():
    kind = rng.random()
    if kind < 0.5:
        return ctypes.addressof(rng.choice(keep))
    at = rng.randrange(0, len(scratch) - 512)
    if kind < 0.8:
        words = [argument(False) & (1 << 64) - 1 for _ in range(rng.randrange(1, 12))]
        ctypes.memmove(ctypes.addressof(scratch) + at, b"".join(w.to_bytes(8, "little") for w in words), 8 * len(words))
        return ctypes.addressof(scratch) + at
    return rng.choice([0, 1, 0xdeadbeef, (1 << 47) - 4096, (1 << 64) - 1, ctypes.addressof(scratch)])


def argument(deep=True):
    kind = rng.random()
    if kind < 0.4 and deep:
        return pointer()
    if kind < 0.6:
        return rng.randrange(0, 80)  # descriptors, small flags, pids
    if kind < 0.75:
        return 1 << rng.randrange(0, 64)
    if kind < 0.85:
        return rng.choice([-1, -100, 0x7fffffff, 0x80000000, 0xffffffff, 4096, 512, 0o666, 0o4777])
    return rng.getrandbits(rng.choice([8, 16, 32, 64]))


# Calls that wait are taken back.
signal.signal(signal.SIGALRM, lambda *a: None)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
for n in range(count):
    nr = rng.choice(CALLS) if rng.random() < 0.97 else rng.choice(sorted(LATE) + [rng.randrange(335, 10000), -1])
    args = [ctypes.c_ulong(argument() & (1 << 64) - 1) for _ in range(6)]
    try:
        libc.syscall(ctypes.c_long(nr), *args)
    except Exception:  # the interpreter itself notices what was done to it
        pass
