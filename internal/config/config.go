package config

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/allow"
	"github.com/sentinelproxy/sentinelproxy/internal/outage"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// Config is all that one process does. It is a plain value: treat one that was
// loaded as immutable.
type Config struct {
	File    string   // the YAML file it was read from; "" for none
	Masters []Master // at least one, in the order of the file, names unique

	Admin   Admin
	Control Control
	// SentinelListen is the host:port where clients find us as if we were a
	// Sentinel; "" when it is off.
	SentinelListen string

	Webhooks     []Webhook // in the order of the file, names unique
	Certificates Certificates

	DrainTimeout time.Duration // how long a stop waits for what is in flight

	LogLevel  slog.Level
	LogFormat LogFormat

	// Warnings are things that look wrong and may be meant. Each is a whole
	// line; they hold no secret.
	Warnings []string
}

// Admin is the admin HTTP server. Its zero value is off.
type Admin struct {
	Listen string // host:port; "" when it is off
	// Probes is the host:port of a listener that answers probes alone, to anybody; "" for none.
	Probes    string
	TokenFile string // "" for none
	Token     Secret // what TokenFile held when it was loaded
	TLS       TLS    // on with a CertFile
	Insecure  bool   // it may leave loopback with no TLS, or open to everybody
	PProf     bool   // the Go profiler is served, too
}

// Secure reports whether the admin server speaks TLS.
func (a Admin) Secure() bool { return a.TLS.CertFile != "" }

// Guarded reports whether the admin server lets in only whom it knows, by a token or by
// a certificate.
func (a Admin) Guarded() bool {
	return a.TokenFile != "" || a.Secure() && a.TLS.ClientAuth == ClientAuthRequire
}

// Control is where orders that change something are taken. Its zero value is nowhere.
type Control struct {
	Socket    string // path of the Unix socket; "" when it is off
	TokenFile string // "" for none
	Token     Secret // what TokenFile held when it was loaded
}

// Master is one group that is served: where clients connect, and which
// Sentinels know it.
type Master struct {
	Name        string // as the Sentinels know it
	Listen      []Listen
	Sentinels   []topology.Addr
	Auth        Auth
	Redis       Login // the sidecar's account on the data nodes
	Sentinel    Login // the sidecar's account on the Sentinels
	TLS         TLS   // of the listeners that speak it
	RedisTLS    TLS
	SentinelTLS TLS
	Hold        Hold
	Outage      Outage
	Follow      FollowMode
	Fence       FenceMode
	RetryWrites RetryWrites
	Demote      DemoteMode
	StateFile   string   // "" for none
	Announce    Announce // what clients in Sentinel mode are told
	Loops       int      // event loops; 0 lets the proxy choose
	MaxClients  int
	// LargeCommand and QueryBuffer are in bytes.
	LargeCommand int
	QueryBuffer  int
	Output       []OutputLimit // what was given; OutputLimit has the rest
	Allow        allow.List    // whence clients may connect
	IdleTimeout  Wait          // off: idle clients stay; never Auto
	SlowCommand  Wait          // off: none is logged; never Auto
	// Keepalive and RedisKeepalive are how long a client, or a node, may be silent before
	// the kernel asks whether it is there; never Auto.
	Keepalive, RedisKeepalive Wait
	MaxUserPipes              int      // per event loop
	Deny                      []string // commands that are refused, in upper case; none: none
	Dedicated                 bool     // multiplex is false: each client has a backend connection of its own
}

// Listen is where clients connect: Network and Address as for [net.Listen].
type Listen struct {
	Network string // "tcp" or "unix"
	Address string
	TLS     bool // by the master's TLS; "tcp" only
}

// String returns "host:port", "tls://host:port" or "unix:/path", as it is
// configured.
func (l Listen) String() string {
	if l.TLS {
		return schemeTLS + l.Address
	}
	if l.Network == "unix" {
		return "unix:" + l.Address
	}
	return l.Address
}

// Announce is an address told to clients. What is zero follows from Listen and from
// how the client reached us.
type Announce struct {
	Host string
	Port int
}

// String returns "host:port", "host", or "" for the zero Announce.
func (a Announce) String() string {
	if a.Port == 0 {
		return a.Host
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(a.Port))
}

// OutputClass says whose replies an OutputLimit bounds.
type OutputClass string

// The classes of clients, as in Redis' client-output-buffer-limit.
const (
	OutputNormal OutputClass = "normal"
	OutputPubSub OutputClass = "pubsub" // subscribers
)

// OutputLimit bounds what is kept for one client that does not read: one that leaves
// Hard bytes unread, or Soft bytes for longer than For, is cut off. Zero is no limit.
type OutputLimit struct {
	Class      OutputClass
	Hard, Soft int
	For        time.Duration
}

// String returns "class hard soft seconds", as it is configured.
func (o OutputLimit) String() string {
	return fmt.Sprintf("%s %s %s %d", o.Class, sizeString(o.Hard), sizeString(o.Soft), int(o.For/time.Second))
}

// OutputLimit returns the limit of a class: the one that was given, or the default.
func (m Master) OutputLimit(class OutputClass) OutputLimit {
	for _, o := range m.Output {
		if o.Class == class {
			return o
		}
	}
	if class == OutputPubSub {
		return OutputLimit{Class: class, Hard: 32 << 20, Soft: 8 << 20, For: time.Minute}
	}
	return OutputLimit{Class: class, Hard: 256 << 20}
}

// Login is an account. Without a PasswordFile there is none.
type Login struct {
	User         string // "" is Redis' default user
	PasswordFile string
	Password     Secret // what PasswordFile held when it was loaded
}

// Hold bounds what a failover may cost one client.
type Hold struct {
	Timeout Wait // how long one command waits; off: commands never wait
	Max     Wait // when the circuit opens; off: never
}

// Outage says what commands get while no master can be served for long.
type Outage struct {
	After  After // since when none has been served
	Policy outage.Policy
}

// After is a duration, of which 0 is at once. The zero After is auto.
type After struct {
	Fixed bool // For counts; else hold.timeout does
	For   time.Duration
}

// String returns "auto" or the duration.
func (a After) String() string {
	if !a.Fixed {
		return "auto"
	}
	return a.For.String()
}

// MarshalText writes what String does, for JSON.
func (a After) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Wait is a duration that may be left to the program. The zero Wait is off.
type Wait struct {
	Auto bool          // derived from the group's down-after
	For  time.Duration // if not Auto; 0 is off
}

// String returns "auto", "off" or the duration.
func (w Wait) String() string {
	switch {
	case w.Auto:
		return "auto"
	case w.For == 0:
		return "off"
	}
	return w.For.String()
}

// MarshalText writes what String does, for JSON.
func (w Wait) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// Auth says whose account a client's commands run under.
type Auth string

// The ways to authenticate clients.
const (
	AuthPassthrough Auth = "passthrough" // each client logs in to Redis as itself
	AuthNone        Auth = "none"        // every client uses the sidecar's account
)

// RetryWrites says what becomes of a write whose reply was lost.
type RetryWrites string

// The ways to retry, from the most careful.
const (
	RetryNever      RetryWrites = "never"      // it is answered as uncertain
	RetryIdempotent RetryWrites = "idempotent" // sent again if it may run twice
	RetryAlways     RetryWrites = "always"     // sent again: it runs at least once
)

// FenceMode says what stops writes that may be lost.
type FenceMode string

// The fences, from the safest.
const (
	FenceLease  FenceMode = "lease"  // writes stop when neither Sentinels nor replicas confirm the master in time
	FenceEvents FenceMode = "events" // writes stop at a sign of a failover alone
	FenceOff    FenceMode = "off"    // writes stop when the master is lost or a majority names another
)

// FollowMode says when commands go on to a new master.
type FollowMode string

// The ways to follow.
const (
	FollowMajority FollowMode = "majority" // when a majority of the Sentinels names it
	FollowFast     FollowMode = "fast"     // when it was promoted and the old master is demoted by us, or gone
)

// DemoteMode says whether a deposed master is made a replica by us.
type DemoteMode string

// The ways to treat a deposed master that still says master.
const (
	DemoteOff  DemoteMode = "off"  // Sentinel demotes it, some 10 s later
	DemoteAuto DemoteMode = "auto" // we do, as soon as a majority stands by the new master
)

// LogFormat is how log lines are written.
type LogFormat string

// The formats of log lines.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)
