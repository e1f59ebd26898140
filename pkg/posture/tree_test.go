package posture

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseCPU(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 "
	tests := []struct {
		stat string
		want time.Duration
		ok   bool
	}{
		{"7 (python3)" + rest + "1 2 3 4 20 0 1", 100 * time.Millisecond, true},
		{"7 (a) S 9 9 (b)" + rest + "0 0 0 5 20 0 1", 50 * time.Millisecond, true},
		{"7 (new\nline)" + rest + "100 0 0 0 20", time.Second, true},
		{"7 (python3)" + rest + "1 2 3", 0, false},
		{"7 (python3)" + rest + "1 -2 3 4 20", 0, false},
		{"7 (python3)" + rest + "1 99999999999999 3 4 20", 0, false},
		{"", 0, false},
		{")", 0, false},
	}
	for _, tt := range tests {
		got, err := parseCPU(tt.stat)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%q: %v, %v; want %v", tt.stat, got, err, tt.want)
		}
	}
}

func FuzzParseCPU(f *testing.F) {
	f.Add("7 (python3) S 1 2 3 4 5 6 7 8 9 10 1 2 3 4 20 0 1")
	f.Fuzz(func(t *testing.T, stat string) {
		if d, err := parseCPU(stat); err == nil && d < 0 {
			t.Errorf("%q: %v", stat, d)
		}
	})
}

// tree writes a /proc with these processes: pid to stat and children.
func tree(t *testing.T, procs map[int][2]string) string {
	t.Helper()
	root := t.TempDir()
	for pid, p := range procs {
		dir := filepath.Join(root, strconv.Itoa(pid))
		task := filepath.Join(dir, "task", strconv.Itoa(pid))
		if err := os.MkdirAll(task, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{filepath.Join(dir, "stat"): p[0], filepath.Join(task, "children"): p[1]} {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func TestTreeCPU(t *testing.T) {
	stat := func(user, reaped int) string {
		return "1 (x) S 1 2 3 4 5 6 7 8 9 10 " + strconv.Itoa(user) + " 0 " + strconv.Itoa(reaped) + " 0 20"
	}
	root := tree(t, map[int][2]string{
		1: {stat(1, 10), "2 3 99"}, // 99 has ended meanwhile
		2: {stat(2, 0), "4"},
		3: {stat(3, 0), "3"}, // a lie, or a number used again: it must end
		4: {stat(4, 0), ""},
	})
	if got, err := TreeCPU(root, 2); got != 60*time.Millisecond || err != nil {
		t.Errorf("a part of the tree: %v, %v, want 60 ms", got, err)
	}
	if got, err := TreeCPU(root, 1); got < 200*time.Millisecond || err != nil {
		t.Errorf("the whole tree: %v, %v, want 200 ms or more", got, err)
	}
	if _, err := TreeCPU(root, 5); err == nil {
		t.Error("a process that is not there has a time")
	}
}

// TestTreeCPUSeesAChildOfAChild on the real /proc.
func TestTreeCPUSeesAChildOfAChild(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "python3", "-I", "-S", "-c", `
import os, time
if os.fork() == 0:
    while time.process_time() < 0.3: pass
    os.write(1, b"x")
    os.read(0, 1)
    os._exit(0)
os.wait()
`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := out.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	got, err := TreeCPU("/proc", cmd.Process.Pid)
	if err != nil || got < 250*time.Millisecond {
		t.Errorf("%v, %v; its child alone used 300 ms", got, err)
	}
	_ = in.Close() // both end
	_ = cmd.Wait()
}

func TestSumKiB(t *testing.T) {
	for _, tt := range []struct {
		data string
		want int64
		ok   bool
	}{
		{"VmRSS:\t 900 kB\nRssAnon:\t   64 kB\nRssFile:\t 7 kB\nRssShmem:\t 6 kB\n", 64 << 10, true},
		{"Name:\tRssAnon: 9 kB\n", 0, true},
		{"", 0, true},
		{"RssAnon: x kB\n", 0, false},
		{"RssAnon: -1 kB\n", 0, false},
		{"RssAnon: 99999999999999 kB\n", 0, false},
	} {
		if got, err := sumKiB(tt.data, "RssAnon:"); got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%q: %d, %v; want %d", tt.data, got, err, tt.want)
		}
	}
}

// TestMemoryBelow: what a child wrote to is there, by both ways, be it private or
// shared; what the process itself holds is not.
func TestMemoryBelow(t *testing.T) {
	const size = 64 << 20
	own, err := unix.Mmap(-1, 0, 4*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(own) }()
	for name, read := range map[string]func(string, int) (Memory, error){"MemoryBelow": MemoryBelow, "ShareBelow": ShareBelow} {
		for _, kind := range []string{"MAP_PRIVATE", "MAP_SHARED"} {
			cmd := exec.CommandContext(t.Context(), "python3", "-I", "-S", "-c", `
import mmap, sys
m = mmap.mmap(-1, `+strconv.Itoa(size)+`, mmap.`+kind+` | mmap.MAP_ANONYMOUS)
for at in range(0, len(m), 4096): m[at] = 1
sys.stdout.write("x"); sys.stdout.flush(); sys.stdin.read()
`)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var b [1]byte
			if _, err := out.Read(b[:]); err != nil {
				t.Fatal(err)
			}
			got, err := read("/proc", os.Getpid())
			if sum := got.Anonymous + got.Shared; err != nil || sum < size || sum > 2*size || (kind == "MAP_SHARED") != (got.Shared >= size) {
				t.Errorf("%s, %s: %+v, %v; want %d and what the interpreter needs", name, kind, got, err, size)
			}
			if got, err := TasksBelow("/proc", os.Getpid()); err != nil || got != 1 {
				t.Errorf("%d tasks, %v; want 1", got, err)
			}
			_ = in.Close()
			_ = cmd.Wait()
		}
	}
	if _, err := MemoryBelow(t.TempDir(), 5); err == nil {
		t.Error("a process that is not there has memory")
	}
}

func TestDescendants(t *testing.T) {
	root := tree(t, map[int][2]string{10: {"", "11 13"}, 11: {"", "12"}, 12: {"", ""}, 13: {"", ""}, 14: {"", ""}})
	for limit, want := range map[int][]int{0: nil, 2: {11, 13}, 8: {11, 13, 12}} {
		if got := Descendants(root, 10, limit); !slices.Equal(got, want) {
			t.Errorf("at most %d: %v, want %v", limit, got, want)
		}
	}
	if got := Descendants(root, 99, 8); len(got) != 0 {
		t.Errorf("of nobody: %v", got)
	}
}

func TestLargest(t *testing.T) {
	root := tree(t, map[int][2]string{10: {"", "11 13"}, 11: {"", "12 15"}, 12: {"", ""}, 13: {"", ""}, 15: {"", ""}})
	// The first is the largest of all, and not below itself; 15 is gone.
	for pid, text := range map[int]string{10: "9000 8000 1\n", 11: "900 7 1\n", 12: "100 30 1\n", 13: "5000 29 1\n"} {
		if err := os.WriteFile(filepath.Join(root, strconv.Itoa(pid), "statm"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for pid, want := range map[int]int{10: 12, 11: 12, 13: 0, 99: 0} {
		got, err := Largest(root, pid)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("below %d: %d, %v; want %d", pid, got, err, want)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "13", "statm"), []byte("\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := Largest(root, 10); err == nil {
		t.Errorf("of a process without figures: %d", got)
	}
}

func TestNumber(t *testing.T) {
	root := tree(t, map[int][2]string{10: {"", ""}, 11: {"", ""}, 12: {"", ""}})
	for pid, text := range map[int]string{10: "Name:\tx\nNSpid:\t10\t4\n", 11: "Name:\tx\nNSpid:\n"} {
		if err := os.WriteFile(filepath.Join(root, strconv.Itoa(pid), "status"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for pid, want := range map[int]int{10: 4, 11: 0, 12: 0, 13: 0} {
		if got := Number(root, pid); got != want {
			t.Errorf("process %d is %d, want %d", pid, got, want)
		}
	}
}
