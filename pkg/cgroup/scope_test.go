package cgroup

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const unit = "sbx-1-2-3-4.scope"

// manager plays the bus and the systemd behind it, with another implementation of
// the protocol: github.com/godbus/dbus.
type manager struct {
	in    *bufio.Reader
	conn  net.Conn
	reply func(m *manager, start *dbus.Message)
}

func (m *manager) send(kind dbus.Type, headers map[dbus.HeaderField]dbus.Variant, body ...any) {
	msg := &dbus.Message{Type: kind, Headers: headers, Body: body}
	if len(body) > 0 {
		headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var out bytes.Buffer
	if err := msg.EncodeTo(&out, binary.LittleEndian); err != nil {
		panic(err)
	}
	// The library leaves the number to its connection: 0 is not allowed.
	out.Bytes()[8] = 77
	_, _ = m.conn.Write(out.Bytes())
}

func (m *manager) removed(unit, result string) {
	m.send(dbus.TypeSignal, map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:      dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")),
		dbus.FieldInterface: dbus.MakeVariant("org.freedesktop.systemd1.Manager"),
		dbus.FieldMember:    dbus.MakeVariant("JobRemoved"),
		dbus.FieldSender:    dbus.MakeVariant(":1.2"),
	}, uint32(8), dbus.ObjectPath("/org/freedesktop/systemd1/job/8"), unit, result)
}

func (m *manager) answer(to *dbus.Message, body ...any) {
	m.send(dbus.TypeMethodReply, map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(to.Serial())}, body...)
}

func (m *manager) refuse(to *dbus.Message, name, text string) {
	m.send(dbus.TypeError, map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()), dbus.FieldErrorName: dbus.MakeVariant(name),
	}, text)
}

// serve has one conversation and returns the calls that came.
func (m *manager) serve() (calls []*dbus.Message, err error) {
	if b, err := m.in.ReadByte(); b != 0 || err != nil {
		return nil, fmt.Errorf("the first byte is %d, %w", b, err)
	}
	for _, want := range []string{"AUTH EXTERNAL 31303030\r\n", "BEGIN\r\n"} {
		if line, err := m.in.ReadString('\n'); line != want {
			return nil, fmt.Errorf("line %q, %w, want %q", line, err, want)
		}
	}
	_, _ = m.conn.Write([]byte("OK 0123456789abcdef\r\n"))
	for range 3 {
		msg, err := dbus.DecodeMessage(m.in)
		if err != nil {
			return calls, err
		}
		if err := msg.IsValid(); err != nil {
			return calls, err
		}
		calls = append(calls, msg)
		if msg.Headers[dbus.FieldMember].Value() == "StartTransientUnit" {
			m.reply(m, msg)
		} else {
			m.answer(msg)
		}
	}
	return calls, nil
}

// converse asks a manager that replies so.
func converse(t *testing.T, reply func(m *manager, start *dbus.Message)) ([]*dbus.Message, error) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		defer conns[i].Close()
	}
	asked := make(chan error, 1)
	go func() {
		err := startScope(conns[0], 1000, unit)
		conns[0].Close()
		asked <- err
	}()
	m := &manager{in: bufio.NewReader(conns[1]), conn: conns[1], reply: reply}
	calls, err := m.serve()
	if err != nil {
		t.Errorf("what it says is not understood: %v", err)
	}
	conns[1].Close()
	return calls, <-asked
}

func TestAScopeIsAskedForInWordsThatALibraryUnderstands(t *testing.T) {
	calls, err := converse(t, func(m *manager, start *dbus.Message) {
		m.removed("another.scope", "failed")
		m.answer(start, dbus.ObjectPath("/org/freedesktop/systemd1/job/8"))
		m.removed(unit, "done")
	})
	if err != nil {
		t.Error(err)
	}
	if len(calls) != 3 {
		t.Fatalf("%d calls", len(calls))
	}
	for i, want := range []string{
		"org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus.Hello",
		"org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus.AddMatch",
		"org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager.StartTransientUnit",
	} {
		h := calls[i].Headers
		got := fmt.Sprintf("%v %v %v.%v", h[dbus.FieldDestination].Value(), h[dbus.FieldPath].Value(), h[dbus.FieldInterface].Value(), h[dbus.FieldMember].Value())
		if got != want || calls[i].Serial() != uint32(i+1) {
			t.Errorf("call %d is %s, number %d; want %s", i, got, calls[i].Serial(), want)
		}
	}
	body := fmt.Sprint(calls[2].Body...)
	for _, want := range []string{unit, "fail", "Delegate", "true", "CollectMode", `"inactive-or-failed"`, "PIDs", "[0]"} {
		if !strings.Contains(body, want) {
			t.Errorf("the request has no %s: %s", want, body)
		}
	}
}

func TestAScopeThatIsNotStarted(t *testing.T) {
	for _, c := range []struct {
		what  string
		reply func(m *manager, start *dbus.Message)
		why   string
	}{
		{
			"no systemd is on this bus",
			func(m *manager, start *dbus.Message) {
				m.refuse(start, "org.freedesktop.DBus.Error.ServiceUnknown", "no such name")
			},
			"org.freedesktop.DBus.Error.ServiceUnknown: no such name",
		},
		{
			"its job fails",
			func(m *manager, start *dbus.Message) { m.answer(start); m.removed(unit, "failed") },
			`its job ended as "failed"`,
		},
		{"the bus goes away", func(m *manager, _ *dbus.Message) { m.conn.Close() }, "EOF"},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := converse(t, c.reply)
			if err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), unit) {
				t.Errorf("got %v, want %q", err, c.why)
			}
		})
	}
}

// oneWay is a bus that has said everything already.
type oneWay struct{ io.Reader }

func (oneWay) Write(p []byte) (int, error) { return len(p), nil }

func TestABusThatRefusesOrTalksNonsense(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "EOF",
		"REJECTED EXTERNAL\r\n":                  "refuses user 1000",
		"OK 1\r\n":                               "EOF",
		"OK 1\r\n" + strings.Repeat("x", 64):     "not a message",
		"OK 1\r\nB" + strings.Repeat("\x00", 64): "not a message", // the other byte order
		"OK 1\r\nl\x02\x00\x01\xff\xff\xff\xff" + strings.Repeat("\x00", 64): "not a message", // 4 GiB
		strings.Repeat("x", 1<<16): "buffer full",
	} {
		err := startScope(oneWay{strings.NewReader(in)}, 1000, unit)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", in, err, want)
		}
	}
}

// TestABusThatIsSilent is not waited for without end.
func TestABusThatIsSilent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := dialBus("unix:path=" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now()); err != nil { // what dialBus set is later
		t.Fatal(err)
	}
	if err := startScope(conn, 1000, unit); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestWithoutABusTheReasonIsToldAndTheNextAddressTried(t *testing.T) {
	dir := t.TempDir()
	h := host{uid: 1000, buses: []string{"unix:path=" + dir + "/first", "unix:path=" + dir + "/second"}}
	if err := h.enterScope(unit); err == nil || !strings.Contains(err.Error(), "connect to "+dir+"/first: no such file") {
		t.Errorf("got %v", err)
	}
	h.buses = nil
	if err := h.enterScope(unit); err == nil {
		t.Error("no bus, and no error")
	}
}

func TestSessionBuses(t *testing.T) {
	for _, c := range []struct {
		address, dir string
		want         []string
	}{
		{"", "", []string{"unix:path=/run/user/1000/bus"}},
		{"", "/tmp/run", []string{"unix:path=/tmp/run/bus"}},
		{"unix:path=/run/user/1000/bus", "/run/user/1000", []string{"unix:path=/run/user/1000/bus"}},
		{"unix:abstract=/x,guid=1;tcp:host=h", "/r", []string{"unix:abstract=/x,guid=1", "tcp:host=h", "unix:path=/r/bus"}},
	} {
		if got := sessionBuses(1000, c.address, c.dir); !slices.Equal(got, c.want) {
			t.Errorf("%q, %q: %q, want %q", c.address, c.dir, got, c.want)
		}
	}
}

func TestBusSocket(t *testing.T) {
	for address, want := range map[string]string{
		"unix:path=/run/user/1000/bus":        "/run/user/1000/bus",
		"unix:guid=12ab,path=/a%20b%25":       "/a b%",
		"unix:abstract=/tmp/dbus-1,guid=12ab": "@/tmp/dbus-1",
		"tcp:host=localhost":                  "",
		"unix:":                               "",
		"unix:tmpdir=/tmp":                    "",
		"unix:path=/a%2":                      "",
		"unix:path=/a%zz":                     "",
		"autolaunch:":                         "",
	} {
		got, err := busSocket(address)
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), address) {
				t.Errorf("%q: %v, %v, want an error that names it", address, got, err)
			}
		} else if err != nil || got.Name != want {
			t.Errorf("%q: %v, %v, want %q", address, got, err, want)
		}
	}
}

func FuzzBusMessage(f *testing.F) {
	var e encoder
	e.call(3, systemdName, "/org/freedesktop/systemd1", managerName, "StartTransientUnit", "ssa(sv)a(sa(sv))", scopeRequest(unit))
	f.Add([]byte(e))
	f.Add([]byte("l\x04\x00\x01\x04\x00\x00\x00\x01\x00\x00\x00\x09\x00\x00\x00\x08\x01g\x00\x04uoss\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := (&decoder{from: bytes.NewReader(data)}).message()
		if err != nil && m != (message{}) {
			t.Errorf("%+v with %v", m, err)
		}
	})
}

// TestEncoderAgreesWithTheLibrary about the one request that is not plain.
func TestEncoderAgreesWithTheLibrary(t *testing.T) {
	type property struct {
		Name  string
		Value dbus.Variant
	}
	type auxiliary struct {
		Name       string
		Properties []property
	}
	properties := []property{
		{"Description", dbus.MakeVariant("sbx run")}, {"Delegate", dbus.MakeVariant(true)},
		{"CollectMode", dbus.MakeVariant("inactive-or-failed")}, {"PIDs", dbus.MakeVariant([]uint32{0})},
	}
	msg := &dbus.Message{Type: dbus.TypeMethodReply, Body: []any{unit, "fail", properties, []auxiliary{}}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(uint32(1)), dbus.FieldSignature: dbus.MakeVariant(dbus.ParseSignatureMust("ssa(sv)a(sa(sv))")),
	}}
	var out bytes.Buffer
	if err := msg.EncodeTo(&out, binary.LittleEndian); err != nil {
		t.Fatal(err)
	}
	size := binary.LittleEndian.Uint32(out.Bytes()[4:])
	if want, got := out.Bytes()[out.Len()-int(size):], []byte(scopeRequest(unit)); !bytes.Equal(want, got) {
		t.Errorf("the library writes\n%q\nsbx writes\n%q", want, got)
	}
}
