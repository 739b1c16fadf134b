package main

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/failover"
	"github.com/sentinelproxy/sentinelproxy/health"
	"github.com/sentinelproxy/sentinelproxy/proxy"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// votedGroup is a group of a status page whose Sentinels say what the test wants.
type votedGroup struct {
	shownGroup

	sentinels failover.SentinelStatus
}

func (g votedGroup) Status(context.Context) any {
	f := failover.Status{
		State: "serving", Master: "10.0.0.1:6379", Epoch: 7, Causes: []string{}, Degraded: []string{}, Nodes: []failover.NodeStatus{},
		Sentinel: g.sentinels, Failovers: []failover.HoldStatus{}, Cleared: []failover.HoldStatus{},
	}
	return groupStatus{Failover: f, Proxy: proxy.Status{}}
}

// The drawing of a group and its words say whom how many Sentinels name, and that nobody
// names a master where none answers or knows one.
func TestStatusPageTellsVotes(t *testing.T) {
	b := newBrowser(t)
	votes := map[string]struct {
		status failover.SentinelStatus
		want   string
	}{
		"silent":   {failover.SentinelStatus{Known: 3}, "nobody names a master"},
		"ignorant": {failover.SentinelStatus{Known: 3, Answering: 3}, "nobody names a master"},
		"split":    {failover.SentinelStatus{Known: 3, Answering: 3, Master: "10.0.0.1:6379", Epoch: 7, Support: 1}, "1 names 10.0.0.1:6379, epoch 7"},
		"agreed":   {failover.SentinelStatus{Known: 3, Answering: 2, Master: "10.0.0.1:6379", Epoch: 7, Support: 2, Agreed: true}, "2 name 10.0.0.1:6379, epoch 7"},
	}
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := health.Options{Listener: ln, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
	for name, v := range votes {
		v.status.Views, v.status.Replicas = []failover.ViewStatus{}, []failover.ReplicaStatus{}
		for _, a := range []topology.Addr{"10.0.1.1:26379", "10.0.1.2:26379", "10.0.1.3:26379"} {
			v.status.Views = append(v.status.Views, failover.ViewStatus{Sentinel: a, Err: "refused"})
		}
		o.Groups = append(o.Groups, votedGroup{shownGroup{name}, v.status})
	}
	s, err := health.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1) // one value: never full
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	b.do(t, chromedp.Navigate("http://"+ln.Addr().String()+"/status"))
	for name, v := range votes {
		in := `[...document.querySelectorAll(".group")].find((g) => g.querySelector("h2").textContent === "Master ` + name + `")`
		b.wait(t, "the drawing of "+name, in+`?.querySelector("svg text") != null`)
		mark := "✕ "
		if v.status.Agreed {
			mark = "✓ "
		}
		if drawn := eval[string](t, b, `[...`+in+`.querySelectorAll("svg text")].map((e) => e.textContent).join("\n")`); !strings.Contains(drawn, mark+v.want) {
			t.Errorf("%s: drawn is %q; want %s", name, drawn, mark+v.want)
		}
		if text := eval[string](t, b, in+`.textContent`); !strings.Contains(text, "answer; "+v.want) {
			t.Errorf("%s: the words are %q; want %s", name, text, v.want)
		}
	}
}
