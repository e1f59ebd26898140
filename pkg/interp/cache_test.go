package interp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pystack"
)

// privateDir is a folder that only we can write to.
func privateDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "cache")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// onlyFile is the one file that a cache holds.
func onlyFile(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Fatalf("the cache holds %v, want one file", entries)
	}
	return filepath.Join(dir, entries[0].Name())
}

// marked is a version that no interpreter has: seeing it proves that the cached
// file was used, and not seeing it that it was not.
const marked = "3.11.2 from the cache"

// markedCache loads an interpreter once and then marks what is cached of it.
func markedCache(t *testing.T, exe string) (dir, file string) {
	t.Helper()
	dir = privateDir(t)
	if _, err := Load(exe, dir); err != nil {
		t.Fatal(err)
	}
	file = onlyFile(t, dir)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in, stamps, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	in.Version = marked
	if err := os.WriteFile(file, encode(in, stamps), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func loadedVersion(t *testing.T, exe, dir string) string {
	t.Helper()
	in, err := Load(exe, dir)
	if err != nil {
		t.Fatal(err)
	}
	return in.Version
}

func TestCacheIsUsedWhileNothingHasChanged(t *testing.T) {
	exe := fakePython(t, goodAnswer())
	dir, _ := markedCache(t, exe)
	if got := loadedVersion(t, exe, dir); got != marked {
		t.Errorf("version %q, want the cached one", got)
	}
	if got := loadedVersion(t, exe, ""); got == marked {
		t.Error("a cache was used although none was named")
	}
}

func TestCacheHitEqualsTheFreshResult(t *testing.T) {
	for name, exe := range interpreters(t) {
		t.Run(name, func(t *testing.T) {
			dir := privateDir(t)
			fresh, err := Load(exe, "")
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the first one fills the cache
				got, err := Load(exe, dir)
				if err != nil {
					t.Fatal(err)
				}
				same(t, got, fresh)
			}
			if cached := openCache(dir, filepath.Base(onlyFile(t, dir))[len("python-"):]).read(); cached == nil {
				t.Error("the second answer did not come from the cache")
			}
		})
	}
}

// later moves a file's or folder's modification time, as a change would.
func later(t *testing.T, name string) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, time.Time{}, info.ModTime().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
}

func TestCacheIsNotUsedAfterAChange(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, root, exe string)
	}{
		{"the interpreter was changed", func(t *testing.T, _, exe string) { later(t, exe) }},
		{"the interpreter was replaced", func(t *testing.T, _, exe string) {
			data, err := os.ReadFile(exe)
			if err != nil {
				t.Fatal(err)
			}
			old, err := os.Stat(exe)
			if err != nil {
				t.Fatal(err)
			}
			// Another file with the same size and time, as a package manager leaves it.
			put(t, 0o755, string(data), exe+".new")
			if err := errors.Join(os.Chtimes(exe+".new", time.Time{}, old.ModTime()), os.Rename(exe+".new", exe)); err != nil {
				t.Fatal(err)
			}
		}},
		{"a module was added to the standard library", func(t *testing.T, root, _ string) { later(t, filepath.Join(root, "lib")) }},
		{"an extension module was added", func(t *testing.T, root, _ string) { later(t, filepath.Join(root, "lib/dynload")) }},
		{"a package was installed", func(t *testing.T, root, _ string) { later(t, filepath.Join(root, "lib/site-packages")) }},
		{"a folder of packages was removed", func(t *testing.T, root, _ string) {
			if err := os.Remove(filepath.Join(root, "lib/site-packages")); err != nil {
				t.Fatal(err)
			}
		}},
		{"it became a virtual environment", func(t *testing.T, _, exe string) {
			put(t, 0o644, "home = /usr/bin\n", filepath.Dir(filepath.Dir(exe)), "pyvenv.cfg")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for _, dir := range []string{"lib/dynload", "lib/site-packages"} {
				if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			a := goodAnswer()
			a.Stdlib = filepath.Join(root, "lib")
			a.StdPath = []string{a.Stdlib, filepath.Join(root, "lib/dynload")}
			a.SitePackages = []string{filepath.Join(root, "lib/site-packages")}
			exe := ownFakePython(t, a)
			dir, _ := markedCache(t, exe)
			if got := loadedVersion(t, exe, dir); got != marked {
				t.Fatalf("before the change: version %q, want the cached one", got)
			}
			c.change(t, root, exe)
			a.SitePackages = nil
			say(t, exe, a)
			if got := loadedVersion(t, exe, dir); got != goodAnswer().Version {
				t.Errorf("version %q, want a fresh answer", got)
			}
		})
	}
}

func TestCacheKeyTellsApart(t *testing.T) {
	exe := put(t, 0o755, elfStart, t.TempDir(), "bin", "python3")
	key := func(exe, real, hook string) string {
		t.Helper()
		k, err := cacheKey(exe, real, []byte(hook))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	base := key(exe, exe, "hook")
	if base != key(exe, exe, "hook") {
		t.Error("the same question has two keys")
	}
	other := put(t, 0o755, elfStart, filepath.Dir(exe), "python3.11")
	for what, k := range map[string]string{
		"another name": key(exe+"x", exe, "hook"), "another file": key(exe, other, "hook"),
		"another hook": key(exe, exe, "hooK"), "a longer hook": key(exe, exe, "hook "),
	} {
		if k == base {
			t.Errorf("%s has the same key", what)
		}
	}
	if _, err := cacheKey(exe, exe+"-gone", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A cache that somebody else can write to must never decide what is mounted.
func TestCacheThatIsNotOursAloneIsIgnored(t *testing.T) {
	needRoot := func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can give files away")
		}
	}
	must := func(t *testing.T, errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir, file string)
	}{
		{"a folder that everybody can write to", func(t *testing.T, dir, _ string) { must(t, os.Chmod(dir, 0o777)) }},
		{"the same with the sticky bit", func(t *testing.T, dir, _ string) { must(t, os.Chmod(dir, 0o777|fs.ModeSticky)) }},
		{"a folder that a group can write to", func(t *testing.T, dir, _ string) { must(t, os.Chmod(dir, 0o770)) }},
		{"another user's folder", func(t *testing.T, dir, _ string) { needRoot(t); must(t, os.Chown(dir, 65534, 65534)) }},
		{"a link to a folder", func(t *testing.T, dir, _ string) { must(t, os.Rename(dir, dir+"2"), os.Symlink(dir+"2", dir)) }},
		{"a file that everybody can write to", func(t *testing.T, _, file string) { must(t, os.Chmod(file, 0o606)) }},
		{"a file that a group can write to", func(t *testing.T, _, file string) { must(t, os.Chmod(file, 0o660)) }},
		{"another user's file", func(t *testing.T, _, file string) { needRoot(t); must(t, os.Chown(file, 65534, 65534)) }},
		{"a link to a file", func(t *testing.T, _, file string) {
			elsewhere := filepath.Join(t.TempDir(), "file")
			must(t, os.Rename(file, elsewhere), os.Symlink(elsewhere, file))
		}},
		{"a FIFO, which is not waited for", func(t *testing.T, _, file string) { must(t, os.Remove(file), unix.Mkfifo(file, 0o600)) }},
		{"a folder for a file", func(t *testing.T, _, file string) { must(t, os.Remove(file), os.Mkdir(file, 0o700)) }},
		{"a file without end", func(t *testing.T, _, file string) { must(t, os.Truncate(file, maxCached+1)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			exe := fakePython(t, goodAnswer())
			dir, file := markedCache(t, exe)
			c.spoil(t, dir, file)
			if got := loadedVersion(t, exe, dir); got != goodAnswer().Version {
				t.Errorf("version %q, want a fresh answer", got)
			}
		})
	}
}

func TestNothingIsWrittenToACacheThatIsNotOursAlone(t *testing.T) {
	exe := fakePython(t, goodAnswer())
	dir := privateDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	loadedVersion(t, exe, dir)
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil {
		t.Errorf("it holds %v, %v", entries, err)
	}
}

func TestCachedFileIsOursAlone(t *testing.T) {
	exe := fakePython(t, goodAnswer())
	dir := filepath.Join(t.TempDir(), "made", "on", "the", "way")
	loadedVersion(t, exe, dir)
	for _, name := range []string{dir, onlyFile(t, dir)} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode()&0o077 != 0 {
			t.Errorf("%s has mode %s", name, info.Mode())
		}
	}
}

func TestDamagedCacheIsReplaced(t *testing.T) {
	good := encode(sample(), []int64{1, 2})
	for _, c := range []struct {
		name   string
		damage func(data []byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"one byte", func(data []byte) []byte { return data[:1] }},
		{"cut in the middle", func(data []byte) []byte { return data[:len(data)/2] }},
		{"without its last byte", func(data []byte) []byte { return data[:len(data)-1] }},
		{"a byte too much", func(data []byte) []byte { return append(data, 0) }},
		{"a flipped bit", func(data []byte) []byte { data[len(data)/2] ^= 1; return data }},
		{"zeros, as after a power failure", func(data []byte) []byte { return make([]byte, len(data)) }},
		{"another form", func([]byte) []byte {
			var e encoder
			e.bytes([]byte("sbx interpreter 1"))
			return seal(e.buf)
		}},
		{"of another interpreter", func([]byte) []byte { return good }},
		{"text", func([]byte) []byte { return []byte(`{"version": "3.11.2"}`) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			exe := fakePython(t, goodAnswer())
			dir, file := markedCache(t, exe)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			put(t, 0o600, string(c.damage(data)), file)
			if got := loadedVersion(t, exe, dir); got != goodAnswer().Version {
				t.Errorf("version %q, want a fresh answer", got)
			}
			repaired, err := os.ReadFile(onlyFile(t, dir))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := decode(repaired); err != nil {
				t.Errorf("what was damaged is not replaced: %v", err)
			}
		})
	}
}

func TestCacheThatCannotBeWrittenIsNoError(t *testing.T) {
	exe := fakePython(t, goodAnswer())
	file := put(t, 0o600, "", t.TempDir(), "file")
	for _, dir := range []string{file, filepath.Join(file, "below"), "/proc/sbx", "/proc/self/fdinfo"} {
		if got := loadedVersion(t, exe, dir); got != goodAnswer().Version {
			t.Errorf("%s: version %q", dir, got)
		}
	}
}

func TestConcurrentWritersLeaveOneWholeFile(t *testing.T) {
	dir := privateDir(t)
	c := openCache(dir, "key")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			in := sample()
			in.Version = fmt.Sprint(i)
			in.Boot = make([]byte, 100_000) // more than one write of a pipe's size
			for range 20 {
				c.write(in)
				got := c.read()
				if got == nil {
					t.Error("what was written cannot be read")
					return
				}
				if len(got.Boot) != len(in.Boot) {
					t.Errorf("%d bytes of %d", len(got.Boot), len(in.Boot))
				}
			}
		})
	}
	wg.Wait()
	onlyFile(t, dir)
}

// sample is an interpreter with something in every field, of paths that exist.
func sample() *Interpreter {
	return &Interpreter{
		Path: "/usr/bin/python3.11", Version: "3.11.2", Major: 3, Minor: 11, Implementation: "cpython",
		Prefix: "/usr", ExecPrefix: "/usr/exec", Stdlib: "/usr/lib", StdPath: []string{"/usr", "/usr/lib"},
		SitePackages: []string{"/usr/share"}, Hide: []string{"/usr/lib/site"},
		Mounts:     []Mount{{"/", "/", true}, {"/usr", "/usr/2", true}, {"/proc/self/exe", "/exe", false}},
		SiteMounts: []Mount{{"/usr/share", "/usr/share", true}}, Symlinks: []Symlink{{"/lib", "usr/lib"}, {"", ""}},
		SiteSymlinks: []Symlink{{"/a b", "c\nd"}}, Runtime: "/usr/bin/python3.11", Boot: []byte{0, 1, 2, 255},
		Image: pystack.Image{Symbol: 0xa5b740, First: 0x400000, Fixed: true, Offsets: []byte("xdebugpy")},
	}
}

func TestCodecCarriesEveryField(t *testing.T) {
	in := sample()
	v := reflect.ValueOf(*in)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("the sample has nothing in %s", v.Type().Field(i).Name)
		}
	}
	stamps := []int64{0, -1, 1 << 62}
	got, gotStamps, err := decode(encode(in, stamps))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, in) || !slices.Equal(gotStamps, stamps) {
		t.Errorf("got  %+v %v\nwant %+v %v", got, gotStamps, in, stamps)
	}
}

func TestDecodeRefusesEveryShorterBody(t *testing.T) {
	whole := encode(sample(), []int64{1})
	body := whole[:len(whole)-4]
	for n := range body {
		if _, _, err := decode(seal(slices.Clone(body[:n]))); err == nil {
			t.Fatalf("%d of %d bytes were taken for the whole", n, len(body))
		}
	}
	if _, _, err := decode(seal(append(slices.Clone(body), 0))); err == nil {
		t.Error("a byte too much was overlooked")
	}
}

func FuzzDecode(f *testing.F) {
	whole := encode(sample(), []int64{1})
	f.Add(whole[:len(whole)-4])
	empty := encode(&Interpreter{}, nil)
	f.Add(empty[:len(empty)-4])
	f.Add([]byte{})
	var huge encoder
	huge.bytes([]byte(cacheSchema))
	huge.number(1 << 63)
	f.Add(huge.buf)
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, _, err := decode(body); err == nil && len(body) < 4 {
			t.Error("a body without a checksum was taken")
		}
		in, stamps, err := decode(seal(slices.Clone(body)))
		if (in == nil) != (err != nil) {
			t.Fatalf("both or neither: %v, %v", in, err)
		}
		if err != nil {
			return
		}
		again, stampsAgain, err := decode(encode(in, stamps))
		if err != nil || !reflect.DeepEqual(again, in) || !slices.Equal(stampsAgain, stamps) {
			t.Errorf("%+v comes back as %+v, %v", in, again, err)
		}
	})
}

// The warm path of every run: find the interpreter, read what is known of it.
func BenchmarkWarm(b *testing.B) {
	path := os.Getenv("PATH")
	exe, err := Find("", path)
	if err != nil {
		b.Fatal(err)
	}
	dir := privateDir(b)
	in, err := Load(exe, dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Find", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Find("", path); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Load(exe, dir); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stamps", func(b *testing.B) {
		for b.Loop() {
			if _, err := stampsOf(in); err != nil {
				b.Fatal(err)
			}
		}
	})
	data := encode(in, nil)
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, _, err := decode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
