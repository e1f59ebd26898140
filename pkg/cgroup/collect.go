package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Collected is what became of the groups whose owner is gone. A run counts once,
// however many hierarchies it was in.
type Collected struct {
	Removed int
	Left    int // still there, because processes of theirs are
}

// Collect removes groups whose owner is gone, in the places where a run of this
// process would make its own. Runs that go on are not touched, and groups of other
// users are not ours to remove.
func Collect() (Collected, error) { return thisHost().collect() }

// CollectAll does the same in everything that the mounts show: a run that was
// started from another session made its group elsewhere.
func CollectAll() (Collected, error) { return thisHost().collectAll() }

func (h host) collect() (Collected, error) {
	p, err := h.hierarchies()
	if err != nil {
		return Collected{}, nil
	}
	dirs := map[string]bool{}
	for _, d := range p.v1 {
		dirs[d] = true
	}
	if p.v2 != "" {
		for _, d := range upwards(p.v2) {
			dirs[d] = true
		}
	}
	return h.sweep(p.v2, dirs)
}

func (h host) collectAll() (Collected, error) {
	p, err := h.hierarchies()
	if err != nil {
		return Collected{}, err
	}
	dirs, unread := map[string]bool{}, error(nil)
	tops := map[string]bool{}
	if p.v2 != "" {
		tops[mountOf(p.v2)] = true
	}
	for _, top := range p.v1Tops {
		tops[top] = true
	}
	visit := func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && !tops[path]: // gone since it was listed
		case err != nil:
			unread = errors.Join(unread, err)
		case d.IsDir():
			dirs[path] = true
		}
		return nil
	}
	for top := range tops {
		_ = filepath.WalkDir(top, visit)
	}
	c, err := h.sweep(p.v2, dirs)
	return c, errors.Join(unread, err)
}

// sweep removes, in each directory, the groups whose owner is gone. What this
// process is in itself (a warden stays where the sbx was that started it) is not
// waited for: it goes when the process is gone.
func (h host) sweep(own string, dirs map[string]bool) (c Collected, err error) {
	namespace := pidNamespace()
	removed, left := map[string]bool{}, map[string]bool{}
	for dir := range dirs {
		entries, rerr := os.ReadDir(dir)
		if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if !abandoned(e.Name(), namespace) || path == own || strings.HasPrefix(own, path+"/") {
				continue
			}
			switch rerr := h.removeTree(path, namespace); {
			case rerr == nil:
				removed[e.Name()] = true
			case errors.Is(rerr, unix.EBUSY):
				left[e.Name()] = true
			}
		}
	}
	for name := range left {
		delete(removed, name)
	}
	return Collected{Removed: len(removed), Left: len(left)}, err
}

// removeTree removes a group, and first the one below it where there is one: a
// scope holds the leaf of its sbx and the group of its run.
func (h host) removeTree(dir string, namespace uint64) error {
	err := h.rmdir(dir)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	entries, rerr := os.ReadDir(dir)
	if rerr != nil {
		return err
	}
	below := false
	for _, e := range entries {
		if abandoned(e.Name(), namespace) {
			below = h.rmdir(filepath.Join(dir, e.Name())) == nil || below
		}
	}
	if below {
		err = h.rmdir(dir)
	}
	return err
}

// abandoned says whether a directory is a group of ours whose owner is gone. Of
// another pid namespace's owners nothing can be said.
func abandoned(name string, namespace uint64) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return false
	}
	f := strings.Split(rest, "-")
	if len(f) != 4 || f[0] != strconv.FormatUint(namespace, 10) {
		return false
	}
	pid, err := strconv.Atoi(f[1])
	if err != nil || pid <= 0 {
		return false
	}
	start, err := strconv.ParseUint(f[2], 10, 64)
	if err != nil {
		return false
	}
	which := strings.TrimSuffix(f[3], scopeSuffix)
	if _, err := strconv.ParseUint(which, 10, 64); err != nil && which != self {
		return false
	}
	return startTime(pid) != start
}
