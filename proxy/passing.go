package proxy

// Replies past large_command are passed on as they come, and a reader who is behind has
// its pipe rest.

// passPart hands part of a reply that is too long to keep to the session that
// waits for it, and returns how much it took of b. From then on a shared pipe is only
// good for that reply and those behind it.
func (p *pipe) passPart(b []byte, t trust) int {
	k := p.replies.Streamable(len(b))
	if o := p.owner; o != nil && o.subscribed() {
		o.tooLong(max(len(b), p.replies.Need()))
		return 0 // what is published must be seen whole
	}
	if k == 0 || p.queue.len() == 0 {
		return 0
	}
	e := p.queue.front()
	dropped := e.meta&metaDropped != 0
	if !p.partial && !dropped {
		if e.s == nil || e.meta&metaTx != 0 || e.cmd.class == classSubscribe || b[0] == '>' ||
			e.cmd.class == classExec && e.s.tx.changes() {
			if e.s != nil {
				e.s.tooLong(max(len(b), p.replies.Need()))
			}
			return 0 // so must answers to us, a push, which belongs to nobody, and what changes the session
		}
		if len(e.s.parked) > 0 {
			e.s.unpark() // else it would have to be kept with them
		}
		if len(e.s.kept) > 0 || t != trusted && e.meta&metaWrite != 0 {
			p.halt()
			return 0
		}
		if p.owner == nil {
			dropped = p.makeWay(e)
		}
	}
	first := !p.partial
	if first {
		p.begins = [2]byte{b[0], b[min(1, k-1)]}
	}
	p.partial = true
	if !dropped && !e.s.closed && e.meta&metaSilent == 0 {
		n := 0
		if first && e.meta&metaCursor != 0 {
			var head []byte
			if head, n = p.markReply(b[:k]); n > 0 {
				e.s.reply(head)
			}
		}
		e.s.reply(b[n:k])
		p.rest(e.s)
	}
	p.replies.Skip(k)
	return k
}

// rest stops reading from the pipe while its reader is behind and nobody else
// waits for this pipe; replies then need no memory of ours. What subscribers are sent
// they are sent, as by Redis.
func (p *pipe) rest(s *session) {
	if p.slow || s.pending() < p.w.sizes.mark || s.closing || s.subscribed() || p.state == pipeClosed || p.othersWait(s) {
		return
	}
	p.slow = true
	p.conn.Pause()
	s.slowPipe = p
}

// wake ends a rest.
func (p *pipe) wake() {
	p.slow = false
	p.readOn()
}

// halt stops reading while the route does not say whether a large reply may reach its
// client: it could not be kept meanwhile.
func (p *pipe) halt() {
	p.halted = true
	p.conn.Pause()
}

// unhalt has the reply looked at again. The worker calls it when the route or the lease
// may have changed.
func (p *pipe) unhalt() {
	if p.halted {
		p.halted = false
		p.readOn()
	}
}

func (p *pipe) readOn() {
	if p.state != pipeClosed && !p.slow && !p.halted {
		p.conn.Resume()
	}
}
