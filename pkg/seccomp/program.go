package seccomp

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxInstructions = 4096 // BPF_MAXINSNS
	instructionSize = 8    // sizeof(struct sock_filter)

	// schema is part of every stored program: magic and version of its form.
	schema = "sbxbpf01"
)

// Program is a compiled filter.
type Program struct{ Filter []unix.SockFilter }

// Install loads the program into the calling thread, which must be locked to its
// goroutine and have no_new_privs set, and returns the listener on which the
// notified calls arrive (close-on-exec). flags are further SECCOMP_FILTER_FLAG_*
// bits. waitKillable says whether a notification that was received can be
// interrupted by a fatal signal only; kernels before 5.19 cannot do that.
//
// The error keeps its errno: EBUSY when a listener is there already, EACCES
// without no_new_privs.
func (p Program) Install(flags uint) (listener int, waitKillable bool, err error) {
	if len(p.Filter) == 0 || len(p.Filter) > maxInstructions {
		return -1, false, fmt.Errorf("install filter of %d instructions: %w", len(p.Filter), unix.EINVAL)
	}
	flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	fd, errno := p.load(flags | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if errno == 0 {
		return fd, true, nil
	}
	if errno == unix.EINVAL {
		fd, errno = p.load(flags)
		if errno == 0 {
			return fd, false, nil
		}
	}
	return -1, false, fmt.Errorf("install filter: %w", errno)
}

func (p Program) load(flags uint) (int, unix.Errno) {
	prog := unix.SockFprog{Len: uint16(len(p.Filter)), Filter: &p.Filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		uintptr(flags), uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(p.Filter)
	return int(fd), errno
}

// MarshalBinary writes the program in a form of its own: schema, instructions in
// little-endian order, SHA-256 of both.
func (p Program) MarshalBinary() ([]byte, error) {
	if len(p.Filter) == 0 || len(p.Filter) > maxInstructions {
		return nil, fmt.Errorf("marshal filter: %d instructions, want 1 to %d", len(p.Filter), maxInstructions)
	}
	b := make([]byte, 0, len(schema)+len(p.Filter)*instructionSize+sha256.Size)
	b = append(b, schema...)
	for _, ins := range p.Filter {
		b = binary.LittleEndian.AppendUint16(b, ins.Code)
		b = append(b, ins.Jt, ins.Jf)
		b = binary.LittleEndian.AppendUint32(b, ins.K)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

// UnmarshalBinary reads what MarshalBinary wrote, and nothing else. The checksum
// finds damage, not malice: whoever reads a program from a file must know who
// could write it.
func (p *Program) UnmarshalBinary(b []byte) error {
	body := len(b) - len(schema) - sha256.Size
	if body < instructionSize || body > maxInstructions*instructionSize || body%instructionSize != 0 {
		return fmt.Errorf("unmarshal filter: impossible length of %d bytes", len(b))
	}
	if string(b[:len(schema)]) != schema {
		return errors.New("unmarshal filter: not a filter of this version")
	}
	end := len(b) - sha256.Size
	if sha256.Sum256(b[:end]) != [sha256.Size]byte(b[end:]) {
		return errors.New("unmarshal filter: checksum does not match")
	}
	p.Filter = decode(b[len(schema):end], binary.LittleEndian)
	return nil
}

// decode reads whole instructions.
func decode(b []byte, order binary.ByteOrder) []unix.SockFilter {
	out := make([]unix.SockFilter, len(b)/instructionSize)
	for i := range out {
		ins := b[i*instructionSize:]
		out[i] = unix.SockFilter{Code: order.Uint16(ins), Jt: ins[2], Jf: ins[3], K: order.Uint32(ins[4:])}
	}
	return out
}
