package sentineltest_test

import (
	"strings"
	"testing"

	"github.com/sentinelproxy/sentinelproxy/internal/captures"
	"github.com/sentinelproxy/sentinelproxy/sentinel/sentineltest"
)

// FuzzBytes sends anything at all to a Sentinel and a node: neither may panic,
// and both must still answer others.
func FuzzBytes(f *testing.F) {
	for _, s := range []string{
		"PING\r\n",
		"*1\r\n$4\r\nPING\r\n",
		"*2\r\n$6\r\nCLIENT\r\n$4\r\nKILL\r\n",
		"*3\r\n$8\r\nSENTINEL\r\n$6\r\nMASTER\r\n$0\r\n\r\n",
		"MULTI\r\nBLPOP a 0\r\nROLE\r\nEXEC\r\n",
		"XREAD BLOCK 1 STREAMS a $ b\r\n",
		"HELLO 3\r\nSUBSCRIBE a\r\nPUBSUB NUMSUB\r\n",
		"*-1\r\n*0\r\n$3\r\n",
	} {
		f.Add([]byte(s))
	}
	for _, s := range captures.All(f) {
		if strings.HasPrefix(s.Name, "sentinel") {
			f.Add(s.Client())
		}
	}
	g, err := sentineltest.Start(f.Context(), sentineltest.Fast())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = g.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, addr := range append(g.SentinelAddrs()[:1], g.NodeAddrs()[0]) {
			c := dial(t, addr)
			if _, err := c.nc.Write(b); err != nil {
				t.Fatal(err)
			}
			_ = c.nc.Close()
			dial(t, addr).want("+PONG", "PING")
		}
	})
}
