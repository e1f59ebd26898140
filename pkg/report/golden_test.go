package report

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sbxproject/sbx/pkg/event"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file of testdata, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is no longer what is written; if that is wanted: go test ./pkg/report -update\n%s", path, difference(string(want), string(got)))
	}
}

// difference shows the first line that differs.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return "line " + strconv.Itoa(i+1) + "\nwant " + a + "\nhave " + b
		}
	}
	return ""
}

func rendered(t testing.TB, r *Report) (report, text []byte) {
	t.Helper()
	var j, s bytes.Buffer
	if err := r.WriteJSON(&j); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteText(&s); err != nil {
		t.Fatal(err)
	}
	return j.Bytes(), s.Bytes()
}

func recorded(events ...event.Event) event.Log {
	rec := event.NewRecorder(1000)
	for _, e := range events {
		rec.Record(e)
	}
	return rec.Snapshot()
}

func line(line int, function string) *event.Location {
	return &event.Location{File: "/sandbox/tour.py", Line: line, Function: function, Claimed: true}
}

// input is a run of profile strict with this end and these events.
func input(e Evidence, events ...event.Event) Input {
	start := time.Date(2026, time.March, 4, 5, 6, 7, 80_000_000, time.FixedZone("", 3600))
	limit := func(name string, limit, used float64, unit, by string, hit bool) Limit {
		return Limit{name, limit, unit, used, by, hit}
	}
	verdict := Classify(e).Verdict
	return Input{
		Version: "v1.2.3", Name: "report.json", Start: start, End: start.Add(e.Wall + 12*time.Millisecond),
		Log: recorded(events...), Evidence: e,
		Usage: Usage{
			WallSeconds: e.Wall.Seconds(), CPUUserSeconds: e.CPU.Seconds(), PeakMemoryBytes: e.MemoryPeak, PeakProcesses: 3,
			StdoutBytes: e.OutputBytes, SurvivorsKilled: 1,
			StartPhases: []Phase{{Name: "clone", At: 2 * time.Millisecond}, {Name: "python", At: 11 * time.Millisecond}},
		},
		Stdout: RawStream{Bytes: e.OutputBytes, Truncated: e.OutputBytes > e.OutputLimit, Head: []byte("caf\xc3\xa9 \xff\n"), Tail: []byte("done\n")},
		Layers: []Layer{
			{Name: "seccomp", Required: true, State: LayerActive, Observed: "Seccomp: 2"},
			{Name: "landlock", State: LayerAbsent, Why: "not asked for by the profile"},
		},
		Profile: Profile{Name: "strict", SHA256: strings.Repeat("ab", 32)},
		Script:  Script{"tour.py", strings.Repeat("cd", 32)},
		Host:    Host{"6.1.0-40-amd64", "3.11.7", "/usr/bin/python3.11", 70000},
		Limits: []Limit{
			limit("wall_time", e.WallLimit.Seconds(), e.Wall.Seconds(), "seconds", "supervisor", verdict == WallTimeLimit),
			limit("cpu_time", e.CPULimit.Seconds(), e.CPU.Seconds(), "seconds", "supervisor", verdict == CPUTimeLimit),
			limit("memory", float64(e.MemoryLimit), float64(e.MemoryPeak), "bytes", "cgroup", e.OOMKills > 0),
			limit("processes", float64(e.PIDsLimit), 3, "processes", "cgroup", e.PIDsRefused > 0),
			limit("output", float64(e.OutputLimit), float64(e.OutputBytes), "bytes", "supervisor", e.OutputBytes > e.OutputLimit),
		},
	}
}

// tour is one event of every kind that the two witnesses make.
func tour() []event.Event {
	ms := time.Millisecond
	refusedOpen := event.Event{
		Time: 20 * ms, Layer: event.Seccomp, Category: event.File, Op: "openat", Target: "/etc/motd", Verdict: event.Denied, Errno: "EROFS",
		PID: 2, TID: 2, Location: line(24, "<lambda>"), Stack: []event.Location{*line(24, "<lambda>"), *line(31, "<module>")},
		ExplainedBy: "open", Detail: `openat(AT_FDCWD, "/etc/motd", O_WRONLY|O_CREAT, 0666)`,
	}
	again := refusedOpen
	again.Time, again.TID = 40*ms, 3
	return []event.Event{
		{Time: 5 * ms, Layer: event.Python, Category: event.Import, Op: "import", Target: "json", Verdict: event.Allowed, PID: 2, TID: 2, Location: line(2, "<module>")},
		{Time: 6 * ms, Layer: event.Python, Category: event.Import, Op: "import", Target: "socket", Verdict: event.Denied, PID: 2, TID: 2, Location: line(3, "<module>")},
		refusedOpen, again,
		{Time: 25 * ms, Layer: event.Python, Category: event.File, Op: "open", Target: "/tmp/notes", Verdict: event.Allowed, PID: 2, TID: 2, Location: line(9, "write"), Detail: "write"},
		{Time: 30 * ms, Layer: event.Python, Category: event.Network, Op: "socket.getaddrinfo", Target: "example.org:80", Verdict: event.Denied, PID: 2, TID: 2, Location: line(26, "<lambda>"), Count: 3},
		{Time: 31 * ms, Layer: event.Seccomp, Category: event.Network, Op: "socket", Target: "AF_INET", Verdict: event.Denied, Errno: "EPERM", PID: 2, TID: 2, Unexplained: true, Detail: "socket(AF_INET, SOCK_STREAM, 0)"},
		{Time: 32 * ms, Layer: event.Seccomp, Category: event.Process, Op: "execve", Target: "/bin/sh -c id", Verdict: event.Denied, Errno: "EPERM", PID: 4, TID: 4, Location: line(28, "<lambda>"), ExplainedBy: "subprocess.Popen"},
		{Time: 33 * ms, Layer: event.Seccomp, Category: event.Syscall, Op: "ptrace", Target: "PTRACE_ATTACH", Verdict: event.Denied, Errno: "EPERM", PID: 2, TID: 2},
		{Time: 34 * ms, Layer: event.Seccomp, Category: event.File, Op: "openat", Target: "/tmp/notes", Verdict: event.Observed, PID: 2, TID: 2, Location: line(30, ""), ExplainedBy: "open"},
		{Time: 50 * ms, Layer: event.Python, Category: event.Exception, Op: "ValueError", Target: "no number: 'x'", Verdict: event.Observed, PID: 2, TID: 2, Location: line(12, "average"), Detail: "uncaught in main"},
	}
}

func reports() map[string]Input {
	full := input(exited(1, raised("ValueError", "no number: 'x'"), pidsRefused), tour()...)
	full.Findings = []Finding{
		{Kind: "unexplained", Text: "socket reached the kernel without passing Python's own doors: ctypes, native code, or a silenced hook", Confidence: High, Seq: 6},
		{Kind: "hook_silent", Text: "the hook announced no end: os._exit, a crash, or a script that silenced it", Confidence: Medium},
	}
	full.Dropped = map[string]uint64{"hook.malformed": 0, "hook.suppressed": 2}

	degraded := input(ended("wall", used(10*time.Second, 40*time.Millisecond)),
		event.Event{Time: 10 * time.Second, Layer: event.Supervisor, Category: event.Resource, Op: "wall_time", Target: "wall_time", Verdict: event.Killed})
	degraded.Name = "fd:3"
	degraded.Layers = append(degraded.Layers, Layer{Name: "cgroup.memory", Required: true, State: LayerDegraded, Why: "no memory controller that this user may write"})
	degraded.Limits[2].EnforcedBy = "none"
	degraded.Profile.Widened = []Widening{{"limits.wall", "5s", "10s"}, {"require", "cgroup.memory", "may be missing"}}
	degraded.Log.Dropped[event.Python] = 120
	degraded.Log.Total += 120

	return map[string]Input{
		"tour":     full,
		"degraded": degraded,
		"quiet":    input(exited(0)),
		"hostile":  hostile(),
		"nothing":  {},
	}
}

func TestGoldenReports(t *testing.T) {
	schema := compileSchema(t)
	for name, in := range reports() {
		t.Run(name, func(t *testing.T) {
			r := Build(in)
			report, text := rendered(t, r)
			mustValidate(t, schema, report)
			golden(t, name+".json", report)
			golden(t, name+".txt", text)
			var timeline bytes.Buffer
			if err := r.WriteTimeline(&timeline); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".timeline", timeline.Bytes())
		})
	}
}

func TestGoldenSummaryOfEachVerdict(t *testing.T) {
	for _, v := range constants(t, "verdict.go", "Verdict") {
		t.Run(v, func(t *testing.T) {
			var all bytes.Buffer
			for _, row := range classifications {
				if row.verdict != Verdict(v) {
					continue
				}
				_, text := rendered(t, Build(input(row.facts)))
				all.WriteString("# " + row.name + "\n")
				all.Write(text)
			}
			golden(t, filepath.Join("verdict", v+".txt"), all.Bytes())
		})
	}
}
