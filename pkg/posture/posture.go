// Package posture observes a live process: who it is, what it may still do, and
// which namespaces it is in. What the report says of the isolation of a run
// comes from here and not from what was asked for.
//
// It reads /proc and changes nothing. Parsers are pure functions over bytes:
// /proc is the kernel's word, but the names in it can be the target's.
package posture

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pseudofs"
)

// Kinds of namespaces, as /proc/PID/ns names them (namespaces(7)).
var Kinds = []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"}

// Namespaces are inode numbers by kind; 0 where it could not be read.
type Namespaces map[string]uint64

// Posture is what was seen of a process.
type Posture struct {
	Status     Status
	Namespaces Namespaces
	UIDMap     string // one line, fields separated by single spaces
	GIDMap     string
}

// Status holds what of /proc/PID/status is about privilege.
type Status struct {
	Tgid                    int
	UID, GID                [4]int // real, effective, saved, file system
	Groups                  int    // how many supplementary groups
	NSpid                   []int  // our number first, the innermost last
	Inheritable, Permitted  uint64
	Effective, Bounding     uint64
	Ambient                 uint64
	NoNewPrivs              bool
	Seccomp, SeccompFilters int
	Threads                 int
}

// Collect reads what matters for isolation. procRoot is /proc; tests have
// their own.
func Collect(procRoot string, pid int) (Posture, error) {
	dir := procRoot + "/" + strconv.Itoa(pid)
	var p Posture
	data, err := pseudofs.ReadFile(dir + "/status")
	if err != nil {
		return p, fmt.Errorf("observe process: %w", err)
	}
	if p.Status, err = parseStatus(data); err != nil {
		return p, err
	}
	p.Namespaces = ReadNamespaces(procRoot, pid)
	if p.UIDMap, err = idMap(dir + "/uid_map"); err != nil {
		return p, err
	}
	p.GIDMap, err = idMap(dir + "/gid_map")
	return p, err
}

// ReadNamespaces reads the namespaces of a process.
func ReadNamespaces(procRoot string, pid int) Namespaces {
	ns := Namespaces{}
	for _, kind := range Kinds {
		var buf [64]byte
		n, err := unix.Readlink(procRoot+"/"+strconv.Itoa(pid)+"/ns/"+kind, buf[:])
		if err == nil {
			ns[kind] = parseNamespace(string(buf[:n]))
		}
	}
	return ns
}

// parseNamespace reads "mnt:[4026531841]"; 0 is no such thing.
func parseNamespace(link string) uint64 {
	_, rest, ok := strings.Cut(link, ":[")
	number, ok2 := strings.CutSuffix(rest, "]")
	if !ok || !ok2 {
		return 0
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func idMap(file string) (string, error) {
	data, err := pseudofs.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("observe process: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	for i, l := range lines {
		lines[i] = strings.Join(strings.Fields(l), " ")
	}
	return strings.Join(lines, ", "), nil
}

var errStatus = errors.New("status of the process is not understood")

// parseStatus reads /proc/PID/status (proc_pid_status(5)). Every key that is
// asked for must be there: a kernel that leaves one out is one we know too
// little about.
func parseStatus(data []byte) (Status, error) {
	var s Status
	number := func(to *int) func(string) error {
		return func(v string) (err error) { *to, err = strconv.Atoi(v); return }
	}
	mask := func(to *uint64) func(string) error {
		return func(v string) (err error) { *to, err = strconv.ParseUint(v, 16, 64); return }
	}
	ids := func(to *[4]int) func(string) error {
		return func(v string) error {
			f := strings.Fields(v)
			if len(f) != 4 {
				return errStatus
			}
			var err error
			for i := range f {
				n, e := strconv.Atoi(f[i])
				to[i], err = n, errors.Join(err, e)
			}
			return err
		}
	}
	want := map[string]func(string) error{
		"Tgid": number(&s.Tgid), "Uid": ids(&s.UID), "Gid": ids(&s.GID), "Threads": number(&s.Threads),
		"Groups": func(v string) error { s.Groups = len(strings.Fields(v)); return nil },
		"NSpid": func(v string) error {
			for _, f := range strings.Fields(v) {
				n, err := strconv.Atoi(f)
				if err != nil {
					return err
				}
				s.NSpid = append(s.NSpid, n)
			}
			return nil
		},
		"CapInh": mask(&s.Inheritable), "CapPrm": mask(&s.Permitted), "CapEff": mask(&s.Effective),
		"CapBnd": mask(&s.Bounding), "CapAmb": mask(&s.Ambient),
		"NoNewPrivs": func(v string) error { s.NoNewPrivs = v == "1"; return nil },
		"Seccomp":    number(&s.Seccomp), "Seccomp_filters": number(&s.SeccompFilters),
	}
	for line := range bytes.Lines(data) {
		key, value, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":")
		parse := want[key]
		if !ok || parse == nil {
			continue
		}
		if err := parse(strings.TrimSpace(value)); err != nil {
			return Status{}, fmt.Errorf("%s: %q: %w", key, value, errStatus)
		}
		delete(want, key)
	}
	// Since Linux 5.9; older than our floor, but no reason to give up.
	delete(want, "Seccomp_filters")
	for key := range want {
		return Status{}, fmt.Errorf("no %s: %w", key, errStatus)
	}
	return s, nil
}

// Observation is what was seen of one layer of isolation.
type Observation struct {
	Active   bool
	Observed string
}

// layerOf maps kinds of namespaces to the names of layers.
var layerOf = map[string]string{
	"user": "userns", "mnt": "mountns", "pid": "pidns", "net": "netns", "ipc": "ipcns", "uts": "utsns", "cgroup": "cgroupns",
}

// Layers says, from what was seen of a process, which layers hold it. outside
// are the namespaces of the host's side: one that is the same is no isolation.
func Layers(p Posture, outside Namespaces) map[string]Observation {
	out := map[string]Observation{}
	for kind, layer := range layerOf {
		in, host := p.Namespaces[kind], outside[kind]
		switch {
		case in == 0 || host == 0:
			out[layer] = Observation{false, "cannot be read"}
		case in == host:
			out[layer] = Observation{false, "the host's own " + kind + " namespace"}
		default:
			out[layer] = Observation{true, fmt.Sprintf("%s:[%d], the host's is [%d]", kind, in, host)}
		}
	}
	s := p.Status
	if o := out["userns"]; o.Active {
		f := strings.Fields(p.UIDMap)
		single := len(f) == 3 && f[2] == "1"
		out["userns"] = Observation{single && f[1] != "0", fmt.Sprintf("%s, uid_map %q, gid_map %q, %d supplementary groups", o.Observed, p.UIDMap, p.GIDMap, s.Groups)}
	}
	out["no_new_privs"] = Observation{s.NoNewPrivs, fmt.Sprintf("NoNewPrivs: %d", bit(s.NoNewPrivs))}
	all := s.Inheritable | s.Permitted | s.Effective | s.Bounding | s.Ambient
	out["capabilities"] = Observation{all == 0, fmt.Sprintf("CapInh=%x CapPrm=%x CapEff=%x CapBnd=%x CapAmb=%x", s.Inheritable, s.Permitted, s.Effective, s.Bounding, s.Ambient)}
	out["seccomp"] = Observation{s.Seccomp == unix.SECCOMP_MODE_FILTER, fmt.Sprintf("Seccomp: %d, Seccomp_filters: %d", s.Seccomp, s.SeccompFilters)}
	return out
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
