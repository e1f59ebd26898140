package seccomp

import (
	"sync"

	"github.com/sbxproject/sbx/pkg/event"
)

// Syscall is one system call of the native architecture.
type Syscall struct {
	NR       int
	Name     string
	Category event.Category
	Args     []Role // shared: not to be changed
}

// Lookup returns the system call with number nr, false when the table does not
// have it.
func Lookup(nr int) (Syscall, bool) {
	if nr < 0 || nr >= len(table) || table[nr].Name == "" {
		return Syscall{}, false
	}
	s := table[nr]
	s.NR = nr
	return s, true
}

// numbers is built on first use: the stages of a run that only install a ready
// program never need it.
var numbers = sync.OnceValue(func() map[string]int {
	m := make(map[string]int, len(table))
	for nr := range table {
		if name := table[nr].Name; name != "" {
			m[name] = nr
		}
	}
	return m
})

// ByName returns the system call with the kernel's name.
func ByName(name string) (Syscall, bool) {
	nr, ok := numbers()[name]
	if !ok {
		return Syscall{}, false
	}
	return Lookup(nr)
}

// Names returns the names of all system calls in the order of their numbers.
func Names() []string {
	names := make([]string, 0, len(table))
	for nr := range table {
		if table[nr].Name != "" {
			names = append(names, table[nr].Name)
		}
	}
	return names
}

// role returns what argument i of system call nr is; arguments beyond the
// declared ones are never read by the kernel.
func role(nr int, i uint) (Role, bool) {
	if args := table[nr].Args; i < uint(len(args)) {
		return args[i], true
	}
	return 0, false
}
