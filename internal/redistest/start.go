package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sentinelproxy/sentinelproxy/internal/faultnet"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// startTimeout bounds a Start; a quiet machine needs one or two seconds.
const startTimeout = 3 * time.Minute

// Start runs a group and returns when it is ready: every Sentinel names the
// master, sees all replicas with their links up, and all other Sentinels. From
// then on everything runs with Redis' own periods.
//
// The group lives until Stop, which must be called in any case; the end of ctx
// kills its processes at once. If Redis is not installed the error wraps
// ErrNoRedis and says what to install.
func Start(ctx context.Context, o Options) (*Group, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	bin, err := findBinaries(ctx, o)
	if err != nil {
		return nil, err
	}
	g := &Group{opts: o, bin: bin, dir: o.Dir, log: o.Log}
	if g.dir == "" {
		g.ownsDir = true
		if g.dir, err = os.MkdirTemp("", "redistest-"); err != nil {
			return nil, err
		}
	}
	if g.dir, err = filepath.Abs(g.dir); err != nil {
		return nil, err
	}
	if o.TLS != nil {
		if g.tls, err = o.TLS.client(o.Host); err != nil {
			return nil, fmt.Errorf("redistest: %w", err)
		}
	}
	g.spawn = newSpawner()
	began := time.Now()
	if err := g.launchAll(ctx); err != nil {
		g.unwatch = func() bool { return true }
		return nil, errors.Join(fmt.Errorf("redistest: %w", err), g.Stop())
	}
	g.watch(ctx)
	g.log.Info("redis group ready", "group", o.Name, "master", g.nodes[0].announced,
		"replicas", o.Replicas, "sentinels", o.Sentinels, "took", time.Since(began))
	return g, nil
}

// launchAll starts every process and waits for agreement.
func (g *Group) launchAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("group not ready in time"))
	defer cancel()

	master, err := g.launch(ctx, "node-0", g.dataNode(""))
	if err != nil {
		return err
	}
	g.nodes = append(g.nodes, master)

	// Each goroutine writes its own element. Those that failed stay nil and are
	// taken out, so that Stop finds only nodes that exist.
	replicas := make([]*Node, g.opts.Replicas)
	sentinels := make([]*Node, g.opts.Sentinels)
	eg, ectx := errgroup.WithContext(ctx)
	for i := range replicas {
		eg.Go(func() (err error) {
			replicas[i], err = g.launch(ectx, "node-"+strconv.Itoa(i+1), g.dataNode(master.announced))
			return err
		})
	}
	for i := range sentinels {
		eg.Go(func() (err error) {
			sentinels[i], err = g.launch(ectx, "sentinel-"+strconv.Itoa(i), g.sentinel(master.announced))
			return err
		})
	}
	err = eg.Wait()
	g.nodes = append(g.nodes, existing(replicas)...)
	g.sentinels = existing(sentinels)
	if err != nil {
		return err
	}
	return g.settle(ctx)
}

func existing(nodes []*Node) []*Node {
	var some []*Node
	for _, n := range nodes {
		if n != nil {
			some = append(some, n)
		}
	}
	return some
}

// preparer makes a node that is yet to be started, in dir and on port, with its
// configuration written.
type preparer func(ctx context.Context, n *Node) error

// launch makes and starts a node, on another port for as long as strangers take
// the one it chose. It returns nil or a running node.
func (g *Group) launch(ctx context.Context, name string, prepare preparer) (*Node, error) {
	const attempts = 20
	var err error
	for range attempts {
		var n *Node
		if n, err = g.launchOnce(ctx, name, prepare); err == nil {
			g.log.Debug("redis started", "node", name, "addr", n.direct, "pid", n.Pid())
			return n, nil
		}
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	return nil, fmt.Errorf("start %s: %w", name, err)
}

func (g *Group) launchOnce(ctx context.Context, name string, prepare preparer) (*Node, error) {
	p, err := reservePort(ctx, g.opts.Host)
	if err != nil {
		return nil, err
	}
	n := &Node{
		name:   name,
		dir:    filepath.Join(g.dir, name),
		direct: topology.JoinAddr(g.opts.Host, p.number),
		port:   p,
		spawn:  g.spawn,
		tls:    g.tls,
	}
	n.announced = n.direct
	if err = os.MkdirAll(n.dir, 0o700); err == nil {
		err = prepare(ctx, n)
	}
	if err == nil {
		err = n.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, n.discard())
	}
	return n, nil
}

// dataNode prepares a replica of master, or a master if that is zero.
func (g *Group) dataNode(master topology.Addr) preparer {
	return func(ctx context.Context, n *Node) error {
		if g.opts.Relays {
			if err := n.addRelay(ctx, g.opts.Host); err != nil {
				return err
			}
		}
		var announce topology.Addr
		if g.opts.Relays || g.opts.byName() {
			announce = n.announced
		}
		conf := filepath.Join(n.dir, "redis.conf")
		n.argv = []string{g.bin.server, conf}
		n.password = g.opts.Password
		f := dataConfig(g.opts, n.dir, n.port.number, announce, master)
		if g.bin.major >= 7 {
			f.add("enable-debug-command", "yes") // DEBUG SLEEP; always on before Redis 7
		}
		return f.write(conf)
	}
}

// sentinel prepares a Sentinel that watches master.
func (g *Group) sentinel(master topology.Addr) preparer {
	return func(ctx context.Context, n *Node) error {
		if g.opts.SentinelRelays {
			if err := n.addRelay(ctx, g.opts.Host); err != nil {
				return err
			}
		}
		conf := filepath.Join(n.dir, "sentinel.conf")
		n.argv = append([]string{g.bin.sentinel, conf}, g.bin.sentinelArgs...)
		n.password = g.opts.SentinelPassword
		n.quick = g.opts.Quick
		f := sentinelConfig(g.opts, n.dir, n.port.number, master)
		if g.opts.SentinelRelays {
			host, port := n.announced.Split()
			f.add("sentinel", "announce-ip", host)
			f.add("sentinel", "announce-port", strconv.Itoa(port))
		}
		return f.write(conf)
	}
}

// addRelay puts a relay before the node and makes its address the node's. The
// relay lives until discard.
func (n *Node) addRelay(ctx context.Context, host string) error {
	p, err := reservePort(ctx, host)
	if err != nil {
		return err
	}
	addr := topology.JoinAddr(host, p.number)
	relay, err := faultnet.Start(context.WithoutCancel(ctx), faultnet.Config{
		Listen: string(addr),
		Target: string(n.direct),
	})
	if err != nil {
		return errors.Join(errPortTaken, err, p.release())
	}
	n.relay, n.relayPort, n.announced = relay, p, addr
	return nil
}
