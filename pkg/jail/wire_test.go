package jail

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
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
		{Kind: kindReady, Ready: &Ready{WaitKillable: true, LandlockABI: 7, Rlimits: []string{"RLIMIT_CORE=0"}}},
		{Kind: kindExited, Exited: &Exit{Status: 0x8b, Survivors: 3, MaxRSS: 1 << 30}},
		{Kind: kindFailed, Failed: &SetupError{Op: "mount", Path: "/\x1b[31m", Errno: unix.EPERM}},
	}
	host, stage := newPair(t)
	for _, want := range messages {
		if err := stage.send(want); err != nil {
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
	if err := stage.send(message{Kind: kindReady, Ready: &Ready{}}, p[0]); err != nil {
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
	for name, tc := range map[string]struct {
		raw  []byte
		want error
	}{
		"end between frames":  {nil, io.EOF},
		"end inside a length": {[]byte{1, 0}, io.ErrUnexpectedEOF},
		"end inside a body":   {frame(`{"kind":"go"}`)[:9], io.ErrUnexpectedEOF},
		"too long":            {binary.LittleEndian.AppendUint32(nil, maxFrame+1), errFrame},
		"not JSON":            {frame("go"), errFrame},
		"unknown field":       {frame(`{"kind":"ready","root":true}`), errFrame},
		"trailing data":       {frame(`{"kind":"ready"}{}`), errFrame},
		"other kind":          {frame(`{"kind":"exited"}`), errFrame},
		"ready without more":  {frame(`{"kind":"ready"}`), errFrame},
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
	host, stage := newPair(t)
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before := openDescriptors(t)
	if err := stage.send(message{Kind: kindStarted}, int(f.Fd())); err != nil {
		t.Fatal(err)
	}
	if err := (&Jail{conn: host}).Started(); !errors.Is(err, errFrame) {
		t.Errorf("got %v, want a protocol error", err)
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
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
	body, err := json.Marshal(failure("mount", "/tmp", &os.PathError{Op: "mount", Path: "/tmp", Err: unix.EPERM}))
	if err != nil {
		t.Fatal(err)
	}
	var e SetupError
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(&e, unix.EPERM) || e.Error() != "mount /tmp: operation not permitted" {
		t.Errorf("got %q, errno %d", e.Error(), e.Errno)
	}
	if plain := failure("plan", "", errors.New("odd")); plain.Error() != "plan: odd" || errors.Unwrap(plain) != nil {
		t.Errorf("got %q, %v", plain.Error(), errors.Unwrap(plain))
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"kind":"ready","ready":{"rlimits":null}}`), uint32(41))
	f.Add([]byte(`{"kind":"failed","failed":{"op":"mount","path":"/","errno":1}}`), uint32(10))
	f.Add([]byte(`{}`), uint32(1<<31))
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
		if _, err := host.receive(&m); err == nil {
			again, err := json.Marshal(m)
			if err != nil || !bytes.Contains(again, []byte(`"kind"`)) {
				t.Errorf("accepted %q, which encodes to %q, %v", body, again, err)
			}
		}
	})
}
