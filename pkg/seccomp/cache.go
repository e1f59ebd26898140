package seccomp

import (
	"bytes"
	"crypto/rand"
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
func openCache(path string) (*os.Root, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	f, err := dir.Open(".")
	if err == nil {
		err = checkOwner(f)
		f.Close()
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// checkOwner accepts what the effective user owns and nobody else may write.
func checkOwner(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s can be written by others", f.Name())
	}
	return nil
}

func readEntry(dir *os.Root, name, id string) (Program, error) {
	// O_NONBLOCK: an open of a FIFO must not wait for a writer.
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return Program{}, err
	}
	defer f.Close()
	if err := checkOwner(f); err != nil {
		return Program{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(maxEntry)+1))
	if err != nil {
		return Program{}, fmt.Errorf("read %s: %w", name, err)
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

func writeEntry(dir *os.Root, name, id string, prog Program) error {
	b, err := prog.MarshalBinary()
	if err != nil {
		return err
	}
	temp := name + "." + rand.Text()
	f, err := dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append([]byte(id+"\n"), b...))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = dir.Rename(temp, name)
	}
	if err != nil {
		_ = dir.Remove(temp)
	}
	return err
}
