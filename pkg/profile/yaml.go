package profile

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxNesting bounds the brackets of a document: the deepest key of a profile is
// four levels down, and the YAML parser takes quadratic time for more.
const maxNesting = 8

// place is where something stands in a file, under which key.
type place struct {
	file         string
	line, column int
	path         string
}

func (p place) mistake(problem, hint string) *FieldError {
	return &FieldError{File: p.file, Line: p.line, Column: p.column, Path: p.path, Problem: problem, Hint: hint}
}

// document checks the form of a file and returns its mapping. Only plain YAML is
// taken: an alias lets a small file grow without bound, a tag or a merge key
// makes one key mean another.
func document(file string, data []byte) (*ast.MappingNode, error) {
	if err := checkText(file, data); err != nil {
		return nil, err
	}
	tokens := lexer.Tokenize(string(data))
	if err := checkTokens(file, tokens); err != nil {
		return nil, err
	}
	// Duplicate keys are found by decoder.mapping, which says where.
	doc, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxError(file, err)
	}
	if len(doc.Docs) > 1 {
		return nil, &FieldError{File: file, Problem: "has more than one YAML document"}
	}
	if len(doc.Docs) == 0 || doc.Docs[0].Body == nil {
		return nil, &FieldError{File: file, Problem: "is empty", Hint: "the shortest profile is: extends: strict"}
	}
	m, ok := doc.Docs[0].Body.(*ast.MappingNode)
	if !ok {
		return nil, at(file, doc.Docs[0].Body, "").mistake("want keys and values, have "+kind(doc.Docs[0].Body), "")
	}
	return m, nil
}

// checkText refuses bytes that are no text. The YAML parser would read them as
// something that looks like another file.
func checkText(file string, data []byte) error {
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		return place{file: file, line: 1, column: 1}.mistake("begins with a byte order mark", "save the file as UTF-8 without one")
	}
	line, column := 1, 1
	for rest := data; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			return place{file: file, line: line, column: column}.mistake("is not UTF-8", "")
		case r == '\n':
			line, column = line+1, 0
		case r < ' ' && r != '\t' && r != '\r' || r == 0x7f:
			return place{file: file, line: line, column: column}.mistake(fmt.Sprintf("has the control character %U", r), "")
		}
		column++
		rest = rest[n:]
	}
	return nil
}

func checkTokens(file string, tokens token.Tokens) error {
	depth, dashes, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, dashes = t.Position.Line, 0
		}
		what := ""
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			what = "anchors, aliases and merge keys are not allowed in a profile"
		case token.TagType, token.DirectiveType, token.MappingKeyType:
			what = "tags, directives and complex keys are not allowed in a profile"
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType:
			dashes++
		}
		if depth > maxNesting || dashes > maxNesting {
			what = "is nested too deeply"
		}
		if what != "" {
			return place{file: file, line: t.Position.Line, column: t.Position.Column}.mistake(what, "")
		}
	}
	return nil
}

// syntaxError takes the first line of what the parser says; the rest draws the
// source.
func syntaxError(file string, err error) error {
	e := &FieldError{File: file, Problem: err.Error()}
	var located interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if errors.As(err, &located) {
		e.Problem = located.GetMessage()
		if t := located.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
		}
	}
	e.Problem, _, _ = strings.Cut(e.Problem, "\n")
	if strings.ContainsRune(e.Problem, '\t') || strings.HasPrefix(e.Problem, "tab character") {
		e.Problem = "a tab indents nothing in YAML"
		e.Hint = "indent with spaces"
	}
	return e
}

// at returns the place of a node. To the parser a mapping is at its first colon.
func at(file string, n ast.Node, path string) place {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	p := place{file: file, path: path}
	if t := n.GetToken(); t != nil && t.Position != nil {
		p.line, p.column = t.Position.Line, t.Position.Column
	}
	return p
}

// kind says what a node is, to people.
func kind(n ast.Node) string {
	switch n := n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.MappingNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value
	case *ast.StringNode:
		return strconv.Quote(shorten(n.Value))
	}
	return "text"
}

func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "..."
	}
	return s
}

// decoder reads a document into a value by the yaml tags of its type. It
// converts nothing: a number is not taken for text, nor "yes" for true. It
// remembers where each key was read, for the mistakes that are found later.
type decoder struct {
	file   string
	places map[string]place
}

// mapping sets the fields that m names and leaves the others as they are.
func (d *decoder) mapping(path string, m *ast.MappingNode, to reflect.Value) error {
	fields := fieldsByKey(to.Type())
	seen := map[string]bool{}
	for _, v := range m.Values {
		here := at(d.file, v.Key, path)
		key := v.Key.GetToken().Value
		i, ok := fields[key]
		if !ok {
			return here.mistake(fmt.Sprintf("unknown key %q", shorten(key)), suggest(key, path, to.Type()))
		}
		here.path = join(path, key)
		if seen[key] {
			return here.mistake("is there twice", "")
		}
		seen[key] = true
		d.places[here.path] = here
		if _, null := v.Value.(*ast.NullNode); null {
			return here.mistake("has no value", "leave the key out, or give it a value; an empty list is []")
		}
		if err := d.value(here.path, v.Value, to.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) value(path string, n ast.Node, to reflect.Value) error {
	here := at(d.file, n, path)
	if here.line == 0 {
		here = d.places[path]
	}
	wrong := func(want string) error { return here.mistake("want "+want+", have "+kind(n), "") }
	if to.Kind() == reflect.Struct {
		m, ok := n.(*ast.MappingNode)
		if !ok {
			return wrong("keys and values")
		}
		return d.mapping(path, m, to)
	}
	if to.Kind() == reflect.Slice {
		s, ok := n.(*ast.SequenceNode)
		if !ok {
			return wrong("a list")
		}
		list := reflect.MakeSlice(to.Type(), len(s.Values), len(s.Values))
		for i, item := range s.Values {
			path := fmt.Sprintf("%s[%d]", path, i)
			d.places[path] = at(d.file, item, path)
			if err := d.value(path, item, list.Index(i)); err != nil {
				return err
			}
		}
		to.Set(list)
		return nil
	}
	d.places[path] = here

	text, isText := "", false
	switch n := n.(type) {
	case *ast.StringNode:
		text, isText = n.Value, true
	case *ast.LiteralNode:
		text, isText = n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		text = n.GetToken().Value
	default:
		return wrong("one value")
	}
	switch v := to.Addr().Interface().(type) {
	case *time.Duration:
		span, err := time.ParseDuration(text)
		if err != nil {
			return here.mistake(fmt.Sprintf("%q is no time", shorten(text)), "want a number with a unit, such as 10s, 1m30s or 500ms")
		}
		*v = span
		return nil
	case *Size:
		size, err := ParseSize(text)
		if err != nil {
			return here.mistake(fmt.Sprintf("%q is no size", shorten(text)), "want a whole number of bytes, or one with KiB, MiB, GiB or TiB")
		}
		*v = size
		return nil
	}
	switch to.Kind() {
	case reflect.String:
		if !isText {
			return here.mistake("want text, have "+kind(n), "put it in quotes")
		}
		to.SetString(text)
	case reflect.Bool:
		if _, ok := n.(*ast.BoolNode); !ok {
			return wrong("true or false")
		}
		to.SetBool(strings.EqualFold(text, "true"))
	default:
		if quoted := isText && n.GetToken().Type != token.StringType; quoted || !isNumber(text) {
			return wrong("a whole number")
		}
		if !setNumber(to, text) {
			return here.mistake(shorten(text)+" is out of range", "")
		}
	}
	return nil
}

// isNumber takes decimal and hexadecimal numbers. YAML has more forms, of which
// 010 means eight to one reader and ten to the next.
func isNumber(text string) bool {
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		return digits != "" && strings.Trim(digits, "0123456789abcdefABCDEF") == ""
	}
	digits := strings.TrimPrefix(text, "-")
	return digits == "0" || digits != "" && digits[0] != '0' && strings.Trim(digits, "0123456789") == ""
}

// setNumber reports whether the number fits.
func setNumber(to reflect.Value, text string) bool {
	if to.CanUint() {
		n, err := strconv.ParseUint(text, 0, to.Type().Bits())
		to.SetUint(n)
		return err == nil
	}
	n, err := strconv.ParseInt(text, 0, to.Type().Bits())
	to.SetInt(n)
	return err == nil
}
