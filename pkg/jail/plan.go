package jail

import (
	"fmt"
	"io"
	"maps"
	"math"
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
	Clone     uintptr  // CLONE_NEW* flags of the init stage
	Writable  []string // mounts that the script may write to
	Landlock  bool     // a rule set is asked for
	EventPipe bool
}

// Plan turns a request into a blueprint. It is pure.
func Plan(r Request) (*Blueprint, error) {
	p := r.Profile
	b := &Blueprint{
		Clone: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID |
			unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		EventPipe: p.Python.Hooks != profile.HooksOff,
	}
	if p.Network != profile.NetworkHost {
		b.Clone |= unix.CLONE_NEWNET
	}
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
	for _, m := range cfg.Mounts {
		if m.Tree {
			cfg.MountTrees++
		}
	}
	cfg.Rlimits = rlimits(p.Limits)
	cfg.Landlock = Landlock{
		Writable: b.Writable,
		Devices:  []string{"/dev/null", "/dev/full"},
		DenyTCP:  p.Network == profile.NetworkNone,
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
		for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
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

	scratch := func(dir, mode string) {
		cfg.Mounts = append(cfg.Mounts, Mount{
			Kind: MountTmpfs, Target: dir, Dir: true, Attr: attrScratch,
			Data: fmt.Sprintf("mode=%s,size=%d,nr_inodes=%d", mode, p.Limits.TmpSize, p.Limits.TmpInodes),
		})
		b.Writable = append(b.Writable, dir)
	}
	if p.Files.Write {
		scratch(TmpDir, "1777")
	}
	if r.Workspace {
		scratch(WorkspaceDir, "0755")
		if !p.Files.Write {
			// The copy is made by init; after that it is for reading.
			b.Writable = slices.DeleteFunc(b.Writable, func(d string) bool { return d == WorkspaceDir })
		}
	}
	if p.Files.SharedMemory {
		scratch(shmDir, "1777")
	}
	for _, g := range r.Read {
		bind(Mount{Source: g.Path, Target: g.Path, Dir: g.Dir, Attr: attrData})
	}
	for _, g := range r.Write {
		cfg.Mounts = append(cfg.Mounts, Mount{Kind: MountBind, Tree: r.Host.Root, Source: g.Path, Target: g.Path, Dir: g.Dir, Attr: attrScratch})
		b.Writable = append(b.Writable, g.Path)
	}
	if p.Network == profile.NetworkHost {
		for _, f := range []string{"/etc/resolv.conf", "/etc/ssl/certs", "/etc/services"} {
			bind(Mount{Source: f, Target: f, Dir: f == "/etc/ssl/certs", Attr: attrData, Optional: true})
		}
	}
}

// planFiles lists the files that init writes: the four of /etc that programs
// cannot do without, the boot file, then the caller's.
func planFiles(r Request, b *Blueprint) {
	add := func(s Source) {
		b.Sources = append(b.Sources, s)
		b.Config.Files = append(b.Config.Files, s.File)
		b.Config.RootSize += s.Size + 4096
	}
	b.Config.RootInodes = int64(256 + 4*(len(b.Config.Mounts)+len(b.Config.Symlinks)+len(r.Files)))
	add(Dir("/etc", 0o755))
	add(Dir("/tmp", 0o755))
	add(Dir(ScriptDir, 0o755))
	add(Bytes("/etc/passwd", 0o444, []byte(fmt.Sprintf("sbx:x:%d:%d:sbx:%s:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", UID, GID, homeDir(r.Profile)))))
	add(Bytes("/etc/group", 0o444, []byte(fmt.Sprintf("sbx:x:%d:\nnogroup:x:65534:\n", GID))))
	add(Bytes("/etc/hosts", 0o444, []byte("127.0.0.1 localhost sbx\n::1 localhost sbx\n")))
	add(Bytes("/etc/nsswitch.conf", 0o444, []byte("passwd: files\ngroup: files\nhosts: "+hostSources(r.Profile)+"\n")))
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
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(data))), nil },
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
	if name == "." || name == "/" || name == "-" || !utf8.ValidString(name) || strings.ContainsFunc(name, bad) || len(name) > 200 {
		return "script.py"
	}
	return name
}
