package jail

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/pseudofs"
)

// Spawn is what the host hands to a jail when it starts one.
type Spawn struct {
	IDs        IDs
	Namespaces uintptr // CLONE_NEW* flags, see [Namespaces]
	// Stdin, Stdout and Stderr are pipes of sbx's own; Events is the write end
	// of the hook's pipe, nil without a hook.
	Stdin, Stdout, Stderr, Events *os.File
	CgroupDir                     *os.File // cgroup v2: the leaf to be born in
}

// Jail is a running init stage, as the host sees it.
type Jail struct {
	PID  int
	conn *conn
}

// initCaps are what init needs inside the user namespace, and loses before
// Python starts. Ambient, because its uid there is not 0 (capabilities(7)).
var initCaps = []uintptr{
	unix.CAP_SYS_ADMIN,    // mounts, pivot_root, sethostname, the cgroup namespace
	unix.CAP_SETPCAP,      // to empty the bounding set
	unix.CAP_NET_ADMIN,    // loopback
	unix.CAP_SYS_RESOURCE, // limits
	unix.CAP_DAC_OVERRIDE, // mount points in directories of the jail
}

// Start clones the init stage, which waits for what [Jail.Build] tells it: a plan
// can be made while it comes up. The calling goroutine must be locked to its
// thread for as long as the jail lives: the parent-death signal follows the
// thread (prctl(2), PR_SET_PDEATHSIG).
func Start(s Spawn) (*Jail, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	files := []uintptr{s.Stdin.Fd(), s.Stdout.Fd(), s.Stderr.Fd(), uintptr(pair[1])}
	if s.Events != nil {
		files = append(files, s.Events.Fd())
	} else {
		files = append(files, s.Stdin.Fd()) // keeps the numbers; closed by init
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{InitName}, &syscall.ProcAttr{
		// An empty environment: what is in here can be read from /proc/1/environ.
		Env: []string{}, Dir: "/", Files: files, Sys: s.sysProcAttr(),
	})
	unix.Close(pair[1])
	if err != nil {
		unix.Close(pair[0])
		return nil, &SetupError{Op: "clone", Path: "the jail's namespaces", Errno: errnoOf(err), Text: err.Error()}
	}
	return &Jail{PID: pid, conn: &conn{fd: pair[0]}}, nil
}

// Build tells the init stage what to build.
func (j *Jail) Build(b *Blueprint) error {
	trees, err := openTrees(b)
	if err != nil {
		return err
	}
	defer closeAll(trees)
	err = j.configure(b, trees)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		// The stage died, and perhaps of something that it could still tell.
		if _, _, told := j.await(kindReady); errors.As(told, new(*SetupError)) {
			err = told
		}
	}
	return err
}

func (s Spawn) sysProcAttr() *syscall.SysProcAttr {
	root := os.Geteuid() == 0 && s.IDs.UID != os.Geteuid()
	attr := &syscall.SysProcAttr{
		Cloneflags:                 s.Namespaces,
		UidMappings:                []syscall.SysProcIDMap{{ContainerID: UID, HostID: s.IDs.UID, Size: 1}},
		GidMappings:                []syscall.SysProcIDMap{{ContainerID: GID, HostID: s.IDs.GID, Size: 1}},
		GidMappingsEnableSetgroups: root,
		// setgroups(2) only where it is allowed: a plain user's namespace must
		// deny it (user_namespaces(7)), root's supplementary groups must go.
		Credential:  &syscall.Credential{Uid: UID, Gid: GID, NoSetGroups: !root},
		AmbientCaps: initCaps,
		Setsid:      true, // no controlling terminal: no TIOCSTI (CVE-2017-5226)
		Pdeathsig:   syscall.SIGKILL,
	}
	if s.CgroupDir != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(s.CgroupDir.Fd())
	}
	return attr
}

// configure sends the Config with its descriptors, and the bytes of its files.
func (j *Jail) configure(b *Blueprint, trees []int) error {
	var fds []int
	for _, f := range b.Tasks {
		fds = append(fds, int(f.Fd()))
	}
	b.Config.CgroupTasks, b.Config.MountTrees = len(b.Tasks), len(trees)
	if err := j.conn.send(&b.Config, append(fds, trees...)...); err != nil {
		return err
	}
	for _, src := range b.Sources {
		if src.Open == nil {
			continue
		}
		if err := j.sendFile(src); err != nil {
			return fmt.Errorf("copy %q into the jail: %w", src.Path, err)
		}
	}
	return nil
}

// ErrChanged says that a file was not the size that it had when it was listed.
var ErrChanged = errors.New("changed while it was being copied")

func (j *Jail) sendFile(src Source) error {
	in, err := src.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.Copy(struct{ io.Writer }{j.conn}, io.LimitReader(in, src.Size))
	if err != nil {
		return err
	}
	var more [1]byte
	if n != src.Size || readsMore(in, more[:]) {
		return ErrChanged
	}
	return nil
}

// readsMore says whether there is something left to read.
func readsMore(in io.Reader, buf []byte) bool {
	n, _ := io.ReadFull(in, buf)
	return n > 0
}

// Ready waits until the jail stands and the thread that will start Python is
// restricted. The listener is the caller's.
func (j *Jail) Ready() (*Ready, *os.File, error) {
	m, fd, err := j.await(kindReady)
	if err != nil {
		return nil, nil, err
	}
	if m.Ready == nil || fd < 0 {
		closeAll([]int{fd})
		return nil, nil, fmt.Errorf("ready without a listener: %w", errFrame)
	}
	return m.Ready, os.NewFile(uintptr(fd), "seccomp listener"), nil
}

// Go lets Python start.
func (j *Jail) Go() error { return j.conn.send(&message{Kind: kindGo}) }

// Started waits until Python's execve(2) succeeded.
func (j *Jail) Started() error {
	_, _, err := j.await(kindStarted)
	return err
}

// Exited waits for the end of the script's main process. io.EOF says that the
// init stage ended without a word: it was killed.
func (j *Jail) Exited() (*Exit, error) {
	m, _, err := j.await(kindExited)
	if err != nil {
		return nil, err
	}
	if m.Exited == nil {
		return nil, fmt.Errorf("exited without a status: %w", errFrame)
	}
	return m.Exited, nil
}

func (j *Jail) await(kind messageKind) (*message, int, error) {
	var m message
	fd, err := j.conn.receive(&m)
	if err != nil {
		return nil, -1, err
	}
	if fd >= 0 && (kind != kindReady || m.Kind != kindReady) {
		unix.Close(fd)
		return nil, -1, fmt.Errorf("descriptor with %s: %w", m.Kind, errFrame)
	}
	if m.Kind == kindFailed && m.Failed != nil {
		return nil, -1, m.Failed
	}
	if m.Kind != kind {
		return nil, -1, fmt.Errorf("%s where %s was due: %w", m.Kind, kind, errFrame)
	}
	return &m, fd, nil
}

// Kill ends the jail: the kernel kills every process of a pid namespace whose
// init dies (pid_namespaces(7)). It must not be called after Wait returned.
func (j *Jail) Kill() { _ = unix.Kill(j.PID, unix.SIGKILL) }

// Wait reaps the init stage, by when every process of the jail is gone.
func (j *Jail) Wait() (unix.WaitStatus, error) {
	defer func() { _ = j.conn.Close() }()
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(j.PID, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for the init stage: %w", err)
		}
		return status, nil
	}
}

// runs counts the jails of this process.
var runs atomic.Uint64

// runNumber is unique among live runs of this host, and fits beneath the ids that
// pickID has to give: a pid takes 22 bits at most (PID_MAX_LIMIT).
func runNumber() uint64 { return runs.Add(1)%64<<22 | uint64(os.Getpid()) }

// HostIDs chooses who the jail is on this host.
func HostIDs() (IDs, error) {
	uid, gid := os.Geteuid(), os.Getegid()
	if uid != 0 {
		return IDs{uid, gid}, nil
	}
	ids := IDs{}
	for _, m := range []struct {
		file string
		own  int
		to   *int
	}{{"/proc/self/uid_map", uid, &ids.UID}, {"/proc/self/gid_map", gid, &ids.GID}} {
		data, err := pseudofs.ReadFile(m.file)
		if err != nil {
			return ids, fmt.Errorf("read id map: %w", err)
		}
		ranges, err := parseIDMap(data)
		if err != nil {
			return ids, err
		}
		*m.to = pickID(m.own, true, runNumber(), ranges)
	}
	return ids, nil
}

// openTrees makes the mount trees that the blueprint asks the host for.
func openTrees(b *Blueprint) ([]int, error) {
	var fds []int
	mounts := b.Config.Mounts[:0:0]
	for _, m := range b.Config.Mounts {
		if m.Tree {
			fd, err := OpenTree(m)
			if err != nil && m.Optional {
				continue
			}
			if err != nil {
				closeAll(fds)
				return nil, err
			}
			fds = append(fds, fd)
		}
		mounts = append(mounts, m)
	}
	b.Config.Mounts = mounts
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	errors.As(err, &errno)
	return errno
}
