package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sentinelproxy/sentinelproxy/failover/drill"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// statusOf asks an admin server for the state of one master.
func statusOf(to adminAccess, master string) *statusClient {
	return &statusClient{to: to, master: master, http: http.Client{Transport: to.transport()}}
}

// statusClient asks an admin server. It is not safe for concurrent use.
type statusClient struct {
	to     adminAccess
	master string
	http   http.Client // its own, so that close closes no one else's connections
}

// close closes the connection, if there is one. A nil client has none.
func (c *statusClient) close() {
	if c != nil {
		c.http.CloseIdleConnections()
	}
}

// statusTimeout bounds one question.
const statusTimeout = 2 * time.Second

// ask returns what the sidecar says of itself now.
func (c *statusClient) ask(ctx context.Context) (drill.SidecarStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.to.url("/api/v1/status"), http.NoBody)
	if err != nil {
		return drill.SidecarStatus{}, err
	}
	resp, err := c.http.Do(c.to.request(req))
	if err != nil {
		return drill.SidecarStatus{}, err
	}
	defer resp.Body.Close()
	const most = 4 << 20
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return drill.SidecarStatus{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return drill.SidecarStatus{}, fmt.Errorf("GET /api/v1/status: %s", resp.Status)
	}
	return readStatus(body, c.master)
}

// readStatus finds one master in the body of /api/v1/status.
func readStatus(body []byte, master string) (drill.SidecarStatus, error) {
	var page struct {
		Masters []struct {
			Name   string `json:"name"`
			Ready  bool   `json:"ready"`
			Reason string `json:"reason"`
			Status struct {
				Failover struct {
					State  string        `json:"state"`
					Master topology.Addr `json:"master"`
				} `json:"failover"`
			} `json:"status"`
		} `json:"masters"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return drill.SidecarStatus{}, err
	}
	for _, m := range page.Masters {
		if m.Name == master {
			return drill.SidecarStatus{Ready: m.Ready, Reason: m.Reason, State: m.Status.Failover.State, Master: m.Status.Failover.Master}, nil
		}
	}
	return drill.SidecarStatus{}, errors.New("the sidecar there does not serve the master " + master)
}

// pollRoute tells each change of the sidecar's route until ctx ends.
func pollRoute(ctx context.Context, ask func(context.Context) (drill.SidecarStatus, error), tell func(topology.Route)) {
	const every = 5 * time.Millisecond
	var last drill.SidecarStatus
	for {
		if s, err := ask(ctx); err == nil && (s.State != last.State || s.Master != last.Master) {
			r := topology.Route{State: topology.Holding, Master: s.Master, Why: s.State}
			if s.State == topology.Serving.String() {
				r.State = topology.Serving
			}
			tell(r)
			last = s
		}
		if wait(ctx, every) != nil {
			return
		}
	}
}
