package sentinel

import (
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// sameSwitch is how long after the first word of a switch another one's is still of it.
// Sentinels tell each other of a switch every two seconds.
const sameSwitch = time.Minute

// switches measures how much later than the first Sentinel each told of the last switch
// of the master. It is pure; Run's goroutine owns it.
type switches struct {
	old, master topology.Addr
	first       time.Duration // when the first told
	lag         map[topology.Addr]time.Duration
}

// heard takes one sign and reports whether it changed a lag.
func (s *switches) heard(sign topology.Sign) bool {
	if sign.Event != "+switch-master" || sign.Candidate == "" {
		return false
	}
	if sign.Old != s.old || sign.Candidate != s.master || sign.At-s.first > sameSwitch {
		*s = switches{old: sign.Old, master: sign.Candidate, first: sign.At, lag: make(map[topology.Addr]time.Duration)}
	}
	if _, told := s.lag[sign.Sentinel]; told {
		return false // it counts when it told first
	}
	s.lag[sign.Sentinel] = max(0, sign.At-s.first)
	return true
}

// forget drops a Sentinel that is followed no more, and reports whether it had a lag.
func (s *switches) forget(addr topology.Addr) bool {
	_, had := s.lag[addr]
	delete(s.lag, addr)
	return had
}
