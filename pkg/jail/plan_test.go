package jail

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/interp"
	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/pyhook"
	"github.com/sbxproject/sbx/profiles"
)

// distribution is an interpreter of the system, in a merged /usr.
func distribution() *interp.Interpreter {
	dir := func(name string) interp.Mount { return interp.Mount{Source: name, Target: name, Dir: true} }
	file := func(name string) interp.Mount { return interp.Mount{Source: name, Target: name} }
	return &interp.Interpreter{
		Path:         "/usr/bin/python3.11",
		Mounts:       []interp.Mount{file("/usr/bin/python3.11"), dir("/usr/lib/python3.11"), file("/usr/lib/x86_64-linux-gnu/libc.so.6")},
		SiteMounts:   []interp.Mount{dir("/usr/lib/python3/dist-packages"), file("/usr/lib/x86_64-linux-gnu/libblas.so.3")},
		Symlinks:     []interp.Symlink{{Path: "/lib", Target: "usr/lib"}, {Path: "/usr/bin/python3", Target: "python3.11"}},
		SiteSymlinks: []interp.Symlink{{Path: "/etc/alternatives/blas", Target: "/usr/lib/x86_64-linux-gnu/libblas.so.3"}},
		Hide:         []string{"/usr/lib/python3.11/dist-packages"},
	}
}

// private is an interpreter in the home directory of root.
func private() *interp.Interpreter {
	const base = "/root/.pyenv/versions/3.12.1"
	return &interp.Interpreter{
		Path: base + "/bin/python3.12",
		Mounts: []interp.Mount{
			{Source: base + "/bin/python3.12", Target: base + "/bin/python3.12"},
			{Source: base + "/lib/python3.12", Target: base + "/lib/python3.12", Dir: true},
			{Source: "/usr/lib/x86_64-linux-gnu/libc.so.6", Target: "/usr/lib/x86_64-linux-gnu/libc.so.6"},
		},
		Hide: []string{base + "/lib/python3.12/site-packages"},
	}
}

func shipped(t *testing.T, name string) profile.Profile {
	t.Helper()
	p, err := profile.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return *p
}

// options of a mount as people write them.
func options(m Mount) string {
	var out []string
	for _, o := range []struct {
		bit  uint64
		name string
	}{
		{unix.MOUNT_ATTR_RDONLY, "ro"}, {unix.MOUNT_ATTR_NOSUID, "nosuid"},
		{unix.MOUNT_ATTR_NODEV, "nodev"}, {unix.MOUNT_ATTR_NOEXEC, "noexec"},
	} {
		if m.Attr&o.bit != 0 {
			out = append(out, o.name)
		}
	}
	if m.Tree {
		out = append(out, "tree")
	}
	if m.Optional {
		out = append(out, "optional")
	}
	if m.Data != "" {
		out = append(out, m.Data)
	}
	return strings.Join(out, ",")
}

// lines are the mounts of a plan, one per line; the five devices, which are the
// same in every plan, are one.
func lines(cfg Config) []string {
	var out []string
	devices := 0
	for _, m := range cfg.Mounts {
		line := fmt.Sprintf("%s %s %s", m.Kind, m.Target, options(m))
		if m.Kind == MountBind && path.Dir(m.Target) == "/dev" {
			devices++
			if devices > 1 {
				continue
			}
			line = fmt.Sprintf("%s /dev/* %s", m.Kind, options(m))
		}
		if m.Dir && m.Kind == MountBind {
			line = strings.Replace(line, m.Target+" ", m.Target+"/ ", 1)
		}
		out = append(out, strings.TrimSpace(line))
	}
	return out
}

func TestPlanMounts(t *testing.T) {
	base := profile.Profile{
		Limits:  profile.Limits{TmpSize: 1 << 20, TmpInodes: 64},
		Python:  profile.Python{Hooks: profile.HooksEnforce},
		Network: profile.NetworkNone,
	}
	const (
		devices = "bind /dev/* ro,nosuid,noexec"
		hide    = "tmpfs /usr/lib/python3.11/dist-packages ro,nosuid,nodev,noexec,mode=0555,size=4k,nr_inodes=2"
		python  = "bind /usr/bin/python3.11 ro,nosuid,nodev"
		stdlib  = "bind /usr/lib/python3.11/ ro,nosuid,nodev"
		libc    = "bind /usr/lib/x86_64-linux-gnu/libc.so.6 ro,nosuid,nodev"
		scratch = " nosuid,nodev,noexec,mode=1777,size=1048576,nr_inodes=64"
	)
	for _, tc := range []struct {
		name   string
		change func(*Request)
		want   []string
	}{
		{"a script that may nothing", func(*Request) {}, []string{devices, "proc /proc", python, stdlib, hide, libc}},
		{"one that may write", func(r *Request) { r.Profile.Files.Write = true },
			[]string{devices, "proc /proc", "tmpfs /tmp" + scratch, python, stdlib, hide, libc}},
		{"shared memory", func(r *Request) { r.Profile.Files.SharedMemory = true },
			[]string{devices, "tmpfs /dev/shm" + scratch, "proc /proc", python, stdlib, hide, libc}},
		{"a workspace to read", func(r *Request) { r.Workspace = true },
			[]string{devices, "proc /proc", python, stdlib, hide, libc,
				"tmpfs /workspace ro,nosuid,nodev,noexec,mode=0755,size=1048576,nr_inodes=64"}},
		{"a workspace to write", func(r *Request) { r.Workspace, r.Profile.Files.Write = true, true },
			[]string{devices, "proc /proc", "tmpfs /tmp" + scratch, python, stdlib, hide, libc,
				"tmpfs /workspace nosuid,nodev,noexec,mode=0755,size=1048576,nr_inodes=64"}},
		{"installed packages", func(r *Request) { r.Profile.Python.SitePackages = true },
			[]string{devices, "proc /proc", python, stdlib, "bind /usr/lib/python3/dist-packages/ ro,nosuid,nodev",
				"bind /usr/lib/x86_64-linux-gnu/libblas.so.3 ro,nosuid,nodev", libc}},
		{"the host's programs", func(r *Request) {
			r.Profile.Files.System = true
			r.Host.System = map[string]string{"/usr": "", "/bin": "usr/bin", "/lib": "usr/lib"}
		}, []string{devices, "proc /proc", "bind /usr/ ro,nosuid,nodev", hide}},
		{"the host's programs without a merged /usr", func(r *Request) {
			r.Profile.Files.System = true
			r.Host.System = map[string]string{"/usr": "", "/bin": "", "/lib": ""}
			r.Interp.Symlinks = nil
		}, []string{"bind /bin/ ro,nosuid,nodev", devices, "bind /lib/ ro,nosuid,nodev", "proc /proc", "bind /usr/ ro,nosuid,nodev", hide}},
		{"a profile that does not show them", func(r *Request) { r.Host.System = map[string]string{"/usr": ""} },
			[]string{devices, "proc /proc", python, stdlib, hide, libc}},
		{"the host's network", func(r *Request) { r.Profile.Network = profile.NetworkHost },
			[]string{devices, "bind /etc/resolv.conf ro,nosuid,nodev,noexec,optional", "bind /etc/services ro,nosuid,nodev,noexec,optional",
				"bind /etc/ssl/certs/ ro,nosuid,nodev,noexec,optional", "proc /proc", python, stdlib, hide, libc}},
		{"paths to read", func(r *Request) {
			r.Read = []Grant{{"/data", true}, {"/etc/hosts", false}, {"/usr/lib/python3.11/x", false}}
		},
			[]string{"bind /data/ ro,nosuid,nodev,noexec", devices, "bind /etc/hosts ro,nosuid,nodev,noexec", "proc /proc", python, stdlib, hide, libc}},
		{"paths to write", func(r *Request) { r.Write = []Grant{{"/data", true}, {"/usr/lib/python3.11/x", false}} },
			[]string{"bind /data/ nosuid,nodev,noexec", devices, "proc /proc", python, stdlib, hide,
				"bind /usr/lib/python3.11/x nosuid,nodev,noexec", libc}},
		{"a path for both is writable", func(r *Request) { r.Read, r.Write = []Grant{{"/data", true}}, []Grant{{"/data", true}} },
			[]string{"bind /data/ ro,nosuid,nodev,noexec", "bind /data/ nosuid,nodev,noexec", devices, "proc /proc", python, stdlib, hide, libc}},
		{"a path to read in one to write", func(r *Request) { r.Read, r.Write = []Grant{{"/data/in", true}}, []Grant{{"/data", true}} },
			[]string{"bind /data/ nosuid,nodev,noexec", "bind /data/in/ ro,nosuid,nodev,noexec", devices, "proc /proc", python, stdlib, hide, libc}},
		{"a path in /tmp", func(r *Request) {
			r.Profile.Files.Write = true
			r.Read = []Grant{{"/tmp/data", true}}
		}, []string{devices, "proc /proc", "tmpfs /tmp" + scratch, "bind /tmp/data/ ro,nosuid,nodev,noexec", python, stdlib, hide, libc}},
		{"an interpreter inside a granted directory", func(r *Request) {
			r.Interp = private()
			r.Write = []Grant{{"/root", true}}
		}, []string{devices, "proc /proc", "bind /root/ nosuid,nodev,noexec",
			"bind /root/.pyenv/versions/3.12.1/bin/python3.12 ro,nosuid,nodev", "bind /root/.pyenv/versions/3.12.1/lib/python3.12/ ro,nosuid,nodev",
			"tmpfs /root/.pyenv/versions/3.12.1/lib/python3.12/site-packages ro,nosuid,nodev,noexec,mode=0555,size=4k,nr_inodes=2", libc}},
		{"trees made by root", func(r *Request) {
			r.Host.Root = true
			r.Write = []Grant{{"/data", true}}
		}, []string{"bind /data/ nosuid,nodev,noexec,tree", devices + ",tree", "proc /proc", python + ",tree", stdlib + ",tree", hide, libc + ",tree"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Request{Profile: base, Interp: distribution()}
			tc.change(&r)
			b, err := Plan(r)
			if err != nil {
				t.Fatal(err)
			}
			if got := lines(b.Config); !slices.Equal(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
			trees := 0
			for _, m := range b.Config.Mounts {
				if m.Tree {
					trees++
				}
			}
			if b.Config.MountTrees != trees {
				t.Errorf("%d trees announced, %d planned", b.Config.MountTrees, trees)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Request)
		want   error
	}{
		"the host's root":               {func(r *Request) { r.Read = []Grant{{"/", true}} }, ErrNotShown},
		"the host's root, to write":     {func(r *Request) { r.Write = []Grant{{"/", true}} }, ErrNotShown},
		"the host's /etc":               {func(r *Request) { r.Read = []Grant{{"/etc", true}} }, ErrNotShown},
		"the host's /proc":              {func(r *Request) { r.Read = []Grant{{"/proc", true}} }, ErrNotShown},
		"a file of the host's /proc":    {func(r *Request) { r.Read = []Grant{{"/proc/kcore", false}} }, ErrNotShown},
		"the host's /sys":               {func(r *Request) { r.Write = []Grant{{"/sys/fs/cgroup", true}} }, ErrNotShown},
		"the host's /dev":               {func(r *Request) { r.Write = []Grant{{"/dev", true}} }, ErrNotShown},
		"a device of the host":          {func(r *Request) { r.Write = []Grant{{"/dev/vda", false}} }, ErrNotShown},
		"the place of the script":       {func(r *Request) { r.Write = []Grant{{"/sandbox", true}} }, ErrNotShown},
		"a place in the workspace":      {func(r *Request) { r.Workspace, r.Write = true, []Grant{{"/workspace/x", true}} }, ErrNotShown},
		"the boot file":                 {func(r *Request) { r.Write = []Grant{{"/.boot", false}} }, ErrNotShown},
		"a relative grant":              {func(r *Request) { r.Read = []Grant{{"data", true}} }, unix.EINVAL},
		"a grant with dots":             {func(r *Request) { r.Read = []Grant{{"/data/../../x", true}} }, unix.EINVAL},
		"a grant with a slash too many": {func(r *Request) { r.Read = []Grant{{"/data/", true}} }, unix.EINVAL},
		"a grant through a link":        {func(r *Request) { r.Read = []Grant{{"/lib/x", true}} }, unix.EINVAL},
		"a grant that is a link":        {func(r *Request) { r.Read = []Grant{{"/lib", true}} }, unix.EINVAL},
		"an interpreter out of bounds":  {func(r *Request) { r.Interp.Mounts[0].Target = "/../etc" }, unix.EINVAL},
		"a link out of bounds":          {func(r *Request) { r.Interp.Symlinks[0].Path = "/../x" }, unix.EINVAL},
		"a file out of bounds":          {func(r *Request) { r.Files = []Source{Bytes("/sandbox/../../x", 0o444, nil)} }, unix.EINVAL},
		"a file without a slash":        {func(r *Request) { r.Files = []Source{Bytes("x", 0o444, nil)} }, unix.EINVAL},
		"a file through a link of the copy": {func(r *Request) {
			r.Files = []Source{{File: File{Path: []byte("/workspace/a"), Link: []byte("/etc")}}, Bytes("/workspace/a/b", 0o444, nil)}
		}, unix.EINVAL},
		"scratch without a size":   {func(r *Request) { r.Profile.Limits.TmpSize = 0 }, unix.EINVAL},
		"scratch without a number": {func(r *Request) { r.Profile.Limits.TmpInodes = 0 }, unix.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			r := Request{Profile: shipped(t, "strict"), Interp: distribution()}
			tc.change(&r)
			if b, err := Plan(r); b != nil || !errors.Is(err, tc.want) {
				t.Errorf("got %v, %v, want %v", b, err, tc.want)
			}
		})
	}
	for name, change := range map[string]func(*Request){
		"a neighbour by name":                func(r *Request) { r.Read = []Grant{{"/process", true}, {"/sandboxes", true}, {"/etcetera", true}} },
		"a file of /etc":                     func(r *Request) { r.Read = []Grant{{"/etc/passwd", false}} },
		"/workspace of a host, without ours": func(r *Request) { r.Write = []Grant{{"/workspace/x", true}} },
	} {
		t.Run(name+" is shown", func(t *testing.T) {
			r := Request{Profile: shipped(t, "strict"), Interp: distribution()}
			change(&r)
			if _, err := Plan(r); err != nil {
				t.Error(err)
			}
		})
	}
}

// everyPlan calls f for the plans of every shipped profile, with every kind of
// input.
func everyPlan(t *testing.T, f func(t *testing.T, r Request, b *Blueprint)) {
	t.Helper()
	names, err := profiles.FS.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range names {
		name, ok := strings.CutSuffix(entry.Name(), ".yaml")
		if !ok {
			continue
		}
		for variant := range 64 {
			bit := func(n int) bool { return variant&(1<<n) != 0 }
			p := shipped(t, name)
			r := Request{Profile: p, Interp: distribution(), Boot: []byte("boot"), Filter: []byte("filter"), Workspace: bit(0)}
			r.Host.Root = bit(1)
			if bit(2) {
				r.Interp = private()
			}
			if p.Files.System {
				r.Host.System = map[string]string{"/usr": "", "/bin": "usr/bin", "/lib": "usr/lib", "/lib64": "usr/lib64"}
			}
			if bit(3) {
				r.Read = []Grant{{"/srv/read", true}, {"/tmp/data", false}, {"/etc/hosts", false}, {"/root", true}}
			}
			if bit(4) {
				r.Write = []Grant{{"/srv/write", true}, {"/srv/file", false}, {"/var/tmp", true}}
			}
			if bit(5) {
				r.Profile.Network = profile.NetworkHost
			}
			if r.Workspace {
				r.Files = append(r.Files, Dir(WorkspaceDir+"/dir", 0o755), Bytes(WorkspaceDir+"/dir/file", 0o644, make([]byte, 5000)))
			} else {
				r.Files = append(r.Files, Bytes(ScriptDir+"/script.py", 0o444, []byte("pass")))
			}
			t.Run(name+"/"+strconv.Itoa(variant), func(t *testing.T) {
				b, err := Plan(r)
				if err != nil {
					t.Fatal(err)
				}
				f(t, r, b)
			})
		}
	}
}

func TestEveryPlanIsReadOnlyButForScratchAndGrants(t *testing.T) {
	everyPlan(t, func(t *testing.T, r Request, b *Blueprint) {
		may := []string{}
		if r.Profile.Files.Write {
			may = append(may, TmpDir)
			if r.Workspace {
				may = append(may, WorkspaceDir)
			}
		}
		if r.Profile.Files.SharedMemory {
			may = append(may, shmDir)
		}
		for _, g := range r.Write {
			may = append(may, g.Path)
		}
		for _, m := range b.Config.Mounts {
			if m.Kind == MountProc {
				continue // has flags of its own, and nothing in it can be written by the jail's user
			}
			if writable := m.Attr&unix.MOUNT_ATTR_RDONLY == 0; writable != slices.Contains(may, m.Target) {
				t.Errorf("%s is writable: %t", m.Target, writable)
			}
			if m.Attr&unix.MOUNT_ATTR_NOSUID == 0 || m.Attr&unix.MOUNT_ATTR_NODEV == 0 && path.Dir(m.Target) != "/dev" {
				t.Errorf("%s is %s", m.Target, options(m))
			}
			if m.Attr&unix.MOUNT_ATTR_NOEXEC == 0 && (m.Attr&unix.MOUNT_ATTR_RDONLY == 0 || m.Kind != MountBind) {
				t.Errorf("%s is %s: what can be written must not be run", m.Target, options(m))
			}
			if m.Kind == MountTmpfs && (!strings.Contains(m.Data, "size=") || !strings.Contains(m.Data, "nr_inodes=") ||
				strings.Contains(m.Data, "size=0") || strings.Contains(m.Data, "nr_inodes=0")) {
				t.Errorf("%s is without a bound: %s", m.Target, m.Data)
			}
		}
		slices.Sort(may)
		got := slices.Sorted(slices.Values(b.Writable))
		rules := slices.Sorted(slices.Values(slices.Concat(b.Config.Landlock.Writable, b.Config.Landlock.Files)))
		link := Symlink{shmDir, TmpDir}
		if want := r.Profile.Files.Write && !r.Profile.Files.SharedMemory; slices.Contains(b.Config.Symlinks, link) != want {
			t.Errorf("/dev/shm leads to /tmp: %t, want %t", !want, want)
		} else if want {
			got = slices.DeleteFunc(got, func(dir string) bool { return dir == shmDir })
		}
		if !slices.Equal(got, may) || !slices.Equal(rules, may) {
			t.Errorf("writable are %q, by Landlock %q, want %q", got, rules, may)
		}
		for _, g := range r.Write {
			if slices.Contains(b.Config.Landlock.Files, g.Path) == g.Dir {
				t.Errorf("the rule for %s takes it for a directory: %t", g.Path, !g.Dir)
			}
		}
	})
}

func TestEveryPlanShowsTheClosureAndNothingElse(t *testing.T) {
	everyPlan(t, func(t *testing.T, r Request, b *Blueprint) {
		known := []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
		for _, m := range r.Interp.Mounts {
			known = append(known, m.Source)
		}
		if r.Profile.Python.SitePackages {
			for _, m := range r.Interp.SiteMounts {
				known = append(known, m.Source)
			}
		}
		for _, g := range slices.Concat(r.Read, r.Write) {
			known = append(known, g.Path)
		}
		if r.Profile.Files.System {
			for dir, to := range r.Host.System {
				if to == "" {
					known = append(known, dir)
				}
			}
		}
		if r.Profile.Network == profile.NetworkHost {
			known = append(known, "/etc/resolv.conf", "/etc/ssl/certs", "/etc/services")
		}
		for _, m := range b.Config.Mounts {
			if m.Kind != MountBind {
				if m.Source != "" {
					t.Errorf("%s of %s", m.Kind, m.Source)
				}
				continue
			}
			if !slices.Contains(known, m.Source) || m.Target != m.Source {
				t.Errorf("%s of the host is shown at %s", m.Source, m.Target)
			}
			if slices.Contains([]string{"/", "/proc", "/sys", "/etc", "/dev", "/run", "/var", "/home"}, m.Source) {
				t.Errorf("%s of the host is shown", m.Source)
			}
		}
	})
}

func TestEveryPlanMountsParentsFirst(t *testing.T) {
	everyPlan(t, func(t *testing.T, r Request, b *Blueprint) {
		mounts := b.Config.Mounts
		for i, m := range mounts {
			if !path.IsAbs(m.Target) || path.Clean(m.Target) != m.Target || m.Target == "/" {
				t.Errorf("target %q", m.Target)
			}
			for _, later := range mounts[i+1:] {
				if strings.HasPrefix(m.Target, later.Target+"/") {
					t.Errorf("%s is hidden by %s, which comes later", m.Target, later.Target)
				}
			}
			for _, l := range b.Config.Symlinks {
				if strings.HasPrefix(m.Target+"/", l.Path+"/") {
					t.Errorf("%s leads through the link %s", m.Target, l.Path)
				}
			}
		}
	})
}

func TestEveryPlanFitsItsRoot(t *testing.T) {
	everyPlan(t, func(t *testing.T, r Request, b *Blueprint) {
		names := map[string]bool{}
		add := func(name string) {
			for ; name != "/"; name = path.Dir(name) {
				names[name] = true
			}
		}
		var pages int64
		for _, m := range b.Config.Mounts {
			add(m.Target)
		}
		for _, l := range b.Config.Symlinks {
			add(l.Path)
		}
		for _, f := range b.Config.Files {
			add(string(f.Path))
			pages += (f.Size + 4095) / 4096
		}
		if int64(len(names)) >= b.Config.RootInodes || pages*4096 >= b.Config.RootSize {
			t.Errorf("%d inodes and %d bytes for %d names and %d pages", b.Config.RootInodes, b.Config.RootSize, len(names), pages)
		}
		if b.Config.RootSize > 2<<20 || b.Config.RootInodes > 1024 {
			t.Errorf("a root of %d bytes and %d inodes for a small script", b.Config.RootSize, b.Config.RootInodes)
		}
	})
}

func TestEveryPlanStartsPythonIsolated(t *testing.T) {
	everyPlan(t, func(t *testing.T, r Request, b *Blueprint) {
		cfg := b.Config
		if want := []string{r.Interp.Path, "-I", "-S", "-B", "-c", pyhook.Command}; !slices.Equal(cfg.Argv, want) {
			t.Errorf("arguments %q, want %q", cfg.Argv, want)
		}
		if cfg.BootFD != pyhook.BootFD || b.EventPipe != (cfg.EventFD == pyhook.EventFD) || b.EventPipe != (r.Profile.Python.Hooks != profile.HooksOff) {
			t.Errorf("boot descriptor %d, events on %d: %t", cfg.BootFD, cfg.EventFD, b.EventPipe)
		}
		if cfg.Hostname != "sbx" || string(cfg.Filter) != "filter" {
			t.Errorf("host name %q, filter %q", cfg.Hostname, cfg.Filter)
		}
		const inside = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
		want := uintptr(inside | unix.CLONE_NEWNET)
		if r.Profile.Network == profile.NetworkHost {
			want = inside
		}
		if got := Namespaces(r.Profile); got != want {
			t.Errorf("namespaces %#x, want %#x", got, want)
		}
		if len(b.Sources) != len(cfg.Files) {
			t.Fatalf("%d sources for %d files", len(b.Sources), len(cfg.Files))
		}
		for i, s := range b.Sources {
			if !reflect.DeepEqual(s.File, cfg.Files[i]) || (s.Open == nil) != (s.Dir || s.Link != nil) {
				t.Errorf("source %d is %s, and the file %s", i, s.Path, cfg.Files[i].Path)
			}
		}
	})
}

func TestPlanIsPure(t *testing.T) {
	r := Request{Profile: shipped(t, "ci"), Interp: distribution(), Env: []string{"A=1"}, Read: []Grant{{"/data", true}},
		Host: Host{System: map[string]string{"/usr": "", "/bin": "usr/bin"}}}
	before := fmt.Sprintf("%+v %+v", r, *r.Interp)
	first, err := Plan(r)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Plan(r)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(first.Config, second.Config) {
		t.Errorf("two plans of one request differ:\n%+v\n%+v", first.Config, second.Config)
	}
	if after := fmt.Sprintf("%+v %+v", r, *r.Interp); after != before {
		t.Errorf("planning changed the request:\n%s\n%s", before, after)
	}
}

func TestPlanNamespacesAndLoopback(t *testing.T) {
	for _, tc := range []struct {
		network           profile.Network
		loopback, denyTCP bool
		own               bool
		hosts             string
	}{
		{profile.NetworkNone, false, true, true, "hosts: files\n"},
		{profile.NetworkLoopback, true, false, true, "hosts: files\n"},
		{profile.NetworkHost, false, false, false, "hosts: files dns\n"},
	} {
		t.Run(string(tc.network), func(t *testing.T) {
			r := Request{Profile: shipped(t, "strict"), Interp: distribution()}
			r.Profile.Network = tc.network
			b, err := Plan(r)
			if err != nil {
				t.Fatal(err)
			}
			if b.Config.Loopback != tc.loopback || b.Config.Landlock.DenyTCP != tc.denyTCP || (Namespaces(r.Profile)&unix.CLONE_NEWNET != 0) != tc.own {
				t.Errorf("loopback %t, TCP denied %t, namespaces %#x", b.Config.Loopback, b.Config.Landlock.DenyTCP, Namespaces(r.Profile))
			}
			if got := content(t, b, "/etc/nsswitch.conf"); !strings.Contains(got, tc.hosts) {
				t.Errorf("nsswitch.conf is %q", got)
			}
		})
	}
}

// content is what a planned file will hold.
func content(t *testing.T, b *Blueprint, name string) string {
	t.Helper()
	for _, s := range b.Sources {
		if string(s.Path) != name {
			continue
		}
		in, err := s.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(data)) != s.Size {
			t.Errorf("%s is %d bytes, announced with %d", name, len(data), s.Size)
		}
		return string(data)
	}
	return ""
}

func TestPlanFiles(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Request)
		file   string
		want   string
	}{
		{"the user has a home that can be written", func(*Request) {}, "/etc/passwd",
			"root:x:0:0:root:/:/bin/false\nsbx:x:1000:1000:sbx:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		{"or none", func(r *Request) { r.Profile.Files.Write = false }, "/etc/passwd",
			"root:x:0:0:root:/:/bin/false\nsbx:x:1000:1000:sbx:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		{"the group", func(*Request) {}, "/etc/group", "root:x:0:\nsbx:x:1000:\nnogroup:x:65534:\n"},
		{"the host's own name resolves", func(*Request) {}, "/etc/hosts", "127.0.0.1 localhost sbx\n::1 localhost sbx\n"},
		{"a granted file replaces ours", func(r *Request) { r.Read = []Grant{{"/etc/hosts", false}} }, "/etc/hosts", ""},
		{"the boot file", func(r *Request) { r.Boot = []byte("boot") }, bootFile, "boot"},
		{"the script", func(r *Request) { r.Files = []Source{Bytes("/sandbox/a.py", 0o444, []byte("pass"))} }, "/sandbox/a.py", "pass"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Request{Profile: shipped(t, "strict"), Interp: distribution()}
			tc.change(&r)
			b, err := Plan(r)
			if err != nil {
				t.Fatal(err)
			}
			if got := content(t, b, tc.file); got != tc.want {
				t.Errorf("%s is %q, want %q", tc.file, got, tc.want)
			}
			for _, f := range b.Config.Files {
				if f.Mode&0o7022 != 0 {
					t.Errorf("%s has mode %o", f.Path, f.Mode)
				}
			}
		})
	}
}

func TestPlanWorkingDirectory(t *testing.T) {
	for _, tc := range []struct {
		workspace, write bool
		want             string
	}{
		{false, false, ScriptDir}, {false, true, TmpDir}, {true, false, WorkspaceDir}, {true, true, WorkspaceDir},
	} {
		r := Request{Profile: shipped(t, "strict"), Interp: distribution(), Workspace: tc.workspace}
		r.Profile.Files.Write = tc.write
		b, err := Plan(r)
		if err != nil {
			t.Fatal(err)
		}
		if b.Config.Dir != tc.want {
			t.Errorf("workspace %t, write %t: %s, want %s", tc.workspace, tc.write, b.Config.Dir, tc.want)
		}
	}
}

func TestPlanEnvironment(t *testing.T) {
	base := []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/tmp", "TMPDIR=/tmp"}
	threads := func(n string) []string {
		return []string{"OMP_NUM_THREADS=" + n, "OPENBLAS_NUM_THREADS=" + n, "MKL_NUM_THREADS=" + n, "NUMEXPR_NUM_THREADS=" + n}
	}
	for _, tc := range []struct {
		name  string
		cpu   int
		extra []string
		want  []string
	}{
		{"nothing of the caller's", 0, nil, base},
		{"threads by the share of the processors", 250, nil, append(slices.Clone(base), threads("2")...)},
		{"at least one", 50, nil, append(slices.Clone(base), threads("1")...)},
		{"what is asked for comes last", 0, []string{"A=b=c", "EMPTY="}, append(slices.Clone(base), "A=b=c", "EMPTY=")},
		{"and replaces", 100, []string{"HOME=/x", "OMP_NUM_THREADS=8", "HOME=/y"},
			[]string{base[0], base[1], base[3], "OPENBLAS_NUM_THREADS=1", "MKL_NUM_THREADS=1", "NUMEXPR_NUM_THREADS=1", "OMP_NUM_THREADS=8", "HOME=/y"}},
		{"a name that only begins the same", 0, []string{"HOM=x"}, append(slices.Clone(base), "HOM=x")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("SBX_TEST_SECRET", "of the caller")
			r := Request{Profile: shipped(t, "strict"), Interp: distribution(), Env: tc.extra}
			r.Profile.Limits.CPUPercent = tc.cpu
			b, err := Plan(r)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(b.Config.Env, tc.want) {
				t.Errorf("got %q, want %q", b.Config.Env, tc.want)
			}
		})
	}
}

func TestPlanRlimits(t *testing.T) {
	always := []string{
		"RLIMIT_CORE 0 0", "RLIMIT_MEMLOCK 65536 65536", "RLIMIT_MSGQUEUE 0 0", "RLIMIT_SIGPENDING 1024 1024",
		"RLIMIT_RTPRIO 0 0", "RLIMIT_NICE 0 0", "RLIMIT_STACK 8388608 67108864",
	}
	for _, tc := range []struct {
		name   string
		limits profile.Limits
		want   []string
	}{
		{"in any case", profile.Limits{}, nil},
		{"open files", profile.Limits{OpenFiles: 256}, []string{"RLIMIT_NOFILE 256 256"}},
		{"file size", profile.Limits{FileSize: 1 << 20}, []string{"RLIMIT_FSIZE 1048576 1048576"}},
		{"whole seconds after the tree's own clock", profile.Limits{CPUTime: 5 * time.Second}, []string{"RLIMIT_CPU 6 7"}},
		{"a part of a second is rounded up", profile.Limits{CPUTime: 1500 * time.Millisecond}, []string{"RLIMIT_CPU 3 4"}},
		{"memory is the cgroup's affair", profile.Limits{Memory: 1 << 20, PIDs: 5, Wall: time.Second}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, l := range rlimits(tc.limits) {
				got = append(got, fmt.Sprintf("%s %d %d", l.Name, l.Soft, l.Hard))
				if l.Soft > l.Hard {
					t.Errorf("%s: soft %d above hard %d", l.Name, l.Soft, l.Hard)
				}
			}
			if want := slices.Concat(always, tc.want); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestLandlockRulesetByABI(t *testing.T) {
	const (
		abi1  = 1<<13 - 1
		refer = ll.AccessFSRefer
		trunc = ll.AccessFSTruncate
		ioctl = ll.AccessFSIoctlDev
		tcp   = ll.AccessNetBindTCP | ll.AccessNetConnectTCP
		scope = ll.ScopeAbstractUnixSocket | ll.ScopeSignal
	)
	for _, tc := range []struct {
		abi             int
		fs, net, scoped uint64
	}{
		{1, abi1, 0, 0},
		{2, abi1 | refer, 0, 0},
		{3, abi1 | refer | trunc, 0, 0},
		{4, abi1 | refer | trunc, tcp, 0},
		{5, abi1 | refer | trunc | ioctl, tcp, 0},
		{6, abi1 | refer | trunc | ioctl, tcp, scope},
		{7, abi1 | refer | trunc | ioctl, tcp, scope},
		{99, abi1 | refer | trunc | ioctl, tcp, scope}, // no more than is known
	} {
		got := landlockRuleset(Landlock{DenyTCP: true}, tc.abi)
		if got.HandledAccessFS != tc.fs || got.HandledAccessNet != tc.net || got.Scoped != tc.scoped {
			t.Errorf("ABI %d: %+v, want %#x, %#x, %#x", tc.abi, got, tc.fs, tc.net, tc.scoped)
		}
		if open := landlockRuleset(Landlock{}, tc.abi); open.HandledAccessNet != 0 {
			t.Errorf("ABI %d: TCP is handled where it is allowed", tc.abi)
		}
	}
	const makers = ll.AccessFSMakeChar | ll.AccessFSMakeBlock | ll.AccessFSExecute
	if landlockScratch&makers != 0 || landlockFile&^(ll.AccessFSReadFile|ll.AccessFSWriteFile|ll.AccessFSTruncate) != 0 {
		t.Errorf("scratch allows %#x, a file %#x", uint64(landlockScratch), uint64(landlockFile))
	}
}

func TestSysProcAttr(t *testing.T) {
	me := os.Geteuid()
	for _, tc := range []struct {
		name   string
		ids    IDs
		groups bool // setgroups(2) is allowed, and used to drop all
	}{
		{"as oneself", IDs{me, os.Getegid()}, false},
		{"as somebody else", IDs{me + 1, os.Getegid() + 1}, me == 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := Spawn{IDs: tc.ids, Namespaces: Namespaces(shipped(t, "strict"))}.sysProcAttr()
			if a.Cloneflags != Namespaces(shipped(t, "strict")) || !a.Setsid || a.Pdeathsig != unix.SIGKILL || a.UseCgroupFD {
				t.Errorf("got %+v", a)
			}
			if len(a.UidMappings) != 1 || a.UidMappings[0].ContainerID != UID || a.UidMappings[0].HostID != tc.ids.UID || a.UidMappings[0].Size != 1 ||
				len(a.GidMappings) != 1 || a.GidMappings[0].ContainerID != GID || a.GidMappings[0].HostID != tc.ids.GID || a.GidMappings[0].Size != 1 {
				t.Errorf("maps %v, %v: want one id each", a.UidMappings, a.GidMappings)
			}
			if a.Credential.Uid != UID || a.Credential.Gid != GID || a.Credential.NoSetGroups == tc.groups || a.GidMappingsEnableSetgroups != tc.groups || len(a.Credential.Groups) != 0 {
				t.Errorf("credential %+v, setgroups %t", a.Credential, a.GidMappingsEnableSetgroups)
			}
		})
	}
}

func TestScriptName(t *testing.T) {
	for in, want := range map[string]string{
		"/home/me/a.py": "a.py", "a b.py": "a b.py", "café.py": "café.py", "-": "script.py", "/": "script.py", ".": "script.py", "": "script.py",
		"a\nb.py": "script.py", "a\x1b[31m.py": "script.py", "\xff.py": "script.py", "\u202egpj.py": "script.py",
		strings.Repeat("x", 200): strings.Repeat("x", 200), strings.Repeat("x", 201): "script.py", "dir/..": "script.py",
	} {
		if got := ScriptName(in); got != want {
			t.Errorf("ScriptName(%q) = %q, want %q", in, got, want)
		}
	}
}
