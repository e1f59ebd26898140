package sandbox

import (
	"fmt"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/report"
)

// tampering says which activities of a run may have been meant for its witnesses.
// They are the hook's word, and each has honest uses, so none is certain.
func tampering(seen event.Log) []report.Finding {
	var out []report.Finding
	for _, e := range seen.Entries {
		if e.Layer != event.Python {
			continue
		}
		kind, text := suspicion(e.Event)
		if kind != "" {
			out = append(out, report.Finding{Kind: kind, Text: text, Confidence: report.Medium, Seq: e.Seq})
		}
	}
	return out
}

// suspicion is what an event of the hook may mean beside what it says.
func suspicion(e event.Event) (kind, text string) {
	where := ""
	if e.Location != nil {
		where = ", at " + place(*e.Location)
	}
	switch e.Op {
	case "compile", "code.__new__":
		return "forged_name", fmt.Sprintf("code of the script was named after a file of the runtime (%s)%s: what it does would seem to be done there", e.Target, where)
	case "gc.get_objects", "gc.get_referrers", "gc.get_referents":
		return "tamper", fmt.Sprintf("%s finds any object of the interpreter, the hook's own among them%s; debuggers and leak detectors use it as well", e.Op, where)
	case "cpython.PyInterpreterState_New":
		return "tamper", "a sub-interpreter has no hook of ours" + where + "; some libraries use them for parallel work"
	}
	return "", ""
}
