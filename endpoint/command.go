package endpoint

import "strings"

// command is a command's name in metrics; their number is fixed.
type command string

// The names of commands in metrics.
const (
	cmdPing          command = "ping"
	cmdAuth          command = "auth"
	cmdHello         command = "hello"
	cmdClient        command = "client"
	cmdInfo          command = "info"
	cmdRole          command = "role"
	cmdSubscribe     command = "subscribe" // PSUBSCRIBE too
	cmdUnsubscribe   command = "unsubscribe"
	cmdSentinel      command = "sentinel" // what has no line of its own
	cmdMasterAddress command = "sentinel_get_master_addr_by_name"
	cmdMasters       command = "sentinel_masters" // MASTER too
	cmdReplicas      command = "sentinel_replicas"
	cmdSentinels     command = "sentinel_sentinels"
	cmdCkquorum      command = "sentinel_ckquorum"
	cmdOther         command = "other" // known, and rarely of interest
	cmdUnknown       command = "unknown"
)

// commands lists every name, for metrics that export all of them.
func commands() []command {
	return []command{
		cmdPing, cmdAuth, cmdHello, cmdClient, cmdInfo, cmdRole, cmdSubscribe, cmdUnsubscribe, cmdSentinel,
		cmdMasterAddress, cmdMasters, cmdReplicas, cmdSentinels, cmdCkquorum, cmdOther, cmdUnknown,
	}
}

// handler is how a command is answered.
type handler struct {
	name       command
	arity      int  // as Redis has it: with the command, negative for at least
	subscribed bool // allowed to a RESP2 client that subscribed
	run        func(s *session, r *reply, args []string)
}

// lookup returns the handler of a command in upper case; run is nil for none.
func lookup(name string) handler {
	switch name {
	case "PING":
		return handler{cmdPing, -1, true, (*session).ping}
	case "AUTH":
		return handler{cmdAuth, -2, false, (*session).auth}
	case "HELLO":
		return handler{cmdHello, -1, false, (*session).hello}
	case "CLIENT":
		return handler{cmdClient, -2, false, (*session).client}
	case "INFO":
		return handler{cmdInfo, -1, false, (*session).info}
	case "ROLE":
		return handler{cmdRole, 1, false, (*session).role}
	case "SENTINEL":
		return handler{cmdSentinel, -2, false, (*session).sentinel}
	case "SUBSCRIBE", "PSUBSCRIBE":
		return handler{cmdSubscribe, -2, true, (*session).subscribe}
	case "UNSUBSCRIBE", "PUNSUBSCRIBE":
		return handler{cmdUnsubscribe, -1, true, (*session).unsubscribe}
	case "QUIT":
		return handler{cmdOther, -1, true, (*session).quit}
	case "RESET":
		return handler{cmdOther, 1, true, (*session).reset}
	case "COMMAND":
		return handler{cmdOther, -1, false, (*session).command}
	case "ACL":
		return handler{cmdOther, -2, false, (*session).acl}
	case "PUBLISH":
		return handler{cmdOther, 3, false, (*session).publish}
	case "SHUTDOWN":
		return handler{cmdOther, -1, false, func(_ *session, r *reply, _ []string) { r.refused("SHUTDOWN") }}
	}
	return handler{name: cmdUnknown}
}

func (s *session) role(r *reply, _ []string) {
	r.array(2)
	r.bulk("sentinel")
	r.strings(s.dir.names())
}

// publish takes nothing: no Sentinel knows of us, so none sends its hello here.
func (*session) publish(r *reply, args []string) {
	if args[1] == "__sentinel__:hello" {
		r.refused("PUBLISH __sentinel__:hello")
		return
	}
	r.err("ERR Only HELLO messages are accepted by Sentinel instances.")
}

// command shows no command: a table of ours would only tell what a client tries
// anyway. redis-cli asks COMMAND DOCS when it starts, and takes an empty answer.
func (*session) command(r *reply, args []string) {
	if len(args) == 1 {
		r.array(0)
		return
	}
	switch sub := strings.ToUpper(args[1]); {
	case sub == "COUNT" && len(args) == 2:
		r.integer(0)
	case sub == "DOCS":
		r.dict(0)
	case sub == "LIST":
		r.array(0)
	case sub == "INFO":
		r.array(len(args) - 2)
		for range args[2:] {
			r.nullArray()
		}
	default:
		r.unknownSub("COMMAND", args[1])
	}
}

func (s *session) acl(r *reply, args []string) {
	if strings.EqualFold(args[1], "WHOAMI") && len(args) == 2 {
		r.bulk(s.user)
		return
	}
	r.unknownSub("ACL", args[1])
}
