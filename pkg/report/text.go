package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sbxproject/sbx/pkg/event"
)

// Bounds of the summary, for people.
const (
	columns  = 79  // of a line; a name that wraps at column 80 could begin a line of its own
	longest  = 400 // characters of one remark
	shown    = 10  // remarks of one kind
	nameSize = 60  // characters of a path, an address, a command
)

// summary is a text of remarks, each on a line of its own and wrapped by us.
// Nothing of the script's can act on a terminal or begin a line.
type summary struct{ strings.Builder }

func (b *summary) say(format string, args ...any) {
	b.remark("sbx: ", fmt.Sprintf(format, args...), "     ")
}

// remark writes a text after a label, and goes on behind an indent where a line
// is full. Runs of spaces are one: they could push the rest to where it looks
// like a line of its own.
func (b *summary) remark(label, text, indent string) {
	line, used := label, width(label)
	for i, part := range strings.Fields(clip(EscapeTerminal(text), longest)) {
		if i > 0 {
			line, used = line+" ", used+1
		}
		if n := width(part); used+n > columns && n <= columns-len(indent) {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line, used = indent, len(indent)
		}
		for _, r := range part {
			n := width(string(r))
			if used+n > columns {
				b.WriteString(line + "\n")
				line, used = indent, len(indent)
			}
			line += string(r)
			used += n
		}
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// width is how many columns a text takes at most: what is not ASCII may be wide.
func width(s string) int {
	n := 0
	for _, r := range s {
		if n++; r >= utf8.RuneSelf {
			n++
		}
	}
	return n
}

// WriteText writes the summary for people: the verdict and why, what to do,
// what was refused, what else is worth knowing.
func (r *Report) WriteText(w io.Writer) error {
	var b summary
	s := r.ExecutionSummary
	b.say("%s after %.2f s: %s%s", s.Verdict, s.DurationSeconds, clip(EscapeTerminal(s.Evidence), longest/2), r.raised())
	if s.Hint != "" {
		b.say("hint: %s", s.Hint)
	}
	r.refused(&b)
	r.notes(&b)
	if used := r.used(); used != "" {
		b.say("used: %s", used)
	}
	r.warnings(&b)
	if r.Name != "" {
		// The caller's own words, to be copied whole.
		b.WriteString("sbx: report: " + EscapeTerminal(r.Name) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// raised says where the exception came from that ended the script.
func (r *Report) raised() string {
	s := r.ExecutionSummary
	if s.Verdict != Exception {
		return ""
	}
	for _, a := range r.Exceptions.Details {
		if a.Location != nil && a.Op != "" && strings.HasPrefix(s.Evidence, a.Op) {
			return ", at " + where(*a.Location)
		}
	}
	return ""
}

// used lists the limits that matter most, and each that was reached.
func (r *Report) used() string {
	names := map[string]string{
		"wall_time": "time", "cpu_time": "cpu", "memory": "memory", "cpu_percent": "cpu share",
		"output": "output", "processes": "processes", "tmp": "/tmp", "tmp_files": "files in /tmp", "open_files": "open files", "file_size": "file size",
	}
	var out []string
	for _, l := range r.ResourceLimits.Details {
		always := l.Resource == "wall_time" || l.Resource == "cpu_time" || l.Resource == "memory"
		if l.Limit <= 0 || !l.Hit && !always || len(out) == shown {
			continue
		}
		text := fmt.Sprintf("%s %s of %s", orWord(names[l.Resource], word(l.Resource, nameSize)), amount(l.Used, l.Unit), amount(l.Limit, l.Unit))
		if own := r.Usage.Memory.Script; l.Resource == "memory" && own > 0 {
			text += fmt.Sprintf(", %s of it the script's own", byteSize(own))
		}
		switch {
		case l.Hit:
			text += " (limit reached)"
		case l.EnforcedBy == "none":
			text += " (not enforced)"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func amount(v float64, unit string) string {
	switch unit {
	case "bytes":
		return byteSize(int64(v))
	case "seconds":
		return strings.TrimSuffix(fmt.Sprintf("%.2f", v), ".00") + " s"
	case "percent":
		return fmt.Sprintf("%.0f %%", v)
	}
	return fmt.Sprintf("%g", v)
}

// refused names what was refused, the most frequent first. A limit that was
// reached is no refusal; the verdict speaks of it.
func (r *Report) refused(b *summary) {
	times := func(a Activity) uint64 { return max(1, a.Count) }
	var list []Activity
	for _, a := range r.AllActivities {
		if (a.Verdict == event.Denied || a.Verdict == event.Killed) && a.Category != event.Resource {
			list = append(list, a)
		}
	}
	slices.SortStableFunc(list, func(x, y Activity) int { return cmp.Compare(times(y), times(x)) })
	for _, a := range list[:min(len(list), shown)] {
		line := "refused: " + word(a.Op, nameSize)
		if a.Target != "" && a.Target != a.Op {
			line += " " + word(a.Target, nameSize)
		}
		if a.Errno != "" {
			line += " (" + word(a.Errno, nameSize) + ")"
		}
		if n := times(a); n > 1 {
			line += fmt.Sprintf(", %d times", n)
		}
		if a.Location != nil {
			line += ", at " + where(*a.Location)
		}
		if a.Unexplained {
			line += ", not through Python's own functions"
		}
		b.say("%s", line)
	}
	if more := len(list) - shown; more > 0 {
		b.say("refused: and %d more, %s", more, r.inReport())
	}
}

// inReport says where the rest is to be found.
func (r *Report) inReport() string {
	if r.Name == "" {
		return "listed by --report FILE"
	}
	return "listed in the report"
}

// notes says what was found beside the verdict. What the lines of refused calls
// or the hint say is not said again.
func (r *Report) notes(b *summary) {
	var texts []string
	times := map[string]int{}
	for _, f := range r.Findings {
		if f.Kind == "unexplained" || r.ExecutionSummary.Verdict == WallTimeLimit && (f.Kind == "asleep" || f.Kind == "near_miss.stdin") {
			continue
		}
		if f.Kind == "stood_at" && !strings.Contains(f.Text, " (from ") && strings.HasPrefix(f.Text, "the main thread") {
			continue // the evidence has it
		}
		text := "note: "
		if f.Confidence != High {
			text = "note, not certain: "
		}
		if text += f.Text; times[text] == 0 {
			texts = append(texts, text)
		}
		times[text]++
	}
	for _, text := range texts[:min(len(texts), shown)] {
		if n := times[text]; n > 1 {
			text += fmt.Sprintf(" (%d times)", n)
		}
		b.say("%s", text)
	}
	if more := len(texts) - shown; more > 0 {
		b.say("note: and %d more, %s", more, r.inReport())
	}
	lost := r.Dropped["all_activities"]
	for name, n := range r.Dropped {
		if strings.HasPrefix(name, "events.") {
			lost += n
		}
	}
	if lost > 0 {
		b.say("note: the script did more than the report lists; counted only: %d", lost)
	}
}

// warnings says in which ways the run was held less firmly than the profile has it.
func (r *Report) warnings(b *summary) {
	var texts []string
	for _, l := range r.Isolation.Layers {
		if l.State == LayerDegraded {
			texts = append(texts, fmt.Sprintf("the isolation layer %s was missing: %s", word(l.Name, nameSize), l.Why))
		}
	}
	for _, x := range r.Profile.Widened {
		if x.Field == "require" {
			continue // a layer that may be missing: of one that is, the lines above speak
		}
		texts = append(texts, fmt.Sprintf("more was allowed than in profile %s: %s: %s -> %s", word(r.Profile.Name, nameSize), x.Field, x.From, x.To))
	}
	for _, text := range texts[:min(len(texts), shown)] {
		b.say("warning: %s", text)
	}
	if more := len(texts) - shown; more > 0 {
		b.say("warning: and %d more, %s", more, r.inReport())
	}
}

// where is a place as people read it: the script's own name without the
// directory that it has in the jail.
func where(l Location) string {
	s := fmt.Sprintf("%s:%d", word(strings.TrimPrefix(l.File, "/sandbox/"), nameSize), l.Line)
	if l.Function != "" && l.Function != "<module>" {
		s += " in " + word(l.Function, nameSize)
	}
	return s
}

// WriteTimeline writes every activity on a line of its own.
func (r *Report) WriteTimeline(w io.Writer) error {
	var b summary
	for _, a := range r.AllActivities {
		kind := fmt.Sprintf("%-8s %-8s %-9s ", word(string(a.Layer), 10), word(string(a.Verdict), 10), word(string(a.Category), 10))
		text := word(a.Op, nameSize)
		if a.Target != "" {
			text += " " + word(a.Target, nameSize)
		}
		if a.Count > 1 {
			text += fmt.Sprintf(" x%d", a.Count)
		}
		if a.Location != nil {
			text += ", at " + where(*a.Location)
		}
		b.remark(fmt.Sprintf("%10.3f ms  %s", float64(a.TimeUS)/1000, kind), text, strings.Repeat(" ", 15))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Dropped)) {
		b.remark("not shown: ", fmt.Sprintf("%s: %d", word(name, nameSize), r.Dropped[name]), "     ")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
