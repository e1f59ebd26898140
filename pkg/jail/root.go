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
	top, err := unix.Open(anchor, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return failure("open", anchor, err)
	}
	defer unix.Close(top)
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
		err := makeMount(m, anchor, top, tree, seen)
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

// makeMount makes one mount beneath root, whose descriptor is top.
func makeMount(m Mount, root string, top, tree int, seen *Ready) error {
	target := root + m.Target
	place, err := makeTarget(root, top, m)
	if err != nil {
		return err
	}
	defer unix.Close(place)
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
		if err := unix.MoveMount(tree, "", place, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
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
	const flags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE
	from, name, more := unix.AT_FDCWD, m.Source, uint(0)
	if m.Resolved {
		source, err := walk("/", m.Source, m.Dir, nil)
		if err != nil {
			return -1, failure("open_tree", m.Source, err)
		}
		defer unix.Close(source)
		from, name, more = source, "", unix.AT_EMPTY_PATH
	}
	fd, err := unix.OpenTree(from, name, flags|more)
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

// makeTarget opens what a mount is put on, and makes what is missing of it. Beneath
// a mount made before, the host's own file or directory is there already.
func makeTarget(root string, top int, m Mount) (int, error) {
	if !m.Dir {
		if fd, err := newFile(top, m.Target); err == nil {
			return fd, nil
		}
	}
	fd, err := walk(root, m.Target, m.Dir, func(parent int, name string, dir bool) error {
		if dir {
			return unix.Mkdirat(parent, name, 0o755)
		}
		fd, err := unix.Openat(parent, name, newFileFlags, newFileMode)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
	if err != nil && m.Dir {
		return -1, failure("mkdir", m.Target, err)
	}
	if err != nil {
		return -1, failure("create", m.Target, err)
	}
	return fd, nil
}

// newFile makes an empty file of the new root to mount something on, and opens it,
// in one system call. That is what most mounts of a jail need, one for each shared
// library. It fails where every step has to be taken: without openat2(2), with a
// directory missing or a file there.
func newFile(root int, target string) (int, error) {
	return unix.Openat2(root, strings.TrimPrefix(target, "/"), &unix.OpenHow{
		Flags: newFileFlags, Mode: newFileMode, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

const (
	newFileFlags = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW
	newFileMode  = 0o444
)

// walk opens a path beneath top, step by step and through no link: a granted
// folder is the host's, and another run that may write to it could put one in the
// place of what was looked at (CVE-2021-30465). With create, what is missing is
// made.
func walk(top, name string, dir bool, create func(parent int, name string, dir bool) error) (int, error) {
	fd, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	name = strings.TrimPrefix(path.Clean(name), "/")
	parts := strings.Split(name, "/")
	done := 0
	if n := len(parts) - 1; n > 1 {
		// The kernel walks faster. Where it has not got openat2(2), or an outer filter
		// forbids it, or something is missing on the way, every step is taken here.
		how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
		if parent, err := unix.Openat2(fd, path.Dir(name), &how); err == nil {
			unix.Close(fd)
			fd, done = parent, n
		}
	}
	for i, part := range parts[done:] {
		i += done
		isDir := dir || i < len(parts)-1
		next, err := step(fd, part, isDir)
		if errors.Is(err, unix.ENOENT) && create != nil {
			if err = create(fd, part, isDir); err == nil || errors.Is(err, unix.EEXIST) {
				next, err = step(fd, part, isDir)
			}
		}
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

// step opens a name in a directory, ELOOP if it is a link.
func step(dir int, name string, isDir bool) (int, error) {
	flags := unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if isDir {
		flags |= unix.O_DIRECTORY
	}
	fd, err := unix.Openat(dir, name, flags, 0)
	if err != nil || isDir {
		return fd, err // ENOTDIR for a link
	}
	var stat unix.Stat_t
	if err = unix.Fstat(fd, &stat); err == nil && stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		err = unix.ELOOP
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
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
