package sentineltest

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

const readOnly = "READONLY You can't write against a read only replica."

// serve executes one command of c; c's executor calls it.
func (n *Node) serve(c *conn, args []string) {
	if c.sess == nil {
		c.sess = newSession()
	}
	if !n.admit(c, args) {
		return
	}
	switch cmd := upper(args[0]); {
	case cmd == "QUIT":
		c.send([]byte("+OK\r\n"))
		c.shut()
	case cmd == "RESET":
		n.reset(c)
	case c.tx != nil:
		n.serveTx(c, args)
	case n.common(c, args, n.roleWord()):
	case cmd == "MULTI":
		n.multi(c)
	case cmd == "REPLICAOF" || cmd == "SLAVEOF":
		n.replicaOf(c, args)
	default:
		if limit, is := blocking(args); is {
			n.block(c, args, limit)
			return
		}
		n.mu.RLock()
		r := n.run(c, args)
		n.mu.RUnlock()
		c.send(r.b)
	}
}

func (n *Node) roleWord() string { return n.Role().String() }

// run executes a command that does not wait. n.mu is held.
func (n *Node) run(c *conn, args []string) *reply {
	r := c.reply()
	switch cmd := upper(args[0]); cmd {
	case "ROLE":
		n.role(r, args)
	case "INFO":
		n.info(r, args)
	case "CLIENT":
		n.client(c, r, args)
	case "PUBLISH":
		if len(args) != 3 {
			r.wrongArity("publish")
			break
		}
		for _, f := range n.followers() {
			f.bus.publish(args[1], args[2])
		}
		r.integer(n.bus.publish(args[1], args[2]))
	case "PUBSUB":
		n.bus.answerPubsub(r, args)
	case "CONFIG":
		config(r, args)
	case "WAIT":
		if len(args) != 3 {
			r.wrongArity("wait")
			break
		}
		r.integer(int64(len(n.followers())))
	case "SELECT":
		n.selectDB(c, r, args)
	case "READONLY", "READWRITE":
		r.err("ERR This instance has cluster support disabled")
	default:
		n.onData(c, r, args)
	}
	return r
}

// local reports whether run answers cmd itself, without miniredis.
func local(cmd string) bool {
	switch cmd {
	case "ROLE", "INFO", "CLIENT", "PUBLISH", "PUBSUB", "CONFIG", "WAIT", "READONLY", "READWRITE", "REPLICAOF", "SLAVEOF":
		return true
	}
	return false
}

// onData hands a command to miniredis.
func (n *Node) onData(c *conn, r *reply, args []string) {
	st := n.state.Load()
	cmd := upper(args[0])
	if !st.data.knows(cmd) {
		n.log.Warn("unknown command", "command", cmd, "node", n.Addr())
		r.unknown(args)
		return
	}
	writes := st.data.writes(cmd)
	if writes && st.role == topology.RoleReplica {
		r.err(readOnly)
		return
	}
	b := st.data.do(c.sess, args...)
	switch cmd {
	case "WATCH":
		c.watch = st.data
	case "UNWATCH":
		c.watch = nil
	}
	if writes && !bytes.HasPrefix(b, []byte("-")) {
		st.data.wrote(size(args))
	}
	r.raw(b)
}

// size is about what a command takes in the replication stream.
func size(args []string) int {
	n := 0
	for _, a := range args {
		n += len(a) + 8
	}
	return n
}

func (n *Node) selectDB(c *conn, r *reply, args []string) {
	if len(args) != 2 {
		r.wrongArity("select")
		return
	}
	db, err := strconv.Atoi(args[1])
	switch {
	case err != nil:
		r.err("ERR value is not an integer or out of range")
	case db < 0 || db >= databases:
		r.err("ERR DB index is out of range")
	default:
		r.raw(n.state.Load().data.do(c.sess, args...))
		c.mu.Lock()
		c.db = db
		c.mu.Unlock()
	}
}

// reset answers RESET: the connection is as new.
func (n *Node) reset(c *conn) {
	n.bus.forget(c)
	c.sess = newSession()
	c.tx, c.watch, c.user = nil, nil, ""
	c.mu.Lock()
	c.resp3, c.name, c.db = false, "", 0
	c.mu.Unlock()
	c.send([]byte("+RESET\r\n"))
}

// replicaOf answers REPLICAOF. Only a node of this group can be followed.
func (n *Node) replicaOf(c *conn, args []string) {
	r := c.reply()
	switch {
	case len(args) != 3:
		r.wrongArity(strings.ToLower(args[0]))
	case upper(args[1]) == "NO" && upper(args[2]) == "ONE":
		if n.Role() == topology.RoleReplica {
			if err := n.promote(); err != nil {
				r.err("ERR " + oneLine(err.Error()))
				break
			}
		}
		r.simple("OK")
	default:
		to, problem := n.target(args)
		if problem != "" {
			r.err(problem)
			break
		}
		n.follow(to)
		r.simple("OK")
	}
	c.send(r.b)
}

func (n *Node) target(args []string) (to *Node, problem string) {
	port, err := strconv.Atoi(args[2])
	if err != nil || port < 0 || port > 65535 {
		return nil, "ERR Invalid master port"
	}
	to = n.g.Node(topology.JoinAddr(args[1], port))
	if to == nil || to == n {
		return nil, "ERR sentineltest: only another node of the group can be followed"
	}
	return to, ""
}

func (n *Node) role(r *reply, args []string) {
	if len(args) != 1 {
		r.wrongArity("role")
		return
	}
	st := n.state.Load()
	offset := st.data.offset.Load()
	if st.role == topology.RoleReplica {
		host, port := st.master.Split()
		link := "connect"
		if n.linked() {
			link = "connected"
		}
		r.array(5)
		r.bulk("slave")
		r.bulk(host)
		r.integer(int64(port))
		r.bulk(link)
		r.integer(offset)
		return
	}
	followers := n.followers()
	r.array(3)
	r.bulk("master")
	r.integer(offset)
	r.array(len(followers))
	for _, f := range followers {
		host, port := f.Addr().Split()
		r.array(3)
		r.bulk(host)
		r.bulk(strconv.Itoa(port))
		r.bulk(strconv.FormatInt(offset, 10))
	}
}

func config(r *reply, args []string) {
	switch {
	case len(args) < 2:
		r.wrongArity("config")
	case upper(args[1]) == "GET":
		r.dict(0)
	case upper(args[1]) == "SET", upper(args[1]) == "REWRITE", upper(args[1]) == "RESETSTAT":
		r.simple("OK")
	default:
		r.unknownSub("CONFIG", args[1])
	}
}

// info answers INFO with the sections a follower of Redis looks at.
func (n *Node) info(r *reply, args []string) {
	_, port := n.Addr().Split()
	sections := []struct{ name, text string }{
		{"server", fmt.Sprintf("# Server\r\nredis_version:%s\r\nredis_mode:standalone\r\nprocess_id:%d\r\nrun_id:%s\r\ntcp_port:%d\r\n",
			version, os.Getpid(), n.runID, port)},
		{"clients", fmt.Sprintf("# Clients\r\nconnected_clients:%d\r\n", n.Clients())},
		{"persistence", "# Persistence\r\nloading:0\r\nasync_loading:0\r\n"},
		{"replication", n.infoReplication()},
	}
	var b strings.Builder
	for _, s := range sections {
		if !wantsSection(args[1:], s.name) {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(s.text)
	}
	r.text(b.String())
}

func wantsSection(asked []string, name string) bool {
	if len(asked) == 0 {
		return true
	}
	for _, a := range asked {
		switch strings.ToLower(a) {
		case name, "default", "all", "everything":
			return true
		}
	}
	return false
}

func (n *Node) infoReplication() string {
	st := n.state.Load()
	offset := st.data.offset.Load()
	followers := n.followers()
	var b strings.Builder
	b.WriteString("# Replication\r\n")
	if st.role == topology.RoleReplica {
		host, port := st.master.Split()
		link := "down"
		if n.linked() {
			link = "up"
		}
		fmt.Fprintf(&b, "role:slave\r\nmaster_host:%s\r\nmaster_port:%d\r\nmaster_link_status:%s\r\n", host, port, link)
		fmt.Fprintf(&b, "master_last_io_seconds_ago:0\r\nmaster_sync_in_progress:0\r\nslave_read_repl_offset:%d\r\nslave_repl_offset:%d\r\n", offset, offset)
		b.WriteString("slave_priority:100\r\nslave_read_only:1\r\nreplica_announced:1\r\n")
	} else {
		b.WriteString("role:master\r\n")
	}
	fmt.Fprintf(&b, "connected_slaves:%d\r\n", len(followers))
	for i, f := range followers {
		host, port := f.Addr().Split()
		fmt.Fprintf(&b, "slave%d:ip=%s,port=%d,state=online,offset=%d,lag=0\r\n", i, host, port, offset)
	}
	fmt.Fprintf(&b, "master_failover_state:no-failover\r\nmaster_replid:%s\r\nmaster_replid2:%040d\r\nmaster_repl_offset:%d\r\nsecond_repl_offset:-1\r\n",
		n.g.replID, 0, offset)
	fmt.Fprintf(&b, "repl_backlog_active:1\r\nrepl_backlog_size:1048576\r\nrepl_backlog_first_byte_offset:1\r\nrepl_backlog_histlen:%d\r\n", offset)
	return b.String()
}
