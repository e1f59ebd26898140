package jail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// The conversation between the host and the init stage, over one stream socket
// pair. Every message is a frame: a length of four bytes, little endian, and what a
// codec makes of it. Descriptors travel with the first byte of the frame that needs
// them, and with no other.
//
//	host                                init
//	 │── Config, then the files' bytes ──►│  builds the jail, restricts one thread
//	 │◄─ ready + listener (SCM_RIGHTS) ───│
//	 │── go ─────────────────────────────►│  starts Python from that thread
//	 │◄─ started ─────────────────────────│
//	 │◄─ exited ──────────────────────────│  the script's main process is gone
//	 │◄─ failed ──────────────────────────│  instead of any of the above
//
// The init stage ends when its end of the socket reads EOF: the host is gone.

// maxFrame bounds a message. The largest is the Config: mounts of the
// interpreter's libraries and the filter's bytes.
const maxFrame = 4 << 20

// errFrame is a message that does not follow the picture above.
var errFrame = errors.New("protocol error between sbx and its init stage")

type messageKind string

const (
	kindReady   messageKind = "ready"
	kindGo      messageKind = "go"
	kindStarted messageKind = "started"
	kindExited  messageKind = "exited"
	kindFailed  messageKind = "failed"
)

// message is what travels after the Config.
type message struct {
	Kind   messageKind
	Ready  *Ready
	Exited *Exit
	Failed *SetupError
}

// Ready is what the init stage observed of the jail that it built.
type Ready struct {
	WaitKillable bool   // the listener was made with WAIT_KILLABLE_RECV
	Proc         string // options of the mounted proc, "" if there is none
	ProcWhy      string
	LandlockABI  int      // 0: no Landlock
	Landlock     string   // what a refused probe showed
	LandlockWhy  string   // why there is none
	CgroupNS     string   // why the cgroup namespace is missing
	Missing      []string // optional mounts that could not be made
}

// Exit is how the script's main process ended.
type Exit struct {
	Status    uint32        // raw wait status
	User      time.Duration // of it and the children that it reaped
	System    time.Duration
	MaxRSS    int64 // bytes, of the largest process
	Survivors int   // processes still alive when it ended
}

// SetupError is a step of building the jail that failed. It survives the wire:
// errors.Is works against the errno on both sides.
type SetupError struct {
	Op    string // mount, pivot_root, seccomp, ...
	Path  string // what it was tried on
	Errno unix.Errno
	Text  string // when there is no errno
}

func (e *SetupError) Error() string {
	s := e.Op
	if e.Path != "" {
		s += " " + e.Path
	}
	switch {
	case e.Errno != 0:
		return s + ": " + e.Errno.Error()
	case e.Text != "":
		return s + ": " + e.Text
	}
	return s
}

// Unwrap makes errors.Is(err, unix.EPERM) work.
func (e *SetupError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// failure turns any error into a SetupError for the wire.
func failure(op, path string, err error) *SetupError {
	var se *SetupError
	if errors.As(err, &se) {
		return se
	}
	e := &SetupError{Op: op, Path: path}
	if !errors.As(err, &e.Errno) {
		e.Text = err.Error()
	}
	return e
}

// conn is one end of the conversation: a blocking socket, read by one goroutine
// and written by one. Raw calls keep the network poller, and the threads it
// brings, out of the init stage.
type conn struct{ fd int }

func (c *conn) Close() error { return unix.Close(c.fd) }

// Write implements io.Writer for the bytes of the files.
func (c *conn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.SendmsgN(c.fd, p[done:], nil, nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// Read implements io.Reader.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(c.fd, p)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// maxRights is how many descriptors one message can carry, SCM_MAX_FD of unix(7).
const maxRights = 253

// send writes one frame, with the descriptors that belong to it.
func (c *conn) send(v carried, fds ...int) error {
	body := encode(v)
	if len(body) > maxFrame {
		return fmt.Errorf("too many files and mounts: describing them takes %d bytes, more than %d: %w", len(body), maxFrame, errFrame)
	}
	frame := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	frame = append(frame, body...)
	if len(fds) > maxRights {
		return fmt.Errorf("encode %T: %d descriptors, the kernel takes %d: %w", v, len(fds), maxRights, errFrame)
	}
	if len(fds) > 0 {
		rights := unix.UnixRights(fds...)
		if err := unix.Sendmsg(c.fd, frame[:1], rights, nil, unix.MSG_NOSIGNAL); err != nil {
			return fmt.Errorf("send descriptor: %w", err)
		}
		frame = frame[1:]
	}
	if _, err := c.Write(frame); err != nil {
		return fmt.Errorf("send %T: %w", v, err)
	}
	return nil
}

// receive reads one frame into v and returns the descriptor that came with it,
// or -1.
func (c *conn) receive(v carried) (fd int, err error) {
	fds, err := c.receiveAll(v, 1)
	if err != nil || len(fds) == 0 {
		return -1, err
	}
	return fds[0], nil
}

// receiveAll reads one frame into v and returns the descriptors that came with
// it, most at most. A connection that was closed between frames is io.EOF.
func (c *conn) receiveAll(v carried, most int) (fds []int, err error) {
	defer func() {
		if err != nil {
			closeAll(fds)
			fds = nil
		}
	}()
	var head [4]byte
	oob := make([]byte, unix.CmsgSpace(4*most))
	n, oobn, flags := 0, 0, 0
	for {
		n, oobn, flags, _, err = unix.Recvmsg(c.fd, head[:], oob, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	if fds, err = rights(oob[:oobn]); err != nil {
		return fds, err
	}
	if len(fds) > most || flags&unix.MSG_CTRUNC != 0 {
		return fds, fmt.Errorf("more than %d descriptors: %w", most, errFrame)
	}
	if _, err := io.ReadFull(c, head[n:]); err != nil {
		return fds, noEOF(err)
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > maxFrame {
		return fds, fmt.Errorf("frame of %d bytes: %w", size, errFrame)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return fds, noEOF(err)
	}
	return fds, decode(body, v)
}

// noEOF turns an end of file inside a frame into an error of its own: io.EOF
// means a conversation that ended in order.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// rights takes the descriptors out of a control message.
func rights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	// ParseUnixRights trusts the length to be that of whole descriptors.
	if err != nil || len(msgs) != 1 || len(msgs[0].Data)%4 != 0 {
		return nil, fmt.Errorf("control message: %w", errFrame)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		return fds, fmt.Errorf("descriptors in a control message: %w", errFrame)
	}
	return fds, nil
}
