package drill

import "time"

// What a step says of nodes, replaced by their addresses where they are known.
const (
	stepWhole = "wait until the group is whole"
	worstLost = "Until the Sentinels have promoted a replica every client waits; where they cannot, writes stop until the master is back. " +
		"What the master had acknowledged and not replicated is lost, also what others wrote"
	worstQuiet = "A Sentinel that began a failover within twice failover-timeout ({failover-timeout}) starts no other by itself: then the outage lasts that long"
	worstAgain = "If nothing restarts the process, it stays down"
)

// Plans returns all kinds.
func Plans() []Plan {
	all := drafts()
	for i := range all {
		all[i] = all[i].filled()
	}
	return all
}

// drafts returns all kinds, with {away} where that time is.
func drafts() []Plan {
	const planned, unplanned = 2 * time.Second, 3500 * time.Millisecond
	return []Plan{
		{
			Kind: KindFailover, Short: "a planned failover", Times: 1, costs: planned, script: failoverScript,
			Steps:  []string{"SENTINEL FAILOVER", stepWhole},
			Remote: []string{"SENTINEL FAILOVER: a replica of {master} is promoted", stepWhole + ": {master} is a replica some 10s later"},
			Worst:  "Clients that do not go through a sidecar may write to the old master for some 10s more, and lose that",
		},
		{
			Kind: KindSwitchover, Short: "a planned switchover by the sidecar", Times: 1, costs: switchPause, script: switchoverScript,
			Needs:  Needs{Switchover: true},
			Steps:  []string{"the sidecar holds its clients, waits for a replica, and has it promoted", stepWhole},
			Remote: []string{"the sidecar holds its clients, waits for a replica of {master}, and has it promoted", stepWhole},
			Worst:  "Clients that do not go through a sidecar may write to the old master until it is demoted, and lose that",
		},
		{
			Kind: KindCrash, Short: "the master crashes", Times: 1, Lossy: true, costs: unplanned, script: crashScript,
			Needs:  Needs{Supervisor: true, Disk: true, Automatic: true},
			Steps:  []string{"kill -9 the master", "start it again after 3s, once another master is named", stepWhole},
			Remote: []string{"end {master}: DEBUG SEGFAULT or, where DEBUG is refused, SHUTDOWN NOSAVE NOW FORCE", "wait until its supervisor has restarted it", stepWhole},
			Worst:  worstLost + ". " + worstAgain + ". " + worstQuiet,
		},
		{
			Kind: KindHang, Short: "the master stops answering for {away}, and wakes up", Times: 1, Lossy: true, costs: unplanned, away: away, script: hangScript,
			Needs:  Needs{Debug: true, Automatic: true},
			Steps:  []string{"SIGSTOP the master", "SIGCONT after {away}", stepWhole},
			Remote: []string{"DEBUG SLEEP on {master} for {away}: it answers nobody, and wakes up by itself", stepWhole},
			Worst:  worstLost + ". " + worstQuiet,
		},
		{
			Kind: KindOutage, Short: "every node stops answering for {away}, and wakes up", Times: 1, Lossy: true, costs: unplanned, away: awayAll, script: outageScript,
			Needs:  Needs{Debug: true},
			Steps:  []string{"SIGSTOP the master and its replicas", "SIGCONT after {away}", stepWhole},
			Remote: []string{"DEBUG SLEEP on {master} and {replicas} for {away}: nobody answers, and all wake up by themselves", stepWhole},
			Worst:  "Until they wake up there is no Redis, for everyone. Where the Sentinels then begin a failover, what the master had acknowledged and not replicated is lost",
		},
		{
			Kind: KindPartition, Short: "the master is cut off from everyone for {away}", Times: 1, Lossy: true, relays: true, costs: unplanned, away: away,
			side: SideMajority, script: partitionScript, Needs: Needs{Cutter: true, Automatic: true},
			Steps:  []string{"hold back every byte from and to the master", "let them pass after {away}", stepWhole},
			Remote: []string{"run --cut-cmd with DRILL_SIDE=majority: it cuts {master} off from everyone", "run --heal-cmd after {away}", stepWhole},
			Worst:  worstLost + ". If --heal-cmd fails, the partition stays. " + worstQuiet,
		},
		{
			Kind: KindSentinelLoss, Short: "every Sentinel dies", Times: 1, costs: planned, script: sentinelLossScript,
			Needs:  Needs{Supervisor: true},
			Steps:  []string{"kill -9 one replica", "kill -9 every Sentinel, once they call it down", "start all again after 4s", stepWhole},
			Remote: []string{"SHUTDOWN of every Sentinel", "wait until their supervisors have restarted them", stepWhole},
			Worst:  "Until the Sentinels are back a master that fails is not replaced. " + worstAgain,
		},
		{
			Kind: KindReplicaLoss, Short: "a replica dies", Times: 1, costs: planned, script: replicaLossScript,
			Needs:  Needs{Supervisor: true},
			Steps:  []string{"kill -9 one replica", "start it again after 4s", stepWhole},
			Remote: []string{"end {replica}: DEBUG SEGFAULT or, where DEBUG is refused, SHUTDOWN NOSAVE NOW FORCE", "wait until its supervisor has restarted it", stepWhole},
			Worst:  "The replica copies all data again. Where min-replicas-to-write counts it, writes are refused until then. " + worstAgain,
		},
		{
			Kind: KindLeaderLoss, Short: "the leading Sentinel dies after the promotion", Times: 1, Lossy: true, when: WhenPromotion, script: leaderLossScript,
			Needs: Needs{Supervisor: true},
			Steps: []string{
				"SENTINEL SIMULATE-FAILURE crash-after-promotion, and SENTINEL FAILOVER, at one Sentinel",
				"start that Sentinel again 2s after its death", stepWhole,
			},
			Remote: []string{
				"SENTINEL SIMULATE-FAILURE crash-after-promotion, and SENTINEL FAILOVER, at {sentinel}, which dies",
				"wait until its supervisor has restarted it", stepWhole,
			},
			Worst: "The promoted replica is demoted again, or another failover follows after failover-timeout ({failover-timeout}): " +
				"clients that do not go through a sidecar lose what they wrote to it. " + worstAgain,
		},
		{
			Kind: KindFlap, Short: "planned failovers in a row", Times: 10, costs: planned, script: flapScript,
			Steps: []string{"SENTINEL FAILOVER, again and again, as soon as the group is whole"},
			Worst: "As for one failover, each time",
		},
		{
			Kind: KindRollingRestart, Short: "every node restarts, the master after a failover", Times: 1, costs: planned, script: rollingScript,
			Needs:  Needs{Supervisor: true},
			Steps:  []string{"restart each replica in turn", "SENTINEL FAILOVER", "restart the old master", stepWhole},
			Remote: []string{"SHUTDOWN of {replicas}, each once the one before is back", "SENTINEL FAILOVER", "SHUTDOWN of {master}, a replica by then", stepWhole},
			Worst:  "Each node that restarts copies all data again. " + worstAgain,
		},
		{
			Kind: KindSoak, Short: "failovers, crashes and hangs, one after the other", Times: 200, Lossy: true, costs: unplanned,
			Needs: Needs{Own: true},
			Steps: []string{"failover, crash, failover, hang, and again", "look for growth of goroutines, descriptors and memory"},
		},
	}
}
