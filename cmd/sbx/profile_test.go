package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// profileCommand runs sbx profile with the given arguments, in which DIR is a
// directory with the given files.
func profileCommand(t *testing.T, files map[string]string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "DIR", dir)
	}
	var out, errs bytes.Buffer
	status = run(append([]string{"sbx", "profile"}, args...), strings.NewReader(""), &out, &errs)
	return status, strings.ReplaceAll(out.String(), dir, "DIR"), strings.ReplaceAll(errs.String(), dir, "DIR")
}

func TestProfileListIsATable(t *testing.T) {
	status, out, _ := profileCommand(t, nil, "list")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if status != 0 || len(lines) != 7 {
		t.Fatalf("status %d, %d lines:\n%s", status, len(lines), out)
	}
	if got, want := strings.Join(strings.Fields(lines[6])[:6], " "), "strict 10s 5s 256MiB 32 none"; got != want {
		t.Errorf("strict is %q, want %q", got, want)
	}
}

func TestProfileShowCanBeUsedAsAProfile(t *testing.T) {
	_, shown, _ := profileCommand(t, nil, "show", "science")
	status, out, errs := profileCommand(t, map[string]string{"p.yaml": shown}, "diff", "science", "DIR/p.yaml")
	if status != 0 || out != "" {
		t.Errorf("status %d, the difference is %q %q, want none", status, out, errs)
	}
}

func TestProfileDiffSaysWhatIsWider(t *testing.T) {
	status, out, _ := profileCommand(t, map[string]string{
		"p.yaml": "extends: strict\nlimits: {pids: 16}\nnetwork: loopback\npython: {fast_exit: false}\nseccomp: {add_groups: [locks]}\n",
	}, "diff", "strict", "DIR/p.yaml")
	want := `limits.pids       narrower  32 -> 16
python.fast_exit            true -> false
network           wider     none -> loopback
seccomp.groups    wider     +locks
`
	if status != 0 || out != want {
		t.Errorf("status %d\n%s\nwant\n%s", status, out, want)
	}
}

func TestProfileCheckPrintsEachMistakeOfEachFile(t *testing.T) {
	status, out, errs := profileCommand(t, map[string]string{
		"a.yaml": "extends: strict\nlimits: {pids: 1}\nnetwork: local\n",
		"b.yaml": "extends: strict\nlimits: {wall: 20s}\n",
		"c.yaml": "extend: strict\n",
	}, "check", "DIR/a.yaml", "DIR/b.yaml", "DIR/c.yaml")
	wantErrs := `sbx: error: DIR/a.yaml:2:16: limits.pids: 1 is out of range
sbx: hint: want 2 to 4194304
sbx: error: DIR/a.yaml:3:10: network: unknown word "local"
sbx: hint: want one of: none loopback host
sbx: error: DIR/c.yaml:1:1: unknown key "extend"
sbx: hint: did you mean extends?
`
	if status != exitFailed || errs != wantErrs {
		t.Errorf("status %d\n%s\nwant status %d\n%s", status, errs, exitFailed, wantErrs)
	}
	for _, line := range []string{"DIR/b.yaml: valid\n", "  policy: sha256 ", " instructions\n", "  wider than strict: limits.wall: 10s -> 20s\n"} {
		if !strings.Contains(out, line) {
			t.Errorf("the output lacks %q:\n%s", line, out)
		}
	}
}

func TestProfileCheckAndShowNameWhatAnImportLeftOut(t *testing.T) {
	files := map[string]string{
		"p.yaml": "extends: strict\nseccomp: {import: f.json}\n",
		"f.json": `{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
			{"names": ["read", "seccomp", "socketcall"], "action": "SCMP_ACT_ALLOW"},
			{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}]}`,
	}
	notes := []string{
		"import: DIR/f.json, system calls: 1, rules: 1\n",
		"import: left out, for a capability or a newer kernel: mount\n",
		"import: left out, never allowed as it stands there: seccomp\n",
		"import: left out, no system call of this machine: socketcall and its like, names: 1\n",
	}
	for command, prefix := range map[string]string{"check": "  ", "show": "# "} {
		status, out, errs := profileCommand(t, files, command, "DIR/p.yaml")
		if status != 0 {
			t.Errorf("%s: status %d: %s", command, status, errs)
		}
		for _, note := range notes {
			if !strings.Contains(out, prefix+note) {
				t.Errorf("%s: the output lacks %q:\n%s", command, prefix+note, out)
			}
		}
	}
}
