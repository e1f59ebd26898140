package sandbox

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/profile"
)

// writeProfile writes files into a directory of the test; the first of them is
// the profile, whose path it returns.
func writeProfile(t *testing.T, text string, others map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"p.yaml": text}
	for name, text := range others {
		files[name] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "p.yaml")
}

func TestBuiltinProfilesAreValidAndCompile(t *testing.T) {
	known := Known()
	for _, name := range profile.Builtin() {
		check, err := CheckProfile(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := check.Profile.Validate(known); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if check.Instructions == 0 || check.Import != nil {
			t.Errorf("%s: the check found %+v", name, *check)
		}
	}
}

func TestProfileSchemaKnowsTheNames(t *testing.T) {
	data, err := os.ReadFile("../../profiles/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	type list struct{ Items struct{ Enum []string } }
	var schema struct {
		Properties struct{ Require list }
		Defs       struct{ Groups list } `json:"$defs"`
	}
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	known := Known()
	for _, names := range []struct {
		what      string
		got, want []string
	}{
		{"layers", schema.Properties.Require.Items.Enum, known.Layers},
		{"groups", schema.Defs.Groups.Items.Enum, known.Groups},
	} {
		got, want := slices.Sorted(slices.Values(names.got)), slices.Sorted(slices.Values(names.want))
		if !slices.Equal(got, want) {
			t.Errorf("the schema has the %s %q, the code %q", names.what, got, want)
		}
	}
}

func TestCheckProfileFindsRulesThatNoFilterHolds(t *testing.T) {
	// Each is 64 comparisons; what is left of the first where the second does not
	// hold is 64 times as many.
	name := writeProfile(t, `extends: strict
seccomp:
  rules:
    - {names: [mmap], action: errno, errno: EPERM, reason: x, args: [{index: 1, op: ne, value: 0x987654321}]}
    - {names: [mmap], action: allow, reason: x, args: [{index: 5, op: ne, value: 0x123456789}]}
`, nil)
	if _, err := LoadProfile(name); err != nil {
		t.Fatalf("each rule for itself is sound: %v", err)
	}
	_, err := CheckProfile(name)
	var e *profile.FieldError
	if !errors.As(err, &e) {
		t.Fatalf("the error is %v, want a FieldError", err)
	}
	if e.File != name || e.Path != "seccomp" || !strings.Contains(e.Problem, "too complex") || e.Hint == "" {
		t.Errorf("the error is %q with the hint %q", e, e.Hint)
	}
}

func TestCheckProfileNamesTheRuleThatIsWrong(t *testing.T) {
	tests := []struct{ name, rule, want string }{
		{"unknown call", "{names: [opennat], action: allow, reason: x}", `:4:16: seccomp.rules[0].names[0]: unknown name "opennat"`},
		{"unknown error", "{names: [openat], action: errno, errno: EPREM, reason: x}", `:4:7: seccomp.rules[0]: unknown errno "EPREM"`},
		{"an argument that is not there", "{names: [getpid], action: kill, reason: x, args: [{op: eq}]}", ":4:7: seccomp.rules[0]: getpid: argument 0: getpid has 0 arguments"},
		{"clone3", "{names: [clone3], action: kill, reason: x}", ":4:7: seccomp.rules[0]: clone3 always answers ENOSYS: its flags are in memory, where a filter cannot see them; callers fall back to clone on ENOSYS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := writeProfile(t, "extends: strict\nseccomp:\n  rules:\n    - "+tt.rule+"\n", nil)
			if _, err := CheckProfile(name); err == nil || err.Error() != name+tt.want {
				t.Errorf("the error is\n%v, want\n%s", err, name+tt.want)
			}
		})
	}
}

func TestCheckProfileSaysWhatAnImportLeftOut(t *testing.T) {
	name := writeProfile(t, "extends: strict\nseccomp: {import: f.json}\n", map[string]string{"f.json": `{
		"defaultAction": "SCMP_ACT_ERRNO",
		"syscalls": [
			{"names": ["read", "prctl", "seccomp", "socketcall"], "action": "SCMP_ACT_ALLOW"},
			{"names": ["mount", "s390_pci_mmio_read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}
		]}`})
	check, err := CheckProfile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range []struct {
		what      string
		got, want []string
	}{
		{"forbidden", check.Forbidden, []string{"prctl", "seccomp"}},
		{"unknown", check.Unknown, []string{"socketcall"}},
		{"conditional", check.Import.Conditional, []string{"mount"}},
	} {
		if !slices.Equal(list.got, list.want) {
			t.Errorf("%s are %q, want %q", list.what, list.got, list.want)
		}
	}
}
