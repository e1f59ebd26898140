package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/cgroup"
	"github.com/sbxproject/sbx/pkg/report"
	"github.com/sbxproject/sbx/pkg/sandbox"
)

// TestMain makes the test binary an sbx as well: a stage of it, the command
// "sbx" of the scripts, or the process that a test kills.
func TestMain(m *testing.M) {
	sandbox.MaybeStage()
	if len(os.Args) > 1 && os.Args[1] == asCommand {
		if err := becomePoorer(); err != nil {
			fmt.Fprintln(os.Stderr, "the test's host:", err)
			os.Exit(99)
		}
		// Not by os.Exit, which takes a second in a binary with the race detector.
		unix.Exit(run(append(os.Args[:1], os.Args[2:]...), os.Stdin, os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == asTracer {
		if err := traceMain(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "tracer:", err)
			unix.Exit(99)
		}
		unix.Exit(0) // as above
	}
	cache, err := os.MkdirTemp("", "sbx-test-cache-")
	if err != nil {
		panic(err)
	}
	if err := os.Setenv("XDG_CACHE_HOME", cache); err != nil {
		panic(err)
	}
	testscript.Main(cleaning{m, cache}, map[string]func(){"sbx": main})
}

// cleaning removes the cache when the tests are over.
type cleaning struct {
	*testing.M
	dir string
}

func (c cleaning) Run() int {
	defer os.RemoveAll(c.dir)
	return c.M.Run()
}

// asCommand as first argument makes the test binary run the rest as sbx does.
const asCommand = "-as-sbx"

// command is sbx as a process of its own, with the flags that this host needs.
func sbxProcess(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), self, append([]string{asCommand}, hostFlags(t, args)...)...)
}

// hostFlags adds, after "run", the layers whose absence this host forces: a
// plain user without a delegated cgroup.
func hostFlags(t *testing.T, args []string) []string {
	t.Helper()
	if len(args) == 0 || args[0] != "run" {
		return args
	}
	out := []string{"run"}
	for _, layer := range missingLayers(t) {
		out = append(out, "--allow-degraded", layer)
	}
	return append(out, args[1:]...)
}

// missingLayers are the cgroup layers that cannot be had here. As root there
// are none: a test that needs one fails.
func missingLayers(t *testing.T) []string {
	t.Helper()
	if os.Geteuid() == 0 {
		return nil
	}
	g, err := cgroup.Open(cgroup.Name(), cgroup.Limits{Memory: 64 << 20, PIDs: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	var out []string
	for name, l := range g.Layers() {
		if l.State != cgroup.Active && name != "cgroup.cpu" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// outcome is what a user sees of one invocation.
type outcome struct {
	status         int
	stdout, stderr string
	report         *report.Report // nil when none was written
}

// activity returns the first activity of this operation.
func (o outcome) activity(op string) (report.Activity, bool) {
	i := slices.IndexFunc(o.report.AllActivities, func(a report.Activity) bool { return a.Op == op })
	if i < 0 {
		return report.Activity{}, false
	}
	return o.report.AllActivities[i], true
}

// invoke runs sbx as a process of its own: the command line library is not made
// to be called by several at once.
func invoke(t *testing.T, args ...string) outcome {
	t.Helper()
	return invokeWith(t, strings.NewReader(""), args...)
}

func invokeWith(t *testing.T, stdin io.Reader, args ...string) outcome {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	if len(args) > 0 && args[0] == "run" {
		args = append([]string{"run", "--report", file}, args[1:]...)
	}
	cmd := sbxProcess(t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{
		status: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(),
		report: readReport(t, file),
	}
}

func readReport(t *testing.T, file string) *report.Report {
	t.Helper()
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatalf("the report is no JSON: %v", err)
	}
	return &r
}

// script writes a program to a file.
func script(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script.py")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// runScript runs a program under a profile.
func runScript(t *testing.T, text string, flags ...string) outcome {
	t.Helper()
	o := invoke(t, append(append([]string{"run"}, flags...), script(t, text))...)
	if o.report == nil {
		t.Fatalf("no report, status %d: %s", o.status, o.stderr)
	}
	return o
}

// wantVerdict fails the test unless the run ended like this.
func (o outcome) wantVerdict(t *testing.T, want report.Verdict, status int) {
	t.Helper()
	if got := o.report.ExecutionSummary.Verdict; got != want || o.status != status {
		t.Errorf("verdict %s with status %d, want %s with %d\nevidence: %s\nstdout: %.2000s\nstderr: %.4000s",
			got, o.status, want, status, o.report.ExecutionSummary.Evidence, o.stdout, o.stderr)
	}
}
