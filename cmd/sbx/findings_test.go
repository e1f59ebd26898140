package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/sbxproject/sbx/pkg/report"
)

// findings are those of one kind.
func (o outcome) findings(kind string) []report.Finding {
	return slices.DeleteFunc(slices.Clone(o.report.Findings), func(f report.Finding) bool { return f.Kind != kind })
}

// forge writes an event to the hook's channel, as the hook does.
const forge = `
import marshal, os, threading, time
def forge(op, target):
    record = (2, os.getpid(), threading.get_native_id(), time.monotonic_ns(), op, 0, 1, target, '', __file__, 99, 'nobody')
    data = marshal.dumps(record, 2)
    os.write(62, b'\xf5SBX' + len(data).to_bytes(2, 'little') + data)
`

// TestWhatTheTwoWitnessesSayTogether: the finding of each kind, and that it speaks
// of the activity.
func TestWhatTheTwoWitnessesSayTogether(t *testing.T) {
	for _, tt := range []struct {
		name, code string
		flags      []string
		kind, text string
	}{
		{"an event that is made up", forge + "forge('os.remove', '/etc/passwd')\nforge('os.remove', '/etc/shadow')\nimport json\n", nil, "no_trace", "announced os.remove"},
		{"a raw call", "import ctypes\nctypes.CDLL(None).socket(2, 1, 0)\n", []string{"--hooks", "observe"}, "unexplained", "socket reached the kernel"},
		{"a name of the runtime for code of the script", "import os\nexec(compile('x = 1', os.__file__, 'exec'))\n", []string{"--hooks", "observe"}, "forged_name", "named after a file of the runtime"},
		{"the same, refused", "import os\ntry: compile('x = 1', os.__file__, 'exec')\nexcept OSError: pass\n", nil, "forged_name", "named after a file of the runtime"},
		{"a look through all objects", "import gc\nhooks = [x for x in gc.get_objects() if callable(x)]\n", nil, "tamper", "gc.get_objects"},
		{"garbage in the channel", "import os\nos.write(62, b'garbage')\n", nil, "forged_events", "no events"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := runScript(t, tt.code, append([]string{"--profile", "strict"}, tt.flags...)...)
			o.wantVerdict(t, report.OK, 0)
			found := o.findings(tt.kind)
			if len(found) == 0 || !strings.Contains(found[0].Text, tt.text) {
				t.Fatalf("findings %+v, want %s: %s", o.report.Findings, tt.kind, tt.text)
			}
			if f := found[0]; f.Seq != 0 && !slices.ContainsFunc(o.report.AllActivities, func(a report.Activity) bool { return a.Seq == f.Seq }) {
				t.Errorf("%+v is about no activity of the report", f)
			}
			if len(found) > 1 && tt.kind != "no_trace" {
				t.Errorf("said %d times: %+v", len(found), found)
			}
		})
	}
}
