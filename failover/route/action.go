package route

import (
	"log/slog"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Action is what the caller must now do. Only this package can add one.
//
//sumtype:decl
type Action interface{ action() }

// Publish makes Route the group's route, at once.
type Publish struct{ topology.Route }

// ExtendLease moves the end of Lease to Until.
type ExtendLease struct {
	Lease *topology.Lease
	Until time.Duration
}

// Watch names all the nodes to keep a probing connection to, sorted, and the
// longest time between two probes of one. Others are no longer watched.
type Watch struct {
	Addrs []topology.Addr
	Every time.Duration
}

// AskNodes asks these watched nodes for their role now.
type AskNodes struct{ Addrs []topology.Addr }

// AskSentinels polls every Sentinel now.
type AskSentinels struct{}

// SetFast says whether the Sentinels are to be polled at the fast pace.
type SetFast struct{ On bool }

// Note is a line for the log: a fixed phrase and its facts.
type Note struct {
	Level slog.Level
	Msg   string
	Attrs []slog.Attr
}

// Held says that a hold began, for this cause. It is counted, not logged.
type Held struct{ Cause Cause }

// Save says what the state file should hold from now on.
type Save struct{ Saved }

// Finished is emitted when a route serves again.
type Finished struct{ Failover }

func (Publish) action()      {}
func (ExtendLease) action()  {}
func (Watch) action()        {}
func (AskNodes) action()     {}
func (AskSentinels) action() {}
func (SetFast) action()      {}
func (Note) action()         {}
func (Held) action()         {}
func (Save) action()         {}
func (Finished) action()     {}
