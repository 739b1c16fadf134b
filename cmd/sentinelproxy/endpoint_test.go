package main

import (
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sentinelproxy/sentinelproxy/internal/config"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// The endpoint tells each master's own listener, knows what the parts learn, and
// ends with the sidecar.
func TestEndpointIsJoined(t *testing.T) {
	f, cfg := newFakes(), testConfig()
	cfg.SentinelListen = "127.0.0.1:0"
	s, stop := startFakes(t, f, cfg)
	where := s.endpoint.Status().Listen
	c := redis.NewSentinelClient(&redis.Options{Addr: where, MaxRetries: -1, ReadTimeout: patience})
	defer c.Close()

	addr, err := c.GetMasterAddrByName(t.Context(), "a").Result()
	if err != nil || net.JoinHostPort(addr[0], addr[1]) != s.groups[0].addrNames()[0] {
		t.Errorf("the master is at %q, %v; want %q", addr, err, s.groups[0].addrNames())
	}
	f.fh.observe(topology.Observation{Group: "a", Known: 1, Views: []topology.View{{Up: true, Master: "m:1", Quorum: 1}}})
	f.ch.publish(topology.Route{Group: "a", Epoch: 5})
	m, err := c.Master(t.Context(), "a").Result()
	if err != nil || m["quorum"] != "1" || m["config-epoch"] != "5" {
		t.Errorf("SENTINEL MASTER: %v, %v; want what was observed and published", m, err)
	}
	if text, err := c.CkQuorum(t.Context(), "a").Result(); err != nil || !strings.HasPrefix(text, "OK 1 usable") {
		t.Errorf("SENTINEL CKQUORUM: %q, %v", text, err)
	}

	var st struct {
		Endpoint struct {
			Listen      string
			Connections int
			Masters     []string
		} `json:"sentinel_endpoint"`
	}
	b, err := json.Marshal(s.groups[0].Status(t.Context()))
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err != nil || st.Endpoint.Listen != where || st.Endpoint.Connections < 1 || len(st.Endpoint.Masters) != 1 {
		t.Errorf("status %s, %v", b, err)
	}
	if _, body := get(t, s.AdminAddr(), "/metrics"); !strings.Contains(body, `sentinelproxy_sentinel_endpoint_commands_total{command="sentinel_ckquorum"} 1`) {
		t.Error("/metrics does not count the endpoint's commands")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", where); err == nil {
		_ = nc.Close()
		t.Error("the endpoint outlives the sidecar")
	}
}

// Without sentinel_listen there is none, and an address that is taken is told.
func TestEndpointIsOptional(t *testing.T) {
	f := newFakes()
	s, _ := startFakes(t, f, testConfig())
	b, err := json.Marshal(s.groups[0].Status(t.Context()))
	if s.endpoint != nil || err != nil || strings.Contains(string(b), "sentinel_endpoint") {
		t.Errorf("endpoint %v, status %s, %v; want none", s.endpoint, b, err)
	}
	cfg := testConfig()
	cfg.Masters = append([]config.Master(nil), cfg.Masters...)
	cfg.SentinelListen = s.groups[0].addrNames()[0]
	_, err = startSidecar(t.Context(), cfg, s.log, newFakes().parts())
	if err == nil {
		t.Fatal("a taken address is no error")
	}
	oneLine(t, err.Error()+"\n", "sentinel endpoint: cannot listen on "+cfg.SentinelListen)
}
