package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// folder makes files for a test, and returns where.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ok.py": "print('it ran')", "latin.py": "x = 1\ny = 'caf\xe9'\n", "package/module.py": "", "app/__main__.py": "print('it ran')",
		"typo.yaml":   "extends: strict\ndescription: d\nlimits:\n  memroy: 64MiB\n",
		"double.yaml": "extends: strict\ndescription: d\nlimits:\n  pids: 8\n  pids: 9\n",
		"call.yaml":   "extends: strict\ndescription: d\nseccomp:\n  rules:\n  - names: [opeanat]\n    action: allow\n    reason: r\n",
		"bad.json":    `{"schema_version": "1.0", "execution_summary": 7}`, "cut.json": `{"schema_version": "1.0", "exec`, "other.json": `{"a": 1}`,
		"notpython": "#!/bin/sh\necho no\n", "text": "hello",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if name == "notpython" {
			mode = 0o755
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestBadInput: one clear line that names the place, one that says what to do,
// the right exit status, and nothing runs.
func TestBadInput(t *testing.T) {
	tests := []struct {
		args   string // DIR stands for the folder
		status int
		error  string
		hint   string
	}{
		{"run", 125, "no script is named", "sbx run [flags] SCRIPT"},
		{"run DIR/missing.py", 127, "read script DIR/missing.py: open DIR/missing.py: no such file", "check the path"},
		{"run DIR/package", 126, "__main__.py: ", "--workspace"},
		{"run DIR/fifo", 126, "FIFO, not a regular file", ""},
		{"run /dev/zero", 126, "device, not a regular file", ""},
		{"run DIR/latin.py", 126, "line 2 is not UTF-8", "coding"},
		{"run --profile nosuch DIR/ok.py", 125, "nosuch", "strict"},
		{"run --profile strct DIR/ok.py", 125, "strct", "strict"},
		{"run --profile DIR/missing.yaml DIR/ok.py", 125, "DIR/missing.yaml", ""},
		{"run --profile DIR/typo.yaml DIR/ok.py", 125, "memroy", "memory"},
		{"run --profile DIR/double.yaml DIR/ok.py", 125, "pids", ""},
		{"run --profile DIR/call.yaml DIR/ok.py", 125, "opeanat", "openat"},
		{"run --profile DIR/fifo DIR/ok.py", 125, "DIR/fifo", ""},
		{"run --profile DIR DIR/ok.py", 125, "DIR", ""},
		{"run --memory -5 DIR/ok.py", 125, "--memory: -5 MiB is out of range", "16"},
		{"run --memory 1e30 DIR/ok.py", 125, "--memory: \"1e30\" is no number", "MiB"},
		{"run --memory lots DIR/ok.py", 125, "--memory: \"lots\" is no number", "MiB"},
		{"run --memory 1.5 DIR/ok.py", 125, "--memory: 1.5 is no whole number", "MiB"},
		{"run --timeout 0 DIR/ok.py", 125, "--timeout: 0 is out of range", "seconds"},
		{"run --timeout -1 DIR/ok.py", 125, "--timeout: -1 is out of range", "seconds"},
		{"run --timeout nan DIR/ok.py", 125, "--timeout: \"nan\" is no number", "seconds"},
		{"run --timeout inf DIR/ok.py", 125, "--timeout: \"inf\" is no number", "seconds"},
		{"run --pids 1 DIR/ok.py", 125, "--pids: 1 is out of range", "2"},
		{"run --cpu -1 DIR/ok.py", 125, "--cpu: -1 is out of range", "percent"},
		{"run --output-limit -1 DIR/ok.py", 125, "--output-limit", ""},
		{"run --tmp-size 0 DIR/ok.py", 125, "--tmp-size: 0 MiB is out of range", ""},
		{"run --hooks sometimes DIR/ok.py", 125, "sometimes", "enforce"},
		{"run --format xml DIR/ok.py", 125, "--format: unknown word \"xml\"", "text, json or quiet"},
		{"run --restricted-imports os;sys DIR/ok.py", 125, "os;sys", ""},
		{"run --env NOVALUE DIR/ok.py", 125, "--env: \"NOVALUE\" is not K=V", "SEED=7"},
		{"run --env =x DIR/ok.py", 125, "--env: \"=x\" is not K=V", ""},
		{"run --require nosuchlayer DIR/ok.py", 125, "nosuchlayer: no such layer", "landlock"},
		{"run --allow-degraded everything DIR/ok.py", 125, "everything: no such layer", "landlock"},
		{"run --report DIR/no/such/place.json DIR/ok.py", 125, "DIR/no/such/place.json", ""},
		{"run --report DIR DIR/ok.py", 125, "DIR", ""},
		{"run --report fd:999 DIR/ok.py", 125, "fd:999", ""},
		{"run --report fd:x DIR/ok.py", 125, "fd:x", ""},
		{"run --stdin DIR/missing DIR/ok.py", 125, "DIR/missing", "does not exist"},
		{"run --stdin - -", 125, "standard input is the script already", ""},
		{"run --workspace DIR/missing DIR/ok.py", 125, "DIR/missing", "existing directory"},
		{"run --workspace DIR/ok.py DIR/ok.py", 125, "DIR/ok.py", "existing directory"},
		{"run --workspace DIR -", 125, "standard input together with a workspace", ""},
		{"run --allow-file-read=DIR/missing DIR/ok.py", 125, "DIR/missing", "existing"},
		{"run --allow-file-read=/etc DIR/ok.py", 125, "/etc", "name the folder"},
		{"run --allow-file-write=/ DIR/ok.py", 125, "cannot be shown", "name the folder"},
		{"run --python DIR/missing DIR/ok.py", 127, "DIR/missing", "--python"},
		{"run --python DIR/text DIR/ok.py", 126, "DIR/text", "--python"},
		{"run --python DIR/notpython DIR/ok.py", 126, "DIR/notpython", "--python"},
		{"run --python DIR DIR/ok.py", 126, "DIR", "--python"},
		{"run --python 2.1 DIR/ok.py", 127, "2.1", "--python"},
		{"run --nosuchflag DIR/ok.py", 125, "nosuchflag", "--help"},
		{"run --timeout", 125, "timeout", "--help"},
		{"fly", 125, "unknown command \"fly\"", "sbx run fly"},
		{"profile fly", 125, "unknown command \"fly\"", "list"},
		{"profile show nosuch", 125, "nosuch", "strict"},
		{"profile show", 125, "", ""},
		{"profile check DIR/typo.yaml", 125, "DIR/typo.yaml:4", "memory"},
		{"profile check DIR/missing.yaml", 125, "DIR/missing.yaml", ""},
		{"report show DIR/missing.json", 125, "DIR/missing.json", ""},
		{"report show DIR/cut.json", 125, "DIR/cut.json", ""},
		{"report show DIR/bad.json", 125, "execution_summary", ""},
		{"report show DIR/other.json", 125, "DIR/other.json", ""},
		{"report show DIR/text", 125, "DIR/text", ""},
		{"report show /dev/zero", 125, "/dev/zero", ""},
		{"report show DIR/fifo", 125, "DIR/fifo", ""},
		{"report fly", 125, "unknown command \"fly\"", "show"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			dir := folder(t)
			before := filesIn(t, dir)
			expand := func(s string) string { return strings.ReplaceAll(s, "DIR", dir) }
			var stdout, stderr strings.Builder
			args := append([]string{"sbx"}, hostFlags(t, strings.Fields(expand(tt.args)))...)
			status := run(args, strings.NewReader("print('it ran')"), &stdout, &stderr)
			if status != tt.status || stdout.String() != "" {
				t.Errorf("status %d, standard output %q; want %d and nothing", status, stdout.String(), tt.status)
			}
			wantError(t, stderr.String(), expand(tt.error), expand(tt.hint))
			if after := filesIn(t, dir); after != before {
				t.Errorf("files before: %s\nfiles after:  %s", before, after)
			}
		})
	}
}

func filesIn(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// TestAnUnreadableScript: permission is denied before anything starts.
func TestAnUnreadableScript(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads everything")
	}
	file := script(t, "pass")
	if err := os.Chmod(file, 0); err != nil {
		t.Fatal(err)
	}
	o := invoke(t, "run", file)
	if o.status != 126 {
		t.Errorf("status %d, want 126", o.status)
	}
	wantError(t, o.stderr, "permission denied", "chmod +r")
}

// TestHostileNamesDoNotReachTheTerminal in error messages.
func TestHostileNamesDoNotReachTheTerminal(t *testing.T) {
	o := invoke(t, "run", "/nowhere/\x1b[31m\n\u202esbx: error: fake.py")
	for _, bad := range []string{"\x1b", "\u202e", "\nsbx: error: fake"} {
		if strings.Contains(o.stderr, bad) {
			t.Errorf("%q came through: %q", bad, o.stderr)
		}
	}
}

// TestAnExistingReportSurvivesARunThatDoesNotStart, and is replaced as a whole
// by one that does.
func TestAnExistingReportSurvivesARunThatDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "report.json")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	if status := run([]string{"sbx", "run", "--report", file, dir + "/missing.py"}, nil, &stdout, &stderr); status != 127 {
		t.Errorf("status %d", status)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Errorf("the old report is %q, %v", data, err)
	}
	args := hostFlags(t, []string{"run", "--profile", "strict", "--report", file, script(t, "pass")})
	if status := run(append([]string{"sbx"}, args...), nil, &stdout, &stderr); status != 0 {
		t.Errorf("status %d: %s", status, stderr.String())
	}
	if readReport(t, file) == nil {
		t.Error("no report")
	}
	if got := filesIn(t, dir); got != "report.json" {
		t.Errorf("files: %s", got)
	}
}
