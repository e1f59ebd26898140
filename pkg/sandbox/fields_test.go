package sandbox

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sbxproject/sbx/pkg/interp"
	"github.com/sbxproject/sbx/pkg/jail"
	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

// influence is what a profile does before anything is started: the jail's plan
// and namespaces, the system-call policy, and what the hook is told.
func influence(t *testing.T, in *interp.Interpreter, p profile.Profile) map[string]string {
	t.Helper()
	policy, err := seccomp.Resolve(p.Seccomp, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := &execution{spec: Spec{Profile: p}, interp: in, program: &program{Jail: "/sandbox/script.py"}}
	for _, path := range p.Files.ReadPaths {
		x.read = append(x.read, jail.Grant{Path: path})
	}
	for _, path := range p.Files.WritePaths {
		x.write = append(x.write, jail.Grant{Path: path})
	}
	boot, err := x.boot()
	if err != nil {
		t.Fatal(err)
	}
	blueprint, err := jail.Plan(x.request(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := json.Marshal(struct {
		Config     jail.Config
		Writable   []string
		EventPipe  bool
		Namespaces uintptr
	}{blueprint.Config, blueprint.Writable, blueprint.EventPipe, jail.Namespaces(p)})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"plan": string(plan), "policy": policy.String(), "hook": string(boot)}
}

// fieldMeaning says what each field of a profile decides, and where. "plan",
// "policy" and "hook" are shown by this test; everything else is a reason, and
// names the test that shows it.
var fieldMeaning = map[string][]string{
	"Name":                     {"a name: cmd/sbx TestProfileListIsATable"},
	"Description":              {"text: cmd/sbx TestProfileListIsATable"},
	"Extends":                  {"resolved by the loader: pkg/profile TestChildKeepsWhatItDoesNotMention"},
	"Require":                  {"the run does not start without: cmd/sbx TestWithoutALayerNothingStarts"},
	"Limits.Wall":              {"a clock of the run: cmd/sbx TestLimits"},
	"Limits.CPUTime":           {"plan"},
	"Limits.Memory":            {"the control group: cmd/sbx TestLimits"},
	"Limits.CPUPercent":        {"plan"},
	"Limits.PIDs":              {"the control group: cmd/sbx TestLimits"},
	"Limits.Output":            {"the streams: cmd/sbx TestOutputOverItsLimit"},
	"Limits.OutputAction":      {"the streams: cmd/sbx TestLimits"},
	"Limits.TmpSize":           {"plan"},
	"Limits.TmpInodes":         {"plan"},
	"Limits.OpenFiles":         {"plan"},
	"Limits.FileSize":          {"plan"},
	"Limits.Denials":           {"the recorder's budget: cmd/sbx TestLimits"},
	"Limits.SameDenial":        {"the recorder's budget: cmd/sbx TestLimits"},
	"Python.Hooks":             {"plan", "hook"},
	"Python.RestrictedImports": {"hook"},
	"Python.AllowedImports":    {"hook"},
	"Python.SitePackages":      {"hook"}, // and the plan, where the interpreter has any
	"Python.FastExit":          {"hook"},
	"Files.Read":               {"hook"}, // what there is to read is the same
	"Files.ReadPaths":          {"plan", "hook"},
	"Files.Write":              {"plan", "hook"},
	"Files.WritePaths":         {"plan", "hook"},
	"Files.SharedMemory":       {"plan"},
	"Files.System":             {"plan"},
	"Network":                  {"plan", "hook"},
	"Seccomp.Groups":           {"policy"},
	"Seccomp.AddGroups":        {"resolved by the loader: pkg/profile TestChildReplacesLists"},
	"Seccomp.Rules":            {"policy"},
	"Seccomp.Import":           {"resolved by the loader: pkg/profile TestImportComesBeforeTheRules"},
	"Trace":                    {"the supervisor, and the policy as it is traced: pkg/seccomp TestTracedCallsAreNotifiedAndLetThrough"},
}

// TestEveryFieldOfAProfileMatters breaks when a field is added, until somebody
// decides what it means here; and it shows that the field does what is said.
func TestEveryFieldOfAProfileMatters(t *testing.T) {
	exe, err := interp.Find("", os.Getenv("PATH"))
	if err != nil {
		t.Fatal(err)
	}
	in, err := interp.Load(exe, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(in.SitePackages) == 0 {
		in.SitePackages = []string{"/usr/lib/python3/site-packages"}
	}
	strict, err := profile.Load("strict")
	if err != nil {
		t.Fatal(err)
	}
	before := influence(t, in, *strict)
	seen := map[string]bool{}
	var walk func(path string, index []int, typ reflect.Type)
	walk = func(path string, index []int, typ reflect.Type) {
		for i := range typ.NumField() {
			f, at := typ.Field(i), append(slices.Clone(index), i)
			name := path + f.Name
			if f.Type.Kind() == reflect.Struct {
				walk(name+".", at, f.Type)
				continue
			}
			seen[name] = true
			meaning, ok := fieldMeaning[name]
			if !ok {
				t.Errorf("%s: say in fieldMeaning what it decides, and where", name)
				continue
			}
			p, err := profile.Load("strict")
			if err != nil {
				t.Fatal(err)
			}
			change(t, name, reflect.ValueOf(p).Elem().FieldByIndex(at))
			after := influence(t, in, *p)
			for part := range before {
				want := slices.Contains(meaning, part)
				if changed := before[part] != after[part]; want && !changed {
					t.Errorf("%s changes nothing in the %s", name, part)
				} else if changed && !want && len(meaning) == 1 && part == "policy" {
					t.Errorf("%s changes the %s, which fieldMeaning does not say", name, part)
				}
			}
		}
	}
	walk("", nil, reflect.TypeFor[profile.Profile]())
	for name := range fieldMeaning {
		if !seen[name] {
			t.Errorf("%s is not a field of a profile", name)
		}
	}
}

// change gives a field of strict another value.
func change(t *testing.T, name string, v reflect.Value) {
	t.Helper()
	switch {
	case name == "Network":
		v.Set(reflect.ValueOf(profile.NetworkLoopback))
	case name == "Python.Hooks":
		v.Set(reflect.ValueOf(profile.HooksOff))
	case name == "Limits.CPUPercent":
		v.SetInt(300)
	case name == "Seccomp.Groups":
		v.Set(reflect.ValueOf([]string{"base"}))
	case name == "Files.ReadPaths", name == "Files.WritePaths":
		v.Set(reflect.ValueOf([]string{"/srv/data"}))
	case v.Type() == reflect.TypeFor[time.Duration]():
		v.SetInt(v.Int() + int64(time.Minute))
	case v.Type() == reflect.TypeFor[[]profile.Rule]():
		v.Set(reflect.ValueOf([]profile.Rule{{Names: []string{"uname"}, Action: profile.ActionKill}}))
	case v.Type() == reflect.TypeFor[[]string]():
		v.Set(reflect.ValueOf([]string{"json"}))
	case v.CanInt():
		v.SetInt(v.Int() + 1<<20)
	case v.CanUint():
		v.SetUint(v.Uint() + 1<<20)
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	default:
		t.Fatalf("%s: this test does not know how to change a %s", name, v.Type())
	}
}
