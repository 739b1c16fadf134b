package proxy

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/sentinelproxy/sentinelproxy/internal/outage"
	"github.com/sentinelproxy/sentinelproxy/internal/resp"
)

// class says how a command travels.
type class uint8

// The classes. The zero value is what an unknown command gets: it may change the
// state of its connection, so it pins.
const (
	classSticky class = iota // keeps its connection from then on: unknown, or state no pipe can carry
	classShared              // stateless: travels on a shared pipe
	classScan                // stateless, but carries a cursor that is good for one node: see cursor.go
	classScript              // stateless; names a script or carries one: see script.go
	classOwn                 // stateless but unbounded, or about what is: a connection of its own for the call
	classLocal               // answered here, or turned into a move to another pipe
	classMulti
	classExec
	classDiscard
	classWatch
	classUnwatch
	classBlock     // may block: a connection of its own for the call
	classMayBlock  // blocks if it has a BLOCK argument
	classWait      // as classBlock, behind a PING that makes its connection aware of all earlier writes (FAILOVER.md 3.4)
	classSubscribe // SUBSCRIBE and kin, and their UN- forms
	classDenied    // refused: Options.DenyCommands names it
	classContainer // its subcommand decides
)

// resend says what may happen to a command whose reply was lost (FAILOVER.md 4).
type resend uint8

const (
	resendNever resend = iota // it may have run and may not run twice
	resendLeast               // with RetryAlways: it may do more, or answer otherwise, the second time
	resendSame                // with RetryIdempotent, if its arguments allow it
	resendRead                // it changes nothing: always safe
)

// command is what the sidecar knows of one command. It is immutable.
type command struct {
	id     int    // its place in worker.tallies; 0: it is counted with all that have no name there
	name   string // upper case; container and subcommand joined by "|"
	class  class
	resend resend
	local  localFunc
	again  *idempotent // with resendSame: when
	wide   bool        // depends on more than the keys it names
	// whileBusy says that Redis executes it while a script runs too long, in whatever database.
	whileBusy bool
	admits    bool         // it may change whom Redis lets in
	read      *outage.Read // it only reads the keys it names: an outage policy may answer it
	sub       bool         // a subcommand: its name in one word is no command
}

// write reports whether a success may be lost with the master that gave it.
func (c *command) write() bool { return c.resend != resendRead }

// mayBeStale reports whether a replica may be asked: the command is proven to read
// and nothing else, and its answer does not depend on the node.
func (c *command) mayBeStale() bool {
	return c.read != nil && c.class == classShared && c.resend == resendRead
}

// commands finds a command by its name. It is immutable and safe for concurrent
// use.
type commands struct {
	all     []*command
	short   [512]shortEntry // names of at most 8 bytes, open addressing
	long    map[string]*command
	unknown *command
}

type shortEntry struct {
	key uint64
	n   int
	cmd *command
}

// newCommands builds the table: the classes of Redis' commands with the
// corrections that experiments gave (FAILOVER.md 6.2), less those that are denied.
func newCommands(deny []string) *commands {
	t := &commands{long: make(map[string]*command)}
	t.unknown = t.add("unknown", classSticky, resendLeast, nil)
	for _, n := range sharedReads() {
		t.add(n, classShared, resendRead, nil)
	}
	same := sharedSameReply()
	for _, n := range slices.Sorted(maps.Keys(same)) {
		again := same[n]
		c := classShared
		if n == "SCRIPT|LOAD" {
			c = classScript
		}
		t.add(n, c, resendSame, nil).again = &again
	}
	for _, list := range [][]string{sharedSameState(), sharedWrites(), sharedAdmin()} {
		for _, n := range list {
			c := classShared
			if n == "SCRIPT|FLUSH" {
				c = classScript
			}
			t.add(n, c, resendLeast, nil)
		}
	}
	for _, n := range sharedNever() {
		t.add(n, classShared, resendNever, nil)
	}
	for _, n := range []string{"PING", "ECHO"} {
		t.add(n, classShared, resendRead, nil) // forwarded: they tell the truth about the path
	}
	for _, n := range []string{"SCAN", "HSCAN", "SSCAN", "ZSCAN"} {
		t.add(n, classScan, resendRead, nil)
	}
	for _, n := range []string{"EVAL_RO", "EVALSHA_RO"} {
		t.add(n, classScript, resendRead, nil)
	}
	for _, n := range []string{"EVAL", "EVALSHA"} {
		t.add(n, classScript, resendLeast, nil)
	}
	t.add("KEYS", classOwn, resendRead, nil)
	t.add("MIGRATE", classOwn, resendLeast, nil)
	// Behind a script that never ends, on the same connection, they would wait for it.
	t.add("SCRIPT|KILL", classOwn, resendLeast, nil)
	t.add("FUNCTION|KILL", classOwn, resendLeast, nil)
	t.add("FUNCTION|STATS", classOwn, resendRead, nil)
	t.add("CLIENT|UNPAUSE", classOwn, resendLeast, nil) // so would it behind a write that is paused
	t.add("MULTI", classMulti, resendRead, nil)
	t.add("EXEC", classExec, resendLeast, nil)
	t.add("DISCARD", classDiscard, resendRead, nil)
	t.add("WATCH", classWatch, resendRead, nil)
	t.add("UNWATCH", classUnwatch, resendRead, nil)
	for _, n := range []string{
		"BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN",
	} {
		t.add(n, classBlock, resendLeast, nil)
	}
	t.add("WAIT", classWait, resendRead, nil)
	t.add("WAITAOF", classWait, resendRead, nil)
	t.add("XREAD", classMayBlock, resendRead, nil)
	t.add("XREADGROUP", classMayBlock, resendLeast, nil)
	for _, n := range []string{
		"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE",
	} {
		t.add(n, classSubscribe, resendRead, nil)
	}
	for _, n := range []string{
		"CLIENT|TRACKING", "CLIENT|CACHING", "CLIENT|NO-TOUCH", "CLIENT|NO-EVICT", "MONITOR", "SCRIPT|DEBUG", "READONLY", "READWRITE", "ASKING",
		"HIMPORT", // sets of fields that live as long as the connection, though its flags say write
	} {
		t.add(n, classSticky, resendRead, nil)
	}
	// A client that tracks has a connection of its own, where they are asked; any other
	// connection says what is true of those that do not.
	for _, n := range []string{"CLIENT|HELP", "CLIENT|TRACKINGINFO", "CLIENT|GETREDIR"} {
		t.add(n, classShared, resendRead, nil)
	}
	// Another master, or the same one started anew, must not get these again. Some
	// end or take over their connection.
	for _, n := range []string{"SHUTDOWN", "REPLICAOF", "SLAVEOF", "FAILOVER", "DEBUG"} {
		t.add(n, classOwn, resendNever, nil)
	}
	for _, n := range []string{"SYNC", "PSYNC", "REPLCONF"} {
		t.add(n, classSticky, resendNever, nil)
	}
	t.add("CLIENT|PAUSE", classShared, resendNever, nil)
	for n, f := range localCommands() {
		t.add(n, classLocal, resendRead, f)
	}
	for _, n := range []string{"CLIENT|KILL", "CLIENT|UNBLOCK"} {
		t.shared(n).resend = resendLeast // where they are forwarded
	}
	for _, n := range []string{
		"ACL", "CLIENT", "COMMAND", "CONFIG", "FUNCTION", "LATENCY", "MEMORY", "MODULE", "OBJECT", "PUBSUB",
		"SCRIPT", "SLOWLOG", "XGROUP", "XINFO",
	} {
		t.add(n, classContainer, resendRead, nil)
	}
	for _, n := range []string{"SCRIPT|KILL", "FUNCTION|KILL", "FUNCTION|STATS", "SHUTDOWN"} {
		t.shared(n).whileBusy = true
	}
	for _, n := range wideCommands() {
		t.shared(n).wide = true
	}
	for _, n := range admitting() {
		t.shared(n).admits = true
	}
	for n, r := range outage.Reads() {
		if cmd := t.shared(n); cmd.resend == resendRead && cmd != t.unknown {
			cmd.read = r
		}
	}
	for _, n := range deny {
		t.deny(n)
	}
	return t
}

// DefaultDenied returns the commands that are refused unless Options.DenyCommands
// says otherwise: what turns the connection into something else, moves the master
// behind Sentinel's back, or stops it.
func DefaultDenied() []string {
	return []string{"SHUTDOWN", "REPLICAOF", "SLAVEOF", "FAILOVER", "SYNC", "PSYNC", "REPLCONF", "DEBUG", "CLIENT|PAUSE"}
}

// deny has a command refused, also one that the table does not know, and with a
// container all its subcommands.
func (t *commands) deny(name string) {
	name = strings.ToUpper(name)
	if container, _, ok := strings.Cut(name, "|"); ok {
		switch c := t.shared(container); {
		case c == t.unknown:
			t.add(container, classContainer, resendRead, nil)
		case c.class != classContainer && c.class != classDenied:
			c.class = classContainer // its other forms become unknown, which is safe
		}
	}
	cmd := t.shared(name)
	if cmd == t.unknown {
		cmd = t.add(name, classDenied, resendRead, nil)
	}
	cmd.class, cmd.resend = classDenied, resendRead
}

// KnownCommands returns the names of the commands that the sidecar knows, in upper
// case, subcommands behind a "|".
func KnownCommands() []string {
	var names []string
	for _, c := range newCommands(nil).all[1:] {
		names = append(names, c.name)
	}
	return names
}

func (t *commands) add(name string, c class, r resend, f localFunc) *command {
	cmd := &command{id: len(t.all), name: name, class: c, resend: r, local: f, sub: strings.Contains(name, "|")}
	t.all = append(t.all, cmd)
	if len(name) > 8 {
		t.long[name] = cmd
		return cmd
	}
	key := foldShort([]byte(name))
	for i := slotOf(key, len(name)); ; i = (i + 1) % uint64(len(t.short)) {
		if e := &t.short[i]; e.cmd == nil {
			*e = shortEntry{key: key, n: len(name), cmd: cmd}
			return cmd
		}
	}
}

// foldShort packs a name of at most 8 bytes into a word, without the bit that
// tells upper from lower case. It also joins some bytes that are not letters,
// which does no harm: such a name is only forwarded, and Redis refuses it.
func foldShort(name []byte) uint64 {
	var k uint64
	for _, c := range name {
		k = k<<8 | uint64(c&^0x20)
	}
	return k
}

func slotOf(key uint64, n int) uint64 { return ((key + uint64(n)) * 0x9e3779b97f4a7c15) >> 55 }

// find returns what is known of a complete command in array form.
func (t *commands) find(frame []byte) *command {
	name, next := resp.Arg(frame, 0)
	cmd := t.byName(name)
	switch {
	case cmd.sub: // the bar is ours, Redis knows no such name
		return t.unknown
	case cmd == t.unknown:
		return t.deniedAlias(frame)
	case cmd.class != classContainer:
		return cmd
	}
	sub, n := resp.Arg(frame, next)
	if n == 0 && resp.Count(frame) == 1 { // else it is too long to be there yet
		return t.shared("CONFIG|HELP") // a container alone only earns an error from Redis
	}
	if cmd = t.subcommand(cmd, sub); cmd == t.unknown {
		return t.deniedAlias(frame)
	}
	return cmd
}

// deniedAlias returns the denied command that Redis may take one with null bytes for: it
// compares names up to there (strcasecmp), those that fall into the same slot of its table
// by chance. Other such commands are unknown.
func (t *commands) deniedAlias(frame []byte) *command {
	name, next := resp.Arg(frame, 0)
	sub, _ := resp.Arg(frame, next)
	name, _, odd := bytes.Cut(name, []byte{0})
	sub, _, oddSub := bytes.Cut(sub, []byte{0})
	if !odd && !oddSub {
		return t.unknown
	}
	cmd := t.byName(name)
	switch {
	case cmd.sub:
		return t.unknown
	case cmd.class == classContainer:
		cmd = t.subcommand(cmd, sub)
	}
	if cmd.class != classDenied {
		return t.unknown
	}
	return cmd
}

func (t *commands) byName(name []byte) *command {
	if len(name) <= 8 {
		key := foldShort(name)
		for i := slotOf(key, len(name)); ; i = (i + 1) % uint64(len(t.short)) {
			e := &t.short[i]
			if e.cmd == nil {
				return t.unknown
			}
			if e.key == key && e.n == len(name) {
				return e.cmd
			}
		}
	}
	return t.byLongName(name)
}

// maxName is the longest name that is known, with that of a subcommand; longer ones
// are unknown, and deny_commands takes none (internal/config).
const maxName = 128

func (t *commands) byLongName(name []byte) *command {
	var buf [maxName]byte
	if len(name) > len(buf) {
		return t.unknown
	}
	n := copy(buf[:], name)
	upper(buf[:n])
	if cmd, ok := t.long[string(buf[:n])]; ok {
		return cmd
	}
	return t.unknown
}

func (t *commands) subcommand(container *command, sub []byte) *command {
	var buf [maxName]byte
	n := copy(buf[:], container.name)
	if n+1+len(sub) > len(buf) {
		return t.unknown
	}
	buf[n] = '|'
	m := n + 1 + copy(buf[n+1:], sub)
	upper(buf[:m])
	return t.byName(buf[:m])
}

func (t *commands) shared(name string) *command { return t.byName([]byte(name)) }

func upper(b []byte) {
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - ('a' - 'A')
		}
	}
}
