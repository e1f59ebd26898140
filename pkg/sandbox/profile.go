package sandbox

import (
	"errors"
	"slices"

	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/pyhook"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

// Known is what a profile may speak of: layers, groups of system calls, the
// calls themselves, and what their arguments can be compared with.
func Known() profile.Known {
	k := profile.Known{
		Layers: LayerNames, Syscalls: seccomp.Names(),
		Rule: checkRule, Importable: seccomp.Importable,
	}
	for _, g := range seccomp.Groups() {
		k.Groups = append(k.Groups, g.Name)
	}
	return k
}

// checkRule says what is wrong with a rule, without the number that Resolve
// gives it: the profile knows its place in the file.
func checkRule(r profile.Rule) error {
	_, err := seccomp.Resolve(profile.Seccomp{Rules: []profile.Rule{r}}, nil)
	if cause := errors.Unwrap(err); cause != nil {
		return cause
	}
	return err
}

// LoadProfile loads a built-in profile by name, or a file by path, and
// validates it.
func LoadProfile(nameOrPath string) (*profile.Profile, error) {
	return profile.LoadValid(nameOrPath, Known)
}

// ProfileCheck is what a closer look at a profile brought to light.
type ProfileCheck struct {
	Profile      *profile.Profile
	Instructions int             // of its filter
	Import       *profile.Import // nil if it imports nothing
	// Forbidden are imported calls that no rule may allow, at least not as
	// broadly; Unknown are those that this machine does not have.
	Forbidden, Unknown []string
}

// CheckProfile is LoadProfile that also compiles the filter, as a run would:
// rules can each be sound and together be too complex.
func CheckProfile(nameOrPath string) (*ProfileCheck, error) {
	p, imported, err := profile.Inspect(nameOrPath, Known)
	if err != nil {
		return nil, err
	}
	var pins []int
	if p.Python.Hooks != profile.HooksOff {
		pins = []int{pyhook.EventFD}
	}
	mistake := func(err error) error {
		return &profile.FieldError{File: nameOrPath, Path: "seccomp", Problem: err.Error(), Hint: "fewer rules with conditions on arguments, or fewer values in them"}
	}
	policy, err := seccomp.Resolve(p.Seccomp, pins)
	if err != nil {
		return nil, mistake(err)
	}
	if p.Trace {
		policy = policy.Traced()
	}
	program, err := policy.Compile()
	if err != nil {
		return nil, mistake(err)
	}
	check := &ProfileCheck{Profile: p, Instructions: len(program.Filter), Import: imported}
	if imported != nil {
		known := func(name string) bool { _, ok := seccomp.ByName(name); return ok }
		for _, name := range imported.Refused {
			if known(name) {
				check.Forbidden = append(check.Forbidden, name)
			} else {
				check.Unknown = append(check.Unknown, name)
			}
		}
		imported.Conditional = slices.DeleteFunc(imported.Conditional, func(name string) bool { return !known(name) })
	}
	return check, nil
}
