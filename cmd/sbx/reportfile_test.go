package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/sandbox"
)

// reportOf opens a report that must be found good.
func reportOf(t *testing.T, name string) *reportFile {
	t.Helper()
	r, err := openReport(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.discard)
	return r
}

// text renders a report that is only this text.
func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func writeReport(t *testing.T, r *reportFile, s string) {
	t.Helper()
	if err := r.write(text(s)); err != nil {
		t.Fatal(err)
	}
}

// wantFile fails the test unless a regular file has this content.
func wantFile(t *testing.T, name, want string) {
	t.Helper()
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(name); string(data) != want || err != nil || !info.Mode().IsRegular() {
		t.Errorf("%s (%s) has %q, %v; want %q", name, info.Mode(), data, err, want)
	}
}

func wantFiles(t *testing.T, dir, want string) {
	t.Helper()
	if got := filesIn(t, dir); got != want {
		t.Errorf("the directory has %q, want %q", got, want)
	}
}

// refusedReport is a report that is refused before the run.
func refusedReport(t *testing.T, name string) *sandbox.Error {
	t.Helper()
	r, err := openReport(name)
	var own *sandbox.Error
	if !errors.As(err, &own) || r != nil {
		t.Fatalf("openReport(%q) returns %v, %v; want a refusal", name, r, err)
	}
	if own.Op != "open report" || own.Path != name || own.Hint == "" {
		t.Errorf("the error is %+v", own)
	}
	return own
}

func TestReportAppearsWholeAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	r := reportOf(t, filepath.Join(dir, "report.json"))
	wantFiles(t, dir, "")
	writeReport(t, r, "new")
	wantFile(t, filepath.Join(dir, "report.json"), "new")
	wantFiles(t, dir, "report.json")
}

func TestReportByARelativeName(t *testing.T) {
	t.Chdir(t.TempDir())
	writeReport(t, reportOf(t, "report.json"), "new")
	wantFile(t, "report.json", "new")
}

func TestExistingReportIsReplacedAtOnce(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "report.json")
	if err := os.WriteFile(name, []byte("an old and longer one"), 0o640); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(name) // somebody is reading it
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	r := reportOf(t, name)
	wantFile(t, name, "an old and longer one")
	writeReport(t, r, "new")
	wantFile(t, name, "new")
	if data, err := io.ReadAll(old); string(data) != "an old and longer one" || err != nil {
		t.Errorf("who had the old one open reads %q, %v", data, err)
	}
	wantFiles(t, dir, "report.json")
}

// TestReplacedReportKeepsItsMode: what its owner kept to himself stays so,
// whatever the umask allows.
func TestReplacedReportKeepsItsMode(t *testing.T) {
	for _, mode := range []fs.FileMode{0o600, 0o666, 0o640} {
		name := filepath.Join(t.TempDir(), "report.json")
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
		writeReport(t, reportOf(t, name), "new")
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("a report of mode %s is now %s", mode, info.Mode())
		}
	}
}

func TestReportThatIsNotWrittenLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old.json")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{old, filepath.Join(dir, "new.json")} {
		r := reportOf(t, name)
		r.discard()
		r.discard() // again, as after a write
	}
	wantFiles(t, dir, "old.json")
	wantFile(t, old, "old")
	var none *reportFile
	none.discard()
}

func TestReportThatCannotBeRenderedReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "report.json")
	if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := reportOf(t, name)
	err := r.write(func(w io.Writer) error { return errors.Join(text("half of i")(w), errors.New("no more")) })
	if err == nil || !strings.Contains(err.Error(), "render report: no more") {
		t.Errorf("the error is %v", err)
	}
	r.discard()
	wantFile(t, name, "old")
	wantFiles(t, dir, "report.json")
}

func TestReportPathIsJudgedBeforeTheRun(t *testing.T) {
	tests := []struct {
		name    string
		make    func(dir string) error // before
		report  string
		want    error
		text    string
		notRoot bool
	}{
		{name: "a directory", report: ".", want: unix.EISDIR},
		{name: "no such directory", report: "none/report.json", want: unix.ENOENT},
		{name: "a directory that is not there", report: "none/", want: unix.ENOENT},
		{name: "a file as directory", make: file("file", 0o644), report: "file/report.json", want: unix.ENOTDIR},
		{name: "a directory without write permission", make: directory("locked", 0o555), report: "locked/report.json", want: unix.EACCES, notRoot: true},
		{name: "a file in a directory without write permission", make: func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/locked", 0o755), file("locked/report.json", 0o644)(dir), os.Chmod(dir+"/locked", 0o555))
		}, report: "locked/report.json", want: unix.EACCES, notRoot: true},
		{name: "a directory that cannot be entered", make: directory("closed", 0o600), report: "closed/report.json", want: unix.EACCES, notRoot: true},
		{name: "a file that must not be written", make: file("report.json", 0o444), report: "report.json", want: unix.EACCES, notRoot: true},
		{name: "a name that is too long", report: strings.Repeat("x", 256), want: unix.ENAMETOOLONG},
		{name: "a link to nothing", make: link("none", "link"), report: "link", text: "a link to none, which does not exist"},
		{name: "a link to a directory", make: link(".", "link"), report: "link", want: unix.EISDIR},
		{name: "a link to itself", make: link("link", "link"), report: "link", want: unix.ELOOP},
		{name: "a FIFO that nobody reads", make: func(dir string) error { return unix.Mkfifo(dir+"/fifo", 0o644) }, report: "fifo", want: unix.ENXIO},
		{name: "a socket", make: func(dir string) error { return unix.Mknod(dir+"/socket", unix.S_IFSOCK|0o644, 0) }, report: "socket", want: unix.ENXIO},
		{name: "a file of the kernel", report: "/proc/self/status", want: unix.EACCES, notRoot: true},
		{name: "no descriptor number", report: "fd:x", text: `"x" is no descriptor number`},
		{name: "no descriptor at all", report: "fd:", text: `"" is no descriptor number`},
		{name: "a negative descriptor", report: "fd:-1", text: "is no descriptor number"},
		{name: "a descriptor with a sign", report: "fd:+1", text: "is no descriptor number"},
		{name: "a descriptor beyond all numbers", report: "fd:99999999999999999999", text: "is no descriptor number"},
		{name: "a descriptor that the kernel would cut to 1", report: "fd:4294967297", text: "is no descriptor number"},
		{name: "a descriptor that is not open", report: "fd:99999", want: unix.EBADF},
		{name: "such a one by its file", report: "/dev/fd/99999", want: unix.EBADF},
		{name: "a name in /proc/self/fd", report: "/proc/self/fd/x", text: `"x" is no descriptor number`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.notRoot && os.Geteuid() == 0 {
				t.Skip("root may write everywhere")
			}
			t.Chdir(t.TempDir())
			if tt.make != nil {
				if err := tt.make("."); err != nil {
					t.Fatal(err)
				}
			}
			t.Cleanup(func() { _ = os.Chmod("locked", 0o755) }) // or its file could not be removed
			before := filesIn(t, ".")
			err := refusedReport(t, tt.report)
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("the error is %v, want %v", err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("the error is %v, want %q in it", err, tt.text)
			}
			wantFiles(t, ".", before)
		})
	}
}

func file(name string, mode fs.FileMode) func(dir string) error {
	return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte("old"), mode) }
}

func directory(name string, mode fs.FileMode) func(dir string) error {
	return func(dir string) error { return os.Mkdir(filepath.Join(dir, name), mode) }
}

func link(target, name string) func(dir string) error {
	return func(dir string) error { return os.Symlink(target, filepath.Join(dir, name)) }
}

// TestLinkIsFollowed: the file that it leads to is replaced, the link stays.
func TestLinkIsFollowed(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.Mkdir(dir+"/kept", 0o755), os.Mkdir(dir+"/links", 0o755), file("kept/report.json", 0o644)(dir),
		link("../kept/report.json", "links/first")(dir), link("first", "links/second")(dir),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	writeReport(t, reportOf(t, dir+"/links/second"), "new")
	wantFile(t, dir+"/kept/report.json", "new")
	wantFiles(t, dir+"/kept", "report.json")
	wantFiles(t, dir+"/links", "first second")
	if target, err := os.Readlink(dir + "/links/second"); target != "first" || err != nil {
		t.Errorf("the link leads to %q, %v", target, err)
	}
}

// TestLinkThatComesDuringTheRunIsReplaced: what was judged before is where the
// report goes.
func TestLinkThatComesDuringTheRunIsReplaced(t *testing.T) {
	dir := t.TempDir()
	r := reportOf(t, dir+"/report.json")
	if err := errors.Join(file("precious", 0o644)(dir), link("precious", "report.json")(dir)); err != nil {
		t.Fatal(err)
	}
	writeReport(t, r, "new")
	wantFile(t, dir+"/report.json", "new")
	wantFile(t, dir+"/precious", "old")
}

// TestReportFollowsItsDirectory, and not its name.
func TestReportFollowsItsDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := directory("before", 0o755)(dir); err != nil {
		t.Fatal(err)
	}
	r := reportOf(t, dir+"/before/report.json")
	for _, err := range []error{os.Rename(dir+"/before", dir+"/after"), os.Mkdir(dir+"/elsewhere", 0o755), link("elsewhere", "before")(dir)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	writeReport(t, r, "new")
	wantFile(t, dir+"/after/report.json", "new")
	wantFiles(t, dir+"/elsewhere", "")
}

func TestDirectoryThatComesDuringTheRunIsAnErrorThatLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	r := reportOf(t, dir+"/report.json")
	if err := directory("report.json", 0o755)(dir); err != nil {
		t.Fatal(err)
	}
	var own *sandbox.Error
	if err := r.write(text("new")); !errors.As(err, &own) || own.Op != "write report" || own.Hint == "" {
		t.Errorf("the error is %v", err)
	}
	wantFiles(t, dir, "report.json")
}

// given returns a descriptor as sbx is given one: it outlives execve(2).
func given(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestReportToADescriptor(t *testing.T) {
	for _, form := range []string{"fd:%d", "/dev/fd/%d", "/proc/self/fd/%d", "/dev/../dev/fd/%d"} {
		t.Run(form, func(t *testing.T) {
			f, err := os.CreateTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString("before "); err != nil {
				t.Fatal(err)
			}
			fd := given(t, f)
			writeReport(t, reportOf(t, fmt.Sprintf(form, fd)), "report")
			// The descriptor is still good, and its offset is behind the report.
			if _, err := unix.Write(fd, []byte(" after")); err != nil {
				t.Error(err)
			}
			wantFile(t, f.Name(), "before report after")
			if own, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); own&unix.FD_CLOEXEC == 0 || err != nil {
				t.Errorf("what sbx starts would inherit it: %#x, %v", own, err)
			}
		})
	}
}

func TestReportToAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	report := strings.Repeat("report ", 1<<20) // more than a pipe holds
	read := make(chan []byte)
	go func() {
		data := make([]byte, len(report))
		_, _ = io.ReadFull(r, data)
		read <- data
	}()
	writeReport(t, reportOf(t, fmt.Sprintf("fd:%d", given(t, w))), report)
	if got := <-read; string(got) != report {
		t.Error("another report came out of the pipe")
	}
}

func TestDescriptorThatCannotTakeAReport(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := refusedReport(t, fmt.Sprintf("fd:%d", given(t, f))); !strings.Contains(err.Error(), "not open for writing") {
		t.Errorf("open for reading only: %v", err)
	}
	path, err := os.OpenFile("/dev/null", unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer path.Close()
	if err := refusedReport(t, fmt.Sprintf("fd:%d", given(t, path))); !strings.Contains(err.Error(), "not open for writing") {
		t.Errorf("a path: %v", err)
	}
}

// TestDescriptorsOfSbxItselfAreNoPlaceForAReport: the runtime has some, of which
// nobody knows the numbers. execve(2) hands down none that are close-on-exec.
func TestDescriptorsOfSbxItselfAreNoPlaceForAReport(t *testing.T) {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "own"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := refusedReport(t, fmt.Sprintf("fd:%d", f.Fd())); !errors.Is(err, unix.EBADF) {
		t.Errorf("the error is %v", err)
	}
}

func TestReportToWhatIsNoFile(t *testing.T) {
	t.Run("/dev/null", func(t *testing.T) {
		writeReport(t, reportOf(t, "/dev/null"), "report")
		if info, err := os.Stat("/dev/null"); err != nil || info.Mode()&fs.ModeDevice == 0 {
			t.Fatalf("/dev/null is %v now, %v", info, err)
		}
	})
	t.Run("/dev/full", func(t *testing.T) {
		err := reportOf(t, "/dev/full").write(text("report"))
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("the error is %v, want ENOSPC", err)
		}
	})
	t.Run("a FIFO with a reader", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "fifo")
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		reader, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		writeReport(t, reportOf(t, name), "report")
		if data, err := io.ReadAll(reader); string(data) != "report" || err != nil {
			t.Errorf("%q came out, %v", data, err)
		}
	})
	t.Run("a FIFO whose reader goes away", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "fifo")
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		reader, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		r := reportOf(t, name)
		reader.Close()
		if err := r.write(text("report")); !errors.Is(err, unix.EPIPE) {
			t.Errorf("the error is %v, want EPIPE", err)
		}
	})
}

// reporting runs sbx with its standard output and error in files, which is where
// the report goes as well.
func reporting(t *testing.T, report string, flags ...string) (status int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	out, errs := dir+"/out", dir+"/err"
	args := append(append([]string{"run", "--profile", "strict", "--report", strings.ReplaceAll(report, "DIR", dir)}, flags...), script(t, "print('it ran')"))
	cmd := sbxProcess(t, args...)
	for name, to := range map[string]*io.Writer{out: &cmd.Stdout, errs: &cmd.Stderr} {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		*to = f
	}
	_ = cmd.Run()
	texts := [2]string{}
	for i, name := range []string{out, errs} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(data)
	}
	wantFiles(t, dir, "err out")
	return cmd.ProcessState.ExitCode(), texts[0], texts[1]
}

// TestReportToAStreamOfSbxLosesNothing: the script's output, the report and the
// summary follow one another, by whatever name the file is called.
func TestReportToAStreamOfSbxLosesNothing(t *testing.T) {
	tests := []struct {
		report         string
		stdout, stderr []string // in this order
	}{
		{"fd:1", []string{"it ran\n", `"schema_version"`}, []string{"sbx: "}},
		{"/dev/stdout", []string{"it ran\n", `"schema_version"`}, []string{"sbx: "}},
		{"/proc/self/fd/1", []string{"it ran\n", `"schema_version"`}, []string{"sbx: "}},
		{"DIR/out", []string{"it ran\n", `"schema_version"`}, []string{"sbx: "}},
		{"fd:2", []string{"it ran\n"}, []string{`"schema_version"`, "sbx: "}},
		{"/dev/stderr", []string{"it ran\n"}, []string{`"schema_version"`, "sbx: "}},
		{"DIR/err", []string{"it ran\n"}, []string{`"schema_version"`, "sbx: "}},
	}
	for _, tt := range tests {
		t.Run(tt.report, func(t *testing.T) {
			status, stdout, stderr := reporting(t, tt.report)
			if status != 0 {
				t.Errorf("status %d", status)
			}
			wantInOrder(t, "standard output", stdout, tt.stdout)
			wantInOrder(t, "standard error", stderr, tt.stderr)
		})
	}
}

func wantInOrder(t *testing.T, what, text string, parts []string) {
	t.Helper()
	rest := text
	for _, part := range parts {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Errorf("%s has no %q, or not in this order:\n%.3000s", what, part, text)
			return
		}
		rest = after
	}
}

// TestErrorIsStillTold where the report was to go to standard error, and the run
// did not start.
func TestErrorIsStillTold(t *testing.T) {
	status, _, stderr := reporting(t, "fd:2", "--python", "/none")
	if status != 127 || !strings.Contains(stderr, "sbx: error: ") {
		t.Errorf("status %d, standard error %q", status, stderr)
	}
}

// onThread runs f on a thread of its own, which ends with it: what f takes away
// from its thread is not missed by anybody else.
func onThread(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// withMounts runs f in a mount namespace of its own.
func withMounts(t *testing.T, f func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts here: a process with threads cannot make a user namespace")
	}
	onThread(t, func() error {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		return f()
	})
}

// TestReportThatFindsNoRoomLeavesTheOldOne, and nothing of itself.
func TestReportThatFindsNoRoomLeavesTheOldOne(t *testing.T) {
	dir := t.TempDir()
	withMounts(t, func() error {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
			return err
		}
		if err := file("report.json", 0o644)(dir); err != nil {
			return err
		}
		r, err := openReport(dir + "/report.json")
		if err != nil {
			return err
		}
		defer r.discard()
		err = r.write(text(strings.Repeat("x", 1<<20)))
		var own *sandbox.Error
		if !errors.Is(err, unix.ENOSPC) || !errors.As(err, &own) || !strings.Contains(own.Hint, "make room") {
			t.Errorf("the error is %v, want ENOSPC with a hint", err)
		}
		wantFile(t, dir+"/report.json", "old")
		wantFiles(t, dir, "report.json")
		return nil
	})
}

func TestReportOnAFileSystemThatIsReadOnly(t *testing.T) {
	dir := t.TempDir()
	withMounts(t, func() error {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return err
		}
		if err := errors.Join(file("report.json", 0o644)(dir), unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
			return err
		}
		for _, name := range []string{"report.json", "new.json"} {
			if _, err := openReport(filepath.Join(dir, name)); !errors.Is(err, unix.EROFS) {
				t.Errorf("%s: the error is %v, want EROFS", name, err)
			}
		}
		return nil
	})
}

// TestReportInAFileThatIsMounted, as containers are given single files: it cannot
// be replaced, so it is written over, at the end.
func TestReportInAFileThatIsMounted(t *testing.T) {
	dir := t.TempDir()
	withMounts(t, func() error {
		for _, name := range []string{"report.json", "outside"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("an old and longer one"), 0o600); err != nil {
				return err
			}
		}
		if err := unix.Mount(dir+"/outside", dir+"/report.json", "", unix.MS_BIND, ""); err != nil {
			return err
		}
		r, err := openReport(dir + "/report.json")
		if err != nil {
			return err
		}
		defer r.discard()
		wantFile(t, dir+"/outside", "an old and longer one")
		writeErr := r.write(text("new"))
		wantFile(t, dir+"/outside", "new")
		wantFiles(t, dir, "outside report.json")
		return writeErr
	})
}

// TestReportWithoutUnnamedFiles: on NFS, FAT, many FUSE file systems and old
// overlays open(2) answers O_TMPFILE with EOPNOTSUPP, as a filter does here.
func TestReportWithoutUnnamedFiles(t *testing.T) {
	const flag = unix.O_TMPFILE &^ unix.O_DIRECTORY
	dir := t.TempDir()
	locked := filepath.Join(dir, "locked")
	if err := os.Mkdir(locked, 0o555); err != nil {
		t.Fatal(err)
	}
	onThread(t, func() error {
		if err := refuseOnThread(unix.SYS_OPENAT, 2, flag, unix.EOPNOTSUPP); err != nil {
			return err
		}
		if f, err := os.OpenFile(dir, os.O_WRONLY|unix.O_TMPFILE, 0o600); !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("O_TMPFILE is answered with %v, %w", f, err)
		}
		discarded, err := openReport(dir + "/discarded")
		if err != nil {
			return err
		}
		discarded.discard()
		wantFiles(t, dir, "locked")

		r, err := openReport(dir + "/report.json")
		if err != nil {
			return err
		}
		wantFiles(t, dir, "locked")
		if err := r.write(text("first")); err != nil {
			return err
		}
		wantFile(t, dir+"/report.json", "first")

		if err := os.Chmod(dir+"/report.json", 0o600); err != nil {
			return err
		}
		if r, err = openReport(dir + "/report.json"); err != nil {
			return err
		}
		if err := r.write(text("second")); err != nil {
			return err
		}
		wantFile(t, dir+"/report.json", "second")
		if info, err := os.Stat(dir + "/report.json"); err != nil || info.Mode() != 0o600 {
			t.Errorf("its mode is %v, %v; want what it was", info.Mode(), err)
		}
		wantFiles(t, dir, "locked report.json")

		if os.Geteuid() != 0 {
			if _, err := openReport(locked + "/report.json"); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("a directory without write permission: %v", err)
			}
		}
		return nil
	})
}

// refuseOnThread has a system call refused, for this thread, where one of its
// arguments has any bit of mask.
func refuseOnThread(nr, argument, mask uint32, errno unix.Errno) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // struct seccomp_data, seccomp(2)
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16 + 8*argument},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: mask, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// TestReportsOfProcessesWithTheSameNumber: two containers can share a directory,
// and each sbx in them be process 7.
func TestReportsOfProcessesWithTheSameNumber(t *testing.T) {
	dir := t.TempDir()
	first, second := reportOf(t, dir+"/report.json"), reportOf(t, dir+"/report.json")
	stale := fmt.Sprintf(".sbx-report-%d", os.Getpid())
	if err := file(stale, 0o600)(dir); err != nil {
		t.Fatal(err)
	}
	var once bytes.Buffer
	err := first.write(func(w io.Writer) error {
		return errors.Join(second.write(text("second")), text("first")(io.MultiWriter(w, &once)))
	})
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, dir+"/report.json", "first")
	wantFiles(t, dir, stale+" report.json")
}

func TestNewNameTriesUntilOneIsFree(t *testing.T) {
	var tried []string
	name, err := newName(func(name string) error {
		tried = append(tried, name)
		if len(tried) < 3 {
			return &fs.PathError{Op: "open", Path: name, Err: unix.EEXIST}
		}
		return nil
	})
	if err != nil || len(tried) != 3 || name != tried[2] || tried[0] == tried[1] {
		t.Errorf("it tried %q and took %q, %v", tried, name, err)
	}
	if name, err = newName(func(string) error { return unix.EIO }); name != "" || !errors.Is(err, unix.EIO) {
		t.Errorf("another error gives %q, %v", name, err)
	}
}
