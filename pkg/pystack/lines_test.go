package pystack

import (
	"encoding/json"
	"os/exec"
	"testing"
)

// said is what an interpreter says of the lines of a code object.
type said struct {
	Name  string
	Table []byte
	First int64
	Lines [][3]int64 // from, to, line; 0 is none
}

const linesProbe = `
import sys, json, base64, types, dis
def walk(code):
    yield code
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            yield from walk(c)
def lines(code):
    if hasattr(code, 'co_lines'):
        return [(a, b, l or 0) for a, b, l in code.co_lines()]
    starts = list(dis.findlinestarts(code)) + [(len(code.co_code), 0)]
    return [(a, b, l) for (a, l), (b, _) in zip(starts, starts[1:])]
odd = '''
def f(x):
    try:
        return [y for y in
                x if y]
    except (ValueError,
            TypeError) as e:
        raise
    finally:
        with x as z, \\
             z as y:
            pass
def %s(): pass
''' % ('g' * 50) + '\n' * 70000 + 'x = 1\nfor i in range(3): x = (i,\n' + '  2,\n' * 300 + '  3)\n'
out = []
for name, source in [('odd', odd)] + [(m, open(__import__(m, fromlist='x').__file__, encoding='utf-8').read()) for m in ('typing', 'argparse', 'asyncio.base_events', 'inspect', 'decimal', 'dis')]:
    for code in walk(compile(source, name, 'exec')):
        table = code.co_linetable if hasattr(code, 'co_linetable') else code.co_lnotab
        out.append({'Name': code.co_name, 'Table': base64.b64encode(table).decode(), 'First': code.co_firstlineno, 'Lines': lines(code)})
json.dump(out, sys.stdout)
`

// TestLinesAreThoseOfTheInterpreter, for every instruction of some of its modules.
func TestLinesAreThoseOfTheInterpreter(t *testing.T) {
	eachPython(t, func(t *testing.T, p python) {
		out, err := exec.Command(p.Exe, "-I", "-S", "-c", linesProbe).Output()
		if err != nil {
			t.Fatal(err)
		}
		var all []said
		if err := json.Unmarshal(out, &all); err != nil {
			t.Fatal(err)
		}
		layout, err := layoutOf(p.Major, p.Minor, p.image.Offsets)
		if err != nil {
			t.Fatal(err)
		}
		asked, wrong := 0, 0
		for _, c := range all {
			for _, l := range c.Lines {
				for at := l[0]; at < l[1]; at += 2 {
					asked++
					if got := layout.lines.line(c.Table, c.First, at); int64(got) != l[2] {
						if wrong++; wrong < 5 {
							t.Errorf("%s, at %d: line %d, want %d", c.Name, at, got, l[2])
						}
					}
				}
			}
		}
		if asked < 10_000 {
			t.Errorf("asked for %d instructions only", asked)
		}
	})
}
