package sentineltest

import "github.com/sentinelproxy/sentinelproxy/topology"

const (
	discarded = "EXECABORT Transaction discarded because of previous errors."
	queued    = "+QUEUED\r\n"
)

// tx is an open MULTI. miniredis queues the commands it knows, so that it finds
// their mistakes; we keep all of them, for the transactions that it cannot run.
type tx struct {
	data   *dataset // where MULTI was begun
	calls  [][]string
	dirty  bool // a command was refused: EXEC will be
	writes bool
	mixed  bool // has commands that miniredis does not answer
}

func (n *Node) multi(c *conn) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	d := n.state.Load().data
	c.tx = &tx{data: d}
	c.send(d.do(c.sess, "MULTI"))
}

// serveTx handles what arrives between MULTI and EXEC.
func (n *Node) serveTx(c *conn, args []string) {
	cmd := upper(args[0])
	t := c.tx
	r := c.reply()
	n.mu.RLock()
	st := n.state.Load()
	switch {
	case cmd == "EXEC":
		n.mu.RUnlock()
		n.exec(c)
		return
	case cmd == "DISCARD":
		c.tx, c.watch = nil, nil
		r.raw(t.data.do(c.sess, "DISCARD"))
	case cmd == "MULTI":
		r.err("ERR MULTI calls can not be nested")
	case cmd == "WATCH":
		r.err("ERR WATCH inside MULTI is not allowed")
	case local(cmd):
		t.mixed = true
		t.calls = append(t.calls, args)
		r.raw([]byte(queued))
	case !t.data.knows(cmd):
		t.dirty = true
		r.unknown(args)
	case cmd == "HELLO" || cmd == "AUTH" || cmd == "SUBSCRIBE" || cmd == "PSUBSCRIBE" || cmd == "UNSUBSCRIBE" || cmd == "PUNSUBSCRIBE":
		t.dirty = true
		r.err("ERR sentineltest: " + cmd + " inside MULTI is not simulated")
	case t.data.writes(cmd) && st.role == topology.RoleReplica:
		t.dirty = true
		r.err(readOnly)
	default:
		t.writes = t.writes || t.data.writes(cmd)
		b := t.data.do(c.sess, args...)
		if string(b) == queued {
			t.calls = append(t.calls, args)
		} else {
			t.dirty = true
		}
		r.raw(b)
	}
	n.mu.RUnlock()
	c.send(r.b)
}

// exec runs the transaction, alone on its node. miniredis does it, unless there
// are commands that it does not answer or the node's data have been replaced
// since MULTI: then each runs for itself. WATCH then counts as touched.
func (n *Node) exec(c *conn) {
	t, watched := c.tx, c.watch
	c.tx, c.watch = nil, nil
	r := c.reply()
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.state.Load()
	native := !t.dirty && !t.mixed && t.data == st.data && (watched == nil || watched == st.data)
	if t.writes && st.role == topology.RoleReplica {
		native = false
	}
	if !native {
		t.data.do(c.sess, "DISCARD")
	}
	switch {
	case t.dirty:
		r.err(discarded)
	case t.writes && st.role == topology.RoleReplica:
		r.err("EXECABORT Transaction discarded because of: " + readOnly)
	case native:
		r.raw(st.data.do(c.sess, "EXEC"))
		if string(r.b) == "*-1\r\n" {
			r.b = nil
			r.nullArray()
		}
		if t.writes {
			st.data.wrote(len(t.calls))
		}
	case watched != nil:
		r.nullArray()
	default:
		r.array(len(t.calls))
		for _, args := range t.calls {
			r.raw(n.runQueued(c, args))
		}
	}
	c.send(r.b)
}

// runQueued executes one command of a transaction. n.mu is held for writing.
func (n *Node) runQueued(c *conn, args []string) []byte {
	cmd := upper(args[0])
	if cmd != "REPLICAOF" && cmd != "SLAVEOF" {
		if _, blocks := blocking(args); blocks {
			b, ok := attempt(n.state.Load().data, c, args)
			if !ok {
				b = blockingNull(c, cmd)
			}
			return b
		}
		return n.run(c, args).b
	}
	r := c.reply()
	if len(args) != 3 {
		r.wrongArity("replicaof")
		return r.b
	}
	to, problem := n.target(args)
	if problem != "" {
		r.err(problem)
		return r.b
	}
	n.changeLocked(func(st *nodeState) { st.attach(to) })
	r.simple("OK")
	return r.b
}
