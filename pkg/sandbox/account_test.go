package sandbox

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/report"
)

func TestAccountKeepsTheLargestFootprint(t *testing.T) {
	a := &account{}
	a.add(footprint{total: 10, anonymous: 7, file: 3}, 2)
	a.add(footprint{total: 30, anonymous: 20, kernel: 10}, 5)
	a.add(footprint{total: 20, anonymous: 20}, 3)
	if want := (footprint{total: 30, anonymous: 20, kernel: 10}); a.largest != want || a.tasks != 5 || a.seen() != 30 {
		t.Errorf("%+v, %d tasks", a.largest, a.tasks)
	}
	a.baseline = 12
	x := &execution{account: a, layers: &layers{seen: map[string]report.Layer{}}}
	for name, tt := range map[string]struct {
		peak, script int64
		baseline     int64
	}{
		"above the baseline":        {40, 28, 12},
		"the interpreter alone":     {12, 0, 12},
		"a peak that nobody kept":   {0, 0, 12},
		"a beginning that was lost": {40, 0, 0},
	} {
		a.baseline = tt.baseline
		m := x.memory(tt.peak)
		if m.Script != tt.script || m.Baseline != tt.baseline || m.Anonymous != 20 || m.Kernel != 10 || m.MeasuredBy != "processes" {
			t.Errorf("%s: %+v, want %d of the script's own", name, m, tt.script)
		}
	}
	x.layers.active("cgroup.memory", "")
	if m := x.memory(40); m.MeasuredBy != "cgroup" {
		t.Errorf("measured by %s", m.MeasuredBy)
	}
}

func TestExceeds(t *testing.T) {
	have := footprint{total: 6400, anonymous: 1000, file: 500, kernel: 100}
	for name, tt := range map[string]struct {
		f    footprint
		want bool
	}{
		"the same":                          {have, false},
		"larger":                            {footprint{total: 6600}, true},
		"smaller":                           {footprint{total: 6200, anonymous: 6000}, false},
		"as large, and accounted for":       {footprint{total: 6400, anonymous: 5900, file: 500}, true},
		"a bit smaller, and accounted for":  {footprint{total: 6300, anonymous: 5700, file: 500}, true},
		"a bit larger, and less is known":   {footprint{total: 6500, anonymous: 900}, false},
		"a bit larger, and more is known":   {footprint{total: 6500, anonymous: 1900}, true},
		"the first, of which much is known": {footprint{total: 1, anonymous: 1}, false},
	} {
		if got := tt.f.exceeds(have); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if !(footprint{total: 1}).exceeds(footprint{}) {
		t.Error("something does not exceed nothing")
	}
}

func TestDisksUsed(t *testing.T) {
	a := &account{disks: []*disk{{name: "/tmp", fd: -1, bytes: 100, files: 3}, {name: "/workspace", fd: -1, bytes: 50, files: 2, full: "files"}}}
	bytes, files, full, of := a.disksUsed()
	if bytes != 150 || files != 5 || full != "/workspace" || of != "files" {
		t.Errorf("%d bytes, %d files, %s full of %s", bytes, files, full, of)
	}
	if got := a.inFiles(); got != 0 {
		t.Errorf("file systems that are not there hold %d bytes", got)
	}
	fd, err := unix.Open(t.TempDir(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a = &account{disks: []*disk{{name: "/tmp", fd: fd}}}
	now := a.inFiles()
	if bytes, _, full, _ := a.disksUsed(); now <= 0 || bytes != now || full != "" {
		t.Errorf("the disk of the test holds %d bytes, %d at most, full %q", now, bytes, full)
	}
	a.close()
	if err := unix.Close(fd); err == nil {
		t.Error("the descriptor was left open")
	}
}

func TestTampering(t *testing.T) {
	at := &event.Location{File: "/sandbox/a.py", Line: 3, Claimed: true}
	seen := event.Log{Entries: []event.Entry{
		{Event: event.Event{Layer: event.Python, Op: "compile", Target: "/usr/lib/os.py", Location: at}, Seq: 1},
		{Event: event.Event{Layer: event.Python, Op: "gc.get_objects"}, Seq: 2},
		{Event: event.Event{Layer: event.Python, Op: "open"}, Seq: 3},
		{Event: event.Event{Layer: event.Python, Op: "sys.settrace"}, Seq: 4}, // debuggers, coverage
		{Event: event.Event{Layer: event.Seccomp, Op: "compile"}, Seq: 5},
		{Event: event.Event{Layer: event.Python, Op: "cpython.PyInterpreterState_New", Location: at}, Seq: 6},
	}}
	got := tampering(seen)
	want := []struct {
		kind, text string
		seq        uint64
	}{
		{"forged_name", "code of the script was named after a file of the runtime (/usr/lib/os.py), at a.py:3: what it does would seem to be done there", 1},
		{"tamper", "gc.get_objects finds any object of the interpreter, the hook's own among them; debuggers and leak detectors use it as well", 2},
		{"tamper", "a sub-interpreter has no hook of ours, at a.py:3; some libraries use them for parallel work", 6},
	}
	if len(got) != len(want) {
		t.Fatalf("findings %+v", got)
	}
	for i, w := range want {
		if f := got[i]; f.Kind != w.kind || f.Text != w.text || f.Seq != w.seq || f.Confidence != report.Medium {
			t.Errorf("%+v, want %+v", f, w)
		}
	}
}
