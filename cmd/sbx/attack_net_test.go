package main

import "testing"

// inetSocket makes a socket past Python's own doors.
const inetSocket = `
import socket
def made(family, kind=1, proto=0):
    return socket.socket(fileno=call(41, family, kind, proto))
`

// TestAttackNetwork: nothing of the host's network can be reached, and no other
// kind of socket that leads out of a network namespace.
func TestAttackNetwork(t *testing.T) {
	runAttacks(t, []attack{
		{name: "tcp to the host's loopback", code: `
import socket
return socket.create_connection(("127.0.0.1", HOST["tcp"]), 5).recv(64).decode() == HOST["secret"]`,
			strict: "EPERM", observe: "ECONNREFUSED", control: "got True", op: "socket"},
		{name: "tcp by native code", code: inetSocket + `
s = made(socket.AF_INET)
s.settimeout(5)
s.connect(("127.0.0.1", HOST["tcp"]))
return s.recv(64).decode() == HOST["secret"]`,
			strict: "EPERM", observe: "ECONNREFUSED", control: "got True", op: "socket"},
		{name: "udp to the host's loopback", code: inetSocket + `
s = made(socket.AF_INET, 2)
s.settimeout(5)
s.connect(("127.0.0.1", HOST["udp"]))
s.send(b"x")
return s.recv(64).decode() == HOST["secret"]`,
			strict: "EPERM", observe: "ECONNREFUSED", control: "got True"},
		{name: "an address outside", code: inetSocket + `
s = made(socket.AF_INET, 2)
s.connect(("192.0.2.1", 9))
return "a route"`,
			// A host without a route answers the same: the host's loopback is the control.
			strict: "EPERM", observe: "ENETUNREACH", control: "-"},
		// Abstract names belong to the network namespace and not to the mounts.
		{name: "an abstract unix socket of the host", code: inetSocket + `
s = made(socket.AF_UNIX)
s.settimeout(5)
s.connect("\0" + HOST["abstract"])
return s.recv(64).decode() == HOST["secret"]`,
			strict: "EPERM", observe: "ECONNREFUSED|EPERM", control: "got True"},
		{name: "a unix socket of the host by its path", code: inetSocket + `
s = made(socket.AF_UNIX)
s.settimeout(5)
s.connect(HOST["unix"])
return s.recv(64).decode() == HOST["secret"]`,
			strict: "EPERM", observe: "ENOENT", control: "got True"},
		{name: "a unix socket through one of a pair", code: `
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.connect("\0" + HOST["abstract"])
return "connected"`,
			// Outside the other side is a stream, and the kernel says so.
			strict: "EPERM", observe: "ECONNREFUSED|EPERM|EPROTOTYPE", control: "reached", op: "connect"},
		{name: "a datagram through one of a pair", code: `
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
address = b"\1\0\0" + HOST["abstract"].encode()
return call(44, a.fileno(), b"x", 1, 0, address, len(address))`,
			// A pair is connected already: EISCONN or EPROTOTYPE, not a refusal.
			strict: "EPERM", observe: "reached|EPERM", control: "reached", op: "sendto"},
		{name: "raw sockets", code: `
import socket
made = []
for family, kind, proto in ((2, 3, 1), (2, 3, 255), (10, 3, 58), (17, 3, 0x300), (17, 2, 0x300), (2, 10, 0)):
    try:
        os.close(call(41, family, kind, proto))
        made.append(family)
    except OSError:
        pass
return made != []`,
			strict: "got False", control: "got True", plain: "got False"},
		// AF_VSOCK knows no namespaces; AF_ALG, AF_TIPC and their like are code of
		// the kernel that a script has no use for.
		{name: "families of sockets", code: `
made = set()
for family in list(range(0, 64)) + [(1 << 32) | 40]:
    for kind in (1, 2, 3, 5):
        try:
            os.close(call(41, family, kind, 0))
            made.add(family)
        except OSError:
            pass
return sorted(made)`,
			strict: "got []", observe: "got [1, 2, 10, 16]", control: "reached", op: "socket"},
		{name: "families of pairs", code: `
made = set()
for family in range(0, 64):
    for kind in (1, 2, 3, 5):
        try:
            pair = (ctypes.c_int * 2)()
            call(53, family, kind, 0, pair)
            os.close(pair[0]); os.close(pair[1])
            made.add(family)
        except OSError:
            pass
return sorted(made)`,
			strict: "got [1]", control: "got", op: "socketpair"},
		{name: "the hypervisor", code: `return call(41, 40, 1, 0) >= 0`,
			// Where the kernel has no AF_VSOCK it says EAFNOSUPPORT.
			strict: "EPERM", control: "got True|EAFNOSUPPORT", op: "socket"},
		{name: "netlink protocols", code: `
made = []
for proto in range(0, 23):
    try:
        os.close(call(41, 16, 3, proto))
        made.append(proto)
    except OSError:
        pass
return made`,
			strict: "got []", observe: "got [0]", control: "reached"},
		{name: "interfaces", code: `
import socket
return [name for _, name in socket.if_nameindex() if name != "lo"] != []`,
			// A host may have no other interface.
			strict: "EPERM", observe: "got False", control: "-"},
		{name: "the host's network namespace", code: `
return os.readlink("/proc/self/ns/net") == os.readlink("/proc/%d/ns/net" % HOST["pid"])`,
			strict: "ENOENT", control: "got True"},
		{name: "lists of the host's sockets", code: `
return ":%04X " % HOST["tcp"] in open("/proc/self/net/tcp").read() or HOST["abstract"] in open("/proc/self/net/unix").read()`,
			strict: "got False|ENOENT|EINVAL", control: "got True"},
		{name: "a listener that the caller leaked", code: `
import socket
for fd in HOST["fds"]:
    try:
        if socket.socket(fileno=fd).getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return True
    except OSError:
        pass
raise FileNotFoundError(2, "none")`,
			strict: "ENOENT", control: "got True"},
		{name: "shared memory of the host", code: `return call(29, HOST["key"], 4096, 0) >= 0`,
			strict: "EPERM", observe: "ENOENT", control: "got True", op: "shmget"},
		{name: "message queues of the host", code: `return call(240, b"sbx-test-none", 0, 0, 0)`,
			strict: "EPERM", control: "ENOENT", op: "mq_open"},
	})
}
