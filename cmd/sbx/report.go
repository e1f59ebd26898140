package main

import (
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/sbxproject/sbx/pkg/report"
	"github.com/sbxproject/sbx/pkg/sandbox"
)

func (c *command) reportCommand() *cli.Command {
	return &cli.Command{
		Name:   "report",
		Usage:  "read the report of a run",
		Action: group("show"),
		Subcommands: []*cli.Command{
			{Name: "show", Usage: "summary and timeline", ArgsUsage: "FILE", Action: c.reportShow},
		},
	}
}

func (c *command) reportShow(ctx *cli.Context) error {
	args, err := names(ctx, 1, "FILE")
	if err != nil {
		return err
	}
	// Without waiting: a FIFO that nobody writes to is an empty report.
	f, err := os.OpenFile(args[0], os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return &sandbox.Error{Op: "open report", Err: err, Hint: "name a file that sbx run --report wrote"}
	}
	defer f.Close()
	r, err := report.Read(f)
	if err != nil {
		return &sandbox.Error{Op: "read report", Path: args[0], Err: err, Hint: "the file is not a whole report of sbx run --report"}
	}
	if err := r.WriteText(c.stdout); err != nil {
		return err
	}
	return r.WriteTimeline(c.stdout)
}
