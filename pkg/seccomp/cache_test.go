package seccomp

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
)

func cached(t *testing.T, p *Policy, dir string) Program {
	t.Helper()
	prog, err := CompileCached(p, dir)
	if err != nil {
		t.Fatal(err)
	}
	return prog
}

// entries returns the files in dir, and fails if one is a left-over.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// plant writes a valid entry for p that holds another program, to tell whether
// the entry is used.
func plant(t *testing.T, p *Policy, dir string) (file string, prog Program) {
	t.Helper()
	cached(t, p, dir)
	files := entries(t, dir)
	if len(files) != 1 {
		t.Fatalf("the cache has %q, want one entry", files)
	}
	prog = Program{Filter: []unix.SockFilter{{Code: 6, K: unix.SECCOMP_RET_KILL_PROCESS}}}
	id := p.Key() + "-" + libraryVersion()
	if err := os.WriteFile(files[0], append([]byte(id+"\n"), marshal(t, prog)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return files[0], prog
}

func TestCacheIsUsed(t *testing.T) {
	p := resolve(t, profile.Seccomp{Groups: []string{"base"}})
	dir := filepath.Join(t.TempDir(), "made", "on", "demand")
	_, planted := plant(t, p, dir)
	if got := cached(t, p, dir); !slices.Equal(got.Filter, planted.Filter) {
		t.Error("the entry was not used")
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the directory was made with mode %v (%v)", st.Mode(), err)
	}
	other := resolve(t, profile.Seccomp{Groups: []string{"base"}}, 1000)
	if got := cached(t, other, dir); slices.Equal(got.Filter, planted.Filter) {
		t.Error("the entry of another policy was used")
	}
	if files := entries(t, dir); len(files) != 2 {
		t.Errorf("the cache has %q, want two entries", files)
	}
}

func TestCacheIsPassedOver(t *testing.T) {
	p := resolve(t, profile.Seccomp{Groups: []string{"base"}})
	want, err := p.Compile()
	if err != nil {
		t.Fatal(err)
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]func(t *testing.T, dir, file string){
		"others may write to the directory": func(t *testing.T, dir, _ string) { must(t, os.Chmod(dir, 0o777)) },
		"a group may write to it":           func(t *testing.T, dir, _ string) { must(t, os.Chmod(dir, 0o770)) },
		"others may write to the file":      func(t *testing.T, _, file string) { must(t, os.Chmod(file, 0o602)) },
		"damaged":                           func(t *testing.T, _, file string) { must(t, os.Truncate(file, 100)) },
		"empty":                             func(t *testing.T, _, file string) { must(t, os.Truncate(file, 0)) },
		"huge":                              func(t *testing.T, _, file string) { must(t, os.Truncate(file, 1<<40)) },
		"a link": func(t *testing.T, dir, file string) {
			must(t, os.Rename(file, filepath.Join(dir, "elsewhere")))
			must(t, os.Symlink("elsewhere", file))
		},
		"a FIFO": func(t *testing.T, _, file string) {
			must(t, os.Remove(file))
			must(t, unix.Mkfifo(file, 0o600))
		},
		"a directory": func(t *testing.T, _, file string) {
			must(t, os.Remove(file))
			must(t, os.Mkdir(file, 0o700))
		},
		"the entry of another policy": func(t *testing.T, dir, file string) {
			other, _ := plant(t, resolve(t, profile.Seccomp{}), t.TempDir())
			must(t, os.Rename(other, file))
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.Chmod(dir, 0o700))
			file, _ := plant(t, p, dir)
			spoil(t, dir, file)
			if got := cached(t, p, dir); !slices.Equal(got.Filter, want.Filter) {
				t.Error("not the compiled program")
			}
		})
	}
	t.Run("owned by another user", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can give a directory away")
		}
		dir := t.TempDir()
		must(t, os.Chmod(dir, 0o700))
		plant(t, p, dir)
		must(t, os.Chown(dir, 65534, 65534))
		if got := cached(t, p, dir); !slices.Equal(got.Filter, want.Filter) {
			t.Error("not the compiled program")
		}
	})
	t.Run("no directory", func(t *testing.T) {
		for _, dir := range []string{"", "/proc/nowhere/at/all"} {
			if got := cached(t, p, dir); !slices.Equal(got.Filter, want.Filter) {
				t.Errorf("%q: not the compiled program", dir)
			}
		}
	})
}

func TestDamagedEntryIsReplaced(t *testing.T) {
	p := resolve(t, profile.Seccomp{Groups: []string{"base"}})
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file, _ := plant(t, p, dir)
	if err := os.Truncate(file, 50); err != nil {
		t.Fatal(err)
	}
	prog := cached(t, p, dir)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < len(marshal(t, prog)) {
		t.Error("the damaged entry is still there")
	}
	if files := entries(t, dir); len(files) != 1 {
		t.Errorf("left behind: %q", files)
	}
}

func BenchmarkCompileCached(b *testing.B) {
	p, err := Resolve(profile.Seccomp{Groups: []string{"base", "threads", "sockets-pair", "files-write"}}, []int{1000})
	if err != nil {
		b.Fatal(err)
	}
	dir := filepath.Join(b.TempDir(), "cache")
	for b.Loop() {
		if _, err := CompileCached(p, dir); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	p, err := Resolve(profile.Seccomp{Groups: []string{"base", "threads", "sockets-pair", "files-write"}}, []int{1000})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := p.Compile(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	s := profile.Seccomp{Groups: []string{"base", "threads", "sockets-pair", "files-write"}}
	for b.Loop() {
		if _, err := Resolve(s, []int{1000}); err != nil {
			b.Fatal(err)
		}
	}
}
