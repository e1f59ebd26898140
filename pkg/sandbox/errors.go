package sandbox

// Error is a run that sbx refused or failed to start: what was tried, on what,
// what was answered, and what to do next. A script that fails is no Error; it
// is a report.
type Error struct {
	Op   string // what was tried: "read script", "create cgroup"
	Path string // on what
	Err  error
	Hint string // what the user can do, "" where there is nothing to say
	Exit int    // exit status for it; 0 stands for 125
}

func (e *Error) Error() string {
	s := e.Op
	if e.Path != "" {
		s += " " + e.Path
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }
