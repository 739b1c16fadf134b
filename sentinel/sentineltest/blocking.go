package sentineltest

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// blocking reports whether a call may wait, and for how long at most: 0 is
// forever. A call whose timeout is wrong does not wait: miniredis refuses it.
func blocking(args []string) (limit time.Duration, is bool) {
	unit := time.Second
	text := ""
	switch upper(args[0]) {
	case "BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BZPOPMIN", "BZPOPMAX":
		text = args[len(args)-1]
	case "BLMPOP", "BZMPOP":
		if len(args) > 1 {
			text = args[1]
		}
	case "XREAD", "XREADGROUP":
		unit = time.Millisecond
		for i, a := range args {
			if upper(a) == "STREAMS" {
				break
			}
			if upper(a) == "BLOCK" && i+1 < len(args) {
				text = args[i+1]
			}
		}
	default:
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 || f > 1e9 {
		return 0, false
	}
	return time.Duration(f * float64(unit)), true
}

// block runs a call that may wait. It tries again after every write of its
// node's data, whichever these are by then; the call ends with a value, at its
// limit, by CLIENT UNBLOCK, or with -UNBLOCKED when the node becomes a replica.
func (n *Node) block(c *conn, args []string, limit time.Duration) {
	c.setBlocked(true)
	defer c.setBlocked(false)
	var timeout <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		timeout = t.C
	}
	resolved := false
	for {
		n.mu.RLock()
		st := n.state.Load()
		if !st.data.knows(upper(args[0])) || (st.role == topology.RoleReplica && st.data.writes(upper(args[0]))) {
			r := c.reply()
			n.onData(c, r, args) // refuses it
			n.mu.RUnlock()
			c.send(r.b)
			return
		}
		if !resolved {
			args, resolved = resolveNewest(st.data, c, args), true
		}
		changed := st.data.change()
		b, ok := attempt(st.data, c, args)
		if ok && st.data.writes(upper(args[0])) {
			st.data.wrote(size(args))
		}
		n.mu.RUnlock()
		if ok {
			c.send(b)
			return
		}
		select {
		case <-changed:
		case <-timeout:
			c.send(blockingNull(c, upper(args[0])))
			return
		case encoded := <-c.unblock:
			b := []byte(encoded)
			if encoded == "" {
				b = blockingNull(c, upper(args[0]))
			}
			c.send(b)
			return
		case <-c.gone:
			return
		case <-c.stop:
			return
		}
	}
}

// attempt runs a blocking call once, without waiting: a transaction of one
// command never waits. It returns false if there was nothing to take.
func attempt(d *dataset, c *conn, args []string) ([]byte, bool) {
	s := newSession()
	c.mu.Lock()
	db, resp3 := c.db, c.resp3
	c.mu.Unlock()
	s.peer.Resp3 = resp3
	d.do(s, "SELECT", strconv.Itoa(db))
	d.do(s, "MULTI")
	if b := d.do(s, args...); string(b) != queued {
		return slices.Clone(b), true // refused: wrong arguments
	}
	b := []byte(strings.TrimPrefix(string(d.do(s, "EXEC")), "*1\r\n"))
	switch string(b) {
	case "*-1\r\n", "$-1\r\n", "_\r\n":
		return nil, false
	}
	return b, true
}

func blockingNull(c *conn, cmd string) []byte {
	r := c.reply()
	if cmd == "BLMOVE" || cmd == "BRPOPLPUSH" {
		r.nullBulk()
	} else {
		r.nullArray()
	}
	return r.b
}

// resolveNewest replaces the ids "$" of XREAD by the newest ids of their
// streams, since each attempt would mean its own moment by them.
func resolveNewest(d *dataset, c *conn, args []string) []string {
	at := slices.IndexFunc(args, func(a string) bool { return upper(a) == "STREAMS" })
	if upper(args[0]) != "XREAD" || at < 0 || (len(args)-at-1)%2 != 0 {
		return args
	}
	args = slices.Clone(args)
	streams := (len(args) - at - 1) / 2
	c.mu.Lock()
	db := c.db
	c.mu.Unlock()
	for i := range streams {
		id := &args[at+1+streams+i]
		if *id != "$" {
			continue
		}
		*id = "0-0"
		entries, err := d.m.DB(db).Stream(args[at+1+i])
		if err == nil && len(entries) > 0 {
			*id = entries[len(entries)-1].ID
		}
	}
	return args
}
