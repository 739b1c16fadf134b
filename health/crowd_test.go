package health

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
)

// hold opens a connection that says as much and no more.
func hold(tb testing.TB, addr, words string) net.Conn {
	tb.Helper()
	c, err := new(net.Dialer).DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, words); err != nil {
		tb.Fatal(err)
	}
	return c
}

// gone reports whether the server has closed a connection that it has nothing to say to.
func gone(tb testing.TB, c net.Conn, within time.Duration) bool {
	tb.Helper()
	_ = c.SetReadDeadline(time.Now().Add(within))
	_, err := c.Read(make([]byte, 1))
	ne, ok := err.(net.Error) //nolint:errorlint // as it comes from a connection
	return err != nil && (!ok || !ne.Timeout())
}

// Those who only hold the line lose it to those who ask. Whoever follows keeps it.
func TestCrowd(t *testing.T) {
	stream := events.NewStream("gateway-0")
	_, addr := startWith(t, Options{Groups: []Group{&fakeGroup{name: "a"}}, Events: stream}, func(s *Server) {
		s.servers[0].ReadHeaderTimeout, s.servers[0].ReadTimeout = time.Hour, time.Hour // it is not time that ends them
	})
	follower := follow(t, client(t), addr, "")
	kept := hold(t, addr, "")
	reader := bufio.NewReader(kept)
	ask := func() {
		t.Helper()
		_ = kept.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(kept, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	var silent []net.Conn
	for i := range 2 * maxConns {
		silent = append(silent, hold(t, addr, []string{"", "GET /li"}[i%2]))
		if i%100 == 0 {
			ask() // a connection that asks now and then is never the one that waited longest
		}
	}
	for range 20 {
		if code, _ := get(t, addr, "/livez"); code != http.StatusOK {
			t.Fatalf("/livez among them: %d", code)
		}
	}
	ask()
	for _, i := range []int{0, 1, maxConns / 2} {
		if !gone(t, silent[i], time.Minute) {
			t.Errorf("number %d of %d still holds the line", i, len(silent))
		}
	}
	stream.Publish("", events.ConfigReloaded{})
	if m := follower.next(); !strings.Contains(m, "ConfigReloaded") {
		t.Errorf("the follower got %q", m)
	}
}
