package report

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// compileSchema returns the schema of a report, with its formats asserted.
func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("report.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("report.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// mustValidate fails the test if a report does not keep to the schema.
func mustValidate(t testing.TB, schema *jsonschema.Schema, report []byte) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(report))
	if err != nil {
		t.Fatalf("no JSON: %v", err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("the report does not keep to the schema: %v", err)
	}
}

// constants returns the values of the string constants of a type, read from the
// source: a new one cannot be forgotten.
func constants(t testing.TB, file, typeName string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, decl := range f.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, spec := range gen.Specs {
			v := spec.(*ast.ValueSpec)
			if id, ok := v.Type.(*ast.Ident); !ok || id.Name != typeName {
				continue
			}
			for _, value := range v.Values {
				s, err := strconv.Unquote(value.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				values = append(values, s)
			}
		}
	}
	if len(values) == 0 {
		t.Fatalf("%s has no constants of type %s", file, typeName)
	}
	return values
}

const eventSource = "../event/event.go"

type node = map[string]any

func schemaDoc(t testing.TB) node {
	t.Helper()
	var doc node
	if err := json.Unmarshal(Schema, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// A walker goes through the schema.
type walker struct {
	t   *testing.T
	doc node
}

// at follows a path of keys.
func (w walker) at(path ...string) node {
	n := w.doc
	for _, key := range path {
		next, ok := n[key].(node)
		if !ok {
			w.t.Fatalf("the schema has no %s", strings.Join(path, "/"))
		}
		n = w.resolve(next)
	}
	return n
}

func (w walker) resolve(n node) node {
	if ref, ok := n["$ref"].(string); ok {
		return w.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	return n
}

// compare walks the type and the schema side by side.
func (w walker) compare(path string, typ reflect.Type, n node) {
	n = w.resolve(n)
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := map[reflect.Kind]string{
		reflect.String: "string", reflect.Bool: "boolean", reflect.Slice: "array", reflect.Struct: "object", reflect.Map: "object",
		reflect.Int: "integer", reflect.Int64: "integer", reflect.Uint64: "integer", reflect.Float64: "number",
	}[typ.Kind()]
	if _, isEnum := n["enum"]; isEnum && typ.Kind() == reflect.String {
		return
	}
	have := []any{n["type"]}
	if list, ok := n["type"].([]any); ok {
		have = list
	}
	if !slices.Contains(have, any(want)) {
		w.t.Errorf("%s: the schema says %v, Go writes %s", path, n["type"], want)
	}
	if typ.Kind() == reflect.Uint64 && n["minimum"] == nil {
		w.t.Errorf("%s: the schema lets it be negative", path)
	}
	switch typ.Kind() {
	case reflect.Slice:
		items, ok := n["items"].(node)
		if !ok {
			w.t.Fatalf("%s: the schema says nothing of its items", path)
		}
		w.compare(path+"[]", typ.Elem(), items)
	case reflect.Map:
		values, ok := n["additionalProperties"].(node)
		if !ok {
			w.t.Fatalf("%s: the schema says nothing of its values", path)
		}
		w.compare(path+"{}", typ.Elem(), values)
	case reflect.Struct:
		w.object(path, typ, n)
	}
}

func (w walker) object(path string, typ reflect.Type, n node) {
	if n["additionalProperties"] != false {
		w.t.Errorf("%s: the schema lets it have other keys", path)
	}
	properties, _ := n["properties"].(node)
	required := map[string]bool{}
	list, _ := n["required"].([]any)
	for _, key := range list {
		required[key.(string)] = true
	}
	left := maps.Clone(properties)
	for i := range typ.NumField() {
		field := typ.Field(i)
		key, option, _ := strings.Cut(field.Tag.Get("json"), ",")
		if key == "-" {
			continue
		}
		if key == "" {
			w.t.Errorf("%s: Go's field %s has no key of its own", path, field.Name)
			continue
		}
		property, ok := properties[key].(node)
		if !ok {
			w.t.Errorf("%s.%s stands in Go and not in the schema", path, key)
			continue
		}
		delete(left, key)
		if always := option != "omitempty"; required[key] != always {
			w.t.Errorf("%s.%s: required is %v in the schema, and Go always writes it: %v", path, key, required[key], always)
		}
		w.compare(path+"."+key, field.Type, property)
	}
	for key := range left {
		w.t.Errorf("%s.%s stands in the schema and not in Go", path, key)
	}
}

func TestSchemaAndStructsHaveTheSameKeys(t *testing.T) {
	w := walker{t, schemaDoc(t)}
	w.compare("report", reflect.TypeFor[Report](), w.doc)
}

func TestSchemaListsTheConstants(t *testing.T) {
	w := walker{t, schemaDoc(t)}
	tests := []struct {
		typeName, file string
		path           []string
	}{
		{"Verdict", "verdict.go", []string{"properties", "execution_summary", "properties", "verdict"}},
		{"LayerState", "report.go", []string{"properties", "isolation", "properties", "layers", "items", "properties", "state"}},
		{"Layer", eventSource, []string{"$defs", "activity", "properties", "layer"}},
		{"Category", eventSource, []string{"$defs", "activity", "properties", "category"}},
		{"Verdict", eventSource, []string{"$defs", "activity", "properties", "verdict"}},
	}
	for _, tt := range tests {
		enum, _ := w.at(tt.path...)["enum"].([]any)
		var have []string
		for _, v := range enum {
			have = append(have, v.(string))
		}
		slices.Sort(have)
		if want := slices.Sorted(slices.Values(constants(t, tt.file, tt.typeName))); !slices.Equal(have, want) {
			t.Errorf("%s of %s: the schema lists %v, Go has %v", tt.typeName, tt.file, have, want)
		}
	}
	for _, v := range constants(t, "verdict.go", "Verdict") {
		if !Verdict(v).known() {
			t.Errorf("a report with verdict %s cannot be read back", v)
		}
	}
}

func TestSchemaRefusesWhatIsNoReport(t *testing.T) {
	schema := compileSchema(t)
	tests := []struct {
		name   string
		change func(report node)
	}{
		{"a key that nobody knows", func(r node) { r["mood"] = "good" }},
		{"a section that is missing", func(r node) { delete(r, "syscalls") }},
		{"a list that is null", func(r node) { r["findings"] = nil }},
		{"another major version", func(r node) { r["schema_version"] = "2.0" }},
		{"an unknown verdict", func(r node) { r["execution_summary"].(node)["verdict"] = "fine" }},
		{"a time that is none", func(r node) { r["execution_summary"].(node)["start_time"] = "yesterday" }},
		{"an exit status beyond a byte", func(r node) { r["execution_summary"].(node)["exit_code"] = json.Number("256") }},
		{"a negative count", func(r node) { r["dropped"] = node{"events.python": json.Number("-1")} }},
		{"an activity without a layer", func(r node) { delete(r["all_activities"].([]any)[0].(node), "layer") }},
		{"an activity of an unknown layer", func(r node) { r["all_activities"].([]any)[0].(node)["layer"] = "moon" }},
		{"a count of one", func(r node) { r["all_activities"].([]any)[0].(node)["count"] = json.Number("1") }},
	}
	data, err := os.ReadFile(filepath.Join("testdata", "tour.json"))
	if err != nil {
		t.Fatal(err)
	}
	mustValidate(t, schema, data)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			tt.change(doc.(node))
			if schema.Validate(doc) == nil {
				t.Error("the schema takes it")
			}
		})
	}
}
