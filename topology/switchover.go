package topology

import "time"

// SwitchoverRequest asks for a planned failover of one group. Its zero value beside
// Master means: to whom the Sentinels choose, as fast as is safe.
type SwitchoverRequest struct {
	Master string // the group's name
	To     Addr   // the replica to promote; "": whom the Sentinels choose
	Strict bool   // go on only when a majority names the new master; demote nobody
	DryRun bool   // check whether it could be done, and change nothing
	// MaxPause is how long commands may wait before it is called off; 0 is the
	// default. Once a Sentinel was told to fail over it can't be called off any more.
	MaxPause time.Duration
}

// SwitchoverStep is one step of a switchover that has ended.
type SwitchoverStep struct {
	Name   string // one of the Step constants
	Status StepStatus
	Took   time.Duration
	Detail string // for people; of a failed step why, one finding per line
}

// The steps, in their order. Commands wait from StepHold to StepRelease.
const (
	StepPreflight = "preflight" // it can be done
	StepPriority  = "priority"  // the replica that was asked for is the one Sentinel would choose
	StepHold      = "hold"      // nothing new is sent to the master
	StepDrain     = "drain"     // the master has answered all that was sent
	StepCatchUp   = "catch up"  // the replicas that may be promoted have read all that it wrote
	StepFailover  = "failover"  // a Sentinel was told to fail over: the point of no return
	StepPromoted  = "promoted"  // the new master says that it is one
	StepDemoted   = "demoted"   // the old master says that it follows the new one
	StepMajority  = "majority"  // a majority of the Sentinels names the new master
	StepRelease   = "release"   // commands go on
	StepRestore   = "restore"   // replica priorities are as before
)

// StepStatus says how a step ended.
type StepStatus string

// The ends of a step.
const (
	StepOK      StepStatus = "ok"
	StepFailed  StepStatus = "failed"
	StepSkipped StepStatus = "skipped" // there was nothing to do; Detail says why
)

// SwitchoverOutcome says how a switchover ended.
type SwitchoverOutcome string

// The outcomes. Only with the first two went all as asked.
const (
	SwitchoverDone  SwitchoverOutcome = "done"  // the new master serves
	SwitchoverReady SwitchoverOutcome = "ready" // a dry run found nothing in the way
	// SwitchoverImpossible: preflight found something in the way. No command waited.
	SwitchoverImpossible SwitchoverOutcome = "impossible"
	SwitchoverBusy       SwitchoverOutcome = "busy"    // another one of this group is under way
	SwitchoverAborted    SwitchoverOutcome = "aborted" // it was called off in time: the old master serves
	// SwitchoverFailed: it did not go as asked after the point of no return. The
	// route's ordinary rules decide who serves.
	SwitchoverFailed SwitchoverOutcome = "failed"
)

// SwitchoverOutcomes lists every outcome.
func SwitchoverOutcomes() []SwitchoverOutcome {
	return []SwitchoverOutcome{
		SwitchoverDone, SwitchoverReady, SwitchoverImpossible, SwitchoverBusy, SwitchoverAborted, SwitchoverFailed,
	}
}

// SwitchoverResult tells a switchover as a whole.
type SwitchoverResult struct {
	Outcome SwitchoverOutcome
	From    Addr // the master before; "" if none was served
	To      Addr // the master after, or the one expected by a dry run; "" if there is none
	Epoch   uint64
	Pause   time.Duration // how long commands waited
	Err     string        // why Outcome is not as asked; one finding per line
}

// OK reports whether all went as asked.
func (r SwitchoverResult) OK() bool {
	return r.Outcome == SwitchoverDone || r.Outcome == SwitchoverReady
}
