package proxy

import (
	"hash/maphash"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// A reply may be larger than what is kept of it, and its client slow to read it. On a
// shared pipe the replies to others wait behind it. Redis would not have them wait,
// so neither do we:
//
//   - the pipe takes no further command, and the reads of others that wait on it are
//     taken back and sent on another pipe: a read may always be sent again, and what
//     the old pipe still answers to it is thrown away;
//   - if writes of others wait there, which cannot be sent again, the large reply itself
//     is thrown away as fast as it comes, and its command, if it is a read, sent again on a
//     pipe of its own;
//   - the command is remembered, with its key by all and without by its session: next
//     time it has a pipe of its own at once, where a slow reader pushes back on Redis and on
//     nobody else. So have the reads of the same name that were taken back: they would
//     else be taken back again and again, behind one another.
//
// What is left to wait is a write behind a large reply that is not given twice, such as
// a script's, the first time it is seen; OutputLimits.Normal bounds that.

// isolate makes p serve s alone, as far as it can: it takes nothing new, and the reads
// of others are taken back. It reports whether nobody else waits on it. like is the
// command whose reply is too large for others to wait; nil: that is not why.
func (p *pipe) isolate(s *session, like *command) bool {
	if p.state == pipeReady {
		p.retire()
	}
	p.recall(func(o *session) bool { return o != s }, like)
	if like == nil {
		p.recallChecks()
	}
	return !p.othersWait(s)
}

// recallChecks has what we ask Redis for sessions (a login, a right, a database) asked
// anew, on another pipe: it changes nothing there. The replies are thrown away. So nobody
// who has just come waits for what holds up p. A CLIENT UNBLOCK stays: it does something,
// and whoever sent it is to know what.
func (p *pipe) recallChecks() {
	if p.owner != nil || !p.w.serves(p) {
		return
	}
	var asked, kept []func([]byte)
	pos := p.head
	for i := range p.queue.len() {
		e := p.queue.at(i)
		frame := p.out.at(pos, int(e.n))
		pos += int(e.n)
		if e.meta&metaInternal == 0 {
			continue
		}
		done := p.internal[len(asked)+len(kept)]
		if i == 0 && p.partial || p.w.cmds.find(frame).name == "CLIENT|UNBLOCK" {
			kept = append(kept, done)
			continue
		}
		asked = append(asked, done)
		e.meta = metaDropped
	}
	p.internal = kept
	for _, done := range asked {
		done(nil)
	}
}

// othersWait reports whether a reply to anybody but s is to come on p.
func (p *pipe) othersWait(s *session) bool {
	if p.owner != nil {
		return false
	}
	for i := range p.queue.len() {
		e := p.queue.at(i)
		switch {
		case e.s == nil:
			if e.meta&metaDropped == 0 {
				return true
			}
		case e.s != s && !e.s.closed:
			return true
		}
	}
	return false
}

// recall takes back the commands of those sessions that which chooses, to be sent
// again, and has their replies thrown away. It leaves sessions alone of which anything
// under way may not be sent again, or of whose reply a part was passed on. It returns
// how many commands it took. The sessions that sent like expect a large reply, too, but
// not more of them than there are spare connections: one large value is no reason for
// thousands.
func (p *pipe) recall(which func(*session) bool, like *command) int {
	if !p.w.serves(p) {
		return 0 // what is under way is about to be judged
	}
	found := make(map[*session]int)
	for i := range p.queue.len() {
		e := p.queue.at(i)
		switch {
		case e.s == nil, !which(e.s):
			continue
		case e.meta&^(metaCursor|metaHeld) != 0 || !e.read() || i == 0 && p.partial || found[e.s] < 0:
			found[e.s] = -1
		default:
			found[e.s]++
		}
	}
	for s, n := range found {
		if n != s.inflight || s.closing || len(s.parked) > 0 || len(s.kept) > 0 {
			delete(found, s)
		}
	}
	if len(found) == 0 {
		return 0
	}
	n, pos := 0, p.head
	var sessions []*session // in the order of their commands
	for i := range p.queue.len() {
		e := p.queue.at(i)
		frame := p.out.at(pos, int(e.n))
		pos += int(e.n)
		s := e.s
		if _, ok := found[s]; !ok {
			continue
		}
		if len(s.pulled) == 0 {
			sessions = append(sessions, s)
		}
		if e.meta&metaCursor != 0 {
			frame = p.mark(frame, e.cmd)
		}
		s.pull(e, frame, false)
		if like != nil && e.cmd == like && n < maxIdleOwn {
			s.expectLarge(like)
		}
		s.inflight--
		e.s, e.meta = nil, metaDropped
		n++
	}
	for _, s := range sessions {
		s.takeBack(resendHeldUp)
	}
	p.w.stats.recalled += uint64(n)
	return n
}

// makeWay is called when the reply to a command on a shared pipe turns out to be large,
// before any of it was passed on. It reports whether the reply is to be thrown away.
func (p *pipe) makeWay(e *entry) bool {
	s := e.s
	p.w.stats.largeReplies++
	p.w.bulk.add(e.cmd, p.frame(e))
	s.expectLarge(e.cmd)
	if p.isolate(s, e.cmd) || s.closed {
		return false
	}
	return p.recall(func(o *session) bool { return o == s }, nil) > 0
}

// largeFor is how many replies in a row to a command must be small before its session
// expects no more large ones.
const largeFor = 16

// expectLarge has the session send cmd on a pipe of its own for a while.
func (s *session) expectLarge(cmd *command) {
	s.large, s.largeLeft = cmd, largeFor
	s.fast = false
}

// foundSmall is called when the reply to a command that may be large was not.
func (s *session) foundSmall(cmd *command) {
	if s.large != cmd {
		return
	}
	if s.largeLeft--; s.largeLeft == 0 {
		s.large = nil
		s.refast()
	}
}

// uncrowd keeps replies away from a session whose client has left too much unread.
func (s *session) uncrowd() {
	p := s.pipe
	if p == nil || s.own != nil || s.away != nil || s.inflight == 0 || s.pending() < s.w.sizes.crowd || !s.w.serves(p) {
		return // an own pipe rests
	}
	if p.recall(func(o *session) bool { return o == s }, nil) == 0 && p.isolate(s, nil) {
		p.rest(s)
	}
}

// bulkSlots is how many commands with large replies are remembered.
const bulkSlots = 4096

// bulk remembers the commands whose last reply was large, by their name and first
// argument. A newer one takes an older one's slot; two that share all 64 bits of their
// hash share their fate, which costs a pipe.
type bulk struct {
	seed  maphash.Seed
	slots []uint64 // nil until the first; 0 is an empty slot
	n     int      // slots in use
}

func (b *bulk) hash(cmd *command, frame []byte) uint64 {
	var arg []byte
	if _, pos := resp.Arg(frame, 0); pos > 0 && pos < len(frame) {
		arg, _ = resp.Arg(frame, pos)
	}
	return maphash.Bytes(b.seed, arg) ^ maphash.String(b.seed, cmd.name)*0x9e3779b97f4a7c15 | 1
}

// slot returns the place of a hash, whose lowest bit is always set.
func (b *bulk) slot(h uint64) *uint64 { return &b.slots[h>>1%bulkSlots] }

func (b *bulk) add(cmd *command, frame []byte) {
	if b.slots == nil {
		b.seed, b.slots = maphash.MakeSeed(), make([]uint64, bulkSlots)
	}
	h := b.hash(cmd, frame)
	at := b.slot(h)
	if *at == 0 {
		b.n++
	}
	*at = h
}

// has reports whether the last reply to such a command was large.
func (b *bulk) has(cmd *command, frame []byte) bool {
	if b.n == 0 {
		return false
	}
	h := b.hash(cmd, frame)
	return *b.slot(h) == h
}

// remove forgets a command whose reply is large no more.
func (b *bulk) remove(cmd *command, frame []byte) {
	if !b.has(cmd, frame) {
		return
	}
	*b.slot(b.hash(cmd, frame)) = 0
	b.n--
}

// gone is why what was asked on p is asked again elsewhere.
func (p *pipe) gone() resendReason {
	if p.state == pipeClosed {
		return resendLost
	}
	return resendHeldUp
}
