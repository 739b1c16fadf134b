package proxy

import (
	"bytes"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// kept is a reply that is kept back while a promotion may have begun, or be about to:
// a replica closed its connection (100 ms at most, and a few as a rule; without it the
// restart of a replica would make every write in flight uncertain), or was selected for
// promotion within the last 40 ms.
type kept struct {
	entry // of the command; zero for what no command asked for

	reply   []byte
	success bool // of a write: worth nothing if the suspicion proves true
	master  pair // that gave it
}

// withholds reports whether a reply must not pass as it is.
func (s *session) withholds(e *entry, reply []byte, t trust) bool {
	if s.closed || e.meta&metaSilent != 0 {
		return false
	}
	success := e.success(reply)
	return t == doubted && success || t == suspected && (success || len(s.kept) > 0)
}

// withhold keeps such a reply from the client, or answers for it.
func (s *session) withhold(p *pipe, e *entry, reply []byte, t trust) {
	if t == doubted {
		s.w.ended(p, e, nil, kindOf(s.uncertain(e.cmd, errReplaced)))
		return
	}
	if len(s.kept) == 0 {
		s.w.kept = append(s.w.kept, s)
	}
	s.kept = append(s.kept, kept{entry: *e, reply: bytes.Clone(reply), success: e.success(reply), master: s.w.pair()})
}

// success reports whether a reply says that a write was executed.
func (e *entry) success(reply []byte) bool { return e.meta&metaWrite != 0 && reply[0] != '-' }

// unanswered reports whether the client is still to get the reply to an earlier
// command.
func (s *session) unanswered() bool { return s.inflight > 0 || len(s.kept) > 0 || s.due > 0 }

const errReplaced = "the master was being replaced when it answered"

// settleKept passes on what was kept back, or answers that it is uncertain, as
// the new route has it.
func (w *worker) settleKept() {
	r := &w.route
	lost := r.Doubt || r.State == topology.Down
	if len(w.kept) == 0 || r.Suspect && !lost {
		return
	}
	list := w.kept
	w.kept = nil
	for _, s := range list {
		replies := s.kept
		s.kept = nil
		for _, k := range replies {
			reply := k.reply
			if k.success && (lost || k.master != w.pair()) {
				w.stats.uncertain++
				reply = uncertainty(k.cmd, errReplaced)
			}
			s.reply(reply)
			if k.cmd != nil {
				w.ended(nil, &k.entry, nil, kindOf(reply))
			}
		}
		if s.wait == waitDrain {
			s.resume()
		} else {
			w.schedule(s)
		}
	}
}

// pair is a master and the epoch at which it is one.
type pair struct {
	addr  topology.Addr
	epoch uint64
}

func (w *worker) pair() pair { return pair{w.route.Master, w.route.Epoch} }
