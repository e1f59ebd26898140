package sandbox

import (
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/jail"
)

// jailHint turns a step that failed, and how, into what to do next. It is the
// one place for such sentences.
func jailHint(err error, root bool) string {
	var step *jail.SetupError
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return "raise the limit on open files (ulimit -n)"
	case !errors.As(err, &step):
		return hostHint(err)
	}
	switch step.Op {
	case "clone":
		return cloneHint(step.Errno, root)
	case "mount", "move_mount", "open_tree", "mount_setattr", "pivot_root", "make mounts private", "mount tmpfs", "umount":
		switch step.Errno {
		case unix.EPERM, unix.EACCES:
			return "the host forbids mounts in a user namespace: in a container, run it with a seccomp profile that allows mount(2), pivot_root(2) and the new mount calls (docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined), or run sbx outside it"
		case unix.ENOSYS:
			return "the kernel or an outer filter does not know open_tree(2), move_mount(2) or mount_setattr(2): Linux 5.12 is the oldest that has all three"
		case unix.ENOENT:
			return "a file that the interpreter needs has gone; delete sbx's cache (~/.cache/sbx) and try again"
		}
	case "seccomp":
		switch step.Errno {
		case unix.EBUSY:
			return "another supervisor already listens to this process tree (sbx inside sbx, or a container manager with seccomp notification): run sbx outside it"
		case unix.EINVAL, unix.ENOSYS, unix.EPERM, unix.EACCES:
			return "the kernel must have CONFIG_SECCOMP_FILTER (5.15 is the floor), and no outer filter may forbid seccomp(2)"
		}
	case "execve":
		return "the interpreter did not start inside the jail; delete sbx's cache (~/.cache/sbx) and try again, or name another with --python"
	case "join cgroup":
		return "the cgroup refused the process; see whether its group still exists and whether the host limits it further"
	case "write", "create", "mkdir", "symlink":
		if step.Errno == unix.ENOSPC {
			return "the program does not fit into the jail: raise --tmp-size"
		}
	case "prctl", "capset":
		return layerHint("capabilities")
	case "getrlimit", "setrlimit":
		return layerHint("rlimits")
	}
	if step.Errno == 0 {
		return bugHint
	}
	return "the step above was refused by this host; sbx runs on Linux 5.15 and later with user namespaces"
}

// bugHint is for what no host should bring about.
const bugHint = "report the text above as a bug, with the output of uname -a"

// hostHint is for what failed on the host's side: the copy of the program, or
// the conversation with the init stage.
func hostHint(err error) string {
	switch {
	case errors.Is(err, jail.ErrChanged), errors.Is(err, fs.ErrNotExist):
		return "somebody writes to the folder while it is copied; run it again when it rests"
	case errors.Is(err, fs.ErrPermission):
		return "make all files of the folder readable for the user who runs sbx (chmod -R +r), or choose another folder"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return "the init stage was ended before it could say why: look for an out-of-memory kill (dmesg) or a low limit (ulimit -a)"
	}
	return bugHint
}

// planHint says what to do about a jail that cannot be planned.
func planHint(err error) string {
	if errors.Is(err, jail.ErrNotShown) {
		return "the jail has directories of its own there; name the file or the folder in it that the script needs"
	}
	return "see the paths and sizes of the profile: sbx profile show NAME"
}

// cloneHint says why namespaces were refused (user_namespaces(7), clone(2)).
func cloneHint(errno unix.Errno, root bool) string {
	switch errno {
	case unix.ENOSPC:
		return "the limit on user namespaces is used up: raise sysctl user.max_user_namespaces (and max_*_namespaces)"
	case unix.EPERM, unix.EACCES:
		if root {
			return "an outer container or filter forbids new namespaces: give it CAP_SYS_ADMIN and a seccomp profile that allows clone(2) with CLONE_NEW*"
		}
		return "this host forbids user namespaces to plain users: sysctl kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), user.max_user_namespaces > 0, or run sbx as root"
	case unix.EAGAIN, unix.ENOMEM:
		return "no process can be started: look at ulimit -u and at the pids limit of the cgroup"
	case unix.ENOENT:
		return "either /proc is not mounted, from which sbx starts its init stage (/proc/self/exe), or the cgroup2 mount is that of an outer cgroup namespace, which this one may not reach into: mount one of its own (mount -t cgroup2 none /sys/fs/cgroup)"
	case unix.ENOSYS:
		return "an outer filter answers ENOSYS to clone3(2), by which sbx starts a process in its cgroup and namespaces (as container managers do to processes without CAP_SYS_ADMIN): allow clone3(2) there, or run sbx outside it"
	case unix.EINVAL:
		return "the kernel lacks a kind of namespace that the profile asks for (CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS, CONFIG_IPC_NS, CONFIG_UTS_NS)"
	}
	return "see namespaces(7), and sysctl user.max_user_namespaces"
}
