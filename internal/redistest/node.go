package redistest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/faultnet"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// defaultWait bounds calls whose context has no deadline. A Sentinel that was kept from
// running for two seconds does nothing for thirty (TILT).
const defaultWait = 2 * time.Minute

// Node is one Redis or Sentinel. Its process may come and go; address,
// directory and configuration stay. It is safe for concurrent use.
type Node struct {
	// Fixed at start.
	name      string // "node-0", "sentinel-2": also its directory's name
	dir       string
	argv      []string
	password  string
	tls       *tls.Config // nil: it is plain
	direct    topology.Addr
	announced topology.Addr
	port      *port
	relay     *faultnet.Relay // nil unless Options.Relays or SentinelRelays
	relayPort *port           // nil where relay is
	quick     bool            // a Sentinel that is made quick again after a Restart
	spawn     *spawner

	mu   sync.Mutex // guards proc, and is held while a process is being created
	proc *process   // the latest run; nil before the first
}

// Name returns the node's name in the group and in logs, such as "node-0".
func (n *Node) Name() string { return n.name }

// Addr returns the address by which the group and its clients know the node:
// the relay's, where there is one.
func (n *Node) Addr() topology.Addr { return n.announced }

// DirectAddr returns the address that the process itself listens on.
func (n *Node) DirectAddr() topology.Addr { return n.direct }

// Relay returns the relay before the node; nil unless Options.Relays, or for a
// Sentinel Options.SentinelRelays, was set.
func (n *Node) Relay() *faultnet.Relay { return n.relay }

// Pid returns the process id of the latest run.
func (n *Node) Pid() int { return n.process().pid() }

// LogPath returns the file that holds the output of all the node's runs.
func (n *Node) LogPath() string { return filepath.Join(n.dir, "log") }

// Alive reports whether the process exists, be it paused.
func (n *Node) Alive() bool { return n.process().alive() }

// serving reports whether the process exists and is not paused.
func (n *Node) serving() bool {
	p := n.process()
	return p.alive() && !p.halted.Load()
}

// process returns the latest run. It is not nil in a node that others can see.
func (n *Node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// Kill sends SIGKILL and waits until the process is gone. As on a machine whose
// Redis crashed, its connections are reset and new ones are refused, also at its
// relay, until Restart. Killing a dead node does nothing.
func (n *Node) Kill() error {
	if n.relay != nil {
		n.relay.Refuse()
	}
	if err := n.process().kill(); err != nil {
		return fmt.Errorf("kill %s: %w", n.name, err)
	}
	return nil
}

// Terminate sends SIGTERM and waits until the process is gone. A master first
// waits for its replicas, at most for its shutdown-timeout (10 s by default).
func (n *Node) Terminate() error {
	p := n.process()
	if p.halted.Load() {
		return fmt.Errorf("terminate %s: it is paused", n.name)
	}
	if !p.alive() {
		return nil
	}
	if err := p.sigterm(); err != nil {
		return fmt.Errorf("terminate %s: %w", n.name, err)
	}
	limit := time.NewTimer(defaultWait)
	defer limit.Stop()
	select {
	case <-p.gone:
	case <-limit.C:
		return fmt.Errorf("terminate %s: still running after %v", n.name, defaultWait)
	}
	if n.relay != nil {
		n.relay.Refuse()
	}
	return nil
}

// Pause sends SIGSTOP and waits until it has taken effect: sockets stay open and
// the kernel still accepts connections, but nothing answers.
func (n *Node) Pause() error {
	p := n.process()
	if !p.alive() {
		return fmt.Errorf("pause %s: it is not running", n.name)
	}
	if err := p.sigstop(); err != nil {
		return fmt.Errorf("pause %s: %w", n.name, err)
	}
	p.halted.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), defaultWait)
	defer cancel()
	return await(ctx, time.Millisecond, func(context.Context) error {
		if !p.haltedNow() {
			return fmt.Errorf("pause %s: still running", n.name)
		}
		return nil
	})
}

// Resume sends SIGCONT: the node goes on where it was, commands that its sockets
// collected meanwhile included.
func (n *Node) Resume() error {
	p := n.process()
	if !p.alive() {
		return fmt.Errorf("resume %s: it is not running", n.name)
	}
	if err := p.sigcont(); err != nil {
		return fmt.Errorf("resume %s: %w", n.name, err)
	}
	p.halted.Store(false)
	return nil
}

// Restart starts a dead node again on its old port, with its directory and its
// configuration as Redis or Sentinel last rewrote it, and returns when it
// answers. What a data node held in memory is gone. While the port is taken it
// tries again until ctx ends.
func (n *Node) Restart(ctx context.Context) error {
	ctx, cancel := withDefaultWait(ctx)
	defer cancel()
	for {
		err := n.start(ctx)
		if err == nil {
			break
		}
		if !errors.Is(err, errPortTaken) {
			return fmt.Errorf("restart %s: %w", n.name, err)
		}
		if pause(ctx, 50*time.Millisecond+rand.N(50*time.Millisecond)) != nil {
			return fmt.Errorf("restart %s on %s: %w", n.name, n.direct, err)
		}
	}
	if n.relay != nil {
		n.relay.Admit()
	}
	if n.quick {
		if _, err := n.setPeriods(ctx, quick()); err != nil {
			return fmt.Errorf("restart %s: %w", n.name, err)
		}
	}
	return nil
}

// start begins a new run and waits until it answers. It returns errPortTaken if
// somebody else has the port.
func (n *Node) start(ctx context.Context) error {
	p, err := n.create()
	if err != nil {
		return err
	}
	err = await(ctx, 10*time.Millisecond, func(ctx context.Context) error {
		if !p.alive() {
			return halt{p.earlyExit()}
		}
		pid, err := n.answeringPid(ctx)
		if err != nil {
			return fmt.Errorf("%s does not answer: %w", n.name, err)
		}
		if pid != p.pid() {
			return halt{errPortTaken} // a stranger listens there; ours will fail or already has
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, p.kill())
	}
	return nil
}

// create starts the process unless the latest run is still there.
func (n *Node) create() (*process, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil && n.proc.alive() {
		return nil, errors.New("it is still running")
	}
	p, err := startProcess(n.spawn, n.LogPath(), n.argv...)
	if err != nil {
		return nil, err
	}
	n.proc = p
	return p, nil
}

// discard ends all that belongs to the node. It may be called again.
func (n *Node) discard() error {
	var errs []error
	if p := n.process(); p != nil {
		errs = append(errs, p.kill())
	}
	if n.relay != nil {
		errs = append(errs, n.relay.Close(), n.relayPort.release())
	}
	return errors.Join(append(errs, n.port.release())...)
}
