package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// How long one run of redis-benchmark is meant to last, and how many rounds
// there are.
const (
	fullRun     = 1200 * time.Millisecond
	shortRun    = 500 * time.Millisecond
	fullRounds  = 7
	shortRounds = 3
	valuesRun   = 500 * time.Millisecond
	// valuesBudget ends a campaign of values or subscribers in time for the six
	// minutes that its make target promises.
	valuesBudget = 330 * time.Second
	shortBudget  = 110 * time.Second // no round is begun that would end later
)

// options is what the command line asks for.
type options struct {
	cmd         command
	short       bool
	strict      bool
	rounds      int
	run         time.Duration // length of one run of the load generator
	budget      time.Duration // for everything, 0 for no limit
	cells       []cell
	candidates  []string      // names, see specs
	out         string        // the report's file
	proxyBinary string        // "" builds ./cmd/sentinelproxy
	proxyArgs   []string      // with placeholders, see expandArgs
	connections int           // idle only: client connections
	rate        int           // outage only: commands a second
	length      time.Duration // outage only: of the Sentinels' part
}

// command is what bench was asked to do. The zero value is invalid.
type command int

// The commands.
const (
	_              command = iota
	cmdBeside              // measure the candidates side by side
	cmdIdle                // measure what idle clients cost
	cmdOutage              // measure outages at a steady rate
	cmdSizes               // measure what large replies cost others
	cmdTLS                 // measure the candidates that terminate TLS
	cmdValues              // measure values of 1 KiB to 1 MiB
	cmdSubscribers         // measure what subscribers are sent
)

// parseOptions reads the flags of a command. Every error but flag.ErrHelp is an
// errUsage.
func parseOptions(cmd command, args []string, stderr io.Writer) (options, error) {
	o := options{cmd: cmd}
	var cells, candidates, proxyArgs string
	defaultCandidates, defaultOut := candidateNames(), "latest"
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	switch cmd {
	case cmdTLS:
		defaultCandidates, defaultOut = namesOf(tlsSpecs()), "tls"
		fs.IntVar(&o.rounds, "rounds", 0, "rounds, each measuring every cell of every candidate (default 7)")
		fs.StringVar(&cells, "cells", targetCells, "comma-separated cells such as c50P1/64 or c50P16/4096/get")
	case cmdBeside:
		fs.BoolVar(&o.short, "short", false, "only the cells with a target, 3 rounds, under two minutes")
		fs.IntVar(&o.rounds, "rounds", 0, "rounds, each measuring every cell of every candidate (default 7, short 3)")
		fs.StringVar(&cells, "cells", "", "comma-separated cells such as c50P1, c500P1/64 or c50P16/4096/get (default all)")
	case cmdValues:
		defaultCandidates, defaultOut = besideHAProxy(), "values"
		fs.IntVar(&o.rounds, "rounds", 0, "rounds, each measuring every cell of every candidate (default 7, or as many as 5½ minutes have room for)")
		fs.StringVar(&cells, "cells", valueCells, "comma-separated cells such as c50P1/65536 or c50P16/4096/get")
	case cmdSubscribers:
		defaultCandidates, defaultOut = besideHAProxy(), "subscribers"
		fs.IntVar(&o.rounds, "rounds", 0, "rounds, each measuring every cell of every candidate (default 7, or as many as 5½ minutes have room for)")
		fs.IntVar(&o.connections, "subscribers", 1000, "subscribed connections")
	case cmdIdle:
		defaultCandidates, defaultOut = []string{nameSidecar}, "idle"
		fs.IntVar(&o.connections, "connections", 10_000, "idle client connections")
	case cmdSizes:
		defaultCandidates, defaultOut = []string{nameDirect, nameSidecar}, "sizes"
	case cmdOutage:
		defaultCandidates, defaultOut = []string{nameSidecar}, "outage"
		fs.IntVar(&o.rate, "rate", 1000, "commands a second")
		fs.DurationVar(&o.length, "length", 10*time.Minute, "how long the Sentinels' part takes, half of it without them")
	}
	fs.BoolVar(&o.strict, "strict", false, "exit 1 if a target is missed beyond the noise")
	fs.StringVar(&candidates, "candidates", strings.Join(defaultCandidates, ","), "comma-separated candidates")
	fs.StringVar(&o.out, "out", "", "file the report is written to (default bench/results/<name>.md)")
	fs.StringVar(&o.proxyBinary, "proxy-binary", "", "measure this program as sentinelproxy instead of building ./cmd/sentinelproxy")
	fs.StringVar(&proxyArgs, "proxy-args", defaultProxyArgs,
		"its arguments; {listen} {admin} {master} {sentinels} {redis} are filled in; without {admin} nothing is scraped")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%w: unexpected argument %q", errUsage, fs.Arg(0))
	}
	o.proxyArgs = strings.Fields(proxyArgs)
	o.run = fullRun
	defaultRounds, defaultCells := fullRounds, fullCells
	if cmd == cmdValues || cmd == cmdSubscribers {
		o.run, o.budget = valuesRun, valuesBudget
	}
	if o.short {
		o.run, o.budget = shortRun, shortBudget
		defaultRounds, defaultCells, defaultOut = shortRounds, targetCells, "short"
	}
	if o.rounds == 0 {
		o.rounds = defaultRounds
	}
	if cells == "" {
		cells = defaultCells
	}
	if o.out == "" {
		o.out = filepath.Join("bench", "results", defaultOut+".md")
	}
	return o, o.resolve(cmd, cells, candidates)
}

// resolve parses the lists and checks the numbers; it reports every mistake.
func (o *options) resolve(cmd command, cells, candidates string) error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{errUsage}, args...)...))
	}
	var err error
	if o.cells, err = parseCells(cells); err != nil {
		wrong("--cells: %w", err)
	}
	if o.rounds < 1 {
		wrong("--rounds: want 1 or more, got %d", o.rounds)
	}
	if cmd == cmdOutage && (o.rate < outageConns || o.rate > 100_000) {
		wrong("--rate: want %d to 100000, got %d", outageConns, o.rate)
	}
	if cmd == cmdOutage && o.length < 2*time.Second {
		wrong("--length: want 2s or more, got %v", o.length)
	}
	if cmd == cmdSubscribers {
		o.run, o.cells = fanRun, fanCells(o.connections)
	}
	if cmd == cmdSubscribers && o.connections < 1 {
		wrong("--subscribers: want 1 or more, got %d", o.connections)
	} else if o.connections < 0 {
		wrong("--connections: want 0 or more, got %d", o.connections)
	}
	for name := range strings.SplitSeq(candidates, ",") {
		name = strings.TrimSpace(name)
		switch {
		case !slices.Contains(namesOf(o.specs()), name):
			wrong("--candidates: %q is none of %s", name, strings.Join(namesOf(o.specs()), ", "))
		case !slices.Contains(o.candidates, name):
			o.candidates = append(o.candidates, name)
		}
	}
	return errors.Join(errs...)
}

// scrapes reports whether the sidecar is told where to serve its metrics.
func (o *options) scrapes() bool {
	return strings.Contains(strings.Join(o.proxyArgs, " "), "{admin}")
}

// moduleRoot returns the directory of the nearest go.mod at or above the
// working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("%w: run this inside the repository: no go.mod at or above the working directory", errUsage)
		}
		dir = parent
	}
}
