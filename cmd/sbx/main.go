// The runtime is not to read the cgroup's processor share at every start, of
// which a run has two, nor to look again later: sbx sets GOMAXPROCS itself.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command sbx runs untrusted Python in a jail that the kernel enforces, and
// says everything that it did.
//
// The script's standard output and error are its own; what sbx has to say goes
// to standard error, each remark beginning with "sbx:", and its data to the file
// named by --report.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/report"
	"github.com/sbxproject/sbx/pkg/sandbox"
)

// version is set by the linker.
var version = "devel"

// exitFailed is the exit status when sbx itself failed or refused to start.
const exitFailed = 125

func main() {
	sandbox.MaybeStage()
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: what a test calls.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// A reader of our output that goes away must end in an error of write(2),
	// not in our death: the report is still to be written.
	signal.Ignore(unix.SIGPIPE, unix.SIGXFSZ)
	c := &command{stdin: stdin, stdout: stdout, stderr: stderr}
	err := c.app().Run(args)
	if err == nil {
		return c.exit
	}
	return c.fail(err)
}

// command is one invocation.
type command struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	exit           int // the exit status of a command that worked
}

// usageError is a command line that does not make sense.
type usageError struct{ text, hint string }

func (e *usageError) Error() string { return e.text }

// fail prints an error for people and returns the exit status for it.
func (c *command) fail(err error) int {
	status, hint := exitFailed, ""
	var own *sandbox.Error
	var field *profile.FieldError
	var usage *usageError
	switch {
	case errors.As(err, &own):
		hint = own.Hint
		if own.Exit != 0 {
			status = own.Exit
		}
	case errors.As(err, &field):
		hint = field.Hint
		if hint == "" {
			hint = "sbx profile show strict prints a whole profile; sbx profile check FILE looks at one without running anything"
		}
	case errors.As(err, &usage):
		hint = usage.hint
	}
	fmt.Fprintf(c.stderr, "sbx: error: %s\n", report.EscapeTerminal(err.Error()))
	if hint != "" {
		fmt.Fprintf(c.stderr, "sbx: hint: %s\n", report.EscapeTerminal(hint))
	}
	return status
}

func (c *command) app() *cli.App {
	app := &cli.App{
		Name:                      "sbx",
		Usage:                     "run untrusted Python in a jail that the kernel enforces, and say everything that it did",
		Version:                   version,
		Reader:                    c.stdin,
		Writer:                    c.stdout,
		ErrWriter:                 c.stderr,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              onUsageError,
		Commands:                  []*cli.Command{c.runCommand(), c.profileCommand(), c.reportCommand(), c.gcCommand(), c.versionCommand()},
		Action: func(ctx *cli.Context) error {
			if name := ctx.Args().First(); name != "" {
				return &usageError{fmt.Sprintf("unknown command %q", name), "commands: run, profile, report, gc, version; to run a script: sbx run " + name}
			}
			return cli.ShowAppHelp(ctx)
		},
	}
	for _, cmd := range app.Commands {
		cmd.OnUsageError = onUsageError
		for _, sub := range cmd.Subcommands {
			sub.OnUsageError = onUsageError
		}
	}
	return app
}

// group is the action of a command that only has commands beneath it.
func group(commands string) cli.ActionFunc {
	return func(ctx *cli.Context) error {
		if name := ctx.Args().First(); name != "" {
			return &usageError{fmt.Sprintf("%s: unknown command %q", ctx.Command.HelpName, name), "commands: " + commands}
		}
		return cli.ShowSubcommandHelp(ctx)
	}
}

// onUsageError keeps an unknown flag from printing pages of help.
func onUsageError(ctx *cli.Context, err error, _ bool) error {
	name := "sbx"
	if ctx.Command != nil && ctx.Command.Name != "" && ctx.Command.Name != name {
		name += " " + ctx.Command.Name
	}
	return &usageError{err.Error(), "see " + name + " --help"}
}

func (c *command) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version of sbx and of what it is built on",
		Action: func(*cli.Context) error {
			_, err := fmt.Fprintln(c.stdout, "sbx", version)
			return err
		},
	}
}
