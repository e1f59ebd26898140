"""Looks at the jail from inside, and says what it saw as one JSON object."""
import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *args):
    ctypes.set_errno(0)
    if getattr(libc, name)(*args) == -1:
        raise OSError(ctypes.get_errno(), name)


def write(path, flags=os.O_CREAT | os.O_EXCL):
    os.close(os.open(path, os.O_WRONLY | flags, 0o755))


def run(path):
    with open(path, 'w') as f:
        f.write('#!/bin/true\n')
    os.chmod(path, 0o755)
    os.execv(path, [path])


def peek(pid):
    buf = ctypes.create_string_buffer(8)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(buf), 8)
    remote = (ctypes.c_void_p * 2)(0x400000, 8)
    call('process_vm_readv', pid, local, 1, remote, 1, 0)


def fill(folder):
    n = 0
    try:
        while n < 100000:
            write('%s/%d' % (folder, n))
            n += 1
    finally:
        for i in range(n):
            os.unlink('%s/%d' % (folder, i))


def big(path):
    with open(path, 'wb', 0) as f:
        try:
            while True:
                f.write(bytes(1 << 16))
        finally:
            os.unlink(path)


def connect(address):
    with socket.socket(socket.AF_INET) as s:
        s.connect(address)


def raise_limit(which):
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (soft, hard + 1))


CLONE_NEWNS = 0x00020000
stdlib = os.path.dirname(os.__file__)
attempts = {
    'write /': lambda: write('/made'),
    'mkdir /': lambda: os.mkdir('/made'),
    'write /etc': lambda: write('/etc/made'),
    'append /etc/passwd': lambda: write('/etc/passwd', os.O_APPEND),
    'unlink /etc/passwd': lambda: os.unlink('/etc/passwd'),
    'write /dev': lambda: write('/dev/made'),
    'write /sandbox': lambda: write('/sandbox/made'),
    'append script': lambda: write(__file__, os.O_APPEND),
    'write stdlib': lambda: write(stdlib + '/made'),
    'append stdlib': lambda: write(os.__file__, os.O_APPEND),
    'append interpreter': lambda: write(sys.executable, os.O_APPEND),
    'write /dev/null': lambda: open('/dev/null', 'w').write('x'),
    'write /dev/zero': lambda: open('/dev/zero', 'w'),
    'chmod /dev/null': lambda: os.chmod('/dev/null', 0o666),
    'utime /dev/null': lambda: os.utime('/dev/null'),
    'write /tmp': lambda: (write('/tmp/a'), os.unlink('/tmp/a')),
    'execute in /tmp': lambda: run('/tmp/program'),
    'device in /tmp': lambda: os.mknod('/tmp/dev', 0o20666, os.makedev(1, 3)),
    'inodes of /tmp': lambda: fill('/tmp'),
    'bytes of /tmp': lambda: big('/tmp/big'),
    'write /dev/shm': lambda: (write('/dev/shm/a'), os.unlink('/dev/shm/a')),
    'write /workspace': lambda: write('/workspace/made'),
    'append /workspace/data': lambda: write('/workspace/data', os.O_APPEND),
    'mount': lambda: call('mount', b'tmpfs', b'/tmp', b'tmpfs', 0, None),
    'remount /': lambda: call('mount', None, b'/', None, 32 | 4096, None),
    'umount /proc': lambda: call('umount2', b'/proc', 2),
    'chroot': lambda: os.chroot('/tmp'),
    'pivot_root': lambda: call('syscall', 155, b'.', b'.'),
    'new mount namespace': lambda: call('unshare', CLONE_NEWNS),
    'sethostname': lambda: call('sethostname', b'x', 1),
    'setuid 0': lambda: os.setuid(0),
    'setgid 0': lambda: os.setgid(0),
    'setgroups': lambda: os.setgroups([1000]),
    'drop a capability': lambda: call('prctl', 24, 0, 0, 0, 0),
    'kill init': lambda: os.kill(1, signal.SIGKILL),
    'memory of init': lambda: peek(1),
    'trace init': lambda: call('ptrace', 16, 1, 0, 0),
    'environment of init': lambda: open('/proc/1/environ', 'rb').read(),
    'program of init': lambda: os.readlink('/proc/1/exe'),
    'root of init': lambda: os.listdir('/proc/1/root'),
    '/proc/sys': lambda: os.listdir('/proc/sys'),
    '/proc/kallsyms': lambda: open('/proc/kallsyms'),
    '/sys': lambda: os.listdir('/sys'),
    'up and out': lambda: os.stat('/../../../../home'),
    'more core': lambda: raise_limit(resource.RLIMIT_CORE),
    'more files': lambda: raise_limit(resource.RLIMIT_NOFILE),
    'connect': lambda: connect(('127.0.0.1', 9)),
    'connect outside': lambda: connect(('192.0.2.1', 9)),
    'raw socket': lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    'packet socket': lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    'terminal': lambda: os.open('/dev/tty', os.O_RDWR),
}


def outcome(attempt):
    try:
        attempt()
    except OSError as e:
        return errno.errorcode[e.errno]
    except ValueError as e:  # setrlimit says it so
        return str(e)
    return ''


def descriptors():
    found = {}
    for fd in range(4096):
        try:
            os.fstat(fd)
            found[fd] = os.readlink('/proc/self/fd/%d' % fd).split(':')[0]
        except FileNotFoundError:
            found[fd] = 'open'
        except OSError:
            pass
    return found


def interfaces():
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for _, name in socket.if_nameindex():
            data = fcntl.ioctl(s, 0x8913, struct.pack('16sH14x', name.encode(), 0))  # SIOCGIFFLAGS
            found[name] = 'up' if struct.unpack('16sH14x', data)[1] & 1 else 'down'
    return found


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError as e:
        return errno.errorcode[e.errno]


seen = {
    'descriptors': descriptors(),
    'root': sorted(os.listdir('/')),
    'dev': sorted(os.listdir('/dev')),
    'etc': {name: read('/etc/' + name) for name in sorted(os.listdir('/etc'))},
    'processes': sorted(name for name in (os.listdir('/proc')) if name.isdigit()),
    'proc': sorted(name for name in os.listdir('/proc') if not name.isdigit()),
    'mountinfo': read('/proc/self/mountinfo'),
    'status': read('/proc/self/status'),
    'cgroup': read('/proc/self/cgroup'),
    'environment': sorted('%s=%s' % kv for kv in os.environ.items()),
    'host': list(os.uname())[1],
    'directory': os.getcwd(),
    'umask': os.umask(0o022),
    'ids': list(os.getresuid() + os.getresgid()),
    'groups': os.getgroups(),
    'pid': [os.getpid(), os.getppid(), os.getsid(0), os.getpgid(0)],
    'ignored': [s.name for s in signal.Signals if s not in (signal.SIGPIPE, signal.SIGXFSZ)
                and signal.getsignal(s) == signal.SIG_IGN],
    'blocked': len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    'limits': {n: list(resource.getrlimit(getattr(resource, n))) for n in dir(resource) if n.startswith('RLIMIT_')},
    'interfaces': interfaces(),
    'stdin': sys.stdin.read(),
    'argv': sys.argv,
    'attempts': {name: outcome(attempt) for name, attempt in attempts.items()},
}
print(json.dumps(seen))
