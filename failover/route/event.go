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

// Missed says that signs or reports were dropped because a queue was full: any of
// them may have been a reason to hold.
type Missed struct{}

// NodeSeen is the outcome of one ROLE probe of one data node.
type NodeSeen struct {
	Addr   topology.Addr
	Role   topology.Role // RoleUnknown if the probe gave none
	Master topology.Addr // for a replica: whom it follows
	LinkUp bool          // for a replica: it is connected to Master
	Offset int64         // its replication offset
	Err    string        // why Role is unknown, or NoAuth
	// NoAuth says that our account may not call ROLE there. Role may still be
	// known then, by HELLO, but Master is not.
	NoAuth  bool
	Refused bool          // nothing listens there: the process is gone
	SentAt  time.Duration // when the probe was sent, or its dial began
	At      time.Duration // when the outcome was known
}

// NodeClosed says that a data node closed the idle connection we watch it by. A
// promoted node does so at the instant of its promotion; so does a dying one.
type NodeClosed struct{ Addr topology.Addr }

// Reported is the data path's word.
type Reported struct{ topology.Report }

// Tick lets time pass; see [Machine.Next].
type Tick struct{}

func (Observed) event()   {}
func (Signed) event()     {}
func (Missed) event()     {}
func (NodeSeen) event()   {}
func (NodeClosed) event() {}
func (Reported) event()   {}
func (Tick) event()       {}
