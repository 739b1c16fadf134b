package main

import (
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sentinelproxy/sentinelproxy/failover/drill"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/proxy"
)

// completeFlags has shells offer what the flags of cmd, and of those below it, take:
// words where there are some, files where one is wanted, and else nothing.
func completeFlags(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		completeFlags(sub)
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if words, files := flagWords(f); !files {
			// It fails for a flag that is not there or has words already.
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
		}
	})
}

// completeKind offers the kinds of drills, once.
func completeKind(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var kinds []cobra.Completion
	if len(args) == 0 {
		for _, p := range drill.Plans() {
			kinds = append(kinds, cobra.CompletionWithDesc(string(p.Kind), p.Short))
		}
	}
	return kinds, cobra.ShellCompDirectiveNoFileComp
}

// flagWords returns what a flag takes, or that it takes a file.
func flagWords(f *pflag.Flag) (words []string, files bool) {
	switch f.Name {
	case "side":
		return []string{string(drill.SideMajority), string(drill.SideMinority)}, false
	case "when":
		return []string{string(drill.WhenElection), string(drill.WhenPromotion)}, false
	case "failover":
		return failoverChoices(), false
	case "deny-commands":
		return append(slices.Clone(proxy.KnownCommands()), "none"), false
	}
	if words, known := config.Choices(f.Name); known && f.Value.Type() != "path" {
		return words, false
	}
	switch f.Value.Type() {
	case "path":
		return nil, true
	case "string": // a file's name, mostly
		return nil, !slices.Contains([]string{"master", "to", "via", "slo", "prefix", "client-user", "cut-cmd", "heal-cmd"}, f.Name)
	}
	return nil, false // bool, duration, int
}
