package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/report"
	"github.com/sbxproject/sbx/pkg/sandbox"
)

// optionalPaths is a flag that stands alone or with a path: --allow-file-read,
// --allow-file-read=PATH.
type optionalPaths struct {
	all   bool
	paths []string
}

// Set is called with "true" where the flag stands alone.
func (o *optionalPaths) Set(v string) error {
	switch v {
	case "true":
		o.all = true
	case "false", "":
		return errors.New("want no value, or a path")
	default:
		abs, err := filepath.Abs(v)
		if err != nil {
			return err
		}
		o.paths = append(o.paths, abs)
	}
	return nil
}

func (o *optionalPaths) String() string { return strings.Join(o.paths, ",") }

// IsBoolFlag tells the flag package that a value is not needed.
func (o *optionalPaths) IsBoolFlag() bool { return true }

func (c *command) runCommand() *cli.Command {
	read, write := &optionalPaths{}, &optionalPaths{}
	return &cli.Command{
		Name:      "run",
		Usage:     "run a script in the jail and report on it",
		ArgsUsage: "SCRIPT [ARG...]",
		Description: "SCRIPT is a file, a directory with __main__.py, or - for standard input.\n" +
			"Flags of sbx come before SCRIPT; what follows belongs to the script.\n\n" +
			"Exit status: the script's own; 124 a time limit; 125 sbx itself failed or refused\n" +
			"to start; 126 the interpreter or script cannot be run; 127 it is missing;\n" +
			"128+N ended by signal N (137 out of memory).",
		Flags: named(
			&cli.StringFlag{Name: "profile", Aliases: []string{"p"}, Value: "default", Usage: "policy: `NAME` of a built-in profile or path of a file"},
			&cli.StringFlag{Name: "timeout", Aliases: []string{"t"}, Usage: "wall-clock limit in `SECONDS`, fractions allowed"},
			&cli.StringFlag{Name: "cpu-time", Usage: "processor-time limit of the whole tree in `SECONDS`"},
			&cli.StringFlag{Name: "memory", Aliases: []string{"m"}, Usage: "memory limit of the whole tree in `MIB`"},
			&cli.StringFlag{Name: "cpu", Usage: "processor share in `PERCENT` of one processor"},
			&cli.StringFlag{Name: "pids", Usage: "limit on processes and threads, `N`"},
			&cli.StringFlag{Name: "output-limit", Usage: "limit on standard output, and on standard error, in `BYTES`; 0 is none"},
			&cli.StringFlag{Name: "tmp-size", Usage: "size of /tmp, and of the workspace copy, in `MIB`"},
			&cli.StringFlag{Name: "max-denials", Usage: "end a run that was refused more than `N` times in all; 0 is no limit"},
			&cli.StringFlag{Name: "max-same-denial", Usage: "end a run that was refused the same thing more than `N` times; 0 is no limit"},
			&cli.GenericFlag{Name: "allow-file-read", Value: read, Usage: "let the script read files of the jail; with =`PATH`, show that host path read-only as well"},
			&cli.GenericFlag{Name: "allow-file-write", Value: write, Usage: "let the script write to /tmp; with =`PATH`, let it write to that host path"},
			&cli.BoolFlag{Name: "allow-network", Usage: "share the host's network with the script"},
			&cli.StringFlag{Name: "restricted-imports", Usage: "modules that the script may not import, `A,B`"},
			&cli.StringFlag{Name: "allowed-imports", Usage: "the only modules that the script may import, `A,B`"},
			&cli.StringFlag{Name: "hooks", Usage: "`MODE` of the hook inside the interpreter: enforce, observe or off"},
			&cli.BoolFlag{Name: "trace", Usage: "report allowed opens, connects and the like as well"},
			&cli.StringFlag{Name: "workspace", Usage: "give the script a copy of `DIR` to work in"},
			&cli.StringSliceFlag{Name: "env", Usage: "set a variable of the script's environment, `K=V`; may be repeated"},
			&cli.StringFlag{Name: "stdin", Usage: "the script's input: `FILE`, - for sbx's own, or closed", DefaultText: "closed"},
			&cli.StringFlag{Name: "python", Usage: "interpreter: `PATH` or version, such as 3.12", DefaultText: "python3 on PATH"},
			&cli.StringSliceFlag{Name: "require", Usage: "refuse to start without this isolation `LAYER`; may be repeated"},
			&cli.StringSliceFlag{Name: "allow-degraded", Usage: "start although this required `LAYER` is missing; may be repeated"},
			&cli.StringFlag{Name: "report", Aliases: []string{"o"}, Usage: "write the JSON report to `FILE`, or to fd:N"},
			&cli.StringFlag{Name: "format", Value: "text", Usage: "what goes to standard error at the end: `text`, json or quiet"},
		),
		Action: func(ctx *cli.Context) error { return c.runScript(ctx, read, write) },
	}
}

// A namedFlag knows its names. The flags of cli work theirs out with a regular
// expression whenever they are asked, and cli asks all of them about each: half a
// millisecond of a start.
type namedFlag struct {
	fullFlag
	names []string
}

// fullFlag is what help wants of a flag.
type fullFlag interface {
	cli.DocGenerationFlag
	cli.CategorizableFlag
}

func (f namedFlag) Names() []string { return f.names }

func named(flags ...fullFlag) []cli.Flag {
	out := make([]cli.Flag, len(flags))
	for i, f := range flags {
		out[i] = namedFlag{f, f.Names()}
	}
	return out
}

func (c *command) runScript(ctx *cli.Context, read, write *optionalPaths) error {
	start := time.Now()
	if ctx.NArg() == 0 {
		return &usageError{"run: no script is named", "sbx run [flags] SCRIPT [ARG...]; - reads the script from standard input"}
	}
	format := ctx.String("format")
	if format != "text" && format != "json" && format != "quiet" {
		return &usageError{fmt.Sprintf("--format: unknown word %q", format), "want text, json or quiet"}
	}
	spec, err := c.spec(ctx, read, write)
	if err != nil {
		return err
	}
	spec.Start = start
	closeInput, err := c.input(ctx.String("stdin"), spec)
	if err != nil {
		return err
	}
	defer closeInput()
	var file *reportFile
	if name := ctx.String("report"); name != "" {
		if file, err = openReport(name); err != nil {
			return err
		}
		defer file.discard()
		spec.ReportName = name
	}
	run, listen, stop := interruptible(ctx.Context)
	defer stop()
	spec.Meanwhile = listen
	r, err := sandbox.Run(run, *spec)
	stop() // a further signal ends sbx, even where nobody reads what it has to say
	if err != nil {
		return err
	}
	c.exit = r.ExitStatus()
	return c.publish(r, file, format)
}

// publish writes the report, then the summary.
func (c *command) publish(r *report.Report, file *reportFile, format string) error {
	var failed error
	if file != nil {
		failed = file.write(r.WriteJSON)
	}
	switch {
	case format == "json":
		failed = errors.Join(failed, r.WriteJSON(c.stderr))
	case format == "text" && failed == nil:
		failed = r.WriteText(c.stderr)
	}
	return failed
}

// interruptible returns a context that a signal to sbx ends, once listen was called.
// The signal is remembered: the report says who stopped the run. One that comes
// before ends sbx, and with it all that was started so far.
func interruptible(parent context.Context) (ctx context.Context, listen, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	received := make(chan os.Signal, 1)
	listen = func() {
		go func() {
			// In here, because the first call starts a thread and waits for it.
			signal.Notify(received, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
			select {
			case s := <-received:
				if n, ok := s.(unix.Signal); ok {
					cancel(sandbox.Interrupt{Signal: unix.SignalName(n)})
				}
			case <-ctx.Done():
			}
		}()
	}
	return ctx, listen, func() { signal.Stop(received); cancel(nil) }
}

// spec turns the command line into a run.
func (c *command) spec(ctx *cli.Context, read, write *optionalPaths) (*sandbox.Spec, error) {
	p, err := sandbox.LoadProfile(ctx.String("profile"))
	if err != nil {
		return nil, err
	}
	o, err := overrides(ctx, read, write)
	if err != nil {
		return nil, err
	}
	effective, widenings, err := p.With(o)
	if err != nil {
		return nil, err
	}
	for _, kv := range ctx.StringSlice("env") {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" || strings.ContainsRune(kv, 0) {
			return nil, &usageError{fmt.Sprintf("--env: %q is not K=V", kv), "such as --env SEED=7"}
		}
	}
	return &sandbox.Spec{
		Profile: effective, Widenings: widenings,
		Script: ctx.Args().First(), Args: ctx.Args().Tail(),
		Workspace: ctx.String("workspace"), Env: ctx.StringSlice("env"), Python: ctx.String("python"),
		Program: c.stdin, Stdout: c.stdout, Stderr: c.stderr,
		Require: ctx.StringSlice("require"), AllowDegraded: ctx.StringSlice("allow-degraded"),
		CacheDir: cacheDir(), PathEnv: os.Getenv("PATH"), Version: version,
	}, nil
}

// input connects the script's standard input.
func (c *command) input(name string, spec *sandbox.Spec) (closeInput func(), err error) {
	nothing := func() {}
	switch name {
	case "", "closed":
		return nothing, nil
	case "-":
		if spec.Script == "-" {
			return nil, &usageError{"--stdin -: standard input is the script already", "put the script into a file"}
		}
		spec.Stdin = c.stdin
		return nothing, nil
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		e := &sandbox.Error{Op: "open input", Err: err, Hint: "--stdin takes a file, - for sbx's own standard input, or closed"}
		if errors.Is(err, fs.ErrNotExist) {
			e.Hint += "; this file does not exist"
		}
		return nil, e
	}
	spec.Stdin = f
	return func() { f.Close() }, nil
}

// cacheDir is where sbx keeps what it computes once per interpreter and policy.
func cacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "sbx")
}

// overrides reads the flags that change a profile.
func overrides(ctx *cli.Context, read, write *optionalPaths) (profile.Overrides, error) {
	o := profile.Overrides{
		AllowRead: read.all, ReadPaths: read.paths, AllowWrite: write.all, WritePaths: write.paths,
		HostNetwork: ctx.Bool("allow-network"), Trace: ctx.Bool("trace"),
	}
	var err error
	given := ctx.LocalFlagNames()
	isSet := func(flag string) bool { return slices.Contains(given, flag) }
	number := func(flag, unit string, use func(float64)) {
		if !isSet(flag) || err != nil {
			return
		}
		text := ctx.String(flag)
		n, perr := strconv.ParseFloat(text, 64)
		if perr != nil || math.IsNaN(n) || math.IsInf(n, 0) || math.Abs(n) > 1e15 {
			err = &usageError{fmt.Sprintf("--%s: %q is no number", flag, text), "want a number of " + unit}
			return
		}
		use(n)
	}
	whole := func(flag, unit string, use func(int64)) {
		number(flag, unit, func(n float64) {
			if n != math.Trunc(n) {
				err = &usageError{fmt.Sprintf("--%s: %g is no whole number", flag, n), "want a whole number of " + unit}
				return
			}
			use(int64(n))
		})
	}
	span := func(n float64) *time.Duration {
		d := time.Duration(min(max(n, -9e9), 9e9) * float64(time.Second)) // what a Duration holds
		return &d
	}
	mib := func(n int64) *profile.Size {
		s := profile.Size(min(max(n, -1<<40), 1<<40) << 20)
		return &s
	}
	number("timeout", "seconds", func(n float64) { o.Wall = span(n) })
	number("cpu-time", "seconds", func(n float64) { o.CPUTime = span(n) })
	whole("memory", "MiB", func(n int64) { o.Memory = mib(n) })
	whole("tmp-size", "MiB", func(n int64) { o.TmpSize = mib(n) })
	whole("output-limit", "bytes", func(n int64) { s := profile.Size(n); o.Output = &s })
	whole("cpu", "percent", func(n int64) { p := int(n); o.CPUPercent = &p })
	whole("pids", "processes and threads", func(n int64) { o.PIDs = &n })
	whole("max-denials", "refusals", func(n int64) { o.Denials = &n })
	whole("max-same-denial", "refusals", func(n int64) { o.SameDenial = &n })
	if isSet("hooks") {
		mode := profile.HookMode(ctx.String("hooks"))
		o.Hooks = &mode
	}
	if isSet("restricted-imports") {
		list := commaList(ctx.String("restricted-imports"))
		o.RestrictedImports = &list
	}
	if isSet("allowed-imports") {
		list := commaList(ctx.String("allowed-imports"))
		o.AllowedImports = &list
	}
	return o, err
}

// commaList splits A,B; an empty text is an empty list.
func commaList(text string) []string {
	list := []string{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}
