package route

import (
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// leaseLength is 0.7 of down-after: the earliest promotion that Sentinel makes by
// itself was measured 1.34 down-after past the master's last answer.
func (m *Machine) leaseLength() time.Duration {
	if m.policy.Lease > 0 {
		return m.policy.Lease
	}
	return m.knownDownAfter() * 7 / 10
}

// knownDownAfter returns down-after, or Sentinel's default while nobody has said.
func (m *Machine) knownDownAfter() time.Duration {
	if m.downAfter > 0 {
		return m.downAfter
	}
	return defaultDownAfter
}

// leaseEnd returns until when c's pair may be written to, from what is known now:
// a lease's length past the send time of a majority's word for the pair, or of the
// word of all replicas in its failsafe that they follow it, whichever is later. As
// long as every replica follows this master no other can have been promoted. Ahead of
// the majority it must do that none of them is master.
func (m *Machine) leaseEnd(c choice) time.Duration {
	if m.policy.Fence != FenceLease {
		return Never
	}
	var since time.Duration
	if m.obs.Agreed && c.pair == (pair{m.obs.Master, m.obs.Epoch}) {
		since = m.obs.AgreedAt
	}
	if c.ahead {
		if t, ok := m.unrivalled(c.failsafe); ok {
			since = max(since, t)
		}
	} else if t, ok := m.follows(c.failsafe, c.addr); ok {
		since = max(since, t)
	}
	if since == 0 {
		return 0
	}
	return since + m.leaseLength()
}

// leaseFor returns until when c may be written to. What was given out for the same
// pair stays given.
func (m *Machine) leaseFor(c choice) time.Duration {
	end := m.leaseEnd(c)
	if m.served && c.pair == m.pair {
		end = max(end, m.leaseUntil)
	}
	return end
}

// renew moves the lease's end if there is evidence for it. It goes on during a hold
// that doubts nothing: what is under way then is as good as before.
func (m *Machine) renew() {
	if m.lease == nil || m.doubt || (m.state != topology.Serving && m.state != topology.Holding) {
		return
	}
	if end := m.leaseEnd(choice{pair: m.pair, failsafe: m.failsafe, ahead: m.ahead.on}); end > m.leaseUntil {
		m.leaseUntil = end
		m.emit(ExtendLease{Lease: m.lease, Until: end})
	}
}
