package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pseudofs"
)

// places are the groups of this process, as directories.
type places struct {
	v2 string            // "" where v2 has none of the controllers
	v1 map[string]string // by controller
	// wants is the controller without which a group of v2 is of no use: memory, which
	// "" stands for, or pids where the hierarchy has no memory at all.
	wants string
	// v1Tops are the mount points of these.
	v1Tops map[string]string
}

// host is where the kernel is asked. Tests give it a tree of their own.
type host struct {
	self     string // the directory with our mountinfo and cgroup
	pid, uid int
	wants    string   // see places
	buses    []string // addresses at which systemd --user may be asked
	// A cgroup file system fills what it makes, and removes it with its files.
	mkdir, rmdir func(dir string) error
	delegated    func(dir string) bool
}

func thisHost() host {
	return host{
		self: "/proc/self", pid: os.Getpid(), uid: os.Geteuid(),
		buses: sessionBuses(os.Geteuid(), os.Getenv("DBUS_SESSION_BUS_ADDRESS"), os.Getenv("XDG_RUNTIME_DIR")),
		mkdir: func(dir string) error { return unix.Mkdir(dir, 0o755) }, rmdir: unix.Rmdir, delegated: delegated,
	}
}

// hierarchies finds our own groups.
func (h host) hierarchies() (places, error) {
	mounts, err := pseudofs.ReadFile(filepath.Join(h.self, "mountinfo"))
	if err != nil {
		return places{}, fmt.Errorf("find cgroup mounts: %w", err)
	}
	own, err := pseudofs.ReadFile(filepath.Join(h.self, "cgroup"))
	if err != nil {
		return places{}, fmt.Errorf("find our cgroup: %w", err)
	}
	p := parsePlaces(string(mounts), string(own))
	if p.v2 != "" && !controls(p.v2, "memory") {
		if p.wants = "pids"; len(p.v1) > 0 || !controls(p.v2, p.wants) {
			p.v2, p.wants = "", ""
		}
	}
	if p.v2 == "" && len(p.v1) == 0 {
		return p, errors.New("no cgroup hierarchy with controllers is mounted")
	}
	return p, nil
}

// controls says whether the hierarchy of this group has a controller; hosts with v1
// mount an empty v2 beside it.
func controls(group, controller string) bool {
	data, err := pseudofs.ReadFile(filepath.Join(mountOf(group), "cgroup.controllers"))
	return err == nil && slices.Contains(strings.Fields(string(data)), controller)
}

// parsePlaces joins mountinfo (proc_pid_mountinfo(5)) with /proc/self/cgroup
// (cgroups(7)).
func parsePlaces(mountinfo, own string) places {
	groups := map[string]string{} // controller, or "" for v2, to path
	for line := range strings.Lines(own) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 || !strings.HasPrefix(f[2], "/") {
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			groups[c] = f[2]
		}
	}
	found := map[string]directory{}
	for line := range strings.Lines(mountinfo) {
		// The kernel escapes the separators that it uses, and no other space.
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) < dash+4 || !strings.HasPrefix(f[4], "/") {
			continue
		}
		root, target, options := unescape(f[3]), unescape(f[4]), strings.Split(f[dash+3], ",")
		note := func(controller string) {
			path, ok := groups[controller]
			if !ok {
				return
			}
			have, seen := found[controller]
			if p := below(target, root, path); !seen || p.own && !have.own {
				found[controller] = p
			}
		}
		switch f[dash+1] {
		case "cgroup2":
			note("")
		case "cgroup":
			for _, c := range v1Controllers {
				if slices.Contains(options, c.name) {
					note(c.name)
				}
			}
		}
	}
	p := places{v2: found[""].dir, v1: map[string]string{}, v1Tops: map[string]string{}}
	delete(found, "")
	for c, found := range found {
		p.v1[c], p.v1Tops[c] = found.dir, found.mount
	}
	return p
}

// directory of a group; own says that it is our group, and not only the nearest
// to it that can be seen.
type directory struct {
	dir   string
	mount string
	own   bool
}

// below is where a group is seen when the mount shows the hierarchy from root
// on: in a container that is often not its top. A group that the mount does not
// show (cgroup_namespaces(7) writes it with "/..") leaves the mount's own top.
func below(target, root, path string) directory {
	rel, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
	if !ok || rel != "" && rel[0] != '/' || slices.Contains(strings.Split(path, "/"), "..") {
		return directory{dir: target, mount: target}
	}
	return directory{dir: filepath.Join(target, rel), mount: target, own: true}
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	for i := 0; ; i++ {
		j := strings.IndexByte(s[i:], '\\')
		if j < 0 || i+j+4 > len(s) {
			return s
		}
		i += j
		if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
			s = s[:i] + string([]byte{byte(n)}) + s[i+4:]
		}
	}
}
