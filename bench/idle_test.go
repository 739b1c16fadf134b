package main

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestConnectedClients(t *testing.T) {
	got, err := connectedClients("# Clients\r\nconnected_clients:17\r\ncluster_connections:0\r\n")
	if err != nil || got != 17 {
		t.Errorf("connectedClients = %d, %v; want 17", got, err)
	}
	if got, err := connectedClients("# Clients\r\n"); err == nil {
		t.Errorf("connectedClients without the line = %d; want an error", got)
	}
}

// servePongs answers every read on every connection with reply, and closes the
// first cut connections instead.
func servePongs(t *testing.T, reply string, cut int) topology.Addr {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if n < cut {
				conn.Close()
				continue
			}
			wg.Go(func() {
				defer conn.Close()
				buf := make([]byte, 64)
				for {
					if _, err := conn.Read(buf); err != nil {
						return
					}
					if _, err := io.WriteString(conn, reply); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return topology.Addr(l.Addr().String())
}

func TestOpenIdle(t *testing.T) {
	const n = idleBatch + 20 // more than one batch
	for name, tt := range map[string]struct {
		reply string
		cut   int
		want  string // in the error; "" for none
	}{
		"all served":   {"+PONG\r\n", 0, ""},
		"three cut":    {"+PONG\r\n", 3, "3 closed"},
		"error, not ✓": {"-ERR no\r\n", 0, "without a PONG"},
	} {
		t.Run(name, func(t *testing.T) {
			conns, err := openIdle(t.Context(), servePongs(t, tt.reply, tt.cut), n)
			defer closeAll(conns)
			switch {
			case tt.want == "":
				if err != nil || len(conns) != n {
					t.Fatalf("%d connections, %v; want %d", len(conns), err, n)
				}
				if gone, unanswered := askAll(conns); gone+unanswered > 0 {
					t.Errorf("later %d gone and %d unanswered; want none", gone, unanswered)
				}
			case err == nil || !strings.Contains(err.Error(), tt.want):
				t.Errorf("error %v; want %q in it", err, tt.want)
			}
		})
	}
}

func TestIdleVerdict(t *testing.T) {
	good := idleResult{resident: idleMaxResident, backend: idleMaxBackend}
	for name, tt := range map[string]struct {
		change func(*idleResult)
		want   outcome
	}{
		"at the limits":    {func(*idleResult) {}, outcomeMet},
		"too much memory":  {func(r *idleResult) { r.resident++ }, outcomeMissed},
		"too many backend": {func(r *idleResult) { r.backend++ }, outcomeMissed},
		"one cut off":      {func(r *idleResult) { r.gone++ }, outcomeMissed},
		"one unanswered":   {func(r *idleResult) { r.unanswered++ }, outcomeMissed},
	} {
		t.Run(name, func(t *testing.T) {
			r := good
			tt.change(&r)
			if got := r.verdict(); got != tt.want {
				t.Errorf("verdict of %+v = %v; want %v", r, got, tt.want)
			}
		})
	}
}
