package sandbox

import (
	"io"
	"time"

	"github.com/sbxproject/sbx/pkg/profile"
)

// Spec is one run: what to run, under which policy, connected to what.
type Spec struct {
	Profile   profile.Profile
	Widenings []profile.Widening // how Profile differs from the one that was named

	Script    string   // a file, a directory with a __main__.py, or "-"
	Args      []string // the script's own
	Workspace string   // a directory whose copy the script works in; "" is none
	Env       []string // K=V, on top of the jail's own
	Python    string   // a path or a version; "" is python3 on PATH

	// Stdin is the script's input; nil is an input that is empty at once. With
	// Script "-" the program comes from Program.
	Stdin   io.Reader
	Program io.Reader
	Stdout  io.Writer
	Stderr  io.Writer

	Require       []string // layers, on top of the profile's
	AllowDegraded []string // required layers whose absence is accepted

	// CacheDir keeps what is computed once per interpreter and per policy; ""
	// computes it anew for every run.
	CacheDir string
	// PathEnv is the search path for Python, the caller's PATH.
	PathEnv string
	// Version of sbx, for the report.
	Version string
	// Start is when the caller began; the zero time means now.
	Start time.Time
	// Meanwhile, if there is one, is called once, as soon as there is something to
	// wait for: the place for what a caller has to set up and what brings threads,
	// such as os/signal.
	Meanwhile func()
	// ReportName is where the caller will put the report, for its summary.
	ReportName string
}

// Interrupt is the cause of a context that a signal to sbx ended.
type Interrupt struct{ Signal string }

func (i Interrupt) Error() string { return "interrupted by " + i.Signal }
