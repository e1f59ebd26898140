package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// places are the groups of this process, as directories.
type places struct {
	v2 string            // "" where v2 has none of the controllers
	v1 map[string]string // by controller
}

// hierarchies finds our own groups.
func hierarchies() (places, error) {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return places{}, fmt.Errorf("find cgroup mounts: %w", err)
	}
	defer mounts.Close()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return places{}, fmt.Errorf("find our cgroup: %w", err)
	}
	p, err := parsePlaces(mounts, string(own))
	if err != nil {
		return places{}, err
	}
	if p.v2 != "" && !controls(p.v2) {
		p.v2 = ""
	}
	if p.v2 == "" && len(p.v1) == 0 {
		return p, errors.New("no cgroup hierarchy with controllers is mounted")
	}
	return p, nil
}

// controls says whether the hierarchy of this group has the memory controller;
// hosts with v1 mount an empty v2 beside it.
func controls(group string) bool {
	data, err := os.ReadFile(filepath.Join(mountOf(group), "cgroup.controllers"))
	return err == nil && slices.Contains(strings.Fields(string(data)), "memory")
}

// parsePlaces joins mountinfo (proc_pid_mountinfo(5)) with /proc/self/cgroup
// (cgroups(7)).
func parsePlaces(mountinfo io.Reader, own string) (places, error) {
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
	p := places{v1: map[string]string{}}
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) < dash+4 {
			continue
		}
		root, target, options := unescape(f[3]), unescape(f[4]), strings.Split(f[dash+3], ",")
		switch f[dash+1] {
		case "cgroup2":
			if path, ok := groups[""]; ok && p.v2 == "" {
				p.v2 = below(target, root, path)
			}
		case "cgroup":
			for _, c := range v1Controllers {
				if path, ok := groups[c.name]; ok && slices.Contains(options, c.name) && p.v1[c.name] == "" {
					p.v1[c.name] = below(target, root, path)
				}
			}
		}
	}
	if err := lines.Err(); err != nil {
		return p, fmt.Errorf("read mountinfo: %w", err)
	}
	return p, nil
}

// below is where a group is seen when the mount shows the hierarchy from root
// on: in a container that is often not its top.
func below(target, root, path string) string {
	if rel, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/")); ok {
		return filepath.Join(target, rel)
	}
	return target
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

// Collect removes groups whose owner is gone, and returns how many of those are
// still there because their processes are. Runs that go on are not touched.
func Collect() (left int, err error) {
	p, err := hierarchies()
	if err != nil {
		return 0, nil
	}
	dirs := map[string]bool{}
	for _, d := range p.v1 {
		dirs[d] = true
	}
	for d := p.v2; d != "" && strings.HasPrefix(d, mountOf(p.v2)); d = filepath.Dir(d) {
		dirs[d] = true
	}
	for dir := range dirs {
		entries, rerr := os.ReadDir(dir)
		if rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		for _, e := range entries {
			if !abandoned(e.Name()) {
				continue
			}
			if rerr := unix.Rmdir(filepath.Join(dir, e.Name())); rerr != nil && !errors.Is(rerr, unix.ENOENT) {
				left++
			}
		}
	}
	return left, err
}

// abandoned says whether a directory is a group of ours whose owner is gone.
func abandoned(name string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return false
	}
	f := strings.Split(rest, "-")
	if len(f) != 3 {
		return false
	}
	pid, err := strconv.Atoi(f[0])
	if err != nil || pid <= 0 {
		return false
	}
	start, err := strconv.ParseUint(f[1], 10, 64)
	return err == nil && startTime(pid) != start
}
