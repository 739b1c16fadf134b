package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/boottime"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

const (
	learnTimeout = 5 * time.Second  // for one COMMAND, from the dial on
	learnLimit   = 16 << 20         // bytes of its reply; Redis' own commands are 200 KB
	learnRest    = 2 * time.Second  // between two of them at least
	learnFresh   = time.Minute      // a table that is younger is not read again for a command it has not
	learnAgain   = 30 * time.Second // after a failure
)

// learner asks masters for their COMMAND table, on a connection of its own and as the
// sidecar itself: clients may not be allowed to, and their connections must not wait
// for it. It asks only when a loop has met a command that nobody knows.
type learner struct {
	server *Server
	login  atomic.Pointer[account]

	// wants holds one request per loop. Full, a request is dropped: the loop asks again
	// with the next command.
	wants chan wanted

	refused atomic.Bool // the last attempt failed

	// Owned by run.
	last     *learnt
	ids      map[string]int // of commands that were ever learnt, by which they are counted
	failed   topology.Addr  // the master that would not tell, or could not be asked
	failedAt time.Duration
}

func newLearner(s *Server) *learner {
	l := &learner{server: s, wants: make(chan wanted, s.opts.Loops), ids: make(map[string]int)}
	l.login.Store(&account{s.opts.Username, s.opts.Password})
	return l
}

// want never blocks.
func (l *learner) want(w wanted) {
	select {
	case l.wants <- w:
	default:
	}
}

// run answers what loops want to know until ctx is done.
func (l *learner) run(ctx context.Context) {
	var rest <-chan time.Time
	for {
		var w wanted
		select {
		case <-ctx.Done():
			return
		case w = <-l.wants:
		}
		if !l.helps(w) {
			continue
		}
		if rest != nil {
			select {
			case <-ctx.Done():
				return
			case <-rest:
			}
		}
		l.learn(ctx, w)
		rest = time.After(learnRest)
	}
}

// helps reports whether asking the master may tell more than is known. If not, the
// loops get what there is.
func (l *learner) helps(w wanted) bool {
	now := boottime.Now()
	if l.failed == w.addr && now-l.failedAt < learnAgain && w.lost < l.failedAt {
		return false
	}
	t := l.last
	if t == nil || t.addr != w.addr || t.epoch != w.epoch || t.asked <= w.lost || now-t.asked > learnFresh {
		return true
	}
	l.publish(t)
	return false
}

// learn asks the master and publishes what it says.
func (l *learner) learn(ctx context.Context, w wanted) {
	asked := boottime.Now()
	reply, err := l.ask(ctx, w.addr)
	log := l.server.opts.Log
	if err != nil {
		if ctx.Err() == nil && l.failed != w.addr {
			log.Warn("the master does not tell its commands: unknown ones get connections of their own", "master", w.addr, "err", err)
		}
		l.failed, l.failedAt = w.addr, boottime.Now()
		l.refused.Store(true)
		return
	}
	t := learn(reply, l.server.workers[0].cmds)
	t.addr, t.epoch, t.asked = w.addr, w.epoch, asked
	l.identify(t)
	shared := 0
	for _, c := range t.all {
		if c.class == classShared {
			shared++
		}
	}
	log.Info("commands learnt from the master", "master", w.addr, "unknown", len(t.all), "shared", shared)
	l.last, l.failed = t, ""
	l.refused.Store(false)
	l.publish(t)
}

// identify gives the commands of t the numbers that they are counted by: a name keeps
// its own, and past maxNamed there is none.
func (l *learner) identify(t *learnt) {
	for _, name := range slices.Sorted(maps.Keys(t.all)) {
		id, known := l.ids[name]
		if !known && len(l.ids) < maxNamed {
			id = len(l.server.workers[0].cmds.all) + len(l.ids)
			l.ids[name] = id
		}
		t.all[name].id = id
	}
}

// publish has every loop take t.
func (l *learner) publish(t *learnt) {
	for i, loop := range l.server.loops {
		w := l.server.workers[i]
		_ = loop.TryPost(func() { w.setLearnt(t) }) // else the loop asks again
	}
}

// ask returns COMMAND's reply.
func (l *learner) ask(ctx context.Context, addr topology.Addr) (resp.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	nc, err := l.dial(ctx, addr)
	if err != nil {
		return resp.Value{}, err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })()
	var b []byte
	replies := 1
	switch a := l.login.Load(); {
	case a.user != "":
		b = resp.AppendCommand(b, "AUTH", a.user, a.pass)
		replies++
	case a.pass != "":
		b = resp.AppendCommand(b, "AUTH", a.pass) // older servers know no names
		replies++
	}
	if _, err := nc.Write(resp.AppendCommand(b, "COMMAND")); err != nil {
		return resp.Value{}, err
	}
	return lastReply(nc, replies)
}

// dial connects as the data path does.
func (l *learner) dial(ctx context.Context, addr topology.Addr) (net.Conn, error) {
	o := &l.server.opts
	nc, err := o.Dial(ctx, "tcp", string(addr))
	if err != nil || o.NodeTLS == nil {
		return nc, err
	}
	tc := tls.Client(nc, o.NodeTLS.Client(string(addr)))
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, o.NodeTLS.Explain(ctx, string(addr), err)
	}
	return tc, nil
}

var errLearnLimit = errors.New("the reply to COMMAND is too long")

// lastReply reads n replies and returns the last, or the first that is an error.
func lastReply(nc net.Conn, n int) (resp.Value, error) {
	var f resp.Replies
	var buf []byte
	chunk := make([]byte, 64<<10)
	for total := 0; total < learnLimit; {
		k, err := nc.Read(chunk)
		if err != nil {
			return resp.Value{}, err
		}
		total += k
		buf = append(buf, chunk[:k]...)
		for len(buf) > 0 {
			used, err := f.Next(buf)
			if err != nil {
				return resp.Value{}, err
			}
			if used == 0 {
				break
			}
			if n--; buf[0] == '-' {
				return resp.Value{}, errors.New(trimLine(buf))
			}
			if n == 0 {
				v, _, err := resp.Decode(buf[:used])
				if err == nil && v.Type != '*' {
					err = fmt.Errorf("COMMAND answers %q", buf[0])
				}
				return v, err
			}
			buf = buf[used:]
		}
	}
	return resp.Value{}, errLearnLimit
}
