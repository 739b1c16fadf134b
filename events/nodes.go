package events

import (
	"fmt"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// TwoMastersSeen says that a second node says master while another one is served.
type TwoMastersSeen struct {
	Master topology.Addr `json:"master" doc:"the master that is served"`
	Other  topology.Addr `json:"other" doc:"the node that says master too"`
	For    Milliseconds  `json:"for_ms" doc:"for how long it has said so"`
}

func (b TwoMastersSeen) tell() told {
	return told{Critical, string(b.Other), fmt.Sprintf("%s says that it is master too, beside %s: what clients write there without a sidecar will be lost", b.Other, b.Master)}
}

// MasterRestarted says that the master's process was restarted at its address before
// anybody was elected in its place.
type MasterRestarted struct {
	Master topology.Addr `json:"master" doc:"the master"`
	Before int64         `json:"offset_before" doc:"its replication offset before, in bytes"`
	After  int64         `json:"offset_after" doc:"its replication offset after"`
	Fell   bool          `json:"offset_fell" doc:"it is lower than before: writes may be gone, and replicas copy what is left"`
}

func (b MasterRestarted) tell() told {
	if b.Fell {
		return told{Critical, string(b.Master), fmt.Sprintf("the master %s was restarted and its replication offset fell from %d to %d: it may have lost data, and its replicas with it", b.Master, b.Before, b.After)}
	}
	return told{Warning, string(b.Master), fmt.Sprintf("the master %s was restarted", b.Master)}
}

// OldMasterDemoted says that this sidecar made a deposed master a replica.
type OldMasterDemoted struct {
	Node   topology.Addr `json:"node" doc:"the old master"`
	Master topology.Addr `json:"master" doc:"whom it follows now"`
}

func (b OldMasterDemoted) tell() told {
	return told{Info, string(b.Node), fmt.Sprintf("the old master %s was made a replica of %s", b.Node, b.Master)}
}

// ReplicaLost says that a replica does not answer.
type ReplicaLost struct {
	Replica topology.Addr `json:"replica" doc:"the replica"`
	Err     Text          `json:"error" doc:"what came instead of an answer"`
}

func (b ReplicaLost) tell() told {
	return told{Warning, string(b.Replica), fmt.Sprintf("the replica %s does not answer: %s", b.Replica, b.Err)}
}

// ReplicaBack says that it answers again.
type ReplicaBack struct {
	Replica topology.Addr `json:"replica" doc:"the replica"`
	Away    Milliseconds  `json:"away_ms" doc:"for how long it was lost"`
}

func (b ReplicaBack) tell() told {
	return told{Info, string(b.Replica), fmt.Sprintf("the replica %s answers again after %s", b.Replica, b.Away.span())}
}

// ReplicaLagging says that a replica is far behind its master: what it lacks is lost if it
// is promoted.
type ReplicaLagging struct {
	Replica topology.Addr `json:"replica" doc:"the replica"`
	Lag     Milliseconds  `json:"lag_ms" doc:"how long ago the master had what the replica has now"`
	Bytes   int64         `json:"lag_bytes" doc:"by how many bytes its replication offset is behind"`
	LinkUp  bool          `json:"link_up" doc:"it is connected to its master"`
}

func (b ReplicaLagging) tell() told {
	link := ""
	if !b.LinkUp {
		link = ", and is not connected to it"
	}
	return told{Warning, string(b.Replica), fmt.Sprintf("the replica %s is %s and %d bytes behind its master%s", b.Replica, b.Lag.span(), b.Bytes, link)}
}

// ReplicaCaughtUp says that it is not any more.
type ReplicaCaughtUp struct {
	Replica topology.Addr `json:"replica" doc:"the replica"`
	After   Milliseconds  `json:"after_ms" doc:"for how long it was said to lag"`
}

func (b ReplicaCaughtUp) tell() told {
	return told{Info, string(b.Replica), fmt.Sprintf("the replica %s has caught up after %s", b.Replica, b.After.span())}
}

// SentinelLost says that a Sentinel does not answer.
type SentinelLost struct {
	Sentinel topology.Addr `json:"sentinel" doc:"the Sentinel"`
	Err      Text          `json:"error" doc:"what came instead of an answer"`
}

func (b SentinelLost) tell() told {
	return told{Warning, string(b.Sentinel), fmt.Sprintf("the Sentinel %s does not answer: %s", b.Sentinel, b.Err)}
}

// SentinelBack says that it answers again.
type SentinelBack struct {
	Sentinel topology.Addr `json:"sentinel" doc:"the Sentinel"`
	Away     Milliseconds  `json:"away_ms" doc:"for how long it was lost"`
}

func (b SentinelBack) tell() told {
	return told{Info, string(b.Sentinel), fmt.Sprintf("the Sentinel %s answers again after %s", b.Sentinel, b.Away.span())}
}

// SentinelsDisagree says that no majority of the Sentinels names one master.
type SentinelsDisagree struct {
	Master    topology.Addr `json:"master" doc:"whom most of them name"`
	Epoch     uint64        `json:"epoch" doc:"at which config epoch"`
	Support   int           `json:"support" doc:"how many do"`
	Known     int           `json:"known" doc:"how many Sentinels count, dead ones too"`
	Answering int           `json:"answering" doc:"how many answer"`
	Conflict  bool          `json:"conflict" doc:"two masters are named at the highest epoch"`
}

func (b SentinelsDisagree) tell() told {
	return told{Critical, "", fmt.Sprintf("no majority of the Sentinels names one master: %d of %d name %s, %d answer", b.Support, b.Known, b.Master, b.Answering)}
}

// SentinelsAgree says that a majority does again.
type SentinelsAgree struct {
	Master  topology.Addr `json:"master" doc:"whom they name"`
	Epoch   uint64        `json:"epoch" doc:"at which config epoch"`
	Support int           `json:"support" doc:"how many do"`
	Known   int           `json:"known" doc:"how many Sentinels count"`
}

func (b SentinelsAgree) tell() told {
	return told{Info, "", fmt.Sprintf("a majority of the Sentinels names %s again (%d of %d)", b.Master, b.Support, b.Known)}
}
