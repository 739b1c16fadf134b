//go:build unix

package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/internal/systemd"
)

func TestBoundTo(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	unix := func(s string) net.Addr { return &net.UnixAddr{Net: "unix", Name: s} }
	for _, tt := range []struct {
		addr net.Addr
		at   string
		want bool
	}{
		{tcp("127.0.0.1:6379"), "127.0.0.1:6379", true},
		{tcp("127.0.0.1:6379"), "localhost:6379", true},
		{tcp("127.0.0.1:6380"), "127.0.0.1:6379", false},
		{tcp("[::]:6379"), ":6379", true}, // ListenStream=6379
		{tcp("0.0.0.0:6379"), ":6379", true},
		{tcp("0.0.0.0:6379"), "0.0.0.0:6379", true},
		{tcp("127.0.0.1:6379"), ":6379", false},
		{tcp("0.0.0.0:6379"), "127.0.0.1:6379", false},
		{tcp("[::1]:6379"), "[::1]:6379", true},
		{unix("/run/a.sock"), "unix:/run/a.sock", true},
		{unix("/run/b.sock"), "unix:/run/a.sock", false},
		{unix("127.0.0.1:6379"), "127.0.0.1:6379", false},
		{tcp("127.0.0.1:6379"), "unix:/run/a.sock", false},
	} {
		w := config.Listen{Network: "tcp", Address: tt.at}
		if path, ok := strings.CutPrefix(tt.at, "unix:"); ok {
			w = config.Listen{Network: "unix", Address: path}
		}
		if got := boundTo(tt.addr, w); got != tt.want {
			t.Errorf("a socket at %s for %s: %v; want %v", tt.addr, tt.at, got, tt.want)
		}
	}
}

// A socket that no setting names is a mistake, told with the addresses that are
// wanted; and nothing is left open.
func TestUnclaimedSocket(t *testing.T) {
	open := func() net.Listener {
		ln, err := listen(t.Context(), config.Listen{Network: "tcp", Address: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	mine, stray := open(), open()
	cfg := testConfig()
	cfg.Masters[0].Listen[0].Address = mine.Addr().String()
	p := newFakes().parts()
	p.sockets = &passedSockets{left: []systemd.Socket{{Name: "redis", Listener: mine}, {Name: "other", Listener: stray}}}
	_, err := newSidecar(t.Context(), cfg, nil, p)
	if err == nil || !strings.Contains(err.Error(), `socket "other", passed by the service manager, listens on `+stray.Addr().String()) ||
		!strings.Contains(err.Error(), "want one of "+mine.Addr().String()) {
		t.Fatalf("error %v", err)
	}
	for _, ln := range []net.Listener{mine, stray} {
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the socket at %s is still open: %v", ln.Addr(), err)
		}
	}
}

// sidecarUnit starts the sidecar as systemd does: with a listening socket that stays
// open between processes, and an ear for what it tells.
type sidecarUnit struct {
	ln   *net.TCPListener
	ear  *manager
	args []string
	log  *buffer
}

// start starts a process and waits until it says that it is ready.
func (u *sidecarUnit) start(tb testing.TB) *exec.Cmd {
	tb.Helper()
	f, err := u.ln.File()
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	// LISTEN_PID is known to the process alone; exec keeps it.
	cmd := exec.CommandContext(tb.Context(), "sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0]}, u.args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "NOTIFY_SOCKET="+u.ear.path, "LISTEN_FDS=1", "LISTEN_FDNAMES=redis")
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stdout, cmd.Stderr = u.log, u.log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	before := u.ear.count("READY=1")
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	waitFor(tb, "READY=1", func() bool { return u.ear.count("READY=1") > before })
	return cmd
}

// stop ends a process by SIGTERM and waits for it.
func (*sidecarUnit) stop(tb testing.TB, cmd *exec.Cmd) {
	tb.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		tb.Fatalf("the sidecar ended with %v", err)
	}
}

// Restarts under load, on real Redis: every connection that is begun is accepted, also
// while no process runs, and every one is served in the end.
func TestRestartWithoutRefusedConnections(t *testing.T) {
	g := calmGroup(t)
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := ln.Addr().String()
	u := &sidecarUnit{ln: ln.(*net.TCPListener), ear: startManager(t), log: new(buffer)}
	u.args = []string{"run", "--listen", addr, "--admin", "off", "--master", g.Name()}
	for _, a := range g.SentinelAddrs() {
		u.args = append(u.args, "--sentinel", string(a))
	}
	defer func() {
		if t.Failed() {
			t.Log(u.log.String())
		}
	}()

	cmd := u.start(t)
	load := startDialers(t, addr)
	for range 3 {
		load.served(t) // the load runs again
		u.stop(t, cmd)
		// Nobody is there. It is connected all the same, and waits.
		c := load.dial(t)
		cmd = u.start(t)
		pingOn(t, c)
		c.Close()
	}
	load.served(t)
	load.stop()
	u.stop(t, cmd)
	t.Logf("%d connections served, %d cut off by a stop", load.done, load.cut)
	if len(load.refused) > 0 {
		t.Errorf("%d connections refused, such as %v", len(load.refused), load.refused[0])
	}
}

// dialers connect, write, and hang up, again and again.
type dialers struct {
	addr string
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	done    int
	cut     int // connections that a stop ended: the sidecar was asked to close them
	refused []error
}

func startDialers(tb testing.TB, addr string) *dialers {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	d := &dialers{addr: addr, end: cancel}
	for range 8 {
		d.wg.Go(func() {
			for ctx.Err() == nil {
				d.once(ctx)
			}
		})
	}
	return d
}

func (d *dialers) once(ctx context.Context) {
	var refused error
	c := redis.NewClient(&redis.Options{
		MaxRetries: -1, ReadTimeout: patience, PoolSize: 1, DisableIdentity: true,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.addr)
			refused = err
			return nc, err
		},
	})
	defer c.Close()
	err := c.Incr(ctx, "restarts").Err()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case refused != nil:
		d.refused = append(d.refused, refused)
	case err != nil:
		d.cut++
	default:
		d.done++
	}
}

func (d *dialers) dial(tb testing.TB) net.Conn {
	tb.Helper()
	c, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", d.addr)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// served waits until some more are.
func (d *dialers) served(tb testing.TB) {
	tb.Helper()
	count := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.done
	}
	from := count()
	waitFor(tb, "100 more connections to be served", func() bool { return count() >= from+100 })
}

func (d *dialers) stop() { d.end(); d.wg.Wait() }

// pingOn asks for and wants a PONG.
func pingOn(tb testing.TB, c net.Conn) {
	tb.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	b := make([]byte, 64)
	_, err := c.Write([]byte("PING\r\n"))
	n := 0
	if err == nil {
		n, err = c.Read(b)
	}
	if got := string(b[:n]); err != nil || got != "+PONG\r\n" {
		tb.Errorf("PING: %q, %v", got, err)
	}
}

// The same by systemd's own tool, which starts the process at the first connection.
func TestSocketActivate(t *testing.T) {
	tool := needTool(t, "systemd-socket-activate")
	g := calmGroup(t)
	addr, socket := freeAddr(t), filepath.Join(t.TempDir(), "redis.sock")
	args := []string{
		"--listen", addr, "--listen", socket, "--fdname", "redis:socket", "--setenv", asProgram + "=1",
		os.Args[0], "run", "--listen", addr, "--listen", "unix:" + socket, "--admin", "off", "--master", g.Name(),
	}
	for _, a := range g.SentinelAddrs() {
		args = append(args, "--sentinel", string(a))
	}
	cmd := exec.CommandContext(t.Context(), tool, args...)
	out := new(buffer)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // told by its log
		if !strings.Contains(out.String(), "msg=stopped") {
			t.Errorf("it did not stop in good order: %s", out.String())
		}
		if _, err := os.Stat(socket); err != nil {
			t.Errorf("the manager's socket file: %v", err)
		}
	}()
	var (
		c   net.Conn
		err error
	)
	waitFor(t, "its socket", func() bool {
		c, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		return err == nil
	})
	pingOn(t, c)
	c.Close()
	if c, err = (&net.Dialer{}).DialContext(t.Context(), "unix", socket); err != nil {
		t.Fatal(err)
	}
	pingOn(t, c)
	c.Close()
}
