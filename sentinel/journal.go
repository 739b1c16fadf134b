package sentinel

import (
	"log/slog"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// disagreeAfter is how long Sentinels may differ before it is logged: during a
// failover they do so for tens of milliseconds, and a leader for that long.
const disagreeAfter = 2 * time.Second

// journal logs what changed, once per change, and publishes the graver part of it. Run's goroutine owns it.
type journal struct {
	log   *slog.Logger
	group string
	clock boottime.Clock
	tell  func(events.Body) // publishes

	sentinels map[topology.Addr]*entry

	// The last pair that was agreed on and logged.
	master topology.Addr
	epoch  uint64

	disagreeSince time.Duration // 0 while they agree, or none answers
	disagree      bool          // it was logged
}

// entry is what was last logged of one Sentinel.
type entry struct {
	seen     bool // it has answered at least once
	lost     bool
	lostAt   time.Duration
	stranger bool // it does not know the group
	refused  bool // it may not be subscribed to
}

func newJournal(log *slog.Logger, group string, clock boottime.Clock, tell func(events.Body)) journal {
	return journal{log: log, group: group, clock: clock, tell: tell, sentinels: make(map[topology.Addr]*entry)}
}

func (j *journal) forget(addr topology.Addr) { delete(j.sentinels, addr) }

// view logs what changed of one Sentinel.
func (j *journal) view(msg viewed) {
	v := msg.view
	e := j.sentinels[v.Sentinel]
	if e == nil {
		e = &entry{}
		j.sentinels[v.Sentinel] = e
	}
	log := j.log.With("sentinel", v.Sentinel)
	if !v.Up {
		if !e.lost {
			e.lost, e.lostAt = true, j.clock()
			if e.seen {
				log.Warn("sentinel lost", "err", v.Err)
			} else {
				log.Warn("sentinel unreachable", "err", v.Err)
			}
			j.tell(events.SentinelLost{Sentinel: v.Sentinel, Err: events.Text(v.Err)})
		}
		return
	}
	if e.lost {
		log.Info("sentinel back", "away", j.clock()-e.lostAt)
		j.tell(events.SentinelBack{Sentinel: v.Sentinel, Away: events.Millis(j.clock() - e.lostAt)})
	}
	e.seen, e.lost = true, false
	if stranger := !msg.knows; stranger != e.stranger {
		e.stranger = stranger
		if stranger {
			log.Warn("sentinel does not know the master name")
		} else {
			log.Info("sentinel knows the master name")
		}
	}
	if msg.refused != e.refused && (msg.refused || v.Subscribed) {
		e.refused = msg.refused
		if e.refused {
			log.Warn("subscription refused, polling alone", "err", v.Err)
		} else {
			log.Info("subscription allowed")
		}
	}
}

// observation logs a new agreement, and a disagreement that lasts.
func (j *journal) observation(o topology.Observation) {
	if o.Agreed {
		if o.Master != j.master || o.Epoch != j.epoch || j.disagree {
			j.log.Info("sentinels agree", "master", o.Master, "epoch", o.Epoch, "support", o.Support, "known", o.Known)
		}
		if j.disagree {
			j.tell(events.SentinelsAgree{Master: o.Master, Epoch: o.Epoch, Support: o.Support, Known: o.Known})
		}
		j.master, j.epoch = o.Master, o.Epoch
		j.disagreeSince, j.disagree = 0, false
		return
	}
	if o.Answering == 0 {
		j.disagreeSince = 0
		return // each Sentinel's loss is logged
	}
	now := j.clock()
	if j.disagreeSince == 0 {
		j.disagreeSince = now
	}
	if !j.disagree && now-j.disagreeSince >= disagreeAfter {
		j.disagree = true
		j.log.Warn("no majority among sentinels", "master", o.Master, "epoch", o.Epoch,
			"support", o.Support, "known", o.Known, "answering", o.Answering, "conflict", o.Conflict)
		j.tell(events.SentinelsDisagree{
			Master: o.Master, Epoch: o.Epoch, Support: o.Support, Known: o.Known, Answering: o.Answering, Conflict: o.Conflict,
		})
	}
}
