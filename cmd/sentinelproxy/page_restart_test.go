package main

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sentinelproxy/sentinelproxy/failover"
	"github.com/sentinelproxy/sentinelproxy/health"
	"github.com/sentinelproxy/sentinelproxy/proxy"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// shownGroup is a group of a status page, which serves.
type shownGroup struct{ name string }

func (g shownGroup) Name() string           { return g.name }
func (shownGroup) Checks() []topology.Check { return nil }
func (shownGroup) Status(context.Context) any {
	return groupStatus{Failover: failover.Status{State: "serving", Master: "10.0.0.1:6379"}, Proxy: proxy.Status{}}
}
func (shownGroup) Clients(context.Context, int) any { return nil }

// A page stays open while another sidecar takes the place of the one it was opened from: what
// that one served is not shown as if it were still so.
func TestStatusPageForgetsMasters(t *testing.T) {
	b := newBrowser(t)
	addr := freeAddr(t)
	serve := func(names ...string) (stop func()) {
		ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		o := health.Options{Listener: ln, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
		for _, n := range names {
			o.Groups = append(o.Groups, shownGroup{n})
		}
		s, err := health.New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1) // one value: never full
		go func() { ended <- s.Run(ctx) }()
		stop = sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(stop)
		return stop
	}
	const shown = `[...document.querySelectorAll(".group h2")].map((e) => e.textContent).join()`
	stop := serve("old", "kept")
	b.do(t, chromedp.Navigate("http://"+addr+"/status"))
	b.wait(t, "both masters", shown+` === "Master old,Master kept"`)
	stop()
	serve("kept", "new")
	b.wait(t, "the new master", shown+`.includes("Master new")`)
	if got := eval[string](t, b, shown); got != "Master kept,Master new" {
		t.Errorf("shown are %s", got)
	}
	if n := eval[int](t, b, `new Set([...document.querySelectorAll(".group h2")].map((e) => e.id)).size`); n != 2 {
		t.Errorf("%d ids for two masters", n)
	}
}
