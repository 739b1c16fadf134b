package config

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/allow"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

func TestDefaults(t *testing.T) {
	cfg := mustLoad(t, []string{"--sentinel", "s1"}, nil, nil)
	if len(cfg.Masters) != 1 {
		t.Fatalf("%d masters; want 1", len(cfg.Masters))
	}
	m := cfg.Masters[0]
	want := Master{
		Name: "mymaster", Listen: []Listen{{Network: "tcp", Address: "127.0.0.1:6379"}}, Sentinels: []topology.Addr{"s1:26379"},
		Auth: AuthPassthrough, Hold: Hold{Timeout: Wait{Auto: true}, Max: Wait{Auto: true}},
		Follow: FollowMajority, Fence: FenceLease,
		RetryWrites: RetryNever, Demote: DemoteOff, MaxClients: 10000, LargeCommand: 1 << 20, QueryBuffer: 256 << 20,
		Output: []OutputLimit{
			{Class: OutputNormal, Hard: 256 << 20},
			{Class: OutputPubSub, Hard: 32 << 20, Soft: 8 << 20, For: time.Minute},
		},
		Allow:       allow.List{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
		SlowCommand: Wait{For: time.Second}, Keepalive: Wait{For: 5 * time.Minute}, RedisKeepalive: Wait{For: time.Minute}, MaxUserPipes: 1024,
		TLS:      TLS{MinVersion: tls.VersionTLS12, ClientAuth: ClientAuthNone},
		RedisTLS: TLS{MinVersion: tls.VersionTLS12}, SentinelTLS: TLS{MinVersion: tls.VersionTLS12},
		Deny: []string{"SHUTDOWN", "REPLICAOF", "SLAVEOF", "FAILOVER", "SYNC", "PSYNC", "REPLCONF", "DEBUG", "CLIENT|PAUSE"},
	}
	if got, want := fmt.Sprintf("%+v", m), fmt.Sprintf("%+v", want); got != want {
		t.Errorf("master\n got %s\nwant %s", got, want)
	}
	if cfg.Admin.Listen != "127.0.0.1:9180" || cfg.Admin.Probes != "" || cfg.Admin.Insecure || cfg.Admin.PProf || cfg.DrainTimeout != 10*time.Second || cfg.LogLevel != slog.LevelInfo || cfg.LogFormat != LogText {
		t.Errorf("process settings %+v; want the defaults", cfg)
	}
}

func TestPrecedence(t *testing.T) {
	yaml := "sentinels: [s1]\nhold: {timeout: 1s}\n"
	env := []string{"SENTINELPROXY_HOLD_TIMEOUT=2s"}
	flag := []string{"--hold-timeout=3s"}
	for name, tt := range map[string]struct {
		args, env []string
		want      string
	}{
		"file":                     {nil, nil, "1s"},
		"variable over file":       {nil, env, "2s"},
		"flag over variable":       {flag, env, "3s"},
		"flag over file":           {flag, nil, "3s"},
		"empty variable is no one": {nil, []string{"SENTINELPROXY_HOLD_TIMEOUT="}, "1s"},
		"last flag wins":           {[]string{"--hold-timeout=3s", "--hold-timeout=off"}, env, "off"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := mustLoad(t, tt.args, tt.env, files{"c.yaml": yaml})
			if got := cfg.Masters[0].Hold.Timeout.String(); got != tt.want {
				t.Errorf("hold.timeout %s; want %s", got, tt.want)
			}
		})
	}
}

func TestSizes(t *testing.T) {
	for v, want := range map[string]int{
		"0": 0, "1000000": 1000000, "16k": 16000, "16KB": 16 << 10, "1m": 1e6, "1Mb": 1 << 20, "2g": 2e9, "1gb": 1 << 30, "7b": 7,
	} {
		if got, err := parseSize(v); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", v, got, err, want)
		}
	}
	for _, v := range []string{"", "mb", "1tb", "-1", "1.5mb", "1 mb", "99999999999999999999", "9999999999gb", "0x10", "1kbkb"} {
		if got, err := parseSize(v); err == nil {
			t.Errorf("parseSize(%q) = %d; want an error", v, got)
		}
	}
	m := mustLoad(t, nil, []string{"SENTINELPROXY_OUTPUT_BUFFER_LIMIT=normal 1gb 64mb 10"}, files{"c.yaml": "sentinels: [s]\nlarge_command: 4mb\n"}).Masters[0]
	if m.LargeCommand != 4<<20 || m.QueryBuffer != 256<<20 {
		t.Errorf("large_command %d, query_buffer_limit %d", m.LargeCommand, m.QueryBuffer)
	}
	if got := m.OutputLimit(OutputNormal).String(); got != "normal 1gb 64mb 10" {
		t.Errorf("output_buffer_limit %q", got)
	}
	if got := m.OutputLimit(OutputPubSub).String(); got != "pubsub 32mb 8mb 60" {
		t.Errorf("output_buffer_limit %q; a class that is not named keeps its default", got)
	}
}

func TestRepeatedValues(t *testing.T) {
	cfg := mustLoad(t, []string{"--listen", ":1,unix:/a", "--listen", "[::1]:2"}, []string{"SENTINELPROXY_SENTINEL=S1, [fe80::1]:7,fe80::2"}, nil)
	m := cfg.Masters[0]
	if got := joined(m.Listen); got != ":1,unix:/a,[::1]:2" {
		t.Errorf("listen %s", got)
	}
	if got := joined(m.Sentinels); got != "s1:26379,[fe80::1]:7,[fe80::2]:26379" {
		t.Errorf("sentinels %s", got)
	}
}

// A rule has commas of its own, so several are told apart by semicolons.
func TestOutage(t *testing.T) {
	yaml := "sentinels: s\noutage:\n  after: 1500ms\n  policy:\n    - read:apikey-*=stale\n    - GET,HGETALL:rate-*=nil\n    - write=error\n"
	for name, tt := range map[string]struct {
		args, env    []string
		after, rules string
	}{
		"file":     {nil, nil, "1.5s", "read:apikey-*=stale; GET,HGETALL:rate-*=nil; write=error"},
		"variable": {nil, []string{"SENTINELPROXY_OUTAGE_POLICY=GET,TTL:a=nil; read=stale", "SENTINELPROXY_OUTAGE_AFTER=0"}, "0s", "GET,TTL:a=nil; read=stale"},
		"flags":    {[]string{"--outage-policy=GET,TTL:a,b=nil", "--outage-policy=read=stale", "--outage-after=auto"}, nil, "auto", "GET,TTL:a,b=nil; read=stale"},
	} {
		t.Run(name, func(t *testing.T) {
			o := mustLoad(t, tt.args, tt.env, files{"c.yaml": yaml}).Masters[0].Outage
			if o.After.String() != tt.after || o.Policy.String() != tt.rules {
				t.Errorf("after %s, policy %s; want %s, %s", o.After.String(), o.Policy, tt.after, tt.rules)
			}
		})
	}
}

func TestDenyCommands(t *testing.T) {
	for yaml, want := range map[string]string{
		"deny_commands: []":                         "",
		"deny_commands: none":                       "",
		"deny_commands: [flushall, 'client|pause']": "FLUSHALL,CLIENT|PAUSE",
	} {
		cfg := mustLoad(t, []string{"--sentinel=s"}, nil, files{"c.yaml": yaml + "\n"})
		if got := strings.Join(cfg.Masters[0].Deny, ","); got != want {
			t.Errorf("%s: denied %q; want %q", yaml, got, want)
		}
	}
	for _, bad := range []string{"", "a b", "|x", "x|", "a|b|c", "a\tb", strings.Repeat("x", 129)} {
		if _, err := parseCommand(bad); err == nil {
			t.Errorf("%q is taken for a command", bad)
		}
	}
}

func TestSeveralMasters(t *testing.T) {
	cfg := mustLoad(t, []string{"--max-clients=7"}, nil, files{
		"pw": "hunter2\n", "c.yaml": `
sentinels: [s1, s2]
hold: {timeout: 1s}
masters:
  - {name: a, listen: ":1"}
  - name: b
    listen: ":2"
    multiplex: false
    sentinels: s3
    auth: none
    redis:
      password_file: pw
    hold:
      timeout: 2s
`,
	})
	a, b := cfg.Masters[0], cfg.Masters[1]
	if a.Name != "a" || b.Name != "b" {
		t.Fatalf("names %s and %s; want a and b", a.Name, b.Name)
	}
	if joined(a.Sentinels) != "s1:26379,s2:26379" || joined(b.Sentinels) != "s3:26379" {
		t.Errorf("sentinels %v and %v; want the defaults for a alone", a.Sentinels, b.Sentinels)
	}
	if a.Hold.Timeout.For != time.Second || b.Hold.Timeout.For != 2*time.Second {
		t.Errorf("hold.timeout %v and %v; want 1s and 2s", a.Hold.Timeout, b.Hold.Timeout)
	}
	if a.Auth != AuthPassthrough || b.Auth != AuthNone || b.Redis.Password.Reveal() != "hunter2" {
		t.Errorf("accounts: a %+v, b %+v", a, b)
	}
	if a.Dedicated || !b.Dedicated {
		t.Errorf("multiplex %v and %v; want true, and false for b alone", !a.Dedicated, !b.Dedicated)
	}
	if a.MaxClients != 7 || b.MaxClients != 7 {
		t.Errorf("max_clients %d and %d; want the flag's 7 for both", a.MaxClients, b.MaxClients)
	}
}

func TestFlagsServeOneMasterOfTheFile(t *testing.T) {
	cfg := mustLoad(t, []string{"--listen=:9", "--master=z"}, nil, files{"c.yaml": "masters: [{name: a, listen: ':1', sentinels: s}]"})
	if m := cfg.Masters[0]; m.Name != "z" || joined(m.Listen) != ":9" {
		t.Errorf("master %s at %v; want z at :9", m.Name, m.Listen)
	}
}

func TestMistakes(t *testing.T) {
	for name, tt := range map[string]struct {
		args, env []string
		yaml      string
		pw        string // content of the file pw
		want      []string
	}{
		"no sentinel, misspelt": {
			env: []string{"SENTINELPROXY_SENTINELS=s"},
			want: []string{
				`--sentinel: is missing; want at least one Sentinel's host:port`,
				`SENTINELPROXY_SENTINELS: is no setting and is ignored; did you mean SENTINELPROXY_SENTINEL?`,
			},
		},
		"no sentinel": {want: []string{`--sentinel: is missing; want at least one Sentinel's host:port`}},
		"all at once": {
			args: []string{"--hold-timeout=5"}, env: []string{"SENTINELPROXY_AUTH=pasthrough"},
			yaml: "sentinels: s1\n\nlog:\n  level: infos\n  formt: json\nloops: -1\n",
			want: []string{
				`c.yaml:5: log.formt: no such setting; did you mean log.format?`,
				`c.yaml:6: loops: found "-1"; want a number from 0 to 256; 0 chooses`,
				`c.yaml:4: log.level: found "infos"; want "debug", "info", "warn" or "error" (did you mean "info"?)`,
				`SENTINELPROXY_AUTH: found "pasthrough"; want "passthrough" or "none" (did you mean "passthrough"?)`,
				`--hold-timeout: found "5"; want a duration such as 5s, "auto", or "off" (the unit is missing; did you mean "5s"?)`,
			},
		},
		"sizes": {
			args: []string{"--sentinel=s", "--large-command=1", "--output-buffer-limit=pubsub 32mb 8mb 60,pubsub 0 0 0"},
			env:  []string{"SENTINELPROXY_QUERY_BUFFER_LIMIT=2gb"},
			yaml: "large_command: 1 MiB\nquery_buffer_limit: lots\noutput_buffer_limit:\n  - pubsub 32mb\n  - replica 1mb 0 0\n  - pubsub 1mb 2mb 1\n  - normal 64 0 0\n  - normal 1mb 0 1m\n",
			want: []string{
				`c.yaml:1: large_command: found "1 MiB"; want a size from 16kb to 64mb, such as 1mb (did you mean "1mb"?)`,
				`c.yaml:2: query_buffer_limit: found "lots"; want a size from 1mb to 1gb, such as 256mb`,
				`c.yaml:4: output_buffer_limit[0]: found "pubsub 32mb"; want CLASS HARD SOFT SECONDS such as "pubsub 32mb 8mb 60", CLASS being normal or pubsub, 0 no limit (it has 2 words)`,
				`c.yaml:5: output_buffer_limit[1]: found "replica 1mb 0 0"; want CLASS HARD SOFT SECONDS such as "pubsub 32mb 8mb 60", CLASS being normal or pubsub, 0 no limit (class "replica": want "normal" or "pubsub")`,
				`c.yaml:6: output_buffer_limit[2]: found "pubsub 1mb 2mb 1"; want CLASS HARD SOFT SECONDS such as "pubsub 32mb 8mb 60", CLASS being normal or pubsub, 0 no limit (the soft limit 2mb is above the hard one 1mb)`,
				`c.yaml:7: output_buffer_limit[3]: found "normal 64 0 0"; want CLASS HARD SOFT SECONDS such as "pubsub 32mb 8mb 60", CLASS being normal or pubsub, 0 no limit (size "64": less than 1mb would cut off clients that do read)`,
				`c.yaml:8: output_buffer_limit[4]: found "normal 1mb 0 1m"; want CLASS HARD SOFT SECONDS such as "pubsub 32mb 8mb 60", CLASS being normal or pubsub, 0 no limit (seconds "1m": want a number from 0 to 86400)`,
				`--large-command: found "1"; want a size from 16kb to 64mb, such as 1mb (it is less than 16kb)`,
				`SENTINELPROXY_QUERY_BUFFER_LIMIT: found "2gb"; want a size from 1mb to 1gb, such as 256mb (it is more than 1gb)`,
				`--output-buffer-limit: found "pubsub" twice; want each class once`,
			},
		},
		"fast without signs": {
			args: []string{"--sentinel=s", "--follow=fast"}, yaml: "fence:\n  mode: off\n  demote: atuo\n",
			want: []string{
				`c.yaml:3: fence.demote: found "atuo"; want "off" or "auto" (did you mean "auto"?)`,
				`--follow: found "fast" with fence.mode "off"; want fence.mode "lease" or "events", whose signs it needs`,
			},
		},
		"outage": {
			args: []string{"--sentinel=s", "--outage-policy=GET,TTL:a*=nil; write=nil", "--outage-policy=SET=stale"},
			env:  []string{"SENTINELPROXY_OUTAGE_AFTER=off"},
			yaml: "outage:\n  after: 2\n  policy:\n    - read:apikey-*=stale\n    - any=stale\n    - read: stale\n    - GET\n    - GET=open\n",
			want: []string{
				`c.yaml:6: outage.policy[2]: found keys and values; want WHAT[:KEYS]=ANSWER such as read:apikey-*=stale, WHAT being read`,
				`c.yaml:2: outage.after: found "2"; want a duration such as 2s, 0s for at once, or "auto" (the unit is missing; did you mean "2s"?)`,
				`c.yaml:5: outage.policy[1]: found "any=stale"; want WHAT[:KEYS]=ANSWER such as read:apikey-*=stale, WHAT being read, write, any or commands, ANSWER being error, stale or nil (stale is for reads only; did you mean "read=stale"?)`,
				`c.yaml:7: outage.policy[3]: found "GET"; want WHAT[:KEYS]=ANSWER such as read:apikey-*=stale, WHAT being read, write, any or commands, ANSWER being error, stale or nil (the answer is missing)`,
				`c.yaml:8: outage.policy[4]: found "GET=open"; want WHAT[:KEYS]=ANSWER such as read:apikey-*=stale, WHAT being read, write, any or commands, ANSWER being error, stale or nil (answer "open": want "error", "stale" or "nil")`,
				`SENTINELPROXY_OUTAGE_AFTER: found "off"; want a duration such as 2s, 0s for at once, or "auto" (0s: nothing waits`,
				`--outage-policy: found "write=nil"; want WHAT[:KEYS]=ANSWER such as read:apikey-*=stale, WHAT being read, write, any or commands, ANSWER being error, stale or nil (nil is for reads only; a write can only fail)`,
				`--outage-policy: found "SET=stale"; want WHAT[:KEYS]=ANSWER such as read:apikey-*=stale, WHAT being read, write, any or commands, ANSWER being error, stale or nil (SET is no command that only reads the keys it names; stale is for those)`,
			},
		},
		"too many rules": {
			args: []string{"--sentinel=s", "--outage-policy=" + strings.Repeat("GET=nil;", 256) + "GET=nil"},
			want: []string{`--outage-policy: found 257 rules; want at most 256`},
		},
		"a mistake that a flag hides": {
			args: []string{"--loops=1", "--sentinel=s"}, yaml: "loops: x",
			want: []string{`c.yaml:1: loops: found "x"; want a number from 0 to 256; 0 chooses`},
		},
		"near misses": {
			yaml: "sentinals: s\nmaster_name: x\nhold: {timeot: 1s}\nwhatever: 1\nSentinels: s\n",
			want: []string{
				`c.yaml:1: sentinals: no such setting; did you mean sentinels?`,
				`c.yaml:2: master_name: no such setting; want one of admin, admin.insecure, `,
				`c.yaml:3: hold.timeot: no such setting; did you mean hold.timeout?`,
				`c.yaml:4: whatever: no such setting; want one of admin, admin.insecure, `,
				`c.yaml:5: Sentinels: no such setting; did you mean sentinels?`,
				`--sentinel: is missing`,
			},
		},
		"given twice": {
			yaml: "sentinels: s\nloops: 1\nloops: 2\n",
			want: []string{`c.yaml:3: loops: given twice; first in line 2`},
		},
		"wrong shapes": {
			yaml: "sentinels: {a: b}\nloops: [1]\nhold: 5s\nlog:\nadmin:\nlisten: []\nauth: &x none\n",
			want: []string{
				`c.yaml:1: sentinels: found keys and values; want host:port`,
				`c.yaml:2: loops: found a list; want a number`,
				`c.yaml:3: hold: found "5s"; want keys and values`,
				`c.yaml:4: log: found no value; want keys and values`,
				`c.yaml:5: admin: found no value; want host:port, or "off"`,
				`c.yaml:6: listen: found an empty list; want host:port, :port, tls://host:port or unix:/path`,
				`c.yaml:7: auth: found an anchor or alias, which are not supported; want "passthrough" or "none"`,
				`--sentinel: is missing`,
			},
		},
		"in a list": {
			yaml: "sentinels:\n  - s1\n  - 'bad one'\n  - {}\n",
			want: []string{
				`c.yaml:4: sentinels[2]: found keys and values; want host:port`,
				`c.yaml:3: sentinels[1]: found "bad one"; want host:port`,
			},
		},
		"syntax":        {yaml: "a: 1\nb: [\n", want: []string{`c.yaml:2: not valid YAML: `}},
		"a list":        {args: []string{"--sentinel=s"}, yaml: "- a\n", want: []string{`c.yaml:1: found a list; want keys and values`}},
		"two documents": {args: []string{"--sentinel=s"}, yaml: "loops: 1\n---\nloops: 2\n", want: []string{`c.yaml:3: a second YAML document; want one`}},
		"masters: not a list": {
			yaml: "sentinels: s\nmasters: {a: b}\n",
			want: []string{`c.yaml:2: masters: found keys and values; want a list with one entry per master`},
		},
		"masters: incomplete": {
			yaml: "masters:\n  - {}\n  - name: b\n    log: {level: info}\n    hold: {max: of}\n",
			want: []string{
				`c.yaml:4: masters[1].log: no such setting`,
				`c.yaml:5: masters[1].hold.max: found "of"; want a duration such as 10s, "auto", or "off" (did you mean "off"?)`,
				`c.yaml:2: masters[0].name: is missing; want the name the Sentinels know the group by`,
				`c.yaml:2: masters[0].listen: is missing; with several masters each needs its own address`,
				`c.yaml:2: masters[0].sentinels: is missing`,
				`c.yaml:3: masters[1].listen: is missing`,
				`c.yaml:3: masters[1].sentinels: is missing`,
			},
		},
		"masters: what they can't share": {
			args: []string{"--listen=:1"}, env: []string{"SENTINELPROXY_MASTER=x"},
			yaml: "master: y\nsentinels: s\nmasters: [{name: a, listen: ':1'}, {name: b, listen: ':2'}]\n",
			want: []string{
				`--listen: the file c.yaml has 2 masters; want listen in each entry of masters instead`,
				`c.yaml:1: master: the file has masters (line 3); want name in each entry of it`,
				`SENTINELPROXY_MASTER: the file c.yaml has 2 masters; want name in each entry of masters instead`,
			},
		},
		"masters: claimed twice": {
			yaml: "admin: '127.0.0.1:1'\nsentinels: s\nmasters:\n  - {name: a, listen: '127.0.0.1:1', state_file: f}\n  - name: a\n    listen: [':0', ':0', ':2', ':2']\n    state_file: f\n",
			want: []string{
				`c.yaml:4: masters[0].listen: found "127.0.0.1:1", which the admin server has already`,
				`c.yaml:5: masters[1].name: found "a", which master "a" has already`,
				`c.yaml:7: masters[1].state_file: found "f", which master "a" has already`,
				`c.yaml:6: masters[1].listen[0]: found ":2", which master "a" has already`,
			},
		},
		"masters: a shared default is told once": {
			yaml: "sentinels: 's:x'\nmasters: [{name: a, listen: ':1'}, {name: b, listen: ':2'}]\n",
			want: []string{`c.yaml:1: sentinels: found "s:x"; want host:port`},
		},
		"addresses": {
			args: []string{"--sentinel=s", "--listen=6379", "--listen=/a", "--listen=::1", "--listen=unix:a", "--listen=h:99999", "--listen=a b:1", "--admin="},
			want: []string{
				`--listen: found "6379"; want host:port, :port, tls://host:port or unix:/path (did you mean ":6379"?)`,
				`--listen: found "/a"; want host:port, :port, tls://host:port or unix:/path (did you mean "unix:/a"?)`,
				`--listen: found "::1"; want host:port, :port, tls://host:port or unix:/path (did you mean "[::1]:6379"?)`,
				`--listen: found "unix:a"; want host:port, :port, tls://host:port or unix:/path (a socket's path starts with /)`,
				`--listen: found "h:99999"; want host:port, :port, tls://host:port or unix:/path (port "99999": want a number up to 65535)`,
				`--listen: found "a b:1"; want host:port`,
				`--admin: found ""; want host:port, or "off"`,
			},
		},
		"connections": {
			args: []string{
				"--sentinel=s", "--allow-clients=10.0.0.5/8,here,::1", "--idle-timeout=300", "--tcp-keepalive=10ms", "--redis-tcp-keepalive=of",
				"--max-user-pipes=0",
			},
			want: []string{
				`--allow-clients: found "10.0.0.5/8"; want a network such as 10.0.0.0/8, an address, or "any" (did you mean the network 10.0.0.0/8, or the address 10.0.0.5?)`,
				`--allow-clients: found "here"; want a network such as 10.0.0.0/8, an address, or "any" (it is neither an address nor a network)`,
				`--idle-timeout: found "300"; want a duration of 1s or more such as 5m, or "off" (the unit is missing; did you mean "300s"?)`,
				`--tcp-keepalive: found "10ms"; want a duration of 1s or more such as 5m, or "off" (it counts in seconds)`,
				`--max-user-pipes: found "0"; want a number from 1 to 100000`,
				`--redis-tcp-keepalive: found "of"; want a duration of 1s or more such as 1m, or "off" (did you mean "off"?)`,
			},
		},
		"nobody allowed": {
			args: []string{"--sentinel=s"}, yaml: "allow_clients: []\n",
			want: []string{`c.yaml:1: allow_clients: found an empty list; want a network such as 10.0.0.0/8, an address, or "any"`},
		},
		"too many networks": {
			args: []string{"--sentinel=s", "--allow-clients=" + strings.Repeat("10.0.0.1,", 256) + "10.0.0.1"},
			want: []string{`--allow-clients: found 257 networks; want at most 256`},
		},
		"too many Sentinels": {
			args: []string{"--sentinel=" + strings.Repeat("s,", 32) + "s"},
			want: []string{`--sentinel: found 33 Sentinels; want at most 32`},
		},
		"auth must be named": {
			args: []string{"--sentinel=s", "--redis-password-file=pw"}, pw: "x",
			want: []string{`--auth: must be named when a Redis password file is set; want "passthrough"`},
		},
		"user without password": {
			args: []string{"--sentinel=s", "--redis-user=u"}, env: []string{"SENTINELPROXY_SENTINEL_USER=v"},
			want: []string{
				`--redis-user: found "u" without a password; want --redis-password-file, or redis.password_file`,
				`SENTINELPROXY_SENTINEL_USER: found "v" without a password; want --sentinel-password-file`,
			},
		},
		"no password file": {
			args: []string{"--sentinel=s", "--sentinel-password-file=no"},
			want: []string{`--sentinel-password-file: found "no"; want a file that holds a password in one line (cannot read the file: file does not exist)`},
		},
		"empty password file": {
			args: []string{"--sentinel=s", "--sentinel-password-file=pw"}, pw: "\n",
			want: []string{`--sentinel-password-file: found "pw"; want a file that holds a password in one line (the file is empty)`},
		},
		"password in two lines": {
			args: []string{"--sentinel=s", "--sentinel-password-file=pw"}, pw: "secret\nsecret\n",
			want: []string{`--sentinel-password-file: found "pw"; want a file that holds a password in one line (the file holds more than one line)`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := files{}
			if tt.yaml != "" {
				fsys["c.yaml"] = tt.yaml
			}
			if tt.pw != "" {
				fsys["pw"] = tt.pw
			}
			_, err := load(t, tt.args, tt.env, fsys)
			got := mistakesOf(t, err)
			ok := slices.EqualFunc(got, tt.want, strings.HasPrefix)
			if !ok {
				t.Errorf("mistakes:\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(tt.want, "\n     "))
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	_, err := load(t, []string{"--config=no.yaml"}, nil, nil) // which has the Sentinels, for all we know
	want := "no.yaml: cannot read the configuration file: file does not exist"
	if got := mistakesOf(t, err); len(got) != 1 || got[0] != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

func TestFileFromEnvironment(t *testing.T) {
	fsys := files{"e.yaml": "sentinels: s\nloops: 3\n"}
	cfg, err := Load(Sources{Environ: []string{"SENTINELPROXY_CONFIG=e.yaml"}, ReadFile: fsys.read})
	if err != nil || cfg.Masters[0].Loops != 3 || cfg.File != "e.yaml" {
		t.Errorf("got %+v, %v; want loops 3 from e.yaml", cfg, err)
	}
}

func TestStrangeVariables(t *testing.T) {
	cfg := mustLoad(t, []string{"--sentinel=s"}, []string{
		"SENTINELPROXY_SENTINELS=s", "SENTINELPROXY_PORT=tcp://10.0.0.1:6379", "SENTINELPROXY_SERVICE_HOST=10.0.0.1",
		"SENTINELPROXY_PORT_6379_TCP=x", "SENTINELPROXY_SOMETHING_ELSE=1", "PATH=/bin",
	}, nil)
	want := "SENTINELPROXY_SENTINELS is no setting and is ignored; did you mean SENTINELPROXY_SENTINEL?"
	if len(cfg.Warnings) != 1 || cfg.Warnings[0] != want {
		t.Errorf("warnings %q; want %q alone", cfg.Warnings, want)
	}
}

func TestPasswordIsTrimmedOnce(t *testing.T) {
	for content, want := range map[string]string{"a": "a", "a\n": "a", "a\r\n": "a", " a ": " a "} {
		cfg := mustLoad(t, []string{"--sentinel=s", "--auth=none", "--redis-password-file=pw"}, nil, files{"pw": content})
		if got := cfg.Masters[0].Redis.Password.Reveal(); got != want {
			t.Errorf("file %q gives %q; want %q", content, got, want)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	cfg := mustLoad(t, []string{"--sentinel=s", "--auth=none", "--redis-password-file=pw"}, nil, files{"pw": "hunter2"})
	var log strings.Builder
	l := slog.New(slog.NewJSONHandler(&log, nil))
	l.Info("x", "password", cfg.Masters[0].Redis.Password, "login", cfg.Masters[0].Redis, "all", cfg)
	js, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg), log.String(), string(js)} {
		if strings.Contains(s, "hunter2") {
			t.Errorf("the password shows in %s", s)
		}
		if !strings.Contains(s, redacted) {
			t.Errorf("no %s in %s", redacted, s)
		}
	}
}
