package tlsconf

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// checkEvery is how often a Source looks at its files. It reads them: a mounted
// Secret changes by a link far above the file, which keeps its size.
const checkEvery = 5 * time.Second

// checkAgain is how soon it looks again at files that are no good: a certificate
// and its key are often written one after the other.
const checkAgain = time.Second

// Options are one leg's settings.
type Options struct {
	Master string // whose, for metrics and logs; "": of the process
	Leg    string // "clients", "redis", "sentinels" or "admin"
	Prefix string // of its settings' keys, such as "redis.tls", for advice

	Files Files

	MinVersion uint16
	Ciphers    []uint16 // of TLS 1.2; nil: Go's

	// As a client: whom a certificate must name, instead of the address that was
	// dialled, and whether to look at it at all.
	ServerName         string
	InsecureSkipVerify bool

	ClientAuth tls.ClientAuthType // as a server

	// Peers hears of handshakes with nodes; nil: nobody does.
	Peers Peers
	// Rejected is told when changed files are no good, once per fault. It must return at
	// once; nil: nobody is told.
	Rejected func(error)

	Log *slog.Logger
}

// Peers hears how handshakes with nodes go, in the goroutines that do them: it must return
// at once. It is safe for concurrent use.
type Peers interface {
	// Shook says that the node's certificate is good. The node may still refuse ours.
	Shook(addr string, cs tls.ConnectionState)
	// Failed says that a handshake, or the connection because of it, failed.
	Failed(addr string, err error)
}

// Source is one leg's current TLS configuration. It is safe for concurrent use.
type Source struct {
	opts    Options
	log     *slog.Logger
	read    func(string) ([]byte, error)
	current atomic.Pointer[generation]
	plain   plainPeers

	reloads, failures atomic.Uint64

	mu      sync.Mutex // guards the fields below, and makes reloads one at a time
	have    contents   // current's
	bad     contents   // were tried last and are no good
	badErr  string     // why; "" when the files are what have says
	badTold bool
}

// generation is what one set of files led to.
type generation struct {
	config   *tls.Config
	material *Material
}

// New reads the files. Nothing runs before Run.
func New(o Options) (*Source, error) { return newSource(o, os.ReadFile) }

func newSource(o Options, read func(string) ([]byte, error)) (*Source, error) {
	s := &Source{opts: o, log: o.Log, read: read}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.log = s.log.With("leg", o.Leg); o.Master != "" {
		s.log = s.log.With("master_name", o.Master)
	}
	have, err := o.Files.read(read)
	if err != nil {
		return nil, err
	}
	m, err := have.parse(o.Files)
	if err != nil {
		return nil, err
	}
	s.have = have
	s.current.Store(&generation{o.config(m), m})
	return s, nil
}

// config makes a configuration that serves both ends: a Source is used as one.
func (o Options) config(m *Material) *tls.Config {
	c := &tls.Config{
		MinVersion:         max(o.MinVersion, tls.VersionTLS12),
		CipherSuites:       o.Ciphers,
		RootCAs:            m.pool,
		ClientCAs:          m.pool,
		ClientAuth:         o.ClientAuth,
		ServerName:         o.ServerName,
		InsecureSkipVerify: o.InsecureSkipVerify, //nolint:gosec // a setting, warned of loudly
	}
	if m.cert != nil {
		c.Certificates = []tls.Certificate{*m.cert}
	}
	return c
}

// Server returns the configuration for one handshake with a client. It must not
// be changed.
func (s *Source) Server() *tls.Config { return s.current.Load().config }

// Client returns the configuration for one handshake with the node at addr.
func (s *Source) Client(addr string) *tls.Config {
	c := s.current.Load().config
	if c.ServerName != "" && s.opts.Peers == nil {
		return c
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	c = c.Clone()
	if c.ServerName == "" {
		c.ServerName = host
	}
	if p := s.opts.Peers; p != nil {
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			p.Shook(addr, cs)
			return nil
		}
	}
	return c
}

// Certificates returns what the files in force hold: the authorities, and our certificate
// with its chain. The slices must not be changed; they are the same ones until the files
// change. ok is false while changed files were found no good.
func (s *Source) Certificates() (cas, chain []*x509.Certificate, ok bool) {
	m := s.current.Load().material
	s.mu.Lock()
	defer s.mu.Unlock()
	return m.cas, m.chain, !s.badTold
}

// Run looks for changed files until ctx is done.
func (s *Source) Run(ctx context.Context) {
	t := time.NewTimer(checkEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		next := checkEvery
		if s.check(false) {
			next = checkAgain
		}
		t.Reset(next)
	}
}

// Reload looks for changed files now.
func (s *Source) Reload() { _ = s.check(true) }

// check puts changed files in force. Files that are no good are complained about
// once, and only when they are seen a second time (or sure is set); doubtful says
// that this was the first.
func (s *Source) check(sure bool) (doubtful bool) { //nolint:revive // whose call it is
	s.mu.Lock()
	defer s.mu.Unlock()
	now, err := s.opts.Files.read(s.read)
	if err == nil && now.equal(s.have) {
		if s.badTold {
			s.log.Info("tls files are again those in use")
		}
		s.badErr, s.badTold = "", false
		return false
	}
	var m *Material
	if err == nil {
		m, err = now.parse(s.opts.Files)
	}
	if err != nil {
		again := s.badErr == err.Error() && now.equal(s.bad)
		if !again {
			s.bad, s.badErr, s.badTold = now, err.Error(), false
		}
		if (again || sure) && !s.badTold {
			s.badTold = true
			s.failures.Add(1)
			for _, one := range each(err) {
				s.log.Error("changed tls files not loaded, the old ones stay in use", "err", one)
			}
			if s.opts.Rejected != nil {
				s.opts.Rejected(err)
			}
		}
		return !s.badTold
	}
	s.have, s.bad, s.badErr, s.badTold = now, contents{}, "", false
	s.current.Store(&generation{s.opts.config(m), m})
	s.reloads.Add(1)
	log := s.log
	for role, end := range m.Expiries() {
		log = log.With(role.String()+"_expires", end.UTC())
	}
	log.Info("tls files reloaded")
	return false
}

func (c contents) equal(o contents) bool {
	return bytes.Equal(c.ca, o.ca) && bytes.Equal(c.cert, o.cert) && bytes.Equal(c.key, o.key)
}

// each returns the errors that were joined to err.
func each(err error) []error {
	if many, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		return many.Unwrap()
	}
	return []error{err}
}

// Describe implements prometheus.Collector.
func (s *Source) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s *Source) Collect(ch chan<- prometheus.Metric) {
	send := func(name, help, label string, t prometheus.ValueType, v float64, value string) {
		d := prometheus.NewDesc("sentinelproxy_"+name, help, []string{"master_name", "leg", label}, nil)
		ch <- prometheus.MustNewConstMetric(d, t, v, s.opts.Master, s.opts.Leg, value)
	}
	for role, end := range s.current.Load().material.Expiries() {
		send("certificate_expiry_timestamp_seconds", "When the first certificate of a TLS file in use expires, since the epoch.",
			"file", prometheus.GaugeValue, float64(end.Unix()), role.String())
	}
	const help = "Changed TLS files that were put in force (ok), or were no good (failed)."
	send("tls_reloads_total", help, "result", prometheus.CounterValue, float64(s.reloads.Load()), "ok")
	send("tls_reloads_total", help, "result", prometheus.CounterValue, float64(s.failures.Load()), "failed")
}
