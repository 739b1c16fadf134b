package config

import (
	"fmt"
	"net"
	"slices"

	"github.com/sentinelproxy/sentinelproxy/internal/allow"
)

// maxSentinels is how many one sidecar follows of a group.
const maxSentinels = 32

// maxRules is how many rules an outage policy has at most: in an outage each read
// is held against them.
const maxRules = 256

// checkMaster reports what is wrong between one master's settings, fills in
// what follows from others, and reads its password files.
func (l *loader) checkMaster(cfg *Config, m *Master, at origins) {
	// Where a value was given and is wrong, that was reported already: "missing"
	// would be a second line about one mistake.
	missing := func(flag string) bool {
		_, given := at.by[flag]
		return !given
	}
	if m.Name == "" && missing("master") {
		l.mistakes.add(at.of("master"), "is missing; want the name the Sentinels know the group by")
	}
	if len(m.Listen) == 0 && missing("listen") {
		l.mistakes.add(at.of("listen"), "is missing; with several masters each needs its own address")
	}
	if len(m.Sentinels) == 0 && missing("sentinel") {
		l.mistakes.add(at.of("sentinel"), "is missing; want at least one Sentinel's host:port")
	}
	if n := len(m.Sentinels); n > maxSentinels {
		l.mistakes.add(at.of("sentinel"), "found %d Sentinels; want at most %d", n, maxSentinels)
	}
	if n := len(m.Outage.Policy); n > maxRules {
		l.mistakes.add(at.of("outage-policy"), "found %d rules; want at most %d", n, maxRules)
	}
	for i, o := range m.Output {
		if slices.ContainsFunc(m.Output[:i], func(p OutputLimit) bool { return p.Class == o.Class }) {
			l.mistakes.add(at.of("output-buffer-limit"), "found %q twice; want each class once", o.Class)
		}
	}
	if n := len(m.Allow); n > allow.Most {
		l.mistakes.add(at.of("allow-clients"), "found %d networks; want at most %d", n, allow.Most)
	}
	l.login(&m.Redis, at, "redis")
	l.login(&m.Sentinel, at, "sentinel")
	l.listenerTLS(cfg, m, at)
	l.nodeTLS(cfg, m, at, redisLeg())
	l.nodeTLS(cfg, m, at, sentinelLeg())

	if m.Follow == FollowFast && m.Fence == FenceOff {
		l.mistakes.add(at.of("follow"), `found "fast" with fence.mode "off"; want fence.mode "lease" or "events", whose signs it needs`)
	}
	if m.Auth == "" && missing("auth") {
		if m.Redis.PasswordFile == "" {
			m.Auth = AuthPassthrough
		} else {
			l.mistakes.add(at.of("auth"), `must be named when a Redis password file is set; want "passthrough" (the account serves the sidecar alone) or "none" (every client may use the account)`)
		}
	}
}

// leastToken is how long a token must be: it can be tried from elsewhere.
const leastToken = 16

// token reads a token file, if there is one. flag is its setting's.
func (l *loader) token(path string, at origins, flag string) Secret {
	if path == "" {
		return ""
	}
	token, err := readPassword(l.readFile, path)
	switch {
	case err != nil:
		l.mistakes.add(at.of(flag), "found %s; want a file that holds a token in one line (%v)", quote(path), err)
	case len(token) < leastToken:
		l.mistakes.add(at.of(flag), "the token in %s has %d characters; want %d or more", quote(path), len(token), leastToken)
	}
	return token
}

// checkControl reads the control token.
func (l *loader) checkControl(cfg *Config, at origins) {
	const flag = "control-token-file"
	c := &cfg.Control
	c.Token = l.token(c.TokenFile, at, flag)
	switch {
	case c.TokenFile == "":
	case cfg.Admin.Listen == "":
		l.mistakes.add(at.of(flag), `found %s with admin "off"; want an admin address, which the token is for`, quote(c.TokenFile))
	case c.Token != "" && c.Token == cfg.Admin.Token:
		cfg.Warnings = append(cfg.Warnings, "admin.token_file and control.token_file hold the same token: who may read may give orders, too")
	}
}

// login reads one account's password file. which is the prefix of its flags.
func (l *loader) login(lg *Login, at origins, which string) {
	file := which + "-password-file"
	if lg.PasswordFile == "" {
		_, given := at.by[file]
		if lg.User != "" && !given {
			l.mistakes.add(at.of(which+"-user"), "found %s without a password; want --%s, or %s.password_file in the YAML file, too", quote(lg.User), file, which)
		}
		return
	}
	pw, err := readPassword(l.readFile, lg.PasswordFile)
	if err != nil {
		l.mistakes.add(at.of(file), "found %s; want a file that holds a password in one line (%v)", quote(lg.PasswordFile), err)
		return
	}
	lg.Password = pw
}

// unreachable warns of a master whose clients the Sentinel endpoint can send
// nowhere, or to their own machine.
func unreachable(cfg Config, m Master) []string {
	if cfg.SentinelListen == "" || m.Announce.Host != "" && m.Announce.Port != 0 {
		return nil
	}
	var hosts []string
	for _, l := range m.Listen {
		if host, _, err := net.SplitHostPort(l.Address); err == nil && l.Network == "tcp" {
			hosts = append(hosts, host)
		}
	}
	if len(hosts) == 0 {
		return []string{fmt.Sprintf("sentinel_listen is set and master %s listens on Unix sockets alone: its clients need sentinel_announce as host:port", quote(m.Name))}
	}
	if m.Announce.Host == "" && !loopback(hostOf(cfg.SentinelListen)) && !slices.ContainsFunc(hosts, func(h string) bool { return !loopback(h) }) {
		return []string{fmt.Sprintf("sentinel_listen is reached from other machines and master %s listens on loopback alone: clients there are sent to their own", quote(m.Name))}
	}
	return nil
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(trimZone(host)).IsLoopback()
}

// checkUnique reports what two masters, or a master and the admin server, both
// claim. ats are the masters' origins.
func (l *loader) checkUnique(cfg Config, ats []origins) {
	type claim struct{ flag, value string }
	owner := map[claim]string{
		{"listen", cfg.Admin.Listen}: "the admin server", {"listen", cfg.Admin.Probes}: "the listener for probes",
		{"listen", cfg.SentinelListen}: "the Sentinel endpoint",
	}
	take := func(i int, flag, value string) {
		if value == "" {
			return
		}
		c := claim{flag, value}
		if who, taken := owner[c]; taken {
			l.mistakes.add(ats[i].of(flag), "found %s, which %s has already", quote(value), who)
			return
		}
		owner[c] = "master " + quote(cfg.Masters[i].Name)
	}
	if cfg.Control.Socket != "" {
		owner[claim{"listen", "unix:" + cfg.Control.Socket}] = "the control socket"
	}
	for i, m := range cfg.Masters {
		take(i, "master", m.Name)
		take(i, "state-file", m.StateFile)
		if m.Announce.Port != 0 {
			take(i, "sentinel-announce", m.Announce.String())
		}
		for _, a := range m.Listen {
			if _, port, err := net.SplitHostPort(a.Address); err == nil && port == "0" {
				continue // any free port: never the same one
			}
			take(i, "listen", Listen{Network: a.Network, Address: a.Address}.String()) // with TLS or without
		}
	}
}
