package report

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/event"
)

// summaryOf returns the summary with its wrapped lines joined.
func summaryOf(t *testing.T, r *Report) []string {
	t.Helper()
	_, text := rendered(t, r)
	return strings.Split(strings.TrimSuffix(strings.ReplaceAll(string(text), "\n     ", " "), "\n"), "\n")
}

func TestAQuietRunIsThreeLines(t *testing.T) {
	if got := summaryOf(t, Build(input(exited(0)))); len(got) != 3 {
		t.Errorf("summary %q, want verdict, use and report", got)
	}
}

func TestTheSummaryNamesTheMostFrequentRefusalsAndCountsTheRest(t *testing.T) {
	r := &Report{ExecutionSummary: Summary{Verdict: OK}}
	for i := range 14 {
		r.AllActivities = append(r.AllActivities, Activity{Category: event.File, Op: "openat", Target: fmt.Sprintf("/etc/%d", i), Verdict: event.Denied, Count: uint64(i)})
	}
	r.AllActivities = append(r.AllActivities, Activity{Category: event.File, Op: "openat", Target: "/tmp/fine", Verdict: event.Allowed, Count: 99})
	got := summaryOf(t, r)[1:]
	if len(got) != shown+1 {
		t.Fatalf("summary %q, want %d lines and one more", got, shown)
	}
	if got[0] != "sbx: refused: openat /etc/13, 13 times" || got[shown-1] != "sbx: refused: openat /etc/4, 4 times" {
		t.Errorf("it begins with %q and ends with %q", got[0], got[shown-1])
	}
	if want := "sbx: refused: and 4 more, listed by --report FILE"; got[shown] != want {
		t.Errorf("%q, want %q", got[shown], want)
	}
	r.Name = "report.json"
	if got, want := summaryOf(t, r)[shown+1], "sbx: refused: and 4 more, listed in the report"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestNotesAreSaidOnceAndTheRestCounted(t *testing.T) {
	r := &Report{ExecutionSummary: Summary{Verdict: OK}}
	add := func(kind, text, confidence string) {
		r.Findings = append(r.Findings, Finding{Kind: kind, Text: text, Confidence: confidence})
	}
	for range 3 {
		add("forged_events", "somebody else wrote", High)
	}
	add("forged_events", "somebody else wrote", Medium)
	add("unexplained", "openat did not pass Python's own functions", High)
	got := summaryOf(t, r)[1:]
	if want := []string{"sbx: note: somebody else wrote (3 times)", "sbx: note, not certain: somebody else wrote"}; strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("notes %q, want %q", got, want)
	}
	for i := range 12 {
		add("not_copied", fmt.Sprint(i, " was not copied"), High)
	}
	got = summaryOf(t, r)[1:]
	if want := "sbx: note: and 4 more, listed by --report FILE"; len(got) != shown+1 || got[shown] != want {
		t.Errorf("notes %q, want %d and %q", got, shown, want)
	}
}

func TestWarningsAreOfLayersThatAreMissingAndOfWhatIsWider(t *testing.T) {
	r := &Report{
		ExecutionSummary: Summary{Verdict: OK},
		Isolation: Isolation{[]Layer{
			{Name: "seccomp", State: LayerActive}, {Name: "landlock", State: LayerAbsent, Why: "not asked for"}, {Name: "cgroup.pids", State: LayerDegraded, Why: "no controller"},
		}},
		Profile: Profile{Name: "strict", Widened: []Widening{{"require", "cgroup.pids", "may be missing"}, {"limits.pids", "32", "64"}}},
	}
	got := summaryOf(t, r)[1:]
	want := []string{
		"sbx: warning: the isolation layer cgroup.pids was missing: no controller",
		"sbx: warning: more was allowed than in profile strict: limits.pids: 32 -> 64",
	}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("warnings %q, want %q", got, want)
	}
}

func TestOnlyLimitsThatMatterAreShown(t *testing.T) {
	r := &Report{ExecutionSummary: Summary{Verdict: OK}, ResourceLimits: ResourceLimits{[]Limit{
		{"wall_time", 10, "seconds", 0.25, "supervisor", false},
		{"cpu_time", 0, "seconds", 0.2, "supervisor", false},
		{"memory", 256 * mib, "bytes", 5 * mib, "none", false},
		{"cpu_percent", 50, "percent", 49.6, "cgroup", true},
		{"processes", 32, "processes", 32, "cgroup", true},
		{"open_files", 1024, "descriptors", 9, "rlimit", false},
	}}}
	got := summaryOf(t, r)[1:]
	const want = "sbx: used: time 0.25 s of 10 s, memory 5 MiB of 256 MiB (not enforced), cpu share 50 % of 50 % (limit reached), processes 32 of 32 (limit reached)"
	if len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
}
