package certwatch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
)

const days = 24 * time.Hour

// watch is a Monitor in a bubble, and what it told.
type watch struct {
	*Monitor

	t    *testing.T
	stop func()
	mu   sync.Mutex // guards told
	told []tell
}

func start(t *testing.T) *watch {
	t.Helper()
	w := &watch{t: t}
	w.Monitor = New(Options{
		Settings: Settings{WarnBefore: 30 * days, CheckEvery: time.Hour, EventEvery: days},
		Tell: func(master string, b events.Body) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, tell{master, b})
		},
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

// after lets time pass and returns what was told meanwhile.
func (w *watch) after(d time.Duration) []tell {
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	told := w.told
	w.told = nil
	return told
}

// silent lets time pass in which nothing is to be told.
func (w *watch) silent(d time.Duration) {
	w.t.Helper()
	if told := w.after(d); len(told) > 0 {
		w.t.Fatalf("told %+v; want nothing", told)
	}
}

// one lets time pass in which one thing is to be told.
func (w *watch) one(d time.Duration) tell {
	w.t.Helper()
	told := w.after(d)
	if len(told) != 1 {
		w.t.Fatalf("told %+v; want one event", told)
	}
	return told[0]
}

func parse(t *testing.T, pems ...[]byte) []*x509.Certificate {
	t.Helper()
	var list []*x509.Certificate
	for _, b := range pems {
		block, _ := pem.Decode(b)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	return list
}

// issue returns a chain of a leaf and its authority.
func issue(t *testing.T, name string, leaf, ca time.Duration) []*x509.Certificate {
	t.Helper()
	a := certtest.MustCAUntil(t, time.Now().Add(ca))
	return parse(t, a.MustIssue(t, certtest.Leaf{Name: name, NotAfter: time.Now().Add(leaf)}).Cert, a.PEM)
}

func verified(chains ...[]*x509.Certificate) tls.ConnectionState {
	return tls.ConnectionState{PeerCertificates: chains[0][:1], VerifiedChains: chains}
}

// A node's certificate, from ten days before its end to after it, over one connection.
func TestFromWarningToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		chain := issue(t, "redis-0", 10*days, 1000*days)
		end := chain[0].NotAfter
		w.Peers("orders", Upstream).Shook("n:6379", verified(chain))
		got := w.one(2 * time.Second)
		soon, ok := got.body.(events.CertificateExpiringSoon)
		if !ok || got.master != "orders" || soon.Days != 10 || soon.Name != "redis-0" || soon.Role != "upstream" ||
			len(soon.ID) != 64 || !soon.Expires.Equal(end) || soon.Leaf != "" || len(soon.Sources) != 1 || soon.Sources[0] != "n:6379" {
			t.Fatalf("told %+v", got)
		}
		w.silent(days - time.Minute)
		again := w.one(2 * time.Hour)                                                         // the cooldown is over
		if b := again.body.(events.CertificateExpiringSoon); b.Days != 9 || b.ID != soon.ID { //nolint:forcetypeassert // or it fails
			t.Errorf("told %+v", b)
		}
		if told := w.after(time.Until(end) - time.Second); len(told) < 7 || len(told) > 9 {
			t.Errorf("%d events in nine days; want one a day", len(told))
		}
		got = w.one(lookEvery + time.Second) // at its end, not an hour later
		if b, ok := got.body.(events.CertificateExpired); !ok || b.Days != 0 || b.ID != soon.ID {
			t.Errorf("told %+v", got)
		}
		want := `
# HELP sentinelproxy_certificate_expired 1 if the first certificate of the chain has ended.
# TYPE sentinelproxy_certificate_expired gauge
sentinelproxy_certificate_expired{cert_role="upstream",master_name="orders",source="n:6379"} 1
# HELP sentinelproxy_certificate_not_after_timestamp_seconds When the first certificate of the chain ends, since the epoch.
# TYPE sentinelproxy_certificate_not_after_timestamp_seconds gauge
sentinelproxy_certificate_not_after_timestamp_seconds{cert_role="upstream",master_name="orders",source="n:6379"} ` + fmt.Sprintf("%v", float64(end.Unix())) + `
# HELP sentinelproxy_certificate_probe_up 1 if the last TLS handshake with the node went well, or the files in use are those on the disk.
# TYPE sentinelproxy_certificate_probe_up gauge
sentinelproxy_certificate_probe_up{cert_role="upstream",master_name="orders",source="n:6379"} 1
`
		if err := testutil.CollectAndCompare(w.Collector(), strings.NewReader(want), "sentinelproxy_certificate_expired",
			"sentinelproxy_certificate_not_after_timestamp_seconds", "sentinelproxy_certificate_probe_up"); err != nil {
			t.Error(err)
		}
		w.silent(days - time.Hour)
		got = w.one(3 * time.Hour)
		if b := got.body.(events.CertificateExpired); b.Days != 1 { //nolint:forcetypeassert // or it fails
			t.Errorf("told %+v", b)
		}
	})
}

// One certificate in many places is one event; in two roles it is two.
func TestCooldownIsPerCertificateAndRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		chain := issue(t, "*.redis", 10*days, 1000*days)
		for _, master := range []string{"orders", "sessions"} {
			for i := range 3 {
				w.Peers(master, Upstream).Shook(fmt.Sprintf("%s-%d:1", master, i), verified(chain))
			}
		}
		got := w.one(2 * time.Second)
		if b := got.body.(events.CertificateExpiringSoon); got.master != "" || len(b.Sources) != 6 { //nolint:forcetypeassert // or it fails
			t.Errorf("told %+v", got)
		}
		w.Peers("orders", Sentinel).Shook("s:1", verified(chain))
		if got := w.one(2 * time.Second); got.master != "orders" {
			t.Errorf("told %+v", got)
		}
		// More connections, more handshakes: nothing new.
		for range 1000 {
			w.Peers("orders", Upstream).Shook("orders-0:1", verified(parse(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[0].Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[1].Raw}))))
		}
		w.silent(time.Hour)
	})
}

// A rotated certificate ends the matter; the next one has a matter of its own.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		p := w.Peers("orders", Upstream)
		p.Shook("n:1", verified(issue(t, "old", days, 1000*days)))
		w.one(2 * time.Second)
		p.Shook("n:1", verified(issue(t, "new", 90*days, 1000*days)))
		w.silent(59 * days)
		got := w.one(days + time.Hour)
		if b := got.body.(events.CertificateExpiringSoon); b.Name != "new" || b.Days != 30 { //nolint:forcetypeassert // or it fails
			t.Errorf("told %+v", got)
		}
	})
}

// Of a chain the certificate that ends first is told, of several chains the best one counts.
func TestWholeChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		ends := issue(t, "leaf", 100*days, 5*days)
		w.Peers("orders", Upstream).Shook("n:1", verified(ends))
		got := w.one(2 * time.Second)
		if b := got.body.(events.CertificateExpiringSoon); b.Name != "test authority" || b.Leaf != "leaf" || b.Days != 5 { //nolint:forcetypeassert // or it fails
			t.Errorf("told %+v", got)
		}
		other := certtest.MustCAUntil(t, time.Now().Add(500*days))
		cross := []*x509.Certificate{ends[0], parse(t, other.PEM)[0]}
		w.Peers("orders", Upstream).Shook("n:1", verified(ends, cross)) // another authority vouches, too
		w.silent(60 * days)

		// Without verification there is what the node sent.
		w.Peers("orders", Sentinel).Shook("s:1", tls.ConnectionState{PeerCertificates: issue(t, "unverified", days, days)})
		w.one(2 * time.Second)
	})
}

// Files: our own certificate, a bundle of authorities, and one that is broken.
func TestFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		var mu sync.Mutex
		chain, good := issue(t, "listener", 10*days, 1000*days), true
		w.File("orders", Server, "/tls.crt", func() ([]*x509.Certificate, bool) {
			mu.Lock()
			defer mu.Unlock()
			return chain, good
		})
		bundle := parse(t, certtest.MustCAUntil(t, time.Now().Add(-3*days)).PEM, certtest.MustCAUntil(t, time.Now().Add(20*days)).PEM, certtest.MustCAUntil(t, time.Now().Add(900*days)).PEM)
		w.File("orders", CA, "/ca.pem", func() ([]*x509.Certificate, bool) { return bundle, true })
		told := w.after(lookEvery + time.Second)
		var got []string
		for _, x := range told {
			switch b := x.body.(type) {
			case events.CertificateExpired:
				got = append(got, fmt.Sprintf("%s expired %d", b.Role, b.Days))
			case events.CertificateExpiringSoon:
				got = append(got, fmt.Sprintf("%s soon %d", b.Role, b.Days))
			}
		}
		slices.Sort(got) // a look may come between the two files
		if s := strings.Join(got, ", "); s != "ca expired 3, ca soon 20, server soon 10" {
			t.Errorf("told %s", s)
		}
		mu.Lock()
		good = false // the file on the disk was broken
		mu.Unlock()
		w.silent(lookEvery + time.Second)
		for _, s := range w.Status() {
			if s.Up != (s.Role == CA) || s.NotAfter == nil || s.Expired != (s.Role == CA) || s.Soon == s.Expired {
				t.Errorf("status %+v", s)
			}
		}
		mu.Lock()
		chain, good = issue(t, "renewed", 365*days, 1000*days), true
		mu.Unlock()
		for _, x := range w.after(20 * days) {
			if b, ok := x.body.(events.CertificateExpiringSoon); ok && b.Role == "server" {
				t.Errorf("told %+v of a renewed certificate", b)
			}
		}
	})
}

// Nodes come and go: those that are gone for long are forgotten, and one that comes back
// is not told of anew.
func TestNodesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		p := w.Peers("orders", Upstream)
		chain := issue(t, "n", 10*days, 1000*days)
		p.Shook("a:1", verified(chain))
		p.Shook("b:1", verified(issue(t, "b", 300*days, 1000*days)))
		w.one(2 * time.Second)
		p.Keep([]string{"b:1"})
		w.silent(goneAfter - time.Minute)
		if n := len(w.Status()); n != 2 {
			t.Errorf("%d watched; want both for ten minutes", n)
		}
		w.silent(2 * time.Minute)
		if s := w.Status(); len(s) != 1 || s[0].Source != "b:1" {
			t.Errorf("watched %+v; want b alone", s)
		}
		p.Shook("a:1", verified(chain))
		p.Keep([]string{"a:1", "b:1"})
		w.silent(time.Hour)
		if n := len(w.Status()); n != 2 {
			t.Errorf("%d watched", n)
		}
		w.one(days)
	})
}

// A certificate that had ended before it was first seen is known by the failure it caused.
func TestExpiredAtFirstSight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		p := w.Peers("orders", Upstream)
		chain := issue(t, "n", -2*days, 1000*days)
		p.Failed("a:1", &tls.CertificateVerificationError{UnverifiedCertificates: chain[:1], Err: x509.CertificateInvalidError{Cert: chain[0], Reason: x509.Expired}})
		got := w.one(2 * time.Second)
		if b, ok := got.body.(events.CertificateExpired); !ok || b.Days != 2 {
			t.Errorf("told %+v", got)
		}
		// Other failures say nothing of dates, and leave what is known.
		p.Failed("b:1", errors.New("refused"))
		p.Failed("c:1", &tls.CertificateVerificationError{UnverifiedCertificates: chain[:1], Err: x509.UnknownAuthorityError{Cert: chain[0]}})
		w.silent(lookEvery)
		for _, s := range w.Status() {
			if s.Up || (s.NotAfter != nil) != (s.Source == "a:1") {
				t.Errorf("status %+v", s)
			}
		}
		p.Shook("a:1", verified(issue(t, "n", 100*days, 1000*days)))
		w.silent(days)
		if s := w.Status()[0]; !s.Up || s.Expired {
			t.Errorf("status %+v", s)
		}
	})
}

// A change of the settings counts at once.
func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		w.Peers("orders", Upstream).Shook("a:1", verified(issue(t, "n", 50*days, 1000*days)))
		w.silent(3 * time.Hour)
		if s := w.Status()[0]; s.Soon {
			t.Errorf("status before: %+v", s)
		}
		w.Set(Settings{WarnBefore: 60 * days, CheckEvery: time.Hour, EventEvery: time.Hour})
		told, _ := w.one(30 * time.Minute).body.(events.CertificateExpiringSoon)
		if s := w.Status()[0]; !s.Soon || s.Expired || s.Days != told.Days {
			t.Errorf("status: %+v; told %+v", s, told)
		}
		if n := len(w.after(10 * time.Hour)); n < 9 || n > 11 {
			t.Errorf("%d events in ten hours with a cooldown of one", n)
		}
	})
}

// What is watched is bounded, and what is not is told.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		chain := issue(t, "n", 100*days, 1000*days)
		for i := range 2 * maxSourcesKnown {
			w.Peers("orders", Upstream).Shook(fmt.Sprintf("n:%d", i), verified(chain))
		}
		w.silent(time.Minute)
		if n := len(w.Status()); n != maxSourcesKnown {
			t.Errorf("%d watched; want %d", n, maxSourcesKnown)
		}
		want := `
# HELP sentinelproxy_certificates_not_watched_total Times that a certificate was not watched for want of room.
# TYPE sentinelproxy_certificates_not_watched_total counter
sentinelproxy_certificates_not_watched_total ` + fmt.Sprint(maxSourcesKnown) + "\n"
		if err := testutil.CollectAndCompare(w.Collector(), strings.NewReader(want), "sentinelproxy_certificates_not_watched_total"); err != nil {
			t.Error(err)
		}
	})
}

// A handshake with a node that is known costs a lookup and nothing that must be collected.
func TestNotingIsCheap(t *testing.T) {
	m := New(Options{})
	p := m.Peers("orders", Upstream)
	cs := verified(issue(t, "n", days, days))
	if n := testing.AllocsPerRun(100, func() { p.Shook("a:1", cs) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Times are told to the second, and none that is still to come.
func TestSeenIsNotInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(700 * time.Millisecond)
		m := New(Options{Tell: func(string, events.Body) {}})
		m.Peers("m", Upstream).Failed("a:1", io.EOF)
		if at := m.Status()[0].SeenAt; at == nil || at.After(time.Now()) {
			t.Errorf("seen at %v; it is %v", at, time.Now())
		}
	})
}
