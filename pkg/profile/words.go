package profile

import (
	"reflect"
	"strings"
)

// nearest returns the word that is at most two edits away, "" if there is none.
func nearest(word string, words []string) string {
	best, found := 3, ""
	for _, w := range words {
		if d := distance(strings.ToLower(word), strings.ToLower(w)); d < best && d < len(w) {
			best, found = d, w
		}
	}
	return found
}

// distance is the Levenshtein distance, of words no longer than 64 bytes.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// fieldsByKey are the fields of a struct by their keys in YAML.
func fieldsByKey(t reflect.Type) map[string]int {
	out := map[string]int{}
	for i := range t.NumField() {
		out[yamlKey(t.Field(i))] = i
	}
	return out
}

func yamlKey(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return key
}

// keyPaths are all keys of a type, those of its members with their path.
func keyPaths(path string, t reflect.Type) []string {
	for t.Kind() == reflect.Slice {
		t, path = t.Elem(), path+"[]"
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		key := join(path, yamlKey(f))
		out = append(append(out, key), keyPaths(key, f.Type)...)
	}
	return out
}

// suggest is the hint for a key that the mapping at path, of type t, does not
// have: a key like it there, or the same key where it belongs.
func suggest(key, path string, t reflect.Type) string {
	var here []string
	for i := range t.NumField() {
		here = append(here, yamlKey(t.Field(i)))
	}
	if near := nearest(key, here); near != "" {
		return "did you mean " + near + "?"
	}
	byLast := map[string]string{}
	var last []string
	for _, p := range keyPaths("", reflect.TypeFor[Profile]()) {
		name := p[strings.LastIndexByte(p, '.')+1:]
		if _, ok := byLast[name]; !ok {
			byLast[name] = p
			last = append(last, name)
		}
	}
	if near := nearest(key, last); near != "" {
		return "did you mean " + byLast[near] + "?"
	}
	if path == "" {
		return "keys: " + strings.Join(here, " ")
	}
	return "keys of " + path + ": " + strings.Join(here, " ")
}
