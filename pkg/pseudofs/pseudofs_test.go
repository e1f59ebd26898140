package pseudofs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadFileReadsWhatIsThere(t *testing.T) {
	for _, size := range []int{0, 1, chunk - 1, chunk, chunk + 1, 10 * chunk} {
		name := filepath.Join(t.TempDir(), "file")
		want := bytes.Repeat([]byte("x"), size)
		if err := os.WriteFile(name, want, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d, %v", len(got), size, err)
		}
	}
}

// TestReadFileOfTheKernel reads files that have no size.
func TestReadFileOfTheKernel(t *testing.T) {
	for _, name := range []string{"/proc/self/status", "/proc/self/cgroup", "/proc/self/mountinfo", "/proc/self/limits"} {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadFile(name)
		if err != nil || bytes.Count(got, []byte("\n")) != bytes.Count(want, []byte("\n")) {
			t.Errorf("%s: %q, %v; want about %q", name, got, err, want)
		}
	}
}

func TestReadFileSaysWhatOsWouldSay(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{filepath.Join(dir, "missing"), dir, "/proc/self/mem"} {
		_, want := os.ReadFile(name)
		_, got := ReadFile(name)
		if want == nil || got == nil || got.Error() != want.Error() {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if _, err := ReadFile(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v does not say that it is not there", err)
	}
}
