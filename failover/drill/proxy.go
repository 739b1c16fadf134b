package drill

import (
	"context"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Target is the group that a proxy is to stand before.
type Target struct {
	Group     string // the master's name at the Sentinels
	Sentinels []topology.Addr
	Nodes     []topology.Addr // data nodes; the first is the master
	Login     Login           // the drill's account on them
	// OnRoute is told each route of the sidecar under test; others need not call
	// it. It returns at once.
	OnRoute func(topology.Route)
}

// Proxy is what the workload goes through.
type Proxy struct {
	Name string
	Addr string       // where clients connect
	Stop func() error // ends it; returns why it ended earlier, if it did
	// Switchover hands the master over to a replica and returns when that is done.
	// Nil where the proxy cannot.
	Switchover func(ctx context.Context) error
}

// Starter starts a proxy before a group and returns when clients can connect.
type Starter func(ctx context.Context, t Target) (Proxy, error)
