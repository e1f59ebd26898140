package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/sbxproject/sbx/pkg/cgroup"
	"github.com/sbxproject/sbx/pkg/sandbox"
)

func (c *command) gcCommand() *cli.Command {
	return &cli.Command{
		Name:  "gc",
		Usage: "remove the cgroups of runs whose sbx was killed",
		Description: "Processes and mounts of a run go with its sbx, however that ends. An empty cgroup can be\n" +
			"left by one that was killed; the next run beside it removes it, and this command does so now.",
		Action: c.gc,
	}
}

func (c *command) gc(ctx *cli.Context) error {
	if name := ctx.Args().First(); name != "" {
		return &usageError{fmt.Sprintf("sbx gc takes no arguments, and got %q", name), "see sbx gc --help"}
	}
	found, err := cgroup.CollectAll()
	if err != nil {
		return &sandbox.Error{Op: "look for groups of runs that were killed", Err: err, Hint: "mount /proc and /sys/fs/cgroup, and look as the user who started these runs, or as root"}
	}
	fmt.Fprintf(c.stdout, "removed %s of runs that were killed\n", groups(found.Removed))
	if found.Left > 0 {
		fmt.Fprintf(c.stderr, "sbx: warning: %s of such runs still hold processes: the kernel is ending them, or something moved others there\n", groups(found.Left))
	}
	return nil
}

func groups(n int) string {
	if n == 1 {
		return "1 group"
	}
	return fmt.Sprintf("%d groups", n)
}
