package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const samples = "../../testdata/py"

// TestSamples runs the sample programs as the replaced runner did, and compares
// everything in their reports that does not depend on the day and the machine.
func TestSamples(t *testing.T) {
	tests := []struct {
		name    string
		flags   []string
		verdict report.Verdict
		status  int
	}{
		{"safe", nil, report.OK, 0},
		{"restricted_import", nil, report.Exception, 1},
		{"file_operations", nil, report.OK, 0},
		{"network", []string{"--restricted-imports", ""}, report.OK, 0},
		{"endless_loop", []string{"--timeout", "1.5"}, report.WallTimeLimit, 124},
		{"exception", nil, report.Exception, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := invoke(t, append(append([]string{"run"}, tt.flags...), filepath.Join(samples, tt.name+".py"))...)
			if o.report == nil {
				t.Fatalf("status %d: %s", o.status, o.stderr)
			}
			o.wantVerdict(t, tt.verdict, tt.status)
			got := portable(t, o.report)
			golden := filepath.Join("../../testdata/golden", tt.name+".json")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("the report differs from %s; look at the difference, then run the test with -update\n%s", golden, firstDifference(string(want), string(got)))
			}
		})
	}
}

// portable is a report without what differs from run to run, from host to host
// and from one version of Python to the next. Fields that stay must be equal.
func portable(t *testing.T, r *report.Report) []byte {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	delete(tree, "host")
	delete(tree, "usage")
	tree["sbx"] = "(version)"
	summary := tree["execution_summary"].(map[string]any)
	for _, key := range []string{"duration_seconds", "start_time", "end_time"} {
		summary[key] = "(varies)"
	}
	summary["evidence"] = number.ReplaceAllString(summary["evidence"].(string), "N")
	for _, f := range tree["findings"].([]any) {
		finding := f.(map[string]any)
		finding["text"] = number.ReplaceAllString(finding["text"].(string), "N")
	}
	stderr := tree["output"].(map[string]any)["stderr"].(map[string]any)
	stderr["bytes"], stderr["head"] = "(varies)", lastLine(stderr["head"].(string))
	for _, l := range tree["isolation"].(map[string]any)["layers"].([]any) {
		layer := l.(map[string]any)
		delete(layer, "observed")
		delete(layer, "why")
		if strings.HasPrefix(layer["name"].(string), "cgroup.") || layer["name"] == "landlock" {
			layer["state"] = "(the host's)"
		}
	}
	for _, l := range tree["resource_limits"].(map[string]any)["details"].([]any) {
		limit := l.(map[string]any)
		limit["used"] = "(varies)"
		switch limit["resource"] {
		case "cpu_percent":
			limit["enforced_by"], limit["hit"] = "(the host's)", "(varies)"
		case "memory", "processes":
			limit["enforced_by"] = "(the host's)"
		}
	}
	for _, f := range tree["findings"].([]any) {
		// Where a loop is when its time is up is not foreseen.
		if f := f.(map[string]any); f["kind"] == "stood_at" {
			f["text"] = number.ReplaceAllString(f["text"].(string), "N")
		}
	}
	profile := tree["profile"].(map[string]any)
	profile["sha256"] = "(varies)"
	kept := []any{}
	for _, w := range profile["widened"].([]any) {
		if w.(map[string]any)["field"] != "require" { // the layers that this host lacks
			kept = append(kept, w)
		}
	}
	profile["widened"] = kept
	scrub(tree)
	out, err := json.MarshalIndent(tree, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

var number = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)

// scrub takes times and process numbers out of every activity.
func scrub(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"t_us", "last_t_us", "pid", "tid", "seq"} {
			delete(v, key)
		}
		for _, x := range v {
			scrub(x)
		}
	case []any:
		for _, x := range v {
			scrub(x)
		}
	}
}

// lastLine of a traceback is the same in every version of Python.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// firstDifference shows the first lines in which two texts differ.
func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			return "- " + strings.Join(w[min(i, len(w)):min(i+8, len(w))], "\n- ") + "\n+ " + strings.Join(g[min(i, len(g)):min(i+8, len(g))], "\n+ ")
		}
	}
	return ""
}
