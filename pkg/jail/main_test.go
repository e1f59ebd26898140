package jail

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/interp"
	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/pyhook"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

// refusalVariable makes the test binary a child that has some system calls
// refused, and then starts a jail: such a filter cannot be taken off again.
const refusalVariable = "SBX_JAIL_TEST_REFUSAL"

func TestMain(m *testing.M) {
	MaybeInit() // the tests start jails, whose init stage is this binary
	if refusal, ok := os.LookupEnv(refusalVariable); ok {
		if err := startRefused(refusal); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

// cacheVariable names a directory in which the children find what was learnt of
// the interpreter.
const cacheVariable = "SBX_JAIL_TEST_CACHE"

// runTests is m.Run with such a directory.
func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sbx-jail-")
	if err == nil {
		err = os.Setenv(cacheVariable, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	return m.Run()
}

// allowAll is a filter that refuses nothing: what the probe then cannot do, the
// rest of the jail keeps it from.
func allowAll() ([]byte, error) {
	p := seccomp.Program{Filter: []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}}
	return p.MarshalBinary()
}

// system is the interpreter of the system, which any user can read.
var system = sync.OnceValues(func() (*interp.Interpreter, error) {
	exe, err := interp.Find("python3", "/usr/bin:/bin")
	if err != nil {
		return nil, err
	}
	return interp.Load(exe, os.Getenv(cacheVariable))
})

// strict is what most live tests ask for.
func strict() profile.Profile {
	return profile.Profile{
		Limits: profile.Limits{
			CPUPercent: 200, PIDs: 32, TmpSize: 1 << 20, TmpInodes: 64, OpenFiles: 1024, FileSize: 16 << 20,
		},
		Python:  profile.Python{Hooks: profile.HooksOff, FastExit: true},
		Files:   profile.Files{Read: true, Write: true},
		Network: profile.NetworkNone,
	}
}

// request asks for a jail in which script runs.
func request(in *interp.Interpreter, p profile.Profile, script []byte) (Request, error) {
	filter, err := allowAll()
	if err != nil {
		return Request{}, err
	}
	name := path.Join(ScriptDir, "probe.py")
	boot, err := pyhook.BootFile(in.Boot, pyhook.Config{
		Mode: p.Python.Hooks, EventFD: pyhook.EventFD, Script: name, SysPath: in.StdPath, Roots: in.StdPath,
		Read: true, Write: true, Network: true, Processes: true, FastExit: p.Python.FastExit, Exe: in.Path,
	})
	if err != nil {
		return Request{}, err
	}
	return Request{
		Profile: p, Interp: in, Files: []Source{Bytes(name, 0o444, script)}, Boot: boot, Filter: filter,
		Host: Host{Root: os.Geteuid() == 0},
	}, nil
}

// inside is what a jail's life showed.
type inside struct {
	ready          *Ready
	exit           *Exit
	stdout, stderr string
}

// seams are where a test reaches into a jail's life.
type seams struct {
	plan   func(*Blueprint, *Spawn)
	attend func(*Jail) error // while the script waits for the end of its input
}

// enter plans a jail, runs it to its end and returns what was seen. What the
// hook writes is nobody's.
func enter(r Request, s seams) (in inside, err error) {
	runtime.LockOSThread() // the jail dies with this thread
	defer runtime.UnlockOSThread()
	b, err := Plan(r)
	if err != nil {
		return in, err
	}
	var spawn Spawn
	if spawn.IDs, err = HostIDs(); err != nil {
		return in, err
	}
	var ours [4]*os.File
	for i, end := range []**os.File{&spawn.Stdin, &spawn.Stdout, &spawn.Stderr, &spawn.Events} {
		r, w, err := os.Pipe()
		if err != nil {
			return in, err
		}
		*end, ours[i] = w, r
		if i == 0 {
			*end, ours[i] = r, w
		}
		defer r.Close()
		defer w.Close()
	}
	if !b.EventPipe {
		spawn.Events = nil
	}
	if s.plan != nil {
		s.plan(b, &spawn)
	}
	spawn.Namespaces = Namespaces(r.Profile)
	j, err := Start(spawn)
	if err == nil {
		err = j.Build(b)
	}
	for _, f := range []*os.File{spawn.Stdin, spawn.Stdout, spawn.Stderr, spawn.Events} {
		if f != nil {
			f.Close()
		}
	}
	if j != nil {
		defer func() {
			j.Kill()
			_, werr := j.Wait()
			err = errors.Join(err, werr)
		}()
	}
	if err != nil {
		return in, err
	}
	ready, listener, err := j.Ready()
	if err != nil {
		return in, err
	}
	defer listener.Close()
	in.ready = ready
	if err := j.Go(); err != nil {
		return in, err
	}
	if err := j.Started(); err != nil {
		return in, err
	}
	var output sync.WaitGroup
	var out, errs bytes.Buffer
	output.Go(func() { _, _ = io.Copy(&out, ours[1]) })
	output.Go(func() { _, _ = io.Copy(&errs, ours[2]) })
	if s.attend != nil {
		if err := s.attend(j); err != nil {
			return in, err
		}
	}
	ours[0].Close()
	in.exit, err = j.Exited()
	j.Kill()
	output.Wait()
	in.stdout, in.stderr = out.String(), errs.String()
	return in, err
}

// refusal is a system call that is made to fail, when every condition on the
// low half of an argument holds: (argument & mask) == value.
type refusal struct {
	NR    int
	Errno unix.Errno
	When  []condition
	// Listen makes the filter one with a listener, as a supervisor around sbx
	// has it.
	Listen bool
	// Loopback asks for a jail whose loopback interface is up.
	Loopback bool
	// ReadOnly asks for a jail in which the script writes nothing.
	ReadOnly bool
	// Limits are the caller's own, and Ignored the signals that it ignores.
	Limits  []Rlimit
	Ignored []syscall.Signal
}

type condition struct{ Arg, Mask, Value uint32 }

// program refuses the call and allows everything else. Offsets are those of
// struct seccomp_data.
func (r refusal) program() seccomp.Program {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	// Every condition that fails jumps to the last instruction.
	code := []unix.SockFilter{load(0), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(r.NR)}}
	for _, c := range r.When {
		code = append(code, load(16+8*c.Arg),
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: c.Mask},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: c.Value})
	}
	code = append(code, ret(unix.SECCOMP_RET_ERRNO|uint32(r.Errno)), ret(unix.SECCOMP_RET_ALLOW))
	for i := range code {
		if code[i].Code == unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K {
			code[i].Jf = uint8(len(code) - 1 - i - 1)
		}
	}
	return seccomp.Program{Filter: code}
}

// install puts the filter on the calling thread, which must be locked.
func (r refusal) install() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := r.program()
	if r.Listen {
		_, _, err := program.Install(0)
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(program.Filter)), Filter: &program.Filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}

// answer is what the child has to tell of a jail that was started with a call
// refused.
type answer struct {
	Ready  *Ready
	Failed *SetupError
	Other  string // an error of another type
	Stdout string
	Stderr string
}

// vista is what testdata/probe.py saw.
type vista struct {
	Descriptors map[string]string
	Root, Dev   []string
	Etc         map[string]string
	Processes   []string
	Proc        []string
	Mountinfo   string
	Status      string
	Cgroup      string
	Environment []string
	Host        string
	Directory   string
	Umask       int
	IDs         []int
	Groups      []int
	PID         []int
	Ignored     []string
	Blocked     int
	Limits      map[string][]int64
	Interfaces  map[string]string
	Stdin       string
	Argv        []string
	Attempts    map[string]string
}

func parseVista(t *testing.T, stdout, stderr string) vista {
	t.Helper()
	var v vista
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || stderr != "" {
		t.Fatalf("the probe said %q, %q: %v", stdout, stderr, err)
	}
	return v
}

// startRefused is the child: it has a call refused to itself and its jail.
func startRefused(encoded string) error {
	var r refusal
	if err := json.Unmarshal([]byte(encoded), &r); err != nil {
		return err
	}
	in, err := system()
	if err != nil {
		return err
	}
	p := strict()
	if r.Loopback {
		p.Network = profile.NetworkLoopback
	}
	if r.ReadOnly {
		p.Files.Write = false
	}
	script, err := os.ReadFile("testdata/probe.py")
	if err != nil {
		return err
	}
	req, err := request(in, p, script)
	if err != nil {
		return err
	}
	req.Workspace = true
	req.Files = append(req.Files, Bytes(WorkspaceDir+"/data", 0o644, []byte("data")))
	for _, l := range r.Limits {
		if err := unix.Setrlimit(l.Resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			return err
		}
	}
	for _, s := range r.Ignored {
		signal.Ignore(s)
	}
	// A directory of the host that the caller leaks.
	if _, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return err
	}
	runtime.LockOSThread()
	if r.NR != 0 || r.Listen {
		if err := r.install(); err != nil {
			return fmt.Errorf("install the refusal: %w", err)
		}
	}
	var a answer
	seen, err := enter(req, seams{})
	a.Ready, a.Stdout, a.Stderr = seen.ready, seen.stdout, seen.stderr
	if err != nil && !errors.As(err, &a.Failed) {
		a.Other = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

// refused runs the child.
func refused(t *testing.T, r refusal) answer {
	t.Helper()
	encoded, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), refusalVariable+"="+string(encoded))
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the child ended with %v", err)
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatalf("the child said %q: %v", out, err)
	}
	return a
}
