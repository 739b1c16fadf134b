//go:build unix

package systemd

import (
	"errors"

	"golang.org/x/sys/unix"
)

// wantListening returns an error unless fd is a stream socket that listens.
func wantListening(fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	if kind != unix.SOCK_STREAM {
		return errors.New("it is no stream socket; want ListenStream= in the socket unit")
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return err
	}
	if listening == 0 {
		return errors.New("it is one connection and does not listen; want Accept=no in the socket unit")
	}
	return nil
}
