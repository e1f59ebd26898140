// Package profile is the typed policy of a run: what a script may do and how
// much of the machine it may use. It is data: inheritance, overrides and
// validation are pure, and nothing is read but the files that are named.
//
// The built-in profiles are the files in profiles/. builtin.go has them decoded,
// so that a run decodes no YAML; a test holds it to the files. profiles/schema.json
// describes a file for editors; a test holds it to the types here.
package profile

import "time"

// HookMode says what the hook inside the interpreter does.
type HookMode string

// The hook modes.
const (
	HooksEnforce HookMode = "enforce" // report, and raise early with a friendly error
	HooksObserve HookMode = "observe" // report only
	HooksOff     HookMode = "off"     // no hook; the kernel's word alone
)

// Network says what the script can reach.
type Network string

// The network modes.
const (
	NetworkNone     Network = "none"     // no sockets but unix socket pairs
	NetworkLoopback Network = "loopback" // its own loopback interface, nothing else
	NetworkHost     Network = "host"     // the host's network namespace: a widening
)

// Profile is one complete policy.
type Profile struct {
	Name        string `yaml:"name"`
	Description string `yaml:"description"`
	// Extends names the profile that this one starts from.
	Extends string `yaml:"extends"`
	// Require lists the layers without which a run does not start.
	Require []string `yaml:"require"`
	Limits  Limits   `yaml:"limits"`
	Python  Python   `yaml:"python"`
	Files   Files    `yaml:"files"`
	Network Network  `yaml:"network"`
	Seccomp Seccomp  `yaml:"seccomp"`
	// Trace observes allowed opens, connects and the like.
	Trace bool `yaml:"trace"`
}

// Limits bounds a run. Zero means no limit, except where a comment says otherwise.
type Limits struct {
	Wall       time.Duration `yaml:"wall"`
	CPUTime    time.Duration `yaml:"cpu_time"`    // user and system, of the whole tree
	Memory     Size          `yaml:"memory"`      // of the whole tree
	CPUPercent int           `yaml:"cpu_percent"` // of one CPU; 200 is two CPUs
	PIDs       int64         `yaml:"pids"`        // processes and threads
	Output     Size          `yaml:"output"`      // of stdout and of stderr, each
	// OutputAction says what happens at the output limit.
	OutputAction OutputAction `yaml:"output_action"`
	TmpSize      Size         `yaml:"tmp_size"`   // of /tmp, and of the copy of a workspace; never zero
	TmpInodes    int64        `yaml:"tmp_inodes"` // files and directories in either; never zero
	OpenFiles    uint64       `yaml:"open_files"` // RLIMIT_NOFILE; never zero
	FileSize     Size         `yaml:"file_size"`  // RLIMIT_FSIZE
	// Denials and SameDenial end a run that keeps trying what it is refused: so
	// often in all, or the same thing so often.
	Denials    int64 `yaml:"denials"`
	SameDenial int64 `yaml:"same_denial"`
}

// OutputAction says what happens when the script has printed too much.
type OutputAction string

// The output actions.
const (
	OutputTruncate OutputAction = "truncate" // keep head and tail, count the rest, run on
	OutputKill     OutputAction = "kill"     // end the run: verdict output_limit
)

// Python is the policy of the interpreter and its hook.
type Python struct {
	Hooks             HookMode `yaml:"hooks"`
	RestrictedImports []string `yaml:"restricted_imports"`
	// AllowedImports, when set, is the complete list of what may be imported.
	AllowedImports []string `yaml:"allowed_imports"`
	// SitePackages makes installed packages visible, beside the standard library.
	SitePackages bool `yaml:"site_packages"`
	// FastExit ends the interpreter after atexit and flush without tearing down
	// its objects.
	FastExit bool `yaml:"fast_exit"`
}

// Files is the policy of the jail's file system as the script sees it.
type Files struct {
	// Read lets the script itself open files for reading (the interpreter's own
	// imports are never affected). ReadPaths are host paths bound read-only.
	Read      bool     `yaml:"read"`
	ReadPaths []string `yaml:"read_paths"`
	// Write lets the script write to /tmp (and to its copy of a workspace).
	// WritePaths are host paths bound writable: a widening.
	Write      bool     `yaml:"write"`
	WritePaths []string `yaml:"write_paths"`
	// SharedMemory gives a /dev/shm of its own (multiprocessing needs it). Without, it
	// leads to /tmp, where that may be written.
	SharedMemory bool `yaml:"shared_memory"`
	// System shows the host's programs and libraries (/usr, /bin, /lib*),
	// read-only.
	System bool `yaml:"system"`
}

// Seccomp is the system-call policy. What no rule allows is refused by the
// kernel and reported.
type Seccomp struct {
	// Groups are named sets of rules (see pkg/seccomp), allowed without a look.
	Groups []string `yaml:"groups"`
	// AddGroups are added to the groups that are inherited.
	AddGroups []string `yaml:"add_groups"`
	// Rules are allowed or refused one by one, on top of the groups. A rule
	// overrides those before it.
	Rules []Rule `yaml:"rules"`
	// Import is the path of an OCI/Docker seccomp JSON, seen from the profile's
	// own file. The loader puts what it allows and refuses before the Rules.
	Import string `yaml:"import"`
}

// Rule is one line of a system-call policy.
type Rule struct {
	Names  []string `yaml:"names"`
	Action Action   `yaml:"action"`
	Errno  string   `yaml:"errno"` // for ActionErrno
	Args   []Arg    `yaml:"args"`  // all must hold
	Reason string   `yaml:"reason"`
}

// Action is what the kernel does with a call that a rule matches.
type Action string

// The actions.
const (
	ActionAllow  Action = "allow"  // let through, unseen
	ActionNotify Action = "notify" // refuse and report: what every unnamed call gets
	ActionErrno  Action = "errno"  // refuse without a report
	ActionKill   Action = "kill"   // end the process
)

// Arg is a condition on one scalar argument: (value of argument Index, masked
// with Mask when Op is masked_eq) Op Value.
type Arg struct {
	Index uint   `yaml:"index"`
	Op    string `yaml:"op"` // eq ne lt le gt ge masked_eq
	Value uint64 `yaml:"value"`
	Mask  uint64 `yaml:"mask"`
}
