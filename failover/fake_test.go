package failover

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/redcon"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// fakeNode is a data node as a prober meets it.
type fakeNode struct {
	addr topology.Addr

	mu     sync.Mutex // guards the fields below
	answer func(cmd string) string
	conns  map[redcon.Conn]bool
	calls  []string
	total  int  // connections accepted
	full   bool // closes every new connection, as at maxclients
}

// newFake starts a node that answers each command with the bytes that answer returns
// for it, in upper case; none is no answer at all.
func newFake(t *testing.T, answer func(cmd string) string) *fakeNode {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeNode{addr: topology.Addr(ln.Addr().String()), answer: answer, conns: map[redcon.Conn]bool{}}
	srv := redcon.NewServer(ln.Addr().String(), f.handle, func(c redcon.Conn) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.total++
		f.conns[c] = true
		return !f.full
	}, func(c redcon.Conn, _ error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.conns, c)
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln) // it always returns an error
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		f.drop()
		<-done
	})
	return f
}

func (f *fakeNode) handle(c redcon.Conn, cmd redcon.Command) {
	words := make([]string, 0, len(cmd.Args))
	for _, a := range cmd.Args {
		words = append(words, string(a))
	}
	line := strings.Join(words, " ")
	f.mu.Lock()
	f.calls = append(f.calls, line)
	answer := f.answer(strings.ToUpper(words[0]))
	f.mu.Unlock()
	if answer != "" {
		c.WriteRaw([]byte(answer))
	}
}

// says makes the node answer ROLE so from now on.
func (f *fakeNode) says(role string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = func(string) string { return role }
}

// drop closes every connection.
func (f *fakeNode) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		_ = c.NetConn().Close()
	}
}

func (f *fakeNode) called(line string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if c == line {
			n++
		}
	}
	return n
}

func (f *fakeNode) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// followerOf is the answer to ROLE of a replica of a.
func followerOf(a topology.Addr) string {
	host, port, _ := strings.Cut(string(a), ":")
	return string(appendArray("slave", host, ":"+port, "connected", ":7"))
}

// appendArray writes strings as bulks, and those that begin with a colon as integers.
func appendArray(words ...string) []byte {
	b := redcon.AppendArray(nil, len(words))
	for _, w := range words {
		if strings.HasPrefix(w, ":") {
			b = append(append(b, w...), "\r\n"...)
			continue
		}
		b = redcon.AppendBulkString(b, w)
	}
	return b
}

// eventually polls until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
