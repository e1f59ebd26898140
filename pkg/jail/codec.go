package jail

import (
	"encoding/binary"
	"fmt"
)

// A codec goes through the fields of a message and writes or reads each of them:
// numbers as varints, texts and lists with their length in front. A type names its
// fields once, for both ways. Half the time until the jail stands would go into
// encoding/json, which looks at each type before it sees the first value of it, in
// two processes.
type codec struct {
	buf     []byte // what was written, or what is left to read
	reading bool
	bad     bool // what was read is no message: from there on everything reads as zero
}

// A carried value is what a frame holds.
type carried interface{ fields(c *codec) }

func encode(v carried) []byte {
	var c codec
	v.fields(&c)
	return c.buf
}

// decode reads a value, and nothing else, from a body.
func decode(body []byte, v carried) error {
	c := codec{buf: body, reading: true}
	v.fields(&c)
	switch {
	case c.bad:
		return fmt.Errorf("decode %T: %w", v, errFrame)
	case len(c.buf) > 0:
		return fmt.Errorf("decode %T: %d bytes after it: %w", v, len(c.buf), errFrame)
	}
	return nil
}

func (c *codec) number(n *uint64) {
	if !c.reading {
		c.buf = binary.AppendUvarint(c.buf, *n)
		return
	}
	v, size := binary.Uvarint(c.buf)
	if c.bad || size <= 0 {
		c.fail()
		v, size = 0, 0
	}
	*n, c.buf = v, c.buf[size:]
}

func (c *codec) fail() { c.bad, c.buf = true, nil }

func integer[T ~int | ~int64 | ~uint32 | ~uint64 | ~uintptr](c *codec, v *T) {
	n := uint64(*v)
	c.number(&n)
	if *v = T(n); uint64(*v) != n {
		c.fail()
	}
}

func (c *codec) flag(v *bool) {
	n := uint64(0)
	if *v {
		n = 1
	}
	if c.number(&n); n > 1 {
		c.fail()
	}
	*v = n == 1
}

func text[T ~string | ~[]byte](c *codec, v *T) {
	n := uint64(len(*v))
	c.number(&n)
	if !c.reading {
		c.buf = append(c.buf, *v...)
		return
	}
	if n > uint64(len(c.buf)) {
		c.fail()
		n = 0
	}
	var read T // what is empty was perhaps nil
	if n > 0 {
		read = T(string(c.buf[:n]))
	}
	*v, c.buf = read, c.buf[n:]
}

func list[E any](c *codec, v *[]E, each func(*codec, *E)) {
	n := uint64(len(*v))
	c.number(&n)
	if c.reading {
		// Whatever an element is, it takes a byte.
		if *v = nil; n > uint64(len(c.buf)) {
			c.fail()
		} else if n > 0 {
			*v = make([]E, n)
		}
	}
	for i := range *v {
		each(c, &(*v)[i])
	}
}

func optional[E any](c *codec, v **E, each func(*codec, *E)) {
	has := *v != nil
	if c.flag(&has); c.reading {
		if *v = nil; has {
			*v = new(E)
		}
	}
	if *v != nil {
		each(c, *v)
	}
}

func (cfg *Config) fields(c *codec) {
	text(c, &cfg.Hostname)
	integer(c, &cfg.RootSize)
	integer(c, &cfg.RootInodes)
	list(c, &cfg.Mounts, func(c *codec, m *Mount) {
		text(c, &m.Kind)
		text(c, &m.Source)
		text(c, &m.Target)
		c.flag(&m.Dir)
		integer(c, &m.Attr)
		text(c, &m.Data)
		c.flag(&m.Tree)
		c.flag(&m.Resolved)
		c.flag(&m.Optional)
	})
	list(c, &cfg.Files, func(c *codec, f *File) {
		text(c, &f.Path)
		integer(c, &f.Mode)
		integer(c, &f.Size)
		c.flag(&f.Dir)
		text(c, &f.Link)
	})
	list(c, &cfg.Symlinks, func(c *codec, l *Symlink) {
		text(c, &l.Path)
		text(c, &l.Target)
	})
	text(c, &cfg.Boot)
	integer(c, &cfg.BootFD)
	integer(c, &cfg.EventFD)
	c.flag(&cfg.Loopback)
	integer(c, &cfg.CgroupTasks)
	integer(c, &cfg.MountTrees)
	list(c, &cfg.Rlimits, func(c *codec, r *Rlimit) {
		text(c, &r.Name)
		integer(c, &r.Resource)
		integer(c, &r.Soft)
		integer(c, &r.Hard)
	})
	list(c, &cfg.Landlock.Writable, text)
	list(c, &cfg.Landlock.Files, text)
	list(c, &cfg.Landlock.Devices, text)
	c.flag(&cfg.Landlock.DenyTCP)
	text(c, &cfg.Filter)
	list(c, &cfg.Argv, text)
	list(c, &cfg.Env, text)
	text(c, &cfg.Dir)
}

func (m *message) fields(c *codec) {
	text(c, &m.Kind)
	optional(c, &m.Ready, func(c *codec, r *Ready) {
		c.flag(&r.WaitKillable)
		text(c, &r.Proc)
		text(c, &r.ProcWhy)
		integer(c, &r.LandlockABI)
		text(c, &r.Landlock)
		text(c, &r.LandlockWhy)
		text(c, &r.CgroupNS)
		list(c, &r.Missing, text)
	})
	optional(c, &m.Exited, func(c *codec, e *Exit) {
		integer(c, &e.Status)
		integer(c, &e.User)
		integer(c, &e.System)
		integer(c, &e.MaxRSS)
		integer(c, &e.Survivors)
	})
	optional(c, &m.Failed, func(c *codec, e *SetupError) {
		text(c, &e.Op)
		text(c, &e.Path)
		if integer(c, &e.Errno); e.Errno > maxErrno {
			c.fail()
		}
		text(c, &e.Text)
	})
}

// maxErrno is MAX_ERRNO of include/linux/err.h.
const maxErrno = 4095
