package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sentinelproxy/sentinelproxy/internal/manpage"
)

// newManCommand makes the command that packagers make the manual pages with.
func newManCommand(environ []string) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:    "man",
		Short:  "Write the manual pages",
		Hidden: true,
		Long: `Write the manual pages, one of each command.

The same source makes the same pages: their date is that of $SOURCE_DATE_EPOCH or
of the revision, and there is none where neither is known.`,
		Example: "  sentinelproxy man --dir /usr/local/share/man/man1",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := manHeader(environ)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return impossible(err)
			}
			if err := writePages(cmd.Root(), h, dir); err != nil {
				return impossible(err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "man", "where to write them")
	return cmd
}

func manHeader(environ []string) (manpage.Header, error) {
	h := manpage.Header{Version: build().Version, Tail: []manpage.Section{{
		Title: "EXIT STATUS",
		Text: `0 as expected; 1 it ran and the verdict is bad, or it could not be done; 2 wrong flags or configuration;
3 the environment made it impossible.`,
	}}}
	if v := lookup(environ, "SOURCE_DATE_EPOCH"); v != "" {
		s, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return h, fmt.Errorf("SOURCE_DATE_EPOCH: found %q; want seconds since 1970", v)
		}
		h.Date = time.Unix(s, 0).UTC().Format(time.DateOnly)
		return h, nil
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				h.Date = t.UTC().Format(time.DateOnly)
			}
		}
	}
	return h, nil
}

// writePages writes the page of cmd and of all commands below it that help shows.
func writePages(cmd *cobra.Command, h manpage.Header, dir string) error {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			if err := writePages(sub, h, dir); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(dir, manpage.Name(cmd)+".1"), manpage.Page(cmd, h), 0o644)
}
