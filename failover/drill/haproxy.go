package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// haproxyRecipe is what guides to Redis behind HAProxy give: whoever says
// role:master is the backend, asked every second.
const haproxyRecipe = `global
    maxconn 2000
defaults
    mode tcp
    timeout connect 1s
    timeout client 1m
    timeout server 1m
frontend redis
    bind %s
    default_backend master
backend master
    option tcp-check
    tcp-check connect
%s    tcp-check send PING\r\n
    tcp-check expect string +PONG
    tcp-check send info\ replication\r\n
    tcp-check expect string role:master
    tcp-check send QUIT\r\n
    tcp-check expect string +OK
`

// ErrNoHAProxy means that the program is not installed.
var ErrNoHAProxy = errors.New("haproxy is not installed: install the package haproxy, or drill without it")

// StartHAProxy starts HAProxy by the recipe that is usual for Redis, on a free
// port of loopback.
func StartHAProxy(ctx context.Context, t Target) (Proxy, error) {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		return Proxy{}, ErrNoHAProxy
	}
	login, err := haproxyLogin(t.Login)
	if err != nil {
		return Proxy{}, err
	}
	dir, err := os.MkdirTemp("", "drill-haproxy-")
	if err != nil {
		return Proxy{}, err
	}
	addr, err := freeAddr(ctx)
	if err != nil {
		return Proxy{}, errors.Join(err, os.RemoveAll(dir))
	}
	var b strings.Builder
	fmt.Fprintf(&b, haproxyRecipe, addr, login)
	for i, n := range t.Nodes {
		fmt.Fprintf(&b, "    server n%d %s check inter 1s\n", i, n)
	}
	conf := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(conf, []byte(b.String()), 0o600); err != nil {
		return Proxy{}, errors.Join(err, os.RemoveAll(dir))
	}
	p := &child{cmd: exec.Command(path, "-q", "-db", "-f", conf), done: make(chan struct{})}
	if err := p.start(); err != nil {
		return Proxy{}, errors.Join(err, os.RemoveAll(dir))
	}
	return Proxy{Name: "haproxy", Addr: addr, Stop: func() error { return errors.Join(p.stop(), os.RemoveAll(dir)) }}, nil
}

// haproxyLogin returns the recipe's lines that log its check in.
func haproxyLogin(l Login) (string, error) {
	auth := l.command()
	if auth == nil {
		return "", nil
	}
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.", r)
	}
	if strings.ContainsFunc(l.User+l.Password, func(r rune) bool { return !plain(r) }) {
		return "", errors.New("--beside-haproxy: HAProxy's check can log in only with letters, digits, -, _ and . in user and password")
	}
	return "    tcp-check send " + strings.Join(auth, `\ `) + `\r\n` + "\n    tcp-check expect string +OK\n", nil
}

// freeAddr returns an address of loopback that was free a moment ago. Whoever
// takes it first is found out: the drill waits for an answer to PING.
func freeAddr(ctx context.Context) (string, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// child is a process that, on Linux, dies with this one. Its owner stops it.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// start starts it on an operating system thread that lives as long as it does:
// the death of the thread that forked it is what Linux takes for its parent's.
func (c *child) start() error {
	c.cmd.SysProcAttr = dieWithParent()
	started := make(chan error, 1) // one value: never full
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.done)
		err := c.cmd.Start()
		if started <- err; err == nil {
			_ = c.cmd.Wait() // how it ended is in its state
		}
	}()
	return <-started
}

// stop ends it and waits. It returns how it ended if that was before.
func (c *child) stop() error {
	select {
	case <-c.done:
		return fmt.Errorf("it ended by itself: %s", c.cmd.ProcessState)
	default:
	}
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	limit := time.NewTimer(clientTimeout)
	defer limit.Stop()
	select {
	case <-c.done:
		return nil
	case <-limit.C:
		return errors.New("it was killed and does not end")
	}
}
