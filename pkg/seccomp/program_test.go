package seccomp

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

func marshal(t testing.TB, p Program) []byte {
	t.Helper()
	b, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProgramRoundTrip(t *testing.T) {
	prog, err := resolve(t, profile.Seccomp{Groups: groupNames()}).Compile()
	if err != nil {
		t.Fatal(err)
	}
	var got Program
	if err := got.UnmarshalBinary(marshal(t, prog)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Filter, prog.Filter) {
		t.Error("the program changed on its way")
	}
}

func TestUnmarshalErrors(t *testing.T) {
	good := marshal(t, Program{Filter: []unix.SockFilter{{Code: 6, K: 1}, {Code: 6, K: 2}}})
	long := marshal(t, Program{Filter: make([]unix.SockFilter, maxInstructions)})
	tests := map[string][]byte{
		"nothing":          nil,
		"schema alone":     []byte(schema),
		"no instruction":   slices.Delete(slices.Clone(good), len(schema), len(schema)+2*instructionSize),
		"cut short":        good[:len(good)-1],
		"half a word more": append(slices.Clone(good), 0, 0, 0, 0),
		"one word more":    append(slices.Clone(good), make([]byte, instructionSize)...),
		"another version":  append([]byte("sbxbpf99"), good[len(schema):]...),
		"too long":         append(slices.Clone(long), make([]byte, instructionSize)...),
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 0x10
		tests["damaged"] = bad
		var p Program
		if err := p.UnmarshalBinary(bad); err == nil {
			t.Errorf("byte %d was changed and nobody saw it", i)
		}
	}
	for name, b := range tests {
		p := Program{Filter: []unix.SockFilter{{K: 7}}}
		if err := p.UnmarshalBinary(b); err == nil {
			t.Errorf("%s: read as a program", name)
		}
		if len(p.Filter) != 1 || p.Filter[0].K != 7 {
			t.Errorf("%s: an error left a program behind", name)
		}
	}
	if err := new(Program).UnmarshalBinary(long); err != nil {
		t.Errorf("the longest program: %v", err)
	}
}

func TestImpossiblePrograms(t *testing.T) {
	for _, n := range []int{0, maxInstructions + 1, math.MaxUint16 + 2} {
		p := Program{Filter: make([]unix.SockFilter, n)}
		if _, err := p.MarshalBinary(); err == nil {
			t.Errorf("%d instructions were written", n)
		}
		// Installing must fail before the kernel is asked: the length has 16 bits.
		if fd, _, err := p.Install(0); !errors.Is(err, unix.EINVAL) || fd != -1 {
			t.Errorf("install of %d instructions: %d, %v", n, fd, err)
		}
	}
}

func FuzzProgramUnmarshalBinary(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte(schema))
	f.Add(marshal(f, Program{Filter: []unix.SockFilter{{Code: 6, K: unix.SECCOMP_RET_ALLOW}}}))
	f.Add(marshal(f, Program{Filter: make([]unix.SockFilter, 300)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Program
		if err := p.UnmarshalBinary(b); err != nil {
			if p.Filter != nil {
				t.Error("an error and a program")
			}
			return
		}
		if len(p.Filter) == 0 || len(p.Filter) > maxInstructions {
			t.Errorf("%d instructions", len(p.Filter))
		}
		if !bytes.Equal(marshal(t, p), b) {
			t.Error("two forms of the same program")
		}
	})
}
