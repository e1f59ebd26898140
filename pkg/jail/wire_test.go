package jail

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func newPair(t *testing.T) (a, b *conn) {
	t.Helper()
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = &conn{fd: fd[0]}, &conn{fd: fd[1]}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestMessagesSurviveTheWire(t *testing.T) {
	messages := []message{
		{Kind: kindGo},
		{Kind: kindReady, Ready: &Ready{WaitKillable: true, LandlockABI: 7, Missing: []string{"/dev/x"}}},
		{Kind: kindExited, Exited: &Exit{Status: 0x8b, Survivors: 3, MaxRSS: 1 << 30}},
		{Kind: kindFailed, Failed: &SetupError{Op: "mount", Path: "/\x1b[31m", Errno: unix.EPERM}},
	}
	host, stage := newPair(t)
	for _, want := range messages {
		if err := stage.send(&want); err != nil {
			t.Fatal(err)
		}
		var got message
		fd, err := host.receive(&got)
		if err != nil || fd != -1 {
			t.Fatalf("receive %s: fd %d, %v", want.Kind, fd, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestDescriptorTravelsWithItsFrame(t *testing.T) {
	host, stage := newPair(t)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[1])
	if err := stage.send(&message{Kind: kindReady, Ready: &Ready{}}, p[0]); err != nil {
		t.Fatal(err)
	}
	unix.Close(p[0])
	j := &Jail{conn: host}
	_, f, err := j.Ready()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the received descriptor has flags %#x, %v: want close-on-exec", flags, err)
	}
	if _, err := unix.Write(p[1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if n, err := f.Read(b); n != 1 || err != nil {
		t.Errorf("read through the received descriptor: %d, %v", n, err)
	}
}

func TestProtocolErrors(t *testing.T) {
	frame := func(body string) []byte {
		return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	body := func(m message) string { return string(encode(&m)) }
	ready, goes := body(message{Kind: kindReady, Ready: &Ready{}}), body(message{Kind: kindGo})
	for name, tc := range map[string]struct {
		raw  []byte
		want error
	}{
		"end between frames":  {nil, io.EOF},
		"end inside a length": {[]byte{1, 0}, io.ErrUnexpectedEOF},
		"end inside a body":   {frame(goes)[:6], io.ErrUnexpectedEOF},
		"too long":            {binary.LittleEndian.AppendUint32(nil, maxFrame+1), errFrame},
		"cut off":             {frame(ready[:len(ready)-1]), errFrame},
		"trailing data":       {frame(ready + "\x00"), errFrame},
		"two messages":        {frame(ready + ready), errFrame},
		"empty body":          {frame(""), errFrame},
		"no kind":             {frame("\x00\x00\x00\x00"), errFrame},
		"a long text":         {frame("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01ready"), errFrame},
		"a long number":       {frame("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), errFrame},
		"neither there nor":   {frame("\x05ready\x02"), errFrame},
		"errno too large":     {frame(body(message{Kind: kindFailed, Failed: &SetupError{Op: "x", Errno: maxErrno + 1}})), errFrame},
		"failed without more": {frame(body(message{Kind: kindFailed})), errFrame},
		"other kind":          {frame(body(message{Kind: kindExited, Exited: &Exit{}})), errFrame},
		"ready without more":  {frame(body(message{Kind: kindReady})), errFrame},
		"without a listener":  {frame(ready), errFrame},
	} {
		t.Run(name, func(t *testing.T) {
			host, stage := newPair(t)
			if _, err := stage.Write(tc.raw); err != nil {
				t.Fatal(err)
			}
			if err := unix.Shutdown(stage.fd, unix.SHUT_WR); err != nil {
				t.Fatal(err)
			}
			_, f, err := (&Jail{conn: host}).Ready()
			if !errors.Is(err, tc.want) || f != nil {
				t.Errorf("got %v, %v; want %v", f, err, tc.want)
			}
		})
	}
}

func TestUnwantedDescriptorIsRefusedAndClosed(t *testing.T) {
	ready := func(j *Jail) error {
		_, f, err := j.Ready()
		if f != nil {
			f.Close()
		}
		return err
	}
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	for name, tc := range map[string]struct {
		m    message
		fds  []int
		wait func(*Jail) error
	}{
		"with started":             {message{Kind: kindStarted}, []int{fd}, (*Jail).Started},
		"with another kind":        {message{Kind: kindGo}, []int{fd}, ready},
		"with a failure":           {message{Kind: kindFailed, Failed: &SetupError{Op: "x"}}, []int{fd}, ready},
		"with a ready that is bad": {message{Kind: kindReady}, []int{fd}, ready},
		"two with ready":           {message{Kind: kindReady, Ready: &Ready{}}, []int{fd, fd}, ready},
		"many with ready":          {message{Kind: kindReady, Ready: &Ready{}}, slices.Repeat([]int{fd}, 200), ready},
	} {
		t.Run(name, func(t *testing.T) {
			host, stage := newPair(t)
			before := openDescriptors(t)
			if err := stage.send(&tc.m, tc.fds...); err != nil {
				t.Fatal(err)
			}
			if err := tc.wait(&Jail{conn: host}); !errors.Is(err, errFrame) {
				t.Errorf("got %v, want a protocol error", err)
			}
			if after := openDescriptors(t); after != before {
				t.Errorf("%d descriptors open, %d before", after, before)
			}
		})
	}
}

func TestDescriptorInsideAFrameIsDropped(t *testing.T) {
	host, stage := newPair(t)
	body := encode(&message{Kind: kindReady, Ready: &Ready{}})
	raw := append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
	before := openDescriptors(t)
	if _, err := stage.Write(raw[:6]); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(stage.fd, raw[6:], unix.UnixRights(2), nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, f, err := (&Jail{conn: host}).Ready(); !errors.Is(err, errFrame) || f != nil {
		t.Errorf("got %v, %v, want ready without a listener", f, err)
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

func TestFramesMayArriveInPieces(t *testing.T) {
	host, stage := newPair(t)
	body := encode(&message{Kind: kindExited, Exited: &Exit{Status: 256}})
	raw := append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
	go func() {
		for i := range raw {
			_, _ = stage.Write(raw[i : i+1])
		}
	}()
	exit, err := (&Jail{conn: host}).Exited()
	if err != nil || exit.Status != 256 {
		t.Errorf("got %+v, %v", exit, err)
	}
}

func TestConfigIsBounded(t *testing.T) {
	host, _ := newPair(t)
	if err := host.send(&Config{Filter: make([]byte, maxFrame)}); !errors.Is(err, errFrame) {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestFileThatChangedIsNotCopied(t *testing.T) {
	for name, tc := range map[string]struct {
		size int64
		want error
		sent string
	}{
		"as listed": {4, nil, "data"},
		"longer":    {2, ErrChanged, "da"},
		"shorter":   {9, ErrChanged, "data"},
	} {
		t.Run(name, func(t *testing.T) {
			host, stage := newPair(t)
			src := Bytes("/a", 0o444, []byte("data"))
			src.Size = tc.size
			if err := (&Jail{conn: host}).sendFile(src); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if err := unix.Shutdown(host.fd, unix.SHUT_WR); err != nil {
				t.Fatal(err)
			}
			if sent, err := io.ReadAll(stage); err != nil || string(sent) != tc.sent {
				t.Errorf("sent %q, %v, want %q", sent, err, tc.sent)
			}
		})
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestSetupErrorKeepsItsErrno(t *testing.T) {
	sent := message{Kind: kindFailed, Failed: failure("mount", "/tmp", &os.PathError{Op: "mount", Path: "/tmp", Err: unix.EPERM})}
	var got message
	if err := decode(encode(&sent), &got); err != nil {
		t.Fatal(err)
	}
	if e := got.Failed; !errors.Is(e, unix.EPERM) || e.Error() != "mount /tmp: operation not permitted" {
		t.Errorf("got %q, errno %d", e.Error(), e.Errno)
	}
	if plain := failure("plan", "", errors.New("odd")); plain.Error() != "plan: odd" || errors.Unwrap(plain) != nil {
		t.Errorf("got %q, %v", plain.Error(), errors.Unwrap(plain))
	}
}

func FuzzReceive(f *testing.F) {
	for _, m := range []message{
		{Kind: kindReady, Ready: &Ready{Missing: []string{"/dev/x"}}},
		{Kind: kindFailed, Failed: &SetupError{Op: "mount", Path: "/", Errno: 1}},
		{Kind: kindGo},
		{Kind: kindExited, Exited: &Exit{Status: 139, User: -1, System: 1e3, MaxRSS: 1, Survivors: -5}},
	} {
		body := encode(&m)
		f.Add(body, uint32(len(body)))
		f.Add(append(body, 1), uint32(len(body)))
		f.Add(body[1:], uint32(len(body)-1))
	}
	f.Add([]byte("go"), uint32(1<<31))
	f.Fuzz(func(t *testing.T, body []byte, size uint32) {
		if len(body) > 32<<10 {
			t.Skip("more than the socket's buffer holds")
		}
		fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		host, stage := &conn{fd: fd[0]}, &conn{fd: fd[1]}
		defer host.Close()
		raw := append(binary.LittleEndian.AppendUint32(nil, size), body...)
		if _, err := stage.Write(raw); err != nil {
			t.Fatal(err)
		}
		stage.Close()
		var m message
		fd2, err := host.receive(&m)
		if fd2 != -1 {
			t.Errorf("descriptor %d out of nothing", fd2)
		}
		if err != nil {
			if len(body) >= int(size) && size <= maxFrame && !errors.Is(err, errFrame) {
				t.Errorf("a whole frame gave %v, want a protocol error", err)
			}
			return
		}
		again := encode(&m)
		var second message
		if err := decode(again, &second); err != nil || !reflect.DeepEqual(m, second) {
			t.Errorf("accepted %q, which becomes %q, %v", body, again, err)
		}
	})
}

func FuzzControlMessage(f *testing.F) {
	f.Add([]byte{})
	f.Add(unix.UnixRights(1 << 20))
	f.Add([]byte("\x12\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x0000")) // half a descriptor
	f.Add(unix.UnixRights(1<<20, 1<<20+1))
	f.Add(unix.UnixCredentials(&unix.Ucred{Pid: 1}))
	f.Fuzz(func(t *testing.T, oob []byte) {
		// Any descriptor in here would be one of ours: only numbers that cannot
		// be open are let through.
		for i := 0; i+4 <= len(oob); i++ {
			if binary.LittleEndian.Uint32(oob[i:]) < 1<<20 && i >= unix.CmsgLen(0) {
				t.Skip("names a descriptor of this process")
			}
		}
		if fds, err := rights(oob); len(fds) > len(oob)/4 {
			t.Errorf("rights(%x) = %d, %v", oob, fds, err)
		}
	})
}

// TestManyDescriptorsTravelTogether, up to what one message can carry, and each
// arrives as itself.
func TestManyDescriptorsTravelTogether(t *testing.T) {
	host, stage := newPair(t)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	many := make([]int, maxRights)
	for i := range many {
		many[i] = p[i%2]
	}
	if err := host.send(&message{Kind: kindGo}, many...); err != nil {
		t.Fatal(err)
	}
	var m message
	got, err := stage.receiveAll(&m, maxRights)
	if err != nil || len(got) != len(many) {
		t.Fatalf("%d descriptors, %v; want %d", len(got), err, len(many))
	}
	for i, fd := range got {
		var want, have unix.Stat_t
		if err := errors.Join(unix.Fstat(many[i], &want), unix.Fstat(fd, &have)); err != nil || want.Ino != have.Ino {
			t.Errorf("descriptor %d is another file (%v)", i, err)
		}
	}
	closeAll(got)
	if err := host.send(&message{Kind: kindGo}, append(many, p[0])...); !errors.Is(err, errFrame) {
		t.Errorf("one too many: %v", err)
	}
}

// TestMoreDescriptorsThanAskedFor are closed, and an error.
func TestMoreDescriptorsThanAskedFor(t *testing.T) {
	host, stage := newPair(t)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	if err := stage.send(&message{Kind: kindReady, Ready: &Ready{}}, p[1], p[1]); err != nil {
		t.Fatal(err)
	}
	unix.Close(p[1])
	var m message
	if fd, err := host.receive(&m); err == nil || fd != -1 {
		t.Errorf("descriptor %d, %v; want an error", fd, err)
	}
	// The reader sees the end only when every copy is closed.
	if n, err := unix.Read(p[0], make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("a copy is still open: %d, %v", n, err)
	}
}
