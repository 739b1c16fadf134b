package events

import (
	"fmt"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// RouteChanged says that commands go to another master, or to the same at a new epoch.
type RouteChanged struct {
	From  topology.Addr  `json:"from" doc:"the master before; empty for the first since the start"`
	To    topology.Addr  `json:"to" doc:"the master that is served"`
	Epoch uint64         `json:"epoch" doc:"its config epoch; while no majority names it yet, a guess"`
	Cause string         `json:"cause,omitempty" doc:"what the hold before it began with"`
	Took  Milliseconds   `json:"took_ms" doc:"from the first sign to serving again"`
	Steps []FailoverStep `json:"phases,omitempty" doc:"the phases of the failover, each with its name and after_ms"`
}

// FailoverStep is one phase of a failover.
type FailoverStep struct {
	Name  string       `json:"name"`
	After Milliseconds `json:"after_ms"`
}

func (b RouteChanged) tell() told {
	m := fmt.Sprintf("commands go to %s now, %s after the first sign; before they went to %s", b.To, b.Took.span(), b.From)
	if b.From == "" {
		m = fmt.Sprintf("commands go to %s", b.To)
	}
	return told{Info, string(b.To), m}
}

// RouteHeld says that commands wait.
type RouteHeld struct {
	Master   topology.Addr `json:"master" doc:"where commands went"`
	Epoch    uint64        `json:"epoch" doc:"its config epoch"`
	Cause    string        `json:"cause" doc:"what began the hold, as in sentinelproxy_holds_total"`
	Why      string        `json:"why" doc:"the same as a phrase"`
	Everyday bool          `json:"-"` // a suspicion that is mostly none, or somebody asked for it
}

func (b RouteHeld) tell() told {
	s := Warning
	if b.Everyday {
		s = Info
	}
	return told{s, string(b.Master), fmt.Sprintf("commands for %s wait: %s", b.Master, b.Why)}
}

// RouteReleased says that a hold is over: commands flow. Each RouteHeld has one.
type RouteReleased struct {
	Master  topology.Addr `json:"master" doc:"where commands go now"`
	Epoch   uint64        `json:"epoch" doc:"its config epoch"`
	Cause   string        `json:"cause" doc:"what began the hold"`
	Outcome string        `json:"outcome" doc:"followed (another master or epoch), cleared (no failover after all) or down (the circuit had opened)"`
	Took    Milliseconds  `json:"took_ms" doc:"how long commands waited"`
}

func (b RouteReleased) tell() told {
	return told{Info, string(b.Master), fmt.Sprintf("commands flow to %s after a hold of %s (%s)", b.Master, b.Took.span(), b.Outcome)}
}

// RouteFenced says that commands wait since this sidecar may be on the losing side of a
// partition.
type RouteFenced struct {
	Master topology.Addr `json:"master" doc:"where commands went"`
	Epoch  uint64        `json:"epoch" doc:"its config epoch"`
	Why    string        `json:"why" doc:"the reason as a phrase"`
}

func (b RouteFenced) tell() told {
	return told{Critical, string(b.Master), fmt.Sprintf("writes to %s are fenced: %s", b.Master, b.Why)}
}

// BreakerOpened says that no master came back within hold.max: commands fail at once.
type BreakerOpened struct {
	Master topology.Addr `json:"master" doc:"where commands went"`
	Epoch  uint64        `json:"epoch" doc:"its config epoch"`
	Cause  string        `json:"cause" doc:"what began the hold"`
	Held   Milliseconds  `json:"held_ms" doc:"how long commands waited before"`
}

func (b BreakerOpened) tell() told {
	return told{Critical, string(b.Master), fmt.Sprintf("no master for %s: commands fail at once until one is back (%s)", b.Held.span(), b.Cause)}
}

// BreakerClosed says that a master is served again after the circuit had opened.
type BreakerClosed struct {
	Master topology.Addr `json:"master" doc:"the master that is served"`
	Epoch  uint64        `json:"epoch" doc:"its config epoch"`
	Open   Milliseconds  `json:"open_ms" doc:"how long commands failed at once"`
}

func (b BreakerClosed) tell() told {
	return told{Info, string(b.Master), fmt.Sprintf("%s is served; commands failed at once for %s", b.Master, b.Open.span())}
}

// SwitchoverBegun says that somebody asked this sidecar to move the master.
type SwitchoverBegun struct {
	To     topology.Addr `json:"to,omitempty" doc:"the replica that was asked for; absent where Sentinel chooses"`
	Strict bool          `json:"strict" doc:"commands wait until a majority names the new master"`
}

func (b SwitchoverBegun) tell() told {
	to := string(b.To)
	if to == "" {
		to = "whom Sentinel chooses"
	}
	return told{Info, string(b.To), "a switchover was asked for, to " + to}
}

// SwitchoverEnded says how it went.
type SwitchoverEnded struct {
	Outcome string        `json:"outcome" doc:"done, impossible, aborted or failed"`
	From    topology.Addr `json:"from" doc:"the master before"`
	To      topology.Addr `json:"to,omitempty" doc:"the master after"`
	Epoch   uint64        `json:"epoch" doc:"its config epoch"`
	Pause   Milliseconds  `json:"pause_ms" doc:"how long commands waited"`
	Err     Text          `json:"error,omitempty" doc:"why it did not go as asked"`
}

func (b SwitchoverEnded) tell() told {
	if b.Outcome == string(topology.SwitchoverDone) {
		return told{Info, "", fmt.Sprintf("the switchover from %s to %s is done; commands waited for %s", b.From, b.To, b.Pause.span())}
	}
	return told{Warning, "", fmt.Sprintf("the switchover from %s ended as %s: %s", b.From, b.Outcome, b.Err)}
}
