package cgroup

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scopeTime bounds how long systemd may take to answer.
const scopeTime = 5 * time.Second

// makeInScope asks `systemd --user` for a scope that is delegated to us, and
// makes the group in it. The scope is systemd's to remove, when nobody is in it
// any more: nothing of it is left, however this process ends.
func (g *Group) makeInScope() error {
	name := g.name + scopeSuffix
	if err := g.host.enterScope(name); err != nil {
		return err
	}
	p, err := g.host.hierarchies()
	if err != nil {
		return err
	}
	if filepath.Base(p.v2) != name {
		return fmt.Errorf("systemd made the scope %s, but this process is in %s", name, p.v2)
	}
	g.how = append(g.how, "in "+name)
	// We are the first in it, and nobody else's is needed.
	return g.makeAfterMove(p.v2)
}

// enterScope tries the buses in turn.
func (h host) enterScope(name string) error {
	why := errors.New("no session bus is known: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set")
	for i, address := range h.buses {
		conn, err := dialBus(address)
		if err == nil {
			err = startScope(conn, h.uid, name)
			conn.Close()
		}
		if err == nil {
			return nil
		}
		if i == 0 {
			why = err
		}
	}
	return why
}

// sessionBuses are the addresses at which a user's session bus is looked for.
func sessionBuses(uid int, address, runtimeDir string) []string {
	var out []string
	for a := range strings.SplitSeq(address, ";") {
		if a != "" {
			out = append(out, a)
		}
	}
	if runtimeDir == "" {
		runtimeDir = "/run/user/" + strconv.Itoa(uid) // pam_systemd(8)
	}
	if standard := "unix:path=" + runtimeDir + "/bus"; address != standard {
		out = append(out, standard)
	}
	return out
}

// busSocket is the socket that an address of the D-Bus specification names.
func busSocket(address string) (*unix.SockaddrUnix, error) {
	keys, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return nil, fmt.Errorf("bus address %q: only unix: is spoken here", address)
	}
	for pair := range strings.SplitSeq(keys, ",") {
		key, value, _ := strings.Cut(pair, "=")
		value, err := unescapeAddress(value)
		switch {
		case err != nil:
			return nil, fmt.Errorf("bus address %q: %w", address, err)
		case key == "path":
			return &unix.SockaddrUnix{Name: value}, nil
		case key == "abstract":
			return &unix.SockaddrUnix{Name: "@" + value}, nil
		}
	}
	return nil, fmt.Errorf("bus address %q names no socket", address)
}

// unescapeAddress undoes the %XX of a bus address.
func unescapeAddress(s string) (string, error) {
	var out strings.Builder
	for {
		plain, rest, more := strings.Cut(s, "%")
		out.WriteString(plain)
		if !more {
			return out.String(), nil
		}
		if len(rest) < 2 {
			return "", errors.New("an escape is cut off")
		}
		b, err := hex.DecodeString(rest[:2])
		if err != nil {
			return "", err
		}
		out.Write(b)
		s = rest[2:]
	}
}

// dialBus connects to a bus; everything on the connection ends in time.
func dialBus(address string) (*os.File, error) {
	to, err := busSocket(address)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, to); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "connect to", Path: to.Name, Err: err}
	}
	conn := os.NewFile(uintptr(fd), to.Name)
	if err := conn.SetDeadline(time.Now().Add(scopeTime)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Serial numbers of our calls.
const (
	serialHello = iota + 1
	serialMatch
	serialStart
)

const (
	busName     = "org.freedesktop.DBus"
	systemdName = "org.freedesktop.systemd1"
	managerName = "org.freedesktop.systemd1.Manager"
)

// startScope has the conversation: who we are, the call, and the signal that its
// job is done (org.freedesktop.systemd1(5)). Everything is said at once, which the
// protocol allows to a client that offers one kind of authentication.
func startScope(conn io.ReadWriter, uid int, name string) error {
	var out encoder
	out.raw("\x00AUTH EXTERNAL " + hex.EncodeToString([]byte(strconv.Itoa(uid))) + "\r\nBEGIN\r\n")
	out.call(serialHello, busName, "/org/freedesktop/DBus", busName, "Hello", "", nil)
	var rule encoder
	rule.str("type='signal',sender='" + systemdName + "',interface='" + managerName + "',member='JobRemoved'")
	out.call(serialMatch, busName, "/org/freedesktop/DBus", busName, "AddMatch", "s", rule)
	out.call(serialStart, systemdName, "/org/freedesktop/systemd1", managerName, "StartTransientUnit", "ssa(sv)a(sa(sv))", scopeRequest(name))
	if _, err := conn.Write(out); err != nil {
		return fmt.Errorf("speak to the session bus: %w", err)
	}
	in := &decoder{from: conn}
	line, err := in.line()
	if err != nil {
		return fmt.Errorf("session bus: %w", err)
	}
	if !strings.HasPrefix(line, "OK ") {
		return fmt.Errorf("the session bus refuses user %d: %q", uid, line)
	}
	for {
		m, err := in.message()
		if err != nil {
			return fmt.Errorf("wait for systemd --user to start %s: %w", name, err)
		}
		switch {
		case m.kind == kindError && m.reply >= serialHello && m.reply <= serialStart:
			return fmt.Errorf("systemd --user does not start %s: %s: %s", name, m.errorName, m.words[0])
		case m.kind == kindSignal && m.member == "JobRemoved" && m.words[2] == name:
			if m.words[3] != "done" {
				return fmt.Errorf("systemd --user could not start %s: its job ended as %q", name, m.words[3])
			}
			return nil
		}
	}
}

// scopeRequest are the arguments of StartTransientUnit: name, mode, properties,
// and no further units.
func scopeRequest(name string) encoder {
	var e encoder
	e.str(name)
	e.str("fail")
	properties := e.array(8)
	property := func(key, signature string, value func()) {
		e.align(8)
		e.str(key)
		e.signature(signature)
		value()
	}
	property("Description", "s", func() { e.str("sbx run") })
	property("Delegate", "b", func() { e.u32(1) })
	// Also a scope that failed is forgotten when it is empty.
	property("CollectMode", "s", func() { e.str("inactive-or-failed") })
	// 0 is the process that asks: our number need not be the same where systemd is.
	property("PIDs", "au", func() { pids := e.array(4); e.u32(0); pids() })
	properties()
	units := e.array(8)
	units()
	return e
}
