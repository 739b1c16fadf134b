package redistest

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"
)

// None asks for no replicas or no Sentinels, where 0 means the default.
const None = -1

// Options says what to start. The zero value is a master with two replicas and
// three Sentinels on 127.0.0.1.
type Options struct {
	Name      string // master name in Sentinel; default "mymaster"
	Replicas  int    // default 2; None for a lone master
	Sentinels int    // default 3; None for no Sentinels
	Quorum    int    // default a majority of Sentinels

	// DownAfter is how long a node must be silent to be called down; default 1s.
	DownAfter time.Duration
	// FailoverTimeout is Sentinel's failover-timeout, default 3s: after a failed
	// or a won attempt Sentinel waits twice as long before the next automatic one.
	FailoverTimeout time.Duration

	Password         string // of the data nodes (requirepass, masterauth, Sentinel's auth-pass)
	SentinelPassword string // of the Sentinels (requirepass, sentinel-pass)

	// Host is what the processes bind to and are known by; default 127.0.0.1. An
	// IPv6 address works, and so does a name, which is then announced as a name.
	Host string
	// Relays puts a faultnet.Relay before every data node and announces its
	// address instead of the node's, so that a node can be partitioned from
	// everyone at once: Sentinels, replicas and clients.
	Relays bool
	// SentinelRelays puts one before every Sentinel, too.
	SentinelRelays bool

	// TLS has every process speak TLS and nothing else, among themselves too.
	TLS *TLS

	// Quick shortens the Sentinels' publish and INFO periods from 2 s and 10 s to
	// 600 ms and 1 s: after a failover the old master is demoted, and the group
	// stable, within some four seconds instead of eleven. For tests that need
	// the outcome and not the timing. It has no effect before Redis 7.
	Quick bool

	RedisConfig    []string // lines added to every data node's configuration
	SentinelConfig []string // lines added to every Sentinel's, after "sentinel monitor"

	// Dir is where each process gets its directory. Default: a temporary
	// directory that Stop removes. A directory that was passed is left behind.
	Dir string

	ServerPath   string // default redis-server, looked up on PATH
	SentinelPath string // default redis-sentinel, or else ServerPath with --sentinel

	Log *slog.Logger // default: discard
}

// TLS names the PEM files that every process of a group uses, for both ends of its
// connections. The certificate must hold Host.
type TLS struct {
	CA, Cert, Key string
	// AuthClients has the processes want a certificate of their clients.
	AuthClients bool
}

// client returns the configuration of a client that shows the group's own
// certificate.
func (t *TLS) client(host string) (*tls.Config, error) {
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", t.CA)
	}
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: host}, nil
}

// withDefaults returns o with every zero setting replaced, Dir aside.
func (o Options) withDefaults() Options {
	o.Name = cmp.Or(o.Name, "mymaster")
	o.Replicas = max(cmp.Or(o.Replicas, 2), 0)
	o.Sentinels = max(cmp.Or(o.Sentinels, 3), 0)
	o.Quorum = cmp.Or(o.Quorum, o.Sentinels/2+1)
	o.DownAfter = cmp.Or(o.DownAfter, time.Second)
	o.FailoverTimeout = cmp.Or(o.FailoverTimeout, 3*time.Second)
	o.Host = strings.Trim(cmp.Or(o.Host, "127.0.0.1"), "[]")
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// validate returns every problem of o, which has its defaults, joined.
func (o Options) validate() error {
	var errs []error
	if strings.ContainsAny(o.Name, " ,\t\r\n\"'") {
		errs = append(errs, fmt.Errorf("name %q: Sentinel allows no spaces, quotes or commas", o.Name))
	}
	if o.Quorum < 1 || o.Sentinels > 0 && o.Quorum > o.Sentinels {
		errs = append(errs, fmt.Errorf("quorum %d: want 1 to %d", o.Quorum, o.Sentinels))
	}
	if o.DownAfter < time.Millisecond || o.FailoverTimeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("down-after %v, failover-timeout %v: want 1ms or more",
			o.DownAfter, o.FailoverTimeout))
	}
	for _, p := range []string{o.Password, o.SentinelPassword} {
		if strings.ContainsAny(p, "\r\n") {
			errs = append(errs, errors.New("a password has a line break"))
		}
	}
	return errors.Join(errs...)
}

// byName reports whether Host is a name that must be announced as such.
func (o Options) byName() bool {
	_, err := netip.ParseAddr(o.Host)
	return err != nil
}
