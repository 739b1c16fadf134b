package proxy

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slowRig is a rig on which a command is slow from a millisecond on.
func slowRig(t *testing.T) *rig {
	t.Helper()
	r := serving(t)
	r.w.slowAt = slowMicros(time.Millisecond)
	return r
}

// slow returns the slow commands that were told, as they are logged.
func (r *rig) slow() []string {
	var lines []string
	for len(r.w.slow) > 0 {
		var b bytes.Buffer
		c := <-r.w.slow
		c.log(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})))
		lines = append(lines, strings.TrimSpace(b.String()))
	}
	return lines
}

func (r *rig) wantSlow(want ...string) {
	r.t.Helper()
	got := r.slow()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		r.t.Errorf("slow commands:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSlowCommands(t *testing.T) {
	const who = ` client=client client_id=1 user=default db=0`
	t.Run("slow by the master", func(t *testing.T) {
		r := slowRig(t)
		c := r.client()
		b := warm(r, c)
		c.send("GET fast")
		b.reply("$-1\r\n")
		c.send("SET secret-key secret-value")
		r.advance(time.Millisecond)
		b.reply("-OOM full\r\n")
		r.wantSlow(`level=WARN msg="slow command" command=SET duration=1ms arguments=2 bytes=49 addr=a:6379 failed=true` + who)
	})
	t.Run("held", func(t *testing.T) {
		r := slowRig(t)
		c := r.client()
		warm(r, c)
		r.hold()
		c.send("GET a")
		r.advance(2 * time.Second)
		r.serve(nodeB, 2)
		b := r.backend()
		r.advance(5 * time.Millisecond)
		b.reply("$-1\r\n")
		r.wantSlow(`level=WARN msg="slow command" command=GET duration=2.005s held_for=2s arguments=1 bytes=20 addr=b:6379 failed=false` + who)
	})
	t.Run("held in vain", func(t *testing.T) {
		r := slowRig(t)
		c := r.client()
		warm(r, c)
		r.hold()
		c.send("GET a")
		r.advance(7 * time.Second)
		r.wantSlow(`level=WARN msg="slow command" command=GET duration=6s held_for=6s arguments=1 bytes=20 failed=true` + who)
	})
	t.Run("meant to wait", func(t *testing.T) {
		for _, cmd := range []string{"BLPOP a 0", "XREAD BLOCK 0 STREAMS s $", "SUBSCRIBE a"} {
			r := slowRig(t)
			r.client().send(cmd)
			b := r.ownBackend()
			r.advance(time.Second)
			b.reply(map[string]string{"SUBSCRIBE a": "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"}[cmd] + "*-1\r\n")
			r.wantSlow()
		}
	})
	t.Run("off", func(t *testing.T) {
		r := serving(t)
		r.w.slowAt = slowMicros(0)
		c := r.client()
		b := warm(r, c)
		c.send("GET a")
		r.advance(time.Hour)
		b.reply("$-1\r\n")
		r.wantSlow()
	})
}

// Nothing that a client sends beside the name of a known command gets into the log, nor
// the length of what may be a password.
func TestSlowCommandsAreRedacted(t *testing.T) {
	r := slowRig(t)
	c := r.client()
	warm(r, c)
	for _, cmd := range []string{
		"AUTH hunter2", "AUTH user hunter2", "HELLO 3 AUTH user hunter2", "SET hunter2 hunter2", "EVAL hunter2 0 hunter2",
		"ACL SETUSER hunter2 >hunter2", "CONFIG SET requirepass hunter2", "CLIENT SETNAME hunter2", "hunter2 hunter2", "ACL hunter2",
		"MIGRATE h 1 k 0 1 AUTH hunter2",
	} {
		c.send(cmd)
		r.advance(2 * time.Millisecond)
		for len(r.dials) > 0 {
			r.backend()
		}
		for _, w := range r.wires {
			if w != c.wire && !w.closed {
				w.peer("-ERR hunter2\r\n")
			}
		}
		r.advance(2 * time.Millisecond)
	}
	lines := r.slow()
	if len(lines) < 5 {
		t.Fatalf("only %q", lines)
	}
	for _, l := range lines {
		if strings.Contains(l, "hunter2") {
			t.Errorf("an argument is in the log: %s", l)
		}
		for _, name := range []string{"AUTH", "HELLO", `"ACL SETUSER"`, `"CONFIG SET"`, "MIGRATE", `"CLIENT SETNAME"`} {
			if strings.Contains(l, "command="+name+" ") && strings.Contains(l, " bytes=") {
				t.Errorf("a length is in the log: %s", l)
			}
		}
	}
}

// A loop never waits for the log.
func TestSlowCommandsThatTheLogHasNoRoomFor(t *testing.T) {
	r := slowRig(t)
	c := r.client()
	b := warm(r, c)
	for range slowRoom + 3 {
		c.send("GET a")
		r.advance(time.Millisecond)
		b.reply("$-1\r\n")
	}
	if len(r.w.slow) != slowRoom || r.w.stats.slowDropped != 3 {
		t.Errorf("%d wait and %d are dropped; want %d and 3", len(r.w.slow), r.w.stats.slowDropped, slowRoom)
	}
}

func TestSlowLogIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b syncBuffer
		l := slowLog{log: slog.New(slog.NewTextHandler(&b, nil)), ch: make(chan slowCommand, slowRoom)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { l.run(ctx); close(done) }()
		burst := func(n int) {
			for range n {
				l.ch <- slowCommand{command: "GET"}
			}
			synctest.Wait()
		}
		lines := func() int { return strings.Count(b.String(), `msg="slow command"`) }
		burst(25)
		if lines() != slowLines || l.logged.Load() != slowLines || l.unlogged.Load() != 15 {
			t.Errorf("%d lines, %d counted as logged, %d as not; want 10, 10, 15", lines(), l.logged.Load(), l.unlogged.Load())
		}
		time.Sleep(slowEvery)
		synctest.Wait()
		if !strings.Contains(b.String(), "unlogged=15") {
			t.Errorf("nobody is told of the others:\n%s", b.String())
		}
		burst(1)
		if lines() != slowLines+1 {
			t.Error("the next second's are not logged")
		}
		time.Sleep(2 * slowEvery)
		synctest.Wait()
		if n := strings.Count(b.String(), "unlogged="); n != 1 {
			t.Errorf("told %d times of others; want once", n)
		}
		cancel()
		<-done
	})
}
