package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
)

// maxWebhooks bounds the webhooks of one process: each has a queue and a label.
const maxWebhooks = 16

// allEvents stands for every kind of event.
const allEvents = "all"

// Webhook is one receiver of events.
type Webhook struct {
	Name        string
	URL         Secret // many services put a secret into it
	SecretFile  string // "" for none
	Secret      Secret // what SecretFile held when it was loaded
	Events      []events.Kind
	MinSeverity events.Severity
	Cooldown    time.Duration // 0: none
	Timeout     time.Duration
	CAFile      string // "" for the system's
	CA          []byte // what CAFile held when it was loaded
}

func (w Webhook) equal(o Webhook) bool {
	return w.Name == o.Name && w.URL == o.URL && w.SecretFile == o.SecretFile && w.Secret == o.Secret &&
		slices.Equal(w.Events, o.Events) && w.MinSeverity == o.MinSeverity && w.Cooldown == o.Cooldown &&
		w.Timeout == o.Timeout && w.CAFile == o.CAFile && slices.Equal(w.CA, o.CA)
}

// Certificates says when a certificate is told of.
type Certificates struct {
	WarnDays      int           // before its end
	CheckCooldown time.Duration // between two looks at one
	EventCooldown time.Duration // between two events of one, in one role
}

// webhookSettings are about receivers of events.
func webhookSettings() []setting {
	return []setting{
		{
			flag: "webhook-url", key: "webhook.url", scope: ofOneWebhook, kind: "url", live: true, hidden: true,
			want:  "want http://host/path or https://host/path",
			usage: "where events are sent as JSON (docs/events.md); several in the list webhooks of the YAML file",
			set:   into(func(t target) *Secret { return &t.hook.URL }, parseHookURL),
			show:  func(t target) string { return t.hook.URL.Reveal() },
		},
		{
			flag: "webhook-name", key: "webhook.name", scope: ofOneWebhook, kind: "name", live: true,
			want:  "want one word of at most 64 characters",
			usage: "what logs and metrics call the webhook; by default the host in its url",
			set:   into(func(t target) *string { return &t.hook.Name }, parseHookName),
			show:  func(t target) string { return t.hook.Name },
		},
		{
			flag: "webhook-secret-file", key: "webhook.secret_file", scope: ofWebhook, kind: "path", live: true,
			want:  "want a file's path",
			usage: "file with the secret that signs what is sent to the webhook (HMAC-SHA256); without it nothing is signed",
			set:   into(func(t target) *string { return &t.hook.SecretFile }, parsePath),
			show:  func(t target) string { return t.hook.SecretFile },
		},
		{
			flag: "webhook-events", key: "webhook.events", scope: ofWebhook, repeat: true, none: allEvents, kind: "event", def: allEvents, live: true,
			want:  `want an event such as RouteChanged, or "all"`,
			usage: "which events the webhook is told; repeatable; all: every one",
			set: func(t target, v string) error {
				if v == allEvents {
					return nil
				}
				if !events.Known(events.Kind(v)) {
					return oneOfHint(v, eventNames()...)
				}
				t.hook.Events = append(t.hook.Events, events.Kind(v))
				return nil
			},
			show: func(t target) string { return fmt.Sprint(t.hook.Events) },
		},
		{
			flag: "webhook-min-severity", key: "webhook.min_severity", scope: ofWebhook, kind: "level", def: "info", live: true,
			want:  `want "info", "warning" or "critical"`,
			usage: "least severity that the webhook is told: info, warning or critical",
			set: into(func(t target) *events.Severity { return &t.hook.MinSeverity }, func(v string) (events.Severity, error) {
				var words []string
				for _, s := range events.Severities() {
					if words = append(words, s.String()); s.String() == v {
						return s, nil
					}
				}
				return 0, oneOfHint(v, words...)
			}),
			show: func(t target) string { return t.hook.MinSeverity.String() },
		},
		{
			flag: "webhook-cooldown", key: "webhook.cooldown", scope: ofWebhook, kind: "duration", def: "1m", live: true,
			want:  "want a duration such as 5m, or 0s for none",
			usage: "after an event the webhook is told no other of the same kind, master and subject (such as a node) for that long; the next says how many there were; 0s: it is told all",
			set:   into(func(t target) *time.Duration { return &t.hook.Cooldown }, parseDuration),
			show:  func(t target) string { return t.hook.Cooldown.String() },
		},
		{
			flag: "webhook-timeout", key: "webhook.timeout", scope: ofWebhook, kind: "duration", def: "5s", live: true,
			want:  "want a duration from 100ms to 1m",
			usage: "how long one request to the webhook may take",
			set: into(func(t target) *time.Duration { return &t.hook.Timeout }, func(v string) (time.Duration, error) {
				d, err := parseDuration(v)
				if err == nil && (d < 100*time.Millisecond || d > time.Minute) {
					err = errPlain
				}
				return d, err
			}),
			show: func(t target) string { return t.hook.Timeout.String() },
		},
		{
			flag: "webhook-ca-file", key: "webhook.ca_file", scope: ofWebhook, kind: "path", live: true,
			want:  "want a file's path",
			usage: "PEM certificates of the authorities that sign the webhook's certificate; the system's where none is named",
			set:   into(func(t target) *string { return &t.hook.CAFile }, parsePath),
			show:  func(t target) string { return t.hook.CAFile },
		},
	}
}

// certificateSettings are about the certificates that the process watches.
func certificateSettings() []setting {
	seconds := func(field func(target) *time.Duration) func(target, string) error {
		return into(field, func(v string) (time.Duration, error) {
			n, err := parseCount(v, 1, 30*24*3600)
			return time.Duration(n) * time.Second, err
		})
	}
	show := func(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
	return []setting{
		{
			flag: "certificates-warning-threshold-days", key: "certificates.warning_threshold_days", scope: ofProcess, kind: "count", def: "30", live: true,
			want:  "want a number from 1 to 3650",
			usage: "how many days before its end a certificate is told of (the events CertificateExpiringSoon and CertificateExpired)",
			set:   into(func(t target) *int { return &t.Certificates.WarnDays }, counted(1, 3650)),
			show:  func(t target) string { return strconv.Itoa(t.Certificates.WarnDays) },
		},
		{
			flag: "certificates-check-cooldown-seconds", key: "certificates.check_cooldown_seconds", scope: ofProcess, kind: "count", def: "3600", live: true,
			want:  "want a number of seconds from 1 to 2592000",
			usage: "how long after one check of a certificate the next comes; one that is new, or reaches its threshold or end, is checked within a minute",
			set:   seconds(func(t target) *time.Duration { return &t.Certificates.CheckCooldown }),
			show:  func(t target) string { return show(t.Certificates.CheckCooldown) },
		},
		{
			flag: "certificates-event-cooldown-seconds", key: "certificates.event_cooldown_seconds", scope: ofProcess, kind: "count", def: "86400", live: true,
			want:  "want a number of seconds from 1 to 2592000",
			usage: "how long after an event of a certificate, in one role, the next of that kind comes; kept in memory, so a restart tells again",
			set:   seconds(func(t target) *time.Duration { return &t.Certificates.EventCooldown }),
			show:  func(t target) string { return show(t.Certificates.EventCooldown) },
		},
	}
}

func eventNames() []string {
	names := []string{allEvents}
	for _, k := range events.Kinds() {
		names = append(names, string(k))
	}
	return names
}

// parseHookURL reads a webhook's address. Its errors never quote it.
func parseHookURL(v string) (Secret, error) {
	u, err := url.Parse(v)
	switch {
	case err != nil:
		return "", errors.New("it is no URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("it does not begin with http:// or https://")
	case u.Hostname() == "":
		return "", errors.New("the host is missing")
	case u.Fragment != "":
		return "", errors.New("it has a part behind #")
	case u.Port() != "" && !isPort(u.Port()):
		return "", errors.New("the port is not valid")
	}
	return Secret(v), nil
}

func parseHookName(v string) (string, error) {
	if len(v) > 64 {
		return "", errPlain
	}
	return parseName(v)
}

// webhooks resolves every webhook. Values that don't parse are left out: they have been
// reported.
func (l *loader) webhooks(cfg *Config, given layer) {
	in := l.doc.lists[listWebhooks]
	entries, single := in.entries, len(in.entries) == 0
	if single {
		entries = []entry{{layer: layer{}}} // the form for one, or for none
	}
	if len(entries) > maxWebhooks {
		l.mistakes.add(in.origin, "found %d webhooks; want at most %d", len(entries), maxWebhooks)
		return
	}
	owner := map[string]Origin{}
	for _, e := range entries {
		var w Webhook
		at := origins{by: map[string]Origin{}, entry: e.origin}
		for _, s := range settings() {
			if s.scope.list() != listWebhooks {
				continue
			}
			vs := l.pick(s, given, e.layer)
			assign(s, target{cfg, new(Master), &w}, vs)
			if len(vs) > 0 && vs[0].origin != (Origin{}) {
				at.by[s.flag] = vs[0].origin
			}
		}
		_, hasURL := at.by["webhook-url"]
		if !hasURL && single {
			l.checkNoWebhook(at)
			return
		}
		if !hasURL && e.layer != nil {
			l.mistakes.add(at.of("webhook-url"), "is missing; want where to send events, such as https://host/path")
		}
		if l.webhook(&w, at) {
			cfg.Warnings = append(cfg.Warnings, fmt.Sprintf("webhook %s is sent events without TLS: who listens on the way can read them", quote(w.Name)))
		}
		where := at.of("webhook-name")
		if other, taken := owner[w.Name]; taken && w.Name != "" {
			l.mistakes.add(where, "found %s, which another webhook has already (%s); want a name for each", quote(w.Name), other)
		}
		owner[w.Name] = where
		cfg.Webhooks = append(cfg.Webhooks, w)
	}
}

// checkNoWebhook reports what was set of a webhook that there is not.
func (l *loader) checkNoWebhook(at origins) {
	for _, s := range webhookSettings() {
		if o, given := at.by[s.flag]; given {
			l.mistakes.add(o, "is set, and there is no webhook; want --webhook-url, or webhook.url in the YAML file, too")
			return
		}
	}
}

// webhook fills in what follows from other settings, reads the files, and reports whether
// what is sent can be read on its way to another machine.
func (l *loader) webhook(w *Webhook, at origins) (readable bool) {
	u, err := url.Parse(w.URL.Reveal())
	if err != nil {
		return false // reported
	}
	if w.Name == "" {
		w.Name = strings.ToLower(u.Hostname())
	}
	if w.SecretFile != "" {
		secret, err := readPassword(l.readFile, w.SecretFile)
		if err != nil {
			l.mistakes.add(at.of("webhook-secret-file"), "found %s; want a file that holds a secret in one line (%v)", quote(w.SecretFile), err)
		}
		w.Secret = secret
	}
	if w.CAFile != "" {
		b, err := l.readFile(w.CAFile)
		switch {
		case err != nil:
			l.mistakes.add(at.of("webhook-ca-file"), "found %s; want a readable PEM file with certificates of authorities (%v)", quote(w.CAFile), bare(err))
		case len(b) > maxFile || !x509.NewCertPool().AppendCertsFromPEM(b):
			l.mistakes.add(at.of("webhook-ca-file"), "found %s; want a PEM file with certificates of authorities (it holds none)", quote(w.CAFile))
		}
		w.CA = b
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && u.Hostname() != "localhost" && !ip.IsLoopback()
}
