package report

import "strings"

// failure is a way in which Python programs fail in a jail, or anywhere with
// limits, and whose message does not say what to do.
type failure struct {
	marks []string // all of them stand in what the script printed at its end
	text  string
	hint  string
	when  func(Evidence) bool // nil: always
	kind  string              // of the finding; "" is known_failure
}

// knownFailures are tried in this order.
func knownFailures() []failure {
	return []failure{
		{
			marks: []string{"OpenBLAS blas_thread_init: pthread_create"},
			text:  "numpy's OpenBLAS starts a thread for each processor and could not have them all",
			hint:  "let OpenBLAS use one thread: --env OPENBLAS_NUM_THREADS=1; or raise --pids",
		},
		{
			marks: []string{"libgomp: Thread creation failed"},
			text:  "OpenMP starts a thread for each processor and could not have them all",
			hint:  "let OpenMP use one thread: --env OMP_NUM_THREADS=1; or raise --pids",
		},
		{
			marks: []string{"_multiprocessing.SemLock", "Error"},
			text:  "a lock of multiprocessing, as its pools of threads have one too, needs a /dev/shm to write to, which this profile does not show",
			hint:  "multiprocessing needs shared memory and processes: --profile science has both; for threads alone take concurrent.futures.ThreadPoolExecutor, which needs neither",
		},
		{
			marks: []string{"BrokenProcessPool"},
			text:  "a worker process of a pool ended abruptly",
			hint:  "see the other notes for what ended the worker: memory (--memory), a limit on processes (--pids), a refused system call",
		},
		{
			marks: []string{"can't start new thread"},
			text:  "the script says that no new thread could be started",
			hint:  "it has too many processes and threads; if it needs more, raise --pids",
			kind:  "near_miss.pids",
		},
		{
			marks: []string{"BlockingIOError: [Errno 11]"},
			text:  "the script says that no new process could be started",
			hint:  "it has too many processes and threads; if it needs more, raise --pids",
			kind:  "near_miss.pids",
			when:  func(e Evidence) bool { return e.PIDsRefused > 0 },
		},
		{
			marks: []string{"[Errno 24]"}, // EMFILE
			text:  "it had too many files open at once",
			hint:  "close files after use (with open(...) as f); if it needs more, set limits.open_files in a profile",
		},
		{
			marks: []string{"[Errno 27]"}, // EFBIG
			text:  "it wrote a file that is larger than the profile allows",
			hint:  "write less; if it needs more, set limits.file_size in a profile",
		},
		{
			marks: []string{"[Errno 28]"}, // ENOSPC
			text:  "the script says that it had no room left for files",
			kind:  "near_miss.tmp",
			hint:  "remove files that are not needed any more; if it needs more, raise --tmp-size",
		},
		{
			marks: []string{"ModuleNotFoundError: No module named"},
			text:  "it imports a module that is not there; this profile shows the standard library only",
			hint:  "installed packages are visible under --profile grader and science; modules of the script's own come with --workspace DIR",
			when:  func(e Evidence) bool { return !e.SitePackages },
		},
		{
			marks: []string{"ModuleNotFoundError: No module named"},
			text:  "it imports a module that this interpreter does not have",
			hint:  "install it for the interpreter that runs the script, or name another with --python; modules of the script's own come with --workspace DIR",
		},
		{
			marks: []string{"Fatal Python error: init"},
			text:  "the interpreter itself could not start",
			hint:  "delete sbx's cache (~/.cache/sbx) and try again, or name another interpreter with --python",
		},
	}
}

// knownFailure looks for one in the last words of a script that did not succeed.
func (e Evidence) knownFailure() (failure, bool) {
	if e.Exited && e.Code == 0 {
		return failure{}, false
	}
	said := e.Stderr + "\n" + e.UncaughtType + ": " + e.UncaughtMessage
	for _, f := range knownFailures() {
		found := f.when == nil || f.when(e)
		for _, mark := range f.marks {
			found = found && strings.Contains(said, mark)
		}
		if found {
			return f, true
		}
	}
	return failure{}, false
}
