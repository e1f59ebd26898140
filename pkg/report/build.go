package report

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sbxproject/sbx/pkg/event"
)

// Bounds on what a report holds; what is cut is counted in dropped.
const (
	maxDetails = 1000 // activities of each section
	maxAll     = 4000 // activities in all
	maxTarget  = 4096 // bytes
	maxDetail  = 2048
	maxWord    = 256 // names of functions, modules, operations
	maxFrames  = 16
	maxSize    = 8 << 20 // bytes of the whole report
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
		SBX:           SBX{in.Version},
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
		Output:         Output{stream(in.Stdout), stream(in.Stderr)},
		Isolation:      Isolation{in.Layers},
		Profile:        in.Profile,
		Script:         Script{bounded(in.Script.Path, maxTarget), in.Script.SHA256},
		Host:           in.Host,
		ResourceLimits: ResourceLimits{in.Limits},
		Findings:       slices.Concat([]Finding{}, in.Findings, Findings(in.Evidence)),
		Dropped:        map[string]uint64{},
	}
	if in.Evidence.Exited {
		r.ExecutionSummary.ExitCode = &in.Evidence.Code
	}
	if r.Profile.Widened == nil {
		r.Profile.Widened = []Widening{}
	}
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
	for i := range r.Usage.StartPhases {
		r.Usage.StartPhases[i].AtUS = r.Usage.StartPhases[i].At.Microseconds()
	}
	r.fill(in.Log)
	return r
}

// fill sorts the events into the timeline and the sections.
func (r *Report) fill(log event.Log) {
	entries := slices.Clone(log.Entries)
	slices.SortStableFunc(entries, func(a, b event.Entry) int { return cmp.Compare(a.Time, b.Time) })
	sections := map[event.Category]*Section{
		event.Import: &r.Imports, event.File: &r.FileOperations, event.Network: &r.NetworkOperations,
		event.Process: &r.ProcessOperations, event.Syscall: &r.Syscalls,
	}
	for category, s := range sections {
		t := log.Tallies[category]
		*s = Section{Total: t.Allowed + t.Denied, Allowed: t.Allowed, Blocked: t.Denied, Details: []Activity{}}
	}
	t := log.Tallies[event.Exception]
	r.Exceptions = Exceptions{Total: t.Allowed + t.Denied, Details: []Activity{}}
	r.AllActivities = make([]Activity, 0, min(len(entries), maxAll))
	for _, e := range entries {
		a := activity(e)
		var details *[]Activity
		if s := sections[e.Category]; s != nil {
			details = &s.Details
		} else if e.Category == event.Exception {
			details = &r.Exceptions.Details
		}
		if details != nil {
			if len(*details) < maxDetails {
				*details = append(*details, a)
			} else {
				r.Dropped["details."+string(e.Category)]++
			}
		}
		if len(r.AllActivities) < maxAll {
			r.AllActivities = append(r.AllActivities, a)
		} else {
			r.Dropped["all_activities"]++
		}
	}
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

func bounded(s string, limit int) string { return Text([]byte(s), limit) }

func stream(s RawStream) Stream {
	return Stream{Bytes: s.Bytes, Truncated: s.Truncated, Head: Text(s.Head, len(s.Head)), Tail: Text(s.Tail, len(s.Tail))}
}

// WriteJSON writes the report: UTF-8, with every character escaped that could
// do something to a terminal, a page or a log. It is at most 8 MiB.
func (r *Report) WriteJSON(w io.Writer) error {
	data, err := r.encode()
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

func (r *Report) encode() ([]byte, error) {
	for {
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("encode report: %w", err)
		}
		data = append(escapeJSON(data), '\n')
		if len(data) <= maxSize || !r.shrink() {
			return data, nil
		}
	}
}

// shrink halves what takes the room; false when there is nothing left to give.
func (r *Report) shrink() bool {
	given := false
	halve := func(name string, list *[]Activity) {
		if n := len(*list); n > 16 {
			r.Dropped[name] += uint64(n - n/2)
			*list = (*list)[:n/2]
			given = true
		}
	}
	halve("all_activities", &r.AllActivities)
	halve("details.import", &r.Imports.Details)
	halve("details.file", &r.FileOperations.Details)
	halve("details.network", &r.NetworkOperations.Details)
	halve("details.process", &r.ProcessOperations.Details)
	halve("details.syscall", &r.Syscalls.Details)
	halve("details.exception", &r.Exceptions.Details)
	return given
}

// maxRead bounds a report that is read back.
const maxRead = 64 << 20

// Read reads a report that WriteJSON wrote. A mistake is named with its place.
func Read(from io.Reader) (*Report, error) {
	data, err := io.ReadAll(bufio.NewReader(io.LimitReader(from, maxRead+1)))
	if err != nil {
		return nil, err
	}
	if len(data) > maxRead {
		return nil, errors.New("larger than 64 MiB")
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	var r Report
	if err := dec.Decode(&r); err != nil {
		return nil, place(data, err)
	}
	if dec.More() {
		return nil, errors.New("text after the report's end")
	}
	if r.SchemaVersion == "" {
		return nil, errors.New("schema_version: missing; this is no report of sbx")
	}
	if major, _, _ := strings.Cut(r.SchemaVersion, "."); major != "1" {
		return nil, fmt.Errorf("schema_version: %q is of a newer sbx, this one reads 1.x", r.SchemaVersion)
	}
	return &r, nil
}

// place adds line and column to an error of the decoder.
func place(data []byte, err error) error {
	offset := int64(len(data))
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
		err = fmt.Errorf("%s: want %s, have %s", kind.Field, kind.Type, kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		err = errors.New("it ends in the middle")
	}
	before := data[:min(max(offset, 0), int64(len(data)))]
	line := 1 + strings.Count(string(before), "\n")
	column := len(before) - strings.LastIndex(string(before), "\n")
	return fmt.Errorf("line %d, column %d: %w", line, column, err)
}
