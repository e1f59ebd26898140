package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

// verdicts are the calls of one number that get one verdict from the filter.
type verdicts struct {
	action  libseccomp.ScmpAction
	matches []match
}

// verdicts returns what the filter does with system call nr unless it notifies
// it: disjoint between the verdicts, because libseccomp leaves open which of two
// overlapping rules wins.
func (p *Policy) verdicts(nr int) ([]verdicts, error) {
	if nr == unix.SYS_EXECVE || nr == unix.SYS_EXECVEAT {
		// Always notified, whatever the rules say: the first one starts Python,
		// and while it waits the jail is observed; any later one is worth a line.
		return nil, nil
	}
	var out []verdicts
	clauses := p.calls[nr]
	for i, c := range clauses {
		var action libseccomp.ScmpAction
		switch c.action {
		case profile.ActionAllow:
			if p.traced[nr] {
				continue
			}
			action = libseccomp.ActAllow
		case profile.ActionErrno:
			action = libseccomp.ActErrno.SetReturnCode(int16(c.errno))
		case profile.ActionKill:
			action = libseccomp.ActKillProcess
		default:
			continue
		}
		ms := []match{c.match}
		for _, earlier := range clauses[:i] {
			if earlier.action != c.action || earlier.errno != c.errno {
				ms = subtract(ms, earlier.match)
			}
			if len(ms) > maxMatches {
				return nil, errors.New("the rules are too complex for a filter")
			}
		}
		if n := len(out); n > 0 && out[n-1].action == action {
			out[n-1].matches = append(out[n-1].matches, ms...)
		} else {
			out = append(out, verdicts{action, ms})
		}
	}
	return out, nil
}

// Compile compiles the policy with libseccomp, as a tree over the numbers: the
// kernel runs a filter over all numbers when it is loaded, and a list costs three
// times as much there.
func (p *Policy) Compile() (Program, error) {
	f, err := libseccomp.NewFilter(libseccomp.ActNotify)
	if err != nil {
		return Program{}, fmt.Errorf("create filter: %w", err)
	}
	defer f.Release()
	if err := f.SetBadArchAction(libseccomp.ActKillProcess); err != nil {
		return Program{}, fmt.Errorf("set action for foreign architectures: %w", err)
	}
	if err := f.SetOptimize(2); err != nil {
		return Program{}, fmt.Errorf("set filter optimization: %w", err)
	}
	total := 0
	for nr := range p.calls {
		n, err := p.addTo(f, nr)
		if err != nil {
			return Program{}, fmt.Errorf("add rules for %s: %w", table[nr].Name, err)
		}
		if total += n; total > maxRules {
			return Program{}, errors.New("the rules together are too complex for a filter")
		}
	}
	return export(f)
}

// addTo adds the rules for one system call and returns how many there are.
func (p *Policy) addTo(f *libseccomp.ScmpFilter, nr int) (int, error) {
	all, err := p.verdicts(nr)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, v := range all {
		for _, m := range absorb(v.matches) {
			conditions, err := p.conditions(nr, m, v.action == libseccomp.ActAllow)
			if err != nil {
				return 0, err
			}
			if conditions == nil {
				continue
			}
			if err := f.AddRuleConditionalExact(libseccomp.ScmpSyscall(nr), v.action, conditions); err != nil {
				return 0, err
			}
			n++
		}
	}
	return n, nil
}

// conditions writes a match for libseccomp. It returns nil if the filter must
// leave the calls to Decide: libseccomp takes one condition for each argument,
// so a rule of a profile and a pin cannot meet in one.
func (p *Policy) conditions(nr int, m match, allow bool) ([]libseccomp.ScmpCondition, error) {
	out := []libseccomp.ScmpCondition{}
	if arg, limit, ok := p.belowPins(nr); ok && allow {
		if m[arg].mask != 0 || limit == 0 {
			return nil, nil
		}
		c, err := libseccomp.MakeCondition(uint(arg), libseccomp.CompareLess, limit)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	for i, c := range m {
		if c.mask == 0 {
			continue
		}
		cond, err := libseccomp.MakeCondition(uint(i), libseccomp.CompareMaskedEqual, c.mask, c.value)
		if err != nil {
			return nil, err
		}
		out = append(out, cond)
	}
	return out, nil
}

// export reads the program out of a memory file: ExportBPFMem needs libseccomp
// 2.6, and a pipe could fill up.
func export(f *libseccomp.ScmpFilter) (Program, error) {
	fd, err := unix.MemfdCreate("sbx-filter", unix.MFD_CLOEXEC)
	if err != nil {
		return Program{}, fmt.Errorf("create memory file for filter: %w", err)
	}
	file := os.NewFile(uintptr(fd), "sbx-filter")
	defer file.Close()
	if err := f.ExportBPF(file); err != nil {
		return Program{}, fmt.Errorf("export filter: %w", err)
	}
	const maxBytes = maxInstructions * instructionSize
	buf := make([]byte, maxBytes+instructionSize)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return Program{}, fmt.Errorf("read exported filter: %w", err)
	}
	if n == 0 || n > maxBytes || n%instructionSize != 0 {
		return Program{}, fmt.Errorf("exported filter has %d bytes, want 1 to %d instructions", n, maxInstructions)
	}
	return Program{Filter: decode(buf[:n], binary.NativeEndian)}, nil
}

// libraryVersion names the libseccomp that compiles the programs.
func libraryVersion() string {
	major, minor, micro := libseccomp.GetLibraryVersion()
	return fmt.Sprintf("%d.%d.%d", major, minor, micro)
}
