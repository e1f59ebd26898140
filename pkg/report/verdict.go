package report

import (
	"fmt"
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

// Evidence is everything that a verdict is decided from.
type Evidence struct {
	// Error is why sbx itself failed in the middle of a run.
	Error string
	// EndedBy is what made sbx end the run: "" (nothing), "wall", "cpu",
	// "output", "interrupted".
	EndedBy string
	// Caller is the signal that made the caller's interrupt, "SIGINT".
	Caller string

	Exited   bool // the script's main process ended by itself, with Code
	Code     int
	Signal   string // or this signal ended it
	InitLost bool   // the jail's init died, and not by our hand

	WallLimit, CPULimit    time.Duration
	Wall, CPU              time.Duration
	MemoryLimit            int64
	MemoryPeak             int64
	OOMKills               int64
	PIDsLimit, PIDsRefused int64
	OutputLimit            int64
	OutputBytes            int64 // of the larger stream

	Uncaught        bool // the hook's word: an exception ended the main thread
	UncaughtType    string
	UncaughtMessage string
}

// Outcome is a verdict with its reason.
type Outcome struct {
	Verdict  Verdict
	Evidence string
	Hint     string
}

// Classify decides a verdict. What sbx did itself comes first, then what the
// kernel says, then how the process ended: SIGKILL alone says nothing.
func Classify(e Evidence) Outcome {
	switch {
	case e.Error != "":
		return Outcome{SandboxError, e.Error, "this is no fault of the script; run it again, and report it if it persists"}
	case e.EndedBy == "wall":
		return Outcome{WallTimeLimit,
			fmt.Sprintf("still running after %s of wall-clock time, limit %s; it had used %s of processor time", seconds(e.Wall), seconds(e.WallLimit), seconds(e.CPU)),
			wallHint(e)}
	case e.EndedBy == "cpu":
		return Outcome{CPUTimeLimit,
			fmt.Sprintf("used %s of processor time, limit %s", seconds(e.CPU), seconds(e.CPULimit)),
			"look for a loop that does not end or an algorithm that is too slow; --cpu-time raises the limit"}
	case e.EndedBy == "output":
		return Outcome{OutputLimit,
			fmt.Sprintf("printed %d bytes to one stream, limit %d", e.OutputBytes, e.OutputLimit),
			"print less; --output-limit raises the limit"}
	case e.OOMKills > 0 && (e.Signal == "SIGKILL" || e.InitLost || !e.Exited || e.Code != 0):
		who := "the script's main process"
		if e.Exited {
			who = "a process that the script had started, and the script then failed,"
		}
		return Outcome{MemoryLimit,
			fmt.Sprintf("the kernel killed %s: %d out-of-memory kill(s) at a limit of %s, peak %s", who, e.OOMKills, bytes(e.MemoryLimit), bytes(e.MemoryPeak)),
			"use less memory at a time (read files line by line, free what is done with); --memory raises the limit"}
	case e.EndedBy == "interrupted":
		return Outcome{Signaled, fmt.Sprintf("sbx was told to stop (%s) and ended the run", orWord(e.Caller, "by its caller")), ""}
	case e.InitLost:
		return Outcome{SandboxError, "the jail's init process was killed, and not by sbx", "look for an out-of-memory kill on the host (dmesg), or for who sends SIGKILL to sbx-init"}
	case e.Signal == "SIGXCPU":
		return Outcome{CPUTimeLimit, fmt.Sprintf("SIGXCPU: a process used up its processor time, limit %s", seconds(e.CPULimit)),
			"look for a loop that does not end or an algorithm that is too slow; --cpu-time raises the limit"}
	case e.Signal == "SIGSYS":
		return Outcome{PolicyKill, "SIGSYS: a system call of a foreign architecture, which no profile allows", "native code in the script calls the kernel as a 32-bit program"}
	case e.Signal == "SIGXFSZ":
		return Outcome{Signaled, "SIGXFSZ: a file grew past its limit", "--tmp-size raises the limit on files"}
	case e.Signal != "":
		return Outcome{Signaled, fmt.Sprintf("the script's main process was ended by %s", e.Signal), signalHint(e.Signal)}
	case e.Uncaught && e.Code == 1:
		o := Outcome{Exception, e.UncaughtType + ": " + e.UncaughtMessage + " (exit status 1)", ""}
		if e.UncaughtMessage == "" {
			o.Evidence = e.UncaughtType + " (exit status 1)"
		}
		switch {
		case e.UncaughtType == "MemoryError":
			o.Hint = "the script ran into its memory limit; --memory raises it"
		case strings.Contains(e.UncaughtMessage, "start new thread"):
			o.Hint = "the script ran into its limit on processes and threads; --pids raises it"
		}
		return o
	case e.Code != 0:
		return Outcome{NonzeroExit, fmt.Sprintf("exit status %d", e.Code), ""}
	}
	return Outcome{OK, "exit status 0", ""}
}

func wallHint(e Evidence) string {
	if e.Wall > 0 && e.CPU < e.Wall/10 {
		return "it hardly computed: it was asleep, or waited for something that does not come (standard input is empty unless --stdin is given; there is no network)"
	}
	return "look for a loop that does not end; --timeout raises the limit"
}

func signalHint(signal string) string {
	switch signal {
	case "SIGSEGV", "SIGBUS", "SIGILL":
		return "native code crashed: an extension module, ctypes, or very deep recursion"
	case "SIGABRT":
		return "native code gave up: see its message on standard error"
	case "SIGKILL":
		return "neither a limit of sbx nor the kernel's memory controller sent it: the script did, or somebody on the host"
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
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// bytes writes a size as people read it.
func bytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

// Findings are the near misses that a verdict does not say.
func Findings(e Evidence) []Finding {
	var out []Finding
	add := func(kind, text string, args ...any) {
		out = append(out, Finding{Kind: kind, Text: fmt.Sprintf(text, args...), Confidence: "high"})
	}
	if e.OOMKills > 0 && e.Exited && e.Code == 0 && e.EndedBy == "" {
		add("near_miss.memory", "%d process(es) of the run were killed for memory (limit %s), and the script went on", e.OOMKills, bytes(e.MemoryLimit))
	}
	if e.OOMKills == 0 && e.MemoryLimit > 0 && e.MemoryPeak*100 >= e.MemoryLimit*97 {
		add("near_miss.memory", "peak memory was %d %% of the limit of %s", e.MemoryPeak*100/e.MemoryLimit, bytes(e.MemoryLimit))
	}
	if e.PIDsRefused > 0 {
		add("near_miss.pids", "a new process or thread was refused %d time(s): limit %d", e.PIDsRefused, e.PIDsLimit)
	}
	if e.OutputLimit > 0 && e.OutputBytes > e.OutputLimit && e.EndedBy != "output" {
		add("near_miss.output", "output was cut: %d bytes printed to one stream, limit %d", e.OutputBytes, e.OutputLimit)
	}
	return out
}

// signals are the numbers of signal(7) that end processes, for exit statuses.
var signals = map[string]int{
	"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGBUS": 7, "SIGFPE": 8,
	"SIGKILL": 9, "SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13, "SIGALRM": 14, "SIGTERM": 15,
	"SIGSTKFLT": 16, "SIGVTALRM": 26, "SIGPROF": 27, "SIGIO": 29, "SIGPWR": 30, "SIGXCPU": 24, "SIGXFSZ": 25, "SIGSYS": 31,
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
	if s.Signal != "" {
		return 128 + signals[s.Signal]
	}
	if s.ExitCode != nil {
		return *s.ExitCode
	}
	return 125
}
