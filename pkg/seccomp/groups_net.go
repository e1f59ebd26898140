package seccomp

import (
	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

// sockTypeMask is SOCK_TYPE_MASK of linux/net.h: the rest of a socket's type
// argument is SOCK_NONBLOCK and SOCK_CLOEXEC.
const sockTypeMask = 0xf

func socketPairRules() []profile.Rule {
	rules := []profile.Rule{
		when("two connected sockets without a name", "socketpair", is(0, unix.AF_UNIX)),
		// A message can carry an address behind its pointer. Sockets of a pair are
		// of the unix family, whose names end at the mount and network namespaces.
		allow("messages; the namespaces bound the addresses", "sendmsg", "recvmsg", "recvfrom"),
		when("data without an address: asyncio wakes its loop so", "sendto", null(4)),
		allow("what a socket is connected to, and its end", "getsockname", "getpeername", "getsockopt", "shutdown"),
	}
	return append(rules, genericOptionRules()...)
}

// genericOptionRules let the options of SOL_SOCKET be set by blocks of numbers
// that leave out SO_BINDTODEVICE, the SO_ATTACH_ and SO_DETACH_ filters, which
// hand the kernel a program to run.
func genericOptionRules() []profile.Rule {
	const reason = "options of the socket itself, without filters and devices"
	level := is(1, unix.SOL_SOCKET)
	return []profile.Rule{
		when(reason, "setsockopt", level, masked32(2, 0xfffffff0, 0)),                // SO_DEBUG to SO_REUSEPORT
		when(reason, "setsockopt", level, masked32(2, 0xfffffff8, unix.SO_PASSCRED)), // to SO_SECURITY_*
		when(reason, "setsockopt", level, is(2, unix.SO_TIMESTAMP)),
	}
}

func inetRules() []profile.Rule {
	const reason = "a family that the network namespace bounds"
	var rules []profile.Rule
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		for _, t := range []struct{ kind, protocol uint64 }{
			{unix.SOCK_STREAM, unix.IPPROTO_IP}, {unix.SOCK_STREAM, unix.IPPROTO_TCP},
			{unix.SOCK_DGRAM, unix.IPPROTO_IP}, {unix.SOCK_DGRAM, unix.IPPROTO_UDP},
		} {
			rules = append(rules, when(reason, "socket",
				is(0, family), masked32(1, sockTypeMask, t.kind), is(2, t.protocol)))
		}
	}
	rules = append(rules,
		when("unix sockets; the mount and network namespaces bound their names", "socket", is(0, unix.AF_UNIX)),
		when("getaddrinfo asks for the interfaces", "socket", is(0, unix.AF_NETLINK), is(2, unix.NETLINK_ROUTE)),
		allow("connections within the network namespace",
			"connect", "bind", "listen", "accept", "accept4", "sendto", "sendmmsg", "recvmmsg"),
	)
	rules = append(rules, each("names of interfaces", []string{"ioctl"}, 1, unix.SIOCGIFNAME, unix.SIOCGIFINDEX)...)
	return append(rules, protocolOptionRules()...)
}

// protocolOptionRules leave out the numbers from 64 on, which are netfilter's
// tables (CVE-2021-22555), and TCP_ULP, which loads protocols (CVE-2023-0461).
func protocolOptionRules() []profile.Rule {
	const reason = "options of the usual protocols"
	return []profile.Rule{
		when(reason, "setsockopt", is(1, unix.IPPROTO_IP), masked32(2, 0xffffffc0, 0)),
		when(reason, "setsockopt", is(1, unix.IPPROTO_IPV6), masked32(2, 0xffffffc0, 0)),
		when(reason, "setsockopt", is(1, unix.IPPROTO_TCP), masked32(2, 0xfffffff0, 0)),
		when(reason, "setsockopt", is(1, unix.IPPROTO_TCP), is(2, unix.TCP_USER_TIMEOUT)),
		when(reason, "setsockopt", is(1, unix.IPPROTO_TCP), is(2, unix.TCP_FASTOPEN)),
	}
}
