package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// plainStream is what a stream does, without the ring: it keeps everything.
type plainStream struct {
	limit int64
	all   []byte
	over  int
}

func (s *plainStream) take(p []byte) {
	before := int64(len(s.all))
	s.all = append(s.all, p...)
	if s.limit > 0 && before <= s.limit && int64(len(s.all)) > s.limit {
		s.over++
	}
}

func (s *plainStream) passed() []byte {
	if s.limit > 0 && int64(len(s.all)) > s.limit {
		return s.all[:s.limit]
	}
	return s.all
}

func (s *plainStream) result() output {
	head := s.all[:min(len(s.all), keep)]
	rest := s.all[len(head):]
	return output{
		Bytes: int64(len(s.all)), Truncated: s.limit > 0 && int64(len(s.all)) > s.limit,
		Head: head, Tail: rest[max(0, len(rest)-keep):],
	}
}

// compareStreams feeds both with data in chunks of these sizes, and the rest in
// one.
func compareStreams(t *testing.T, limit int64, data []byte, chunks []int) {
	t.Helper()
	var passed bytes.Buffer
	over := 0
	got := &stream{to: &passed, limit: limit, over: func() { over++ }}
	want := &plainStream{limit: limit}
	rest := data
	for _, n := range append(chunks, len(data)) {
		n = min(n, len(rest))
		if !got.take(rest[:n]) {
			t.Fatal("the reader is there, take says that it has gone")
		}
		want.take(rest[:n])
		rest = rest[n:]
	}
	if !bytes.Equal(passed.Bytes(), want.passed()) {
		t.Errorf("limit %d, %d bytes in %v: %d bytes were passed on, want %d of the same", limit, len(data), chunks, passed.Len(), len(want.passed()))
	}
	if over != want.over {
		t.Errorf("limit %d, %d bytes in %v: over was called %d times, want %d", limit, len(data), chunks, over, want.over)
	}
	g, w := got.result(), want.result()
	if g.Bytes != w.Bytes || g.Truncated != w.Truncated {
		t.Errorf("limit %d, %d bytes in %v: the result is %d, truncated %v; want %d, %v", limit, len(data), chunks, g.Bytes, g.Truncated, w.Bytes, w.Truncated)
	}
	if !bytes.Equal(g.Head, w.Head) || !bytes.Equal(g.Tail, w.Tail) {
		t.Errorf("limit %d, %d bytes in %v: a head of %d and a tail of %d bytes are not those of the plain stream (%d, %d)",
			limit, len(data), chunks, len(g.Head), len(g.Tail), len(w.Head), len(w.Tail))
	}
}

// noise is text in which no stretch equals another.
func noise(r *rand.Rand, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

func TestStreamPassesOnWhatTheLimitLeaves(t *testing.T) {
	tests := []struct {
		name   string
		limit  int64
		writes []string
		want   string
		over   int
	}{
		{"no limit", 0, []string{"abc", "def"}, "abcdef", 0},
		{"nothing written", 4, nil, "", 0},
		{"an empty write", 4, []string{""}, "", 0},
		{"below the limit", 4, []string{"abc"}, "abc", 0},
		{"exactly at the limit", 4, []string{"abcd"}, "abcd", 0},
		{"exactly at the limit, in two", 4, []string{"ab", "cd"}, "abcd", 0},
		{"one over", 4, []string{"abcde"}, "abcd", 1},
		{"one over, by itself", 4, []string{"abcd", "e"}, "abcd", 1},
		{"a write that straddles", 4, []string{"abc", "defg"}, "abcd", 1},
		{"far over, again and again", 4, []string{"abcdefgh", "ijk", "", "l"}, "abcd", 1},
		{"a limit of one byte", 1, []string{"", "a", "b", "c"}, "a", 1},
		{"bytes that are no text", 6, []string{"\x00\xff\r\n", "\x1b[0m"}, "\x00\xff\r\n\x1b[", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var passed strings.Builder
			over := 0
			s := &stream{to: &passed, limit: tt.limit, over: func() { over++ }}
			for _, w := range tt.writes {
				if !s.take([]byte(w)) {
					t.Fatal("take says that the reader has gone")
				}
			}
			if passed.String() != tt.want || over != tt.over {
				t.Errorf("passed on %q, over called %d times; want %q, %d", passed.String(), over, tt.want, tt.over)
			}
			got, all := s.result(), strings.Join(tt.writes, "")
			if got.Bytes != int64(len(all)) || got.Truncated != (tt.over > 0) || string(got.Head) != all || len(got.Tail) != 0 {
				t.Errorf("the result of %q is %+v", all, got)
			}
		})
	}
}

// TestStreamKeepsHeadAndTail checks every size at which the head is full or the
// ring is, and some that are far from both.
func TestStreamKeepsHeadAndTail(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 1, keep / 2, 3*keep - 1, 3 * keep, 3*keep + 1, 10*keep + 7}
	for _, edge := range []int{keep, 2 * keep} {
		for d := -20; d <= 20; d++ {
			sizes = append(sizes, edge+d)
		}
	}
	for _, size := range sizes {
		data := noise(r, size)
		for _, most := range []int{1 + size/3, keep, 4 * keep} {
			var chunks []int
			for left := size; left > 0; {
				n := r.IntN(most + 1)
				chunks, left = append(chunks, n), left-n
			}
			compareStreams(t, 0, data, chunks)
		}
	}
}

func TestStreamKeepsWhatTheLimitHeldBack(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, limit := range []int64{1, keep - 1, keep, keep + 1, 2 * keep} {
		compareStreams(t, limit, noise(r, 3*keep), []int{1, keep - 2, 2, keep})
	}
}

func FuzzStream(f *testing.F) {
	f.Add(int64(0), uint32(0), []byte{})
	f.Add(int64(5), uint32(9), []byte{3, 4})
	f.Add(int64(keep), uint32(keep+1), []byte{255, 255, 0, 1})
	f.Add(int64(0), uint32(2*keep+3), []byte{200, 7, 255, 255, 255})
	f.Add(int64(-1), uint32(3*keep), []byte{1})
	f.Fuzz(func(t *testing.T, limit int64, size uint32, cuts []byte) {
		data := noise(rand.New(rand.NewPCG(uint64(size), 0)), int(size%(4*keep)))
		var chunks []int
		for _, c := range cuts {
			chunks = append(chunks, int(c)*int(c)) // up to four times what is kept
		}
		compareStreams(t, limit, data, chunks)
	})
}

func TestStreamWithoutAWriterIsStillCounted(t *testing.T) {
	s := &stream{limit: 2}
	if !s.take([]byte("abc")) {
		t.Error("take says that the reader has gone")
	}
	if got := s.result(); got.Bytes != 3 || !got.Truncated || string(got.Head) != "abc" {
		t.Errorf("the result is %+v", got)
	}
}

// failing is a reader of the output that went away.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, unix.EPIPE }

func TestStreamWhoseReaderHasGoneIsTruncated(t *testing.T) {
	over := 0
	s := &stream{to: failing{}, limit: 2, over: func() { over++ }}
	if s.take([]byte("abc")) {
		t.Error("take does not say that the reader has gone")
	}
	if got := s.result(); got.Bytes != 3 || !got.Truncated || string(got.Head) != "abc" {
		t.Errorf("the result is %+v", got)
	}
	if over != 0 {
		t.Error("a script whose reader has gone is ended for its output")
	}
}

func TestStreamCallsNobodyWhereTheLimitOnlyCuts(t *testing.T) {
	s := &stream{limit: 2}
	if !s.take([]byte("abc")) || !s.take([]byte("d")) {
		t.Error("take says that the reader has gone")
	}
}

// pipe returns a pipe as the script has one: our end does not block, its end does.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFiles(r, w) })
	return r, w
}

func TestPumpCarriesEverythingByteForByte(t *testing.T) {
	r, w := pipe(t)
	data := noise(rand.New(rand.NewPCG(5, 6)), 1<<20)
	go func() {
		defer w.Close()
		_, _ = w.Write(data)
	}()
	var passed bytes.Buffer
	s := &stream{to: &passed}
	s.pump(r)
	if !bytes.Equal(passed.Bytes(), data) {
		t.Errorf("%d bytes came through, want the same %d", passed.Len(), len(data))
	}
	if got := s.result(); got.Bytes != int64(len(data)) || got.Truncated {
		t.Errorf("counted %d, truncated %v", got.Bytes, got.Truncated)
	}
}

// TestPumpHandsOnThatTheReaderHasGone: the script sees EPIPE, as it would
// without sbx in between.
func TestPumpHandsOnThatTheReaderHasGone(t *testing.T) {
	r, w := pipe(t)
	gone, to := pipe(t)
	closeFiles(gone)
	done := make(chan struct{})
	s := &stream{to: to}
	go func() { s.pump(r); close(done) }()
	if _, err := w.WriteString("into the void"); err != nil {
		t.Fatal(err)
	}
	<-done
	if _, err := w.WriteString("x"); !errors.Is(err, unix.EPIPE) {
		t.Errorf("the script's next write answers %v, want EPIPE", err)
	}
	if got := s.result(); !got.Truncated || got.Bytes != 13 {
		t.Errorf("the result is %+v", got)
	}
}

func TestPumpKeepsReadingPastTheLimit(t *testing.T) {
	r, w := pipe(t)
	done := make(chan struct{})
	var passed bytes.Buffer
	s := &stream{to: &passed, limit: 10}
	go func() { s.pump(r); close(done) }()
	// More than a pipe holds: nobody reading would block here.
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	closeFiles(w)
	<-done
	if got := s.result(); passed.Len() != 10 || got.Bytes != 1<<20 || !got.Truncated {
		t.Errorf("passed on %d bytes, counted %d, truncated %v", passed.Len(), got.Bytes, got.Truncated)
	}
}

// stuck is a reader of the output that does not read until it is let go.
type stuck struct{ writing, letGo chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	close(s.writing)
	<-s.letGo
	return len(p), nil
}

func TestAbandonedStreamCountsWhatItsReaderDidNotTake(t *testing.T) {
	p := openedPipes(t, false)
	reader := stuck{make(chan struct{}), make(chan struct{})}
	s := &stream{to: reader}
	done := make(chan struct{})
	go func() { s.pump(p.fromOut); close(done) }()
	if _, err := p.stdout.WriteString("taken, "); err != nil {
		t.Fatal(err)
	}
	<-reader.writing
	if _, err := p.stdout.WriteString("left behind"); err != nil {
		t.Fatal(err)
	}
	closeFiles(p.stdout)
	s.abandon(p.fromOut)
	if got := s.result(); got.Bytes != 18 || string(got.Head) != "taken, left behind" || !got.Truncated {
		t.Errorf("the result is %+v", got)
	}
	close(reader.letGo)
	<-done
}

// TestStreamThatWasReadToItsEndCannotBeAbandoned: it may be the other one whose
// reader does not read.
func TestStreamThatWasReadToItsEndCannotBeAbandoned(t *testing.T) {
	p := openedPipes(t, false)
	if _, err := p.stdout.WriteString("all"); err != nil {
		t.Fatal(err)
	}
	closeFiles(p.stdout)
	s := &stream{}
	s.pump(p.fromOut)
	s.abandon(p.fromOut)
	if got := s.result(); got.Bytes != 3 || got.Truncated {
		t.Errorf("the result is %+v", got)
	}
}

func TestCancelableReadsUntilItIsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	from, to := io.Pipe()
	defer to.Close()
	c := cancelable{ctx, from}
	go func() { _, _ = to.Write([]byte("script")) }()
	got := make([]byte, 6)
	if _, err := io.ReadFull(c, got); string(got) != "script" || err != nil {
		t.Errorf("it reads %q, %v", got, err)
	}
	cancel(Interrupt{Signal: "SIGINT"}) // nobody writes any more, and the end does not come
	if n, err := c.Read(got); n != 0 || !errors.Is(err, Interrupt{Signal: "SIGINT"}) {
		t.Errorf("canceled, it reads %d bytes, %v", n, err)
	}
}

func TestCancelableHandsOnTheEndAndErrors(t *testing.T) {
	for _, want := range []error{io.EOF, unix.EIO} {
		if n, err := (cancelable{t.Context(), errorReader{want}}).Read(make([]byte, 8)); n != 0 || !errors.Is(err, want) {
			t.Errorf("it reads %d bytes, %v; want %v", n, err, want)
		}
	}
}

// TestPipesBecomeTheScripts, but for the hook's: who can open that one can read
// from it.
func TestPipesBecomeTheScripts(t *testing.T) {
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 {
		uid, gid = 70000, 70001
	}
	p := openedPipes(t, true)
	if err := p.give(uid, gid); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*os.File{"stdin": p.stdin, "stdout": p.stdout, "stderr": p.stderr, "events": p.events} {
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		wantUID, wantGID := uid, gid
		if name == "events" {
			wantUID, wantGID = os.Geteuid(), os.Getegid()
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || int(stat.Uid) != wantUID || int(stat.Gid) != wantGID || info.Mode().Perm() != 0o600 {
			t.Errorf("%s is %+v, want uid %d, gid %d and nobody else's", name, stat, wantUID, wantGID)
		}
	}
}

// zeros is an input without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestFeedStdinGivesTheWholeInputAndItsEnd(t *testing.T) {
	r, w := pipe(t)
	go feedStdin(w, strings.NewReader(strings.Repeat("input\n", 50000)))
	got, err := io.ReadAll(r)
	if err != nil || string(got) != strings.Repeat("input\n", 50000) {
		t.Errorf("the script read %d bytes, %v", len(got), err)
	}
}

func TestFeedStdinEndsWhenTheScriptStopsReading(t *testing.T) {
	r, w := pipe(t)
	done := make(chan struct{})
	go func() { feedStdin(w, zeros{}); close(done) }()
	if _, err := io.ReadFull(r, make([]byte, 100000)); err != nil {
		t.Fatal(err)
	}
	closeFiles(r)
	<-done
	if err := w.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the pipe was left open: its Close answers %v", err)
	}
}

func TestFeedStdinEndsWhenThePipeIsClosed(t *testing.T) {
	p := openedPipes(t, false)
	done := make(chan struct{})
	go func() { feedStdin(p.feed, zeros{}); close(done) }()
	if _, err := io.ReadFull(p.stdin, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	// Full, and with a reader that does not read: as when the run is over but
	// somebody of the jail is still dying.
	closeFiles(p.feed)
	<-done
}

func openedPipes(t *testing.T, hook bool) *pipes {
	t.Helper()
	p, err := openPipes(hook)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.closeAll)
	return p
}

// descriptorFlags asks without [os.File.Fd], which makes a descriptor blocking.
func descriptorFlags(t *testing.T, f *os.File) (status, own int) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var statusErr, ownErr error
	err = raw.Control(func(fd uintptr) {
		status, statusErr = unix.FcntlInt(fd, unix.F_GETFL, 0)
		own, ownErr = unix.FcntlInt(fd, unix.F_GETFD, 0)
	})
	if err := errors.Join(err, statusErr, ownErr); err != nil {
		t.Fatal(err)
	}
	return status, own
}

func TestPipesBlockOnTheJailsSideOnly(t *testing.T) {
	p := openedPipes(t, true)
	for _, end := range []struct {
		name   string
		file   *os.File
		ours   bool
		access int
	}{
		{"stdin", p.stdin, false, unix.O_RDONLY}, {"feed", p.feed, true, unix.O_WRONLY},
		{"stdout", p.stdout, false, unix.O_WRONLY}, {"fromOut", p.fromOut, true, unix.O_RDONLY},
		{"stderr", p.stderr, false, unix.O_WRONLY}, {"fromErr", p.fromErr, true, unix.O_RDONLY},
		{"events", p.events, false, unix.O_WRONLY}, {"fromHook", p.fromHook, true, unix.O_RDONLY},
	} {
		t.Run(end.name, func(t *testing.T) {
			status, own := descriptorFlags(t, end.file)
			if status&unix.O_ACCMODE != end.access {
				t.Errorf("its access mode is %#o, want %#o", status&unix.O_ACCMODE, end.access)
			}
			if status&unix.O_NONBLOCK != 0 != end.ours {
				t.Errorf("O_NONBLOCK is %v, want %v", !end.ours, end.ours)
			}
			if own&unix.FD_CLOEXEC == 0 {
				t.Error("it would be inherited by anything that is started")
			}
		})
	}
}

func TestPipesAreConnected(t *testing.T) {
	p := openedPipes(t, true)
	for _, pair := range []struct {
		name string
		w, r *os.File
	}{{"input", p.feed, p.stdin}, {"output", p.stdout, p.fromOut}, {"error", p.stderr, p.fromErr}, {"events", p.events, p.fromHook}} {
		if _, err := pair.w.WriteString(pair.name); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		if n, err := pair.r.Read(got); string(got[:n]) != pair.name || err != nil {
			t.Errorf("%s: %q came out, %v", pair.name, got[:n], err)
		}
	}
}

func TestPipesWithoutAHookHaveNoChannelForIt(t *testing.T) {
	p := openedPipes(t, false)
	if p.events != nil || p.fromHook != nil {
		t.Error("there is a channel for the hook")
	}
	p.closeAll()
	p.closeAll() // as after closeJail
}

func TestPipesLeaveNothingOpenWhenDescriptorsRunOut(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childVariable+"=few descriptors")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// pipesOfFewDescriptors tries with room for 0 to 8 descriptors, of which all
// pipes need 8.
func pipesOfFewDescriptors() error {
	p, err := openPipes(true) // wakes the runtime's poller, which has descriptors of its own
	if err != nil {
		return err
	}
	p.closeAll()
	before, err := fillDescriptors()
	if err != nil {
		return err
	}
	for room := range 9 {
		limit := unix.Rlimit{Cur: before.next + uint64(room), Max: before.next + 100}
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
			return fmt.Errorf("set the limit: %w", err)
		}
		p, err := openPipes(true)
		var own *Error
		switch {
		case room == 8 && err != nil:
			return fmt.Errorf("with room for all: %w", err)
		case room == 8:
			p.closeAll()
		case !errors.As(err, &own) || !errors.Is(err, unix.EMFILE) || !strings.Contains(own.Hint, "ulimit -n"):
			return fmt.Errorf("with room for %d the error is %w, want EMFILE with a hint", room, err)
		}
		limit.Cur = limit.Max
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
			return fmt.Errorf("lift the limit: %w", err)
		}
		after, err := openDescriptors()
		if err != nil {
			return err
		}
		if after != before {
			return fmt.Errorf("with room for %d: %+v before, %+v after", room, before, after)
		}
	}
	return nil
}

// fillDescriptors opens what is free between the open descriptors.
func fillDescriptors() (descriptors, error) {
	for {
		d, err := openDescriptors()
		if err != nil || uint64(d.open) == d.next {
			return d, err
		}
		if _, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return d, err
		}
	}
}

// descriptors are how many are open, and the lowest number from which on all are
// free.
type descriptors struct {
	open int
	next uint64
}

func openDescriptors() (descriptors, error) {
	var d descriptors
	for fd := range 1000 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			d.open, d.next = d.open+1, uint64(fd)+1
		}
	}
	if d.open == 0 {
		return d, errors.New("no descriptor is open")
	}
	return d, nil
}
