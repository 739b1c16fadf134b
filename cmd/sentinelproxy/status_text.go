package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover"
)

const (
	shownFailovers = 3
)

// text is a snapshot for people.
func (s snapshot) text(p painter) string {
	var b strings.Builder
	state := p.good("ready")
	switch {
	case s.status.Draining:
		state = p.bad("draining")
	case !s.status.Live:
		state = p.bad("not alive")
	case !s.ready.OK:
		state = p.bad("not ready")
	}
	fmt.Fprintf(&b, "sidecar   %s, version %s, up %v\n", state, printable(s.status.Version), roundSeconds(s.status.UptimeSeconds))
	for _, m := range s.status.Masters {
		s.master(&b, p, m)
	}
	s.certificates(&b, p)
	if len(s.events) > 0 {
		fmt.Fprintf(&b, "\n%s\n", p.bold("lately"))
		for _, e := range s.events {
			fmt.Fprintf(&b, "  %s  %-8s  %s\n", e.At.Local().Format(time.TimeOnly), e.Severity, printable(strings.TrimSpace(e.Master+" "+e.Message)))
		}
	}
	return b.String()
}

// master writes one group.
func (snapshot) master(b *strings.Builder, p painter, m masterView) {
	f := m.Status.Failover
	state := p.good(f.State)
	if !m.Ready {
		state = p.bad(f.State)
	}
	fmt.Fprintf(b, "\n%s\n", p.bold(printable(m.Name)))
	fmt.Fprintf(b, "  route      %s for %v", state, millis(f.SinceMS))
	if f.Why != "" {
		fmt.Fprintf(b, ": %s", printable(f.Why))
	}
	b.WriteString("\n")
	if m.Reason != "" {
		fmt.Fprintf(b, "  %s     %s\n", "notice", printable(m.Reason))
	}
	fmt.Fprintf(b, "  master     %s, epoch %d\n", f.Master, f.Epoch)
	writeReplicas(b, p, f)
	writeSentinels(b, p, f.Sentinel)
	px := m.Status.Proxy
	fmt.Fprintf(b, "  clients    %d on %s; %d backend connections, %d commands under way\n",
		px.Clients, printable(strings.Join(m.Status.Listen, " ")), px.BackendConnections, px.CommandsInFlight)
	if f.Hold != nil {
		writeHold(b, p.bad("hold"), *f.Hold)
	}
	last := f.Failovers[max(0, len(f.Failovers)-shownFailovers):]
	for _, h := range slices.Backward(last) {
		writeHold(b, "failover", h)
	}
}

// writeReplicas writes the nodes beside the master, as the sidecar's own probes have them.
func writeReplicas(b *strings.Builder, p painter, f failover.Status) {
	var offset int64
	for _, n := range f.Nodes {
		if n.Addr == f.Master {
			offset = n.Offset
		}
	}
	for _, n := range f.Nodes {
		if n.Addr == f.Master {
			if n.Err != "" {
				fmt.Fprintf(b, "             %s\n", p.bad(printable(n.Err)))
			}
			continue
		}
		state := p.good("linked")
		switch {
		case n.Err != "":
			state = p.bad("down: " + printable(n.Err))
		case n.Role != "replica":
			state = p.bad("says " + printable(n.Role))
		case !n.LinkUp:
			state = p.bad("link down")
		case offset > 0 && n.Offset > 0:
			state += fmt.Sprintf(", %s behind", bytesText(max(0, offset-n.Offset)))
		}
		fmt.Fprintf(b, "  replica    %s  %s, asked %v ago\n", n.Addr, state, millis(n.AgeMS))
	}
}

// writeSentinels writes what they say together, and each that says something else.
func writeSentinels(b *strings.Builder, p painter, s failover.SentinelStatus) {
	together := p.good("agree")
	if !s.Agreed {
		together = p.bad("no majority agrees")
	}
	fmt.Fprintf(b, "  sentinels  %s: %d of %d answer, %d name %s at epoch %d\n", together, s.Answering, s.Known, s.Support, s.Master, s.Epoch)
	for _, v := range s.Views {
		state := p.good("agrees")
		switch {
		case !v.Up:
			state = p.bad("does not answer: " + printable(v.Err))
		case v.Tilt:
			state = p.bad("in TILT mode")
		case v.Master != s.Master || v.Epoch != s.Epoch:
			state = p.bad(fmt.Sprintf("names %s at epoch %d", v.Master, v.Epoch))
		case !v.Subscribed:
			state = "agrees, polled only"
		}
		fmt.Fprintf(b, "    %s  %s\n", v.Sentinel, state)
	}
}

func writeHold(b *strings.Builder, what string, h failover.HoldStatus) {
	fmt.Fprintf(b, "  %-9s  %s  %s: %s, %s", what, h.Started.Local().Format(time.DateTime), printable(h.Cause), h.From, millis(h.TookMS))
	if h.To != "" {
		fmt.Fprintf(b, ", then %s at epoch %d", h.To, h.Epoch)
	}
	if h.Outcome != "" {
		fmt.Fprintf(b, " (%s)", printable(h.Outcome))
	}
	b.WriteString("\n")
	if len(h.Phases) > 0 {
		b.WriteString("            ")
		for _, ph := range h.Phases {
			fmt.Fprintf(b, " %s +%v", printable(ph.Name), millis(ph.AfterMS))
		}
		b.WriteString("\n")
	}
}

// certificates writes those that have ended or will soon.
func (s snapshot) certificates(b *strings.Builder, p painter) {
	for _, c := range s.certs {
		if c.Ends == nil || !c.Expired && !c.Soon {
			continue
		}
		left := fmt.Sprintf("ends in %d days", c.Days)
		if c.Expired {
			left = "has ended"
		}
		fmt.Fprintf(b, "\ncertificate  %s %s (%s): %s, %s\n", printable(c.Role), printable(c.Source), printable(c.Name), p.bad(left), c.Ends.Format(time.DateOnly))
	}
}

func millis(ms float64) string { return short(time.Duration(ms * float64(time.Millisecond))) }

func roundSeconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Second)
}

func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
