package endpoint

import "strings"

const noSuchMaster = "ERR No such master with that name"

// sentinel answers SENTINEL and its subcommands. Valkey's names are taken too.
func (s *session) sentinel(r *reply, args []string) {
	sub := strings.ToUpper(args[1])
	arity, known := sentinelArity(sub)
	if !known {
		r.unknownSub("SENTINEL", args[1])
		return
	}
	if arity > 0 && len(args) != arity || len(args) < -arity {
		r.wrongArity("sentinel|" + strings.ToLower(sub))
		return
	}
	switch sub {
	case "MYID":
		r.bulk(s.dir.id)
	case "MASTERS", "PRIMARIES":
		list := s.dir.located(s.local)
		r.array(len(list))
		for _, l := range list {
			r.pairs(l.fields(l.host, l.port))
		}
	case "PENDING-SCRIPTS":
		r.array(0)
	case "IS-MASTER-DOWN-BY-ADDR", "IS-PRIMARY-DOWN-BY-ADDR":
		if !isInteger(args[3]) || !isInteger(args[4]) {
			r.err(notInteger)
			return
		}
		r.array(3) // no vote of ours counts
		r.integer(0)
		r.bulk("*")
		r.integer(0)
	case "HELP":
		help := []string{
			"SENTINEL <subcommand> [<arg>]. This is sentinelproxy, not a Sentinel. Subcommands are:",
			"CKQUORUM <master-name>", "GET-MASTER-ADDR-BY-NAME <master-name>", "MASTER <master-name>", "MASTERS",
			"MYID", "REPLICAS <master-name>", "SENTINELS <master-name>", "HELP",
		}
		r.array(len(help))
		for _, line := range help {
			r.simple(line)
		}
	case "GET-MASTER-ADDR-BY-NAME", "GET-PRIMARY-ADDR-BY-NAME", "MASTER", "PRIMARY", "REPLICAS", "SLAVES", "SENTINELS", "CKQUORUM":
		s.about(r, sub, args[2])
	default:
		r.refused("SENTINEL " + sub)
	}
}

// about answers the questions about one master.
func (s *session) about(r *reply, sub, name string) {
	g := s.dir.find(name)
	address := strings.HasPrefix(sub, "GET-")
	switch {
	case g == nil && address:
		r.nullArray()
		return
	case g == nil:
		r.err(noSuchMaster)
		return
	}
	switch sub {
	case "CKQUORUM":
		text, ok := g.ckquorum()
		if !ok {
			r.err(text)
			return
		}
		r.simple(text)
	case "REPLICAS", "SLAVES", "SENTINELS":
		// Whoever knew the real ones would go there and lose what we are for.
		r.array(0)
	default:
		host, port, ok := g.address(s.local)
		switch {
		case !ok:
			r.err("ERR master '" + name + "' has no TCP listener to send clients to; set sentinel_announce to host:port (sentinelproxy)")
		case address:
			r.strings([]string{host, itoa(port)})
		default:
			r.pairs(g.fields(host, port))
		}
	}
}

// sentinelArity returns a subcommand's arity as Sentinel has it.
func sentinelArity(sub string) (arity int, known bool) {
	switch sub {
	case "MYID", "MASTERS", "PRIMARIES", "PENDING-SCRIPTS", "HELP", "FLUSHCONFIG":
		return 2, true
	case "GET-MASTER-ADDR-BY-NAME", "GET-PRIMARY-ADDR-BY-NAME", "MASTER", "PRIMARY", "REPLICAS", "SLAVES", "SENTINELS",
		"CKQUORUM", "FAILOVER", "RESET", "REMOVE":
		return 3, true
	case "IS-MASTER-DOWN-BY-ADDR", "IS-PRIMARY-DOWN-BY-ADDR", "MONITOR":
		return 6, true
	case "DEBUG":
		return -2, true
	case "CONFIG", "INFO-CACHE", "SIMULATE-FAILURE":
		return -3, true
	case "SET":
		return -5, true
	}
	return 0, false
}

// sentinelCommand returns what a subcommand counts as.
func sentinelCommand(sub string) command {
	switch strings.ToUpper(sub) {
	case "GET-MASTER-ADDR-BY-NAME", "GET-PRIMARY-ADDR-BY-NAME":
		return cmdMasterAddress
	case "MASTER", "MASTERS", "PRIMARY", "PRIMARIES":
		return cmdMasters
	case "REPLICAS", "SLAVES":
		return cmdReplicas
	case "SENTINELS":
		return cmdSentinels
	case "CKQUORUM":
		return cmdCkquorum
	}
	return cmdSentinel
}
