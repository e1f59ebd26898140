package report

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbxproject/sbx/pkg/event"
)

func TestAnActionOfBothWitnessesIsOneActivity(t *testing.T) {
	// The join of the two is the supervisor's: it records the kernel's event,
	// with what the hook said of it.
	loc := &event.Location{File: "/sandbox/a.py", Line: 4, Function: "f", Claimed: true}
	r := Build(Input{Log: recorded(event.Event{
		Time: 3 * time.Millisecond, Layer: event.Seccomp, Category: event.File, Op: "openat", Target: "/etc/passwd", Verdict: event.Denied,
		Errno: "EACCES", PID: 2, TID: 5, Location: loc, Stack: []event.Location{*loc}, ExplainedBy: "open", Detail: "openat(...)",
	})})
	want := []Activity{{
		Seq: 1, TimeUS: 3000, Layer: event.Seccomp, Category: event.File, Op: "openat", Target: "/etc/passwd", Verdict: event.Denied,
		Errno: "EACCES", PID: 2, TID: 5, Trusted: true, Location: loc, Stack: []Location{*loc}, ExplainedBy: "open", Detail: "openat(...)",
	}}
	if !reflect.DeepEqual(r.AllActivities, want) {
		t.Errorf("activities %+v, want %+v", r.AllActivities, want)
	}
	if !reflect.DeepEqual(r.FileOperations, Section{Total: 1, Blocked: 1, Details: want}) {
		t.Errorf("file_operations %+v, want it once", r.FileOperations)
	}
	if r.ExecutionSummary.TotalActivities != 1 {
		t.Errorf("total_activities %d, want 1", r.ExecutionSummary.TotalActivities)
	}
}

func TestOnlyTheHookIsNotTrusted(t *testing.T) {
	for _, layer := range constants(t, eventSource, "Layer") {
		r := Build(Input{Log: recorded(event.Event{Layer: event.Layer(layer), Category: event.File, Verdict: event.Allowed})})
		if got, want := r.AllActivities[0].Trusted, layer != "python"; got != want {
			t.Errorf("an event of %s is trusted: %v, want %v", layer, got, want)
		}
	}
}

func TestEachCategoryHasItsSection(t *testing.T) {
	section := func(s Section) []uint64 { return []uint64{s.Total, s.Allowed, s.Blocked, uint64(len(s.Details))} }
	sections := map[event.Category]func(*Report) []uint64{
		event.Import:    func(r *Report) []uint64 { return section(r.Imports) },
		event.File:      func(r *Report) []uint64 { return section(r.FileOperations) },
		event.Network:   func(r *Report) []uint64 { return section(r.NetworkOperations) },
		event.Process:   func(r *Report) []uint64 { return section(r.ProcessOperations) },
		event.Syscall:   func(r *Report) []uint64 { return section(r.Syscalls) },
		event.Exception: func(r *Report) []uint64 { return []uint64{r.Exceptions.Total, uint64(len(r.Exceptions.Details))} },
		event.Resource:  func(*Report) []uint64 { return nil }, // in the timeline only
	}
	for _, name := range constants(t, eventSource, "Category") {
		t.Run(name, func(t *testing.T) {
			category := event.Category(name)
			var events []event.Event
			for i, v := range []event.Verdict{event.Allowed, event.Observed, event.Denied, event.Killed} {
				events = append(events, event.Event{Layer: event.Seccomp, Category: category, Op: string(v), Verdict: v, Count: uint64(1 + i)})
			}
			r := Build(Input{Log: recorded(events...)})
			want := []uint64{10, 3, 7, 4} // let through: 1 allowed, 2 observed; not: 3 denied, 4 killed
			if category == event.Exception {
				want = []uint64{10, 4}
			}
			for c, counts := range sections {
				have := counts(r)
				switch {
				case c == category && c != event.Resource && !slices.Equal(have, want):
					t.Errorf("section %s has %d, want %d", c, have, want)
				case c != category && slices.ContainsFunc(have, func(n uint64) bool { return n != 0 }):
					t.Errorf("section %s has %d of it", c, have)
				}
			}
			if len(r.AllActivities) != 4 || r.ExecutionSummary.TotalActivities != 10 {
				t.Errorf("%d activities, %d in all; want 4 and 10", len(r.AllActivities), r.ExecutionSummary.TotalActivities)
			}
		})
	}
}

func TestRepeatsAreOneActivityWithACount(t *testing.T) {
	e := event.Event{Time: time.Millisecond, Layer: event.Seccomp, Category: event.Network, Op: "socket", Verdict: event.Denied, Errno: "EPERM", TID: 2}
	again := e
	again.Time, again.TID = 7*time.Millisecond, 3
	folded := e
	folded.Time, folded.Count = 9*time.Millisecond, 40
	r := Build(Input{Log: recorded(e, again, folded)})
	if len(r.AllActivities) != 1 {
		t.Fatalf("activities %+v, want one", r.AllActivities)
	}
	if a := r.AllActivities[0]; a.Count != 42 || a.TimeUS != 1000 || a.LastTimeUS != 9000 || a.TID != 2 {
		t.Errorf("activity %+v, want the first of 42, the last at 9 ms", a)
	}
	if r.NetworkOperations.Total != 42 || r.NetworkOperations.Blocked != 42 || r.ExecutionSummary.TotalActivities != 42 {
		t.Errorf("network_operations %+v of %d, want 42 blocked", r.NetworkOperations, r.ExecutionSummary.TotalActivities)
	}
	data, err := json.Marshal(Build(Input{Log: recorded(e)}).AllActivities[0])
	if err != nil || strings.Contains(string(data), "count") || strings.Contains(string(data), "last_t_us") {
		t.Errorf("what happened once has a count: %s, %v", data, err)
	}
}

func TestTheTimelineIsInTheOrderOfTime(t *testing.T) {
	var events []event.Event
	for i, ms := range []int{5, 1, 9, 1} {
		events = append(events, event.Event{Time: time.Duration(ms) * time.Millisecond, Layer: event.Python, Category: event.Import, Op: string(rune('a' + i))})
	}
	log := recorded(events...)
	r := Build(Input{Log: log})
	order := func(list []Activity) (ops string) {
		for _, a := range list {
			ops += a.Op
		}
		return ops
	}
	if got := order(r.AllActivities); got != "bdac" {
		t.Errorf("all_activities in the order %s, want bdac", got)
	}
	if got := order(r.Imports.Details); got != "bdac" {
		t.Errorf("imports in the order %s, want bdac", got)
	}
	if log.Entries[0].Op != "a" {
		t.Error("Build put the caller's events into another order")
	}
}

func TestHarmlessThingsCannotPushARefusedOneOut(t *testing.T) {
	rec := event.NewRecorder(2 * maxAll)
	for i := range maxAll + 500 {
		rec.Record(event.Event{Time: time.Duration(i), Layer: event.Python, Category: event.File, Op: "open", Location: &event.Location{Line: i}, Verdict: event.Allowed})
	}
	rec.Record(event.Event{Time: time.Hour, Layer: event.Seccomp, Category: event.File, Op: "openat", Target: "/etc/shadow", Verdict: event.Denied})
	rec.Record(event.Event{Time: time.Hour, Layer: event.Seccomp, Category: event.File, Op: "mknod", Verdict: event.Observed, Unexplained: true})
	rec.Record(event.Event{Time: time.Hour, Layer: event.Python, Category: event.Exception, Op: "ValueError", Verdict: event.Observed})
	r := Build(Input{Log: rec.Snapshot()})

	for _, op := range []string{"openat", "mknod", "ValueError"} {
		if !slices.ContainsFunc(r.AllActivities, func(a Activity) bool { return a.Op == op }) {
			t.Errorf("all_activities lost %s", op)
		}
	}
	last := r.FileOperations.Details[len(r.FileOperations.Details)-2:]
	if last[0].Op != "openat" || last[1].Op != "mknod" {
		t.Errorf("file_operations ends with %+v, want openat and mknod", last)
	}
	if len(r.AllActivities) != maxAll || len(r.FileOperations.Details) != maxDetails {
		t.Errorf("%d and %d listed, want %d and %d", len(r.AllActivities), len(r.FileOperations.Details), maxAll, maxDetails)
	}
	want := map[string]uint64{"all_activities": 503, "details.file": maxAll + 502 - maxDetails}
	if !reflect.DeepEqual(r.Dropped, want) {
		t.Errorf("dropped %v, want %v", r.Dropped, want)
	}
	if r.FileOperations.Total != maxAll+502 {
		t.Errorf("%d file operations counted, want %d", r.FileOperations.Total, maxAll+502)
	}
}

func TestWhatWasDroppedIsSaid(t *testing.T) {
	log := recorded(event.Event{Layer: event.Python, Category: event.Import, Op: "import"})
	log.Dropped = map[event.Layer]uint64{event.Python: 12, event.Seccomp: 0}
	log.Total += 12
	r := Build(Input{Log: log, Dropped: map[string]uint64{"hook.malformed": 3, "hook.suppressed": 0}})
	if want := map[string]uint64{"events.python": 12, "hook.malformed": 3}; !reflect.DeepEqual(r.Dropped, want) {
		t.Errorf("dropped %v, want %v", r.Dropped, want)
	}
	if r.ExecutionSummary.TotalActivities != 13 {
		t.Errorf("total_activities %d, want 13", r.ExecutionSummary.TotalActivities)
	}
}

func TestFindingsOfTheCallerFollowTheNearMisses(t *testing.T) {
	mine := []Finding{
		{Kind: "unexplained", Text: "socket reached the kernel", Confidence: High, Seq: 4},
		{Kind: "hook_silent", Text: "the hook announced no end", Confidence: Medium},
		{Kind: "forged_events", Text: "2 stretches were no events", Confidence: High},
	}
	r := Build(Input{Evidence: exited(0, pidsRefused), Findings: mine})
	if len(r.Findings) != 4 || r.Findings[0].Kind != "near_miss.pids" || !slices.Equal(r.Findings[1:], mine) {
		t.Errorf("findings %+v, want a near miss and %+v", r.Findings, mine)
	}
}

func TestTheReportSaysUnderWhichPolicyItWas(t *testing.T) {
	in := input(exited(0))
	in.Profile.Widened = []Widening{{"limits.wall", "5s", "10s"}}
	r := Build(in)
	if !reflect.DeepEqual(r.Profile, in.Profile) {
		t.Errorf("profile %+v, want %+v", r.Profile, in.Profile)
	}
	if !reflect.DeepEqual(r.Isolation.Layers, in.Layers) || !reflect.DeepEqual(r.ResourceLimits.Details, in.Limits) {
		t.Errorf("layers %+v and limits %+v, want those of the run", r.Isolation.Layers, r.ResourceLimits.Details)
	}
	if r.Host != in.Host || r.Script != in.Script || r.SBX.Version != in.Version || r.SchemaVersion != SchemaVersion {
		t.Errorf("host %+v, script %+v, sbx %+v, schema %s", r.Host, r.Script, r.SBX, r.SchemaVersion)
	}
}

func TestTimesAreOfTheWallClockAndPhasesOfTheStart(t *testing.T) {
	in := input(exited(0))
	r := Build(in)
	s := r.ExecutionSummary
	if s.StartTime != "2026-03-04T04:06:07.08Z" || s.EndTime != "2026-03-04T04:06:08.092Z" || s.DurationSeconds != 1.012 {
		t.Errorf("from %s to %s, %v s", s.StartTime, s.EndTime, s.DurationSeconds)
	}
	if got := r.Usage.StartPhases; len(got) != 2 || got[0].AtUS != 2000 || got[1].AtUS != 11000 {
		t.Errorf("phases %+v, want 2 ms and 11 ms", got)
	}
	if in.Usage.StartPhases[0].AtUS != 0 {
		t.Error("Build wrote into what it was given")
	}
}

// The program that sbx replaces wrote these keys; who reads them finds them with
// the same meaning.
func TestKeysOfTheReplacedProgramStay(t *testing.T) {
	data, _ := rendered(t, Build(input(exited(1, raised("ValueError", "x")), tour()...)))
	var r struct {
		Summary struct {
			Duration   *float64  `json:"duration_seconds"`
			Activities *int      `json:"total_activities"`
			Start      time.Time `json:"start_time"`
			End        time.Time `json:"end_time"`
		} `json:"execution_summary"`
		Imports, FileOperations, NetworkOperations struct{}
		Limits                                     struct{ Details []map[string]any } `json:"resource_limits"`
		All                                        []map[string]any                   `json:"all_activities"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if r.Summary.Duration == nil || r.Summary.Activities == nil || *r.Summary.Activities != 13 || !r.Summary.End.After(r.Summary.Start) {
		t.Errorf("execution_summary %+v", r.Summary)
	}
	if len(r.Limits.Details) != 5 || len(r.All) != 10 {
		t.Errorf("%d limits and %d activities, want 5 and 10", len(r.Limits.Details), len(r.All))
	}
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(data, &sections); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]int{"imports": {2, 1, 1, 2}, "file_operations": {4, 2, 2, 3}, "network_operations": {4, 0, 4, 2}} {
		var s struct {
			Total, Allowed, Blocked *int
			Details                 []map[string]any
		}
		if err := json.Unmarshal(sections[name], &s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s.Total == nil || s.Allowed == nil || s.Blocked == nil {
			t.Fatalf("%s lacks a count: %s", name, sections[name])
		}
		if got := []int{*s.Total, *s.Allowed, *s.Blocked, len(s.Details)}; !slices.Equal(got, want) {
			t.Errorf("%s: total, allowed, blocked, details %v, want %v", name, got, want)
		}
	}
	var exceptions struct {
		Total   int
		Details []struct{ Op, Target string }
	}
	if err := json.Unmarshal(sections["exceptions"], &exceptions); err != nil {
		t.Fatal(err)
	}
	if exceptions.Total != 1 || len(exceptions.Details) != 1 || exceptions.Details[0].Op != "ValueError" {
		t.Errorf("exceptions %+v, want the one", exceptions)
	}
}

func TestANumberThatJSONLacksDoesNotCostTheReport(t *testing.T) {
	in := Input{Limits: []Limit{{Resource: "memory", Limit: math.Inf(1), Used: math.NaN()}}}
	data, _ := rendered(t, Build(in))
	mustValidate(t, compileSchema(t), data)
}

func TestOutputKeepsBothEnds(t *testing.T) {
	euro := "\u20ac" // three bytes
	tests := []struct {
		name       string
		in         RawStream
		head, tail string
	}{
		{"nothing", RawStream{}, "", ""},
		{"all in the head", RawStream{Bytes: 2, Head: []byte("ab")}, "ab", ""},
		{"bytes that are no text", RawStream{Bytes: 3, Head: []byte("a\xffb")}, `a\xffb`, ""},
		{"a character cut after its first byte", RawStream{Bytes: 5, Head: []byte("a" + euro[:1]), Tail: []byte(euro[1:] + "b")}, "a", euro + "b"},
		{"a character cut after its second byte", RawStream{Bytes: 5, Head: []byte("a" + euro[:2]), Tail: []byte(euro[2:] + "b")}, "a", euro + "b"},
		{"a character cut with bytes missing", RawStream{Bytes: 9, Head: []byte("a" + euro[:1]), Tail: []byte(euro[1:] + "b")}, `a\xe2`, `\x82\xacb`},
		{"a character that never ends", RawStream{Bytes: 3, Head: []byte("a" + euro[:1]), Tail: []byte("b")}, `a\xe2`, "b"},
		{"a whole character before the cut", RawStream{Bytes: 4, Head: []byte(euro), Tail: []byte("b")}, euro, "b"},
		{"nothing after the cut", RawStream{Bytes: 1, Head: []byte(euro[:1])}, `\xe2`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Build(Input{Stdout: tt.in}).Output.Stdout
			if got.Head != tt.head || got.Tail != tt.tail || got.Bytes != tt.in.Bytes {
				t.Errorf("%+v, want head %q and tail %q", got, tt.head, tt.tail)
			}
		})
	}
	long := Build(Input{Stderr: RawStream{Bytes: 1 << 20, Truncated: true, Head: []byte("b" + strings.Repeat("x", 1<<19)), Tail: []byte(strings.Repeat("x", 1<<19) + "e")}}).Output.Stderr
	if !long.Truncated || !strings.HasPrefix(long.Head, "bxx") || !strings.HasSuffix(long.Tail, "xxe") || len(long.Head) > maxStream+3 || len(long.Tail) > maxStream+3 {
		t.Errorf("a long stream has a head of %d and a tail of %d bytes", len(long.Head), len(long.Tail))
	}
}
