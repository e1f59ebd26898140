package profile_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

// importing loads a profile without groups that imports a filter.
func importing(t *testing.T, filter string) (*profile.Profile, *profile.Import, error) {
	t.Helper()
	dir := write(t, map[string]string{"f.json": filter, "p.yaml": "extends: strict\nseccomp: {groups: [base], import: f.json}\n"})
	return profile.Inspect(dir+"/p.yaml", known)
}

// filter is one in the form of Docker with the given entries.
func filter(entries ...string) string {
	return "{\n\t\"defaultAction\": \"SCMP_ACT_ERRNO\",\n\t\"defaultErrnoRet\": 1,\n\t\"syscalls\": [" + strings.Join(entries, ", ") + "]\n}\n"
}

func TestImportTakesRules(t *testing.T) {
	tests := []struct{ name, entry, want string }{
		{"calls that are allowed", `{"names": ["mount", "umount2"], "action": "SCMP_ACT_ALLOW"}`, `["allow mount,umount2"]`},
		{"a call in the old form", `{"name": "mount", "action": "SCMP_ACT_ALLOW", "args": null}`, `["allow mount"]`},
		{"calls that are logged", `{"names": ["mount"], "action": "SCMP_ACT_LOG"}`, `["allow mount"]`},
		{"an error", `{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}`, `["errno=EPERM mount"]`},
		{"an error by number", `{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}`, `["errno=ENOSYS mount"]`},
		{"an error by name", `{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "EINVAL"}`, `["errno=EINVAL mount"]`},
		{"an error by its other name", `{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errno": "EOPNOTSUPP"}`, `["errno=ENOTSUP mount"]`},
		{"an agent that is asked", `{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}`, `["notify mount"]`},
		{"a tracer that is asked", `{"names": ["mount"], "action": "SCMP_ACT_TRACE"}`, `["notify mount"]`},
		{"a trap", `{"names": ["mount"], "action": "SCMP_ACT_TRAP"}`, `["notify mount"]`},
		{"death", `{"names": ["mount"], "action": "SCMP_ACT_KILL"}`, `["kill mount"]`},
		{"death of a thread", `{"names": ["mount"], "action": "SCMP_ACT_KILL_THREAD"}`, `["kill mount"]`},
		{"death of a process", `{"names": ["mount"], "action": "SCMP_ACT_KILL_PROCESS"}`, `["kill mount"]`},
		{"a condition", `{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 40, "valueTwo": 0, "op": "SCMP_CMP_NE"}]}`, `["allow socket arg0 ne 0x28"]`},
		{"a condition on bits", `{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}`, `["allow clone arg0 masked_eq 0x0 of 0x7e020000"]`},
		{
			"conditions on two arguments",
			`{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_LE"}, {"index": 1, "value": 2, "op": "SCMP_CMP_GT"}]}`,
			`["allow socket arg0 le 0x1 arg1 gt 0x2"]`,
		},
		{
			"two conditions on one argument, either of them",
			`{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}`,
			`["allow socket arg0 eq 0x1" "allow socket arg0 eq 0x2"]`,
		},
		{
			"what is refused has the last word",
			`{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}, {"names": ["mount"], "action": "SCMP_ACT_ALLOW"}`,
			`["allow mount" "errno=EPERM mount"]`,
		},

		{"what needs a capability", `{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}`, `[]`},
		{"what the lack of a capability gives", `{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}}`, `["errno=ENOSYS clone3"]`},
		{"what a capability refuses", `{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}}`, `[]`},
		{"empty conditions", `{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": {"caps": [], "arches": []}}`, `["allow mount"]`},
		{"this machine", `{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "arm64"]}}`, `["allow mount"]`},
		{"another machine", `{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}}`, `[]`},
		{"but not this machine", `{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64", "arm64"]}}`, `[]`},
		{"but not another machine", `{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["s390x"]}}`, `["allow mount"]`},
		{"an old kernel", `{"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}}`, `["allow ptrace"]`},
		{"the oldest kernel", `{"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.15"}}`, `["allow ptrace"]`},
		{"a kernel that may be there", `{"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.1"}}`, `[]`},
		{"a kernel that nobody can read", `{"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "new"}}`, `[]`},
		{"refused on a kernel that may be there", `{"names": ["ptrace"], "action": "SCMP_ACT_KILL", "includes": {"minKernel": "6.1"}}`, `["kill ptrace"]`},
		{"but not on an old kernel", `{"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}}`, `[]`},
		{"but not on a kernel that may be there", `{"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "6.1"}}`, `[]`},
		{"refused, but not on a kernel that may be there", `{"names": ["ptrace"], "action": "SCMP_ACT_KILL", "excludes": {"minKernel": "6.1"}}`, `["kill ptrace"]`},

		{"what no rule may allow", `{"names": ["seccomp", "mount", "io_uring_setup", "userfaultfd", "clone3"], "action": "SCMP_ACT_ALLOW"}`, `["allow mount"]`},
		{"prctl with every option", `{"names": ["prctl"], "action": "SCMP_ACT_ALLOW"}`, `[]`},
		{"prctl with one option", `{"names": ["prctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 15, "op": "SCMP_CMP_EQ"}]}`, `["allow prctl arg0 eq 0xf"]`},
		{"prctl with the one option", `{"names": ["prctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 22, "op": "SCMP_CMP_EQ"}]}`, `[]`},
		{"calls of other machines", `{"names": ["socketcall", "mount", "riscv_flush_icache"], "action": "SCMP_ACT_ALLOW"}`, `["allow mount"]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _, err := importing(t, filter(tt.entry))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Value("seccomp.rules"); got != tt.want {
				t.Errorf("the rules are %s, want %s", got, tt.want)
			}
			for _, r := range p.Seccomp.Rules {
				if !strings.HasPrefix(r.Reason, "imported from f.json") {
					t.Errorf("the reason is %q", r.Reason)
				}
			}
			if _, err := seccomp.Resolve(p.Seccomp, []int{7}); err != nil {
				t.Errorf("the policy does not resolve: %v", err)
			}
		})
	}
}

func TestImportSaysWhatItLeftOut(t *testing.T) {
	_, in, err := importing(t, filter(
		`{"names": ["mount", "bpf", "read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}`,
		`{"names": ["read", "seccomp", "socketcall", "prctl"], "action": "SCMP_ACT_ALLOW"}`,
	))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"bpf", "mount"}; !slices.Equal(in.Conditional, want) {
		t.Errorf("conditional are %q, want %q", in.Conditional, want)
	}
	if want := []string{"prctl", "seccomp", "socketcall"}; !slices.Equal(in.Refused, want) {
		t.Errorf("refused are %q, want %q", in.Refused, want)
	}
}

func TestImportComesBeforeTheRules(t *testing.T) {
	dir := write(t, map[string]string{
		"f.json":      filter(`{"names": ["mount", "socket"], "action": "SCMP_ACT_ALLOW"}`),
		"g.json":      filter(`{"names": ["ptrace"], "action": "SCMP_ACT_ALLOW"}`),
		"parent.yaml": "extends: strict\nseccomp:\n  import: f.json\n  rules: [{names: [mount], action: kill, reason: x}]\n",
		"child.yaml":  "extends: parent.yaml\n",
		"other.yaml":  "extends: parent.yaml\nseccomp: {import: g.json}\n",
		"rules.yaml":  "extends: parent.yaml\nseccomp: {rules: []}\n",
	})
	for name, want := range map[string]string{
		"parent": `["allow mount,socket" "kill mount"]`,
		"child":  `["allow mount,socket" "kill mount"]`,
		"other":  `["allow ptrace" "kill mount"]`,
		"rules":  `["allow mount,socket"]`,
	} {
		p, err := profile.LoadValid(filepath.Join(dir, name+".yaml"), known)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := p.Value("seccomp.rules"); got != want {
			t.Errorf("%s has the rules %s, want %s", name, got, want)
		}
		if p.Seccomp.Import != "" {
			t.Errorf("%s still imports %s", name, p.Seccomp.Import)
		}
	}
}

func TestLoadAloneImportsWhatResolveThenRefuses(t *testing.T) {
	dir := write(t, map[string]string{
		"f.json": filter(`{"names": ["seccomp"], "action": "SCMP_ACT_ALLOW"}`),
		"p.yaml": "extends: strict\nseccomp: {import: f.json}\n",
	})
	p, err := profile.Load(dir + "/p.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seccomp.Resolve(p.Seccomp, nil); err == nil {
		t.Error("a profile that was never validated may allow seccomp(2)")
	}
}

func TestErrorNumbersHaveTheirNames(t *testing.T) {
	const last = 133 // EHWPOISON, the last of asm-generic/errno.h
	for n := range uint(200) {
		text, err := json.Marshal(map[string]any{"names": []string{"mount"}, "action": "SCMP_ACT_ERRNO", "errnoRet": n})
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if name := unix.ErrnoName(unix.Errno(n)); n <= last && name != "" {
			want = `["errno=` + name + ` mount"]`
		}
		p, _, err := importing(t, filter(string(text)))
		switch {
		case want == "" && err == nil:
			t.Errorf("%d is taken, as %s", n, p.Value("seccomp.rules"))
		case want != "" && err != nil:
			t.Errorf("%d: %v", n, err)
		case want != "" && p.Value("seccomp.rules") != want:
			t.Errorf("%d is %s, want %s", n, p.Value("seccomp.rules"), want)
		}
	}
}

func TestBadImportIsRefusedWithItsPlace(t *testing.T) {
	good := `{"names": ["mount"], "action": "SCMP_ACT_ALLOW"`
	tests := []struct{ name, filter, want string }{
		{"empty file", "", "f.json:1:1: ends too early"},
		{"a number", "7", "f.json:1:1: a number is not what is wanted there"},
		{"a list", "[]", "f.json:1:1: is a list, and should not be"},
		{"not JSON", "defaultAction: x", "f.json:1:1: is not JSON: invalid character 'd' looking for beginning of value"},
		{"cut off", `{"defaultAction": "SCMP_ACT_ERRNO", `, "f.json:1:37: ends too early"},
		{"two documents", "{\"defaultAction\": \"SCMP_ACT_ERRNO\"}\n{}", "f.json:2:2: goes on after its end"},
		{"not UTF-8", "{\"defaultAction\": \"\xff\"}", "f.json:1:1: is not UTF-8"},
		{"too large", strings.Repeat(" ", 257<<10), "p.yaml:2:35: seccomp.import: DIR/f.json: is larger than 256KiB"},
		{"brackets without end", strings.Repeat("[", 200<<10), "f.json:1:1: is a list, and should not be"},
		{"objects without end", strings.Repeat(`{"syscalls":[`, 10<<10), `f.json:1:15: syscalls[0]: unknown key "syscalls"`},
		{"a whole configuration", `{"ociVersion": "1.0.2", "linux": {}}`, `f.json:1:2: unknown key "ociVersion"`},
		{"an unknown key", filter(good + `, "arg": []}`), `f.json:4:64: syscalls[0]: unknown key "arg"`},
		{"a key in other letters", filter(good + `, "Args": []}`), `f.json:4:64: syscalls[0]: unknown key "Args"`},
		{"a key twice", filter(good + `, "action": "SCMP_ACT_KILL"}`), `f.json:4:64: syscalls[0].action: is there twice`},
		{"no default", `{"syscalls": []}`, "f.json:1:1: defaultAction: is missing"},
		{"an unknown default", `{"defaultAction": "deny"}`, `f.json:1:19: defaultAction: unknown word "deny"`},
		{"a default that allows", `{"defaultAction": "SCMP_ACT_ALLOW"}`, "f.json:1:19: defaultAction: SCMP_ACT_ALLOW allows what it does not name"},
		{"a default that logs", `{"defaultAction": "SCMP_ACT_LOG"}`, "f.json:1:19: defaultAction: SCMP_ACT_LOG allows what it does not name"},
		{"no names", filter(`{"action": "SCMP_ACT_ALLOW"}`), "f.json:4:15: syscalls[0].names: is empty"},
		{"names that are no text", filter(`{"names": [1], "action": "SCMP_ACT_ALLOW"}`), "f.json:4:26: syscalls.names: a number is not what is wanted there"},
		{"no action", filter(`{"names": ["mount"]}`), "f.json:4:15: syscalls[0].action: is missing"},
		{"an unknown action", filter(`{"names": ["mount"], "action": "allow"}`), `f.json:4:46: syscalls[0].action: unknown word "allow"`},
		{"an unknown error", filter(`{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errno": "EPREM"}`), `f.json:4:73: syscalls[0].errno: unknown word "EPREM"`},
		{"an error that is a success", filter(`{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}`), "f.json:4:76: syscalls[0].errnoRet: 0 is no error number"},
		{"an unknown operator", filter(good + `, "args": [{"op": "=="}]}`), `f.json:4:80: syscalls[0].args[0].op: unknown word "=="`},
		{"a seventh argument", filter(good + `, "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}`), "f.json:4:83: syscalls[0].args[0].index: 6 is out of range"},
		{"a negative value", filter(good + `, "args": [{"value": -1, "op": "SCMP_CMP_EQ"}]}`), "f.json:4:84: syscalls.args.value: a number -1 is not what is wanted there"},
		{"a value that overflows", filter(good + `, "args": [{"value": 18446744073709551616, "op": "SCMP_CMP_EQ"}]}`), "f.json:4:102: syscalls.args.value: a number 18446744073709551616 is not what is wanted there"},
		{"a second value without a mask", filter(good + `, "args": [{"value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}]}`), "f.json:4:98: syscalls[0].args[0].valueTwo: goes with SCMP_CMP_MASKED_EQ only"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, map[string]string{"f.json": tt.filter, "p.yaml": "extends: strict\nseccomp: {groups: [base], import: f.json}\n"})
			p, err := profile.LoadValid(dir+"/p.yaml", known)
			if err == nil {
				t.Fatalf("taken, as %+v", p.Seccomp)
			}
			if want := dir + "/" + strings.ReplaceAll(tt.want, "DIR", dir); err.Error() != want {
				t.Errorf("the error is\n%s, want\n%s", err, want)
			}
		})
	}
}

func TestImportOfNoFile(t *testing.T) {
	dir := write(t, map[string]string{"p.yaml": "extends: strict\nseccomp:\n  import: none.json\n"})
	_, err := profile.LoadValid(dir+"/p.yaml", known)
	want := dir + "/p.yaml:3:11: seccomp.import: " + dir + "/none.json: cannot be read: no such file or directory"
	if err == nil || err.Error() != want {
		t.Errorf("the error is\n%v, want\n%s", err, want)
	}
}
