// Package report turns what was seen of a run into its report: one JSON object
// with a fixed set of keys, and a summary for people.
//
// It is a fold over events, whoever made them, and touches nothing of the
// kernel. All strings that come out of the jail are hostile: they are bounded
// here, and escaped by whoever writes them out.
package report

import (
	_ "embed"
	"time"

	"github.com/sbxproject/sbx/pkg/event"
)

// SchemaVersion changes when a key goes away or changes its meaning; new keys
// do not change it.
const SchemaVersion = "1.0"

// Schema is the JSON Schema (2020-12) of a report.
//
//go:embed schema.json
var Schema []byte

// Report is the report of one run.
type Report struct {
	SchemaVersion     string            `json:"schema_version"`
	SBX               SBX               `json:"sbx"`
	ExecutionSummary  Summary           `json:"execution_summary"`
	Imports           Section           `json:"imports"`
	FileOperations    Section           `json:"file_operations"`
	NetworkOperations Section           `json:"network_operations"`
	ProcessOperations Section           `json:"process_operations"`
	Syscalls          Section           `json:"syscalls"`
	Exceptions        Exceptions        `json:"exceptions"`
	ResourceLimits    ResourceLimits    `json:"resource_limits"`
	Usage             Usage             `json:"usage"`
	Output            Output            `json:"output"`
	Isolation         Isolation         `json:"isolation"`
	Profile           Profile           `json:"profile"`
	Script            Script            `json:"script"`
	Host              Host              `json:"host"`
	Findings          []Finding         `json:"findings"`
	Dropped           map[string]uint64 `json:"dropped"`
	AllActivities     []Activity        `json:"all_activities"`

	// Where the report is, for the summary only.
	Name string `json:"-"`
}

// SBX says which sbx made the report.
type SBX struct {
	Version string `json:"version"`
}

// Summary is how the run went.
type Summary struct {
	DurationSeconds float64 `json:"duration_seconds"`
	TotalActivities uint64  `json:"total_activities"`
	StartTime       string  `json:"start_time"` // RFC 3339, UTC
	EndTime         string  `json:"end_time"`
	Success         bool    `json:"success"`
	Verdict         Verdict `json:"verdict"`
	Evidence        string  `json:"evidence"`
	ExitCode        *int    `json:"exit_code"` // of the script; null when it did not end by itself
	Signal          string  `json:"signal"`    // SIGKILL; "" when it exited
	Hint            string  `json:"hint"`
}

// Section counts the activities of one category.
type Section struct {
	Total   uint64     `json:"total"`
	Allowed uint64     `json:"allowed"`
	Blocked uint64     `json:"blocked"`
	Details []Activity `json:"details"`
}

// Exceptions are those that nobody caught.
type Exceptions struct {
	Total   uint64     `json:"total"`
	Details []Activity `json:"details"`
}

// Activity is one thing that the script did or tried, with its repeats.
type Activity struct {
	Seq         uint64         `json:"seq"`
	TimeUS      int64          `json:"t_us"`
	Layer       event.Layer    `json:"layer"`
	Category    event.Category `json:"category"`
	Op          string         `json:"op"`
	Target      string         `json:"target"`
	Verdict     event.Verdict  `json:"verdict"`
	Errno       string         `json:"errno,omitempty"`
	PID         int            `json:"pid"`
	TID         int            `json:"tid"`
	Trusted     bool           `json:"trusted"`
	Location    *Location      `json:"location,omitempty"`
	Stack       []Location     `json:"stack,omitempty"`
	ExplainedBy string         `json:"explained_by,omitempty"`
	Unexplained bool           `json:"unexplained,omitempty"`
	Count       uint64         `json:"count,omitempty"`     // more than one
	LastTimeUS  int64          `json:"last_t_us,omitempty"` // of the last of them
	Detail      string         `json:"detail,omitempty"`
}

// Location is a place in the script.
type Location = event.Location

// ResourceLimits lists each limit with what was used of it.
type ResourceLimits struct {
	Details []Limit `json:"details"`
}

// Limit is one limit of a run.
type Limit struct {
	Resource   string  `json:"resource"`
	Limit      float64 `json:"limit"`
	Unit       string  `json:"unit"`
	Used       float64 `json:"used"`
	EnforcedBy string  `json:"enforced_by"`
	Hit        bool    `json:"hit"`
}

// Usage is what the run used.
type Usage struct {
	WallSeconds      float64 `json:"wall_seconds"`
	CPUUserSeconds   float64 `json:"cpu_user_seconds"`
	CPUSystemSeconds float64 `json:"cpu_system_seconds"`
	ThrottledSeconds float64 `json:"throttled_seconds"`
	PeakMemoryBytes  int64   `json:"peak_memory_bytes"`
	Memory           Memory  `json:"memory"`
	PeakProcesses    int64   `json:"peak_processes"` // 0 where nobody could count them
	PeakTmpBytes     int64   `json:"peak_tmp_bytes"` // of the writable file systems, which are memory
	PeakTmpFiles     int64   `json:"peak_tmp_files"`
	StdoutBytes      int64   `json:"stdout_bytes"`
	StderrBytes      int64   `json:"stderr_bytes"`
	SurvivorsKilled  int     `json:"survivors_killed"`
	StartPhases      []Phase `json:"start_phases"`
}

// Memory says what the peak consists of.
type Memory struct {
	// Baseline is what the interpreter held when the script was about to begin, 0
	// where that moment was not seen; Script is what the peak is above it.
	Baseline int64 `json:"baseline_bytes"`
	Script   int64 `json:"script_bytes"`
	// The parts of the largest use that was looked at: the kernel keeps the peak,
	// but not what it was made of.
	Anonymous int64 `json:"anonymous_bytes"`
	File      int64 `json:"file_bytes"` // cached files, and the files of /tmp
	Kernel    int64 `json:"kernel_bytes"`
	// MeasuredBy is "cgroup", or "processes" where sbx added up what they hold.
	MeasuredBy string `json:"measured_by"`
}

// Phase is a step of the start, and when it was done.
type Phase struct {
	Name string        `json:"name"`
	At   time.Duration `json:"-"`
	AtUS int64         `json:"at_us"`
}

// Output is what the report keeps of the script's output.
type Output struct {
	Stdout Stream `json:"stdout"`
	Stderr Stream `json:"stderr"`
}

// Stream is one output stream. Head and Tail are text: bytes that are not UTF-8
// stand as \xNN.
type Stream struct {
	Bytes     int64  `json:"bytes"`
	Truncated bool   `json:"truncated"` // the reader did not get everything
	Head      string `json:"head"`
	Tail      string `json:"tail"`
}

// Isolation is what was observed of the layers.
type Isolation struct {
	Layers []Layer `json:"layers"`
}

// LayerState says whether a layer held the run.
type LayerState string

// The states of a layer.
const (
	LayerActive   LayerState = "active"
	LayerDegraded LayerState = "degraded" // required, absent, and the caller accepted that
	LayerAbsent   LayerState = "absent"
)

// Layer is one layer of isolation.
type Layer struct {
	Name     string     `json:"name"`
	Required bool       `json:"required"`
	State    LayerState `json:"state"`
	Observed string     `json:"observed"`
	Why      string     `json:"why,omitempty"`
}

// Profile says under which policy the run took place.
type Profile struct {
	Name    string     `json:"name"`
	SHA256  string     `json:"sha256"` // of the effective policy
	Widened []Widening `json:"widened"`
}

// Widening is a way in which the policy was weakened for this run.
type Widening struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// Script says what was run.
type Script struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// Host says on what it was run.
type Host struct {
	Kernel     string `json:"kernel"`
	Python     string `json:"python"`
	PythonPath string `json:"python_path"`
	UID        int    `json:"uid"` // on the host, of the jail
}

// Finding is something worth knowing that no single activity says.
type Finding struct {
	Kind       string `json:"kind"`
	Text       string `json:"text"`
	Confidence string `json:"confidence"` // High or Medium
	Seq        uint64 `json:"seq,omitempty"`
}
