package supervisor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/seccomp"
)

// memory reads the target's address space. What is in it is the target's to
// choose, and may change while it is read.
type memory interface {
	readAt(tid int, p []byte, addr uint64) (int, error)
}

// vm is process_vm_readv(2).
type vm struct{}

func (vm) readAt(tid int, p []byte, addr uint64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	local := []unix.Iovec{{Base: &p[0]}}
	local[0].SetLen(len(p))
	return unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}, 0)
}

// Bounds of what is read for one call.
const (
	maxString = 4096 // PATH_MAX
	maxArgs   = 32
	maxArgv   = 4096 // bytes of all arguments
	maxAddr   = 128  // struct sockaddr_storage
	pageSize  = 4096
)

var errMemory = errors.New("memory cannot be read")

// readString reads up to the NUL, never over the end of a page in one step: the
// string may end just before memory that is not mapped. Most are short, so the
// first step is.
func readString(m memory, tid int, addr uint64, limit int) (string, error) {
	var first [256]byte
	buf := first[:]
	var out []byte
	for len(out) < limit {
		n := min(pageSize-int(addr%pageSize), limit-len(out), len(buf))
		got, err := m.readAt(tid, buf[:n], addr)
		if got <= 0 || got > n {
			return "", fmt.Errorf("%w: %w", errMemory, errors.Join(err))
		}
		if end := bytes.IndexByte(buf[:got], 0); end >= 0 {
			return string(append(out, buf[:end]...)), nil
		}
		out = append(out, buf[:got]...)
		addr += uint64(got)
		if len(buf) < pageSize {
			buf = make([]byte, pageSize)
		}
	}
	return string(out) + "...", nil
}

// readArgv reads an argument vector.
func readArgv(m memory, tid int, addr uint64) ([]string, error) {
	var out []string
	total := 0
	for i := range uint64(maxArgs) {
		var p [8]byte
		if n, err := m.readAt(tid, p[:], addr+8*i); n != len(p) {
			return out, fmt.Errorf("%w: %w", errMemory, errors.Join(err))
		}
		at := binary.LittleEndian.Uint64(p[:])
		if at == 0 {
			return out, nil
		}
		s, err := readString(m, tid, at, maxArgv-total)
		if err != nil {
			return out, err
		}
		out = append(out, s)
		if total += len(s) + 1; total >= maxArgv {
			break
		}
	}
	return append(out, "..."), nil
}

// readOpenHow reads and writes out a struct open_how: flags, mode and resolve, of
// 64 bits each (openat2(2)).
func readOpenHow(m memory, tid int, addr uint64) (string, error) {
	var how [24]byte
	if n, err := m.readAt(tid, how[:], addr); n != len(how) {
		return "", fmt.Errorf("%w: %w", errMemory, errors.Join(err))
	}
	flags, mode, resolve := binary.LittleEndian.Uint64(how[:]), binary.LittleEndian.Uint64(how[8:]), binary.LittleEndian.Uint64(how[16:])
	s := "{flags=" + seccomp.OpenFlags(flags)
	if high := flags >> 32; high != 0 { // open(2) would not look at them
		s += "|0x" + strconv.FormatUint(high<<32, 16)
	}
	if mode != 0 {
		s += ", mode=0" + strconv.FormatUint(mode, 8)
	}
	if resolve != 0 {
		s += ", resolve=" + seccomp.ResolveFlags(resolve)
	}
	return s + "}", nil
}

// readSockaddr reads and writes out a socket address.
func readSockaddr(m memory, tid int, addr, length uint64) (string, error) {
	n := int(min(length, maxAddr))
	if n < 2 {
		return "", fmt.Errorf("%w: address of %d bytes", errMemory, length)
	}
	buf := make([]byte, n)
	if got, err := m.readAt(tid, buf, addr); got != n {
		return "", fmt.Errorf("%w: %w", errMemory, errors.Join(err))
	}
	return formatSockaddr(buf), nil
}

// readMsgName reads the address that a struct msghdr names, msg_name and
// msg_namelen of it. A struct mmsghdr begins with one.
func readMsgName(m memory, tid int, addr uint64) (string, error) {
	var head [12]byte
	if n, err := m.readAt(tid, head[:], addr); n != len(head) {
		return "", fmt.Errorf("%w: %w", errMemory, errors.Join(err))
	}
	return readSockaddr(m, tid, binary.LittleEndian.Uint64(head[:]), uint64(binary.LittleEndian.Uint32(head[8:])))
}

func untilNUL(b []byte) string {
	text, _, _ := strings.Cut(string(b), "\x00")
	return text
}

// formatSockaddr writes an address as people do: 192.0.2.1:80, [::1]:80,
// unix:/run/x, unix:@name for an abstract one.
func formatSockaddr(b []byte) string {
	family := binary.LittleEndian.Uint16(b)
	rest := b[2:]
	switch {
	case family == unix.AF_INET && len(rest) >= 6:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest[2:6])), binary.BigEndian.Uint16(rest)).String()
	case family == unix.AF_INET6 && len(rest) >= 22:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest[6:22])), binary.BigEndian.Uint16(rest)).String()
	case family == unix.AF_UNIX:
		if len(rest) > 0 && rest[0] == 0 {
			return "unix:@" + strings.TrimRight(string(rest[1:]), "\x00")
		}
		return "unix:" + untilNUL(rest)
	case family == unix.AF_NETLINK && len(rest) >= 10:
		return "netlink:" + strconv.Itoa(int(binary.LittleEndian.Uint32(rest[2:])))
	case family == unix.AF_VSOCK && len(rest) >= 10:
		return "vsock:" + strconv.FormatUint(uint64(binary.LittleEndian.Uint32(rest[6:])), 10) + ":" + strconv.FormatUint(uint64(binary.LittleEndian.Uint32(rest[2:])), 10)
	case family == unix.AF_PACKET && len(rest) >= 6:
		return "packet:" + strconv.Itoa(int(int32(binary.LittleEndian.Uint32(rest[2:])))) // the interface
	case family == unix.AF_ALG && len(rest) >= 86: // struct sockaddr_alg: type[14], feat, mask, name[64]
		return "alg:" + untilNUL(rest[:14]) + "/" + untilNUL(rest[22:86])
	}
	return seccomp.Family(uint64(family))
}
