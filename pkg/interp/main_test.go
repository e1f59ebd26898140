package interp

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary also plays interpreters, told by the name that it is started
// by: real ones do not give every answer.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	if !strings.HasPrefix(name, "fake-") {
		os.Exit(m.Run())
	}
	// os.Exit sleeps for a second under the race detector.
	unix.Exit(play(name))
}

func play(name string) int {
	switch name {
	case "fake-python": // says what the file beside it says
		data, err := os.ReadFile(os.Args[0] + ".json")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
		_, _ = os.Stdout.Write(data)
	case "fake-deaf": // does not read the hook, as one that is too old
		fmt.Fprint(os.Stdout, `{"version": "3.7.1"}`)
	case "fake-crash":
		fmt.Fprintf(os.Stderr, "\nno module named encodings %s\nsecond line\n", strings.Repeat("x", 1000))
		return 3
	case "fake-signal":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	case "fake-flood":
		line := []byte(strings.Repeat("x", 1<<20))
		for {
			if _, err := os.Stdout.Write(line); err != nil {
				return 0
			}
		}
	case "fake-surroundings": // repeats what it sees
		dir, _ := os.Getwd()
		fmt.Fprintf(os.Stderr, "env=%q dir=%s flags=%q", os.Environ(), dir, os.Args[1:5])
		return 1
	default:
		return 99
	}
	return 0
}

// fake returns a program that plays the role.
func fake(t testing.TB, role string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(t.TempDir(), role)
	if err := os.Symlink(self, exe); err != nil {
		t.Fatal(err)
	}
	return exe
}

// same compares two interpreters and names the fields that differ; an empty list
// is as good as none.
func same(t *testing.T, got, want *Interpreter) {
	t.Helper()
	a, b := reflect.ValueOf(*got), reflect.ValueOf(*want)
	for i := range a.NumField() {
		x, y := a.Field(i), b.Field(i)
		if x.Kind() == reflect.Slice && x.Len() == 0 && y.Len() == 0 || reflect.DeepEqual(x.Interface(), y.Interface()) {
			continue
		}
		t.Errorf("%s is %.300s\nwant %.300s", a.Type().Field(i).Name, fmt.Sprint(x), fmt.Sprint(y))
	}
}

// goodAnswer is what a small interpreter would say.
func goodAnswer() answer {
	return answer{Version: "3.11.2", Implementation: "cpython", Prefix: "/usr", ExecPrefix: "/usr", Stdlib: "/usr/lib", Boot: "e300"}
}

// fakePython returns a program that gives an answer.
func fakePython(t testing.TB, a answer) string {
	t.Helper()
	exe := fake(t, "fake-python")
	say(t, exe, a)
	return exe
}

// ownFakePython is the same in a file of its own, which can change.
func ownFakePython(t testing.TB, a answer) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(t.TempDir(), "bin", "fake-python")
	if err := os.Mkdir(filepath.Dir(exe), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, data, 0o755); err != nil {
		t.Fatal(err)
	}
	say(t, exe, a)
	return exe
}

func say(t testing.TB, exe string, a answer) {
	t.Helper()
	data, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe+".json", data, 0o644); err != nil {
		t.Fatal(err)
	}
}
