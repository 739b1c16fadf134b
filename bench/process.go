package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

const (
	readyWithin = 20 * time.Second       // a candidate takes writes by then, or is given up
	readyEvery  = 50 * time.Millisecond  // how often it is asked
	readyWrites = 6                      // writes in a row that show it
	termWithin  = 5 * time.Second        // SIGTERM to SIGKILL
	dialTimeout = 500 * time.Millisecond // one attempt
	portTries   = 5                      // ports tried before giving up
	tailBytes   = 2000                   // of a failed candidate's log, for the error
)

// process is one running candidate. Whoever started it calls stop.
type process struct {
	cmd  *exec.Cmd
	log  string        // file with what it printed
	done chan struct{} // closed once it has ended and was waited for
}

// startProcess starts a program whose output goes to dir/name.log.
func startProcess(dir, name, path string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(path, args...), log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own descriptor
	p.cmd.Stdout, p.cmd.Stderr = out, out
	dieWithParent(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	_ = p.cmd.Wait() // its exit status is of no interest: early death shows in waitReady
	close(p.done)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	timer := time.NewTimer(termWithin)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// tail returns the end of what the process printed.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(b) > tailBytes {
		b = b[len(b)-tailBytes:]
	}
	return strings.TrimSpace(string(b))
}

// waitReady returns once addr accepts writes, on readyWrites connections in a
// row: HAProxy takes every node for a master until its third check has failed,
// and deals out connections among them until then.
func (p *process) waitReady(ctx context.Context, addr topology.Addr, secure *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		err := writes(ctx, addr, secure)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: no write accepted within %v: %w; it printed: %s", addr, readyWithin, err, p.tail())
		case <-p.done:
			return fmt.Errorf("%w: %s", errEndedEarly, p.tail())
		case <-tick.C:
		}
	}
}

// errEndedEarly means a candidate ended before it answered, perhaps because
// another program took its port.
var errEndedEarly = errors.New("ended early")

// writes sends one SET over each of readyWrites fresh connections.
func writes(ctx context.Context, addr topology.Addr, secure *tls.Config) error {
	for range readyWrites {
		a, err := dialAdmin(ctx, addr, secure)
		if err != nil {
			return err
		}
		_, err = a.do("SET", "bench:ready", "1")
		a.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// admin is a connection for commands whose replies are one line.
type admin struct {
	conn net.Conn
	in   *bufio.Reader
}

// dialAdmin connects, over TLS unless secure is nil.
func dialAdmin(ctx context.Context, addr topology.Addr, secure *tls.Config) (*admin, error) {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", string(addr))
	if err != nil {
		return nil, err
	}
	if secure != nil {
		conn = tls.Client(conn, secure)
	}
	return &admin{conn: conn, in: bufio.NewReader(conn)}, nil
}

// do sends one command and returns its reply's first line, with the type byte
// and without the line end. An error reply is an error.
func (a *admin) do(args ...string) (string, error) {
	if err := a.conn.SetDeadline(time.Now().Add(readyWithin)); err != nil {
		return "", err
	}
	// Not an inline command: twemproxy knows none.
	out := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		out = fmt.Appendf(out, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := a.conn.Write(out); err != nil {
		return "", err
	}
	reply, err := a.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	reply = strings.TrimRight(reply, "\r\n")
	if strings.HasPrefix(reply, "-") {
		return "", errors.New(reply)
	}
	return reply, nil
}

func (a *admin) close() { _ = a.conn.Close() }

// freePort returns a loopback address nobody listens on now. Another program
// may take it before the caller does: the caller then tries another.
func freePort(ctx context.Context) (topology.Addr, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return topology.Addr(l.Addr().String()), nil
}
