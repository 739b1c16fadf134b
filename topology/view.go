package topology

import "time"

// Role is what a data node says it is.
type Role uint8

// The roles of ROLE and of HELLO's role field.
const (
	RoleUnknown Role = iota // nobody has answered yet, or the login may not ask
	RoleMaster
	RoleReplica
)

// String returns "unknown", "master" or "replica".
func (r Role) String() string {
	switch r {
	case RoleMaster:
		return "master"
	case RoleReplica:
		return "replica"
	case RoleUnknown:
	}
	return "unknown"
}

// Replica is what a Sentinel says of one replica of its group.
type Replica struct {
	Addr     Addr
	Up       bool   // no s_down, o_down or disconnected flag
	Priority int    // replica-priority; 0 is never promoted
	Offset   int64  // slave-repl-offset, as of the Sentinel's last INFO
	Flags    string // as the Sentinel prints them, such as "slave,s_down"
}

// View is one Sentinel's last word about one group. It is immutable once
// published.
type View struct {
	Sentinel   Addr          // where we reach it
	RunID      string        // SENTINEL MYID; "" until it has answered
	Up         bool          // it answered its last poll in time
	Subscribed bool          // its events reach us; false: polling alone
	SentAt     time.Duration // when the poll that gave this view was sent
	Err        string        // why it is not Up, or why it is not Subscribed

	Master        Addr          // GET-MASTER-ADDR-BY-NAME; "" if the name is unknown to it
	Epoch         uint64        // config-epoch, read between two equal GET-MASTER-ADDRs
	RoleReported  Role          // what that Sentinel last heard the master say
	Flags         string        // master flags, such as "master,o_down"
	Quorum        int           // for ODOWN only; never a threshold of ours
	OtherSentinel int           // num-other-sentinels
	DownAfter     time.Duration // down-after-milliseconds
	Tilt          bool          // its clock jumped: not to be counted for a lease
	Replicas      []Replica     // sorted by Addr; all that it lists, dead ones too
}

// Observation is what all Sentinels of a group say together: a pure function of
// their Views. It is immutable.
type Observation struct {
	Group string
	Views []View // sorted by Sentinel

	// Known is how many Sentinels count: the most any of them knows of, itself
	// included, and no fewer than were configured or found.
	Known     int
	Answering int // Views that are Up

	// Agreed says that more than half of Known name the same (Master, Epoch) in
	// views that are Up and not in tilt. Without it Master and Epoch hold the
	// pair with the most support (the higher epoch on a tie), or are zero.
	Agreed bool
	Master Addr
	Epoch  uint64
	// Support is how many Sentinels name (Master, Epoch).
	Support int
	// AgreedAt is the send time that a lease may count from: the time by
	// which a majority of Known had been asked, that is the Known/2+1 newest
	// SentAt among those that name (Master, Epoch). Zero unless Agreed.
	AgreedAt time.Duration
	// Unanimous says that every Sentinel that answers names (Master, Epoch), and
	// at least one does.
	Unanimous bool
	// RoleReported is RoleMaster if a majority of Known say that Master calls
	// itself master, else RoleUnknown.
	RoleReported Role

	MaxEpoch uint64 // the highest config epoch in any view that is Up
	MaxAddr  Addr   // the address at MaxEpoch; one of them if there are several
	Conflict bool   // two addresses are named at MaxEpoch

	DownAfter time.Duration // the least that any says; 0 while unknown
	Replicas  []Replica     // the union, from views naming Master; down if more than half of those that list it say so
}

// SignKind is an early hint from one Sentinel's event stream (FAILOVER: none of
// them is proof).
type SignKind uint8

// The signs, with the Sentinel events that give them.
const (
	SignRepoll    SignKind = 1 + iota // anything that may have changed the group: ask again now
	SignDown                          // +odown: a failover may follow
	SignUp                            // -odown
	SignSelected                      // +selected-slave, +failover-state-send-slaveof-noone: Candidate is about to be promoted
	SignPromoting                     // +failover-state-wait-promotion: Candidate has been told, it may be master already
	SignPromoted                      // +promoted-slave: the leader saw Candidate as master
	SignSwitched                      // +switch-master, +config-update-from: Candidate is master for that Sentinel
	SignAborted                       // -failover-abort-*: the failover is off
	SignDemoted                       // +convert-to-slave: Candidate (the old master) is being turned into a replica
)

// String returns the sign's name, such as "selected".
func (k SignKind) String() string {
	switch k {
	case SignRepoll:
		return "repoll"
	case SignDown:
		return "down"
	case SignUp:
		return "up"
	case SignSelected:
		return "selected"
	case SignPromoting:
		return "promoting"
	case SignPromoted:
		return "promoted"
	case SignSwitched:
		return "switched"
	case SignAborted:
		return "aborted"
	case SignDemoted:
		return "demoted"
	}
	return "invalid"
}

// Sign is one event of one Sentinel about one group.
type Sign struct {
	Kind      SignKind
	Event     string // the channel, such as "+selected-slave"
	Group     string
	Sentinel  Addr
	Candidate Addr // the node the event is about; "" where it names none
	Old       Addr // the master it would replace; "" where it names none
	At        time.Duration
}
