package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sbxproject/sbx/pkg/event"
)

// Bounds on what a report holds; what is left out is counted in dropped. They
// add up to less than maxSize even where every byte is written as an escape of
// six: TestWorstReportIsBounded.
const (
	maxDetails  = 1000 // activities of each section
	maxAll      = 4000 // activities in all
	maxTarget   = 4096 // bytes
	maxDetail   = 2048
	maxWord     = 256 // names of functions, modules, operations
	maxText     = 1024
	maxFrames   = 16
	maxStream   = 32 << 10 // head and tail of each output stream
	maxFindings = 100
	maxWidened  = 64
	maxEncoded  = 4 << 20 // bytes of JSON that the activities may take
	maxSize     = 8 << 20 // bytes of the whole report
)

// Input is everything that a report is made of.
type Input struct {
	Version    string
	Name       string // where the report will be
	Start, End time.Time
	Log        event.Log
	Evidence   Evidence
	Usage      Usage
	Stdout     RawStream
	Stderr     RawStream
	Layers     []Layer
	Profile    Profile
	Script     Script
	Host       Host
	Limits     []Limit
	Findings   []Finding
	Dropped    map[string]uint64
}

// RawStream is an output stream as it came.
type RawStream struct {
	Bytes      int64
	Truncated  bool
	Head, Tail []byte
}

// Build folds the input into a report.
func Build(in Input) *Report {
	outcome := Classify(in.Evidence)
	r := &Report{
		SchemaVersion: SchemaVersion,
		SBX:           SBX{bounded(in.Version, maxWord)},
		Name:          in.Name,
		ExecutionSummary: Summary{
			DurationSeconds: in.End.Sub(in.Start).Seconds(),
			TotalActivities: in.Log.Total,
			StartTime:       in.Start.UTC().Format(time.RFC3339Nano),
			EndTime:         in.End.UTC().Format(time.RFC3339Nano),
			Success:         outcome.Verdict == OK,
			Verdict:         outcome.Verdict,
			Evidence:        bounded(outcome.Evidence, maxDetail),
			Signal:          in.Evidence.Signal,
			Hint:            outcome.Hint,
		},
		Usage:          in.Usage,
		Output:         output(in.Stdout, in.Stderr),
		Isolation:      Isolation{make([]Layer, 0, len(in.Layers))},
		Profile:        Profile{bounded(in.Profile.Name, maxTarget), in.Profile.SHA256, []Widening{}},
		Script:         Script{bounded(in.Script.Path, maxTarget), in.Script.SHA256},
		Host:           Host{in.Host.Kernel, bounded(in.Host.Python, maxWord), bounded(in.Host.PythonPath, maxTarget), in.Host.UID},
		ResourceLimits: ResourceLimits{make([]Limit, 0, len(in.Limits))},
		Findings:       []Finding{},
		Dropped:        map[string]uint64{},
	}
	if in.Evidence.EndedBy == "interrupted" {
		// What ended the script is how sbx passed the signal on.
		r.ExecutionSummary.Signal = orWord(in.Evidence.Caller, "SIGTERM")
	} else if in.Evidence.Exited {
		r.ExecutionSummary.ExitCode = &in.Evidence.Code
	}
	r.Usage.StartPhases = make([]Phase, 0, len(in.Usage.StartPhases))
	for _, p := range in.Usage.StartPhases {
		r.Usage.StartPhases = append(r.Usage.StartPhases, Phase{p.Name, p.At, p.At.Microseconds()})
	}
	for _, l := range in.Layers {
		l.Observed, l.Why = bounded(l.Observed, maxDetail), bounded(l.Why, maxDetail)
		r.Isolation.Layers = append(r.Isolation.Layers, l)
	}
	for _, l := range in.Limits {
		l.Limit, l.Used = finite(l.Limit), finite(l.Used)
		r.ResourceLimits.Details = append(r.ResourceLimits.Details, l)
	}
	for _, w := range in.Profile.Widened[:min(len(in.Profile.Widened), maxWidened)] {
		w.From, w.To = bounded(w.From, maxText), bounded(w.To, maxText)
		r.Profile.Widened = append(r.Profile.Widened, w)
	}
	r.drop("profile.widened", len(in.Profile.Widened)-maxWidened)
	findings := slices.Concat(Findings(in.Evidence), in.Findings)
	for _, f := range findings[:min(len(findings), maxFindings)] {
		f.Kind, f.Text = bounded(f.Kind, maxWord), bounded(f.Text, maxText)
		r.Findings = append(r.Findings, f)
	}
	r.drop("findings", len(findings)-maxFindings)
	for name, n := range in.Dropped {
		if n > 0 {
			r.Dropped[name] = n
		}
	}
	for layer, n := range in.Log.Dropped {
		if n > 0 {
			r.Dropped["events."+string(layer)] = n
		}
	}
	r.fill(in.Log)
	return r
}

// drop counts what a list did not take.
func (r *Report) drop(name string, n int) {
	if n > 0 {
		r.Dropped[name] += uint64(n)
	}
}

// finite keeps a number that JSON has no word for from costing the report.
func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

// fill sorts the events into the timeline and the sections. Where there are
// more than fit, the refused ones have the first claim: a script cannot push
// them out by doing a thousand harmless things before.
func (r *Report) fill(seen event.Log) {
	entries := slices.Clone(seen.Entries)
	slices.SortStableFunc(entries, func(a, b event.Entry) int { return cmp.Compare(a.Time, b.Time) })
	sections := map[event.Category]*Section{
		event.Import: &r.Imports, event.File: &r.FileOperations, event.Network: &r.NetworkOperations,
		event.Process: &r.ProcessOperations, event.Syscall: &r.Syscalls,
	}
	lists := map[event.Category]*[]Activity{event.Exception: &r.Exceptions.Details}
	for category, s := range sections {
		t := seen.Tallies[category]
		*s = Section{Total: t.Allowed + t.Denied, Allowed: t.Allowed, Blocked: t.Denied, Details: []Activity{}}
		lists[category] = &s.Details
	}
	t := seen.Tallies[event.Exception]
	r.Exceptions = Exceptions{Total: t.Allowed + t.Denied, Details: []Activity{}}
	r.AllActivities = []Activity{}

	all, details := choose(entries, func(c event.Category) bool { return lists[c] != nil })
	for i, e := range entries {
		list := lists[e.Category]
		if all[i] {
			r.AllActivities = append(r.AllActivities, activity(e))
		} else {
			r.drop("all_activities", 1)
		}
		switch {
		case list == nil: // of no section, such as a limit that was reached
		case details[i]:
			*list = append(*list, activity(e))
		default:
			r.drop("details."+string(e.Category), 1)
		}
	}
}

// choose says which entries go into the timeline, and which into their section.
func choose(entries []event.Entry, sectioned func(event.Category) bool) (all, details []bool) {
	all, details = make([]bool, len(entries)), make([]bool, len(entries))
	room, listed, inSection := maxEncoded, 0, map[event.Category]int{}
	for _, first := range []bool{true, false} {
		for i, e := range entries {
			timeline, section := listed < maxAll, sectioned(e.Category) && inSection[e.Category] < maxDetails
			if notable(e) != first || !timeline && !section || room < fieldsSize {
				continue
			}
			size := encodedSize(activity(e))
			if timeline && size <= room {
				all[i] = true
				listed++
				room -= size
			}
			if section && size <= room {
				details[i] = true
				inSection[e.Category]++
				room -= size
			}
		}
	}
	return all, details
}

// notable says that an activity is what somebody reads a report for.
func notable(e event.Entry) bool {
	return e.Verdict == event.Denied || e.Verdict == event.Killed || e.Unexplained || e.Category == event.Exception
}

func activity(e event.Entry) Activity {
	a := Activity{
		Seq: e.Seq, TimeUS: e.Time.Microseconds(), Layer: e.Layer, Category: e.Category,
		Op: bounded(e.Op, maxWord), Target: bounded(e.Target, maxTarget), Verdict: e.Verdict, Errno: e.Errno,
		PID: e.PID, TID: e.TID, Trusted: e.Layer.Trusted(),
		ExplainedBy: bounded(e.ExplainedBy, maxWord), Unexplained: e.Unexplained, Detail: bounded(e.Detail, maxDetail),
	}
	if e.Location != nil {
		l := location(*e.Location)
		a.Location = &l
	}
	for _, f := range e.Stack[:min(len(e.Stack), maxFrames)] {
		a.Stack = append(a.Stack, location(f))
	}
	if e.Repeats > 1 {
		a.Count, a.LastTimeUS = e.Repeats, e.LastTime.Microseconds()
	}
	return a
}

func location(l event.Location) Location {
	l.File, l.Function = bounded(l.File, maxTarget), bounded(l.Function, maxWord)
	return l
}

// bounded does not copy what it cuts off: a name can be as long as memory.
func bounded(s string, limit int) string {
	if len(s) > limit+utf8.UTFMax {
		s = s[:limit+utf8.UTFMax]
	}
	return Text([]byte(s), limit)
}

// output makes text of the streams.
func output(stdout, stderr RawStream) Output { return Output{stream(stdout), stream(stderr)} }

// stream keeps what stands at the beginning and at the end. Where nothing is
// missing between the two, a character that the cut went through is put
// together again.
func stream(s RawStream) Stream {
	head, tail := s.Head, s.Tail
	if int64(len(head)+len(tail)) == s.Bytes {
		if n := unfinished(head); n > 0 {
			whole := slices.Concat(head[len(head)-n:], tail)
			if r, size := utf8.DecodeRune(whole); r != utf8.RuneError && size > n {
				head, tail = head[:len(head)-n], whole
			}
		}
	}
	if len(tail) > maxStream {
		tail = tail[len(tail)-maxStream:]
	}
	return Stream{Bytes: s.Bytes, Truncated: s.Truncated, Head: Text(head, maxStream), Tail: Text(tail, maxStream)}
}

// unfinished returns how many bytes at the end begin a character and do not end it.
func unfinished(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if last := b[len(b)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}

// What the keys, numbers and indentation take at most: of an activity, of a text
// or a mark that not each has, of its count, of a place.
const (
	fieldsSize = 340
	optionSize = 32
	countSize  = 90
	frameSize  = 190
)

// encodedSize is at least the number of bytes that an activity takes in the file.
func encodedSize(a Activity) int {
	n := fieldsSize + escapedSize(a.Op) + escapedSize(a.Target)
	for _, s := range []string{a.Errno, a.ExplainedBy, a.Detail} {
		if s != "" {
			n += optionSize + escapedSize(s)
		}
	}
	if a.Unexplained {
		n += optionSize
	}
	if a.Count > 0 {
		n += countSize
	}
	if a.Location != nil {
		n += frameSize + escapedSize(a.Location.File) + escapedSize(a.Location.Function)
	}
	if len(a.Stack) > 0 {
		n += optionSize
	}
	for _, l := range a.Stack {
		n += frameSize + escapedSize(l.File) + escapedSize(l.Function)
	}
	return n
}

// WriteJSON writes the report: UTF-8, with every character escaped that could
// do something to a terminal, a page or a log. It is at most 8 MiB.
func (r *Report) WriteJSON(w io.Writer) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	_, err = w.Write(append(escapeJSON(data), '\n'))
	return err
}

// Rehearse makes encoding/json ready for a report, which takes it a millisecond at
// the first one: while a script runs nobody waits for that.
func Rehearse() { _, _ = json.Marshal(new(Report)) }

// maxRead bounds a report that is read back.
const maxRead = 64 << 20

// Read reads a report that WriteJSON wrote. A mistake is named with its place,
// in words that are safe to print.
func Read(from io.Reader) (*Report, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxRead+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxRead {
		return nil, errors.New("larger than 64 MiB")
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("the file is empty")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	var r Report
	if err := dec.Decode(&r); err != nil {
		return nil, place(data, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, at(data, dec.InputOffset(), "text after the report's end")
	}
	version := r.SchemaVersion
	if version == "" {
		return nil, errors.New("schema_version: missing; this is no report of sbx")
	}
	if major, _, _ := strings.Cut(version, "."); major != "1" {
		return nil, fmt.Errorf("schema_version: %s is of another sbx, this one reads 1.x", word(version, 40))
	}
	if v := r.ExecutionSummary.Verdict; !v.known() {
		return nil, fmt.Errorf("execution_summary.verdict: %s is no verdict", word(string(v), 40))
	}
	return &r, nil
}

// place adds line and column to an error of the decoder.
func place(data []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return at(data, int64(len(data)), "the file ends in the middle of the report")
	case errors.As(err, &syntax):
		return at(data, syntax.Offset-1, syntax.Error())
	case errors.As(err, &kind):
		what := "the report"
		if kind.Field != "" {
			what = word(kind.Field, 80)
		}
		return at(data, kind.Offset-1, fmt.Sprintf("%s: want %s, have %s", what, wanted(kind.Type), had(kind.Value)))
	}
	return at(data, 0, clip(EscapeTerminal(err.Error()), 200))
}

// at names a place in the data: offset is that of the byte to look at.
func at(data []byte, offset int64, what string) error {
	before := data[:min(max(offset, 0), int64(len(data)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Errorf("line %d, column %d: %s", line, column, what)
}

// wanted is what a Go type is in a report.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float64:
		return "a number"
	case reflect.Uint64:
		return "a whole number that is not negative"
	}
	return "a whole number"
}

// had is what the decoder found, in the words of wanted.
func had(value string) string {
	if number, ok := strings.CutPrefix(value, "number "); ok {
		return "the number " + word(number, 40)
	}
	switch value {
	case "string":
		return "a text"
	case "bool":
		return "true or false"
	case "array":
		return "a list"
	case "object":
		return "an object"
	}
	return "a number"
}
