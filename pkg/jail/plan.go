package jail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/interp"
	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/pyhook"
)

// Places inside the jail.
const (
	ScriptDir    = "/sandbox"   // the script, when no workspace holds it
	WorkspaceDir = "/workspace" // the copy of the workspace
	TmpDir       = "/tmp"
	shmDir       = "/dev/shm"
	bootFile     = "/.boot"
)

// UID and GID are who the script is inside the jail.
const (
	UID = 1000
	GID = 1000
)

// Request is what a run asks of a jail. It is a value: planning opens nothing.
type Request struct {
	Profile   profile.Profile
	Interp    *interp.Interpreter
	Files     []Source // the script and, with Workspace, its folder
	Workspace bool     // there is a copy of a workspace at WorkspaceDir
	Boot      []byte   // for pyhook.BootFD
	Env       []string // K=V of the caller's, on top of the jail's own
	Filter    []byte   // seccomp.Program
	Read      []Grant  // host paths shown read-only
	Write     []Grant  // host paths shown writable
	Host      Host
}

// Grant is a host path that the jail shows at the same place.
type Grant struct {
	Path string
	Dir  bool
}

// Host is what planning has to know of the machine.
type Host struct {
	Root bool // sbx may make mount trees itself, and hand them in
	// System maps /bin, /lib, ... to where they point, "" for a directory; only
	// what exists is listed. It is asked for by profiles that show the system.
	System map[string]string
}

// Source is a file for the jail and where its bytes come from.
type Source struct {
	File
	Open func() (io.ReadCloser, error) // nil for a directory and a link
}

// Blueprint is a planned jail: the init stage's Config, and what the host has
// to do for it.
type Blueprint struct {
	Config    Config
	Sources   []Source // in the order of Config.Files
	Writable  []string // where the script may write: mounts, and links to them
	Landlock  bool     // a rule set is asked for
	EventPipe bool
	// Tasks are the groups of cgroup v1 to join, by their `tasks` files. They are no
	// part of the plan: whoever made them adds them.
	Tasks []*os.File
}

// Namespaces are the CLONE_NEW* flags of the init stage of a run under this
// profile. The cgroup namespace is unshared later, when the run is in its group.
func Namespaces(p profile.Profile) uintptr {
	flags := uintptr(unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
	if p.Network != profile.NetworkHost {
		flags |= unix.CLONE_NEWNET
	}
	return flags
}

// Plan turns a request into a blueprint. It is pure.
func Plan(r Request) (*Blueprint, error) {
	p := r.Profile
	if err := checkRequest(r); err != nil {
		return nil, err
	}
	b := &Blueprint{EventPipe: p.Python.Hooks != profile.HooksOff}
	cfg := &b.Config
	cfg.Hostname = "sbx"
	cfg.Loopback = p.Network == profile.NetworkLoopback
	cfg.Boot, cfg.BootFD = bootFile, pyhook.BootFD
	if b.EventPipe {
		cfg.EventFD = pyhook.EventFD
	}
	cfg.Filter = r.Filter

	planMounts(r, b)
	planFiles(r, b)
	if err := checkTargets(cfg); err != nil {
		return nil, err
	}
	for _, m := range cfg.Mounts {
		if m.Tree {
			cfg.MountTrees++
		}
	}
	cfg.Rlimits = rlimits(p.Limits)
	cfg.Landlock = Landlock{
		Devices: []string{"/dev/null", "/dev/full"},
		DenyTCP: p.Network == profile.NetworkNone,
	}
	files := map[string]bool{} // a rule for a file must not name rights on directories
	for _, g := range r.Write {
		files[g.Path] = !g.Dir
	}
	for _, name := range b.Writable {
		if files[name] {
			cfg.Landlock.Files = append(cfg.Landlock.Files, name)
		} else {
			cfg.Landlock.Writable = append(cfg.Landlock.Writable, name)
		}
	}
	for _, l := range cfg.Symlinks {
		if slices.Contains(b.Writable, l.Target) {
			b.Writable = append(b.Writable, l.Path) // Landlock follows the link
		}
	}
	cfg.Argv = []string{r.Interp.Path, "-I", "-S", "-B", "-c", pyhook.Command}
	cfg.Env = environment(p, r.Env)
	cfg.Dir = workingDir(r)
	return b, nil
}

func workingDir(r Request) string {
	switch {
	case r.Workspace:
		return WorkspaceDir
	case r.Profile.Files.Write:
		return TmpDir
	}
	return ScriptDir
}

// planMounts lists the mounts in the order in which they are made.
func planMounts(r Request, b *Blueprint) {
	cfg, p := &b.Config, r.Profile
	shown := map[string]bool{} // directories whose content is the host's
	covered := func(name string) bool {
		for dir := path.Dir(name); len(dir) > 1; dir = path.Dir(dir) { // ends at "/" and at "."
			if shown[dir] {
				return true
			}
		}
		return false
	}
	bind := func(m Mount) {
		if covered(m.Target) {
			return
		}
		m.Kind, m.Tree = MountBind, r.Host.Root
		shown[m.Target] = shown[m.Target] || m.Dir
		cfg.Mounts = append(cfg.Mounts, m)
	}
	links := r.Interp.Symlinks
	if p.Files.System {
		for _, dir := range slices.Sorted(maps.Keys(r.Host.System)) {
			if to := r.Host.System[dir]; to != "" {
				links = append([]interp.Symlink{{Path: dir, Target: to}}, links...)
				continue
			}
			bind(Mount{Source: dir, Target: dir, Dir: true, Attr: attrRuntime})
		}
	}
	for _, m := range r.Interp.Mounts {
		bind(Mount{Source: m.Source, Target: m.Target, Dir: m.Dir, Attr: attrRuntime})
	}
	if p.Python.SitePackages {
		for _, m := range r.Interp.SiteMounts {
			bind(Mount{Source: m.Source, Target: m.Target, Dir: m.Dir, Attr: attrRuntime})
		}
		links = append(slices.Clip(links), r.Interp.SiteSymlinks...)
	} else {
		for _, dir := range r.Interp.Hide {
			cfg.Mounts = append(cfg.Mounts, Mount{Kind: MountTmpfs, Target: dir, Dir: true, Attr: attrData, Data: "mode=0555,size=4k,nr_inodes=2"})
		}
	}
	for _, l := range links {
		if !covered(l.Path) {
			cfg.Symlinks = append(cfg.Symlinks, Symlink{Path: l.Path, Target: l.Target})
		}
	}
	for _, dev := range []string{"null", "zero", "full", "random", "urandom"} {
		bind(Mount{Source: "/dev/" + dev, Target: "/dev/" + dev, Attr: attrDevice})
	}
	cfg.Mounts = append(cfg.Mounts, Mount{Kind: MountProc, Target: "/proc", Dir: true})
	cfg.Symlinks = append(cfg.Symlinks,
		Symlink{"/dev/fd", "/proc/self/fd"}, Symlink{"/dev/stdin", "/proc/self/fd/0"},
		Symlink{"/dev/stdout", "/proc/self/fd/1"}, Symlink{"/dev/stderr", "/proc/self/fd/2"})

	scratch := func(dir, mode string, attr uint64) {
		cfg.Mounts = append(cfg.Mounts, Mount{
			Kind: MountTmpfs, Target: dir, Dir: true, Attr: attr,
			Data: fmt.Sprintf("mode=%s,size=%d,nr_inodes=%d", mode, p.Limits.TmpSize, p.Limits.TmpInodes),
		})
		if attr&unix.MOUNT_ATTR_RDONLY == 0 {
			b.Writable = append(b.Writable, dir)
		}
	}
	if p.Files.Write {
		scratch(TmpDir, "1777", attrScratch)
	}
	if r.Workspace {
		attr := uint64(attrScratch)
		if !p.Files.Write {
			attr = attrData // once init has made the copy
		}
		scratch(WorkspaceDir, "0755", attr)
	}
	switch {
	case p.Files.SharedMemory:
		scratch(shmDir, "1777", attrScratch)
	case p.Files.Write:
		// sem_overview(7): the locks of multiprocessing, which its pools of threads
		// take as well, are files of /dev/shm.
		cfg.Symlinks = append(cfg.Symlinks, Symlink{shmDir, TmpDir})
	}
	for _, g := range r.Read {
		bind(Mount{Source: g.Path, Target: g.Path, Dir: g.Dir, Attr: attrData, Resolved: true})
	}
	for _, g := range r.Write {
		cfg.Mounts = append(cfg.Mounts, Mount{Kind: MountBind, Tree: r.Host.Root, Source: g.Path, Target: g.Path, Dir: g.Dir, Attr: attrScratch, Resolved: true})
		b.Writable = append(b.Writable, g.Path)
	}
	if p.Network == profile.NetworkHost {
		for _, f := range []string{"/etc/resolv.conf", "/etc/ssl/certs", "/etc/services"} {
			bind(Mount{Source: f, Target: f, Dir: f == "/etc/ssl/certs", Attr: attrData, Optional: true})
		}
	}
	// A granted directory may hold what was listed before it, such as the
	// interpreter in a home directory: it goes beneath, or it would hide that.
	slices.SortStableFunc(cfg.Mounts, func(a, b Mount) int { return strings.Compare(a.Target, b.Target) })
}

// ErrNotShown is a host path that no jail shows.
var ErrNotShown = errors.New("the jail has its own")

// checkRequest refuses what no plan could make safe.
func checkRequest(r Request) error {
	if l := r.Profile.Limits; l.TmpSize == 0 || l.TmpInodes <= 0 {
		// tmpfs(5): zero is no limit.
		return fmt.Errorf("scratch of %d bytes and %d inodes: %w", l.TmpSize, l.TmpInodes, unix.EINVAL)
	}
	whole := []string{"/", "/etc"}
	below := []string{"/proc", "/sys", "/dev", ScriptDir, bootFile}
	if r.Workspace {
		below = append(below, WorkspaceDir)
	}
	for _, g := range slices.Concat(r.Read, r.Write) {
		for _, dir := range below {
			if g.Path == dir || strings.HasPrefix(g.Path, dir+"/") {
				return fmt.Errorf("show %q: %w %s", g.Path, ErrNotShown, dir)
			}
		}
		if slices.Contains(whole, g.Path) {
			return fmt.Errorf("show %q: %w; name what is needed in it", g.Path, ErrNotShown)
		}
	}
	return nil
}

// checkTargets sees to it that nothing is made outside of the new root: the
// init stage makes its mounts while the host's root is still its own, where ".."
// and an absolute link of the jail would lead out.
func checkTargets(cfg *Config) error {
	links := map[string]bool{}
	for _, l := range cfg.Symlinks {
		links[l.Path] = true
	}
	for _, f := range cfg.Files {
		if f.Link != nil { // a folder that changed into one while it was listed
			links[string(f.Path)] = true
		}
	}
	check := func(target string) error {
		if !path.IsAbs(target) || path.Clean(target) != target || target == "/" {
			return fmt.Errorf("target %q is no clean path below the root: %w", target, unix.EINVAL)
		}
		for dir := path.Dir(target); len(dir) > 1; dir = path.Dir(dir) {
			if links[dir] {
				return fmt.Errorf("target %q leads through the link %s: %w", target, dir, unix.EINVAL)
			}
		}
		return nil
	}
	for _, m := range cfg.Mounts {
		if err := check(m.Target); err != nil {
			return err
		}
		if links[m.Target] {
			return fmt.Errorf("target %q is a link: %w", m.Target, unix.EINVAL)
		}
	}
	for _, l := range cfg.Symlinks {
		if err := check(l.Path); err != nil {
			return err
		}
	}
	for _, f := range cfg.Files {
		if err := check(string(f.Path)); err != nil {
			return err
		}
	}
	return nil
}

// planFiles lists the files that init writes: the four of /etc that programs
// cannot do without, the boot file, then the caller's.
func planFiles(r Request, b *Blueprint) {
	add := func(s Source) {
		b.Sources = append(b.Sources, s)
		b.Config.Files = append(b.Config.Files, s.File)
		b.Config.RootSize += s.Size + 4096
	}
	// Each path at worst brings all of its directories along.
	b.Config.RootInodes = 256
	for _, m := range b.Config.Mounts {
		b.Config.RootInodes += int64(strings.Count(m.Target, "/"))
	}
	for _, l := range b.Config.Symlinks {
		b.Config.RootInodes += int64(strings.Count(l.Path, "/"))
	}
	b.Config.RootInodes += int64(len(r.Files))
	add(Dir("/etc", 0o755))
	add(Dir("/tmp", 0o755))
	add(Dir(ScriptDir, 0o755))
	own := func(name, text string) {
		// Unless the caller asked for the host's.
		if !slices.ContainsFunc(b.Config.Mounts, func(m Mount) bool { return m.Target == name }) {
			add(Bytes(name, 0o444, []byte(text)))
		}
	}
	own("/etc/passwd", fmt.Sprintf("root:x:0:0:root:/:/bin/false\nsbx:x:%d:%d:sbx:%s:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", UID, GID, homeDir(r.Profile)))
	own("/etc/group", fmt.Sprintf("root:x:0:\nsbx:x:%d:\nnogroup:x:65534:\n", GID))
	own("/etc/hosts", "127.0.0.1 localhost sbx\n::1 localhost sbx\n")
	own("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: "+hostSources(r.Profile)+"\n")
	add(Bytes(bootFile, 0o400, r.Boot))
	for _, s := range r.Files {
		add(s)
	}
	b.Config.RootSize += 1 << 20
}

func hostSources(p profile.Profile) string {
	if p.Network == profile.NetworkHost {
		return "files dns"
	}
	return "files"
}

func homeDir(p profile.Profile) string {
	if p.Files.Write {
		return TmpDir
	}
	return "/"
}

// Dir is a directory for the jail.
func Dir(name string, mode uint32) Source {
	return Source{File: File{Path: []byte(name), Mode: mode, Dir: true}}
}

// Bytes is a file for the jail whose content is in memory.
func Bytes(name string, mode uint32, data []byte) Source {
	return Source{
		File: File{Path: []byte(name), Mode: mode, Size: int64(len(data))},
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}
}

// environment is all that the script inherits.
func environment(p profile.Profile, extra []string) []string {
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + homeDir(p), "TMPDIR=" + TmpDir}
	if p.Limits.CPUPercent > 0 {
		// A numeric library that starts a thread per CPU of the host would only
		// be throttled, and might run into the process limit.
		threads := strconv.Itoa(max(1, p.Limits.CPUPercent/100))
		for _, name := range []string{"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"} {
			env = append(env, name+"="+threads)
		}
	}
	for _, kv := range extra {
		name, _, _ := strings.Cut(kv, "=")
		env = slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		env = append(env, kv)
	}
	return env
}

// rlimits are the second line behind the cgroup: they hold per process, and
// where no cgroup is to be had.
func rlimits(l profile.Limits) []Rlimit {
	out := []Rlimit{
		{"RLIMIT_CORE", unix.RLIMIT_CORE, 0, 0},
		{"RLIMIT_MEMLOCK", unix.RLIMIT_MEMLOCK, 64 << 10, 64 << 10},
		{"RLIMIT_MSGQUEUE", unix.RLIMIT_MSGQUEUE, 0, 0},
		{"RLIMIT_SIGPENDING", unix.RLIMIT_SIGPENDING, 1024, 1024},
		{"RLIMIT_RTPRIO", unix.RLIMIT_RTPRIO, 0, 0},
		{"RLIMIT_NICE", unix.RLIMIT_NICE, 0, 0},
		{"RLIMIT_STACK", unix.RLIMIT_STACK, 8 << 20, 64 << 20},
	}
	if l.OpenFiles > 0 {
		out = append(out, Rlimit{"RLIMIT_NOFILE", unix.RLIMIT_NOFILE, l.OpenFiles, l.OpenFiles})
	}
	if l.FileSize > 0 {
		out = append(out, Rlimit{"RLIMIT_FSIZE", unix.RLIMIT_FSIZE, uint64(l.FileSize), uint64(l.FileSize)})
	}
	if l.CPUTime > 0 {
		// Whole seconds, per process; sbx's own clock over the tree comes first.
		soft := uint64(math.Ceil(l.CPUTime.Seconds())) + 1
		out = append(out, Rlimit{"RLIMIT_CPU", unix.RLIMIT_CPU, soft, soft + 1})
	}
	return out
}

// ScriptName is the name of the script inside the jail: its own, where that can
// be shown to anybody, else a plain one.
func ScriptName(host string) string {
	name := path.Base(host)
	bad := func(r rune) bool { return !unicode.IsPrint(r) }
	if name == "." || name == ".." || name == "/" || name == "-" || !utf8.ValidString(name) || strings.ContainsFunc(name, bad) || len(name) > 200 {
		return "script.py"
	}
	return name
}
