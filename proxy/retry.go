package proxy

import (
	"fmt"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// RetryMode says which writes whose reply was lost are sent again (DESIGN.md
// "Judging in-flight commands"). Reads, and what was refused unexecuted, are sent
// again in every mode. docs/retry.md has the effect on each command.
type RetryMode uint8

// The modes.
const (
	// RetryNever answers -UNCERTAIN: no write runs twice.
	RetryNever RetryMode = iota
	// RetryIdempotent sends a write again if its end state and its reply are the same
	// when it runs twice. A value that another client wrote in between is lost.
	RetryIdempotent
	// RetryAlways sends every write again but FLUSHALL, FLUSHDB and SWAPDB: it runs at
	// least once.
	RetryAlways
)

// ParseRetryMode reads "never", "idempotent" or "always".
func ParseRetryMode(s string) (RetryMode, error) {
	switch s {
	case "never":
		return RetryNever, nil
	case "idempotent":
		return RetryIdempotent, nil
	case "always":
		return RetryAlways, nil
	}
	return 0, fmt.Errorf("proxy: unknown retry mode %q", s)
}

// ttlMargin is how much longer than hold.timeout a time to live must be for
// EXPIRE to be sent again: a key that is gone by then would change the answer.
const ttlMargin = time.Minute

// verdict is what the loss of a pipe means for one session.
type verdict struct {
	// stuck is the last command in the pipe's queue that may not be sent again; -1 if
	// each of them may. Nothing before it is sent again either.
	stuck  int
	ghosts ghosts // of the writes behind it
	met    bool   // its first command was settled
}

// verdicts judges the commands under way, from the youngest to the oldest.
func (p *pipe) verdicts() map[*session]*verdict {
	vs := make(map[*session]*verdict)
	end := p.head
	for i := range p.queue.len() {
		end += int(p.queue.at(i).n)
	}
	for i := p.queue.len() - 1; i >= 0; i-- {
		e := p.queue.at(i)
		sent := end <= p.sent
		end -= int(e.n)
		frame := p.out.at(end, int(e.n))
		if e.s == nil {
			continue
		}
		v := vs[e.s]
		if v == nil {
			v = &verdict{stuck: -1}
			vs[e.s] = v
		}
		switch {
		case v.stuck >= 0, e.meta&metaTx != 0, p.refused && e.cmd.class == classExec:
		case e.meta&metaStreamed != 0, sent && !e.s.again(e, frame, &v.ghosts):
			v.stuck = i
		}
	}
	return vs
}

// again reports whether a command that its master may have executed is sent
// again, with every later one of its session. If so, and it writes, its keys
// become ghosts.
func (s *session) again(e *entry, frame []byte, g *ghosts) bool {
	mode := s.w.opts.RetryWrites
	if e.cmd.resend == resendRead {
		return mode != RetryIdempotent || !g.seenBy(e.cmd, frame)
	}
	switch mode {
	case RetryNever:
		return false
	case RetryAlways:
		if e.cmd.class == classExec {
			return s.txRepeatable()
		}
		return e.cmd.resend != resendNever
	case RetryIdempotent:
	}
	if e.cmd.again == nil {
		return false
	}
	args := resp.Args(nil, frame)
	keys, ok := e.cmd.again.writes(args, s.w.route.HoldTimeout+ttlMargin)
	if !ok || g.seenBy(e.cmd, frame) {
		return false
	}
	for _, k := range keys {
		g.add(k)
	}
	return true
}

// txRepeatable reports whether a transaction whose EXEC got no answer may run
// once more, from its recording. One behind WATCH may not: on the new master
// nobody has watched its keys.
func (s *session) txRepeatable() bool {
	t := &s.tx
	if !t.active || !t.complete() || s.watching || s.txBroken() {
		return false
	}
	pos := 0
	for _, n := range t.frames {
		if s.w.find(t.log[pos:pos+n]).resend == resendNever {
			return false
		}
		pos += n
	}
	return true
}

// ghosts are the keys of writes that are sent again and may have run already. A
// command before such a write, sent again with it, must not see what it left:
// the client would read a value that it wrote only later.
type ghosts struct {
	keys map[string]struct{}
}

func (g *ghosts) add(key []byte) {
	if g.keys == nil {
		g.keys = make(map[string]struct{})
	}
	g.keys[string(key)] = struct{}{}
}

// seenBy reports whether a command could see a ghost: an argument of it is the
// ghost's key, or it looks at more than the keys it names. A blind write sees
// nothing.
func (g *ghosts) seenBy(cmd *command, frame []byte) bool {
	if len(g.keys) == 0 || cmd.again != nil && cmd.again.blind {
		return false
	}
	if cmd.wide {
		return true
	}
	for pos := 0; ; {
		var arg []byte
		if arg, pos = resp.Arg(frame, pos); pos == 0 {
			return false
		}
		if _, ok := g.keys[string(arg)]; ok {
			return true
		}
		if pos >= len(frame) {
			return false
		}
	}
}
