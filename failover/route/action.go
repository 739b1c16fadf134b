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

// Demote makes Target a replica of Master, if both say at that moment that they are
// masters. [Demoted] tells the outcome. The machine orders one at a time.
type Demote struct{ Target, Master topology.Addr }

// CheckRights asks, without any effect, whether our account may demote Addr.
// [RightsSeen] tells the answer.
type CheckRights struct{ Addr topology.Addr }

// Refuse says that this policy can't be carried out here. Nothing was served yet, and
// nothing will be: the caller should end, and say why.
type Refuse struct{ Why string }

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
func (Demote) action()       {}
func (CheckRights) action()  {}
func (Refuse) action()       {}
func (Finished) action()     {}
