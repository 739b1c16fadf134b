package sentinel

import (
	"strings"

	"github.com/sentinelproxy/sentinelproxy/topology"
)

// payloadForm is how an event's payload is written.
type payloadForm uint8

const (
	formInstance payloadForm = iota // most events
	formSwitched                    // +switch-master
	formHello                       // helloChannel
	formBare                        // names no group: concerns every group of that Sentinel
)

// reach says who is polled at once because of an event.
type reach uint8

const (
	reachOne reach = iota // the Sentinel that said it
	reachAll              // every Sentinel: the others are about to follow, or already have
)

// rule is what one event means to us.
type rule struct {
	kind  topology.SignKind
	form  payloadForm
	reach reach
}

// eventOther is the metric label of every event that has no rule.
const eventOther = "other"

// eventRules returns the rule of each event we know. It is also the bounded set
// of metric labels. The order in which a failover gives them, and what each
// proves, is in sentinel.c (Redis 7.0): sentinelFailoverStateMachine and
// sentinelProcessHelloMessage.
func eventRules() map[string]rule {
	rules := map[string]rule{
		"+odown": {kind: topology.SignDown, reach: reachAll},
		"-odown": {kind: topology.SignUp},

		"+selected-slave":                    {kind: topology.SignSelected, reach: reachAll},
		"+failover-state-send-slaveof-noone": {kind: topology.SignSelected, reach: reachAll},
		"+failover-state-wait-promotion":     {kind: topology.SignPromoting, reach: reachAll},
		"+promoted-slave":                    {kind: topology.SignPromoted, reach: reachAll},
		"+config-update-from":                {kind: topology.SignSwitched, reach: reachAll},
		"+switch-master":                     {kind: topology.SignSwitched, form: formSwitched, reach: reachAll},
		"+convert-to-slave":                  {kind: topology.SignDemoted, reach: reachAll},

		"-failover-abort-not-elected":   {kind: topology.SignAborted, reach: reachAll},
		"-failover-abort-no-good-slave": {kind: topology.SignAborted, reach: reachAll},
		"-failover-abort-slave-timeout": {kind: topology.SignAborted, reach: reachAll},

		"+new-epoch":       {kind: topology.SignRepoll, form: formBare, reach: reachAll},
		"+vote-for-leader": {kind: topology.SignRepoll, form: formBare},
		"+tilt":            {kind: topology.SignRepoll, form: formBare},
		"-tilt":            {kind: topology.SignRepoll, form: formBare},
		helloChannel:       {kind: topology.SignRepoll, form: formHello},
	}
	for _, ev := range []string{"+monitor", "-monitor", "+reset-master", "+try-failover", "+elected-leader"} {
		rules[ev] = rule{kind: topology.SignRepoll, reach: reachAll}
	}
	for _, ev := range []string{
		"+sdown", "-sdown", "+reboot", "+set", "+slave", "+sentinel", "+sentinel-address-switch",
		"+sentinel-invalid-addr", "-dup-sentinel", "+role-change", "-role-change",
		"+fix-slave-config", "+failover-state-select-slave", "+failover-state-reconf-slaves",
		"+failover-detected", "+failover-end", "+failover-end-for-timeout",
		"+slave-reconf-sent", "+slave-reconf-sent-be", "+slave-reconf-inprog", "+slave-reconf-done",
	} {
		rules[ev] = rule{kind: topology.SignRepoll}
	}
	return rules
}

// readEvent turns an event into a Sign about group. It reports false for one
// that is about another group, or that has no rule and names no group.
//
// A known event whose payload can't be read may be about our group, so it
// becomes SignRepoll: asking again is always safe.
//
// Candidate is the data node the event is about; it is "" in +config-update-from
// (which names the Sentinel that was listened to) and in the abort events. Old
// is the master named beside it, where the event says that it may be replaced.
// Sentinel and At are left to the caller.
func readEvent(rules map[string]rule, group, channel, payload string) (topology.Sign, rule, bool) {
	r, known := rules[channel]
	s := topology.Sign{Kind: r.kind, Event: channel, Group: group}
	if !known {
		in, ok := parseInstance(payload)
		s.Kind = topology.SignRepoll
		return s, rule{kind: s.Kind}, ok && in.group == group
	}
	switch r.form {
	case formBare:
		return s, r, true
	case formSwitched:
		sw, ok := parseSwitched(payload)
		if !ok {
			break
		}
		s.Candidate, s.Old = sw.new.addr(), sw.old.addr()
		return s, r, sw.group == group
	case formHello:
		h, ok := parseHello(payload)
		if !ok {
			break
		}
		s.Candidate = h.master.addr()
		return s, r, h.group == group
	case formInstance:
		in, ok := parseInstance(payload)
		if !ok {
			break
		}
		s.Candidate, s.Old = concerned(r.kind, in)
		return s, r, in.group == group
	}
	s.Kind = topology.SignRepoll
	return s, r, true
}

// concerned picks the nodes a Sign names from an instance payload.
func concerned(kind topology.SignKind, in instance) (candidate, old topology.Addr) {
	switch {
	case kind == topology.SignAborted:
		return "", in.master.addr()
	case in.kind == kindSentinel && kind == topology.SignRepoll:
		return "", ""
	case in.kind == kindSentinel:
		return "", in.master.addr()
	case in.kind == kindMaster:
		return in.at.addr(), ""
	case kind == topology.SignDemoted, kind == topology.SignRepoll:
		return in.at.addr(), ""
	}
	return in.at.addr(), in.master.addr()
}

// tiltOf reports what an event says about its Sentinel's tilt mode.
func tiltOf(channel string) (tilt, said bool) {
	return strings.HasPrefix(channel, "+"), channel == "+tilt" || channel == "-tilt"
}
