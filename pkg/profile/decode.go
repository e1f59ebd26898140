package profile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/sbxproject/sbx/profiles"
)

// maxFile bounds a profile; the built-in ones are a few KiB.
const maxFile = 1 << 20

// maxDepth bounds a chain of extends, and the nesting of a document.
const maxDepth = 8

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

// Builtin names the built-in profiles.
func Builtin() []string {
	entries, err := fs.ReadDir(profiles.FS, ".")
	if err != nil {
		return nil // the files are embedded: they are there
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".yaml"); ok {
			names = append(names, name)
		}
	}
	return names
}

// isFile says that a profile is named by its path.
func isFile(name string) bool {
	return strings.ContainsRune(name, filepath.Separator) || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
}

// Load reads a built-in profile by name or a file by path, with everything that
// it extends. It does not validate.
func Load(nameOrPath string) (*Profile, error) { return load(nameOrPath, nil) }

// LoadValid is Load followed by Validate.
func LoadValid(nameOrPath string, known Known) (*Profile, error) {
	p, err := Load(nameOrPath)
	if err != nil {
		return nil, err
	}
	if err := p.Validate(known); err != nil {
		return nil, inFile(err, nameOrPath)
	}
	return p, nil
}

func load(name string, chain []string) (*Profile, error) {
	if slices.Contains(chain, name) || len(chain) > maxDepth {
		return nil, &FieldError{File: chain[0], Path: "extends", Problem: "goes round in a circle: " + strings.Join(append(chain, name), " -> ")}
	}
	data, err := read(name)
	if err != nil {
		return nil, err
	}
	parent, err := extends(name, data)
	if err != nil {
		return nil, err
	}
	p := &Profile{}
	if parent != "" {
		if isFile(parent) && !filepath.IsAbs(parent) {
			parent = filepath.Join(filepath.Dir(name), parent)
			if !strings.ContainsRune(parent, filepath.Separator) {
				parent = "." + string(filepath.Separator) + parent
			}
		}
		if p, err = load(parent, append(chain, name)); err != nil {
			return nil, err
		}
	}
	if err := decode(name, data, p); err != nil {
		return nil, err
	}
	p.Extends = parent
	if !isFile(name) {
		p.Name = name
	}
	return p, nil
}

func read(name string) ([]byte, error) {
	if !isFile(name) {
		data, err := fs.ReadFile(profiles.FS, name+".yaml")
		if err != nil {
			hint := "profiles: " + strings.Join(Builtin(), " ") + "; or the path of a .yaml file"
			if near := nearest(name, Builtin()); near != "" {
				hint = "did you mean " + near + "? " + hint
			}
			return nil, &FieldError{File: name, Problem: "no such profile", Hint: hint}
		}
		return data, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, &FieldError{File: name, Problem: "cannot be read: " + reason(err), Hint: "profiles: " + strings.Join(Builtin(), " ") + "; or the path of a .yaml file"}
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, &FieldError{File: name, Problem: "is not a regular file"}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &FieldError{File: name, Problem: "cannot be read: " + reason(err)}
	}
	if len(data) > maxFile {
		return nil, &FieldError{File: name, Problem: "is larger than 1 MiB"}
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

// extends checks the form of the document and reads the one key that is needed
// before the others.
func extends(file string, data []byte) (string, error) {
	doc, err := parser.ParseBytes(data, 0)
	if err != nil {
		return "", yamlError(file, err)
	}
	if len(doc.Docs) != 1 || doc.Docs[0].Body == nil {
		return "", &FieldError{File: file, Problem: "want exactly one YAML document"}
	}
	v := &plain{file: file}
	ast.Walk(v, doc.Docs[0].Body)
	if v.err != nil {
		return "", v.err
	}
	var head struct {
		Extends string `yaml:"extends"`
	}
	if err := yaml.Unmarshal(data, &head); err != nil {
		return "", yamlError(file, err)
	}
	return head.Extends, nil
}

// plain refuses what a policy has no use for: anchors and aliases, with which a
// small file can grow without bound, tags, and merge keys.
type plain struct {
	file string
	err  error
}

func (v *plain) Visit(n ast.Node) ast.Visitor {
	what := ""
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType:
		what = "anchors and aliases"
	case ast.TagType:
		what = "tags"
	}
	if what != "" && v.err == nil {
		pos := n.GetToken().Position
		v.err = &FieldError{File: v.file, Line: pos.Line, Column: pos.Column, Problem: what + " are not allowed in a profile"}
	}
	if v.err != nil {
		return nil
	}
	return v
}

// decode reads data over p: what it does not mention stays as it is.
func decode(file string, data []byte, p *Profile) error {
	if err := yaml.UnmarshalWithOptions(data, p, yaml.Strict()); err != nil {
		return yamlError(file, err)
	}
	for _, g := range p.Seccomp.AddGroups {
		if !slices.Contains(p.Seccomp.Groups, g) {
			p.Seccomp.Groups = append(slices.Clip(p.Seccomp.Groups), g)
		}
	}
	p.Seccomp.AddGroups = nil
	return nil
}

// unknownKey is how the YAML library names a key that no field has.
var unknownKey = regexp.MustCompile(`unknown field "([^"]*)"`)

// yamlError puts a mistake of form into our own words.
func yamlError(file string, err error) error {
	e := &FieldError{File: file, Problem: err.Error()}
	var at yaml.Error
	if errors.As(err, &at) {
		e.Problem = at.GetMessage()
		if tok := at.GetToken(); tok != nil && tok.Position != nil {
			e.Line, e.Column = tok.Position.Line, tok.Position.Column
		}
	}
	if m := unknownKey.FindStringSubmatch(e.Problem); m != nil {
		e.Problem = fmt.Sprintf("unknown key %q", m[1])
		if near := nearest(m[1], keys()); near != "" {
			e.Hint = "did you mean " + near + "?"
		}
	}
	return e
}

// inFile adds the file's name to mistakes that are found after decoding.
func inFile(err error, file string) error {
	var e *FieldError
	if errors.As(err, &e) && e.File == "" {
		c := *e
		c.File = file
		return &c
	}
	return err
}
