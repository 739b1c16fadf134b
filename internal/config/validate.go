package config

import "net"

// maxSentinels is how many one sidecar follows of a group.
const maxSentinels = 32

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

// checkUnique reports what two masters, or a master and the admin server, both
// claim. ats are the masters' origins.
func (l *loader) checkUnique(cfg Config, ats []origins) {
	type claim struct{ flag, value string }
	owner := map[claim]string{{"listen", cfg.Admin}: "the admin server"}
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
	for i, m := range cfg.Masters {
		take(i, "master", m.Name)
		take(i, "state-file", m.StateFile)
		for _, a := range m.Listen {
			if _, port, err := net.SplitHostPort(a.Address); err == nil && port == "0" {
				continue // any free port: never the same one
			}
			take(i, "listen", Listen{Network: a.Network, Address: a.Address}.String()) // with TLS or without
		}
	}
}
