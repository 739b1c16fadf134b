package redistest

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// configFile builds the text of a Redis configuration file.
type configFile struct{ b strings.Builder }

// add appends one line: a directive and its arguments, quoted where needed.
func (f *configFile) add(directive string, args ...string) {
	f.b.WriteString(directive)
	for _, a := range args {
		f.b.WriteByte(' ')
		f.b.WriteString(quote(a))
	}
	f.b.WriteByte('\n')
}

// raw appends lines as they are.
func (f *configFile) raw(lines []string) {
	for _, l := range lines {
		f.b.WriteString(l)
		f.b.WriteByte('\n')
	}
}

// write stores the file for its owner alone, since it may hold passwords.
func (f *configFile) write(path string) error {
	return os.WriteFile(path, []byte(f.b.String()), 0o600)
}

// quote puts s in double quotes as Redis' sdssplitargs reads them, unless it
// is plain.
func quote(s string) string {
	plain := func(r rune) bool {
		return r == '.' || r == ':' || r == '-' || r == '_' || r == '/' ||
			'0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	if s != "" && strings.TrimLeftFunc(s, plain) == "" {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// common adds what data nodes and Sentinels share. Processes log to their
// standard output, which is their log file, so early errors land there too.
func (f *configFile) common(o Options, dir string, port int) {
	if t := o.TLS; t != nil {
		f.add("port", "0")
		f.add("tls-port", strconv.Itoa(port))
		f.add("tls-ca-cert-file", t.CA)
		f.add("tls-cert-file", t.Cert)
		f.add("tls-key-file", t.Key)
		f.add("tls-replication", "yes") // for a Sentinel: its connections to all others
		f.add("tls-auth-clients", map[bool]string{true: "yes", false: "no"}[t.AuthClients])
	} else {
		f.add("port", strconv.Itoa(port))
	}
	f.add("bind", o.Host)
	f.add("dir", dir)
	f.add("daemonize", "no")
	f.add("protected-mode", "no") // loopback only; else Sentinels without a password refuse each other
	f.add("logfile", "")
}

// dataConfig is the configuration of a data node. It is a replica of master,
// or a master itself if that is zero. announce is zero where the node is known
// by the address it listens on.
func dataConfig(o Options, dir string, port int, announce, master topology.Addr) *configFile {
	f := &configFile{}
	f.common(o, dir, port)
	f.add("save", "")
	f.add("appendonly", "no")
	f.add("repl-diskless-sync", "yes")
	f.add("repl-diskless-sync-delay", "0")
	if o.Password != "" {
		f.add("requirepass", o.Password)
		f.add("masterauth", o.Password)
	}
	if announce != "" {
		host, port := announce.Split()
		f.add("replica-announce-ip", host)
		f.add("replica-announce-port", strconv.Itoa(port))
	}
	if master != "" {
		host, port := master.Split()
		f.add("replicaof", host, strconv.Itoa(port))
	}
	f.raw(o.RedisConfig)
	return f
}

// sentinelConfig is the configuration of a Sentinel that watches master.
func sentinelConfig(o Options, dir string, port int, master topology.Addr) *configFile {
	f := &configFile{}
	f.common(o, dir, port)
	if o.byName() { // must come before a name is used
		f.add("sentinel", "resolve-hostnames", "yes")
		f.add("sentinel", "announce-hostnames", "yes")
		f.add("sentinel", "announce-ip", o.Host)
	}
	host, masterPort := master.Split()
	f.add("sentinel", "monitor", o.Name, host, strconv.Itoa(masterPort), strconv.Itoa(o.Quorum))
	f.add("sentinel", "down-after-milliseconds", o.Name, strconv.FormatInt(o.DownAfter.Milliseconds(), 10))
	f.add("sentinel", "failover-timeout", o.Name, strconv.FormatInt(o.FailoverTimeout.Milliseconds(), 10))
	if o.Password != "" {
		f.add("sentinel", "auth-pass", o.Name, o.Password)
	}
	if o.SentinelPassword != "" {
		f.add("requirepass", o.SentinelPassword)
		f.add("sentinel", "sentinel-pass", o.SentinelPassword)
	}
	f.raw(o.SentinelConfig)
	return f
}
