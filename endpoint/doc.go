// Package endpoint answers clients that are configured for Sentinel. It speaks
// Sentinel's protocol, calls itself the only Sentinel, and tells each client the
// sidecar's own address as the master's: what they then connect to stays the same
// through every failover, so nothing of theirs changes and nothing disconnects.
//
//	client ── SENTINEL GET-MASTER-ADDR-BY-NAME ──► Server   (one for all masters)
//	client ── commands ──────────────────────────► the master's own listener
//
// Answers have the keys, order, types and words of Redis 7.0.15; a test of this
// package compares them with a real Sentinel. docs/sentinel-endpoint.md says what
// differs on purpose.
//
// # Parts
//
// A session is what one connection said and heard so far: commands in, replies
// out, no I/O. redcon serves the connections, behind a guard that hands it nothing
// but complete, well-formed commands of bounded size (see guard).
//
// Nothing is ever published: all that Sentinel's events tell of is hidden behind an
// address that does not change, and a +switch-master would make clients drop good
// connections. Subscriptions are confirmed, counted and silent, so no slow
// subscriber can make memory grow.
package endpoint
