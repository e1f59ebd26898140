package cgroup

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func TestParsePlaces(t *testing.T) {
	v1 := func(root, target, controllers string) string {
		return fmt.Sprintf("35 31 0:32 %s %s rw,relatime - cgroup cgroup rw,%s\n", root, target, controllers)
	}
	v2 := func(root, target string) string {
		return fmt.Sprintf("41 31 0:38 %s %s rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n", root, target)
	}
	cases := []struct {
		name, mounts, own string
		v2                string
		v1                map[string]string
	}{
		{
			"the unified hierarchy",
			v2("/", "/sys/fs/cgroup"), "0::/user.slice/user-1000.slice/session-2.scope\n",
			"/sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope", nil,
		},
		{
			"one v1 hierarchy for each controller",
			v1("/", "/sys/fs/cgroup/memory", "memory") + v1("/", "/sys/fs/cgroup/pids", "pids") + v1("/", "/sys/fs/cgroup/cpu", "cpu"),
			"4:memory:/a/b\n3:pids:/\n1:cpu:/c\n", "",
			map[string]string{"memory": "/sys/fs/cgroup/memory/a/b", "pids": "/sys/fs/cgroup/pids", "cpu": "/sys/fs/cgroup/cpu/c"},
		},
		{
			"cpu and cpuacct in one hierarchy",
			v1("/", "/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct"), "2:cpu,cpuacct:/x\n", "",
			map[string]string{"cpu": "/sys/fs/cgroup/cpu,cpuacct/x", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/x"},
		},
		{
			"a hybrid host has both",
			v1("/", "/sys/fs/cgroup/memory", "memory") + v2("/", "/sys/fs/cgroup/unified"),
			"4:memory:/m\n1:name=systemd:/s\n0::/u\n",
			"/sys/fs/cgroup/unified/u", map[string]string{"memory": "/sys/fs/cgroup/memory/m"},
		},
		{
			"a controller that is mounted nowhere",
			v1("/", "/sys/fs/cgroup/memory", "memory"), "4:memory:/\n3:pids:/\n", "",
			map[string]string{"memory": "/sys/fs/cgroup/memory"},
		},
		{
			"controllers that a run does not use, and named hierarchies",
			v1("/", "/sys/fs/cgroup/blkio", "blkio") + v1("/", "/sys/fs/cgroup/systemd", "xattr,name=systemd"),
			"5:blkio:/\n1:name=systemd:/\n", "", nil,
		},
		{
			"a container that sees its own group as the top",
			v1("/docker/0123", "/sys/fs/cgroup/memory", "memory"), "4:memory:/docker/0123\n", "",
			map[string]string{"memory": "/sys/fs/cgroup/memory"},
		},
		{
			"a group below the container's",
			v1("/docker/0123", "/sys/fs/cgroup/memory", "memory"), "4:memory:/docker/0123/job\n", "",
			map[string]string{"memory": "/sys/fs/cgroup/memory/job"},
		},
		{
			"a container within a container",
			v2("/../..", "/sys/fs/cgroup"), "0::/\n", "/sys/fs/cgroup", nil,
		},
		{
			"a name that only begins like the mount's root is another group",
			v1("/docker/01", "/sys/fs/cgroup/memory", "memory"), "4:memory:/docker/0123\n", "",
			map[string]string{"memory": "/sys/fs/cgroup/memory"},
		},
		{
			"a group outside of the cgroup namespace does not lead out of the mount",
			v2("/", "/sys/fs/cgroup"), "0::/../../etc\n", "/sys/fs/cgroup", nil,
		},
		{
			"a mount that shows our group wins over one that does not",
			v2("/kubepods", "/run/other") + v2("/", "/sys/fs/cgroup"), "0::/user/me\n", "/sys/fs/cgroup/user/me", nil,
		},
		{
			"the first of two mounts that show our group",
			v2("/", "/sys/fs/cgroup") + v2("/", "/mnt/second"), "0::/a\n", "/sys/fs/cgroup/a", nil,
		},
		{
			"escapes of mountinfo",
			v2(`/a\040b`, `/mnt/with\040space\011tab\012line\134slash`), "0::/a b/c\n", "/mnt/with space\ttab\nline\\slash/c", nil,
		},
		{
			"a space that the kernel does not escape",
			v2("/", "/mnt/no\u00a0break\u2003em"), "0::/\n", "/mnt/no\u00a0break\u2003em", nil,
		},
		{
			"a group whose name has colons",
			v2("/", "/sys/fs/cgroup"), "0::/a:b:c\n", "/sys/fs/cgroup/a:b:c", nil,
		},
		{
			"a removed group keeps its mark",
			v2("/", "/sys/fs/cgroup"), "0::/gone (deleted)\n", "/sys/fs/cgroup/gone (deleted)", nil,
		},
		{
			"optional fields before the dash",
			"41 31 0:38 / /sys/fs/cgroup rw shared:9 master:1 - cgroup2 cgroup2 rw\n", "0::/\n", "/sys/fs/cgroup", nil,
		},
		{
			"a mount without a source",
			"41 31 0:38 / /sys/fs/cgroup/memory rw - cgroup  rw,memory\n", "4:memory:/\n", "",
			map[string]string{"memory": "/sys/fs/cgroup/memory"},
		},
		{
			"other file systems, also with our words in them",
			"31 23 0:28 / /sys/fs/cgroup rw - tmpfs cgroup2 rw,memory\n", "4:memory:/\n0::/\n", "", nil,
		},
		{
			"lines that are cut off",
			"41 31 0:38 / /sys/fs/cgroup rw - cgroup2\n41 31 0:38\n-\n\n", "0::/\n0:\nmemory\n\n", "", nil,
		},
		{
			"a path that is not absolute",
			v2("/", "/sys/fs/cgroup"), "0::relative\n", "", nil,
		},
		{"a last line without its end", v2("/", "/sys/fs/cgroup"), "0::/a", "/sys/fs/cgroup/a", nil},
		{"nothing", "", "", "", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := parsePlaces(c.mounts, c.own)
			if got.v2 != c.v2 {
				t.Errorf("v2 is %q, want %q", got.v2, c.v2)
			}
			if !maps.Equal(got.v1, c.v1) {
				t.Errorf("v1 is %q, want %q", got.v1, c.v1)
			}
		})
	}
}

func FuzzParsePlaces(f *testing.F) {
	f.Add("35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", "4:memory:/a\n")
	f.Add("41 31 0:38 /a /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n", "0::/a/b\n")
	f.Add(`41 31 0:38 /a\040b /m\134 rw - cgroup2 cgroup2 rw`, "0::/../b")
	f.Add("41 31 0:38 /\\ / - cgroup2 - -", "0::/:\n0:,:/\n")
	f.Fuzz(func(t *testing.T, mounts, own string) {
		p := parsePlaces(mounts, own)
		for _, dir := range append([]string{p.v2}, values(p.v1)...) {
			if dir == "" {
				continue
			}
			// Whatever our group is called, its directory is in a mount.
			inside := false
			for line := range strings.Lines(mounts) {
				fields := strings.Split(strings.TrimSuffix(line, "\n"), " ")
				if len(fields) > 4 {
					target := filepath.Clean(unescape(fields[4]))
					inside = inside || within(filepath.Clean(dir), target)
				}
			}
			if !inside {
				t.Errorf("%q is in no mount of %q", dir, mounts)
			}
		}
		if _, ok := p.v1[""]; ok {
			t.Error("v2 is listed as a controller of v1")
		}
	})
}

func within(dir, top string) bool {
	return dir == top || strings.HasPrefix(dir, strings.TrimSuffix(top, "/")+"/")
}

func values(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"/plain":          "/plain",
		`/a\040b`:         "/a b",
		`\011\012\134`:    "\t\n\\",
		`\134040`:         `\040`, // the backslash that comes out escapes nothing
		`/cut\04`:         `/cut\04`,
		`/cut\`:           `/cut\`,
		`/no\x41octal`:    `/no\x41octal`,
		`/big\777`:        `/big\777`,
		`/umlaut\303\244`: "/umlautä",
	} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) is %q, want %q", in, got, want)
		}
	}
}

func FuzzUnescape(f *testing.F) {
	f.Add(`/a\040b\134c`)
	f.Add(`\`)
	f.Add(`\400\377\99`)
	f.Fuzz(func(t *testing.T, s string) {
		if got := unescape(escape(s)); utf8.ValidString(s) && got != s {
			t.Errorf("%q comes back as %q", s, got)
		}
		if got := unescape(s); len(got) > len(s) {
			t.Errorf("%q grows to %q", s, got)
		}
	})
}

// escape is what the kernel does to a path in mountinfo.
func escape(s string) string {
	return strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(s)
}

func TestHierarchiesNeedsProc(t *testing.T) {
	for _, missing := range []string{"mountinfo", "cgroup"} {
		t.Run(missing, func(t *testing.T) {
			h := fakeHost(t, "", "")
			if err := os.Remove(filepath.Join(h.self, missing)); err != nil {
				t.Fatal(err)
			}
			g, err := h.open(Name(), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			for name, layer := range g.Layers() {
				if layer.State != Absent || !strings.Contains(layer.Why, missing) {
					t.Errorf("%s is %+v, want it absent and the reason to name %s", name, layer, missing)
				}
			}
			if c, err := h.collect(); c != (Collected{}) || err != nil {
				t.Errorf("collect says %+v, %v", c, err)
			}
		})
	}
}

func TestNoHierarchyIsNamed(t *testing.T) {
	g, err := fakeHost(t, "", "").open(Name(), Limits{Memory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Layers()) != 3 {
		t.Errorf("layers are %v, want all three", g.Layers())
	}
	for name, layer := range g.Layers() {
		if layer.State != Absent || !strings.Contains(layer.Why, "no cgroup hierarchy") {
			t.Errorf("%s is %+v", name, layer)
		}
	}
	// A run without any group is asked the same questions.
	if u, err := g.Usage(); u != (Usage{}) || err != nil {
		t.Errorf("usage is %+v, %v", u, err)
	}
	if e, err := g.Events(); e != (Events{}) || err != nil {
		t.Errorf("events are %+v, %v", e, err)
	}
	if err := g.Kill(); err != nil {
		t.Error(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if g.V2Dir() != nil || len(g.Tasks()) != 0 {
		t.Error("there is something to join")
	}
}

// fakeHost is a host with its own mountinfo and cgroup files.
func fakeHost(t *testing.T, mounts, own string) host {
	t.Helper()
	h := thisHost()
	h.self, h.uid, h.buses = t.TempDir(), 0, nil
	h.delegated = func(string) bool { return false }
	put(t, filepath.Join(h.self, "mountinfo"), mounts)
	put(t, filepath.Join(h.self, "cgroup"), own)
	return h
}

func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestNamesAreUniqueAndSayWhoseTheyAre(t *testing.T) {
	a, b := Name(), Name()
	if a == b {
		t.Errorf("two runs are called %s", a)
	}
	if want := fmt.Sprintf("sbx-%d-%d-%d-", pidNamespace(), os.Getpid(), startTime(os.Getpid())); !strings.HasPrefix(a, want) {
		t.Errorf("%s does not begin with %s", a, want)
	}
}

func TestAbandoned(t *testing.T) {
	pid, start, ns := os.Getpid(), startTime(os.Getpid()), pidNamespace()
	if start == 0 || ns == 0 {
		t.Fatal("this process has no start time or no namespace")
	}
	gone := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, name string
		want       bool
	}{
		{"a group of this process", Name(), false},
		{"an owner that has ended", fmt.Sprintf("sbx-%d-%d-%d-1", ns, gone.Process.Pid, start), true},
		{"a pid that is in use again", fmt.Sprintf("sbx-%d-%d-%d-1", ns, pid, start+1), true},
		{"an owner in another pid namespace", fmt.Sprintf("sbx-%d-%d-%d-1", ns+1, gone.Process.Pid, start), false},
		{"another program's group", fmt.Sprintf("docker-%d-%d-%d-1", ns, gone.Process.Pid, start), false},
		{"no pid", fmt.Sprintf("sbx-%d-x-%d-1", ns, start), false},
		{"pid 0", fmt.Sprintf("sbx-%d-0-1-1", ns), false},
		{"a negative pid", fmt.Sprintf("sbx-%d--1-1-1", ns), false},
		{"no start time", fmt.Sprintf("sbx-%d-%d-x-1", ns, gone.Process.Pid), false},
		{"too few parts", fmt.Sprintf("sbx-%d-%d-%d", ns, gone.Process.Pid, start), false},
		{"too many parts", fmt.Sprintf("sbx-%d-%d-%d-1-1", ns, gone.Process.Pid, start), false},
		{"the prefix alone", "sbx-", false},
		{"a file of the kernel", "memory.max", false},
	} {
		if got := abandoned(c.name, ns); got != c.want {
			t.Errorf("%s: %s is abandoned: %v, want %v", c.what, c.name, got, c.want)
		}
	}
}

func TestZombieOwnerIsGone(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It ends, and nobody has waited for it.
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if got := startTime(cmd.Process.Pid); got != 0 {
		t.Errorf("the start time of a zombie is %d, want 0", got)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

func FuzzAbandoned(f *testing.F) {
	f.Add("sbx-7-1-1-1")
	f.Add("sbx-7-99999999-1-1")
	f.Add("sbx---")
	f.Fuzz(func(t *testing.T, name string) {
		// A name that we do not give is never removed.
		if abandoned(name, 7) && (!strings.HasPrefix(name, "sbx-7-") || strings.Count(name, "-") != 4 || strings.ContainsRune(name, '/')) {
			t.Errorf("%q would be removed", name)
		}
	})
}
