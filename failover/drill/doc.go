// Package drill breaks a Redis group on purpose, while plain clients work
// through a proxy, and judges what they saw.
//
//	script ── fault ──► group ◄── 5 ms ── observer ── marks ──┐
//	                      ▲                                   ▼
//	workload ── proxy ────┘                              timeline
//	    └── history ──► checker ◄── final state ──► findings ──► verdict, report
//
// The clients know nothing of Sentinel and send no command twice. Each keeps a
// record of every command with the time it began and ended; when the fault is
// over and the group is whole again, the checker compares the records with what
// the last master holds. The checker is pure: a recorded history and a final
// state in, findings out.
//
// The group is one of the drill's own, or one that others run: scripts work on the
// interface of group.go, which ownGroup and farGroup implement. A group of others
// is surveyed first (Survey, Facts); the guard rails (Findings) and the plan's text
// (Describe) are pure. A fault that does not undo itself has a Deadman.
//
// A command whose answer never came, or was -UNCERTAIN, may or may not have been
// executed; the checker accepts both, once. Everything else must add up.
package drill
