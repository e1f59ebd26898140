package sandbox

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// keep is how much of the head and of the tail of each stream the report holds.
const keep = 16 << 10

// stream carries one of the script's output streams: live to the reader up to
// the limit, byte for byte; counted exactly; its head and tail kept.
type stream struct {
	to    io.Writer
	limit int64  // bytes passed on; 0 is no limit
	over  func() // called once, when the limit is passed

	mu    sync.Mutex
	bytes int64
	head  []byte
	tail  []byte // ring of the last bytes after the head
	next  int    // where the ring is written next
	gone  bool   // the reader went away
}

// pump copies until the last writer of the pipe is gone. It never waits for
// the script to be ended because a reader is slow: that is the clock's work.
func (s *stream) pump(from *os.File) {
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !s.take(buf[:n]) {
			return
		}
		if err != nil {
			return
		}
	}
}

// take accounts for p and passes on what the limit leaves. It returns false
// when the reader has gone: the pipe is then closed, and the script sees EPIPE
// as it would without sbx.
func (s *stream) take(p []byte) bool {
	s.mu.Lock()
	before := s.bytes
	s.bytes += int64(len(p))
	s.remember(p)
	s.mu.Unlock()

	pass := p
	if s.limit > 0 {
		pass = p[:min(int64(len(p)), max(0, s.limit-before))]
	}
	if len(pass) > 0 && s.to != nil {
		if _, err := s.to.Write(pass); err != nil {
			s.mu.Lock()
			s.gone = true
			s.mu.Unlock()
			return false
		}
	}
	if s.limit > 0 && before <= s.limit && before+int64(len(p)) > s.limit && s.over != nil {
		s.over()
	}
	return true
}

// abandon gives up on a reader that does not read. What is left in the pipe is
// counted and remembered, and the report says that the reader did not get it.
func (s *stream) abandon(from *os.File) {
	raw, err := from.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 64<<10)
	err = raw.Control(func(fd uintptr) {
		for {
			n, err := unix.Read(int(fd), buf)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || n <= 0 {
				return
			}
			s.mu.Lock()
			s.bytes += int64(n)
			s.remember(buf[:n])
			s.mu.Unlock()
		}
	})
	if err != nil {
		return // closed: everything was read, and passed on
	}
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
}

func (s *stream) remember(p []byte) {
	if room := keep - len(s.head); room > 0 {
		n := min(room, len(p))
		s.head = append(s.head, p[:n]...)
		p = p[n:]
	}
	if len(p) > keep {
		p = p[len(p)-keep:]
	}
	for len(p) > 0 {
		if len(s.tail) < keep {
			n := min(keep-len(s.tail), len(p))
			s.tail = append(s.tail, p[:n]...)
			p = p[n:]
			continue
		}
		n := copy(s.tail[s.next:], p)
		s.next = (s.next + n) % keep
		p = p[n:]
	}
}

// output is what the report says of a stream.
type output struct {
	Bytes     int64
	Truncated bool // the reader did not get everything
	Head      []byte
	Tail      []byte
}

func (s *stream) result() output {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := output{Bytes: s.bytes, Head: s.head, Truncated: s.gone || s.limit > 0 && s.bytes > s.limit}
	o.Tail = append(append([]byte(nil), s.tail[s.next:]...), s.tail[:s.next]...)
	return o
}

// lastWords is how much of the end of standard error is searched for failures
// that are known.
const lastWords = 8 << 10

// end returns the last bytes of the stream, at most n.
func (s *stream) end(n int) []byte {
	o := s.result()
	all := append(append([]byte(nil), o.Head...), o.Tail...)
	return all[max(0, len(all)-n):]
}

// pipes are the script's standard streams and the hook's channel. The script
// never gets a descriptor of the caller's: those could be read, written,
// seeked and re-opened behind sbx's back.
type pipes struct {
	stdin, stdout, stderr, events    *os.File // the jail's ends
	feed, fromOut, fromErr, fromHook *os.File // ours
}

func openPipes(hook bool) (*pipes, error) {
	p := &pipes{}
	pairs := []struct {
		r, w **os.File
		ours int // 0: we read, 1: we write
	}{{&p.stdin, &p.feed, 1}, {&p.fromOut, &p.stdout, 0}, {&p.fromErr, &p.stderr, 0}, {&p.fromHook, &p.events, 0}}
	if !hook {
		pairs = pairs[:3]
	}
	for _, pair := range pairs {
		var fd [2]int
		if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
			p.closeAll()
			return nil, &Error{Op: "make pipes", Err: err, Hint: "raise the limit on open files (ulimit -n)"}
		}
		// Our end does not block, so that the runtime waits for it without a
		// thread, and a Close ends the wait. The script's end is as any pipe.
		_ = unix.SetNonblock(fd[pair.ours], true)
		*pair.r, *pair.w = os.NewFile(uintptr(fd[0]), "pipe"), os.NewFile(uintptr(fd[1]), "pipe")
	}
	if hook {
		// Room for a burst of events; refused above /proc/sys/fs/pipe-max-size,
		// and then the default has to do.
		if raw, err := p.fromHook.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 1<<20) })
		}
	}
	return p, nil
}

// give makes the script's standard streams its own, so that /dev/stdin and its
// like can be opened there. The hook's channel stays ours: whoever can open it
// can read from it what the hook said.
func (p *pipes) give(uid, gid int) error {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if err := f.Chown(uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// closeJail closes the ends that the jail has now.
func (p *pipes) closeJail() { closeFiles(p.stdin, p.stdout, p.stderr, p.events) }

func (p *pipes) closeAll() {
	p.closeJail()
	closeFiles(p.feed, p.fromOut, p.fromErr, p.fromHook)
}

func closeFiles(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close() // closing twice is harmless
		}
	}
}

// cancelable reads until ctx ends: a script that comes from a terminal or a pipe
// may never be complete.
type cancelable struct {
	ctx  context.Context
	from io.Reader
}

func (c cancelable) Read(p []byte) (int, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		buf := make([]byte, len(p))
		n, err := c.from.Read(buf)
		done <- result{buf[:n], err}
	}()
	select {
	case r := <-done:
		return copy(p, r.data), r.err
	case <-c.ctx.Done():
		return 0, context.Cause(c.ctx)
	}
}

// feedStdin copies the caller's input to the script. The script may end without
// reading everything: EPIPE is its right, and no error of the run.
func feedStdin(to *os.File, from io.Reader) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}
