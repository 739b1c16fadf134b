package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// realRedis is a group of redis-server and redis-sentinel processes. Sentinel's
// timing is its own: it demotes an old master after some ten seconds.
type realRedis struct {
	*redistest.Group

	cancel  context.CancelFunc // kills the processes
	version string
}

// startRealRedis runs the redis-server at path, or the one on PATH for "auto".
func startRealRedis(ctx context.Context, path string) (demoGroup, error) {
	if path == "auto" {
		path = ""
	}
	// ctx aborts the start alone: afterwards the clients' last commands are
	// still to be answered when it ends.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	started := context.AfterFunc(ctx, cancel)
	g, err := redistest.Start(life, redistest.Options{ServerPath: path, DownAfter: demoDownAfter})
	started()
	if err != nil {
		cancel()
		return nil, err
	}
	r := &realRedis{Group: g, cancel: cancel}
	if r.version, err = redisVersion(ctx, g.Nodes()[0]); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func redisVersion(ctx context.Context, n *redistest.Node) (string, error) {
	reply, err := n.Do(ctx, "INFO", "server")
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", n.Name(), err)
	}
	text, _ := reply.(string)
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, "redis_version:"); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "unknown", nil
}

// Redis returns the version.
func (r *realRedis) Redis() string { return r.version }

// NodeAddrs returns where the data nodes listen.
func (r *realRedis) NodeAddrs() []topology.Addr {
	var addrs []topology.Addr
	for _, n := range r.Nodes() {
		addrs = append(addrs, n.Addr())
	}
	return addrs
}

// Master returns the node that most Sentinels name.
func (r *realRedis) Master(ctx context.Context) (topology.Addr, error) {
	n, err := r.Group.Master(ctx)
	if err != nil {
		return "", err
	}
	return n.Addr(), nil
}

// Failover implements demoGroup.
func (r *realRedis) Failover(ctx context.Context, how failoverKind) error {
	if how == planned {
		if err := r.Group.Failover(ctx); err != nil {
			return err
		}
		return r.settle(ctx)
	}
	old, err := r.Group.Master(ctx)
	if err != nil {
		return err
	}
	if err := old.Kill(); err != nil {
		return err
	}
	if err := wait(ctx, demoOutage); err != nil {
		return err
	}
	if err := r.settle(ctx); err != nil { // another master, first: the old one comes back empty
		return err
	}
	if err := old.Restart(ctx); err != nil {
		return err
	}
	return r.settle(ctx)
}

// settle waits until the group is stable, as long as ctx allows.
func (r *realRedis) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	return r.WaitStable(ctx)
}

// Close ends all processes.
func (r *realRedis) Close() error {
	err := r.Stop()
	r.cancel()
	return err
}
