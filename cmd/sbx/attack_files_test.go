package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/report"
)

// TestAttackFiles: nothing of the host can be read, nothing outside of the
// scratch directories written, whatever the way to it.
func TestAttackFiles(t *testing.T) {
	runAttacks(t, []attack{
		{name: "canaries by name", code: `
return [f for f in HOST["files"] if os.path.exists(f)] and open(HOST["files"][0]).read() == HOST["secret"]`,
			strict: "got []", control: "got True"},
		{name: "the accounts of the host", code: `
return open("/etc/shadow", "rb").read(1) != b""`,
			strict: "ENOENT", control: "got True", plain: "EACCES"},
		{name: "homes, configuration, sockets and other file systems", code: `
return [d for d in ("/run", "/var", "/boot", "/sys", "/mnt", "/srv", "/media", "/etc/ssh", "/etc/machine-id", "/etc/resolv.conf")
        if os.path.lexists(d)] != []`,
			strict: "got False", control: "got True"},
		{name: "links to the host's files", code: `
found = []
for n, to in enumerate([HOST["files"][3], "../" * 30 + HOST["files"][3], "/proc/self/root" + HOST["files"][3], "/proc/1/root" + HOST["files"][3]]):
    link = "%s/link%d" % (HOST["scratch"] if HOST["outside"] else "/tmp", n)
    os.symlink(to, link)
    if os.path.exists(link):
        found.append(to)
    os.unlink(link)
return found != []`,
			strict: "got False", control: "got True"},
		{name: "the magic links of proc", code: `
seen = []
for pid in ["self", "thread-self", "1", "2"] + os.listdir("/proc"):
    for link in ["root", "cwd", "exe"] + ["fd/%d" % fd for fd in range(70)]:
        path = "/proc/%s/%s" % (pid, link)
        for name in (HOST["files"][3], os.path.basename(HOST["files"][3])):
            try:
                if open(path + "/" + name).read() == HOST["secret"]:
                    seen.append(path)
            except OSError:
                pass
return seen != []`,
			strict: "got False", control: "got True"},
		// CVE-2024-21626: a directory of the host that the caller, or the runtime
		// itself, left open, and a working directory outside of the root.
		{name: "descriptors that the caller leaked", code: `
got = []
for fd in HOST["fds"]:
    try:
        got.append(os.fstat(fd).st_ino > 0)
    except OSError:
        pass
for fd in range(3, 1024):
    try:
        os.close(os.open(HOST["files"][0].lstrip("/"), os.O_RDONLY, dir_fd=fd))
        got.append(fd)
    except OSError:
        pass
return got != []`,
			strict: "got False", control: "got True"},
		{name: "the caller's working directory", code: `
return os.path.basename(HOST["files"][3]) in os.listdir(".") + os.listdir("..") + os.listdir("../..")`,
			strict: "got False", control: "got True"},
		// pivot_root(2) stacks the old root on the new one until it is detached.
		{name: "above the root", code: `return os.path.exists("/.." + HOST["files"][3])`, strict: "got False", control: "got True"},
		{name: "a descriptor that is no pipe", code: `
import stat
bad = []
for name in os.listdir("/proc/self/fd"):
    try:
        mode = os.fstat(int(name)).st_mode
    except OSError:
        continue  # of the listing itself
    if not stat.S_ISFIFO(mode):
        bad.append(name)
return bad`,
			strict: "got []", control: "reached"},
		{name: "files in every directory", code: `
made = []
for top, dirs, _ in os.walk("/tmp" if HOST["outside"] else "/"):
    if top.startswith("/proc/") or top.count("/") > 2 or HOST["outside"] and top != "/tmp":
        dirs.clear()
        continue
    try:
        name = top + "/sbx-attack"
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.unlink(name)
        made.append(top)
    except OSError:
        pass
return sorted(made)`,
			strict: "got ['/tmp']", observe: "got ['/dev/shm', '/tmp']", control: "got"},
		{name: "changes to what is there", code: `
done = []
for path in ("/", "/etc", "/etc/passwd", "/dev/null", "/proc", os.__file__, sys.executable, __file__):
    for change in (lambda: os.chmod(path, 0o777), lambda: os.utime(path), lambda: os.rename(path, path + "-"), lambda: os.unlink(path),
                   lambda: os.truncate(path, 0), lambda: os.link(path, "/tmp/linked"), lambda: os.chown(path, -1, -1), lambda: os.setxattr(path, "user.x", b"x")):
        if HOST["outside"]:
            break
        try:
            change()
            done.append(path)
        except OSError:
            pass
if HOST["outside"]:
    os.chmod(HOST["scratch"], 0o777)
return done`,
			strict: "got []", control: "got", plain: "-"}, // the folder is of the user who made it
		{name: "chroot", code: `return call(161, b"/nowhere")`, strict: "EPERM", control: "ENOENT", plain: "-", op: "chroot"},
		{name: "the second chroot, and up", code: `
top = HOST["scratch"] if HOST["outside"] else "/tmp"
os.makedirs(top + "/inner", exist_ok=True)
call(161, (top + "/inner").encode())
for _ in range(40):
    os.chdir("..")
call(161, b".")
return os.path.exists(HOST["files"][3])`,
			strict: "EPERM", control: "got True", plain: "EPERM"},
		{name: "device nodes", code: `
made = []
for mode, dev in ((0o020666, os.makedev(1, 3)), (0o060666, os.makedev(254, 0)), (0o020666, os.makedev(1, 1))):
    path = (HOST["scratch"] if HOST["outside"] else "/tmp") + "/node"
    os.mknod(path, mode, dev)
    os.unlink(path)
    made.append(dev)
return made != []`,
			strict: "EPERM", control: "got True", plain: "EPERM", op: "mknodat"},
		{name: "devices other than the five harmless ones", code: `
import stat
out = []
for top, _, names in os.walk("/dev"):
    for name in names:
        info = os.lstat(top + "/" + name)
        if (stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode)) and info.st_rdev not in [os.makedev(1, n) for n in (3, 5, 7, 8, 9)]:
            out.append(top + "/" + name)
return out != []`,
			strict: "got False", control: "got True"},
		{name: "remount", code: `return call(165, 0, b"/", 0, 32 | 4096, 0)`, strict: "EPERM", control: "-", op: "mount"},
		{name: "a mount that cannot be", code: `return call(165, b"x", b"/nowhere", b"tmpfs", 0, 0)`, strict: "EPERM", control: "ENOENT", plain: "-", op: "mount"},
		{name: "what lies below a mount", code: `return call(166, b"/nowhere", 2)`, strict: "EPERM", control: "ENOENT", plain: "-", op: "umount2"},
		{name: "another root", code: `return call(155, b"/nowhere", b"/nowhere")`, strict: "EPERM", control: "ENOENT", plain: "-", op: "pivot_root"},
		{name: "files by handle", code: `
handle = ctypes.create_string_buffer(b"\x08\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0", 136)
return call(304, os.open("/", os.O_RDONLY), handle, 0)`,
			strict: "EPERM", control: "reached", plain: "EPERM", op: "open_by_handle_at"},
		{name: "the new mount calls", code: `
def answer(nr, *args):
    try:
        return str(call(nr, *args))
    except OSError as error:
        return errno.errorcode[error.errno]
bad = b"\0"
return sorted({answer(430, b"nosuchfs", 0), answer(428, -1, bad, 1), answer(429, -1, bad, -1, bad, 0), answer(433, -1, bad, 0),
               answer(431, -1, 0, 0, 0, 0), answer(432, -1, 0, 0), answer(442, -1, bad, 0, 0, 32)})`,
			strict: "got ['EPERM']", control: "reached", plain: "-", op: "fsopen"},
		{name: "a file lock that other runs see", code: `
import fcntl
return fcntl.flock(open(os.__file__), fcntl.LOCK_SH | fcntl.LOCK_NB)`,
			strict: "EPERM", observe: "got", control: "got", op: "flock"},
		// Not promised (README): SQLite's write-ahead log asks the same question of
		// its own files, and a filter sees no difference.
		{name: "a record lock that another run has on a shared file", code: `
import fcntl, struct
lock = fcntl.fcntl(open(HOST["locked"]), fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 42, 1, 0))
return struct.unpack("hhqqi4x", lock)[0] == fcntl.F_RDLCK`,
			strict: "got True", control: "got True"},
		{name: "its own record lock on a shared file, for writing", code: `
import fcntl
return fcntl.lockf(open(HOST["locked"]), fcntl.LOCK_EX | fcntl.LOCK_NB)`,
			strict: "EBADF", control: "EBADF"},
		{name: "who opens shared files", code: `return call(294, 0) >= 0`, strict: "EPERM", observe: "got True", control: "got True", op: "inotify_init1"},
	})
}

// TestAttackDroppedPrograms: what the script wrote is never executed, be it by
// execve(2), by the loader, or as mapped memory (MFD_EXEC, noexec).
func TestAttackDroppedPrograms(t *testing.T) {
	// The smallest program: write(1, text), exit(0).
	const top = `
import struct
top = HOST["scratch"] if HOST["outside"] else "/tmp"
def drop(name):
    text = json.dumps([name, "got"]).encode() + b"\n"
    code = b"\xb8\1\0\0\0\xbf\1\0\0\0\x48\x8d\x35\x10\0\0\0\xba" + struct.pack("<I", len(text)) + b"\x0f\5\xb8\x3c\0\0\0\x31\xff\x0f\5" + text
    size, base = 120 + len(code), 0x400000
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    path = top + "/program"
    with open(path, "wb") as f:
        f.write(head + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096) + code)
    os.chmod(path, 0o755)
    return path
`
	runAttacks(t, []attack{
		{name: "a program in a scratch directory", code: top + `
return os.execv(drop("a program in a scratch directory"), ["x"])`,
			strict: "EPERM", observe: "EACCES", control: "got", op: "execve"},
		{name: "a script with an interpreter line", code: top + `
path = top + "/tool"
open(path, "w").write("#!" + sys.executable + "\nprint('[\"a script with an interpreter line\", \"got\"]')\n")
os.chmod(path, 0o755)
return os.execv(path, [path])`,
			strict: "EPERM", observe: "EACCES", control: "got"},
		{name: "mapped code", code: top + `
import mmap
f = open(drop("x"), "rb")
m = mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
return len(m) > 0`,
			strict: "EPERM|EACCES", control: "got True"},
		{name: "a program in memory", code: `
fd = os.memfd_create("x", 0)
os.write(fd, open(sys.executable, "rb").read(4096))
return call(322, fd, b"", 0, 0, 0x1000)`,
			// Outside the kernel looks at the file, and finds half a program.
			strict: "EPERM", control: "reached", op: "memfd_create"},
		{name: "a program in memory by its link", code: `
fd = os.memfd_create("x", 0)
os.write(fd, b"\x7fELF")
return os.execv("/proc/self/fd/%d" % fd, ["x"])`,
			strict: "EPERM", observe: "ENOEXEC|EACCES", control: "ENOEXEC"},
		{name: "the shell", code: `return os.execv("/bin/sh", ["sh", "-c", "echo '[\"the shell\", \"got\"]'"])`,
			strict: "EPERM", observe: "got", control: "got", op: "execve"},
	})
}

// TestAttackTheScriptItself: the file that the caller passed in is a copy inside.
func TestAttackTheScriptItself(t *testing.T) {
	const code = `
import os
done = []
for change in (lambda: open(__file__, "a").write("#"), lambda: os.unlink(__file__), lambda: os.rename(__file__, "/tmp/x"),
               lambda: os.chmod(__file__, 0o777), lambda: os.truncate(__file__, 0), lambda: os.symlink("/etc/passwd", __file__ + "-")):
    try:
        change()
        done.append(change)
    except OSError:
        pass
print(len(done))
`
	for _, profile := range []string{"strict", "grader", "observe"} {
		for _, mode := range attackModes {
			t.Run(profile+" "+mode, func(t *testing.T) {
				t.Parallel()
				file := script(t, code)
				o := invoke(t, "run", "--profile", profile, "--hooks", mode, file)
				o.wantVerdict(t, report.OK, 0)
				if o.stdout != "0\n" {
					t.Errorf("%s changes succeeded", strings.TrimSpace(o.stdout))
				}
				if data, err := os.ReadFile(file); err != nil || string(data) != code {
					t.Errorf("the caller's file is %q, %v", data, err)
				}
				if files := filesIn(t, filepath.Dir(file)); strings.Count(files, "script.py") != 1 {
					t.Errorf("beside it: %s", files)
				}
			})
		}
	}
}

// TestAttackLinksOnTheWayOut: what the script leaves in a folder of the host is
// followed by nobody (CVE-2024-28185: a link in the place of a file that is
// written afterwards; CVE-2024-28189: a link in the place of one that is given to
// another user with chown).
func TestAttackLinksOnTheWayOut(t *testing.T) {
	dir := shared(t, 0o777)
	victims := t.TempDir()
	victim := filepath.Join(victims, "victim")
	if err := os.WriteFile(victim, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	var before unix.Stat_t
	if err := unix.Stat(victim, &before); err != nil {
		t.Fatal(err)
	}
	for _, mode := range attackModes {
		o := invoke(t, "run", "--profile", "strict", "--hooks", mode, "--allow-file-write="+dir, script(t, `
import os, sys
top, victim = sys.argv[1:]
for name in ("report.json", "stdout", "stderr", "run", "script.py", "data.txt", ".sbx"):
    path = top + "/" + name
    if os.path.lexists(path):
        os.unlink(path)
    os.symlink(victim, path)
try:
    print(open(top + "/data.txt").read())
except OSError as error:
    print(error.errno)
`), dir, victim)
		o.wantVerdict(t, report.OK, 0)
		if o.stdout != "2\n" {
			t.Errorf("hooks %s: through its link the script read %q", mode, o.stdout)
		}
	}
	if _, err := os.Readlink(filepath.Join(dir, "data.txt")); err != nil {
		t.Fatalf("the links were not made: %v", err)
	}
	var after unix.Stat_t
	if err := unix.Stat(victim, &after); err != nil {
		t.Fatal(err)
	}
	after.Atim = before.Atim
	if data, err := os.ReadFile(victim); err != nil || string(data) != "kept" || after != before {
		t.Errorf("the victim was %+v, is %+v with %q, %v", before, after, data, err)
	}
	if got := filesIn(t, victims); strings.Count(got, "victim") != 1 || len(strings.Fields(got)) > 2 {
		t.Errorf("beside the victim: %s", got)
	}
	// Control: whoever follows the link does read it.
	if data, err := os.ReadFile(filepath.Join(dir, "data.txt")); err != nil || string(data) != "kept" {
		t.Errorf("the link shows %q, %v: the test shows nothing", data, err)
	}
}

// TestAttackLinksOnTheWayIn: a workspace full of links to the host's files comes
// in as links, which lead nowhere.
func TestAttackLinksOnTheWayIn(t *testing.T) {
	dir, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	main := filepath.Join(dir, "main.py")
	if err := os.WriteFile(main, []byte(`
import os
for name in sorted(os.listdir(".")):
    if os.path.islink(name):
        print(name, os.path.exists(name))
`), 0o644); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{"absolute": secret, "up": strings.Repeat("../", 30) + secret, "folder": filepath.Dir(secret), "proc": "/proc/1/root" + secret, "twice": "absolute"}
	want := ""
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range links {
			if !yield(n) {
				return
			}
		}
	}) {
		want += name + " False\n"
		if err := os.Symlink(links[name], filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range attackModes {
		o := invoke(t, "run", "--profile", "grader", "--hooks", mode, "--workspace", dir, main)
		o.wantVerdict(t, report.OK, 0)
		if o.stdout != want {
			t.Errorf("hooks %s: %q, want %q", mode, o.stdout, want)
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, "twice")); err != nil || string(data) != "of the host" {
		t.Errorf("outside the links lead to %q, %v: the test shows nothing", data, err)
	}
}

// TestAttackHardLimitsOfScratch: neither files without bytes nor holes get past
// the size and the number of inodes.
func TestAttackHardLimitsOfScratch(t *testing.T) {
	for _, mode := range []string{"enforce", "off"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			o := runScript(t, `
import errno, os
def until(f):
    for n in range(20000):
        try: f(n)
        except OSError as error: return n, errno.errorcode[error.errno]
    return n, "no end"
print(*until(lambda n: os.symlink("x", "/tmp/l%d" % n)))
for name in os.listdir("/tmp"): os.unlink("/tmp/" + name)
print(*until(lambda n: os.mkdir("/tmp/d%d" % n)))
for name in os.listdir("/tmp"): os.rmdir("/tmp/" + name)
fd = os.open("/tmp/f", os.O_CREAT | os.O_WRONLY)
print(*until(lambda n: os.posix_fallocate(fd, n << 20, 1 << 20)))
`, "--profile", "strict", "--hooks", mode)
			o.wantVerdict(t, report.OK, 0)
			var links, dirs, megabytes int
			var ends [3]string
			if _, err := fmt.Sscan(o.stdout, &links, &ends[0], &dirs, &ends[1], &megabytes, &ends[2]); err != nil {
				t.Fatalf("%q: %v", o.stdout, err)
			}
			// The profile's: 4096 inodes, 16 MiB; a file may have as much.
			if links >= 4096 || dirs >= 4096 || megabytes > 16 || ends[0] != "ENOSPC" || ends[1] != "ENOSPC" || ends[2] != "ENOSPC" && ends[2] != "EFBIG" {
				t.Errorf("%s", o.stdout)
			}
		})
	}
}
