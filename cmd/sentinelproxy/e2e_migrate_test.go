package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
)

// The steps of docs/migrate.md, with the page's own configurations: the old proxy serves
// real Redis, ends, and the sidecar serves the same data at the same address.
func TestMigrate(t *testing.T) {
	yamls := blocks(t, "../../docs/migrate.md")["yaml"]
	_, statsPort, err := net.SplitHostPort(freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	for lang, tt := range map[string]struct {
		args    []string // of the old proxy, before the file
		refused []string // a command that it closes the connection for
	}{
		"haproxy":    {args: []string{"-db", "-f"}},
		"nutcracker": {args: []string{"-a", "127.0.0.1", "-s", statsPort, "-c"}, refused: []string{"DBSIZE"}},
	} {
		t.Run(lang, func(t *testing.T) {
			program := needTool(t, lang)
			old := blocks(t, "../../docs/migrate.md")[lang][0]
			_, after, ok := strings.Cut(old, "listen: ")
			if lang == "haproxy" {
				_, after, ok = strings.Cut(old, "bind ")
			}
			listen := strings.Fields(after)[0]
			ours := ""
			for _, y := range yamls {
				if strings.Contains(y, "listen: "+listen+"\n") {
					ours = y
					break
				}
			}
			if !ok || ours == "" {
				t.Fatalf("no configuration of ours listens where %s does", lang)
			}
			g := calmGroup(t)
			stable(t, g)
			addr, admin := freeAddr(t), freeAddr(t)
			here := atHome(g, listen, addr)

			end := startOld(t, program, tt.args, here.Replace(old))
			waitFor(t, lang+" to serve", func() bool { return askRedis(t, addr, "SET", "kept", "yes") == "+OK" })
			if tt.refused != nil {
				if got := askRedis(t, addr, tt.refused...); got != "" {
					t.Errorf("%q is answered %q; the page says that %s refuses it", tt.refused, got, lang)
				}
			}
			end()

			startConfig(t, here.Replace(ours)+"admin: {listen: \""+admin+"\"}\n", admin)
			for cmd, want := range map[string]string{"GET kept": "yes", "DBSIZE": ":1", "MULTI": "+OK"} {
				if got := askRedis(t, addr, strings.Fields(cmd)...); got != want {
					t.Errorf("%s through the sidecar: %q; want %q", cmd, got, want)
				}
			}
		})
	}
}

// atHome puts a group's addresses and a free one in place of the page's.
func atHome(g *redistest.Group, listen, addr string) *strings.Replacer {
	pairs := []string{listen, addr, "maxconn 10000", "maxconn 100"} // few machines let a test have 20 000 files
	for i, n := range g.Nodes() {
		pairs = append(pairs, fmt.Sprintf("10.0.0.%d:6379", i+1), string(n.Addr()))
	}
	for i, s := range g.SentinelAddrs() {
		pairs = append(pairs, fmt.Sprintf("10.0.0.%d:26379", i+1), string(s))
	}
	return strings.NewReplacer(pairs...)
}

// startOld runs another proxy until the test ends or the returned function is called.
func startOld(tb testing.TB, program string, args []string, config string) (end func()) {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	var log buffer
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	cmd := exec.CommandContext(ctx, program, append(args, file)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	end = func() {
		cancel()
		_ = cmd.Wait() // by the signal, or long since
	}
	tb.Cleanup(func() {
		end()
		if tb.Failed() {
			tb.Log(log.String())
		}
	})
	return end
}

// startConfig runs the whole command with a file, and waits until it is ready.
func startConfig(tb testing.TB, config, admin string) {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "sentinelproxy.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	s := &started{admin: admin, log: new(buffer)}
	runInTest(tb, s.log, "run", "--config", file)
	s.waitReady(tb, admin)
}

// askRedis sends one command as clients do, over a connection of its own, and returns the
// first line of the reply, or its text; "" if the connection ends instead.
func askRedis(tb testing.TB, addr string, args ...string) string {
	tb.Helper()
	nc, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		return "" // it starts
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	var cmd strings.Builder
	fmt.Fprintf(&cmd, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&cmd, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := nc.Write([]byte(cmd.String())); err != nil {
		return ""
	}
	r := bufio.NewReader(nc)
	line, err := r.ReadString('\n')
	if err == nil && strings.HasPrefix(line, "$") {
		line, err = r.ReadString('\n')
	}
	if err != nil {
		return ""
	}
	return strings.TrimRight(line, "\r\n")
}
