package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// run is the whole program: it returns the exit code and ends what it started.
// When ctx ends, a command that serves stops in good order.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(os.Environ(), realParts())
	root.SetArgs(append([]string{}, args...)) // by nil cobra would take the arguments of the process
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(stderr, root.ExecuteContext(ctx))
}

// newRoot makes the command tree; p makes what `run` serves with.
func newRoot(environ []string, p parts) *cobra.Command {
	root := &cobra.Command{
		Use:           "sentinelproxy",
		Short:         "A Redis sidecar that follows Sentinel and makes a failover a pause",
		Args:          noSuchCommand,
		SilenceErrors: true, // report prints them
		SilenceUsage:  true, // a mistake is one line, not one page
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return config.Explain(err, cmd.Flags()) })
	root.AddCommand(newRunCommand(environ, p), newSwitchoverCommand(environ), newCheckCommand(environ), newStatusCommand(environ),
		newDemoCommand(p), newDrillCommand(environ, p), newHealthcheckCommand(environ), newVersionCommand(), newManCommand(environ))
	completeFlags(root)
	return root
}

// noSuchCommand refuses arguments of the root: they are misspelt commands.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2 // edits
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + near[0] + "?"
	}
	return fmt.Errorf("%q: no such command%s", args[0], hint)
}
