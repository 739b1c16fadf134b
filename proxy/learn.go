package proxy

import (
	"slices"
	"strings"
	"time"

	"github.com/sentinelproxy/sentinelproxy/internal/resp"
	"github.com/sentinelproxy/sentinelproxy/topology"
)

// The built-in table does not know the commands of modules and of later versions. A
// command that it does not know pins, and has the master asked for its COMMAND table,
// off the data path (learner.go). What that table proves to be stateless is shared
// from then on, and sessions that only such commands have pinned are set free.

// learnt is what one run of one master told of commands that the built-in table does
// not know. It is immutable.
type learnt struct {
	addr  topology.Addr
	epoch uint64
	asked time.Duration // when it was asked for; since boot
	all   map[string]*command
}

const (
	// learntMax is the age at which a table that is in use is read anew: modules may
	// have been loaded and unloaded.
	learntMax = 10 * time.Minute
	// wantEvery is how often one loop asks for a table at most.
	wantEvery = time.Second
	// maxLearnt bounds the commands that are learnt; more stay unknown.
	maxLearnt = 1 << 14
)

// proven lists the flags that a command may have which is shared. Whatever else a
// master says of a command, also what later versions may come to say, keeps it on its
// own connection.
//
// What each of the others may mean: blocking waits, pubsub subscribes, noscript has
// state or waits (MULTI, SUBSCRIBE, CLIENT and BLPOP all have it), admin and
// no_auth change the connection or the node, asking and no_multi belong to a state,
// may_replicate and no_mandatory_keys run what is not seen, skip_monitor carries
// secrets, and a login is one.
func proven() []string {
	return []string{
		"write", "readonly", "denyoom", "fast", "movablekeys", "module", "loading", "stale", "no_async_loading",
		"random", "sort_for_script",
	}
}

// renamable lists commands that have keys and must not travel as they are. A master
// that does not list one of them may list it under another name.
func renamable() []string { return []string{"HSCAN", "SSCAN", "ZSCAN", "MIGRATE"} }

// learn reads COMMAND's reply. What known has is left out.
func learn(reply resp.Value, known *commands) *learnt {
	l := &learnt{all: make(map[string]*command)}
	names := make(map[string]bool)
	for _, c := range reply.Elem {
		if len(c.Elem) > 0 {
			names[strings.ToUpper(string(c.Elem[0].Str))] = true
		}
	}
	into := lesson{l, known, slices.ContainsFunc(renamable(), func(n string) bool { return !names[n] })}
	for _, c := range reply.Elem {
		into.add(c, "")
	}
	return l
}

// lesson is a table that is being learnt.
type lesson struct {
	*learnt

	known   *commands
	renamed bool // commands may be listed under other names than their own
}

// add takes one command: name, arity, flags, first key, last key, step, ACL
// categories, tips, key specifications, subcommands. The last four are missing in
// older versions.
func (l lesson) add(c resp.Value, container string) {
	if len(c.Elem) < 6 || len(l.all) >= maxLearnt {
		return
	}
	name := strings.ToUpper(string(c.Elem[0].Str))
	if container != "" && !strings.HasPrefix(name, container+"|") {
		name = container + "|" + name
	}
	if name == "" || len(name) > maxName {
		return
	}
	var subs []resp.Value
	if len(c.Elem) > 9 && container == "" {
		subs = c.Elem[9].Elem
	}
	if l.known.shared(name) == l.known.unknown {
		cmd := &command{name: name, class: classSticky, resend: resendLeast, wide: true, sub: container != ""}
		if len(subs) > 0 {
			cmd.class = classContainer
		} else if module, reads, ok := judgeFlags(c); ok && (module || !l.renamed) {
			cmd.class = classShared
			if reads && !module { // a module's may take what it returns (FT.CURSOR READ does)
				cmd.resend = resendRead
			}
		}
		l.all[name] = cmd
	}
	for _, sub := range subs {
		l.add(sub, name)
	}
}

// judgeFlags reports whether what the master says of a command proves that it may
// share its connection: it reads or writes keys that it names, and says of itself
// nothing else. Commands without keys are not trusted: modules flag as readonly what
// waits for jobs (RedisGears) or sets options (RediSearch).
func judgeFlags(c resp.Value) (module, reads, ok bool) {
	writes := false
	for _, f := range c.Elem[2].Elem {
		flag := string(f.Str)
		if !slices.Contains(proven(), flag) {
			return false, false, false
		}
		module = module || flag == "module"
		reads = reads || flag == "readonly"
		writes = writes || flag == "write"
	}
	return module, reads && !writes, (reads || writes) && keyed(c)
}

// keyed reports whether a command names keys.
func keyed(c resp.Value) bool {
	return c.Elem[3].Int() > 0 || len(c.Elem) > 8 && len(c.Elem[8].Elem) > 0 ||
		slices.ContainsFunc(c.Elem[2].Elem, func(f resp.Value) bool { return string(f.Str) == "movablekeys" })
}

// find returns what is known of a command in array form; nil if nothing is.
func (l *learnt) find(frame []byte) *command {
	var buf [maxName]byte
	name, next := resp.Arg(frame, 0)
	n := copy(buf[:], name)
	if n < len(name) {
		return nil
	}
	upper(buf[:n])
	if cmd := l.all[string(buf[:n])]; cmd != nil && cmd.class != classContainer && !cmd.sub {
		return cmd
	}
	sub, end := resp.Arg(frame, next)
	if end == 0 || n+1+len(sub) > len(buf) {
		return nil
	}
	buf[n] = '|'
	m := n + 1 + copy(buf[n+1:], sub)
	upper(buf[:m])
	return l.all[string(buf[:m])]
}

// find returns what is known of a command in array form, by the built-in table or
// from the master that is served.
func (w *worker) find(frame []byte) *command {
	cmd := w.cmds.find(frame)
	if cmd == w.cmds.unknown && w.learnt != nil {
		if l := w.learnt.find(frame); l != nil && !w.distrusted[l.name] {
			return l
		}
	}
	return cmd
}

// distrust has a command that was learnt travel alone from now on, if the front of p
// waits for one: its connection is silent while the master answers on others, so it
// blocks although its flags do not say so.
func (w *worker) distrust(p *pipe) {
	e := p.queue.front()
	if p.owner != nil || e.s == nil || e.cmd.class != classShared || w.cmds.shared(e.cmd.name) != w.cmds.unknown {
		return
	}
	w.log.Warn("a module's command seems to block without saying so, and is not shared any more", "command", e.cmd.name, "addr", p.addr)
	if w.distrusted == nil {
		w.distrusted = make(map[string]bool)
	}
	w.distrusted[e.cmd.name] = true
}

// wanted asks for the table of a master, as it was at lost or later.
type wanted struct {
	addr  topology.Addr
	epoch uint64
	lost  time.Duration // when a connection to it was lost: it may be another process since; 0: none was
}

// lookUp is find for a command that a client has sent and that the built-in table
// does not know. It has the master asked for its own, where that may help.
func (w *worker) lookUp(frame []byte) *command {
	cmd := w.find(frame)
	if cmd == w.cmds.unknown || w.second-w.learnt.asked > learntMax {
		w.wantCommands()
	}
	return cmd
}

func (w *worker) wantCommands() {
	if w.opts.Dedicated || !w.serving || w.now() < w.wantAt {
		return
	}
	w.wantAt = w.now() + wantEvery
	w.host.learn(wanted{addr: w.route.Master, epoch: w.route.Epoch, lost: w.learntLost})
}

// setLearnt takes what a master has told, unless it is not of the one that is served.
func (w *worker) setLearnt(l *learnt) {
	if l.addr != w.route.Master || l.epoch != w.route.Epoch || l.asked <= w.learntLost {
		return
	}
	w.learnt = l
	for own := range w.owns {
		if s := own.owner; s != nil {
			s.settleDoubts()
		}
	}
	w.pump()
}

// unlearn forgets what the master has told: another process may answer from now on.
func (w *worker) unlearn() {
	w.learnt, w.learntLost = nil, w.now()
}

// maxDoubts bounds the unknown commands of one session that may turn out to be
// stateless; with more it stays pinned.
const maxDoubts = 16

// doubt notes that the session has used a command which nobody knows, and keeps its
// connection until the master has told what it is.
func (s *session) doubt(frame []byte) {
	name, next := resp.Arg(frame, 0)
	sub, _ := resp.Arg(frame, next)
	words := [][]byte{name}
	if sub != nil && len(sub) <= maxName {
		words = append(words, sub)
	}
	head := string(resp.AppendCommand(nil, words...))
	switch {
	case slices.Contains(s.doubts, head):
	case len(name) > maxName || len(s.doubts) == maxDoubts,
		len(sub) > maxName && s.w.cmds.byName(name).class == classContainer: // head does not tell it from a container alone
		s.sticky = true
	default:
		s.doubts = append(s.doubts, head)
	}
	s.clearDoubts()
}

// clearDoubts forgets the session's doubts if each of them turned out to be
// stateless.
func (s *session) clearDoubts() {
	for _, head := range s.doubts {
		if s.w.find([]byte(head)).class != classShared {
			return
		}
	}
	s.doubts = nil
}

// settleDoubts sets the session free if doubts alone have pinned it.
func (s *session) settleDoubts() {
	if len(s.doubts) == 0 {
		return
	}
	s.clearDoubts()
	if p := s.own; p != nil && p.state == pipeReady && s.inflight == 0 && s.wait == waitNone && !s.pinned() {
		s.unpin()
	}
}
