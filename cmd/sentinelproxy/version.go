package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/sentinelproxy/sentinelproxy/health"
)

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print which sentinelproxy this is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := build()
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(b)
			}
			rev := b.Revision
			if rev == "" {
				rev = "unknown revision"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "sentinelproxy %s (%s, %s)\n", b.Version, rev, b.GoVersion)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// What the linker was told where the Go tool could not see it, as in an image that is
// built without the repository: -X main.linkedVersion=v1.2.3. Nothing changes them.
var linkedVersion, linkedRevision string

// build returns what the Go tool recorded in this binary, or what the linker was told.
func build() health.Build {
	b := health.Build{Version: "(devel)"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.GoVersion = info.GoVersion
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if b.Revision != "" {
		b.Revision += dirty
	}
	b.Version, b.Revision = cmp.Or(linkedVersion, b.Version), cmp.Or(linkedRevision, b.Revision)
	return b
}
