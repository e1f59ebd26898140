package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/interp"
	"github.com/sbxproject/sbx/pkg/report"
)

// The attack tests run what a hostile script would, under a hostile caller, and
// judge by what it got and by what the host saw of it. Each table is run in the
// jail under strict and under observe, with the hook enforcing, observing and
// off, and once outside, as the same user: that run is the control, in which the
// attacks must succeed, or the table shows nothing.

// attack is one thing that a script tries.
type attack struct {
	name string
	// code is the body of a Python function. What it returns is what the attack
	// got; an OSError is a refusal. HOST is the host, call and libc are native.
	code string
	// strict and observe are the answers that hold, with | between them: the name
	// of an errno or of another exception, "got ..." for what was returned. Empty
	// is the same as under strict.
	strict, observe string
	// control is what the attack gets outside, and plain what it gets there as a
	// plain user, where that differs: "got" is any success, "reached" an answer
	// of the kernel to the arguments, "-" that nothing can be shown.
	control, plain string
	// op is the refused call that the report names under strict.
	op string
}

// attackCalls is native with the answers as exceptions. With the hook enforcing a
// script may not import ctypes; what the standard library imports for itself, it
// may use.
const attackCalls = `
import errno, json, os, sys
try:
    import ctypes
except ImportError:
    import multiprocessing.sharedctypes
    ctypes = sys.modules["ctypes"]
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def call(nr, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(nr), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if result == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), "call %d" % nr)
    return result
`

// attackDriver runs the attacks one after the other and prints a line for each.
// Outside, each attack has a process of its own: what it does to that must not help
// or hinder the next.
const attackDriver = attackCalls + `
HOST = json.loads(sys.argv[1])

def attempt(name, attack):
    try:
        answer = "got %s" % (attack(),)
    except Exception as error:
        code = getattr(error, "errno", None)
        answer = errno.errorcode.get(code, str(code)) if code else type(error).__name__
        if "(sbx policy)" in str(error):
            answer = "hook"
    os.write(1, json.dumps([name, answer]).encode() + b"\n")

def run(name, attack):
    if not HOST["outside"]:
        return attempt(name, attack)
    pid = os.fork()
    if pid == 0:
        try:
            attempt(name, attack)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        os.write(1, json.dumps([name, "signal %d" % os.WTERMSIG(status)]).encode() + b"\n")

`

// program writes a table as a Python program.
func program(table []attack) string {
	var b strings.Builder
	b.WriteString(attackDriver)
	for _, a := range table {
		fmt.Fprintf(&b, "def attack():\n    %s\nrun(%q, attack)\n", strings.ReplaceAll(strings.TrimSpace(a.code), "\n", "\n    "), a.name)
	}
	return b.String()
}

// host is what of the host no script may reach.
type host struct {
	Outside  bool     `json:"outside"`
	Secret   string   `json:"secret"` // in the files, and what the sockets answer with
	Files    []string `json:"files"`
	TCP      int      `json:"tcp"`
	UDP      int      `json:"udp"`
	Abstract string   `json:"abstract"`
	Unix     string   `json:"unix"`
	PID      int      `json:"pid"`  // of a process, with the secret in its environment
	Key      int      `json:"key"`  // of a segment of shared memory
	FDs      []int    `json:"fds"`  // that the caller leaks
	Self     string   `json:"self"` // the program that is sbx
	Python   string   `json:"python"`
	Scratch  string   `json:"scratch"` // where the script may write outside of the jail
	Name     string   `json:"name"`    // of the machine
	Locked   string   `json:"locked"`  // a file of the runtime that somebody has locked

	leaks   []*os.File
	sum     []byte // of Self
	process *exec.Cmd
	mu      sync.Mutex
	heard   map[string]int // connections by kind of socket
}

// secretVariable holds the secret in the caller's environment.
const secretVariable = "SBX_TEST_CANARY"

func newHost(t *testing.T) *host {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	h := &host{Secret: "canary-" + rand.Text(), heard: map[string]int{}, Scratch: shared(t, 0o777)}
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", t.TempDir()} {
		f, err := os.CreateTemp(dir, "sbx-test-canary-")
		must(err)
		t.Cleanup(func() { _ = os.Remove(f.Name()) })
		_, err = f.WriteString(h.Secret)
		must(err)
		must(f.Chmod(0o644))
		must(f.Close())
		h.Files = append(h.Files, f.Name())
	}
	for _, dir := range []string{filepath.Dir(h.Files[3]), filepath.Dir(filepath.Dir(h.Files[3]))} {
		must(os.Chmod(dir, 0o755)) // that the jail's user could, were it not for the jail
	}

	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	h.TCP = tcp.Addr().(*net.TCPAddr).Port
	h.Abstract, h.Unix = "sbx-test-"+rand.Text(), filepath.Join(h.Scratch, "socket")
	abstract, err := net.Listen("unix", "@"+h.Abstract)
	must(err)
	path, err := net.Listen("unix", h.Unix)
	must(err)
	must(os.Chmod(h.Unix, 0o777))
	for kind, l := range map[string]net.Listener{"tcp": tcp, "abstract": abstract, "unix": path} {
		t.Cleanup(func() { _ = l.Close() })
		go h.serve(kind, l)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(err)
	t.Cleanup(func() { _ = udp.Close() })
	h.UDP = udp.LocalAddr().(*net.UDPAddr).Port
	go h.echo(udp)

	h.process = exec.CommandContext(t.Context(), "cat")
	h.process.Env = []string{secretVariable + "=" + h.Secret}
	in, err := h.process.StdinPipe()
	must(err)
	must(h.process.Start())
	h.PID = h.process.Process.Pid
	t.Cleanup(func() { _ = in.Close(); _ = h.process.Wait() })

	h.Key = 0x5b000000 | os.Getpid()
	id, err := unix.SysvShmGet(h.Key, 4096, unix.IPC_CREAT|0o666)
	must(err)
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })

	// CVE-2024-21626 and its like: a directory, a file that can be written, a
	// listening socket.
	dir, err := os.Open("/")
	must(err)
	file, err := os.OpenFile(h.Files[0], os.O_RDWR, 0)
	must(err)
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	must(unix.Listen(socket, 1))
	listener := os.NewFile(uintptr(socket), "socket")
	h.leaks = []*os.File{dir, file, listener, dir, file, listener} // the first numbers are those of sbx's own
	for i, f := range h.leaks {
		h.FDs = append(h.FDs, 3+i) // as exec.Cmd numbers ExtraFiles
		t.Cleanup(func() { _ = f.Close() })
	}
	h.Self, err = os.Executable()
	must(err)
	h.sum = fileSum(t, h.Self)
	h.Name, err = os.Hostname()
	must(err)
	h.Python, err = interp.Find("", os.Getenv("PATH"))
	must(err)
	python, err := interp.Load(h.Python, os.Getenv("XDG_CACHE_HOME"))
	must(err)
	h.Locked = filepath.Join(python.StdPath[slices.IndexFunc(python.StdPath, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "os.py"))
		return err == nil
	})], "os.py")
	locked, err := os.Open(h.Locked)
	must(err)
	t.Cleanup(func() { _ = locked.Close() })
	// Of the open file, so that no other close of it in this process lets go.
	must(unix.FcntlFlock(locked.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: 42, Len: 1}))
	return h
}

func (h *host) hear(kind string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard[kind]++
}

func (h *host) serve(kind string, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		h.hear(kind)
		_, _ = io.WriteString(c, h.Secret)
		_ = c.Close()
	}
}

func (h *host) echo(c net.PacketConn) {
	buf := make([]byte, 64)
	for {
		_, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		h.hear("udp")
		_, _ = c.WriteTo([]byte(h.Secret), from)
	}
}

// contacts are the connections that the host's sockets had since the last time.
// Its own come last, and the queues keep the order: nothing is left in them.
func (h *host) contacts(t *testing.T) map[string]int {
	t.Helper()
	for _, a := range [][2]string{
		{"tcp", fmt.Sprintf("127.0.0.1:%d", h.TCP)}, {"unix", "@" + h.Abstract}, {"unix", h.Unix}, {"udp", fmt.Sprintf("127.0.0.1:%d", h.UDP)},
	} {
		c, err := net.Dial(a[0], a[1])
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, len(h.Secret))
		if a[0] == "udp" {
			_, err = c.Write([]byte("x"))
		}
		if err == nil {
			_, err = io.ReadFull(c, buf)
		}
		_ = c.Close()
		if err != nil || string(buf) != h.Secret {
			t.Fatalf("the host's own socket %s says %q, %v", a[1], buf, err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]int{}
	for kind, n := range h.heard {
		if n > 1 {
			out[kind] = n - 1
		}
	}
	clear(h.heard)
	return out
}

// wantUntouched fails the test if the host is not as it was.
func (h *host) wantUntouched(t *testing.T) {
	t.Helper()
	if got := h.contacts(t); len(got) > 0 {
		t.Errorf("the host's sockets were reached: %v", got)
	}
	for _, file := range h.Files {
		if data, err := os.ReadFile(file); err != nil || string(data) != h.Secret {
			t.Errorf("%s holds %q, %v", file, data, err)
		}
	}
	if !bytes.Equal(fileSum(t, h.Self), h.sum) {
		t.Error("the program that is sbx was changed")
	}
	// Signal 0 asks whether the process is there; a zombie would still be, so
	// its state is read too.
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.PID)); err != nil || !strings.Contains(string(stat), "(cat) S ") {
		t.Errorf("the host's process is gone: %s, %v", stat, err)
	}
	if entries, err := filepath.Glob("/*sbx-attack*"); err != nil || len(entries) > 0 {
		t.Errorf("in the host's root are %v, %v", entries, err)
	}
}

func fileSum(t *testing.T, file string) []byte {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	// Its size and times, to the nanosecond: a checksum of all of a binary with
	// the race detector, again and again, takes longer than the attacks.
	return fmt.Append(nil, info.Size(), info.ModTime().UnixNano(), info.Mode())
}

// argument is what the program is told of the host.
func (h *host) argument(t *testing.T, outside bool) string {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Outside = outside
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// prepare makes a process a hostile caller's.
func (h *host) prepare(cmd *exec.Cmd) {
	cmd.ExtraFiles = h.leaks
	cmd.Dir = filepath.Dir(h.Files[3])
	cmd.Env = append(cmd.Environ(), secretVariable+"="+h.Secret)
}

// attackFlags are wide enough for a slow machine.
var attackFlags = []string{"--timeout", "60", "--cpu-time", "60"}

// inside runs a program in a jail.
func (h *host) inside(t *testing.T, code string, flags ...string) outcome {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	args := slices.Concat([]string{"run", "--report", file}, attackFlags, flags, []string{script(t, code), h.argument(t, false)})
	cmd := sbxProcess(t, args...)
	h.prepare(cmd)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	o := outcome{status: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(), report: readReport(t, file)}
	if o.report == nil {
		t.Fatalf("no report, status %d: %s", o.status, o.stderr)
	}
	if data, err := os.ReadFile(file); err != nil || bytes.Contains(data, []byte(h.Secret)) && !strings.Contains(code, h.Secret) {
		t.Errorf("the report holds the host's secret, or cannot be read: %v", err)
	}
	return o
}

// outside runs it as the same user without a jail.
func (h *host) outside(t *testing.T, code string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), h.Python, "-I", "-S", "-B", script(t, code), h.argument(t, true))
	h.prepare(cmd)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("outside of the jail: %v", err)
	}
	return string(out)
}

// answers reads what the driver printed.
func answers(t *testing.T, stdout string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(stdout) {
		var a [2]string
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("the driver printed %q: %v", line, err)
		}
		out[a[0]] = a[1]
	}
	return out
}

// holds says whether an answer is one of those that were wanted.
func holds(want, answer string) bool {
	for w := range strings.SplitSeq(want, "|") {
		switch w {
		case "-", answer:
			return true
		case "got":
			if strings.HasPrefix(answer, "got") {
				return true
			}
		case "reached":
			if !slices.Contains([]string{"", "hook", "EPERM", "EACCES", "ENOSYS"}, answer) {
				return true
			}
		}
	}
	return false
}

var attackModes = []string{"enforce", "observe", "off"}

// runAttacks runs a table in every way.
func runAttacks(t *testing.T, table []attack) {
	t.Helper()
	h := newHost(t)
	code := program(table)
	t.Run("control", func(t *testing.T) {
		got := answers(t, h.outside(t, code))
		for _, a := range table {
			want := a.control
			if os.Geteuid() != 0 && a.plain != "" {
				want = a.plain
			}
			if !holds(want, got[a.name]) {
				t.Errorf("%s: outside of the jail %q, want %s: the attack shows nothing", a.name, got[a.name], want)
			}
		}
		h.contacts(t)
	})
	for _, profile := range []string{"strict", "observe"} {
		for _, mode := range attackModes {
			t.Run(profile+" "+mode, func(t *testing.T) {
				o := h.inside(t, code, "--profile", profile, "--hooks", mode)
				o.wantVerdict(t, report.OK, 0)
				got := answers(t, o.stdout)
				for _, a := range table {
					want := a.strict
					if profile == "observe" && a.observe != "" {
						want = a.observe
					}
					if mode == "enforce" {
						want += "|hook"
					}
					if !holds(want, got[a.name]) {
						t.Errorf("%s: %q, want %s", a.name, got[a.name], want)
					}
					if a.op != "" && profile == "strict" && mode == "off" {
						wantRefusal(t, o, a.op)
					}
				}
				h.wantUntouched(t)
			})
		}
	}
}

// wantRefusal wants a refused call in the report, as the kernel's word.
func wantRefusal(t *testing.T, o outcome, op string) {
	t.Helper()
	for _, a := range o.report.AllActivities {
		if a.Op == op && a.Verdict == event.Denied {
			if a.Layer != event.Seccomp || !a.Trusted || a.Errno == "" || a.Detail == "" {
				t.Errorf("%s: layer %s, trusted %v, errno %q, detail %q", op, a.Layer, a.Trusted, a.Errno, a.Detail)
			}
			return
		}
	}
	t.Errorf("the report has no refused %s", op)
}
