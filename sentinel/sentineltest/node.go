package sentineltest

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Node is one data node. Its methods are safe for concurrent use.
type Node struct {
	server

	g *Group

	// mu is held for reading while a command executes and for writing while
	// role or dataset change, so that no command sees half a change, and every
	// acknowledged write is on one side of it.
	mu    sync.RWMutex
	state atomic.Pointer[nodeState] // stored only with mu held for writing
}

// nodeState is immutable.
type nodeState struct {
	role   topology.Role
	master topology.Addr // whom a replica follows
	data   *dataset
	up     bool
}

func newNode(g *Group, o Options, d *dataset) *Node {
	n := &Node{g: g}
	users := map[string]string{}
	maps.Copy(users, o.Users)
	if o.Password != "" {
		users["default"] = o.Password
	}
	n.init(serverOptions{
		runID: newRunID(), mode: "standalone", host: o.Host, users: users,
		log: o.Log.With("part", "node"), serve: n.serve,
	})
	n.state.Store(&nodeState{role: topology.RoleMaster, data: d, up: true})
	return n
}

// Role is what the node says it is now; a killed node keeps its last role.
func (n *Node) Role() topology.Role { return n.state.Load().role }

// Master is the node that this one follows; "" if it calls itself master.
func (n *Node) Master() topology.Addr { return n.state.Load().master }

// Alive is false between Kill and Restart.
func (n *Node) Alive() bool { return n.state.Load().up }

// Get reads a string from database 0 of what this node holds, past roles and
// connections: it tells which acknowledged writes a failover has lost.
func (n *Node) Get(key string) (value string, ok bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	v, err := n.state.Load().data.m.DB(0).Get(key)
	return v, err == nil
}

// change replaces the node's state and lets blocked calls look at the new one.
func (n *Node) change(f func(st *nodeState)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changeLocked(f)
}

func (n *Node) changeLocked(f func(st *nodeState)) {
	old := n.state.Load()
	st := *old
	f(&st)
	n.state.Store(&st)
	if old.role == topology.RoleMaster && st.role == topology.RoleReplica {
		for _, c := range n.front.all() {
			c.wake("-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n")
		}
	}
	old.data.poke()
	if old.data != st.data && !n.g.holds(old.data) {
		old.data.m.FlushAll() // a stale master's: nobody can come back to it
	}
}

// follow makes the node a replica of to, whose data replace its own.
func (n *Node) follow(to *Node) {
	n.change(func(st *nodeState) { st.attach(to) })
}

func (st *nodeState) attach(to *Node) {
	st.role, st.master, st.data = topology.RoleReplica, to.Addr(), to.state.Load().data
}

// promote makes the node a master with the data it has; a master that shares
// them goes on with a copy. Neither closes a connection.
func (n *Node) promote() error {
	data := n.state.Load().data
	for _, other := range n.g.nodes {
		if other == n {
			continue
		}
		if err := other.fork(data); err != nil {
			return err
		}
	}
	n.change(func(st *nodeState) { st.role, st.master = topology.RoleMaster, "" })
	return nil
}

// fork gives the node a copy of its data if it is a master that holds shared.
func (n *Node) fork(shared *dataset) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.state.Load()
	if st.role != topology.RoleMaster || st.data != shared {
		return nil
	}
	copied, err := n.g.keep(shared.clone())
	if err != nil {
		return err
	}
	n.changeLocked(func(st *nodeState) { st.data = copied })
	return nil
}

// killClients closes all client connections, as CLIENT KILL TYPE normal and
// pubsub do.
func (n *Node) killClients() {
	for _, c := range n.front.all() {
		c.shut()
	}
}

// followers are the living replicas of n.
func (n *Node) followers() []*Node {
	var list []*Node
	for _, other := range n.g.nodes {
		if st := other.state.Load(); st.up && st.role == topology.RoleReplica && st.master == n.Addr() {
			list = append(list, other)
		}
	}
	return list
}

// linked reports whether the node is a replica of a master that lives.
func (n *Node) linked() bool {
	m := n.g.Node(n.Master())
	return m != nil && m.Alive() && m.Role() == topology.RoleMaster
}

func (n *Node) kill() {
	n.change(func(st *nodeState) { st.up = false })
	n.front.close()
}

func (n *Node) revive(ctx context.Context) error {
	if err := n.restart(ctx); err != nil {
		return err
	}
	n.change(func(st *nodeState) { st.up = true })
	return nil
}
