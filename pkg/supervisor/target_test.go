package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// writeStatus makes a /proc/TID/status beneath root.
func writeStatus(t *testing.T, root string, tid, tgid, ppid, nstgid, nspid int) {
	t.Helper()
	text := fmt.Sprintf("Name:\tpython3\nTgid:\t%d\nPid:\t%d\nPPid:\t%d\nNStgid:\t%d\t%d\nNSpid:\t%d\t%d\n",
		tgid, tid, ppid, tgid, nstgid, tid, nspid)
	dir := filepath.Join(root, strconv.Itoa(tid))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "status"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestParseTask(t *testing.T) {
	for _, c := range []struct {
		name, status              string
		tgid, nstid, nspid, above int
	}{
		{"a thread of a jail", "Name:\tx\nTgid:\t900\nPid:\t905\nPPid:\t890\nNStgid:\t900\t2\nNSpid:\t905\t7\n", 900, 7, 2, 890},
		{"nested pid namespaces: the innermost counts", "Tgid:\t900\nPPid:\t1\nNStgid:\t900\t40\t3\nNSpid:\t900\t40\t3\n", 900, 3, 3, 1},
		{"a name that looks like a field", "Name:\tTgid: 1\nTgid:\t9\nPPid:\t8\nNStgid:\t9\nNSpid:\t9\n", 9, 9, 9, 8},
		{"an older kernel without NStgid", "Tgid:\t9\nPPid:\t8\n", 9, 0, 0, 8},
		{"empty", "", 0, 0, 0, 0},
		{"no numbers", "Tgid:\tx\nPPid:\t\nNStgid:\nNSpid:\t9 y\n", 0, 0, 0, 0},
		{"negative", "Tgid:\t-9\nNSpid:\t9 -1\n", 0, 0, 0, 0},
		{"too large", "Tgid:\t99999999999999999999\n", 0, 0, 0, 0},
		{"without a last newline", "Tgid:\t9", 9, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			tgid, nstid, nspid, ppid := parseTask(c.status)
			if tgid != c.tgid || nstid != c.nstid || nspid != c.nspid || ppid != c.above {
				t.Errorf("parseTask = %d, %d, %d, %d", tgid, nstid, nspid, ppid)
			}
		})
	}
}

func TestLookupOfOwnThread(t *testing.T) {
	tasks := tasks{root: "/proc", known: map[int]task{}}
	got := tasks.lookup(os.Getpid(), time.Now())
	if got.tgid != os.Getpid() || got.nspid != os.Getpid() || got.nstid != os.Getpid() || got.parent != os.Getppid() {
		t.Errorf("lookup = %+v in process %d of %d", got, os.Getpid(), os.Getppid())
	}
}

func TestLookup(t *testing.T) {
	root := t.TempDir()
	tasks := tasks{root: root, known: map[int]task{}}
	now := time.Now()

	if got := tasks.lookup(50, now); got.tgid != 0 || got.nstid != 0 {
		t.Errorf("a thread that is gone: %+v", got)
	}
	writeStatus(t, root, 50, 49, 48, 2, 3)
	writeStatus(t, root, 48, 48, 1, 1, 1)
	first := tasks.lookup(50, now)
	if first.tgid != 49 || first.nspid != 2 || first.nstid != 3 || first.parent != 1 {
		t.Errorf("what was not found is looked for again: %+v", first)
	}
	writeStatus(t, root, 50, 77, 48, 8, 9)
	if got := tasks.lookup(50, now.Add(fresh-1)); got != first {
		t.Errorf("a fresh task was read again: %+v", got)
	}
	if got := tasks.lookup(50, now.Add(fresh)); got.tgid != 77 || got.nstid != 9 {
		t.Errorf("an old task was believed: %+v", got)
	}
	for tid := range 3 * maxKnown {
		tasks.known[tid+1000] = task{}
		if len(tasks.known) >= maxKnown {
			break
		}
	}
	tasks.lookup(48, now)
	if len(tasks.known) > maxKnown {
		t.Errorf("%d tasks are remembered, want at most %d", len(tasks.known), maxKnown)
	}
}

func TestLook(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": "file", "dangling": "nothing", "loop": "loop", "dirlink": "."} {
		if err := os.Symlink(to, dir+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	v := procView{"/proc"}
	for _, c := range []struct {
		name   string
		follow bool
		want   presence
	}{
		{dir + "/file", true, file},
		{dir, true, directory},
		{dir + "/nothing", true, absent},
		{dir + "/file/below", true, absent},
		{dir + "/link", true, file},
		{dir + "/dirlink", true, directory},
		{dir + "/dirlink", false, file},
		{dir + "/dangling", true, absent},
		{dir + "/dangling", false, file},
		{dir + "/loop", true, unclear},
		{"/../../../..", true, directory},
		{"/proc/self/mem", true, unclear},
		{"/proc", true, unclear},
		{"/proc/nothing", true, unclear},
	} {
		if got := v.look(os.Getpid(), c.name, c.follow); got != c.want {
			t.Errorf("look(%q, %v) = %d, want %d", c.name, c.follow, got, c.want)
		}
	}
	if got := v.look(1<<30, "/", true); got != unclear {
		t.Errorf("the root of a process that is not there: %d", got)
	}
}

func TestLookKeepsNoDescriptor(t *testing.T) {
	v := procView{"/proc"}
	look := func() {
		for _, name := range []string{"/", "/nothing here", "/proc/self/exe", t.TempDir()} {
			v.look(os.Getpid(), name, true)
		}
		v.look(1<<30, "/", true)
	}
	look()
	before := descriptors(t)
	for range 100 {
		look()
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// descriptors is how many this process has.
func descriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestProcViewResolvesDescriptors(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v := procView{"/proc"}
	if got, err := v.fd(os.Getpid(), int(f.Fd())); got != dir || err != nil {
		t.Errorf("fd = %q, %v", got, err)
	}
	if got, err := v.fd(os.Getpid(), -1); err == nil {
		t.Errorf("fd -1 = %q", got)
	}
	want, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := v.cwd(os.Getpid()); got != want || err != nil {
		t.Errorf("cwd = %q, %v; want %q", got, err, want)
	}
}

func TestIntended(t *testing.T) {
	open := func(flags uint64) intent { return intended(unix.SYS_OPENAT, [6]uint64{2: flags}) }
	for _, c := range []struct {
		name      string
		got, want intent
	}{
		{"open for writing", open(unix.O_WRONLY), intent{data: true}},
		{"open that makes the file", open(unix.O_RDWR | unix.O_CREAT), intent{create: true, data: true}},
		{"open of a new file", open(unix.O_RDWR | unix.O_CREAT | unix.O_EXCL), intent{create: true, fresh: true, data: true}},
		{"O_EXCL alone", open(unix.O_RDWR | unix.O_EXCL), intent{data: true}},
		{"a file without a name", open(unix.O_RDWR | unix.O_TMPFILE), intent{}},
		{"open has its flags elsewhere", intended(unix.SYS_OPEN, [6]uint64{1: unix.O_CREAT}), intent{create: true, data: true}},
		{"mkdir", intended(unix.SYS_MKDIR, [6]uint64{}), intent{create: true, fresh: true}},
		{"rename", intended(unix.SYS_RENAME, [6]uint64{}), intent{create: true, remove: true}},
		{"unlink", intended(unix.SYS_UNLINK, [6]uint64{}), intent{remove: true}},
		{"truncate", intended(unix.SYS_TRUNCATE, [6]uint64{}), intent{data: true}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, c.got, c.want)
		}
	}
}
