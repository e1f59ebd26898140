package seccomp

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

// builtins returns the profiles that come with sbx, each with its policy as a run
// resolves it: with the hook's descriptor pinned.
func builtins(t *testing.T) map[string]profile.Seccomp {
	t.Helper()
	out := map[string]profile.Seccomp{}
	for _, name := range profile.Builtin() {
		p, err := profile.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = p.Seccomp
	}
	if len(out) < 6 {
		t.Fatalf("%d built-in profiles", len(out))
	}
	return out
}

const hookPin = 62

// asWritten says what the rules of a profile give a call, read off the rules
// themselves: it shares nothing with the resolver, the compiler and the matcher
// but the width of the arguments.
func asWritten(t *testing.T, p profile.Seccomp, nr int, args [6]uint64) profile.Action {
	t.Helper()
	for _, r := range slices.Backward(p.Rules) {
		if ruleHolds(t, r, nr, args) {
			return r.Action
		}
	}
	best := profile.ActionNotify
	rank := []profile.Action{profile.ActionNotify, ActionGuard, ActionSelf, ActionObserve, profile.ActionAllow}
	for _, g := range Groups() {
		if !slices.Contains(p.Groups, g.Name) {
			continue
		}
		for _, r := range g.Rules {
			if ruleHolds(t, r, nr, args) && slices.Index(rank, r.Action) > slices.Index(rank, best) {
				best = r.Action
			}
		}
	}
	return best
}

func ruleHolds(t *testing.T, r profile.Rule, nr int, args [6]uint64) bool {
	t.Helper()
	if !slices.Contains(r.Names, table[nr].Name) {
		return false
	}
	for _, a := range r.Args {
		v := args[a.Index]
		if w := table[nr].Args[a.Index].width(); w < 64 {
			v &= 1<<w - 1
		}
		var ok bool
		switch a.Op {
		case "eq":
			ok = v == a.Value
		case "masked_eq":
			ok = v&a.Mask == a.Value
		default:
			t.Fatalf("%s: this test does not know the operator %s", table[nr].Name, a.Op)
		}
		if !ok {
			return false
		}
	}
	return true
}

// TestEveryRuleOfEveryProfile: in the compiled filter of each built-in profile, a
// call that a rule matches is answered as the rule says, and one with any bit of
// any condition broken as the other rules say, which is mostly a refusal.
func TestEveryRuleOfEveryProfile(t *testing.T) {
	seen := map[string]bool{}
	for name, p := range builtins(t) {
		if text := resolve(t, p).String(); seen[text] {
			continue // the same as another profile's
		} else {
			seen[text] = true
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy := resolve(t, p, hookPin)
			m := compile(t, policy)
			refused := 0
			check := func(nr int, args [6]uint64) {
				if policy.hitsPin(nr, args) {
					return // TestPins
				}
				want := asWritten(t, p, nr, args)
				filter, decision := uint32(retNotify), Deny
				switch want {
				case profile.ActionAllow:
					filter, decision = retAllow, Continue
				case ActionObserve:
					decision = Continue
				case ActionSelf:
					decision = Self
				case ActionGuard:
					decision = Guard
				case profile.ActionNotify:
					refused++
				}
				if arg, limit, ok := policy.belowPins(nr); ok && args[arg] >= limit {
					filter = retNotify // told apart by Decide
				}
				if got := m.native(t, nr, args); got != filter {
					t.Errorf("%s%x: the filter says %#x, the rules %s", table[nr].Name, args, got, want)
				}
				if got := policy.Decide(nr, args); got.Action != decision {
					t.Errorf("%s%x: decided %v, the rules say %s", table[nr].Name, args, got.Action, want)
				}
			}
			for _, g := range Groups() {
				for _, r := range g.Rules {
					for _, call := range r.Names {
						s, _ := ByName(call)
						if s.NR == unix.SYS_EXECVE {
							continue // TestExecIsAlwaysNotified
						}
						var match [6]uint64
						for _, a := range r.Args {
							match[a.Index] |= a.Value
						}
						check(s.NR, match)
						for _, a := range r.Args {
							for bit := range 64 {
								// And one that the kernel drops, where it does.
								if a.Op == "masked_eq" && a.Mask>>bit&1 == 0 && bit != 40 {
									continue
								}
								broken := match
								broken[a.Index] ^= 1 << bit
								check(s.NR, broken)
							}
						}
					}
				}
			}
			if refused == 0 {
				t.Error("no call was to be refused: the test shows nothing")
			}
		})
	}
}

// TestGoldenFilters keeps what the compiled filter of each built-in profile says
// to each number. The instructions are libseccomp's choice and differ between its
// versions; what they answer must not.
func TestGoldenFilters(t *testing.T) {
	for name, p := range builtins(t) {
		t.Run(name, func(t *testing.T) {
			m := compile(t, resolve(t, p, hookPin))
			var b strings.Builder
			for nr := range table {
				if table[nr].Name == "" {
					continue
				}
				seen := map[string]bool{}
				for _, args := range append(argumentSamples(nr)[:60], [6]uint64{}) {
					seen[verdictName(m.native(t, nr, args))] = true
				}
				words := make([]string, 0, len(seen))
				for w := range seen {
					words = append(words, w)
				}
				slices.Sort(words)
				if len(words) != 1 || words[0] != "notify" {
					fmt.Fprintf(&b, "%s %s\n", table[nr].Name, strings.Join(words, " or "))
				}
			}
			b.WriteString("everything else notify\n")
			file := filepath.Join("testdata", "filter-"+name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("the filter differs from %s; look at the difference, then run the test with -update\n%s", file, diff(string(want), b.String()))
			}
		})
	}
}

func verdictName(v uint32) string {
	switch v & unix.SECCOMP_RET_ACTION_FULL {
	case retAllow:
		return "allow"
	case retNotify:
		return "notify"
	case retErrno:
		return unix.ErrnoName(unix.Errno(v & unix.SECCOMP_RET_DATA))
	}
	return fmt.Sprintf("%#x", v)
}
