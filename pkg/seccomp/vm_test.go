package seccomp

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

const (
	archI386    = unix.AUDIT_ARCH_I386
	archX8664   = unix.AUDIT_ARCH_X86_64
	archAarch64 = unix.AUDIT_ARCH_AARCH64

	x32Bit = 0x40000000 // __X32_SYSCALL_BIT

	retAllow  = unix.SECCOMP_RET_ALLOW
	retNotify = unix.SECCOMP_RET_USER_NOTIF
	retKill   = unix.SECCOMP_RET_KILL_PROCESS
	retErrno  = unix.SECCOMP_RET_ERRNO
)

// machine runs a filter in an interpreter, without privilege.
type machine struct{ vm *bpf.VM }

func compile(t *testing.T, p *Policy) machine {
	t.Helper()
	prog, err := p.Compile()
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	ins := make([]bpf.Instruction, len(prog.Filter))
	for i, f := range prog.Filter {
		ins[i] = bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}.Disassemble()
	}
	vm, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatalf("the compiled filter is not a valid program: %v", err)
	}
	return machine{vm}
}

// run returns what the filter says about a call.
func (m machine) run(t *testing.T, arch uint32, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	// struct seccomp_data; the interpreter loads words in network order, the
	// kernel in its own, so the words are written in network order here.
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[0:], nr)
	binary.BigEndian.PutUint32(data[4:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
	}
	v, err := m.vm.Run(data)
	if err != nil {
		t.Fatalf("run filter: %v", err)
	}
	return uint32(v)
}

func (m machine) native(t *testing.T, nr int, args [6]uint64) uint32 {
	t.Helper()
	return m.run(t, archX8664, uint32(nr), args)
}

func resolve(t *testing.T, p profile.Seccomp, pins ...int) *Policy {
	t.Helper()
	out, err := Resolve(p, pins)
	if err != nil {
		t.Fatalf("resolve: %v", err)
	}
	return out
}

func groupNames() []string {
	var names []string
	for _, g := range Groups() {
		names = append(names, g.Name)
	}
	return names
}
