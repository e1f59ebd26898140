package profile

import (
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/profiles"
)

// anything is known to the fuzzers: names are not what they are after.
func anything(p *Profile) Known {
	k := Known{Layers: p.Require, Groups: p.Seccomp.Groups}
	for _, r := range p.Seccomp.Rules {
		k.Syscalls = append(k.Syscalls, r.Names...)
	}
	return k
}

// FuzzDecode decodes a file. It must not panic, and what is valid must be the
// same after it was shown and decoded again.
func FuzzDecode(f *testing.F) {
	files, err := fs.Glob(profiles.FS, "*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := fs.ReadFile(profiles.FS, name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	for _, text := range []string{
		"extends: strict\nseccomp:\n  rules:\n    - {names: [socket], action: errno, errno: EPERM, reason: x, args: [{index: 1, op: masked_eq, value: 0x1, mask: 3}]}\n",
		"extends: strict\npython: {allowed_imports: [], restricted_imports: [a.b]}\nfiles: {read_paths: [\"/a b\", '/c,d']}\n",
		"extends: strict\ndescription: \"\\u2028 \\x85 \\U0001F600\"\nname: |\n  a\n",
		"extends: strict\nlimits: {wall: 1h0m0.5s, memory: 9999GiB}\n",
		"a: &a [*a]\n", "? a\n: b\n", "- - - -\n", "{a: {b: [c, {d", "a: !!x y\n", "%A\n---\n", "\ta: b\n", "a:\n  - b\n c\n", "'", "\"\\", "a: |9\n  b\n", "--- >\n", "[:",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > maxFile || strings.Contains(text, "import") || strings.Contains(text, "/") && strings.Contains(text, "extends") || strings.Contains(text, ".y") {
			return // no other files
		}
		p, err := newLoader().decode("f.yaml", []byte(text))
		if (p == nil) == (err == nil) {
			t.Fatalf("a profile and an error, or neither: %v", err)
		}
		if err != nil {
			if e := err.Error(); e == "" || strings.Contains(e, "\n") && !strings.Contains(text, "\n") {
				t.Errorf("the error is %q, want one line", e)
			}
			return
		}
		if p.Validate(anything(p)) != nil {
			return
		}
		p.Extends = ""
		shown := p.Show()
		again, err := newLoader().decode("shown.yaml", []byte(shown))
		if err != nil {
			t.Fatalf("what is shown is not taken: %v\n%s", err, shown)
		}
		// Nothing and an empty list are the same, but for one.
		for _, q := range []*Profile{p, again} {
			for _, list := range []*[]string{&q.Require, &q.Python.RestrictedImports, &q.Files.ReadPaths, &q.Files.WritePaths, &q.Seccomp.Groups} {
				if *list == nil {
					*list = []string{}
				}
			}
			for i := range q.Seccomp.Rules {
				q.Seccomp.Rules[i].Args = slices.Concat(q.Seccomp.Rules[i].Args)
			}
			q.Seccomp.Rules = slices.Concat(q.Seccomp.Rules)
		}
		if !reflect.DeepEqual(p, again) {
			t.Errorf("read\n%+v\nshown and read again\n%+v\n%s", p, again, shown)
		}
	})
}

// FuzzImport decodes a filter of a container runtime. What it gives must be
// rules that a profile could have.
func FuzzImport(f *testing.F) {
	for _, text := range []string{
		`{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}`,
		`{"defaultAction": "SCMP_ACT_KILL", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}], "syscalls": [{"name": "socket", "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}, {"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 3, "valueTwo": 1}]}]}`,
		`{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "includes": {"caps": ["X"], "minKernel": "4.8"}, "excludes": {"arches": ["amd64"]}}]}`,
		`{"a": {"a": 1, "a": 2}}`, `[[[`, `{"syscalls": {}}`, `{"defaultAction": 1}`, "{\"defaultAction\": \"SCMP_ACT_ERRNO\"} x", `{"syscalls": [null], "defaultAction": "SCMP_ACT_TRAP"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxImport {
			return
		}
		in, err := decodeImport("f.json", data)
		if (in == nil) == (err == nil) {
			t.Fatalf("an import and an error, or neither: %v", err)
		}
		if err != nil {
			return
		}
		p, err := Load("strict")
		if err != nil {
			t.Fatal(err)
		}
		p.Seccomp.Rules = in.Rules
		if err := p.Validate(anything(p)); err != nil {
			t.Errorf("a rule that no profile can have: %v", err)
		}
	})
}

// FuzzParseSize: what is read is shown as the same size.
func FuzzParseSize(f *testing.F) {
	for _, text := range []string{"0", "1KiB", "16 MiB", "-1", "9223372036854775807", "8388608TiB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, err := ParseSize(text)
		if err != nil {
			return
		}
		if again, err := ParseSize(size.String()); size < 0 || err != nil || again != size {
			t.Errorf("%q is %d, which is shown as %s and read as %d (%v)", text, size, size, again, err)
		}
	})
}
