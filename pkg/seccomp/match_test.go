package seccomp

import (
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

func TestIntervalIsExact(t *testing.T) {
	const width, all = 6, 63
	for lo := uint64(0); lo <= all; lo++ {
		for hi := lo; hi <= all; hi++ {
			blocks := interval(lo, hi, width)
			for v := range uint64(all + 1) {
				n := 0
				for _, b := range blocks {
					if b.holds(v) {
						n++
					}
				}
				want := 0
				if lo <= v && v <= hi {
					want = 1
				}
				if n != want {
					t.Fatalf("interval(%d, %d) holds %d times for %d, want %d", lo, hi, n, v, want)
				}
			}
		}
	}
	for _, width := range []uint{16, 32, 64} {
		all := ^uint64(0) >> (64 - width)
		if got := interval(0, all, width); len(got) != 1 || got[0] != (masked{}) {
			t.Errorf("interval over all of %d bits = %v, want one block that is always true", width, got)
		}
		if got := interval(all, all, width); len(got) != 1 || got[0] != (masked{all, all}) {
			t.Errorf("interval of the last of %d bits = %v", width, got)
		}
	}
}

func randomMatch(rng *rand.Rand) match {
	var m match
	for i := range 2 {
		m[i].mask = rng.Uint64N(16)
		m[i].value = rng.Uint64N(16) & m[i].mask
	}
	return m
}

func TestMatchAlgebra(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		a, b := randomMatch(rng), randomMatch(rng)
		both, meet := a.and(b)
		rest := a.minus(b)
		covers := true
		for x := range uint64(16) {
			for y := range uint64(16) {
				args := [6]uint64{x, y}
				inA, inB := a.holds(args), b.holds(args)
				if got := meet && both.holds(args); got != (inA && inB) {
					t.Fatalf("%v and %v at %v: %v", a, b, args, got)
				}
				n := 0
				for _, m := range rest {
					if m.holds(args) {
						n++
					}
				}
				if want := inA && !inB; (n == 1) != want || n > 1 {
					t.Fatalf("%v minus %v holds %d times at %v", a, b, n, args)
				}
				covers = covers && (inA || !inB)
			}
		}
		if a.covers(b) != covers {
			t.Fatalf("%v covers %v: %v, want %v", a, b, a.covers(b), covers)
		}
	}
}

func TestAbsorb(t *testing.T) {
	narrow, wide, other := match{{3, 1}}, match{{1, 1}}, match{1: {1, 1}}
	got := absorb([]match{narrow, other, wide, narrow, other})
	if !slices.Equal(got, []match{other, wide}) {
		t.Errorf("absorb = %v", got)
	}
}

func TestCondition(t *testing.T) {
	tests := []struct {
		name    string
		call    string
		arg     profile.Arg
		holds   []uint64
		refuses []uint64
	}{
		{"eq ignores the high half of an int", "socket", profile.Arg{Op: "eq", Value: 2}, []uint64{2, 2 | 1<<32}, []uint64{0, 3}},
		{"ne ignores it too", "socket", profile.Arg{Op: "ne", Value: 2}, []uint64{0, 3, 1 << 31}, []uint64{2, 2 | 1<<32}},
		{"eq of a pointer takes all bits", "getcwd", profile.Arg{Op: "eq", Value: 0}, []uint64{0}, []uint64{1, 1 << 32, 1 << 63}},
		{"ne of a pointer", "getcwd", profile.Arg{Op: "ne", Value: 0}, []uint64{1, 1 << 32, 1 << 63}, []uint64{0}},
		{"lt", "close", profile.Arg{Op: "lt", Value: 10}, []uint64{0, 9, 9 | 1<<40}, []uint64{10, 11, 1<<32 - 1}},
		{"le", "close", profile.Arg{Op: "le", Value: 10}, []uint64{0, 10}, []uint64{11}},
		{"gt", "close", profile.Arg{Op: "gt", Value: 10}, []uint64{11, 1<<32 - 1}, []uint64{0, 10, 1 << 32}},
		{"ge", "close", profile.Arg{Op: "ge", Value: 10}, []uint64{10, 1<<32 - 1}, []uint64{0, 9, 1 << 32}},
		{"ge 0 is always true", "close", profile.Arg{Op: "ge"}, []uint64{0, 1<<64 - 1}, nil},
		{"masked_eq", "openat", profile.Arg{Index: 2, Op: "masked_eq", Mask: 3}, []uint64{0, 4}, []uint64{1, 2, 3}},
		{"a negative int", "openat", profile.Arg{Op: "eq", Value: 1<<64 - 100}, []uint64{1<<32 - 100, 1<<64 - 100}, []uint64{0}},
		{"a mode has 16 bits", "chmod", profile.Arg{Index: 1, Op: "eq", Value: 0o4755}, []uint64{0o4755, 0o4755 | 1<<16}, []uint64{0o755}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := ByName(tt.call)
			alternatives, err := condition(s.NR, tt.arg)
			if err != nil {
				t.Fatal(err)
			}
			holds := func(v uint64) bool {
				return slices.ContainsFunc(alternatives, func(m masked) bool { return m.holds(v) })
			}
			for _, v := range tt.holds {
				if !holds(v) {
					t.Errorf("does not hold for %#x", v)
				}
			}
			for _, v := range tt.refuses {
				if holds(v) {
					t.Errorf("holds for %#x", v)
				}
			}
		})
	}
}

func TestConditionErrors(t *testing.T) {
	tests := []struct {
		name string
		nr   int
		args []profile.Arg
	}{
		{"no such argument", unix.SYS_CLOSE, []profile.Arg{{Index: 1, Op: "eq"}}},
		{"index beyond six", unix.SYS_CLOSE, []profile.Arg{{Index: 1 << 40, Op: "eq"}}},
		{"no operator", unix.SYS_CLOSE, []profile.Arg{{}}},
		{"unknown operator", unix.SYS_CLOSE, []profile.Arg{{Op: "=="}}},
		{"too large for an int", unix.SYS_CLOSE, []profile.Arg{{Op: "eq", Value: 1 << 32}}},
		{"mask too large for an int", unix.SYS_CLOSE, []profile.Arg{{Op: "masked_eq", Mask: 1 << 32}}},
		{"no mask", unix.SYS_CLOSE, []profile.Arg{{Op: "masked_eq"}}},
		{"never true", unix.SYS_CLOSE, []profile.Arg{{Op: "masked_eq", Mask: 1, Value: 2}}},
		{"mask without masked_eq", unix.SYS_CLOSE, []profile.Arg{{Op: "eq", Mask: 1}}},
		{"below 0", unix.SYS_CLOSE, []profile.Arg{{Op: "lt"}}},
		{"above the last", unix.SYS_CLOSE, []profile.Arg{{Op: "gt", Value: 1<<32 - 1}}},
		{"contradiction", unix.SYS_CLOSE, []profile.Arg{{Op: "eq", Value: 1}, {Op: "eq", Value: 2}}},
		{"too complex", unix.SYS_GETCWD, []profile.Arg{{Op: "ne", Value: 5}, {Index: 1, Op: "ne", Value: 5}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := parse(tt.nr, tt.args); err == nil {
				t.Errorf("parsed to %v, want an error", got)
			}
		})
	}
}
