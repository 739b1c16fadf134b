package config

import "slices"

// Change is one difference between two configurations.
type Change struct {
	Master  string // whose; "" for a setting of the process
	Setting string // YAML key; "masters" when the master itself came or went
	Live    bool   // a reload can apply it; otherwise it takes a restart
}

// Changes lists what differs between the configuration that runs and a new one,
// in the order of the reference page, the process' settings first. Masters are
// compared by name, webhooks as a whole. A password file counts as changed when its content has.
func Changes(running, next Config) []Change {
	var changes []Change
	for _, s := range settings() {
		if s.scope != ofProcess {
			continue
		}
		same := s.show(target{&running, new(Master), new(Webhook)}) == s.show(target{&next, new(Master), new(Webhook)})
		live := s.live
		if token := tokenOf(s.key); token != nil {
			// One that comes or goes changes what the admin server serves.
			old, now := token(running), token(next)
			same, live = same && old == now, live && old != "" && now != ""
		}
		if !same {
			changes = append(changes, Change{Setting: s.key, Live: live})
		}
	}
	if !slices.EqualFunc(running.Webhooks, next.Webhooks, Webhook.equal) {
		changes = append(changes, Change{Setting: listWebhooks, Live: true})
	}
	named := func(cfg Config, name string) int {
		return slices.IndexFunc(cfg.Masters, func(m Master) bool { return m.Name == name })
	}
	for _, m := range running.Masters {
		i := named(next, m.Name)
		if i < 0 {
			changes = append(changes, Change{Master: m.Name, Setting: "masters"})
			continue
		}
		changes = append(changes, masterChanges(m, next.Masters[i])...)
	}
	for _, m := range next.Masters {
		if named(running, m.Name) < 0 {
			changes = append(changes, Change{Master: m.Name, Setting: "masters"})
		}
	}
	return changes
}

// tokenOf returns what reads the token of a setting that names a token file, or nil.
func tokenOf(key string) func(Config) Secret {
	switch key {
	case "control.token_file":
		return func(c Config) Secret { return c.Control.Token }
	case "admin.token_file":
		return func(c Config) Secret { return c.Admin.Token }
	}
	return nil
}

func masterChanges(running, next Master) []Change {
	var changes []Change
	for _, s := range settings() {
		if s.scope.list() != listMasters {
			continue
		}
		same := s.show(target{new(Config), &running, new(Webhook)}) == s.show(target{new(Config), &next, new(Webhook)})
		live := s.live
		switch s.key {
		case "redis.password_file":
			same, live = same && running.Redis.Password == next.Redis.Password, s.live && bothSet(running.Redis, next.Redis)
		case "sentinel.password_file":
			same, live = same && running.Sentinel.Password == next.Sentinel.Password, s.live && bothSet(running.Sentinel, next.Sentinel)
		}
		if !same {
			changes = append(changes, Change{Master: running.Name, Setting: s.entryKey(), Live: live})
		}
	}
	return changes
}

// bothSet reports whether an account only changed its password: one that comes
// or goes changes who the sidecar is.
func bothSet(a, b Login) bool { return a.Password != "" && b.Password != "" }
