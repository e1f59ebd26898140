package profile

import (
	"encoding/json"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sbxproject/sbx/profiles"
)

const schemaFile = "../../profiles/schema.json"

// checker returns the compiled schema.
func checker(t *testing.T) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// matches says why a document of YAML does not match the schema.
func matches(t *testing.T, s *jsonschema.Schema, data []byte) error {
	t.Helper()
	var doc any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return err
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(value)
}

func TestBuiltinsMatchTheSchema(t *testing.T) {
	s := checker(t)
	for _, name := range builtinNames(t) {
		data, err := fs.ReadFile(profiles.FS, name+".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if err := matches(t, s, data); err != nil {
			t.Errorf("%s.yaml: %v", name, err)
		}
		p, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := matches(t, s, []byte(p.Show())); err != nil {
			t.Errorf("%s as shown: %v", name, err)
		}
	}
}

// node is what the tests read of the schema.
type node struct {
	Description string
	Ref         string `json:"$ref"`
	Properties  map[string]node
	Items       *node
	Additional  *bool `json:"additionalProperties"`
	Defs        map[string]node
}

func readSchema(t *testing.T) node {
	t.Helper()
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var root node
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestSchemaHasTheKeysOfTheType(t *testing.T) {
	var paths []string
	var walk func(path string, n node)
	walk = func(path string, n node) {
		if n.Items != nil && n.Items.Properties != nil {
			walk(path+"[]", *n.Items)
		}
		if n.Properties != nil && (n.Additional == nil || *n.Additional) {
			t.Errorf("%q takes keys that the schema does not list", path)
		}
		for key, member := range n.Properties {
			at := join(path, key)
			paths = append(paths, at)
			if member.Description == "" {
				t.Errorf("%s has no description", at)
			}
			walk(at, member)
		}
	}
	walk("", readSchema(t))
	want := keyPaths("", reflect.TypeFor[Profile]())
	slices.Sort(paths)
	slices.Sort(want)
	if !slices.Equal(paths, want) {
		t.Errorf("the schema differs from the type:\nonly in the schema: %q\nonly in the type:   %q", missing(want, paths), missing(paths, want))
	}
}

// TestFieldsCoverTheType breaks when a key is added to the type, until fields
// says how it is shown and whether more of it is wider.
func TestFieldsCoverTheType(t *testing.T) {
	notPolicy := []string{"name", "description", "extends", "seccomp.add_groups", "seccomp.import"}
	var want []string
	for _, path := range keyPaths("", reflect.TypeFor[Profile]()) {
		section := slices.Contains([]string{"limits", "python", "files", "seccomp"}, path)
		if !section && !slices.Contains(notPolicy, path) && !strings.Contains(path, "[]") {
			want = append(want, path)
		}
	}
	var have []string
	for _, f := range fields() {
		have = append(have, f.name)
	}
	if !slices.Equal(have, want) {
		t.Errorf("fields has %q\nthe type has %q\nonly in fields: %q\nonly in the type: %q", have, want, missing(want, have), missing(have, want))
	}
}
