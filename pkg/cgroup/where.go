package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pseudofs"
)

// level is a group between our own and the top of the mount, as it was found.
type level struct {
	dir     string
	refused error    // why no directory can be made in it
	has     []string // controllers that it has
	hands   []string // and those that it hands on
	wants   string   // the controller without which it is of no use; "" is memory
	members []int    // its processes
	root    bool     // of the whole hierarchy, not only of what this mount shows
}

// place is what a level is good for.
type place int

const (
	unfit     place = iota
	ready           // a group can be made in it
	afterMove       // as well, once this process has moved out
)

func (l level) controller() string { return cmp.Or(l.wants, "memory") }

// judge says whether a run's group can be made in a level. A group other than
// the root of the hierarchy hands on no memory controller while processes are in
// it (cgroup-v2.rst, "No Internal Process Constraint"). Controllers that know
// threads, cpu and pids, could be handed on even so, but would make of it the
// root of a threaded subtree, in which there is no memory controller at all: so
// nothing is tried before this was asked.
func (l level) judge(self int) (place, error) {
	others := slices.DeleteFunc(slices.Clone(l.members), func(pid int) bool { return pid == self })
	switch {
	case l.refused != nil:
		return unfit, l.refused
	case !slices.Contains(l.has, l.controller()):
		return unfit, fmt.Errorf("%s has no %s controller", l.dir, l.controller())
	case slices.Contains(l.hands, l.controller()), l.root, len(l.members) == 0:
		return ready, nil
	case len(others) == 0:
		return afterMove, nil
	}
	return unfit, fmt.Errorf("%s: %w: processes other than sbx are in it (%d), and so it cannot hand on controllers", l.dir, unix.EBUSY, len(others))
}

// look reads a level.
func (h host) look(dir string) level {
	l := level{dir: dir, wants: h.wants}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		l.refused = &os.PathError{Op: "mkdir in", Path: dir, Err: err}
		return l
	}
	read := func(name string) []string {
		data, err := pseudofs.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && l.refused == nil {
			l.refused = err
		}
		return strings.Fields(string(data))
	}
	l.has, l.hands = read("cgroup.controllers"), read("cgroup.subtree_control")
	for _, text := range read("cgroup.procs") {
		// 0 is a process of a foreign pid namespace.
		pid, _ := strconv.Atoi(text)
		l.members = append(l.members, pid)
	}
	// Only the root has no type (cgroup-v2.rst, "Core Interface Files").
	_, err := os.Stat(filepath.Join(dir, "cgroup.type"))
	l.root = errors.Is(err, fs.ErrNotExist)
	return l
}

// upwards are the groups from own to the top of its mount.
func upwards(own string) []string {
	var out []string
	for dir, top := own, mountOf(own); ; dir = filepath.Dir(dir) {
		out = append(out, dir)
		if dir == top || dir == "/" || dir == "." {
			return out
		}
	}
}

// territory is how far up a plain user's groups may be made: as far as the
// nearest group that systemd marks as delegated, since what is above belongs to
// somebody else. Where that one is the user's own systemd, which has its
// init.scope there, only our own unit is ours (that manager marks none). The slices
// around it are the manager's, which may take controllers away from them whenever
// it starts or stops a unit, and a limit would be gone in the middle of a run.
// They are the last resort.
func (h host) territory(dirs []string) (ours, managers []string) {
	top := slices.IndexFunc(dirs, h.delegated)
	if top < 0 {
		return dirs, nil
	}
	dirs = dirs[:top+1]
	if _, err := os.Stat(filepath.Join(dirs[top], "init.scope")); err != nil {
		return dirs, nil
	}
	own := 1 + slices.IndexFunc(dirs[:top], func(dir string) bool {
		return strings.HasSuffix(dir, ".scope") || strings.HasSuffix(dir, ".service")
	})
	return dirs[:own], dirs[own:]
}

// delegated says whether systemd marked a group (systemd.resource-control(5),
// Delegate=).
func delegated(dir string) bool {
	var mark [8]byte
	n, err := unix.Getxattr(dir, "user.delegate", mark[:])
	return err == nil && string(mark[:n]) == "1"
}

// findV2 makes the group where it can be had, the cheapest way first: moving
// a process waits for a grace period of the kernel, 11 to 14 ms, and systemd's
// answer takes longer than that.
func (g *Group) findV2(own string) error {
	ours, managers := upwards(own), []string(nil)
	if g.host.uid != 0 {
		ours, managers = g.host.territory(ours)
	}
	why := fmt.Errorf("%s is a slice of systemd --user: %w", own, unix.EPERM)
	if len(ours) > 0 {
		why = g.makeIn(ours)
	}
	if why == nil || g.host.uid == 0 || errors.Is(why, fs.ErrExist) {
		return why
	}
	err := g.makeInScope()
	if err == nil || len(managers) > 0 && g.makeIn(managers) == nil {
		return nil
	}
	// What helps depends on the nearest group, not on the bus.
	return fmt.Errorf("%w; systemd --user gives no scope (%s)", why, err.Error())
}

// makeIn makes the group in the first of these that lets us. The error is that
// of the nearest one.
func (g *Group) makeIn(dirs []string) error {
	var first error
	leave := ""
	for _, dir := range dirs {
		l := g.host.look(dir)
		fit, err := l.judge(g.host.pid)
		switch fit {
		case afterMove:
			if leave == "" {
				leave = dir
			}
			continue
		case ready:
			err = g.leafV2(l)
			if err == nil || errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		if first == nil {
			first = err
		}
	}
	if leave == "" {
		return first
	}
	return g.makeAfterMove(leave)
}

// makeAfterMove moves this process out of a group of which it is the only
// member into a leaf below it, so that the group can hand on controllers. The
// leaf is there for as long as the process; the next run beside it, or sbx gc,
// removes it.
func (g *Group) makeAfterMove(dir string) error {
	leaf := filepath.Join(dir, selfName())
	if err := g.host.mkdir(leaf); err != nil && !errors.Is(err, fs.ErrExist) {
		return &os.PathError{Op: "mkdir", Path: leaf, Err: err}
	}
	err := writeFile(filepath.Join(leaf, "cgroup.procs"), "0") // the process that writes
	if err == nil {
		err = g.leafV2(g.host.look(dir))
	}
	if err != nil {
		_ = writeFile(filepath.Join(dir, "cgroup.procs"), "0")
		_ = g.host.rmdir(leaf)
		return err
	}
	g.how = append(g.how, "sbx itself moved to "+filepath.Base(leaf))
	return nil
}
