package proxy

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/internal/evloop"
	"github.com/sentinelproxy/sentinelproxy/internal/outage"
)

// snapshot is one worker's numbers at one moment.
type snapshot struct {
	index    int // of the loop
	stats    stats
	tallies  []tally // of the commands that were seen
	loop     evloop.Stats
	clients  int
	waiting  uint64 // commands held at the moment
	shared   int
	own      int
	idle     int
	stale    int // to replicas
	outage   bool
	policy   Outage
	inflight int
}

func (w *worker) snapshot(l *evloop.Loop) snapshot {
	sn := snapshot{
		stats: w.stats, loop: l.Stats(), clients: len(w.sessions), own: len(w.owns),
		outage: w.inOutage(), policy: w.outage.Outage,
	}
	for _, p := range w.sharedPipes() {
		if p.conn != nil {
			sn.shared++
		}
		sn.inflight += p.queue.len()
	}
	for _, list := range w.idle {
		sn.idle += len(list)
	}
	for _, p := range w.replicas.all() {
		if p.conn != nil {
			sn.stale++
		}
		sn.inflight += p.queue.len()
	}
	for _, t := range w.tallies {
		if t != nil {
			sn.tallies = append(sn.tallies, *t)
		}
	}
	t := &w.stats
	sn.waiting = t.held - t.heldSent - t.heldFailed - t.heldPolicy - t.heldGone
	return sn
}

// collectTimeout bounds how long a scrape waits for a loop.
const collectTimeout = time.Second

// snapshots asks every loop for its numbers. A loop that does not answer in time
// is left out.
func (s *Server) snapshots(ctx context.Context) []snapshot {
	ctx, cancel := context.WithTimeout(ctx, collectTimeout)
	defer cancel()
	ch := make(chan snapshot, len(s.loops)) // each loop sends once and never waits
	asked := 0
	for i, l := range s.loops {
		w := s.workers[i]
		if l.TryPost(func() {
			sn := w.snapshot(l)
			sn.index = i
			ch <- sn
		}) == nil {
			asked++
		}
	}
	var out []snapshot
	for range asked {
		select {
		case sn := <-ch:
			out = append(out, sn)
		case <-ctx.Done():
			return out
		}
	}
	return out
}

// Status is what the data path tells about itself.
type Status struct {
	// Partial says that an event loop did not answer in time: its numbers are missing.
	Partial            bool   `json:"partial,omitempty"`
	Clients            int    `json:"clients"`
	BackendConnections int    `json:"backend_connections"`
	CommandsInFlight   int    `json:"commands_in_flight"`
	CommandsHeld       uint64 `json:"commands_held"` // that wait now

	// These count from the start.
	Commands          uint64 `json:"commands"`            // answered
	CommandErrors     uint64 `json:"command_errors"`      // of them, with an error
	CommandsHeldTotal uint64 `json:"commands_held_total"` // that ever waited for a master
	Uncertain         uint64 `json:"uncertain_replies"`
	ClientBytesIn     uint64 `json:"client_bytes_in"`
	ClientBytesOut    uint64 `json:"client_bytes_out"`

	Latency Latency      `json:"latency"`
	Outage  OutageStatus `json:"outage"`
}

// OutageStatus is the outage policy in force, and what it has done.
type OutageStatus struct {
	On      bool              `json:"on"`    // commands are answered by Policy now
	After   string            `json:"after"` // "auto" or a duration
	Policy  []string          `json:"policy"`
	Replies map[string]uint64 `json:"replies"` // by answer
}

// Status returns the sums over all loops, waiting at most a second for them.
func (s *Server) Status(ctx context.Context) Status {
	st := Status{Outage: OutageStatus{Policy: []string{}, Replies: map[string]uint64{}}}
	var all []tally
	loops := s.snapshots(ctx)
	st.Partial = len(loops) < len(s.loops)
	for _, sn := range loops {
		all = append(all, sn.tallies...)
		st.Clients += sn.clients
		st.BackendConnections += sn.shared + sn.own + sn.idle + sn.stale
		st.CommandsInFlight += sn.inflight
		st.CommandsHeld += sn.waiting
		st.CommandsHeldTotal += sn.stats.held
		st.ClientBytesIn += sn.stats.clientIn
		st.ClientBytesOut += sn.stats.clientOut
		st.Uncertain += sn.stats.uncertain
		st.Outage.add(&sn)
	}
	for i := range all {
		st.Commands += all[i].count()
		st.CommandErrors += all[i].errors
	}
	st.Latency = latencyOf(all)
	return st
}

// add takes one loop's part.
func (o *OutageStatus) add(sn *snapshot) {
	o.On = o.On || sn.outage
	o.After, o.Policy = "auto", []string{}
	if sn.policy.Fixed {
		o.After = sn.policy.After.String()
	}
	for _, r := range sn.policy.Rules {
		o.Policy = append(o.Policy, r.String())
	}
	for _, a := range outage.Answers() {
		o.Replies[a.String()] += sn.stats.outageReplies[a]
	}
}

// Describe implements prometheus.Collector: the metrics are those that Collect
// sends.
func (s *Server) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector. It asks the loops, which copy a few
// words; no command waits for it.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	e := exporter{ch: ch, group: s.opts.Group, began: s.began}
	var sum snapshot
	for _, sn := range s.snapshots(context.Background()) {
		sum.add(&sn)
		e.loop(sn.index, sn.loop)
	}
	t := &sum.stats
	e.gauge("client_connections", "Clients connected now.", float64(sum.clients))
	e.counter("client_connections_total", "Clients accepted.", t.accepted)
	const refusedHelp = "Clients turned away, by why."
	e.counter("client_connections_refused_total", refusedHelp, t.refusedClients+s.refusedTLS.Load(), "reason", "max_clients")
	e.counter("client_connections_refused_total", refusedHelp, s.notAllowed.Load(), "reason", "network")
	const endedHelp = "Clients disconnected by the sidecar, by why."
	e.counter("client_disconnects_total", endedHelp, t.idleEnded, "reason", "idle")
	e.counter("client_disconnects_total", endedHelp, t.disowned, "reason", "user_gone")
	e.counter("client_disconnects_total", endedHelp, t.endedByRedis, "reason", "ended_by_redis")
	const loginHelp = "Logins of clients that Redis refused, that had to wait because many had failed, and that were not tried for it."
	e.counter("client_logins_total", loginHelp, t.loginsFailed, "outcome", "failed")
	e.counter("client_logins_total", loginHelp, t.loginsDelayed, "outcome", "delayed")
	e.counter("client_logins_total", loginHelp, t.loginsRefused, "outcome", "refused")
	for r := range cutReasons {
		class, limit := r.labels()
		e.counter("client_output_cut_total", "Clients cut off because they did not read their replies, by the limit they passed.",
			t.outputCut[r], "class", class, "limit", limit)
	}
	e.counter("client_query_full_total", "Times that a client was read no further: it sends more than query_buffer_limit and does not read its replies.", t.queryFull)
	e.counter("large_commands_total", "Commands larger than large_command, passed on in pieces.", t.largeCommands)
	e.counter("large_replies_total", "Replies larger than large_command on shared connections, which they were the end of.", t.largeReplies)
	e.counter("recalled_reads_total", "Reads sent again on another connection so as not to wait behind a large reply, or not to crowd a client that does not read.", t.recalled)
	e.counter("client_reply_cut_total", "Clients cut off because a large reply broke off with its master.", t.cutMidReply)
	for k := range breachEnd {
		e.counter("client_protocol_errors_total", "Clients that broke the protocol and were cut off, by how.", t.breaches[k], "reason", k.String())
	}
	e.counter("client_state_cut_total", "Clients cut off after their connection to the master was lost: they had more state than is remembered, or a new one was refused it.", t.stateCut)
	if len(s.opts.TLSListeners) > 0 {
		for k := range shakesEnd {
			e.counter("tls_handshakes_total", "TLS handshakes with clients, by how they ended.", s.shakes.done[k].Load(), "result", k.String())
		}
		e.gauge("tls_handshakes_pending", "TLS handshakes with clients under way.", float64(s.shakes.pending.Load()))
	}
	const useHelp = "Connections to Redis: to the master, and for stale reads to replicas."
	e.gauge("backend_connections", useHelp, float64(sum.shared), "use", "shared")
	e.gauge("backend_connections", useHelp, float64(sum.own), "use", "own")
	e.gauge("backend_connections", useHelp, float64(sum.idle), "use", "idle")
	e.gauge("backend_connections", useHelp, float64(sum.stale), "use", "stale")
	e.counter("backend_dials_total", "Connections to the master that were tried.", t.dials)
	e.counter("backend_dial_errors_total", "Connections to the master that failed.", t.dialErrors)
	e.counter("backend_connections_lost_total", "Connections that the master ended.", t.backendLost)
	e.counter("backend_connections_silent_total", "Connections to the master that had died without a word.", t.silent)
	for r := pinNone + 1; r < pinReasons; r++ {
		e.counter("pins_total", "Times that a client was given a backend connection of its own, by why.", t.pinned[r], "reason", r.String())
	}
	e.counter("users_refused_total", "Commands refused because the limit of users' shared connections was reached.", t.usersRefused)
	e.counter("pins_refused_total", "Times that the limit of such connections was reached.", t.pinRefused)
	for _, c := range byCommand(sum.tallies, s.workers[0].cmds.unknown) {
		e.command(&c)
	}
	for i, word := range errorWords {
		e.counter("error_replies_total", "Errors that commands were answered with, by the word that they begin with.",
			t.errors[replyError+replyKind(i)], "error", word)
	}
	const slowHelp = "Commands slower than slow_command, by what became of their line in the log."
	e.counter("slow_commands_total", slowHelp, s.slow.logged.Load(), "outcome", "logged")
	e.counter("slow_commands_total", slowHelp, s.slow.unlogged.Load(), "outcome", "counted")
	e.counter("slow_commands_total", slowHelp, t.slowDropped, "outcome", "dropped")
	e.gauge("commands_in_flight", "Commands sent on shared connections and not answered yet.", float64(sum.inflight))
	e.gauge("held_commands", "Commands that wait for a master now.", float64(sum.waiting))
	const heldHelp = "Commands that waited for a master, by how the wait ended."
	e.counter("held_commands_total", heldHelp, t.heldSent, "outcome", "sent")
	e.counter("held_commands_total", heldHelp, t.heldFailed, "outcome", "failed")
	e.counter("held_commands_total", heldHelp, t.heldPolicy, "outcome", "policy")
	e.counter("held_commands_total", heldHelp, t.heldGone, "outcome", "client_gone")
	e.counter("rejected_commands_total", "Commands failed at once because no master could take them.", t.rejected)
	for _, a := range outage.Answers() {
		e.counter("outage_replies_total", "Replies given while no master was served, by what they were.", t.outageReplies[a], "policy", a.String())
	}
	e.counter("uncertain_replies_total", "Commands answered -UNCERTAIN.", t.uncertain)
	e.counter("refusals_total", "Refusals such as -READONLY that the master answered.", t.refused)
	e.counter("repeated_writes_total", "Writes sent again that may have been executed already (retry.writes).", t.repeated)
	for r := range resendReasons {
		e.counter("resends_total", "Times that a client's commands were taken back to be sent again, by why.", t.resent[r], "reason", r.String())
	}
	e.counter("scan_restarts_total", "Iterations of SCAN and kin begun anew because their cursor was another master's.", t.scanRestarts)
	e.counter("script_reloads_total", "Calls answered -NOSCRIPT that were sent again with the script's body.", t.scriptReloads)
	e.counter("lease_ended_total", "Times that the lease ran out while commands were to be sent.", t.leaseEnded)
	e.histogram("hold_duration_seconds", "How long clients were held until a master could be served.", t)
	const clientHelp, nodeHelp = "Bytes read from and written to clients.", "Bytes read from and written to Redis."
	e.counter("client_bytes_total", clientHelp, t.clientIn, "direction", "in")
	e.counter("client_bytes_total", clientHelp, t.clientOut, "direction", "out")
	e.counter("backend_bytes_total", nodeHelp, t.backendIn, "direction", "in")
	e.counter("backend_bytes_total", nodeHelp, t.backendOut, "direction", "out")
}

func (sn *snapshot) add(o *snapshot) {
	sn.clients += o.clients
	sn.waiting += o.waiting
	sn.shared += o.shared
	sn.own += o.own
	sn.idle += o.idle
	sn.stale += o.stale
	sn.inflight += o.inflight
	sn.stats.add(&o.stats)
	sn.tallies = append(sn.tallies, o.tallies...)
}

func (t *stats) add(o *stats) {
	for _, f := range []struct {
		sum *uint64
		n   uint64
	}{
		{&t.accepted, o.accepted},
		{&t.refusedClients, o.refusedClients},
		{&t.idleEnded, o.idleEnded},
		{&t.disowned, o.disowned},
		{&t.usersRefused, o.usersRefused},
		{&t.loginsFailed, o.loginsFailed},
		{&t.loginsDelayed, o.loginsDelayed},
		{&t.loginsRefused, o.loginsRefused},
		{&t.stateCut, o.stateCut},
		{&t.queryFull, o.queryFull},
		{&t.largeCommands, o.largeCommands},
		{&t.largeReplies, o.largeReplies},
		{&t.recalled, o.recalled},
		{&t.cutMidReply, o.cutMidReply},
		{&t.slowDropped, o.slowDropped},
		{&t.clientIn, o.clientIn},
		{&t.clientOut, o.clientOut},
		{&t.backendIn, o.backendIn},
		{&t.backendOut, o.backendOut},
		{&t.pinRefused, o.pinRefused},
		{&t.held, o.held},
		{&t.heldSent, o.heldSent},
		{&t.heldFailed, o.heldFailed},
		{&t.heldPolicy, o.heldPolicy},
		{&t.heldGone, o.heldGone},
		{&t.outageReplies[outage.Fail], o.outageReplies[outage.Fail]},
		{&t.outageReplies[outage.Stale], o.outageReplies[outage.Stale]},
		{&t.outageReplies[outage.Nil], o.outageReplies[outage.Nil]},
		{&t.rejected, o.rejected},
		{&t.uncertain, o.uncertain},
		{&t.repeated, o.repeated},
		{&t.refused, o.refused},
		{&t.dials, o.dials},
		{&t.dialErrors, o.dialErrors},
		{&t.backendLost, o.backendLost},
		{&t.silent, o.silent},
		{&t.leaseEnded, o.leaseEnded},
		{&t.scriptReloads, o.scriptReloads},
		{&t.endedByRedis, o.endedByRedis},
		{&t.scanRestarts, o.scanRestarts},
		{&t.holdCount, o.holdCount},
	} {
		*f.sum += f.n
	}
	for r := range t.pinned {
		t.pinned[r] += o.pinned[r]
	}
	for r := range t.resent {
		t.resent[r] += o.resent[r]
	}
	for k := range t.errors {
		t.errors[k] += o.errors[k]
	}
	for i := range t.outputCut {
		t.outputCut[i] += o.outputCut[i]
	}
	for i := range t.holdBuckets {
		t.holdBuckets[i] += o.holdBuckets[i]
	}
	for k := range t.breaches {
		t.breaches[k] += o.breaches[k]
	}
	t.holdSum += o.holdSum
}

// exporter writes metrics of one group.
type exporter struct {
	ch    chan<- prometheus.Metric
	group string
	began time.Time // since when is counted
}

// send writes one sample; labels are pairs of name and value.
func (e exporter) send(name, help string, t prometheus.ValueType, v float64, labels []string) {
	names, values := []string{"master_name"}, []string{e.group}
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	d := prometheus.NewDesc("sentinelproxy_"+name, help, names, nil)
	e.ch <- prometheus.MustNewConstMetric(d, t, v, values...)
}

func (e exporter) gauge(name, help string, v float64, labels ...string) {
	e.send(name, help, prometheus.GaugeValue, v, labels)
}

func (e exporter) counter(name, help string, v uint64, labels ...string) {
	e.send(name, help, prometheus.CounterValue, float64(v), labels)
}

// loop writes what one event loop does. Each has its series: one that is busy all the time
// holds up its clients while the others rest.
func (e exporter) loop(index int, st evloop.Stats) {
	label := []string{"loop", strconv.Itoa(index)}
	e.send("loop_turns_total", "Turns of the event loop.", prometheus.CounterValue, float64(st.Turns), label)
	e.send("loop_busy_seconds_total", "Time that the event loop spent working.", prometheus.CounterValue, st.Busy.Seconds(), label)
	e.send("loop_longest_turn_seconds", "Longest turn of the event loop since the start.", prometheus.GaugeValue, st.LongestTurn.Seconds(), label)
}

func (e exporter) histogram(name, help string, t *stats) {
	d := prometheus.NewDesc("sentinelproxy_"+name, help, []string{"master_name"}, nil)
	buckets := make(map[float64]uint64, len(holdBounds))
	n := uint64(0)
	for i, b := range holdBounds {
		n += t.holdBuckets[i]
		buckets[b] = n
	}
	e.ch <- prometheus.MustNewConstHistogram(d, t.holdCount, t.holdSum.Seconds(), buckets, e.group)
}
