package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxImport bounds an imported filter; that of Docker has 17 KiB.
const maxImport = 256 << 10

// Import is what a profile took from the seccomp filter of a container runtime.
type Import struct {
	File string
	// Rules are the calls that it allows here, then those that it refuses, which
	// so override the others: container runtimes leave open which of two rules
	// for one call wins.
	Rules []Rule
	// Conditional are calls of rules for a capability, which the jail has not, or
	// for another machine.
	Conditional []string
	// Refused are calls that no rule may allow, or that this machine has not.
	Refused []string
}

// The linux.seccomp object of the OCI runtime specification, with what Docker
// and Podman add to it.
type (
	ociFilter struct {
		DefaultAction    string    `json:"defaultAction"`
		DefaultErrno     string    `json:"defaultErrno"`
		DefaultErrnoRet  *uint     `json:"defaultErrnoRet"`
		Architectures    []string  `json:"architectures"`
		ArchMap          []ociArch `json:"archMap"`
		Flags            []string  `json:"flags"`
		ListenerPath     string    `json:"listenerPath"`
		ListenerMetadata string    `json:"listenerMetadata"`
		Syscalls         []ociRule `json:"syscalls"`
	}
	ociArch struct {
		Architecture     string   `json:"architecture"`
		SubArchitectures []string `json:"subArchitectures"`
	}
	ociRule struct {
		Name     string        `json:"name"`
		Names    []string      `json:"names"`
		Action   string        `json:"action"`
		Errno    string        `json:"errno"`
		ErrnoRet *uint         `json:"errnoRet"`
		Args     []ociArg      `json:"args"`
		Comment  string        `json:"comment"`
		Includes *ociCondition `json:"includes"`
		Excludes *ociCondition `json:"excludes"`
	}
	ociArg struct {
		Index    uint   `json:"index"`
		Value    uint64 `json:"value"`
		ValueTwo uint64 `json:"valueTwo"`
		Op       string `json:"op"`
	}
	ociCondition struct {
		Caps      []string `json:"caps"`
		Arches    []string `json:"arches"`
		MinKernel string   `json:"minKernel"`
	}
)

// ociAction returns an action of the specification as that of a profile. Trap
// and trace need somebody inside or outside who answers; here nobody does.
func ociAction(name string) (Action, bool) {
	switch name {
	case "SCMP_ACT_ALLOW", "SCMP_ACT_LOG":
		return ActionAllow, true
	case "SCMP_ACT_ERRNO":
		return ActionErrno, true
	case "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP":
		return ActionNotify, true
	case "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS":
		return ActionKill, true
	}
	return "", false
}

func readImport(file string) (*Import, error) {
	data, err := readFile(file, maxImport)
	if err != nil {
		return nil, err
	}
	return decodeImport(file, data)
}

func decodeImport(file string, data []byte) (*Import, error) {
	d := jsonDecoder{file: file, data: data, places: map[string]int64{}}
	var f ociFilter
	if err := d.decode(&f); err != nil {
		return nil, err
	}
	switch action, ok := ociAction(f.DefaultAction); {
	case !ok:
		return nil, d.mistake("defaultAction", unknownWord(f.DefaultAction), "is this the seccomp object of a container runtime?")
	case action == ActionAllow:
		return nil, d.mistake("defaultAction", f.DefaultAction+" allows what it does not name", "a profile needs a list of what is allowed")
	}
	in := &Import{File: file}
	var refusing []Rule
	for i, s := range f.Syscalls {
		path := fmt.Sprintf("syscalls[%d]", i)
		rules, err := d.rules(path, s)
		if err != nil {
			return nil, err
		}
		holds := s.holds()
		allows := rules[0].Action == ActionAllow
		switch {
		case holds == no, holds == unsure && allows:
			in.Conditional = append(in.Conditional, rules[0].Names...)
		case allows:
			in.Rules = append(in.Rules, rules...)
		default:
			refusing = append(refusing, rules...)
		}
	}
	in.Rules = append(in.Rules, refusing...)
	taken := map[string]bool{}
	for _, r := range in.Rules {
		for _, n := range r.Names {
			taken[n] = true
		}
	}
	in.Conditional = slices.DeleteFunc(in.Conditional, func(n string) bool { return taken[n] })
	slices.Sort(in.Conditional)
	in.Conditional = slices.Compact(in.Conditional)
	return in, nil
}

// answer to a condition that is not known before the run.
type answer int

const (
	no answer = iota
	unsure
	yes
)

// floor is the oldest kernel that sbx runs on.
var floor = [2]int{5, 15}

// holds says whether a rule is meant for the jail, which has no capability.
func (s ociRule) holds() answer {
	out := yes
	if c := s.Includes; c != nil {
		if len(c.Caps) > 0 || len(c.Arches) > 0 && !slices.Contains(c.Arches, runtime.GOARCH) {
			return no
		}
		if c.MinKernel != "" && !onEveryKernel(c.MinKernel) {
			out = unsure
		}
	}
	if c := s.Excludes; c != nil {
		// Of the capabilities none is there, so that they exclude nothing.
		if slices.Contains(c.Arches, runtime.GOARCH) || c.MinKernel != "" && onEveryKernel(c.MinKernel) {
			return no
		}
		if c.MinKernel != "" {
			out = unsure
		}
	}
	return out
}

// onEveryKernel says that no kernel that sbx runs on is older. A version that
// cannot be read is on no kernel for sure.
func onEveryKernel(version string) bool {
	major, minor, _ := strings.Cut(version, ".")
	a, err := strconv.ParseUint(major, 10, 16)
	b, err2 := strconv.ParseUint(minor, 10, 16)
	return err == nil && err2 == nil && (int(a) < floor[0] || int(a) == floor[0] && int(b) <= floor[1])
}

// ociOp is an operator as that of a profile, "" if there is none.
func ociOp(name string) string {
	op := strings.ToLower(strings.TrimPrefix(name, "SCMP_CMP_"))
	if name != "SCMP_CMP_"+strings.ToUpper(op) || !slices.Contains(argOps, op) {
		return ""
	}
	return op
}

// rules turns one entry into at least one rule.
func (d *jsonDecoder) rules(path string, s ociRule) ([]Rule, error) {
	r := Rule{Names: s.Names, Reason: "imported from " + filepath.Base(d.file)}
	if s.Name != "" {
		r.Names = append([]string{s.Name}, s.Names...)
	}
	if len(r.Names) == 0 {
		return nil, d.mistake(path+".names", "is empty", "")
	}
	if s.Comment != "" {
		r.Reason += ": " + s.Comment
	}
	var ok bool
	if r.Action, ok = ociAction(s.Action); !ok {
		return nil, d.mistake(path+".action", unknownWord(s.Action), "")
	}
	if r.Action == ActionErrno {
		r.Errno = "EPERM"
		if s.Errno != "" {
			r.Errno = errnoAlias(s.Errno)
		}
		if s.ErrnoRet != nil && s.Errno == "" {
			if r.Errno = errnoName(*s.ErrnoRet); r.Errno == "" {
				return nil, d.mistake(path+".errnoRet", fmt.Sprintf("%d is no error number", *s.ErrnoRet), "")
			}
		}
		if !slices.Contains(errnoNames(), r.Errno) || r.Errno == "-" {
			return nil, d.mistake(path+".errno", unknownWord(r.Errno), "")
		}
	}
	used := map[uint]bool{}
	alternatives := false
	for i, a := range s.Args {
		at := fmt.Sprintf("%s.args[%d]", path, i)
		op := ociOp(a.Op)
		if op == "" {
			return nil, d.mistake(at+".op", unknownWord(a.Op), "")
		}
		if a.Index > 5 {
			return nil, d.mistake(at+".index", fmt.Sprintf("%d is out of range", a.Index), "want 0 to 5")
		}
		arg := Arg{Index: a.Index, Op: op, Value: a.Value}
		if op == "masked_eq" {
			arg.Mask, arg.Value = a.Value, a.ValueTwo
		} else if a.ValueTwo != 0 {
			return nil, d.mistake(at+".valueTwo", "goes with SCMP_CMP_MASKED_EQ only", "")
		}
		alternatives = alternatives || used[a.Index]
		used[a.Index] = true
		r.Args = append(r.Args, arg)
	}
	if !alternatives {
		return []Rule{r}, nil
	}
	// libseccomp takes one condition for each argument, so the runtimes read two
	// for the same one as: any condition of the entry.
	var out []Rule
	for _, a := range r.Args {
		one := r
		one.Args = []Arg{a}
		out = append(out, one)
	}
	return out, nil
}

func unknownWord(word string) string {
	if word == "" {
		return "is missing"
	}
	return fmt.Sprintf("unknown word %q", shorten(word))
}

// errnoName is the name of an error number on the machines that sbx runs on.
func errnoName(n uint) string {
	names := errnoNames()
	if n == 0 || n > uint(len(names)) || names[n-1] == "-" {
		return ""
	}
	return names[n-1]
}

// errnoAlias returns the name that rules have of an error number with two.
func errnoAlias(name string) string {
	switch name {
	case "EWOULDBLOCK":
		return "EAGAIN"
	case "EDEADLOCK":
		return "EDEADLK"
	case "EOPNOTSUPP":
		return "ENOTSUP"
	case "EUCLEAN":
		return "EFSCORRUPTED"
	}
	return name
}

// errnoNames are the error numbers from 1 on, of asm-generic/errno.h.
func errnoNames() []string {
	return strings.Fields(`
EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST
EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM
ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG
EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET
ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG
ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE
EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT ENOTSUP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE
EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN
ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EFSCORRUPTED ENOTNAM ENAVAIL
EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD
ENOTRECOVERABLE ERFKILL EHWPOISON`)
}

// jsonDecoder decodes one document strictly: [json.Decoder] takes a key twice,
// in any case, and does not say where.
type jsonDecoder struct {
	file   string
	data   []byte
	places map[string]int64 // offset of the value of each path
}

func (d *jsonDecoder) decode(to any) error {
	if !utf8.Valid(d.data) {
		return &FieldError{File: d.file, Line: 1, Column: 1, Problem: "is not UTF-8"}
	}
	tokens := json.NewDecoder(bytes.NewReader(d.data))
	tokens.UseNumber()
	if err := d.walk(tokens, "", reflect.TypeOf(to).Elem()); err != nil {
		return d.located(err)
	}
	if _, err := tokens.Token(); !errors.Is(err, io.EOF) {
		return d.place(tokens.InputOffset(), "").mistake("goes on after its end", "")
	}
	if err := json.Unmarshal(d.data, to); err != nil {
		return d.located(err)
	}
	return nil
}

// walk refuses keys that are unknown or there twice, and remembers where values
// are. What is of the wrong type it leaves to the decoder.
func (d *jsonDecoder) walk(tokens *json.Decoder, path string, t reflect.Type) error {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	d.places[path] = d.skip(tokens.InputOffset())
	tok, err := tokens.Token()
	if err != nil {
		return err
	}
	switch tok {
	case json.Delim('['):
		if t == nil || t.Kind() != reflect.Slice {
			return d.mistake(path, "is a list, and should not be", "")
		}
		for i := 0; tokens.More(); i++ {
			if err := d.walk(tokens, fmt.Sprintf("%s[%d]", path, i), t.Elem()); err != nil {
				return err
			}
		}
	case json.Delim('{'):
		if t == nil || t.Kind() != reflect.Struct {
			return d.mistake(path, "is an object, and should not be", "")
		}
		seen := map[string]bool{}
		for tokens.More() {
			offset := d.skip(tokens.InputOffset())
			tok, err := tokens.Token()
			if err != nil {
				return err
			}
			key, _ := tok.(string)
			f, ok := jsonField(t, key)
			if !ok {
				return d.place(offset, path).mistake(fmt.Sprintf("unknown key %q", shorten(key)), "want the seccomp object of a container runtime")
			}
			if seen[key] {
				return d.place(offset, join(path, key)).mistake("is there twice", "")
			}
			seen[key] = true
			if err := d.walk(tokens, join(path, key), f.Type); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	_, err = tokens.Token() // the end of the list or object
	return err
}

func jsonField(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("json") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// located puts a mistake of form into our own words.
func (d *jsonDecoder) located(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return d.place(syntax.Offset-1, "").mistake("is not JSON: "+syntax.Error(), "")
	case errors.As(err, &kind):
		return d.place(kind.Offset-1, kind.Field).mistake("a "+kind.Value+" is not what is wanted there", "")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return d.place(int64(len(d.data)), "").mistake("ends too early", "")
	}
	return err
}

// skip passes over what stands between two tokens.
func (d *jsonDecoder) skip(offset int64) int64 {
	for offset < int64(len(d.data)) && strings.IndexByte(" \t\r\n,:", d.data[offset]) >= 0 {
		offset++
	}
	return offset
}

func (d *jsonDecoder) place(offset int64, path string) place {
	before := d.data[:min(max(offset, 0), int64(len(d.data)))]
	line := bytes.Count(before, []byte("\n"))
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return place{file: d.file, line: line + 1, column: column + 1, path: path}
}

// mistake is one in the value at path, or in what misses it.
func (d *jsonDecoder) mistake(path, problem, hint string) *FieldError {
	for at := path; ; at = at[:max(0, strings.LastIndexByte(at, '.'))] {
		if offset, ok := d.places[at]; ok {
			return d.place(offset, path).mistake(problem, hint)
		}
	}
}
