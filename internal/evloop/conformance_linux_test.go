package evloop

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOutOfDescriptors lets a connection come when the process may open nothing
// more: the listener rests, and takes it when there is room again.
func TestOutOfDescriptors(t *testing.T) {
	for driver, d := range drivers() {
		t.Run(driver, func(t *testing.T) {
			r := newRig(t, d)
			accepted := 0
			addr := r.serve("tcp", func(*handler) { accepted++ })
			tcp, _ := addr.(*net.TCPAddr)
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)

			var old unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
				t.Fatal(err)
			}
			restore := func() {
				if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
					t.Error(err)
				}
			}
			defer restore()
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: old.Max}); err != nil {
				t.Fatal(err)
			}
			if err := unix.Connect(fd, &unix.SockaddrInet4{Port: tcp.Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() string {
				if r.logs.has("accept failed, resting") {
					return ""
				}
				return "accept did not fail"
			})
			restore()
			r.until("the connection", func() bool { return accepted == 1 })
		})
	}
}

func TestForeignSocket(t *testing.T) {
	for driver, d := range drivers() {
		t.Run(driver, func(t *testing.T) {
			other := DriverPortable
			if d == DriverPortable {
				other = DriverEpoll
			}
			r := newRig(t, d)
			ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			s, err := Detach(dial(t, ln.Addr()), other)
			if err != nil {
				t.Fatal(err)
			}
			r.do(func() {
				if _, err := r.Add(s, nil); err == nil {
					t.Error("a socket of another driver was taken")
				}
			})
		})
	}
	if _, err := Detach(&pipeConn{}, DriverEpoll); err == nil {
		t.Error("a connection without a descriptor was detached")
	}
}

// pipeConn is a net.Conn that has no descriptor.
type pipeConn struct{ net.Conn }

func (*pipeConn) Close() error { return nil }
