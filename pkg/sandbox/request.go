package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/interp"
	"github.com/sbxproject/sbx/pkg/jail"
	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/pyhook"
)

// boot makes what Python reads first: the hook and its configuration.
func (x *execution) boot() ([]byte, error) {
	p, in := x.spec.Profile, x.interp
	c := pyhook.Config{
		Mode: p.Python.Hooks, EventFD: pyhook.EventFD,
		Script: x.program.Jail, Display: x.program.Jail, Args: x.spec.Args,
		SysPath: x.roots(), Roots: x.roots(),
		RestrictedImports: p.Python.RestrictedImports, AllowedImports: p.Python.AllowedImports,
		Read: p.Files.Read, Write: p.Files.Write,
		Network:   p.Network != profile.NetworkNone,
		Processes: slices.Contains(p.Seccomp.Groups, "processes"),
		ReadPaths: slices.Concat([]string{jail.ScriptDir, interp.ZoneInfo}, p.Files.ReadPaths),
		FastExit:  p.Python.FastExit,
		Exe:       in.Path,
	}
	for i, n := range x.calibration.Args {
		c.Calibrate[i] = uint32(n)
	}
	if p.Files.Write {
		c.WritePaths = append(c.WritePaths, jail.TmpDir, "/dev/shm")
	}
	if x.spec.Workspace != "" {
		c.ReadPaths = append(c.ReadPaths, jail.WorkspaceDir)
		if p.Files.Write {
			c.WritePaths = append(c.WritePaths, jail.WorkspaceDir)
		}
	}
	c.ReadPaths = append(c.ReadPaths, c.WritePaths...)
	c.WritePaths = append(c.WritePaths, p.Files.WritePaths...)
	return pyhook.BootFile(in.Boot, c)
}

// request gathers what planning the jail needs to know.
func (x *execution) request(filter, boot []byte) jail.Request {
	p := x.spec.Profile
	r := jail.Request{
		Profile: p, Interp: x.interp, Files: x.program.Files, Workspace: x.spec.Workspace != "",
		Boot: boot, Env: x.spec.Env, Filter: filter,
		Host: jail.Host{Root: mayMount()}, Read: x.read, Write: x.write,
	}
	if p.Files.System {
		r.Host.System = systemDirs()
	}
	return r
}

// grants looks at the host paths that a jail is to show.
func grants(flag string, paths []string, need os.FileMode) ([]jail.Grant, error) {
	out := make([]jail.Grant, 0, len(paths))
	for _, p := range paths {
		real, err := filepath.EvalSymlinks(p)
		if err == nil {
			real, err = filepath.Abs(real)
		}
		var info os.FileInfo
		if err == nil {
			info, err = os.Stat(real)
		}
		if err != nil {
			return nil, &Error{Op: flag, Path: p, Err: err, Hint: "name an existing file or directory"}
		}
		if os.Geteuid() == 0 && !openTo(info, need) {
			return nil, &Error{
				Op: flag, Path: p, Err: fmt.Errorf("the jail of root's runs is a user of its own, whom its mode %04o leaves out", info.Mode().Perm()),
				Hint: fmt.Sprintf("chmod o+%s it, or run sbx as the user who owns it", wanted(info, need)),
			}
		}
		out = append(out, jail.Grant{Path: real, Dir: info.IsDir()})
	}
	return out, nil
}

// openTo says whether everybody has these rights to a file or folder. As root,
// every run is another unprivileged uid, and no owner or group helps it.
func openTo(info os.FileInfo, need os.FileMode) bool {
	if info.IsDir() {
		need |= 1
	}
	return info.Mode()&need == need
}

// wanted are the rights of openTo as chmod(1) takes them.
func wanted(info os.FileInfo, need os.FileMode) string {
	s := ""
	if need&4 != 0 {
		s += "r"
	}
	if need&2 != 0 {
		s += "w"
	}
	if info.IsDir() {
		s += "x"
	}
	return s
}

// mayMount says whether sbx itself may clone mount trees: root with
// CAP_SYS_ADMIN. A plain user's init stage does it, in its own namespace.
func mayMount() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return os.Geteuid() == 0 && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// systemDirs are the host's directories of programs and libraries.
func systemDirs() map[string]string {
	out := map[string]string{}
	for _, dir := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		if to, err := os.Readlink(dir); err == nil {
			out[dir] = to
		} else if info, err := os.Stat(dir); err == nil && info.IsDir() {
			out[dir] = ""
		}
	}
	return out
}
