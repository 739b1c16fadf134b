package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// What clients keep on their connections survives a planned failover: a blocked
// call, a subscription, an open transaction; and a watched key counts as touched.
func TestConnectionStateSurvivesFailover(t *testing.T) {
	g := calmGroup(t)
	s := startRun(t, g, patiently()...)
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) {
			old := stable(t, g)
			c := redis.NewClient(&redis.Options{
				Addr: s.addr, Protocol: protocol, MaxRetries: -1, ReadTimeout: patience, DisableIdentity: true,
			})
			defer c.Close()
			queue, channel := fmt.Sprintf("q%d", protocol), fmt.Sprintf("c%d", protocol)

			popped := make(chan error, 1)
			go func() {
				v, err := c.BLPop(t.Context(), 10*patience, queue).Result()
				if err == nil && (len(v) != 2 || v[1] != "element") {
					err = fmt.Errorf("BLPOP: %q", v)
				}
				popped <- err
			}()
			sub := c.Subscribe(t.Context(), channel)
			defer sub.Close()
			if _, err := sub.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
			tx, watcher := dialRaw(t, s.addr), dialRaw(t, s.addr)
			tx.want("MULTI", "+OK")
			tx.want("SET tx 1", "+QUEUED")
			watcher.want("WATCH watched", "+OK")
			waitFor(t, "BLPOP to block", func() bool {
				v, err := old.Do(t.Context(), "INFO", "clients")
				return err == nil && strings.Contains(fmt.Sprint(v), "blocked_clients:1")
			})

			watch := watchMajority(t, g, old)
			failOver(t, g, watch)
			watch.result(t)
			watch.end()

			tx.want("SET tx 2", "+QUEUED")
			tx.want("EXEC", "*2", "+OK", "+OK")
			watcher.want("MULTI", "+OK")
			watcher.want("SET watched 1", "+QUEUED")
			watcher.want("EXEC", "*-1")
			select {
			case err := <-popped:
				t.Fatalf("BLPOP ended with the failover: %v", err)
			default:
			}
			if err := c.RPush(t.Context(), queue, "element").Err(); err != nil {
				t.Fatal(err)
			}
			if err := <-popped; err != nil {
				t.Errorf("BLPOP after the failover: %v", err)
			}
			if err := c.Publish(t.Context(), channel, "after").Err(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			m, err := sub.ReceiveMessage(ctx)
			if err != nil || m.Payload != "after" {
				t.Errorf("message after the failover: %v, %v", m, err)
			}
		})
	}
}

// raw is one plain connection that sends inline commands.
type raw struct {
	tb testing.TB
	nc net.Conn
	r  *bufio.Reader
}

func dialRaw(tb testing.TB, addr string) *raw {
	tb.Helper()
	nc, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(10 * patience)); err != nil {
		tb.Fatal(err)
	}
	return &raw{tb: tb, nc: nc, r: bufio.NewReader(nc)}
}

// want sends a command and expects the lines of its reply.
func (c *raw) want(cmd string, lines ...string) {
	c.tb.Helper()
	if _, err := c.nc.Write([]byte(cmd + "\r\n")); err != nil {
		c.tb.Fatalf("%s: %v", cmd, err)
	}
	for _, want := range lines {
		line, err := c.r.ReadString('\n')
		if got := strings.TrimRight(line, "\r\n"); err != nil || got != want {
			c.tb.Fatalf("%s: got %q, %v; want %q", cmd, got, err, want)
		}
	}
}
