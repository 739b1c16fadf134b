// Command bench measures sentinelproxy beside what stands in its place today.
//
//	go run ./bench            throughput, latency and CPU per command, about half an hour
//	go run ./bench --short    the cells with a target only, under two minutes
//	go run ./bench tls        throughput and CPU per command where TLS is terminated, about 5 minutes
//	go run ./bench values       values of 1 KiB to 1 MiB, about 6 minutes
//	go run ./bench subscribers  what 1 000 subscribers are sent, about 6 minutes
//	go run ./bench idle       memory and backend connections under 10 000 idle clients
//	go run ./bench sizes      latencies beside replies of 100 MB, directly and through the sidecar
//	go run ./bench outage     latencies while every Sentinel, then every Redis, is gone; 11 minutes
//
// Everything runs on loopback: a real group (a master, two replicas, three
// Sentinels), every candidate before it at the same time, and redis-benchmark
// before one candidate after another. The candidates take turns inside each
// round, in rotating order, so that a noisy minute hits all of them alike; what
// counts is the median over the rounds. HAProxy is measured a second time as if
// it were another proxy: that A/A row is the noise of the machine, and no claim
// smaller than it means anything.
//
// Exit status: 0 measured (whatever the verdict), 1 a measurement failed,
// 2 wrong usage, 3 something needed is missing. With --strict a missed target
// is exit 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes, the same as sentinelproxy's own.
const (
	exitOK      = 0
	exitVerdict = 1
	exitUsage   = 2
	exitMissing = 3
)

var (
	// errUsage means the flags make no sense; the message names the flag.
	errUsage = errors.New("usage")
	// errMissing means a needed program is not installed and could not be.
	errMissing = errors.New("missing")
	// errTarget means a target was missed beyond the noise, under --strict.
	errTarget = errors.New("target missed")
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run does what args ask and returns the exit code. Everything it started has
// ended when it returns.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := dispatch(ctx, args, stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "bench: interrupted, nothing was written")
		return exitVerdict
	case errors.Is(err, errUsage):
		fmt.Fprintln(stderr, "bench:", err)
		return exitUsage
	case errors.Is(err, errMissing):
		fmt.Fprintln(stderr, "bench:", err)
		return exitMissing
	}
	fmt.Fprintln(stderr, "bench:", err)
	return exitVerdict
}

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cmd, do := cmdBeside, runCampaign
	if len(args) > 0 {
		switch args[0] {
		case "idle":
			cmd, do, args = cmdIdle, runIdle, args[1:]
		case "tls":
			cmd, args = cmdTLS, args[1:]
		case "values":
			cmd, args = cmdValues, args[1:]
		case "subscribers":
			cmd, args = cmdSubscribers, args[1:]
		case "sizes":
			cmd, do, args = cmdSizes, runSizes, args[1:]
		case "outage":
			cmd, do, args = cmdOutage, runOutage, args[1:]
		}
	}
	o, err := parseOptions(cmd, args, stderr)
	if err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	return do(ctx, root, o, stdout, stderr)
}
