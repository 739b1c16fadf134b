package redistest

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
)

func TestStartErrors(t *testing.T) {
	t.Parallel()
	Single(t, Options{}) // skips the test where there is no Redis
	for name, tt := range map[string]struct {
		opts Options
		is   error  // nil: any
		says string // part of the message
	}{
		"no server":       {Options{ServerPath: "no-such-redis"}, ErrNoRedis, "apt-get install redis-server"},
		"no sentinel":     {Options{SentinelPath: "no-such-sentinel"}, ErrNoRedis, "apt-get install redis-sentinel"},
		"quorum":          {Options{Sentinels: 1, Quorum: 2}, nil, "quorum 2: want 1 to 1"},
		"name":            {Options{Name: "two words"}, nil, "two words"},
		"password":        {Options{Password: "a\nb"}, nil, "line break"},
		"redis config":    {Options{RedisConfig: []string{"no-such-setting 1"}}, nil, "no-such-setting"},
		"sentinel config": {Options{SentinelConfig: []string{"sentinel no-such-setting 1"}}, nil, "no-such-setting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Start(t.Context(), tt.opts)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Start: %v; want %v, saying %q", err, tt.is, tt.says)
			}
		})
	}
}

func TestContextEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := startOrSkip(ctx, t, Options{Sentinels: 1, Replicas: 1})
	cancel()
	for _, n := range g.all() {
		select {
		case <-n.process().gone:
		case <-time.After(time.Minute):
			t.Fatalf("%s runs on after its context ended", n.Name())
		}
	}
	if err := g.Nodes()[0].Restart(t.Context()); !errors.Is(err, errStopped) {
		t.Errorf("Restart: %v; want %v", err, errStopped)
	}
	must(t, g.Stop())
	must(t, g.Stop())
	if _, err := os.Stat(g.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary directory after Stop: %v; want none", err)
	}
}

func TestDirIsKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "group")
	g := startOrSkip(t.Context(), t, Options{Dir: dir, Sentinels: None, Replicas: None})
	must(t, g.Stop())
	if _, err := os.Stat(g.Nodes()[0].LogPath()); err != nil {
		t.Errorf("the log after Stop: %v; want it kept", err)
	}
}

func TestRestartOnTakenPort(t *testing.T) {
	t.Parallel()
	n := Single(t, Options{})
	must(t, n.Kill())
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", string(n.DirectAddr()))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := n.Restart(ctx); err == nil || n.Alive() {
		t.Errorf("Restart on a taken port: %v, alive %v; want an error", err, n.Alive())
	}
	restarted := make(chan error, 1)
	go func() { restarted <- n.Restart(t.Context()) }()
	must(t, l.Close())
	must(t, <-restarted)
	mustDo(t, n, "PING")
}

func TestReservePort(t *testing.T) {
	t.Parallel()
	seen := make(map[int]bool)
	for range 50 {
		p, err := reservePort(t.Context(), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { must(t, p.release()) }()
		if seen[p.number] || p.number < firstPort || p.number >= endPort {
			t.Errorf("port %d: handed out twice, or not from %d to %d", p.number, firstPort, endPort-1)
		}
		seen[p.number] = true
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"127.0.0.1":  "127.0.0.1",
		"::1":        "::1",
		"":           `""`,
		"two words":  `"two words"`,
		`a"b\c`:      `"a\"b\\c"`,
		"#x\n\x00é":  `"#x\x0a\x00\xc3\xa9"`,
		"/tmp/a-b_c": "/tmp/a-b_c",
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s; want %s", in, got, want)
		}
	}
}

func TestGroupSpeaksTLSOnly(t *testing.T) {
	ca := certtest.MustCA(t)
	f := certtest.MustWrite(t, "", ca, ca.MustIssue(t, certtest.Leaf{}))
	g := New(t, Options{Replicas: 1, TLS: &TLS{CA: f.CA, Cert: f.Cert, Key: f.Key, AuthClients: true}})
	for _, n := range append(g.Nodes(), g.Sentinels()...) {
		c := redis.NewClient(&redis.Options{Addr: string(n.DirectAddr()), MaxRetries: -1, DialerRetries: 1})
		if err := c.Ping(t.Context()).Err(); err == nil {
			t.Errorf("%s answers a plain client", n.Name())
		}
		_ = c.Close()
		if _, err := n.Do(t.Context(), "PING"); err != nil {
			t.Errorf("%s over TLS: %v", n.Name(), err)
		}
	}
}
