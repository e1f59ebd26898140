package jail

import (
	"errors"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// anchors are where the new root may be mounted for the moment before
// pivot_root(2): any directory that every host has.
var anchors = []string{"/tmp", "/mnt", "/run", "/usr", "/"}

// buildRoot makes the jail's root: a tmpfs with what the Config lists, and
// nothing else of the host, then pivots into it.
func buildRoot(cfg *Config, trees []int, content io.Reader, seen *Ready) error {
	// Nothing that is mounted from here on may propagate to the host, and
	// nothing of the host's into the jail (mount_namespaces(7)).
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return failure("make mounts private", "/", err)
	}
	anchor := chooseAnchor()
	// What lies below the anchor is out of reach as soon as the root is there.
	hidden := map[int]int{}
	defer func() {
		for _, fd := range hidden {
			unix.Close(fd)
		}
	}()
	for i, m := range cfg.Mounts {
		if m.Kind == MountBind && !m.Tree && strings.HasPrefix(m.Source, strings.TrimSuffix(anchor, "/")+"/") {
			fd, err := OpenTree(m)
			if err != nil && !m.Optional {
				return err
			}
			if err == nil {
				hidden[i] = fd
			}
		}
	}
	if err := mountRoot(cfg, anchor); err != nil {
		return err
	}
	for _, l := range cfg.Symlinks {
		err := withParents(anchor+l.Path, func() error { return unix.Symlink(l.Target, anchor+l.Path) })
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return failure("symlink", l.Path, err)
		}
	}
	for i, m := range cfg.Mounts {
		tree := -1
		if m.Tree {
			if len(trees) == 0 {
				return failure("mount", m.Target, errFrame)
			}
			tree, trees = trees[0], trees[1:]
		} else if fd, ok := hidden[i]; ok {
			tree = fd
			delete(hidden, i)
		}
		err := makeMount(m, anchor, tree, seen)
		if tree >= 0 {
			unix.Close(tree)
		}
		if err != nil && m.Optional {
			seen.Missing = append(seen.Missing, err.Error())
			err = nil
		}
		if err != nil {
			return err
		}
	}
	if err := writeFiles(cfg.Files, anchor, content); err != nil {
		return err
	}
	for _, m := range cfg.Mounts {
		if m.Kind == MountTmpfs && m.Attr&unix.MOUNT_ATTR_RDONLY != 0 {
			if err := setAttr(unix.AT_FDCWD, anchor+m.Target, m); err != nil {
				return err
			}
		}
	}
	return pivot(anchor)
}

// chooseAnchor returns the first anchor that is there.
func chooseAnchor() string {
	for _, anchor := range anchors {
		var stat unix.Stat_t
		if err := unix.Stat(anchor, &stat); err == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			return anchor
		}
	}
	return "/"
}

// mountRoot mounts the tmpfs that becomes the root.
func mountRoot(cfg *Config, anchor string) error {
	data := "mode=0755,size=" + strconv.FormatInt(cfg.RootSize, 10) + ",nr_inodes=" + strconv.FormatInt(cfg.RootInodes, 10)
	if err := unix.Mount("tmpfs", anchor, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		return failure("mount", "tmpfs for the new root", err)
	}
	return nil
}

// makeMount makes one mount beneath root.
func makeMount(m Mount, root string, tree int, seen *Ready) error {
	target := root + m.Target
	if err := makeTarget(target, m.Dir); err != nil {
		return err
	}
	switch m.Kind {
	case MountTmpfs:
		if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, m.Data); err != nil {
			return failure("mount tmpfs", m.Target, err)
		}
		return nil // what is to be read-only becomes so when its files are there
	case MountProc:
		mountProc(target, seen)
		return nil
	case MountBind:
		if tree < 0 {
			fd, err := OpenTree(m)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			tree = fd
		}
		if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return failure("move_mount", m.Target, err)
		}
		return nil
	}
	return failure("mount "+string(m.Kind), m.Target, errFrame)
}

// OpenTree makes the detached mount tree of a bind with its attributes already
// set, so that it is never visible without them. The host calls it where it
// runs as root: it can reach paths that the jail's uid cannot.
func OpenTree(m Mount) (int, error) {
	// Recursive, because a tree with locked submounts cannot be cloned without
	// them from inside a user namespace (mount_namespaces(7)).
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, failure("open_tree", m.Source, err)
	}
	if err := setAttr(fd, "", m); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func setAttr(dirfd int, target string, m Mount) error {
	flags := uint(unix.AT_RECURSIVE)
	if target == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	// Private, so that no later mount on the host shows up inside.
	attr := unix.MountAttr{Attr_set: m.Attr, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(dirfd, target, flags, &attr); err != nil {
		return failure("mount_setattr", m.Target, err)
	}
	return nil
}

// procOptions in order of preference. subset=pid (5.8) leaves out everything
// that is not about processes; hidepid=invisible hides init, which is not
// dumpable. A container that masks parts of its own /proc cannot mount a new
// one, whatever the options: then the jail has none, and says so.
var procOptions = []string{"subset=pid,hidepid=invisible", "subset=pid,hidepid=2"}

func mountProc(target string, seen *Ready) {
	for _, options := range procOptions {
		err := unix.Mount("proc", target, "proc", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options)
		if err == nil {
			seen.Proc, seen.ProcWhy = options, ""
			return
		}
		seen.ProcWhy = err.Error()
	}
}

// pivot makes anchor the root and lets go of the old one.
func pivot(anchor string) error {
	if err := unix.Chdir(anchor); err != nil {
		return failure("chdir", anchor, err)
	}
	// pivot_root(2), "pivot_root(".", ".")": the old root is stacked on top of
	// the new one and is detached there, so no directory for it is needed.
	if err := unix.PivotRoot(".", "."); err != nil {
		return failure("pivot_root", anchor, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return failure("umount", "the old root", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return failure("chdir", "/", err)
	}
	return nil
}

// sealRoot makes the root itself read-only, once nothing has to be written.
func sealRoot() error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOEXEC}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &attr); err != nil {
		return failure("mount_setattr", "/", err)
	}
	return nil
}

// makeTarget makes what a mount is put on. Beneath a mount made before, the host's
// own file or directory is there already.
func makeTarget(target string, dir bool) error {
	if dir {
		err := withParents(target, func() error { return unix.Mkdir(target, 0o755) })
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return failure("mkdir", target, err)
		}
		return nil
	}
	err := withParents(target, func() error {
		fd, err := unix.Open(target, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o444)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
	if errors.Is(err, unix.EEXIST) {
		var stat unix.Stat_t
		if err := unix.Lstat(target, &stat); err == nil && stat.Mode&unix.S_IFMT != unix.S_IFLNK {
			return nil
		}
	}
	if err != nil {
		return failure("create", target, err)
	}
	return nil
}

// withParents makes something, and the directories above it if that is what is
// missing: in most cases they are there.
func withParents(target string, make func() error) error {
	err := make()
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := makeParents(target); err != nil {
		return err
	}
	return make()
}

func makeParents(target string) error {
	dir := path.Dir(target)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return failure("mkdir", dir, err)
	}
	return nil
}
