package jail

import "golang.org/x/sys/unix"

// Descriptors of the init stage, by number. What is above fdFixed when it starts
// is a leak of the caller's and is closed; the cgroup `tasks` files and the host's
// mount trees come with the Config.
const (
	fdControl = 3
	fdEvents  = 4 // write end of the hook's pipe
	fdFixed   = 5
)

// Config is everything that the init stage is told. It is plain data, made by
// [Plan]; the stage decides nothing.
type Config struct {
	Hostname string
	// RootSize bounds the tmpfs that is the jail's root: bytes and inodes.
	RootSize   int64
	RootInodes int64
	// Mounts are made in this order on the new root.
	Mounts []Mount
	// Files are written to the root before it becomes read-only, and to mounts;
	// their bytes follow the Config on the control socket, in this order.
	Files []File
	// Symlinks of the root.
	Symlinks []Symlink
	// Boot names the file that is opened as descriptor BootFD for Python, and
	// unlinked.
	Boot   string
	BootFD int
	// EventFD is the number that the hook's pipe gets; 0 when there is no hook.
	EventFD int
	// Loopback brings the lo interface of the jail's network namespace up.
	Loopback bool
	// CgroupTasks is how many `tasks` descriptors were handed in.
	CgroupTasks int
	MountTrees  int
	Rlimits     []Rlimit
	Landlock    Landlock
	Filter      []byte // seccomp.Program

	Argv []string
	Env  []string
	Dir  string
}

// MountKind is what a mount is made of.
type MountKind string

// The kinds of mounts.
const (
	MountBind  MountKind = "bind"  // a host file or directory
	MountTmpfs MountKind = "tmpfs" // Data holds its options
	MountProc  MountKind = "proc"
)

// Mount is one mount of the jail.
type Mount struct {
	Kind   MountKind
	Source string // host path of a bind
	Target string
	Dir    bool
	Attr   uint64 // MOUNT_ATTR_*, mount_setattr(2)
	Data   string
	// Tree says that the host made the mount tree already (open_tree(2)) and
	// handed it in: as root it can reach what the jail's uid cannot.
	Tree bool
	// Resolved says that Source had no links on the way when it was looked at, so
	// that one now was put there since.
	Resolved bool
	// Optional mounts may be missing on a host; what is missing is reported.
	Optional bool
}

// File is a file, or with Dir a directory, that the init stage makes.
type File struct {
	Path []byte // any bytes: a workspace may hold names that are not UTF-8
	Mode uint32
	Size int64
	Dir  bool
	Link []byte // a symbolic link with this target
}

// Symlink is a symbolic link of the root.
type Symlink struct {
	Path   string
	Target string
}

// Rlimit is a resource limit, soft and hard the same.
type Rlimit struct {
	Name     string
	Resource int
	Soft     uint64
	Hard     uint64
}

// Landlock is the second wall around the file system and the first around
// signals and abstract sockets.
type Landlock struct {
	Writable []string // directories
	Files    []string // files that the caller lets be written
	Devices  []string // devices that may be written
	// DenyTCP also refuses bind and connect of TCP sockets (ABI 4).
	DenyTCP bool
}

// Attributes of the jail's mounts. Everything is nosuid; what is not the
// runtime is noexec; what is not scratch is read-only.
const (
	attrRuntime = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	attrData    = attrRuntime | unix.MOUNT_ATTR_NOEXEC
	attrScratch = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	// Devices are written all the same: read-only keeps chmod(2) and utime(2)
	// away from the host's inodes.
	attrDevice = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
)
