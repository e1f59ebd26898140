package supervisor

import (
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/event"
	"github.com/sbxproject/sbx/pkg/seccomp"
)

// call is a notified system call in words.
type call struct {
	op       string
	category event.Category
	target   string // what it is about: a path, an address, a command
	detail   string // the whole call with its arguments
	paths    []string
	vague    bool // some path is not known in full: paths does not say what the call is about
}

// Bounds of what is kept of one call for the report. What was read is longer,
// and the caller decides how many different calls there are.
const (
	maxTarget = 1000
	maxDetail = 1500
)

// view resolves what a path names from where the target stands.
type view interface {
	cwd(tid int) (string, error)
	fd(tid, fd int) (string, error)
}

// describe reads what the arguments point to and puts the call into words. What
// cannot be read is shown as its address.
func describe(m memory, v view, tid int, nr int, args [6]uint64) call {
	sc, ok := seccomp.Lookup(nr)
	if !ok {
		name := "syscall_" + strconv.Itoa(nr)
		return call{op: name, category: event.Syscall, target: name, detail: name + "(" + hexArgs(args[:3]) + ", ...)"}
	}
	c := call{op: sc.Name, category: sc.Category}
	dir := int64(unix.AT_FDCWD)
	shown := make([]string, 0, len(sc.Args))
	for i, role := range sc.Args {
		if i >= len(args) {
			break
		}
		value, text := args[i], ""
		switch role {
		case seccomp.RoleDirFD:
			dir = int64(int32(value))
		case seccomp.RolePath:
			s, err := readString(m, tid, value, maxString)
			if err == nil {
				text = quote(s)
				full := absolute(v, tid, dir, s)
				c.paths = append(c.paths, full)
				c.about(full)
				// An empty name is ENOENT or the descriptor itself, a cut one
				// ENAMETOOLONG: the kernel says which.
				c.vague = c.vague || s == "" || len(s) >= maxString || !path.IsAbs(full)
			} else {
				c.vague = true
			}
			dir = unix.AT_FDCWD
		case seccomp.RoleString:
			if s, err := readString(m, tid, value, maxString); err == nil {
				text = quote(s)
			}
		case seccomp.RoleArgv:
			if argv, err := readArgv(m, tid, value); err == nil {
				text = quoteAll(argv)
				if len(argv) > 0 {
					c.target = strings.Join(argv, " ")
				}
			}
		case seccomp.RoleSockaddr:
			length := uint64(maxAddr)
			if i+1 < len(args) {
				length = args[i+1] & 0xffffffff
			}
			if s, err := readSockaddr(m, tid, value, length); err == nil {
				text = s
				c.target = s
			}
		case seccomp.RoleOpenHow:
			if s, err := readOpenHow(m, tid, value); err == nil {
				text = s
			}
		case seccomp.RoleMsghdr, seccomp.RoleMmsghdr:
			if s, err := readMsgName(m, tid, value); err == nil {
				text = "{" + s + "}"
				c.target = s
			}
		}
		if text == "" {
			text = role.Format(value)
			c.name(role, text)
		}
		shown = append(shown, text)
	}
	c.detail = shorten(sc.Name+"("+strings.Join(shown, ", ")+")", maxDetail)
	if c.target == "" {
		c.target = sc.Name
	}
	c.target = shorten(c.target, maxTarget)
	return c
}

// shorten cuts a text to at most limit bytes and a mark, between two characters.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit
	for end > limit-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "..."
}

// about sets the target, of two paths both.
func (c *call) about(path string) {
	if c.target != "" {
		path = c.target + " -> " + path
	}
	c.target = path
}

// name lets a plain argument be the target of a call that has no path, address
// or command.
func (c *call) name(role seccomp.Role, text string) {
	switch role {
	case seccomp.RoleFamily, seccomp.RoleCloneFlags, seccomp.RoleUnshareFlags, seccomp.RolePtrace,
		seccomp.RoleBPF, seccomp.RoleKeyctl, seccomp.RolePrctl, seccomp.RoleIoctl, seccomp.RoleSeccomp:
		if c.target == "" {
			c.target = text
		}
	case seccomp.RolePID:
		if c.target == "" {
			c.target = "pid " + text
		}
	case seccomp.RoleSignal:
		if strings.HasPrefix(c.target, "pid ") {
			c.target = text + " to " + c.target
		}
	}
}

// absolute is where a path leads, by its words: links are not followed. A path
// that cannot be made absolute stays as it is.
func absolute(v view, tid int, dir int64, name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	var base string
	var err error
	if dir == unix.AT_FDCWD {
		base, err = v.cwd(tid)
	} else {
		base, err = v.fd(tid, int(dir))
	}
	if err != nil || !path.IsAbs(base) {
		return name
	}
	if name == "" { // AT_EMPTY_PATH: the descriptor itself
		return path.Clean(base)
	}
	return path.Join(base, name)
}

// quote is strconv.Quote, which takes its time for names that need nothing of it, as
// nearly all do.
func quote(s string) string {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return strconv.Quote(s)
		}
	}
	return `"` + s + `"`
}

func quoteAll(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func hexArgs(args []uint64) string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = "0x" + strconv.FormatUint(a, 16)
	}
	return strings.Join(out, ", ")
}

// beneath says whether every path lies in one of the directories. No path at
// all lies nowhere.
func beneath(paths, dirs []string) bool {
	for _, p := range paths {
		inside := false
		for _, d := range dirs {
			if p == d || strings.HasPrefix(p, d+"/") {
				inside = true
			}
		}
		if !inside {
			return false
		}
	}
	return true
}
