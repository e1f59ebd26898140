package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/sbxproject/sbx/pkg/profile"
	"github.com/sbxproject/sbx/pkg/report"
	"github.com/sbxproject/sbx/pkg/sandbox"
)

func (c *command) profileCommand() *cli.Command {
	return &cli.Command{
		Name:   "profile",
		Usage:  "list, show, check and compare policies",
		Action: group("list, show, check, diff"),
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "the built-in profiles", Action: c.profileList},
			{Name: "show", Usage: "the whole policy of a profile, with what it inherits and imports", ArgsUsage: "NAME|FILE", Action: c.profileShow},
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

// table aligns the columns of what is printed to it.
func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

func (c *command) profileList(ctx *cli.Context) error {
	if _, err := names(ctx, 0, "no argument"); err != nil {
		return err
	}
	w := table(c.stdout)
	fmt.Fprintln(w, "PROFILE\tWALL\tCPU\tMEMORY\tPIDS\tNETWORK\tFOR")
	for _, name := range profile.Builtin() {
		p, err := sandbox.LoadProfile(name)
		if err != nil {
			return err
		}
		value := func(field string) string { return strings.Replace(p.Value(field), "no limit", "-", 1) }
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name,
			value("limits.wall"), value("limits.cpu_time"), value("limits.memory"), value("limits.pids"), value("network"), p.Description)
	}
	return w.Flush()
}

func (c *command) profileShow(ctx *cli.Context) error {
	args, err := names(ctx, 1, "NAME|FILE")
	if err != nil {
		return err
	}
	check, err := sandbox.CheckProfile(args[0])
	if err != nil {
		return err
	}
	for _, note := range importNotes(check) {
		fmt.Fprintf(c.stdout, "# %s\n", report.EscapeTerminal(note))
	}
	_, err = io.WriteString(c.stdout, check.Profile.Show())
	return err
}

func (c *command) profileCheck(ctx *cli.Context) error {
	args, err := names(ctx, -1, "FILE...")
	if err != nil {
		return err
	}
	for _, name := range args {
		check, err := sandbox.CheckProfile(name)
		if err != nil {
			c.exit = c.failAll(err)
			continue
		}
		p := check.Profile
		fmt.Fprintf(c.stdout, "%s: valid\n", report.EscapeTerminal(name))
		fmt.Fprintf(c.stdout, "  policy: sha256 %s\n", p.SHA256())
		fmt.Fprintf(c.stdout, "  filter: %d instructions\n", check.Instructions)
		for _, note := range importNotes(check) {
			fmt.Fprintf(c.stdout, "  %s\n", report.EscapeTerminal(note))
		}
		if p.Extends == "" {
			continue
		}
		parent, err := sandbox.LoadProfile(p.Extends)
		if err != nil {
			return err
		}
		for _, change := range profile.Diff(*parent, *p) {
			if change.Wider {
				fmt.Fprintf(c.stdout, "  wider than %s: %s\n", report.EscapeTerminal(p.Extends), report.EscapeTerminal(change.Field+": "+changeText(change)))
			}
		}
	}
	return nil
}

// failAll prints each mistake of a profile as an error of its own.
func (c *command) failAll(err error) int {
	var all profile.Mistakes
	if !errors.As(err, &all) {
		return c.fail(err)
	}
	status := 0
	for _, e := range all {
		status = c.fail(e)
	}
	return status
}

// importNotes says what became of an imported filter.
func importNotes(check *sandbox.ProfileCheck) []string {
	if check.Import == nil {
		return nil
	}
	calls := 0
	for _, r := range check.Import.Rules {
		calls += len(r.Names)
	}
	notes := []string{fmt.Sprintf("import: %s, system calls: %d, rules: %d", check.Import.File, calls, len(check.Import.Rules))}
	if list := check.Import.Conditional; len(list) > 0 {
		notes = append(notes, "import: left out, for a capability or a newer kernel: "+strings.Join(list, " "))
	}
	if list := check.Forbidden; len(list) > 0 {
		notes = append(notes, "import: left out, never allowed as it stands there: "+strings.Join(list, " "))
	}
	if list := check.Unknown; len(list) > 0 {
		notes = append(notes, fmt.Sprintf("import: left out, no system call of this machine: %s and its like, names: %d", list[0], len(list)))
	}
	return notes
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
	w := table(c.stdout)
	for _, change := range profile.Diff(*a, *b) {
		direction := ""
		switch {
		case change.Wider:
			direction = "wider"
		case change.Narrower:
			direction = "narrower"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", change.Field, direction, report.EscapeTerminal(changeText(change)))
	}
	return w.Flush()
}

// changeText is the change as text: of a list, what came and what went, as much
// of it as a line takes.
func changeText(change profile.Change) string {
	if change.Added == nil && change.Removed == nil {
		return change.From + " -> " + change.To
	}
	var parts []string
	for _, s := range change.Added {
		parts = append(parts, "+"+abridge(s))
	}
	for _, s := range change.Removed {
		parts = append(parts, "-"+abridge(s))
	}
	const most = 16
	if more := len(parts) - most; more > 0 {
		parts = append(parts[:most], fmt.Sprintf("and %d more", more))
	}
	separator := " "
	if change.Field == "seccomp.rules" {
		separator = "; "
	}
	return strings.Join(parts, separator)
}

func abridge(s string) string {
	const most = 80
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
