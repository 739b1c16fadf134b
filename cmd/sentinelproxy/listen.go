package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
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
		return listenUnix(ctx, w.Address, &net.ListenConfig{})
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, w.Network, w.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", w, bare(err))
	}
	return ln, nil
}

// bare cuts off an address that the message around it names already.
func bare(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// listenUnix opens a Unix socket, in the place of one that nobody listens on any
// more. Of several sidecars that start at once one gets it and the others are told:
// between the look at the old socket and the listening on the new one, the
// directory's lock keeps them apart. Without that lock a stale socket stays.
func listenUnix(ctx context.Context, path string, lc *net.ListenConfig) (net.Listener, error) {
	unlock, unlocked := lockDir(ctx, filepath.Dir(path))
	if unlocked == nil {
		defer unlock()
	}
	if err := removeStale(ctx, path, unlocked); err != nil {
		return nil, fmt.Errorf("cannot listen on unix:%s: %w", path, err)
	}
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on unix:%s: %w", path, bare(err))
	}
	return ln, nil
}

// removeStale removes a socket that nobody listens on, as a crash leaves it. It
// touches no other file, none that answers, and none at all if unlocked says why the
// directory is not locked.
func removeStale(ctx context.Context, path string, unlocked error) error {
	info, err := os.Lstat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return errors.New("there is a file of that name, and it is no socket")
	}
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return errors.New("another process listens there")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	if unlocked != nil {
		return fmt.Errorf("a crash has left a socket there, which cannot be removed safely: %w", unlocked)
	}
	return os.Remove(path)
}
