// Package sentinel watches every Sentinel of one replication group and says
// what they say together. It observes only: it sends nothing that changes a
// Sentinel or a data node.
//
//	Follower ── one watcher per Sentinel, configured or discovered
//	   │           ├─ poll:   a pipeline of questions, at a pace and when woken
//	   │           └─ listen: PSUBSCRIBE *, where the login may
//	   │        each tells Follower.Run through one channel
//	   └─ Merge(views) → OnObservation;  event → OnSign
//
// Who decides what:
//   - parse.go reads events, reply.go reads replies, merge.go counts votes,
//     plan.go chooses whom to follow, pace.go says when. All of these are pure.
//   - watcher.go, poll.go, listen.go and follower.go are thin loops around them.
//
// What a Sentinel may do to us: die, hang, restart, lie, be late, name dead
// peers, change its mind, refuse to be subscribed to. None of these stops us
// from following the others: no watcher ever waits for another.
package sentinel
