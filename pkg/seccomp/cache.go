package seccomp

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxEntry bounds what is read from the cache.
const maxEntry = 256 + len(schema) + maxInstructions*instructionSize + 64

// CompileCached returns the compiled program of a policy from cacheDir, or
// compiles it and keeps it there. The cache only saves time: a directory or a
// file that somebody else could have written, and a damaged or foreign entry,
// are passed over and the policy is compiled. An empty cacheDir means no cache.
func CompileCached(p *Policy, cacheDir string) (Program, error) {
	if cacheDir == "" {
		return p.Compile()
	}
	dir, err := openCache(cacheDir)
	if err != nil {
		return p.Compile()
	}
	defer dir.Close()
	id := p.Key() + "-" + libraryVersion()
	name := "filter-" + id
	if prog, err := readEntry(dir, name, id); err == nil {
		return prog, nil
	}
	prog, err := p.Compile()
	if err != nil {
		return Program{}, err
	}
	// A full or read-only disk costs the next run a compilation, no more.
	_ = writeEntry(dir, name, id, prog)
	return prog, nil
}

// openCache opens the directory, made if needed, if nobody else can write to it.
func openCache(path string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags, 0)
	if errors.Is(err, unix.ENOENT) {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
		fd, err = unix.Open(path, flags, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open cache %s: %w", path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	if _, err := checkOwner(dir); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// checkOwner accepts what the effective user owns and nobody else may write.
func checkOwner(f *os.File) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return st, fmt.Errorf("%s can be written by others", f.Name())
	}
	return st, nil
}

// openIn opens name in dir. It follows no link, and waits for no writer of a
// FIFO.
func openIn(dir *os.File, name string, flags int) (*os.File, error) {
	flags |= unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(int(dir.Fd()), name, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open cache entry %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func readEntry(dir *os.File, name, id string) (Program, error) {
	f, err := openIn(dir, name, unix.O_RDONLY)
	if err != nil {
		return Program{}, err
	}
	defer f.Close()
	st, err := checkOwner(f)
	if err != nil {
		return Program{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > int64(maxEntry) {
		return Program{}, fmt.Errorf("%s is no cache entry", name)
	}
	b := make([]byte, st.Size)
	if _, err := io.ReadFull(f, b); err != nil {
		return Program{}, fmt.Errorf("read cache entry %s: %w", name, err)
	}
	// The entry repeats its name, so that a renamed file is not taken for the
	// program of another policy.
	rest, ok := bytes.CutPrefix(b, []byte(id+"\n"))
	if !ok {
		return Program{}, fmt.Errorf("%s holds another entry", name)
	}
	var prog Program
	if err := prog.UnmarshalBinary(rest); err != nil {
		return Program{}, err
	}
	return prog, nil
}

func writeEntry(dir *os.File, name, id string, prog Program) error {
	b, err := prog.MarshalBinary()
	if err != nil {
		return err
	}
	temp := name + "." + rand.Text()
	f, err := openIn(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.Write(append([]byte(id+"\n"), b...))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = unix.Renameat(int(dir.Fd()), temp, int(dir.Fd()), name)
	}
	if err != nil {
		err = errors.Join(err, unix.Unlinkat(int(dir.Fd()), temp, 0))
	}
	return err
}
