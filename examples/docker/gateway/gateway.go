package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// gateway answers clients.
type gateway struct {
	// Fixed at construction.
	cfg       config
	store     store
	keys      *cache
	breaker   *breaker
	upstream  http.Handler
	transport *http.Transport // the upstream's
	registry  *prometheus.Registry
	answers   *prometheus.CounterVec // by code
	passed    prometheus.Counter     // unchecked
	log       *slog.Logger

	slots  chan struct{} // one for each request under way; full: 503 at once
	seeded atomic.Bool   // Redis has answered, and the first keys are there
}

func newGateway(cfg config, s store, log *slog.Logger) *gateway {
	g := &gateway{
		cfg: cfg, store: s, keys: newCache(), breaker: newBreaker(), log: log, slots: make(chan struct{}, cfg.MaxInFlight), registry: prometheus.NewRegistry(),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gateway_answers_total", Help: "Requests answered, by status code."}, []string{"code"}),
		passed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "gateway_unchecked_total", Help: "Requests that passed unchecked: Redis was away and the gateway fails open."}),
	}
	g.registry.MustRegister(g.answers, g.passed, prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "gateway_in_flight", Help: "Requests under way."}, func() float64 { return float64(len(g.slots)) }))
	g.transport = &http.Transport{MaxIdleConnsPerHost: cfg.MaxInFlight, ResponseHeaderTimeout: upstreamTimeout}
	g.upstream = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(cfg.Upstream)
			r.SetXForwarded()
			r.Out.Header.Del("Authorization") // the key is for the gateway alone
		},
		Transport: g.transport,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil { // else it was the client who left
				log.Warn("upstream failed", "err", err)
			}
			g.say(w, http.StatusBadGateway, "the upstream does not answer")
		},
	}
	return g
}

const (
	upstreamTimeout = 10 * time.Second
	aliveTimeout    = time.Second // of what /hello and /ready ask of Redis
)

// run keeps what is known of keys fresh, and makes the first ones, until ctx ends.
func (g *gateway) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { g.store.reloads(ctx, g.keys.forget) })
	wg.Go(func() { g.seed(ctx) })
	wg.Wait()
	g.transport.CloseIdleConnections()
}

// seed makes the first keys, again and again until Redis has taken them.
func (g *gateway) seed(ctx context.Context) {
	const again = 500 * time.Millisecond
	tick := time.NewTicker(again)
	defer tick.Stop()
	said := ""
	for {
		err := g.seedOnce(ctx)
		if err == nil {
			g.seeded.Store(true)
			g.log.Info("ready", "redis", g.cfg.Redis, "seeded", g.cfg.Seed, "fail_mode", string(g.cfg.FailMode))
			return
		}
		if why := err.Error(); why != said && ctx.Err() == nil { // once for each reason
			g.log.Warn("not ready: redis does not answer", "redis", g.cfg.Redis, "err", err)
			said = why
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (g *gateway) seedOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.RedisTimeout)
	defer cancel()
	errs := []error{g.store.ping(ctx)}
	for _, key := range g.cfg.Seed {
		errs = append(errs, g.store.seed(ctx, key, g.cfg.SeedRate))
	}
	return errors.Join(errs...)
}

// handler returns all routes.
func (g *gateway) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", g.hello)
	mux.HandleFunc("GET /ready", g.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/", g.serve)
	return mux
}

// hello says that the process lives, whatever becomes of Redis.
func (g *gateway) hello(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), aliveTimeout)
	defer cancel()
	redis := "up"
	if err := g.store.ping(ctx); err != nil {
		redis = "down: " + err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{ // a client that has left
		"status": "alive", "redis": redis, "fail_mode": string(g.cfg.FailMode),
	})
}

// ready says whether requests are answered as they should be: checked, or once they
// could be, where the gateway fails open.
func (g *gateway) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), aliveTimeout)
	defer cancel()
	if !g.seeded.Load() {
		g.say(w, http.StatusServiceUnavailable, "redis has not answered yet")
	} else if err := g.store.ping(ctx); err != nil && g.cfg.FailMode == failClosed {
		g.say(w, http.StatusServiceUnavailable, "redis does not answer: "+err.Error())
	} else {
		g.say(w, http.StatusOK, "ready")
	}
}

// serve checks a request and passes it on.
func (g *gateway) serve(w http.ResponseWriter, r *http.Request) {
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	default:
		g.refuse(w, http.StatusServiceUnavailable, "too many requests are under way")
		return
	}
	key := r.Header.Get("Authorization")
	switch {
	case key == "":
		g.refuse(w, http.StatusUnauthorized, "the header authorization is missing")
		return
	case !validKey(key):
		g.refuse(w, http.StatusForbidden, "this key is unknown")
		return
	}
	if v := g.check(r.Context(), key, time.Now()); v.code != http.StatusOK {
		if v.retryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(v.retryAfter))
		}
		g.refuse(w, v.code, v.why)
		return
	} else if v.unchecked {
		g.passed.Inc()
		w.Header().Set("X-Gateway-Unchecked", "redis is away")
	}
	rec := &recorder{ResponseWriter: w, code: http.StatusOK}
	g.upstream.ServeHTTP(rec, r)
	g.count(rec.code)
}

// verdict is what becomes of a request.
type verdict struct {
	code       int // 200: it passes
	why        string
	retryAfter int  // seconds; 0 says nothing
	unchecked  bool // it passes since Redis could not be asked
}

// check asks whether a key may make one more request. It ends with ctx, after
// cfg.RedisTimeout at the latest.
func (g *gateway) check(ctx context.Context, key string, now time.Time) verdict {
	limit, leave, ok := g.breaker.enter(g.cfg.RedisTimeout)
	if !ok {
		return g.away(errOpen)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	v, err := g.judge(limited, key, now)
	if ctx.Err() != nil { // the client has left
		err = ctx.Err()
	}
	leave(err)
	if err != nil {
		return g.away(err)
	}
	return v
}

// judge asks Redis. The error is that it could not be asked.
func (g *gateway) judge(ctx context.Context, key string, now time.Time) (verdict, error) {
	grant, known, generation := g.keys.get(key, now)
	if !known {
		var err error
		grant, err = g.store.grant(ctx, key)
		switch {
		case errors.Is(err, errNoKey):
			return verdict{code: http.StatusForbidden, why: "this key is unknown"}, nil
		case err != nil:
			return verdict{}, err
		}
		g.keys.put(key, grant, now, generation)
	}
	used, err := g.store.count(ctx, key, grant, now)
	switch {
	case err != nil:
		return verdict{}, err
	case used.Rate > grant.Rate:
		return verdict{
			code: http.StatusTooManyRequests, why: fmt.Sprintf("more than %d requests in %v", grant.Rate, grant.Per),
			retryAfter: int(grant.Per.Seconds()),
		}, nil
	case grant.Quota > 0 && used.Quota > grant.Quota:
		return verdict{code: http.StatusForbidden, why: fmt.Sprintf("the quota of %d requests is used up", grant.Quota)}, nil
	}
	return verdict{code: http.StatusOK}, nil
}

// away is the verdict where Redis could not be asked.
func (g *gateway) away(err error) verdict {
	if g.cfg.FailMode == failOpen {
		return verdict{code: http.StatusOK, unchecked: true}
	}
	return verdict{code: http.StatusServiceUnavailable, why: "redis does not answer: " + err.Error(), retryAfter: 1}
}

// refuse answers a request itself.
func (g *gateway) refuse(w http.ResponseWriter, code int, why string) {
	g.count(code)
	g.say(w, code, why)
}

func (g *gateway) count(code int) { g.answers.WithLabelValues(strconv.Itoa(code)).Inc() }

// say writes a line.
func (*gateway) say(w http.ResponseWriter, code int, text string) { http.Error(w, text, code) }

// validKey reports whether a key may be part of a name in Redis.
func validKey(key string) bool {
	for _, r := range key {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return key != "" && len(key) <= 100
}

// recorder keeps the status code.
type recorder struct {
	http.ResponseWriter

	code int
}

// WriteHeader keeps the code and passes it on.
func (r *recorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
