package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Verdict is how a run ended.
type Verdict string

// The verdicts.
const (
	OK            Verdict = "ok"
	Exception     Verdict = "exception" // a Python exception that nobody caught
	NonzeroExit   Verdict = "nonzero_exit"
	Signaled      Verdict = "signaled"
	WallTimeLimit Verdict = "wall_time_limit"
	CPUTimeLimit  Verdict = "cpu_time_limit"
	MemoryLimit   Verdict = "memory_limit"
	OutputLimit   Verdict = "output_limit"
	PolicyKill    Verdict = "policy_kill"
	SandboxError  Verdict = "sandbox_error"
)

// known reports whether this is one of the verdicts above.
func (v Verdict) known() bool {
	switch v {
	case OK, Exception, NonzeroExit, Signaled, WallTimeLimit, CPUTimeLimit, MemoryLimit, OutputLimit, PolicyKill, SandboxError:
		return true
	}
	return false
}

// Evidence is everything that a verdict is decided from.
type Evidence struct {
	// Error is why sbx itself failed in the middle of a run.
	Error string
	// EndedBy is what made sbx end the run: "" (nothing), "wall", "cpu",
	// "memory", "thrashing", "output", "denials", "interrupted".
	EndedBy string
	// Caller is the signal that made the caller's interrupt, "SIGINT".
	Caller string

	Exited   bool // the script's main process ended by itself, with Code
	Code     int
	Signal   string // or this signal ended it, see SignalName
	InitLost bool   // the jail's init died, and not by our hand

	WallLimit, CPULimit    time.Duration
	Wall, CPU              time.Duration
	BegunWall, BegunCPU    time.Duration // of the above, until the script itself began
	MemoryLimit            int64
	MemoryPeak             int64
	MemoryHits             int64 // allocations that met the limit
	OOMKills               int64
	NearAt                 string        // where its largest process was when memory was nearly used up, "" if that is not known
	NearMemory             int64         // and what was in use then
	Reread                 int64         // bytes of its programs and files that were dropped and read anew
	Thrashed               time.Duration // in the last of this time
	PIDsLimit, PIDsRefused int64
	OutputLimit            int64
	OutputBytes            int64  // of the larger stream
	ReadingStdin           bool   // when sbx ended it, it waited for standard input
	At                     string // where its main thread was then, "" if that is not known

	// Full names the writable file system that was seen without room, "" if none
	// was, and FullOf what there was no room for: "bytes" or "files".
	Full, FullOf string
	// Tried is what was refused once too often, and how often that was: the same
	// thing, or with Same 0 anything.
	Tried    string
	Denials  uint64
	Same     uint64
	TmpSize  int64
	TmpFiles int64

	Uncaught        bool // the hook's word: an exception ended the main thread
	UncaughtType    string
	UncaughtMessage string

	Stderr       string // the end of what it printed there: its own words
	SitePackages bool   // installed packages were visible
}

// Outcome is a verdict with its reason.
type Outcome struct {
	Verdict  Verdict
	Evidence string
	Hint     string
}

// Classify decides a verdict, and what to do next. Words of the script's own can
// choose a hint, where there is nothing better to say, and no verdict.
func Classify(e Evidence) Outcome {
	o := decide(e)
	if o.Hint == "" && o.Verdict == Exception || o.Verdict == NonzeroExit || o.Verdict == Signaled && o.Hint != "" {
		if known, ok := e.knownFailure(); ok {
			o.Hint = known.hint
		}
	}
	return o
}

// decide decides a verdict. What sbx did itself comes first, then what the
// kernel says, then how the process ended: SIGKILL alone says nothing. Success
// needs a proof as well: an exit status of zero.
func decide(e Evidence) Outcome {
	switch {
	case e.Error != "":
		return Outcome{SandboxError, e.Error, "this is not the script's fault: run it again, and report it as a bug of sbx if it happens again"}
	case e.EndedBy == "wall":
		return Outcome{WallTimeLimit,
			fmt.Sprintf("still running when its time was up (limit %s)%s; it had used %s of processor time", seconds(e.WallLimit), e.at(), seconds(e.CPU)),
			wallHint(e)}
	case e.EndedBy == "cpu":
		o := cpuLimit(fmt.Sprintf("it used up its processor time (%s, limit %s)%s", seconds(e.CPU), seconds(e.CPULimit), e.at()))
		if e.OOMKills == 0 && e.shortOfMemory() {
			o.Hint = noMemoryLeft
		}
		return o
	case e.EndedBy == "memory":
		return Outcome{MemoryLimit,
			fmt.Sprintf("out of memory: sbx ended the script (limit %s, last seen %s; no cgroup held the limit, so sbx looked now and then)", byteSize(e.MemoryLimit), byteSize(e.MemoryPeak)),
			"look for a list or text that grows without end; if it needs more, raise --memory"}
	case e.EndedBy == "thrashing":
		return Outcome{MemoryLimit,
			fmt.Sprintf("out of memory: sbx ended the script (limit %s, highest use %s; it got nowhere: in %s %s of its programs and files were dropped and read anew)", byteSize(e.MemoryLimit), byteSize(e.MemoryPeak), seconds(e.Thrashed), byteSize(e.Reread)),
			noMemoryLeft}
	case e.EndedBy == "output":
		return Outcome{OutputLimit,
			fmt.Sprintf("it printed more than %s to one stream (%d bytes)", byteSize(e.OutputLimit), e.OutputBytes),
			"look for a print in a loop that never ends; if it needs more, raise --output-limit"}
	case e.EndedBy == "denials":
		return tooOften(e)
	case e.EndedBy == "interrupted":
		return Outcome{Signaled, fmt.Sprintf("sbx was told to stop (%s) and ended the script", orWord(e.Caller, "by its caller")), ""}
	case e.OOMKills > 0 && (e.Signal == "SIGKILL" || e.InitLost):
		return outOfMemory(e, "the kernel ended the script", "")
	case e.OOMKills > 0 && e.Exited && e.Code != 0:
		return outOfMemory(e, "the kernel ended a process that the script had started", fmt.Sprintf("; the script then ended with exit status %d", e.Code))
	case e.InitLost:
		return Outcome{SandboxError, "sbx's own process in the jail was killed, and not by sbx",
			"look for an out-of-memory kill on this machine (dmesg), or for whoever sends SIGKILL to sbx-init"}
	case e.Signal == "SIGXCPU" && e.usedUpCPU(), e.Signal == "SIGKILL" && e.CPULimit > 0 && e.CPU >= e.CPULimit:
		// setrlimit(2): SIGXCPU at the soft limit, SIGKILL at the hard one.
		return cpuLimit(fmt.Sprintf("%s: a process used up its processor time (limit %s)", e.Signal, seconds(e.CPULimit)))
	case e.Signal == "SIGSYS":
		return Outcome{PolicyKill, "SIGSYS ended the script: the kernel sends it for a system call that ends a program at once",
			"native code in it (ctypes or an extension module) makes 32-bit system calls, or one that the profile answers with kill"}
	case e.Signal != "":
		return Outcome{Signaled, fmt.Sprintf("the signal %s ended the script", e.Signal), signalHint(e.Signal)}
	case !e.Exited:
		return Outcome{SandboxError, "it is not known how the script ended", "run it again, and report it as a bug of sbx if it happens again"}
	case e.Uncaught && e.Code == 1:
		what := orWord(e.UncaughtType, "an exception without a name")
		if e.UncaughtMessage != "" {
			what += ": " + e.UncaughtMessage
		}
		return Outcome{Exception, what + " (exit status 1)", exceptionHint(e)}
	case e.Code != 0:
		return Outcome{NonzeroExit, fmt.Sprintf("the script ended by itself with exit status %d", e.Code),
			"this is the script's own doing, as with sys.exit(); see what it printed"}
	}
	return Outcome{OK, "the script ended by itself with exit status 0", ""}
}

// tooOften is about a run that kept trying what it was refused.
func tooOften(e Evidence) Outcome {
	what, flag := fmt.Sprintf("it was refused %d times, the last time: %s", e.Denials, e.Tried), "--max-denials"
	if e.Same > 0 {
		what, flag = fmt.Sprintf("it tried the same thing %d times and was refused each time: %s", e.Same, e.Tried), "--max-same-denial"
	}
	return Outcome{PolicyKill, what, "change the script so that it does not try this, or choose a profile that allows it (sbx profile list); " + flag + " says how often it may try"}
}

func cpuLimit(evidence string) Outcome {
	return Outcome{CPUTimeLimit, evidence, "look for a loop that never ends; if it only needs more time, raise --cpu-time"}
}

// usedUpCPU says whether a SIGXCPU can come from the limit. A script can also
// send it to itself, or lower its own limit. Accounts that are kept by clock
// ticks fall short of the truth, and where there are none the signal stands.
func (e Evidence) usedUpCPU() bool {
	return e.CPULimit > 0 && (e.CPU == 0 || e.CPU >= e.CPULimit-e.CPULimit/10)
}

// shortOfMemory says whether the peak was within 3 % of the limit. It is divided
// before it is multiplied: limits may be as large as the type.
func (e Evidence) shortOfMemory() bool {
	return e.MemoryLimit > 0 && e.MemoryPeak >= e.MemoryLimit-e.MemoryLimit/100*3
}

// at says where the script stood, in the middle of a sentence.
func (e Evidence) at() string {
	if e.At == "" {
		return ""
	}
	return ", at " + e.At
}

// nearAt says where it was seen with its memory nearly used up.
func (e Evidence) nearAt() string {
	if e.NearAt == "" {
		return ""
	}
	return fmt.Sprintf("; with %s in use it was at %s", byteSize(e.NearMemory), e.NearAt)
}

// idle says that a run which lasted until its time was up hardly computed.
func (e Evidence) idle() bool {
	return e.EndedBy == "wall" && e.CPU-e.BegunCPU < (e.Wall-e.BegunWall)/10
}

func outOfMemory(e Evidence, what, then string) Outcome {
	kills := "1 process killed"
	if e.OOMKills != 1 {
		kills = fmt.Sprintf("%d processes killed", e.OOMKills)
	}
	if !e.MetMemoryLimit() {
		return Outcome{MemoryLimit, fmt.Sprintf("out of memory: %s (no limit of sbx's was reached; %s)%s", what, kills, then),
			"this machine, or a group around sbx, had no memory left; give the run a limit with --memory"}
	}
	return Outcome{MemoryLimit,
		fmt.Sprintf("out of memory: %s (limit %s, highest use %s, %s)%s%s", what, byteSize(e.MemoryLimit), byteSize(e.MemoryPeak), kills, e.nearAt(), then),
		"look for a list or text that grows without end; if it needs more, raise --memory"}
}

// MetMemoryLimit says whether it was the run's own limit that was met: a group
// around sbx, or the machine, can be out of memory before. Where the kernel keeps
// no peak there is nothing to doubt it by.
func (e Evidence) MetMemoryLimit() bool {
	return e.MemoryLimit > 0 && (e.MemoryHits > 0 || e.MemoryPeak == 0 || e.MemoryPeak >= e.MemoryLimit/10*9)
}

func wallHint(e Evidence) string {
	switch {
	case e.OOMKills == 0 && e.shortOfMemory():
		return noMemoryLeft
	case e.ReadingStdin:
		return "it was waiting for input: give it some with --stdin FILE, or none with --stdin closed"
	case e.idle():
		return "it was waiting, not computing: look for sleep(), for input that never comes (--stdin FILE gives some), or for a network that is not there"
	}
	return "look for a loop that never ends; if it only needs more time, raise --timeout"
}

// noMemoryLeft is about a run that had a little memory left, again and again: the
// kernel drops the pages of files before it kills, and reads them anew.
const noMemoryLeft = "its memory was used up, and to look for free pages takes its time: raise --memory, or look for a list or text that grows without end"

// exceptionHint knows the exceptions that come from a limit or a rule of sbx.
// The text is the script's own, so that it may only choose a hint.
func exceptionHint(e Evidence) string {
	switch {
	case strings.HasSuffix(e.UncaughtMessage, "(sbx policy)"):
		return "the profile does not allow this; change the script, or choose another profile (sbx profile list)"
	case e.UncaughtType == "MemoryError":
		return "it asked for more memory than it may have; if it needs more, raise --memory"
	case e.UncaughtType == "EOFError":
		return "it wanted to read input and there was none; give it some with --stdin FILE (- for the input of sbx itself)"
	}
	return ""
}

func signalHint(signal string) string {
	switch signal {
	case "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE":
		return "native code crashed: an extension module, ctypes, or very deep recursion"
	case "SIGABRT":
		return "native code gave up: see its message on standard error"
	case "SIGKILL":
		return "no limit of sbx did this: the script ended itself, or somebody on this machine did"
	case "SIGXFSZ":
		return "a file grew too large; if it needs more, raise --tmp-size"
	case "SIGXCPU":
		return "no limit of sbx did this: the script sent it to itself, or lowered its own limit"
	}
	return ""
}

func orWord(s, or string) string {
	if s == "" {
		return or
	}
	return s
}

// seconds writes a time as people read it.
func seconds(d time.Duration) string {
	if d > 0 && d < 10*time.Millisecond {
		return strconv.FormatFloat(d.Round(100*time.Microsecond).Seconds(), 'f', -1, 64) + " s"
	}
	return strings.TrimSuffix(fmt.Sprintf("%.2f", d.Seconds()), ".00") + " s"
}

// byteSize writes a size as people read it.
func byteSize(n int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= unit.size {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/float64(unit.size)), ".0") + " " + unit.name
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// Confidence in a finding.
const (
	High   = "high"   // counted by the kernel or by sbx
	Medium = "medium" // concluded, or the script's own word
)

// Findings are the near misses that a verdict does not say.
func Findings(e Evidence) []Finding {
	var out []Finding
	add := func(kind, confidence, text string, args ...any) {
		out = append(out, Finding{Kind: kind, Text: fmt.Sprintf(text, args...), Confidence: confidence})
	}
	outOfMemory := Classify(e).Verdict == MemoryLimit
	if e.OOMKills > 0 && !outOfMemory {
		add("near_miss.memory", High, "the kernel killed part of the run for memory (%d killed, limit %s), and the rest went on", e.OOMKills, byteSize(e.MemoryLimit))
	}
	if e.OOMKills == 0 && !outOfMemory && e.shortOfMemory() {
		add("near_miss.memory", High, "almost out of memory: %s of %s were in use", byteSize(e.MemoryPeak), byteSize(e.MemoryLimit))
	}
	if e.PIDsRefused > 0 {
		add("near_miss.pids", High, "too many processes or threads: a new one was refused (%d times, limit %d)", e.PIDsRefused, e.PIDsLimit)
	}
	if e.OutputLimit > 0 && e.OutputBytes > e.OutputLimit && e.EndedBy != "output" {
		add("near_miss.output", High, "output was cut after %s: %d bytes were printed to one stream", byteSize(e.OutputLimit), e.OutputBytes)
	}
	switch {
	case e.Full != "" && e.FullOf == "files":
		add("near_miss.tmp", High, "%s was full: its %d files were used up", e.Full, e.TmpFiles)
	case e.Full != "":
		add("near_miss.tmp", High, "%s was full: its %s were used up", e.Full, byteSize(e.TmpSize))
	}
	if !outOfMemory && e.OOMKills == 0 && strings.Contains(e.Stderr, "MemoryError") && e.UncaughtType != "MemoryError" {
		add("near_miss.memory", Medium, "the script says that it asked for more memory than it could have (MemoryError)")
	}
	if known, ok := e.knownFailure(); ok {
		kind := orWord(known.kind, "known_failure")
		// Where the kernel or sbx counted it, the script's own word adds nothing.
		if !slices.ContainsFunc(out, func(f Finding) bool { return f.Kind == kind }) {
			add(kind, Medium, "%s", known.text)
		}
	}
	if e.ReadingStdin {
		add("near_miss.stdin", High, "when it was ended it was waiting for standard input%s", e.at())
	} else if e.idle() {
		add("asleep", Medium, "it hardly computed: %s of processor time in %s", seconds(e.CPU), seconds(e.Wall))
	}
	return out
}

// signals are the numbers of signal(7) that end processes, for exit statuses.
var signals = map[string]int{
	"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGBUS": 7, "SIGFPE": 8,
	"SIGKILL": 9, "SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13, "SIGALRM": 14, "SIGTERM": 15,
	"SIGSTKFLT": 16, "SIGXCPU": 24, "SIGXFSZ": 25, "SIGVTALRM": 26, "SIGPROF": 27, "SIGIO": 29, "SIGPWR": 30, "SIGSYS": 31,
}

// The real-time signals as the C library numbers them, signal(7).
const (
	sigRTMin = 34
	sigMax   = 64
)

// SignalName is what Evidence calls the signal with this number.
func SignalName(n int) string {
	for name, number := range signals {
		if number == n {
			return name
		}
	}
	if n >= sigRTMin && n <= sigMax {
		return fmt.Sprintf("SIGRTMIN+%d", n-sigRTMin)
	}
	return fmt.Sprintf("SIG%d", n)
}

// signalNumber is the inverse of SignalName, 0 for what it cannot have said.
func signalNumber(name string) int {
	if n, ok := signals[name]; ok {
		return n
	}
	text, base := strings.TrimPrefix(name, "SIG"), 0
	if rest, ok := strings.CutPrefix(name, "SIGRTMIN+"); ok {
		text, base = rest, sigRTMin
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || base+n > sigMax {
		return 0
	}
	return base + n
}

// ExitStatus is what sbx exits with for a report.
func (r *Report) ExitStatus() int {
	s := r.ExecutionSummary
	switch s.Verdict {
	case WallTimeLimit, CPUTimeLimit:
		return 124
	case SandboxError:
		return 125
	case MemoryLimit, OutputLimit:
		return 128 + signals["SIGKILL"]
	case PolicyKill:
		return 128 + signals["SIGSYS"]
	}
	if n := signalNumber(s.Signal); n > 0 {
		return 128 + n
	}
	if s.ExitCode != nil {
		return *s.ExitCode
	}
	return 125
}
