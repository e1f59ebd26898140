package interp

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// cacheSchema changes with the form of the cached file, and with what the
// closure contains.
const cacheSchema = "sbx interpreter 3"

// cache is one file per interpreter. What it says decides what a jail shows, so
// it is only read where nobody else can write.
type cache struct {
	dir  string
	file string // its name in dir; "" is no cache
}

// cacheKey names an interpreter in the state that it is in, with the questions
// that it was asked. The hook is told from its other versions by a checksum: it
// comes with sbx, and a digest that withstands attack would be a tenth of the
// work of a start.
func cacheKey(exe, real string, hook []byte) (string, error) {
	var st, venv unix.Stat_t
	if err := unix.Stat(real, &st); err != nil {
		return "", err
	}
	// It decides which packages there are (PEP 405), and may come later.
	if err := unix.Stat(filepath.Join(filepath.Dir(filepath.Dir(exe)), "pyvenv.cfg"), &venv); err != nil {
		venv = unix.Stat_t{}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%q\n%q\n", cacheSchema, exe, real)
	for _, st := range []unix.Stat_t{st, venv} {
		fmt.Fprintln(h, st.Dev, st.Ino, st.Size, unix.TimespecToNsec(st.Mtim))
	}
	fmt.Fprintln(h, len(probeSource), crc32.ChecksumIEEE([]byte(probeSource)), len(hook), crc32.ChecksumIEEE(hook))
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

func openCache(dir, key string) cache {
	if dir == "" {
		return cache{}
	}
	return cache{dir: dir, file: "python-" + key}
}

// private says whether only we can write to what fd refers to.
func private(fd int, kind uint32) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == kind &&
		int(st.Uid) == os.Geteuid() && st.Mode&0o022 == 0
}

// directory opens the cache's directory, if it is ours alone. Everything else
// goes through the descriptor, so that a name that changes its meaning changes
// nothing.
func (c cache) directory() (int, bool) {
	fd, err := unix.Open(c.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, false
	}
	if !private(fd, unix.S_IFDIR) {
		unix.Close(fd)
		return -1, false
	}
	return fd, true
}

// maxCached bounds how large a cached file may be.
const maxCached = 32 << 20

// load returns the bytes of the cached file, nil where there is none to trust.
func (c cache) load() []byte {
	dir, ok := c.directory()
	if !ok {
		return nil
	}
	defer unix.Close(dir)
	// Not blocking: what stands there may be a FIFO.
	fd, err := unix.Openat(dir, c.file, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), c.file)
	defer f.Close()
	var st unix.Stat_t
	if !private(fd, unix.S_IFREG) || unix.Fstat(fd, &st) != nil || st.Size > maxCached {
		return nil
	}
	data := make([]byte, st.Size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil
	}
	return data
}

// read returns what is cached, nil where there is nothing that can be used.
func (c cache) read() *Interpreter {
	if c.file == "" {
		return nil
	}
	in, stamps, err := decode(c.load())
	if err != nil {
		return nil
	}
	// A library that was upgraded or removed since then changes the closure.
	now, err := stampsOf(in)
	if err != nil || !slices.Equal(now, stamps) {
		return nil
	}
	return in
}

// write keeps what was learnt. A cache that cannot be written costs time at the
// next run and is no error.
func (c cache) write(in *Interpreter) {
	if c.file == "" || os.MkdirAll(c.dir, 0o700) != nil {
		return
	}
	dir, ok := c.directory()
	if !ok {
		return
	}
	defer unix.Close(dir)
	stamps, err := stampsOf(in)
	if err != nil {
		return
	}
	// Written beside it and renamed: a reader sees all of it or nothing, and of
	// several writers the last one wins.
	name := fmt.Sprintf(".python-%x", rand.Uint64())
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(encode(in, stamps))
	if err = errors.Join(err, f.Close()); err == nil {
		err = unix.Renameat(dir, name, dir, c.file)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, name, 0)
	}
}

// stampsOf are the modification times of what the closure was computed from:
// files, and the directories of modules and packages. Those that lie in a
// directory which is shown as a whole count as well: a new extension module
// brings new libraries.
func stampsOf(in *Interpreter) ([]int64, error) {
	out := make([]int64, 0, len(in.Mounts)+len(in.SiteMounts)+len(in.StdPath)+len(in.SitePackages))
	stamp := func(name string) error {
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			return err
		}
		out = append(out, unix.TimespecToNsec(st.Mtim))
		return nil
	}
	for _, list := range [][]Mount{in.Mounts, in.SiteMounts} {
		for _, m := range list {
			if err := stamp(m.Source); err != nil {
				return nil, err
			}
		}
	}
	for _, list := range [][]string{in.StdPath, in.SitePackages} {
		for _, name := range list {
			if err := stamp(name); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// The file: every value with its length before it, little endian, in the order
// of fields below, closed by a checksum.

func encode(in *Interpreter, stamps []int64) []byte {
	var e encoder
	e.bytes([]byte(cacheSchema))
	for _, s := range []string{in.Path, in.Version, in.Implementation, in.Prefix, in.ExecPrefix, in.Stdlib, in.Runtime} {
		e.bytes([]byte(s))
	}
	e.number(uint64(in.Major))
	e.number(uint64(in.Minor))
	for _, list := range [][]string{in.StdPath, in.SitePackages, in.Hide} {
		e.number(uint64(len(list)))
		for _, s := range list {
			e.bytes([]byte(s))
		}
	}
	for _, list := range [][]Mount{in.Mounts, in.SiteMounts} {
		e.number(uint64(len(list)))
		for _, m := range list {
			e.bytes([]byte(m.Source))
			e.bytes([]byte(m.Target))
			dir := uint64(0)
			if m.Dir {
				dir = 1
			}
			e.number(dir)
		}
	}
	for _, list := range [][]Symlink{in.Symlinks, in.SiteSymlinks} {
		e.number(uint64(len(list)))
		for _, l := range list {
			e.bytes([]byte(l.Path))
			e.bytes([]byte(l.Target))
		}
	}
	e.bytes(in.Boot)
	fixed := uint64(0)
	if in.Image.Fixed {
		fixed = 1
	}
	for _, n := range []uint64{in.Image.Symbol, in.Image.First, fixed} {
		e.number(n)
	}
	e.bytes(in.Image.Offsets)
	e.number(uint64(len(stamps)))
	for _, s := range stamps {
		e.number(uint64(s))
	}
	return seal(e.buf)
}

// seal closes a body with its checksum. That finds a file that was cut off or
// damaged; against malice there is only that nobody else may write to it.
func seal(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(body, crc32.ChecksumIEEE(body))
}

type encoder struct{ buf []byte }

func (e *encoder) number(n uint64) { e.buf = binary.LittleEndian.AppendUint64(e.buf, n) }

func (e *encoder) bytes(b []byte) {
	e.number(uint64(len(b)))
	e.buf = append(e.buf, b...)
}

var errCache = errors.New("not a cached interpreter")

func decode(data []byte) (*Interpreter, []int64, error) {
	if len(data) < crc32.Size {
		return nil, nil, errCache
	}
	body, sum := data[:len(data)-crc32.Size], data[len(data)-crc32.Size:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return nil, nil, errCache
	}
	d := &decoder{rest: body}
	if d.text() != cacheSchema {
		return nil, nil, errCache
	}
	in := &Interpreter{}
	for _, s := range []*string{&in.Path, &in.Version, &in.Implementation, &in.Prefix, &in.ExecPrefix, &in.Stdlib, &in.Runtime} {
		*s = d.text()
	}
	in.Major, in.Minor = int(d.number()), int(d.number())
	for _, list := range []*[]string{&in.StdPath, &in.SitePackages, &in.Hide} {
		for range d.count(8) {
			*list = append(*list, d.text())
		}
	}
	for _, list := range []*[]Mount{&in.Mounts, &in.SiteMounts} {
		for range d.count(24) {
			*list = append(*list, Mount{d.text(), d.text(), d.number() == 1})
		}
	}
	for _, list := range []*[]Symlink{&in.Symlinks, &in.SiteSymlinks} {
		for range d.count(16) {
			*list = append(*list, Symlink{d.text(), d.text()})
		}
	}
	in.Boot = d.take(d.count(1))
	in.Image.Symbol, in.Image.First, in.Image.Fixed = d.number(), d.number(), d.number() == 1
	if offsets := d.take(d.count(1)); len(offsets) > 0 {
		in.Image.Offsets = offsets
	}
	stamps := make([]int64, d.count(8))
	for i := range stamps {
		stamps[i] = int64(d.number())
	}
	if d.bad || len(d.rest) > 0 {
		return nil, nil, errCache
	}
	return in, stamps, nil
}

// decoder reads what encode wrote; after the first mistake it yields zeros.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.rest) {
		d.bad = true
		return nil
	}
	out := d.rest[:n:n]
	d.rest = d.rest[n:]
	return out
}

func (d *decoder) number() uint64 {
	b := d.take(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

// count reads a length of items that take at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.number()
	if n > uint64(len(d.rest)/size) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) text() string { return string(d.take(d.count(1))) }
