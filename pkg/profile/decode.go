package profile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
)

// maxFile bounds a profile; the built-in ones are below 2 KiB, and one that
// names every system call of the kernel is below 16.
const maxFile = 64 << 10

// maxChain bounds a chain of extends.
const maxChain = 8

// FieldError is a mistake in a profile or in a flag that overrides one.
type FieldError struct {
	File         string // "" for a flag
	Line, Column int    // 0 when not known
	Path         string // seccomp.rules[3].errno, or --memory
	Problem      string
	Hint         string
}

func (e *FieldError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
		}
		b.WriteString(": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	return b.String() + e.Problem
}

// isFile says that a profile is named by its path.
func isFile(name string) bool {
	return strings.ContainsRune(name, filepath.Separator) || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
}

// Load reads a built-in profile by name or a file by path, with everything that
// it extends and imports. It does not validate.
func Load(nameOrPath string) (*Profile, error) {
	l := newLoader()
	p, err := l.load(nameOrPath, place{})
	if err != nil {
		return nil, err
	}
	l.finish(p)
	return p, nil
}

// LoadValid is Load followed by Validate, whose mistakes are then located in
// the file. A built-in profile is valid, as a test shows, and known is not asked.
func LoadValid(nameOrPath string, known func() Known) (*Profile, error) {
	p, _, err := Inspect(nameOrPath, known)
	return p, err
}

// Inspect is LoadValid that also says what came of an import; nil is none.
func Inspect(nameOrPath string, known func() Known) (*Profile, *Import, error) {
	if !isFile(nameOrPath) {
		p, err := Load(nameOrPath)
		return p, nil, err
	}
	l := newLoader()
	p, err := l.load(nameOrPath, place{})
	if err != nil {
		return nil, nil, err
	}
	k := known()
	if l.imported != nil && k.Importable != nil {
		l.imported.Rules, l.imported.Refused = k.Importable(l.imported.Rules)
	}
	if err := p.Validate(k); err != nil {
		return nil, nil, l.locate(nameOrPath, err)
	}
	l.finish(p)
	return p, l.imported, nil
}

// loader reads one profile and what it builds on.
type loader struct {
	builtin  func(name string) (*Profile, error)
	chain    []string
	places   map[string]place // where the value of each key was read
	imported *Import
}

func newLoader() *loader {
	return &loader{builtin: loadBuiltin, places: map[string]place{}}
}

func loadBuiltin(name string) (*Profile, error) {
	if p := builtin(name); p != nil {
		return p, nil
	}
	hint := "profiles: " + strings.Join(Builtin(), " ") + "; or the path of a .yaml file"
	if near := nearest(name, Builtin()); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return nil, &FieldError{File: word(name), Problem: "no such profile", Hint: hint}
}

// load reads a profile; from is where another one names it.
func (l *loader) load(name string, from place) (*Profile, error) {
	asked := func(err error) error {
		var e *FieldError
		if from.file == "" || !errors.As(err, &e) {
			return err
		}
		return from.mistake(e.File+": "+e.Problem, e.Hint)
	}
	if !isFile(name) {
		p, err := l.builtin(name)
		return p, asked(err)
	}
	if id := filepath.Clean(name); slices.Contains(l.chain, id) {
		return nil, from.mistake("goes round in a circle: "+strings.Join(append(l.chain, id), " -> "), "")
	} else if l.chain = append(l.chain, id); len(l.chain) > maxChain {
		return nil, from.mistake(fmt.Sprintf("is a chain of more than %d profiles", maxChain), "")
	}
	data, err := readFile(name, maxFile)
	if err != nil {
		return nil, asked(err)
	}
	p, err := l.decode(name, data)
	if err != nil {
		return nil, err
	}
	if p.Name == "" {
		p.Name = strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
	}
	return p, nil
}

// decode reads a document over the profile that it extends: what it does not
// mention stays as it is there.
func (l *loader) decode(file string, data []byte) (*Profile, error) {
	doc, err := document(file, data)
	if err != nil {
		return nil, err
	}
	d := decoder{file: file, places: map[string]place{}}
	own := &Profile{}
	if err := d.mapping("", doc, reflect.ValueOf(own).Elem()); err != nil {
		return nil, err
	}
	p := &Profile{}
	if own.Extends != "" {
		if isFile(own.Extends) {
			own.Extends = beside(file, own.Extends)
		}
		if p, err = l.load(own.Extends, d.places["extends"]); err != nil {
			return nil, err
		}
		// Whoever reads the name in a report shall not take it for the parent.
		p.Name, p.Description = "", ""
	}
	// Again, now over what is inherited; there is no mistake left to find.
	if err := d.mapping("", doc, reflect.ValueOf(p).Elem()); err != nil {
		return nil, err
	}
	p.Extends = own.Extends
	l.remember(d.places)
	for i, g := range p.Seccomp.AddGroups {
		if !slices.Contains(p.Seccomp.Groups, g) {
			l.places[fmt.Sprintf("seccomp.groups[%d]", len(p.Seccomp.Groups))] = l.places[fmt.Sprintf("seccomp.add_groups[%d]", i)]
			p.Seccomp.Groups = append(slices.Clip(p.Seccomp.Groups), g)
		}
	}
	p.Seccomp.AddGroups = nil
	if own.Seccomp.Import != "" {
		if l.imported, err = readImport(beside(file, own.Seccomp.Import)); err != nil {
			var e *FieldError
			if errors.As(err, &e) && e.Line == 0 { // not what it says, but the file itself
				return nil, d.places["seccomp.import"].mistake(e.File+": "+e.Problem, e.Hint)
			}
			return nil, err
		}
	}
	p.Seccomp.Import = ""
	return p, nil
}

// remember adds the places of a file. A list replaces the one that is inherited,
// with all its members.
func (l *loader) remember(places map[string]place) {
	for path := range places {
		if !strings.ContainsRune(path, '[') {
			maps.DeleteFunc(l.places, func(old string, _ place) bool { return strings.HasPrefix(old, path+"[") })
		}
	}
	maps.Copy(l.places, places)
}

// finish puts imported rules before the profile's own, which override them.
func (l *loader) finish(p *Profile) {
	if l.imported != nil {
		p.Seccomp.Rules = slices.Concat(l.imported.Rules, p.Seccomp.Rules)
	}
}

// locate adds the places to mistakes that were found after decoding.
func (l *loader) locate(file string, err error) error {
	var all Mistakes
	if !errors.As(err, &all) {
		return err
	}
	for _, e := range all {
		e.File = file
		// A missing key has no place, the rule that misses it has.
		for path := e.Path; path != ""; path = path[:max(0, strings.LastIndexByte(path, '.'))] {
			if at, ok := l.places[path]; ok {
				e.File, e.Line, e.Column = at.file, at.line, at.column
				if path == e.Path {
					e.Path = at.path
				}
				break
			}
		}
	}
	return all
}

// beside resolves a name that a file gives of another file.
func beside(file, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	out := filepath.Join(filepath.Dir(file), name)
	if !strings.ContainsRune(out, filepath.Separator) {
		out = "." + string(filepath.Separator) + out
	}
	return out
}

// readFile reads a small regular file. O_NONBLOCK: to open a FIFO would wait for
// its writer.
func readFile(name string, limit int) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, &FieldError{File: name, Problem: "cannot be read: " + reason(err)}
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, &FieldError{File: name, Problem: "is not a regular file"}
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, &FieldError{File: name, Problem: "cannot be read: " + reason(err)}
	}
	if len(data) > limit {
		return nil, &FieldError{File: name, Problem: fmt.Sprintf("is larger than %s", Size(limit))}
	}
	return data, nil
}

func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
