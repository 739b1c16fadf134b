package proxy

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/redistest"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// described writes COMMAND's entry for one command.
func described(b []byte, name, flags string, firstKey int, subs ...string) []byte {
	b = resp.AppendArray(b, 10)
	b = resp.AppendBulk(b, name)
	b = resp.AppendInt(b, -1)
	b = resp.AppendArray(b, len(strings.Fields(flags)))
	for f := range strings.FieldsSeq(flags) {
		b = resp.AppendSimple(b, f)
	}
	b = resp.AppendInt(b, int64(firstKey))
	b = resp.AppendInt(b, int64(firstKey))
	b = resp.AppendInt(b, 1)
	for range 3 {
		b = resp.AppendArray(b, 0)
	}
	b = resp.AppendArray(b, len(subs))
	for _, s := range subs {
		sub, f, _ := strings.Cut(s, " ")
		b = described(b, name+"|"+sub, f, 2)
	}
	return b
}

// tableOf reads a COMMAND reply of these entries and those that no master lacks.
func tableOf(tb testing.TB, entries ...[]byte) *learnt {
	tb.Helper()
	for _, n := range []string{"hscan", "sscan", "zscan"} {
		entries = append(entries, described(nil, n, "readonly", 1))
	}
	entries = append(entries, described(nil, "migrate", "write movablekeys", 3))
	b := resp.AppendArray(nil, len(entries))
	for _, e := range entries {
		b = append(b, e...)
	}
	v, _, err := resp.Decode(b)
	if err != nil {
		tb.Fatal(err)
	}
	return learn(v, newCommands(nil))
}

func TestWhatFlagsProve(t *testing.T) {
	for flags, tt := range map[string]struct {
		key    int
		class  class
		resend resend
	}{
		"readonly fast":               {1, classShared, resendRead},
		"readonly module":             {1, classShared, resendLeast},
		"write denyoom module":        {1, classShared, resendLeast},
		"write denyoom":               {1, classShared, resendLeast},
		"readonly movablekeys":        {0, classShared, resendRead},
		"readonly write":              {1, classShared, resendLeast},
		"readonly":                    {0, classSticky, resendLeast},
		"readonly module ":            {0, classSticky, resendLeast},
		"fast module":                 {1, classSticky, resendLeast},
		"":                            {1, classSticky, resendLeast},
		"write blocking module":       {1, classSticky, resendLeast},
		"write noscript":              {1, classSticky, resendLeast},
		"readonly pubsub":             {1, classSticky, resendLeast},
		"readonly admin":              {1, classSticky, resendLeast},
		"readonly no_auth":            {1, classSticky, resendLeast},
		"readonly skip_monitor":       {1, classSticky, resendLeast},
		"readonly may_replicate":      {1, classSticky, resendLeast},
		"readonly not_invented_yet":   {1, classSticky, resendLeast},
		"noscript loading stale fast": {0, classSticky, resendLeast},
	} {
		l := tableOf(t, described(nil, "new.cmd", flags, tt.key))
		cmd := l.find([]byte(frames("New.Cmd a b")))
		if cmd == nil || cmd.class != tt.class || cmd.resend != tt.resend || !cmd.wide || cmd.again != nil || cmd.read != nil {
			t.Errorf("flags %q, first key %d: %+v; want class %d, resend %d", flags, tt.key, cmd, tt.class, tt.resend)
		}
	}
}

func TestLearntSubcommands(t *testing.T) {
	l := tableOf(t, described(nil, "box", "", 0, "get readonly", "opt admin"), described(nil, "xinfo", "", 0, "new readonly", "stream write"))
	for _, tt := range []struct {
		frame string
		want  class
	}{
		{"BOX GET a", classShared}, {"box opt", classSticky}, {"XINFO NEW a", classShared},
	} {
		if cmd := l.find([]byte(frames(tt.frame))); cmd == nil || cmd.class != tt.want {
			t.Errorf("%s: %+v; want class %d", tt.frame, cmd, tt.want)
		}
	}
	for _, frame := range []string{"BOX", "BOX NOSUCH", "XINFO", "XINFO STREAM a", "NOSUCH", "BOX " + strings.Repeat("x", 200), strings.Repeat("x", 200)} {
		if cmd := l.find([]byte(frames(frame))); cmd != nil {
			t.Errorf("%.20s: %+v; want nothing", frame, cmd)
		}
	}
}

// A command of Redis' own under another name could be one that needs care; a module's
// has no other name.
func TestNothingOfRedisIsLearntWhereItRenames(t *testing.T) {
	b := resp.AppendArray(nil, 3)
	b = described(b, "hscan", "readonly", 1)
	b = described(b, "secret", "readonly", 1)
	b = described(b, "m.get", "readonly module", 1)
	v, _, err := resp.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	l := learn(v, newCommands(nil))
	if c := l.find([]byte(frames("SECRET a"))); c == nil || c.class != classSticky {
		t.Errorf("%+v; want it to pin", c)
	}
	if c := l.find([]byte(frames("M.GET a"))); c == nil || c.class != classShared {
		t.Errorf("%+v; want it shared", c)
	}
}

func TestDeniedStaysDenied(t *testing.T) {
	b := resp.AppendArray(nil, 1)
	v, _, err := resp.Decode(described(b, "m.get", "readonly module", 1))
	if err != nil {
		t.Fatal(err)
	}
	if l := learn(v, newCommands([]string{"m.get"})); len(l.all) != 0 {
		t.Errorf("learnt %v; want nothing", l.all)
	}
}

// taught gives a rig's worker the table of the master that it serves.
func (r *rig) taught(l *learnt) {
	r.at++
	l.addr, l.epoch, l.asked = r.w.route.Master, r.w.route.Epoch, r.at
	r.w.setLearnt(l)
	r.turn()
}

func TestUnknownCommandPinsUntilTheMasterTells(t *testing.T) {
	r := serving(t)
	c, d := r.client(), r.client()
	b := warm(r, c)
	c.send("M.GET a")
	o := r.ownBackend()
	o.expect("M.GET a")
	o.reply("$1\r\n1\r\n")
	if len(r.wants) != 1 || r.wants[0].addr != nodeA || c.s.own == nil {
		t.Fatalf("wants %v, own pipe %v; want one request and a pipe", r.wants, c.s.own)
	}
	d.send("M.NOSUCH", "M.OTHER x")
	e := r.ownBackend()
	e.expect("M.NOSUCH")
	e.reply("-ERR unknown command\r\n")
	e.expect("M.OTHER x")
	e.reply("+OK\r\n")
	r.taught(tableOf(t, described(nil, "m.get", "readonly module", 1), described(nil, "m.other", "readonly blocking module", 1)))
	if c.s.own != nil || d.s.own == nil {
		t.Errorf("own pipes %v and %v; want none and one", c.s.own, d.s.own)
	}
	c.send("m.get a", "GET b")
	b.expect("m.get a", "GET b")
	if len(r.wants) != 1 {
		t.Errorf("it asked %d times; want once within a second", len(r.wants))
	}
}

func TestDoubtOfACallUnderWay(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	c.send("M.GET a")
	o := r.ownBackend()
	o.expect("M.GET a")
	r.taught(tableOf(t, described(nil, "m.get", "readonly module", 1)))
	o.reply("$1\r\n1\r\n")
	c.send("GET b")
	b.expect("GET b")
	if c.s.own != nil {
		t.Error("it keeps a connection of its own")
	}
}

func TestQueuedUnknownCommandPinsUntilTheMasterTells(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("MULTI", "M.GET a", "EXEC")
	b := r.backend()
	b.expect("MULTI", "M.GET a", "EXEC")
	b.reply("+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n")
	if c.s.own == nil {
		t.Fatal("it gave its connection back")
	}
	r.taught(tableOf(t, described(nil, "m.get", "readonly module", 1)))
	if c.s.own != nil {
		t.Error("it keeps a connection of its own")
	}
}

func TestWhatAMasterToldEndsWithIt(t *testing.T) {
	for name, end := range map[string]func(*rig, *backend){
		"another master": func(r *rig, _ *backend) { r.serve(nodeB, 2) },
		"a new epoch":    func(r *rig, _ *backend) { r.serve(nodeA, 2) },
		"its connection": func(_ *rig, b *backend) { b.wire.peerReset() },
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			c := r.client()
			b := warm(r, c)
			l := tableOf(t, described(nil, "m.get", "readonly module", 1))
			r.taught(l)
			c.send("M.GET a")
			b.expect("M.GET a")
			b.reply("$1\r\n1\r\n")
			r.advance(time.Second)
			end(r, b)
			r.w.setLearnt(l) // late, and of another run
			if r.w.learnt != nil || r.w.find([]byte(frames("M.GET a"))) != r.w.cmds.unknown {
				t.Error("it is still believed")
			}
			n := len(r.wants)
			c.send("M.GET a")
			if len(r.wants) != n+1 {
				t.Errorf("it asked %d times; want once", len(r.wants)-n)
			}
		})
	}
}

// Commands of modules are never sent again as reads: they may take what they return.
func TestLearntCommandIsNotRepeated(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	r.taught(tableOf(t, described(nil, "m.get", "readonly module", 1), described(nil, "newget", "readonly fast", 1)))
	c.send("M.GET a", "NEWGET a")
	b.expect("M.GET a", "NEWGET a")
	b.wire.peerReset()
	c.expectError("UNCERTAIN", "M.GET")
}

// A module may block without saying so. The connection on which others wait for it is
// given up, and it gets one of its own from then on.
func TestLearntCommandThatBlocksIsNotSharedAgain(t *testing.T) {
	r := serving(t)
	c := r.client()
	b := warm(r, c)
	r.taught(tableOf(t, described(nil, "m.pop", "write module", 1)))
	c.send("M.POP a")
	b.expect("M.POP a")
	for range 2 * staleLooks {
		if len(r.dials) == 0 {
			r.advance(watchEvery)
		}
	}
	trial := r.accept()
	trial.expect("HELLO 2")
	trial.reply(helloMaster)
	trial.passes("PFCOUNT")
	c.expectError("UNCERTAIN", "M.POP")
	r.taught(tableOf(t, described(nil, "m.pop", "write module", 1)))
	c.send("M.POP a")
	if c.s.own == nil {
		t.Error("it is shared again")
	}
}

func TestOldTableIsReadAnew(t *testing.T) {
	r := serving(t)
	c := r.client()
	warm(r, c)
	r.taught(tableOf(t, described(nil, "m.get", "readonly module", 1)))
	c.send("M.GET a")
	if len(r.wants) != 0 {
		t.Fatal("it asked for what it knows")
	}
	r.advance(learntMax + time.Second)
	r.w.second = r.at
	c.send("M.GET a")
	if len(r.wants) != 1 {
		t.Errorf("it asked %d times; want once", len(r.wants))
	}
}

func moduleOf(tb testing.TB, source string) string {
	tb.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		tb.Skip("no C compiler")
	}
	so := filepath.Join(tb.TempDir(), "module.so")
	if out, err := exec.CommandContext(tb.Context(), cc, "-shared", "-fPIC", "-O1", "-o", so, source).CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	return so
}

// connectionOf sends a command of the test's module and returns the id of the
// connection that it came on.
func connectionOf(c *raw, words ...string) string {
	c.tb.Helper()
	c.send(string(resp.AppendCommand(nil, words...)))
	got := c.line()
	if !strings.HasPrefix(got, ":") {
		c.tb.Fatalf("%v: %q; want the id of a connection", words, got)
	}
	return got
}

func TestLearnsModuleCommands(t *testing.T) {
	module := moduleOf(t, "testdata/module.c")
	for name, tt := range map[string]struct{ password, rights string }{
		"open":                   {},
		"with a login":           {password: "secret"},
		"user who may":           {rights: "+command"},
		"user who may not learn": {rights: "-command"},
	} {
		t.Run(name, func(t *testing.T) {
			node := redistest.Single(t, redistest.Options{Password: tt.password, RedisConfig: []string{"loadmodule " + module}})
			if tt.rights != "" {
				if _, err := node.Do(t.Context(), "ACL", "SETUSER", "sidecar", "on", ">pw", "~*", "+@all", tt.rights); err != nil {
					t.Fatal(err)
				}
			}
			r := startServer(t, node, func(o *Options) {
				o.Loops, o.Auth, o.Password = 1, AuthNone, tt.password
				if tt.rights != "" {
					o.Username, o.Password = "sidecar", "pw"
				}
			})
			c, d := r.raw(), r.raw()
			learns := tt.rights != "-command"
			eventually(t, "learnt or refused", func() (bool, string) {
				one, two := connectionOf(c, "t.write", "k"), connectionOf(d, "T.READ", "k")
				if !learns {
					return one != two && r.server.learner.refused.Load(), one + " and " + two
				}
				return one == two, one + " and " + two
			})
			if !learns {
				return
			}
			for _, words := range [][]string{{"T.BOX", "get", "k"}, {"t.write", "k"}} {
				if one, two := connectionOf(c, words...), connectionOf(d, words...); one != two {
					t.Errorf("%v travels on %s and %s; want one connection", words, one, two)
				}
			}
			shared := connectionOf(c, "T.READ", "k")
			for _, words := range [][]string{{"T.KEYLESS"}, {"T.NOSCRIPT", "k"}, {"T.LOGIN"}, {"T.BOX", "ADMIN"}} {
				e := r.raw()
				if got := connectionOf(e, words...); got == shared {
					t.Errorf("%v travels on the shared connection", words)
				}
				if one, two := connectionOf(e, words...), connectionOf(e, "T.READ", "k"); one != two {
					t.Errorf("%v pins nothing: %s, then %s", words, one, two)
				}
			}
		})
	}
}

// The next master may not have the module, and the one after it again.
func TestLearnsAnewFromEachMaster(t *testing.T) {
	module := moduleOf(t, "testdata/module.c")
	with := redistest.Single(t, redistest.Options{RedisConfig: []string{"loadmodule " + module}})
	without := redistest.Single(t, redistest.Options{})
	r := startServer(t, with, func(o *Options) { o.Loops = 1 })
	c, d := r.raw(), r.raw()
	both := func() {
		t.Helper()
		eventually(t, "shared", func() (bool, string) {
			one, two := connectionOf(c, "T.READ", "k"), connectionOf(d, "T.READ", "k")
			return one == two, one + " and " + two
		})
	}
	both()
	r.setRoute(topology.Route{State: topology.Serving, Master: without.Addr(), Epoch: 2})
	eventually(t, "refused", func() (bool, string) {
		c.send("T.READ k\r\n")
		got := c.line()
		return strings.HasPrefix(got, "-ERR unknown command"), got
	})
	r.setRoute(topology.Route{State: topology.Serving, Master: with.Addr(), Epoch: 3})
	eventually(t, "back", func() (bool, string) {
		c.send("T.READ k\r\n")
		got := c.line()
		return got[0] == ':', got
	})
	both()
	if err := with.Kill(); err != nil { // and the same one, started anew
		t.Fatal(err)
	}
	if err := with.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "back", func() (bool, string) {
		c.send("T.READ k\r\n")
		got := c.line()
		return got[0] == ':', got
	})
	both()
}

// What rename-command gives another name is listed under its first name, so that the
// new one stays unknown: a renamed MULTI must not be shared.
func TestRenamedCommandsStayUnknown(t *testing.T) {
	node := redistest.Single(t, redistest.Options{RedisConfig: []string{"rename-command MULTI BEGIN", "rename-command GET FETCH", "rename-command HSCAN WALK"}})
	r := startServer(t, node, func(o *Options) { o.Loops = 1 })
	c, d := r.raw(), r.raw()
	c.send("BEGIN\r\n")
	c.expect("+OK\r\n")
	eventually(t, "learnt", func() (bool, string) {
		l := make(chan *learnt, 1)
		if err := r.server.loops[0].Post(func() { l <- r.server.workers[0].learnt }); err != nil {
			t.Fatal(err)
		}
		return <-l != nil, "nothing"
	})
	c.send("SET a 1\r\nFETCH a\r\n")
	c.expect("+QUEUED\r\n+QUEUED\r\n")
	d.send("FETCH a\r\nGET a\r\n")
	d.expect("$-1\r\n")
	if got := d.line(); !strings.HasPrefix(got, "-ERR unknown command") {
		t.Errorf("GET answers %q", got)
	}
	c.send("EXEC\r\n")
	c.expect("*2\r\n+OK\r\n$1\r\n1\r\n")
}
