package proxy

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// This file answers the commands by which a client sees itself and others, from the
// sidecar's own table: Redis sees the sidecar's connections. Whether the user may call
// them, and whether they are well formed, Redis says: it gets a form of the command
// that matches no connection.

// noClient is an id that no connection of a Redis has.
const noClient = "9223372036854775807"

func (s *session) clientID(frame []byte) bool {
	return s.ask(frame, frame, func() { s.reply(resp.AppendInt(nil, s.id)) })
}

func (s *session) clientInfo(frame []byte) bool {
	n := len(frame)
	return s.ask(frame, frame, func() { s.replyText(s.line(n)) })
}

// replyText replies with a text as Redis does: verbatim in RESP3.
func (s *session) replyText(text string) {
	if s.who.proto == 3 {
		s.reply(fmt.Appendf(nil, "=%d\r\ntxt:%s\r\n", len(text)+4, text))
		return
	}
	s.reply(resp.AppendBulk(nil, text))
}

// clientList is CLIENT LIST [TYPE type] [ID id ...].
func (s *session) clientList(frame []byte) bool {
	args := resp.Args(nil, frame)[2:]
	want := func(*session) bool { return true }
	switch {
	case len(args) == 2 && equalFold(string(args[0]), "type"):
		kind := strings.ToLower(string(args[1]))
		want = func(o *session) bool { return o.kind() == kind }
	case len(args) >= 2 && equalFold(string(args[0]), "id"):
		ids := make(map[string]bool)
		for _, a := range args[1:] {
			ids[string(a)] = true
		}
		want = func(o *session) bool { return ids[strconv.FormatInt(o.id, 10)] }
	case len(args) > 0:
		return s.ask(frame, frame, func() { s.replyError("ERR syntax error") })
	}
	id, n := s.id, len(frame)
	return s.askAll(frame, frame, func(w *worker, done func(found)) {
		var f found
		for _, o := range w.sessions {
			if o.closed || !want(o) {
				continue
			}
			atHand := 0
			if o.id == id {
				atHand = n
			}
			f.lines = append(f.lines, clientLine{o.id, o.line(atHand)})
		}
		done(f)
	}, func(f found) {
		slices.SortFunc(f.lines, func(a, b clientLine) int { return cmp.Compare(a.id, b.id) })
		var b strings.Builder
		for _, l := range f.lines {
			b.WriteString(l.text)
		}
		s.replyText(b.String())
	})
}

// found is what one loop has to say, and then all of them.
type found struct {
	lines []clientLine
	n     int
	self  bool // the client that asks is among them
	reply []byte
}

type clientLine struct {
	id   int64
	text string
}

// askAll is ask for a command about all clients: look is called on every loop, and then
// is called here with the sum of what was found. Nothing of the session goes on meanwhile.
func (s *session) askAll(frame, probe []byte, look func(w *worker, done func(found)), then func(found)) bool {
	if !s.w.serving {
		return s.hold(s.last) // nobody can say whether the user may
	}
	return s.asking(frame, probe, func([]byte) {
		s.asked = true
		s.w.host.everywhere(look, func(f found) {
			s.asked = false
			if s.closed {
				return
			}
			then(f)
			s.mute = false
			s.resume()
			s.w.pump()
		})
	})
}

// kind is what CLIENT LIST TYPE and CLIENT KILL TYPE know a client by.
func (s *session) kind() string {
	if s.subscribed() {
		return "pubsub"
	}
	return "normal"
}

// line is the client's in CLIENT LIST (catClientInfoString in redis/src/networking.c).
// What a shared connection has not is 0. atHand is the size of the command that asks, if
// it is the client's own: Redis has it in its buffer still.
func (s *session) line(atHand int) string {
	var subs [subShard + 1]int
	for sub := range s.subs {
		subs[sub.kind]++
	}
	multi := -1
	if s.queues() {
		multi = s.tx.len() - 1 - s.tx.notQueued
	}
	cmd := "NULL"
	if s.last != nil && s.last != s.w.cmds.unknown {
		cmd = strings.ToLower(s.last.name)
	}
	redir := int64(-1)
	if on, id := s.tracking(); on {
		redir = id
	}
	now := s.w.loopNow()
	var b strings.Builder
	fmt.Fprintf(&b, "id=%d addr=%s laddr=%s fd=0 name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=%d multi=%d",
		s.id, s.conn.RemoteAddr(), s.conn.LocalAddr(), s.name, (now-s.born)/time.Second, max(0, now-s.seen)/time.Second, s.flags(),
		s.who.db, subs[subChannel], subs[subPattern], subs[subShard], multi)
	fmt.Fprintf(&b, " qbuf=%d qbuf-free=%d argv-mem=0 multi-mem=%d rbs=0 rbp=0 obl=0 oll=0 omem=%d tot-mem=%d events=r cmd=%s user=%s redir=%d resp=%d",
		atHand+len(s.in), cap(s.in)-len(s.in), len(s.tx.log), s.pending(), cap(s.in)+cap(s.out)+cap(s.tx.log),
		cmd, userName(s.who.user), redir, s.who.proto)
	if s.libName != "" || s.libVer != "" {
		fmt.Fprintf(&b, " lib-name=%s lib-ver=%s", s.libName, s.libVer)
	}
	b.WriteByte('\n')
	return b.String()
}

// queues reports whether what the client sends is queued by MULTI.
func (s *session) queues() bool { return s.tx.active && !s.tx.void }

// flags are the client's, as one letter each. Of a key that it watches only Redis knows
// that it has changed.
func (s *session) flags() string {
	tracks, _ := s.tracking()
	var f []byte
	for _, x := range []struct {
		on   bool
		flag byte
	}{
		{s.monitors(), 'O'},
		{s.subscribed(), 'P'},
		{s.queues(), 'x'},
		{s.blocking && s.blocked(), 'b'},
		{tracks, 't'},
		{tracks && s.broken, 'R'},
		{tracks && s.broadcasts(), 'B'},
		{s.watchLost, 'd'},
		{s.conn.RemoteAddr() == "unix", 'U'},
		{s.turnedOn("CLIENT|NO-EVICT"), 'e'},
		{s.turnedOn("CLIENT|NO-TOUCH"), 'T'},
	} {
		if x.on {
			f = append(f, x.flag)
		}
	}
	return cmp.Or(string(f), "N")
}

// turnedOn reports whether the last of such commands, which turn something on or off, was ON.
func (s *session) turnedOn(name string) bool {
	for _, f := range slices.Backward(s.setup) {
		if s.w.cmds.find(f).name == name {
			args := resp.Args(nil, f)
			return len(args) > 2 && equalFold(string(args[2]), "on")
		}
	}
	return false
}

// clientKill is CLIENT KILL addr:port, or CLIENT KILL with filters.
func (s *session) clientKill(frame []byte) bool {
	args := resp.Args(nil, frame)
	if len(args) == 3 {
		addr := string(args[2])
		return s.kill(frame, resp.AppendCommand(nil, "CLIENT", "KILL", "0.0.0.0:0"),
			func(o *session) bool { return o.conn.RemoteAddr() == addr }, func(n int) {
				if n == 0 {
					s.replyError("ERR No such client")
				} else {
					s.reply([]byte("+OK\r\n"))
				}
			})
	}
	want, probe, skipMe := killFilter(args)
	if want == nil {
		return s.ask(frame, probe, func() { s.replyError("ERR syntax error") })
	}
	return s.kill(frame, probe, func(o *session) bool { return want(o) && (o != s || !skipMe) },
		func(n int) { s.reply(resp.AppendInt(nil, int64(n))) })
}

// killFilter reads the filters of CLIENT KILL; want is nil if there are none, or the last
// is incomplete. probe has them too, but matches nobody: Redis judges it. Of a filter that
// is there twice Redis obeys the last. Valkey takes several ids behind ID.
func killFilter(args [][]byte) (want func(*session) bool, probe []byte, skipMe bool) {
	skipMe = true
	tests := make(map[string]func(*session) bool)
	words := slices.Clone(args)
	hasID := false
	if len(args) == 2 {
		return nil, resp.AppendCommand(nil, words...), false
	}
	for i := 2; i < len(args); {
		filter, _, _ := strings.Cut(strings.ToLower(string(args[i])), "\x00") // as equalFold has it
		i++
		if i == len(args) {
			return nil, resp.AppendCommand(nil, words...), false // Redis refuses all of it
		}
		v := string(args[i])
		first := i
		for i++; i < len(args) && isInteger(args[i]); i++ { // a filter is no number
		}
		switch filter {
		case "id":
			ids := make(map[int64]bool)
			for j := first; j < i; j++ {
				if n, ok := resp.ParseInt(args[j]); ok && n > 0 {
					ids[n] = true
					words[j], hasID = []byte(noClient), true
				}
			}
			tests[filter] = func(o *session) bool { return ids[o.id] }
		case "type":
			tests[filter] = func(o *session) bool { return o.kind() == strings.ToLower(v) }
		case "user":
			tests[filter] = func(o *session) bool { return userName(o.who.user) == v }
		case "addr":
			tests[filter] = func(o *session) bool { return o.conn.RemoteAddr() == v }
		case "laddr":
			tests[filter] = func(o *session) bool { return o.conn.LocalAddr() == v }
		case "skipme":
			skipMe = !equalFold(v, "no")
		case "maxage":
			n, _ := resp.ParseInt(v)
			tests[filter] = func(o *session) bool { return int64((o.w.loopNow()-o.born)/time.Second) >= n }
		default: // Redis has said that it knows it: it may mean less than it seems
			tests[filter] = func(*session) bool { return false }
		}
	}
	if !hasID {
		words = append(words, []byte("ID"), []byte(noClient))
	}
	return func(o *session) bool {
		for _, t := range tests {
			if !t(o) {
				return false
			}
		}
		return true
	}, resp.AppendCommand(nil, words...), skipMe
}

func isInteger(b []byte) bool {
	_, ok := resp.ParseInt(b)
	return ok
}

// kill ends the clients that want picks. The one that asks gets its answer first.
func (s *session) kill(frame, probe []byte, want func(*session) bool, answer func(n int)) bool {
	id := s.id
	return s.askAll(frame, probe, func(w *worker, done func(found)) {
		var f found
		for _, o := range w.sessions {
			if o.closing || o.closed || !want(o) {
				continue
			}
			f.n++
			if o.id == id {
				f.self = true
				continue
			}
			o.abort()
		}
		done(f)
	}, func(f found) {
		answer(f.n)
		if f.self {
			s.end()
		}
	})
}

// clientUnblock is CLIENT UNBLOCK id [TIMEOUT|ERROR]: the connection on which that
// client blocks is unblocked.
func (s *session) clientUnblock(frame []byte) bool {
	args := resp.Args(nil, frame)
	if len(args) < 3 {
		return s.wrongArgs("client|unblock")
	}
	id, ok := resp.ParseInt(args[2])
	probe := slices.Clone(args)
	if ok {
		probe[2] = []byte(noClient)
	}
	reason := "TIMEOUT"
	if len(args) > 3 && equalFold(string(args[3]), "error") {
		reason = "ERROR"
	}
	return s.askAll(frame, resp.AppendCommand(nil, probe...), func(w *worker, done func(found)) {
		for _, o := range w.sessions {
			if o.id != id || !o.blocking || o.own == nil || o.own.info.id == 0 {
				continue
			}
			p := w.pipes[o.who]
			if p == nil || p.state != pipeReady || !w.serving {
				continue
			}
			o.own.aimed = true
			p.sendInternal(resp.AppendCommand(nil, "CLIENT", "UNBLOCK", strconv.FormatInt(o.own.info.id, 10), reason), func(reply []byte) {
				done(found{reply: bytes.Clone(reply)})
			})
			return
		}
		done(found{})
	}, func(f found) {
		if f.reply == nil {
			f.reply = []byte(":0\r\n")
		}
		s.reply(f.reply)
	})
}
