package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/report"
)

// shared makes a folder that the jail's user may reach as well: in root's runs
// that is nobody in particular.
func shared(t *testing.T, mode os.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sbx-test-grant-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "data.txt"), []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestGrantedPaths: what is given is given, as it was given, and nothing else.
func TestGrantedPaths(t *testing.T) {
	dir := shared(t, 0o777)
	const look = `
import os, sys
print(open(sys.argv[1] + "/data.txt").read())
try:
    open(sys.argv[1] + "/new.txt", "w").write("of the jail")
    print("written")
except OSError as error:
    print(type(error).__name__, error.errno)
print(sorted(os.listdir("/tmp")))
`
	read := invoke(t, "run", "--profile", "strict", "--allow-file-read="+dir, script(t, look), dir)
	read.wantVerdict(t, report.OK, 0)
	if read.stdout != "of the host\nOSError 30\n['"+filepath.Base(dir)+"']\n" {
		t.Errorf("read: %q", read.stdout)
	}
	write := invoke(t, "run", "--profile", "strict", "--allow-file-write="+dir, script(t, look), dir)
	write.wantVerdict(t, report.OK, 0)
	if !strings.Contains(write.stdout, "written\n") {
		t.Errorf("write: %q", write.stdout)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "new.txt")); err != nil || string(data) != "of the jail" {
		t.Errorf("on the host: %q, %v", data, err)
	}
	for _, o := range []outcome{read, write} {
		if len(o.report.Profile.Widened) == 0 || !strings.Contains(o.stderr, "more was allowed") {
			t.Errorf("the report does not say what was given away: %+v\n%s", o.report.Profile.Widened, o.stderr)
		}
	}
}

// TestAGrantThatTheJailCouldNotUse is found before the run.
func TestAGrantThatTheJailCouldNotUse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the jail of a plain user is that user")
	}
	dir := shared(t, 0o755)
	o := invoke(t, "run", "--profile", "strict", "--allow-file-write="+dir, script(t, "print('it ran')"))
	if o.status != 125 || o.stdout != "" {
		t.Errorf("status %d, %q", o.status, o.stdout)
	}
	wantError(t, o.stderr, "whom its mode 0755 leaves out", "chmod o+rwx")
}

// TestWorkspace: the script works in a copy, and the folder stays as it was.
func TestWorkspace(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"main.py": `
import os, helper
open("out.txt", "w").write(helper.word)
os.remove("data.txt")
print(sorted(os.listdir(".")), os.getcwd(), open("sub/deep.txt").read())
`, "helper.py": "word = 'made'\n", "data.txt": "kept", "sub/deep.txt": "deep"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	before := filesIn(t, dir)
	o := invoke(t, "run", "--profile", "grader", "--workspace", dir, filepath.Join(dir, "main.py"))
	o.wantVerdict(t, report.OK, 0)
	if want := "['helper.py', 'link', 'main.py', 'out.txt', 'sub'] /workspace deep\n"; o.stdout != want {
		t.Errorf("printed %q, want %q", o.stdout, want)
	}
	if after := filesIn(t, dir); after != before {
		t.Errorf("the folder was %s, and is %s", before, after)
	}
}

// TestDirectoryWithMain: python DIR.
func TestDirectoryWithMain(t *testing.T) {
	dir := folder(t)
	o := invoke(t, "run", "--profile", "strict", filepath.Join(dir, "app"), "x")
	o.wantVerdict(t, report.OK, 0)
	if o.stdout != "it ran\n" {
		t.Errorf("printed %q", o.stdout)
	}
}

// TestEnvironment: nothing of the caller's, but for what is asked for.
func TestEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_THE_CALLER", "s3cr3t")
	t.Setenv("PYTHONPATH", "/nowhere")
	o := runScript(t, "import os; print(sorted(os.environ.items()))", "--profile", "strict", "--env", "SEED=7", "--env", "EMPTY=")
	o.wantVerdict(t, report.OK, 0)
	for _, want := range []string{"('SEED', '7')", "('EMPTY', '')", "'PATH'", "'HOME'", "'LANG'", "'TMPDIR'"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("no %s in %s", want, o.stdout)
		}
	}
	for _, bad := range []string{"SECRET", "s3cr3t", "PYTHONPATH"} {
		if strings.Contains(o.stdout, bad) {
			t.Errorf("%s came through: %s", bad, o.stdout)
		}
	}
}

// TestTheHostsNetworkOnlyWhenAsked, and then with a word about it.
func TestTheHostsNetworkOnlyWhenAsked(t *testing.T) {
	const code = "import os, socket; print(os.readlink('/proc/self/ns/net')); socket.socket().close()"
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	o := runScript(t, code, "--profile", "strict", "--allow-network")
	o.wantVerdict(t, report.OK, 0)
	if o.stdout != host+"\n" || !strings.Contains(o.stderr, "network") || len(o.report.Profile.Widened) == 0 {
		t.Errorf("with --allow-network: %q, widened %+v\n%s", o.stdout, o.report.Profile.Widened, o.stderr)
	}
	o = runScript(t, code, "--profile", "strict")
	if o.status == 0 || strings.Contains(o.stdout, host) {
		t.Errorf("without: status %d, %q", o.status, o.stdout)
	}
}

// TestTheReportStaysWhereItWasOpened: a script that may write to the folder above
// puts a link in the place of the report's directory (CVE-2024-28185).
func TestTheReportStaysWhereItWasOpened(t *testing.T) {
	dir := shared(t, 0o777)
	sub, victim := filepath.Join(dir, "sub"), filepath.Join(t.TempDir(), "victim")
	for _, d := range []string{sub, victim} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := sbxProcess(t, "run", "--profile", "strict", "--allow-file-write="+dir, "--report", filepath.Join(sub, "report.json"), script(t, `
import os, sys
os.rename(sys.argv[1] + "/sub", sys.argv[1] + "/moved")
os.symlink(sys.argv[2], sys.argv[1] + "/sub")
`), dir, victim)
	cmd.Stderr = t.Output()
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if got := filesIn(t, victim); got != "" {
		t.Errorf("the report followed the link: %s", got)
	}
	if readReport(t, filepath.Join(dir, "moved", "report.json")) == nil {
		t.Error("the report is not in the directory that was opened")
	}
}
