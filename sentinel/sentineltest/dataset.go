package sentineltest

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"
)

const databases = 16 // as in Redis' default configuration

// dataset is the keys of one master and of all replicas that follow it.
type dataset struct {
	m      *miniredis.Miniredis
	offset atomic.Int64 // grows with every write: the replication offset

	mu      sync.Mutex
	changed chan struct{} // closed at the next write; blocked calls wait for it
}

func newDataset() (*dataset, error) {
	m := miniredis.NewMiniRedis()
	// Dialling is how miniredis starts without a listener of its own: nodes
	// have theirs, and hand commands to its dispatcher.
	nc, err := m.Dial()
	if err != nil {
		return nil, fmt.Errorf("sentineltest: start miniredis: %w", err)
	}
	_ = nc.Close()
	m.ClockTTL(true)
	return &dataset{m: m, changed: make(chan struct{})}, nil
}

func (d *dataset) close() { d.m.Close() }

// knows reports whether miniredis has the command at all.
func (d *dataset) knows(cmd string) bool { return d.m.Server().IsRegisteredCommand(cmd) }

// writes reports whether cmd is refused by a replica. Scripts are, since what
// they do is not known.
func (d *dataset) writes(cmd string) bool {
	switch cmd {
	case "COMMAND", "CLUSTER", "SCRIPT", "OBJECT", "XINFO", "TIME", "MEMORY", "PING", "ECHO", "SELECT",
		"MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "WAIT", "INFO", "PUBSUB", "PUBLISH":
		return false
	}
	return d.knows(cmd) && !d.m.IsReadOnlyCommand(cmd)
}

// do runs one command and returns its reply, which is valid until the next call
// with the same session.
func (d *dataset) do(s *session, args ...string) []byte {
	s.out.Reset()
	d.m.Server().Dispatch(s.peer, args)
	s.peer.Flush()
	return s.out.Bytes()
}

// wrote moves the offset by n bytes and wakes blocked calls.
func (d *dataset) wrote(n int) {
	d.offset.Add(int64(n))
	d.poke()
}

// poke makes every blocked call look again.
func (d *dataset) poke() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *dataset) change() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// session is one caller of datasets: its selected database, protocol and
// transaction. One goroutine owns it.
type session struct {
	peer *miniserver.Peer
	out  bytes.Buffer
}

func newSession() *session {
	s := &session{}
	s.peer = miniserver.NewPeer(bufio.NewWriter(&s.out))
	return s
}

// clone copies all keys, but HyperLogLogs, consumer groups and the expiry of
// hash fields. The caller sees to it that nobody writes meanwhile.
func (d *dataset) clone() (*dataset, error) {
	to, err := newDataset()
	if err != nil {
		return nil, err
	}
	to.offset.Store(d.offset.Load())
	for i := range databases {
		src, dst := d.m.DB(i), to.m.DB(i)
		for _, key := range src.Keys() {
			if err := copyKey(src, dst, key); err != nil {
				to.close()
				return nil, fmt.Errorf("sentineltest: copy key %q: %w", key, err)
			}
			if ttl := src.TTL(key); ttl > 0 && dst.Exists(key) {
				dst.SetTTL(key, ttl)
			}
		}
	}
	return to, nil
}

func copyKey(src, dst *miniredis.RedisDB, key string) error {
	switch src.Type(key) {
	case "string":
		v, err := src.Get(key)
		if err != nil {
			return err
		}
		return dst.Set(key, v)
	case "list":
		v, err := src.List(key)
		if err != nil {
			return err
		}
		_, err = dst.Push(key, v...)
		return err
	case "set":
		v, err := src.Members(key)
		if err != nil {
			return err
		}
		_, err = dst.SetAdd(key, v...)
		return err
	case "zset":
		v, err := src.SortedSet(key)
		if err != nil {
			return err
		}
		for _, member := range slices.Sorted(maps.Keys(v)) {
			if _, err := dst.ZAdd(key, v[member], member); err != nil {
				return err
			}
		}
		return nil
	case "hash":
		fields, err := src.HKeys(key)
		if err != nil {
			return err
		}
		for _, f := range fields {
			dst.HSet(key, f, src.HGet(key, f))
		}
		return nil
	case "stream":
		entries, err := src.Stream(key)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if _, err := dst.XAdd(key, e.ID, e.Values); err != nil {
				return err
			}
		}
		return nil
	}
	return nil // hll: see doc.go
}
