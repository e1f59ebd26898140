package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sbxproject/sbx/pkg/event"
)

// attacks are texts that a script puts wherever it may choose one.
var attacks = map[string]string{
	"ANSI escapes":         "\x1b[2J\x1b[31mred\x1b]0;title\x07\x1b[1A\x1b[2K",
	"carriage return":      "x\rsbx: ok after 0.00 s: all is well",
	"line of the summary":  "x\nsbx: ok after 0.00 s: all is well\nsbx: report: /etc/passwd\n",
	"vertical movement":    "\v\f\b\b\b\b",
	"NUL":                  "a\x00b",
	"DEL":                  "a\x7fb",
	"C1 controls":          "\u009b31m\u0085\u0090x\u009c",
	"raw C1 bytes":         "\x9b31m\x85",
	"invalid UTF-8":        "\xff\xfe\xc0\xaf\xf8\x88\x80\x80\x80",
	"cut UTF-8":            "ab\xe2\x82",
	"lone surrogates":      "\xed\xa0\x80 \xed\xbf\xbf",
	"bidi controls":        "\u202egnp.exe\u202c \u2066x\u2069 \u200f \u061c",
	"line separators":      "a\u2028b\u2029c",
	"invisible":            "a\u200b\u2060\ufeff\u00ad\u034f\u3164\u115f\ufe0fb",
	"tags":                 "\U000e0041\U000e007f",
	"private use":          "\ue000\U000f0000\U0010fffd",
	"noncharacters":        "\ufffe\uffff\ufdd0\U0001ffff",
	"spaces that are none": "a\u00a0b\u2003c\u3000d",
	"JSON injection":       `","verdict":"ok"}],"x":[{"y":"`,
	"HTML injection":       `</script><script>alert(1)</script><img src=x onerror=alert(1)>&amp;`,
	"shell injection":      "$(id) `id` ; rm -rf /",
	"format verbs":         "%s %d %n %!s(MISSING)",
	"escapes of ours":      `\x1b[31m \u202e \n \\`,
	"spaces to the margin": strings.Repeat(" ", 200) + "sbx: ok after 0.00 s",
	"words to the margin":  strings.Repeat("x", 58) + " sbx: ok after 0.00 s",
	"forged tail":          "/tmp/x (EPERM), 1 times, at innocent.py:1",
	"wide characters":      strings.Repeat("\u6f22", 500),
	"long":                 strings.Repeat("A", 40000),
	"long and escaped":     strings.Repeat("\x1b", 40000),
	"long and invalid":     strings.Repeat("\xff", 40000),
	"long and far":         strings.Repeat("\U000e0041", 10000),
}

// attacked is a run in which the script put a text everywhere it can.
func attacked(text string) Input {
	loc := event.Location{File: text, Line: 1, Function: text, Claimed: true}
	in := input(exited(1, raised(text, text)))
	var events []event.Event
	for _, c := range []event.Category{event.Import, event.File, event.Network, event.Process, event.Exception, event.Syscall, event.Resource} {
		for _, v := range []event.Verdict{event.Allowed, event.Denied} {
			events = append(events, event.Event{
				Layer: event.Python, Category: c, Op: text, Target: text, Verdict: v, Errno: "EPERM", PID: 2, TID: 2,
				Location: &loc, Stack: slices.Repeat([]event.Location{loc}, 2), ExplainedBy: text, Detail: text,
			})
		}
	}
	in.Log = recorded(events...)
	in.Stdout = RawStream{Bytes: int64(2 * len(text)), Head: []byte(text), Tail: []byte(text)}
	in.Stderr = in.Stdout
	in.Findings = []Finding{{Kind: text, Text: text, Confidence: Medium}, {Kind: text, Text: text, Confidence: High}}
	in.Layers = append(in.Layers, Layer{Name: "python_hooks", State: LayerDegraded, Observed: text, Why: text})
	in.Profile.Widened = []Widening{{"python.imports", text, text}}
	in.Script.Path, in.Name = text, text
	in.Host.Python, in.Host.PythonPath = text, text
	return in
}

// hostile is the golden one: every attack that has a readable length.
func hostile() Input {
	in := input(exited(1, raised("Bad\x1b[2J", "x\nsbx: ok after 0.00 s: all is well")))
	var events []event.Event
	names := make([]string, 0, len(attacks))
	for name := range attacks {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		if text := attacks[name]; len(text) < 500 {
			events = append(events, event.Event{
				Time: time.Duration(i) * time.Millisecond, Layer: event.Seccomp, Category: event.File, Op: "openat", Target: text, Verdict: event.Denied,
				Errno: "EROFS", PID: 2, TID: 2, Location: &event.Location{File: text, Line: i, Function: text, Claimed: true}, Count: uint64(1 + i%3), Detail: name,
			})
		}
	}
	in.Log = recorded(events...)
	in.Stderr = RawStream{Bytes: 9, Head: []byte("\x1b[31mred\xff")}
	return in
}

// texts lists every string of a decoded JSON value, keys included.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, x := range v {
			out = append(out, texts(x)...)
		}
		return out
	case map[string]any:
		var out []string
		for k, x := range v {
			out = append(append(out, k), texts(x)...)
		}
		return out
	}
	return nil
}

// harmful finds the first character that can act on a terminal or a reader; it
// does not use the code under test.
func harmful(data []byte) (rune, bool) {
	for _, r := range string(data) {
		if r == '\n' || r >= ' ' && r < 0x7f {
			continue
		}
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.Zl, unicode.Zp, unicode.Noncharacter_Code_Point,
			unicode.Bidi_Control, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) {
			return r, true
		}
	}
	return 0, false
}

func TestAReportOfHostileTextIsValidAndBounded(t *testing.T) {
	schema := compileSchema(t)
	for name, text := range attacks {
		t.Run(name, func(t *testing.T) {
			r := Build(attacked(text))
			var out bytes.Buffer
			if err := r.WriteJSON(&out); err != nil {
				t.Fatal(err)
			}
			data := out.Bytes()
			if len(data) > maxSize {
				t.Errorf("%d bytes, want at most %d", len(data), maxSize)
			}
			if !utf8.Valid(data) {
				t.Error("not UTF-8")
			}
			if c, bad := harmful(data); bad {
				t.Errorf("the file holds %U as it is", c)
			}
			if bytes.ContainsAny(data, "<>&") {
				t.Error("the file holds markup")
			}
			mustValidate(t, schema, data)
			var doc any
			if err := json.Unmarshal(data, &doc); err != nil {
				t.Fatal(err)
			}
			for _, s := range texts(doc) {
				if strings.ContainsRune(s, utf8.RuneError) {
					t.Errorf("%.60q lost what it was", s)
				}
			}
			back, err := Read(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			var again bytes.Buffer
			if err := back.WriteJSON(&again); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again.Bytes(), data) {
				t.Error("reading and writing it again changed it")
			}
		})
	}
}

// begin are the ways in which a line of the summary may begin.
var begin = []string{
	"sbx: exception after ", "sbx: hint: ", "sbx: refused: ", "sbx: note: ", "sbx: note, not certain: ", "sbx: used: ",
	"sbx: warning: ", "sbx: report: ", "     ",
}

func TestHostileTextCannotActOnATerminalOrForgeALine(t *testing.T) {
	// How many remarks there are does not depend on what they say.
	remarks := func(text []byte) (starts []string) {
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "     ") {
				first, _, _ := strings.Cut(strings.TrimPrefix(line, "sbx: "), " ")
				starts = append(starts, strings.TrimSpace(first))
			}
		}
		return starts
	}
	harmless := attacked("x")
	_, text := rendered(t, Build(harmless))
	want := remarks(text)

	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			r := Build(attacked(attack))
			r.Name = "report.json" // its name is the caller's
			r.Dropped = nil        // or there is one remark more
			_, text := rendered(t, r)
			var timeline bytes.Buffer
			if err := r.WriteTimeline(&timeline); err != nil {
				t.Fatal(err)
			}
			for _, out := range [][]byte{text, timeline.Bytes()} {
				if c, bad := harmful(out); bad {
					t.Errorf("it prints %U", c)
				}
				if !utf8.Valid(out) {
					t.Error("not UTF-8")
				}
				for line := range strings.Lines(string(out)) {
					if n := width(strings.TrimSuffix(line, "\n")); n > columns {
						t.Errorf("a line of %d columns wraps where the script likes: %q", n, line)
					}
				}
			}
			for line := range strings.Lines(string(text)) {
				if !slices.ContainsFunc(begin, func(b string) bool { return strings.HasPrefix(strings.TrimSuffix(line, "\n")+" ", b) }) {
					t.Errorf("a line begins in a way that is not ours: %q", line)
				}
			}
			if got := remarks(text); !slices.Equal(got, want) {
				t.Errorf("remarks %q, want %q", got, want)
			}
			for line := range strings.Lines(timeline.String()) {
				if !strings.HasPrefix(line, "     ") {
					t.Errorf("a line of the timeline begins with a text: %q", line)
				}
			}
			if len(text) > 16<<10 {
				t.Errorf("a summary of %d bytes", len(text))
			}
		})
	}
}

func TestARefusedThingCannotForgeItsPlaceOrCount(t *testing.T) {
	a := Activity{
		Category: event.File, Op: "openat", Target: attacks["forged tail"], Verdict: event.Denied, Errno: "EROFS", Count: 7,
		Location: &Location{File: "/sandbox/evil.py", Line: 3, Function: "f, at innocent.py:9"},
	}
	_, text := rendered(t, &Report{ExecutionSummary: Summary{Verdict: OK}, AllActivities: []Activity{a}})
	joined := strings.ReplaceAll(string(text), "\n     ", " ")
	const want = `refused: openat "/tmp/x (EPERM), 1 times, at innocent.py:1" (EROFS), 7 times, at evil.py:3 in "f, at innocent.py:9"`
	if !strings.Contains(joined, want) {
		t.Errorf("summary\n%swant %s", text, want)
	}
}

func TestALongNameLeavesRoomForThePlaceAndTheCount(t *testing.T) {
	a := Activity{
		Category: event.File, Op: "openat", Target: "/begin" + strings.Repeat("x", 5000) + "end", Verdict: event.Denied, Errno: "EROFS", Count: 7,
		Location: &Location{File: "evil.py", Line: 3},
	}
	_, text := rendered(t, &Report{ExecutionSummary: Summary{Verdict: OK}, AllActivities: []Activity{a}})
	for _, want := range []string{"/begin", "end (EROFS)", "7 times", "evil.py:3"} {
		if !strings.Contains(strings.ReplaceAll(string(text), "\n     ", " "), want) {
			t.Errorf("summary\n%swant %q in it", text, want)
		}
	}
}

func TestANameOfTenMegabytesTakesFewKilobytes(t *testing.T) {
	name := strings.Repeat("\x1b", 10<<20)
	in := input(exited(1, raised(name, name)), event.Event{
		Layer: event.Seccomp, Category: event.File, Op: "openat", Target: name, Detail: name, Verdict: event.Denied,
		Location: &event.Location{File: name, Function: name},
	})
	in.Stdout = RawStream{Bytes: int64(len(name)), Head: []byte(name)}
	data, text := rendered(t, Build(in))
	if len(data) > 512<<10 || len(text) > 4<<10 {
		t.Errorf("%d bytes of JSON and %d of summary", len(data), len(text))
	}
	mustValidate(t, compileSchema(t), data)
}

// worst is the largest report that events can make: all different, each byte of
// each text an escape of six, and more of everything than is kept.
func worst() Input {
	in := attacked(strings.Repeat("\x1b", 8192))
	in.Name = "report.json"
	rec := event.NewRecorder(1 << 20)
	for i := range 6000 {
		text := fmt.Sprint(i)
		e := event.Event{Time: time.Duration(i), Layer: event.Seccomp, Category: event.File, Op: text, Target: text, Verdict: event.Allowed}
		if i%20 == 0 {
			text += strings.Repeat("\x01", 8192)
			loc := event.Location{File: text, Function: text}
			e.Op, e.Target, e.Detail, e.ExplainedBy, e.Location, e.Stack = text, text, text, text, &loc, slices.Repeat([]event.Location{loc}, 40)
		}
		rec.Record(e)
	}
	in.Log = rec.Snapshot()
	in.Findings = slices.Repeat(in.Findings, 500)
	in.Profile.Widened = slices.Repeat(in.Profile.Widened, 500)
	in.Layers = slices.Repeat(in.Layers[:1], 18)
	for i := range in.Layers {
		in.Layers[i].Observed = strings.Repeat("\x1b", 8192)
		in.Layers[i].Why = in.Layers[i].Observed
	}
	return in
}

func TestWorstReportIsBounded(t *testing.T) {
	r := Build(worst())
	data, text := rendered(t, r)
	if len(data) > maxSize {
		t.Errorf("%d bytes of JSON, want at most %d", len(data), maxSize)
	}
	if len(text) > 32<<10 {
		t.Errorf("%d bytes of summary", len(text))
	}
	listed := uint64(len(r.AllActivities))
	if listed == 0 || listed+r.Dropped["all_activities"] != 6000 {
		t.Errorf("%d listed and %d dropped, want 6000 in all", listed, r.Dropped["all_activities"])
	}
	if got := uint64(len(r.Findings)) + r.Dropped["findings"]; got != 1000 {
		t.Errorf("findings listed and dropped: %d, want 1000", got)
	}
	if got := uint64(len(r.Profile.Widened)) + r.Dropped["profile.widened"]; got != 500 {
		t.Errorf("widenings listed and dropped: %d, want 500", got)
	}
	mustValidate(t, compileSchema(t), data)
}

func TestEncodedSizeIsNeverTooSmall(t *testing.T) {
	// size is what an activity takes in a list where it is not the last.
	size := func(a Activity) int {
		t.Helper()
		list := func(n int) int {
			data, err := json.MarshalIndent(node{"all_activities": slices.Repeat([]Activity{a}, n)}, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			return len(escapeJSON(data))
		}
		return list(2) - list(1)
	}
	check := func(name string, a Activity) {
		t.Helper()
		if got, limit := size(a), encodedSize(a); got > limit {
			t.Errorf("%s: an activity takes %d bytes, counted as %d", name, got, limit)
		}
	}
	const far = math.MinInt64 // the longest number
	plain := Activity{Seq: math.MaxUint64, TimeUS: far, Layer: event.Supervisor, Category: event.Exception, Verdict: event.Observed, PID: far, TID: far}
	loc := &Location{File: "f", Line: far, Function: "f"}
	for name, change := range map[string]func(*Activity){
		"nothing":     func(*Activity) {},
		"errno":       func(a *Activity) { a.Errno = "E" },
		"explained":   func(a *Activity) { a.ExplainedBy = "e" },
		"unexplained": func(a *Activity) { a.Unexplained = true },
		"detail":      func(a *Activity) { a.Detail = "d" },
		"count":       func(a *Activity) { a.Count, a.LastTimeUS = math.MaxUint64, far },
		"location":    func(a *Activity) { a.Location = loc },
		"stack":       func(a *Activity) { a.Stack = []Location{*loc} },
		"deep stack":  func(a *Activity) { a.Stack = slices.Repeat([]Location{*loc}, maxFrames) },
	} {
		a := plain
		change(&a)
		check(name, a)
		// No part lives on the room of another.
		if got, limit := size(a)-size(plain), encodedSize(a)-encodedSize(plain); got > limit {
			t.Errorf("%s takes %d bytes, counted as %d", name, got, limit)
		}
	}
	for name, text := range attacks {
		for _, e := range attacked(text).Log.Entries {
			check(name, activity(e))
		}
	}
}

func TestEveryTextOfAReportIsBounded(t *testing.T) {
	const most = 4 * maxStream // \xNN for each byte
	in := attacked(strings.Repeat("\xff", 2*maxStream))
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			if v.Len() > most+3 {
				t.Errorf("%s has %d bytes", path, v.Len())
			}
		case reflect.Pointer:
			if !v.IsNil() {
				walk(path, v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(path+"[]", v.Index(i))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.Tag.Get("json") != "-" {
					walk(path+"."+f.Name, v.Field(i))
				}
			}
		}
	}
	walk("report", reflect.ValueOf(Build(in)))
}
