// Package event holds the one record type of sbx: something that a witness
// saw during a run.
//
// Every layer (the seccomp supervisor, the Python hook, the cgroup, a clock)
// speaks of what it saw as an [Event]; the report is a fold over them and knows
// nothing of who made them. The package depends on the standard library only
// and does no I/O.
package event

import "time"

// Layer names the witness or the wall that an event comes from.
type Layer string

// The layers, in the words of the report.
const (
	Python     Layer = "python"     // the hook inside the interpreter: evidence, can be forged
	Seccomp    Layer = "seccomp"    // the kernel's notification: cannot be forged
	Cgroup     Layer = "cgroup"     // memory, cpu, pids controllers
	Rlimit     Layer = "rlimit"     // prlimit(2)
	Namespace  Layer = "namespace"  // the mount, network or pid namespace
	Supervisor Layer = "supervisor" // sbx itself: clocks, output limits, signals
)

// Trusted reports whether an event of this layer was seen by something that the
// script cannot reach. Only the hook lives in the script's own address space.
func (l Layer) Trusted() bool { return l != Python }

// Category is what an event is about; it chooses the section of the report.
type Category string

// The categories.
const (
	Import    Category = "import"
	File      Category = "file"
	Network   Category = "network"
	Process   Category = "process"
	Exception Category = "exception"
	Syscall   Category = "syscall" // a system call of none of the kinds above
	Resource  Category = "resource"
)

// Verdict is what became of the attempt.
type Verdict string

// The verdicts of an event.
const (
	Allowed  Verdict = "allowed"  // permitted by the layer that reports it
	Denied   Verdict = "denied"   // refused; Errno says how the caller saw it
	Killed   Verdict = "killed"   // the process was ended for it
	Observed Verdict = "observed" // let through after a look, which is no promise
)

// Location is a place in a Python program.
type Location struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Function string `json:"function,omitempty"`
	// Claimed says that the place rests on what the process itself says: a
	// script can lie about its file names (compile(src, "/usr/lib/...")).
	Claimed bool `json:"claimed"`
}

// Event is one thing seen by one witness, or, after the join, one activity seen
// by both. Strings that come out of the jail are kept as they came (bounded by
// the decoder); whoever prints them escapes them.
type Event struct {
	Time     time.Duration // since the run's start, monotonic
	Layer    Layer
	Category Category
	Op       string // openat, connect, import, oom_kill, wall_time
	Target   string // path, module, address, command
	Verdict  Verdict
	Errno    string // EPERM
	PID, TID int    // numbers inside the jail; 0 when not known
	Location *Location
	Stack    []Location // innermost first
	// ExplainedBy is the hook's event that announced this kernel event, such
	// as "open" or "subprocess.Popen".
	ExplainedBy string
	// Unexplained marks a kernel event that the hook should have announced and
	// did not: ctypes, native code, or a silenced hook.
	Unexplained bool
	Detail      string // decoded arguments, argv, exception text
	// Count is how many times it happened; 0 means once. A source that already
	// folds (the hook under a flood) sets it.
	Count uint64
}
