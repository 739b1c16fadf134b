package proxy

import (
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/outage"
)

// stats are one worker's counters: plain words that its loop owns, so counting
// costs nothing. The server copies them on the loop.
type stats struct {
	accepted       uint64             // clients
	refusedClients uint64             // over max_clients
	idleEnded      uint64             // clients that idle_timeout ended
	disowned       uint64             // clients whose login Redis takes no more
	breaches       [breachEnd]uint64  // of the protocol, by clients
	stateCut       uint64             // clients cut off because their state could not be set up again
	outputCut      [cutReasons]uint64 // clients cut off because they did not read
	queryFull      uint64             // times that a client was read no further because of QueryBufferLimit
	largeCommands  uint64             // passed on in pieces
	largeReplies   uint64             // likewise, on shared pipes, which they were the end of
	recalled       uint64             // reads sent again so as not to wait behind a large reply, or not to crowd a slow client
	cutMidReply    uint64             // clients cut off in the middle of a large reply
	pinned         [pinReasons]uint64 // own pipes taken
	pinRefused     uint64
	slowDropped    uint64 // slow commands that the log had no room for
	usersRefused   uint64 // commands of users that could not have a connection

	clientIn, clientOut   uint64 // bytes of commands and replies, TLS not counted
	backendIn, backendOut uint64

	errors [replyKinds]uint64 // error replies that commands got

	loginsFailed, loginsDelayed, loginsRefused uint64

	// Every command counted as held ends as exactly one of sent, failed, policy (an
	// outage policy answered it, or a replica was asked), gone, or is still waiting.
	held, heldSent, heldFailed, heldPolicy, heldGone uint64

	rejected     uint64                // failed without having waited
	uncertain    uint64                // answered -UNCERTAIN
	endedByRedis uint64                // clients ended since Redis ended their connection
	resent       [resendReasons]uint64 // times that a session's commands were taken back to be sent again
	repeated     uint64                // writes sent again that may have run already
	refused      uint64                // refusals such as -READONLY seen from a master

	// outageReplies are the replies given while no master was served, by answer.
	outageReplies [outage.Nil + 1]uint64

	dials, dialErrors, backendLost uint64
	silent                         uint64 // backend connections found dead by the watchdog
	scanRestarts                   uint64 // cursors of another node or run
	scriptReloads                  uint64 // calls of unknown scripts that were sent again with the body
	leaseEnded                     uint64

	holdBuckets [len(holdBounds) + 1]uint64
	holdSum     time.Duration
	holdCount   uint64
}

// holdBounds are the upper bounds of the histogram of holds, in seconds.
var holdBounds = [...]float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 40}

func (t *stats) observeHold(d time.Duration) {
	i := 0
	for i < len(holdBounds) && d.Seconds() > holdBounds[i] {
		i++
	}
	t.holdBuckets[i]++
	t.holdSum += d
	t.holdCount++
}
