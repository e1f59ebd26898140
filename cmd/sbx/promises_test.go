package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// promise is a row of the table of the README.
type promise struct {
	text, mechanism string
	tests           [][2]string // package and function
}

var testReference = regexp.MustCompile("`([a-z/]+) (Test[A-Za-z0-9]+)`")

// promises reads the table.
func promises(t *testing.T) []promise {
	t.Helper()
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(data), "| promise | mechanism | tests |\n|---|---|---|\n")
	if !ok {
		t.Fatal("the README has no table of promises")
	}
	var out []promise
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 {
			t.Fatalf("a row of %d cells: %s", len(cells), line)
		}
		p := promise{text: strings.TrimSpace(cells[0]), mechanism: strings.TrimSpace(cells[1])}
		if p.text == "" && len(out) > 0 {
			p.text = out[len(out)-1].text
		}
		for _, m := range testReference.FindAllStringSubmatch(cells[2], -1) {
			p.tests = append(p.tests, [2]string{m[1], m[2]})
		}
		if left := strings.Trim(testReference.ReplaceAllString(cells[2], ""), " ,"); left != "" {
			t.Errorf("%s: %q names no test", p.mechanism, left)
		}
		out = append(out, p)
	}
	return out
}

// testsOf are the test functions of a package.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Errorf("%s has no tests: %v", dir, err)
	}
	out := map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				out[fn.Name.Name] = true
			}
		}
	}
	return out
}

// TestEveryPromiseHasItsTest: each row of the table names tests that there are,
// and scripts/mutate knows how to take its mechanism away.
func TestEveryPromiseHasItsTest(t *testing.T) {
	script, err := os.ReadFile("../../scripts/mutate")
	if err != nil {
		t.Fatal(err)
	}
	rows := promises(t)
	if len(rows) < 30 {
		t.Errorf("%d rows", len(rows))
	}
	known, seen := map[string]map[string]bool{}, map[string]bool{}
	for _, p := range rows {
		if p.text == "" || p.mechanism == "" || len(p.tests) == 0 || seen[p.mechanism] {
			t.Errorf("the row %+v is not whole, or there twice", p)
		}
		seen[p.mechanism] = true
		for _, test := range p.tests {
			if known[test[0]] == nil {
				known[test[0]] = testsOf(t, test[0])
			}
			if !known[test[0]][test[1]] {
				t.Errorf("%s: %s has no %s", p.mechanism, test[0], test[1])
			}
		}
		if !strings.Contains(string(script), "\""+p.mechanism+"\"") {
			t.Errorf("scripts/mutate does not know %q", p.mechanism)
		}
	}
}
