package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sbxproject/sbx/pkg/event"
)

// lineWidth bounds a line of the summary.
const lineWidth = 160

// shownRefusals is how many refused things the summary names.
const shownRefusals = 10

// WriteText writes the summary for people: the verdict and why, what was
// refused, what is worth knowing. Nothing of the script's can act on a terminal
// or begin a line of its own.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	say := func(format string, args ...any) {
		b.WriteString("sbx: " + clip(EscapeTerminal(fmt.Sprintf(format, args...)), lineWidth) + "\n")
	}
	s := r.ExecutionSummary
	say("%s after %.2f s: %s", s.Verdict, s.DurationSeconds, s.Evidence)
	r.refused(say)
	var used []string
	for _, l := range r.ResourceLimits.Details {
		if l.Hit {
			used = append(used, fmt.Sprintf("%s %s of %s (reached)", l.Resource, amount(l.Used, l.Unit), amount(l.Limit, l.Unit)))
		} else if l.Limit > 0 && (l.Resource == "memory" || l.Resource == "cpu_time" || l.Resource == "wall_time") {
			used = append(used, fmt.Sprintf("%s %s of %s", l.Resource, amount(l.Used, l.Unit), amount(l.Limit, l.Unit)))
		}
	}
	if len(used) > 0 {
		say("used: %s", strings.Join(used, ", "))
	}
	for _, f := range r.Findings {
		say("finding: %s: %s", f.Kind, f.Text)
	}
	for _, l := range r.Isolation.Layers {
		if l.State == LayerDegraded {
			say("warning: layer %s is missing: %s", l.Name, l.Why)
		}
	}
	for _, x := range r.Profile.Widened {
		say("warning: wider than profile %s: %s: %s -> %s", r.Profile.Name, x.Field, x.From, x.To)
	}
	if s.Hint != "" {
		// A hint is ours and may be longer than a line.
		b.WriteString("sbx: hint: " + EscapeTerminal(s.Hint) + "\n")
	}
	if r.Name != "" {
		b.WriteString("sbx: report: " + EscapeTerminal(r.Name) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func amount(v float64, unit string) string {
	switch unit {
	case "bytes":
		return bytes(int64(v))
	case "seconds":
		return fmt.Sprintf("%.2f s", v)
	}
	return fmt.Sprintf("%g %s", v, unit)
}

// refused names what was refused, the most frequent first.
func (r *Report) refused(say func(string, ...any)) {
	type group struct {
		a Activity
		n uint64
	}
	var groups []group
	for _, a := range r.AllActivities {
		if a.Verdict != event.Denied && a.Verdict != event.Killed {
			continue
		}
		groups = append(groups, group{a, max(1, a.Count)})
	}
	slices.SortStableFunc(groups, func(x, y group) int { return cmp.Compare(y.n, x.n) })
	for i, g := range groups {
		if i == shownRefusals {
			say("refused: and %d more kinds, all in the report", len(groups)-i)
			break
		}
		line := fmt.Sprintf("refused: %s %s", g.a.Op, g.a.Target)
		if g.a.Target == "" || g.a.Target == g.a.Op {
			line = "refused: " + g.a.Op
		}
		if g.a.Errno != "" {
			line += " (" + g.a.Errno + ")"
		}
		if g.n > 1 {
			line += fmt.Sprintf(", %d times", g.n)
		}
		if g.a.Location != nil {
			line += ", at " + where(*g.a.Location)
		} else if g.a.Unexplained {
			line += ", not through Python's own doors"
		}
		say("%s", line)
	}
}

func where(l Location) string {
	s := fmt.Sprintf("%s:%d", strings.TrimPrefix(l.File, "/sandbox/"), l.Line)
	if l.Function != "" && l.Function != "<module>" {
		s += " in " + l.Function
	}
	return s
}

// WriteTimeline writes every activity on a line of its own.
func (r *Report) WriteTimeline(w io.Writer) error {
	var b strings.Builder
	for _, a := range r.AllActivities {
		line := fmt.Sprintf("%10.3f ms  %-8s %-8s %-9s %s %s", float64(a.TimeUS)/1000, a.Layer, a.Verdict, a.Category, a.Op, a.Target)
		if a.Count > 1 {
			line += fmt.Sprintf(" x%d", a.Count)
		}
		if a.Location != nil {
			line += "  at " + where(*a.Location)
		}
		b.WriteString(clip(EscapeTerminal(line), 2*lineWidth) + "\n")
	}
	for name, n := range r.Dropped {
		fmt.Fprintf(&b, "not shown: %s: %d\n", EscapeTerminal(name), n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
