package sandbox

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/jail"
)

// stepHint is what a step that failed leads to.
type stepHint struct {
	op    string
	errno unix.Errno // 0: only a text came
	want  string     // in the hint
}

// general is what is left to say of a step that has no sentence of its own.
const general = "refused by this host"

var stepHints = []stepHint{
	{"clone", unix.ENOSPC, "max_user_namespaces"},
	{"clone", unix.EPERM, "user namespaces"},
	{"clone", unix.EACCES, "user namespaces"},
	{"clone", unix.EAGAIN, "ulimit -u"},
	{"clone", unix.ENOMEM, "ulimit -u"},
	{"clone", unix.ENOENT, "/proc is not mounted"},
	{"clone", unix.EINVAL, "CONFIG_USER_NS"},
	{"clone", unix.ENOSYS, "clone3(2)"},
	{"clone", unix.EMFILE, "ulimit -n"},
	{"clone", unix.EBUSY, "namespaces(7)"},
	{"clone", 0, "namespaces(7)"},
	{"mount", unix.EPERM, "forbids mounts"},
	{"mount", unix.EACCES, "forbids mounts"},
	{"mount", unix.EINVAL, general},
	{"mount", 0, "as a bug"},
	{"mount tmpfs", unix.EPERM, "forbids mounts"},
	{"mount *", 0, "as a bug"},
	{"make mounts private", unix.EPERM, "forbids mounts"},
	{"move_mount", unix.EPERM, "forbids mounts"},
	{"move_mount", unix.ENOSYS, "Linux 5.12"},
	{"open_tree", unix.EPERM, "forbids mounts"},
	{"open_tree", unix.ENOSYS, "Linux 5.12"},
	{"open_tree", unix.ENOENT, "has gone"},
	{"open_tree", unix.EMFILE, "ulimit -n"},
	{"mount_setattr", unix.EPERM, "forbids mounts"},
	{"mount_setattr", unix.ENOSYS, "Linux 5.12"},
	{"pivot_root", unix.EPERM, "forbids mounts"},
	{"umount", unix.EPERM, "forbids mounts"},
	{"chdir", unix.EACCES, general},
	{"symlink", unix.ENOSPC, "--tmp-size"},
	{"mkdir", unix.ENOSPC, "--tmp-size"},
	{"create", unix.ENOSPC, "--tmp-size"},
	{"create", unix.EEXIST, general},
	{"write", unix.ENOSPC, "--tmp-size"},
	{"sethostname", unix.EPERM, general},
	{"socket", unix.EAFNOSUPPORT, general},
	{"ioctl SIOCSIFFLAGS", unix.EPERM, general},
	{"ifreq", unix.EINVAL, general},
	{"dup3", unix.EBADF, general},
	{"open", unix.EACCES, general},
	{"open", unix.ENFILE, "ulimit -n"},
	{"unlink", unix.EPERM, general},
	{"close_range", unix.EPERM, general},
	{"getdents64", unix.EPERM, general},
	{"rt_sigaction", unix.EPERM, general},
	{"wait4", unix.ENOSYS, general},
	{"join cgroup", unix.ENOSPC, "cgroup"},
	{"join cgroup", unix.EBUSY, "cgroup"},
	{"getrlimit", unix.EPERM, "prlimit(2)"},
	{"setrlimit", unix.EPERM, "prlimit(2)"},
	{"setrlimit", 0, "prlimit(2)"},
	{"prctl", unix.EINVAL, "prctl(2)"},
	{"prctl", unix.EPERM, "prctl(2)"},
	{"capset", unix.EPERM, "capset(2)"},
	{"decode filter", 0, "as a bug"},
	{"seccomp", unix.EBUSY, "another supervisor"},
	{"seccomp", unix.EINVAL, "CONFIG_SECCOMP_FILTER"},
	{"seccomp", unix.ENOSYS, "CONFIG_SECCOMP_FILTER"},
	{"seccomp", unix.EACCES, "seccomp(2)"},
	{"landlock_create_ruleset", unix.EOPNOTSUPP, general},
	{"landlock_add_rule", unix.EINVAL, general},
	{"landlock_restrict_self", unix.E2BIG, general},
	{"execve", unix.ENOENT, "--python"},
	{"execve", unix.EACCES, "--python"},
	{"receive configuration", 0, "as a bug"},
	{"wait for the host", 0, "as a bug"},
	{"init", 0, "as a bug"},
}

func TestStepOfTheJailHasAHintThatFits(t *testing.T) {
	for _, tt := range stepHints {
		step := &jail.SetupError{Op: tt.op, Path: "/x", Errno: tt.errno, Text: "text"}
		for _, root := range []bool{false, true} {
			if got := jailHint(fmt.Errorf("build: %w", step), root); !strings.Contains(got, tt.want) && (!root || tt.op != "clone") {
				t.Errorf("%s, %v: the hint is %q, want %q in it", tt.op, tt.errno, got, tt.want)
			} else if got == "" {
				t.Errorf("%s, %v: as root there is no hint", tt.op, tt.errno)
			}
		}
	}
}

// TestHintsKnowEveryStepOfTheJail reads the steps from the source of pkg/jail: a
// new one is to be thought about here.
func TestHintsKnowEveryStepOfTheJail(t *testing.T) {
	known := map[string]bool{}
	for _, h := range stepHints {
		known[h.op] = true
	}
	used := stepsOfTheJail(t)
	if len(used) < 30 {
		t.Fatalf("only %d steps were found: %v", len(used), used)
	}
	for op, where := range used {
		if !known[op] {
			t.Errorf("%s: nothing here says what the hint for %q is", where, op)
		}
	}
	for op := range known {
		if used[op] == "" {
			t.Errorf("no step of the jail is called %q", op)
		}
	}
}

// stepsOfTheJail are the first arguments of failure and the Op of SetupErrors; a
// part that is computed is a *.
func stepsOfTheJail(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../jail/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("the sources of the jail: %q, %v", files, err)
	}
	steps := map[string]string{}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			var op ast.Expr
			switch n := n.(type) {
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "failure" {
					op = n.Args[0]
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Op" {
					op = n.Value
				}
			}
			if text := literal(op); text != "" && text != "*" {
				steps[text] = set.Position(op.Pos()).String()
			}
			return true
		})
	}
	return steps
}

func literal(e ast.Expr) string {
	switch e := e.(type) {
	case nil:
		return ""
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.BinaryExpr:
		return literal(e.X) + literal(e.Y)
	}
	return "*"
}

func TestHintForWhatFailsOnTheHostsSide(t *testing.T) {
	refused := &fs.PathError{Op: "openat", Path: "secret", Err: unix.EACCES}
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"the stage has gone", io.EOF, "out-of-memory"},
		{"the stage went away in between", fmt.Errorf("send: %w", io.ErrUnexpectedEOF), "out-of-memory"},
		{"nobody reads the configuration", fmt.Errorf("send: %w", unix.EPIPE), "out-of-memory"},
		{"the connection was reset", fmt.Errorf("receive: %w", unix.ECONNRESET), "out-of-memory"},
		{"a file that grew", fmt.Errorf("copy: %w", jail.ErrChanged), "while it is copied"},
		{"a file that was removed", fmt.Errorf("copy: %w", os.ErrNotExist), "while it is copied"},
		{"a file that cannot be read", fmt.Errorf("copy: %w", refused), "readable"},
		{"no descriptors", fmt.Errorf("socketpair: %w", unix.EMFILE), "ulimit -n"},
		{"anything else", errors.New("odd"), "report the text above as a bug"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := jailHint(tt.err, false); !strings.Contains(got, tt.want) {
				t.Errorf("the hint is %q, want %q in it", got, tt.want)
			}
		})
	}
}

func TestHintForNamespacesKnowsWhoAsks(t *testing.T) {
	if got := cloneHint(unix.EPERM, true); !strings.Contains(got, "CAP_SYS_ADMIN") || strings.Contains(got, "run sbx as root") {
		t.Errorf("root is told %q", got)
	}
	if got := cloneHint(unix.EPERM, false); !strings.Contains(got, "run sbx as root") {
		t.Errorf("a plain user is told %q", got)
	}
}

func TestHintForAPlan(t *testing.T) {
	if got := planHint(fmt.Errorf("show: %w", jail.ErrNotShown)); !strings.Contains(got, "the folder in it") {
		t.Errorf("of a path that is never shown: %q", got)
	}
	if got := planHint(unix.EINVAL); !strings.Contains(got, "sbx profile show") {
		t.Errorf("of anything else: %q", got)
	}
}

func TestErrorSaysWhatWasTriedOnWhatAndWhatWasAnswered(t *testing.T) {
	tests := []struct {
		err  *Error
		want string
	}{
		{&Error{Op: "make pipes"}, "make pipes"},
		{&Error{Op: "make pipes", Err: unix.EMFILE}, "make pipes: too many open files"},
		{&Error{Op: "read script", Path: "a.py", Err: unix.ENOENT, Hint: "look"}, "read script a.py: no such file or directory"},
		{&Error{Op: "run", Path: "-"}, "run -"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("the text is %q, want %q", got, tt.want)
		}
		if !errors.Is(tt.err, tt.err.Err) && tt.err.Err != nil {
			t.Errorf("%v hides its cause", tt.err)
		}
	}
}
