package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

const (
	firstFD = 3 // SD_LISTEN_FDS_START
	maxFDs  = 1024
)

// Socket is a listening socket that the service manager opened and keeps: connections
// wait in it while no process of the service runs.
type Socket struct {
	Name     string // its FileDescriptorName
	Listener net.Listener
}

// Sockets returns the sockets that were passed to the process pid, whose environment
// getenv reads. It may be called once: what it returns, or closes with an error, are the
// descriptors themselves. The caller closes the Listeners, which leaves the manager's
// sockets open and a Unix socket's file in place.
func Sockets(getenv func(string) string, pid int) ([]Socket, error) {
	if getenv("LISTEN_FDS") == "" || getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil // none, or for another process
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > maxFDs {
		return nil, fmt.Errorf("LISTEN_FDS: found %q; want a number up to %d", getenv("LISTEN_FDS"), maxFDs)
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	var sockets []Socket
	var errs []error
	for i := range n {
		name := "socket " + strconv.Itoa(i)
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		ln, err := listener(firstFD+i, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("socket %q, passed by the service manager: %w", name, err))
			continue
		}
		sockets = append(sockets, Socket{name, ln})
	}
	if len(errs) > 0 {
		for _, s := range sockets {
			_ = s.Listener.Close() // the errors at hand say more
		}
		return nil, errors.Join(errs...)
	}
	return sockets, nil
}

// listener makes a Listener of a descriptor, which it closes.
func listener(fd int, name string) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := wantListening(fd); err != nil {
		return nil, err
	}
	return net.FileListener(f) // of a duplicate, which no child process inherits
}
