package pyhook

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/sbxproject/sbx/pkg/event"
)

// operations are the audit events that the hook reports, and the section of the
// report that each belongs to. A record that names another is malformed.
func operations() map[string]event.Category {
	ops := map[string]event.Category{}
	for category, names := range map[event.Category][]string{
		event.Import: {"import"},
		event.File: {
			"open", "os.listdir", "os.scandir", "os.getxattr", "os.listxattr",
			"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.chmod",
			"os.chown", "os.chflags", "os.truncate", "os.utime", "os.setxattr", "os.removexattr",
		},
		event.Network: {
			"socket.__new__", "socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg",
			"socket.getaddrinfo", "socket.getnameinfo", "socket.gethostbyname", "socket.gethostbyaddr",
		},
		event.Process: {
			"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
			"os.forkpty", "pty.spawn", "os.kill", "os.killpg", "signal.pthread_kill",
			"compile", "code.__new__", "marshal.loads", "cpython.PyInterpreterState_New",
			"sys.addaudithook", "sys.settrace", "sys.setprofile", "sys.monitoring.register_callback",
			"gc.get_objects", "gc.get_referrers", "gc.get_referents",
		},
		event.Syscall: {
			"ctypes.dlopen", "ctypes.dlsym", "ctypes.addressof", "ctypes.string_at", "ctypes.wstring_at",
			"ctypes.call_function", "ctypes.cdata",
		},
		event.Exception: {inMain, inThread, inUnraisable},
	} {
		for _, name := range names {
			ops[name] = category
		}
	}
	return ops
}

// Where an uncaught exception surfaced; an exception's record has one of these
// in the place of the audit event.
const (
	inMain       = "main"
	inThread     = "thread"
	inUnraisable = "unraisable"
)

// Bounds on what is remembered of a stream that the script can write to.
const (
	maxCounters = 8192
	maxCount    = 1 << 48
)

// Stats is what a decoder learned beside the events. All of it is the script's
// word.
type Stats struct {
	Started bool   // the hook announced itself
	Ended   bool   // the first process said that it ends; false after a kill or os._exit
	Version string // of Python, from the start record
	Mode    string // of the hook, from the start record

	ExitCode int // of the first process, valid if Ended

	// The exception that ended the main thread of the first process, if any.
	Uncaught        bool
	UncaughtType    string
	UncaughtMessage string

	Records    uint64 // well-formed records
	Malformed  uint64 // stretches of garbage and records refused
	Suppressed uint64 // events that the hook only counted; their totals are in the events
}

// counter is one operation and verdict of one process.
type counter struct {
	pid  int64
	op   string
	code int64
}

// A Decoder turns the hook's byte stream into events. It keeps a bounded amount
// of memory whatever the stream holds. It is not safe for concurrent use.
type Decoder struct {
	sink  func(event.Event)
	ops   map[string]event.Category
	buf   []byte
	skip  bool // inside a stretch of garbage that is already counted
	pid   int64
	first int64             // claimed time of the start record
	seen  map[counter]int64 // the last count beyond FloodCap
	stats Stats
}

// NewDecoder returns a Decoder that gives each event to sink. The event's Time
// is what the hook claims, counted from its start record.
func NewDecoder(sink func(event.Event)) *Decoder {
	return &Decoder{
		sink: sink,
		ops:  operations(),
		seen: map[counter]int64{},
	}
}

// Stats returns what is known so far.
func (d *Decoder) Stats() Stats { return d.stats }

// Feed decodes the next bytes of the stream, which may be split anywhere.
func (d *Decoder) Feed(p []byte) {
	for len(p) > 0 {
		n := min(len(p), maxRecord)
		d.buf = append(d.buf, p[:n]...)
		p = p[n:]
		d.buf = d.buf[:copy(d.buf, d.consume(d.buf))]
	}
}

// consume handles every complete record in b and returns the rest, which is
// shorter than one record.
func (d *Decoder) consume(b []byte) []byte {
	for {
		if !bytes.HasPrefix(b, []byte(magic)) {
			i := bytes.Index(b, []byte(magic))
			if i < 0 {
				rest := b[len(b)-magicTail(b):]
				if len(rest) < len(b) {
					d.garbage()
				}
				return rest
			}
			d.garbage()
			b = b[i:]
		}
		if len(b) < headerLen {
			return b
		}
		n := int(binary.LittleEndian.Uint16(b[len(magic):]))
		if n > maxPayload {
			d.garbage()
			b = b[1:]
			continue
		}
		if len(b) < headerLen+n {
			return b
		}
		rec, err := parseRecord(b[headerLen : headerLen+n])
		if err != nil || !d.accept(rec) {
			// The length cannot be believed either: look for the next magic.
			d.skip = false
			d.garbage()
			b = b[1:]
			continue
		}
		d.skip = false
		d.stats.Records++
		b = b[headerLen+n:]
	}
}

// magicTail returns how many of the last bytes of b could begin the magic.
func magicTail(b []byte) int {
	for n := min(len(magic)-1, len(b)); n > 0; n-- {
		if string(b[len(b)-n:]) == magic[:n] {
			return n
		}
	}
	return 0
}

// garbage counts one stretch of bytes that is no record.
func (d *Decoder) garbage() {
	if !d.skip {
		d.stats.Malformed++
		d.skip = true
	}
}

// accept takes one record in, or reports that it makes no sense.
func (d *Decoder) accept(r record) bool {
	switch r.kind {
	case kindStart:
		return d.start(r)
	case kindEvent:
		return d.event(r)
	case kindException:
		return d.exception(r)
	default:
		return d.end(r)
	}
}

func (d *Decoder) start(r record) bool {
	if d.stats.Started {
		return false
	}
	d.stats.Started, d.stats.Version, d.stats.Mode = true, r.version, r.mode
	d.pid, d.first = r.pid, r.ns
	return true
}

func (d *Decoder) event(r record) bool {
	category, ok := d.ops[r.op]
	if !ok || category == event.Exception {
		return false
	}
	n, ok := d.fold(counter{r.pid, r.op, r.code}, r.count)
	if !ok {
		return false
	}
	e := d.base(r)
	e.Category, e.Op, e.Target, e.Detail = category, r.op, r.target, r.detail
	e.Verdict, e.Count = verdict(r.code), n
	d.sink(e)
	return true
}

// fold returns for how many events a record with this count stands: for itself
// alone up to FloodCap, then for all since the last that was written.
func (d *Decoder) fold(key counter, count int64) (uint64, bool) {
	if count < 1 || count > maxCount {
		return 0, false
	}
	if count <= FloodCap {
		return 1, true
	}
	last, known := d.seen[key]
	before := max(last, FloodCap)
	if count <= before || !known && len(d.seen) >= maxCounters {
		return 0, false
	}
	d.seen[key] = count
	d.stats.Suppressed += uint64(count-before) - 1
	return uint64(count - before), true
}

func (d *Decoder) exception(r record) bool {
	if d.ops[r.op] != event.Exception {
		return false
	}
	n, ok := d.fold(counter{r.pid, r.op, codeObserved}, r.count)
	if !ok {
		return false
	}
	if r.op == inMain && r.pid == d.pid && !d.stats.Uncaught {
		d.stats.Uncaught, d.stats.UncaughtType, d.stats.UncaughtMessage = true, r.target, r.detail
	}
	e := d.base(r)
	e.Category, e.Op, e.Target, e.Verdict, e.Count = event.Exception, r.target, r.detail, event.Observed, n
	e.Detail = "uncaught in " + r.op
	if r.op == inUnraisable {
		e.Detail = "ignored by the interpreter"
	}
	d.sink(e)
	return true
}

func (d *Decoder) end(r record) bool {
	for _, t := range r.totals {
		if _, ok := d.ops[t.op]; !ok || t.code >= codes || t.count < 1 || t.count > maxCount {
			return false
		}
	}
	if r.pid == d.pid && d.stats.Started && !d.stats.Ended {
		d.stats.Ended, d.stats.ExitCode = true, int(r.status&0xff)
	}
	for _, t := range r.totals {
		if t.count <= FloodCap {
			continue
		}
		n, ok := d.fold(counter{r.pid, t.op, t.code}, t.count)
		if !ok {
			continue // nothing was left out since the last record
		}
		e := d.base(r)
		e.Category, e.Op, e.Verdict, e.Count = d.ops[t.op], t.op, verdict(t.code), n
		e.Detail = "counted without detail"
		d.stats.Suppressed++
		d.sink(e)
	}
	return true
}

// base is what every event of r has in common.
func (d *Decoder) base(r record) event.Event {
	e := event.Event{
		Time:  time.Duration(max(0, r.ns-d.first)),
		Layer: event.Python,
		PID:   int(r.pid),
		TID:   int(r.tid),
	}
	if r.file != "" {
		e.Location = &event.Location{File: r.file, Line: int(r.line), Function: r.function, Claimed: true}
	}
	return e
}

func verdict(code int64) event.Verdict {
	switch code {
	case codeAllowed:
		return event.Allowed
	case codeDenied:
		return event.Denied
	default:
		return event.Observed
	}
}
