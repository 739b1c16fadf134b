package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/allow"
	"github.com/sentinelproxy/sentinelproxy/internal/outage"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// scope says how many values a setting has.
type scope uint8

const (
	ofProcess    scope = 1 + iota // one
	ofMaster                      // one per master; at the top level it is every master's default
	ofOnly                        // one per master, and no two may share it: no default for several
	ofWebhook                     // one per webhook; below webhook it is every webhook's default
	ofOneWebhook                  // as ofOnly, of webhooks
)

// list returns the key of the list whose entries have such settings; "" is none.
func (s scope) list() string {
	switch s {
	case ofMaster, ofOnly:
		return listMasters
	case ofWebhook, ofOneWebhook:
		return listWebhooks
	case ofProcess:
	}
	return ""
}

// only reports whether no two entries may share it.
func (s scope) only() bool { return s == ofOnly || s == ofOneWebhook }

// The lists of the YAML file.
const (
	listMasters  = "masters"
	listWebhooks = "webhooks"
)

// setting is one row of the table: everything about one setting.
type setting struct {
	flag   string // without the dashes; the variable's name follows from it
	key    string // in the YAML file's top level; dots nest
	short  string // the key that may hold its value alone, in the place of a section; "": none
	scope  scope
	repeat bool   // takes several values; a flag or variable also splits at sep
	sep    string // "" is a comma
	none   string // what an empty list in the file stands for; "": it is a mistake
	kind   string // of value, for the usage text
	def    string // as it would be written; "" for none
	want   string // what is valid, for mistakes: "want ..."
	usage  string // one line
	live   bool   // SIGHUP applies a change
	hidden bool   // its value may hold a secret: no mistake quotes it

	// set parses one value into t; a repeated one adds to it. The error is a
	// detail beside want, or errPlain.
	set func(t target, v string) error
	// show writes the value as set would read it, for comparing.
	show func(t target) string
}

// target is where values go: the process, and one master and one webhook of it.
type target struct {
	*Config
	*Master

	hook *Webhook
}

// nowhere returns a target whose values nobody reads.
func nowhere() target { return target{new(Config), new(Master), new(Webhook)} }

// env returns the name of the setting's environment variable.
func (s setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.flag, "-", "_"))
}

// entryKey returns the setting's key in an entry of its list.
func (s setting) entryKey() string {
	if s.key == "master" {
		return "name"
	}
	if s.scope.list() == listWebhooks {
		return strings.TrimPrefix(s.key, "webhook.")
	}
	return s.key
}

// split returns the values in one flag or variable.
func (s setting) split(v string) []string {
	if !s.repeat {
		return []string{v}
	}
	var vs []string
	for part := range strings.SplitSeq(v, s.separator()) {
		vs = append(vs, strings.TrimSpace(part))
	}
	return vs
}

func (s setting) separator() string { return cmp.Or(s.sep, ",") }

// into makes a setting's set: it parses the value and stores it in the field.
func into[T any](field func(target) *T, parse func(string) (T, error)) func(target, string) error {
	return func(t target, v string) error {
		x, err := parse(v)
		if err == nil {
			*field(t) = x
		}
		return err
	}
}

// addTo is [into] for a repeated setting: it appends the value.
func addTo[T any](field func(target) *[]T, parse func(string) (T, error)) func(target, string) error {
	return func(t target, v string) error {
		x, err := parse(v)
		if err == nil {
			*field(t) = append(*field(t), x)
		}
		return err
	}
}

// counted parses a number within bounds.
func counted(least, most int) func(string) (int, error) {
	return func(v string) (int, error) { return parseCount(v, least, most) }
}

// joined shows a repeated setting.
func joined[T fmt.Stringer](xs []T) string {
	parts := make([]string, len(xs))
	for i, x := range xs {
		parts[i] = x.String()
	}
	return strings.Join(parts, ",")
}

// settings returns the table, in the order of the reference page.
func settings() []setting {
	return slices.Concat(clientSettings(), listenerTLSSettings(), groupSettings(), nodeTLSSettings(redisLeg()),
		nodeTLSSettings(sentinelLeg()), adminSettings(), processSettings(), webhookSettings(), certificateSettings())
}

// clientSettings are about those who connect to us.
func clientSettings() []setting {
	return []setting{
		{
			flag: "listen", key: "listen", scope: ofOnly, repeat: true, kind: "address", def: "127.0.0.1:6379",
			want:  `want host:port, :port, tls://host:port or unix:/path`,
			usage: "where clients connect: host:port, :port for every interface, tls:// before either for TLS, or unix:/path; repeatable",
			set:   addTo(func(t target) *[]Listen { return &t.Listen }, parseListen),
			show:  func(t target) string { return joined(t.Listen) },
		},
		{
			flag: "auth", key: "auth", scope: ofMaster, kind: "mode",
			want:  `want "passthrough" or "none"`,
			usage: "whose account commands run under: passthrough (each client logs in to Redis as itself) or none (all use the sidecar's account); passthrough unless a Redis password file is set, then it must be named",
			set: into(func(t target) *Auth { return &t.Auth }, func(v string) (Auth, error) {
				return parseChoice(v, AuthPassthrough, AuthNone)
			}),
			show: func(t target) string { return string(t.Auth) },
		},
		{
			flag: "max-clients", key: "max_clients", scope: ofMaster, kind: "count", def: "10000",
			want:  "want a number from 1 to 1000000",
			usage: "most client connections at once; more are refused with an error",
			set:   into(func(t target) *int { return &t.MaxClients }, counted(1, 1_000_000)),
			show:  func(t target) string { return strconv.Itoa(t.MaxClients) },
		},
		{
			flag: "large-command", key: "large_command", scope: ofMaster, kind: "size", def: "1mb",
			want:  "want a size from 16kb to 64mb, such as 1mb",
			usage: "size past which a command, or a reply, is passed on in pieces as it comes instead of being collected; the command gets a connection of its own",
			set:   into(func(t target) *int { return &t.LargeCommand }, sized(16<<10, 64<<20)),
			show:  func(t target) string { return sizeString(t.LargeCommand) },
		},
		{
			flag: "query-buffer-limit", key: "query_buffer_limit", scope: ofMaster, kind: "size", def: "256mb",
			want:  "want a size from 1mb to 1gb, such as 256mb",
			usage: "how much is read ahead of a client that sends commands without reading their replies; past it the client is not read until it reads",
			set:   into(func(t target) *int { return &t.QueryBuffer }, sized(1<<20, 1<<30)),
			show:  func(t target) string { return sizeString(t.QueryBuffer) },
		},
		{
			flag: "output-buffer-limit", key: "output_buffer_limit", scope: ofMaster, repeat: true, kind: "limit",
			def:   "normal 256mb 0 0,pubsub 32mb 8mb 60",
			want:  `want CLASS HARD SOFT SECONDS such as "pubsub 32mb 8mb 60", CLASS being normal or pubsub, 0 no limit`,
			usage: "when a client that does not read is cut off: at so many bytes unread (hard), or (soft) for so many seconds; by class, as Redis' client-output-buffer-limit; repeatable; a class that is not named keeps its default",
			set:   addTo(func(t target) *[]OutputLimit { return &t.Output }, parseOutputLimit),
			show: func(t target) string {
				return joined([]OutputLimit{t.OutputLimit(OutputNormal), t.OutputLimit(OutputPubSub)})
			},
		},
		{
			flag: "allow-clients", key: "allow_clients", scope: ofMaster, repeat: true, kind: "network", def: "any", live: true,
			want:  `want a network such as 10.0.0.0/8, an address, or "any"`,
			usage: "whence clients may connect: networks and addresses, or any; repeatable. Others are closed without a word. Unix sockets are open in any case; sentinel_listen takes whom any master takes",
			set: func(t target, v string) error {
				l, err := allow.Parse(v)
				if err == nil {
					t.Allow = append(t.Allow, l...)
				}
				return err
			},
			show: func(t target) string { return t.Allow.String() },
		},
		{
			flag: "idle-timeout", key: "idle_timeout", scope: ofMaster, kind: "duration", def: "off",
			want:  `want a duration of 1s or more such as 5m, or "off"`,
			usage: "how long a client may be silent before it is disconnected, as by Redis' timeout: never subscribers, clients of a blocking call or of MONITOR, nor while their commands are held",
			set:   into(func(t target) *Wait { return &t.IdleTimeout }, parseSeconds),
			show:  func(t target) string { return t.IdleTimeout.String() },
		},
		{
			flag: "tcp-keepalive", key: "tcp_keepalive", scope: ofMaster, kind: "duration", def: "5m",
			want:  `want a duration of 1s or more such as 5m, or "off"`,
			usage: "how long a client may be silent before the kernel asks whether it is there, as Redis' tcp-keepalive: one that is gone is noticed after twice as long",
			set:   into(func(t target) *Wait { return &t.Keepalive }, parseSeconds),
			show:  func(t target) string { return t.Keepalive.String() },
		},
		{
			flag: "max-user-pipes", key: "max_user_pipes", scope: ofMaster, kind: "count", def: "1024",
			want:  "want a number from 1 to 100000",
			usage: "most shared connections to the master of one event loop: one for each login, database and protocol version in use; unused ones are closed after a minute, or make room; where none can, an error",
			set:   into(func(t target) *int { return &t.MaxUserPipes }, counted(1, 100_000)),
			show:  func(t target) string { return strconv.Itoa(t.MaxUserPipes) },
		},
		{
			flag: "slow-command", key: "slow_command", scope: ofMaster, kind: "duration", def: "1s",
			want:  `want a duration of 1ms or more such as 250ms, or "off"`,
			usage: "how long a command takes at least to be logged as slow, without its arguments, waits for a master included; those that are meant to wait, such as BLPOP, never are",
			set:   into(func(t target) *Wait { return &t.SlowCommand }, parseMillis),
			show:  func(t target) string { return t.SlowCommand.String() },
		},
		{
			flag: "loops", key: "loops", scope: ofMaster, kind: "count", def: "0",
			want:  "want a number from 0 to 256; 0 chooses",
			usage: "event loops; 0 means half the processors, at least one",
			set:   into(func(t target) *int { return &t.Loops }, counted(0, 256)),
			show:  func(t target) string { return strconv.Itoa(t.Loops) },
		},
		{
			flag: "multiplex", key: "multiplex", scope: ofMaster, kind: "true|false", def: "true",
			want:  `want "true" or "false"`,
			usage: "whether clients share backend connections; false gives each client one of its own for life: full fidelity (docs/protocol.md), at one connection to the master per client",
			set: into(func(t target) *bool { return &t.Dedicated }, func(v string) (bool, error) {
				c, err := parseChoice(v, "true", "false")
				return c == "false", err
			}),
			show: func(t target) string { return strconv.FormatBool(!t.Dedicated) },
		},
		{
			flag: "deny-commands", key: "deny_commands", scope: ofMaster, repeat: true, none: "none", kind: "command",
			def:   "SHUTDOWN,REPLICAOF,SLAVEOF,FAILOVER,SYNC,PSYNC,REPLCONF,DEBUG,CLIENT|PAUSE",
			want:  `want a command such as FLUSHALL or CLIENT|PAUSE, or "none"`,
			usage: "commands that are refused with an error, subcommands behind a vertical bar; repeatable; none, or an empty list: Redis judges them all",
			set: func(t target, v string) error {
				name, err := parseCommand(v)
				if err == nil && name != "" {
					t.Deny = append(t.Deny, name)
				}
				return err
			},
			show: func(t target) string { return strings.Join(t.Deny, ",") },
		},
		{
			flag: "hold-timeout", key: "hold.timeout", scope: ofMaster, kind: "duration", def: "auto",
			want:  `want a duration such as 5s, "auto", or "off"`,
			usage: "how long one command waits through a failover; auto is down-after + 5s, at most 40s; off or 0s: commands never wait",
			set:   into(func(t target) *Wait { return &t.Hold.Timeout }, parseWait),
			show:  func(t target) string { return t.Hold.Timeout.String() },
		},
		{
			flag: "hold-max", key: "hold.max", scope: ofMaster, kind: "duration", def: "auto",
			want:  `want a duration such as 10s, "auto", or "off"`,
			usage: "how long the route holds before commands fail at once; auto as for hold-timeout; off or 0s: for as long as it takes",
			set:   into(func(t target) *Wait { return &t.Hold.Max }, parseWait),
			show:  func(t target) string { return t.Hold.Max.String() },
		},
		{
			flag: "outage-after", key: "outage.after", scope: ofMaster, kind: "duration", def: "auto", live: true,
			want:  `want a duration such as 2s, 0s for at once, or "auto"`,
			usage: "how long no master may have been served before an outage begins; auto is hold-timeout, and what gets an error still waits for its own hold-timeout; with a duration nothing waits beyond it, with 0s nothing waits at all",
			set:   into(func(t target) *After { return &t.Outage.After }, parseAfter),
			show:  func(t target) string { return t.Outage.After.String() },
		},
		{
			flag: "outage-policy", key: "outage.policy", scope: ofMaster, repeat: true, sep: ";", kind: "rule", live: true,
			want:  `want WHAT[:KEYS]=ANSWER such as read:apikey-*=stale, WHAT being read, write, any or commands, ANSWER being error, stale or nil`,
			usage: "what commands get in an outage, by rules of which the first that matches decides: read:apikey-*=stale (from a replica), GET,HGETALL:rate-*=nil (as if the key were missing), write=error; error where none matches; repeatable, with semicolons between rules",
			set:   addTo(func(t target) *[]outage.Rule { return (*[]outage.Rule)(&t.Outage.Policy) }, outage.ParseRule),
			show:  func(t target) string { return t.Outage.Policy.String() },
		},
		{
			flag: "retry-writes", key: "retry.writes", scope: ofMaster, kind: "mode", def: string(RetryNever),
			want:  `want "never", "idempotent" or "always"`,
			usage: "what becomes of a write whose reply was lost: never (it is answered -UNCERTAIN), idempotent (sent again if it may run twice with the same end and the same reply), or always (sent again: it runs at least once)",
			set: into(func(t target) *RetryWrites { return &t.RetryWrites }, func(v string) (RetryWrites, error) {
				return parseChoice(v, RetryNever, RetryIdempotent, RetryAlways)
			}),
			show: func(t target) string { return string(t.RetryWrites) },
		},
		{
			flag: "sentinel-announce", key: "sentinel_announce", scope: ofMaster, kind: "address",
			want:  "want host:port or a host that clients can connect to",
			usage: "address that clients of sentinel_listen are sent to, host:port or host; by default the listen address or, where that is every interface, the one at which the client reached sentinel_listen",
			set:   into(func(t target) *Announce { return &t.Announce }, parseAnnounce),
			show:  func(t target) string { return t.Announce.String() },
		},
	}
}

// groupSettings are about the Redis nodes and their Sentinels.
func groupSettings() []setting {
	return []setting{
		{
			flag: "master", key: "master", scope: ofOnly, kind: "name", def: "mymaster",
			want:  "want the name the Sentinels know the group by, one word",
			usage: "the master's name, as the Sentinels know it",
			set:   into(func(t target) *string { return &t.Name }, parseName),
			show:  func(t target) string { return t.Name },
		},
		{
			flag: "sentinel", key: "sentinels", scope: ofMaster, repeat: true, kind: "address",
			want:  "want host:port; the port may be left out if it is 26379",
			usage: "a Sentinel's address, host:port; repeatable; those it names are followed too",
			set:   addTo(func(t target) *[]topology.Addr { return &t.Sentinels }, parseSentinel),
			show:  func(t target) string { return joined(t.Sentinels) },
		},
		{
			flag: "redis-user", key: "redis.user", scope: ofMaster, kind: "name",
			want: "want a user's name, one word", usage: "the sidecar's own ACL user on the Redis nodes",
			set:  into(func(t target) *string { return &t.Redis.User }, parseName),
			show: func(t target) string { return t.Redis.User },
		},
		{
			flag: "redis-password-file", key: "redis.password_file", scope: ofMaster, kind: "path", live: true,
			want: "want a file's path", usage: "file with the sidecar's own Redis password; a changed file is noticed within seconds",
			set:  into(func(t target) *string { return &t.Redis.PasswordFile }, parsePath),
			show: func(t target) string { return t.Redis.PasswordFile },
		},
		{
			flag: "redis-tcp-keepalive", key: "redis.tcp_keepalive", scope: ofMaster, kind: "duration", def: "1m",
			want:  `want a duration of 1s or more such as 1m, or "off"`,
			usage: "tcp_keepalive of the connections that carry commands to Redis; on Linux one that takes nothing for twice as long is given up, too",
			set:   into(func(t target) *Wait { return &t.RedisKeepalive }, parseSeconds),
			show:  func(t target) string { return t.RedisKeepalive.String() },
		},
		{
			flag: "sentinel-user", key: "sentinel.user", scope: ofMaster, kind: "name",
			want: "want a user's name, one word", usage: "the sidecar's ACL user on the Sentinels",
			set:  into(func(t target) *string { return &t.Sentinel.User }, parseName),
			show: func(t target) string { return t.Sentinel.User },
		},
		{
			flag: "sentinel-password-file", key: "sentinel.password_file", scope: ofMaster, kind: "path", live: true,
			want: "want a file's path", usage: "file with the sidecar's password on the Sentinels; a changed file is noticed within seconds",
			set:  into(func(t target) *string { return &t.Sentinel.PasswordFile }, parsePath),
			show: func(t target) string { return t.Sentinel.PasswordFile },
		},
		{
			flag: "follow", key: "follow", scope: ofMaster, kind: "mode", def: string(FollowMajority),
			want:  `want "majority" or "fast"`,
			usage: "when to go on to a new master: majority (a majority of the Sentinels names it) or fast (about a second earlier: it was promoted, and the old master is demoted by the sidecar or gone; its Redis account needs REPLICAOF)",
			set: into(func(t target) *FollowMode { return &t.Follow }, func(v string) (FollowMode, error) {
				return parseChoice(v, FollowMajority, FollowFast)
			}),
			show: func(t target) string { return string(t.Follow) },
		},
		{
			flag: "fence-mode", key: "fence.mode", scope: ofMaster, kind: "mode", def: string(FenceLease),
			want:  `want "lease", "events" or "off"`,
			usage: "what stops writes that may be lost: lease (no Sentinel majority and not every replica confirms the master in time), events (a sign of a failover alone), or off",
			set: into(func(t target) *FenceMode { return &t.Fence }, func(v string) (FenceMode, error) {
				return parseChoice(v, FenceLease, FenceEvents, FenceOff)
			}),
			show: func(t target) string { return string(t.Fence) },
		},
		{
			flag: "fence-demote", key: "fence.demote", scope: ofMaster, kind: "mode", def: string(DemoteOff),
			want:  `want "off" or "auto"`,
			usage: "what becomes of a deposed master: off (Sentinel demotes it, some 10s later) or auto (the sidecar does once a majority names the new one; its Redis account needs REPLICAOF)",
			set: into(func(t target) *DemoteMode { return &t.Demote }, func(v string) (DemoteMode, error) {
				return parseChoice(v, DemoteOff, DemoteAuto)
			}),
			show: func(t target) string { return string(t.Demote) },
		},
		{
			flag: "state-file", key: "state_file", scope: ofMaster, kind: "path",
			want: "want a file's path", usage: "file that keeps the last verified master, for a start while every Sentinel is away; one per master",
			set:  into(func(t target) *string { return &t.StateFile }, parsePath),
			show: func(t target) string { return t.StateFile },
		},
	}
}

// processSettings are about the process as a whole.
func processSettings() []setting {
	return []setting{
		{
			flag: "sentinel-listen", key: "sentinel_listen", scope: ofProcess, kind: "address", def: "off",
			want:  `want host:port or :port, or "off"`,
			usage: "where clients that are configured for Sentinel find the sidecar as if it were one, for all masters (docs/sentinel-endpoint.md); off: nowhere",
			set:   into(func(t target) *string { return &t.SentinelListen }, parseBindOrOff),
			show:  func(t target) string { return t.SentinelListen },
		},
		{
			flag: "control", key: "control.listen", scope: ofProcess, kind: "address", def: "off",
			want:  `want unix:/path, or "off"`,
			usage: "where to take orders such as a switchover: unix:/path, a socket that only the sidecar's own user may open; off: nowhere",
			set: into(func(t target) *string { return &t.Control.Socket }, func(v string) (string, error) {
				if v == "off" {
					return "", nil
				}
				ln, err := parseListen(v)
				if err == nil && ln.Network != "unix" {
					err = errPlain
				}
				return ln.Address, err
			}),
			show: func(t target) string { return t.Control.Socket },
		},
		{
			flag: "control-token-file", key: "control.token_file", scope: ofProcess, kind: "path", live: true,
			want:  "want a file's path",
			usage: "file with a token of 16 characters or more; with it the admin server takes the same orders, from whoever sends the token",
			set:   into(func(t target) *string { return &t.Control.TokenFile }, parsePath),
			show:  func(t target) string { return t.Control.TokenFile },
		},
		{
			flag: "drain-timeout", key: "drain_timeout", scope: ofProcess, kind: "duration", def: "10s",
			want:  "want a duration such as 10s",
			usage: "how long a stop waits for commands in flight before it ends their connections",
			set:   into(func(t target) *time.Duration { return &t.DrainTimeout }, parseDuration),
			show:  func(t target) string { return t.DrainTimeout.String() },
		},
		{
			flag: "log-level", key: "log.level", scope: ofProcess, kind: "level", def: "info", live: true,
			want: `want "debug", "info", "warn" or "error"`, usage: "least level that is logged: debug, info, warn or error",
			set: into(func(t target) *slog.Level { return &t.LogLevel }, func(v string) (slog.Level, error) {
				word, err := parseChoice(v, "debug", "info", "warn", "error")
				if err != nil {
					return 0, err
				}
				var l slog.Level
				return l, l.UnmarshalText([]byte(word))
			}),
			show: func(t target) string { return strings.ToLower(t.LogLevel.String()) },
		},
		{
			flag: "log-format", key: "log.format", scope: ofProcess, kind: "format", def: string(LogText),
			want: `want "text" or "json"`, usage: "how log lines are written: text or json",
			set: into(func(t target) *LogFormat { return &t.LogFormat }, func(v string) (LogFormat, error) {
				return parseChoice(v, LogText, LogJSON)
			}),
			show: func(t target) string { return string(t.LogFormat) },
		},
	}
}
