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
	Hostname string `json:"hostname"`
	// RootSize bounds the tmpfs that is the jail's root: bytes and inodes.
	RootSize   int64 `json:"root_size"`
	RootInodes int64 `json:"root_inodes"`
	// Mounts are made in this order on the new root.
	Mounts []Mount `json:"mounts"`
	// Files are written to the root before it becomes read-only, and to mounts;
	// their bytes follow the Config on the control socket, in this order.
	Files []File `json:"files"`
	// Symlinks of the root.
	Symlinks []Symlink `json:"symlinks"`
	// Boot names the file that is opened as descriptor BootFD for Python, and
	// unlinked.
	Boot   string `json:"boot"`
	BootFD int    `json:"boot_fd"`
	// EventFD is the number that the hook's pipe gets; 0 when there is no hook.
	EventFD int `json:"event_fd"`
	// Loopback brings the lo interface of the jail's network namespace up.
	Loopback bool `json:"loopback"`
	// CgroupTasks is how many `tasks` descriptors were handed in.
	CgroupTasks int      `json:"cgroup_tasks"`
	MountTrees  int      `json:"mount_trees"`
	Rlimits     []Rlimit `json:"rlimits"`
	Landlock    Landlock `json:"landlock"`
	Filter      []byte   `json:"filter"` // seccomp.Program

	Argv []string `json:"argv"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
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
	Kind   MountKind `json:"kind"`
	Source string    `json:"source,omitempty"` // host path of a bind
	Target string    `json:"target"`
	Dir    bool      `json:"dir,omitempty"`
	Attr   uint64    `json:"attr"` // MOUNT_ATTR_*, mount_setattr(2)
	Data   string    `json:"data,omitempty"`
	// Tree says that the host made the mount tree already (open_tree(2)) and
	// handed it in: as root it can reach what the jail's uid cannot.
	Tree bool `json:"tree,omitempty"`
	// Resolved says that Source had no links on the way when it was looked at, so
	// that one now was put there since.
	Resolved bool `json:"resolved,omitempty"`
	// Optional mounts may be missing on a host; what is missing is reported.
	Optional bool `json:"optional,omitempty"`
}

// File is a file, or with Dir a directory, that the init stage makes.
type File struct {
	Path []byte `json:"path"` // any bytes: a workspace may hold names that are not UTF-8
	Mode uint32 `json:"mode"`
	Size int64  `json:"size"`
	Dir  bool   `json:"dir,omitempty"`
	Link []byte `json:"link,omitempty"` // a symbolic link with this target
}

// Symlink is a symbolic link of the root.
type Symlink struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// Rlimit is a resource limit, soft and hard the same.
type Rlimit struct {
	Name     string `json:"name"`
	Resource int    `json:"resource"`
	Soft     uint64 `json:"soft"`
	Hard     uint64 `json:"hard"`
}

// Landlock is the second wall around the file system and the first around
// signals and abstract sockets.
type Landlock struct {
	Writable []string `json:"writable"` // directories
	Files    []string `json:"files"`    // files that the caller lets be written
	Devices  []string `json:"devices"`  // devices that may be written
	// DenyTCP also refuses bind and connect of TCP sockets (ABI 4).
	DenyTCP bool `json:"deny_tcp"`
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
