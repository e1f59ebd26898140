package interp

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// cacheSchema changes with the form of the cached file, and with what the
// closure contains.
const cacheSchema = "sbx interpreter 1"

// cache is one file per interpreter. What it says decides what a jail shows, so
// it is only read where nobody else can write.
type cache struct {
	dir  string
	file string // "" is no cache
}

// cacheKey names an interpreter in the state that it is in.
func cacheKey(exe, real string, hook []byte) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(real, &st); err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%q\n%q\n%d %d %d %d\n", cacheSchema, exe, real, st.Dev, st.Ino, st.Size, unix.TimespecToNsec(st.Mtim))
	h.Write(hook)
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

func openCache(dir, key string) cache {
	if dir == "" {
		return cache{}
	}
	return cache{dir: dir, file: filepath.Join(dir, "python-"+key)}
}

// private says whether only we can write below dir.
func private(dir string) bool {
	var st unix.Stat_t
	return unix.Lstat(dir, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR &&
		int(st.Uid) == os.Geteuid() && st.Mode&0o022 == 0
}

// read returns what is cached, nil where there is nothing that can be used.
func (c cache) read() *Interpreter {
	if c.file == "" || !private(c.dir) {
		return nil
	}
	data, err := os.ReadFile(c.file)
	if err != nil {
		return nil
	}
	in, stamps, err := decode(data)
	if err != nil {
		return nil
	}
	// A library that was upgraded or removed since then changes the closure.
	now, err := stampsOf(in)
	if err != nil || len(now) != len(stamps) {
		return nil
	}
	for i := range now {
		if now[i] != stamps[i] {
			return nil
		}
	}
	return in
}

// write keeps what was learnt. A cache that cannot be written costs time at the
// next run and is no error.
func (c cache) write(in *Interpreter) {
	if c.file == "" {
		return
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil || !private(c.dir) {
		return
	}
	stamps, err := stampsOf(in)
	if err != nil {
		return
	}
	f, err := os.CreateTemp(c.dir, ".python-*")
	if err != nil {
		return
	}
	_, err = f.Write(encode(in, stamps))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), c.file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
}

// stampsOf are the modification times of what the closure was computed from:
// files, and the directories of packages.
func stampsOf(in *Interpreter) ([]int64, error) {
	var out []int64
	for _, list := range [][]Mount{in.Mounts, in.SiteMounts} {
		for _, m := range list {
			var st unix.Stat_t
			if err := unix.Stat(m.Source, &st); err != nil {
				return nil, err
			}
			out = append(out, unix.TimespecToNsec(st.Mtim))
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
	e.number(uint64(len(stamps)))
	for _, s := range stamps {
		e.number(uint64(s))
	}
	sum := sha256.Sum256(e.buf)
	return append(e.buf, sum[:]...)
}

type encoder struct{ buf []byte }

func (e *encoder) number(n uint64) { e.buf = binary.LittleEndian.AppendUint64(e.buf, n) }

func (e *encoder) bytes(b []byte) {
	e.number(uint64(len(b)))
	e.buf = append(e.buf, b...)
}

var errCache = errors.New("not a cached interpreter")

func decode(data []byte) (*Interpreter, []int64, error) {
	if len(data) < sha256.Size {
		return nil, nil, errCache
	}
	body := data[:len(data)-sha256.Size]
	if sum := sha256.Sum256(body); string(sum[:]) != string(data[len(body):]) {
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
