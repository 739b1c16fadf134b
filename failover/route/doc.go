// Package route decides where the commands of one group go, from what the
// Sentinels, the data nodes and the data path say. It is a pure stepped machine:
// no clock, no goroutine, no socket. Times are durations since boot.
//
// Its rule is "fence early, follow late": the first sign of a failover from
// anyone stops new commands, and only a majority of the known Sentinels, together
// with the node's own word that it is master, lets them go on. With [FollowFast] a
// promoted node is served ahead of the majority, if the old master is demoted by us
// or proven gone; until the majority confirms it, its return holds again. A switchover,
// a failover that was asked of us, holds before Sentinel is told of it.
//
//		             majority + role master
//		discovering ───────────────────────────► serving ◄──────────────┐
//		                                          │  ▲                  │
//		                            first sign of │  │ every cause      │ majority at a new
//		                   a failover, or a loss  │  │ cleared: same    │ pair, or all causes
//		                                          ▼  │ pair again       │ cleared
//		              lease renewed,             holding ───────────────┤
//		              but other causes remain ►   ▲  │                  │
//		                                          │  │ hold.max         │
//		serving ── lease ended ──► fenced ────────┘  ▼                  │
//		                              │            down ────────────────┘
//		                              └─ hold.max ──►
//
//	  - discovering: nothing was served yet. Commands wait. It ends with a majority
//	    and a role check, with every answering Sentinel and every replica agreeing
//	    for 5 s (dead Sentinel entries), or, while no Sentinel answers at all, with
//	    what the state file knew and the nodes confirm.
//	  - serving: commands go to the pair (master, config epoch). Nothing is doubted.
//	  - holding: commands wait. The set of open [Cause]s says why; each names what
//	    clears it. Doubt is set once promotion may have begun.
//	  - fenced: as holding, with an ended lease among the causes: a majority of the
//	    Sentinels and at least one replica are out of reach, so the other side of a
//	    partition may be promoting.
//	  - down: held or fenced for longer than hold.max. Left as holding is.
//
// A pair is never served with a lower epoch than one that a majority named before, or
// with another address at the same epoch, unless a majority has insisted on it for 5 s
// without contradiction and the node confirms (SENTINEL REMOVE and MONITOR start
// again at epoch 0).
//
// Two things bound what a lying or half-informed party can do: a hold on a mere
// suspicion lasts 100 ms (1 s for a refusal by the server) and is followed by at
// least 1 s without one, and a claim of a minority is put aside after 5 s if the
// majority stands by our pair and the claimed node is no master.
package route
