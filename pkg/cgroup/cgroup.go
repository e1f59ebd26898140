// Package cgroup gives each run a control group of its own: a bound on its
// memory, processes and processor share, and the kernel's account of what it
// used.
//
// A group is one directory per hierarchy: one in all on cgroup v2, one per
// controller on v1. What is written is read back; what a host does not let us
// have is reported as absent, with the reason, and decided on by the caller.
//
// On v2 the group is made where one can be had: see findV2. Whoever ends a run
// writes cgroup.kill; the directory is removed at its end, or by the next run, or
// by sbx gc.
//
// The files are written directly. github.com/containerd/cgroups/v3 serves as
// the second opinion in the tests: linked into sbx it would cost more than a
// fifth of Python's own start in package initialisation (protobuf, ebpf, D-Bus),
// in both stages of a run.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pseudofs"
)

// Limits of a group; zero is no limit.
type Limits struct {
	Memory     int64 // bytes
	PIDs       int64 // processes and threads
	CPUPercent int   // of one CPU
}

// State says whether a controller is at work.
type State string

// The states.
const (
	Active State = "active"
	Absent State = "absent"
)

// Layer is what is known of one controller.
type Layer struct {
	State    State
	Observed string // what the kernel says, read back
	Why      string // why it is absent
	Fix      string // what brings it back; "" where that is what always does
}

// The names of the layers.
const (
	layerMemory = "cgroup.memory"
	layerCPU    = "cgroup.cpu"
	layerPIDs   = "cgroup.pids"
)

// Usage is what a group has used so far. The parts of its memory are read between
// two looks at the whole, of which Memory is the smaller one: a tree that grows
// meanwhile would else be known for a size whose parts nobody has seen.
type Usage struct {
	CPUUser, CPUSystem time.Duration
	Memory, MemoryPeak int64 // bytes; MemoryPeak is 0 where the kernel does not keep it
	Anon, File, Kernel int64 // parts of Memory
	Droppable          int64 // the part of File that is also on a disk
	Reread             int64 // bytes of files that had to be read anew, after they were dropped
	PIDs, PIDsPeak     int64 // PIDsPeak is 0 where the kernel does not count it
	MajorFaults        int64 // page faults that waited for a disk
	Throttled          time.Duration
}

// Events are the times that a group ran into its limits.
type Events struct {
	OOMKills int64 // processes killed for memory; v2 counts the first one twice
	MemMax   int64 // allocations that met the limit
	PIDsMax  int64 // forks refused
}

// Group is the control group of one run.
type Group struct {
	host   host
	name   string
	layers map[string]Layer
	v2     string            // directory, "" without v2
	how    []string          // what had to be done for it
	v1     map[string]string // controller to directory
	dir    *os.File
	tasks  []*os.File
}

// prefix begins the name of every group of ours.
const prefix = "sbx-"

var count atomic.Uint64

// Name returns a name that no other run has. Our pid, in which pid namespace it
// counts, and our start time say whose group it is after we are gone.
func Name() string {
	return fmt.Sprintf("%s%d", ownPrefix(), count.Add(1))
}

func ownPrefix() string {
	return fmt.Sprintf("%s%d-%d-%d-", prefix, pidNamespace(), os.Getpid(), startTime(os.Getpid()))
}

// selfName is the leaf of this process itself, where it must move aside.
func selfName() string { return ownPrefix() + self }

// scopeSuffix is what systemd wants the name of a scope to end with.
const scopeSuffix = ".scope"

// self ends the name of that leaf; those of runs are counted.
const self = "self"

// pidNamespace is the inode of our pid namespace (pid_namespaces(7)), 0 where it
// cannot be read.
func pidNamespace() uint64 {
	var stat unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &stat); err != nil {
		return 0
	}
	return stat.Ino
}

// startTime is field 22 of /proc/PID/stat (proc_pid_stat(5)): pids are used
// again, a pid with its start time is not. It is 0 for a process that is gone
// or only waits to be reaped.
func startTime(pid int) uint64 {
	data, err := pseudofs.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The command may contain spaces and parentheses; it ends at the last one.
	i := strings.LastIndexByte(string(data), ')')
	if i < 0 {
		return 0
	}
	f := strings.Fields(string(data[i+1:]))
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return 0
	}
	n, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Site is where this host has groups made.
type Site struct {
	host   host
	places places
	why    error // there is no such place
}

// Find looks for the hierarchies of this host.
func Find() Site { return thisHost().find() }

func (h host) find() Site {
	places, err := h.hierarchies()
	return Site{h, places, err}
}

// Born says whether processes are born into a group (cgroup v2), which has to be
// there before them; those of v1 are joined, and can be made meanwhile.
func (s Site) Born() bool { return s.places.v2 != "" }

// Open makes a group in every hierarchy that is there. Controllers that cannot
// be had are absent in Layers; the error is for a host that answers nonsense.
func (s Site) Open(name string, l Limits) (*Group, error) {
	g := &Group{host: s.host, name: name, layers: map[string]Layer{}, v1: map[string]string{}}
	g.host.wants = s.places.wants
	switch {
	case s.why != nil:
		for _, layer := range []string{layerMemory, layerCPU, layerPIDs} {
			g.layers[layer] = Layer{State: Absent, Why: s.why.Error()}
		}
	case s.Born():
		g.openV2(s.places.v2, l)
	default:
		g.openV1(s.places.v1, l)
	}
	return g, nil
}

// Open is Find and [Site.Open] in one.
func Open(name string, l Limits) (*Group, error) { return Find().Open(name, l) }

func (h host) open(name string, l Limits) (*Group, error) { return h.find().Open(name, l) }

// Name is what the group is called in every hierarchy.
func (g *Group) Name() string { return g.name }

// Layers says of each controller whether it is at work.
func (g *Group) Layers() map[string]Layer { return g.layers }

// V2Dir is the directory to clone into (clone(2), CLONE_INTO_CGROUP), nil on v1.
func (g *Group) V2Dir() *os.File { return g.dir }

// Tasks are the v1 files to which a thread that joins writes 0. A move by pid
// from outside waits for a grace period of the kernel, 11 to 14 ms; a thread
// that moves itself does not.
func (g *Group) Tasks() []*os.File { return g.tasks }

// setting is one limit: a file, what is written, and how near to it the kernel
// must come (it rounds memory to pages).
type setting struct {
	layer, file string
	value       int64
	slack       int64
}

// write sets a limit and reads it back.
func (s setting) write(dir string) (string, error) {
	file := filepath.Join(dir, s.file)
	if err := writeFile(file, strconv.FormatInt(s.value, 10)); err != nil {
		return "", err
	}
	data, err := pseudofs.ReadFile(file)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(data))
	have, err := strconv.ParseInt(text, 10, 64)
	if err != nil || have < s.value-s.slack || have > s.value+s.slack {
		return "", fmt.Errorf("%s: wrote %d, it says %s", s.file, s.value, text)
	}
	return fmt.Sprintf("%s=%d", s.file, have), nil
}

// note records how the settings of a layer went; where one failed it is absent.
func (g *Group) note(layer, observed string, err error) {
	if err != nil {
		g.layers[layer] = Layer{State: Absent, Why: refusal(err), Fix: fix(err)}
		return
	}
	if have := g.layers[layer]; have.State == Absent {
		return
	} else if have.Observed != "" {
		observed = have.Observed + " " + observed
	}
	g.layers[layer] = Layer{State: Active, Observed: observed}
}

// dirs are all directories of the group.
func (g *Group) dirs() []string {
	var out []string
	if g.v2 != "" {
		out = append(out, g.v2)
	}
	for _, d := range g.v1 {
		out = append(out, d)
	}
	return out
}

// Usage reads the kernel's accounts.
func (g *Group) Usage() (Usage, error) {
	if g.v2 != "" {
		u, err := g.usageV2()
		return u, g.explain(err)
	}
	u, err := g.usageV1()
	return u, g.explain(err)
}

// Now reads the two figures that change fastest: the memory in use, 0 without
// that controller, and the processor time used so far.
func (g *Group) Now() (memory int64, cpu time.Duration, err error) {
	var r reader
	if g.v2 != "" {
		cpu = time.Duration(r.keys(g.v2, "cpu.stat")["usage_usec"]) * time.Microsecond
		if g.layers[layerMemory].State == Active {
			memory = r.number(g.v2, "memory.current")
		}
		return memory, cpu, g.explain(r.err)
	}
	if dir, ok := g.v1["cpuacct"]; ok {
		cpu = time.Duration(r.number(dir, "cpuacct.usage"))
	}
	if dir, ok := g.v1["memory"]; ok {
		memory = r.number(dir, "memory.usage_in_bytes")
	}
	return memory, cpu, g.explain(r.err)
}

// BoundProcesses sets the limit on processes and threads again. Some of those in
// the group may not be the script's, which is known only when they are there.
func (g *Group) BoundProcesses(limit int64) (observed string, err error) {
	dir := g.v2
	if dir == "" {
		dir = g.v1["pids"]
	}
	if dir == "" {
		return "", fmt.Errorf("the group %s has no pids controller", g.name)
	}
	return setting{layerPIDs, "pids.max", limit, 0}.write(dir)
}

// Events reads how often the group met its limits.
func (g *Group) Events() (Events, error) {
	if g.v2 != "" {
		e, err := g.eventsV2()
		return e, g.explain(err)
	}
	e, err := g.eventsV1()
	return e, g.explain(err)
}

// explain says so where a group is not there any more: some cleaner of the host
// took it for abandoned.
func (g *Group) explain(err error) error {
	if err == nil {
		return nil
	}
	for _, dir := range g.dirs() {
		if _, serr := os.Stat(dir); errors.Is(serr, fs.ErrNotExist) {
			return fmt.Errorf("cgroup %s was removed during the run: %w", g.name, err)
		}
	}
	return fmt.Errorf("read cgroup %s: %w", g.name, err)
}

// refusal says why a group cannot be had, and what would help.
func refusal(err error) string {
	help := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		help = ": this user may not make groups there; run as root, or have a group delegated to this user"
	case errors.Is(err, unix.EROFS):
		help = ": cgroups are mounted read-only, as containers do; mount them writable"
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EOPNOTSUPP):
		help = ": start sbx in a delegated group of its own (systemd-run --user --scope -p Delegate=yes), or in a container have the first process move to a leaf (mkdir /sys/fs/cgroup/main; echo $$ >/sys/fs/cgroup/main/cgroup.procs)"
	case errors.Is(err, unix.EINVAL):
		help = ": the group around it may have a lower limit; ask for less"
	case errors.Is(err, fs.ErrNotExist):
		help = ": the group of this process is not visible here; mount the cgroup file system that it is in"
	}
	return err.Error() + help
}

// fix is what to do, where it is not to get a group delegated.
func fix(err error) string {
	if errors.Is(err, unix.EROFS) {
		return "mount cgroups writable (mount -o remount,rw /sys/fs/cgroup; in a container, have its manager do so), or run sbx outside the container"
	}
	return ""
}

// killTime bounds how long Kill and Close wait for the kernel.
const killTime = 2 * time.Second

// Kill ends every process of the group.
func (g *Group) Kill() error {
	if g.v2 != "" {
		err := writeFile(filepath.Join(g.v2, "cgroup.kill"), "1")
		if err == nil {
			return nil
		}
		if _, serr := os.Stat(g.v2); errors.Is(serr, fs.ErrNotExist) {
			return nil // and nobody in it
		}
		return err
	}
	// All of them: one that was removed under the run has nobody to name.
	var errs []error
	for _, dir := range g.v1 {
		errs = append(errs, killTasks(dir, time.Now().Add(killTime)))
	}
	return errors.Join(errs...)
}

// killTasks is the way of v1: until nobody is left, since a task may fork while
// the list is read.
func killTasks(dir string, deadline time.Time) error {
	for {
		data, err := pseudofs.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list group: %w", err)
		}
		pids := strings.Fields(string(data))
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes of %s do not end", len(pids), filepath.Base(dir))
		}
		for _, p := range pids {
			// 0 is a process of a foreign pid namespace; ours are never that.
			if pid, err := strconv.Atoi(p); err == nil && pid > 1 {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// Close removes the group. Its processes must be gone, or going; one that is not
// is killed.
func (g *Group) Close() error {
	g.closeFiles()
	var errs []error
	for _, dir := range g.dirs() {
		err := g.host.rmdir(dir)
		if errors.Is(err, unix.EBUSY) {
			_ = g.Kill()
			err = g.host.remove(dir, time.Now().Add(killTime))
		} else if err != nil && !errors.Is(err, unix.ENOENT) {
			err = fmt.Errorf("remove cgroup %s: %w", dir, err)
		} else {
			err = nil
		}
		errs = append(errs, err)
	}
	g.v2, g.v1 = "", nil
	return errors.Join(errs...)
}

// Sweep removes, beside the group, what runs left that were killed before anybody
// could clean up after them.
func (g *Group) Sweep() {
	parents := map[string]bool{}
	for _, dir := range g.dirs() {
		parents[filepath.Dir(dir)] = true
	}
	_, _ = g.host.sweep("", parents)
}

func (g *Group) closeFiles() {
	if g.dir != nil {
		_ = g.dir.Close()
		g.dir = nil
	}
	for _, f := range g.tasks {
		_ = f.Close()
	}
	g.tasks = nil
}

// remove waits, within bounds, for the last task: a killed process leaves its
// group a moment after its parent may have reaped it.
func (h host) remove(dir string, deadline time.Time) error {
	for {
		err := h.rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func writeFile(name, value string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	for {
		_, err := unix.Write(fd, []byte(value))
		if errors.Is(err, unix.EINTR) {
			continue // a limit of v1 is not set while a signal waits, as the runtime's own do
		}
		if err != nil {
			return &os.PathError{Op: "write " + value + " to", Path: name, Err: err}
		}
		return nil
	}
}

// readInt reads a file that holds one number, or "max".
func readInt(name string) (int64, error) {
	data, err := pseudofs.ReadFile(name)
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(data))
	if text == "max" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", filepath.Base(name), err)
	}
	return n, nil
}

// reader reads accounts. After the first mistake it yields zeros: evidence that
// cannot be read must not pass for "nothing happened".
type reader struct{ err error }

func (r *reader) number(dir, file string) int64 {
	if r.err != nil {
		return 0
	}
	var n int64
	n, r.err = readInt(filepath.Join(dir, file))
	return n
}

// optional reads a number that only some kernels keep.
func (r *reader) optional(dir, file string) int64 {
	n, err := readInt(filepath.Join(dir, file))
	if err != nil {
		return 0
	}
	return n
}

// keys reads a file of lines "key number".
func (r *reader) keys(dir, file string) map[string]int64 {
	if r.err != nil {
		return nil
	}
	var data []byte
	data, r.err = pseudofs.ReadFile(filepath.Join(dir, file))
	return parseKeys(string(data))
}

// rereads are the bytes that were read anew, by memory.stat. Before Linux 5.9 it
// has one number for pages of files and of swap space.
func rereads(stat map[string]int64, of string) int64 {
	pages, ok := stat[of+"workingset_refault_file"]
	if !ok {
		pages = stat[of+"workingset_refault"]
	}
	return pages * int64(os.Getpagesize())
}

func parseKeys(data string) map[string]int64 {
	out := map[string]int64{}
	for line := range strings.Lines(data) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			out[f[0]] = n
		}
	}
	return out
}
