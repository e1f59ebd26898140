package report

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
)

func TestWhatWasWrittenIsReadBack(t *testing.T) {
	for name, in := range reports() {
		t.Run(name, func(t *testing.T) {
			r := Build(in)
			data, text := rendered(t, r)
			back, err := Read(iotest.OneByteReader(bytes.NewReader(data)))
			if err != nil {
				t.Fatal(err)
			}
			back.Name = r.Name
			data2, text2 := rendered(t, back)
			if !bytes.Equal(data, data2) || !bytes.Equal(text, text2) {
				t.Errorf("it reads as another report:\n%s", text2)
			}
			if back.ExitStatus() != r.ExitStatus() {
				t.Errorf("exit status %d, was %d", back.ExitStatus(), r.ExitStatus())
			}
		})
	}
}

func TestKeysOfALaterVersionAreNoMistake(t *testing.T) {
	const later = `{"schema_version": "1.7", "mood": {"good": true}, "execution_summary": {"verdict": "ok", "colour": "green"}}`
	r, err := Read(strings.NewReader(later))
	if err != nil {
		t.Fatal(err)
	}
	if r.SchemaVersion != "1.7" || r.ExecutionSummary.Verdict != OK {
		t.Errorf("read %s, %s", r.SchemaVersion, r.ExecutionSummary.Verdict)
	}
}

func TestACorruptReportIsRefusedWithItsPlace(t *testing.T) {
	const good = `{"schema_version": "1.0", "execution_summary": {"verdict": "ok"}}`
	tests := []struct {
		name, file, want string
	}{
		{"empty", "", "the file is empty"},
		{"blank", " \n\t ", "the file is empty"},
		{"cut", good[:20], "line 1, column 21: the file ends in the middle of the report"},
		{"cut in a later line", "{\n  \"schema_version\":", "line 2, column 20: the file ends in the middle of the report"},
		{"no JSON", "hello", "line 1, column 1: invalid character 'h'"},
		{"no quotes", "{\n  schema", "line 2, column 3: invalid character 's'"},
		{"a line break in a text", "{\"a\": \"b\n\"}", `line 1, column 9: invalid character '\n'`},
		{"a control character", "{\"a\": \"\x1b[2J\"}", `line 1, column 8: invalid character '\x1b'`},
		{"a text after it", good + "\nhello", "line 2, column 1: text after the report's end"},
		{"a brace after it", good + "}", "text after the report's end"},
		{"a bracket after it", good + " ]", "text after the report's end"},
		{"twice", good + good, "text after the report's end"},
		{"null", "null", "schema_version: missing"},
		{"an empty object", "{}", "schema_version: missing"},
		{"another object", `{"name": "left-pad"}`, "schema_version: missing"},
		{"a list", "[1, 2]", "line 1, column 1: the report: want an object, have a list"},
		{"a number", "42", "have a number"},
		{"a newer version", `{"schema_version": "2.0"}`, "schema_version: 2.0 is of another sbx"},
		{"a version that is none", `{"schema_version": "1x"}`, "schema_version: 1x is of another sbx"},
		{"a hostile version", `{"schema_version": "\u001b[2J\nsbx: ok"}`, `schema_version: "\x1b[2J\nsbx: ok" is`},
		{"no verdict", `{"schema_version": "1.0"}`, `execution_summary.verdict: "" is no verdict`},
		{"a verdict that is none", `{"schema_version": "1.0", "execution_summary": {"verdict": "fine"}}`, "execution_summary.verdict: fine is no verdict"},
		{"a text for a count", "{\n\"imports\": {\"total\": \"many\"}}", "line 2, column 27: imports.total: want a whole number that is not negative, have a text"},
		{"a negative count", `{"imports": {"total": -1}}`, "imports.total: want a whole number that is not negative, have the number -1"},
		{"a fraction of a process", `{"usage": {"peak_processes": 1.5}}`, "usage.peak_processes: want a whole number, have the number 1.5"},
		{"a number beyond all bounds", `{"usage": {"wall_seconds": 1e999}}`, "usage.wall_seconds: want a number, have the number 1e999"},
		{"an object for a list", `{"findings": {}}`, "findings: want a list, have an object"},
		{"a list for an object", `{"dropped": []}`, "dropped: want an object, have a list"},
		{"a number for a text", `{"script": {"path": 1}}`, "script.path: want a text, have a number"},
		{"a text for a yes or no", `{"execution_summary": {"success": "no"}}`, "execution_summary.success: want true or false, have a text"},
		{"a yes or no for a text", `{"script": {"path": true}}`, "script.path: want a text, have true or false"},
		{"a text for an exit status", `{"execution_summary": {"exit_code": "0"}}`, "execution_summary.exit_code: want a whole number, have a text"},
		{"an activity that is none", `{"all_activities": [{}, 7]}`, "all_activities: want an object, have a number"},
		{"a number without end", `{"imports": {"total": ` + strings.Repeat("9", 1<<20) + `}}`, "imports.total: want a whole number that is not negative, have the number 999"},
		{"too deep", strings.Repeat("[", 1<<20), "line 1, column "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Read(strings.NewReader(tt.file))
			if err == nil {
				t.Fatalf("read as %+v", r)
			}
			if r != nil {
				t.Error("an error and a report")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want one with %q", err, tt.want)
			}
			checkError(t, err)
		})
	}
}

var goWords = regexp.MustCompile(`uint64|int64|float64|\[\]|struct|report\.|event\.|map\[|unmarshal|Go `)

// checkError sees that an error is one short line that is safe to print.
func checkError(t *testing.T, err error) {
	t.Helper()
	if c, bad := harmful([]byte(err.Error())); bad || strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
		t.Errorf("error %q is no short line, %U", err, c)
	}
	if found := goWords.FindString(err.Error()); found != "" {
		t.Errorf("error %q speaks of %s", err, found)
	}
}

func TestReadErrorsOfTheFileArePassedOn(t *testing.T) {
	if _, err := Read(iotest.ErrReader(os.ErrPermission)); !errors.Is(err, os.ErrPermission) {
		t.Errorf("error %v, want that of the file", err)
	}
}

// spaces is a file that never ends.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestAFileWithoutEndIsNotReadToTheEnd(t *testing.T) {
	if _, err := Read(spaces{}); err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("error %v, want that it is too large", err)
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"quiet.json", "degraded.json", "tour.json"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte(`{"schema_version":"1.0","execution_summary":{"verdict":"signaled","signal":"SIGRTMIN+99"},"all_activities":[{"t_us":-1,"location":{},"verdict":"denied","count":18446744073709551615}],"resource_limits":{"details":[{"hit":true,"limit":-1e300,"unit":"bytes"}]}}`))
	f.Add([]byte(`{"schema_version":"1","execution_summary":{"verdict":"ok","hint":"` + strings.Repeat("x ", 900) + `"},"findings":null,"dropped":{"\u202e":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Read(bytes.NewReader(data))
		if (err == nil) == (r == nil) {
			t.Fatalf("report %v and error %v", r != nil, err)
		}
		if err != nil {
			checkError(t, err)
			return
		}
		r.ExitStatus()
		written, text := rendered(t, r)
		var timeline bytes.Buffer
		if err := r.WriteTimeline(&timeline); err != nil {
			t.Fatal(err)
		}
		for _, out := range [][]byte{written, text, timeline.Bytes()} {
			if c, bad := harmful(out); bad {
				t.Errorf("it writes %U", c)
			}
		}
		again, err := Read(bytes.NewReader(written))
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if !reflect.DeepEqual(again, r) {
			t.Errorf("read again it is another report:\n%+v\n%+v", again, r)
		}
	})
}

var errFull = errors.New("no room")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestAWriterThatFailsIsSaid(t *testing.T) {
	r := Build(input(exited(0), tour()...))
	for name, write := range map[string]func(io.Writer) error{"JSON": r.WriteJSON, "text": r.WriteText, "timeline": r.WriteTimeline} {
		if err := write(full{}); !errors.Is(err, errFull) {
			t.Errorf("%s: error %v, want that of the writer", name, err)
		}
	}
}
