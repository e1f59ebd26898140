package pystack

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
)

func TestBackingBegins(t *testing.T) {
	file := backing{unix.Mkdev(0xfe, 0x1f), 131090, "/usr/lib/libpython3.12.so.1.0"}
	tests := []struct {
		name, line string
		want       uint64
	}{
		{"by inode", "7f4a1c000000-7f4a1c0c5000 r--p 00000000 fe:1f 131090                     /elsewhere/libpython3.12.so.1.0", 0x7f4a1c000000},
		{"by inode, removed", "7f4a1c000000-7f4a1c0c5000 r--p 00000000 fe:1f 131090                     /usr/lib/x (deleted)", 0x7f4a1c000000},
		{"by path", "7f4a1c000000-7f4a1c0c5000 r--p 00000000 00:1f 99                         /usr/lib/libpython3.12.so.1.0", 0x7f4a1c000000},
		{"not the beginning", "7f4a1c000000-7f4a1c0c5000 r--p 00001000 fe:1f 131090                     /usr/lib/libpython3.12.so.1.0", 0},
		{"another device", "7f4a1c000000-7f4a1c0c5000 r--p 00000000 fe:01 131090                     /usr/lib/x", 0},
		{"another file", "7f4a1c000000-7f4a1c0c5000 r--p 00000000 fe:1f 131091                     /usr/lib/x", 0},
		{"a name with a newline", `7f4a1c000000-7f4a1c0c5000 r--p 00000000 fe:1f 131091                     /tmp/x\012/usr/lib/libpython3.12.so.1.0`, 0},
		{"the name within another", "7f4a1c000000-7f4a1c0c5000 r--p 00000000 fe:1f 131091                     /tmp/usr/lib/libpython3.12.so.1.0", 0},
		{"anonymous", "7f4a1c000000-7f4a1c0c5000 rw-p 00000000 00:00 0 ", 0},
		{"a name of its own", "7f4a1c000000-7f4a1c0c5000 rw-p 00000000 00:00 0                          [anon:/usr/lib/libpython3.12.so.1.0]", 0},
		{"empty", "", 0},
		{"cut", "7f4a1c000000-7f4a1c0c5000 r--p 00000000", 0},
		{"no address", "x-y r--p 00000000 fe:1f 131090 /usr/lib/libpython3.12.so.1.0", 0},
	}
	for _, tt := range tests {
		got, ok := file.begins([]byte(tt.line))
		if !ok {
			got = 0
		}
		if got != tt.want || ok != (tt.want != 0) {
			t.Errorf("%s: %#x, %v; want %#x", tt.name, got, ok, tt.want)
		}
	}
	if _, ok := (backing{path: "/x"}).begins([]byte("7f4a1c000000-7f4a1c0c5000 rw-p 00000000 00:00 0 ")); ok {
		t.Error("a file that there is not is anonymous memory")
	}
}

// scene writes files of a made up /proc.
func scene(t *testing.T, files map[string]string) procfs {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return procfs{root}
}

func TestCreator(t *testing.T) {
	status := func(nstid, parent int) string {
		return fmt.Sprintf("Name:\tpy\nPPid:\t%d\nNSpid:\t100\t%d\n", parent, nstid)
	}
	at := func(nr int, flags, stack, sp uint64) string {
		return fmt.Sprintf("%d %#x %#x 0x0 0x0 0x0 0x0 %#x 0x7f0000000000\n", nr, flags, stack, sp)
	}
	const vforkFlags = unix.CLONE_VM | unix.CLONE_VFORK
	child := map[string]string{"200/status": status(9, 100), "200/syscall": at(59, 0, 0, 0x7f10001000)}
	tests := []struct {
		name    string
		threads map[int]string // by number in the jail
		want    int
	}{
		{"the only one", map[int]string{2: at(sysVfork, 0, 0, 0x7f10001800)}, 2},
		{"of others that wait for something else", map[int]string{2: at(unix.SYS_FUTEX, 0, 0, 0x7f10001800), 3: at(sysVfork, 0, 0, 0x7f10001800), 4: "running\n"}, 3},
		{"the nearer one", map[int]string{2: at(sysVfork, 0, 0, 0x7f10080000), 3: at(sysVfork, 0, 0, 0x7f10001800)}, 3},
		{"the nearer one comes first", map[int]string{2: at(sysVfork, 0, 0, 0x7f10001800), 3: at(sysVfork, 0, 0, 0x7f10080000)}, 2},
		{"by the stack that clone was given", map[int]string{2: at(sysClone, vforkFlags, 0x7f10002000, 0x7fff00000000), 3: at(sysClone, vforkFlags, 0x7f20002000, 0x7f10001800)}, 2},
		{"a clone that shares its stack", map[int]string{2: at(sysClone, vforkFlags, 0, 0x7f10001800)}, 2},
		{"a clone that does not wait", map[int]string{2: at(sysClone, unix.CLONE_VM, 0, 0x7f10001800)}, 0},
		{"too far away", map[int]string{2: at(sysVfork, 0, 0, 0x7f20000000)}, 0},
		{"two that are as near", map[int]string{2: at(sysVfork, 0, 0, 0x7f10001800), 3: at(sysVfork, 0, 0, 0x7f10001800)}, 0},
		{"the only one, in clone3", map[int]string{2: at(unix.SYS_CLONE3, 0x7f0000000000, 88, 0x7fff00000000)}, 2},
		{"two in clone3", map[int]string{2: at(unix.SYS_CLONE3, 0x7f0000000000, 88, 0x7fff00000000), 3: at(unix.SYS_CLONE3, 0x7f0000000000, 88, 0x7f10001800)}, 0},
		{"nobody", nil, 0},
		{"garbage", map[int]string{2: "58 x y z 0 0 0 1 2\n", 3: "58\n", 4: ""}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{}
			for name, text := range child {
				files[name] = text
			}
			for nstid, syscall := range tt.threads {
				dir := "100/task/" + strconv.Itoa(100+nstid)
				files[dir+"/status"], files[dir+"/syscall"] = status(nstid, 1), syscall
			}
			if _, got := scene(t, files).creator(200); got != tt.want {
				t.Errorf("thread %d, want %d", got, tt.want)
			}
		})
	}
}

// TestVforkedChildren: such a child stands where the thread stands that made it,
// which is not the main one here.
func TestVforkedChildren(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		// The C library's posix_spawn opens the FIFO in the child, and waits there.
		s := p.start(t, waiting+`
def spawn(fifo):
    os.mkfifo(fifo)
    sys.stdout.write("%d\n" % threading.get_native_id()); sys.stdout.flush()
    os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 5, fifo, os.O_RDONLY, 0)])
threading.Thread(target=spawn, args=(os.path.join(os.path.dirname(__file__), "fifo"),), daemon=True).start()
time.sleep(600)
`)
		parent := s.hear(t)[0]
		fifo := filepath.Join(filepath.Dir(s.Args[len(s.Args)-1]), "fifo")
		t.Cleanup(func() { // let the child go, which waits for a writer
			if f, err := os.OpenFile(fifo, os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
				f.Close()
			}
		})
		threading := map[bool]string{false: "", true: "Thread."}[p.Minor >= 11]
		want := "spawn:8 T.run@threading.py T._bootstrap_inner@threading.py T._bootstrap@threading.py"
		settled(t, strings.ReplaceAll(want, "T.", threading), func() ([]event.Location, error) {
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.Process.Pid, parent))
			if err != nil || len(data) == 0 {
				return nil, err
			}
			child, err := strconv.Atoi(strings.TrimSpace(string(data)))
			if err != nil {
				return nil, err
			}
			stack, _, err := p.reader().Stack(child, child)
			return stack, err
		})
	})
}
