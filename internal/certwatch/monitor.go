package certwatch

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
)

const (
	// maxSourcesKnown bounds the places watched. One more is not: that is counted and
	// logged once.
	maxSourcesKnown = 512
	// maxAuthorities bounds the certificates watched of one file of authorities.
	maxAuthorities = 256
	// maxTold bounds the cooldowns remembered. When it is full nothing more is told until
	// one ends: rather too few events than a flood.
	maxTold = 4096

	lookEvery = time.Minute // at files and dates
	lookGap   = time.Second // between two looks at least, however many handshakes there are
	// goneAfter is how long a node that nobody lists is still watched.
	goneAfter = 10 * time.Minute
)

// Options are what a Monitor works with. Tell is required.
type Options struct {
	Settings Settings
	// Tell publishes an event of a master; "" is several. It must return at once.
	Tell func(master string, b events.Body)
	Log  *slog.Logger // nil discards
}

// Monitor watches certificates. Make it with New; its methods are safe for concurrent use.
type Monitor struct {
	// Fixed at construction.
	tell func(string, events.Body)
	log  *slog.Logger
	wake chan struct{} // something was noted; holds one

	// Owned by Run.
	book book

	mu      sync.Mutex // guards the fields below; nothing blocks or hashes under it
	set     Settings
	sources map[key]*source
	refused uint64 // sources that had no room
}

// New returns a Monitor that looks at nothing before Run.
func New(o Options) *Monitor {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Monitor{
		tell: o.Tell, log: o.Log, set: o.Settings, wake: make(chan struct{}, 1), book: newBook(),
		sources: make(map[key]*source),
	}
}

// Set changes when certificates are told of.
func (m *Monitor) Set(s Settings) {
	m.mu.Lock()
	m.set = s
	m.mu.Unlock()
	m.look()
}

// look has the batch run soon.
func (m *Monitor) look() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// File watches what a file in force holds. pull returns it, and whether the file itself is
// good now; it must be cheap, and return the same slice until something changed.
func (m *Monitor) File(master string, r Role, path string, pull func() (list []*x509.Certificate, ok bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.source(key{master, r, path}); s != nil {
		s.pull = pull
	}
}

// source returns the source of that key, or nil if there is no room for it.
func (m *Monitor) source(k key) *source {
	if s := m.sources[k]; s != nil {
		return s
	}
	if len(m.sources) >= maxSourcesKnown {
		m.refused++
		if m.refused == 1 {
			m.log.Warn("too many certificates to watch them all", "watched", maxSourcesKnown, "not_watched", k.name)
		}
		return nil
	}
	k.name = strings.Clone(k.name)
	s := &source{key: k}
	m.sources[k] = s
	return s
}

// Peers notes the certificates that the nodes of one master show.
type Peers struct {
	m      *Monitor
	master string
	role   Role

	mu     sync.Mutex // guards listed
	listed []string   // the last Keep
}

// Peers returns what notes handshakes with nodes in that role.
func (m *Monitor) Peers(master string, r Role) *Peers { return &Peers{m: m, master: master, role: r} }

// Shook notes a handshake. It keeps what crypto/tls has parsed and does nothing else.
func (p *Peers) Shook(addr string, cs tls.ConnectionState) {
	chains := cs.VerifiedChains
	if len(chains) == 0 { // nobody looks at it, but it ends all the same
		chains = [][]*x509.Certificate{cs.PeerCertificates}
	}
	p.note(addr, chains, true)
}

// Failed notes a handshake that failed. Of a certificate that has ended the error holds
// the chain, so that one is known that was never good.
func (p *Peers) Failed(addr string, err error) {
	var chains [][]*x509.Certificate
	bad, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if invalid, is := errors.AsType[x509.CertificateInvalidError](err); ok && is && invalid.Reason == x509.Expired {
		chains = [][]*x509.Certificate{bad.UnverifiedCertificates}
	}
	p.note(addr, chains, false)
}

// note takes the outcome of one handshake; no chains leave those that are known.
func (p *Peers) note(addr string, chains [][]*x509.Certificate, ok bool) {
	m := p.m
	m.mu.Lock()
	s := m.source(key{p.master, p.role, addr})
	if s == nil {
		m.mu.Unlock()
		return
	}
	fresh := len(s.chains) == 0 || s.ok != ok || len(chains) > 0 && !sameLeaf(s.chains[0], chains[0])
	if len(chains) > 0 {
		s.chains = chains
	}
	s.ok, s.seen = ok, time.Now()
	m.mu.Unlock()
	if fresh {
		m.look()
	}
}

func sameLeaf(a, b []*x509.Certificate) bool {
	return len(a) > 0 && len(b) > 0 && (a[0] == b[0] || bytes.Equal(a[0].Raw, b[0].Raw))
}

// Keep says which nodes there are. Others are watched for ten minutes more. It may be
// called often: a list that is as before costs nothing.
func (p *Peers) Keep(addrs []string) {
	p.mu.Lock()
	same := slices.Equal(addrs, p.listed)
	p.listed = addrs
	p.mu.Unlock()
	if same {
		return
	}
	now := time.Now()
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	for k, s := range p.m.sources {
		switch {
		case k.master != p.master || k.role != p.role:
		case slices.Contains(addrs, k.name):
			s.absent = time.Time{}
		case s.absent.IsZero():
			s.absent = now
		}
	}
}

// Run looks at the certificates until ctx is done. It starts nothing else.
func (m *Monitor) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	last := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
			if early := lookGap - time.Since(last); early > 0 {
				timer.Reset(early)
				continue
			}
		case <-timer.C:
		}
		last = time.Now()
		m.batch(last)
		timer.Reset(lookEvery)
	}
}

// batch looks at everything once.
func (m *Monitor) batch(now time.Time) {
	now = now.Round(0) // certificates go by the wall clock
	m.mu.Lock()
	set := m.set
	all := make([]*source, 0, len(m.sources))
	for k, s := range m.sources {
		if !s.absent.IsZero() && now.Sub(s.absent) >= goneAfter && now.Sub(s.seen) >= goneAfter {
			delete(m.sources, k)
			continue
		}
		all = append(all, s)
	}
	m.mu.Unlock()

	// Only this goroutine changes judged and items, and a file's chains; under the lock,
	// for others read them.
	certs := make(map[mark]cert)
	for _, s := range all {
		var list []*x509.Certificate
		var good bool
		if s.pull != nil {
			list, good = s.pull()
		}
		m.mu.Lock()
		if s.pull != nil {
			s.chains, s.ok, s.seen = [][]*x509.Certificate{list}, good, now
		}
		next := source{key: s.key, chains: s.chains, judged: s.judged, items: s.items}
		m.mu.Unlock()
		next.judge() // hashes what is new
		m.mu.Lock()
		s.judged, s.items = next.judged, next.items
		m.mu.Unlock()
		for _, it := range next.items {
			k := mark{s.role, it.id}
			c := certs[k]
			c.item = it
			c.masters, c.sources = append(c.masters, s.master), append(c.sources, s.name)
			certs[k] = c
		}
	}
	for k, c := range certs {
		c.masters, c.sources = unique(c.masters), unique(c.sources)
		certs[k] = c
	}
	for _, t := range m.book.check(now, set, certs) {
		m.tell(t.master, t.body)
	}
}

func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// Status is one watched certificate, as /api/v1/certificates has it. Fields are added,
// never renamed.
type Status struct {
	Master   string     `json:"master_name"`
	Role     Role       `json:"cert_role"`
	Source   string     `json:"source"`    // an address, or a file's path
	Up       bool       `json:"up"`        // the last handshake went well, or the file is good
	SeenAt   *time.Time `json:"seen_at"`   // when that was; nil: not yet
	ID       string     `json:"cert_id"`   // of the certificate that ends first
	Name     string     `json:"cert_name"` //
	Leaf     string     `json:"leaf_name,omitempty"`
	NotAfter *time.Time `json:"expires_at"`     // nil: none was seen yet
	Days     int        `json:"days_remaining"` // begun ones included, as in events; of an expired one none, or less
	Soon     bool       `json:"expiring_soon"`  // within Settings.WarnBefore, and not yet
	Expired  bool       `json:"expired"`
}

// Status returns every source with the certificate of it that ends first, sorted.
func (m *Monitor) Status() []Status {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Status, 0, len(m.sources))
	for _, k := range slices.SortedFunc(maps.Keys(m.sources), key.compare) {
		s := m.sources[k]
		st := Status{Master: s.master, Role: s.role, Source: s.name, Up: s.ok}
		if !s.seen.IsZero() {
			at := s.seen.UTC().Truncate(time.Second) // never in the future
			st.SeenAt = &at
		}
		if until, ok := s.ends(); ok {
			i := slices.IndexFunc(s.items, func(it item) bool { return it.notAfter.Equal(until) })
			it := s.items[i]
			until = until.UTC()
			st.ID, st.Name, st.Leaf, st.NotAfter = it.id, it.name, it.leaf, &until
			left := until.Sub(now)
			st.Days, st.Expired = daysLeft(left), left <= 0
			st.Soon = !st.Expired && left <= m.set.WarnBefore
		}
		out = append(out, st)
	}
	return out
}

func (k key) compare(o key) int {
	return strings.Compare(k.master+"\x00"+string(k.role)+"\x00"+k.name, o.master+"\x00"+string(o.role)+"\x00"+o.name)
}
