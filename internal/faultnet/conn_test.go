package faultnet

import (
	"errors"
	"io"
	"net"
	"testing"
)

func TestConn(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer a.Close()
	c := NewConn(b, ConnFaults{MaxRead: 2, MaxWrite: 3, FailRead: 3, FailWrite: 2})
	defer c.Close()
	go func() {
		_, _ = io.WriteString(a, "abcd")
		_, _ = io.CopyN(io.Discard, a, 3)
	}()
	buf := make([]byte, 10)
	for i, want := range []string{"ab", "cd"} {
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("read %d: %q, %v; want %q", i+1, buf[:n], err, want)
		}
	}
	if _, err := c.Read(buf); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read 3: %v; want %v", err, io.ErrUnexpectedEOF)
	}
	if n, err := c.Write([]byte("12345")); n != 3 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("write 1: %d, %v; want 3, %v", n, err, io.ErrShortWrite)
	}
	if _, err := c.Write([]byte("4")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("write 2: %v; want %v", err, io.ErrUnexpectedEOF)
	}
}
