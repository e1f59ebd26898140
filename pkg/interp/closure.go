package interp

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A tree gathers what a jail must show: real files and directories, and the
// symbolic links on the way to them. A jail's root begins empty, so
// /lib/x86_64-linux-gnu/libc.so.6 needs a link /lib and, where that leads, the
// file.
type tree struct {
	readlink func(string) (string, error) // a test seam; os.Readlink

	mounts []Mount
	links  []Symlink
}

// ZoneInfo is the folder of time zones, which the library reads by itself.
const ZoneInfo = "/usr/share/zoneinfo"

// maxLinks is how many links one path may pass, as path_resolution(7) has it.
const maxLinks = 40

// resolve follows every component of an absolute path. It notes each link that
// it passes and returns the path without links.
func (t *tree) resolve(name string) (string, error) {
	rest := strings.Split(strings.TrimPrefix(path.Clean(name), "/"), "/")
	real := "/"
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			real = path.Dir(real)
			continue
		}
		next := path.Join(real, part)
		target, err := t.readlink(next)
		if err != nil {
			real = next // no link
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("resolve %s: too many links", name)
		}
		if l := (Symlink{next, target}); !slices.Contains(t.links, l) {
			t.links = append(t.links, l)
		}
		if path.IsAbs(target) {
			real = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return real, nil
}

// add notes that name must be visible.
func (t *tree) add(name string, dir bool) (string, error) {
	real, err := t.resolve(name)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(t.mounts, func(m Mount) bool { return m.Source == real }) {
		t.mounts = append(t.mounts, Mount{real, real, dir})
	}
	return real, nil
}

// finish sorts parents before children and leaves out what a directory shows
// anyway.
func finish(mounts []Mount, links []Symlink, shown []Mount) ([]Mount, []Symlink) {
	slices.SortFunc(mounts, func(a, b Mount) int { return strings.Compare(a.Target, b.Target) })
	dirs := slices.DeleteFunc(slices.Concat(shown, mounts), func(m Mount) bool { return !m.Dir })
	inside := func(name string) bool {
		return slices.ContainsFunc(dirs, func(d Mount) bool { return strings.HasPrefix(name, d.Target+"/") })
	}
	mounts = slices.DeleteFunc(mounts, func(m Mount) bool { return inside(m.Target) || slices.Contains(shown, m) })
	links = slices.DeleteFunc(links, func(l Symlink) bool { return inside(l.Path) })
	return slices.Compact(mounts), links
}

// libraries resolves shared libraries with the interpreter's own loader.
type libraries struct {
	loader string
	known  map[string]bool // sonames that need no further look
	files  []string
}

// loaderOf reads PT_INTERP and DT_NEEDED of an ELF file.
func elfNeeds(file string) (loader string, needed []string, err error) {
	f, err := elf.Open(file)
	if err != nil {
		return "", nil, fmt.Errorf("read ELF file %s: %w", file, err)
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			data := make([]byte, p.Filesz)
			if _, err := p.ReadAt(data, 0); err != nil {
				return "", nil, fmt.Errorf("read PT_INTERP of %s: %w", file, err)
			}
			loader = string(bytes.TrimRight(data, "\x00"))
		}
	}
	needed, err = f.ImportedLibraries()
	if err != nil {
		return "", nil, fmt.Errorf("read DT_NEEDED of %s: %w", file, err)
	}
	return loader, needed, nil
}

// add finds what file is linked against. A file that cannot be read is no ELF
// file and is passed over: it is then unusable without sbx as well.
func (l *libraries) add(file string) {
	_, needed, err := elfNeeds(file)
	if err != nil || !slices.ContainsFunc(needed, func(n string) bool { return !l.known[n] }) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.loader, "--list", file)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.Output()
	if err != nil {
		return
	}
	for _, n := range needed {
		l.known[n] = true
	}
	for _, file := range parseList(out) {
		if !slices.Contains(l.files, file) {
			l.files = append(l.files, file)
		}
	}
}

// parseList reads what `ld.so --list` prints: "libz.so.1 => /lib/libz.so.1
// (0x7f...)" for what was found, "/lib64/ld-linux-x86-64.so.2 (0x7f...)" for the
// loader itself.
func parseList(out []byte) []string {
	var files []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if _, after, ok := strings.Cut(line, " => "); ok {
			line = after
		}
		if file, _, ok := strings.Cut(line, " (0x"); ok && path.IsAbs(file) {
			files = append(files, file)
		}
	}
	return files
}

// helpers are libraries that glibc opens by itself when they are needed:
// libgcc_s for pthread_exit(3) and cancellation.
var helpers = []string{"libgcc_s.so.1"}

// probeTime bounds each question to the interpreter and its loader.
const probeTime = 30 * time.Second

// closure computes what the jail must show for an interpreter.
func closure(in *Interpreter, given string, extensions []string) error {
	loader, _, err := elfNeeds(in.Path)
	if err != nil {
		return err
	}
	base := &tree{readlink: os.Readlink}
	for _, name := range []string{in.Path, given} {
		if _, err := base.add(name, false); err != nil {
			return err
		}
	}
	libs := &libraries{loader: loader, known: map[string]bool{}}
	if loader != "" {
		if _, err := base.add(loader, false); err != nil {
			return err
		}
		libs.add(in.Path)
		for _, ext := range extensions {
			libs.add(ext)
		}
	}
	dirs := []string{in.Stdlib}
	for _, p := range in.StdPath {
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			dirs = append(dirs, p)
		}
	}
	// The time zones, and the locale that the jail's LANG names.
	for _, dir := range []string{ZoneInfo, "/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8"} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if _, err := base.add(dir, true); err != nil {
			return err
		}
	}
	in.Runtime = in.Path
	for _, file := range slices.Concat(libs.files, findHelpers(libs.files)) {
		real, err := base.add(file, false)
		if err != nil {
			return err
		}
		if strings.HasPrefix(path.Base(real), "libpython3.") {
			in.Runtime = real
		}
	}
	in.Mounts, in.Symlinks = finish(base.mounts, base.links, nil)

	site := &tree{readlink: os.Readlink}
	siteLibs := &libraries{loader: loader, known: libs.known}
	for _, dir := range in.SitePackages {
		if _, err := site.add(dir, true); err != nil {
			return err
		}
		if loader != "" {
			siteLibs.scan(dir)
		}
		if slices.ContainsFunc(in.Mounts, func(m Mount) bool { return m.Dir && strings.HasPrefix(dir, m.Target+"/") }) {
			in.Hide = append(in.Hide, dir)
		}
	}
	for _, file := range siteLibs.files {
		if _, err := site.add(file, false); err != nil {
			return err
		}
	}
	in.SiteMounts, in.SiteSymlinks = finish(site.mounts, site.links, in.Mounts)
	in.SiteSymlinks = slices.DeleteFunc(in.SiteSymlinks, func(l Symlink) bool { return slices.Contains(in.Symlinks, l) })
	return nil
}

// maxScan bounds how many files of installed packages are looked at.
const maxScan = 200_000

// scan adds the libraries of every extension module below dir.
func (l *libraries) scan(dir string) {
	seen := 0
	// What cannot be read is not usable without sbx either.
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if seen++; seen > maxScan {
			return fs.SkipAll
		}
		if err == nil && d.Type().IsRegular() && (strings.HasSuffix(name, ".so") || strings.Contains(d.Name(), ".so.")) {
			l.add(name)
		}
		return nil
	})
}

func findHelpers(files []string) []string {
	var out []string
	for _, file := range files {
		for _, h := range helpers {
			name := path.Join(path.Dir(file), h)
			if _, err := os.Stat(name); err == nil && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}
