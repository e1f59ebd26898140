package profile_test

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbxproject/sbx/pkg/profile"
)

// load writes a profile and loads it.
func load(t *testing.T, text string) *profile.Profile {
	t.Helper()
	dir := write(t, map[string]string{"p.yaml": text})
	p, err := profile.LoadValid(filepath.Join(dir, "p.yaml"), known)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func builtin(t *testing.T, name string) *profile.Profile {
	t.Helper()
	p, err := profile.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestBuiltinsAreValid is why LoadValid does not ask.
func TestBuiltinsAreValid(t *testing.T) {
	for _, name := range profile.Builtin() {
		if err := builtin(t, name).Validate(known()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBuiltinsHaveTheLimitsOfTheContract(t *testing.T) {
	type limits struct {
		wall, cpu time.Duration
		memory    string
		pids      int64
		output    string
	}
	want := map[string]limits{
		"default": {10 * time.Second, 0, "128MiB", 64, "16MiB"},
		"strict":  {10 * time.Second, 5 * time.Second, "256MiB", 32, "1MiB"},
		"grader":  {10 * time.Second, 10 * time.Second, "512MiB", 64, "4MiB"},
		"science": {time.Minute, 2 * time.Minute, "2GiB", 128, "16MiB"},
		"ci":      {15 * time.Minute, 0, "4GiB", 512, "64MiB"},
		"observe": {time.Minute, 0, "1GiB", 256, "32MiB"},
	}
	if len(want) != len(profile.Builtin()) {
		t.Errorf("there are %d profiles, the contract has %d", len(profile.Builtin()), len(want))
	}
	for name, w := range want {
		l := builtin(t, name).Limits
		if got := (limits{l.Wall, l.CPUTime, l.Memory.String(), l.PIDs, l.Output.String()}); got != w {
			t.Errorf("%s has %+v, want %+v", name, got, w)
		}
	}
}

func TestChildKeepsWhatItDoesNotMention(t *testing.T) {
	p := load(t, "extends: strict\nlimits: {pids: 40}\nseccomp: {add_groups: [locks, base]}\n")
	want := builtin(t, "strict")
	want.Name, want.Description, want.Extends = "p", "", "strict"
	want.Limits.PIDs = 40
	want.Seccomp.Groups = append(want.Seccomp.Groups, "locks")
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
}

func TestChildReplacesLists(t *testing.T) {
	p := load(t, "extends: strict\nrequire: [seccomp]\npython: {restricted_imports: [], allowed_imports: [math]}\nseccomp: {groups: [base]}\n")
	for _, list := range []struct {
		name      string
		got, want []string
	}{
		{"require", p.Require, []string{"seccomp"}},
		{"restricted_imports", p.Python.RestrictedImports, []string{}},
		{"allowed_imports", p.Python.AllowedImports, []string{"math"}},
		{"groups", p.Seccomp.Groups, []string{"base"}},
	} {
		if !slices.Equal(list.got, list.want) {
			t.Errorf("%s is %q, want %q", list.name, list.got, list.want)
		}
	}
}

func TestChainOfFilesInOtherFolders(t *testing.T) {
	dir := write(t, map[string]string{"parent.yml": "extends: grader\nname: course\nlimits: {pids: 70}\n"})
	sub := write(t, map[string]string{"child.yaml": "extends: " + dir + "/parent.yml\nlimits: {wall: 3s}\n"})
	p, err := profile.LoadValid(sub+"/child.yaml", known)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "child" || p.Limits.PIDs != 70 || p.Limits.Wall != 3*time.Second || p.Limits.Memory.String() != "512MiB" {
		t.Errorf("got %+v", p)
	}
}

func TestYAMLThatIsTaken(t *testing.T) {
	tests := []struct{ name, text, field, want string }{
		{"Windows line ends", "extends: strict\r\nlimits:\r\n  pids: 40\r\n", "limits.pids", "40"},
		{"a document mark", "---\nextends: strict\ntrace: true\n...\n", "trace", "true"},
		{"JSON", `{"extends": "strict", "limits": {"pids": 40, "wall": "2s"}}`, "limits.pids", "40"},
		{"comments", "# x\nextends: strict # y\nlimits: # z\n  # w\n  pids: 40\n", "limits.pids", "40"},
		{"quotes", "extends: 'strict'\nlimits: {wall: \"2m\", memory: '1GiB'}\n", "limits.wall", "2m"},
		{"a size in bytes", "extends: strict\nlimits: {memory: 268435456}\n", "limits.memory", "256MiB"},
		{"a size with a blank", "extends: strict\nlimits: {memory: 1 GiB}\n", "limits.memory", "1GiB"},
		{"no limit", "extends: strict\nlimits: {wall: 0s}\n", "limits.wall", "no limit"},
		{"a word that old YAML takes for false", "extends: strict\npython: {hooks: off}\n", "python.hooks", "off"},
		{"an empty list of imports", "extends: strict\npython: {allowed_imports: []}\n", "python.allowed_imports", "[]"},
		{"a module outside of ASCII", "extends: strict\npython: {restricted_imports: [café]}\n", "python.restricted_imports", "[café]"},
		{"a path with a blank", "extends: strict\nfiles: {read_paths: [/a b, /c]}\n", "files.read_paths", `["/a b" /c]`},
		{
			"a hexadecimal value", rule("names: [socket]", "action: allow", "reason: x", "args: [{op: eq, value: 0x10}]"),
			"seccomp.rules", `["allow socket arg0 eq 0x10"]`,
		},
		{
			"the largest value", rule("names: [mmap]", "action: notify", "reason: x", "args: [{op: eq, value: 18446744073709551615}]"),
			"seccomp.rules", `["notify mmap arg0 eq 0xffffffffffffffff"]`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := load(t, tt.text).Value(tt.field); got != tt.want {
				t.Errorf("%s is %s, want %s", tt.field, got, tt.want)
			}
		})
	}
}

func TestShownProfileIsTheSameProfile(t *testing.T) {
	texts := map[string]string{
		"with everything": `description: "a: b # c"
extends: ci
python: {allowed_imports: [], restricted_imports: [café]}
files: {read_paths: ["/a b", "/c,d", "/e: f"], write_paths: ["/\U0001F600\u0085\u2028"]}
seccomp:
  rules:
    - {names: [socket], action: errno, errno: EAFNOSUPPORT, reason: "no \"sockets\"\n\there", args: [{op: eq}, {index: 1, op: masked_eq, value: 1, mask: 3}]}
    - {names: [ptrace, mount], action: kill, reason: "off"}
`,
		"with no imports": "extends: strict\npython: {allowed_imports: []}\n",
	}
	for _, name := range profile.Builtin() {
		texts[name] = "extends: " + name + "\n"
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			p := load(t, text)
			shown := load(t, p.Show())
			p.Extends = ""
			if diff := profile.Diff(*p, *shown); len(diff) > 0 || p.SHA256() != shown.SHA256() {
				t.Errorf("they differ: %+v\n%s", diff, p.Show())
			}
			if again := shown.Show(); again != p.Show() {
				t.Errorf("shown once\n%s\nshown twice\n%s", p.Show(), again)
			}
		})
	}
}

func TestShowReadsWell(t *testing.T) {
	p := load(t, rule("names: [socket]", "action: allow", "reason: an example", "args: [{op: eq, value: 16}]"))
	want := `name: p
require: [userns, mountns, pidns, netns, ipcns, utsns, cgroupns, no_new_privs, capabilities, seccomp,
  seccomp_notify, cgroup.memory, cgroup.pids, rlimits, wall_clock]
limits:
  wall: 10s
  cpu_time: 5s
  memory: 256MiB
  cpu_percent: 0  # no limit
  pids: 32
  output: 1MiB
  output_action: truncate
  tmp_size: 16MiB
  tmp_inodes: 4096
  open_files: 1024
  file_size: 16MiB
  denials: 0  # no limit
  same_denial: 0  # no limit
python:
  hooks: enforce
  restricted_imports: [ctypes, _ctypes]
  site_packages: false
  fast_exit: true
files:
  read: true
  read_paths: []
  write: true
  write_paths: []
  shared_memory: false
  system: false
network: none
seccomp:
  groups: [base, threads, sockets-pair, files-write]
  rules:
    - names: [socket]
      action: allow
      args:
        - index: 0
          op: eq
          value: 0x10
      reason: an example
trace: false
`
	if got := p.Show(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSHA256IsOfThePolicyAlone(t *testing.T) {
	base := load(t, "extends: strict\n")
	same := map[string]string{
		"another name and description": "extends: strict\nname: other\ndescription: other\n",
		"what is inherited, said":      "extends: strict\nlimits: {wall: 10000ms}\nnetwork: none\n",
	}
	for name, text := range same {
		if load(t, text).SHA256() != base.SHA256() {
			t.Errorf("%s: another policy", name)
		}
	}
	if builtin(t, "strict").SHA256() != base.SHA256() {
		t.Error("a profile that only extends strict is another policy than strict")
	}
	other := map[string]string{
		"a limit":             "extends: strict\nlimits: {wall: 11s}\n",
		"no imports at all":   "extends: strict\npython: {allowed_imports: []}\n",
		"paths with a blank":  "extends: strict\nfiles: {read_paths: [\"/a /b\"]}\n",
		"two paths":           "extends: strict\nfiles: {read_paths: [/a, /b]}\n",
		"a rule":              rule("names: [socket]", "action: errno", "errno: EACCES", "reason: x"),
		"the rule, its errno": rule("names: [socket]", "action: errno", "errno: EPERM", "reason: x"),
	}
	seen := map[string]string{base.SHA256(): "strict"}
	for name, text := range other {
		sum := load(t, text).SHA256()
		if seen[sum] != "" {
			t.Errorf("%s is the same policy as %s", name, seen[sum])
		}
		seen[sum] = name
	}
}

func TestParseSize(t *testing.T) {
	good := map[string]profile.Size{"0": 0, "1": 1, "1KiB": 1 << 10, "3 MiB": 3 << 20, "8388607TiB": 8388607 << 40, "9223372036854775807": 1<<63 - 1}
	for text, want := range good {
		got, err := profile.ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%q is %d (%v), want %d", text, got, err, want)
		}
		if back, err := profile.ParseSize(got.String()); err != nil || back != got {
			t.Errorf("%q reads back as %d (%v)", got, back, err)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "+1", "1.5KiB", "1e3", "0x10", "1kib", "1KB", "1 ", " 1", "1_000", "8388608TiB", "9223372036854775808", "NaN"} {
		if got, err := profile.ParseSize(text); err == nil {
			t.Errorf("%q is taken, as %d", text, got)
		}
	}
}

func TestErrorIsOneLine(t *testing.T) {
	for _, text := range []string{"\"a\nb\": 1\n", "name: [\"x\n", "network: \"a\\nb\"\nextends: strict\n", "extends: \"a\\nb\"\n"} {
		dir := write(t, map[string]string{"p.yaml": text})
		_, err := profile.LoadValid(filepath.Join(dir, "p.yaml"), known)
		if err == nil || strings.ContainsRune(err.Error(), '\n') {
			t.Errorf("%q: the error is %q, want one line", text, err)
		}
	}
}

func BenchmarkLoadBuiltin(b *testing.B) {
	for _, name := range []string{"strict", "observe"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := profile.LoadValid(name, known); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLoadFile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := profile.Load("../../profiles/strict.yaml"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSHA256(b *testing.B) {
	p, err := profile.Load("strict")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p.SHA256()
	}
}
