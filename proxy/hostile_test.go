//go:build unix

package proxy

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// hostile is a client that means harm. It may use up its own connection and the
// stated memory, no more: others go on meanwhile, and when it is gone all that it
// used is free again.
type hostile struct {
	// act does the harm and returns once all of it has arrived; what it opens is closed
	// after it was looked at.
	act func(h *hostility)
	// memory is what may live on the heap of the process, test included, in MiB over
	// what lived there before.
	memory int
	// counts are metrics of sentinelproxy_ by name and labels, and by how much at least
	// they grow.
	counts map[string]float64
	logs   string // a line that says what happened
}

// hostility is one hostile client at work.
type hostility struct {
	*testing.T

	r     *running
	conns []net.Conn
	work  *atomic.Int64 // what another client has done
}

func (h *hostility) dial() *raw {
	h.Helper()
	c := h.r.raw()
	c.tb = h
	h.conns = append(h.conns, c.Conn)
	return c
}

// others waits until another client has done some more.
func (h *hostility) others() {
	h.Helper()
	from := h.work.Load()
	eventually(h, "another client's commands", func() (bool, string) {
		return h.work.Load() >= from+5, fmt.Sprint(h.work.Load() - from)
	})
}

// pour sends one thing over and over, and throws away what is answered. It ends
// early if the connection does.
func (h *hostility) pour(c *raw, one string, times int) {
	h.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, c.r)
	}()
	many := strings.Repeat(one, max(1, min(times, (64<<10)/len(one))))
	for sent := 0; sent < times*len(one); sent += len(many) {
		if _, err := io.WriteString(c.Conn, many); err != nil {
			break
		}
	}
	h.others()
	_ = c.SetReadDeadline(time.Now()) // the reader is done
	<-done
	_ = c.SetReadDeadline(time.Time{})
}

func words(w ...string) string { return string(resp.AppendCommand(nil, w...)) }

// hostiles are those that one Redis without a password can stand.
func hostiles() map[string]hostile {
	breach := func(reason string) map[string]float64 {
		return map[string]float64{`client_protocol_errors_total{reason="` + reason + `"}`: 1}
	}
	flood := func(one string, times int) func(*hostility) {
		return func(h *hostility) { h.pour(h.dial(), one, times) }
	}
	until := func(text string) func(*hostility) { // it is cut off
		return func(h *hostility) {
			c := h.dial()
			_, _ = io.WriteString(c.Conn, text)
			h.others()
			_, _ = io.Copy(io.Discard, c.r)
		}
	}
	return map[string]hostile{
		"a length that never comes":       {act: flood("*2\r\n$3\r\nGET\r\n$536870912\r\nx", 1), memory: 8},
		"a count that never comes":        {act: flood("*2147483647\r\n$3\r\nDEL\r\n$1\r\na\r\n", 1), memory: 8},
		"a command without end":           {act: flood("*2147483647\r\n$3\r\nDEL\r\n"+strings.Repeat("$1\r\na\r\n", 300_000), 1), memory: 64},
		"a negative length":               {act: until("*1\r\n$-5\r\n"), memory: 8, counts: breach("framing")},
		"a huge length":                   {act: until("*1\r\n$99999999999999999999\r\n"), memory: 8, counts: breach("framing")},
		"a huge count":                    {act: until("*99999999999\r\n"), memory: 8, counts: breach("framing")},
		"an array in a request":           {act: until("*2\r\n*1\r\n$4\r\nPING\r\n"), memory: 8, counts: breach("framing")},
		"nested arrays":                   {act: until(strings.Repeat("*1\r\n", 100_000)), memory: 8, counts: breach("framing")},
		"millions of empty arrays":        {act: flood("*0\r\n*-1\r\n\r\n", 1_000_000), memory: 8},
		"a line without end":              {act: until(strings.Repeat("x", 1<<20)), memory: 8, counts: breach("too_big")},
		"a count without end":             {act: until("*" + strings.Repeat("1", 1<<20)), memory: 8, counts: breach("too_big")},
		"quotes that do not match":        {act: until("SET a \"b\r\n"), memory: 8, counts: breach("quotes")},
		"a browser":                       {act: until("POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET a b\r\n"), memory: 8, counts: breach("http"), logs: "possible security attack"},
		"a TLS handshake":                 {act: until("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), memory: 8, counts: breach("tls"), logs: "tls handshake on a port without tls"},
		"a command that breaks off":       {act: breaksOff, memory: 64},
		"one byte at a time":              {act: byteByByte, memory: 8},
		"logins":                          {act: flood(words("AUTH", "nobody", "guess")+words("HELLO", "3", "AUTH", "nobody", "guess"), 300), memory: 16},
		"logins of many users":            {act: manyUsers, memory: 16, counts: map[string]float64{`client_logins_total{outcome="delayed"}`: 20}},
		"a transaction without end":       {act: flood(words("MULTI")+strings.Repeat(words("PING"), 1_000_000), 1), memory: 64},
		"watched keys":                    {act: flood(words("WATCH", "a", "b", "c"), 200_000), memory: 16},
		"subscriptions, many in each":     {act: manySubscriptions(4, 50_000), memory: 64},
		"subscriptions with long names":   {act: manySubscriptions(40, 60), memory: 64},
		"subscriptions, one large":        {act: oneLargeSubscribe, memory: 64},
		"tracked prefixes":                {act: trackedPrefixes, memory: 32},
		"tracking on and off":             {act: flood(words("CLIENT", "TRACKING", "ON")+words("CLIENT", "TRACKING", "OFF"), 20_000), memory: 16},
		"script bodies":                   {act: scriptBodies, memory: 32},
		"a reply that is never read":      {act: neverRead, memory: 64},
		"connections from one address":    {act: manyConnections, memory: 256, counts: map[string]float64{`client_connections_refused_total{reason="max_clients"}`: 50}},
		"connections that say nothing":    {act: comeAndGo, memory: 32},
		"replies switched off":            {act: flood(words("CLIENT", "REPLY", "OFF")+words("SET", "a", strings.Repeat("x", 1000)), 5_000), memory: 64},
		"databases and names, over again": {act: flood(words("SELECT", "1")+words("CLIENT", "SETNAME", strings.Repeat("n", 1000)), 3_000), memory: 16},
	}
}

// breaksOff keeps less than largeCommand of each of 50 commands.
func breaksOff(h *hostility) {
	for i := range 50 {
		c := h.dial()
		text := words("SET", "broken", strings.Repeat("x", 2<<20))
		c.send(text[:20+i*i*500])
		if i%2 == 0 {
			_ = c.Close()
		} else {
			c.closeWrite()
		}
	}
	h.others()
	if v, err := h.r.node.Do(h.Context(), "EXISTS", "broken"); err != nil || fmt.Sprint(v) != "0" {
		h.Errorf("half a command was executed: %v, %v", v, err)
	}
}

func byteByByte(h *hostility) {
	c := h.dial()
	for i, b := range []byte(words("SET", "slow", "value") + words("GET", "slow")) {
		if _, err := c.Write([]byte{b}); err != nil {
			h.Fatal(err)
		}
		if i%20 == 0 {
			h.others()
		}
	}
	c.expect("+OK\r\n$5\r\nvalue\r\n")
}

func manyUsers(h *hostility) {
	c := h.dial()
	for i := range 80 { // from the 51st on each waits its turn
		c.send(words("AUTH", fmt.Sprint("user", i), "guess"))
		c.line()
	}
	h.others()
}

// manySubscriptions subscribes to commands times channels, with names of about 20
// bytes, or 60 channels of some 10 KiB each.
func manySubscriptions(commands, channels int) func(*hostility) {
	return func(h *hostility) {
		c := h.dial()
		name := "channel"
		if channels < 100 {
			name = strings.Repeat("x", 10<<10)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(io.Discard, c.r)
		}()
		for i := range commands {
			cmd := []string{"SUBSCRIBE"}
			for j := range channels {
				cmd = append(cmd, fmt.Sprintf("%s-%d-%d", name, i, j))
			}
			if _, err := io.WriteString(c.Conn, words(cmd...)); err != nil {
				break
			}
			h.others()
		}
		_ = c.SetReadDeadline(time.Now())
		<-done
	}
}

func oneLargeSubscribe(h *hostility) {
	cmd := []string{"SUBSCRIBE"}
	for i := range 200_000 {
		cmd = append(cmd, fmt.Sprint("c", i))
	}
	h.pour(h.dial(), words(cmd...), 1)
}

func trackedPrefixes(h *hostility) {
	c := h.dial()
	c.send(words("HELLO", "3"))
	for i := range 100 {
		cmd := []string{"CLIENT", "TRACKING", "ON", "BCAST"}
		for j := range 200 {
			cmd = append(cmd, "PREFIX", fmt.Sprintf("p-%d-%d-%s", i, j, strings.Repeat("x", 500)))
		}
		if _, err := io.WriteString(c.Conn, words(cmd...)); err != nil {
			h.Fatal(err)
		}
	}
	h.pour(c, words("PING"), 1)
}

func scriptBodies(h *hostility) {
	c := h.dial()
	for i := range 60 {
		c.send(words("EVAL", fmt.Sprintf("return %d --%s", i, strings.Repeat("x", 200<<10)), "0"))
		if got := c.line(); got != fmt.Sprint(":", i) {
			h.Fatalf("script %d answers %q", i, got)
		}
	}
	h.others()
}

// neverRead asks for 400 MB and takes nothing: what is kept is outputMark and the
// replies of a session's share of commands.
func neverRead(h *hostility) {
	if _, err := h.r.node.Do(h.Context(), "SET", "100k", strings.Repeat("x", 100<<10)); err != nil {
		h.Fatal(err)
	}
	c := h.dial()
	c.send(strings.Repeat(words("GET", "100k"), 4000))
	h.others()
	h.others()
}

// manyConnections opens all the connections that the sidecar takes, and more.
func manyConnections(h *hostility) {
	h.r.tb = h
	for i := range h.r.server.opts.MaxClients + 49 { // one other is there
		if i%500 == 499 { // the system keeps no more than some thousand that nobody has accepted yet
			h.r.waitClients(min(i+1, h.r.server.opts.MaxClients))
		}
		c, err := new(net.Dialer).DialContext(h.Context(), "tcp", h.r.addr)
		if err != nil {
			h.Fatal(err)
		}
		h.conns = append(h.conns, c)
	}
	h.r.waitClients(h.r.server.opts.MaxClients)
	h.others()
	for _, c := range h.conns[len(h.conns)-40:] {
		_ = c.SetDeadline(time.Now().Add(testWait))
		if b, err := io.ReadAll(c); err != nil || string(b) != "-ERR max number of clients reached\r\n" {
			h.Fatalf("one client too many gets %q, %v", b, err)
		}
	}
}

func comeAndGo(h *hostility) {
	for range 2000 {
		_ = h.dial().Close()
	}
	h.others()
}

// usage is what a process has in use.
type usage struct{ heap, goroutines, files int }

func used() usage {
	runtime.GC()
	runtime.GC() // pools are emptied by the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{heap: int(m.HeapAlloc), goroutines: runtime.NumGoroutine()}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil { // elsewhere it is not looked at
		u.files = len(entries)
	}
	return u
}

func TestHostileClients(t *testing.T) {
	clients := 10_000
	if testing.Short() {
		clients = 1000
	}
	var files syscall.Rlimit // the runtime has raised it as far as may be
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if most := (int(files.Cur) - 1000) / 2; most < clients { // both ends are in this process
		t.Logf("%d connections instead of %d: the limit of open files is %d", most, clients, files.Cur)
		clients = most
	}
	log := new(syncBuffer)
	r := startServer(t, redistest.Single(t, redistest.Options{}), func(o *Options) {
		o.MaxClients = clients
		o.Log = slog.New(slog.NewTextHandler(log, nil))
	})
	work := startOther(t, r)
	for name, tt := range hostiles() {
		t.Run(name, func(t *testing.T) {
			r := *r
			r.tb = t
			h := &hostility{T: t, r: &r, work: work}
			h.others()
			counted := make(map[string]float64)
			for c := range tt.counts {
				counted[c] = metric(t, r.server, c)
			}
			before := used()
			tt.act(h)
			h.others()
			if got := used().heap - before.heap; got > tt.memory<<20 {
				t.Errorf("%d MiB are in use; want at most %d", got>>20, tt.memory)
			}
			for _, c := range h.conns {
				_ = c.Close()
			}
			h.conns = nil
			for c, least := range tt.counts {
				eventually(t, c, func() (bool, string) {
					got := metric(t, r.server, c) - counted[c]
					return got >= least, fmt.Sprint(got)
				})
			}
			if !strings.Contains(log.String(), tt.logs) {
				t.Errorf("the log does not say %q", tt.logs)
			}
			r.waitClients(1)
			eventually(t, "all given back", func() (bool, string) {
				u := used()
				ok := u.heap-before.heap < 24<<20 && u.goroutines <= before.goroutines+5 && u.files <= before.files+2*maxIdleOwn+4
				return ok, fmt.Sprintf("%+v; before %+v", u, before)
			})
		})
	}
}

// startOther starts a client that does no harm, and returns what it has done. It
// fails the test at the first thing that is not as it should be.
func startOther(tb testing.TB, r *running) *atomic.Int64 {
	tb.Helper()
	c := r.raw()
	_ = c.SetDeadline(time.Time{})
	work := new(atomic.Int64)
	over := make(chan struct{})
	var ending atomic.Bool
	go func() {
		defer close(over)
		b := make([]byte, 64)
		for n := int64(1); ; n++ {
			value := fmt.Sprint(n)
			_ = c.SetDeadline(time.Now().Add(testWait))
			_, err := io.WriteString(c.Conn, words("SET", "other", value)+words("GET", "other"))
			want := "+OK\r\n" + string(resp.AppendBulk(nil, value))
			if err == nil {
				_, err = io.ReadFull(c.r, b[:len(want)])
			}
			if ending.Load() {
				return
			}
			if err != nil || !bytes.Equal(b[:len(want)], []byte(want)) {
				tb.Errorf("another client got %q, %v; want %q", b[:len(want)], err, want)
				return
			}
			work.Store(n)
			time.Sleep(time.Millisecond) // it shall not use up the machine
		}
	}()
	tb.Cleanup(func() {
		ending.Store(true)
		_ = c.Close()
		<-over
	})
	return work
}

// metric returns one of the server's, by name and reason.
func metric(tb testing.TB, s *Server, name string) float64 {
	tb.Helper()
	name, label, _ := strings.Cut(strings.TrimSuffix(name, `"}`), `{`)
	label, want, _ := strings.Cut(label, `="`)
	reg := prometheus.NewRegistry()
	reg.MustRegister(s)
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "sentinelproxy_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			found := label == ""
			for _, l := range m.GetLabel() {
				found = found || l.GetName() == label && l.GetValue() == want
			}
			if found {
				return m.GetCounter().GetValue()
			}
		}
	}
	tb.Fatalf("no metric %s with %s=%q", name, label, want)
	return 0
}

// A node that answers what it was never asked must not have us send from before the
// beginning of what we keep.
func TestAnswerBeforeTheQuestion(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	h, node := c.wire.h, b.wire.h // all in one turn: nothing is written before its end
	h.Data([]byte(frames("GET a", "GET b")))
	node.Data([]byte("$1\r\n1\r\n"))
	long := "SET k " + strings.Repeat("x", 10_000)
	h.Data([]byte(frames(long)))
	b.expect("GET a", "GET b", long)
	b.reply("$1\r\n2\r\n+OK\r\n")
	c.expect("$1\r\n1\r\n$1\r\n2\r\n+OK\r\n")
}

// A reply that nobody asked for is no reply to the next command either, whoever sends it.
func TestUnaskedReplyEndsASharedConnection(t *testing.T) {
	for name, own := range map[string]bool{"shared": false, "pooled": true} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c, d := r.client(), r.client()
			b := warm(r, c)
			if own {
				c.send("BLPOP q 1")
				b = r.ownBackend()
				b.expect("BLPOP q 1")
				b.reply("*-1\r\n")
			}
			b.reply(">2\r\n+invalidate\r\n_\r\n") // a push is nobody's
			if b.wire.closed {
				t.Fatal("a push ends the connection")
			}
			b.reply("$6\r\nsecret\r\n")
			if !b.wire.closed {
				t.Error("the connection is still in use")
			}
			d.send("GET a", "BLPOP q 1")
			d.expect("")
		})
	}
}
