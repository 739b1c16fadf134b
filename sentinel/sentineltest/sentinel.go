package sentineltest

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Sentinel is one fake Sentinel. Its methods are safe for concurrent use.
type Sentinel struct {
	server

	g     *Group
	index int

	// Guarded by g.mu.
	running bool
	view    view
}

func newSentinel(g *Group, index int) *Sentinel {
	s := &Sentinel{g: g, index: index, running: true}
	users := map[string]string{}
	switch {
	case g.o.SentinelUsername != "":
		users[g.o.SentinelUsername] = g.o.SentinelPassword
	case g.o.SentinelPassword != "":
		users["default"] = g.o.SentinelPassword
	}
	s.init(serverOptions{
		runID: newRunID(), mode: "sentinel", host: g.o.Host, users: users,
		log: g.o.Log.With("part", "sentinel"), serve: s.serve,
	})
	s.view.votedFor = "?"
	s.view.lost = map[int]struct{}{}
	s.view.set(g.nodes[0].Addr(), 0)
	return s
}

// SetMaster makes this Sentinel alone name addr at epoch, without an event: it
// lies, or is late.
func (s *Sentinel) SetMaster(addr topology.Addr, epoch uint64) {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	s.view.set(addr, epoch)
}

// Master is the address and config epoch this Sentinel would answer.
func (s *Sentinel) Master() (topology.Addr, uint64) {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	return s.view.master, s.view.config
}

// Stop resets the Sentinel's connections and refuses new ones until Start. A
// failover it leads is left where it is.
func (s *Sentinel) Stop() {
	s.g.mu.Lock()
	s.running = false
	s.g.mu.Unlock()
	s.front.close()
	s.g.log.Info("sentinel stopped", "sentinel", s.Addr())
	s.g.spawn(s.g.loseSentinels)
}

// Start runs a stopped Sentinel at its old address. It has what it knew, and
// hears at once what the others know.
func (s *Sentinel) Start(ctx context.Context) error {
	if err := s.restart(ctx); err != nil {
		return err
	}
	s.g.mu.Lock()
	s.running = true
	s.view.state, s.view.promoted, s.view.reconf = "", "", ""
	s.g.findSentinels()
	s.g.spreadNewest()
	s.g.mu.Unlock()
	s.g.log.Info("sentinel started", "sentinel", s.Addr())
	s.g.spawn(s.g.reconsider)
	return nil
}

// emit publishes an event, if the Sentinel runs. g.mu is held, so that a client
// that asks after an event sees the state it speaks of.
func (s *Sentinel) emit(event, payload string) {
	if !s.running {
		return
	}
	s.g.log.Debug("event", "sentinel", s.index, "name", event, "payload", payload)
	s.bus.publish(event, payload)
}

// masterPayload is how events name a master.
func (s *Sentinel) masterPayload(addr topology.Addr) string {
	return "master " + s.g.o.Name + " " + spaced(addr)
}

// slavePayload is how events name a replica of master.
func (s *Sentinel) slavePayload(addr, master topology.Addr) string {
	return fmt.Sprintf("slave %s %s @ %s %s", addr, spaced(addr), s.g.o.Name, spaced(master))
}

// sentinelPayload is how events name a Sentinel of master.
func (s *Sentinel) sentinelPayload(other *Sentinel, master topology.Addr) string {
	return fmt.Sprintf("sentinel %s %s @ %s %s", other.runID, spaced(other.Addr()), s.g.o.Name, spaced(master))
}

// emitSwitch publishes +switch-master and the +slave of every other node, the
// old master last.
func (s *Sentinel) emitSwitch(old, to topology.Addr) {
	s.emit("+switch-master", s.g.o.Name+" "+spaced(old)+" "+spaced(to))
	for _, n := range s.g.nodes {
		if addr := n.Addr(); addr != old && addr != to {
			s.emit("+slave", s.slavePayload(addr, to))
		}
	}
	if s.g.Node(old) != nil && old != to {
		s.emit("+slave", s.slavePayload(old, to))
	}
}

// emitOldMaster says that the old master, if it lives, still calls itself so.
func (s *Sentinel) emitOldMaster(old topology.Addr) {
	if n := s.g.Node(old); n != nil && n.Alive() && n.Role() == topology.RoleMaster {
		s.emit("-role-change", s.slavePayload(old, s.view.master)+" new reported role is master")
	}
}

// spaced is an address as events write it: host and port apart, IPv6 without
// brackets.
func spaced(a topology.Addr) string {
	host, port := a.Split()
	return host + " " + strconv.Itoa(port)
}

func itoa[T ~int | ~int64 | ~uint64](n T) string { return fmt.Sprint(n) }

// serve executes one command of c; c's executor calls it.
func (s *Sentinel) serve(c *conn, args []string) {
	if !s.admit(c, args) || s.common(c, args, "") {
		return
	}
	r := c.reply()
	switch upper(args[0]) {
	case "SENTINEL":
		s.sentinel(r, args)
	case "ROLE":
		if len(args) != 1 {
			r.wrongArity("role")
			break
		}
		r.array(2)
		r.bulk("sentinel")
		r.array(1)
		r.bulk(s.g.o.Name)
	case "INFO":
		s.info(r, args)
	case "CLIENT":
		s.client(c, r, args)
	case "PUBLISH":
		switch {
		case len(args) != 3:
			r.wrongArity("publish")
		case args[1] != "__sentinel__:hello":
			r.err("ERR Only HELLO messages are accepted by Sentinel instances.")
		default:
			r.integer(1)
		}
	case "COMMAND":
		r.array(0)
	default:
		s.log.Warn("unknown command", "command", strings.ToUpper(args[0]), "sentinel", s.Addr())
		r.unknown(args)
	}
	c.send(r.b)
}
