package route

import (
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Event is what the machine reacts to. Only this package can add one.
//
//sumtype:decl
type Event interface{ event() }

// Observed says what all Sentinels say together now.
type Observed struct{ topology.Observation }

// Signed is one early hint of one Sentinel.
type Signed struct{ topology.Sign }

// Missed says that events were dropped because a queue was full: any of them may
// have been a reason to hold, or an outcome that is waited for.
type Missed struct{}

// NodeSeen is the outcome of one ROLE probe of one data node.
type NodeSeen struct {
	Addr   topology.Addr
	Role   topology.Role // RoleUnknown if the probe gave none
	Master topology.Addr // for a replica: whom it follows
	LinkUp bool          // for a replica: it is connected to Master
	Offset int64         // its replication offset
	Err    string        // why Role is unknown, or NoAuth; with a role: that a script keeps the node BUSY
	// NoAuth says that our account may not call ROLE there. Role may still be
	// known then, by HELLO, but Master is not.
	NoAuth bool
	// Client is the id that the node gave our connection, which grows for as long as its
	// process runs; 0: not known (yet).
	Client  int64
	Refused bool          // nothing listens there: the process is gone
	SentAt  time.Duration // when the probe was sent, or its dial began
	At      time.Duration // when the outcome was known
}

// NodeClosed says that a data node closed the idle connection we watch it by. A
// promoted node does so at the instant of its promotion; so does a dying one.
type NodeClosed struct{ Addr topology.Addr }

// Reported is the data path's word.
type Reported struct{ topology.Report }

// Demoted is the outcome of a [Demote].
type Demoted struct {
	Target, Master topology.Addr
	Outcome        Demotion
	Err            string // why it was not done
}

// RightsSeen is the outcome of a [CheckRights]: without Err our account may demote
// Addr, with Denied it may not, else it is not known.
type RightsSeen struct {
	Addr   topology.Addr
	Denied bool
	Err    string
}

// Tick lets time pass; see [Machine.Next].
type Tick struct{}

func (Observed) event()   {}
func (Signed) event()     {}
func (Missed) event()     {}
func (NodeSeen) event()   {}
func (NodeClosed) event() {}
func (Reported) event()   {}
func (Demoted) event()    {}
func (RightsSeen) event() {}
func (Tick) event()       {}
