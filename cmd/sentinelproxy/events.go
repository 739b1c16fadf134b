package main

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/events/webhook"
	"github.com/sentinelproxy/sentinelproxy/internal/certwatch"
	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// teller is where events come together and go out: to the log, to webhooks and, through
// the stream, to the admin server.
type teller struct {
	// Fixed at construction.
	log    *slog.Logger
	stream *events.Stream
	hooks  *webhook.Sender
	certs  *certwatch.Monitor
}

// newTeller returns a teller that tells nobody before run. What is published meanwhile is
// told then.
func newTeller(cfg config.Config, log *slog.Logger) teller {
	name, err := os.Hostname()
	if err != nil {
		name = "sentinelproxy"
	}
	t := teller{log: log, stream: events.NewStream(name)}
	t.hooks = webhook.New(webhook.Options{Stream: t.stream, Log: log, Agent: "sentinelproxy/" + build().Version}, hooksOf(cfg))
	t.certs = certwatch.New(certwatch.Options{Settings: certSettings(cfg), Tell: t.stream.Publish, Log: log})
	return t
}

// run tells until ctx ends; then it tells what is left, for two seconds at most.
func (t teller) run(ctx context.Context) error {
	// What watches ends first, what tells after it.
	telling, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { events.ToLog(telling, t.stream, t.log) })
	wg.Go(func() { _ = t.hooks.Run(telling) }) // it has no error
	return t.certs.Run(ctx)
}

// of returns what publishes events of a master.
func (t teller) of(master string) func(events.Body) {
	return func(b events.Body) { t.stream.Publish(master, b) }
}

// process publishes an event of the process.
func (t teller) process(b events.Body) { t.stream.Publish("", b) }

// collectors returns what is exported of all this.
func (t teller) collectors() []prometheus.Collector {
	return []prometheus.Collector{t.stream.Collector(), t.hooks, t.certs.Collector()}
}

// hooksOf translates the configured webhooks.
func hooksOf(cfg config.Config) []webhook.Hook {
	var hooks []webhook.Hook
	for _, w := range cfg.Webhooks {
		hooks = append(hooks, webhook.Hook{
			Name: w.Name, URL: w.URL.Reveal(), Secret: w.Secret.Reveal(), Kinds: w.Events, MinSeverity: w.MinSeverity,
			Cooldown: w.Cooldown, Timeout: w.Timeout, CA: w.CA,
		})
	}
	return hooks
}

func certSettings(cfg config.Config) certwatch.Settings {
	c := cfg.Certificates
	return certwatch.Settings{WarnBefore: time.Duration(c.WarnDays) * 24 * time.Hour, CheckEvery: c.CheckCooldown, EventEvery: c.EventCooldown}
}

// keep tells the certificate monitor which nodes and Sentinels of a group there are.
func (l legs) keep(o topology.Observation) {
	if o.Answering == 0 {
		return // nobody knows
	}
	if l.nodePeers != nil {
		nodes := []string{string(o.Master)}
		for _, v := range o.Views {
			nodes = append(nodes, string(v.Master)) // who is master is open at times
		}
		for _, r := range o.Replicas {
			nodes = append(nodes, string(r.Addr))
		}
		l.nodePeers.Keep(nodes)
	}
	if l.sentinelPeers != nil {
		var all []string
		for _, v := range o.Views {
			all = append(all, string(v.Sentinel))
		}
		l.sentinelPeers.Keep(all)
	}
}
