package doctor

import (
	"crypto/x509"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Facts are what was found of one master.
type Facts struct {
	At        time.Time
	Sentinels []Sentinel // those configured first, then those found
	Nodes     []Node     // every master and replica that a Sentinel names
	Files     []File
	Chains    []Chain // as nodes and Sentinels showed them
	Late      bool    // the deadline came before all was asked
}

// Sentinel is what one said, or why it said nothing.
type Sentinel struct {
	Addr       topology.Addr
	Configured bool
	Err        string // it can't be reached, or the login is refused; "" if it answers
	Unknown    bool   // it does not know the master's name
	Denied     []string
	Clock      Clock

	Master    topology.Addr
	Epoch     uint64
	Quorum    int
	Others    int
	DownAfter time.Duration
	Tilt      bool
	Peers     []Entry
	Replicas  []Entry
}

// Entry is one replica or other Sentinel as a Sentinel lists it.
type Entry struct {
	Addr     topology.Addr
	Down     bool // by its flags: s_down, o_down or disconnected
	Priority int  // of a replica
}

// Clock is how far another clock is ahead of ours, give or take Error.
type Clock struct {
	Known        bool
	Ahead, Error time.Duration
}

// Node is what a data node said, or why it said nothing.
type Node struct {
	Addr   topology.Addr
	Err    string   // as of Sentinel
	Denied []string // questions that the account may not ask, and rights that it lacks
	Clock  Clock

	Role     topology.Role
	Master   topology.Addr // of a replica
	LinkUp   bool
	Offset   int64
	LagKnown bool // LagBytes and LagSeconds of each replica are in Lags
	Lags     []Lag
	Clients  int               // connected; 0: not told
	Version  string            // "": not told
	Config   map[string]string // what CONFIG GET told
}

// Lag is how far a replica is behind, as its master has it.
type Lag struct {
	Addr    topology.Addr
	Seconds int // since its last word
}

// File is one TLS file of ours.
type File struct {
	Leg, Path string
	Err       string // it can't be used; else Ends
	Ends      time.Time
}

// Chain is what a peer showed in a handshake.
type Chain struct {
	Addr  string
	Certs []*x509.Certificate
}
