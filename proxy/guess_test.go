package proxy

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

const wrongPass = "-WRONGPASS invalid username-password pair or user is disabled.\r\n"

func TestGuessers(t *testing.T) {
	g := newGuessers()
	bad, good := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	now := time.Hour
	for i := range loginBurst {
		if wait, ok := g.turn(bad, now); wait != 0 || !ok {
			t.Fatalf("after %d failures it waits for %v, %v", i, wait, ok)
		}
		g.failed(bad, now)
	}
	g.failed(bad, now)
	if wait, ok := g.turn(bad, now); wait != loginEvery || !ok {
		t.Errorf("past the burst it waits for %v, %v; want %v", wait, ok, loginEvery)
	}
	if wait, ok := g.turn(bad, now); wait != 2*loginEvery || !ok {
		t.Errorf("the next one waits for %v, %v; want its turn after the first", wait, ok)
	}
	if wait, ok := g.turn(good, now); wait != 0 || !ok {
		t.Errorf("another address waits for %v, %v", wait, ok)
	}
	for range 100_000 {
		g.failed(bad, now)
	}
	if _, ok := g.turn(bad, now); ok {
		t.Error("after a flood of failures it is not refused")
	}
	now += loginWait + 2*loginEvery + loginBurst*loginEvery
	if wait, ok := g.turn(bad, now); wait != 0 || !ok {
		t.Errorf("some seconds after a flood it waits for %v, %v", wait, ok)
	}
}

func TestGuessersAreBounded(t *testing.T) {
	g := newGuessers()
	now := time.Hour
	for i := range 3 * maxGuessers {
		g.failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
		if len(g.until) > maxGuessers {
			t.Fatalf("%d addresses are remembered; want at most %d", len(g.until), maxGuessers)
		}
	}
}

func TestGuesserIsAnAddress(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:4711":              "192.0.2.1",
		"[::ffff:192.0.2.1]:4711":     "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:4711": "2001:db8:1:2::",
		"[fe80::1%eth0]:4711":         "fe80::",
		"unix":                        "invalid IP",
		"":                            "invalid IP",
	} {
		if got := guesser(remote).String(); got != want {
			t.Errorf("%q is counted by %s; want %s", remote, got, want)
		}
	}
}

// fails has n logins of clients at remote fail, each with a password of its own.
func (r *rig) fails(remote string, n int) {
	r.t.Helper()
	for i := range n {
		c := r.client()
		c.wire.name = remote
		c.send("AUTH guess" + strconv.Itoa(i))
		r.accept().reply(wrongPass)
		c.expect(wrongPass)
		c.wire.peerReset()
	}
}

func TestFailedLoginsWaitTheirTurn(t *testing.T) {
	r := serving(t)
	good := r.client()
	good.wire.name = "192.0.2.1:1"
	good.send("AUTH right")
	b := r.backend()
	b.expect("AUTH right")
	b.reply("+OK\r\n")
	good.expect("+OK\r\n")
	r.fails("192.0.2.1:2", loginBurst+1)
	if got := r.w.stats.loginsFailed; got != loginBurst+1 {
		t.Errorf("%d failures are counted; want %d", got, loginBurst+1)
	}

	// The next guess waits, and whatever it sends behind it too. Nobody else does.
	c := r.client()
	c.wire.name = "192.0.2.1:3"
	c.send("AUTH guess", "PING")
	if len(r.dials) != 0 {
		t.Fatal("a guess beyond the burst went to Redis at once")
	}
	d := r.client()
	d.wire.name = "192.0.2.1:4"
	d.send("AUTH right") // in use already
	b.expect("AUTH right")
	b.reply("+OK\r\n")
	d.expect("+OK\r\n")
	e := r.client()
	e.wire.name = "192.0.2.9:5"
	e.send("AUTH other")
	eb := r.backend()
	eb.expect("AUTH other")
	eb.reply("+OK\r\n")
	e.expect("+OK\r\n")

	r.advance(2 * loginEvery)
	r.accept().reply(wrongPass)
	if got := string(c.wire.got); !strings.HasPrefix(got, wrongPass) {
		t.Errorf("once it had its turn it got %q", got)
	}
	if r.w.stats.loginsDelayed != 1 {
		t.Errorf("%d logins are counted as delayed; want 1", r.w.stats.loginsDelayed)
	}
}

func TestFloodOfFailedLoginsIsRefused(t *testing.T) {
	r := serving(t)
	for range 1000 {
		r.w.guessers.failed(netip.MustParseAddr("192.0.2.1"), r.at)
	}
	c := r.client()
	c.wire.name = "192.0.2.1:3"
	c.send("HELLO 3 AUTH default guess")
	if len(r.dials) != 0 {
		t.Error("it went to Redis")
	}
	c.expect("-" + errGuesses + "\r\n")
	if r.w.stats.loginsRefused != 1 || c.wire.closed {
		t.Errorf("%d refused, closed: %v; want 1 and a connection that stays", r.w.stats.loginsRefused, c.wire.closed)
	}
}

// Clients that leave while they wait leave nothing behind.
func TestDelayedLoginOfAClientThatLeft(t *testing.T) {
	r := serving(t)
	r.fails("192.0.2.1:2", loginBurst+1)
	c := r.client()
	c.wire.name = "192.0.2.1:3"
	c.send("AUTH guess")
	c.wire.peerReset()
	r.advance(loginWait)
	if len(r.dials) != 0 {
		t.Error("its login went to Redis all the same")
	}
}

func TestUsersPipesAreCapped(t *testing.T) {
	r := serving(t)
	r.w.opts.MaxUserPipes = 2
	login := func(user string) (*fakeClient, *backend) {
		c := r.client()
		c.send("AUTH " + user + " secret")
		b := r.backend()
		b.expect("AUTH " + user + " secret")
		b.reply("+OK\r\n")
		c.expect("+OK\r\n")
		return c, b
	}
	a, _ := login("a")
	_, bb := login("b")
	c := r.client()
	c.send("AUTH c secret")
	c.expect("-" + errManyUsers + "\r\n")
	if len(r.dials) != 0 || r.w.stats.usersRefused != 1 {
		t.Errorf("%d dials, %d refused; want none and 1", len(r.dials), r.w.stats.usersRefused)
	}
	a.wire.peerReset() // its connection is of no use now, and makes room
	c.send("AUTH c secret")
	cb := r.backend()
	cb.expect("AUTH c secret")
	cb.reply("+OK\r\n")
	c.expect("+OK\r\n")
	if bb.wire.closed || len(r.w.pipes) != 2 {
		t.Errorf("b's connection closed: %v; %d connections", bb.wire.closed, len(r.w.pipes))
	}
}

func TestUnusedUsersPipeIsClosed(t *testing.T) {
	r := serving(t)
	c := r.client()
	c.send("AUTH a secret")
	b := r.backend()
	b.expect("AUTH a secret")
	b.reply("+OK\r\n")
	c.wire.peerReset()
	r.advance(idlePipe + 2*sweepEvery)
	if !b.wire.closed {
		t.Error("nobody has used it for a minute and it is still there")
	}
}

func TestGuessIsLoggedWithoutSecrets(t *testing.T) {
	r := serving(t)
	var out strings.Builder
	r.w.log = slog.New(slog.NewTextHandler(&out, nil))
	for i := range 3 {
		c := r.client()
		c.send(fmt.Sprintf("AUTH user%d hunter%d", i, i))
		r.accept().reply(wrongPass)
		c.expect(wrongPass)
	}
	if n := strings.Count(out.String(), "redis refused a client's login"); n != 1 {
		t.Errorf("%d lines; want 1: %s", n, &out)
	}
	if strings.Contains(out.String(), "hunter") || strings.Contains(out.String(), "user0") {
		t.Errorf("the log holds what was sent: %s", &out)
	}
}

// A login that waits its turn goes on waiting where the client's own connection is lost
// meanwhile, and what is behind it does not overtake it.
func TestDelayedLoginWhoseConnectionIsLost(t *testing.T) {
	r := serving(t)
	for range loginBurst + 20 {
		r.w.guessers.failed(netip.MustParseAddr("192.0.2.1"), r.at)
	}
	c := r.client()
	c.wire.name = "192.0.2.1:3"
	c.send("WATCH k")
	b := r.ownBackend()
	b.expect("WATCH k")
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
	c.send("AUTH right", "GET a")
	b.wire.peerReset()
	for _, d := range r.dials {
		if d.p.id.pass != "" {
			t.Fatal("the login went to Redis before its turn")
		}
	}
	if c.s.wait != waitLogin {
		t.Fatalf("it waits for %v; want its turn", c.s.wait)
	}
	r.advance(loginWait)
	for len(r.dials) > 0 {
		b = r.backend()
	}
	c.expect("")
	b.expect("AUTH right")
	b.expectNothing()
	b.reply("+OK\r\n")
	c.expect("+OK\r\n")
}

// A password that was refused is not kept for longer than that is believed.
func TestRefusedLoginIsForgotten(t *testing.T) {
	r := serving(t)
	c := r.client()
	warm(r, c)
	c.send("AUTH " + strings.Repeat("x", 10_000))
	b := r.accept()
	b.expect("HELLO 2 AUTH default")
	b.reply(wrongPass)
	c.expect(wrongPass)
	r.advance(2 * sweepEvery)
	if n := len(r.w.refusals); n != 0 {
		t.Errorf("%d refusals are remembered", n)
	}
}
