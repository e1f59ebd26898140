package profile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

// layers are those of pkg/sandbox, which imports this package.
var layers = []string{
	"userns", "mountns", "pidns", "netns", "ipcns", "utsns", "cgroupns", "no_new_privs", "capabilities",
	"seccomp", "seccomp_notify", "landlock", "cgroup.memory", "cgroup.cpu", "cgroup.pids", "rlimits",
	"wall_clock", "python_hooks",
}

// known is what those know who enforce a profile.
func known() profile.Known {
	k := profile.Known{
		Layers:     layers,
		Syscalls:   seccomp.Names(),
		Importable: seccomp.Importable,
		Rule: func(r profile.Rule) error {
			_, err := seccomp.Resolve(profile.Seccomp{Rules: []profile.Rule{r}}, nil)
			if cause := errors.Unwrap(err); cause != nil {
				return cause
			}
			return err
		},
	}
	for _, g := range seccomp.Groups() {
		k.Groups = append(k.Groups, g.Name)
	}
	return k
}

// write makes the files of a test in a directory of its own, which it returns.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// rule is a profile with one rule, whose keys stand in line 4 and below.
func rule(keys ...string) string {
	return "extends: strict\nseccomp:\n  rules:\n    - " + strings.Join(keys, "\n      ") + "\n"
}

func TestBadProfileIsRefusedWithItsPlace(t *testing.T) {
	fine := []string{"names: [socket]", "action: allow", "reason: why not"}
	tests := []struct {
		name, text string
		want       string // what follows the directory of the file
		hint       string // a part of the hint
	}{
		// The file as a whole.
		{"empty file", "", "p.yaml: is empty", "extends: strict"},
		{"nothing but a comment", "# nothing\n", "p.yaml: is empty", ""},
		{"nothing but a document mark", "---\n", "p.yaml: is empty", ""},
		{"two documents", "extends: strict\n---\ntrace: true\n", "p.yaml: has more than one YAML document", ""},
		{"too large", "# " + strings.Repeat("x", 64<<10), "p.yaml: is larger than 64KiB", ""},
		{"ten megabytes", strings.Repeat("a: b\n", 2<<20), "p.yaml: is larger than 64KiB", ""},
		{"not UTF-8", "extends: strict\nname: caf\xe9\n", "p.yaml:2:10: is not UTF-8", ""},
		{"UTF-16", "\xff\xfee\x00x\x00", "p.yaml:1:1: is not UTF-8", ""},
		{"byte order mark", "\ufeffextends: strict\n", "p.yaml:1:1: begins with a byte order mark", "without"},
		{"NUL", "extends: strict\nname: a\x00b\n", "p.yaml:2:8: has the control character U+0000", ""},
		{"escape sequence", "name: \x1b[31m\n", "p.yaml:1:7: has the control character U+001B", ""},
		{"a list", "- extends\n", "p.yaml:1:1: want keys and values, have a list", ""},
		{"a word", "strict\n", `p.yaml:1:1: want keys and values, have "strict"`, ""},
		{"JSON that is cut off", `{"extends": "strict"`, "p.yaml:1:1: could not find flow mapping end token '}'", ""},
		{"a quote that does not end", "name: \"x\n", "p.yaml:1:7: could not find end character of double-quoted text", ""},
		{"a tab for indentation", "limits:\n\twall: 1s\n", "p.yaml:2:1: a tab indents nothing in YAML", "spaces"},
		{"a tab before a key", "\tname: x\n", "p.yaml:1:5: a tab indents nothing in YAML", "spaces"},
		{"a key in a value", "name: a: b\n", "p.yaml:1:7: mapping value is not allowed in this context", ""},
		{"an anchor", "name: &x y\n", "p.yaml:1:7: anchors, aliases and merge keys are not allowed in a profile", ""},
		{"a bomb of aliases", "name: x\nrequire: [*a, *a, *a]\n", "p.yaml:2:11: anchors, aliases and merge keys are not allowed in a profile", ""},
		{"a merge key", "<<: {trace: true}\n", "p.yaml:1:1: anchors, aliases and merge keys are not allowed in a profile", ""},
		{"a tag", "trace: !!bool yes\n", "p.yaml:1:8: tags, directives and complex keys are not allowed in a profile", ""},
		{"a directive", "%YAML 1.1\n---\nextends: strict\n", "p.yaml:1:1: tags, directives and complex keys are not allowed in a profile", ""},
		{"a complex key", "? name\n: x\n", "p.yaml:1:1: tags, directives and complex keys are not allowed in a profile", ""},
		{"brackets without end", "require: " + strings.Repeat("[", 60<<10), "p.yaml:1:18: is nested too deeply", ""},
		{"dashes without end", "require: \n" + strings.Repeat("- ", 30<<10), "p.yaml:2:17: is nested too deeply", ""},

		// Keys.
		{"unknown key", "extends: strict\nlimit:\n  wall: 1s\n", `p.yaml:2:1: unknown key "limit"`, "did you mean limits?"},
		{"unknown key in a section", "limits:\n  memroy: 1GiB\n", `p.yaml:2:3: limits: unknown key "memroy"`, "did you mean memory?"},
		{"a key in the wrong section", "memory: 1GiB\n", `p.yaml:1:1: unknown key "memory"`, "did you mean limits.memory?"},
		{"a key of nothing", "colour: red\n", `p.yaml:1:1: unknown key "colour"`, "keys: name description extends"},
		{"a key in capitals", "Network: none\n", `p.yaml:1:1: unknown key "Network"`, "did you mean network?"},
		{"a number for a key", "1: 2\n", `p.yaml:1:1: unknown key "1"`, ""},
		{"a key twice", "trace: true\nname: x\ntrace: false\n", "p.yaml:3:1: trace: is there twice", ""},
		{"a section twice", "files:\n  read: true\nfiles:\n  write: true\n", "p.yaml:3:1: files: is there twice", ""},
		{"a key twice in a section", "files:\n  read: true\n  \"read\": false\n", "p.yaml:3:3: files.read: is there twice", ""},
		{"a key without a value", "extends: strict\nrequire:\n", "p.yaml:2:1: require: has no value", "empty list is []"},
		{"null", "extends: strict\npython: {restricted_imports: null}\n", "p.yaml:2:10: python.restricted_imports: has no value", ""},

		// Types.
		{"a section that is a word", "limits: none\n", `p.yaml:1:9: limits: want keys and values, have "none"`, ""},
		{"a list that is a word", "require: userns\n", `p.yaml:1:10: require: want a list, have "userns"`, ""},
		{"a word that is a list", "network: [none]\n", "p.yaml:1:10: network: want one value, have a list", ""},
		{"text that is a number", "name: 7\n", "p.yaml:1:7: name: want text, have 7", "quotes"},
		{"a module that is a number", "python: {restricted_imports: [os, 1]}\n", "p.yaml:1:35: python.restricted_imports[1]: want text, have 1", ""},
		{"a switch that is a word", "trace: yes\n", `p.yaml:1:8: trace: want true or false, have "yes"`, ""},
		{"a switch that is a number", "files: {read: 1}\n", "p.yaml:1:15: files.read: want true or false, have 1", ""},
		{"a number in quotes", "limits: {pids: \"64\"}\n", `p.yaml:1:16: limits.pids: want a whole number, have "64"`, ""},
		{"a number with a fraction", "limits: {pids: 1.5}\n", "p.yaml:1:16: limits.pids: want a whole number, have 1.5", ""},
		{"a number with an exponent", "limits: {pids: 1e3}\n", `p.yaml:1:16: limits.pids: want a whole number, have "1e3"`, ""},
		{"a number that could be octal", "limits: {pids: 064}\n", "p.yaml:1:16: limits.pids: want a whole number, have 064", ""},
		{"not a number", "limits: {pids: .nan}\n", "p.yaml:1:16: limits.pids: want a whole number, have .nan", ""},
		{"infinity", "limits: {cpu_percent: .inf}\n", "p.yaml:1:23: limits.cpu_percent: want a whole number, have .inf", ""},
		{"a number that overflows", "limits: {pids: 99999999999999999999}\n", "p.yaml:1:16: limits.pids: 99999999999999999999 is out of range", ""},
		{"a negative number without a sign", "limits: {open_files: -1}\n", "p.yaml:1:22: limits.open_files: -1 is out of range", ""},

		// Units.
		{"time without a unit", "limits: {wall: 10}\n", `p.yaml:1:16: limits.wall: "10" is no time`, "10s"},
		{"time in words", "limits: {wall: 10 minutes}\n", `p.yaml:1:16: limits.wall: "10 minutes" is no time`, "10s"},
		{"time that overflows", "limits: {wall: 9999999999h}\n", `p.yaml:1:16: limits.wall: "9999999999h" is no time`, ""},
		{"size in a unit of tens", "limits: {memory: 256MB}\n", `p.yaml:1:18: limits.memory: "256MB" is no size`, "MiB"},
		{"size with a fraction", "limits: {memory: 1.5GiB}\n", `p.yaml:1:18: limits.memory: "1.5GiB" is no size`, "whole"},
		{"negative size", "limits: {memory: -5MiB}\n", `p.yaml:1:18: limits.memory: "-5MiB" is no size`, ""},
		{"size that overflows", "limits: {memory: 9999999999TiB}\n", `p.yaml:1:18: limits.memory: "9999999999TiB" is no size`, ""},

		// Numbers that cannot be meant.
		{"negative time", "extends: strict\nlimits:\n  wall: -5s\n", "p.yaml:3:9: limits.wall: -5s is out of range", "1ms to 30 days"},
		{"time too short for anything", "extends: strict\nlimits: {wall: 5ns}\n", "p.yaml:2:16: limits.wall: 5ns is out of range", ""},
		{"time of years", "extends: strict\nlimits: {cpu_time: 10000h}\n", "p.yaml:2:20: limits.cpu_time: 10000h is out of range", ""},
		{"memory that no interpreter fits in", "extends: strict\nlimits: {memory: 256}\n", "p.yaml:2:18: limits.memory: 256 is out of range", "16MiB"},
		{"more memory than there is", "extends: strict\nlimits: {memory: 2048TiB}\n", "p.yaml:2:18: limits.memory: 2048TiB is out of range", ""},
		{"negative share", "extends: strict\nlimits: {cpu_percent: -1}\n", "p.yaml:2:23: limits.cpu_percent: -1 is out of range", "1 to 409600"},
		{"one process", "extends: strict\nlimits: {pids: 1}\n", "p.yaml:2:16: limits.pids: 1 is out of range", "2 to"},
		{"more processes than the kernel has", "extends: strict\nlimits: {pids: 4194305}\n", "p.yaml:2:16: limits.pids: 4194305 is out of range", ""},
		{"no /tmp", "extends: strict\nlimits: {tmp_size: 0}\n", "p.yaml:2:20: limits.tmp_size: 0 is out of range", "64KiB"},
		{"no inodes", "extends: strict\nlimits: {tmp_inodes: 0}\n", "p.yaml:2:22: limits.tmp_inodes: 0 is out of range", "16 to"},
		{"no open files", "extends: strict\nlimits: {open_files: 0}\n", "p.yaml:2:22: limits.open_files: 0 is out of range", "64 to"},
		{"fewer open files than the hook needs", "extends: strict\nlimits: {open_files: 63}\n", "p.yaml:2:22: limits.open_files: 63 is out of range", "64 to"},
		{"more open files than a number has", "extends: strict\nlimits: {open_files: 18446744073709551615}\n", "p.yaml:2:22: limits.open_files: 18446744073709551615 is out of range", "64 to"},

		// Words.
		{"unknown profile", "extends: strct\n", "p.yaml:1:10: extends: strct: no such profile", "did you mean strict?"},
		{"extends a file that is not there", "extends: other.yaml\n", "p.yaml:1:10: extends: DIR/other.yaml: cannot be read: no such file or directory", ""},
		{"extends itself", "extends: p.yaml\n", "p.yaml:1:10: extends: goes round in a circle: DIR/p.yaml -> DIR/p.yaml", ""},
		{"unknown layer", "extends: strict\nrequire: [userns, nets]\n", `p.yaml:2:19: require[1]: unknown name "nets"`, "did you mean netns?"},
		{"unknown group", "extends: strict\nseccomp: {groups: [base, thread]}\n", `p.yaml:2:26: seccomp.groups[1]: unknown name "thread"`, "did you mean threads?"},
		{"unknown group that is added", "extends: strict\nseccomp: {add_groups: [lock]}\n", `p.yaml:2:24: seccomp.add_groups[0]: unknown name "lock"`, "did you mean locks?"},
		{"unknown network", "extends: strict\nnetwork: local\n", `p.yaml:2:10: network: unknown word "local"`, "none loopback host"},
		{"unknown hook mode", "extends: strict\npython: {hooks: enforced}\n", `p.yaml:2:17: python.hooks: unknown word "enforced"`, "did you mean enforce?"},
		{"unknown output action", "extends: strict\nlimits: {output_action: stop}\n", `p.yaml:2:25: limits.output_action: unknown word "stop"`, "truncate kill"},
		{"no module name", "extends: strict\npython: {restricted_imports: [\"os; import sys\"]}\n", `p.yaml:2:31: python.restricted_imports[0]: "os; import sys" is no module name`, ""},
		{"empty module name", "extends: strict\npython: {allowed_imports: [\"\"]}\n", `p.yaml:2:28: python.allowed_imports[0]: "" is no module name`, ""},
		{"relative path", "extends: strict\nfiles: {read_paths: [data]}\n", `p.yaml:2:22: files.read_paths[0]: "data" is not absolute`, "begins with /"},
		{"the root", "extends: strict\nfiles: {read_paths: [//]}\n", `p.yaml:2:22: files.read_paths[0]: "//" cannot be shown`, "folder"},
		{"the root by a detour", "extends: strict\nfiles: {write_paths: [/usr/..]}\n", `p.yaml:2:23: files.write_paths[0]: "/usr/.." cannot be shown`, "folder"},
		{"a mount of the jail", "extends: strict\nfiles: {read_paths: [/data, /proc/1/root]}\n", `p.yaml:2:29: files.read_paths[1]: "/proc/1/root" cannot be shown`, ""},
		{"a path with NUL", "extends: strict\nfiles: {read_paths: [\"/a\\0b\"]}\n", `p.yaml:2:22: files.read_paths[0]: "/a\x00b" is no path`, ""},
		{"a name of two lines", "extends: strict\nname: \"a\\nb\"\n", "p.yaml:2:7: name: is no line of at most 200 bytes", ""},
		{"no system calls at all", "extends: strict\nseccomp: {groups: []}\n", "p.yaml:2:11: seccomp.groups: is empty: no program can start", "base"},

		// Rules.
		{"unknown system call", rule("names: [sokcet]", "action: allow", "reason: x"), `p.yaml:4:15: seccomp.rules[0].names[0]: unknown name "sokcet"`, "did you mean socket?"},
		{"no system call", rule("names: []", "action: allow", "reason: x"), "p.yaml:4:7: seccomp.rules[0].names: is empty", ""},
		{"no action", rule("names: [socket]", "reason: x"), "p.yaml:4:7: seccomp.rules[0].action: is missing", "allow notify errno kill"},
		{"unknown action", rule("names: [socket]", "action: deny", "reason: x"), `p.yaml:5:15: seccomp.rules[0].action: unknown word "deny"`, "allow notify errno kill"},
		{"an action of groups only", rule("names: [socket]", "action: observe", "reason: x"), `p.yaml:5:15: seccomp.rules[0].action: unknown word "observe"`, ""},
		{"no reason", rule("names: [socket]", "action: allow", "reason: \"  \""), "p.yaml:6:15: seccomp.rules[0].reason: is missing", "doubted"},
		{"errno with another action", rule(append(fine, "errno: EPERM")...), "p.yaml:7:14: seccomp.rules[0].errno: goes with action errno, and only with it", ""},
		{"errno without its name", rule("names: [socket]", "action: errno", "reason: x"), "p.yaml:4:7: seccomp.rules[0].errno: goes with action errno, and only with it", "ENOSYS"},
		{"unknown errno", rule("names: [socket]", "action: errno", "errno: EPREM", "reason: x"), `p.yaml:4:7: seccomp.rules[0]: unknown errno "EPREM"`, ""},
		{"seventh argument", rule(append(fine, "args: [{index: 6, op: eq, value: 1}]")...), "p.yaml:7:22: seccomp.rules[0].args[0].index: 6 is out of range", "0 to 5"},
		{"huge argument", rule(append(fine, "args: [{index: 18446744073709551615, op: eq}]")...), "p.yaml:7:22: seccomp.rules[0].args[0].index: 18446744073709551615 is out of range", "0 to 5"},
		{"an argument that the call has not", rule(append(fine, "args: [{index: 4, op: eq, value: 1}]")...), "p.yaml:4:7: seccomp.rules[0]: socket: argument 4: socket has 3 arguments", ""},
		{"unknown operator", rule(append(fine, "args: [{index: 0, op: '=', value: 1}]")...), `p.yaml:7:29: seccomp.rules[0].args[0].op: unknown word "="`, "masked_eq"},
		{"a mask without its operator", rule(append(fine, "args: [{index: 0, op: eq, value: 1, mask: 1}]")...), "p.yaml:7:49: seccomp.rules[0].args[0].mask: goes with op masked_eq only", ""},
		{"negative value", rule(append(fine, "args: [{index: 0, op: eq, value: -1}]")...), "p.yaml:7:40: seccomp.rules[0].args[0].value: -1 is out of range", ""},
		{"a value that the argument cannot have", rule(append(fine, "args: [{index: 0, op: eq, value: 0x1ffffffff}]")...), "p.yaml:4:7: seccomp.rules[0]: socket: argument 0: value 0x1ffffffff does not fit 32 bits", ""},
		{"conditions that contradict each other", rule(append(fine, "args: [{op: eq, value: 1}, {op: eq, value: 2}]")...), "p.yaml:4:7: seccomp.rules[0]: socket: argument 0: the conditions contradict each other", ""},
		{"a call that is never allowed", rule("names: [seccomp]", "action: allow", "reason: x"), "p.yaml:4:7: seccomp.rules[0]: seccomp is never allowed: " + forbidden("seccomp"), ""},

		// More than one mistake is one line as well.
		{"two mistakes", "extends: strict\nlimits: {pids: 1}\nnetwork: x\n", "p.yaml:2:16: limits.pids: 1 is out of range (and 1 more mistake)", "2 to"},
		{"three mistakes", "extends: strict\nlimits: {pids: 1, tmp_size: 0}\nnetwork: x\n", "p.yaml:2:16: limits.pids: 1 is out of range (and 2 more mistakes)", ""},
		{"a thousand mistakes", "extends: strict\nrequire: [" + strings.Repeat("x, ", 1000) + "y]\n", `p.yaml:2:11: require[0]: unknown name "x" (and many more mistakes)`, ""},
		{"a profile that says nothing", "name: x\n", "p.yaml: limits.tmp_size: 0 is out of range (and 6 more mistakes)", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, map[string]string{"p.yaml": tt.text})
			p, err := profile.LoadValid(filepath.Join(dir, "p.yaml"), known)
			if err == nil {
				t.Fatalf("taken, as %+v", *p)
			}
			want := dir + "/" + strings.ReplaceAll(tt.want, "DIR", dir)
			if err.Error() != want {
				t.Errorf("the error is\n%s, want\n%s", err, want)
			}
			var e *profile.FieldError
			if !errors.As(err, &e) {
				t.Fatalf("the error is a %T, want a FieldError", err)
			}
			if !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("the hint is %q, want one with %q", e.Hint, tt.hint)
			}
		})
	}
}

func forbidden(name string) string {
	reason, _ := seccomp.Forbidden(name)
	return reason
}

func TestBadProfileByName(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yaml": "extends: ./b.yaml\n", "b.yaml": "extends: a.yaml\n",
		"child.yaml": "extends: parent.yaml\nname: child\n", "parent.yaml": "extends: strict\nlimits:\n  pids: 1\n",
	})
	for i := range 9 {
		write := fmt.Sprintf("extends: chain%d.yaml\n", i+1)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("chain%d.yaml", i)), []byte(write), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, file, want string }{
		{"no such profile", "grade", "grade: no such profile"},
		{"an empty name", "", `"": no such profile`},
		{"no such file", "DIR/none.yaml", "DIR/none.yaml: cannot be read: no such file or directory"},
		{"a directory", "DIR/", "DIR/: is not a regular file"},
		{"a FIFO without a writer", "DIR/fifo.yaml", "DIR/fifo.yaml: is not a regular file"},
		{"a device that does not end", "/dev/zero", "/dev/zero: is not a regular file"},
		{"two that extend each other", "DIR/a.yaml", "DIR/b.yaml:1:10: extends: goes round in a circle: DIR/a.yaml -> DIR/b.yaml -> DIR/a.yaml"},
		{"a long chain", "DIR/chain0.yaml", "DIR/chain7.yaml:1:10: extends: is a chain of more than 8 profiles"},
		{"a mistake that is inherited", "DIR/child.yaml", "DIR/parent.yaml:3:9: limits.pids: 1 is out of range"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := profile.LoadValid(strings.ReplaceAll(tt.file, "DIR", dir), known)
			if want := strings.ReplaceAll(tt.want, "DIR", dir); err == nil || err.Error() != want {
				t.Errorf("the error is\n%v, want\n%s", err, want)
			}
		})
	}
}
