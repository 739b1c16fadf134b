package proxy

// pinReason is why a session gets a connection of its own.
type pinReason uint8

const (
	pinNone pinReason = iota
	pinSubscription
	pinMonitor
	pinTransaction
	pinWatch
	pinCall
	pinLargeCommand
	pinLargeReply
	pinTracking
	pinUnknown
	pinState
	pinMultiplexOff
	pinReasons
)

// String returns the reason as metrics and lists name it; "" for none.
func (r pinReason) String() string {
	return [...]string{
		"", "subscription", "monitor", "transaction", "watch", "call", "large_command", "large_reply", "tracking",
		"unknown_command", "state", "multiplex_off",
	}[r]
}

// pinReason says why the session has, or needs, a connection of its own.
func (s *session) pinReason() pinReason {
	switch {
	case s.subscribed() || s.subCalls > 0:
		return pinSubscription
	case s.monitors():
		return pinMonitor
	case s.tx.active:
		return pinTransaction
	case s.watching:
		return pinWatch
	case s.blocking:
		return pinCall
	case s.stream != streamOff:
		return pinLargeCommand
	case s.sticky || s.stickyCalls > 0 || s.forgot:
		if on, _ := s.tracking(); on {
			return pinTracking
		}
		return pinState
	case len(s.doubts) > 0:
		return pinUnknown
	case s.w.opts.Dedicated:
		return pinMultiplexOff
	case s.own != nil && s.inflight > 0:
		return pinLargeReply // what else needs one is above
	}
	return pinNone
}

// pinnedFor says why a command, nil for none, gives its session a connection of its own.
func (s *session) pinnedFor(cmd *command) pinReason {
	if r := s.pinReason(); r != pinNone {
		return r
	}
	if cmd == nil {
		return pinState
	}
	switch cmd.class {
	case classSubscribe:
		return pinSubscription
	case classMulti:
		return pinTransaction
	case classWatch:
		return pinWatch
	case classOwn, classBlock, classMayBlock, classWait:
		return pinCall
	case classSticky:
		switch {
		case cmd == s.w.cmds.unknown:
			return pinUnknown
		case cmd.name == "MONITOR":
			return pinMonitor
		case cmd.name == "CLIENT|TRACKING":
			return pinTracking
		}
		return pinState
	case classShared, classScan, classScript, classLocal, classExec, classDiscard, classUnwatch, classDenied, classContainer:
	}
	if s.reqs.Need() > s.w.sizes.large {
		return pinLargeCommand
	}
	return pinLargeReply
}
