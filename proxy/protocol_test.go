package proxy

import (
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// TestProtocolErrorsAreRedisOwn sends the same bytes to Redis and to the proxy
// and wants the same bytes and the same end of the connection from both.
func TestProtocolErrorsAreRedisOwn(t *testing.T) {
	open := redistest.Single(t, redistest.Options{})
	locked := redistest.Single(t, redistest.Options{Password: "secret"})
	proxies := map[*redistest.Node]*running{open: startServer(t, open), locked: startServer(t, locked)}
	for name, tt := range map[string]struct {
		node *redistest.Node
		send string
	}{
		"count is no number":               {open, "*x\r\n"},
		"count is empty":                   {open, "*\r\n"},
		"count has a plus":                 {open, "*+3\r\n"},
		"count has a leading zero":         {open, "*03\r\n"},
		"count is too large":               {open, "*2147483648\r\n"},
		"count is huge":                    {open, "*99999999999999999999999\r\n"},
		"count without end":                {open, "*" + strings.Repeat("1", 70000)},
		"zero and negative counts":         {open, "*0\r\n*-1\r\n*-9223372036854775807\r\nPING\r\n"},
		"plus instead of dollar":           {open, "*3\r\n+x\r\n"},
		"line break instead":               {open, "*1\r\n\n\r\nPING\r\n"},
		"no end behind a bad byte":         {open, "*1\r\n" + strings.Repeat("x", 70000)},
		"bulk length is no number":         {open, "*1\r\n$x\r\n"},
		"bulk length is negative":          {open, "*1\r\n$-1\r\n"},
		"bulk length is huge":              {open, "*1\r\n$536870913\r\n"},
		"bulk length without end":          {open, "*1\r\n$" + strings.Repeat("1", 70000)},
		"no line break behind bulk":        {open, "*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n"},
		"inline too big":                   {open, strings.Repeat("a", 70000)},
		"unbalanced quotes":                {open, "SET a \"b\r\n"},
		"closing quote goes on":            {open, "SET a \"b\"c\r\n"},
		"single quotes unbalanced":         {open, "SET a 'b\r\n"},
		"quotes and escapes":               {open, "SET q \"a\\x41\\n\\\"b\"\r\nGET q\r\nSET q 'it\\'s \\n'\r\nGET q\r\nSET q \"\"\r\nGET q\r\n"},
		"blank lines":                      {open, "\r\n\n   \r\nPING\r\n\r\nPING\n"},
		"empty name":                       {open, "\"\"\r\nPING\r\n*1\r\n$0\r\n\r\nPING\r\n"},
		"quotes after commands":            {open, "PING\r\nGET nothing\r\nGET \"a\r\nPING\r\n"},
		"earlier replies come":             {open, "PING\r\nSET a 1\r\n*x\r\nPING\r\n"},
		"unknown command":                  {open, "FOOBAR a b\r\nPING\r\n"},
		"wrong number of arguments":        {open, "GET\r\nSET a\r\nSELECT\r\nCLIENT SETNAME\r\nCLIENT NOSUCH\r\nCONFIG\r\nPING\r\n"},
		"selected databases":               {open, "SELECT 99\r\nSELECT -1\r\nSELECT x\r\nSELECT 2\r\nPING\r\n"},
		"transactions":                     {open, "EXEC\r\nDISCARD\r\nMULTI\r\nMULTI\r\nWATCH a\r\nEXEC\r\nMULTI\r\nFOO\r\nEXEC\r\nMULTI\r\nSELECT 1\r\nDISCARD\r\n"},
		"names":                            {open, "CLIENT GETNAME\r\nCLIENT SETNAME \"a b\"\r\nCLIENT SETNAME x\r\nCLIENT GETNAME\r\nCLIENT SETNAME \"\"\r\nCLIENT GETNAME\r\n"},
		"replies off":                      {open, "CLIENT REPLY OFF\r\nSET r 1\r\nCLIENT GETNAME\r\nGET r\r\nFOO\r\nCLIENT REPLY ON\r\nGET r\r\n"},
		"replies skipped":                  {open, "CLIENT REPLY SKIP\r\nGET s\r\nPING\r\nCLIENT REPLY SKIP\r\nCLIENT GETNAME\r\nPING\r\nCLIENT REPLY SKIP\r\nSELECT 99\r\nPING\r\n"},
		"hello":                            {open, "HELLO x\r\nHELLO 4\r\nHELLO 2 FOO\r\nHELLO 3 SETNAME \"a b\"\r\n"},
		"subscribe":                        {open, "SUBSCRIBE a b\r\nPING\r\nPING x\r\nGET a\r\nSELECT 1\r\nPSUBSCRIBE c*\r\nUNSUBSCRIBE\r\nPUNSUBSCRIBE\r\nPING\r\nUNSUBSCRIBE\r\n"},
		"subscribe in RESP3":               {open, "HELLO 3\r\nSUBSCRIBE a\r\nRPUSH l message a b\r\nLRANGE l 0 -1\r\nDEL l\r\nUNSUBSCRIBE\r\nPING\r\n"},
		"reset":                            {open, "MULTI\r\nRESET\r\nSUBSCRIBE a\r\nRESET\r\nPING\r\n"},
		"quit":                             {open, "PING\r\nQUIT\r\nPING\r\n"},
		"http":                             {open, "POST / HTTP/1.1\r\nHost: x\r\n\r\n"},
		"host header":                      {open, "host: x\r\nPING\r\n"},
		"post as an array":                 {open, "*1\r\n$4\r\nPOST\r\n"},
		"blocking with a timeout":          {open, "BLPOP none 0.01\r\nPING\r\n"},
		"login needed":                     {locked, "PING\r\nGET a\r\nSELECT 1\r\nMULTI\r\nSUBSCRIBE a\r\nCLIENT ID\r\nAUTH\r\nAUTH a b c\r\nAUTH wrong\r\nAUTH secret\r\nPING\r\n"},
		"ten arguments":                    {locked, "*10\r\n$3\r\nDEL\r\n" + strings.Repeat("$1\r\nz\r\n", 9)},
		"eleven arguments":                 {locked, "*11\r\n"},
		"16 KiB":                           {locked, "*2\r\n$3\r\nDEL\r\n$16384\r\n" + strings.Repeat("x", 16384) + "\r\n"},
		"more than 16 KiB":                 {locked, "*1\r\n$16385\r\n"},
		"more than 16 KiB, refused before": {locked, "PING\r\n*1\r\n$16385\r\n"},
		"much after login":                 {locked, "AUTH secret\r\n*12\r\n$3\r\nDEL\r\n" + strings.Repeat("$1\r\nz\r\n", 11)},
		"much without need of login":       {open, "*12\r\n$3\r\nDEL\r\n" + strings.Repeat("$1\r\nz\r\n", 11)},
		"long without need of login":       {open, "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$20000\r\n" + strings.Repeat("x", 20000) + "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			want := answerOf(t, string(tt.node.Addr()), tt.send)
			got := answerOf(t, proxies[tt.node].addr, tt.send)
			if got != want {
				t.Errorf("to %.100q the proxy answers\n%q; Redis answers\n%q", tt.send, got, want)
			}
		})
	}
}

// answerOf sends b and then QUIT, and returns all that is answered up to the end
// of the connection: with QUIT's OK if the connection had not ended before.
func answerOf(tb testing.TB, addr, b string) string {
	tb.Helper()
	c := dialRaw(tb, "tcp", addr)
	_, _ = io.WriteString(c.Conn, b) // it may be cut off before it has sent all
	if strings.HasSuffix(b, "\n") {
		_, _ = io.WriteString(c.Conn, "QUIT\r\n")
	}
	s, err := io.ReadAll(c.r) // how it ends is the peer's affair: it may reset what it has not read
	if errors.Is(err, os.ErrDeadlineExceeded) {
		tb.Errorf("%s does not close after %.100q", addr, b)
	}
	return regexp.MustCompile(`(\$2\r\nid\r\n):\d+`).ReplaceAllString(string(s), "$1:0")
}
