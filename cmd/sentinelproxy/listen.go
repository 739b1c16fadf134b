package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
)

// listenAll opens every listener or none, by open. The error has one line for each that
// could not be opened.
func listenAll(ctx context.Context, where []config.Listen, open openFunc) ([]net.Listener, error) {
	var (
		lns  []net.Listener
		errs []error
	)
	for _, w := range where {
		ln, err := open(ctx, w)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		lns = append(lns, ln)
	}
	if len(errs) > 0 {
		closeAll(lns)
		return nil, errors.Join(errs...)
	}
	return lns, nil
}

func closeAll(lns []net.Listener) {
	for _, ln := range lns {
		_ = ln.Close() // closed already, or of no use any more
	}
}

// listen opens one listener. A Unix socket's file goes with its listener.
func listen(ctx context.Context, w config.Listen) (net.Listener, error) {
	if w.Network == "unix" {
		if err := removeStale(ctx, w.Address); err != nil {
			return nil, err
		}
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, w.Network, w.Address)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err // it names the address once more
		}
		return nil, fmt.Errorf("cannot listen on %s: %w", w, err)
	}
	return ln, nil
}

// removeStale removes a socket that nobody listens on, as a crash leaves it.
// It touches no other file, and none that answers.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("cannot listen on unix:%s: %w", path, err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("cannot listen on unix:%s: there is a file of that name, and it is no socket", path)
	}
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("cannot listen on unix:%s: another process listens there", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("cannot listen on unix:%s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cannot listen on unix:%s: %w", path, err)
	}
	return nil
}
