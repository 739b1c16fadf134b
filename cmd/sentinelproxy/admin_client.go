package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// errNoToken says that the admin server wants a token that it was not given.
var errNoToken = errors.New("it wants its token: --admin-token-file")

// errNoTLS says that the admin server speaks TLS, and was asked without.
var errNoTLS = errors.New("it speaks TLS: --admin-ca-file, or --admin-tls-cert-file on its own machine")

// adminClient reads a sidecar's admin server. It keeps no connection. One goroutine uses it.
type adminClient struct {
	to     adminAccess
	http   *http.Client
	recent recentEvents
}

func newAdminClient(to adminAccess) *adminClient {
	t := to.transport()
	t.DisableKeepAlives = true
	return &adminClient{to: to, http: &http.Client{Timeout: adminTimeout, Transport: t}}
}

// read decodes the JSON under a path, whatever the code is: a probe that fails explains
// itself too. raw is the answer as it came.
func (c *adminClient) read(ctx context.Context, path string, into any) (raw json.RawMessage, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.to.url(path), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(c.to.request(req))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, errNoToken
	case resp.StatusCode == http.StatusBadRequest && c.to.tls == nil && bytes.Contains(b, []byte("HTTP request to an HTTPS server")):
		return nil, errNoTLS // in the words of net/http
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
