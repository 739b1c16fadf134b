//go:build unix

package main

import "golang.org/x/sys/unix"

// fileLimit returns how many files and sockets this process may open. The Go
// runtime has raised the soft limit to the hard one by now.
func fileLimit() (n uint64, known bool) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, false
	}
	return uint64(r.Cur), true //nolint:unconvert // it is signed on FreeBSD
}
