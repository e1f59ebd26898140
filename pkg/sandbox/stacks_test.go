package sandbox

import (
	"slices"
	"testing"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/pystack"
)

func TestStood(t *testing.T) {
	at := func(file string, line int, function string) event.Location {
		return event.Location{File: file, Line: line, Function: function, Claimed: true}
	}
	loop, main, module := at("/sandbox/script.py", 7, "loop"), at("/sandbox/script.py", 12, "main"), at("/sandbox/script.py", 14, "<module>")
	for _, tt := range []struct {
		stack []event.Location
		want  string
	}{
		{[]event.Location{module}, "thread 3 of process 2 was at script.py:14"},
		{[]event.Location{loop, main}, "thread 3 of process 2 was at script.py:7 in loop (from script.py:12 in main)"},
		{[]event.Location{loop, main, module}, "thread 3 of process 2 was at script.py:7 in loop (from script.py:12 in main, script.py:14)"},
		{
			append([]event.Location{at("/usr/lib/x.py", 1, "f")}, slices.Repeat([]event.Location{loop}, stoodCallers+1)...),
			"thread 3 of process 2 was at /usr/lib/x.py:1 in f (from script.py:7 in loop, script.py:7 in loop, script.py:7 in loop, script.py:7 in loop, ...)",
		},
	} {
		if got := stood("thread 3 of process 2", pystack.Thread{NSTID: 3, Stack: tt.stack}); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

func TestNoStackIsSaidWhereItMatters(t *testing.T) {
	old := &execution{stacks: pystack.New(pystack.Options{Major: 3, Minor: 8})}
	if _, text := old.noStack(0); text != "" {
		t.Errorf("nothing was refused, and yet: %s", text)
	}
	if confidence, text := old.noStack(1); text == "" || confidence != "high" {
		t.Errorf("nothing is said of a version that is not read (%s)", confidence)
	}
	fine := &execution{stacks: pystack.New(pystack.Options{Major: 3, Minor: 11, Image: pystack.Image{Symbol: 1 << 22, Fixed: true}})}
	if _, text := fine.noStack(1); text != "" {
		t.Errorf("nobody asked, and yet: %s", text)
	}
	// A calibration that reads nothing turns it off, refused calls or not.
	fine.stacks.Calibrate(-1, 1)
	if _, text := fine.noStack(0); text == "" {
		t.Error("nothing is said of a calibration that failed")
	}
}
