package seccomp

import (
	"errors"
	"fmt"
	mathbits "math/bits"
	"slices"

	"github.com/sbxproject/sbx/pkg/profile"
)

// The bounds of what conditions may grow to, for one system call and in all:
// below the 4096 instructions of a filter (BPF_MAXINSNS), and before libseccomp,
// which takes quadratic time, takes seconds.
const (
	maxMatches = 256
	maxRules   = 1024
)

// masked holds for a value v when v&mask == value. Every condition is brought
// into this form: it says exactly which bits of the register matter, and two of
// them can be intersected and subtracted without an approximation.
type masked struct{ mask, value uint64 }

func (m masked) holds(v uint64) bool { return v&m.mask == m.value }

// and returns what satisfies both, false if nothing can.
func (m masked) and(o masked) (masked, bool) {
	if (m.value^o.value)&m.mask&o.mask != 0 {
		return masked{}, false
	}
	return masked{m.mask | o.mask, m.value | o.value}, true
}

// match is a condition on all arguments of a call; the zero value is always
// true.
type match [6]masked

func (m match) holds(args [6]uint64) bool {
	for i, c := range m {
		if !c.holds(args[i]) {
			return false
		}
	}
	return true
}

func (m match) and(o match) (match, bool) {
	for i := range m {
		c, ok := m[i].and(o[i])
		if !ok {
			return match{}, false
		}
		m[i] = c
	}
	return m, true
}

// covers reports whether every call that o matches is matched by m.
func (m match) covers(o match) bool {
	for i := range m {
		if m[i].mask&^o[i].mask != 0 || o[i].value&m[i].mask != m[i].value {
			return false
		}
	}
	return true
}

// minus returns disjoint matches that together hold for what m matches and o
// does not.
func (m match) minus(o match) []match {
	if _, ok := m.and(o); !ok {
		return []match{m}
	}
	var out []match
	for i := range m {
		for free := o[i].mask &^ m[i].mask; free != 0; free &= free - 1 {
			bit := free & -free
			apart := m
			apart[i].mask |= bit
			apart[i].value |= ^o[i].value & bit
			out = append(out, apart)
			m[i].mask |= bit
			m[i].value |= o[i].value & bit
		}
	}
	return out
}

// subtract returns what ms match and o does not.
func subtract(ms []match, o match) []match {
	var out []match
	for _, m := range ms {
		out = append(out, m.minus(o)...)
	}
	return out
}

// absorb drops matches that another one covers.
func absorb(ms []match) []match {
	var out []match
	for _, m := range ms {
		if slices.ContainsFunc(out, func(o match) bool { return o.covers(m) }) {
			continue
		}
		out = slices.DeleteFunc(out, m.covers)
		out = append(out, m)
	}
	return out
}

// interval returns the values lo to hi of a width-bit number as aligned blocks,
// the way a range of addresses is split into prefixes.
func interval(lo, hi uint64, width uint) []masked {
	all := ^uint64(0) >> (64 - width)
	var out []masked
	for {
		size := min(uint(mathbits.TrailingZeros64(lo)), width)
		for uint64(1)<<size-1 > hi-lo {
			size--
		}
		block := uint64(1)<<size - 1
		out = append(out, masked{all &^ block, lo})
		if hi-lo <= block {
			return out
		}
		lo += block + 1
	}
}

// parse returns the matches that together are the conjunction of args, for
// system call nr.
func parse(nr int, args []profile.Arg) ([]match, error) {
	out := []match{{}}
	for _, a := range args {
		alternatives, err := condition(nr, a)
		if err != nil {
			return nil, fmt.Errorf("argument %d: %w", a.Index, err)
		}
		var next []match
		for _, m := range out {
			for _, alt := range alternatives {
				if c, ok := m[a.Index].and(alt); ok {
					n := m
					n[a.Index] = c
					next = append(next, n)
				}
			}
		}
		if len(next) == 0 {
			return nil, fmt.Errorf("argument %d: the conditions contradict each other", a.Index)
		}
		if len(next) > maxMatches {
			return nil, errors.New("the conditions are too complex for a filter")
		}
		out = next
	}
	return out, nil
}

// condition returns the alternatives that a single condition stands for.
func condition(nr int, a profile.Arg) ([]masked, error) {
	r, ok := role(nr, a.Index)
	if !ok {
		return nil, fmt.Errorf("%s has %d arguments", table[nr].Name, len(table[nr].Args))
	}
	width := r.width()
	all := ^uint64(0) >> (64 - width)
	if a.Op == "masked_eq" {
		if a.Mask == 0 || a.Mask > all {
			return nil, fmt.Errorf("mask %#x does not fit %d bits", a.Mask, width)
		}
		if a.Value&^a.Mask != 0 {
			return nil, fmt.Errorf("value %#x has bits outside of mask %#x", a.Value, a.Mask)
		}
		return []masked{{a.Mask, a.Value}}, nil
	}
	if a.Mask != 0 {
		return nil, fmt.Errorf("a mask goes with masked_eq only, not with %q", a.Op)
	}
	v := a.Value
	if v > all && v != signExtend(v, width) {
		return nil, fmt.Errorf("value %#x does not fit %d bits", v, width)
	}
	v &= all
	lo, hi := uint64(0), all
	switch a.Op {
	case "eq":
		lo, hi = v, v
	case "ne":
		return outside(v, all, width), nil
	case "lt":
		if v == 0 {
			return nil, errors.New("nothing is less than 0: numbers are unsigned")
		}
		hi = v - 1
	case "le":
		hi = v
	case "gt":
		if v == all {
			return nil, fmt.Errorf("nothing is greater than %#x in %d bits", v, width)
		}
		lo = v + 1
	case "ge":
		lo = v
	default:
		return nil, fmt.Errorf("unknown operator %q, want eq, ne, lt, le, gt, ge or masked_eq", a.Op)
	}
	return interval(lo, hi, width), nil
}

// outside returns all numbers but v.
func outside(v, all uint64, width uint) []masked {
	var out []masked
	if v > 0 {
		out = interval(0, v-1, width)
	}
	if v < all {
		out = append(out, interval(v+1, all, width)...)
	}
	return out
}

// signExtend returns what a negative number of the given width looks like in a
// register.
func signExtend(v uint64, width uint) uint64 {
	return uint64(int64(v<<(64-width)) >> (64 - width))
}
