package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover"
)

// adminTimeout bounds one question to an admin server.
const adminTimeout = 5 * time.Second

// maxPage bounds what is read of an answer.
const maxPage = 16 << 20

// errNoSidecar says that what answers is no sidecar, or none of a version we know.
var errNoSidecar = errors.New("what answers there is no sidecar")

// adminClient reads a sidecar's admin server. It keeps no connection. One goroutine uses it.
type adminClient struct {
	addr   string
	http   *http.Client
	recent recentEvents
}

// newAdminClient asks the server that listens on addr, as a configuration has it.
func newAdminClient(addr string) *adminClient {
	if host, port, err := net.SplitHostPort(addr); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			addr = net.JoinHostPort("127.0.0.1", port)
		}
	}
	return &adminClient{addr: addr, http: &http.Client{Timeout: adminTimeout, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// read decodes the JSON under a path, whatever the code is: a probe that fails explains
// itself too. raw is the answer as it came.
func (c *adminClient) read(ctx context.Context, path string, into any) (raw json.RawMessage, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.addr+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return nil, fmt.Errorf("%w: %s answers %s", errNoSidecar, path, cmp.Or(resp.Status, "nothing"))
	}
	return b, nil
}

// statusView is what is read of /api/v1/status.
type statusView struct {
	Version       string
	UptimeSeconds float64 `json:"uptime_seconds"`
	Live          bool
	Ready         bool
	Draining      bool
	Masters       []masterView
}

type masterView struct {
	Name   string
	Ready  bool
	Reason string
	Status struct {
		Listen   []string
		Failover failover.Status
		Proxy    struct {
			Clients            int
			BackendConnections int `json:"backend_connections"`
			Commands           uint64
			CommandsInFlight   int `json:"commands_in_flight"`
		}
	}
}

func (c *adminClient) status(ctx context.Context) (statusView, error) {
	var p statusView
	_, err := c.read(ctx, "/api/v1/status", &p)
	return p, err
}
