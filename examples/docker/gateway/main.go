package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitOK    = 0
	exitBad   = 1 // unhealthy, or it could not serve
	exitUsage = 2
)

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args, environ []string, stderr io.Writer) int {
	cfg, err := readConfig(environ)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintln(stderr, "gateway: "+line)
		}
		return exitUsage
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	switch strings.Join(args, " ") {
	case "":
		err = serveGateway(ctx, cfg, log)
	case "upstream":
		err = serve(ctx, cfg.Listen, upstream(), log)
	case "healthcheck":
		err = checkHealth(ctx, cfg)
	default:
		fmt.Fprintf(stderr, "gateway: found %q; want nothing, upstream or healthcheck\n", args)
		return exitUsage
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(stderr, "gateway: "+err.Error())
		return exitBad
	}
	return exitOK
}
