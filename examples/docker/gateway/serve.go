package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// serveGateway serves until ctx ends.
func serveGateway(ctx context.Context, cfg config, log *slog.Logger) error {
	s := newStore(cfg)
	defer s.close()
	g := newGateway(cfg, s, log)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { g.run(ctx) })
	err := serve(ctx, cfg.Listen, g.handler(), log)
	cancel()
	wg.Wait()
	return err
}

// serve answers HTTP at addr until ctx ends; what is under way then may finish.
func serve(ctx context.Context, addr string, h http.Handler, log *slog.Logger) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	const headers, idle, grace = 5 * time.Second, 2 * time.Minute, 10 * time.Second
	srv := &http.Server{Handler: h, ReadHeaderTimeout: headers, IdleTimeout: idle}
	served := make(chan error, 1) // one value: never full
	go func() { served <- srv.Serve(ln) }()
	log.Info("listening", "addr", ln.Addr().String())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if srv.Shutdown(limited) != nil {
		_ = srv.Close() // whoever is left has had the time
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// upstream is something to stand before: it says what it was asked.
func upstream() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ready") })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"upstream": "ok", "method": r.Method, "path": r.URL.Path}) // a client that has left
	})
	return mux
}

// checkHealth asks what listens at cfg.Listen whether it is ready.
func checkHealth(ctx context.Context, cfg config) error {
	ctx, cancel := context.WithTimeout(ctx, 2*aliveTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(cfg.Listen)+"/ready", http.NoBody)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := new(http.Transport).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	const most = 1 << 10
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(body)))
	}
	return nil
}
