package profile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Show is the whole policy as YAML, with everything that it inherits and
// imports. It can be used as a profile of its own.
func (p Profile) Show() string {
	p.Extends = ""
	var b strings.Builder
	showStruct(&b, "", "", reflect.ValueOf(p))
	return b.String()
}

// showStruct writes the keys of a struct, each line after the first with the
// indent before it.
func showStruct(b *strings.Builder, path, indent string, v reflect.Value) {
	for i := range v.NumField() {
		key, f := yamlKey(v.Type().Field(i)), v.Field(i)
		if optional(path, key) && f.IsZero() {
			continue
		}
		b.WriteString(indent + key + ":")
		showValue(b, join(path, key), indent, f)
	}
}

// optional says that a key is left out where it says nothing: an empty
// allowed_imports says a lot, and is not its zero value.
func optional(path, key string) bool {
	switch join(path, key) {
	case "name", "description", "extends", "python.allowed_imports", "seccomp.add_groups", "seccomp.rules",
		"seccomp.import", "seccomp.rules.errno", "seccomp.rules.args", "seccomp.rules.args.mask":
		return true
	}
	return false
}

func showValue(b *strings.Builder, path, indent string, v reflect.Value) {
	if v.Kind() == reflect.Struct {
		b.WriteByte('\n')
		showStruct(b, path, indent+"  ", v)
		return
	}
	if bits, ok := v.Interface().(uint64); ok && strings.HasPrefix(path, "seccomp.rules.args.") {
		fmt.Fprintf(b, " %#x\n", bits)
		return
	}
	if v.Kind() != reflect.Slice {
		b.WriteString(" " + scalar(v))
		if strings.HasPrefix(path, "limits.") && v.IsZero() {
			b.WriteString("  # no limit")
		}
		b.WriteByte('\n')
		return
	}
	if v.Type().Elem().Kind() == reflect.Struct {
		b.WriteByte('\n')
		for i := range v.Len() {
			var item strings.Builder
			showStruct(&item, path, indent+"    ", v.Index(i))
			text := item.String()
			if text == "" {
				text = indent + "    {}\n"
			}
			b.WriteString(indent + "  - " + text[len(indent)+4:])
		}
		return
	}
	const width = 100
	line := indent + path[strings.LastIndexByte(path, '.')+1:] + ": ["
	b.WriteString(" [")
	for i := range v.Len() {
		text := scalar(v.Index(i))
		if i > 0 {
			b.WriteString(",")
			if len(line)+len(text) > width {
				line = indent + "  "
				b.WriteString("\n" + line)
			} else {
				b.WriteString(" ")
			}
		}
		line += text + ", "
		b.WriteString(text)
	}
	b.WriteString("]\n")
}

func scalar(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return span(x)
	case Size:
		return x.String()
	}
	if v.Kind() == reflect.String {
		return quote(v.String())
	}
	return fmt.Sprint(v.Interface())
}

// plain says that every reader of YAML takes the text for the same text. More
// is quoted than would have to be.
func plain(s string) bool {
	for i, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '_', r == '/':
		case i > 0 && (r >= '0' && r <= '9' || r == '.' || r == '-'):
		case i > 0 && i < len(s)-1 && r == ' ':
		default:
			return false
		}
	}
	switch strings.ToLower(s) {
	case "", "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		return false
	}
	return true
}

func quote(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// SHA256 identifies the effective policy: equal for two profiles between which
// [Diff] finds nothing, whatever they are called and wherever they got it from.
func (p Profile) SHA256() string {
	h := sha256.New()
	for _, f := range fields() {
		_, _ = h.Write(strconv.AppendQuote([]byte(f.name+"="), f.show(p)))
	}
	return hex.EncodeToString(h.Sum(nil))
}
