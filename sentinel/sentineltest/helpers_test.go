package sentineltest_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// value is one reply: its type byte, its text, and its elements.
type value struct {
	kind  byte // RESP's type byte; '_' for every null
	text  string
	elems []value
}

// String prints the reply as a transcript would show it.
func (v value) String() string {
	switch v.kind {
	case '*', '>', '%', '~':
		parts := make([]string, len(v.elems))
		for i, e := range v.elems {
			parts[i] = e.String()
		}
		return string(v.kind) + "[" + strings.Join(parts, " ") + "]"
	case '$':
		return v.text
	}
	return string(v.kind) + v.text
}

// shape is the reply without what may differ between two servers: the types,
// the keys of maps, nulls and errors stay.
func (v value) shape() string {
	var b strings.Builder
	switch v.kind {
	case '%':
		for i := 0; i < len(v.elems); i += 2 {
			fmt.Fprintf(&b, "%s=%s ", v.elems[i].text, v.elems[i+1].shape())
		}
		return "%{" + b.String() + "}"
	case '*', '>', '~':
		flat := v.isFlatMap()
		for i, e := range v.elems {
			if flat && i%2 == 0 {
				b.WriteString(e.text + " ")
			} else {
				b.WriteString(e.shape() + " ")
			}
		}
		return string(v.kind) + "[" + b.String() + "]"
	case '-', '+':
		return string(v.kind) + v.text
	}
	return string(v.kind)
}

// isFlatMap recognises the maps of RESP2 by their first key.
func (v value) isFlatMap() bool {
	return v.kind == '*' && len(v.elems) > 4 && len(v.elems)%2 == 0 && (v.elems[0].text == "name" || v.elems[0].text == "server")
}

// get returns the value at key of a map, in either protocol.
func (v value) get(key string) string {
	for i := 0; i+1 < len(v.elems); i += 2 {
		if v.elems[i].text == key {
			return v.elems[i+1].text
		}
	}
	return ""
}

// client speaks RESP over one connection. It fails its test on any error.
type client struct {
	tb testing.TB
	nc net.Conn
	rd *bufio.Reader
}

func dial(tb testing.TB, addr topology.Addr) *client {
	tb.Helper()
	var d net.Dialer
	nc, err := d.DialContext(tb.Context(), "tcp", string(addr))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = nc.Close() })
	return &client{tb: tb, nc: nc, rd: bufio.NewReader(nc)}
}

func (c *client) send(args ...string) {
	c.tb.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(c.nc, b.String()); err != nil {
		c.tb.Fatalf("send %q: %v", args, err)
	}
}

func (c *client) do(args ...string) value {
	c.tb.Helper()
	c.send(args...)
	return c.read()
}

// want sends a command and compares the printed reply.
func (c *client) want(want string, args ...string) {
	c.tb.Helper()
	if got := c.do(args...).String(); got != want {
		c.tb.Errorf("%q answers %q; want %q", args, got, want)
	}
}

func (c *client) read() value {
	c.tb.Helper()
	_ = c.nc.SetReadDeadline(time.Now().Add(time.Minute))
	v, err := readValue(c.rd)
	if err != nil {
		c.tb.Fatalf("read reply: %v", err)
	}
	return v
}

// wantClosed waits for the server to end the connection, after what it says.
func (c *client) wantClosed() {
	c.tb.Helper()
	_ = c.nc.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		if _, err := readValue(c.rd); err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				c.tb.Error("connection still open")
			}
			return
		}
	}
}

func readValue(rd *bufio.Reader) (value, error) {
	line, err := rd.ReadString('\n')
	if err != nil {
		return value{}, err
	}
	v := value{kind: line[0], text: strings.TrimRight(line[1:], "\r\n")}
	n, err := strconv.Atoi(v.text)
	switch v.kind {
	case '$', '=':
		if err != nil || n < 0 {
			return value{kind: '_'}, err
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(rd, b); err != nil {
			return value{}, err
		}
		v.text = string(b[:n])
	case '*', '>', '~', '%':
		if err != nil || n < 0 {
			return value{kind: '_'}, err
		}
		if v.kind == '%' {
			n *= 2
		}
		v.text = ""
		for range n {
			e, err := readValue(rd)
			if err != nil {
				return value{}, err
			}
			v.elems = append(v.elems, e)
		}
	}
	return v, nil
}

// waitFor polls until is true, and fails the test with what was wanted.
func waitFor(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	deadline := time.Now().Add(time.Minute)
	for !is() {
		if time.Now().After(deadline) {
			tb.Fatalf("waited a minute for %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// recorder collects the events of one Sentinel as "name payload".
type recorder struct {
	c *client
}

func record(tb testing.TB, addr topology.Addr) *recorder {
	tb.Helper()
	c := dial(tb, addr)
	c.want("*[psubscribe * :1]", "PSUBSCRIBE", "*")
	return &recorder{c}
}

// until returns the events up to and including the n-th that begins with last.
func (r *recorder) until(last string, n int) []string {
	r.c.tb.Helper()
	var events []string
	for n > 0 {
		v := r.c.read()
		if len(v.elems) != 4 {
			r.c.tb.Fatalf("not an event: %v", v)
		}
		event := v.elems[2].text + " " + v.elems[3].text
		events = append(events, event)
		if strings.HasPrefix(event, last) {
			n--
		}
	}
	return events
}
