package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// introduce says what runs, and what to do with it.
func (d *demo) introduce(ctx context.Context) {
	master := d.master(ctx)
	var replicas []string
	for _, a := range d.group.NodeAddrs() {
		if a != master {
			replicas = append(replicas, string(a))
		}
	}
	d.screen.say("\n  sidecar    %s   (try: %s)", d.addr(), connectWith(d.addr()))
	d.screen.say("  master     %s", master)
	d.screen.say("  replicas   %s", strings.Join(replicas, ", "))
	d.screen.say("  Redis      %s", d.group.Redis())
	if a := d.sidecar.AdminAddr(); a != nil {
		d.screen.say("  metrics    http://%s/metrics", a)
		d.screen.say("  status     http://%s/status   (in a browser)", a)
	}
	hold := ""
	if d.cfg.Masters[0].Hold.Timeout.String() == "off" {
		hold = "\nThe hold is off: no command waits for a new master."
	}
	d.screen.say("\n%d plain clients talk to it as to a single Redis: %d write, %d read.\n"+
		"They know nothing of Sentinel, and never retry.%s\n%s\n",
		d.o.clients, (d.o.clients+1)/2, d.o.clients/2, hold, d.plan())
}

// plan says what will happen, and when.
func (d *demo) plan() string {
	until := "until Ctrl-C"
	if d.o.length > 0 {
		until = fmt.Sprintf("for %v (Ctrl-C ends sooner)", d.o.length)
	}
	plan := fmt.Sprintf("Now the master changes every %v %s:", d.o.every, until)
	if d.o.redis != "" {
		plan += "\n(not before the group is stable: Sentinel takes ten seconds to demote an old master)"
	}
	return plan
}

// connectWith is how a person gets to addr.
func connectWith(addr string) string {
	host, port := topology.Addr(addr).Split()
	if port == 0 {
		return "redis-cli -s " + addr
	}
	if ip := net.ParseIP(host); ip != nil && (ip.IsUnspecified() || ip.Equal(net.IPv4(127, 0, 0, 1))) {
		return fmt.Sprintf("redis-cli -p %d", port)
	}
	return fmt.Sprintf("redis-cli -h %s -p %d", host, port)
}

// event tells something that just happened.
func (d *demo) event(format string, args ...any) {
	d.screen.say("%6.1fs  "+format, append([]any{time.Since(d.began).Seconds()}, args...)...)
}

// setPhase replaces the end of the live line.
func (d *demo) setPhase(phase func() string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.phase = phase
}

// liveLine returns what makes the live line; one goroutine calls it.
func (d *demo) liveLine() func() string {
	const window = int(time.Second / screenPeriod)
	past := make([]int, 0, window+1) // commands at the last redraws
	return func() string {
		c := d.tally.now()
		past = append(past, c.commands)
		if len(past) > window+1 {
			past = past[1:]
		}
		rate := 0
		if n := len(past) - 1; n > 0 {
			rate = (c.commands - past[0]) * window / n
		}
		d.mu.Lock()
		phase := d.phase
		d.mu.Unlock()
		return fmt.Sprintf("%6.1fs  %s commands, %s/s, %s | %s",
			time.Since(d.began).Seconds(), thousands(c.commands), thousands(rate), plural(c.errors, "error"), phase())
	}
}
