package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sentinelproxy/sentinelproxy/failover/drill"
)

// deadmanName is the hidden subcommand of drill that a dead-man runs.
const deadmanName = "dead-man"

// deadman returns what starts this program as a dead-man.
func deadman(stderr io.Writer) drill.Deadman {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	return drill.Deadman{Argv: []string{self, "drill", deadmanName}, Stderr: stderr}
}

// newDeadmanCommand is not for people: a drill starts it, and talks to it over a
// pipe.
func newDeadmanCommand() *cobra.Command {
	return &cobra.Command{
		Use:    deadmanName,
		Short:  "Undo a fault when the drill that made it dies",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := drill.RunDeadman(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()); err != nil {
				return impossible(err)
			}
			return nil
		},
	}
}
