package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/doctor"
)

// checkDeadline is how long a check may take in all.
const checkDeadline = 15 * time.Second

// checkOptions are the flags of `sentinelproxy check` beside those of run.
type checkOptions struct {
	json   bool
	strict bool
	trust  adminTrust
}

func newCheckCommand(environ []string) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Diagnose a configuration and what it points to",
		Long: `Diagnose a configuration and what it points to.

It takes the flags, variables and file of "run", asks all Sentinels and nodes at
the same time, for 15s at most, and changes nothing. Each finding has a severity,
a reason and what to do: Sentinels that do not answer, agree or make a majority,
dead entries, announced addresses that can't be reached from here, replicas that
lag or are never promoted, missing rights, certificates, clocks, limits, ports.

Exit code: 0 if there is no error (with --strict, no warning either); 1 if there
is one; 2 for a wrong configuration.`,
		Example: `  sentinelproxy check --config /etc/sentinelproxy.yaml
  sentinelproxy check --master mymaster --sentinel s1:26379 --sentinel s2:26379 --json`,
		Args: cobra.NoArgs,
	}
	flags := config.AddFlags(cmd.Flags())
	o.trust.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.json, "json", false, "print the findings as JSON")
	cmd.Flags().BoolVar(&o.strict, "strict", false, "a warning is as bad as an error for the exit code")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(config.Sources{Flags: flags, Environ: environ})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), checkDeadline)
		defer cancel()
		return o.tell(cmd.OutOrStdout(), diagnose(ctx, cfg, o.trust))
	}
	return cmd
}

// diagnose looks at everything at the same time and returns what it finds, the worst first.
// trust is how a sidecar that runs here is asked.
func diagnose(ctx context.Context, cfg config.Config, trust adminTrust) []doctor.Finding {
	all := make([][]doctor.Finding, len(cfg.Masters)+1)
	var wg sync.WaitGroup
	for i, m := range cfg.Masters {
		wg.Go(func() {
			o := doctor.Options{Master: m, Orders: cfg.Control.Socket != "" || cfg.Control.Token != ""}
			all[i] = doctor.Judge(o, doctor.Collect(ctx, o), cfg.Certificates.WarnDays)
		})
	}
	wg.Go(func() { all[len(cfg.Masters)] = checkHere(ctx, cfg, trust) })
	wg.Wait()
	list := slices.Concat(all...)
	doctor.Sort(list)
	return list
}

// tell prints the findings; the error has the exit code that they deserve.
func (o checkOptions) tell(w io.Writer, list []doctor.Finding) error {
	var err error
	if o.json {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		err = enc.Encode(struct {
			Worst    doctor.Severity  `json:"worst"`
			Findings []doctor.Finding `json:"findings"`
		}{doctor.Worst(list), append([]doctor.Finding{}, list...)})
	} else {
		_, err = io.WriteString(w, findingsText(list))
	}
	if err != nil {
		return &exitError{exitVerdict, err}
	}
	limit := doctor.Error
	if o.strict {
		limit = doctor.Warning
	}
	if worst := doctor.Worst(list); worst >= limit {
		return &exitError{exitVerdict, fmt.Errorf("the check found %s", counted(list))}
	}
	return nil
}

// findingsText is a finding per paragraph, and how many there are.
func findingsText(list []doctor.Finding) string {
	var b strings.Builder
	for _, f := range list {
		about := strings.TrimSpace(printable(f.Master) + " " + printable(f.Subject))
		if about != "" {
			about += ": "
		}
		fmt.Fprintf(&b, "%-7s  %s%s [%s]\n", f.Severity, about, printable(f.Reason), f.Check)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "         to do: %s\n", printable(f.Remedy))
		}
	}
	fmt.Fprintf(&b, "\n%s\n", counted(list))
	return b.String()
}

// counted is how many findings of each severity there are.
func counted(list []doctor.Finding) string {
	n := make(map[doctor.Severity]int)
	for _, f := range list {
		n[f.Severity]++
	}
	many := func(s doctor.Severity) string {
		if n[s] == 1 {
			return fmt.Sprintf("1 %s", s)
		}
		return fmt.Sprintf("%d %ss", n[s], s)
	}
	return many(doctor.Error) + ", " + many(doctor.Warning)
}

// printable takes out of a text of others what a terminal would obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
