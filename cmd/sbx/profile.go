package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/report"
	"github.com/sbxproject/sbx/pkg/sandbox"
)

func (c *command) profileCommand() *cli.Command {
	return &cli.Command{
		Name:  "profile",
		Usage: "list, show, check and compare policies",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "the built-in profiles", Action: c.profileList},
			{Name: "show", Usage: "the whole policy of a profile, with what it inherits", ArgsUsage: "NAME|FILE", Action: c.profileShow},
			{Name: "check", Usage: "say whether a profile is valid, and where it is not", ArgsUsage: "FILE...", Action: c.profileCheck},
			{Name: "diff", Usage: "what changes from one profile to another", ArgsUsage: "A B", Action: c.profileDiff},
		},
	}
}

// names takes exactly n arguments, or with n < 0 at least one.
func names(ctx *cli.Context, n int, usage string) ([]string, error) {
	args := ctx.Args().Slice()
	if n >= 0 && len(args) != n || n < 0 && len(args) == 0 {
		return nil, &usageError{fmt.Sprintf("%s: want %s, have %d argument(s)", ctx.Command.HelpName, usage, len(args)), "see " + ctx.Command.HelpName + " --help"}
	}
	return args, nil
}

func (c *command) profileList(ctx *cli.Context) error {
	if _, err := names(ctx, 0, "no argument"); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, name := range profile.Builtin() {
		p, err := sandbox.LoadProfile(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%s\n", name, p.Description)
	}
	return w.Flush()
}

func (c *command) profileShow(ctx *cli.Context) error {
	args, err := names(ctx, 1, "NAME|FILE")
	if err != nil {
		return err
	}
	p, err := sandbox.LoadProfile(args[0])
	if err != nil {
		return err
	}
	text, err := p.Show()
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(c.stdout, text)
	return err
}

func (c *command) profileCheck(ctx *cli.Context) error {
	args, err := names(ctx, -1, "FILE...")
	if err != nil {
		return err
	}
	for _, name := range args {
		p, err := sandbox.LoadProfile(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.stdout, "%s: valid (sha256 %s)\n", report.EscapeTerminal(name), p.SHA256())
	}
	return nil
}

func (c *command) profileDiff(ctx *cli.Context) error {
	args, err := names(ctx, 2, "A B")
	if err != nil {
		return err
	}
	a, err := sandbox.LoadProfile(args[0])
	if err != nil {
		return err
	}
	b, err := sandbox.LoadProfile(args[1])
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, change := range profile.Diff(*a, *b) {
		fmt.Fprintf(w, "%s\t%s\t->\t%s\n", change.Field, change.From, change.To)
	}
	return w.Flush()
}
