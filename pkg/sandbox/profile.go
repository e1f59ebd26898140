package sandbox

import (
	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

// Known are the names that a profile may use: of layers, of groups of system
// calls and of the calls themselves.
func Known() profile.Known {
	groups := seccomp.Groups()
	k := profile.Known{Layers: LayerNames, Syscalls: seccomp.Names()}
	for _, g := range groups {
		k.Groups = append(k.Groups, g.Name)
	}
	return k
}

// LoadProfile loads a built-in profile by name, or a file by path, and
// validates it.
func LoadProfile(nameOrPath string) (*profile.Profile, error) {
	return profile.LoadValid(nameOrPath, Known())
}
