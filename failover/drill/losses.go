package drill

import (
	"fmt"
	"time"
)

// Loss counts acknowledged effects that are gone, by what became of them.
type Loss struct {
	Total int `json:"total"`
	// Lag were acknowledged within a second before a crash, or after it until the
	// promotion: the old master had not replicated them.
	Lag int `json:"lag"`
	// Stale were sent after another master had been promoted: somebody
	// acknowledged them who had no right to.
	Stale int `json:"stale"`
}

// LostWrite is one acknowledged effect that is gone.
type LostWrite struct {
	What string  `json:"what"`
	AtMS float64 `json:"at_ms"` // when it was acknowledged, since the round began
	Why  string  `json:"why"`
	// LagBytes is how far the promoted node was behind at its promotion, where
	// that explains the loss.
	LagBytes *int64 `json:"lag_bytes,omitempty"`
}

// maxLosses bounds Findings.Losses.
const maxLosses = 1000

// Unexplained returns the losses that replication lag does not explain.
func (l Loss) Unexplained() int { return l.Total - l.Lag }

// lose counts n effects of an acknowledged command that are gone.
func (c *checker) lose(what string, op Op, n int) {
	c.out.Lost.Total += n
	lost := LostWrite{What: what, AtMS: ms(op.End), Why: "no failover explains it"}
	excuse := c.excuse(op)
	switch {
	case excuse != nil:
		c.out.Lost.Lag += n
		lost.Why = fmt.Sprintf("not replicated when the master was lost: the promoted node was %s behind", inBytes(excuse.LagBytes))
		lost.LagBytes = &excuse.LagBytes
	case c.stale(op):
		c.out.Lost.Stale += n
		lost.Why = "acknowledged by a master that had been replaced"
	}
	if len(c.out.Losses) < maxLosses {
		c.out.Losses = append(c.out.Losses, lost)
	}
	c.sample("%s, acknowledged at %v, is lost: %s", what, op.End.Round(time.Millisecond), lost.Why)
}

// lagged reports whether replication lag explains that op is lost.
func (c *checker) lagged(op Op) bool { return c.excuse(op) != nil }

// excuse returns the switch whose replication lag explains that op is lost.
func (c *checker) excuse(op Op) *Switch {
	for i, s := range c.switches {
		if s.excuses(op) {
			return &c.switches[i]
		}
	}
	return nil
}

// excuses reports whether replication lag at this switch explains that op is lost. A
// master that is there hands over what its replica has read: of a planned failover
// only a replica that was behind when it was promoted is an explanation.
func (s Switch) excuses(op Op) bool {
	if s.Lossy {
		return op.End >= s.Fault-lagExcused && op.Begin <= s.excusedUntil()
	}
	return s.LagBytes > 0 && op.End >= s.Promoted-lagExcused && op.End <= s.Promoted
}

// excusedUntil is when a command must have begun for its loss to be excused.
func (s Switch) excusedUntil() time.Duration {
	if s.Until > 0 {
		return min(s.Until, s.Promoted)
	}
	return s.Promoted
}

// stale reports whether op began after a promotion, and before the next fault.
func (c *checker) stale(op Op) bool {
	for _, s := range c.switches {
		if op.Begin > s.Promoted {
			return true
		}
	}
	return false
}
