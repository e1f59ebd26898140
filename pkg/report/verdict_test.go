package report

import (
	"strings"
	"testing"
	"time"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// exited is the evidence of a script that ended by itself, after change.
func exited(code int, change ...func(*Evidence)) Evidence {
	e := Evidence{
		Exited: true, Code: code, Wall: time.Second, CPU: 500 * time.Millisecond,
		WallLimit: 10 * time.Second, CPULimit: 5 * time.Second, MemoryLimit: 256 * mib, MemoryPeak: 9 * mib,
		PIDsLimit: 32, OutputLimit: mib, OutputBytes: 20,
	}
	for _, f := range change {
		f(&e)
	}
	return e
}

// killed is the evidence of a script that a signal ended.
func killed(signal string, change ...func(*Evidence)) Evidence {
	e := exited(0, change...)
	e.Exited, e.Code, e.Signal = false, 0, signal
	return e
}

// ended is the evidence of a script that sbx ended.
func ended(by string, change ...func(*Evidence)) Evidence {
	e := killed("SIGKILL", change...)
	e.EndedBy = by
	return e
}

func oom(kills int64) func(*Evidence) {
	return func(e *Evidence) { e.OOMKills, e.MemoryPeak = kills, e.MemoryLimit }
}

func used(wall, cpu time.Duration) func(*Evidence) {
	return func(e *Evidence) { e.Wall, e.CPU = wall, cpu }
}

func raised(kind, message string) func(*Evidence) {
	return func(e *Evidence) { e.Uncaught, e.UncaughtType, e.UncaughtMessage = true, kind, message }
}

func initLost(e *Evidence)     { e.InitLost = true }
func noCPULimit(e *Evidence)   { e.CPULimit = 0 }
func noLimit(e *Evidence)      { e.MemoryLimit, e.MemoryPeak = 0, 0 }
func muchOutput(e *Evidence)   { e.OutputBytes = 3 * mib }
func pidsRefused(e *Evidence)  { e.PIDsRefused = 7 }
func readingStdin(e *Evidence) { e.ReadingStdin = true }
func broken(e *Evidence)       { e.Error = "receive notification: bad descriptor" }
func caller(signal string) func(*Evidence) {
	return func(e *Evidence) { e.Caller = signal }
}

func printed(text string) func(*Evidence) { return func(e *Evidence) { e.Stderr = text } }
func packages(e *Evidence)                { e.SitePackages = true }

const null = -1 // of exit_code

// classified is one row: facts, and what must come of them.
type classified struct {
	name     string
	facts    Evidence
	verdict  Verdict
	status   int // of sbx
	exitCode int // in the report, null for none
	signal   string
	evidence string // part of it
	hint     string // part of it; "" for no hint at all
}

var classifications = []classified{
	{"exit status 0 is the one success", exited(0), OK, 0, 0, "", "exit status 0", ""},
	{"an exception that was caught is no failure", exited(0, raised("ValueError", "x")), OK, 0, 0, "", "exit status 0", ""},
	{"a child that the kernel killed is no failure of a script that succeeds", exited(0, oom(2)), OK, 0, 0, "", "exit status 0", ""},
	{"output that was cut is no failure", exited(0, muchOutput), OK, 0, 0, "", "exit status 0", ""},
	{"a refused thread is no failure", exited(0, pidsRefused), OK, 0, 0, "", "exit status 0", ""},
	{"all memory used is no failure", exited(0, func(e *Evidence) { e.MemoryPeak = e.MemoryLimit }), OK, 0, 0, "", "exit status 0", ""},
	{"processor time beyond the limit is no failure when the script was through", exited(0, used(6*time.Second, 6*time.Second)), OK, 0, 0, "", "exit status 0", ""},

	{"the script's own exit status", exited(3), NonzeroExit, 3, 3, "", "exit status 3", "sys.exit()"},
	{"exit status 1 without an exception", exited(1), NonzeroExit, 1, 1, "", "exit status 1", "printed"},
	{"the largest exit status", exited(255), NonzeroExit, 255, 255, "", "exit status 255", "printed"},
	{"124 is no time limit by itself", exited(124), NonzeroExit, 124, 124, "", "exit status 124", "printed"},
	{"137 is no kill by itself", exited(137), NonzeroExit, 137, 137, "", "exit status 137", "printed"},
	{"an exception, then another exit status", exited(3, raised("ValueError", "x")), NonzeroExit, 3, 3, "", "exit status 3", "printed"},

	{"an exception", exited(1, raised("ValueError", "no number")), Exception, 1, 1, "", "ValueError: no number (exit status 1)", ""},
	{"an exception without a message", exited(1, raised("KeyError", "")), Exception, 1, 1, "", "KeyError (exit status 1)", ""},
	{"an exception without a name", exited(1, raised("", "boo")), Exception, 1, 1, "", "an exception without a name: boo", ""},
	{"MemoryError", exited(1, raised("MemoryError", "")), Exception, 1, 1, "", "MemoryError", "--memory"},
	{"too many threads", exited(1, raised("RuntimeError", "can't start new thread"), pidsRefused), Exception, 1, 1, "", "start new thread", "--pids"},
	{"no input", exited(1, raised("EOFError", "EOF when reading a line")), Exception, 1, 1, "", "EOFError", "--stdin"},
	{"/tmp is full", exited(1, raised("OSError", "[Errno 28] No space left on device: '/tmp/x'")), Exception, 1, 1, "", "Errno 28", "--tmp-size"},
	{"an import that is not there", exited(1, raised("ModuleNotFoundError", "No module named 'numpy'")), Exception, 1, 1, "", "numpy", "--profile grader"},
	{"an import that is not there although packages are", exited(1, raised("ModuleNotFoundError", "No module named 'numpy'"), packages), Exception, 1, 1, "", "numpy", "install it"},
	{"multiprocessing without /dev/shm", exited(1, raised("FileNotFoundError", "[Errno 2] No such file or directory"), printed("_multiprocessing.SemLock(\nFileNotFoundError: [Errno 2]")), Exception, 1, 1, "", "Errno 2", "--profile science"},
	{"too many open files", exited(1, raised("OSError", "[Errno 24] Too many open files: 'x'")), Exception, 1, 1, "", "Errno 24", "limits.open_files"},
	{"a file that grew too large, said by Python", exited(1, raised("OSError", "[Errno 27] File too large")), Exception, 1, 1, "", "Errno 27", "limits.file_size"},
	{"OpenBLAS without threads", killed("SIGSEGV", printed("OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2: Resource temporarily unavailable")), Signaled, 139, null, "SIGSEGV", "SIGSEGV", "OPENBLAS_NUM_THREADS=1"},
	{"a pool that lost a worker", exited(1, raised("BrokenProcessPool", "A process in the process pool was terminated abruptly")), Exception, 1, 1, "", "BrokenProcessPool", "--pids"},
	{"an import that the policy refuses", exited(1, raised("ImportError", "importing 'os' is not allowed (sbx policy)")), Exception, 1, 1, "", "importing 'os'", "sbx profile list"},
	{"an exception with output that was cut", exited(1, raised("ValueError", "x"), muchOutput), Exception, 1, 1, "", "ValueError", ""},

	{"a crash", killed("SIGSEGV"), Signaled, 139, null, "SIGSEGV", "SIGSEGV", "native code crashed"},
	{"a bus error", killed("SIGBUS"), Signaled, 135, null, "SIGBUS", "SIGBUS", "native code crashed"},
	{"an abort", killed("SIGABRT"), Signaled, 134, null, "SIGABRT", "SIGABRT", "gave up"},
	{"SIGTERM from itself", killed("SIGTERM"), Signaled, 143, null, "SIGTERM", "SIGTERM", ""},
	{"SIGINT from itself", killed("SIGINT", raised("KeyboardInterrupt", "")), Signaled, 130, null, "SIGINT", "SIGINT", ""},
	{"SIGKILL says nothing of a limit", killed("SIGKILL"), Signaled, 137, null, "SIGKILL", "SIGKILL", "no limit of sbx"},
	{"SIGKILL near the memory limit is no memory limit", killed("SIGKILL", func(e *Evidence) { e.MemoryPeak = e.MemoryLimit }), Signaled, 137, null, "SIGKILL", "SIGKILL", "no limit of sbx"},
	{"SIGKILL near the end of its time is no time limit", killed("SIGKILL", used(10*time.Second, time.Second)), Signaled, 137, null, "SIGKILL", "SIGKILL", "no limit of sbx"},
	{"a file that grew too large", killed("SIGXFSZ"), Signaled, 153, null, "SIGXFSZ", "SIGXFSZ", "--tmp-size"},
	{"a real-time signal", killed("SIGRTMIN+6"), Signaled, 168, null, "SIGRTMIN+6", "SIGRTMIN+6", ""},
	{"a crash after a child ran out of memory", killed("SIGSEGV", oom(1)), Signaled, 139, null, "SIGSEGV", "SIGSEGV", "native code crashed"},
	{"SIGXCPU long before the limit", killed("SIGXCPU", used(time.Second, time.Second)), Signaled, 152, null, "SIGXCPU", "SIGXCPU", "no limit of sbx"},
	{"SIGXCPU before the limit", killed("SIGXCPU", used(4*time.Second, 4*time.Second)), Signaled, 152, null, "SIGXCPU", "SIGXCPU", "no limit of sbx"},
	{"SIGXCPU without a limit", killed("SIGXCPU", noCPULimit), Signaled, 152, null, "SIGXCPU", "SIGXCPU", "no limit of sbx"},
	{"interrupted", ended("interrupted", caller("SIGINT")), Signaled, 130, null, "SIGINT", "told to stop (SIGINT)", ""},
	{"interrupted by SIGTERM", ended("interrupted", caller("SIGTERM")), Signaled, 143, null, "SIGTERM", "told to stop (SIGTERM)", ""},
	{"interrupted by a context", ended("interrupted"), Signaled, 143, null, "SIGTERM", "by its caller", ""},
	{"interrupted after a child ran out of memory", ended("interrupted", caller("SIGINT"), oom(1)), Signaled, 130, null, "SIGINT", "told to stop", ""},
	{"interrupted in the moment of the script's own end", func() Evidence {
		e := exited(0)
		e.EndedBy, e.Caller = "interrupted", "SIGINT"
		return e
	}(), Signaled, 130, null, "SIGINT", "told to stop", ""},

	{"the clock, computing", ended("wall", used(10*time.Second, 9*time.Second)), WallTimeLimit, 124, null, "SIGKILL", "limit 10 s); it had used 9 s", "a loop that never ends"},
	{"the clock, and where", ended("wall", used(10*time.Second, 9*time.Second), func(e *Evidence) { e.At = "loop.py:3 in f" }), WallTimeLimit, 124, null, "SIGKILL", "limit 10 s), at loop.py:3 in f; it had used 9 s", "a loop that never ends"},
	{"processor time, and where", ended("cpu", used(5*time.Second, 5*time.Second), func(e *Evidence) { e.At = "loop.py:3" }), CPUTimeLimit, 124, null, "SIGKILL", "limit 5 s), at loop.py:3", "--cpu-time"},
	{"the clock, without memory", ended("wall", used(10*time.Second, 9*time.Second), func(e *Evidence) { e.MemoryPeak = e.MemoryLimit }), WallTimeLimit, 124, null, "SIGKILL", "limit 10 s", "raise --memory"},
	{"processor time, without memory", ended("cpu", used(5*time.Second, 5*time.Second), func(e *Evidence) { e.MemoryPeak = e.MemoryLimit }), CPUTimeLimit, 124, null, "SIGKILL", "limit 5 s", "raise --memory"},
	{"the clock, asleep", ended("wall", used(10*time.Second, 20*time.Millisecond)), WallTimeLimit, 124, null, "SIGKILL", "0.02 s of processor time", "waiting, not computing"},
	{"the clock, waiting for input", ended("wall", used(10*time.Second, 0), readingStdin), WallTimeLimit, 124, null, "SIGKILL", "limit 10 s", "waiting for input"},
	{"the clock wins over a child without memory", ended("wall", oom(3)), WallTimeLimit, 124, null, "SIGKILL", "time was up", "never ends"},
	{"the clock wins over processor time", ended("wall", used(10*time.Second, 6*time.Second)), WallTimeLimit, 124, null, "SIGKILL", "time was up", "never ends"},
	{"the clock wins over too much output", ended("wall", muchOutput), WallTimeLimit, 124, null, "SIGKILL", "time was up", "never ends"},
	{"the clock wins over an exception", ended("wall", raised("ValueError", "x")), WallTimeLimit, 124, null, "SIGKILL", "time was up", "never ends"},

	{"processor time", ended("cpu", used(5*time.Second, 5*time.Second)), CPUTimeLimit, 124, null, "SIGKILL", "5 s, limit 5 s", "--cpu-time"},
	{"processor time, by the kernel", killed("SIGXCPU", used(6*time.Second, 6*time.Second)), CPUTimeLimit, 124, null, "SIGXCPU", "SIGXCPU", "--cpu-time"},
	{"processor time, by accounts that count ticks", killed("SIGXCPU", used(5*time.Second, 4900*time.Millisecond)), CPUTimeLimit, 124, null, "SIGXCPU", "SIGXCPU", "--cpu-time"},
	{"processor time, without accounts", killed("SIGXCPU", used(5*time.Second, 0)), CPUTimeLimit, 124, null, "SIGXCPU", "SIGXCPU", "--cpu-time"},
	{"processor time, by the hard limit", killed("SIGKILL", used(7*time.Second, 7*time.Second)), CPUTimeLimit, 124, null, "SIGKILL", "SIGKILL", "--cpu-time"},

	{"too many refusals", ended("denials", func(e *Evidence) { e.Denials, e.Tried = 101, "connect 192.0.2.1:80" }), PolicyKill, 159, null, "SIGKILL", "refused 101 times, the last time: connect 192.0.2.1:80", "--max-denials"},
	{"the same refusal too often", ended("denials", func(e *Evidence) { e.Denials, e.Same, e.Tried = 11, 6, "import os" }), PolicyKill, 159, null, "SIGKILL", "same thing 6 times", "--max-same-denial"},
	{"out of memory", killed("SIGKILL", oom(1)), MemoryLimit, 137, null, "SIGKILL", "limit 256 MiB, highest use 256 MiB, 1 process killed", "--memory"},
	{"out of memory, where it was seen", killed("SIGKILL", oom(1), func(e *Evidence) { e.NearAt, e.NearMemory = "a.py:2 in f", 250<<20 }), MemoryLimit, 137, null, "SIGKILL", "1 process killed); with 250 MiB in use it was at a.py:2 in f", "--memory"},
	{"out of memory by the watch", ended("memory"), MemoryLimit, 137, null, "SIGKILL", "no cgroup held the limit", "--memory"},
	{"out of memory, and no headway", ended("thrashing", func(e *Evidence) { e.MemoryPeak, e.Reread, e.Thrashed = e.MemoryLimit, 90<<20, 2*time.Second }), MemoryLimit, 137, null, "SIGKILL", "highest use 256 MiB; it got nowhere: in 2 s 90 MiB of its programs and files were", "--memory"},
	{"out of memory with all its processes", killed("SIGKILL", oom(4)), MemoryLimit, 137, null, "SIGKILL", "4 processes killed", "--memory"},
	{"out of memory, and init with it", killed("SIGKILL", oom(1), initLost), MemoryLimit, 137, null, "SIGKILL", "ended the script", "--memory"},
	{"out of memory and all processor time", killed("SIGKILL", oom(1), used(7*time.Second, 7*time.Second)), MemoryLimit, 137, null, "SIGKILL", "out of memory", "--memory"},
	{"a child out of memory, and the script fails of it", exited(1, oom(1)), MemoryLimit, 137, 1, "", "that the script had started", "--memory"},
	{"a child out of memory, and an exception of it", exited(1, oom(1), raised("BrokenProcessPool", "")), MemoryLimit, 137, 1, "", "then ended with exit status 1", "--memory"},
	{"no memory around sbx", killed("SIGKILL", func(e *Evidence) { e.OOMKills, e.MemoryPeak = 1, e.MemoryLimit/3 }), MemoryLimit, 137, null, "SIGKILL", "no limit of sbx's was reached", "group around sbx"},
	{"the limit met, with a peak that nobody kept", killed("SIGKILL", func(e *Evidence) { e.OOMKills, e.MemoryPeak = 1, 0 }), MemoryLimit, 137, null, "SIGKILL", "limit 256 MiB", "--memory"},
	{"the limit met by many small processes", killed("SIGKILL", func(e *Evidence) { e.OOMKills, e.MemoryHits, e.MemoryPeak = 1, 9, e.MemoryLimit/9 }), MemoryLimit, 137, null, "SIGKILL", "limit 256 MiB", "--memory"},
	{"no memory on the machine", killed("SIGKILL", noLimit, func(e *Evidence) { e.OOMKills = 1 }), MemoryLimit, 137, null, "SIGKILL", "no limit of sbx", "this machine"},

	{"too much output", ended("output", muchOutput), OutputLimit, 137, null, "SIGKILL", "more than 1 MiB to one stream (3145728 bytes)", "--output-limit"},
	{"a forbidden kind of system call", killed("SIGSYS"), PolicyKill, 159, null, "SIGSYS", "SIGSYS", "native code"},

	{"sbx failed", killed("SIGKILL", broken), SandboxError, 125, null, "SIGKILL", "bad descriptor", "not the script's fault"},
	{"sbx failed, whatever the script did", exited(0, broken), SandboxError, 125, 0, "", "bad descriptor", "not the script's fault"},
	{"sbx failed, whatever else it ended", ended("wall", broken, oom(1)), SandboxError, 125, null, "SIGKILL", "bad descriptor", "not the script's fault"},
	{"init was killed by somebody", killed("SIGKILL", initLost), SandboxError, 125, null, "SIGKILL", "not by sbx", "dmesg"},
	{"nothing is known of the end", killed(""), SandboxError, 125, null, "", "not known", "bug of sbx"},
	{"nothing is known at all", Evidence{}, SandboxError, 125, null, "", "not known", "bug of sbx"},
	{"an end by a cause that is not known", func() Evidence { e := killed(""); e.EndedBy = "moon"; return e }(), SandboxError, 125, null, "", "not known", "bug of sbx"},
}

func TestVerdictComesFromTheEvidence(t *testing.T) {
	reached := map[Verdict]bool{}
	for _, tt := range classifications {
		reached[tt.verdict] = true
		t.Run(tt.name, func(t *testing.T) {
			r := Build(Input{Evidence: tt.facts})
			s := r.ExecutionSummary
			if s.Verdict != tt.verdict {
				t.Errorf("verdict %s, want %s", s.Verdict, tt.verdict)
			}
			if s.Success != (tt.verdict == OK) {
				t.Errorf("success %v with verdict %s", s.Success, s.Verdict)
			}
			if got := r.ExitStatus(); got != tt.status {
				t.Errorf("sbx exits with %d, want %d", got, tt.status)
			}
			switch {
			case tt.exitCode == null && s.ExitCode != nil:
				t.Errorf("exit_code %d, want null", *s.ExitCode)
			case tt.exitCode != null && (s.ExitCode == nil || *s.ExitCode != tt.exitCode):
				t.Errorf("exit_code %v, want %d", s.ExitCode, tt.exitCode)
			}
			if s.Signal != tt.signal {
				t.Errorf("signal %q, want %q", s.Signal, tt.signal)
			}
			if !strings.Contains(s.Evidence, tt.evidence) {
				t.Errorf("evidence %q, want one with %q", s.Evidence, tt.evidence)
			}
			if !strings.Contains(s.Hint, tt.hint) || tt.hint == "" && s.Hint != "" {
				t.Errorf("hint %q, want one with %q", s.Hint, tt.hint)
			}
		})
	}
	for _, v := range constants(t, "verdict.go", "Verdict") {
		if !reached[Verdict(v)] {
			t.Errorf("no row of the table reaches %s", v)
		}
	}
}

func TestExitStatusOfAReportThatNamesNoEnd(t *testing.T) {
	r := &Report{ExecutionSummary: Summary{Verdict: Signaled, Signal: "SIGNONSENSE"}}
	if got := r.ExitStatus(); got != 125 {
		t.Errorf("sbx exits with %d, want 125", got)
	}
}

func TestEverySignalHasANameThatLeadsBack(t *testing.T) {
	seen := map[string]int{}
	for n := 1; n <= 64; n++ {
		name := SignalName(n)
		if other, dup := seen[name]; dup {
			t.Errorf("signals %d and %d are both %s", other, n, name)
		}
		seen[name] = n
		if got := signalNumber(name); got != n {
			t.Errorf("signal %d is %s, and that is %d", n, name, got)
		}
	}
	for _, name := range []string{"", "SIG", "SIGRTMIN+", "SIGRTMIN+31", "SIGRTMIN+-5", "SIG-9", "SIG65", "SIG99999999999999999999", "KILLED"} {
		if got := signalNumber(name); got != 0 {
			t.Errorf("%q is signal %d, want none", name, got)
		}
	}
}

func TestFindingsNameTheNearMisses(t *testing.T) {
	peak := func(bytes int64) func(*Evidence) { return func(e *Evidence) { e.MemoryPeak = bytes } }
	tests := []struct {
		name  string
		facts Evidence
		want  []string // kind, confidence and part of the text
	}{
		{"nothing happened", exited(0), nil},
		{"97 % of the memory", exited(0, peak(249*mib)), []string{"near_miss.memory high 249 MiB of 256 MiB"}},
		{"96 % of the memory", exited(0, peak(245*mib)), nil},
		{"97 % of a limit as large as the type", exited(0, func(e *Evidence) { e.MemoryLimit, e.MemoryPeak = 1<<62, 1<<62 }), []string{"near_miss.memory high 4294967296 GiB of 4294967296 GiB"}},
		{"little of a limit as large as the type", exited(0, func(e *Evidence) { e.MemoryLimit, e.MemoryPeak = 1<<62, mib }), nil},
		{"memory without a limit", exited(0, noLimit, peak(gib)), nil},
		{"a child out of memory", exited(0, oom(2)), []string{"near_miss.memory high 2 killed"}},
		{"a child out of memory, then a crash", killed("SIGSEGV", oom(1)), []string{"near_miss.memory high 1 killed"}},
		{"a child out of memory, then the clock", ended("wall", used(10*time.Second, 9*time.Second), oom(1)), []string{"near_miss.memory high 1 killed"}},
		{"out of memory is a verdict, no near miss", killed("SIGKILL", oom(1)), nil},
		{"a refused process", exited(0, pidsRefused), []string{"near_miss.pids high 7 times, limit 32"}},
		{"output cut", exited(0, muchOutput), []string{"near_miss.output high 3145728 bytes"}},
		{"output to the last byte", exited(0, func(e *Evidence) { e.OutputBytes = e.OutputLimit }), nil},
		{"output without a limit", exited(0, muchOutput, func(e *Evidence) { e.OutputLimit = 0 }), nil},
		{"too much output is a verdict, no near miss", ended("output", muchOutput), nil},
		{"a full /tmp", exited(1, raised("OSError", "[Errno 28] No space left on device")), []string{"near_miss.tmp medium no room left"}},
		{"a full /tmp, by the file system's own word", exited(0, func(e *Evidence) { e.Full, e.FullOf, e.TmpSize = "/tmp", "bytes", 16*mib }), []string{"near_miss.tmp high /tmp was full: its 16 MiB"}},
		{"a full /tmp, said by both", exited(1, raised("OSError", "[Errno 28] No space left on device"), func(e *Evidence) { e.Full, e.FullOf, e.TmpFiles = "/workspace", "files", 4096 }), []string{"near_miss.tmp high /workspace was full: its 4096 files"}},
		{"a MemoryError that was caught", exited(0, printed("MemoryError: caught")), []string{"near_miss.memory medium MemoryError"}},
		{"a MemoryError that nobody caught is in the verdict", exited(1, raised("MemoryError", ""), printed("MemoryError")), nil},
		{"threads refused where nobody counts", exited(1, raised("RuntimeError", "can't start new thread")), []string{"near_miss.pids medium no new thread"}},
		{"threads refused and counted", exited(1, raised("RuntimeError", "can't start new thread"), pidsRefused), []string{"near_miss.pids high 7 times"}},
		{"OpenBLAS", exited(1, printed("OpenBLAS blas_thread_init: pthread_create failed for thread 3 of 8")), []string{"known_failure medium OpenBLAS"}},
		{"words of a script that succeeds", exited(0, printed("[Errno 24] BrokenProcessPool")), nil},
		{"another OSError", exited(1, raised("OSError", "[Errno 2] No such file")), nil},
		{"asleep", ended("wall", used(10*time.Second, 30*time.Millisecond)), []string{"asleep medium 0.03 s of processor time in 10 s"}},
		{"a short run is not asleep", exited(0, used(10*time.Second, 0)), nil},
		{"busy until its time was up", ended("wall", used(10*time.Second, 9*time.Second)), nil},
		{"waiting for input", ended("wall", used(10*time.Second, 0), readingStdin), []string{"near_miss.stdin high waiting for standard input"}},
		{"several at once", exited(0, oom(1), pidsRefused, muchOutput), []string{"near_miss.memory high ", "near_miss.pids high ", "near_miss.output high "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Findings(tt.facts)
			if len(got) != len(tt.want) {
				t.Fatalf("findings %+v, want %q", got, tt.want)
			}
			for i, want := range tt.want {
				parts := strings.SplitN(want, " ", 3)
				if f := got[i]; f.Kind != parts[0] || f.Confidence != parts[1] || !strings.Contains(f.Text, parts[2]) {
					t.Errorf("finding %+v, want %q", f, want)
				}
			}
		})
	}
}

func TestSizesAndTimesAsPeopleReadThem(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1023: "1023 bytes", 1024: "1 KiB", 1536: "1.5 KiB", 256 * mib: "256 MiB", 5 * gib / 2: "2.5 GiB", -1: "-1 bytes",
	} {
		if got := byteSize(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0 s", time.Millisecond: "0.001 s", 9825585: "0.0098 s", 500 * time.Millisecond: "0.50 s", 10 * time.Second: "10 s", 61234 * time.Millisecond: "61.23 s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
