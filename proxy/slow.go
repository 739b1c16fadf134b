package proxy

import (
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

const (
	slowRoom  = 128 // slow commands that wait to be logged
	slowLines = 10  // logged in slowEvery at most
	slowEvery = time.Second
)

// slowCommand is a command that took long, without its arguments: keys are secrets too,
// where they are the API keys of a gateway.
type slowCommand struct {
	command string
	args    int           // the name not counted; -1: not known
	size    int           // bytes of the command; -1: not known, or it would tell the length of a secret
	took    time.Duration // from its end's arrival to its answer
	held    bool          // it waited for a master
	waited  time.Duration // how much of took that was; of several waits the last
	failed  bool          // it got an error
	client  string
	id      int64
	user    string
	db      int
	node    topology.Addr // that answered; "": none did
}

// slowMicros returns the least number of microseconds that make a command slow.
func slowMicros(d time.Duration) uint64 {
	if d <= 0 {
		return math.MaxUint64
	}
	return uint64(max(1, d/time.Microsecond))
}

// tellSlow hands a slow command to the log, unless it was meant to wait.
func (w *worker) tellSlow(p *pipe, e *entry, frame []byte, said replyKind, took uint64) {
	s := e.s
	if e.waits(frame) {
		return
	}
	c := slowCommand{
		command: displayName(e.cmd.name), args: -1, size: -1, took: time.Duration(took) * time.Microsecond,
		failed: said >= replyError, client: s.conn.RemoteAddr(), id: s.id, user: userName(s.who.user), db: s.who.db,
	}
	if len(frame) > 0 {
		c.args = resp.Count(frame) - 1
		if !e.cmd.secret() {
			c.size = len(frame)
		}
	}
	if e.meta&metaHeld != 0 {
		c.held, c.waited = true, min(s.waited, c.took)
	}
	if p != nil {
		c.node = p.addr
	}
	select {
	case w.slow <- c:
	default:
		w.stats.slowDropped++
	}
}

// waits reports whether a command waits for something to happen: it takes as long as
// that takes.
func (e *entry) waits(frame []byte) bool {
	c := e.cmd.class
	return c == classBlock || c == classWait || c == classSubscribe || c == classMayBlock && (len(frame) == 0 || blocks(frame))
}

// secret reports whether a command's arguments may be secrets whose length alone tells
// something.
func (c *command) secret() bool {
	switch c.name {
	case "ACL|SETUSER", "CONFIG|SET", "MIGRATE":
		return true
	}
	return c.class == classLocal
}

// slowLog writes slow commands to the log: slowLines a second at most, and how many
// more there were. Loops never wait for it.
type slowLog struct {
	log *slog.Logger
	ch  chan slowCommand // full, a loop counts what it drops

	logged, unlogged atomic.Uint64
}

// run logs until ctx is done.
func (l *slowLog) run(ctx context.Context) {
	var end <-chan time.Time // of the second under way; nil: none is
	lines, more := 0, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-end:
			if more > 0 {
				l.log.Warn("more slow commands than are logged one by one", "unlogged", more)
			}
			end, lines, more = nil, 0, 0
		case c := <-l.ch:
			if end == nil {
				end = time.After(slowEvery)
			}
			if lines++; lines > slowLines {
				more++
				l.unlogged.Add(1)
				continue
			}
			l.logged.Add(1)
			c.log(l.log)
		}
	}
}

func (c *slowCommand) log(log *slog.Logger) {
	attrs := []any{"command", c.command, "duration", c.took}
	if c.held {
		attrs = append(attrs, "held_for", c.waited)
	}
	if c.args >= 0 {
		attrs = append(attrs, "arguments", c.args)
	}
	if c.size >= 0 {
		attrs = append(attrs, "bytes", c.size)
	}
	if c.node != "" {
		attrs = append(attrs, "addr", c.node)
	}
	attrs = append(attrs, "failed", c.failed, "client", c.client, "client_id", c.id, "user", c.user, "db", c.db)
	log.Warn("slow command", attrs...)
}
