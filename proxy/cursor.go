package proxy

import (
	"bytes"
	"hash/fnv"
	"strconv"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// A cursor of SCAN and kin is a place in one process's hash table, whose order
// depends on a seed drawn at its start. Carried on to another master, an
// iteration missed 25 % of the keys (FAILOVER.md 6.1). So the cursors that clients
// see also hold which run of which node they are good for, in bits that no real
// one uses, and one from another run begins anew: an iteration may give a key
// twice, but must not miss one.
//
//	bit 53      37           0
//	    |  run  |   cursor   |    below 2^53, for clients in JavaScript
//
// The mark is in the cursor alone: any connection, event loop or sidecar reads it.
const (
	cursorBits = 37 // a table of 2^37 slots would fill a terabyte with pointers
	markBits   = 53
	cursorMask = 1<<cursorBits - 1
)

// runOf makes the mark of what identifies a run of a node; never 0.
func runOf(identity string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(identity))
	return h.Sum64()%(1<<(markBits-cursorBits)-1) + 1
}

// knowsRun reports whether cursors can be handled on p now. If not, Redis is asked
// for its run id, once for each connection, and the session must wait: the account
// may not be allowed INFO, then only another address or epoch makes another run.
func (s *session) knowsRun(p *pipe) bool {
	if p.run != 0 || s.tx.active || s.subCalls > 0 || s.subscribed() { // there the answer to INFO would be another
		return true
	}
	if p.asked {
		return false
	}
	p.asked = true
	p.sendInternal(resp.AppendCommand(nil, "INFO", "server"), func(reply []byte) {
		if reply == nil {
			return
		}
		identity := string(p.addr) + " " + strconv.FormatUint(p.epoch, 10)
		if _, rest, ok := bytes.Cut(reply, []byte("\nrun_id:")); ok {
			id, _, _ := bytes.Cut(rest, []byte("\r"))
			identity = string(id)
		}
		p.run = runOf(identity)
		p.w.wakeAll(p)
	})
	return false
}

// cursorIndex is where a command of the SCAN family has its cursor.
func (c *command) cursorIndex() int {
	if c.name == "SCAN" {
		return 1
	}
	return 2
}

// changeCursor returns a command with change applied to its cursor; the command
// itself if it has none or it stays as it is.
func changeCursor(frame []byte, cmd *command, change func(uint64) uint64) []byte {
	args := resp.Args(nil, frame)
	i := cmd.cursorIndex()
	if i >= len(args) {
		return frame
	}
	c, ok := cursorOf(args[i])
	to := change(c)
	if !ok || to == c {
		return frame
	}
	args[i] = strconv.AppendUint(nil, to, 10)
	return resp.AppendCommand(nil, args...)
}

// cursorOf reads a cursor as Redis writes it.
func cursorOf(b []byte) (uint64, bool) {
	c, err := strconv.ParseUint(string(b), 10, 64)
	return c, err == nil && (b[0] != '0' || len(b) == 1)
}

// unmark returns a command as p's node must see it.
func (p *pipe) unmark(frame []byte, cmd *command) []byte {
	return changeCursor(frame, cmd, func(c uint64) uint64 {
		switch {
		case c <= cursorMask || c >= 1<<markBits: // 0, or not from us
			return c
		case c>>cursorBits == p.run:
			return c & cursorMask
		case p.w.longCursors:
			return c
		}
		p.w.stats.scanRestarts++
		return 0
	})
}

// mark returns a command that unmark has changed as a client sends it, to be sent
// again.
func (p *pipe) mark(frame []byte, cmd *command) []byte {
	return changeCursor(frame, cmd, p.marked)
}

func (p *pipe) marked(c uint64) uint64 {
	if c == 0 || c > cursorMask || p.run == 0 || p.w.longCursors {
		return c
	}
	return p.run<<cursorBits | c
}

// markReply returns what stands for the first n bytes of the reply to a command of
// the SCAN family: an array of a cursor and of elements. n is 0 if nothing does.
func (p *pipe) markReply(reply []byte) (head []byte, n int) {
	rest, ok := bytes.CutPrefix(reply, []byte("*2\r\n$"))
	if !ok {
		return nil, 0
	}
	_, rest, ok = bytes.Cut(rest, []byte("\r\n"))
	digits, rest, found := bytes.Cut(rest, []byte("\r\n"))
	c, valid := cursorOf(digits)
	if !ok || !found || !valid {
		return nil, 0
	}
	if c > cursorMask {
		p.w.longCursors = true // no node is known to have such: leave them all alone
	}
	to := p.marked(c)
	if to == c {
		return nil, 0
	}
	return resp.AppendBulk(resp.AppendArray(nil, 2), strconv.FormatUint(to, 10)), len(reply) - len(rest)
}
