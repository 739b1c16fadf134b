package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/events"
	"github.com/sentinelproxy/sentinelproxy/internal/certtest"
)

func TestWebhooks(t *testing.T) {
	ca := certtest.MustCA(t)
	fsys := func(yaml string) files {
		return files{"c.yaml": "sentinels: s\n" + yaml, "key": "s3cret\n", "ca.pem": string(ca.PEM)}
	}
	plain := Webhook{Name: "h.example", URL: "https://h.example/x", MinSeverity: events.Info, Cooldown: time.Minute, Timeout: 5 * time.Second}
	with := func(f func(*Webhook)) Webhook { w := plain; f(&w); return w }
	for name, tt := range map[string]struct {
		yaml      string
		args, env []string
		want      []Webhook
	}{
		"none":       {},
		"empty list": {yaml: "webhooks: []\n"},
		"a flag":     {args: []string{"--webhook-url", "https://h.example/x"}, want: []Webhook{plain}},
		"a variable": {env: []string{"SENTINELPROXY_WEBHOOK_URL=https://h.example/x", "SENTINELPROXY_WEBHOOK_EVENTS=RouteHeld,RouteFenced"}, want: []Webhook{
			with(func(w *Webhook) { w.Events = []events.Kind{"RouteHeld", "RouteFenced"} }),
		}},
		"a flag beside an empty list": {yaml: "webhooks: []\n", args: []string{"--webhook-url", "https://h.example/x"}, want: []Webhook{plain}},
		"one in the file": {
			yaml: "webhook:\n  url: https://h.example/x\n  secret_file: key\n  ca_file: ca.pem\n  min_severity: critical\n  cooldown: 0s\n  timeout: 1s\n  events: all\n",
			want: []Webhook{with(func(w *Webhook) {
				w.SecretFile, w.Secret, w.CAFile, w.CA = "key", "s3cret", "ca.pem", ca.PEM
				w.MinSeverity, w.Cooldown, w.Timeout = events.Critical, 0, time.Second
			})},
		},
		"several, with defaults": {
			yaml: "webhook: {timeout: 2s, events: [RouteHeld]}\nwebhooks:\n- url: https://h.example/x\n- {name: b, url: 'http://127.0.0.1:1/', timeout: 3s, events: []}\n",
			want: []Webhook{
				with(func(w *Webhook) { w.Timeout, w.Events = 2*time.Second, []events.Kind{"RouteHeld"} }),
				with(func(w *Webhook) { w.Name, w.URL, w.Timeout = "b", "http://127.0.0.1:1/", 3*time.Second }),
			},
		},
		"a variable for each": {
			yaml: "webhooks:\n- url: https://h.example/x\n- {name: b, url: 'https://h.example/x', timeout: 3s}\n",
			env:  []string{"SENTINELPROXY_WEBHOOK_TIMEOUT=9s"},
			want: []Webhook{
				with(func(w *Webhook) { w.Timeout = 9 * time.Second }),
				with(func(w *Webhook) { w.Name, w.Timeout = "b", 9*time.Second }),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := mustLoad(t, tt.args, tt.env, fsys(tt.yaml))
			if !slices.EqualFunc(cfg.Webhooks, tt.want, Webhook.equal) {
				t.Errorf("webhooks\n got %+v\nwant %+v", cfg.Webhooks, tt.want)
			}
			if len(cfg.Warnings) > 0 {
				t.Errorf("warnings %v", cfg.Warnings)
			}
			if s := fmt.Sprintf("%+v %#v", cfg, cfg.Webhooks); strings.Contains(s, "s3cret") || strings.Contains(s, "example/x") {
				t.Errorf("printing it tells a secret: %s", s)
			}
		})
	}
	cfg := mustLoad(t, []string{"--webhook-url", "http://hooks.example/"}, nil, fsys(""))
	if len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], "without TLS") {
		t.Errorf("warnings %v; want one of TLS", cfg.Warnings)
	}
}

func TestWebhookMistakes(t *testing.T) {
	for name, tt := range map[string]struct {
		yaml      string
		args, env []string
		want      string
	}{
		"no URL":          {yaml: "webhook: {url: 'T0PS3CRET'}\n", want: "c.yaml:2: webhook.url: it does not begin with http:// or https://; want http://host/path"},
		"a bad URL":       {yaml: "webhook: {url: 'https://h/%zzT0PS3CRET'}\n", want: "c.yaml:2: webhook.url: it is no URL; want"},
		"no host":         {args: []string{"--webhook-url", "https:///T0PS3CRET"}, want: "--webhook-url: the host is missing; want"},
		"a bad port":      {env: []string{"SENTINELPROXY_WEBHOOK_URL=https://h:99999/T0PS3CRET"}, want: "SENTINELPROXY_WEBHOOK_URL: the port is not valid; want"},
		"a list as URL":   {yaml: "webhook: {url: ['https://T0PS3CRET']}\n", want: "c.yaml:2: webhook.url: found a list; want"},
		"unknown event":   {yaml: "webhooks:\n- url: https://h\n  events:\n  - RouteHeld\n  - RouteHold\n", want: `c.yaml:6: webhooks[0].events[1]: found "RouteHold"; want an event such as RouteChanged, or "all" (did you mean "RouteHeld"?)`},
		"severity":        {args: []string{"--webhook-url", "https://h", "--webhook-min-severity", "warn"}, want: `--webhook-min-severity: found "warn"; want "info", "warning" or "critical"`},
		"timeout":         {args: []string{"--webhook-url", "https://h", "--webhook-timeout", "1ms"}, want: `--webhook-timeout: found "1ms"; want a duration from 100ms to 1m`},
		"without a URL":   {yaml: "webhook: {timeout: 1s}\n", want: "c.yaml:2: webhook.timeout: is set, and there is no webhook"},
		"entry without":   {yaml: "webhooks:\n- name: a\n", want: "c.yaml:3: webhooks[0].url: is missing; want where to send events"},
		"shared":          {yaml: "webhook: {url: 'https://h'}\nwebhooks:\n- url: https://h\n", want: "c.yaml:2: webhook.url: the file has webhooks (line 3); want url in each entry of it"},
		"flag and list":   {yaml: "webhooks:\n- url: https://g\n- url: https://h\n", args: []string{"--webhook-url", "https://T0PS3CRET"}, want: "--webhook-url: the file c.yaml has 2 webhooks; want url in each entry of webhooks instead"},
		"same name":       {yaml: "webhooks:\n- url: https://h/1\n- url: https://h/2\n", want: `c.yaml:4: webhooks[1].name: found "h", which another webhook has already (c.yaml:3: webhooks[0].name); want a name for each`},
		"a master's key":  {yaml: "webhooks:\n- {url: 'https://h', listen: ':1'}\n", want: "c.yaml:3: webhooks[0].listen: no such setting"},
		"a process' key":  {yaml: "webhooks:\n- {url: 'https://h', admin: ':1'}\n", want: "c.yaml:3: webhooks[0].admin: is of the whole process"},
		"no list":         {yaml: "webhooks: https://T0PS3CRET\n", want: "c.yaml:2: webhooks: found one value; want a list with one entry per webhook"},
		"a bare entry":    {yaml: "webhooks:\n- https://T0PS3CRET\n", want: "c.yaml:3: webhooks[0]: found one value; want keys and values"},
		"a bare webhook":  {yaml: "webhook: https://T0PS3CRET\n", want: "c.yaml:2: webhook: found one value; want keys and values"},
		"no secret file":  {args: []string{"--webhook-url", "https://h", "--webhook-secret-file", "nope"}, want: `--webhook-secret-file: found "nope"; want a file that holds a secret in one line`},
		"two lines in it": {args: []string{"--webhook-url", "https://h", "--webhook-secret-file", "two"}, want: `(the file holds more than one line)`},
		"no CA file":      {args: []string{"--webhook-url", "https://h", "--webhook-ca-file", "nope"}, want: `--webhook-ca-file: found "nope"; want a readable PEM file`},
		"no CA in it":     {args: []string{"--webhook-url", "https://h", "--webhook-ca-file", "two"}, want: `--webhook-ca-file: found "two"; want a PEM file with certificates of authorities (it holds none)`},
		"too many":        {yaml: "webhooks:\n" + strings.Repeat("- url: https://h\n", 17), want: "c.yaml:2: webhooks: found 17 webhooks; want at most 16"},
		"days":            {yaml: "certificates: {warning_threshold_days: 0}\n", want: `c.yaml:2: certificates.warning_threshold_days: found "0"; want a number from 1 to 3650`},
		"check":           {args: []string{"--certificates-check-cooldown-seconds", "1h"}, want: `found "1h"; want a number of seconds`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, tt.args, tt.env, files{"c.yaml": "sentinels: s\n" + tt.yaml, "two": "T0PS3CRET\nb\n"})
			lines := mistakesOf(t, err)
			if len(lines) != 1 || !strings.Contains(lines[0], tt.want) {
				t.Errorf("mistakes\n got %q\nwant %q", lines, tt.want)
			}
			if strings.Contains(err.Error(), "T0PS3CRET") {
				t.Errorf("a mistake tells a secret: %v", err)
			}
		})
	}
}

func TestWebhookChanges(t *testing.T) {
	base := files{"key": "a", "c.yaml": "sentinels: s\nwebhook: {url: 'https://h', secret_file: key}\ncertificates: {warning_threshold_days: 10}\n"}
	running := mustLoad(t, nil, nil, base)
	if c := Changes(running, mustLoad(t, nil, nil, base)); len(c) != 0 {
		t.Errorf("unchanged: %v", c)
	}
	rotated := files{"key": "b", "c.yaml": base["c.yaml"]}
	if c := Changes(running, mustLoad(t, nil, nil, rotated)); !slices.Equal(c, []Change{{"", "webhooks", true}}) {
		t.Errorf("a new secret: %v", c)
	}
	other := files{"key": "a", "c.yaml": strings.Replace(base["c.yaml"], "10", "20", 1)}
	if c := Changes(running, mustLoad(t, nil, nil, other)); !slices.Equal(c, []Change{{"", "certificates.warning_threshold_days", true}}) {
		t.Errorf("another threshold: %v", c)
	}
}
